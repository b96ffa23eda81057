"""MQTT 3.1.1 over a pair of asyncio streams: packets in, packets out. It only fails; `link.py` retries.

QoS 1 publishes, one subscription packet, keep-alive, last will. Written for MicroPython and CPython alike.

Only the task that publishes touches the stream: MicroPython's `drain` forgets what another task writes while it waits
for room, which on a slow link were the PUBACKs, until the broker's window to this node was full and no acknowledgement
came any more. So small packets queue, and leave before the next PUBLISH or in `drain`.
"""

import struct

from micropython import const

from .connection import close_stream

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

_CONNACK = const(2)
PUBLISH = 3
PUBACK = 4
SUBACK = 9
PINGRESP = 13
_QUEUE_BYTES_MAX = const(2048)  # 500 PUBACKs; a broker that waits for so many neither reads nor keeps to any window
_PACKET_BYTES_MAX = const(8192)  # a configuration fits; anything larger is read past and counted

_REFUSALS = {
    1: "unacceptable protocol version",
    2: "client identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
}


class MqttError(Exception):
    """The other side broke the protocol, refused the connection or closed it."""


def encode_length(length: int) -> bytes:
    """Return MQTT's variable-length encoding."""
    out = bytearray()
    while True:
        byte = length & 0x7F
        length >>= 7
        out.append(byte | 0x80 if length else byte)
        if not length:
            return bytes(out)


def _text(value: "str | bytes") -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def pack_connect(
    client_id: str, *, keepalive_s: int, will_topic: str, will: bytes, username: "str | None", password: "str | None"
) -> bytes:
    """Return a CONNECT packet with a clean session and a retained last will of QoS 1."""
    flags = 0x02 | 0x04 | 0x08 | 0x20
    body = _text(client_id) + _text(will_topic) + _text(will)
    if username is not None:
        flags |= 0x80
        body += _text(username)
        if password is not None:
            flags |= 0x40
            body += _text(password)
    body = _text("MQTT") + struct.pack(">BBH", 4, flags, keepalive_s) + body
    return b"\x10" + encode_length(len(body)) + body


def pack_subscribe(packet_id: int, topics: "list[str]") -> bytes:
    """Return a SUBSCRIBE packet, QoS 1 for every topic."""
    body = struct.pack(">H", packet_id)
    for topic in topics:
        body += _text(topic) + b"\x01"
    return b"\x82" + encode_length(len(body)) + body


def pack_publish_head(topic: bytes, packet_id: int, payload_bytes: int, *, retain: bool) -> bytes:
    """Return what precedes the payload of a PUBLISH of QoS 1."""
    head = _text(topic) + struct.pack(">H", packet_id)
    return bytes((0x33 if retain else 0x32,)) + encode_length(len(head) + payload_bytes) + head


class Mqtt:
    """One connection. One task calls `read_packet`; one, perhaps another, `publish` and `drain`; the rest any."""

    def __init__(self, reader: "StreamReader", writer: "StreamWriter") -> None:
        self._reader = reader
        self._writer = writer
        self._queue = b""

    async def connect(self, packet: bytes) -> None:
        """Send CONNECT and wait for its answer. Raises `MqttError` where the broker refuses."""
        self._writer.write(packet)
        await self._writer.drain()
        kind, _, body = await self.read_packet()
        if kind != _CONNACK or len(body) != 2:
            raise MqttError("no CONNACK")
        if body[1]:
            raise MqttError("broker refuses: " + _REFUSALS.get(body[1], "code %d" % body[1]))

    def subscribe(self, packet_id: int, topics: "list[str]") -> None:
        """Queue a SUBSCRIBE."""
        self._put(pack_subscribe(packet_id, topics))

    def publish(self, topic: bytes, payload: "bytes | memoryview", packet_id: int, *, retain: bool = False) -> None:
        """Write a PUBLISH of QoS 1. The payload's bytes are taken before this returns."""
        self._write_queue()
        self._writer.write(pack_publish_head(topic, packet_id, len(payload), retain=retain))
        self._writer.write(payload)

    def acknowledge(self, packet_id: int) -> None:
        """Queue a PUBACK."""
        self._put(b"\x40\x02" + struct.pack(">H", packet_id))

    def ping(self) -> None:
        """Queue a PINGREQ."""
        self._put(b"\xc0\x00")

    async def drain(self) -> None:
        """Wait until everything that was written and queued has left."""
        await self._writer.drain()
        while self._queue:
            self._write_queue()
            await self._writer.drain()

    def close(self) -> None:
        """Close the connection: its socket, which a MicroPython stream's own `close` leaves open."""
        close_stream(self._writer)

    async def read_packet(self) -> "tuple[int, int, bytes]":
        """Return kind, flags and body of the next packet; the body of one that is too large is empty."""
        first = (await self._reader.readexactly(1))[0]
        length = 0
        shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
            shift += 7
            if shift > 21:
                raise MqttError("malformed length")
        if length > _PACKET_BYTES_MAX:
            await self._skip(first, length)
            return first >> 4, first & 15, b""
        return first >> 4, first & 15, await self._reader.readexactly(length) if length else b""

    def _put(self, packet: bytes) -> None:
        self._queue += packet
        if len(self._queue) > _QUEUE_BYTES_MAX:
            raise MqttError("broker does not read")

    def _write_queue(self) -> None:
        """Hand the queue to the stream, whose `drain` must not be running."""
        if self._queue:
            queue = self._queue
            self._queue = b""
            self._writer.write(queue)

    async def _skip(self, first: int, length: int) -> None:
        """Read past a packet; acknowledge a PUBLISH, or enough of them would fill the broker's window to this node."""
        if first >> 4 == PUBLISH and first >> 1 & 3:
            topic_bytes = struct.unpack(">H", await self._reader.readexactly(2))[0]
            length -= 2 + topic_bytes + 2
            if length < 0:
                raise MqttError("PUBLISH too short")
            await self._read_past(topic_bytes)
            self.acknowledge(struct.unpack(">H", await self._reader.readexactly(2))[0])
        await self._read_past(length)

    async def _read_past(self, length: int) -> None:
        while length:
            length -= len(await self._reader.readexactly(min(length, 512)))


def parse_publish(flags: int, body: bytes) -> "tuple[str, bytes, int]":
    """Return topic, payload and packet id (0 for QoS 0) of a PUBLISH. Raises `MqttError`."""
    if len(body) < 2:
        raise MqttError("PUBLISH too short or too long")
    end = 2 + (body[0] << 8 | body[1])
    packet_id = 0
    start = end
    if flags >> 1 & 3:
        start = end + 2
        if len(body) < start:
            raise MqttError("PUBLISH too short")
        packet_id = body[end] << 8 | body[end + 1]
    if len(body) < start:
        raise MqttError("PUBLISH too short")
    try:
        return body[2:end].decode(), body[start:], packet_id
    except UnicodeError:
        raise MqttError("topic is not UTF-8") from None
