"""The desk as a whole: everything around one node, brought up in order and taken down again whatever happens.

    async with Desk(load(VIRTUAL), folder) as desk:
        desk.make_van(bays=2)
        await desk.boot()
        await desk.tap.wait_rows(desk.node.name, "module", 20)
        assert (await desk.judge()).is_good

States: `off` (servers run, the node has no power), `running` (`boot` was successful), `broken`. A transition that fails
leaves the desk broken for good: what came after it would be about the failure and not about the firmware.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from swapline_bench import bundle as bundles
from swapline_bench import rig
from swapline_bench.database import DuckDatabase
from swapline_bench.desk.bench_file import BenchFile, DeskError
from swapline_bench.desk.configuration import configure
from swapline_bench.desk.driver import bench_features, make_node
from swapline_bench.desk.lock import Locks, locks_of
from swapline_bench.desk.resource_check import require_resources
from swapline_bench.desk.servers import Servers
from swapline_bench.desk.tasks import Tasks
from swapline_bench.desk.wiring import Wiring
from swapline_bench.end_to_end import FLEET
from swapline_bench.fault.model import FaultModel, Faults
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.link_proxy import Impairment, LinkProxy
from swapline_bench.node_process import log_writer
from swapline_bench.oracle import ClockFault, PowerCut, Truth, Verdict, judge
from swapline_bench.report.timeline import Timeline
from swapline_bench.rig import HolderRig
from swapline_bench.serial_line import SerialLine
from swapline_bench.services import whole
from swapline_bench.statement import StatementLog, read_statements
from swapline_bench.tap import Tap
from swapline_bench.world import World

OFF, RUNNING, BROKEN = "off", "running", "broken"
BIRTH_S_MAX = 30.0
SETTLE_S_MAX = 60.0
ANSWER_S_MAX = 2.0  # to a command; a link that was impaired may come back meanwhile, so it is asked again
QUIET_MS = 300  # of silent lines, after which readings are rows: 150 ms end a receiver's epoch
VERDICT_FIGURES = ("rows_true", "rows_stored", "rows_lost_declared")
_LOOK_S = 0.05
_TAIL_LINES = 20


def _boot_of(status: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what tells a boot from all others: the number, and the journal that counts them."""
    return status.get("journal"), status.get("boot")


class Desk:
    """One node and the world around it. `bundle` is the compiled firmware; without it, it is compiled here.

    `locks` are `locks_of(file)` if the caller holds them already, for several desks one after the other.
    `speed`: world seconds in a real one; 0 lets vans, chargers and batteries stand still as a test has set them.
    """

    def __init__(
        self,
        file: BenchFile,
        folder: Path,
        *,
        bundle: Path | None = None,
        name: str = "node-001",
        locks: Locks | None = None,
        speed: float = 1.0,
        seed: int = 1,
    ) -> None:
        self.file = file
        self.folder = folder
        self.name = name
        self.seed = seed
        self.speed = speed
        self.state = OFF
        self.timeline = Timeline()
        self._node_log, self._gateway_log = log_writer(folder), log_writer(folder, "gateway")
        self.node = make_node(file.node, name, folder / "node", on_line=self._take_line, on_power=self._take_power)
        self.features = bench_features(file, self.node)
        self.rig: HolderRig | None = None
        self.world: World | None = None
        self.power_cuts: list[PowerCut] = []
        self.config: dict[str, Any] = {}  # what the node was configured with last
        self.verdict: Verdict | None = None  # the oracle's, once it has spoken
        self._bundle = bundle
        self._locks = locks
        self._broken_by: BaseException | None = None
        self._is_hushed = False
        self._on_s = time.monotonic()
        self._statements: StatementLog
        self._stack = contextlib.AsyncExitStack()
        self._tasks = Tasks()
        self._wiring = Wiring(file)
        self._servers = Servers(
            file,
            folder,
            self._tasks,
            seed=seed,
            on_line=self._take_gateway_line,
            on_message=self.timeline.message,
        )

    # ---- up and down

    async def __aenter__(self) -> Self:
        """Check and lock what is on the desk, and start everything but the node.

        Raises `DeskError` with a sentence for whatever is in the way. Nothing is left running then.
        """
        try:
            require_resources(self.file)
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._locks is None:
                self._stack.enter_context(locks_of(self.file))
            self._statements = self._stack.enter_context(StatementLog(self.folder / "statements.jsonl"))
            self._stack.push_async_callback(self._tasks.end)
            await self._servers.start(self._stack)
            self._stack.push_async_callback(self._wiring.close)
            self._stack.push_async_callback(self.node.close)
            await self.node.flash(await self._firmware())
        except BaseException as error:
            self._add_notes(error)
            await self._stack.aclose()
            raise
        self.timeline.mark(f"desk {self.file.bench.name} is up")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is not None:
            self._add_notes(error)
        await self._stack.aclose()

    async def _firmware(self) -> Path:
        if self._bundle is None:
            self._bundle = await asyncio.to_thread(bundles.build, self.folder / "firmware")
        return self._bundle

    @property
    def tap(self) -> Tap:
        """Return what listens to the broker along with the gateway."""
        return self._servers.tap

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port at which the node finds the broker."""
        return self._servers.address

    @property
    def network(self) -> LinkProxy | None:
        """Return the link between node and broker; None where the bench file has no proxy in it."""
        return self._servers.network

    @property
    def gateway(self) -> GatewayProcess:
        """Return the gateway's process."""
        return self._servers.gateway

    @property
    def database(self) -> DuckDatabase:
        """Return the database, which can be asked when the gateway has ended."""
        return self._servers.database

    # ---- what sits on the lines

    def make_van(
        self, *, bays: int = 1, bms: str | Sequence[str] = "seplos_v3", vcu: bool = True, gnss: bool = True
    ) -> HolderRig:
        """Put a simulated van on the desk's lines, each device writing down what it says.

        Controller and receiver are left out where the desk has no line for them. Raises `DeskError` where it has none
        for a bay.
        """
        assert bays >= 1, "a van without a battery module has no power"
        world = self._make_world(modules_per_van=(bays,))
        van = world.vans[0]
        van.name = self.name
        self.rig = rig.make_van_rig(
            van,
            self.folder,
            bms_driver=bms,
            statements=self._statements,
            lay=self._wiring.lay,
            has_controller=vcu and self._wiring.has_line_for("vcu"),
            has_receiver=gnss and self._wiring.has_line_for("gnss"),
            receiver=self._wiring.recorded_receiver(),
        )
        return self._on_desk(self.rig)

    def make_station(self, *, slots: int = 1, bms: str | Sequence[str] = "seplos_v3", meter: bool = True) -> HolderRig:
        """Put a simulated station on the desk's lines, each device writing down what it says.

        Chargers and meter are left out where the desk has no line for them.
        """
        world = self._make_world(slot_count=slots, van_count=0)
        station = world.stations[0]
        station.name = self.name
        self.rig = rig.make_station_rig(
            station,
            self.folder,
            bms_driver=bms,
            statements=self._statements,
            lay=self._wiring.lay,
            has_chargers=self._wiring.has_line_for("chargers"),
            has_meter=meter and self._wiring.has_line_for("meter"),
        )
        return self._on_desk(self.rig)

    def put(self, make: Callable[..., HolderRig]) -> HolderRig:
        """Put devices of the test's own on the desk's lines: `make` returns their holder, whose `lay` it is given."""
        assert self.rig is None, "a desk has one node, and so one holder"
        self.rig = make(lay=self._wiring.lay)
        return self._on_desk(self.rig)

    @property
    def lines(self) -> dict[str, SerialLine]:
        """Return the lines that were laid: `bay1`, `vcu`, `gnss`, `chargers`, `meter`."""
        return {} if self.rig is None else self.rig.lines

    async def wait_for_statements(self, count: int, timeout_s: float = SETTLE_S_MAX) -> None:
        """Wait until the devices have given `count` more readings, whether anybody stores them or not."""
        target = self._statements.count + count
        try:
            async with asyncio.timeout(timeout_s):
                while self._statements.count < target:  # noqa: ASYNC110 (a file of lines: nothing to wait on)
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            left = target - self._statements.count
            raise DeskError(f"{left} of {count} readings still missing after {timeout_s:g} s; {self.where()}") from None

    def _make_world(self, **parts: Any) -> World:
        assert self.rig is None, "a desk has one node, and so one holder"
        parts = {"van_count": 1, "slot_count": 1, **parts}
        self.world = World(speed=self.speed, seed=self.seed, real_time_s=time.monotonic, **parts)
        return self.world

    def _on_desk(self, holder: HolderRig) -> HolderRig:
        for bus, line in holder.lines.items():
            line.on_bytes = lambda from_node, data, bus=bus: self.timeline.serial(bus, from_node, data)
        if self.world is not None:
            self._tasks.run(self.world.pass_time(), "world")
        return holder

    # ---- faults, each told to the timeline

    def disturb(self, bus: str, faults: Faults) -> FaultModel:
        """Have `faults` happen on a line from now on, instead of those before; the same seed repeats them."""
        line = self.lines[bus]
        self.timeline.fault(f"{bus}: {', '.join(faults.spoken()) or 'no more faults'}")
        if line.fault is None:
            on_fault = lambda text: self.timeline.fault(f"{bus}: {text}")  # noqa: E731
            line.fault = FaultModel(faults, seed=self.seed, on_fault=on_fault)
        else:
            line.fault.faults = faults
        return line.fault

    def impair(self, impairment: Impairment) -> None:
        """Make the node's link to the broker as bad as `impairment` says. Raises `DeskError` without a proxy."""
        if self.network is None:
            raise DeskError(
                f"Bench {self.file.bench.name} has no proxy in the node's link: [network] control = 'proxy'."
            )
        self.timeline.fault(f"link: {impairment}")
        self.network.impair(impairment)

    # ---- transitions

    async def boot(self, *, snippet: str | None = None, **config: Any) -> float:
        """Configure the node, give it power, and return how many seconds later its birth message was there.

        `config` replaces keys of the configuration; tables in it (`link`, `streams`, ...) key by key. `snippet` as
        `NodeUnderTest.start` takes it. Raises `DeskError` with what was expected and what came.
        """
        async with self._transition("boot", RUNNING):
            holder = self.rig or HolderRig(self.name, "van", self.folder)
            self.config = configure(holder, self.file.network, self.address, config)
            await self.node.configure(self.config)
            if self.rig is not None:
                self.rig.plug()
            return await self._start_node(snippet)

    async def boot_again(self) -> float:
        """Give a configured node that is off its power back; otherwise as `boot`."""
        async with self._transition("boot again", RUNNING):
            if self.rig is not None and self._is_hushed:
                self.rig.plug()
                self._is_hushed = False
            return await self._start_node(None)

    async def switch_off(self) -> None:
        """Stop the node in order, and take its power away.

        The faces fall silent first, and the node gets the time to make rows of what they said.
        """
        async with self._transition("switch off", OFF):
            await self._hush()
            with contextlib.suppress(TimeoutError):  # an impaired link: the time has passed all the same
                await self._wait_until(lambda _: True, "answer", QUIET_MS / 1000 + ANSWER_S_MAX)
            await self.node.stop()

    async def cut_power(self) -> None:
        """Take the node's power away at once."""
        async with self._transition("cut power", OFF):
            await self.node.cut_power()

    @property
    def powered_s(self) -> float:
        """Return how many seconds ago the node got its power or was reset."""
        return time.monotonic() - self._on_s

    async def wait_for_birth(self, before: Mapping[str, Any] | None = None, timeout_s: float = BIRTH_S_MAX) -> None:
        """Wait for the birth message of a boot other than that of `before`; a node repeats it where it has news.

        A boot without a journal has no number: then any new message counts. Raises `DeskError` when the node ends or
        `timeout_s` pass.
        """
        heard = self.tap[self.name]
        before = {} if before is None else before

        def is_born() -> bool:
            status = heard.status
            is_new = not status.get("boot") or _boot_of(status) != _boot_of(before)
            return status is not before and status.get("online") is True and is_new

        birth = asyncio.create_task(self.tap.wait(is_born, f"birth of {self.name}", timeout_s))
        ended = asyncio.create_task(self._until_ended())
        try:
            await asyncio.wait({birth, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not birth.done():
                raise DeskError(f"{self.name} ended before its birth message; {self.where()}")
            await birth
        except TimeoutError as error:
            raise DeskError(f"{error}; {self.where()}") from error
        finally:
            for task in (birth, ended):
                task.cancel()
            await asyncio.gather(birth, ended, return_exceptions=True)

    async def judge(self, *, clock_faults: tuple[ClockFault, ...] = (), timeout_s: float = SETTLE_S_MAX) -> Verdict:
        """End the run and return what the oracle says of every row.

        The faces fall silent; a node that has no power gets it back to tell what it still holds. When everything is
        acknowledged, node and gateway are stopped in order, and the statements are compared with the database.
        """
        async with self._transition("judge", OFF):
            await self._settle(timeout_s)
            await self.node.stop()
            if (code := await whole(self.gateway.stop)) != 0:
                raise DeskError(f"The gateway ended with {code}; {self.where()}")
            self._statements.close()
            truth = Truth(
                read_statements(self._statements.path),
                self.power_cuts,
                seal_interval_ms=self.config["seal_interval_ms"],
                clock_faults=clock_faults,
            )
            self.verdict = verdict = await asyncio.to_thread(judge, truth, self.database)
        self.timeline.mark(f"the oracle says {verdict}")
        return verdict

    @contextlib.asynccontextmanager
    async def _transition(self, what: str, target: str) -> AsyncIterator[None]:
        if self.state == BROKEN:
            raise DeskError(f"The desk is broken since: {self._broken_by}") from self._broken_by
        self.timeline.mark(what)
        try:
            self._tasks.raise_failures()
            yield
        except BaseException as error:
            self.state, self._broken_by = BROKEN, error
            self.timeline.mark(f"{what} failed: {error}")
            self._add_notes(error)
            raise
        self.state = target

    async def _start_node(self, snippet: str | None) -> float:
        before = self.tap[self.name].status
        await self.node.start(snippet=snippet)
        await self.wait_for_birth(before)
        return self.powered_s

    async def _until_ended(self) -> None:
        while self.node.is_running:  # noqa: ASYNC110 (another process, or a board)
            await asyncio.sleep(_LOOK_S)

    async def _hush(self) -> None:
        if self.rig is not None:
            self._is_hushed = True
            await self.rig.hush(self._reads_lines)

    def _reads_lines(self) -> bool:
        """Say whether somebody reads the node's lines: in safe mode it does not even open them."""
        return self.node.is_running and not self.tap[self.name].status.get("safe_mode")

    async def _settle(self, timeout_s: float) -> None:
        assert self.rig is not None
        for line in self.lines.values():
            line.fault = None
        await self._hush()
        if self.network is not None:
            self.network.heal()
        if not self.node.is_running:
            await self._start_node(None)
        heard = self.tap[self.name]
        await self._wait_until(
            lambda state: not state["open_rows"] and not state["pending_frames"] and heard.is_acknowledged(),
            "acknowledgement of everything that it holds",
            timeout_s,
        )

    async def _wait_until(self, holds: Callable[[dict[str, Any]], bool], what: str, timeout_s: float) -> None:
        """Wait until a node whose devices are silent has taken in what they said, and `holds` is true of its answer.

        Its own clock counts: a node that this computer leaves waiting gets the time that it needs.
        """
        since_ms: int | None = None
        state: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout_s):
                while since_ms is None or state["uptime_ms"] - since_ms < QUIET_MS or not holds(state):
                    await asyncio.sleep(_LOOK_S)
                    with contextlib.suppress(TimeoutError):
                        state = await self.tap.command(FLEET, self.name, "ping", ANSWER_S_MAX)
                        since_ms = state["uptime_ms"] if since_ms is None else since_ms
        except TimeoutError:
            said = f"it said last: {state}; heard: {self.tap.summary()}"
            raise TimeoutError(f"after {timeout_s:.0f} s still no {what} of {self.name}; {said}") from None

    async def wait_for_health(self) -> dict[str, int]:
        """Wait for a health row that the node takes from now on, and return it: its counters tell of all before."""
        heard = self.tap[self.name]
        count = heard.row_count("node")
        await self.tap.wait(lambda: heard.row_count("node") > count, f"health row of {self.name}")
        return heard.last("node")

    # ---- what was seen

    def figures(self) -> dict[str, int]:
        """Return what every run can say: the node's greatest heap so far, and the oracle's counts if it has spoken."""
        peaks = self.tap[self.name].column("node", "heap_peak_bytes") if hasattr(self._servers, "tap") else []
        found = {"heap_peak_bytes": max(peaks)} if peaks else {}
        if self.verdict is not None:
            found |= {name: getattr(self.verdict, name) for name in VERDICT_FIGURES}
        return found

    def where(self) -> str:
        """Say what was seen last and where the logs are."""
        tail = "\n".join(list(self.node.lines)[-_TAIL_LINES:]) or "(nothing)"
        return f"logs are in {self.folder}; its last lines:\n{tail}"

    @property
    def has_something_to_say(self) -> bool:
        """Say whether any of its parts has said anything yet."""
        return any(tail for _, tail in self._tails())

    def describe(self) -> str:
        """Say in a few lines what state everything is in."""
        lines = [f"state: {self.state}, logs: {self.folder}"]
        if self._broken_by is not None:
            lines.append(f"broken by: {self._broken_by}")
        if hasattr(self._servers, "tap"):
            lines.append(f"heard: {self.tap.summary()}")
        lines += [f"--- {name}\n{tail or '(nothing)'}" for name, tail in self._tails()]
        return "\n".join(lines)

    def _tails(self) -> list[tuple[str, str]]:
        node = "\n".join(list(self.node.lines)[-_TAIL_LINES:])
        return [(self.name, node), ("gateway", self.gateway.log_tail())]

    def _add_notes(self, error: BaseException) -> None:
        """Add the logs' ends to an error, once."""
        if any(note.startswith("--- ") for note in getattr(error, "__notes__", ())):
            return
        for name, tail in self._tails():
            error.add_note(f"--- {name} (whole logs in {self.folder})\n{tail or '(nothing)'}")

    def _take_line(self, line: str) -> None:
        self.timeline.log(line)
        self._node_log(line)

    def _take_gateway_line(self, line: str) -> None:
        self.timeline.log(line, "gateway")
        self._gateway_log(line)

    def _take_power(self, state: str) -> None:
        self.timeline.power(state)
        if state in ("on", "reset"):
            self._on_s = time.monotonic()
        if state in ("cut", "reset"):  # what a node had not sealed is gone either way
            self.power_cuts.append(PowerCut(self.name, int(time.time() * 1000)))
