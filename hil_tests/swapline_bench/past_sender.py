"""The program that makes a fleet's past and sends it: `python -m swapline_bench.past_sender FOLDER HOST PORT`.

FOLDER holds the plan (`past.py`). It says how far it is on its standard output, a JSON object a line, and ends when
every frame is acknowledged. It is nice to everything else on the machine, and slow enough for live rows to pass.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import aiomqtt

from swapline_bench.past import ACKNOWLEDGED, FRAMES, Lived, Past, PastPlan, split_frames
from swapline_wire import message, topic
from swapline_wire.error import WireError
from swapline_wire.frame import read_prefix

WORKERS_MAX = 2
NICENESS = 10
BYTES_PER_S_MAX = 2_000_000  # of all nodes: two thirds of what a gateway takes on a quiet machine
MESSAGE_BYTES_MAX = 12_000
FRAMES_WAITING_MAX = 96  # of one node, without an answer
ANSWER_S_MAX = 5.0  # then what was not acknowledged is sent again
CONNECT_AGAIN_S = 1.0
_MADE = "complete"  # a file that says that all frames are there

Tell = Callable[..., None]


class Progress(NamedTuple):
    """One line of the program's output. `stage`: `lives` (modules passed through their past), `frames` (sent)."""

    stage: str
    done: int
    total: int

    def text(self) -> str:
        """Return it for people."""
        share = f"{100 * self.done // max(self.total, 1)} %"
        return f"past: made {share}" if self.stage == "lives" else f"past: sent {share}"


def _live(plan: PastPlan, number: int) -> Lived:
    return Past(plan).live(number)


def make_frames(folder: Path, tell: Tell) -> None:
    """Write every node's frames into its file, unless an earlier run has."""
    done = folder / _MADE
    if done.exists():
        return
    plan = PastPlan.load(folder)
    assert plan is not None
    past = Past(plan)
    count = len(past.places)
    lives: list[Lived] = []
    with ProcessPoolExecutor(min(WORKERS_MAX, os.cpu_count() or 1)) as pool:
        for lived in pool.map(_live, [plan] * count, range(count)):
            lives.append(lived)
            tell("lives", len(lives), count)
    with contextlib.ExitStack() as stack:
        files = {node: stack.enter_context((folder / f"{node}{FRAMES}").open("wb")) for node in past.nodes}
        for sealed in past.frames(lives):
            files[sealed.node].write(sealed.data)
    done.touch()


class NodeOfThePast:
    """Sends one node's frames until all of them are acknowledged."""

    def __init__(self, folder: Path, fleet: str, node: str) -> None:
        self.frames = list(split_frames((folder / f"{node}{FRAMES}").read_bytes()))
        self.journal = read_prefix(self.frames[0]).journal
        self.up, self.ack = (topic.format_topic(fleet, node, channel) for channel in (topic.UP, topic.ACK))
        self._note = folder / f"{node}{ACKNOWLEDGED}"
        self.acknowledged = int(self._note.read_text()) if self._note.exists() else 0  # from the first one on
        self._beyond: set[int] = set()
        self._sent = self.acknowledged
        self._answered_s = 0.0

    @property
    def is_done(self) -> bool:
        """Say whether nothing is left."""
        return self.acknowledged == len(self.frames)

    def take_ack(self, payload: bytes, now_s: float) -> None:
        """Take an acknowledgement of any node of this name: only those of our journal count."""
        try:
            ack = message.read_ack(payload)
        except WireError:
            return
        if ack.journal != self.journal:
            return
        self._answered_s = now_s
        for first, last in ack.ranges:
            self._beyond.update(range(first, last + 1))
        before = self.acknowledged
        while self.acknowledged + 1 in self._beyond:
            self.acknowledged += 1
            self._beyond.remove(self.acknowledged)
        if self.acknowledged != before:
            self._note.write_text(f"{self.acknowledged}\n", encoding="utf-8")

    def next_message(self, now_s: float) -> bytes | None:
        """Return what to send next; None while answers are awaited."""
        if self._sent > self.acknowledged and now_s - self._answered_s > ANSWER_S_MAX:
            self._sent, self._answered_s = self.acknowledged, now_s
        if self._sent >= min(len(self.frames), self.acknowledged + FRAMES_WAITING_MAX):
            return None
        if self._sent == self.acknowledged:
            self._answered_s = now_s
        return message.pack_up_head(self.journal, []) + b"".join(self._next_frames())

    def _next_frames(self) -> Iterator[bytes]:
        size = 0
        while self._sent < len(self.frames) and size + len(self.frames[self._sent]) <= MESSAGE_BYTES_MAX:
            size += len(self.frames[self._sent])
            yield self.frames[self._sent]
            self._sent += 1


async def send(nodes: list[NodeOfThePast], host: str, port: int, tell: Tell) -> None:
    """Send all frames of all nodes, through as many brokers' deaths as there are."""
    while not all(node.is_done for node in nodes):
        try:
            async with aiomqtt.Client(host, port) as client:
                listener = asyncio.create_task(_listen(client, nodes))
                try:
                    await _send_all(client, nodes, tell)
                finally:
                    listener.cancel()
        except aiomqtt.MqttError:
            await asyncio.sleep(CONNECT_AGAIN_S)


async def _listen(client: aiomqtt.Client, nodes: list[NodeOfThePast]) -> None:
    by_topic = {node.ack: node for node in nodes}
    for name in by_topic:
        await client.subscribe(name, 1)
    clock = asyncio.get_running_loop()
    async for incoming in client.messages:
        assert isinstance(incoming.payload, bytes)
        by_topic[str(incoming.topic)].take_ack(incoming.payload, clock.time())


async def _send_all(client: aiomqtt.Client, nodes: list[NodeOfThePast], tell: Tell) -> None:
    clock = asyncio.get_running_loop()
    total = sum(len(node.frames) for node in nodes)
    while not all(node.is_done for node in nodes):
        sent_bytes = 0
        for node in nodes:
            payload = node.next_message(clock.time())
            if payload is not None:
                sent_bytes += len(payload)
                await client.publish(node.up, payload, 1)
        tell("frames", sum(node.acknowledged for node in nodes), total)
        await asyncio.sleep(max(0.02, sent_bytes / BYTES_PER_S_MAX))


def _tell(stage: str, done: int, total: int) -> None:
    sys.stdout.write(json.dumps(Progress(stage, done, total)._asdict()) + "\n")
    sys.stdout.flush()


def main(folder: Path, host: str, port: int) -> None:
    """Make what is missing and send what was not acknowledged."""
    os.nice(NICENESS)
    make_frames(folder, _tell)
    plan = PastPlan.load(folder)
    assert plan is not None
    names = sorted(path.name.removesuffix(FRAMES) for path in folder.glob(f"*{FRAMES}"))
    asyncio.run(send([NodeOfThePast(folder, plan.fleet, name) for name in names], host, port, _tell))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
