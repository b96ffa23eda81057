"""The played board is held to what the unmodified `mpremote` program does with it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swapline_bench import bundle
from swapline_bench.desk.raw_repl_player import RESET, WATCHDOG, RawReplPlayer

MPREMOTE = Path(sys.executable).with_name("mpremote")
S_MAX = 20.0


class Desk:
    """A played board, and `mpremote` as a person uses it."""

    def __init__(self, board: RawReplPlayer) -> None:
        self.board = board

    async def mpremote(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            MPREMOTE, "connect", self.board.path, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(S_MAX):
                output = (await process.communicate())[0].decode()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, output
        return output


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with RawReplPlayer(tmp_path / "board", link=tmp_path / "console") as board:
        yield Desk(board)


async def test_mpremote_executes_in_a_real_interpreter(desk: Desk) -> None:
    assert await desk.mpremote("exec", "import sys; print(sys.implementation.name, 6 * 7)") == "micropython 42\r\n"


async def test_mpremote_shows_the_boards_exception(desk: Desk) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        await desk.mpremote("exec", "1 / 0")


async def test_mpremote_copies_a_folder_and_the_copy_is_the_same(desk: Desk, tmp_path: Path) -> None:
    firmware = bundle.build(tmp_path / "firmware")
    await desk.mpremote("fs", "cp", "-r", f"{firmware}/swapline_wire", ":")
    for path in (firmware / "swapline_wire").rglob("*"):
        if path.is_file():
            assert (desk.board.folder / path.relative_to(firmware)).read_bytes() == path.read_bytes()


async def test_board_sees_its_folder_as_root(desk: Desk) -> None:
    (desk.board.folder / "a.txt").write_text("x")
    assert "a.txt" in await desk.mpremote("fs", "ls", ":/")
    assert not (desk.board.folder / "etc").exists()
    assert "etc" not in await desk.mpremote("exec", "import os; print(os.listdir('/'))")


async def test_raw_paste_carries_a_program_longer_than_its_window(desk: Desk) -> None:
    numbers = list(range(2000))
    assert await desk.mpremote("exec", f"print(sum({numbers}))") == f"{sum(numbers)}\r\n"


async def test_soft_reset_forgets_names_and_runs_boot(desk: Desk) -> None:
    (desk.board.folder / "boot.py").write_text("print('boot runs')\nfrom_boot = 1\n")
    answer = await desk.mpremote("exec", "kept = 1", "exec", "print('kept' in globals())", "soft-reset", "exec",
                                 "print('kept' in globals(), 'from_boot' in globals())")  # fmt: skip
    assert answer.split() == ["True", "False", "True"]
    assert desk.board.resets == [1]  # its hardware started once


async def test_reset_starts_main_and_ctrl_c_ends_it(desk: Desk) -> None:
    (desk.board.folder / "main.py").write_text(
        "import time\nopen('started', 'w').close()\ntry:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n"
        "    open('ended', 'w').close()\n"
    )
    desk.board.press_reset()
    await _until(desk.board.folder / "started")
    assert await desk.mpremote("resume", "exec", "print(1)") == "1\r\n"
    assert (desk.board.folder / "ended").exists()
    assert desk.board.resets == [1, RESET]


async def test_mpremote_mounts_a_folder_of_the_computer(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "hello.py").write_text("print('from afar')\n")
    assert "from afar" in await desk.mpremote("mount", str(tmp_path / "here"), "exec", "import hello")


async def test_watchdog_bites_an_interpreter_that_hangs(tmp_path: Path) -> None:
    async with RawReplPlayer(tmp_path / "board", platform="esp32", link=tmp_path / "console") as board:
        (board.folder / "main.py").write_text(
            "import machine\nif machine.reset_cause() == machine.WDT_RESET:\n    open('bitten', 'w').close()\n"
            "else:\n    machine.WDT(timeout=200)\n    while True:\n        pass\n"
        )
        board.press_reset()
        await _until(board.folder / "bitten")
        assert board.resets == [1, RESET, WATCHDOG]


async def test_unplugged_console_is_gone_and_comes_back_under_its_name(desk: Desk) -> None:
    desk.board.unplug()
    assert not desk.board.is_plugged
    desk.board.plug()
    assert await desk.mpremote("exec", "print(1)") == "1\r\n"


async def _until(path: Path) -> None:
    async with asyncio.timeout(S_MAX):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process writes it
            await asyncio.sleep(0.01)
