"""A store of sightings and swaps, and hours that are nothing but sightings: thousands of lives in a few seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from swapline_gateway.battery.custody_book import HourBookLike
from swapline_gateway.battery.hour import RUN_GAP_MS
from swapline_gateway.battery.record import HOUR_MS, Place, Sighting, SwapHalf
from swapline_gateway.battery.store import BatteryStore, ModuleRows
from swapline_gateway.battery.table import Table
from swapline_wire.catalogue import TIME_NTP

from .memory_tables import MemoryTables


@dataclass(frozen=True)
class Reading:
    """A row of the module stream, as far as custody cares."""

    module: str
    place: Place
    time_utc_ms: int
    quality: int = TIME_NTP


class CustodyStore(MemoryTables):
    """Answers as `BatteryStore` does. Evidence comes by `add`, in any order; what is there already is not added."""

    def __init__(self) -> None:
        super().__init__()
        self.evidence: set[Reading | SwapHalf] = set()
        self.holders: dict[tuple[str, str], str] = {}  # holder -> the stream that it always has rows of

    def add(self, *evidence: Reading | SwapHalf) -> None:
        self.evidence.update(evidence)

    def gone_before_utc_ms(self) -> int:
        return 0

    def modules(self, *, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[str]:
        del start_utc_ms, end_utc_ms
        return sorted({one.module for one in self.evidence if one.module})

    def span(self, module: str) -> tuple[int, int] | None:
        times = [one.time_utc_ms for one in self.evidence if one.module == module]
        return (min(times), max(times)) if times else None

    def of(self, module: str) -> list[Reading]:
        found = [one for one in self.evidence if isinstance(one, Reading) and one.module == module]
        return sorted(found, key=lambda one: (one.time_utc_ms, one.place))

    def readings(
        self, module: str, signals: Sequence[str], *, start_utc_ms: int, end_utc_ms: int, **_: Any
    ) -> ModuleRows:
        assert list(signals) == ["time_quality"]
        rows = [one for one in self.of(module) if start_utc_ms <= one.time_utc_ms < end_utc_ms]
        columns: dict[str, Sequence[float | None]] = {"time_quality": [one.quality for one in rows]}
        return ModuleRows([one.time_utc_ms for one in rows], [one.place for one in rows], columns)

    def holder_readings(
        self, fleet: str, node: str, signals: Sequence[str], *, stream: str, start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        times = range(-(-start_utc_ms // 60_000) * 60_000, end_utc_ms, 60_000)
        if self.holders.get((fleet, node)) != stream:
            times = range(0)
        figures: dict[str, Sequence[float | None]] = {name: [12.5] * len(times) for name in signals}
        return ModuleRows(list(times), [Place(fleet, node, 0)] * len(times), figures)

    def halves(
        self,
        *,
        module: str | None = None,
        fleet: str | None = None,
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
    ) -> list[SwapHalf]:
        end = float("inf") if end_utc_ms is None else end_utc_ms
        found = [
            one
            for one in self.evidence
            if isinstance(one, SwapHalf)
            and start_utc_ms <= one.time_utc_ms < end
            and module in (None, one.module)
            and fleet in (None, one.place.fleet)
        ]
        return sorted(found, key=lambda one: (one.time_utc_ms, one.place, one.module, not one.is_in))

    def rows(self, *tables: Table) -> dict[Any, dict[str, Any]]:
        """Return everything in these tables that is not void."""
        return {row.key: row.fields for table in tables for row in self.read(table)}

    def as_store(self) -> BatteryStore:
        return cast("BatteryStore", self)


@dataclass(frozen=True)
class SightingHour:
    sightings: tuple[Sighting, ...]


class MemoryHours:
    """What the book of hours says of sightings: runs of rows, cut at the hours."""

    def __init__(self, store: CustodyStore) -> None:
        self._store = store
        self.hours_read = 0

    def hours(self, module: str, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[SightingHour]:
        span = self._store.span(module)
        if span is None:
            return []
        first = max(span[0] // HOUR_MS * HOUR_MS, -(-start_utc_ms // HOUR_MS) * HOUR_MS)
        end = min(span[1] + 1, span[1] + 1 if end_utc_ms is None else end_utc_ms)
        hours = range(first, end, HOUR_MS)
        self.hours_read += len(hours)
        runs = runs_of(self._store.of(module))
        return [SightingHour(tuple(cut(runs, hour))) for hour in hours]


def runs_of(readings: list[Reading]) -> list[Sighting]:
    runs: dict[Place, list[Sighting]] = {}
    for one in readings:
        here = runs.setdefault(one.place, [])
        if here and one.time_utc_ms - here[-1].last_utc_ms <= RUN_GAP_MS:
            last = here.pop()
            here.append(last.__class__(one.module, one.place, last.first_utc_ms, one.time_utc_ms, last.row_count + 1))
        else:
            here.append(Sighting(one.module, one.place, one.time_utc_ms, one.time_utc_ms, 1))
    return [run for place in sorted(runs) for run in runs[place]]


def cut(runs: list[Sighting], hour: int) -> list[Sighting]:
    end = hour + HOUR_MS
    return [
        Sighting(run.module, run.place, max(run.first_utc_ms, hour), min(run.last_utc_ms, end), 1)
        for run in runs
        if run.first_utc_ms < end and run.last_utc_ms >= hour
    ]


def as_hours(hours: MemoryHours) -> HourBookLike:
    return cast("HourBookLike", hours)
