"""SNTP client (RFC 4330): one question, one checked answer, without blocking the event loop."""

import asyncio
import os
import socket

from micropython import const

from swapline_wire.catalogue import TIME_NTP

from .connection import resolve

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .clock import Clock
    from .log import Log

_UNIX_EPOCH_S = const(2208988800)  # 1970 in seconds since 1900, NTP's era 0
_ERA_S = const(1 << 32)  # era 1 begins in 2036: seconds before 1968 of era 0 belong to it
_TIMEOUT_MS = const(3000)
_POLL_MS = const(10)
_RETRY_S_MIN = const(16)
_RETRY_S_MAX = const(1024)
_RTT_MS_MAX = const(2000)  # the error is at most half of it


class SntpError(Exception):
    """No usable answer."""


def parse_answer(data: bytes, transmit: bytes) -> int:
    """Return the server's transmit time as UTC in ms since 1970. Raises `SntpError`."""
    if len(data) < 48:
        raise SntpError("answer of %d bytes" % len(data))
    if data[0] & 7 != 4 or data[0] >> 6 == 3:
        raise SntpError("server is not synchronised")
    if not 1 <= data[1] <= 15:
        raise SntpError("stratum %d" % data[1])
    if data[24:32] != transmit:
        raise SntpError("answer to another question")
    seconds = int.from_bytes(data[40:44], "big")
    fraction = int.from_bytes(data[44:48], "big")
    if seconds < 0x80000000:
        seconds += _ERA_S
    return (seconds - _UNIX_EPOCH_S) * 1000 + (fraction * 1000 >> 32)


async def ask(
    family: int, address: "Any", uptime_ms: "Callable[[], int]", *, timeout_ms: int = _TIMEOUT_MS
) -> "tuple[int, int]":
    """Ask a server; return UTC in ms and the uptime at which it was that. Raises `SntpError` or OSError."""
    connection = socket.socket(family, socket.SOCK_DGRAM)
    try:
        connection.setblocking(False)
        sent_ms = uptime_ms()
        transmit = os.urandom(8)  # a cookie that the server repeats: who has not seen the question cannot answer it
        connection.sendto(b"\x23" + bytes(39) + transmit, address)
        while uptime_ms() - sent_ms < timeout_ms:
            try:
                data = connection.recv(64)
            except OSError:  # nothing there yet
                await asyncio.sleep(_POLL_MS / 1000)
                continue
            now_ms = uptime_ms()
            if now_ms - sent_ms > _RTT_MS_MAX:
                raise SntpError("answer after %d ms" % (now_ms - sent_ms))
            return parse_answer(data, transmit), (sent_ms + now_ms) // 2
        raise SntpError("no answer in %d ms" % timeout_ms)
    finally:
        connection.close()


class Sntp:
    """Offer the server's time to the clock: soon and with growing pauses until it has answered, then rarely."""

    def __init__(self, host: str, port: int, clock: "Clock", log: "Log") -> None:
        self.resolve: "Callable[[str, int], Awaitable[tuple[int, Any]]]" = resolve
        self._host = host
        self._port = port
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Ask for ever."""
        failures = 0
        while True:
            pause_s = _RETRY_S_MAX
            try:
                family, address = await self.resolve(self._host, self._port)
                utc_ms, at_ms = await ask(family, address, self._clock.uptime_ms)
                self._clock.offer(TIME_NTP, utc_ms, at_ms)
                failures = 0
                if self._clock.quality < TIME_NTP:
                    pause_s = _RETRY_S_MIN  # a clock that another source has set moves when this one repeats itself
            except (SntpError, OSError) as error:
                failures += 1
                if failures == 1:
                    self._log.warning("sntp", "%s: %s" % (self._host, error))
                pause_s = min(_RETRY_S_MIN << min(failures, 6), _RETRY_S_MAX)
            await asyncio.sleep(pause_s)
