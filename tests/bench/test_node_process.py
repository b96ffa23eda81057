"""Real MicroPython processes: bounded heap, orderly stop, power cut, and a bundle as a board gets it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from swapline_bench import bundle
from swapline_bench.node_process import HEAP_BYTES, NodeError, NodeProcess

COUNTING = """
import sys, json, asyncio, select
print("config", json.load(open("config.json"))["node"], sys.implementation.name)
orders = select.poll()
orders.register(sys.stdin, select.POLLIN)
async def run():
    while not orders.poll(0):
        await asyncio.sleep(0.01)
print("ready")
asyncio.run(run())
if sys.stdin.readline().strip() == "stop":
    print("stopped in order")
    sys.exit(7)
"""
HOARDING = """
hoard = []
try:
    while True:
        hoard.append(bytearray(1024))
except MemoryError:
    count = len(hoard)
    hoard = None
    print("hoarded", count)
"""
DEAF = """
import time
print("ready")
while True:
    try:
        time.sleep(1)
    except KeyboardInterrupt:
        print("not now")
"""
TICKING_BOARD = """
import time
class Board:
    def ticks_ms(self):
        return time.ticks_ms() & (1 << 30) - 1
"""
TICKING = """
from swapline_node.boards.linux import Board
def main():
    board = Board()
    last = board.ticks_ms()
    print("ticks", last)
    while board.ticks_ms() >= last:
        pass
    print("ticks", board.ticks_ms())
if __name__ == "__main__":
    main()
"""


def program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(text)
    return folder


def node_of(tmp_path: Path, text: str, heap_bytes: int = HEAP_BYTES) -> NodeProcess:
    bundle_folder = program(tmp_path / "bundle", text)
    return NodeProcess("node", tmp_path / "node", bundle=bundle_folder, config={"node": "van-9"}, heap_bytes=heap_bytes)


async def test_runs_micropython_in_its_own_folder_and_stops_in_order(tmp_path: Path) -> None:
    async with node_of(tmp_path, COUNTING) as node:
        assert await node.wait_for_line("config") == "config van-9 micropython"
        await node.wait_for_line("ready")
        assert await node.stop() == 7
        assert node.lines[-1] == "stopped in order"
        assert not node.is_running
        await node.start()
        await node.wait_for_line("ready")
        assert node.starts == 2


async def test_a_power_cut_ends_the_process_at_once(tmp_path: Path) -> None:
    async with node_of(tmp_path, COUNTING) as node:
        await node.wait_for_line("ready")
        await node.cut_power()
        assert node.returncode == -signal.SIGKILL
        assert "stopped in order" not in node.lines


@pytest.mark.parametrize("heap_kib", [128, 512])
async def test_the_heap_is_bounded(tmp_path: Path, heap_kib: int) -> None:
    async with node_of(tmp_path, HOARDING, heap_bytes=heap_kib * 1024) as node:
        line = await node.wait_for_line("hoarded")
        assert heap_kib * 0.6 < int(line.split()[1]) < heap_kib


async def test_a_node_that_does_not_stop_is_killed_and_named(tmp_path: Path) -> None:
    async with node_of(tmp_path, DEAF) as node:
        await node.wait_for_line("ready")
        with pytest.raises(NodeError, match=r"node did not stop within 0\.3 s(.|\n)*not now"):
            await node.stop(timeout_s=0.3)
        assert not node.is_running


async def test_waiting_for_a_line_of_a_dead_node_fails_with_its_log(tmp_path: Path) -> None:
    async with node_of(tmp_path, "print('only this')") as node:
        with pytest.raises(NodeError, match="only this"):
            await node.wait_for_line("something else", timeout_s=5)


def test_nodes_die_with_their_bench(tmp_path: Path) -> None:
    program(tmp_path / "bundle", COUNTING)
    bench = (
        "import asyncio, pathlib, sys\n"
        "from swapline_bench.node_process import NodeProcess\n"
        "async def main():\n"
        "    folder = pathlib.Path(sys.argv[1])\n"
        "    node = NodeProcess('n', folder / 'node', bundle=folder / 'bundle', config={'node': 'x'})\n"
        "    await node.start()\n"
        "    await node.wait_for_line('ready')\n"
        "    print(node.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", bench, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
    deadline_s = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_bundle_holds_compiled_firmware_that_micropython_runs(tmp_path: Path) -> None:
    built = bundle.build(tmp_path / "built")
    assert {path.name for path in built.iterdir()} == {"boot.py", "main.py", "swapline_wire", "swapline_node"}
    assert not list(built.glob("swapline_*/**/*.py"))
    assert (built / "swapline_node" / "drivers" / "seplos_v3.mpy").is_file()
    assert not (built / "swapline_wire" / "decode.mpy").exists()
    (built / "main.py").write_text("import swapline_node.app\nprint('loaded', swapline_node.app.App.__name__)\n")
    async with NodeProcess("node", tmp_path / "node", bundle=built) as node:
        assert await node.wait_for_line("loaded") == "loaded App"


def test_a_bundle_says_which_file_does_not_compile(tmp_path: Path) -> None:
    root = tmp_path / "firmware"
    for package in bundle.PACKAGES:
        (root / package).mkdir(parents=True)
    for name in bundle.START_FILES:
        (root / name).write_text("")
    (root / "swapline_node" / "broken.py").write_text("def f(:\n")
    with pytest.raises(bundle.BundleError, match=r"broken\.py does not compile: line 1: invalid syntax"):
        bundle.build(tmp_path / "built", source=root)


def test_bundle_command_says_what_it_made_and_empties_no_folder_of_somebody_elses(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for _ in range(2):
        made = CliRunner().invoke(bundle.command, [str(target)])
        assert made.exit_code == 0, made.output
        assert "files" in made.output
    assert (target / "swapline_node" / "app.mpy").is_file()
    other = tmp_path / "sources"
    (other / "swapline_node").mkdir(parents=True)
    (other / "main.py").write_text("precious")
    refused = CliRunner().invoke(bundle.command, [str(other)])
    assert refused.exit_code == 2
    assert (other / "main.py").read_text() == "precious"


async def test_a_flood_of_lines_neither_blocks_nor_fills_memory(tmp_path: Path) -> None:
    seen: list[str] = []
    text = "for i in range(20000):\n    print('line', i)\nprint('end')\n"
    folder = program(tmp_path / "bundle", text)
    async with NodeProcess("node", tmp_path / "node", bundle=folder, on_line=seen.append) as node:
        async with asyncio.timeout(20):
            assert await node.wait() == 0
        assert len(seen) == 20001
        assert len(node.lines) == 400
        assert node.lines[-1] == "end"


async def test_the_tick_counter_of_an_unmodified_firmware_wraps_when_it_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    boards = folder / "swapline_node" / "boards"
    boards.mkdir(parents=True)
    for package in (boards, boards.parent):
        (package / "__init__.py").touch()
    (boards / "linux.py").write_text(TICKING_BOARD)
    program(folder, TICKING)
    node = NodeProcess("node", tmp_path / "node", bundle=folder, config={}, ticks_wrap_in_s=1.0)
    async with node:
        assert await node.wait() == 0
    ticks = [int(line.split()[1]) for line in node.lines]
    assert 2**30 - 1001 < ticks[0] < 2**30
    assert 0 <= ticks[1] < 2**20
