"""How much a van uses a kilometre: its own day, hour by hour.

An hour that is over is asked once more when its last rows have come, and then remembered; so a minute costs a few
questions about an hour, not about a day. At the start the day is asked for by and by. Rows that come later than that
(a back-fill of hours) change nothing here.
"""

from collections.abc import Collection
from typing import Protocol

from .question import HOUR_MS, Use
from .record import NodeKey

DAY_HOURS = 24
AGAIN_MS = 600_000  # the running hour is asked every ten minutes, and ten minutes after its end
OLD_HOURS_MAX = 2  # of those not known yet, at once
DISTANCE_KM_MIN = 20.0  # of less, standing with the heating on would make a consumption of its own
KWH_PER_KM_MIN, KWH_PER_KM_MAX = 0.05, 2.0  # what no van of this size leaves


class Asked(Protocol):
    """Who knows what vans used (`question.py`)."""

    def use(self, hour_ms: int) -> dict[NodeKey, Use]:
        """Return what all vans used in one hour."""


class Consumption:
    """See the module's header."""

    def __init__(self, asked: Asked, *, rated_kwh_per_km: float) -> None:
        self._asked = asked
        self._rated = rated_kwh_per_km
        self._hours: dict[int, dict[NodeKey, Use]] = {}
        self._asked_ms: dict[int, int] = {}
        self._day: dict[NodeKey, Use] = {}

    def refresh(self, now_ms: int) -> None:
        """Ask for hours that are not known, or not to their end. Raises `SinkBusyError`; what was known stays."""
        this_hour = now_ms - now_ms % HOUR_MS
        hours = [this_hour - number * HOUR_MS for number in range(DAY_HOURS)]
        due = [hour for hour in hours if self._is_due(hour, now_ms)]
        if not due:
            return
        for hour in due[:OLD_HOURS_MAX]:
            self._hours[hour] = self._asked.use(hour)
            self._asked_ms[hour] = now_ms
        self._hours = {hour: self._hours[hour] for hour in hours if hour in self._hours}
        self._asked_ms = {hour: self._asked_ms[hour] for hour in self._hours}
        self._day = _add(self._hours.values())

    def _is_due(self, hour: int, now_ms: int) -> bool:
        asked_ms = self._asked_ms.get(hour)
        return asked_ms is None or (asked_ms < hour + HOUR_MS + AGAIN_MS and now_ms >= asked_ms + AGAIN_MS)

    def of(self, van: NodeKey) -> float:
        """Return what a van uses, in kWh/km: its own, or the rated one where it is not known well enough."""
        energy_kwh, distance_km = self._day.get(van, Use())
        if distance_km < DISTANCE_KM_MIN or energy_kwh <= 0:
            return self._rated
        return min(KWH_PER_KM_MAX, max(KWH_PER_KM_MIN, energy_kwh / distance_km))


def _add(hours: Collection[dict[NodeKey, Use]]) -> dict[NodeKey, Use]:
    found: dict[NodeKey, Use] = {}
    for hour in hours:
        for van, (energy_kwh, distance_km) in hour.items():
            before = found.get(van, Use())
            found[van] = Use(before.energy_kwh + energy_kwh, before.distance_km + distance_km)
    return found
