"""Play recordings at a node's serial line: what a receiver said on its own, and what a device answered when asked.

Nothing here knows how the firmware works. A recording is bytes with their times; the far end of the line plays them,
counts what it was asked, and leaves the judgement to the test.
"""

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import termios
import tty
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_READ_BYTES_MAX = 4096
# A request that no recording knows has no length that we could wait for: it ended when the line was quiet for so long.
# The node writes a request in one call, so on a pty it arrives in one piece.
_REQUEST_QUIET_S = 0.05
_READ_OUT_POLL_S = 0.002


class SerialEnd:
    """The far end of a serial line: a pty; the node opens `path` as its UART.

    The node's side stays open here too, so the line survives the node's death as a cable does, and what was sent while
    the node was away is what its UART would find in the cable: up to 4 KB wait.
    """

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def write(self, data: bytes) -> None:
        """Send all of `data`, waiting whenever the node is behind with reading."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._master, view) :]
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)

    async def read(self) -> bytes:
        """Return what the node sent, at least one byte."""
        while True:
            try:
                return os.read(self._master, _READ_BYTES_MAX)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)

    def read_now(self) -> bytes:
        """Return what the node has sent, or nothing."""
        try:
            return os.read(self._master, _READ_BYTES_MAX)
        except BlockingIOError:
            return b""

    async def _ready(self, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], bool]) -> None:
        event = asyncio.Event()
        add(self._master, event.set)
        try:
            await event.wait()
        finally:
            remove(self._master)

    def unread_bytes(self) -> int:
        """Return how many bytes wait for the node to read them; a poll lets the kernel hand over all of them."""
        select.select([self._slave], [], [], 0)
        answer = fcntl.ioctl(self._slave, termios.FIONREAD, struct.pack("i", 0))
        count: int = struct.unpack("i", answer)[0]
        return count

    async def wait_read_out(self) -> None:
        """Wait until the node has taken the last byte. No event tells."""
        while self.unread_bytes():  # noqa: ASYNC110 (another process)
            await asyncio.sleep(_READ_OUT_POLL_S)


# ---- what a receiver says on its own -------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """Bytes that are written in one go, `pause_s` after the ones before."""

    pause_s: float
    data: bytes


def read_nmea(path: Path, pause_s_max: float = 60.0) -> list[Chunk]:
    """Read a receiver's log as chunks of one line, paused as the times in its RMC sentences say.

    In gpsd's logs, lines that begin with `#` are remarks. A remark `Delay-Cookie: | 0.01` makes `|` the mark where a
    write ended on the wire and 0.01 s passed. Longer pauses than `pause_s_max` (a clock that was set) are cut.
    """
    cookie = b""
    cookie_pause_s = 0.0
    chunks: list[Chunk] = []
    previous_s: float | None = None
    for line in path.read_bytes().splitlines(keepends=True):
        if line.startswith(b"#"):
            if match := re.match(rb"# Delay-Cookie: (\S) (\S+)", line):
                cookie, cookie_pause_s = match[1], float(match[2])
            continue
        time_s = _rmc_time_s(line)
        pause_s = 0.0
        if time_s is not None:
            pause_s = 0.0 if previous_s is None else min(max(time_s - previous_s, 0.0), pause_s_max)
            previous_s = time_s
        pieces = line.split(cookie) if cookie else [line]
        chunks.append(Chunk(pause_s, pieces[0]))
        chunks += [Chunk(cookie_pause_s, piece) for piece in pieces[1:]]
    return chunks


def _rmc_time_s(line: bytes) -> float | None:
    match = re.match(rb"\$..RMC,(\d\d)(\d\d)(\d\d(?:\.\d*)?),", line)
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


async def play(end: SerialEnd, chunks: Iterable[Chunk], speed: float | None = None) -> int:
    """Play chunks with their pauses divided by `speed`, or as fast as the node reads; return the bytes that it read."""
    sent_bytes = 0
    for chunk in chunks:
        if speed is not None and chunk.pause_s:
            await asyncio.sleep(chunk.pause_s / speed)
        await end.write(chunk.data)
        sent_bytes += len(chunk.data)
    await end.wait_read_out()
    return sent_bytes


# ---- what a device answers when asked ------------------------------------------------------------------------------


class Exchange(NamedTuple):
    """One request and what came back after `latency_s`; None: silence."""

    request: bytes
    response: bytes | None
    latency_s: float = 0.0


def read_frames(path: Path) -> list[bytes]:
    """Read a capture that is one frame a line (`0x00 0x84 ...`), however damaged."""
    lines = path.read_text().splitlines()
    return [bytes.fromhex(line.replace("0x", "")) for line in lines if line.startswith("0x")]
