"""A driver of somebody's own that is broken costs its own line, and nothing else; it is never a boot loop."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.desk.bench_file import BenchFile
from swapline_bench.desk.strategy import Desk
from swapline_bench.replay import SerialEnd

pytestmark = [pytest.mark.promise("a broken driver costs its own line only"), pytest.mark.needs("fast_lines", "bays:1")]

DRIVERS = {
    "no_python": "def (",
    "no_import": "import a_module_that_no_board_has\n",
    "no_class": "X = 1\n",
    "no_start": "class NoStart:\n    def __init__(self, *_):\n        raise ValueError('broken on purpose')\n",
    "no_poll": (
        "from swapline_node.driver import Driver\n\n\n"
        "class NoPoll(Driver):\n"
        "    def __init__(self, sampler, clock, counters, device_config):\n"
        "        super().__init__(clock, counters, device_config)\n\n"
        "    async def poll(self, bus):\n"
        "        raise IndexError('wrong on purpose')\n"
    ),
}
SAID = {
    "no_python": "SyntaxError",
    "no_import": "a_module_that_no_board_has",
    "no_class": "drivers/no_class.py has no class NoClass",
    "no_start": "broken on purpose",
    "no_poll": "wrong on purpose",
}


async def see_all_fail(desk: Desk) -> None:
    """Wait until the log says of each broken driver what is wrong with it."""
    for name, text in SAID.items():
        line = await desk.node.wait_for_line(text, timeout_s=20)
        assert f"bus {name}" in line


async def test_node_with_broken_drivers_reads_everything_else(
    bench_file: BenchFile, firmware: Path, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(firmware, bundle)
    for name, text in DRIVERS.items():
        (bundle / "swapline_node" / "drivers" / f"{name}.py").write_text(text, encoding="utf-8")
    async with Desk(bench_file, tmp_path / "desk", bundle=bundle) as desk:
        holder = desk.make_van(bays=1, vcu=False, gnss=False)
        whole = holder.config(fleet="", host="", port=0)["buses"]
        with SerialEnd() as end:  # for the one that comes as far as opening its line
            ports = {name: f"/dev/{name}" for name in DRIVERS} | {"no_poll": end.path}
            broken = [{"name": name, "port": ports[name], "devices": [{"driver": name}]} for name in DRIVERS]
            await desk.boot(buses=[*whole, *broken])
            await see_all_fail(desk)
            await desk.tap.wait_rows(desk.name, "module", 3)
            assert desk.tap[desk.name].status["safe_mode"] is False
            verdict = await desk.judge()
            for name, value in desk.figures().items():
                record_property(name, value)
    assert verdict.is_good, verdict.examples
