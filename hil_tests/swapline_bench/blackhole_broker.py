"""Brokers that are worse than none: one that takes everything and delivers nothing, one that never says a word.

    async with BlackholeBroker() as hole:
        link.retarget(hole.host, hole.port)
        link.cut()

To a client all is well with the first: it is accepted, subscribed, and every PUBLISH of it acknowledged. Only that no
message ever comes to anybody. With `is_mute` the broker takes connections and bytes and answers nothing at all.
"""

import asyncio
import contextlib
from typing import Self

from swapline_bench.services import HOST

_CONNECT, _PUBLISH, _SUBSCRIBE, _PINGREQ, _DISCONNECT = 1, 3, 8, 12, 14
_CONNACK, _PINGRESP = b"\x20\x02\x00\x00", b"\xd0\x00"
_PUBACK_HEAD, _SUBACK_HEAD = b"\x40\x02", b"\x90"


class BlackholeBroker:
    """An MQTT 3.1.1 server that counts what it swallows."""

    def __init__(self, *, is_mute: bool = False) -> None:
        self.host = HOST
        self.port = 0
        self.connections = 0
        self.publishes = 0
        self.bytes_swallowed = 0
        self._is_mute = is_mute
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await (self._swallow(reader) if self._is_mute else self._answer(reader, writer))
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(4096):
            self.bytes_swallowed += len(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = (await reader.readexactly(1))[0]
            body = await reader.readexactly(await _read_length(reader))
            self.bytes_swallowed += len(body)
            kind = first >> 4
            if kind == _DISCONNECT:
                return
            if kind == _CONNECT:
                writer.write(_CONNACK)
            elif kind == _PUBLISH:
                self.publishes += 1
                if first >> 1 & 3:
                    start = 2 + int.from_bytes(body[:2], "big")
                    writer.write(_PUBACK_HEAD + body[start : start + 2])
            elif kind == _SUBSCRIBE:
                granted = b"\x01" * _count_filters(body)
                writer.write(_SUBACK_HEAD + bytes((2 + len(granted),)) + body[:2] + granted)
            elif kind == _PINGREQ:
                writer.write(_PINGRESP)
            await writer.drain()


async def _read_length(reader: asyncio.StreamReader) -> int:
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return length
        shift += 7


def _count_filters(body: bytes) -> int:
    count, offset = 0, 2
    while offset < len(body):
        offset += 2 + int.from_bytes(body[offset : offset + 2], "big") + 1
        count += 1
    return count
