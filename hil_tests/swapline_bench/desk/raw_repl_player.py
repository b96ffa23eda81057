"""A pseudo terminal that plays a board's serial console, with a real MicroPython behind it.

    async with RawReplPlayer(folder, platform="esp32") as board:
        ...`mpremote connect board.path`, a terminal program, or a driver of the bench...

Whoever opens `path` meets what a board's console has: Ctrl-A to Ctrl-E, raw REPL with raw paste, soft reset, reset,
`boot.py` and `main.py`, a watchdog that bites. What is sent is executed in MicroPython's unix port (`played_board.py`),
and `folder` is the root of the board's file system. With platform `esp32` or `rp2` the modules of such a board are
there (`played_hardware.py`), so the firmware runs with that board's own file and UART numbers.

What is not played: the line's speed, Ctrl-C inside of a C function that never returns, blocks of several lines in the
friendly REPL.
"""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
import tty
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from swapline_bench.node_process import NodeError

PLATFORMS = ("linux", "esp32", "rp2")
POWER_ON, RESET, WATCHDOG, SOFT_RESET = 1, 2, 3, 5  # of `machine.reset_cause()` on an ESP32
HEAP_BYTES = 320 * 1024  # what a node has, and 64 KB for playing a board
_PROGRAM = Path(__file__).with_name("played_board.py")
_CTRL_C = b"\x03"
_TYPED = frozenset(
    b"\r\x01\x02\x03\x04"
)  # what comes along with a Ctrl-C that is meant; file data may hold its code as well
_OUTPUT_BYTES_MAX = 1 << 16  # a console that nobody reads loses what it says
_READ_BYTES = 4096
_SAFE_S_MAX = 0.3
_SAFE_LOOK_S = 0.002
# The wheel runs MicroPython inside of CPython; the board dies with its bench (prctl 1 = PR_SET_PDEATHSIG).
_LAUNCHER = """
import ctypes, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
prctl = getattr(ctypes.CDLL(None), "prctl", None)
prctl and prctl(1, signal.SIGKILL)
from micropython_unix import main
sys.exit(main())
"""
_ROM_LINES = {  # what a chip says before MicroPython runs; `?` is why it started
    "linux": b"",
    "esp32": b"\r\nets Jul 29 2019 12:21:46\r\n\r\nrst:0x?,boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n",
    "rp2": b"",
}


class RawReplPlayer:
    """One played board. `ports`: UART number -> path of the serial port that its pins lead to.

    `link` is a name for the console that stays the same when it is unplugged and plugged in, as udev gives one.
    `usb_s`: the console is the chip's own USB, which is gone without power and for so long after each reset.
    """

    def __init__(
        self,
        folder: Path,
        *,
        platform: str = "linux",
        ports: Mapping[int, str] = MappingProxyType({}),
        link: Path | None = None,
        heap_bytes: int = HEAP_BYTES,
        usb_s: float | None = None,
    ) -> None:
        if platform not in PLATFORMS:
            raise NodeError(f"No board of platform {platform!r} can be played; choose one of {', '.join(PLATFORMS)}.")
        self.folder = folder
        self.platform = platform
        self.ports = dict(ports)
        self.link = link
        self.heap_bytes = heap_bytes
        self.usb_s = usb_s
        self.starts = 0  # of the interpreter
        self.resets: list[int] = []  # why the board started, each time its hardware did
        self.interrupts = 0
        self.bytes_discarded = 0
        self.is_mute = False  # nobody answers on the console, as where something else than a board is behind it
        self._board_end = -1
        self._host_end = -1
        self._out = bytearray()
        self._process: asyncio.subprocess.Process | None = None
        self._is_busy = False
        self._order = ""
        self._watchdog_ms = 0
        self._watchdog: asyncio.TimerHandle | None = None
        self._life: asyncio.Task[None] | None = None
        self._interrupting: asyncio.Task[None] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> str:
        """Return the path of the console's serial port."""
        return str(self.link) if self.link else os.ttyname(self._host_end)

    @property
    def is_on(self) -> bool:
        """Say whether the board has power."""
        return self._life is not None

    @property
    def is_plugged(self) -> bool:
        """Say whether the console's serial port is there."""
        return self._host_end >= 0 and (self.link is None or self.link.exists())

    # ---- what a person does with a board

    def plug(self) -> None:
        """Plug the console's cable in."""
        self._board_end, self._host_end = pty.openpty()
        tty.setraw(self._host_end)
        os.set_blocking(self._board_end, False)
        if self.link is not None:
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(os.ttyname(self._host_end))
        asyncio.get_running_loop().add_reader(self._board_end, self._hear)

    def unplug(self) -> None:
        """Pull the console's cable: its serial port is gone, the board goes on."""
        if self._board_end < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._board_end)
        loop.remove_writer(self._board_end)
        os.close(self._board_end)
        os.close(self._host_end)
        self._board_end = self._host_end = -1
        self._out.clear()
        if self.link is not None:
            self.link.unlink(missing_ok=True)

    def power_on(self) -> None:
        """Give the board power; it boots."""
        if self._life is None:
            self._life = asyncio.create_task(self._live(), name=f"board in {self.folder}")

    async def power_off(self) -> None:
        """Take its power away at once."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.wait({life})  # who cancels us does not interrupt that
            if self.usb_s is not None:
                self.unplug()

    def press_reset(self) -> None:
        """Press the board's reset button."""
        self._give_order("reset")

    async def __aenter__(self) -> Self:
        if self.usb_s is None:
            self.plug()
        self.power_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.power_off()
        self.unplug()

    # ---- the board's life

    async def _live(self) -> None:
        start, cause = "hard", POWER_ON
        try:
            while True:
                if start == "hard":
                    self.resets.append(cause)
                    self._disarm()
                    self._enumerate()
                    self._say(_ROM_LINES[self.platform].replace(b"?", b"%d" % cause))
                order = await self._run_interpreter(start, cause)
                if order.startswith("soft_"):
                    start = order.removeprefix("soft_")
                    cause = SOFT_RESET if self.platform == "esp32" else cause
                else:
                    start = "hard"
                    is_watchdog = order == "watchdog" or self.platform == "rp2"  # whose `machine.reset` is one, too
                    cause = WATCHDOG if is_watchdog else RESET
        finally:
            self._disarm()

    def _enumerate(self) -> None:
        """Let the chip's own USB vanish and come back, while the interpreter starts already."""
        if self.usb_s is not None:
            self.unplug()
            asyncio.get_running_loop().call_later(self.usb_s, self._plug_usb)

    def _plug_usb(self) -> None:
        if self.is_on and not self.is_plugged:
            self.plug()

    async def _run_interpreter(self, start: str, cause: int) -> str:
        """Run one life of the interpreter and return what ended it."""
        control, child_end = os.pipe()
        self._is_busy = False
        try:
            process = await self._start(child_end, start, cause)
            self.starts += 1
            os.close(child_end)
            child_end = -1
            listening = asyncio.create_task(self._listen(control))
            if self._order:
                await self._kill()  # the button was pressed before there was anything to reset
            await self._forward(process)
            await listening
        finally:
            await self._kill()
            for descriptor in (control, child_end):
                if descriptor >= 0:
                    os.close(descriptor)
        order, self._order = self._order or "crash", ""
        return order

    async def _start(self, control: int, start: str, cause: int) -> asyncio.subprocess.Process:
        """Start the interpreter. Who cancels us meanwhile does not leave a process behind that nobody knows."""
        starting = asyncio.create_task(self._spawn(control, start, cause))
        try:
            await asyncio.shield(starting)
        finally:
            await asyncio.wait({starting})
            if starting.exception() is None:
                self._process = starting.result()
        return starting.result()

    async def _spawn(self, control: int, start: str, cause: int) -> asyncio.subprocess.Process:
        ports = json.dumps({str(number): path for number, path in self.ports.items()})
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _LAUNCHER, "-X", f"heapsize={self.heap_bytes}",
            str(_PROGRAM), self.platform, str(control), start, str(cause), ports,
            cwd=self.folder,
            pass_fds=(control,),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
        )  # fmt: skip

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _listen(self, control: int) -> None:
        """Take what the board tells about itself until it ends."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        file = os.fdopen(os.dup(control), "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        try:
            while raw := await reader.readline():
                self._take_word(raw.decode().split())
        finally:
            transport.close()

    def _take_word(self, words: list[str]) -> None:
        match words:
            case ["busy"]:
                self._is_busy = True
            case ["idle"]:
                self._is_busy = False
            case ["wdt", timeout_ms]:
                self._watchdog_ms = int(timeout_ms)
                self._feed()
            case ["fed"]:
                self._feed()
            case [order]:
                self._give_order(order)

    def _give_order(self, order: str) -> None:
        """End this life of the interpreter."""
        self._order = self._order or order
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _feed(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._watchdog_ms:
            loop = asyncio.get_running_loop()
            self._watchdog = loop.call_later(self._watchdog_ms / 1000, self._give_order, "watchdog")

    def _disarm(self) -> None:
        self._watchdog_ms = 0
        if self._watchdog is not None:
            self._watchdog.cancel()

    # ---- the console

    async def _forward(self, process: asyncio.subprocess.Process) -> None:
        """Say on the console what the interpreter says, line ends as a board's `print` makes them."""
        assert process.stdout is not None
        last = b""
        while data := await process.stdout.read(_READ_BYTES):
            joined = last + data
            self._say(joined.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")[len(last) :])
            last = b"\r" if data.endswith(b"\r") else b""
        await process.wait()

    def _say(self, data: bytes) -> None:
        if self._board_end < 0 or self.is_mute:
            return
        room = _OUTPUT_BYTES_MAX - len(self._out)
        self.bytes_discarded += max(0, len(data) - room)
        self._out += data[:room]
        self._write()

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError):
            del self._out[: os.write(self._board_end, self._out)]
        if self._out:
            loop.add_writer(self._board_end, self._write)
        else:
            loop.remove_writer(self._board_end)

    def _hear(self) -> None:
        """Take what was typed: Ctrl-C interrupts a program that runs, all else waits for whoever reads it."""
        data = os.read(self._board_end, _READ_BYTES)
        process = self._process
        if self.is_mute or process is None or process.stdin is None or process.returncode is not None:
            return
        before, interrupt, after = data.partition(_CTRL_C)
        if not interrupt or not self._is_busy or set(data) - _TYPED:
            process.stdin.write(data)
            return
        process.stdin.write(before + after)
        self.interrupts += 1
        self._interrupting = asyncio.create_task(self._interrupt(process))

    async def _interrupt(self, process: asyncio.subprocess.Process) -> None:
        """Raise KeyboardInterrupt in the program, while it waits for something.

        The unix port raises it at any instruction; inside of the garbage collector the heap would stay locked.
        """
        with contextlib.suppress(TimeoutError, FileNotFoundError):
            async with asyncio.timeout(_SAFE_S_MAX):
                while _state(process.pid) != "S":  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_SAFE_LOOK_S)
        if process.returncode is None and self._is_busy:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)


def _state(pid: int) -> str:
    """Return the letter by which the kernel calls the process's state: S sleeps in a system call."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return text.rpartition(")")[2].split()[0]
