"""The virtual board: its flash survives and fails, its supply goes, its watchdog bites, and the next boot knows."""

import asyncio
import signal
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import bundle
from swapline_bench.desk.bench_file import BlockDeviceFlash, Node
from swapline_bench.desk.node_process_driver import VirtualNode
from swapline_bench.desk.virtual_board import (
    BLOCK_BYTES,
    CAUSE_BROWN_OUT,
    CAUSE_HARD,
    CAUSE_POWER_ON,
    CAUSE_SOFT,
    CAUSE_WATCHDOG,
    ERASE_US,
    FLASH_BYTES,
    HARDWARE_HEAP_BYTES,
    VirtualBoard,
)
from swapline_bench.journal_reader import JournalContents, read_journal
from swapline_bench.node_process import NodeError, NodeProcess
from swapline_wire.catalogue import BOOT, CLOCK_STEP, FRAMES_DROPPED
from swapline_wire.decode import decode

# The firmware's own parts, called before it starts.
HANG = """
import asyncio
from swapline_node.app import App
run = App.run
async def hang_later():
    await asyncio.sleep(0.3)
    print("hanging")
    while True:
        pass
async def run_and_hang(app):
    app.hanging = asyncio.create_task(hang_later())
    return await run(app)
App.run = run_and_hang
"""
BUSY = f"""
import asyncio
from swapline_node.app import App
run = App.run
async def store_events(app):
    print("busy")
    while True:
        app.sampler.event({CLOCK_STEP})
        app.sampler.seal_all()
        await asyncio.sleep(0.01)
async def run_and_store(app):
    app.busy = asyncio.create_task(store_events(app))
    return await run(app)
App.run = run_and_store
"""  # a board's catalogue has streams; its numbers are where they are used
CRASH = """
from swapline_node.app import App
async def crash(app):
    app.board.watchdog({timeout_ms})
    raise ValueError("crash")
App.run = crash
"""
RESTART = """
import asyncio
from swapline_node.app import App
run = App.run
async def run_and_restart(app):
    app.request_restart()
    return await run(app)
App.run = run_and_restart
"""
HEAP = """
import gc
from swapline_node.app import App
run = App.run
async def run_and_tell(app):
    gc.collect()
    print("heap", gc.mem_alloc())
    return await run(app)
App.run = run_and_tell
"""
CONFIG: dict[str, Any] = {
    "fleet": "bench",
    "node": "v1",
    "link": {"host": "127.0.0.1", "port": 1},
    "journal": {"limit_bytes": 300_000},
    "seal_interval_ms": 100,
    "watchdog_ms": 1500,
    "power_good_pin": 4,
}
MakeBoard = Callable[..., VirtualBoard]


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("bundle") / "firmware")


@pytest.fixture
async def make_board(firmware: Path, tmp_path: Path) -> AsyncIterator[MakeBoard]:
    """Return what makes a board named `name`; whatever runs in the end is cut off."""
    boards: list[VirtualBoard] = []

    def make(name: str = "v1", *, config: dict[str, Any] = CONFIG, **options: Any) -> VirtualBoard:
        boards.append(VirtualBoard(name, tmp_path / name, bundle=firmware, config=config, **options))
        return boards[-1]

    yield make
    for board in boards:
        await board.close()


async def boot(board: VirtualBoard, number: int, *, snippet: str | None = None) -> None:
    """Start a board and wait until it says that it booted for the `number`-th time, and has written that down."""
    board.lines.clear()
    await board.start(snippet=snippet)
    await booted(board, number)


async def booted(board: VirtualBoard, number: int) -> None:
    await board.wait_for_line(f"boot {number}")
    await board.wait_for_line("ECONNREFUSED")  # it looks for its broker when what it says of its boot is sealed


async def journal_events(board: VirtualBoard) -> tuple[JournalContents, list[dict[str, int]]]:
    """Return the journal of a board that is off, and the events in it, oldest first."""
    contents = read_journal(await board.copy_journal())
    frames = [decode(data) for _, data in sorted(contents.frames.items())]
    rows = []
    for frame in frames:
        if frame.stream.name == "event":
            names = ["time_ms", *(one.name for one in frame.signals)]
            rows += [dict(zip(names, row, strict=True)) for row in frame.rows]
    return contents, rows


async def boots(board: VirtualBoard) -> list[tuple[int, int]]:
    """Return boot number and reset cause of every BOOT event in the journal of a board that is off."""
    _, events = await journal_events(board)
    return [(row["count"], row["reason"]) for row in events if row["code"] == BOOT]


async def test_flash_survives_a_kill_and_every_boot_tells_its_reset_cause(make_board: MakeBoard) -> None:
    board = make_board()
    await boot(board, 1)
    await board.cut_power()
    await boot(board, 2)
    board.lines.clear()
    await board.reset()
    await booted(board, 3)
    await board.brown_out(1)
    await boot(board, 4)
    assert await board.stop() == 0
    await boot(board, 5)
    await board.stop()
    causes = [CAUSE_POWER_ON, CAUSE_POWER_ON, CAUSE_HARD, CAUSE_BROWN_OUT, CAUSE_POWER_ON]
    assert board.reset_causes == causes
    assert await boots(board) == list(enumerate(causes, 1))
    assert (board.folder / "flash").stat().st_size == FLASH_BYTES


async def test_a_restart_that_the_firmware_asks_for_is_a_reset_of_the_board(make_board: MakeBoard) -> None:
    states: list[str] = []
    board = make_board(on_power=states.append)
    await boot(board, 1, snippet=RESTART)
    first = board.pid
    await board.wait_for_line("boot 2")
    assert board.pid != first, "a reset begins with an empty heap"
    await board.stop()
    assert await boots(board) == [(1, CAUSE_POWER_ON), (2, CAUSE_SOFT)]
    assert states == ["on", "reset", "off"]


async def test_power_good_falls_before_the_supply_and_what_is_open_is_saved(make_board: MakeBoard) -> None:
    states: list[str] = []
    board = make_board(config={**CONFIG, "seal_interval_ms": 60_000}, on_power=states.append)
    await boot(board, 1)
    await board.brown_out(100)
    assert [line for line in board.lines if "supply fails" in line]
    assert not board.is_running
    assert states == ["on", "warning", "cut"]


async def test_a_board_without_the_pin_hears_nothing_of_its_supply(make_board: MakeBoard) -> None:
    board = make_board(config={key: value for key, value in CONFIG.items() if key != "power_good_pin"})
    await boot(board, 1)
    await board.brown_out(100)
    assert not [line for line in board.lines if "supply" in line]


@pytest.mark.parametrize("number", [1, 3, 6, 9])
async def test_a_cut_in_the_middle_of_a_flash_operation_is_the_end_and_the_next_boot_goes_on(
    make_board: MakeBoard, number: int
) -> None:
    board = make_board()
    await boot(board, 1)
    await board.cut_power()
    at = board.flash_operations + number
    board.cut_at_operation(number)
    await board.start()
    async with asyncio.timeout(10):
        assert await board.wait() == -signal.SIGKILL
    assert board.flash_operations == at
    assert board.lines[-1] == f"board: power is cut in flash operation {at}"
    board.lines.clear()
    await board.start()
    line = await board.wait_for_line("v1 boot ")
    await board.wait_for_line("ECONNREFUSED")
    await board.cut_power()
    numbers = [boot for boot, _ in await boots(board)]
    assert numbers in ([1, 2], [1, 3], [1, 2, 3])
    assert line.endswith(f"boot {numbers[-1]}")


async def test_an_operation_that_is_cut_is_half_done(make_board: MakeBoard) -> None:
    board = make_board()
    await boot(board, 1)
    await board.cut_power()
    image = (board.folder / "flash").read_bytes()

    async def changed(number: int) -> set[int]:
        """Return the places that differ where the power is cut in an operation after `image`."""
        (board.folder / "flash").write_bytes(image)
        board.cut_at_operation(number)
        await board.start()
        await board.wait()
        after = (board.folder / "flash").read_bytes()
        return {place for place in range(len(image)) if image[place] != after[place]}

    half, whole = await changed(1), await changed(2)
    assert half < whole
    assert whole


async def test_a_cut_comes_while_the_firmware_runs_too(make_board: MakeBoard) -> None:
    board = make_board()
    await boot(board, 1, snippet=BUSY)
    await board.wait_for_line("busy")
    at = board.flash_operations
    board.cut_at_operation(20)
    async with asyncio.timeout(20):
        await board.wait()
    cut_at = int(board.lines[-1].split()[-1])
    assert at + 20 <= cut_at == board.flash_operations


async def test_a_failing_flash_ends_no_node_and_works_again(make_board: MakeBoard) -> None:
    board = make_board()
    await boot(board, 1, snippet=BUSY)
    board.fail_flash()
    failed_from = board.flash_operations
    async with asyncio.timeout(20):
        while board.flash_operations < failed_from + 20:  # noqa: ASYNC110 (another process: nothing to wait on)
            await asyncio.sleep(0.02)
    assert board.is_running
    board.fail_flash(is_failing=False)
    await board.wait_for_line("lost", timeout_s=20)
    assert await board.stop() == 0
    contents, events = await journal_events(board)
    declared = [row for row in events if row["code"] == FRAMES_DROPPED]
    lost = {seq for row in declared for seq in range(row["first_seq"], row["last_seq"] + 1)}
    assert lost
    assert lost | set(contents.frames) == set(range(1, contents.next_seq)), "everything is here or declared as lost"


async def test_other_files_fill_the_flash_to_the_last_block_and_can_go(make_board: MakeBoard) -> None:
    board = make_board()
    free_bytes = int(await free(board))
    assert free_bytes > FLASH_BYTES // 2
    assert await board.fill_flash(100_000) in range(90_000, 100_000 + BLOCK_BYTES)
    assert await board.fill_flash() <= 2 * BLOCK_BYTES
    await board.empty_flash()
    assert abs(int(await free(board)) - free_bytes) < 64 * BLOCK_BYTES


async def free(board: VirtualBoard) -> str:
    return await board.run("import os; print(os.statvfs('/')[0] * os.statvfs('/')[3])")


async def test_a_loop_that_hangs_is_ended_by_the_watchdog_and_the_next_boot_says_so(make_board: MakeBoard) -> None:
    states: list[str] = []
    board = make_board(on_power=states.append)
    await boot(board, 1, snippet=HANG)
    await board.wait_for_line("hanging")
    began_s = time.monotonic()
    await board.wait_for_line("boot 2")
    assert 0.5 < time.monotonic() - began_s < 10
    assert board.watchdog.bites == 1
    await board.stop()
    assert await boots(board) == [(1, CAUSE_POWER_ON), (2, CAUSE_WATCHDOG)]
    assert states == ["on", "reset", "off"]


async def test_an_interpreter_that_is_stuck_as_a_whole_is_ended_too(make_board: MakeBoard) -> None:
    board = make_board()
    await boot(board, 1)
    board.freeze()
    await board.wait_for_line("boot 2")
    await board.stop()
    assert board.reset_causes == [CAUSE_POWER_ON, CAUSE_WATCHDOG]


async def test_firmware_that_ends_by_an_error_sits_at_its_prompt_until_the_watchdog_bites(
    make_board: MakeBoard,
) -> None:
    board = make_board()
    await board.start(snippet=CRASH.format(timeout_ms=1000))
    await board.wait_for_line("ValueError")
    await board.wait_for_line("boot 1")
    await board.stop()
    assert board.reset_causes == [CAUSE_POWER_ON, CAUSE_WATCHDOG]


async def test_power_can_be_cut_while_dead_firmware_waits_for_its_watchdog(make_board: MakeBoard) -> None:
    board = make_board()
    await board.start(snippet=CRASH.format(timeout_ms=60_000))
    await board.wait_for_line("ValueError")
    async with asyncio.timeout(5):
        await board.cut_power()
    assert not board.is_running


async def test_a_blank_board_says_that_it_has_no_firmware(tmp_path: Path) -> None:
    board = VirtualBoard("v1", tmp_path / "v1")
    await board.start()
    assert await board.wait() != 0
    assert any("ImportError" in line for line in board.lines)
    await board.close()


async def test_code_runs_in_the_idle_interpreter_and_its_errors_are_shown(make_board: MakeBoard) -> None:
    board = make_board()
    assert sorted((await board.run("import os; print(*os.listdir('/'))")).split()) == ["host"]
    await boot(board, 1)
    with pytest.raises(NodeError, match="stop it before"):
        await board.run("print(1)")
    await board.stop()
    assert "swapline_node" in await board.run("import os; print(os.listdir('/'))")
    with pytest.raises(NodeError, match="ZeroDivisionError"):
        await board.run("1 / 0")


async def test_a_new_configuration_and_new_firmware_are_on_the_flash_at_the_next_start(
    make_board: MakeBoard, firmware: Path, tmp_path: Path
) -> None:
    board = make_board()
    await boot(board, 1)
    await board.stop()
    board.configure({**CONFIG, "node": "other"})
    await board.flash(firmware)
    await board.start()
    await board.wait_for_line("bench/other boot 2")
    await board.stop()
    await board.read_flash("", tmp_path / "all")
    assert '"other"' in (tmp_path / "all" / "config.json").read_text()
    assert (tmp_path / "all" / "swapline_node" / "app.mpy").read_bytes() == (
        firmware / "swapline_node" / "app.mpy"
    ).read_bytes()


async def test_a_timed_flash_takes_as_long_as_a_real_one(make_board: MakeBoard) -> None:
    async def boot_took_ms(board: VirtualBoard) -> tuple[int, int]:
        await boot(board, 1)
        line = await board.wait_for_line("read in")
        operations = board.flash_operations
        await board.cut_power()
        return int(line.split("read in ")[1].split()[0]), operations

    quick_ms, _ = await boot_took_ms(make_board("v1"))
    slow_ms, operations = await boot_took_ms(make_board("v2", is_flash_timed=True))
    assert operations > 5
    assert slow_ms > quick_ms + ERASE_US // 1000


async def test_the_hardware_takes_no_more_heap_than_it_is_given(
    make_board: MakeBoard, firmware: Path, tmp_path: Path
) -> None:
    async def heap_bytes(node: NodeProcess) -> int:
        await node.start(snippet=HEAP)
        line = await node.wait_for_line("heap ")
        await node.cut_power()
        return int(line.split()[1])

    virtual = await heap_bytes(make_board())
    plain = await heap_bytes(NodeProcess("p1", tmp_path / "p1", bundle=firmware, config=CONFIG))
    assert 0.8 * HARDWARE_HEAP_BYTES < virtual - plain <= HARDWARE_HEAP_BYTES


@pytest.mark.parametrize("is_timed", [False, True])
async def test_bench_file_says_whether_the_flash_takes_its_time(tmp_path: Path, is_timed: bool) -> None:
    flash = BlockDeviceFlash(kind="block_device", timed=is_timed)
    resource = Node(board="linux", driver="process", flash=flash)
    node = VirtualNode("n", resource, tmp_path / "n", on_line=lambda _: None, on_power=lambda _: None)
    (tmp_path / "bundle").mkdir()
    await node.flash(tmp_path / "bundle")
    _, _, _, _, erase_us, program_us, *_ = struct.unpack("<BBBBIIII", (tmp_path / "n" / "registers").read_bytes())
    assert (erase_us > 0, program_us > 0) == (is_timed, is_timed)
    await node.close()
