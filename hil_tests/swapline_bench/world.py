"""The world: vans run down, drive to a station, exchange modules and go on; deterministic from a seed."""

import asyncio
import time
from collections.abc import Callable, Sequence

from .climate import Weather
from .custody import CustodyEvent, Ledger, Swap, WorldClock
from .module import Module, format_code
from .randomness import make_random
from .robot import SwapRobot
from .route import City
from .station import Slot, Station
from .van import Van

REAL_STEP_S = 0.1
STEP_S_MAX = 30.0  # decisions are taken at least this often, whatever step the caller takes
SWAP_BELOW_PCT = 30.0
FIRST_MARGIN_PCT = 2.0  # what the first van has left above that when the world begins
STAGGER_KWH = 6.0  # the next van begins with so much more: about an hour of a van's world
MODULE_KWH = 26.5
MODULES_PER_VAN = (2, 1, 3)
SLOT_SOC = (1.0, 0.99, 0.96, 0.99, 0.82, 0.6)  # how full modules are in the slots when the world begins


class World:
    """Vans and stations that share one time; `speed` world seconds pass in one real second.

    The same seed and the same steps give the same world. With `real_time_s` (a clock of the caller's) custody events
    carry that time and the shortest absence of a module is measured on it; without, real time is world time by speed.
    """

    def __init__(
        self,
        *,
        van_count: int = 3,
        station_count: int = 1,
        slot_count: int = 6,
        modules_per_van: Sequence[int] = MODULES_PER_VAN,
        speed: float = 60.0,
        seed: int = 1,
        swap_absence_real_s: float = 8.0,
        real_time_s: Callable[[], float] | None = None,
    ) -> None:
        assert van_count >= 0
        assert station_count >= 1
        self.seed = seed
        self.speed = speed
        self.swap_below_pct = SWAP_BELOW_PCT
        self.clock = WorldClock(speed, real_time_s)
        self.weather = Weather()
        self.city = City(seed)
        self.ledger = Ledger(self.clock)
        self._module_count = 0
        self.stations = [self._build_station(n, slot_count) for n in range(station_count)]
        self.vans = [self._build_van(n, modules_per_van[n % len(modules_per_van)]) for n in range(van_count)]
        self.robots = [SwapRobot(s, self.ledger, absence_real_s=swap_absence_real_s) for s in self.stations]
        self.record_places()

    def record_places(self) -> None:
        """Begin the ledger with where each module is (one that a robot holds is nowhere)."""
        for station in self.stations:
            for n, slot in enumerate(station.slots, 1):
                if slot.module is not None:
                    self.ledger.record("in", (station.name, n), slot.module, 0)
        for van in self.vans:
            for n, module in enumerate(van.bays, 1):
                if module is not None:
                    self.ledger.record("in", (van.name, n), module, 0)

    @property
    def time_s(self) -> float:
        """World time since the beginning, which is 8 in the morning."""
        return self.clock.time_s

    @property
    def custody(self) -> list[CustodyEvent]:
        return self.ledger.events

    @property
    def swaps(self) -> list[Swap]:
        return self.ledger.swaps

    @property
    def modules(self) -> list[Module]:
        """Return every module in a bay or slot (not the one or two that a robot holds)."""
        slots = [s.module for station in self.stations for s in station.slots]
        return [m for m in [m for v in self.vans for m in v.bays] + slots if m is not None]

    def _build_module(self, soc: float) -> Module:
        self._module_count += 1
        random = make_random(self.seed, "module", self._module_count)
        health_pct = random.uniform(92.0, 99.5)
        cycles = int((100.0 - health_pct) * 110.0)
        serial = self.seed % 1000 * 10000 + self._module_count
        return Module(format_code(serial=serial), random, soc=soc, health_pct=health_pct, cycles=cycles)

    def _build_station(self, number: int, slot_count: int) -> Station:
        name, random = f"station-{number + 1:03d}", make_random(self.seed, "station", number)
        slots = [Slot(self._build_module(SLOT_SOC[n % len(SLOT_SOC)])) for n in range(slot_count)]
        return Station(name, slots, random, crossing=random.choice(self.city.middle_crossings()))

    def _build_van(self, number: int, bay_count: int) -> Van:
        name, random = f"van-{number + 1:03d}", make_random(self.seed, "van", number)
        full_kwh = MODULE_KWH * bay_count
        span_kwh = full_kwh * (0.95 - (SWAP_BELOW_PCT + FIRST_MARGIN_PCT) / 100.0)
        soc = (SWAP_BELOW_PCT + FIRST_MARGIN_PCT) / 100.0 + number * STAGGER_KWH % span_kwh / full_kwh
        bays = [self._build_module(soc + random.uniform(-0.004, 0.004)) for _ in range(bay_count)]
        return Van(name, [*bays], self.city, random, start=random.choice(self.city.middle_crossings()))

    def resume(self) -> None:
        """Go on after nodes were off: robots leave them time to notice what they would have seen otherwise."""
        for robot in self.robots:
            robot.resume()

    async def pass_time(self, on_late: Callable[[float], None] = lambda _: None) -> None:
        """Step for ever, `speed` times as fast as real time. `on_late` is told how late each step came (s)."""
        last_s = time.monotonic()
        while True:
            await asyncio.sleep(REAL_STEP_S)
            now_s = time.monotonic()
            on_late(now_s - last_s - REAL_STEP_S)
            self.step((now_s - last_s) * self.speed)
            last_s = now_s

    def step(self, dt_s: float) -> None:
        """Let `dt_s` seconds of world time pass."""
        while dt_s > 1e-9:
            part_s = min(dt_s, STEP_S_MAX)
            self._step_part(part_s)
            dt_s -= part_s

    def _step_part(self, dt_s: float) -> None:
        self.clock.time_s += dt_s
        ambient_c = self.weather.temperature_c(self.clock.time_s)
        for van in self.vans:
            van.climate.ambient_c = ambient_c
            van.step(dt_s)
            self._direct(van)
        for station, robot in zip(self.stations, self.robots, strict=True):
            robot.step(dt_s)
            station.step(ambient_c, dt_s)

    def _direct(self, van: Van) -> None:
        """Send a van that has run down to a station, and queue it there."""
        if van.task in {"delivering", "parked"} and (van.soc_pct < self.swap_below_pct or van.faults):
            van.head_for(self._choose_station(van).crossing)
        elif van.task == "queueing":
            station = next(s for s in self.stations if s.crossing == van.crossing)
            if van not in station.queue:
                station.queue.append(van)

    def _choose_station(self, van: Van) -> Station:
        """Return the station with the least driving and waiting."""
        return min(
            self.stations, key=lambda s: self.city.distance_m(van.crossing, s.crossing) / 7.0 + 900.0 * len(s.queue)
        )
