"""Runs: readings of one module in one place, without a gap that nobody can vouch for.

A node keeps a row when a value moved by its deadband, else once a minute (the stream's longest silence), so up to a
minute between two rows everything stood still. `RUN_GAP_MS` allows for that and for two polls that went wrong; what is
longer is unknown, never zero.
"""

from binascii import crc32
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from .record import Place, Sighting
from .store import ModuleRows

RUN_GAP_MS = 180_000


class Run(NamedTuple):
    """Places of a run's rows in `ModuleRows`, ascending in time."""

    place: Place
    rows: Sequence[int]


def split_runs(readings: ModuleRows, gap_ms: int = RUN_GAP_MS) -> list[Run]:
    """Return all runs, by place and time."""
    by_place: dict[Place, list[int]] = {}
    for row, place in enumerate(readings.places):
        by_place.setdefault(place, []).append(row)
    times = readings.time_utc_ms
    runs = []
    for place in sorted(by_place):
        rows, first = by_place[place], 0
        for n in range(1, len(rows) + 1):
            if n == len(rows) or times[rows[n]] - times[rows[n - 1]] > gap_ms:
                runs.append(Run(place, rows[first:n]))
                first = n
    return runs


def sightings_of(
    module: str, runs: Iterable[Run], times: Sequence[int], start_utc_ms: int, end_utc_ms: int
) -> Iterator[Sighting]:
    """Yield what of each run lies in [start, end]: a run that goes on beyond an end is cut there."""
    for place, rows in runs:
        count = sum(1 for row in rows if start_utc_ms <= times[row] < end_utc_ms)
        if count:
            first, last = max(times[rows[0]], start_utc_ms), min(times[rows[-1]], end_utc_ms)
            yield Sighting(module, place, first, last, count)


def join_sightings(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Make runs that touch where they were cut one again; by time and place."""
    open_runs: dict[Place, Sighting] = {}
    done = []
    for sighting in sorted(sightings, key=lambda s: (s.first_utc_ms, s.place, s.last_utc_ms)):
        before = open_runs.get(sighting.place)
        if before is not None and sighting.first_utc_ms <= before.last_utc_ms:
            open_runs[sighting.place] = _joined(before, sighting)
            continue
        if before is not None:
            done.append(before)
        open_runs[sighting.place] = sighting
    return sorted([*done, *open_runs.values()], key=lambda s: (s.first_utc_ms, s.place))


def _joined(before: Sighting, after: Sighting) -> Sighting:
    last_utc_ms = max(before.last_utc_ms, after.last_utc_ms)
    row_count = before.row_count + after.row_count
    return replace(before, last_utc_ms=last_utc_ms, row_count=row_count)


def mark_rows(readings: ModuleRows, start_utc_ms: int, end_utc_ms: int) -> int:
    """Return a check sum of the rows in [start, end): whether an hour still stands on the rows beside it."""
    times, places = readings.time_utc_ms, readings.places
    rows = range(bisect_left(times, start_utc_ms), bisect_left(times, end_utc_ms))
    columns = [readings.columns[name] for name in sorted(readings.columns)]
    told = [(times[row], tuple(places[row]), [_number(column[row]) for column in columns]) for row in rows]
    return crc32(repr(told).encode()) if told else 0


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)  # one database gives 5, another one 5.0
