"""What the fleet's state is made of: readings with their order in time, custody, modules, nodes."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from swapline_wire.catalogue import ALARM_STREAM, FORMATS, KEY, MODULE_LOST, Signal

Value = int | float | None
NodeKey = tuple[str, str]  # fleet, node
RAISED_AGAIN_S = 60  # after a start a node has raised what stands: the longest duration in the table is 35 s
ReadingKey = tuple[str, int, tuple[int, ...]]  # stream, bay, values of the key signals


@dataclass(frozen=True, slots=True)
class Reading:
    """One row with its owner: scaled values by signal name, None where the source has no value or an abnormal one."""

    fleet: str
    node: str
    stream: str
    bay: int
    module: str
    keys: Mapping[str, int]
    time_utc_ms: int
    time_quality: int
    received_utc_ms: int
    journal: int
    boot: int
    uptime_ms: int
    values: Mapping[str, Value]
    abnormal: tuple[str, ...]
    seq: int = 0  # of its frame; 0 where that is not known

    @property
    def believed_utc_ms(self) -> int:
        """Return the row's time, but never later than its reception."""
        return min(self.time_utc_ms, self.received_utc_ms)

    def is_newer_than(self, other: "Reading | None") -> bool:
        """Say whether this row was taken after `other`."""
        if other is None:
            return True
        if (self.fleet, self.node, self.journal) == (other.fleet, other.node, other.journal):
            return (self.boot, self.uptime_ms) > (other.boot, other.uptime_ms)
        return self.believed_utc_ms > other.believed_utc_ms

    def as_json(self) -> dict[str, Any]:
        """Return what the console's API shows of a reading."""
        return {
            "stream": self.stream,
            "bay": self.bay or None,
            "module": self.module or None,
            "keys": dict(self.keys),
            "time_utc_ms": self.time_utc_ms,
            "time_quality": self.time_quality,
            "received_utc_ms": self.received_utc_ms,
            "values": dict(self.values),
            "abnormal": list(self.abnormal),
        }

    def as_state_json(self) -> dict[str, Any]:
        """Return what the retained `state/...` topics hold: also the row's place in its journal, for `restore.py`."""
        place = {"journal": self.journal, "boot": self.boot, "seq": self.seq, "uptime_ms": self.uptime_ms}
        return {**self.as_json(), **place}


@dataclass(frozen=True, slots=True)
class StateChange:
    """A reading that became the newest of its node, stream and bay."""

    reading: Reading

    @property
    def channel(self) -> str:
        """Return the channel below the node's topic on which the gateway keeps this reading retained."""
        reading = self.reading
        if reading.stream == ALARM_STREAM.name:  # each has its own, or the last one would push out what stands
            return f"state/alarm/{reading.bay}/{reading.keys['code']}"
        return f"state/{reading.stream}/{reading.bay}" if reading.bay else f"state/{reading.stream}"


@dataclass(slots=True)
class Custody:
    """Where a module was last seen. `is_present` is False after it was seen leaving, until it turns up again."""

    fleet: str
    node: str
    bay: int
    since_utc_ms: int
    seen_utc_ms: int
    is_present: bool = True

    def is_at(self, reading: Reading) -> bool:
        """Say whether `reading` comes from this place."""
        return (self.fleet, self.node, self.bay) == (reading.fleet, reading.node, reading.bay)


@dataclass(frozen=True, slots=True)
class Move:
    """A module that turned up with another holder than before."""

    time_utc_ms: int
    module: str
    origin: NodeKey
    origin_bay: int
    destination: NodeKey
    destination_bay: int


@dataclass(slots=True)
class ModuleState:
    """One battery module, by its code."""

    code: str
    readings: dict[tuple[str, tuple[int, ...]], Reading] = field(default_factory=dict)
    custody: Custody | None = None


@dataclass(slots=True)
class NodeState:
    """One node: what it says about itself, its newest readings, its last events and its alarms."""

    fleet: str
    node: str
    is_online: bool | None = None  # None: neither birth nor will seen yet
    online_since_utc_ms: int | None = None  # when `is_online` last changed, as seen from here
    birth: dict[str, Any] = field(default_factory=dict)
    readings: OrderedDict[ReadingKey, Reading] = field(default_factory=OrderedDict)
    events: list[Reading] = field(default_factory=list)  # oldest first
    alarms: OrderedDict[tuple[Any, ...], Reading] = field(default_factory=OrderedDict)
    occupants: dict[int, str] = field(default_factory=dict)  # bay -> code of the module last seen in it
    data_utc_ms: int | None = None  # time of the newest row
    received_utc_ms: int | None = None  # when a frame last arrived
    delay_ms: int | None = None  # from the newest row's time to its reception; sealing and transport
    journal: int | None = None
    seq_max: int = 0  # numbers are never reused, so this is how many frames the journal has sealed, as far as is known
    estimated_position: tuple[float, float] | None = None  # of a station: where vans stood when they exchanged modules

    def count(self, journal: int, seq: int) -> None:
        """Note a frame's number; a new journal begins anew."""
        if journal != self.journal:
            self.journal, self.seq_max = journal, 0
        self.seq_max = max(self.seq_max, seq)

    def newest(self, stream: str, bay: int = 0) -> Reading | None:
        """Return the newest reading of a stream without key signals."""
        return self.readings.get((stream, bay, ()))

    def standing_alarms(self) -> list[Reading]:
        """Return the alarms that stand, as far as is known."""
        return [alarm for alarm in self.alarms.values() if alarm.values.get("level") and not self._is_over(alarm)]

    def _is_over(self, alarm: Reading) -> bool:
        """Say whether an alarm ended without a word: its node was started again and has not raised it since.

        A node knows nothing of what stood before it was started, a module that is lost least of all: that one ends when
        a module has answered in the bay since, or its slot is empty.
        """
        health = self.newest("node")
        if health is None or not health.is_newer_than(alarm):
            return False
        is_other_boot = (health.journal, health.boot) != (alarm.journal, alarm.boot)
        if not is_other_boot or (health.values.get("uptime_s") or 0) < RAISED_AGAIN_S:
            return False
        if alarm.keys.get("code") != MODULE_LOST:
            return True
        module, slot = self.newest("module", alarm.bay), self.newest("slot", alarm.bay)
        is_empty = slot is not None and slot.values.get("occupied") == 0 and slot.is_newer_than(alarm)
        return is_empty or (module is not None and module.is_newer_than(alarm))

    @property
    def holder(self) -> str:
        """Return `van`, `station` or `unknown`: as its birth says, else by what it measures."""
        stated = self.birth.get("holder")
        if stated in ("van", "station"):
            return str(stated)
        streams = {key[0] for key in self.readings}
        if streams & {"slot", "meter"}:
            return "station"
        return "van" if streams & {"vehicle", "position"} else "unknown"


@cache
def _scales(signals: tuple[Signal, ...]) -> tuple[tuple[str, int, int, int], ...]:
    return tuple((s.name, FORMATS[s.format][2], FORMATS[s.format][3], 10**s.decimals) for s in signals if s.kind != KEY)


@cache
def key_places(signals: tuple[Signal, ...]) -> tuple[tuple[int, str], ...]:
    """Return place and name of each signal that is part of a row's identity."""
    return tuple((index, s.name) for index, s in enumerate(signals) if s.kind == KEY)


def scale_row(signals: tuple[Signal, ...], raw: tuple[int, ...]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Scale one row's raw values: numbers by signal name (None for both codes), and the names of the abnormal ones."""
    measured = (r for r, s in zip(raw, signals, strict=True) if s.kind != KEY)
    values: dict[str, Value] = {}
    abnormal = []
    for (name, unavailable, out_of_limits, divisor), number in zip(_scales(signals), measured, strict=True):
        if number == out_of_limits:
            abnormal.append(name)
        is_number = number not in (unavailable, out_of_limits)
        values[name] = (number if divisor == 1 else number / divisor) if is_number else None
    return values, tuple(abnormal)
