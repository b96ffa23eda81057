"""One hour of UTC of one module: what its readings say, in figures that add up.

`summarise` is a pure function of the rows in the hour and of `MARGIN_MS` to both sides of it, so hours can be derived
again at any time, in any order, by anybody, with the same result. What is cut at an hour's edge is cut exactly there:
the hours' sums are the sums of the whole.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import Any

from swapline_wire.catalogue import CELLS_PER_SEGMENT, SENSORS_PER_SEGMENT

from . import table
from .counter import COUNTERS, Count, count
from .integral import Integrator, Sums, points_of
from .record import HOUR_MS, Place, Sighting
from .resistance import Step, distinct, find_steps
from .rest import Anchor, Rest, find_anchors, find_rests
from .run import RUN_GAP_MS, Run, join_sightings, mark_rows, sightings_of, split_runs
from .store import ModuleRows

__all__ = ["HOUR_MS", "MARGIN_MS", "RUN_GAP_MS", "SIGNALS", "ModuleHour", "join_sightings", "summarise"]

MARGIN_MS = RUN_GAP_MS  # rows beyond the edges that an hour may depend on: [start - margin, end + margin)
SIGNALS = (
    "voltage_v",
    "current_a",
    "soc_pct",
    "soh_pct",
    "capacity_full_ah",
    "cell_voltage_min_v",
    "cell_voltage_max_v",
    "cell_voltage_mean_v",
    "cell_voltage_min_cell",
    "cell_voltage_max_cell",
    "temperature_min_c",
    "temperature_max_c",
    "temperature_ambient_c",
    "cell_count",
    *COUNTERS,
)
CELL_SIGNALS = (
    "segment",
    *(f"cell_{n:02d}_v" for n in range(1, CELLS_PER_SEGMENT + 1)),
    *(f"temperature_{n}_c" for n in range(1, SENSORS_PER_SEGMENT + 1)),
)
FLOATS_OF_SUMS = tuple(f.name for f in fields(Sums) if f.type in ("float", float))
_FIGURES = (
    "soc_min_pct",
    "soc_max_pct",
    "temperature_min_c",
    "temperature_max_c",
    "spread_mv",
    "rated_ah",
)
_MARKS = ("head_mark", "tail_mark", "before_mark", "after_mark")


@dataclass(frozen=True, slots=True)
class ModuleHour:
    """See the module's header. None: no reading said it."""

    module: str
    hour_utc_ms: int
    row_count: int = 0
    sightings: tuple[Sighting, ...] = ()  # cut at the hour's edges, exactly there where a run goes on
    sums: Sums = field(default_factory=Sums)
    soc_min_pct: float | None = None
    soc_max_pct: float | None = None
    temperature_min_c: float | None = None
    temperature_max_c: float | None = None
    spread_mv: float | None = None  # of the cells at the end of the hour's last rest
    rated_ah: float | None = None  # the BMS's full capacity over its state of health
    rests: tuple[Rest, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    steps: tuple[Step, ...] = ()
    counts: Mapping[str, Count] = field(default_factory=dict)  # the BMS's counters
    sensors_c: Mapping[int, tuple[float, float]] = field(default_factory=dict)  # each sensor's lowest and highest
    marks: tuple[int, int, int, int] = (0, 0, 0, 0)  # `head`, `tail`, `before`, `after`: see `hour_book.py`

    @property
    def energy_in_kwh(self) -> float:
        """Return what went in, as far as readings cover the hour."""
        return self.sums.energy_in_kwh

    @property
    def energy_out_kwh(self) -> float:
        """Return what came out, as far as readings cover the hour."""
        return self.sums.energy_out_kwh

    def as_row(self) -> table.Row:
        """Return the row that is stored; `from_row` takes it back."""
        numbers = {name: getattr(self.sums, name) for name in FLOATS_OF_SUMS}
        figures = {name: getattr(self, name) for name in _FIGURES}
        marks = dict(zip(_MARKS, self.marks, strict=True))
        detail = json.dumps(self._detail(), separators=(",", ":"), sort_keys=True)
        return table.MODULE_HOUR.row(
            self.hour_utc_ms,
            {"module": self.module},
            row_count=self.row_count,
            **numbers,
            **figures,
            **marks,
            detail=detail,
        )

    def _detail(self) -> dict[str, Any]:
        return {
            "sightings": [[*s.place, s.first_utc_ms, s.last_utc_ms, s.row_count] for s in self.sightings],
            "soc_s": self.sums.soc_s,
            "temperature_s": self.sums.temperature_s,
            "charge_by_rate_ah": self.sums.charge_by_rate_ah,
            "rests": [rest.as_list() for rest in self.rests],
            "anchors": [anchor.as_list() for anchor in self.anchors],
            "steps": [step.as_list() for step in self.steps],
            "counts": {name: one.as_list() for name, one in self.counts.items()},
            "sensors_c": {str(number): list(reach) for number, reach in self.sensors_c.items()},
        }

    @classmethod
    def from_row(cls, row: table.Row) -> "ModuleHour":
        """Return the hour that `as_row` gave.

        Raises `ValueError`, `KeyError` or `TypeError` if it is not of this version.
        """
        module, stored = row.tags["module"], row.fields
        detail = json.loads(stored["detail"])
        sums = Sums(
            **{name: float(stored.get(name) or 0.0) for name in FLOATS_OF_SUMS},
            soc_s=detail["soc_s"],
            temperature_s=detail["temperature_s"],
            charge_by_rate_ah=detail["charge_by_rate_ah"],
        )
        return cls(
            module,
            row.time_utc_ms,
            int(stored["row_count"]),
            tuple(Sighting(module, Place(*one[:3]), *one[3:]) for one in detail["sightings"]),
            sums,
            **{name: stored.get(name) for name in _FIGURES},
            rests=tuple(Rest.from_list(one) for one in detail["rests"]),
            anchors=tuple(Anchor(*one) for one in detail["anchors"]),
            steps=tuple(Step(*one) for one in detail["steps"]),
            counts={name: Count(*one) for name, one in detail["counts"].items()},
            sensors_c={int(number): (reach[0], reach[1]) for number, reach in detail["sensors_c"].items()},
            marks=_marks(stored),
        )


def _marks(stored: Mapping[str, Any]) -> tuple[int, int, int, int]:
    head, tail, before, after = (int(stored.get(name) or 0) for name in _MARKS)
    return head, tail, before, after


def summarise(module: str, readings: ModuleRows, hour_utc_ms: int, cells: ModuleRows | None = None) -> ModuleHour:
    """Sum up one hour of `SIGNALS`; rows reach `MARGIN_MS` beyond both ends of it.

    `cells`: rows of the stream `cells` of the hour, for what single cells and sensors did.
    """
    start, end = hour_utc_ms, hour_utc_ms + HOUR_MS
    assert start % HOUR_MS == 0, start
    times = readings.time_utc_ms
    inside = range(bisect_left(times, start), bisect_left(times, end))
    runs = _by_weight(split_runs(readings), times, start)
    integrator, steps = Integrator(start), list[Step]()
    for run in runs:
        points = points_of(readings, run.rows)
        integrator.add(run, points)
        steps += find_steps(points, start)
    integrator.sums.round()
    found = list(find_rests(readings, runs, integrator, start))
    found = [replace(rest, cells_mv=_cells_mv(cells, rest)) for rest in found]
    rests = tuple(sorted(found, key=lambda rest: (rest.start_utc_ms, rest.place)))
    return ModuleHour(
        module,
        hour_utc_ms,
        len(inside),
        tuple(join_sightings(sightings_of(module, runs, times, start, end))),
        integrator.sums,
        **_figures(readings, inside),
        spread_mv=next((rest.spread_mv for rest in reversed(rests) if rest.spread_mv is not None), None),
        rests=rests,
        anchors=tuple(find_anchors(readings, integrator, start)),
        steps=tuple(distinct(sorted(steps, key=lambda step: step.time_utc_ms))),
        counts=_count(readings, inside),
        sensors_c=_sensors_c(cells),
        marks=(
            mark_rows(readings, start, start + MARGIN_MS),
            mark_rows(readings, end - MARGIN_MS, end),
            mark_rows(readings, start - MARGIN_MS, start),
            mark_rows(readings, end, end + MARGIN_MS),
        ),
    )


def _by_weight(runs: list[Run], times: Sequence[int], start_utc_ms: int) -> list[Run]:
    """Return runs, those with most rows in the hour first."""

    def weight(run: Run) -> tuple[int, Place, int]:
        inside = sum(1 for row in run.rows if start_utc_ms <= times[row] < start_utc_ms + HOUR_MS)
        return -inside, run.place, times[run.rows[0]]

    return sorted(runs, key=weight)


def _cells_mv(cells: ModuleRows | None, rest: Rest) -> tuple[int | None, ...]:
    """Return each cell's last voltage in the rest; a row is kept when a cell moved by 5 mV, else every five minutes."""
    found: dict[int, int | None] = {}
    for row, segment in _segments(cells):
        if cells is None or cells.places[row] != rest.place:
            continue
        if rest.start_utc_ms <= cells.time_utc_ms[row] <= rest.end_utc_ms:
            for n, name in enumerate(CELL_SIGNALS[1 : CELLS_PER_SEGMENT + 1]):
                volts = cells.columns[name][row]
                found[segment * CELLS_PER_SEGMENT + n] = None if volts is None else round(volts * 1000)
    known = [n for n in found if found[n] is not None]
    return tuple(found.get(n) for n in range(max(known) + 1)) if known else ()


def _sensors_c(cells: ModuleRows | None) -> dict[int, tuple[float, float]]:
    reach: dict[int, tuple[float, float]] = {}
    for row, segment in _segments(cells):
        for n, name in enumerate(CELL_SIGNALS[CELLS_PER_SEGMENT + 1 :], start=1):
            value = cells.columns[name][row] if cells is not None else None
            if value is not None:
                number = segment * SENSORS_PER_SEGMENT + n
                low, high = reach.get(number, (value, value))
                reach[number] = (float(min(low, value)), float(max(high, value)))
    return reach


def _segments(cells: ModuleRows | None) -> Iterator[tuple[int, int]]:
    """Yield (row, segment). A database that does not know a row's segment has modules of one segment."""
    for row in range(len(cells.time_utc_ms) if cells is not None else 0):
        yield row, int((cells.columns["segment"][row] if cells is not None else None) or 0)


def _figures(readings: ModuleRows, rows: Sequence[int]) -> dict[str, float | None]:
    def known(name: str) -> list[float]:
        return [value for row in rows if (value := readings.columns[name][row]) is not None]

    full = known("capacity_full_ah")
    # A BMS without a state of health tells what it was set to: the capacity when new.
    health = [value for value in known("soh_pct") if value > 0]
    rated_ah = 100 * median(full) / median(health) if full and health else median(full) if full else None
    soc, low, high = known("soc_pct"), known("temperature_min_c"), known("temperature_max_c")
    return {
        "soc_min_pct": float(min(soc)) if soc else None,
        "soc_max_pct": float(max(soc)) if soc else None,
        "temperature_min_c": float(min(low)) if low else None,
        "temperature_max_c": float(max(high)) if high else None,
        "rated_ah": round(rated_ah, 3) if rated_ah else None,
    }


def _count(readings: ModuleRows, rows: Sequence[int]) -> dict[str, Count]:
    found = {}
    for name in COUNTERS:
        column = readings.columns[name]
        one = count(name, ((readings.time_utc_ms[row], column[row]) for row in rows))
        if one is not None:
            found[name] = one
    return found
