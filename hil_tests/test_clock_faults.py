"""Clocks that fail under real nodes: every stored row keeps its true time, or its quality says that it is not known.

The receiver writes the true second into the altitude that it states, so each stored row tells when it was really made,
whatever time receiver, server or gateway claimed.
"""

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, cast

import aiomqtt
import pytest
import serial

from swapline_bench.end_to_end import FLEET, EndToEnd, bus, open_database
from swapline_bench.faces.gnss import WEEK_ROLLOVER, GnssFace
from swapline_bench.node_process import NodeProcess
from swapline_bench.serial_line import SerialLine
from swapline_bench.sntp_server import SntpServer
from swapline_bench.van import Van
from swapline_wire import message, topic
from swapline_wire.catalogue import TIME_ESTIMATED, TIME_GATEWAY, TIME_GNSS, TIME_NONE, TIME_NTP
from swapline_wire.decode import decode

pytestmark = pytest.mark.usefixtures("mosquitto")

TOLERANCE_S = 1.5
DAY = timedelta(days=1)
START_S = int(time.time())
LINE_BAUDRATE = 38400
EARLY_S = 0.1  # of the bench's clock, at most
WRAP_IN_S = 5.0


class TellingVan:
    """A van whose altitude is the number of seconds since the tests began."""

    latitude_deg = 48.0
    longitude_deg = 11.0
    speed_kmh = 36.0
    heading_deg = 90.0
    is_powered = True

    @property
    def altitude_m(self) -> float:
        return float(int(time.time() + EARLY_S) - START_S)  # the receiver asks when its second has begun, or later


class Receiver:
    """A receiver on a line of its own, and a node that hears it."""

    def __init__(self, path: EndToEnd, name: str) -> None:
        self.name = name
        self.face = GnssFace(cast(Van, TellingVan()))
        self._path = path
        self._line = SerialLine(name, baudrate=LINE_BAUDRATE)
        path.stack.push_async_callback(self._line.close)

    async def start_node(self) -> NodeProcess:
        device = {"driver": "gnss"}
        streams = {"position": {"report": "all"}, "node": {"report": "all"}}
        buses = [bus("gnss", self._line.path, device, baudrate=LINE_BAUDRATE)]
        node = await self._path.start_node(self.name, buses, streams=streams)
        self._line.attach(self.face)
        return node

    async def cut_power(self, node: NodeProcess) -> None:
        """Cut the node's power. What is said from now on nobody keeps for it, as a pseudo terminal would."""
        self._line.detach()
        await node.cut_power()
        self._line.unread_bytes()  # so that the kernel has handed over all
        with serial.Serial(self._line.path) as port:
            port.reset_input_buffer()

    async def start_again(self, node: NodeProcess) -> None:
        """Start a node that is off, and let it hear the receiver."""
        await self._path.start_node_again(node)
        self._line.attach(self.face)

    async def wait_rows(self, count: int) -> None:
        """Wait until the gateway has so many more rows of this receiver."""
        tap = self._path.tap
        await tap.wait_rows(self.name, "position", tap[self.name].row_count("position") + count)

    async def wait_bursts(self, count: int) -> None:
        """Let the receiver speak so often."""
        last = self.face.bursts + count
        async with asyncio.timeout(30 + 2 * count):
            while self.face.bursts < last:  # noqa: ASYNC110 - the face's pace is the clock's
                await asyncio.sleep(0.05)

    async def lie(self, error: timedelta, rows: int) -> None:
        """State a wrong time for so many rows, and the true one for half as many."""
        self.face.clock_error = error
        await self.wait_rows(rows)
        self.face.clock_error = timedelta(0)
        await self.wait_rows(rows // 2)


async def jump(path: EndToEnd) -> None:
    receiver = Receiver(path, "jump")
    await receiver.start_node()
    await receiver.wait_rows(4)
    for error in (DAY, -DAY, WEEK_ROLLOVER):
        await receiver.lie(error, rows=4)


async def cut_while_lying(path: EndToEnd) -> None:
    """Cut a node's power inside a lie, let it begin inside the lie, and cut it again before the end of the lie."""
    receiver = Receiver(path, "cut")
    node = await receiver.start_node()
    await receiver.wait_rows(3)
    receiver.face.clock_error = DAY
    await receiver.wait_rows(2)
    for error in (DAY, timedelta(0)):
        await receiver.cut_power(node)
        receiver.face.clock_error = error
        await receiver.start_again(node)
        await receiver.wait_rows(4)


async def wrap(path: EndToEnd) -> None:
    receiver = Receiver(path, "wrap")
    node = await receiver.start_node()
    await node.stop()
    await receiver.cut_power(node)
    node.ticks_wrap_in_s = WRAP_IN_S
    await receiver.start_again(node)
    await receiver.wait_rows(12)


async def ask_a_liar(path: EndToEnd) -> None:
    async with SntpServer() as server:
        server.clock_error = DAY
        await path.start_node("liar", [], time={"ntp_host": server.host, "ntp_port": server.port})
        await path.tap.wait_rows("liar", "node", 2)
        server.clock_error = timedelta(0)
        await path.tap.wait(lambda: path.tap["liar"].status.get("clock_quality") == TIME_NTP, "trust in the server")
        await path.wait_health("liar")


async def ask_a_mute(path: EndToEnd) -> None:
    async with SntpServer() as server:
        server.is_silent = True
        await path.start_node("mute", [], time={"ntp_host": server.host, "ntp_port": server.port})
        await server.wait_questions(1)
        await path.tap.wait_rows("mute", "node", 2)


async def run_faulty_clocks(folder: Path) -> None:
    """Run all nodes whose gateway is right."""
    async with EndToEnd(folder) as path:
        await path.start_gateway("duckdb")
        await asyncio.gather(jump(path), cut_while_lying(path), wrap(path), ask_a_liar(path), ask_a_mute(path))
        await path.stop()


# ---- what became of it


def positions(folder: Path, node: str) -> list[tuple[int, float, int]]:
    """Return of each stored row its true second, the error of its time in seconds, and its quality."""
    rows = open_database("duckdb", folder).rows("position", node)
    true_s = [START_S + round(row["altitude_m"]) for row in rows]
    found = [(at, row["time_utc_ms"] / 1000 - at, row["time_quality"]) for at, row in zip(true_s, rows, strict=True)]
    assert len(set(true_s)) == len(rows), "a second was stored twice"
    return sorted(found)


def assert_true(rows: list[tuple[int, float, int]]) -> None:
    assert rows
    assert [row for row in rows if abs(row[1]) > TOLERANCE_S] == []


# ---- a gateway that is wrong, nodes that never hear the time, and what is sent again


class WrongGateway:
    """Stands in the gateway's place: notes the time of each frame that comes, offers a time, acknowledges nothing."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.times: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # journal, seq -> UTC of the first row
        self.copies = 0
        self.journal = 0
        self.quality = TIME_NONE
        self._client = client
        self._news = asyncio.Condition()

    async def listen(self, node: str) -> None:
        await self._client.subscribe(topic.format_topic(FLEET, node, "+"), qos=1)
        async for incoming in self._client.messages:
            payload = incoming.payload
            assert isinstance(payload, bytes)
            channel = topic.parse_topic(str(incoming.topic)).channel
            if channel in topic.FRAMES:
                self._note(payload)
            elif channel == topic.STATUS and b'"journal"' in payload:
                birth = json.loads(payload)
                self.journal, self.quality = birth["journal"], birth["clock_quality"]
            async with self._news:
                self._news.notify_all()

    def _note(self, payload: bytes) -> None:
        _, anchors, offset = message.read_up_head(payload)
        begun = {anchor.boot: anchor.utc_ms for anchor in anchors}
        for data in message.split_frames(payload, offset):
            header = decode(bytes(data)).header
            anchor = header.anchor_utc_ms if header.time_quality else begun[header.boot]
            self.times[header.journal, header.seq].add(anchor + header.first_row_ms)
            self.copies += 1

    async def offer(self, node: str, error: timedelta) -> None:
        utc_ms = round((time.time() + error.total_seconds()) * 1000)
        ack = message.pack_ack(self.journal, utc_ms, [])
        await self._client.publish(topic.format_topic(FLEET, node, topic.ACK), ack, qos=1)

    async def wait_quality(self, quality: int) -> None:
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: self.quality == quality)

    async def wait_copies(self, count: int) -> None:
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: self.copies >= count)

    async def wait_repeated(self, count: int) -> None:
        """Wait until so many copies were of frames that had come before."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: self.copies - len(self.times) >= count)


@contextlib.asynccontextmanager
async def wrong_gateway(path: EndToEnd, node: str) -> AsyncIterator[WrongGateway]:
    async with aiomqtt.Client(path.broker.host, path.broker.port) as client:
        gateway = WrongGateway(client)
        task = asyncio.create_task(gateway.listen(node))
        yield gateway
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Story:
    """What became of a node that first heard no time, then a wrong one, then the true one."""

    copies_without_time = 0
    times: defaultdict[tuple[int, int], set[int]]
    copies = 0


async def mislead(folder: Path) -> Story:
    story = Story()
    async with EndToEnd(folder) as path:
        receiver = Receiver(path, "misled")
        async with wrong_gateway(path, "misled") as wrong:
            node = await receiver.start_node()  # boot 1: hears no time and loses its power
            await receiver.wait_bursts(4)
            await receiver.cut_power(node)
            await receiver.start_again(node)  # boot 2: is told a wrong time, which its receiver contradicts
            await receiver.wait_bursts(3)
            story.copies_without_time = wrong.copies
            await wrong.offer("misled", DAY)
            await wrong.wait_quality(TIME_ESTIMATED)
            await receiver.wait_bursts(4)
            await wrong.wait_copies(6)
            await receiver.cut_power(node)
            await receiver.start_again(node)  # boot 3: hears the truth, sends again what nobody acknowledged
            await receiver.wait_bursts(2)
            await wrong.offer("misled", timedelta(0))
            await wrong.wait_quality(TIME_GNSS)
            await wrong.wait_repeated(6)
            story.times, story.copies = wrong.times, wrong.copies
        await path.start_gateway("duckdb")
        await receiver.wait_rows(4)
        await path.stop()
    return story


class Played(NamedTuple):
    """What was played, and the folders of what became of it."""

    faulty: Path
    misled: Path
    story: Story


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    faulty, misled = tmp_path_factory.mktemp("clocks"), tmp_path_factory.mktemp("misled")

    async def run() -> Story:
        _, story = await asyncio.gather(run_faulty_clocks(faulty), mislead(misled))
        return story

    return Played(faulty, misled, asyncio.run(run()))


def test_rows_keep_their_true_time_while_the_receiver_jumps(played: Played) -> None:
    rows = positions(played.faulty, "jump")
    assert_true(rows)
    seconds = [second for second, _, _ in rows]
    assert seconds == list(range(seconds[0], seconds[-1] + 1)), "no epoch may be missing"
    qualities = {quality for _, _, quality in rows}
    assert {TIME_GNSS, TIME_ESTIMATED} <= qualities, "one source against another: the rows must say so"
    assert rows[-1][2] == TIME_GNSS


def test_node_that_begins_while_its_receiver_lies_takes_the_gateway_s_time(played: Played) -> None:
    assert_true(positions(played.faulty, "cut"))


def test_rows_keep_their_true_time_across_a_wrap_of_the_tick_counter(played: Played) -> None:
    rows = positions(played.faulty, "wrap")
    assert_true(rows)
    seconds = [second for second, _, _ in rows][-12:]
    assert seconds == list(range(seconds[0], seconds[0] + 12))


def test_server_that_lies_or_is_silent_does_not_become_a_rows_time(played: Played) -> None:
    database = open_database("duckdb", played.faulty)
    for node in ("liar", "mute"):
        rows = database.rows("node", node)
        assert len(rows) > 2
        assert all(START_S <= row["time_utc_ms"] / 1000 <= time.time() for row in rows)
    trusted = [row["time_quality"] for row in database.rows("node", "liar")]
    assert trusted[0] == TIME_GATEWAY
    assert trusted[-1] == TIME_NTP


def test_without_time_nothing_is_sent(played: Played) -> None:
    assert played.story.copies_without_time == 0


def test_what_is_sent_again_has_the_time_that_it_had(played: Played) -> None:
    story = played.story
    assert story.copies > len(story.times)
    assert [key for key, times in story.times.items() if len(times) != 1] == []


def test_rows_under_a_wrong_gateway_s_time_say_that_they_are_estimated(played: Played) -> None:
    rows = positions(played.misled, "misled")
    wrong = [row for row in rows if abs(row[1]) > TOLERANCE_S]
    assert wrong
    assert {quality for _, _, quality in wrong} == {TIME_ESTIMATED}
    right = [row for row in rows if row not in wrong]
    assert len(right) > 4
    assert right[-1][2] == TIME_GNSS
    assert right == rows[-len(right) :], "once two sources agree, every row is right"
