"""The world: vans run down, drive to a station, exchange modules and go on; deterministic from a seed."""

from collections.abc import Callable
from typing import NamedTuple

from .module import Module
from .station import Slot, Station
from .van import Van


class CustodyEvent(NamedTuple):
    """One true change of custody: a module came into (`in`) or left (`out`) a bay of a holder."""

    kind: str
    holder: str
    bay: int
    code: str
    world_time_s: float
    real_time_s: float
    soc_pct: float
    request_id: int  # joins the four events of one exchange; 0: where a module was when the world began


class World:
    """Vans and stations that share one time; `speed` world seconds pass in one real second."""

    def __init__(
        self,
        *,
        van_count: int = 3,
        station_count: int = 1,
        slot_count: int = 6,
        speed: float = 60.0,
        seed: int = 1,
        swap_absence_real_s: float = 8.0,
        real_time_s: Callable[[], float] | None = None,
    ) -> None:
        self.speed = speed
        self.seed = seed
        self.swap_absence_real_s = swap_absence_real_s
        self.time_s = 0.0
        self._real_time_s = real_time_s
        self.vans = [Van(f"van-{n + 1:03d}", [Module(f"{n:024d}")]) for n in range(van_count)]
        self.stations = [
            Station(f"station-{n + 1:03d}", [Slot(None) for _ in range(slot_count)]) for n in range(station_count)
        ]
        self.custody: list[CustodyEvent] = []

    def step(self, dt_s: float) -> None:
        """Let `dt_s` seconds of world time pass."""
        self.time_s += dt_s
