"""A desk without hardware that a bench file for real boards can be tried on, and a bench file of such a kind.

    python -m swapline_bench.desk.played_desk FOLDER
    pytest hil_tests -m promise --bench FOLDER/bench.toml      # elsewhere, while the first one runs

`bench.toml` is `hil_tests/benches/esp32-desk.toml` with its ports led to a played ESP32 (`raw_repl_player`): console,
relay in the supply, an RS-485 line and the GNSS receiver's UART. A third UART, as an ESP32-S3 has it free, leads to the
vehicle controller. The bench does not know that no board is there.
"""

import asyncio
import contextlib
import os
import pty
import signal
import sys
import tty
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from swapline_bench.desk.bench_file import BENCHES, CONSOLE, BenchFile, load
from swapline_bench.desk.power import lcus_frame
from swapline_bench.desk.pty_cable import PtyCable
from swapline_bench.desk.raw_repl_player import RawReplPlayer

DESK = BENCHES / "esp32-desk.toml"
_FRAME_BYTES = 4
_THIRD_LINE = """
[[lines]]
name = "vcu"
adapter = "{port}"
node_port = 0
tx_pin = 43
rx_pin = 44
devices = [{{ simulator = "vcu" }}]
"""
_LEFT_OUT = ("password_env",)  # its network is this computer


class RelayPlayer:
    """A USB relay module (LCUS) whose first relay is in the supply of a played board."""

    def __init__(self, board: RawReplPlayer) -> None:
        self._board = board
        self._module_end, self._bench_end = pty.openpty()
        tty.setraw(self._bench_end)
        self.path = os.ttyname(self._bench_end)
        self._switching: asyncio.Task[None] | None = None
        self._received = b""

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._module_end, self._hear)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._module_end)
        if self._switching is not None:
            await self._switching
        os.close(self._module_end)
        os.close(self._bench_end)

    def _hear(self) -> None:
        self._received += os.read(self._module_end, 64)
        while len(self._received) >= _FRAME_BYTES:
            frame, self._received = self._received[:_FRAME_BYTES], self._received[_FRAME_BYTES:]
            for is_closed in (True, False):
                if frame == lcus_frame(1, is_closed=is_closed):
                    self._switching = asyncio.create_task(self._switch(self._switching, is_closed))

    async def _switch(self, before: asyncio.Task[None] | None, is_closed: bool) -> None:
        if before is not None:
            await before
        if is_closed:
            self._board.power_on()
        else:
            await self._board.power_off()


class PlayedDesk:
    """The desk of `esp32-desk.toml` in `folder`. `file` is its bench file, `board` the board."""

    file: BenchFile
    board: RawReplPlayer

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as stack:
            bay, gnss, vcu = [await stack.enter_async_context(PtyCable()) for _ in range(3)]
            self.board = RawReplPlayer(
                self.folder / "board",
                platform="esp32",
                ports={0: vcu.right, 1: bay.right, 2: gnss.right},
                link=self.folder / "console",
            )
            self.board.plug()
            stack.callback(self.board.unplug)
            stack.push_async_callback(self.board.power_off)
            relay = await stack.enter_async_context(RelayPlayer(self.board))
            self.file = self._write_file(
                {
                    CONSOLE: self.board.path,
                    "the relay": relay.path,
                    "line bay1": bay.left,
                    "line gnss": gnss.left,
                },
                _THIRD_LINE.format(port=vcu.left),
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _write_file(self, ports: Mapping[str, str], more: str) -> BenchFile:
        real = load(DESK)
        text = real.text.replace('"esp32-desk"', '"played-desk"').replace('"0.0.0.0"', '"127.0.0.1"')
        text = text.replace('"192.168.1.10"', '"127.0.0.1"')
        text = text.replace("off_s = 2.0", "off_s = 0.1")
        for port, what in real.ports():
            assert text.count(f'"{port}"') == 1, port
            text = text.replace(f'"{port}"', f'"{ports[what]}"')
        path = self.folder / "bench.toml"
        kept = [line for line in text.splitlines() if not line.startswith(_LEFT_OUT)]
        path.write_text("\n".join(kept) + "\n" + more)
        return load(path)


async def _run(folder: Path) -> None:
    asked_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    async with PlayedDesk(folder) as desk:
        sys.stdout.write(f"{desk.file.path}\nA played ESP32 and its desk are there until Ctrl-C.\n")
        sys.stdout.flush()
        await asked_to_end.wait()


def main() -> None:
    """Play a desk until told to end."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.stderr.write("usage: python -m swapline_bench.desk.played_desk FOLDER\n\n" + (__doc__ or ""))
        sys.exit(0 if "--help" in sys.argv else 2)
    asyncio.run(_run(Path(sys.argv[1]).absolute()))


if __name__ == "__main__":
    main()
