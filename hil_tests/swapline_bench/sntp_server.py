"""An SNTP server (RFC 4330) that tells real UTC, or lies, or says nothing: a clock fault to put before a node."""

import asyncio
import struct
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self, cast

HOST = "127.0.0.1"
UNIX_EPOCH_S = 2_208_988_800  # 1970 in seconds since 1900
_QUESTION_BYTES = 48
_LEAP_NONE = 0
_LEAP_UNKNOWN = 3  # "my clock is not synchronised"
_VERSION = 4
_SERVER = 4
_STRATUM = 2


class SntpServer(asyncio.DatagramProtocol):
    """One server on a free port, up while its context lasts.

    Faults are set at any time: `clock_error` is added to the time that it tells, `is_silent` lets questions go
    unanswered, `is_unsynchronised` makes it say so, which a client must respect.
    """

    def __init__(self, *, utc_s: Callable[[], float] = time.time) -> None:
        self.host = HOST
        self.port = 0
        self.clock_error = timedelta(0)
        self.is_silent = False
        self.is_unsynchronised = False
        self.questions = 0
        self.answers = 0
        self._utc_s = utc_s
        self._transport: asyncio.DatagramTransport | None = None
        self._news = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(HOST, 0))
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    async def wait_questions(self, count: int, *, timeout_s: float = 30.0) -> None:
        """Wait until `count` questions in all have come. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self.questions >= count)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question; what is no question is ignored."""
        if len(data) < _QUESTION_BYTES:
            return
        self.questions += 1
        if not self.is_silent:
            self.answers += 1
            cast(asyncio.DatagramTransport, self._transport).sendto(self._answer(data), addr)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _answer(self, question: bytes) -> bytes:
        leap = _LEAP_UNKNOWN if self.is_unsynchronised else _LEAP_NONE
        now = struct.pack(
            ">Q", round((self._utc_s() + self.clock_error.total_seconds() + UNIX_EPOCH_S) * (1 << 32)) & (1 << 64) - 1
        )
        head = bytes((leap << 6 | _VERSION << 3 | _SERVER, _STRATUM, question[2], 0xEC))
        root = bytes(12)  # delay, dispersion, reference: clients of this kind do not read them
        return head + root + now + question[40:48] + now + now

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
