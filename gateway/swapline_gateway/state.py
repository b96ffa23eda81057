"""The fleet as last seen: the newest reading of every node, stream and bay, and of every module wherever it sits.

A view, not a record: after a restart it is begun from the retained `state/...` topics (`restore.py`) and rebuilt from
frames as they pass (every stream is repeated at least once in its longest silence). Nothing here is waited for by the
path that stores frames, and nothing here grows without a limit: what exceeds a limit pushes out what was heard of
longest ago, counted in `evictions`.

What "newest" means. Back-fill arrives after live data, and clocks step. Rows of one journal are ordered by boot and
milliseconds since boot, which no clock can disturb. Rows of different journals (a module that moved, a replaced unit)
are ordered by their UTC, except that no row may claim to be later than the moment it was received: a node whose clock
runs ahead must not own a module for ever.

Custody here is the latest sighting, without judgement: whoever read a module's code last holds it.

All calls belong to the event loop's thread.
"""

import asyncio
import time
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from swapline_wire import catalogue
from swapline_wire.catalogue import OF_MODULE
from swapline_wire.catalogue_text import SILENT
from swapline_wire.decode import Decoded

from .fleet_record import (
    Custody,
    ModuleState,
    Move,
    NodeKey,
    NodeState,
    Reading,
    ReadingKey,
    StateChange,
    Value,
    key_places,
    scale_row,
)

__all__ = [
    "Batch",
    "Custody",
    "FleetState",
    "ModuleState",
    "Move",
    "NodeKey",
    "NodeState",
    "Reading",
    "StateChange",
    "Value",
    "scale_row",
]

NODES_MAX = 20_000
MODULES_MAX = 50_000
READINGS_PER_NODE_MAX = 1_024  # a station of 100 slots with four streams each has 400
EVENTS_PER_NODE_MAX = 50
ALARMS_PER_NODE_MAX = 200
MOVES_MAX = 500
POSITION_AGE_MS_MAX = 180_000  # an exchange cuts a van's power: its last position is from before
BATCH_INTERVAL_S = 0.5  # two batches a second look live to people and cost a phone little


@dataclass(slots=True)
class Batch:
    """What changed since the last batch: keys, looked up when the batch is sent, so a slow reader costs nothing."""

    nodes: set[NodeKey] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)

    def is_empty(self) -> bool:
        """Say whether nothing changed."""
        return not (self.nodes or self.modules)


class Subscription:
    """One reader's pending changes. However slow the reader, it holds no more than one key of each thing."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._changed = asyncio.Event()

    def note(self, nodes: Iterable[NodeKey], modules: Iterable[str]) -> None:
        """Add to what `take` will return."""
        self._batch.nodes.update(nodes)
        self._batch.modules.update(modules)
        self._changed.set()

    async def take(self, timeout_s: float | None = None) -> Batch:
        """Wait for a change and return what is pending; an empty batch when `timeout_s` is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):  # not `wait_for`: Python 3.11's may swallow a cancellation
                await self._changed.wait()
        return self.drain()

    def drain(self) -> Batch:
        """Return what is pending, without waiting."""
        batch, self._batch = self._batch, Batch()
        self._changed.clear()
        return batch


def _now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


class FleetState:
    """The fleet as last seen. Limits are parameters so that tests can shrink them."""

    def __init__(
        self,
        *,
        now_utc_ms: Callable[[], int] = _now_utc_ms,
        nodes_max: int = NODES_MAX,
        modules_max: int = MODULES_MAX,
        readings_per_node_max: int = READINGS_PER_NODE_MAX,
    ) -> None:
        self.nodes: OrderedDict[NodeKey, NodeState] = OrderedDict()  # heard of longest ago first
        self.modules: OrderedDict[str, ModuleState] = OrderedDict()
        self.moves: deque[Move] = deque(maxlen=MOVES_MAX)
        self.evictions = 0
        self.now_utc_ms = now_utc_ms
        self._nodes_max = nodes_max
        self._modules_max = modules_max
        self._readings_per_node_max = readings_per_node_max
        self._subscriptions: set[Subscription] = set()

    def apply(
        self, fleet: str, node: str, decoded: Decoded, anchor_utc_ms: int, time_quality: int | None = None
    ) -> list[StateChange]:
        """Take over the rows of one frame, in any order, any number of times.

        `anchor_utc_ms` is the UTC of the boot's millisecond 0; `time_quality` is given where the message, not the
        frame, stated the anchor.

        Returns the readings that became the newest of their node, stream and bay (only the last one of each).
        """
        state = self._node(fleet, node)
        holder = state.holder
        state.received_utc_ms = self.now_utc_ms()
        state.count(decoded.header.journal, decoded.header.seq)
        changes: dict[ReadingKey, StateChange] = {}
        quality = decoded.header.time_quality if time_quality is None else time_quality
        for reading in self._readings(state, decoded, anchor_utc_ms, quality):
            key = (reading.stream, reading.bay, tuple(reading.keys.values()))
            if self._take(state, key, reading):
                changes[key] = StateChange(reading)
        self._announce_node(state, holder)
        return list(changes.values())

    def apply_status(self, fleet: str, node: str, birth: Mapping[str, Any]) -> None:
        """Take over a node's retained status: its birth, or `{"online": false}` from its will or orderly goodbye."""
        state = self._node(fleet, node)
        holder = state.holder
        is_online = birth.get("online") is True
        if is_online is not state.is_online:
            state.online_since_utc_ms = self.now_utc_ms()
        state.is_online = is_online
        if len(birth) > 1:  # a will says nothing but that it is offline: what the unit is stays known
            state.birth = dict(birth)
        self._announce_node(state, holder)

    def restore(self, reading: Reading) -> None:
        """Take over a reading from before this process began, unless a newer one is known.

        A node of which there is neither status nor frame was taken out of the fleet, and stays out.
        """
        state = self.nodes.get((reading.fleet, reading.node))
        if state is None:
            return
        holder = state.holder
        self._take(state, (reading.stream, reading.bay, tuple(reading.keys.values())), reading)
        self._announce_node(state, holder)

    def forget(self, fleet: str, node: str) -> None:
        """Drop a node whose retained status was deleted: it was taken out of the fleet."""
        state = self.nodes.pop((fleet, node), None)
        if state is not None:
            self._announce(nodes=((fleet, node),), modules=state.occupants.values())

    def occupant(self, state: NodeState, bay: int) -> ModuleState | None:
        """Return the module that sits in this bay, as far as is known."""
        module = self.modules.get(state.occupants.get(bay, ""))
        custody = module.custody if module else None
        if custody is None or not custody.is_present:
            return None
        return module if (custody.fleet, custody.node, custody.bay) == (state.fleet, state.node, bay) else None

    def snapshot(self) -> dict[str, Any]:
        """Return everything known as JSON-ready data. Large for a large fleet: live views ask for what they show."""
        return {
            "time_utc_ms": self.now_utc_ms(),
            "nodes": [
                {
                    "fleet": state.fleet,
                    "node": state.node,
                    "holder": state.holder,
                    "online": state.is_online,
                    "readings": [reading.as_json() for reading in state.readings.values()],
                }
                for state in self.nodes.values()
            ],
            "modules": [
                {
                    "code": module.code,
                    "custody": None if (held := module.custody) is None else [held.fleet, held.node, held.bay],
                    "present": bool(module.custody and module.custody.is_present),
                    "readings": [reading.as_json() for reading in module.readings.values()],
                }
                for module in self.modules.values()
            ],
        }

    @property
    def subscription_count(self) -> int:
        """Return how many readers follow the changes."""
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Collect changes from here on, until the context ends."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def changes(self, interval_s: float = BATCH_INTERVAL_S) -> AsyncGenerator[Batch, None]:
        """Yield what changed since the iteration began, at most one batch in `interval_s`, for ever."""
        with self.subscribe() as subscription:
            while True:
                yield await subscription.take()
                await asyncio.sleep(interval_s)

    def announce(self) -> None:
        """Wake everybody who follows the changes: something that stands beside the fleet has changed."""
        self._announce()

    def _announce(self, *, nodes: Iterable[NodeKey] = (), modules: Iterable[str] = ()) -> None:
        for subscription in self._subscriptions:
            subscription.note(nodes, modules)

    def _announce_node(self, state: NodeState, holder_before: str) -> None:
        """Announce a node, and the modules in it once it is known what kind of holder they are in."""
        modules = state.occupants.values() if state.holder != holder_before else ()
        self._announce(nodes=((state.fleet, state.node),), modules=modules)

    def _node(self, fleet: str, node: str) -> NodeState:
        key = (fleet, node)
        state = self.nodes.get(key)
        if state is None:
            state = self.nodes[key] = NodeState(fleet, node)
            self._announce(nodes=self._evict(self.nodes, self._nodes_max))
        self.nodes.move_to_end(key)
        return state

    def _module(self, code: str) -> ModuleState:
        module = self.modules.get(code)
        if module is None:
            module = self.modules[code] = ModuleState(code)
            self._announce(modules=self._evict(self.modules, self._modules_max))
        self.modules.move_to_end(code)
        return module

    def _evict(self, items: OrderedDict[Any, Any], limit: int) -> list[Any]:
        """Drop the oldest of `items` beyond `limit`, count them and return their keys."""
        evicted = [items.popitem(last=False)[0] for _ in range(len(items) - limit)]
        self.evictions += len(evicted)
        return evicted

    def _readings(self, state: NodeState, decoded: Decoded, anchor_utc_ms: int, time_quality: int) -> Iterable[Reading]:
        header, signals = decoded.header, decoded.signals
        received = state.received_utc_ms or 0
        for row in decoded.rows:
            values, abnormal = scale_row(signals, row[1:])
            yield Reading(
                fleet=state.fleet,
                node=state.node,
                stream=decoded.stream.name,
                bay=header.bay,
                module=header.owner if decoded.stream.owner == OF_MODULE else "",
                keys={name: row[1 + index] for index, name in key_places(signals)},
                time_utc_ms=anchor_utc_ms + row[0],
                time_quality=time_quality,
                received_utc_ms=received,
                journal=header.journal,
                boot=header.boot,
                uptime_ms=row[0],
                values=values,
                abnormal=abnormal,
                seq=header.seq,
            )

    def _take(self, state: NodeState, key: ReadingKey, reading: Reading) -> bool:
        """File one reading; say whether it is the newest of its node, stream, bay and keys."""
        if reading.believed_utc_ms > (state.data_utc_ms or 0):
            state.data_utc_ms = reading.believed_utc_ms
            state.delay_ms = reading.received_utc_ms - reading.believed_utc_ms
        if reading.stream == catalogue.EVENT_STREAM.name:
            self._take_event(state, reading)
        elif reading.stream == catalogue.ALARM_STREAM.name:
            self._take_alarm(state, reading)
        elif reading.module:
            self._take_module(state, reading)
        if not reading.is_newer_than(state.readings.get(key)):
            return False
        state.readings[key] = reading
        state.readings.move_to_end(key)
        self._evict(state.readings, self._readings_per_node_max)
        return True

    def _take_module(self, state: NodeState, reading: Reading) -> None:
        module = self._module(reading.module)
        key = (reading.stream, tuple(reading.keys.values()))
        if reading.is_newer_than(module.readings.get(key)):
            module.readings[key] = reading
        self._see(state, module, reading)
        self._announce(modules=(reading.module,))

    def _take_event(self, state: NodeState, reading: Reading) -> None:
        if any(_is_same_row(reading, event) for event in state.events):
            return
        insort(state.events, reading, key=lambda event: event.time_utc_ms)
        del state.events[:-EVENTS_PER_NODE_MAX]
        code = reading.keys.get("code")
        if not reading.module or code not in (catalogue.BATTERY_IN, catalogue.BATTERY_OUT):
            return
        module = self._module(reading.module)
        if code == catalogue.BATTERY_IN:
            self._see(state, module, reading)
        elif reading.values.get("reason") != SILENT:  # a lost module: it does not answer, but nobody took it out
            self._see_leave(module, reading)
        self._announce(modules=(reading.module,))

    def _take_alarm(self, state: NodeState, reading: Reading) -> None:
        place = tuple(reading.values.get(name) for name in ("stream", "signal", "position"))
        key = (reading.keys.get("code"), reading.module, reading.bay, *place)
        if reading.is_newer_than(state.alarms.get(key)):
            state.alarms[key] = reading
            state.alarms.move_to_end(key)
            if len(state.alarms) > ALARMS_PER_NODE_MAX:
                self._evict_alarm(state)

    def _evict_alarm(self, state: NodeState) -> None:
        """Forget the alarm that was cleared longest ago; only where every one stands, the oldest."""
        cleared = (key for key, alarm in state.alarms.items() if not alarm.values.get("level"))
        del state.alarms[next(cleared, next(iter(state.alarms)))]
        self.evictions += 1

    def _see(self, state: NodeState, module: ModuleState, reading: Reading) -> None:
        """Note that `module` was in the reading's bay at the reading's time."""
        seen, custody = reading.believed_utc_ms, module.custody
        if custody is not None and seen <= custody.seen_utc_ms and not (custody.is_at(reading) and custody.is_present):
            return
        if custody is not None and custody.is_at(reading) and custody.is_present:
            custody.seen_utc_ms = max(custody.seen_utc_ms, seen)
            return
        if custody is not None and (custody.fleet, custody.node) != (reading.fleet, reading.node):
            here = (reading.fleet, reading.node)
            origin = (custody.fleet, custody.node)
            self.moves.append(Move(seen, module.code, origin, custody.bay, here, reading.bay))
            self._estimate_position(self.moves[-1])
            self._announce(nodes=(origin,))
        is_present = self._push_out(state, module, reading)
        module.custody = Custody(reading.fleet, reading.node, reading.bay, seen, seen, is_present)

    def _estimate_position(self, move: Move) -> None:
        """Place a station where the van stands that exchanges modules with it: stations need no GNSS receiver."""
        states = [state for key in (move.origin, move.destination) if (state := self.nodes.get(key)) is not None]
        for state in states:
            position = state.newest("position")
            if state.holder != "van" or position is None:
                continue
            latitude, longitude = (position.values.get(name) for name in ("latitude_deg", "longitude_deg"))
            is_recent = abs(move.time_utc_ms - position.believed_utc_ms) <= POSITION_AGE_MS_MAX
            if latitude is None or longitude is None or not is_recent:
                continue
            for other in states:
                if other.holder == "station":
                    other.estimated_position = (latitude, longitude)

    def _push_out(self, state: NodeState, module: ModuleState, reading: Reading) -> bool:
        """End the custody of whatever was thought to be in the bay, as two modules cannot share it.

        Returns False, and changes nothing, when this is late news and another module has been seen there since.
        """
        before = self.occupant(state, reading.bay)
        if before is not None and before is not module and before.custody is not None:
            if before.custody.seen_utc_ms > reading.believed_utc_ms:
                return False
            before.custody.is_present = False
            self._announce(modules=(before.code,))
        state.occupants[reading.bay] = module.code
        return True

    def _see_leave(self, module: ModuleState, reading: Reading) -> None:
        custody, seen = module.custody, reading.believed_utc_ms
        if custody is not None and seen < custody.seen_utc_ms:
            return
        if custody is None or not custody.is_at(reading):
            module.custody = Custody(reading.fleet, reading.node, reading.bay, seen, seen, is_present=False)
            return
        custody.is_present = False
        custody.seen_utc_ms = seen


def _is_same_row(one: Reading, other: Reading) -> bool:
    return (one.journal, one.boot, one.uptime_ms, one.bay, one.keys) == (
        other.journal,
        other.boot,
        other.uptime_ms,
        other.bay,
        other.keys,
    )
