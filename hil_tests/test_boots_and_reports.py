"""A node that gets power boots, says so, and its readings are in the database soon after."""

import pytest

from swapline_bench.desk.strategy import Desk

pytestmark = [
    pytest.mark.promise("boots and reports within 5 s"),
    pytest.mark.needs("simulators", "bays:1"),
]
REPORT_S_MAX = 5.0


async def test_a_van_reports_within_5_s_of_power_on_and_every_row_is_true(desk: Desk) -> None:
    desk.make_van(bays=1)
    assert await desk.boot() < REPORT_S_MAX
    assert desk.tap[desk.name].status["safe_mode"] is False
    await desk.tap.wait_rows(desk.name, "module", 3)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert desk.database.rows("module", desk.name)
