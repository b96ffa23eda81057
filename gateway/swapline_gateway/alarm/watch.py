"""The alarm book of a running gateway: always up to date, asked by pages and by the command line.

Every replica hears of every alarm (the `alarm` messages of all of them) and of every acknowledgement (retained at the
broker), whichever replica took the frame. What was before, or while it was not connected, it reads from the database.
A database that is away costs the past and nothing else: what comes is shown, and the past is read when it is back.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from swapline_gateway.battery.record import Acknowledgement
from swapline_gateway.battery.store import BatteryStore
from swapline_gateway.battery.table import ACKNOWLEDGEMENT
from swapline_gateway.error import SinkError
from swapline_gateway.fleet_record import RAISED_AGAIN_S, NodeKey
from swapline_gateway.ingest import Item
from swapline_gateway.log import get
from swapline_gateway.retry import Backoff
from swapline_gateway.state import FleetState
from swapline_gateway.worker import Worker
from swapline_wire import catalogue, topic

from .acknowledge import from_row, message_of, read_message, row_of, topic_of
from .book import Alarm, AlarmKey, Boot, join
from .shelf import KEPT_MS, Shelf, boots_of_item, row_of_message, row_of_reading, rows_of_item
from .source import AlarmSource, Span

REVIEW_S = 15.0  # how late it is noticed that an alarm ended with its node's restart
LOOK_S = 1.0  # how soon a new connection is noticed
GATHER_S = 0.05  # a storm of alarms is derived in groups
LIMIT_MAX = 10_000
_ROWS_ASKED = 50_000
_TEXT_BYTES_MAX = 8192
_NO_PAST = "the database answers no questions, so only alarms since this gateway's start are known"


class Uplink(Protocol):
    """The connection to the broker."""

    connected: asyncio.Event
    connection_count: int

    async def deliver(self, name: str, payload: str) -> bool:
        """Publish a retained message; say whether the broker has confirmed it."""


class Wanted(NamedTuple):
    """Which alarms are asked for; those that ended before `since_utc_ms` are left out."""

    is_standing_only: bool = False
    since_utc_ms: int | None = None
    fleet: str | None = None
    node: str | None = None
    module: str | None = None
    limit: int = 500

    def has(self, alarm: Alarm) -> bool:
        """Say whether this alarm is one of them."""
        key = alarm.key
        return (
            self.fleet in (None, key.fleet)
            and self.node in (None, key.node)
            and self.module in (None, key.module)
            and (alarm.is_standing or not self.is_standing_only)
            and (self.since_utc_ms is None or alarm.is_standing or (alarm.cleared_utc_ms or 0) >= self.since_utc_ms)
        )


class Found(NamedTuple):
    """The newest alarms that were asked for. `problem`: why older ones may be missing; empty when none are."""

    alarms: list[Alarm]
    problem: str = ""


class NotKnownError(Exception):
    """No such alarm was raised then."""


class NotDoneError(Exception):
    """The acknowledgement was not kept; nothing was changed."""


class AlarmWatch:
    """See the module's header. Without a source (a database that answers no InfluxQL) only what comes is known."""

    def __init__(
        self,
        state: FleetState,
        uplink: Uplink,
        *,
        source: AlarmSource | None = None,
        store: BatteryStore | None = None,
        review_s: float = REVIEW_S,
    ) -> None:
        self.revision = 0  # grows with every change
        self.received: Counter[int] = Counter()  # rows of alarms that this gateway took from nodes, by level
        self.acknowledged = 0  # by people who said so here
        self.problem = "" if source else _NO_PAST
        self._state = state
        self._uplink = uplink
        self._source = source
        self._store = store
        self._review_s = review_s
        self._look_s = min(LOOK_S, review_s)
        self._shelf = Shelf()
        if source is not None:
            self._shelf.begin(state.now_utc_ms())
        self._changed = asyncio.Event()
        self._deriving = 0  # calls that have not settled all of their nodes yet
        self._is_read = source is None
        self._connections = 0  # in this one of the uplink's the past was read
        self._backoff = Backoff(delay_s_max=review_s)
        self._worker = Worker("alarms")
        self._reader = Worker("alarms of the past")  # may wait for a database that does not answer
        self._saying = asyncio.Lock()
        self._figures: dict[str, int] = {}
        self._undelivered: dict[str, Acknowledgement] = {}
        self._log = get("alarms")

    # What comes.

    def take_item(self, item: Item) -> None:
        """Take a frame that this gateway has stored."""
        if item.decoded.stream is catalogue.ALARM_STREAM:
            rows = rows_of_item(item)
            self.received.update(row.level for row in rows)
            self._shelf.put_rows(rows)
        elif item.decoded.stream is catalogue.EVENT_STREAM:
            self._shelf.put_boots(boots_of_item(item))
        self._note()

    def take_message(self, address: topic.Address, payload: bytes) -> bool:
        """Take an `alarm` message of any replica; say whether it was one."""
        try:
            row = row_of_message(address.fleet, address.node, json.loads(payload[:_TEXT_BYTES_MAX]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return False
        self._shelf.put_rows([row])
        self._note()
        return True

    def take_said(self, name: str, payload: bytes) -> bool:
        """Take a retained acknowledgement; say whether it was one (a deleted one says nothing)."""
        said = read_message(name, payload)
        if said is not None:
            self._shelf.put_said([said])
            self._note()
        return said is not None or not payload

    def take_state(self) -> None:
        """Take the alarms that the broker had retained, of any age."""
        for state in self._state.nodes.values():
            self._shelf.put_rows(row_of_reading(alarm) for alarm in state.alarms.values())
        self._note()

    def _note(self) -> None:
        if self._shelf.dirty:
            self._changed.set()

    # Keeping up to date.

    async def run(self) -> None:
        """Derive what has changed, and read what is not known, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_derived(), name="alarms")
            group.create_task(self._keep_read(), name="alarms of the past")

    async def _keep_derived(self) -> None:
        while True:
            await self._derive(set(self._shelf.dirty))
            await self._deliver_again()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._review_s):
                    await self._changed.wait()
                    await asyncio.sleep(GATHER_S)
            if not self._changed.is_set():
                await self._review()
            self._changed.clear()

    async def _keep_read(self) -> None:
        """Read the past at the start and after every connection: replicas may have spoken while there was none."""
        while True:
            if not self._is_read or self._connections != self._uplink.connection_count:
                await self._read()
            await asyncio.sleep(self._look_s if self._is_read else self._backoff.fail())

    async def close(self) -> None:
        """End the threads."""
        self._worker.close()
        self._reader.close()

    async def _read(self) -> None:
        """Read the last weeks from the database."""
        self._connections, source = self._uplink.connection_count, self._source
        if source is None:
            return
        self._is_read = False
        span = Span(max(0, self._state.now_utc_ms() - KEPT_MS))
        try:
            if not await self._reader.run(source.is_understood):
                self._source, self._store, self._is_read, self.problem = None, None, True, _NO_PAST
                self._shelf.begin(0)
                return
            rows = await self._reader.run(source.rows, span, _ROWS_ASKED)
            boots = await self._reader.run(source.boots, span, {(r.key.fleet, r.key.node) for r in rows})
            said = [] if self._store is None else await self._reader.run(self._read_said, self._store, span)
        except SinkError as error:
            if not self.problem:
                self._log.warning("the alarm book's past cannot be read yet", error=str(error))
            self.problem = f"the database does not answer, so past alarms may be missing: {error}"
            return
        self.problem = ""
        self._backoff.succeed()
        self._shelf.put_rows(rows)
        self._shelf.put_boots(boots)
        self._shelf.put_said(said)
        is_all = len(rows) < _ROWS_ASKED
        self._shelf.begin(span.start_utc_ms if is_all else rows[-1].time_utc_ms)
        self._is_read = True
        self._note()

    def _read_said(self, store: BatteryStore, span: Span) -> list[Acknowledgement]:
        return [from_row(row) for row in store.read(ACKNOWLEDGEMENT, start_utc_ms=span.start_utc_ms)]

    async def _review(self) -> None:
        """Look again at the nodes with standing alarms: they may have been started since."""
        nodes = {(alarm.key.fleet, alarm.key.node) for alarm in self._shelf.standing()}
        if nodes and self._source is not None and self._is_read:
            since = min(alarm.raised_utc_ms for alarm in self._shelf.standing())
            with contextlib.suppress(SinkError):
                self._shelf.put_boots(await self._reader.run(self._source.boots, Span(since), nodes))
        await self._derive(nodes)

    async def _derive(self, nodes: Iterable[NodeKey]) -> None:
        is_changed = False
        self._deriving += 1
        try:
            for node in nodes:
                self._shelf.dirty.discard(node)
                witness = _Witness(self._state, node, self._source)
                alarms = await self._worker.run(join, self._shelf.rows_of(node), self._shelf.boots_of(node), witness)
                is_changed = self._shelf.settle(node, alarms) or is_changed
        finally:
            self._deriving -= 1
        if is_changed:
            self.revision += 1
            self._state.announce()

    # Questions.

    def is_whole(self) -> bool:
        """Say whether everything is known that can be known: connected, the past read, all of it derived."""
        is_read = self._source is not None and self._is_read and self._connections == self._uplink.connection_count
        return is_read and self._uplink.connected.is_set() and not (self._shelf.dirty or self._deriving)

    def standing(self) -> list[Alarm]:
        """Return the alarms that stand."""
        return self._shelf.standing()

    def since_utc_ms(self) -> int:
        """Return since when all rows are here; of alarms that were raised earlier nothing may be known."""
        return self._shelf.since_utc_ms

    def figures(self) -> dict[str, int]:
        """Return what every page shows: how many alarms stand, and how many of them nobody has seen."""
        if self._figures.get("revision") == self.revision:
            return self._figures
        standing = self._shelf.standing()
        unseen = [alarm for alarm in standing if alarm.acknowledgement is None]
        self._figures = {
            "revision": self.revision,
            "standing_count": len(standing),
            "unacknowledged_count": len(unseen),
            "level_max": max((alarm.level for alarm in standing), default=0),
            "unacknowledged_level_max": max((alarm.level for alarm in unseen), default=0),
        }
        return self._figures

    async def find(self, wanted: Wanted) -> Found:
        """Return the newest alarms that are asked for, the newest first."""
        kept = [alarm for of_node in self._shelf.alarms.values() for alarm in of_node if wanted.has(alarm)]
        problem = "" if self._is_read and self._source is not None else self.problem
        since = wanted.since_utc_ms
        if not wanted.is_standing_only and since is not None and since < self._shelf.since_utc_ms and self._source:
            try:
                older = await self._older(self._source, wanted, since)
            except SinkError as error:
                older, problem = [], f"older alarms cannot be read: {error}"
            known = {(alarm.key, alarm.raised_utc_ms) for alarm in kept}
            kept += [alarm for alarm in older if (alarm.key, alarm.raised_utc_ms) not in known and wanted.has(alarm)]
        kept.sort(key=lambda alarm: (alarm.raised_utc_ms, alarm.key), reverse=True)
        if len(kept) > wanted.limit:
            problem = problem or f"more than {wanted.limit}: those that were raised first are left out"
        return Found(kept[: wanted.limit], problem)

    async def _older(self, source: AlarmSource, wanted: Wanted, since_utc_ms: int) -> list[Alarm]:
        """Derive alarms of a time that is not kept, from rows that reach back to where the oldest were raised."""
        span = Span(max(0, since_utc_ms - KEPT_MS), fleet=wanted.fleet, node=wanted.node, module=wanted.module)
        alarms = await self._reader.run(read_alarms, source, span)
        if self._store is not None:
            self._shelf.put_said(await self._reader.run(self._read_said, self._store, span))
        return self._shelf.said_of(alarms)

    # Acknowledging.

    async def acknowledge(
        self, *, fleet: str, node: str, bay: int, code: int, raised_utc_ms: int, by: str, note: str
    ) -> tuple[Acknowledgement, str]:
        """Keep that somebody has seen an alarm; return it, and what is still to be done about it (mostly nothing).

        Who says it again gets what was said first. Raises `NotKnownError` and `NotDoneError`.
        """
        async with self._saying:
            alarm = await self._alarm_at(fleet, node, bay, code, raised_utc_ms)
            if alarm.acknowledgement is not None:
                return alarm.acknowledgement, ""
            if not self._uplink.connected.is_set():
                raise NotDoneError("the broker is not there: nothing was changed, try again when it is back")
            key = alarm.key
            said = Acknowledgement(
                *(fleet, node, bay, code, key.module),
                raised_utc_ms=alarm.raised_utc_ms,
                time_utc_ms=self._state.now_utc_ms(),
                by=by,
                note=note,
            )
            await self._keep(said)
            self.acknowledged += 1
            self._shelf.put_said([said])
            await self._derive({(fleet, node)})
            return said, await self._publish(said)

    async def _alarm_at(self, fleet: str, node: str, bay: int, code: int, raised_utc_ms: int) -> Alarm:
        wanted = Wanted(since_utc_ms=raised_utc_ms, fleet=fleet, node=node, limit=LIMIT_MAX)
        await self._derive(self._shelf.dirty & {(fleet, node)})
        for alarm in (await self.find(wanted)).alarms:
            if (alarm.key.bay, alarm.key.code) == (bay, code) and alarm.covers(raised_utc_ms):
                return alarm
        raise NotKnownError(f"no alarm {code} of {fleet}/{node}, bay {bay}, was raised then")

    async def _keep(self, said: Acknowledgement) -> None:
        if self._store is None:
            return
        try:
            await self._reader.run(self._store.put, [row_of(said)])
        except SinkError as error:
            raise NotDoneError(f"the database does not keep it, so nothing was changed: {error}") from error

    async def _publish(self, said: Acknowledgement) -> str:
        if await self._uplink.deliver(topic_of(said), message_of(said)):
            self._undelivered.pop(topic_of(said), None)
            return ""
        self._undelivered[topic_of(said)] = said
        return "the database has it; the broker has not confirmed it, so other gateways learn of it when it is back"

    async def _deliver_again(self) -> None:
        if not self._uplink.connected.is_set():
            return
        for said in list(self._undelivered.values()):
            if await self._publish(said):
                return


class _Witness:
    """What a running gateway knows of a node: what it said last, else what the database has."""

    def __init__(self, state: FleetState, node: NodeKey, source: AlarmSource | None) -> None:
        found = state.nodes.get(node)
        self._source = source
        self._health = found.newest("node") if found else None
        self._bays: dict[int, int] = {}
        for reading in found.readings.values() if found else ():
            is_empty = reading.stream == "slot" and reading.values.get("occupied") == 0
            if reading.stream == "module" or is_empty:
                self._bays[reading.bay] = max(self._bays.get(reading.bay, 0), reading.time_utc_ms)

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        health = self._health
        if health is not None and (health.journal, health.boot) == (boot.journal, boot.boot):
            return (health.values.get("uptime_s") or 0) >= RAISED_AGAIN_S
        try:
            return self._source is not None and self._source.has_run(boot, end_utc_ms)
        except SinkError:
            return False

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        with contextlib.suppress(SinkError):
            found = self._source.answered(key, after_utc_ms) if self._source is not None else None
            if found is not None:
                return found
        last = self._bays.get(key.bay, 0)
        return last if last > after_utc_ms else None


def read_alarms(source: AlarmSource, span: Span, limit: int = _ROWS_ASKED) -> list[Alarm]:
    """Return the alarms of a stretch of time as the database has them. Raises `SinkBusyError`."""
    rows = source.rows(span, limit)
    return join(rows, source.boots(span, {(row.key.fleet, row.key.node) for row in rows}), source)
