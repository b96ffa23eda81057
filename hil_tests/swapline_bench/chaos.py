"""The chaos runner: the whole stack as real processes, a seeded schedule of kills and faults, and a verdict.

Order: everything starts; the schedule is played while the world goes on; faults end and all parts come up; a calm time;
the devices fall silent; the nodes empty their journals; nodes, gateways, database and broker end in order; the oracle.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swapline_bench import bundle, chaos_schedule, rig, services
from swapline_bench.chaos_deeds import Deeds
from swapline_bench.chaos_parts import (
    GatewayPart,
    NodePart,
    ServerPart,
    doubt_unheard,
    make_broker,
    make_database,
    utc_ms,
)
from swapline_bench.chaos_report import EXAMPLES_SHOWN_MAX, ChaosReport
from swapline_bench.chaos_schedule import (
    CLOCK_FAULTS,
    Setting,
)
from swapline_bench.chaos_settle import Settling, Witness
from swapline_bench.chaos_silence import Stay, find_silences, module_stays
from swapline_bench.link_proxy import LinkProxy
from swapline_bench.node_process import HEAP_BYTES, NodeError, NodeProcess, log_writer
from swapline_bench.oracle import ClockFault, Truth
from swapline_bench.oracle_match import Place
from swapline_bench.randomness import make_random
from swapline_bench.sntp_server import SntpServer
from swapline_bench.statement import StatementLog, read_statements
from swapline_bench.world import World
from swapline_gateway.error import UnavailableError
from swapline_wire import catalogue

FLEET = "chaos"
SPEED = 60.0
SLOT_COUNT = 4
SEAL_INTERVAL_MS = 5000  # the firmware's default
JOURNAL_LIMIT_BYTES = 1_500_000
HEAP_BYTES_DEFAULT = HEAP_BYTES  # four slots with every row kept fit (docs/node.md, Memory)
STEP_S = 0.1
STATUS_S = 5.0
ENDS_SHOWN_MAX = 2  # of a node
CALM_S = 15.0  # after the last fault: rows by which its recovery is measured
SILENT_S = SEAL_INTERVAL_MS / 1000 + 3.0  # after the devices' last word every node has sealed it
TICKS_WRAP_S = (20.0, 90.0)  # so long after a boot the tick counter of every second node wraps


@dataclass(frozen=True, slots=True)
class ChaosConfig:
    """What was asked for. `database` is influxdb1 or duckdb."""

    setting: Setting
    database: str
    data_dir: Path
    heap_bytes: int = HEAP_BYTES_DEFAULT  # of each node


@dataclass(slots=True)
class Status:
    """What a person sees while it runs."""

    elapsed_s: float
    kills: int
    faults: int
    nodes_up: int
    nodes: int
    frames_waiting: int
    swaps: int


class Chaos:
    """One run. `run` returns the report; Ctrl-C or SIGTERM end the schedule early, in order."""

    def __init__(
        self,
        config: ChaosConfig,
        *,
        on_step: Callable[[str], None] = lambda _: None,
        on_status: Callable[[Status], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.setting = config.setting
        self.stopping = asyncio.Event()
        self.hurrying = asyncio.Event()
        self.nodes: dict[str, NodePart] = {}
        self.gateways: dict[str, GatewayPart] = {}
        self.report = ChaosReport(seed=config.setting.seed, data_dir=str(config.data_dir))
        self._on_step = on_step
        self._on_status = on_status
        self._database: ServerPart | None = None
        self._is_over = False  # the schedule
        self._is_settling = False

    async def run(self) -> ChaosReport:
        """Play the schedule and judge what was stored. Raises `UnavailableError` when something cannot be started."""
        async with AsyncExitStack() as stack:
            self._watch_signals(stack)
            try:
                await self._start(stack)
            except (services.ServiceError, NodeError, bundle.BundleError) as error:
                raise UnavailableError(str(error)) from error
            await self._play()
            await self._settle()
            await self._stop()
            await self._judge()
        return self.report

    def _watch_signals(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
            stack.callback(loop.remove_signal_handler, number)

    def _interrupt(self) -> None:
        """End what goes on: the schedule, or the settling after it."""
        if self.stopping.is_set() or self._is_over:
            self.hurrying.set()
        self.report.was_interrupted = True
        self.stopping.set()

    # ---- starting

    async def _start(self, stack: AsyncExitStack) -> None:
        folder, setting = self.config.data_dir, self.setting
        self._on_step("starting: broker, database, gateways")
        self._broker = make_broker(folder / "broker")
        stack.push_async_callback(self._broker.close)
        await self._broker.revive()
        url = ""
        if self.config.database == "influxdb1":
            self._database = make_database(folder / "database")
            stack.push_async_callback(self._database.close)
            await self._database.revive()
            url = self._database.server.url
        self.witness = Witness(folder, url)
        for name in setting.gateway_names:
            gateway = GatewayPart(name, folder / name, self._gateway_tables(name, url))
            self.gateways[name] = gateway
            stack.push_async_callback(gateway.kill)
        await asyncio.gather(*(gateway.revive() for gateway in self.gateways.values()))
        self._sntp = await stack.enter_async_context(SntpServer())
        firmware = await asyncio.to_thread(bundle.build, folder / "firmware")
        self._make_world()
        self._statements = stack.enter_context(StatementLog(folder / "statements.jsonl"))
        await self._make_nodes(stack, firmware)
        self._on_step(f"starting: {len(self.nodes)} nodes")
        await asyncio.gather(*(node.revive() for node in self.nodes.values()))

    def _gateway_tables(self, name: str, database_url: str) -> dict[str, dict[str, Any]]:
        mqtt: dict[str, Any] = {"host": self._broker.server.host, "port": self._broker.server.port, "fleet": FLEET}
        mqtt |= {"share_group": FLEET} if self.setting.gateways > 1 else {"client_id": name}
        sink = {"type": "influxdb1", "url": database_url} if database_url else {"type": "duckdb"}
        return {"mqtt": mqtt, "sink": sink, "http": {"port": 0, "console": False}, "log": {"format": "json"}}

    def _make_world(self) -> None:
        self._world = World(
            van_count=self.setting.vans,
            station_count=self.setting.stations,
            slot_count=SLOT_COUNT,
            speed=SPEED,
            seed=self.setting.seed,
            real_time_s=time.monotonic,
        )

    async def _make_nodes(self, stack: AsyncExitStack, firmware: Path) -> None:
        folder = self.config.data_dir / "nodes"
        rigs = []
        for index, van in enumerate(self._world.vans):
            driver = "jbd" if index % 3 == 2 else "seplos_v3"
            rigs.append(rig.make_van_rig(van, folder / van.name, bms_driver=driver, statements=self._statements))
        rigs += [
            rig.make_station_rig(station, folder / station.name, statements=self._statements)
            for station in self._world.stations
        ]
        for index, holder in enumerate(rigs):
            target = (self._broker.server.host, self._broker.server.port)
            link = await stack.enter_async_context(LinkProxy(*target, seed=self.setting.seed * 1000 + index))
            node = NodePart(holder, link)
            stack.push_async_callback(node.close)
            self.nodes[node.name] = node
            holder.plug()
            holder.node = NodeProcess(
                holder.name,
                holder.folder,
                bundle=firmware,
                config=self._node_config(node),
                heap_bytes=self.config.heap_bytes,
                on_line=log_writer(holder.folder),
                ticks_wrap_in_s=self._ticks_wrap_s(index),
            )

    def _node_config(self, node: NodePart) -> dict[str, object]:
        return {
            **node.rig.config(fleet=FLEET, host=node.link.host, port=node.link.port),
            "journal": {"path": "journal", "limit_bytes": JOURNAL_LIMIT_BYTES},
            "seal_interval_ms": SEAL_INTERVAL_MS,
            "streams": {name: {"report": "all"} for name in catalogue.STREAM_NAMES if name not in {"event", "alarm"}},
            "time": {"ntp_host": self._sntp.host, "ntp_port": self._sntp.port},
        }

    def _ticks_wrap_s(self, index: int) -> float | None:
        return None if index % 2 else make_random(self.setting.seed, "ticks", index).uniform(*TICKS_WRAP_S)

    # ---- running

    async def _play(self) -> None:
        """Let the world pass and do what is planned, until the time is over or somebody stops it."""
        self._on_step(f"chaos for {self.setting.duration_s:.0f} s")
        self._started_s, self._began_utc_ms = time.monotonic(), utc_ms()
        actions = chaos_schedule.plan(self.setting)
        self._deeds = Deeds(self.nodes, self.gateways, self._broker, self._database, self._sntp, seed=self.setting.seed)
        self._background = [
            asyncio.create_task(self._watch_nodes(), name="nodes"),
            asyncio.create_task(self._world.pass_time(self._note_lag), name="world"),
            asyncio.create_task(self._show(), name="status"),
        ]
        deeds = [
            asyncio.create_task(self._deeds.do(action, self._started_s), name=f"{action.kind} {action.name}")
            for action in actions
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.setting.duration_s):
                await self.stopping.wait()
        if self.stopping.is_set():
            for deed in deeds:
                deed.cancel()
        for error in await asyncio.gather(*deeds, return_exceptions=True):
            if isinstance(error, Exception):
                self.report.problems.append(f"{type(error).__name__}: {error}")
        self.report.duration_s = round(time.monotonic() - self._started_s, 3)

    def _note_lag(self, late_s: float) -> None:
        self.report.bench_lag_s_max = max(self.report.bench_lag_s_max, round(late_s, 3))

    async def _watch_nodes(self) -> None:
        """A van without a module has a node without power; a part that ended by itself is started again."""
        unpowered: dict[str, int] = {}
        while True:
            await asyncio.sleep(STEP_S)
            await self._try(*(part.watch() for part in self._watched()))
            for van in self._world.vans if not self._is_settling else ():
                node = self.nodes[van.name]
                if not van.is_powered and van.name not in unpowered:
                    unpowered[van.name] = utc_ms()
                    self.report.power_cuts_by_swaps += await node.kill("swap")
                elif van.is_powered and van.name in unpowered:
                    await node.revive("swap")
                    begin_utc_ms = unpowered.pop(van.name)
                    self._deeds.note("swap", van.name, [van.name], begin_utc_ms)

    def _watched(self) -> list[NodePart | GatewayPart]:
        return [*self.nodes.values(), *self.gateways.values()]

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(STATUS_S)
            figures = await asyncio.gather(*(gateway.figures() for gateway in self.gateways.values()))
            self._on_status(
                Status(
                    elapsed_s=time.monotonic() - self._started_s,
                    kills=self._deeds.kills.total(),
                    faults=self._deeds.faults.total(),
                    nodes_up=sum(node.process.is_running for node in self.nodes.values()),
                    nodes=len(self.nodes),
                    frames_waiting=sum(one["spool"]["frames"] for one in figures if one),
                    swaps=len(self._world.swaps),
                )
            )

    # ---- settling and stopping

    async def _settle(self) -> None:
        """End all faults, let things calm down, silence the devices, and wait until nothing is on its way."""
        began_s = time.monotonic()
        self._is_over = True
        self._on_step("settling: faults end")
        self._deeds.end_faults()
        servers = [self._broker, *([self._database] if self._database else [])]
        await self._try(*(server.revive() for server in servers))
        await self._try(*(gateway.revive() for gateway in self.gateways.values()))
        await self._try(*(node.revive() for node in self.nodes.values()))
        await asyncio.sleep(CALM_S)
        self._on_step("settling: devices fall silent, nodes send what they hold")
        self._is_settling = True  # vans keep their power now, so that their nodes can send
        await _cancel(self._background[1:])
        self._hushed_utc_ms = utc_ms()
        await self._try(*(node.rig.hush() for node in self.nodes.values()))
        self._statements.close()
        await self._try(*(node.revive("swap") for node in self.nodes.values()))
        await asyncio.sleep(SILENT_S)
        settling = Settling(self.nodes, self.gateways, self.witness, on_step=self._on_step)
        stuck = await settling.wait(self.hurrying)
        await _cancel(self._background)
        self.report.is_settled = not stuck
        self.report.problems += stuck
        self.report.settle_s = round(time.monotonic() - began_s, 3)

    async def _try(self, *work: Awaitable[object]) -> None:
        """Do all of it; what fails becomes a problem in the report."""
        for found in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(found, (services.ServiceError, NodeError, OSError)):
                self.report.problems.append(str(found))
            elif isinstance(found, BaseException):
                raise found

    async def _stop(self) -> None:
        self._on_step("stopping: nodes, gateways")
        await self._try(*(node.stop() for node in self.nodes.values()))
        await self._try(*(gateway.stop() for gateway in self.gateways.values()))

    async def _judge(self) -> None:
        self._on_step("judging")
        report = self.report
        report.nodes, report.gateways, report.database = len(self.nodes), len(self.gateways), self.config.database
        report.kills, report.faults = dict(self._deeds.kills), dict(+self._deeds.faults)
        report.faults_felt = dict(+self._deeds.felt)
        report.swaps = len(self._world.swaps)
        report.node_ends = sum(len(node.ends) for node in self.nodes.values())
        report.gateway_ends = sum(len(gateway.ends) for gateway in self.gateways.values())
        for part in self._watched():
            report.problems += part.ends[:ENDS_SHOWN_MAX]
        report.frames_by_gateway = {name: gateway.frames_stored for name, gateway in self.gateways.items()}
        report.frames_held_at_kills = sum(gateway.frames_held_at_kills for gateway in self.gateways.values())
        self._find_silences()
        truth = Truth(
            statements=doubt_unheard(read_statements(self._statements.path), self.nodes),
            power_cuts=[cut for node in self.nodes.values() for cut in node.cuts],
            seal_interval_ms=SEAL_INTERVAL_MS,
            clock_faults=self._clock_faults(),
        )
        self._write_truth(truth)
        obstacles = [one for one in self._deeds.disturbances if one.kind not in CLOCK_FAULTS]
        journals = {name: node.rig.journal_folder for name, node in self.nodes.items()}
        await asyncio.to_thread(self.witness.judge, report, journals, truth, obstacles)

    def _find_silences(self) -> None:
        """Look for devices that their nodes no longer asked."""
        begin_ms, end_ms = self._began_utc_ms, self._hushed_utc_ms
        stays = module_stays(self._world.custody, time.time() - time.monotonic(), end_ms)
        for name, node in self.nodes.items():
            stays += [Stay(stream, Place(name, bay, ""), begin_ms, end_ms) for stream, bay in node.rig.fixtures]
        off = {name: node.deaf for name, node in self.nodes.items()}
        silences = find_silences(stays, read_statements(self._statements.path), off)
        self.report.silences = len(silences)
        self.report.examples["silences"] = silences[:EXAMPLES_SHOWN_MAX]

    def _write_truth(self, truth: Truth) -> None:
        """Keep beside the statements what else the oracle is told, so that a run can be judged again."""
        told = {
            "power_cuts": truth.power_cuts,
            "seal_interval_ms": truth.seal_interval_ms,
            "clock_faults": truth.clock_faults,
            "deaf": {name: node.deaf for name, node in self.nodes.items()},
            "disturbances": self._deeds.disturbances,
        }
        (self.config.data_dir / "truth.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def _clock_faults(self) -> list[ClockFault]:
        return [
            ClockFault(node, one.begin_utc_ms, one.end_utc_ms, one.kind)
            for one in self._deeds.disturbances
            if one.kind in CLOCK_FAULTS
            for node in one.nodes
        ]


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End tasks that run for ever."""
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(error, Exception):
            raise error


def clear(folder: Path) -> None:
    """Remove the data of a run that nobody needs."""
    shutil.rmtree(folder, ignore_errors=True)
