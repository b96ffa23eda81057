"""What the outlook is judged by: the newest readings of all vans and stations, as the database has them."""

from dataclasses import dataclass, field
from typing import NamedTuple

NodeKey = tuple[str, str]  # fleet, node


class Position(NamedTuple):
    """A place on the ground."""

    latitude_deg: float
    longitude_deg: float


class ModuleReading(NamedTuple):
    """The newest reading of a module in one bay. `energy_full_kwh`: when full; None where it does not say."""

    time_utc_ms: int
    fleet: str
    node: str
    bay: int
    module: str  # "" for one without a code
    soc_pct: float
    energy_full_kwh: float | None


class SlotReading(NamedTuple):
    """The newest reading of a station's slot."""

    time_utc_ms: int
    bay: int
    is_occupied: bool
    is_charging: bool


@dataclass
class Readings:
    """The newest of everything. What was not heard of for a day is not in it."""

    modules: list[ModuleReading] = field(default_factory=list)
    positions: dict[NodeKey, tuple[int, Position]] = field(default_factory=dict)  # time and place
    heard_utc_ms: dict[NodeKey, int] = field(default_factory=dict)  # of any stream of a node's own
    vans: set[NodeKey] = field(default_factory=set)
    slots: dict[NodeKey, list[SlotReading]] = field(default_factory=dict)
    powers_kw: dict[NodeKey, float] = field(default_factory=dict)
    swaps_hour: dict[NodeKey, int] = field(default_factory=dict)


class Blocked(NamedTuple):
    """Whom standing alarms of level 2 or 3 are about: nobody should take such a module."""

    bays: frozenset[tuple[str, str, int]] = frozenset()
    modules: frozenset[str] = frozenset()
