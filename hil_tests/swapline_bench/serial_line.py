"""Serial lines of the bench: pseudo terminals or real ports, at whose other side a simulated device speaks.

The node opens `path` like any UART. A pty moves bytes at once and knows no baud rate, so the line adds the time itself:
a request counts as received when its last character would have been, and an answer leaves in portions no faster than
the rate. On a real port the UART does the same once more for what it sends, which costs nothing but the first portion.
"""

import asyncio
import errno
import os
import pty
import select
import shutil
import struct
import tempfile
import termios
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock, ioctl
from pathlib import Path
from typing import Protocol, Self

import serial

from swapline_bench.fault.model import FaultModel
from swapline_bench.request_face import RequestFace

__all__ = ["Face", "LineError", "PseudoTerminal", "RealPort", "RequestFace", "SerialLine"]

PORTION_S = 0.02  # an answer is written in portions of this duration: coarse for a UART, cheap for an event loop
_READ_BYTES_MAX = 4096
_HEARD_BYTES_MAX = 4096
_PARITY_BITS = {"none": 0, "even": 1, "odd": 1}
_PSEUDO_TERMINALS = "/dev/pts/"
_FOLDER_PREFIX = "swapline-ptys-"
_LEFT_OVER_S = 60.0
_PARITIES = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


class LineError(OSError):
    """A port cannot be used; the message says which one, why, and what to do."""


class Face(Protocol):
    """What speaks on a serial line in a device's place."""

    async def run(self, line: "SerialLine") -> None:
        """Speak until cancelled."""


def make_lines_folder() -> "tempfile.TemporaryDirectory[str]":
    """Make this process's folder of lines, and take away those of processes that were killed: nobody locks them."""
    for left_over in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left_over.stat().st_mtime > _LEFT_OVER_S:  # a younger one may not be locked yet
                os.close(_lock(left_over))
                shutil.rmtree(left_over)
    folder = tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX)
    _lock(Path(folder.name))  # until this process ends
    return folder


def _lock(folder: Path) -> int:
    """Lock a folder and return the open descriptor that holds the lock. Raises `OSError` where another one does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class PseudoTerminal:
    """A new pty. Both ends stay open, so a node may open, crash and open again, as on a real board.

    `path` is a link, so that a pty that is taken away and made anew has the same name. Raises `OSError` where the
    machine has no pseudo terminal left.
    """

    _folder: "tempfile.TemporaryDirectory[str] | None" = None
    _made = 0

    def __init__(self) -> None:
        if PseudoTerminal._folder is None:
            PseudoTerminal._folder = make_lines_folder()
        PseudoTerminal._made += 1
        self.path = str(Path(PseudoTerminal._folder.name) / f"line{PseudoTerminal._made}")
        self.device_end = self._node_end = -1
        self.open()

    def open(self) -> None:
        """Make both ends."""
        self.device_end, self._node_end = pty.openpty()
        tty.setraw(self._node_end)
        os.set_blocking(self.device_end, False)
        Path(self.path).symlink_to(os.ttyname(self._node_end))

    def close(self) -> None:
        """Take both ends away: who has the node's end open finds that out."""
        Path(self.path).unlink(missing_ok=True)
        os.close(self.device_end)
        os.close(self._node_end)
        self.device_end = self._node_end = -1

    def unread_bytes(self) -> int:
        """Return how many bytes wait for the node to read them; of the last ones written, some may still be under way.

        None waits only where none is under way either: a poll lets the kernel hand over what it has (`n_tty_poll` of
        Linux), which asking for the count does not.
        """
        select.select([self._node_end], [], [], 0)
        (count,) = struct.unpack("i", ioctl(self._node_end, termios.FIONREAD, bytes(4)))
        return int(count)

    def unheard_bytes(self) -> int:
        """Return how many bytes of the node no face has read."""
        (count,) = struct.unpack("i", ioctl(self.device_end, termios.FIONREAD, bytes(4)))
        return int(count)


class RealPort:
    """A serial adapter of this computer, for nobody else while it is open. Raises `LineError`."""

    def __init__(self, port: str, *, baudrate: int, parity: str) -> None:
        self.path = port
        self._baudrate = baudrate
        is_pty = os.path.realpath(port).startswith(_PSEUDO_TERMINALS)
        self._parity = _PARITIES["none" if is_pty else parity]  # a pty that plays a port has none, and libc refuses it
        self._port: serial.Serial
        self.device_end = -1
        self.open()

    def open(self) -> None:
        """Open the port again."""
        if not Path(self.path).exists():
            raise LineError(f"{self.path} is not there: plug the adapter in, or correct the port's name")
        try:
            self._port = serial.Serial(self.path, self._baudrate, parity=self._parity, timeout=0, exclusive=True)
            self.device_end = self._port.fileno()
        except (serial.SerialException, termios.error, OSError) as error:
            raise LineError(_why(self.path, error)) from error
        os.set_blocking(self.device_end, False)
        self._wait_for_bytes()

    def _wait_for_bytes(self) -> None:
        """Let a read without bytes say "not now". As pyserial leaves it, it says "end of file", as a pulled adapter."""
        attributes = termios.tcgetattr(self.device_end)
        attributes[6][termios.VMIN] = 1
        termios.tcsetattr(self.device_end, termios.TCSANOW, attributes)

    def close(self) -> None:
        """Let the port go."""
        self._port.close()
        self.device_end = -1

    def unread_bytes(self) -> int:
        """Return how many bytes have not left the UART yet."""
        return int(self._port.out_waiting)

    def unheard_bytes(self) -> int:
        """Return how many bytes of the node no face has read."""
        return int(self._port.in_waiting)


def _why(port: str, error: Exception) -> str:
    """Say in one sentence why a port does not open and what to do."""
    text = str(error)
    if "lock" in text or "busy" in text:
        return f"{port} is in use: end the program that has it open ('fuser {port}' names it)"
    if "ermission" in text:
        return f"{port} may not be opened by this user: join the group that owns it ('ls -l {port}' names it)"
    if not Path(port).is_char_device() or f"({errno.ENOTTY}," in text:
        return f"{port} is not a serial port: give the name of one, for example /dev/ttyUSB0"
    return f"{port} cannot be opened: {text}"


class SerialLine:
    """One serial line: 1 start bit, 8 data bits, parity as given, 1 stop bit.

    With `port`, the line is that adapter; else a new pty, and `path` is the node's end. `gap_s` is the pause that the
    device leaves between characters. `pace` stretches all durations of the line; 0 is as fast as it goes. `fault` is
    what goes wrong on it, `on_bytes` is told what passes: what the node sent, and what it is given to read.
    """

    def __init__(
        self, name: str, *, baudrate: int, parity: str = "none", port: str | None = None, gap_s: float = 0.0
    ) -> None:
        self.name = name
        self.baudrate = baudrate
        self.parity = parity
        self.gap_s = gap_s
        self.pace = 1.0
        self.character_s = (10 + _PARITY_BITS[parity]) / baudrate
        self._end = PseudoTerminal() if port is None else RealPort(port, baudrate=baudrate, parity=parity)
        self.path = self._end.path
        self.bytes_read = 0
        self.bytes_written = 0
        self.bytes_discarded = 0
        self.is_talking = False
        self.heard = bytearray()  # what the node's end was given since it last said something, or `hear_anew`
        self.on_bytes: Callable[[bool, bytes], None] | None = None
        self._fault: FaultModel | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_deserted = False  # a face was detached, and nobody has come since
        self._disturber: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None

    @property
    def fault(self) -> FaultModel | None:
        """What goes wrong on this line. To be set while the event loop runs."""
        return self._fault

    @fault.setter
    def fault(self, fault: FaultModel | None) -> None:
        if self._disturber is not None:
            self._disturber.cancel()
            self._disturber = None
        self._fault = fault
        if fault is not None:
            self._disturber = asyncio.create_task(fault.run(self), name=f"faults on {self.name}")

    @property
    def is_plugged_in(self) -> bool:
        """Say whether the adapter is there."""
        return self._end.device_end >= 0

    def attach(self, face: Face) -> None:
        """Let `face` speak on this line from now on; a face that was there before falls silent.

        What was sent since a face was detached is gone, as on a wire that leads nowhere.
        """
        if self._is_deserted:
            self.forget()
        self.detach()
        self._is_deserted = False
        self._task = asyncio.create_task(face.run(self), name=f"face on {self.name}")

    def forget(self) -> None:
        """Forget what the node has sent and no face has read."""
        while self._take():
            pass

    def detach(self) -> None:
        """Unplug the face: the line stays, nobody answers."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._is_deserted = True

    def unplug(self) -> None:
        """Take the adapter away: whoever has `path` open gets an error, and it cannot be opened again."""
        if self.is_plugged_in:
            self._stop_looking()
            self._end.close()
            self.say_fault("adapter is unplugged")

    def plug_in(self) -> None:
        """Bring the adapter back under the same `path`. Raises `OSError` where it is not there."""
        if not self.is_plugged_in:
            self._end.open()
            self._stop_looking()
            self.say_fault("adapter is plugged in")

    def say_fault(self, text: str) -> None:
        """Tell a fault that was done to the line itself."""
        if self._fault is not None:
            self._fault.count("unplug", "unplugged" in text)
            self._fault.say(text)

    async def read(self, silence_s: float | None = None) -> bytes:
        """Return what the node wrote, when a real line would have carried it; empty after `silence_s` of silence."""
        try:
            async with asyncio.timeout(silence_s):
                await self._until_readable()
        except TimeoutError:
            pass  # perhaps only we were late: on a busy machine the timer fires before bytes that have long been there
        data = self._take()
        self.bytes_read += len(data)
        if data:
            self.hear_anew()
        if data and self.on_bytes is not None:
            self.on_bytes(True, data)
        await asyncio.sleep(len(data) * self.character_s * self.pace)
        return data if self._fault is None else self._fault.carry(data, self, from_node=True)

    def _take(self) -> bytes:
        if not self.is_plugged_in:
            return b""
        try:
            data = os.read(self._end.device_end, _READ_BYTES_MAX)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.unplug()  # somebody pulled a real adapter: its end of file, or an error
        return data

    async def write(self, data: bytes, *, still: Callable[[], bool] | None = None) -> bytes:
        """Write at the line's pace and return what the node's end was given.

        What a node that does not read leaves no room for is discarded and counted. What `still` no longer holds for,
        because who said it has gone, is not sent.
        """
        if self._fault is not None:
            data = self._fault.carry(data, self, from_node=False)
        planned = None if self._fault is None else self._fault.take_at_byte(len(data))
        given = bytearray()
        sent = 0
        self.is_talking = True
        try:
            for piece in self._portions(data, planned[0] if planned else 0):
                await asyncio.sleep(len(piece) * (self.character_s + self.gap_s) * self.pace)
                if planned is not None and sent == planned[0]:
                    planned[1]()
                    planned = None
                    if self._fault is not None:
                        self._fault.count("at_byte", 1, f"{sent} of {len(data)}")
                if still is not None and not still():
                    break
                given += piece[: self._put(piece)]
                sent += len(piece)
        finally:
            self.is_talking = False
        return bytes(given)

    def _portions(self, data: bytes, cut: int) -> list[bytes]:
        """Return the pieces in which `data` leaves, with a boundary at `cut`."""
        size = len(data) or 1
        if self.pace:
            size = max(1, int(PORTION_S / ((self.character_s + self.gap_s) * self.pace)))
        parts = (data[:cut], data[cut:])
        return [part[i : i + size] for part in parts for i in range(0, len(part), size)]

    def disturb(self, data: bytes) -> None:
        """Let the node's end receive bytes that nobody sent."""
        if self.is_plugged_in:
            self._put(data)

    def _put(self, piece: bytes) -> int:
        """Give bytes to the node's end; return how many it had room for."""
        written = 0
        if self.is_plugged_in:
            with suppress(BlockingIOError, OSError):
                written = os.write(self._end.device_end, piece)
        self.bytes_written += written
        self.heard += piece[:written]
        del self.heard[:-_HEARD_BYTES_MAX]
        self.bytes_discarded += len(piece) - written
        if self.on_bytes is not None:
            self.on_bytes(False, piece[:written])
        return written

    def hear_anew(self) -> None:
        """Forget what the node's end was given so far."""
        self.heard.clear()

    def unread_bytes(self) -> int:
        """Return how many bytes wait for the node to read them; on a real port, for the UART to send them."""
        return self._end.unread_bytes() if self.is_plugged_in else 0

    def unheard_bytes(self) -> int:
        """Return how many bytes of the node no face has read."""
        return self._end.unheard_bytes() if self.is_plugged_in else 0

    @property
    def bytes_offered(self) -> int:
        """Return how many bytes the device has sent so far, whether there was room for them or not."""
        return self.bytes_written + self.bytes_discarded

    async def _until_readable(self) -> None:
        """Wait for bytes; at a line without an adapter, until there is one and bytes come."""
        loop = asyncio.get_running_loop()
        while True:
            ready = self._wake = asyncio.Event()
            watched = self._end.device_end
            if watched >= 0:
                loop.add_reader(watched, ready.set)
            try:
                await ready.wait()
            finally:
                if self._wake is ready:
                    self._stop_looking()
            if self.is_plugged_in and watched == self._end.device_end:
                return

    def _stop_looking(self) -> None:
        """End a wait for bytes, before the descriptor it watches is closed."""
        if self._wake is not None:
            if self.is_plugged_in:
                asyncio.get_running_loop().remove_reader(self._end.device_end)
            self._wake.set()
            self._wake = None

    async def close(self) -> None:
        """Silence the face and the faults, and close both ends."""
        tasks = [task for task in (self._task, self._disturber) if task is not None]
        self.detach()
        self.fault = None
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self.is_plugged_in:
            self._end.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
