"""Listen to a broker beside the gateway: what nodes sent, what was acknowledged, and who is online.

Tests wait here for what they need to have happened; nothing is asked again and again.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import aiomqtt

from swapline_wire import message, topic
from swapline_wire.decode import Decoded, decode


class Heard:
    """What one node said so far. Frames by sequence number: a frame that was sent again is there once."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.frames: dict[int, Decoded] = {}
        self.frames_again_count = 0
        self.acknowledged: set[int] = set()
        self._last: dict[str, int] = {}  # the newest frame of each stream
        self.replies: dict[Any, dict[str, Any]] = {}  # the node's answers to commands, by the command's `id`

    def rows(self, stream: str) -> list[tuple[int, ...]]:
        """Return the rows of a stream in the order of their frames: time in ms since boot, then raw values."""
        frames = [self.frames[seq] for seq in sorted(self.frames)]
        return [row for frame in frames if frame.stream.name == stream for row in frame.rows]

    def row_count(self, stream: str) -> int:
        return sum(len(frame.rows) for frame in self.frames.values() if frame.stream.name == stream)

    def column(self, stream: str, signal: str) -> list[int]:
        """Return the raw values of one signal in the order of their frames."""
        found = []
        for seq in sorted(self.frames):
            frame = self.frames[seq]
            if frame.stream.name == stream:
                place = [one.name for one in frame.signals].index(signal) + 1
                found += [row[place] for row in frame.rows]
        return found

    def last(self, stream: str) -> dict[str, int]:
        """Return the latest row of a stream by signal name; empty when there is none."""
        if stream not in self._last:
            return {}
        frame = self.frames[self._last[stream]]
        names = [signal.name for signal in frame.signals]
        return dict(zip(names, frame.rows[-1][1:], strict=True))

    def take(self, frame: Decoded) -> None:
        """Keep a frame that was sent."""
        seq, stream = frame.header.seq, frame.stream.name
        self.frames_again_count += seq in self.frames
        self.frames[seq] = frame
        self._last[stream] = max(seq, self._last.get(stream, seq))

    def is_acknowledged(self) -> bool:
        """Say whether the gateway has stored everything that was heard."""
        return bool(self.frames) and self.acknowledged.issuperset(self.frames)


class Tap:
    """A subscriber of its own. Use `run` as a task; `wait` returns when a condition over what was heard holds.

    `on_message` is told topic and payload of everything that it hears.
    """

    def __init__(self, host: str, port: int, *, on_message: Callable[[str, bytes], None] | None = None) -> None:
        self.nodes: dict[str, Heard] = {}
        self.subscribed = asyncio.Event()
        self.host = host
        self.port = port
        self._on_message = on_message
        self._client: aiomqtt.Client | None = None
        self._command_ids = itertools.count(1)
        self._changed = asyncio.Condition()

    def __getitem__(self, node: str) -> Heard:
        return self.nodes.setdefault(node, Heard())

    async def run(self) -> None:
        """Listen until cancelled."""
        async with aiomqtt.Client(self.host, self.port, max_queued_incoming_messages=0) as client:
            await client.subscribe(topic.format_topic("+", "+", "+"), qos=1)
            self._client = client
            self.subscribed.set()
            async for received in client.messages:
                self._take(received)
                async with self._changed:
                    self._changed.notify_all()

    async def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Wait until `condition` holds. Raises `TimeoutError` that says `what` was waited for."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError as error:
            raise TimeoutError(f"after {timeout_s:.0f} s still no {what}; heard: {self.summary()}") from error

    async def wait_online(self, node: str, timeout_s: float = 30.0) -> None:
        """Wait for a node's birth."""
        await self.wait(lambda: self[node].status.get("online") is True, f"birth of {node}", timeout_s)

    async def wait_rows(self, node: str, stream: str, count: int, timeout_s: float = 60.0) -> None:
        """Wait until a node has sent `count` rows of a stream, and all that it sent is acknowledged."""
        heard = self[node]
        await self.wait(
            lambda: heard.row_count(stream) >= count and heard.is_acknowledged(),
            f"{count} acknowledged rows of {stream} of {node}",
            timeout_s,
        )

    async def command(
        self, fleet: str, node: str, command: str, timeout_s: float = 10.0, **more: Any
    ) -> dict[str, Any]:
        """Send a node a command and return its answer. Raises `TimeoutError` for a node that does not give one."""
        assert self._client is not None, "commands go out once the tap has subscribed"
        number = next(self._command_ids)
        request = {"id": number, "command": command, **more}
        await self._client.publish(topic.format_topic(fleet, node, topic.DOWN), json.dumps(request), qos=1)
        heard = self[node]
        await self.wait(lambda: number in heard.replies, f"answer of {node} to {command!r}", timeout_s)
        return heard.replies[number]

    def summary(self) -> str:
        """Describe in one line what each node has sent."""
        lines = []
        for name, heard in self.nodes.items():
            streams = sorted({frame.stream.name for frame in heard.frames.values()})
            counts = ", ".join(f"{stream} {heard.row_count(stream)}" for stream in streams)
            missing = len(set(heard.frames) - heard.acknowledged)
            lines.append(f"{name} online {heard.status.get('online')}: {counts}; {missing} frames not acknowledged")
        return "; ".join(lines) or "nothing"

    def _take(self, received: aiomqtt.Message) -> None:
        address = topic.parse_topic(str(received.topic))
        payload = received.payload
        assert isinstance(payload, bytes)
        if self._on_message is not None:
            self._on_message(str(received.topic), payload)
        heard = self[address.node]
        if address.channel == topic.STATUS:
            heard.status = json.loads(payload) if payload else {}
        elif address.channel == topic.REPLY:
            answer = json.loads(payload)
            heard.replies[answer.get("id")] = answer
        elif address.channel in topic.FRAMES:
            self._take_frames(heard, payload)
        elif address.channel == topic.ACK:
            for first, last in message.read_ack(payload).ranges:
                heard.acknowledged.update(range(first, last + 1))

    def _take_frames(self, heard: Heard, payload: bytes) -> None:
        _, _, offset = message.read_up_head(payload)
        for data in message.split_frames(payload, offset):
            heard.take(decode(bytes(data)))
