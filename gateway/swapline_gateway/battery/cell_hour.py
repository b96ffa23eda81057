"""What the cells and sensors of a module showed in one hour: what early warning compares over weeks.

Cells are compared with each other at rest only: under load their voltages differ by their resistances, and by moments,
where a BMS reads them one after the other. Sensors are compared at all times.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

from .store import ModuleRows

CELLS_PER_SEGMENT = 16
SENSORS_PER_SEGMENT = 8
CELL_SIGNALS = (
    "segment",
    *(f"cell_{n:02d}_v" for n in range(1, CELLS_PER_SEGMENT + 1)),
    *(f"temperature_{n}_c" for n in range(1, SENSORS_PER_SEGMENT + 1)),
)
_CELLS_MIN = 3  # fewer have no middle that one of them could differ from
_ROWS_MIN = 2

Values = tuple[float | None, ...]


class CellRest(NamedTuple):
    """The string at rest: each cell's distance from the middle one, cell 1 first; the median over the rest's rows."""

    time_utc_ms: int  # of the last row
    middle_mv: float
    deviation_mv: Values

    @property
    def spread_mv(self) -> float:
        """Return how far the highest cell is above the lowest one."""
        known = [value for value in self.deviation_mv if value is not None]
        return max(known) - min(known)


class SensorRange(NamedTuple):
    """What one sensor showed within the hour."""

    lowest_c: float
    mean_c: float  # over rows
    highest_c: float


@dataclass(frozen=True, slots=True)
class CellHour:
    """Rests in the order of time, and the sensors, sensor 1 first; None where a sensor said nothing."""

    row_count: int
    rests: tuple[CellRest, ...] = ()
    sensors: tuple[SensorRange | None, ...] = ()

    def as_detail(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {"row_count": self.row_count, "rests": self.rests, "sensors": self.sensors}

    @classmethod
    def from_detail(cls, detail: Mapping[str, Any]) -> "CellHour":
        """Take what `as_detail` returned, after JSON."""
        return cls(
            int(detail["row_count"]),
            tuple(CellRest(int(time_ms), middle, tuple(values)) for time_ms, middle, values in detail["rests"]),
            tuple(None if sensor is None else SensorRange(*sensor) for sensor in detail["sensors"]),
        )


def summarise_cells(cells: ModuleRows, rests: Iterable[tuple[int, int]]) -> CellHour | None:
    """Return what rows of the stream `cells` (with `CELL_SIGNALS`) of one hour show; None without any.

    `rests` are the times, first and last millisecond, in which voltages had settled.
    """
    if not cells.time_utc_ms:
        return None
    found = [rest for begin, end in rests if (rest := _rest(cells, begin, end)) is not None]
    return CellHour(len(cells.time_utc_ms), tuple(found), _sensors(cells))


def _rest(cells: ModuleRows, begin_utc_ms: int, end_utc_ms: int) -> CellRest | None:
    rows = [i for i, time_ms in enumerate(cells.time_utc_ms) if begin_utc_ms <= time_ms <= end_utc_ms]
    columns = _by_segment(cells, rows, [f"cell_{n:02d}_v" for n in range(1, CELLS_PER_SEGMENT + 1)])
    middles = [median(values) if values else None for values in columns]
    known = [value for value in middles if value is not None]
    if len(known) < _CELLS_MIN or max(len(values) for values in columns) < _ROWS_MIN:
        return None
    middle = median(known)
    deviation = tuple(None if value is None else round((value - middle) * 1000, 2) for value in middles)
    return CellRest(cells.time_utc_ms[rows[-1]], round(middle * 1000, 2), deviation)


def _sensors(cells: ModuleRows) -> tuple[SensorRange | None, ...]:
    rows = range(len(cells.time_utc_ms))
    columns = _by_segment(cells, rows, [f"temperature_{n}_c" for n in range(1, SENSORS_PER_SEGMENT + 1)])
    return tuple(SensorRange(min(v), round(fmean(v), 2), max(v)) if v else None for v in columns)


def _by_segment(cells: ModuleRows, rows: Sequence[int], names: Sequence[str]) -> list[list[float]]:
    """Return the values of each cell or sensor, those of segment 0 first; what comes behind the last one is left out.

    A database that does not know a row's segment has modules of one segment.
    """
    segments = cells.columns["segment"]
    found: dict[int, list[float]] = {}
    for offset, name in enumerate(names):
        column = cells.columns[name]
        for i in rows:
            value = column[i]
            if value is not None:
                found.setdefault(int(segments[i] or 0) * len(names) + offset, []).append(value)
    return [found.get(n, []) for n in range(max(found, default=-1) + 1)]
