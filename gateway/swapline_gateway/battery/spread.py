"""Spread of a module's cells at rest, and whether it grows.

Cells of one string that rest show how far their charges are apart. How much voltage that is depends on where on the
open-circuit curve they are, so rests are compared only within one of three regions; the one with most rests speaks.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from .record import Estimate
from .rest import Rest
from .span import DAY_MS, SETTLED_MS

# Mean cell voltage: below the knee of LFP, on its plateau, above it.
REGIONS = {"low": (0.0, 3.25), "plateau": (3.25, 3.345), "high": (3.345, 9.0)}
RECENT_MS = 30 * DAY_MS
TREND_MS = 180 * DAY_MS
TREND_DAYS_MIN = 14.0
SAMPLES_MIN, TREND_SAMPLES_MIN, TREND_SAMPLES_MAX = 3, 8, 200
RESOLUTION_MV = 1.0
_TREND_DAYS = 30.0


class Spread(NamedTuple):
    """A spread seen at the end of a rest."""

    time_utc_ms: int
    spread_mv: float


def estimate_spread(rests: Sequence[Rest]) -> tuple[Estimate, Estimate]:
    """Return the spread of the last 30 days, and its growth in 30 days over the last 180."""
    region, found = _region(rests)
    method = f"highest less lowest cell after half an hour of rest, {region} region of the open-circuit voltage, median"
    trend_method = f"median of the slopes between all pairs of rests, {region} region, in mV in 30 days"
    recent = [one for one in found if one.time_utc_ms >= found[-1].time_utc_ms - RECENT_MS] if found else []
    if len(recent) < SAMPLES_MIN:
        reason = f"{len(recent)} of {SAMPLES_MIN} rests of half an hour in one region of the voltage"
        none = Estimate(None, None, "mV", method, len(recent), reason)
        return none, Estimate(None, None, "mV", trend_method, len(found), reason)
    values = [one.spread_mv for one in recent]
    middle = median(values)
    sigma = _sigma([value - middle for value in values])
    spread = Estimate(round(middle, 2), round(sigma, 2), "mV", method, len(values))
    return spread, _trend(found[-TREND_SAMPLES_MAX:], trend_method)


def _region(rests: Sequence[Rest]) -> tuple[str, list[Spread]]:
    last_ms = max((rest.end_utc_ms for rest in rests), default=0)
    by_region: dict[str, list[Spread]] = {name: [] for name in REGIONS}
    for rest in rests:
        spread_mv = rest.spread_mv
        is_old = rest.end_utc_ms < last_ms - TREND_MS
        if spread_mv is None or rest.cell_mean_v is None or rest.end_utc_ms - rest.start_utc_ms < SETTLED_MS or is_old:
            continue
        for name, (low_v, high_v) in REGIONS.items():
            if low_v <= rest.cell_mean_v < high_v:
                by_region[name].append(Spread(rest.end_utc_ms, spread_mv))
    name = max(by_region, key=lambda one: len(by_region[one]))
    return name, sorted(by_region[name])


def _trend(found: Sequence[Spread], method: str) -> Estimate:
    days = (found[-1].time_utc_ms - found[0].time_utc_ms) / DAY_MS
    if len(found) < TREND_SAMPLES_MIN or days < TREND_DAYS_MIN:
        reason = (
            f"{len(found)} rests over {days:.0f} days; {TREND_SAMPLES_MIN} over {TREND_DAYS_MIN:.0f} days are needed"
        )
        return Estimate(None, None, "mV", method, len(found), reason)
    slopes = [
        (after.spread_mv - before.spread_mv) / (after.time_utc_ms - before.time_utc_ms) * DAY_MS * _TREND_DAYS
        for n, before in enumerate(found)
        for after in found[n + 1 :]
        if after.time_utc_ms > before.time_utc_ms
    ]
    slope = median(slopes)
    first_ms = found[0].time_utc_ms
    levels = [one.spread_mv - slope * (one.time_utc_ms - first_ms) / DAY_MS / _TREND_DAYS for one in found]
    middle = median(levels)
    # Of a straight line through evenly spaced samples: sigma of the slope = sqrt(12 / n) * scatter / length.
    scatter = _sigma([level - middle for level in levels]) * len(found) ** 0.5
    sigma = (12 / len(found)) ** 0.5 * scatter / days * _TREND_DAYS
    return Estimate(round(slope, 3), round(sigma, 3), "mV", method, len(found))


def _sigma(deviations: Sequence[float]) -> float:
    """Return the standard uncertainty of a median: from the median absolute deviation, at least the resolution's."""
    scatter = max(1.4826 * median(abs(one) for one in deviations), RESOLUTION_MV / 12**0.5)
    return float(1.2533 * scatter / len(deviations) ** 0.5)
