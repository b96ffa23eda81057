"""Does something grow over days, measured at different fillings? The seasonal Kendall test, with bands for seasons.

What a string's cells differ by at rest depends on how full it is, so only days of the same band are compared: each
pair of them says up, down or neither, and all bands' votes are added up. The slope is the median of all pairs' slopes.
Neither asks how errors are distributed, and a few wrong days change little. R. M. Hirsch, J. R. Slack and R. A. Smith,
Techniques of trend analysis for monthly water quality data, Water Resources Research 18 (1982) 107-121,
doi:10.1029/WR018i001p00107.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import sqrt
from statistics import median
from typing import NamedTuple

Point = tuple[float, float]  # day, value


class Trend(NamedTuple):
    """`z`: how many standard deviations of pure chance the votes are away from none; positive: it grows."""

    slope_per_day: float
    z: float
    day_count: int
    span_days: float

    @property
    def growth(self) -> float:
        """Return how much it grew from the first day to the last one."""
        return self.slope_per_day * self.span_days


def find_trend(bands: Mapping[str, Sequence[Point]], *, same: float) -> Trend | None:
    """Return the trend over all bands; None where no band has two days. Values nearer than `same` are equal."""
    votes = variance = 0.0
    slopes: list[float] = []
    days = [day for points in bands.values() if len(points) > 1 for day, _ in points]
    for points in bands.values():
        for (day, value), (later, after) in combinations(sorted(points), 2):
            change = after - value
            slopes.append(change / (later - day))
            if abs(change) > same:
                votes += 1.0 if change > 0 else -1.0
        count = len(points)
        variance += count * (count - 1) * (2 * count + 5) / 18
    if not slopes:
        return None
    step = min(1.0, abs(votes))  # votes come in whole numbers
    z = (votes - step if votes > 0 else votes + step) / sqrt(variance)
    return Trend(median(slopes), z, len(set(days)), max(days) - min(days))
