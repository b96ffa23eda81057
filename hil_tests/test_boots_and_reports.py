"""A node that gets power says so and reports its readings within 5 s: new, after a stop in order, after a power cut."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.link_proxy import HEALTHY, Impairment

pytestmark = [
    pytest.mark.promise("boots and reports within 5 s"),
    pytest.mark.needs("simulators", "bays:1"),
]
REPORT_S_MAX = 5.0
BACKLOG_STATEMENTS = 12


Record = Callable[[str, Any], None]


async def report_s(desk: Desk, boot: Callable[[], Awaitable[float]], record_property: Record, what: str) -> float:
    """Boot, and return how long it took until a module's first reading in this boot was acknowledged."""
    birth_s = await boot()
    heard = desk.tap[desk.name]

    def has_reported() -> bool:
        frames = [
            seq
            for seq, frame in heard.frames.items()
            if frame.header.boot == heard.status["boot"] and frame.stream.name == "module"
        ]
        return bool(heard.acknowledged.intersection(frames))

    await desk.tap.wait(has_reported, "reading of a module in this boot")
    whole_s = desk.powered_s
    desk.timeline.mark(f"birth after {birth_s:.2f} s, first reading acknowledged after {whole_s:.2f} s")
    record_property(f"{what}: birth_s", round(birth_s, 3))
    record_property(f"{what}: report_s", round(whole_s, 3))
    assert birth_s < whole_s
    return whole_s


@pytest.mark.parametrize("bms", ["seplos_v3", "jbd"])
async def test_a_new_node_reports_within_5_s_of_its_first_power(desk: Desk, bms: str, record_property: Record) -> None:
    desk.make_van(bays=1, bms=bms)
    assert await report_s(desk, desk.boot, record_property, "new") < REPORT_S_MAX
    assert desk.tap[desk.name].status["safe_mode"] is False
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


@pytest.mark.needs("network", "power")
async def test_a_node_with_a_backlog_reports_within_5_s_of_each_power_on(desk: Desk, record_property: Record) -> None:
    """Three boots: new, after a stop in order, and after a power cut that leaves the journal full of unsent frames."""
    desk.make_van(bays=1)
    await report_s(desk, desk.boot, record_property, "new")
    await desk.switch_off()
    assert await report_s(desk, desk.boot_again, record_property, "after a stop") < REPORT_S_MAX
    desk.impair(Impairment(is_refusing=True))
    await desk.wait_for_statements(BACKLOG_STATEMENTS)
    await desk.cut_power()
    desk.impair(HEALTHY)
    assert await report_s(desk, desk.boot_again, record_property, "after a power cut") < REPORT_S_MAX
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert verdict.rows_stored > BACKLOG_STATEMENTS
