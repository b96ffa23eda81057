"""A node as the gateway knows it: frames with numbers, messages, births. For tests and loads that need no firmware."""

import asyncio
import contextlib
import json
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiomqtt

from swapline_wire import catalogue, message, topic
from swapline_wire.catalogue import MODULE, TIME_NTP, Stream
from swapline_wire.frame import FRAME_BYTES_MAX, FrameBuilder
from swapline_wire.message import Anchor

MODULE_CODE = "0AACDE12345678901234ABCD"
MINUTE_MS = 60_000
FRAMES_PER_MESSAGE = 5
PAUSE_S = 0.005  # after a message, so that commits fall between messages
SEND_AGAIN_S = 5.0  # a node waits 20


def module_row(voltage_cv: int = 5300) -> list[int]:
    """Return one plausible raw row of the stream `module`, every signal with a value."""
    row = [voltage_cv, -1000, 905, 990, 40000, 51800, 3300, 3310, 3305, 1, 2, 250, 260, 1, 2, 300, 290, 500]
    return [*row, 10, 20, 30, 40, 50, 16, 3, 0, 0]


def row_of(stream: Stream, **values: int) -> list[int]:
    """Return a raw row in which only the named signals have a value."""
    row = catalogue.not_available(stream.signals)
    for index, signal in enumerate(stream.signals):
        if signal.name in values:
            row[index] = values.pop(signal.name)
    assert not values, f"no such signals: {values}"
    return row


def reseal(frame: bytes, **patches: bytes) -> bytes:
    """Overwrite bytes (`at_<offset>`) and make the CRC right again."""
    body = bytearray(frame[:-4])
    for name, value in patches.items():
        offset = int(name.removeprefix("at_"))
        body[offset : offset + len(value)] = value
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


@dataclass
class FrameSource:
    """Seals frames with ascending numbers. `anchor_utc_ms` is the boot's beginning, an hour ago by default."""

    fleet: str = "test"
    node: str = "van-001"
    journal: int = 7
    boot: int = 1
    anchor_utc_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000 - 60 * MINUTE_MS)
    seq: int = 0

    def frame(
        self,
        rows: Sequence[tuple[int, list[int]]] = (),
        *,
        stream: Stream = MODULE,
        bay: int = 1,
        owner: str = MODULE_CODE,
        quality: int = TIME_NTP,
        seq: int | None = None,
    ) -> bytes:
        """Seal the next frame of (ms since boot, raw values) rows; without any, of one row that its number decides."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        builder = FrameBuilder(stream, bay=bay, owner=owner, buffer_bytes=FRAME_BYTES_MAX)
        for time_ms, values in rows or [(seq * 1000, module_row(5000 + seq % 500))]:
            builder.add(time_ms, values)
        anchor = self.anchor_utc_ms if quality else 0
        sealed = builder.seal(journal=self.journal, seq=seq, boot=self.boot, time_quality=quality, anchor_utc_ms=anchor)
        return bytes(sealed)

    def message(self, *frames: bytes, anchors: Sequence[Anchor] = ()) -> bytes:
        """Return an up message of these frames."""
        return message.pack_up_head(self.journal, list(anchors)) + b"".join(frames)

    def topic(self, channel: str) -> str:
        """Return the topic of one of the node's channels."""
        return topic.format_topic(self.fleet, self.node, channel)

    def birth(self, **changes: Any) -> str:
        """Return the node's retained status."""
        birth = {"online": True, "protocol": 1, "firmware": "0.1.0", "board": "linux", "boot": self.boot}
        birth |= {"journal": self.journal, "clock_quality": TIME_NTP, "holder": "van", "bays": [1, 2, 3]}
        return json.dumps(birth | {"safe_mode": False} | changes)

    async def publish(self, client: aiomqtt.Client, *frames: bytes, anchors: Sequence[Anchor] = ()) -> None:
        """Send one message of these frames."""
        await client.publish(self.topic(topic.UP), self.message(*frames, anchors=anchors), 1)


class AckListener:
    """Hears what a node's gateway acknowledges."""

    def __init__(self, client: aiomqtt.Client, source: FrameSource) -> None:
        self.acks: list[message.Ack] = []
        self.acknowledged: set[int] = set()
        self._client = client
        self._source = source

    async def begin(self) -> "AckListener":
        """Subscribe."""
        await self._client.subscribe(self._source.topic(topic.ACK), 1)
        return self

    async def next(self) -> message.Ack:
        """Wait for the next acknowledgement."""
        async for incoming in self._client.messages:
            if str(incoming.topic) == self._source.topic(topic.ACK):
                ack = message.read_ack(incoming.payload)
                self.acks.append(ack)
                for first, last in ack.ranges:
                    self.acknowledged.update(range(first, last + 1))
                return ack
        raise AssertionError("the connection ended")

    async def wait_for(self, seqs: set[int]) -> None:
        """Wait until all of these numbers are acknowledged."""
        while not seqs <= self.acknowledged:
            await self.next()


class KeepingNode:
    """Keeps its frames until they are acknowledged and sends them again after a while, as a node does."""

    def __init__(self, client: aiomqtt.Client, source: FrameSource) -> None:
        self.source = source
        self.frames: dict[int, bytes] = {}
        self.acks = AckListener(client, source)
        self._client = client

    @property
    def unacknowledged(self) -> list[int]:
        """Return the numbers that nobody has acknowledged."""
        return sorted(self.frames.keys() - self.acks.acknowledged)

    async def send(self, *seqs: int) -> None:
        """Send these frames, or everything that is not acknowledged, in small messages."""
        wanted = seqs or self.unacknowledged
        for start in range(0, len(wanted), FRAMES_PER_MESSAGE):
            part = wanted[start : start + FRAMES_PER_MESSAGE]
            await self.source.publish(self._client, *(self.frames[seq] for seq in part))
            await asyncio.sleep(PAUSE_S)

    async def send_until_acknowledged(self) -> None:
        """Send again and again until nothing is left."""
        while self.unacknowledged:
            await self.send()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEND_AGAIN_S):
                    await self.acks.wait_for(set(self.frames))
