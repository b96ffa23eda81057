"""A fleet of nodes that drain what an outage left, as the firmware does: a load for benches, in a process of its own.

Every node has a connection, keeps its frames until they are acknowledged, sends them in messages of 2 KB at 200
frames/s at most, has no more than 192 of them unanswered, holds them back with the firmware's own share of the link,
and sends again what nobody has acknowledged for 20 s. Frames are real ones: three rows of a module, each with a number,
a time and a CRC of its own.

    python -m swapline_bench.backlog_fleet --port 1883 --fleet bench --nodes 100 --frames 5000

It says `{"event": "connected"}`, then drains until its standard input ends, and says what it did.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
import time
import traceback
import zlib
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import aiomqtt

from swapline_bench.frame_source import MODULE_CODE, module_row
from swapline_node import cpython  # noqa: F401 (MicroPython's module, which the share imports)
from swapline_node.backlog_share import BacklogShare
from swapline_wire import message, topic
from swapline_wire.catalogue import MODULE, TIME_NTP
from swapline_wire.frame import FrameBuilder

FRAMES_PER_S = 200  # of a node: the firmware's default
IN_FLIGHT_MAX = 192
MESSAGE_BYTES = 2048
SEND_AGAIN_S = 20.0
ROWS_PER_FRAME = 3
PERIOD_MS = 3000  # of a frame
OUTAGE_ENDED_MS = 120_000
LOOK_S = 0.05
_SEQ_AT, _ANCHOR_AT = 10, 20  # places in a frame's header


@dataclass
class Figures:
    """What all nodes did."""

    sent: int = 0
    sent_again: int = 0
    acknowledged: int = 0


def template(node_number: int) -> bytearray:
    """Return a sealed frame of which number, anchor and CRC are to be written over."""
    builder = FrameBuilder(MODULE, bay=1, owner=f"{MODULE_CODE[:-4]}{node_number:04d}", buffer_bytes=1024)
    for row in range(ROWS_PER_FRAME):
        builder.add(row * 1000, module_row(5000 + 7 * row))
    sealed = builder.seal(journal=node_number + 1, seq=1, boot=1, time_quality=TIME_NTP, anchor_utc_ms=1 << 40)
    return bytearray(sealed)


class BacklogNode:
    """One node. `frame_count` frames wait for it to connect."""

    def __init__(self, fleet: str, number: int, frame_count: int, figures: Figures) -> None:
        self.number = number
        self.waiting = deque(range(1, frame_count + 1))
        self.in_flight: dict[int, float] = {}
        self._name = (fleet, f"node-{number:04d}")
        self._figures = figures
        self._template = template(number)
        self._began_utc_ms = time.time_ns() // 1_000_000 - OUTAGE_ENDED_MS - frame_count * PERIOD_MS
        self._share = BacklogShare(MESSAGE_BYTES)
        self._tokens, self._tokens_s = 0.0, time.monotonic()
        self._room = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()

    @property
    def left(self) -> int:
        """Return how many frames nobody has acknowledged."""
        return len(self.waiting) + len(self.in_flight)

    async def run(self, client: aiomqtt.Client) -> None:
        """Drain until cancelled."""
        await client.subscribe(topic.format_topic(*self._name, topic.ACK), 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(client))
            group.create_task(self._send(client))

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for incoming in client.messages:
            for first, last in message.read_ack(incoming.payload).ranges:
                for seq in range(first, last + 1):
                    self._figures.acknowledged += self.in_flight.pop(seq, None) is not None
            self._room.set()

    async def _send(self, client: aiomqtt.Client) -> None:
        self._share.restart(_now_ms())
        while True:
            self._expire()
            payload = self._next_message()
            if payload is None:
                self._room.clear()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._room.wait()
                except TimeoutError:
                    pass
                continue
            task = asyncio.create_task(self._publish(client, payload))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
            await asyncio.sleep(0)

    def _expire(self) -> None:
        limit_s = time.monotonic() - SEND_AGAIN_S
        late = [seq for seq, sent_s in self.in_flight.items() if sent_s <= limit_s]
        for seq in late:
            del self.in_flight[seq]
        self.waiting.extendleft(reversed(late))
        self._figures.sent_again += len(late)

    def _next_message(self) -> bytes | None:
        if not self._share.has_room():
            return None
        now_s = time.monotonic()
        self._tokens = min(FRAMES_PER_S / 4, self._tokens + FRAMES_PER_S * (now_s - self._tokens_s))
        self._tokens_s = now_s
        room = min(IN_FLIGHT_MAX - len(self.in_flight), int(self._tokens), len(self.waiting))
        count = min(room, MESSAGE_BYTES // len(self._template))
        if count <= 0:
            return None
        seqs = [self.waiting.popleft() for _ in range(count)]
        self.in_flight |= dict.fromkeys(seqs, now_s)
        self._tokens -= count
        self._figures.sent += count
        return message.pack_up_head(self.number + 1, []) + b"".join(self.frame(seq) for seq in seqs)

    def frame(self, seq: int) -> bytes:
        """Return a frame by its number: the same one however often it is asked for."""
        data = self._template
        struct.pack_into("<I", data, _SEQ_AT, seq)
        struct.pack_into("<Q", data, _ANCHOR_AT, self._began_utc_ms + seq * PERIOD_MS)
        struct.pack_into("<I", data, len(data) - 4, zlib.crc32(memoryview(data)[:-4]))
        return bytes(data)

    async def _publish(self, client: aiomqtt.Client, payload: bytes) -> None:
        sent_ms = _now_ms()
        self._share.sent(len(payload))
        await client.publish(topic.format_topic(*self._name, topic.UP), payload, 1, timeout=60)
        self._share.answered(len(payload), sent_ms, _now_ms())
        self._room.set()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


async def run(*, host: str, port: int, fleet: str, node_count: int, frame_count: int) -> dict[str, float]:
    """Drain until standard input ends; return what was done. The connections stay: the process is to end."""
    figures = Figures()
    nodes = [BacklogNode(fleet, number, frame_count, figures) for number in range(node_count)]
    connected = 0

    async def live(node: BacklogNode) -> None:
        nonlocal connected
        async with aiomqtt.Client(host, port, max_inflight_messages=IN_FLIGHT_MAX) as client:
            connected += 1
            if connected == node_count:
                print(json.dumps({"event": "connected"}), flush=True)  # noqa: T201 (its parent reads it)
            await node.run(client)

    tasks = [asyncio.create_task(live(node)) for node in nodes]
    begun_s = time.monotonic()
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    took_s = time.monotonic() - begun_s
    failed = next((task for task in tasks if task.done()), None)
    if failed is not None:
        failed.result()
    return {
        "sent": figures.sent,
        "sent_again": figures.sent_again,
        "acknowledged": figures.acknowledged,
        "left": sum(node.left for node in nodes),
        "frames_per_s": round(figures.acknowledged / took_s, 1),
    }


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description="Nodes that drain a backlog until standard input ends.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fleet", default="bench")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--frames", type=int, default=5000, help="of every node")
    given = parser.parse_args()
    asyncio.run(
        leave(
            run(host=given.host, port=given.port, fleet=given.fleet, node_count=given.nodes, frame_count=given.frames)
        )
    )


async def leave(work: Coroutine[Any, Any, dict[str, float]]) -> None:
    """Say what the work did, and end as nodes do whose power is cut: a hundred goodbyes take long on a busy broker."""
    code = 1
    try:
        print(json.dumps(await work), flush=True)  # noqa: T201
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
