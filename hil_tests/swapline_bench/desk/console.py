"""A board's serial console: log lines while the firmware runs, and mpremote's raw REPL while it does not.

One port is open all the time, and one of two reads it: the event loop, which makes lines of what the board says, or
mpremote in a thread, which talks to the board's interpreter. Everything that can go wrong at a desk is a `NodeError` in
one sentence with what came and what to do: no such port, a port in use, a board that is silent, something that is no
board, a boot loop, a cable that was pulled.
"""

import asyncio
import contextlib
import errno
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serial
from mpremote.transport import TransportError, TransportExecError  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from swapline_bench.desk.node import NodeError

ANSWER_S_MAX = 8.0  # a board boots in 1 to 3 s, and an ESP32 with a large file system mounts it for some more
APPEAR_S_MAX = 15.0  # USB of a board that was reset is gone for 1 to 3 s
_BYTE_S_MAX = 3.0  # between two bytes that mpremote waits for
_ASK_AGAIN_S = 0.7
_LOOK_S = 0.05
_READ_BYTES = 4096
_EMPTY_READS_MAX = 3  # a port that is gone is readable for ever and holds nothing
_HEARD_BYTES_MAX = 4096
_SHOWN_CHARACTERS_MAX = 160
_RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
_PROMPTS = (b">>> ", b"\x04>")
_RESETS = ("rst:0x", "soft reboot", "Guru Meditation")  # what an ESP32's ROM and MicroPython say
_LOOP_RESETS = 3


class Console:
    """The serial console at `port`. `on_line` gets each line of the board's log, `on_gone` news of a lost port."""

    def __init__(
        self, port: str, baudrate: int, *, on_line: Callable[[str], None], on_gone: Callable[[], None]
    ) -> None:
        self.port = port
        self.baudrate = baudrate
        self._on_line = on_line
        self._on_gone = on_gone
        self._transport: Any = None
        self._descriptor = -1
        self._is_listening = False
        self._rest = b""
        self._empty_reads = 0
        self._news = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Say whether the port is there and ours."""
        return self._transport is not None

    async def open(self, *, appear_s: float = 0.0) -> bool:
        """Open the port, and return whether it was waited for, up to `appear_s`. Raises `NodeError`."""
        if self.is_open:
            return False
        is_late = not Path(self.port).exists()  # noqa: ASYNC240 - udev makes it
        until_s = time.monotonic() + appear_s
        while not Path(self.port).exists() and time.monotonic() < until_s:  # noqa: ASYNC110, ASYNC240 - udev makes it
            await asyncio.sleep(_LOOK_S)
        self._transport = await asyncio.to_thread(self._connect)
        self._descriptor = self._transport.serial.fileno()
        return is_late

    def close(self) -> None:
        """Let go of the port."""
        self._ignore()
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(OSError):
                transport.close()

    def _connect(self) -> Any:
        try:
            transport = SerialTransport(self.port, baudrate=self.baudrate, timeout=_BYTE_S_MAX)
        except TransportError as error:
            raise NodeError(self._why_not_open()) from error
        transport.serial.write_timeout = _BYTE_S_MAX
        return transport

    def _why_not_open(self) -> str:
        """Say why mpremote could not open the port; it keeps that for itself."""
        path = Path(self.port)
        if not path.exists():
            return f"The console {self.port} is not there: plug the board in, or correct [node.console] port."
        if not stat.S_ISCHR(path.stat().st_mode):
            return f"The console {self.port} is no serial port: correct [node.console] port."
        if not os.access(path, os.R_OK | os.W_OK):
            return f"The console {self.port} may not be opened by you: join the group {path.group()!r}."
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            return f"The console {self.port} cannot be opened ({error.strerror}): pull its plug and put it in again."
        os.close(descriptor)
        return f"The console {self.port} is in use by another program: end that (a terminal, an IDE, another bench)."

    # ---- lines

    def listen(self) -> None:
        """Make lines of what the board says, from now on."""
        if not self._is_listening:
            self._is_listening = True
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def _ignore(self) -> None:
        if self._is_listening:
            self._is_listening = False
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._empty_reads = 0 if data else self._empty_reads + 1
        if self._empty_reads > _EMPTY_READS_MAX:
            self.close()
            self._news.set()
            self._on_gone()
        elif data:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Hand whole lines on; an unfinished one waits for its end, which a prompt never has."""
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").replace("\x04", "").strip("\r")
            if text:
                self._on_line(text)
        self._news.set()

    @property
    def is_at_prompt(self) -> bool:
        """Say whether the interpreter asked for more and nothing came since."""
        return self._rest.endswith(_PROMPTS)

    async def wait_for_prompt(self, timeout_s: float) -> bool:
        """Return whether the program that runs ended within `timeout_s`: the interpreter asks for more."""
        self.listen()
        try:
            async with asyncio.timeout(timeout_s):
                while not self.is_at_prompt:
                    self._news.clear()
                    await self._news.wait()
                    if not self.is_open:
                        return False
        except TimeoutError:
            return False
        return True

    # ---- the interpreter

    async def interrupt(self) -> None:
        """Send Ctrl-C."""
        self._rest = b""
        await self._work(lambda transport: transport.serial.write(b"\r\x03"), "being interrupted")
        self.listen()

    async def enter(self, *, soft_reset: bool = True, timeout_s: float = ANSWER_S_MAX) -> None:
        """End what runs, start the interpreter anew, and leave it waiting for commands. `main.py` does not run.

        Without `soft_reset` the interpreter stays as it is, with what was imported, and with its reset cause.
        """
        await self._work(
            lambda transport: self._enter(transport, timeout_s, soft_reset), "being asked for its raw REPL"
        )

    async def execute(self, code: str, *, timeout_s: float = 10.0) -> str:
        """Run code and return what it printed. Raises `NodeError` with the board's traceback.

        `timeout_s` is for silence: code that prints may take as long as it likes.
        """
        output, error = await self._work(
            lambda transport: transport.exec_raw(code, timeout=timeout_s), "running code of the bench"
        )
        if error:
            raise NodeError(f"The board says:\n{_clean(error)}")
        return _clean(output)

    async def launch(self, code: str) -> None:
        """Let code run and listen to what it says."""
        await self._work(lambda transport: transport.exec_raw_no_follow(code), "being started")
        self.listen()

    async def work(self, function: Callable[[Any], Any], doing: str) -> Any:
        """Give mpremote's transport to `function`, in a thread; `doing` says in an error what the board was at."""
        return await self._work(function, doing)

    async def pulse_reset(self) -> bool:
        """Pull the chip's reset by the adapter's RTS line, as esptool does; return whether there is such a line."""
        transport = self._opened()
        try:
            transport.serial.dtr = False  # DTR is the boot mode's: low would lead into the boot loader
            transport.serial.rts = True
            await asyncio.sleep(0.1)
            transport.serial.rts = False
        except OSError:
            return False  # a pseudo terminal, or USB without control lines
        return True

    def _opened(self) -> Any:
        if self._transport is None:
            raise NodeError(f"The console {self.port} is not open: plug the board in, and flash it first.")
        return self._transport

    async def _work(self, function: Callable[[Any], Any], doing: str) -> Any:
        transport = self._opened()
        self._ignore()
        try:
            return await asyncio.to_thread(function, transport)
        except TransportExecError as error:
            raise NodeError(f"The board says while {doing}:\n{error.error_output.strip()}") from error
        except (TransportError, struct.error, serial.SerialTimeoutException) as error:
            raise NodeError(
                f"The board on {self.port} stopped answering while {doing} ({error}): reset it and try again."
            ) from error
        except (OSError, TypeError) as error:  # TypeError: pyserial on a port that was closed meanwhile
            if not isinstance(error, serial.SerialException) and getattr(error, "errno", None) not in _GONE:
                raise  # the board's own, as `fs_stat` gives it
            self.close()
            raise NodeError(
                f"The console {self.port} went away while the board was {doing}: is its cable pulled, its power off?"
            ) from error

    def _enter(self, transport: Any, timeout_s: float, soft_reset: bool) -> None:
        heard = self._rest + _knock(transport.serial, timeout_s)
        if not heard.endswith(_RAW_PROMPT):
            raise NodeError(self._why_no_prompt(heard))
        transport.enter_raw_repl(soft_reset=soft_reset)
        self._rest = b""

    def _why_no_prompt(self, heard: bytes) -> str:
        where = f"{self.port} at {self.baudrate} baud"
        text = heard.decode("utf-8", "replace")
        if not heard.replace(b"\r", b"").strip():
            return (
                f"Nothing answers on {where}: is the board powered, is it the right port, does MicroPython run on it?"
            )
        if "waiting for download" in text:
            return f"The board on {where} waits in its boot loader: let go of its BOOT button and reset it."
        shown = repr(text.strip()[-_SHOWN_CHARACTERS_MAX:])
        if sum(text.count(word) for word in _RESETS) >= _LOOP_RESETS:
            return f"The board on {where} restarts again and again and cannot be interrupted; it said last: {shown}."
        return f"What is on {where} does not answer as MicroPython does; is it another device's port? It said {shown}."


_GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.EBADF, None)


def _knock(port: serial.Serial, timeout_s: float) -> bytes:
    """Ask for the raw REPL until it answers; return what came. A board that has just been reset hears nothing yet."""
    heard = b""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        port.write(b"\r\x03")
        heard = _listen(port, heard, _ASK_AGAIN_S / 7, b"")
        port.write(b"\r\x01")
        heard = _listen(port, heard, _ASK_AGAIN_S, _RAW_PROMPT)
        if heard.endswith(_RAW_PROMPT):
            break
    return heard


def _listen(port: serial.Serial, heard: bytes, seconds: float, ending: bytes) -> bytes:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s and not (ending and heard.endswith(ending)):
        if count := port.in_waiting:
            heard = (heard + port.read(count))[-_HEARD_BYTES_MAX:]
        else:
            time.sleep(_LOOK_S / 5)
    return heard


def _clean(output: bytes) -> str:
    return output.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
