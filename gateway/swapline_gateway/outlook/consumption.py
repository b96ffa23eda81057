"""How much a van uses a kilometre: its own day, in slots of five minutes.

A slot is asked for once, when it is over and its last rows have come, and then remembered in its hour; so what a minute
costs does not grow with the day. At the start the day is asked for by and by, an hour in one question. Rows that come
later (a back-fill of hours) change nothing here.
"""

from collections.abc import Iterable
from typing import Protocol

from swapline_gateway.error import SinkBusyError

from .question import HOUR_MS, SLOT_MS, Use
from .record import NodeKey

DAY_HOURS = 24
HOUR_SLOTS = HOUR_MS // SLOT_MS
SETTLE_MS = 300_000  # after a slot's end: a node seals its rows within a minute, and tunnels are short
HOURS_MAX = 2  # at once: a day is known after twelve minutes
DISTANCE_KM_MIN = 20.0  # of less, standing with the heating on would make a consumption of its own
KWH_PER_KM_MIN, KWH_PER_KM_MAX = 0.05, 2.0  # what no van of this size leaves


class Asked(Protocol):
    """Who knows what vans used (`question.py`)."""

    def use(self, begin_ms: int, end_ms: int) -> dict[NodeKey, Use]:
        """Return what all vans used in these slots."""


class Consumption:
    """See the module's header."""

    def __init__(self, asked: Asked, *, rated_kwh_per_km: float) -> None:
        self._asked = asked
        self._rated = rated_kwh_per_km
        self._hours: dict[int, dict[NodeKey, Use]] = {}
        self._known_ms: dict[int, int] = {}  # to where each hour is known
        self._day: dict[NodeKey, Use] = {}
        self._slots_max = HOUR_SLOTS

    def refresh(self, now_ms: int) -> None:
        """Ask for slots that are not known, the newest first. Raises `SinkBusyError`; what is known stays."""
        settled_ms = (now_ms - SETTLE_MS) // SLOT_MS * SLOT_MS
        this_hour = now_ms - now_ms % HOUR_MS
        hours = [this_hour - number * HOUR_MS for number in range(DAY_HOURS)]
        known = {hour: self._known_ms.get(hour, hour) for hour in hours}
        due = [hour for hour in hours if known[hour] < min(settled_ms, hour + HOUR_MS)][:HOURS_MAX]
        for hour in due:
            self._ask(hour, known[hour], min(settled_ms, hour + HOUR_MS))
        if due:
            self._hours = {hour: used for hour, used in self._hours.items() if hour in known}
            self._known_ms = {hour: self._known_ms[hour] for hour in self._hours}
            self._day = _sum(self._hours.values())

    def _ask(self, hour: int, begin_ms: int, end_ms: int) -> None:
        """Ask for slots of an hour, for fewer at once after a question that took the database too long."""
        end_ms = min(end_ms, begin_ms + self._slots_max * SLOT_MS)
        try:
            used = self._asked.use(begin_ms, end_ms)
        except SinkBusyError:
            self._slots_max = max(1, self._slots_max // 2)
            raise
        self._slots_max = min(HOUR_SLOTS, 2 * self._slots_max)
        _add(self._hours.setdefault(hour, {}), used)
        self._known_ms[hour] = end_ms

    def of(self, van: NodeKey) -> float:
        """Return what a van uses, in kWh/km: its own, or the rated one where it is not known well enough."""
        energy_kwh, distance_km = self._day.get(van, Use())
        if distance_km < DISTANCE_KM_MIN or energy_kwh <= 0:
            return self._rated
        return min(KWH_PER_KM_MAX, max(KWH_PER_KM_MIN, energy_kwh / distance_km))


def _add(total: dict[NodeKey, Use], used: dict[NodeKey, Use]) -> None:
    for van, (energy_kwh, distance_km) in used.items():
        before = total.get(van, Use())
        total[van] = Use(before.energy_kwh + energy_kwh, before.distance_km + distance_km)


def _sum(hours: Iterable[dict[NodeKey, Use]]) -> dict[NodeKey, Use]:
    found: dict[NodeKey, Use] = {}
    for hour in hours:
        _add(found, hour)
    return found
