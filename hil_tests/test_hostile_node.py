"""One node of the fleet is broken or hostile. The others are served, their data stays theirs, and the disk stays free.

A real broker and a real gateway process. The hostile node sends as fast as a broker with a limit of messages lets it
(EMQX: `messages_rate`, VerneMQ: `max_message_rate`). Mosquitto has none, so the node keeps to it here: a flood of more
than a gateway can read waits in the broker, in front of what others send, and no gateway can do anything about that.
"""

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.database import DuckDatabase
from swapline_bench.frame_source import AckListener, FrameSource
from swapline_bench.gateway_process import GatewayProcess
from swapline_wire.catalogue import CELLS, EVENT_STREAM, not_available
from swapline_wire.message import MESSAGE_BYTES_MAX, Anchor

GOOD_FRAMES = 60
ACKNOWLEDGED_S_MAX = 10.0  # a node resends after 20: a neighbour's flood must not even cost it a repeat
FLOOD_PER_S = 500  # messages; a van sends three
FLOOD_MIN = 200  # messages that the hostile node got rid of before, and again until the end; else it was no flood
QUOTA = {
    "frames_per_s": 200.0,
    "bytes_per_s": 200_000.0,
    "burst_s": 5,
    "bytes_per_day": 20_000_000,
    "quarantine_bytes": 1_000_000,
}
Attack = Iterator[tuple[str, bytes, bool]]  # topic, payload, retain


@pytest.fixture
def broker(require: Callable[[str], Path]) -> Iterator[services.Server]:
    require("mosquitto")
    with services.mosquitto() as server:
        yield server


@pytest.fixture
def gateway(broker: services.Server, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings={"quota": QUOTA}) as process:
        yield process


@contextlib.asynccontextmanager
async def connected(broker: services.Server, name: str) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client(broker.host, broker.port, identifier=name, username=name) as client:
        client.pending_calls_threshold = 1_000_000  # aiomqtt warns of many publishes under way; that is the point here
        yield client


# ---- attacks: endless, each message another one


def garbage(source: FrameSource) -> Attack:
    for number in itertools.count():
        yield source.topic("up"), os.urandom(number % 700), False


def valid_frames_without_end(source: FrameSource) -> Attack:
    while True:
        yield source.topic("up"), source.message(*(source.frame() for _ in range(20))), False


def far_too_long_messages(source: FrameSource) -> Attack:
    for number in itertools.count():
        yield source.topic("up"), source.message(source.frame()) + number.to_bytes(4, "big") * 20_000, False


def new_journals_with_gaps(source: FrameSource) -> Attack:
    """Every journal and every gap in the numbers is another range that a gateway remembers."""
    for number in itertools.count():
        source.journal = number // 50 + 1
        frames = [source.frame(seq=1 + 2 * place) for place in range(number % 50, number % 50 + 10)]
        yield source.topic("up"), source.message(*frames), False


def frames_of_impossible_times(source: FrameSource) -> Attack:
    for number in itertools.count():
        undated = source.frame(quality=0, seq=number + 1)
        yield source.topic("up"), source.message(undated), False
        yield source.topic("up"), source.message(undated, anchors=[Anchor(source.boot, 4_000_000_000_000, 4)]), False


def cut_and_spoiled_frames(source: FrameSource) -> Attack:
    """Each other bytes with a good checksum of the message's head: all of them are for quarantine."""
    for number in itertools.count():
        frame = bytearray(source.frame([(1, not_available(CELLS.signals))], stream=CELLS))
        frame[20 + number % 20] ^= 0x55
        yield source.topic("up"), source.message(bytes(frame), bytes(frame)), False


def births_and_states(source: FrameSource) -> Attack:
    for number in itertools.count():
        yield source.topic("status"), json.dumps({"online": True, "journal": number, "clock_quality": 0}).encode(), True
        yield source.topic("status"), b"[" * (number % 4000), True
        yield source.topic(f"state/{number}"), os.urandom(50), True


ATTACKS = (
    garbage,
    valid_frames_without_end,
    far_too_long_messages,
    new_journals_with_gaps,
    frames_of_impossible_times,
    cut_and_spoiled_frames,
    births_and_states,
)


async def flood(broker: services.Server, attack: Attack, counts: list[int]) -> None:
    """Send for ever at the broker's limit, with a window as a node has."""
    window = asyncio.Semaphore(64)
    started_s = asyncio.get_running_loop().time()

    async def send(client: aiomqtt.Client, name: str, payload: bytes, retain: bool) -> None:
        try:
            await client.publish(name, payload, qos=1, retain=retain)
            counts[0] += 1
        finally:
            window.release()

    async with connected(broker, "hostile") as client, asyncio.TaskGroup() as group:
        for number, (name, payload, retain) in enumerate(attack):
            await asyncio.sleep(started_s + number / FLOOD_PER_S - asyncio.get_running_loop().time())
            await window.acquire()
            group.create_task(send(client, name, payload, retain))


async def serve_a_good_node(broker: services.Server, source: FrameSource) -> None:
    """Send frames one by one, and wait for the acknowledgement of each."""
    async with connected(broker, "good") as client:
        listener = await AckListener(client, source).begin()
        for _ in range(GOOD_FRAMES):
            frame = source.frame()
            await source.publish(client, frame)
            async with asyncio.timeout(ACKNOWLEDGED_S_MAX):
                await listener.wait_for({source.seq})


async def wait_for_count(counts: list[int], wanted: int, flooding: asyncio.Task[None]) -> None:
    while counts[0] < wanted and not flooding.done():  # noqa: ASYNC110 (an event a message would slow the flood)
        await asyncio.sleep(0.01)


async def run_attack(broker: services.Server, attack: Attack, good: FrameSource) -> int:
    counts = [0]
    flooding = asyncio.create_task(flood(broker, attack, counts))
    try:
        await wait_for_count(counts, FLOOD_MIN, flooding)
        await serve_a_good_node(broker, good)
        await wait_for_count(counts, 2 * FLOOD_MIN, flooding)
    finally:
        flooding.cancel()
        outcome = await asyncio.gather(flooding, return_exceptions=True)
    assert isinstance(outcome[0], asyncio.CancelledError), outcome
    return counts[0]


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_hostile_node_costs_the_others_nothing(
    attack: Callable[[FrameSource], Attack], broker: services.Server, gateway: GatewayProcess, tmp_path: Path
) -> None:
    good, hostile = FrameSource(node="good"), FrameSource(node="hostile")
    pid = gateway.pid
    sent = asyncio.run(run_attack(broker, attack(hostile), good))
    assert sent >= 2 * FLOOD_MIN
    gateway.wait_for_figures(lambda found: found["spool"]["frames"] == 0)
    assert gateway.pid == pid
    assert gateway.stop() == 0
    rows = DuckDatabase(tmp_path / "swapline.duckdb").query(
        "SELECT node, count(*) AS frames, count(DISTINCT (journal, seq)) AS numbers FROM frames GROUP BY node"
    )
    by_node = {row["node"]: row for row in rows}
    assert by_node["good"]["frames"] == by_node["good"]["numbers"] == GOOD_FRAMES
    assert set(by_node) <= {"good", "hostile"}
    assert folder_bytes(tmp_path) < 60_000_000, "the day's 20 MB, in quarantine 1 MB, and the files' own overhead"


def test_what_a_quota_refuses_is_counted_and_shown(broker: services.Server, gateway: GatewayProcess) -> None:
    asyncio.run(run_attack(broker, valid_frames_without_end(FrameSource(node="hostile")), FrameSource(node="good")))
    figures = gateway.wait_for_figures(lambda found: found["refused"].get("over_rate", 0) > 0)
    nodes = {node["node"]: node for node in figures["nodes"]}
    assert nodes["hostile"]["refused"] > 0
    assert nodes["good"]["refused"] == 0


def documented_access_list() -> str:
    """Return the list that docs/broker.md tells people to use."""
    text = (Path(__file__).parents[1] / "docs" / "broker.md").read_text()
    return text.split("```acl\n")[1].split("```")[0]


def test_brokers_access_list_keeps_a_node_out_of_another_nodes_data(
    require: Callable[[str], Path], tmp_path: Path
) -> None:
    require("mosquitto")
    access = tmp_path / "access"
    access.write_text(documented_access_list())
    access.chmod(0o600)
    with services.mosquitto(settings=[f"acl_file {access}"]) as broker:
        settings: dict[str, Any] = {"mqtt": {"host": broker.host, "port": broker.port, "username": "gateway"}}
        with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as gateway:
            asyncio.run(pretend_to_be_another(broker))
            gateway.wait_for_figures(lambda found: found["spool"]["frames"] == 0 and found["frames_stored"] >= 2)
            assert gateway.stop() == 0
    rows = DuckDatabase(tmp_path / "swapline.duckdb").query("SELECT node, seq FROM frames ORDER BY seq")
    assert rows == [{"node": "hostile", "seq": 1000}, {"node": "good", "seq": 1001}]


async def attempt(broker: services.Server, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
    """Publish what the access list forbids; a broker may end the connection for it, so each attempt has its own."""
    with contextlib.suppress(aiomqtt.MqttError):
        async with connected(broker, "hostile") as client:
            await client.publish(topic, payload, 1, retain=retain)


async def pretend_to_be_another(broker: services.Server) -> None:
    """Write as another node, acknowledge in the gateway's place; then each writes as itself."""
    victim = FrameSource(fleet="demo", node="good")
    event = victim.frame([(1, not_available(EVENT_STREAM.signals))], stream=EVENT_STREAM, bay=0, owner="")
    await attempt(broker, victim.topic("up"), victim.message(victim.frame()))
    await attempt(broker, victim.topic("up"), victim.message(event))
    await attempt(broker, victim.topic("status"), victim.birth(journal=99), retain=True)
    await attempt(broker, victim.topic("state/module/1"), b"{}", retain=True)
    async with connected(broker, "hostile") as client:
        own = FrameSource(fleet="demo", node="hostile", seq=999)
        await own.publish(client, own.frame())
    async with connected(broker, "good") as client:
        listener = await AckListener(client, victim).begin()
        await attempt(broker, victim.topic("ack"), b"not from the gateway")
        await victim.publish(client, victim.frame(seq=1001))
        async with asyncio.timeout(ACKNOWLEDGED_S_MAX):
            ack = await listener.next()
        assert ack.ranges == [(1001, 1001)], "the thief's came before, and would not have been readable"


def test_longest_message_of_the_attacks_is_longer_than_any_may_be() -> None:
    assert len(next(far_too_long_messages(FrameSource()))[1]) > MESSAGE_BYTES_MAX
