"""One module through its past, in virtual time: what a node would have kept of its readings.

Currents are steps of some minutes, nights are passed in steps of ten minutes; the charger's constant voltage is
followed in tens of seconds, as a node would see it. Everything else is the module's own physics.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from swapline_bench.climate import Weather
from swapline_bench.module import Module
from swapline_bench.module_reading import Reporter, cells_row, module_row
from swapline_bench.past_schedule import CHARGE, DRIVE, HOUR_S, Bay, Phase
from swapline_bench.station import CHARGE_V, CURRENT_A_MAX, SLOT_COOLING
from swapline_wire import catalogue
from swapline_wire.catalogue import Stream

DRIVE_S = 240.0  # how long a current lasts
POLL_S = 60.0  # the longest silence of the stream `module`
REST_S = 600.0
SETTLE_S = 1200.0  # of a rest, in which voltages are still followed minute by minute
VOLTAGE_S = 10.0
FIRST_POLL_S = 3.0  # after it came into a bay
WEATHER_S = 7200.0  # the plan's days begin at 6, the weather's at 8


class Fault(NamedTuple):
    """Something that happens to a module at a time of its past."""

    time_s: float
    strike: Callable[[Module], None]


class Kept(NamedTuple):
    """A reading that became a row."""

    time_ms: int  # since the past began
    bay: Bay
    stream: Stream
    row: list[int]


class PastLife:
    """Passes one module through its phases."""

    def __init__(self, module: Module, phases: Sequence[Phase], random: Random, faults: Sequence[Fault] = ()) -> None:
        self.module = module
        self.time_s = 0.0
        self._phases = phases
        self._random = random
        self._faults = sorted(faults, key=lambda fault: fault.time_s)
        self._weather = Weather()
        self._reporters = {stream.name: Reporter(stream) for stream in (catalogue.MODULE, catalogue.CELLS)}

    def rows(self) -> Iterator[Kept]:
        """Yield what is kept of the whole past, in the order of time."""
        for phase in self._phases:
            if phase.bay is None:
                self._pass(phase.end_s - self.time_s, 0.0)
                for reporter in self._reporters.values():
                    reporter.forget()
                continue
            self.module.cells.cooling = SLOT_COOLING if phase.bay.node.startswith("station") else 1.0
            for current_a, dt_s in self._steps(phase):
                if dt_s > POLL_S:
                    yield from self._stand_still(phase.bay, dt_s)
                self._pass(dt_s, current_a)
                yield from self._poll(phase.bay, self.time_s)

    def _pass(self, dt_s: float, current_a: float) -> None:
        if dt_s <= 0:
            return
        module = self.module
        module.cells.surroundings_c = self._weather.temperature_c(self.time_s - WEATHER_S)
        module.advance(current_a, dt_s)
        module.update(dt_s)
        self.time_s += dt_s
        while self._faults and self._faults[0].time_s <= self.time_s:
            self._faults.pop(0).strike(module)

    def _poll(self, bay: Bay, time_s: float) -> Iterator[Kept]:
        time_ms = round(time_s * 1000)
        for stream, row in ((catalogue.MODULE, module_row(self.module)), (catalogue.CELLS, cells_row(self.module))):
            if self._reporters[stream.name].keeps(time_ms, row):
                yield Kept(time_ms, bay, stream, row)

    def _stand_still(self, bay: Bay, dt_s: float) -> Iterator[Kept]:
        """Read the same again and again, as within a long step nothing moves."""
        streams = ((catalogue.MODULE, module_row(self.module)), (catalogue.CELLS, cells_row(self.module)))
        for n in range(1, int(dt_s / POLL_S)):
            time_ms = round((self.time_s + n * POLL_S) * 1000)
            for stream, row in streams:
                if self._reporters[stream.name].keeps(time_ms, row):
                    yield Kept(time_ms, bay, stream, row)

    def _steps(self, phase: Phase) -> Iterator[tuple[float, float]]:
        """Yield currents and how long each lasts."""
        if phase.what == DRIVE:
            yield from self._drive(phase)
            return
        if phase.what == CHARGE:
            yield from self._charge(phase)
        yield from self._rest(phase)

    def _drive(self, phase: Phase) -> Iterator[tuple[float, float]]:
        while phase.end_s - self.time_s > 1e-6:
            until_s = min(self.time_s + DRIVE_S, phase.end_s)
            current_a = phase.power_kw * 1000.0 / self.module.voltage_v
            if phase.soc_end is not None:
                wanted_ah = (phase.soc_end - self.module.soc_pct / 100.0) * self.module.capacity_full_ah
                current_a = min(0.0, wanted_ah * HOUR_S / (phase.end_s - self.time_s))
            if phase.soc_end is None or phase.end_s - until_s > DRIVE_S:
                current_a *= self._random.uniform(0.3, 1.7)
            if not self.module.discharge_switch:
                current_a = 0.0
            yield current_a, min(1.0, until_s - self.time_s)
            while until_s - self.time_s > 1e-6:
                yield current_a, min(POLL_S, until_s - self.time_s)

    def _charge(self, phase: Phase) -> Iterator[tuple[float, float]]:
        """Charge with constant power, then at constant voltage, until full or as far as wanted."""
        module = self.module
        yield 0.0, min(FIRST_POLL_S, phase.end_s - self.time_s)
        while phase.end_s - self.time_s > 1e-6:
            soc_end = 1.01 if phase.soc_end is None else phase.soc_end
            if module.is_full or module.soc_pct / 100.0 >= soc_end or not module.charge_switch:
                return
            current_a = min(CURRENT_A_MAX, phase.power_kw * 1000.0 / module.voltage_v)
            allowed_a = (CHARGE_V - module.cells.source_v) / module.cells.source_resistance_ohm(VOLTAGE_S)
            dt_s = POLL_S if allowed_a > 1.2 * current_a else VOLTAGE_S
            yield max(0.0, min(current_a, allowed_a)), min(dt_s, phase.end_s - self.time_s)

    def _rest(self, phase: Phase) -> Iterator[tuple[float, float]]:
        settled_s = self.time_s + SETTLE_S
        yield 0.0, min(FIRST_POLL_S, phase.end_s - self.time_s)
        while phase.end_s - self.time_s > 1e-6:
            yield 0.0, min(POLL_S if self.time_s < settled_s else REST_S, phase.end_s - self.time_s)
