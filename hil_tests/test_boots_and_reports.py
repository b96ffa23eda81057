"""A node that gets power says so and reports its readings within 5 s: new, after a stop in order, after a power cut."""

import time
from collections.abc import Awaitable, Callable

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.link_proxy import HEALTHY, Impairment

pytestmark = [
    pytest.mark.promise("boots and reports within 5 s"),
    pytest.mark.needs("simulators", "bays:1"),
]
REPORT_S_MAX = 5.0
BACKLOG_STATEMENTS = 20


async def report_s(desk: Desk, boot: Callable[[], Awaitable[float]]) -> tuple[float, float]:
    """Boot, and return how long birth and the first acknowledged reading of a module in this boot took."""
    began_s = time.monotonic()
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
    whole_s = time.monotonic() - began_s
    desk.timeline.mark(f"birth after {birth_s:.2f} s, first reading acknowledged after {whole_s:.2f} s")
    return birth_s, whole_s


@pytest.mark.parametrize("bms", ["seplos_v3", "jbd"])
async def test_a_new_node_reports_within_5_s_of_its_first_power(desk: Desk, bms: str) -> None:
    desk.make_van(bays=1, bms=bms)
    birth_s, whole_s = await report_s(desk, desk.boot)
    assert birth_s < whole_s < REPORT_S_MAX
    assert desk.tap[desk.name].status["safe_mode"] is False
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


@pytest.mark.needs("network")
async def test_a_node_with_a_backlog_reports_within_5_s_of_each_power_on(desk: Desk) -> None:
    """Three boots: new, after a stop in order, and after a power cut that leaves the journal full of unsent frames."""
    desk.make_van(bays=1)
    await report_s(desk, desk.boot)
    await desk.switch_off()
    birth_s, whole_s = await report_s(desk, desk.boot_again)
    assert birth_s < whole_s < REPORT_S_MAX
    desk.impair(Impairment(is_refusing=True))
    await desk.wait_for_statements(BACKLOG_STATEMENTS)
    await desk.cut_power()
    desk.impair(HEALTHY)
    birth_s, whole_s = await report_s(desk, desk.boot_again)
    assert birth_s < whole_s < REPORT_S_MAX
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert verdict.rows_stored > BACKLOG_STATEMENTS
