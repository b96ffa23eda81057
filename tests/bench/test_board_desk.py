"""The whole desk around a board: console, relay, adapters and UARTs of a played ESP32, everything else the real one.

The bench file is one of a real desk, but for its ports: they lead to pseudo terminals.
"""

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swapline_bench import bundle
from swapline_bench.desk.bench_file import BENCHES, BenchFile, load
from swapline_bench.desk.driver import features_of
from swapline_bench.desk.power import lcus_frame
from swapline_bench.desk.pty_cable import PtyCable
from swapline_bench.desk.raw_repl_player import RawReplPlayer
from swapline_bench.desk.strategy import Desk

REAL = ("esp32-desk", "pico-w-desk", "raspberry-pi")


class RelayPlayer:
    """A USB relay module in the supply of a played board."""

    def __init__(self, board: RawReplPlayer) -> None:
        self._board = board
        self._module_end, self._bench_end = pty.openpty()
        tty.setraw(self._bench_end)
        self.path = os.ttyname(self._bench_end)
        self._switching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "RelayPlayer":
        asyncio.get_running_loop().add_reader(self._module_end, self._hear)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._module_end)
        await asyncio.gather(*self._switching)
        os.close(self._module_end)
        os.close(self._bench_end)

    def _hear(self) -> None:
        frame = os.read(self._module_end, 64)
        if frame == lcus_frame(1, is_closed=True):
            self._board.power_on()
        elif frame == lcus_frame(1, is_closed=False):
            self._switching.append(asyncio.create_task(self._board.power_off()))


@contextlib.asynccontextmanager
async def played_desk(folder: Path) -> AsyncIterator[tuple[BenchFile, RawReplPlayer]]:
    """Yield `esp32-desk.toml` with its ports led to a played board, its relay and its two UARTs."""
    async with PtyCable() as bay, PtyCable() as gnss:
        board = RawReplPlayer(
            folder / "board", platform="esp32", ports={1: bay.right, 2: gnss.right}, link=folder / "console"
        )
        board.plug()
        try:
            async with RelayPlayer(board) as relay:
                real = load(BENCHES / "esp32-desk.toml")
                text = real.text
                for port, mine in (
                    (_port(real, "console"), board.path), (_port(real, "relay"), relay.path),
                    (_port(real, "bay1"), bay.left), (_port(real, "gnss"), gnss.left),
                ):  # fmt: skip
                    assert text.count(f'"{port}"') == 1, port
                    text = text.replace(f'"{port}"', f'"{mine}"')
                text = "\n".join(
                    line for line in text.splitlines() if not line.startswith(("advertise", "password_env"))
                )
                text = text.replace('host = "0.0.0.0"', 'host = "127.0.0.1"').replace("off_s = 2.0", "off_s = 0.1")
                (folder / "bench.toml").write_text(text)
                yield load(folder / "bench.toml"), board
        finally:
            await board.power_off()
            board.unplug()


async def _until_off(board: RawReplPlayer) -> None:
    async with asyncio.timeout(5.0):
        while board.is_on:  # noqa: ASYNC110 - its relay switches
            await asyncio.sleep(0.01)


def _port(file: BenchFile, what: str) -> str:
    return next(port for port, said in file.ports() if what in said)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("firmware") / "bundle")


@pytest.mark.parametrize("name", REAL)
def test_bench_file_of_a_real_desk_can_be_read(name: str) -> None:
    file = load(BENCHES / f"{name}.toml")
    assert file.bench.name == name
    assert file.bench.exclusive
    assert "simulators" in features_of(file)
    assert all(not line.is_pty for line in file.lines)


async def test_desk_around_a_board_stores_what_its_devices_say_through_a_power_cut(
    tmp_path: Path, firmware: Path
) -> None:
    async with played_desk(tmp_path) as (file, board), Desk(file, tmp_path / "desk", bundle=firmware) as desk:
        assert desk.features >= {"power", "snippet", "simulators", "network"}
        desk.make_van(bays=1, vcu=False)
        births = []
        await desk.boot()
        births.append(desk.tap[desk.name].status["board"])
        await desk.tap.wait_rows(desk.name, "module", 3)
        await desk.tap.wait_rows(desk.name, "position", 3)
        await desk.cut_power()
        await _until_off(board)
        await desk.boot_again()
        births.append(desk.tap[desk.name].status["board"])
        await desk.tap.wait_rows(desk.name, "module", 8)
        verdict = await desk.judge()
        assert verdict.is_good, str(verdict)
        assert board.resets.count(1) == 2, "it had power twice"
        assert births == ["esp32", "esp32"]
