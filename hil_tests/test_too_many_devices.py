"""More devices than the node's memory has room for: it says so and can be reached, and does not restart for ever."""

import pytest

from swapline_bench.desk.node_process_driver import ProcessNode
from swapline_bench.desk.strategy import Desk
from swapline_bench.end_to_end import FLEET

pytestmark = pytest.mark.needs("power", "heap_limit", "simulators", "bays:4", "vcu", "gnss")
RESET_NO_MEMORY = 8
HEAP_KIB_LESS = 32  # than a board has: four kinds of BMS in one van do not fit there
SAFE_S_MAX = 40.0  # two boots that run out of memory, each within seconds


async def test_a_van_whose_drivers_do_not_fit_comes_up_in_safe_mode_and_names_its_lines(desk: Desk) -> None:
    desk.make_van(bays=4, bms=["jbd", "jbd_up16s", "jk", "seplos_v3"])
    assert isinstance(desk.node, ProcessNode)
    desk.node.process.heap_bytes -= HEAP_KIB_LESS * 1024
    await desk.boot()
    heard = desk.tap[desk.name]
    await desk.tap.wait(lambda: heard.status.get("safe_mode") is True, "safe mode", SAFE_S_MAX)
    (problem,) = heard.status["problems"]
    assert problem.startswith("buses: memory ran out soon after 2 starts, on ")
    assert "configure fewer devices" in problem
    boot = heard.status["boot"]
    await desk.tap.wait(lambda: heard.last("node").get("safe_mode") == 1, "health in safe mode", SAFE_S_MAX)
    assert heard.last("node")["reset_cause"] == RESET_NO_MEMORY
    answer = await desk.tap.command(FLEET, desk.name, "ping")
    assert answer["ok"]
    assert answer["boot"] == boot, "it does not restart"
