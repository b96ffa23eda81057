"""What is done to the parts of a chaos run, one action of the schedule at a time, and when it stood in whose way."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from swapline_bench.chaos_parts import GatewayPart, NodePart, ServerPart, utc_ms
from swapline_bench.chaos_report import Disturbance
from swapline_bench.chaos_schedule import BROKER, DATABASE, GATEWAY, KILL_AND_FORGET, NODE, Action
from swapline_bench.faces.gnss import WEEK_ROLLOVER, GnssFace
from swapline_bench.link_proxy import Impairment
from swapline_bench.randomness import make_random
from swapline_bench.sntp_server import SntpServer

IMPAIRMENTS = {
    "link_half_open": Impairment(is_silent=True),
    "link_refused": Impairment(is_refusing=True),
    "link_loss": Impairment(loss=0.3),
    "link_delay": Impairment(delay_s=1.0),  # each way: 2 s there and back
    "link_narrow": Impairment(rate_bit_s=20_000),
}
# The figure of a link that grows when a fault was felt: one of a node that is off at the time is not.
FELT_BY = {
    "link_half_open": "bytes_swallowed",
    "link_refused": "resets",
    "link_reset": "resets",
    "link_loss": "segments_lost",
    "link_delay": "bytes_up",
    "link_narrow": "bytes_up",
}
CLOCK_ERRORS = {
    "gnss_day_ahead": timedelta(days=1),
    "gnss_day_behind": timedelta(days=-1),
    "gnss_week_rollover": WEEK_ROLLOVER,
}


class Deeds:
    """Kills, impairs, and puts right again. `kills`, `faults` and `felt` count what was really done."""

    def __init__(
        self,
        nodes: Mapping[str, NodePart],
        gateways: Mapping[str, GatewayPart],
        broker: ServerPart,
        database: ServerPart | None,
        sntp: SntpServer,
        *,
        seed: int,
    ) -> None:
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.felt: Counter[str] = Counter()  # faults of links that did something to what a node said
        self.disturbances: list[Disturbance] = []
        self._nodes = nodes
        self._gateways = gateways
        self._broker = broker
        self._database = database
        self._sntp = sntp
        self._seed = seed

    async def do(self, action: Action, started_s: float) -> None:
        """Wait for the action's time, counted from `started_s` (monotonic), do it, and undo it."""
        await asyncio.sleep(max(0.0, started_s + action.at_s - time.monotonic()))
        async with self._disturbance(action):
            if action.is_kill:
                await self._kill(action)
            else:
                await self._impair(action)

    def note(self, kind: str, name: str, nodes: Iterable[str], begin_utc_ms: int) -> None:
        """Write down a disturbance of some nodes that has just ended."""
        self.disturbances.append(Disturbance(kind, name, tuple(nodes), begin_utc_ms, utc_ms()))

    def end_faults(self) -> None:
        """Make every link and every clock good again, at once."""
        for node in self._nodes.values():
            node.link.heal()
            for face in node.rig.faces:
                if isinstance(face, GnssFace):
                    face.clock_error = timedelta(0)
        self._sntp.is_silent, self._sntp.clock_error = False, timedelta(0)

    @asynccontextmanager
    async def _disturbance(self, action: Action) -> AsyncIterator[None]:
        begin_utc_ms = utc_ms()
        try:
            yield
        finally:
            self.note(action.kind, action.name, [action.name] if action.part == NODE else self._nodes, begin_utc_ms)

    async def _kill(self, action: Action) -> None:
        part = self._part(action)
        if await part.kill():
            self.kills[action.part] += 1
            self.faults["broker_forgets"] += action.kind == KILL_AND_FORGET
        await asyncio.sleep(action.duration_s)
        if action.kind == KILL_AND_FORGET:
            await self._broker.revive(forgets=True)
        else:
            await part.revive()

    def _part(self, action: Action) -> NodePart | GatewayPart | ServerPart:
        if action.part == NODE:
            return self._nodes[action.name]
        if action.part == GATEWAY:
            return self._gateways[action.name]
        if action.part == DATABASE:
            assert self._database is not None
            return self._database
        assert action.part == BROKER
        return self._broker

    async def _impair(self, action: Action) -> None:
        self.faults[action.kind] += 1
        if action.kind in FELT_BY:
            await self._impair_link(action)
        elif action.kind in CLOCK_ERRORS:
            face = next(face for face in self._nodes[action.name].rig.faces if isinstance(face, GnssFace))
            face.clock_error = CLOCK_ERRORS[action.kind]
            await asyncio.sleep(action.duration_s)
            face.clock_error = timedelta(0)
        else:
            await self._impair_sntp(action)

    async def _impair_link(self, action: Action) -> None:
        link = self._nodes[action.name].link
        before = getattr(link.figures, FELT_BY[action.kind])
        if action.kind == "link_reset":
            link.cut()
        else:
            link.impair(IMPAIRMENTS[action.kind])
            await asyncio.sleep(action.duration_s)
            link.heal()
        self.felt[action.kind] += getattr(link.figures, FELT_BY[action.kind]) > before

    async def _impair_sntp(self, action: Action) -> None:
        self._sntp.is_silent = action.kind == "sntp_silent"
        if action.kind == "sntp_lies":
            # Never a receiver's lie: two sources that lie alike at once are believed (decision record 0017).
            ahead = make_random(self._seed, "lie", action.at_s).random() < 0.5
            self._sntp.clock_error = timedelta(hours=7 if ahead else -7)
        await asyncio.sleep(action.duration_s)
        self._sntp.is_silent = False
        self._sntp.clock_error = timedelta(0)
