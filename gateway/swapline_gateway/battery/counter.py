"""The BMS's own counters of charge and energy: how much they grew, and whether they can be believed.

A counter counts while nobody listens, so it closes gaps. It also starts anew with a new BMS, rolls over, or stands in
coarse steps (a Seplos V3 counts in 10 A.h); what it says is held against what the readings between add up to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any

from .record import HOUR_MS

COUNTERS = ("charge_in_ah", "charge_out_ah", "energy_in_kwh", "energy_out_kwh")
# More than a large module can take or give: what grows faster is another counter. With them the growth may be coarse.
_PER_H_MAX = {"charge_in_ah": 2000.0, "charge_out_ah": 2000.0, "energy_in_kwh": 200.0, "energy_out_kwh": 200.0}
_COARSE = {"charge_in_ah": 20.0, "charge_out_ah": 20.0, "energy_in_kwh": 1.0, "energy_out_kwh": 1.0}


@dataclass(frozen=True, slots=True)
class Count:
    """A counter between two times. `breaks`: how often it fell, or jumped farther than it can count."""

    first_utc_ms: int
    first: float
    last_utc_ms: int
    last: float
    growth: float
    breaks: int

    def as_list(self) -> list[Any]:
        """Return JSON-ready data; `Count(*values)` takes it back."""
        return list(astuple(self))


def count(name: str, values: Iterable[tuple[int, float | None]]) -> Count | None:
    """Follow a counter through (time, value), ascending in time. None if it has no value."""
    known = [(time_ms, value) for time_ms, value in values if value is not None]
    if not known:
        return None
    growth, breaks = 0.0, 0
    for before, after in pairwise(known):
        step = _growth(name, before, after)
        growth, breaks = growth + (step or 0.0), breaks + (step is None)
    first, last = known[0], known[-1]
    return Count(first[0], float(first[1]), last[0], float(last[1]), round(growth, 6), breaks)


def join_counts(name: str, counts: Sequence[Count]) -> Count | None:
    """Return the counter over all of these times and the gaps between them."""
    if not counts:
        return None
    growth, breaks = sum(one.growth for one in counts), sum(one.breaks for one in counts)
    for before, after in pairwise(counts):
        step = _growth(name, (before.last_utc_ms, before.last), (after.first_utc_ms, after.first))
        growth, breaks = growth + (step or 0.0), breaks + (step is None)
    first, last = counts[0], counts[-1]
    return Count(first.first_utc_ms, first.first, last.last_utc_ms, last.last, round(growth, 6), breaks)


def _growth(name: str, before: tuple[int, float], after: tuple[int, float]) -> float | None:
    """Return how much the counter grew, None where it is not the same counter any more."""
    growth = after[1] - before[1]
    limit = _COARSE[name] + _PER_H_MAX[name] * (after[0] - before[0]) / HOUR_MS
    return growth if 0 <= growth <= limit else None
