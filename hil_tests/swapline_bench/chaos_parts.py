"""The parts of a chaos run that can be killed: nodes, broker, gateways, database. All are real processes.

`kill` is SIGKILL at whatever the part is doing and says whether there was something to kill; `revive` starts it again
on the data that it left. Both may be called in any state.
"""

import asyncio
import contextlib
import functools
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from signal import SIGKILL
from typing import Any, ParamSpec, TypeVar

from swapline_bench import services
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.link_proxy import LinkProxy
from swapline_bench.node_process import NodeProcess
from swapline_bench.oracle import PowerCut
from swapline_bench.oracle_match import SELF_TIMED
from swapline_bench.rig import HolderRig
from swapline_bench.services import whole
from swapline_bench.statement import Statement

START_ATTEMPTS = 5
LISTENING_MS = 2000  # from a start until a node hears a receiver's epoch whole
RESTART_S = 1.0  # before a node is started again that ended by itself
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _whole(method: Callable[_P, Coroutine[Any, Any, _R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Let a method end what it has begun even when its caller is cancelled: half a start would leave a process."""

    @functools.wraps(method)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await asyncio.shield(asyncio.create_task(method(*args, **kwargs)))

    return run


def utc_ms() -> int:
    """Return the machine's time."""
    return time.time_ns() // 1_000_000


class ServerPart:
    """A broker or a database: one server on one port, with its data in a folder."""

    def __init__(self, name: str, server: services.Server, *, forget: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.server = server
        self._forget = forget
        self._lock = asyncio.Lock()

    @_whole
    async def kill(self) -> bool:
        async with self._lock:
            is_there = self.server.is_running
            await whole(self.server.kill)
            return is_there

    @_whole
    async def revive(self, *, forgets: bool = False) -> None:
        """Start it again; one that forgets has lost what it kept on disk. Raises `ServiceError`."""
        async with self._lock:
            if self.server.is_running:
                return
            if forgets:
                self._forget()
            await _retry(lambda: whole(self.server.start))

    async def close(self) -> None:
        await whole(self.server.close)

    def log_tail(self) -> str:
        return self.server.log_tail()


async def _retry(start: Callable[[], Awaitable[object]]) -> None:
    """Start something on two busy cores, where a start may take longer than its own deadline."""
    for attempt in range(START_ATTEMPTS):
        try:
            await start()
        except services.ServiceError:
            if attempt == START_ATTEMPTS - 1:
                raise
        else:
            return


def make_broker(folder: Path) -> ServerPart:
    """Prepare a mosquitto that saves its sessions, queues and retained messages every few seconds."""
    folder.mkdir(parents=True)
    persistence = folder / "mosquitto.db"
    server = services.mosquitto(folder, services.lasting(folder, autosave_s=5))
    return ServerPart("broker", server, forget=lambda: persistence.unlink(missing_ok=True))


def make_database(folder: Path) -> ServerPart:
    """Prepare an InfluxDB 1.x."""
    folder.mkdir(parents=True)
    return ServerPart("database", services.influxd(folder))


class GatewayPart:
    """One replica of the gateway; `tables` are its configuration."""

    def __init__(self, name: str, folder: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self.name = name
        self.process = GatewayProcess(folder, tables, name=name)
        self.ends: list[str] = []  # how it ended when nobody had killed it
        self.frames_held_at_kills = 0  # in its spool: acknowledged, and not yet in the database
        self.frames_stored = 0  # by all of its processes, as often as they were asked
        self._frames_seen = 0  # of the present process
        self._is_up = False
        self._lock = asyncio.Lock()

    @_whole
    async def kill(self) -> bool:
        async with self._lock:
            self._note_end()
            is_there, self._is_up = self.process.is_running, False
            await whole(self.process.kill)
            if is_there:
                self.frames_held_at_kills += await asyncio.to_thread(_count_frames, self.process.folder)
            return is_there

    @_whole
    async def revive(self) -> None:
        """Start it again. Raises `ServiceError` if it does not come up."""
        async with self._lock:
            self._note_end()
            if not self._is_up:
                await _retry(self._start)
                self._is_up = True

    async def watch(self) -> None:
        """Start it again if it ended by itself, as a service's supervisor does."""
        if self._is_up and not self.process.is_running:
            await self.revive()

    async def _start(self) -> None:
        self._is_up = True  # until it turns out not to be
        try:
            await whole(self.process.start)
        except services.ServiceError:
            self._note_end()
            self._is_up = False
            raise

    def _note_end(self) -> None:
        """Write down that a gateway which should run does not, unless it was killed."""
        if self._is_up and not self.process.is_running:
            self._is_up = False
            if self.process.returncode != -SIGKILL:
                how = f"{self.name} ended by itself with {self.process.returncode}"
                self.ends.append(f"{how}; its last lines:\n{self.log_tail()}")

    async def stop(self) -> int:
        async with self._lock:
            self._is_up = False
            return await whole(self.process.stop)

    async def figures(self) -> dict[str, Any] | None:
        """Return its own figures, None while it does not answer; they are added to what it has stored."""
        if not self._is_up:
            return None
        figures = await self.process.ask()
        if figures is None:
            return None
        count = figures["frames_stored"]
        self.frames_stored += count - self._frames_seen if count >= self._frames_seen else count
        self._frames_seen = count
        return figures

    def log_tail(self) -> str:
        return self.process.log_tail()


def _count_frames(folder: Path) -> int:
    """Return how many frames a dead gateway's spool holds; a copy is read, so that it stays as it was left."""
    with tempfile.TemporaryDirectory() as copy:
        for path in folder.glob("spool.sqlite*"):
            shutil.copy(path, copy)
        spool = sqlite3.connect(Path(copy) / "spool.sqlite")
        with contextlib.closing(spool), contextlib.suppress(sqlite3.Error):
            return int(spool.execute("SELECT count(*) FROM frame").fetchone()[0])
    return 0


class NodePart:
    """One node with its serial lines and its own link. It is on while nothing keeps it off."""

    def __init__(self, rig: HolderRig, link: LinkProxy) -> None:
        self.rig = rig
        self.link = link
        self.name = rig.name
        self.cuts: list[PowerCut] = []
        self.deaf: list[tuple[int, int]] = []  # from when to when nobody listened to its devices, UTC in ms
        self.ends: list[str] = []  # how it ended when nobody had killed it
        self._deaf_since_ms = utc_ms()
        self._off: set[str] = set()
        self._lock = asyncio.Lock()

    @property
    def process(self) -> NodeProcess:
        assert self.rig.node is not None
        return self.rig.node

    @_whole
    async def kill(self, reason: str = "kill") -> bool:
        """Cut its power for `reason`."""
        async with self._lock:
            is_there = self.process.is_running
            self._off.add(reason)
            if is_there:
                self._deaf_since_ms = utc_ms()
                await self.process.cut_power()
                self.cuts.append(PowerCut(self.name, utc_ms()))
            return is_there

    @_whole
    async def revive(self, reason: str = "kill") -> None:
        """Take `reason` away; the node starts when nothing else keeps it off."""
        async with self._lock:
            self._off.discard(reason)
            if not self._off and not self.process.is_running:
                await self._switch_on()

    async def watch(self) -> None:
        """Start it again if it ended by itself."""
        if self._off or self.process.is_running:
            return
        code = self.process.returncode
        if code != -SIGKILL:
            self._deaf_since_ms = utc_ms()
            self.ends.append(f"{self.name} ended by itself with {code}; its last lines:\n{self.process.log_tail(8)}")
            await asyncio.sleep(RESTART_S)
        async with self._lock:
            if not self._off and not self.process.is_running:
                await self._switch_on()

    async def _switch_on(self) -> None:
        await self.process.start()
        self.deaf.append((self._deaf_since_ms, utc_ms() + LISTENING_MS))

    async def stop(self) -> int:
        async with self._lock:
            self._off.add("stop")
            return await self.process.stop()

    async def close(self) -> None:
        self._off.add("closed")
        with contextlib.suppress(ProcessLookupError):
            await self.rig.close()

    def log_tail(self) -> str:
        return self.process.log_tail()


def doubt_unheard(statements: Iterable[Statement], nodes: Mapping[str, NodePart]) -> Iterator[Statement]:
    """Yield statements, a receiver's doubtful where nobody was there to listen: it talks without being asked."""
    for one in statements:
        deaf = nodes[one.node].deaf
        if one.stream == SELF_TIMED and any(begin_ms <= one.true_utc_ms <= end_ms for begin_ms, end_ms in deaf):
            yield one._replace(is_doubtful=True)
        else:
            yield one
