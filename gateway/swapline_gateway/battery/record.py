"""Records of the battery's books: places, sightings, stays, swaps, contradictions, hours, estimates, passports.

Times are UTC in milliseconds. Current is positive into the module. None says "not known".
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

HOUR_MS = 3_600_000

# On what evidence a stay begins or ends.
BY_EVENT = "event"  # the node told it: BatteryIn, BatteryOut
BY_SIGHTING = "sighting"  # the first reading of the module there
BY_DISPLACEMENT = "displaced"  # another module answered in that bay
BY_OTHER_PLACE = "elsewhere"  # the module answered somewhere else

# Kinds of contradictions: what the evidence says cannot all be true, or a part of it is missing.
TWO_PLACES = "two_places"  # the same code answered in two places at one time
TWO_MODULES = "two_modules"  # two codes answered in one bay at one time
ARRIVAL_WITHOUT_DEPARTURE = "arrival_without_departure"  # it turned up here, and nobody saw it leave there
DEPARTURE_WITHOUT_ARRIVAL = "departure_without_arrival"  # it left, and has turned up nowhere for too long
SWAP_HALF_TOLD = "swap_half_told"  # station or van tells its half of a swap, the other one does not
MOVED_WHILE_OFFLINE = "moved_while_offline"  # it changed places while its holder told nothing
CODE_UNUSUAL = "code_unusual"  # not of the shape of GB/T 34014
KINDS = (
    TWO_PLACES,
    TWO_MODULES,
    ARRIVAL_WITHOUT_DEPARTURE,
    DEPARTURE_WITHOUT_ARRIVAL,
    SWAP_HALF_TOLD,
    MOVED_WHILE_OFFLINE,
    CODE_UNUSUAL,
)


class Place(NamedTuple):
    """A bay of a holder."""

    fleet: str
    node: str
    bay: int


@dataclass(frozen=True, slots=True)
class SwapHalf:
    """One BatteryIn or BatteryOut event as a node told it."""

    time_utc_ms: int
    place: Place
    module: str
    is_in: bool
    request_id: int | None = None
    soc_pct: float | None = None
    soh_pct: float | None = None
    duration_s: int | None = None  # how long the module sat there, as its node knows it
    odometer_km: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    reason: int | None = None  # `catalogue_text.CAME` and its like, `LEFT` and its like; docs/node.md says what follows
    time_quality: int | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A run of readings of one module in one place, none more than `hour.RUN_GAP_MS` after the one before."""

    module: str
    place: Place
    first_utc_ms: int
    last_utc_ms: int
    row_count: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A module in a bay, from then to then. `until_utc_ms` None: it is there, as far as is known."""

    module: str
    place: Place
    from_utc_ms: int
    from_evidence: str
    until_utc_ms: int | None = None
    until_evidence: str | None = None
    first_seen_utc_ms: int | None = None
    last_seen_utc_ms: int | None = None
    came: SwapHalf | None = None
    went: SwapHalf | None = None

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data; the place as `fleet`, `node`, `bay`."""
        return _flat(asdict(self))


@dataclass(frozen=True, slots=True)
class Swap:
    """One exchange: a module out of a van's bay and another one in, with what the station's slots told of both.

    `basis`: `request` where the halves share a request id, `matched` where place, time and modules fit.
    """

    start_utc_ms: int
    end_utc_ms: int
    fleet: str
    van: str | None
    bay: int | None
    station: str | None
    module_out: str | None  # drained, out of the van
    module_in: str | None  # charged, into the van
    slot_out: int | None  # that the charged one came from
    slot_in: int | None  # that the drained one went to
    request_id: int | None
    basis: str
    soc_out_pct: float | None
    soc_in_pct: float | None
    odometer_km: float | None
    latitude_deg: float | None
    longitude_deg: float | None
    told_by_van: int  # halves, 0 to 2
    told_by_station: int
    where_from: str | None = None  # odometer and position: `event`, or `nearest` row of the van

    @property
    def duration_s(self) -> float:
        """Return the time from the first half to the last one."""
        return (self.end_utc_ms - self.start_utc_ms) / 1000

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {**asdict(self), "duration_s": self.duration_s}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What does not fit together, when, where, and the evidence in words. `until_utc_ms` None: it goes on."""

    kind: str
    module: str
    time_utc_ms: int
    until_utc_ms: int | None
    place: Place | None
    other_place: Place | None
    other_module: str | None
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data; the places as objects."""
        content = asdict(self)
        for name in ("place", "other_place"):
            place: Place | None = getattr(self, name)
            content[name] = None if place is None else place._asdict()
        return content


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is known of one module's custody, in the order of time."""

    module: str
    stays: tuple[Stay, ...] = ()
    swaps: tuple[Swap, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    is_complete: bool = True  # nothing earlier was left out
    older_utc_ms: int | None = None  # what began before this was left out for its number; None: nothing was

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "module": self.module,
            "is_complete": self.is_complete,
            "older_utc_ms": self.older_utc_ms,
            "stays": [stay.as_json() for stay in self.stays],
            "swaps": [swap.as_json() for swap in self.swaps],
            "contradictions": [one.as_json() for one in self.contradictions],
        }


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure that is inferred, not read: with its standard uncertainty (1 sigma, same unit) and how it was found.

    `value` is None until the data suffices; then `reason` says what is missing.
    """

    value: float | None
    uncertainty: float | None
    unit: str
    method: str
    sample_count: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Passport:
    """How one module was treated and what it is worth. Figures are over `[first_utc_ms, last_utc_ms]`.

    `soc_s` and `temperature_s`: seconds by band, by the band's name as in `passport.SOC_BANDS`, `TEMPERATURE_BANDS`.
    """

    module: str
    code: Mapping[str, Any]  # what the code says, `code.ModuleCode.as_json`
    first_utc_ms: int
    last_utc_ms: int
    known_s: float  # covered by readings
    energy_in_kwh: float
    energy_out_kwh: float
    energy_method: str
    charge_in_ah: float
    charge_out_ah: float
    equivalent_full_cycles: float | None  # None: the BMS tells no capacity to refer them to
    soc_s: Mapping[str, float]
    temperature_s: Mapping[str, float]
    fast_charge_share: float | None  # of the charge taken in, above `passport.FAST_CHARGE_C`
    capacity: Estimate
    resistance: Estimate
    spread: Estimate  # of the cells at rest
    spread_trend: Estimate  # its growth in 30 days
    swap_count: int
    holder_count: int
    alarm_counts: Mapping[str, int]  # raised, by level: "1", "2", "3"
    siblings: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EarlyWarning:
    """A slow sign that a module may fail, with its reason in words and the figures it stands on. Never an alarm."""

    module: str
    kind: str
    score: float  # 0 to 1: what is listed first
    text: str
    since_utc_ms: int
    evidence: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has seen the alarm that was raised then; a later one of the same code is another one."""

    fleet: str
    node: str
    bay: int
    code: int
    module: str
    raised_utc_ms: int
    time_utc_ms: int
    by: str
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    fleet, node, bay = content.pop("place")
    for name in ("came", "went"):
        if content[name] is not None:
            content[name].pop("place")
            content[name].pop("module")
    return {**content, "fleet": fleet, "node": node, "bay": bay}
