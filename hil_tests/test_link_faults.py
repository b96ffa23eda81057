"""Bad links between real nodes and a real broker: nodes live through all of them, and everything is stored once.

Three paths run beside each other. On the first, each node has a link of its own with a fault of its own, all at the
same time; on the second, the broker itself fails in three ways, one after the other, and all nodes of that path with
it; on the third it is the gateway's link that fails. Where this process is root, some links are of real packets, in
network namespaces, and a name server goes away.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swapline_bench import packet_link
from swapline_bench.blackhole_broker import BlackholeBroker
from swapline_bench.database import DuckDatabase
from swapline_bench.end_to_end import EndToEnd, open_database
from swapline_bench.journal_reader import read_journal
from swapline_bench.link_fault_path import LinkedNode
from swapline_bench.link_proxy import Impairment, LinkProxy
from swapline_bench.name_server import Mood, NameServer
from swapline_bench.node_process import HEAP_BYTES
from swapline_bench.packet_link import PacketLink
from swapline_bench.tap import Tap
from swapline_wire.decode import decode

FAULT_S = 25.0  # longer than any time limit of a node's connection but those of messages
KEEPALIVE_S = 4  # of the nodes whose fault it must find; others have the default, as links of 2 s delay need
WATCHDOG_S = 8.0
EPOCHS_TO_BELIEVE = 8
LATE_MS_MAX = 1500

BAD_LINKS = {
    "lossy": Impairment(loss=0.3),
    "far": Impairment(delay_s=2.0),
    "slow": Impairment(rate_bit_s=20_000),
    "dreadful": Impairment(delay_s=2.0, jitter_s=0.5, loss=0.3, rate_bit_s=20_000),
}
DEAD_LINKS = {
    "half-open": Impairment(is_silent=True),
    "mute": Impairment(is_silent_up=True),
    "refused": Impairment(is_refusing=True),
}
DEAF_LINKS = {"deaf": Impairment(is_silent_down=True)}
BAD_PACKETS = {
    "packets-lossy": Impairment(loss=0.3, delay_s=0.05),
    "packets-slow": Impairment(delay_s=2.0, rate_bit_s=20_000),
}
DEAD_PACKETS = {"packets-gone": Impairment(is_silent=True)}
NAMES_GONE, BOOTED_WITHOUT_NAMES, BOOTED_FAR = "names-gone", "booted-without-names", "booted-far"
BOOTED = (BOOTED_WITHOUT_NAMES, BOOTED_FAR)  # these are switched on when the fault begins
BROKER_FAULTS = ("broker-1", "broker-2", "broker-3")
GATEWAY_FAULTS = ("gateway-1", "gateway-2")
IS_ROOT = packet_link.is_available()
STILL_USABLE = [*BAD_LINKS, *(BAD_PACKETS if IS_ROOT else ())]
UNUSABLE = [*DEAD_LINKS, *(DEAD_PACKETS if IS_ROOT else ())]
NAMED = [NAMES_GONE, BOOTED_WITHOUT_NAMES] if IS_ROOT else []
ALL = [*STILL_USABLE, *UNUSABLE, *DEAF_LINKS, BOOTED_FAR, *NAMED, *BROKER_FAULTS, *GATEWAY_FAULTS]


@dataclass
class Outcome:
    """What became of the nodes of one path."""

    folder: Path
    nodes: dict[str, LinkedNode]
    fault_ms: tuple[int, int] = (0, 0)  # from, to; UTC
    health: dict[str, dict[str, int]] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)  # that were made until the fault ended
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def database(self) -> DuckDatabase:
        found = open_database("duckdb", self.folder)
        assert isinstance(found, DuckDatabase)
        return found


def now_ms() -> int:
    return int(time.time() * 1000)


class Stage:
    """Builds nodes with links on a path."""

    def __init__(self, path: EndToEnd) -> None:
        self.path = path
        self.nodes: dict[str, LinkedNode] = {}
        self.packets: dict[str, PacketLink] = {}

    async def add(self, name: str, *, keepalive_s: int = 30) -> None:
        link = await self.path.stack.enter_async_context(LinkProxy(self.path.broker.host, self.path.broker.port))
        self.nodes[name] = await LinkedNode(self.path, name, link).add(keepalive_s=keepalive_s)

    async def add_packets(self, name: str, packets: PacketLink, *, host: str = "", keepalive_s: int = 30) -> None:
        door = LinkProxy(self.path.broker.host, self.path.broker.port, host=packets.host)
        await self.path.stack.enter_async_context(door)
        self.packets[name] = packets
        self.nodes[name] = await LinkedNode(self.path, name, door).add(
            prefix=packets.prefix, host=host or packets.host, keepalive_s=keepalive_s
        )

    async def end(self) -> dict[str, dict[str, int]]:
        """Let every receiver fall silent, wait until nothing waits, stop all, and return the nodes' last words."""
        await asyncio.gather(*(node.receiver.finish() for node in self.nodes.values()))
        await asyncio.gather(*(node.wait_content() for node in self.nodes.values()))
        health = {name: self.path.tap[name].last("node") for name in self.nodes}
        await self.path.stop()
        return health


async def run_link_faults(folder: Path) -> Outcome:
    async with EndToEnd(folder) as path:
        stage = Stage(path)
        await path.start_gateway("duckdb")
        for name in BAD_LINKS:
            await stage.add(name)
        for name in [*DEAD_LINKS, *DEAF_LINKS]:
            await stage.add(name, keepalive_s=KEEPALIVE_S)
        await stage.add(BOOTED_FAR)
        names = await add_packet_nodes(stage) if IS_ROOT else None
        outcome = Outcome(folder, stage.nodes)
        await asyncio.gather(*(node.start() for name, node in stage.nodes.items() if name not in BOOTED))
        start_ms = now_ms()
        await spoil_links(stage, names)
        await asyncio.sleep(FAULT_S)
        outcome.fault_ms = (start_ms, now_ms())
        for name, node in stage.nodes.items():
            outcome.connections[name] = node.link.figures.connections
            node.link.heal()
        for packets in stage.packets.values():
            packets.heal()
        if names is not None:
            names.mood = Mood.ANSWERING
        await asyncio.gather(*(path.tap.wait_online(name, 60) for name in stage.nodes))
        outcome.health = await stage.end()
        return outcome


async def add_packet_nodes(stage: Stage) -> NameServer:
    """Add the nodes behind real packets, and those that need a name server."""
    stack = stage.path.stack
    for number, name in enumerate([*BAD_PACKETS, *DEAD_PACKETS]):
        packets = await stack.enter_async_context(PacketLink(seed=number))
        await stage.add_packets(name, packets, keepalive_s=KEEPALIVE_S if name in DEAD_PACKETS else 30)
    packets = await stack.enter_async_context(PacketLink())
    packets.resolv_conf(f"nameserver {packets.host}\n")
    names = await stack.enter_async_context(NameServer(packets.host, {"broker.example": packets.host}))
    for name in NAMED:
        await stage.add_packets(name, packets, host="broker.example")
    return names


async def spoil_links(stage: Stage, names: NameServer | None) -> None:
    for name, impairment in {**BAD_LINKS, **DEAD_LINKS, **DEAF_LINKS}.items():
        stage.nodes[name].link.impair(impairment)
    stage.nodes[BOOTED_FAR].link.impair(BAD_LINKS["far"])
    await stage.nodes[BOOTED_FAR].switch_on()
    if names is not None:
        for name, impairment in {**BAD_PACKETS, **DEAD_PACKETS}.items():
            stage.packets[name].impair(impairment)
        names.mood = Mood.SILENT
        stage.nodes[NAMES_GONE].link.cut()  # it knew the name, and has to connect again
        await stage.nodes[BOOTED_WITHOUT_NAMES].switch_on()


async def run_broker_faults(folder: Path) -> Outcome:
    async with EndToEnd(folder) as path:
        stage = Stage(path)
        await path.start_gateway("duckdb")
        for name in BROKER_FAULTS:
            await stage.add(name, keepalive_s=KEEPALIVE_S)
        await asyncio.gather(*(node.start() for node in stage.nodes.values()))
        outcome = Outcome(folder, stage.nodes)
        await forget_everything(path)
        await asyncio.gather(*(path.tap.wait_rows(name, "position", 3) for name in stage.nodes))
        start_ms = now_ms()
        async with BlackholeBroker() as hole, led_to(hole, path, stage):
            await asyncio.sleep(FAULT_S)
            outcome.facts["publishes swallowed"] = hole.publishes
        async with BlackholeBroker(is_mute=True) as mute, led_to(mute, path, stage):
            await asyncio.sleep(FAULT_S / 2)
            outcome.facts["bytes swallowed"] = mute.bytes_swallowed
        outcome.fault_ms = (start_ms, now_ms())
        outcome.health = await stage.end()
        return outcome


async def run_gateway_faults(folder: Path) -> Outcome:
    async with EndToEnd(folder) as path:
        stage = Stage(path)
        link = await path.stack.enter_async_context(LinkProxy(path.broker.host, path.broker.port))
        await path.start_gateway("duckdb", host=link.host, port=link.port, keepalive_s=5, backoff_s_max=2.0)
        for name in GATEWAY_FAULTS:
            await stage.add(name)
        await asyncio.gather(*(node.start() for node in stage.nodes.values()))
        outcome = Outcome(folder, stage.nodes)
        start_ms = now_ms()
        for impairment in (Impairment(is_silent=True), Impairment(is_silent_down=True)):
            link.impair(impairment)
            await asyncio.sleep(FAULT_S / 2)
            outcome.facts["connections"] = link.figures.connections
        outcome.fault_ms = (start_ms, now_ms())
        link.impair(BAD_LINKS["dreadful"])
        await asyncio.sleep(FAULT_S / 2)
        link.heal()
        outcome.health = await stage.end()
        return outcome


async def forget_everything(path: EndToEnd) -> None:
    """Kill the broker and start it anew: it keeps no file, so retained messages, sessions and queues are gone."""
    await asyncio.to_thread(path.broker.kill)
    await asyncio.to_thread(path.broker.start)
    path.tap = Tap(path.broker.host, path.broker.port)
    path.run(path.tap.run(), "tap of the second broker")
    await asyncio.gather(*(path.tap.wait_online(name) for name in path.nodes))


@asynccontextmanager
async def led_to(broker: BlackholeBroker, path: EndToEnd, stage: Stage) -> AsyncIterator[None]:
    """Lead all nodes to another broker, and back."""
    for node in stage.nodes.values():
        node.link.retarget(broker.host, broker.port)
        node.link.cut()
    yield
    for node in stage.nodes.values():
        node.link.retarget(path.broker.host, path.broker.port)


@pytest.fixture(scope="module")
def outcomes(mosquitto: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    del mosquitto  # only: it is installed
    folders = [tmp_path_factory.mktemp(name) for name in ("links", "broker", "gateway")]

    async def run_all() -> tuple[Outcome, ...]:
        return await asyncio.gather(
            run_link_faults(folders[0]), run_broker_faults(folders[1]), run_gateway_faults(folders[2])
        )

    return {name: outcome for outcome in asyncio.run(run_all()) for name in outcome.nodes}


@pytest.mark.parametrize("name", ALL)
def test_every_second_that_the_receiver_said_is_stored_once(outcomes: dict[str, Outcome], name: str) -> None:
    """Also those of the fault: sampling went on, and what was sealed came through later."""
    outcome = outcomes[name]
    node = outcome.nodes[name]
    stored = outcome.database.query(
        "SELECT epoch_ms(time) AS time_ms, speed_kmh FROM position WHERE node = ? ORDER BY seq, time", name
    )
    if stored[0]["speed_kmh"] is None:
        del stored[0]  # the node was switched on in the middle of an epoch
    said = node.receiver.said[-len(stored) :]
    assert [row["speed_kmh"] for row in stored] == [epoch.speed_kmh for epoch in said]
    assert node.line.bytes_discarded == 0
    times_ms = [row["time_ms"] for row in stored]
    for time_ms, epoch in zip(times_ms, said, strict=True):
        assert epoch.utc_ms - LATE_MS_MAX <= time_ms <= epoch.ended_utc_ms + LATE_MS_MAX
    # Rows stand at the node's own time until it has reason to believe the receiver; alone, that takes long.
    if name not in BOOTED:
        assert said[0].utc_ms < outcome.fault_ms[0]
        assert times_ms[EPOCHS_TO_BELIEVE:] == [epoch.utc_ms for epoch in said[EPOCHS_TO_BELIEVE:]]


@pytest.mark.parametrize("name", ALL)
def test_every_sealed_frame_is_stored_once_or_was_sealed_when_it_stopped(
    outcomes: dict[str, Outcome], name: str
) -> None:
    outcome = outcomes[name]
    journal = read_journal(outcome.folder / name / "journal")
    found = outcome.database.query("SELECT seq FROM frames WHERE node = ?", name)
    stored = [row["seq"] for row in found]
    assert len(stored) == len(set(stored))
    unstored = set(range(1, journal.frames_sealed + 1)) - set(stored)
    assert unstored <= journal.frames.keys()
    assert not [seq for seq in unstored if decode(journal.frames[seq]).stream.name == "position"]


@pytest.mark.parametrize("name", ALL)
def test_node_lives_through_it(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    node, health = outcome.nodes[name], outcome.health[name]
    assert node.process.starts == 1
    assert health["task_restarts"] == 0
    assert health["frames_dropped"] == 0
    assert health["heap_peak_bytes"] < HEAP_BYTES
    boots = outcome.database.query("SELECT count(DISTINCT boot) AS count FROM frames WHERE node = ?", name)
    assert boots[0]["count"] == 1


@pytest.mark.parametrize("name", ALL)
def test_watchdog_is_fed_all_the_time(outcomes: dict[str, Outcome], name: str) -> None:
    supervisor = outcomes[name].nodes[name].supervisor
    assert supervisor.signs > FAULT_S / WATCHDOG_S
    assert supervisor.gap_s_max < WATCHDOG_S


def rows_of_the_fault(outcome: Outcome, name: str) -> tuple[int, int]:
    """Return how many position rows are of the time of the fault, and how many of them were stored within it."""
    statement = """
        SELECT count(*) AS all, count(*) FILTER (epoch_ms(f.stored_time) <= ?) AS early FROM position AS p
        JOIN frames AS f USING (fleet, node, journal, seq) WHERE node = ? AND epoch_ms(p.time) BETWEEN ? AND ?"""
    start_ms, end_ms = outcome.fault_ms
    row = outcome.database.query(statement, end_ms, name, start_ms, end_ms)[0]
    return row["all"], row["early"]


@pytest.mark.parametrize("name", STILL_USABLE)
def test_rows_come_through_a_bad_link_while_it_is_bad(outcomes: dict[str, Outcome], name: str) -> None:
    count, early = rows_of_the_fault(outcomes[name], name)
    assert count > FAULT_S / 2
    assert early > 0


@pytest.mark.parametrize("name", UNUSABLE)
def test_nothing_comes_through_a_dead_link_and_its_node_notices(outcomes: dict[str, Outcome], name: str) -> None:
    count, early = rows_of_the_fault(outcomes[name], name)
    assert count > FAULT_S / 2
    assert early <= 2  # what was already on its way
    assert outcomes[name].health[name]["link_failures"] >= 1
    assert outcomes[name].health[name]["link_connects"] >= 2


def test_node_finds_out_that_its_connection_is_half_open_while_it_still_is(outcomes: dict[str, Outcome]) -> None:
    """Nothing tells it but the silence: after one and a half times its keep-alive it tries a new connection."""
    assert outcomes["half-open"].connections["half-open"] >= 2


@pytest.mark.skipif(not IS_ROOT, reason="a name server that goes away needs a network namespace")
def test_node_that_knew_its_broker_finds_it_while_the_name_server_is_silent(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[NAMES_GONE]
    _, early = rows_of_the_fault(outcome, NAMES_GONE)
    assert early > 2
    assert outcome.health[NAMES_GONE]["link_connects"] == 2


@pytest.mark.skipif(not IS_ROOT, reason="a name server that goes away needs a network namespace")
def test_node_that_boots_without_name_server_samples_and_connects_when_it_is_back(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[BOOTED_WITHOUT_NAMES]
    count, early = rows_of_the_fault(outcome, BOOTED_WITHOUT_NAMES)
    assert count > FAULT_S / 2
    assert early == 0


@pytest.mark.parametrize("name", BROKER_FAULTS)
def test_broker_that_delivers_nothing_is_not_believed(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    count, early = rows_of_the_fault(outcome, name)
    assert outcome.facts["publishes swallowed"] > 0
    assert outcome.facts["bytes swallowed"] > 0
    assert count > FAULT_S / 2
    assert early <= 2


def test_node_that_boots_far_from_its_broker_connects(outcomes: dict[str, Outcome]) -> None:
    """TCP and MQTT shake hands in two round trips of four seconds."""
    outcome = outcomes[BOOTED_FAR]
    assert rows_of_the_fault(outcome, BOOTED_FAR)[1] > 0
    assert outcome.health[BOOTED_FAR]["link_connects"] == 1


def test_frames_whose_acknowledgement_never_came_are_sent_again_and_stored_once(outcomes: dict[str, Outcome]) -> None:
    """The deaf node's frames arrive; only it does not hear so. That they are stored once is tested with all others."""
    assert rows_of_the_fault(outcomes["deaf"], "deaf")[1] > 0
    assert outcomes["deaf"].health["deaf"]["frames_sent_again"] > 0


@pytest.mark.parametrize("name", GATEWAY_FAULTS)
def test_nodes_hold_what_a_gateway_with_a_dead_link_does_not_take(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    count, early = rows_of_the_fault(outcome, name)
    assert count > FAULT_S / 2
    assert early < count / 2
    assert outcome.facts["connections"] >= 2  # the gateway has noticed
