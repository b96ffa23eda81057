"""Rests and anchors: moments at which a module's voltage says how full it is.

A rest is a stretch of low current. Cells of LFP settle for hours, so a rest is worth the more the longer it lasted;
what it is worth is for `capacity.py` to say. An anchor is a moment under current at which the voltage leaves the
plateau: full at the end of charging, or nearly empty.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .integral import Charged, Integrator
from .record import HOUR_MS, Place
from .run import Run
from .store import ModuleRows

REST_C = 1 / 50  # a parked van's computers draw that from a single module; the drop on a cell is about 3 mV
REST_A_MIN = 2.0
REST_KEPT_MS = 300_000  # shorter ones tell nothing about open-circuit voltage

FULL_CELL_V = 3.45  # mean cell of LFP, at the end of charging
FULL_C_MAX = 1 / 15
CHARGING_MS_MIN = 120_000  # without a break: recuperation lifts the voltage too
EMPTY_CELL_V = 3.05  # weakest cell of LFP under load: below the last knee
EMPTY_C_MAX = 0.6  # with more, the drop is too large a part of what is told
FULL, EMPTY = "full", "empty"


@dataclass(frozen=True, slots=True)
class Rest:
    """A rest, or what of it lies in one hour. Figures are those of its end."""

    start_utc_ms: int
    end_utc_ms: int
    place: Place
    net_ah: float  # since the hour of its end began
    known_s: float
    current_a: float
    cell_min_v: float | None
    cell_max_v: float | None
    cell_mean_v: float | None
    min_cell: int | None
    max_cell: int | None
    soc_pct: float | None
    temperature_c: float | None
    cells_mv: tuple[int | None, ...] = ()  # each cell at its last row in the rest

    @property
    def spread_mv(self) -> float | None:
        """Return how far the cells are apart."""
        if self.cell_min_v is None or self.cell_max_v is None:
            return None
        return round((self.cell_max_v - self.cell_min_v) * 1000, 3)

    def as_list(self) -> list[Any]:
        """Return JSON-ready data; `from_list` takes it back."""
        return [list(value) if isinstance(value, tuple) else value for value in _values(self)]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> "Rest":
        """Return the rest that `as_list` gave."""
        content = dict(zip(cls.__slots__, values, strict=True))
        return cls(**{**content, "place": Place(*content["place"]), "cells_mv": tuple(content["cells_mv"])})


@dataclass(frozen=True, slots=True)
class Anchor:
    """A moment at which the voltage under current says that the module is full or nearly empty."""

    kind: str
    time_utc_ms: int
    net_ah: float  # since its hour began
    known_s: float
    current_a: float
    cell_min_v: float
    cell_mean_v: float
    soc_pct: float | None
    temperature_c: float | None

    def as_list(self) -> list[Any]:
        """Return JSON-ready data."""
        return list(_values(self))


def _values(record: "Rest | Anchor") -> Iterator[Any]:
    return (getattr(record, name) for name in record.__slots__)


def rest_limit_a(full_ah: float | None) -> float:
    """Return the current below which a module rests."""
    return max(REST_A_MIN, REST_C * (full_ah or 0.0))


def find_rests(readings: ModuleRows, runs: Iterable[Run], integrator: Integrator, start_utc_ms: int) -> Iterator[Rest]:
    """Yield what of each rest lies in the hour: rests of five minutes, and shorter pieces that its edges cut off."""
    end_utc_ms = start_utc_ms + HOUR_MS
    times = readings.time_utc_ms
    for run in runs:
        for rows in _stretches(readings, run):
            first_ms, last_ms = times[rows[0]], times[rows[-1]]
            low_ms, high_ms = max(first_ms, start_utc_ms), min(last_ms, end_utc_ms)
            is_cut = low_ms != first_ms or high_ms != last_ms
            inside = [row for row in rows if times[row] <= high_ms]
            if high_ms > low_ms and inside and (is_cut or high_ms - low_ms >= REST_KEPT_MS):
                yield _rest(readings, inside[-1], low_ms, high_ms, integrator.charged_at(high_ms))


def _stretches(readings: ModuleRows, run: Run) -> Iterator[list[int]]:
    currents, capacities = readings.columns["current_a"], readings.columns["capacity_full_ah"]
    rows: list[int] = []
    for row in run.rows:
        current_a = currents[row]
        if current_a is not None and abs(current_a) <= rest_limit_a(capacities[row]):
            rows.append(row)
        elif rows:
            yield rows
            rows = []
    if rows:
        yield rows


def _rest(readings: ModuleRows, row: int, low_ms: int, high_ms: int, charged: Charged) -> Rest:
    def at(name: str) -> float | None:
        return readings.columns[name][row]

    return Rest(
        low_ms,
        high_ms,
        readings.places[row],
        charged.net_ah,
        charged.known_s,
        at("current_a") or 0.0,
        at("cell_voltage_min_v"),
        at("cell_voltage_max_v"),
        at("cell_voltage_mean_v"),
        _whole(at("cell_voltage_min_cell")),
        _whole(at("cell_voltage_max_cell")),
        at("soc_pct"),
        at("temperature_max_c"),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def find_anchors(readings: ModuleRows, integrator: Integrator, start_utc_ms: int) -> list[Anchor]:
    """Return the hour's last full moment and its emptiest one."""
    full: Anchor | None = None
    empty: Anchor | None = None
    charging_since_ms: int | None = None
    for row, time_ms in enumerate(readings.time_utc_ms):
        current_a = readings.columns["current_a"][row]
        if current_a is None or current_a <= 0:
            charging_since_ms = None
        elif charging_since_ms is None:
            charging_since_ms = time_ms
        if not start_utc_ms <= time_ms < start_utc_ms + HOUR_MS or current_a is None:
            continue
        anchor = _anchor(readings, row, time_ms, current_a)
        if anchor is None:
            continue
        if anchor.kind == EMPTY:
            empty = anchor if empty is None or anchor.cell_min_v < empty.cell_min_v else empty
        elif charging_since_ms is not None and time_ms - charging_since_ms >= CHARGING_MS_MIN:
            full = anchor
    found = [anchor for anchor in (full, empty) if anchor is not None]
    return sorted((_charged(anchor, integrator) for anchor in found), key=lambda anchor: anchor.time_utc_ms)


def _anchor(readings: ModuleRows, row: int, time_ms: int, current_a: float) -> Anchor | None:
    columns = readings.columns
    full_ah, soc_pct = columns["capacity_full_ah"][row], columns["soc_pct"][row]
    mean_v, min_v = columns["cell_voltage_mean_v"][row], columns["cell_voltage_min_v"][row]
    if not full_ah or mean_v is None or min_v is None:
        return None
    if mean_v >= FULL_CELL_V and 0 < current_a <= FULL_C_MAX * full_ah:
        kind = FULL
    elif min_v <= EMPTY_CELL_V and -EMPTY_C_MAX * full_ah <= current_a < 0:
        kind = EMPTY
    else:
        return None
    return Anchor(kind, time_ms, 0.0, 0.0, current_a, min_v, mean_v, soc_pct, columns["temperature_max_c"][row])


def _charged(anchor: Anchor, integrator: Integrator) -> Anchor:
    charged = integrator.charged_at(anchor.time_utc_ms)
    values = list(_values(anchor))
    return Anchor(anchor.kind, anchor.time_utc_ms, charged.net_ah, charged.known_s, *values[4:])
