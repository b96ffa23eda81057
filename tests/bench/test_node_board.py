"""The driver of real boards, against a played board whose console, file system, resets and watchdog are a board's."""

import asyncio
import contextlib
import os
import pty
import shutil
import sys
import tty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import bundle
from swapline_bench.desk import console as consoles
from swapline_bench.desk import node_board
from swapline_bench.desk.bench_file import CommandPower, EsptoolFlash, MpremoteFlash, Node, NoPower
from swapline_bench.desk.bench_file import Console as ConsoleTable
from swapline_bench.desk.node import NodeError
from swapline_bench.desk.node_board import BoardNode
from swapline_bench.desk.raw_repl_player import WATCHDOG, RawReplPlayer

CONFIG = {
    "fleet": "bench", "node": "n", "link": {"host": "127.0.0.1", "port": 9}, "watchdog_ms": 1000,
    "network": {"ssid": "desk", "password": "x"},
}  # fmt: skip
FIRMWARE_LIKE = "print('0.100 info node bench/n boot 1')\nimport time\nwhile True:\n    time.sleep(1)\n"


class Pair:
    """A played board and the driver that reaches it."""

    def __init__(self, board: RawReplPlayer, node: BoardNode, powers: list[str]) -> None:
        self.board = board
        self.node = node
        self.powers = powers

    @property
    def folder(self) -> Path:
        """The board's file system."""
        return self.board.folder


def make_node(port: str, folder: Path, powers: list[str], **resource: Any) -> BoardNode:
    table = {"power": NoPower(kind="none"), "flash": MpremoteFlash(kind="mpremote"), **resource}
    description = Node(**{"board": "esp32", "driver": "board", "console": ConsoleTable(port=port), **table})
    return BoardNode("n", description, folder, on_line=lambda _: None, on_power=powers.append)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    powers: list[str] = []
    async with RawReplPlayer(tmp_path / "board", platform="esp32", link=tmp_path / "console") as board:
        node = make_node(board.path, tmp_path, powers)
        yield Pair(board, node, powers)
        await node.close()


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("firmware") / "bundle")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle of three files."""
    folder = tmp_path / "bundle"
    (folder / "swapline_wire").mkdir(parents=True)
    (folder / "swapline_wire" / "frame.py").write_text("# " + "x" * 5000)
    (folder / "boot.py").write_text("")
    (folder / "main.py").write_text(FIRMWARE_LIKE)
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is silent stays so: shorten the waiting for it."""
    monkeypatch.setattr(node_board, "BOOT_S_MAX", 2.5)
    monkeypatch.setattr(consoles.Console.enter, "__kwdefaults__", {"soft_reset": True, "timeout_s": 1.0})


def put_on(board: RawReplPlayer, firmware: Path) -> None:
    """Have the firmware on a board already, so that flashing only compares: one test shows that it is copied."""
    shutil.copytree(firmware, board.folder, dirs_exist_ok=True)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_firmware_is_copied_configured_started_and_stopped(pair: Pair, firmware: Path) -> None:
    """All of it: mpremote copies the bundle, the firmware boots on an ESP32's own board file and stops in order."""
    await pair.node.flash(firmware)
    assert files_of(pair.folder) == files_of(firmware)
    await pair.node.configure(CONFIG)
    await pair.node.start()
    await pair.node.wait_for_line("link")
    assert pair.node.is_running
    await pair.node.stop()
    assert any("info node stopped" in line for line in pair.node.lines)
    assert (pair.folder / "journal").is_dir()
    assert pair.powers == ["on", "off"]
    resets = len(pair.board.resets)
    platform = await pair.node.run("import sys, time; time.sleep(1.7); print(sys.platform)")
    assert platform == "esp32"
    assert len(pair.board.resets) == resets, "the firmware's watchdog, of one second, bit an idle board"


async def test_watchdog_bites_a_firmware_that_hangs_and_the_log_goes_on(pair: Pair, firmware: Path) -> None:
    put_on(pair.board, firmware)
    await pair.node.flash(firmware)
    await pair.node.configure(CONFIG)
    await pair.node.start(
        snippet="from swapline_node.health import Health\n"
        "async def hang(self):\n    while True: pass\nHealth.run = hang\n"
    )
    await pair.node.wait_for_line("boot 2", timeout_s=15.0)
    assert pair.board.resets[-1] == WATCHDOG


async def test_only_what_differs_is_copied(pair: Pair, small: Path) -> None:
    await pair.node.flash(small)
    await pair.node.wait_for_line("flash: 3 of 3 files copied, 0 removed")
    (small / "boot.py").write_text("# other\n")
    await pair.node.flash(small)
    await pair.node.wait_for_line("flash: 1 of 3 files copied, 0 removed")


async def test_half_a_file_of_an_older_firmware_is_made_whole_and_stale_ones_go(pair: Pair, small: Path) -> None:
    (pair.folder / "swapline_wire").mkdir()
    (pair.folder / "swapline_wire" / "frame.py").write_text("# xxx")
    (pair.folder / "swapline_wire" / "frame.mpy").write_bytes(b"old")
    (pair.folder / "notes.txt").write_text("a person's")
    await pair.node.flash(small)
    assert files_of(pair.folder) == {**files_of(small), "notes.txt": b"a person's"}


async def test_first_flash_forgets_the_node_and_later_ones_do_not(pair: Pair, small: Path) -> None:
    (pair.folder / "journal").mkdir()
    (pair.folder / "journal" / "a.seg").write_text("rows of an earlier test")
    await pair.node.flash(small)
    assert not (pair.folder / "journal").exists()
    (pair.folder / "journal").mkdir()
    await pair.node.flash(small)
    assert (pair.folder / "journal").is_dir()


async def test_snippet_runs_before_main_in_the_same_interpreter(pair: Pair, small: Path) -> None:
    (small / "main.py").write_text("import sys\ndef main():\n    print('0.100 info node bench/n boot', sys.planted)\n")
    await pair.node.flash(small)
    await pair.node.start(snippet="import sys\nsys.planted = 42\n")
    assert await pair.node.wait_for_line("boot 42")


async def test_code_that_fails_shows_the_boards_traceback(pair: Pair) -> None:
    with pytest.raises(NodeError, match="ZeroDivisionError"):
        await pair.node.run("1 / 0")


async def test_running_board_is_neither_flashed_nor_asked(pair: Pair, small: Path) -> None:
    await pair.node.flash(small)
    await pair.node.start()
    for work in (pair.node.flash(small), pair.node.configure({}), pair.node.run("1"), pair.node.start()):
        with pytest.raises(NodeError, match="runs its firmware: stop it before"):
            await work


async def test_reset_starts_the_firmware_anew(pair: Pair, small: Path) -> None:
    await pair.node.flash(small)
    await pair.node.start()
    resets = len(pair.board.resets)
    await pair.node.reset()
    assert len(pair.board.resets) > resets
    assert pair.node.is_running
    assert pair.powers == ["on", "reset"]


async def test_console_of_a_chips_own_usb_vanishes_at_each_start(
    tmp_path: Path, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pico W's: what the firmware says meanwhile is heard by nobody, and its board file is another one."""
    monkeypatch.setattr(node_board, "_USB_S_MAX", 0.5)
    async with RawReplPlayer(tmp_path / "board", platform="rp2", link=tmp_path / "console", usb_s=0.5) as board:
        put_on(board, firmware)
        await _until(lambda: board.is_plugged)
        node = make_node(board.path, tmp_path, [], board="rp2")
        await node.flash(firmware)
        await node.configure(CONFIG)
        await node.start()
        assert node.reconnections == 1
        await node.stop()
        assert any("info node stopped" in line for line in node.lines)
        await node.start(snippet="import sys\nprint(sys.platform)\n")
        await node.wait_for_line("rp2")
        await node.close()


async def test_power_goes_and_comes_by_the_users_command_and_the_console_with_it(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_board, "_USB_S_MAX", 0.5)
    switch = tmp_path / "switch"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    commands = {word: [sys.executable, "-c", code, str(switch), word] for word in ("on", "off")}
    powers: list[str] = []
    async with RawReplPlayer(tmp_path / "board", platform="esp32", link=tmp_path / "console", usb_s=0.2) as board:
        await board.power_off()
        supply = asyncio.create_task(_follow(switch, board))
        node = make_node(board.path, tmp_path, powers, power=CommandPower(kind="command", off_s=0.0, **commands))
        await node.flash(small)
        await node.start()
        await node.cut_power()
        await _until(lambda: not board.is_on)
        assert not node.is_running
        await node.start()
        assert node.features >= {"power", "snippet"}
        await node.close()
        await _until(lambda: not board.is_plugged)
        await node.run("1")  # as the next run of the bench, which finds no console either
        await node.close()
        supply.cancel()
    assert powers == ["on", "cut", "on", "cut", "cut"]


async def test_console_that_is_pulled_while_files_are_copied(pair: Pair, small: Path) -> None:
    for number in range(20):
        (small / "swapline_wire" / f"part{number}.py").write_text("# " + "x" * 2000)
    flashing = asyncio.create_task(pair.node.flash(small))
    await _until(lambda: len(files_of(pair.folder)) > 3)
    pair.board.unplug()
    with pytest.raises(NodeError, match=r"console .* went away while .* is its cable pulled"):
        await flashing
    pair.board.plug()
    await pair.node.flash(small)
    assert files_of(pair.folder) == files_of(small)


async def test_console_that_is_pulled_and_plugged_while_the_firmware_runs(pair: Pair, small: Path) -> None:
    (small / "main.py").write_text(
        "import time\nprint('0.100 info node bench/n boot 1')\nn = 0\nwhile True:\n    time.sleep(0.05)\n    n += 1\n"
        "    print('tick', n)\n"
    )
    await pair.node.flash(small)
    await pair.node.start()
    pair.board.unplug()
    await pair.node.wait_for_line("went away")
    pair.board.plug()
    await pair.node.wait_for_line("is back")
    pair.node.lines.clear()
    await pair.node.wait_for_line("tick")
    assert pair.node.reconnections == 1


async def test_nobody_can_cut_the_power_of_a_board_without_a_switch(pair: Pair, small: Path) -> None:
    await pair.node.flash(small)
    await pair.node.start()
    with pytest.raises(NodeError, match=r"Nobody can switch .* put a relay or a command"):
        await pair.node.cut_power()
    with pytest.raises(NodeError, match="power-good input nobody drives"):
        await pair.node.brown_out(20)


@pytest.mark.usefixtures("impatient")
async def test_board_that_does_not_answer(pair: Pair) -> None:
    pair.board.is_mute = True
    with pytest.raises(NodeError, match=r"Nothing answers on .*console at 115200 baud: is the board powered"):
        await pair.node.run("1")


@pytest.mark.usefixtures("impatient")
async def test_board_in_a_boot_loop(pair: Pair, small: Path) -> None:
    (small / "main.py").write_text("import time, machine\ntime.sleep(0.2)\nmachine.reset()\n")
    await pair.node.flash(small)
    with pytest.raises(NodeError, match=r"restarts again and again \(\d+ times in 2.5 s\)"):
        await pair.node.start()


@pytest.mark.usefixtures("impatient")
async def test_firmware_that_crashes_at_its_start_shows_its_traceback(
    pair: Pair, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_board, "BOOT_S_MAX", 1.2)
    (small / "main.py").write_text("import nothing_of_that_name\n")
    await pair.node.flash(small)
    with pytest.raises(
        NodeError, match=r"(?s)its firmware did not within 1.2 s.*no module named 'nothing_of_that_name'"
    ):
        await pair.node.start()


@pytest.mark.usefixtures("impatient")
async def test_board_without_an_interpreter_gets_one_by_the_command_of_the_file(tmp_path: Path, small: Path) -> None:
    done = tmp_path / "done"
    command = [sys.executable, "-c", "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x')", str(done)]
    flash = MpremoteFlash(kind="mpremote", interpreter_command=command)
    async with RawReplPlayer(tmp_path / "board", platform="esp32", link=tmp_path / "console") as board:
        board.is_mute = True
        node = make_node(board.path, tmp_path, [], flash=flash)
        flashing = asyncio.create_task(node.flash(small))
        await _until(done.exists)
        board.is_mute = False
        await flashing
        assert files_of(board.folder) == files_of(small)
        await node.close()


@pytest.mark.usefixtures("impatient")
async def test_esptool_is_asked_where_the_file_says_so(pair: Pair, small: Path, tmp_path: Path) -> None:
    """There is no chip for it here: it, or Python that lacks it, ends with an error, which is shown."""
    pair.board.is_mute = True
    flash = EsptoolFlash(kind="esptool", image=tmp_path / "ESP32_GENERIC.bin", offset=0x1000)
    node = make_node(pair.board.path, tmp_path, [], flash=flash)
    with pytest.raises(
        NodeError, match=r"puts MicroPython on the board ended with .* write_flash 0x1000 .*GENERIC.bin"
    ):
        await node.flash(small)
    await node.close()


@pytest.fixture
async def receiver() -> AsyncIterator[str]:
    """A serial port behind which something else than a board is: a GNSS receiver."""
    device_end, host_end = pty.openpty()
    tty.setraw(host_end)
    os.set_blocking(device_end, False)

    async def speak() -> None:
        while True:
            with contextlib.suppress(BlockingIOError):
                os.write(device_end, b"$GNRMC,120000.00,A,3113.00,N,12128.00,E,0.0,,010126,,,A*6C\r\n")
            await asyncio.sleep(0.05)

    speaking = asyncio.create_task(speak())
    yield os.ttyname(host_end)
    speaking.cancel()
    os.close(device_end)
    os.close(host_end)


@pytest.mark.usefixtures("impatient")
async def test_port_of_another_device(receiver: str, tmp_path: Path) -> None:
    node = make_node(receiver, tmp_path, [])
    with pytest.raises(NodeError, match=r"does not answer as MicroPython does; .* It said .*\$GNRMC"):
        await node.run("1")
    await node.close()


async def test_port_that_is_not_there(tmp_path: Path) -> None:
    node = make_node("/dev/serial/by-id/no-board", tmp_path, [])
    with pytest.raises(NodeError, match=r"console /dev/serial/by-id/no-board is not there: plug the board in"):
        await node.run("1")


async def test_port_that_is_no_serial_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError, match="is no serial port"):
        await make_node(str(tmp_path / "file"), tmp_path, []).run("1")


async def test_port_that_another_program_uses(pair: Pair, tmp_path: Path) -> None:
    assert await pair.node.run("print(1)") == "1"
    with pytest.raises(NodeError, match="in use by another program: end that"):
        await make_node(pair.board.path, tmp_path, []).run("1")


async def _follow(switch: Path, board: RawReplPlayer) -> None:
    """Be the supply behind the user's commands."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            state = switch.read_text() if switch.exists() else ""  # noqa: ASYNC240 - what the command wrote
            if state == "on" and not board.is_on:
                board.power_on()
            elif state == "off" and board.is_on:
                await board.power_off()
            await asyncio.sleep(0.01)


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(15.0):
        while not is_so():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
