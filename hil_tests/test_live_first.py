"""After an outage, live rows reach the database at once while the backlog drains: the whole path, every part real.

The journal is what an outage leaves; how it was filled is told in `swapline_bench.bench_backlog`.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from swapline_bench.bench_backlog import ALARMS, Bench, Outage, Result, run
from swapline_bench.link_proxy import Impairment
from swapline_wire.catalogue import BATTERY_OUT

LIVE_S_MAX = 3.0  # what docs/reliability.md promises
SLOW = Impairment(delay_s=2.0, rate_bit_s=20_000)


@pytest.fixture(autouse=True)
def _mosquitto(require: Callable[[str], Path]) -> None:
    require("mosquitto")


def check_books(result: Result, outage: Outage) -> None:
    assert result.frames == outage.frames
    assert result.live_frames > 0
    assert result.frames_sent_again == 0


async def test_live_rows_are_stored_within_three_seconds_while_3000_frames_follow_at_200_a_second(
    tmp_path: Path,
) -> None:
    outage = Outage(frames=3000)
    result = await run(tmp_path, outage)
    check_books(result, outage)
    assert result.live_delay_s_p99 <= LIVE_S_MAX
    assert 190 <= result.frames_per_s <= 210  # what is configured: the link allows it


async def test_old_alarms_go_before_what_the_outage_left_and_a_new_event_overtakes_it(tmp_path: Path) -> None:
    outage = Outage(frames=1000, backlog_frames_per_s=100)
    async with Bench(tmp_path, outage) as path:
        heard = path.tap[path.name]
        await path.tap.wait(lambda: len(heard.acknowledged) >= 300, "a third of the backlog")
        path.world.vans[0].bays[2] = None  # a module is taken out
        codes = [row[1] for row in heard.rows("event")]
        await path.tap.wait(lambda: BATTERY_OUT in [row[1] for row in heard.rows("event")], "its event")
        waiting = outage.frames + ALARMS - len([seq for seq in heard.acknowledged if seq <= outage.frames + ALARMS])
        await path.drain()
        result = await path.finish()
    assert BATTERY_OUT not in codes
    assert waiting > 0
    assert result.frames_before_alarms <= 10  # what was in the message that the gateway took with them
    check_books(result, outage)
    assert result.frames_per_s <= 110


async def test_live_rows_stay_near_the_delay_of_a_slow_link_while_the_backlog_uses_what_is_left(
    tmp_path: Path,
) -> None:
    outage = Outage(frames=40, impairment=SLOW)
    result = await run(tmp_path, outage)
    check_books(result, outage)
    assert not math.isnan(result.live_delay_s_p99)
    assert result.live_delay_s_p99 <= SLOW.delay_s + 5.0  # 16 messages ahead of them would be 13 s more
