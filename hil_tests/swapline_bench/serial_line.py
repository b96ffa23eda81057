"""Serial lines of the bench: pseudo terminals whose other side is a simulated device, as slow as the real line.

The node opens `path` like any UART. A pty moves bytes at once and knows no baud rate, so the line adds the time itself:
a request counts as received when its last character would have been, and an answer leaves in portions no faster than
the rate.
"""

import asyncio
import os
import pty
import struct
import termios
import time
import tty
from contextlib import suppress
from fcntl import ioctl
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from swapline_bench.faces.witness import Witness

PORTION_S = 0.02  # an answer is written in portions of this duration: coarse for a UART, cheap for an event loop
STALL_BEFORE_S = 0.25  # a request may have waited for a bench that stood still until so shortly before
_READ_BYTES_MAX = 4096
_PARITY_BITS = {"none": 0, "even": 1, "odd": 1}


class Face(Protocol):
    """What speaks on a serial line in a device's place."""

    async def run(self, line: "SerialLine") -> None:
        """Speak until cancelled."""


class SerialLine:
    """One serial line: 1 start bit, 8 data bits, parity as given, 1 stop bit.

    `path` is the node's end. Both ends stay open here, so a node may open, crash and open again, as on a real board.
    Raises `OSError` where the machine has no pseudo terminal left.
    """

    def __init__(self, name: str, *, baudrate: int, parity: str = "none") -> None:
        self.name = name
        self.baudrate = baudrate
        self.parity = parity
        self.character_s = (10 + _PARITY_BITS[parity]) / baudrate
        self._device_end, self._node_end = pty.openpty()
        tty.setraw(self._node_end)
        os.set_blocking(self._device_end, False)
        self.path = os.ttyname(self._node_end)
        self.bytes_read = 0
        self.bytes_written = 0
        self.bytes_discarded = 0
        self._task: asyncio.Task[None] | None = None

    def attach(self, face: Face) -> None:
        """Let `face` speak on this line from now on; a face that was there before falls silent."""
        self.detach()
        self._task = asyncio.create_task(face.run(self), name=f"face on {self.name}")

    def detach(self) -> None:
        """Unplug the face: the line stays, nobody answers."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def read(self, silence_s: float | None = None) -> bytes:
        """Return what the node wrote, when a real line would have carried it; empty after `silence_s` of silence."""
        try:
            async with asyncio.timeout(silence_s):
                await self._until_readable()
        except TimeoutError:
            pass  # perhaps only we were late: on a busy machine the timer fires before bytes that have long been there
        try:
            data = os.read(self._device_end, _READ_BYTES_MAX)
        except BlockingIOError:
            return b""
        self.bytes_read += len(data)
        await asyncio.sleep(len(data) * self.character_s)
        return data

    async def write(self, data: bytes) -> None:
        """Write at the line's pace. What a node that does not read leaves no room for is discarded and counted."""
        portion = max(1, int(PORTION_S / self.character_s))
        for start in range(0, len(data), portion):
            piece = data[start : start + portion]
            await asyncio.sleep(len(piece) * self.character_s)
            self._put(piece)

    def _put(self, piece: bytes) -> None:
        try:
            written = os.write(self._device_end, piece)
        except BlockingIOError:
            written = 0
        self.bytes_written += written
        self.bytes_discarded += len(piece) - written

    def unread_bytes(self) -> int:
        """Return how many bytes wait for the node to read them."""
        (count,) = struct.unpack("i", ioctl(self._node_end, termios.FIONREAD, bytes(4)))
        return int(count)

    @property
    def bytes_offered(self) -> int:
        """Return how many bytes the device has sent so far, whether there was room for them or not."""
        return self.bytes_written + self.bytes_discarded

    async def _until_readable(self) -> None:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._device_end, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._device_end)

    async def close(self) -> None:
        """Silence the face and close both ends."""
        task = self._task
        self.detach()
        if task is not None:
            with suppress(asyncio.CancelledError):
                await task
        os.close(self._device_end)
        os.close(self._node_end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class RequestFace:
    """A face that answers requests: subclasses say where a request ends and what the answer is.

    `turnaround_s` is the device's thinking time between the request's last character and the answer's first.
    `witness` writes down what was said.
    """

    witness: "Witness | None" = None

    def __init__(self, *, turnaround_s: float = 0.01, silence_s: float = 0.05) -> None:
        self.turnaround_s = turnaround_s
        self.silence_s = silence_s
        self.requests = 0
        self.answers = 0

    def take_request(self, received: bytearray) -> bytes | None:
        """Remove one whole request from the front of `received` and return it; None when more must come."""
        raise NotImplementedError

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer's bytes, or None where a device would keep silent."""
        raise NotImplementedError

    async def run(self, line: SerialLine) -> None:
        """Answer for ever. Half a request that is followed by silence is forgotten, as real devices do."""
        received = bytearray()
        while True:
            data = await line.read(self.silence_s if received else None)
            if not data:
                received.clear()
            received += data
            while (request := self.take_request(received)) is not None:
                self.requests += 1
                reply = self.answer(request)
                if reply is not None:
                    self.answers += 1
                    await self._say(line, request, reply)

    async def _say(self, line: SerialLine, request: bytes, reply: bytes) -> None:
        if self.witness is not None:
            self.witness.lag.start()
            self.witness.look(request, reply)
        heard_s = time.monotonic()
        await asyncio.sleep(self.turnaround_s)
        await line.write(reply)
        if self.witness is not None:
            late_s = time.monotonic() - heard_s - self.turnaround_s - len(reply) * line.character_s
            self.witness.said(max(late_s, self.witness.lag.stalled_s(heard_s - STALL_BEFORE_S)))
