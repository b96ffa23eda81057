"""The link against a scripted broker: what it does about brokers, gateways and name services that fail it."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swapline_node import link as link_module
from swapline_node.counter import Counters
from swapline_node.link import Link
from swapline_node.log import Log
from swapline_node.mqtt import PUBACK, PUBLISH, SUBACK, pack_publish_head
from swapline_node.publisher import Publisher
from swapline_wire import message, topic
from swapline_wire.decode import decode
from swapline_wire.message import Ack
from tests.node.journal_rig import append, open_journal

CONNECT, CONNACK, SUBSCRIBE = 1, 2, 8
START = time.monotonic()


def uptime_ms() -> int:
    return int((time.monotonic() - START) * 1000)


class Stream:
    """Reads and writes, as a stream of MicroPython does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.readexactly = reader.readexactly
        self.write = writer.write
        self.drain = writer.drain
        self.s = writer


class ScriptedBroker:
    """Takes one node's packets and answers them as told."""

    def __init__(self) -> None:
        self.port = 0
        self.connects = 0
        self.subscribes = 0
        self.frames: list[int] = []
        self.channels: dict[int, str] = {}  # of each frame
        self.puback_s = 0.0  # after the one before
        self.answers_publish = True
        self._unanswered: asyncio.Queue[tuple[bytes, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._news = asyncio.Condition()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while True:
                await self._take(reader, writer)
                async with self._news:
                    self._news.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, length, shift = (await reader.readexactly(1))[0], 0, 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        body = await reader.readexactly(length)
        kind = first >> 4
        if kind == CONNECT:
            self.connects += 1
            writer.write(bytes((CONNACK << 4, 2, 0, 0)))
        elif kind == SUBSCRIBE:
            self.subscribes += 1
            writer.write(bytes((SUBACK << 4, 4)) + body[:2] + b"\x01\x01")
        elif kind == PUBLISH:
            end = 2 + struct.unpack(">H", body[:2])[0]
            channel = body[2:end].decode().rsplit("/", 1)[-1]
            if channel in topic.FRAMES:
                _, _, offset = message.read_up_head(body[end + 2 :])
                seqs = [decode(part).header.seq for part in message.split_frames(body[end + 2 :], offset)]
                self.frames += seqs
                self.channels.update(dict.fromkeys(seqs, channel))
            if self.answers_publish:
                self._unanswered.put_nowait((bytes((PUBACK << 4, 2)) + body[end : end + 2], writer))

    async def answer(self) -> None:
        """Send the PUBACKs, one after the other."""
        while True:
            packet, writer = await self._unanswered.get()
            await asyncio.sleep(self.puback_s)
            writer.write(packet)

    def acknowledge(self, journal: int, first: int, last: int) -> None:
        ack = message.pack_ack(journal, 0, [(first, last)])
        self._writers[-1].write(pack_publish_head(b"swapline/v1/f/n/ack", 1, len(ack), retain=False) + ack)

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def until(self, condition: Any, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(condition)


class Rig:
    def __init__(self, folder: Path, **link: Any) -> None:
        settings = {"host": "broker", "port": 1, "tls": None, "keepalive_s": 30, "window": 16}
        settings |= {"username": None, "password": None, "backoff_ms_min": 10, "backoff_ms_max": 20}
        self.counters = Counters()
        self.journal = open_journal(folder, 1 << 22)
        config: Any = SimpleNamespace(fleet="f", node="n", link=settings | {k: v for k, v in link.items() if k != "ms"})
        self.log = Log(uptime_ms)
        self.link = Link(config, self.counters, self.log, uptime_ms, puback_ms_max=link.get("ms", 20_000))
        self.broker = ScriptedBroker()
        self.link.resolve = self.resolve
        self.link.on_ack = self._take_ack
        self.name_service: list[BaseException | float] = []  # what each question meets; then it answers

    def publish(self, *, acknowledge_ms_max: int = 20_000) -> None:
        self.link.publisher = Publisher(
            self.journal, self.counters, uptime_ms, backlog_frames_per_s=10_000, acknowledge_ms_max=acknowledge_ms_max
        )

    def _take_ack(self, ack: Ack) -> None:
        assert self.link.publisher is not None
        self.link.publisher.acknowledge(ack.ranges)

    async def resolve(self, _host: str, _port: int) -> tuple[int, Any]:
        trouble = self.name_service.pop(0) if self.name_service else 0.0
        if isinstance(trouble, BaseException):
            raise trouble
        await asyncio.sleep(trouble)
        return 2, ("127.0.0.1", self.broker.port)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedBroker]:
        async with await asyncio.start_server(self.broker.serve, "127.0.0.1", 0) as server:
            self.broker.port = server.sockets[0].getsockname()[1]
            tasks = [asyncio.create_task(self.link.run()), asyncio.create_task(self.broker.answer())]
            try:
                yield self.broker
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.broker.cut()
                await asyncio.wait(self.broker.tasks)


@pytest.fixture(autouse=True)
def _streams(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_stream(_family: int, address: Any, **_: Any) -> Stream:
        return Stream(*await asyncio.open_connection(*address))

    monkeypatch.setattr(link_module, "open_stream", open_stream)


async def test_node_that_nobody_acknowledges_subscribes_anew_and_then_connects_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    append(rig.journal)
    rig.publish(acknowledge_ms_max=1500)
    async with rig.running() as broker:
        await broker.until(lambda: broker.subscribes == 2)
        assert broker.connects == 1
        await broker.until(lambda: broker.connects == 2)
        await broker.until(lambda: broker.subscribes == 4)  # the first connection's, two in vain, the second's
        await broker.until(lambda: len(broker.frames) >= 4)
        rig.broker.acknowledge(rig.journal.id, 1, 1)
        append(rig.journal)
        rig.link.wake()
        await broker.until(lambda: 2 in broker.frames)
    assert rig.journal.pending_frames == 1


async def test_subscription_that_the_broker_forgot_is_made_again_without_a_new_connection(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    append(rig.journal)
    rig.publish(acknowledge_ms_max=1500)
    async with rig.running() as broker:
        await broker.until(lambda: broker.subscribes == 2)
        rig.broker.acknowledge(rig.journal.id, 1, 1)
        while rig.journal.pending_frames:  # noqa: ASYNC110 - the journal has no event
            await asyncio.sleep(0.01)
        assert broker.connects == 1


@pytest.mark.parametrize("trouble", [OSError(-3), 60.0])
async def test_last_known_address_is_used_while_the_name_service_is_gone(
    tmp_path: Path, trouble: BaseException | float
) -> None:
    rig = Rig(tmp_path)
    async with rig.running() as broker:
        await broker.until(lambda: broker.connects == 1)
        rig.name_service.append(trouble)
        broker.cut()
        await broker.until(lambda: broker.connects == 2)


async def test_name_that_was_never_resolved_is_asked_for_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.name_service += [OSError(-3)] * 3
    async with rig.running() as broker:
        await broker.until(lambda: broker.connects == 1)
    assert rig.counters.link_failures == 3


async def test_broker_that_answers_no_publish_is_left(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ms=500)
    rig.broker.answers_publish = False
    rig.link.send("status", json.dumps({}).encode())
    async with rig.running() as broker:
        await broker.until(lambda: broker.connects == 2)
    assert any("does not acknowledge" in line for line in rig.log.lines())


async def test_link_that_is_only_slow_is_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ms=1000)
    rig.broker.puback_s = 0.4
    for _ in range(8):  # the last answer comes three time limits after its message
        rig.link.send("status", json.dumps({}).encode())
    async with rig.running() as broker:
        await broker.until(lambda: broker.connects == 1)
        while rig.link.rtt_ms < 2500:  # noqa: ASYNC110 - the link has no event
            await asyncio.sleep(0.01)
        assert broker.connects == 1


async def test_live_frame_finds_room_although_no_backlog_is_answered(tmp_path: Path) -> None:
    rig = Rig(tmp_path, window=4)
    for _ in range(500):
        append(rig.journal)
    rig.publish()
    rig.broker.answers_publish = False
    async with rig.running() as broker:
        await broker.until(lambda: len(broker.frames) > 10)
        live = append(rig.journal)
        rig.link.wake()
        await broker.until(lambda: live in broker.frames)
        assert len(broker.frames) < 60  # two messages of backlog
    assert broker.channels.pop(live) == topic.LIVE
    assert set(broker.channels.values()) == {topic.UP}
