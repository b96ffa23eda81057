"""What the node's tests share: the interpreter, and the gateway's end of a node's topics."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt

from swapline_wire import message, topic
from swapline_wire.decode import Decoded, decode
from swapline_wire.frame import Header

FIRMWARE = Path(__file__).parents[2] / "firmware"
SCRIPTS = Path(__file__).parent / "scripts"
MICROPYTHON = Path(sys.executable).with_name("micropython")


def run_script(name: str, *arguments: object, path: Path = FIRMWARE, heap: str = "8M", cwd: Path | None = None) -> Any:
    """Run a script in MicroPython and return the JSON that its last line of stdout is."""
    result = subprocess.run(
        [str(MICROPYTHON), "-X", f"heapsize={heap}", str(SCRIPTS / name), *map(str, arguments)],
        env={**os.environ, "MICROPYPATH": f"{path}:.frozen"},
        capture_output=True,
        text=True,
        timeout=170,
        cwd=cwd,
        check=False,
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, (lines[-10:], result.stderr[-2000:])
    return json.loads(lines[-1])


class GatewayEnd:
    """The other side of one node's topics: collects messages, acknowledges what it is told to."""

    def __init__(self, client: aiomqtt.Client, fleet: str, node: str) -> None:
        self.frames: dict[int, Decoded] = {}
        self.received = 0
        self.anchors: dict[int, message.Anchor] = {}
        self.status: dict[str, Any] = {}
        self.replies: list[dict[str, Any]] = []
        self.acknowledges = True
        self.utc_ms = 0
        self._client = client
        self._fleet = fleet
        self._node = node
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        await self._client.subscribe(topic.format_topic(self._fleet, self._node, "+"), qos=1)
        async for incoming in self._client.messages:
            payload = incoming.payload
            assert isinstance(payload, bytes)
            channel = topic.parse_topic(str(incoming.topic)).channel
            if channel in topic.FRAMES:
                await self._take(payload)
            elif channel == topic.STATUS:
                self.status = json.loads(payload)
                if self.status.get("clock_quality") == 0:
                    await self.acknowledge(self.status["journal"], [])
            elif channel == topic.REPLY:
                self.replies.append(json.loads(payload))
            async with self._news:
                self._news.notify_all()

    async def _take(self, payload: bytes) -> None:
        journal, anchors, offset = message.read_up_head(payload)
        self.anchors.update({anchor.boot: anchor for anchor in anchors})
        frames = [decode(part) for part in message.split_frames(payload, offset)]
        self.received += len(frames)
        for frame in frames:
            assert frame.header.time_quality or frame.header.boot in self.anchors
            self.frames[frame.header.seq] = frame
        if self.acknowledges:
            await self.acknowledge(journal, [(frame.header.seq, frame.header.seq) for frame in frames])

    async def acknowledge(self, journal: int, ranges: list[tuple[int, int]]) -> None:
        await self.publish(topic.ACK, message.pack_ack(journal, self.utc_ms, ranges))

    async def command(self, **request: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        known = len(self.replies)
        await self.publish(topic.DOWN, json.dumps(request).encode())
        await self.until(lambda: len(self.replies) > known)
        return self.replies[-1]

    async def publish(self, channel: str, payload: bytes) -> None:
        await self._client.publish(topic.format_topic(self._fleet, self._node, channel), payload, qos=1)

    async def until(self, is_true: Callable[[], bool], timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(is_true)

    def utc_of(self, header: Header) -> int:
        """Return the UTC of a frame's first row in ms, as a gateway computes it."""
        anchor = header.anchor_utc_ms if header.time_quality else self.anchors[header.boot].utc_ms
        return int(anchor + header.first_row_ms)

    def rows(self, stream: str) -> list[dict[str, Any]]:
        """Return the rows of a stream as dictionaries, in order of sequence number."""
        found = []
        for seq in sorted(self.frames):
            frame = self.frames[seq]
            if frame.stream.name == stream:
                names = [signal.name for signal in frame.signals]
                found.extend([{"header": frame.header, **dict(zip(names, row[1:], strict=True))} for row in frame.rows])
        return found


@asynccontextmanager
async def gateway_end(port: int, fleet: str, node: str, *, utc_ms: int = 1800000000000) -> AsyncIterator[GatewayEnd]:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        end = GatewayEnd(client, fleet, node)
        end.utc_ms = utc_ms
        task = asyncio.create_task(end.listen())
        try:
            yield end
        finally:
            while not task.done():  # aiomqtt may swallow a cancellation that comes while it publishes
                task.cancel()
                await asyncio.wait([task], timeout=1)
