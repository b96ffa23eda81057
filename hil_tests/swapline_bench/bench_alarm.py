"""`swapline bench alarm`: how long it takes from a register's change to the alarm's message, and to its row.

Real nodes on simulated devices (JBD, Seplos, JK, vehicle controllers, slot chargers) whose registers change hundreds of
times at random moments; a hundred nodes that drain a backlog at the same time (`backlog_fleet.py`); one real mosquitto,
the real gateway, a real InfluxDB 1.x. Two figures of each change:

- `mqtt`: until a subscriber has the gateway's `alarm` message;
- `database`: until the row is in an answer of the database, which is asked again and again.

Everything runs on this machine, so what takes its processors is in the figures. `waited_share` says for which share of
the time gateway and nodes were ready to run and had no processor: where that is more than some hundredths, the figures
are about the machine.
"""

import asyncio
import itertools
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import click
import urllib3

from swapline_bench import bundle, cpu_wait, services
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.node_process import NodeProcess
from swapline_bench.rig import HolderRig, make_station_rig, make_van_rig
from swapline_bench.world import World
from swapline_wire import topic

FLEET = "bench"
VANS = 3
PROTECTIONS, SLOT_FAULTS, VEHICLE_FAULTS = 32, 64, 96  # codes of their bits 0
PROTECTION_BIT, FAULT_BIT = 0, 2  # cell over-voltage; the van's brake, the charger's relay
JK_PERIOD_MS = 250  # it has one answer for everything, so it is polled instead of looked at
PAUSE_S = (0.1, 1.2)  # between an alarm's row and the next change: anywhere between two looks
TOLD_S_MAX = 60.0
ASK_AGAIN_S = 0.01
ASK_TIMEOUT_S = 10.0
SETTLE_S = 3.0  # of draining, before the first change
READY_S_MAX = 60.0
FLEET_END_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured, beside what."""

    changes: int = 600
    nodes: int = 100
    frames: int = 10_000  # of each of these nodes


@dataclass(slots=True)
class Change:
    """One change of a register, and when what followed was seen (monotonic seconds)."""

    source: str
    changed_s: float
    message_s: float = math.nan
    row_s: float = math.nan


@dataclass(slots=True)
class Source:
    """A thing of one node whose register changes."""

    name: str  # the kind of device
    node: str
    bay: int
    code: int
    set: Callable[[bool], None]
    told: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    change: Change | None = None
    is_set: bool = False


class BenchError(click.ClickException):
    """The measurement says nothing; the message says why."""


def bit_of(thing: Any, name: str, bit: int) -> Callable[[bool], None]:
    """Return what sets or clears a bit of a device's word."""

    def change(is_set: bool) -> None:
        word = getattr(thing, name)
        setattr(thing, name, word | 1 << bit if is_set else word & ~(1 << bit))

    return change


def sources_of(rig: HolderRig) -> Iterator[Source]:
    """Yield everything of a holder whose register can be changed."""
    bits = (PROTECTIONS + PROTECTION_BIT, "protections", PROTECTION_BIT)
    if rig.van is not None:
        yield Source("vcu", rig.name, 0, VEHICLE_FAULTS + FAULT_BIT, bit_of(rig.van, "faults", FAULT_BIT))
        for bay, (name, module) in enumerate(zip(("jbd", "seplos_v3"), rig.van.bays, strict=True), 1):
            yield Source(name, rig.name, bay, bits[0], bit_of(module, *bits[1:]))
    if rig.station is not None:
        for bay, (name, slot) in enumerate(zip(("jk", "seplos_v3"), rig.station.slots, strict=True), 1):
            yield Source("slot_charger", rig.name, bay, SLOT_FAULTS + FAULT_BIT, bit_of(slot, "faults", FAULT_BIT))
            yield Source(name, rig.name, bay, bits[0], bit_of(slot.module, *bits[1:]))


class Rows:
    """Asks the database for rows of alarms, as long as somebody waits for one."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/query"
        self._pool = urllib3.PoolManager(timeout=ASK_TIMEOUT_S, retries=False)
        self._waiting: dict[tuple[str, int, int, int], Source] = {}
        self._some = asyncio.Event()

    def expect(self, source: Source, time_utc_ms: int) -> None:
        """Look for the row of an alarm that was told."""
        self._waiting[source.node, source.bay, source.code, time_utc_ms] = source
        self._some.set()

    async def run(self, on_row: Callable[[Source], None]) -> None:
        """Ask until cancelled."""
        while True:
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
            oldest_ms = min(key[3] for key in self._waiting)
            for key in await asyncio.to_thread(self._ask, oldest_ms):
                source = self._waiting.pop(key, None)
                if source is not None:
                    on_row(source)
            await asyncio.sleep(ASK_AGAIN_S)

    def _ask(self, since_utc_ms: int) -> list[tuple[str, int, int, int]]:
        statement = f'SELECT "level" FROM "alarm" WHERE time >= {since_utc_ms}ms GROUP BY "node", "bay", "code"'  # noqa: S608
        fields = {"db": "swapline", "epoch": "ms", "q": statement}
        answer = self._pool.request("GET", self._url, fields=fields).json()
        return [
            (series["tags"]["node"], int(series["tags"]["bay"] or 0), int(series["tags"]["code"]), time_ms)
            for series in answer["results"][0].get("series", [])
            for time_ms, _ in series["values"]
        ]


class AlarmBench:
    """Broker, database, gateway, nodes and the fleet with its backlog, in one folder."""

    def __init__(self, folder: Path, load: Load, say: Callable[[str], None]) -> None:
        self.load = load
        self.changes: list[Change] = []
        self.sources: dict[tuple[str, int, int], Source] = {}
        self._folder = folder
        self._say = say
        self._stack = AsyncExitStack()
        self._world = World(van_count=VANS, modules_per_van=(2,), slot_count=2, speed=1.0)
        self._rigs: list[HolderRig] = []
        self._pids: dict[str, int] = {}  # of the nodes
        self._fleet: asyncio.subprocess.Process

    async def __aenter__(self) -> "AlarmBench":
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._say("starting broker, database and gateway")
        self._broker = await self._stack.enter_async_context(services.mosquitto())
        self._database = await self._stack.enter_async_context(services.influxd())
        sink = {"type": "influxdb1", "url": self._database.url}
        self._gateway = GatewayProcess.unlimited(
            self._folder, broker_port=self._broker.port, settings={"sink": sink, "log": {"level": "info"}}
        )
        await self._stack.enter_async_context(self._gateway)
        self._client = await self._stack.enter_async_context(
            aiomqtt.Client(self._broker.host, self._broker.port, max_queued_incoming_messages=0)
        )
        self._rows = Rows(self._database.url)
        await self._start_nodes()
        self._pids = {rig.name: rig.node.pid for rig in self._rigs if rig.node is not None}

    async def _start_nodes(self) -> None:
        self._say(f"starting {VANS} vans and a station")
        firmware = await asyncio.to_thread(bundle.build, self._folder / "firmware")
        for van in self._world.vans:
            self._rigs.append(make_van_rig(van, self._folder / van.name, bms_driver=["jbd", "seplos_v3"]))
        station = self._world.stations[0]
        self._rigs.append(
            make_station_rig(station, self._folder / station.name, bms_driver=["jk", "seplos_v3"], has_meter=False)
        )
        for rig in self._rigs:
            self._stack.push_async_callback(rig.close)
            for source in sources_of(rig):
                self.sources[source.node, source.bay, source.code] = source
            config = rig.config(fleet=FLEET, host=self._broker.host, port=self._broker.port)
            for device in itertools.chain.from_iterable(bus["devices"] for bus in config["buses"]):
                if device["driver"] == "jk":
                    device["period_ms"] = JK_PERIOD_MS
            rig.node = NodeProcess(rig.name, rig.folder, bundle=firmware, config=config)
            rig.plug()
            await rig.node.start()
        await self._wait_ready()

    async def _wait_ready(self) -> None:
        """Wait until the gateway has a reading of every device: only then does it follow that changes are noticed."""
        wanted = set()
        for source in self.sources.values():
            stream = {"vcu": "vehicle", "slot_charger": "slot"}.get(source.name, "module")
            wanted.add(
                topic.format_topic(FLEET, source.node, f"{topic.STATE}/{stream}" + f"/{source.bay}" * (source.bay > 0))
            )
        states = topic.format_topic(FLEET, "+", f"{topic.STATE}/#")
        await self._client.subscribe(states, 1)
        try:
            async with asyncio.timeout(READY_S_MAX):
                async for received in self._client.messages:
                    wanted.discard(str(received.topic))
                    if not wanted:
                        break
        except TimeoutError as error:
            raise BenchError(f"No reading came of {', '.join(sorted(wanted))}.") from error
        await self._client.unsubscribe(states)
        await self._client.subscribe(topic.format_topic(FLEET, "+", topic.ALARM), 1)

    async def start_fleet(self) -> None:
        """Let the nodes with a backlog begin to drain."""
        self._say(f"{self.load.nodes} nodes begin to drain {self.load.nodes * self.load.frames:,} frames")
        arguments = ("--port", self._broker.port, "--nodes", self.load.nodes, "--frames", self.load.frames)
        self._fleet = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "swapline_bench.backlog_fleet", "--fleet", FLEET, *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._stack.callback(_kill, self._fleet)
        assert self._fleet.stdout is not None
        async with asyncio.timeout(READY_S_MAX):
            if not await self._fleet.stdout.readline():
                raise BenchError("The nodes with the backlog could not connect.")
        await asyncio.sleep(SETTLE_S)

    async def end_fleet(self) -> dict[str, Any]:
        """Let them stop; return what they did."""
        async with asyncio.timeout(FLEET_END_S_MAX):
            out, _ = await self._fleet.communicate(b"")  # without input it would not close
        if self._fleet.returncode:
            raise BenchError("The nodes with the backlog ended early: see above.")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    async def measure(self, on_progress: Callable[[int], None]) -> None:
        """Change registers until there are as many changes as asked for; all sources at once."""
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._listen()), group.create_task(self._rows.run(self._take_row))]
            players = [group.create_task(self._play(source, on_progress)) for source in self.sources.values()]
            await asyncio.wait(players, return_when=asyncio.ALL_COMPLETED)
            for helper in helpers:
                helper.cancel()

    async def _play(self, source: Source, on_progress: Callable[[int], None]) -> None:
        dice = random.Random(f"{source.node} {source.bay} {source.code}")  # noqa: S311
        while len(self.changes) < self.load.changes:
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            source.told.clear()
            source.stored.clear()
            source.is_set = not source.is_set
            source.change = Change(source.name, time.monotonic())
            self.changes.append(source.change)
            source.set(source.is_set)
            try:
                async with asyncio.timeout(TOLD_S_MAX):
                    await source.told.wait()
                    await source.stored.wait()
            except TimeoutError as error:
                what = "message" if not source.told.is_set() else "row"
                raise BenchError(f"{source.node}, {source.name}: no {what} in {TOLD_S_MAX:.0f} s.") from error
            on_progress(len(self.changes))

    def waited_s(self) -> dict[str, float]:
        """Return for how long gateway and nodes, on average, have waited for a processor."""
        nodes_s = cpu_wait.waited_s(self._pids.values()) / len(self._pids)
        return {"gateway": cpu_wait.main_thread_waited_s(self._gateway.pid), "nodes": nodes_s}

    async def _listen(self) -> None:
        async for received in self._client.messages:
            now_s = time.monotonic()
            told = json.loads(received.payload)
            source = self.sources.get((told["node"], told["bay"] or 0, told["keys"]["code"]))
            if source is None or source.change is None or bool(told["values"]["level"]) is not source.is_set:
                raise BenchError(f"An alarm that nobody caused: {received.topic} {told}.")
            if source.told.is_set():
                raise BenchError(f"The same alarm twice: {received.topic} {told}.")
            change = source.change
            change.message_s = now_s - change.changed_s
            source.told.set()
            self._rows.expect(source, told["time_utc_ms"])

    def _take_row(self, source: Source) -> None:
        change = source.change
        assert change is not None
        change.row_s = time.monotonic() - change.changed_s
        source.stored.set()


class Progress:
    """Says every tenth of the way."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total = total
        self._say = say
        self._next = 0.0

    def __call__(self, count: int) -> None:
        """Note that so many changes were made."""
        if count >= self._next:
            self._say(f"{count} of {self._total} changes")
            self._next = count + self._total / 10


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


def quantiles_ms(values_s: list[float]) -> dict[str, int]:
    """Return p50, p99 (nearest rank) and maximum in whole milliseconds."""
    ordered = sorted(values_s)
    ranks = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: round(1000 * ordered[max(0, math.ceil(len(ordered) * share) - 1)]) for name, share in ranks.items()}


def result_of(
    changes: list[Change], load: Load, fleet: dict[str, Any], waited_share: dict[str, float]
) -> dict[str, Any]:
    """Return everything that was measured."""
    by_source = {
        name: {
            "mqtt": quantiles_ms([change.message_s for change in changes if change.source == name]),
            "database": quantiles_ms([change.row_s for change in changes if change.source == name]),
            "alarms": sum(change.source == name for change in changes),
        }
        for name in sorted({change.source for change in changes})
    }
    return {
        "mqtt": quantiles_ms([change.message_s for change in changes]),
        "database": quantiles_ms([change.row_s for change in changes]),
        "alarms": len(changes),
        "waited_share": waited_share,
        "by_source": by_source,
        "nodes": load.nodes,
        "backlog": fleet,
    }


async def run(folder: Path, load: Load, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure in `folder`. Raises `BenchError` where what came out says nothing."""
    async with AlarmBench(folder, load, say) as path:
        if load.nodes:
            await path.start_fleet()
        before, begun_s = path.waited_s(), time.monotonic()
        await path.measure(Progress(load.changes, say))
        took_s = time.monotonic() - begun_s
        waited_share = {name: round((value - before[name]) / took_s, 3) for name, value in path.waited_s().items()}
        fleet = await path.end_fleet() if load.nodes else {}
    if load.nodes and not fleet["left"]:
        raise BenchError(f"The backlog was drained before the end ({fleet}): give the nodes more --frames.")
    return result_of(path.changes, load, fleet, waited_share)


@click.command()
@click.option("--changes", default=600, show_default=True, type=click.IntRange(1), help="Of registers, in all.")
@click.option("--nodes", default=100, show_default=True, type=click.IntRange(0, 1000), help="That drain a backlog.")
@click.option("--frames", default=10_000, show_default=True, type=click.IntRange(1), help="That wait in each of them.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def alarm(*, changes: int, nodes: int, frames: int, as_json: bool) -> None:
    """Measure how soon a register's change is an alarm at the broker, and a row in InfluxDB.

    Needs mosquitto and influxd. What is measured includes this machine's own load.
    """
    with tempfile.TemporaryDirectory(prefix="swapline-bench-") as folder:
        result = asyncio.run(run(Path(folder), Load(changes, nodes, frames), lambda text: click.echo(text, err=True)))
    if as_json:
        click.echo(json.dumps(result))
        return
    for where, of in (("until the message", "mqtt"), ("until the row", "database")):
        shown = "  ".join(f"{name.removesuffix('_ms')} {value:>5} ms" for name, value in result[of].items())
        click.echo(f"{where:<18} {shown}")
    for name, share in result["waited_share"].items():
        click.echo(f"{name} had no processor for {share:.0%} of the time")
    click.echo(f"{result['alarms']} alarms, beside {result['backlog'].get('frames_per_s', 0):,} frames/s of backlog")
