"""A name server of the bench: it knows the names that it was given, and can fall silent or fail.

It listens on port 53 of an address of its own, because `resolv.conf` has no place for another port.
"""

import asyncio
import enum
import socket
import struct
from collections.abc import Mapping
from typing import Self

PORT = 53
_HEAD = struct.Struct(">HHHHHH")
_ANSWER = struct.Struct(">HHHIH")
_RESPONSE, _NO_SUCH_NAME, _SERVER_FAILURE = 0x8180, 3, 2
_TYPE_A, _CLASS_IN, _POINTER_TO_QUESTION = 1, 1, 0xC00C
_TTL_S = 0


class Mood(enum.Enum):
    """How the name server answers."""

    ANSWERING = "answering"
    SILENT = "silent"
    FAILING = "failing"


class NameServer(asyncio.DatagramProtocol):
    """Answers A questions for `names` (name -> IPv4 address); an async context manager."""

    def __init__(self, host: str, names: Mapping[str, str]) -> None:
        self.mood = Mood.ANSWERING
        self.questions = 0
        self._host = host
        self._names = {name.lower(): address for name, address in names.items()}
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, PORT))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self.questions += 1
        if self.mood is not Mood.SILENT and len(data) > _HEAD.size:
            self._transport.sendto(self._answer(data), addr)

    def _answer(self, data: bytes) -> bytes:
        number = _HEAD.unpack_from(data)[0]
        name, end = _read_name(data)
        question = data[_HEAD.size : end + 4]
        kind = int.from_bytes(data[end : end + 2], "big")
        if self.mood is Mood.FAILING:
            return _HEAD.pack(number, _RESPONSE | _SERVER_FAILURE, 1, 0, 0, 0) + question
        address = self._names.get(name)
        if address is None:
            return _HEAD.pack(number, _RESPONSE | _NO_SUCH_NAME, 1, 0, 0, 0) + question
        if kind != _TYPE_A:
            return _HEAD.pack(number, _RESPONSE, 1, 0, 0, 0) + question
        answer = _ANSWER.pack(_POINTER_TO_QUESTION, _TYPE_A, _CLASS_IN, _TTL_S, 4) + socket.inet_aton(address)
        return _HEAD.pack(number, _RESPONSE, 1, 1, 0, 0) + question + answer


def _read_name(data: bytes) -> tuple[str, int]:
    """Return the name of the question and where it ends."""
    labels = []
    offset = _HEAD.size
    while offset < len(data) and data[offset]:
        labels.append(data[offset + 1 : offset + 1 + data[offset]].decode("ascii", "replace").lower())
        offset += 1 + data[offset]
    return ".".join(labels), offset + 1
