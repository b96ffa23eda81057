"""Integrals over readings that are kept by exception: energy, charge, seconds by band.

Between two rows a node saw no value move by its deadband, poll after poll. So where the current of the next row is
near, it drifted there: a straight line. Where it is far, it jumped within one poll, and stood still until then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from swapline_wire.catalogue import MODULE, find_signal

from .record import HOUR_MS, Place
from .run import Run
from .store import ModuleRows

POLL_MS = MODULE.period_ms
_CURRENT = MODULE.signals[find_signal(MODULE, "current_a")]
DRIFT_A = 2 * _CURRENT.deadband / 10**_CURRENT.decimals  # less than this is a drift, not a jump

# Bands by upper limit; the last one has none.
SOC_BANDS: dict[str, float] = {"0-10": 10.0, "10-20": 20.0, "20-80": 80.0, "80-90": 90.0, "90-100": float("inf")}
TEMPERATURE_BANDS: dict[str, float] = {
    "below 0": 0.0,
    "0-10": 10.0,
    "10-25": 25.0,
    "25-35": 35.0,
    "35-45": 45.0,
    "above 45": float("inf"),
}
RATE_BANDS: dict[str, float] = {"0-0.25": 0.25, "0.25-0.5": 0.5, "0.5-0.8": 0.8, "0.8-1": 1.0, "above 1": float("inf")}
_DIGITS = 9


class Point(NamedTuple):
    """What the integrals need of one row. Voltage falls back on the cells' mean."""

    time_ms: int
    current_a: float | None
    voltage_v: float | None
    soc_pct: float | None
    temperature_c: float | None  # warmest sensor
    ambient_c: float | None
    full_ah: float | None


@dataclass(slots=True)
class Sums:
    """Figures that add up over time. `known_s` has a current and no dispute about the place."""

    known_s: float = 0.0
    disputed_s: float = 0.0  # answered in two places at once: only the place with more rows counts
    voltage_unknown_s: float = 0.0  # current known, energy not
    charge_in_ah: float = 0.0
    charge_out_ah: float = 0.0
    energy_in_kwh: float = 0.0
    energy_out_kwh: float = 0.0
    current_square_a2h: float = 0.0
    temperature_c_h: float = 0.0  # integral, over `temperature_h`
    temperature_h: float = 0.0
    rise_c_h: float = 0.0  # of the warmest sensor above the air inside, over `rise_h`
    rise_h: float = 0.0
    soc_s: dict[str, float] = field(default_factory=dict)
    temperature_s: dict[str, float] = field(default_factory=dict)
    charge_by_rate_ah: dict[str, float] = field(default_factory=dict)  # taken in, by C-rate

    def round(self) -> None:
        """Drop digits that mean nothing, so that what was stored equals what is computed again."""
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, dict):
                setattr(self, name, {band: round(value[band], _DIGITS) for band in sorted(value) if value[band]})
            else:
                setattr(self, name, round(value, _DIGITS))


class Charged(NamedTuple):
    """What came in, less what went out, since the hour began, and how much of that time is known."""

    net_ah: float
    known_s: float


def band_of(value: float, bands: dict[str, float]) -> str:
    """Return the name of the band that `value` lies in."""
    return next(name for name, limit in bands.items() if value < limit)


def points_of(readings: ModuleRows, rows: Sequence[int]) -> list[Point]:
    """Return what the integrals need of these rows."""
    columns = readings.columns
    time_ms = readings.time_utc_ms
    voltage, mean, count = columns["voltage_v"], columns["cell_voltage_mean_v"], columns["cell_count"]
    points = []
    for row in rows:
        volts, cell_v, cells = voltage[row], mean[row], count[row]
        if volts is None and cell_v is not None and cells:
            volts = cell_v * cells
        points.append(
            Point(
                time_ms[row],
                columns["current_a"][row],
                volts,
                columns["soc_pct"][row],
                columns["temperature_max_c"][row],
                columns["temperature_ambient_c"][row],
                columns["capacity_full_ah"][row],
            )
        )
    return points


class Integrator:
    """Adds up one hour of all runs of a module. Runs with more rows first: of two places at once one must be wrong."""

    def __init__(self, start_utc_ms: int) -> None:
        self.sums = Sums()
        self._start_ms, self._end_ms = start_utc_ms, start_utc_ms + HOUR_MS
        self._covered: list[tuple[int, int, Place]] = []
        self._trace: list[tuple[int, float, float]] = []  # end of a piece, net charge and known time in it

    def add(self, run: Run, points: Sequence[Point]) -> None:
        """Integrate one run."""
        others = [(first, last) for first, last, place in self._covered if place != run.place]
        for before, after in pairwise(points):
            if after.time_ms <= self._start_ms or before.time_ms >= self._end_ms:
                continue
            middle_ms = (before.time_ms + after.time_ms) / 2
            if any(first <= middle_ms <= last for first, last in others):
                self.sums.disputed_s += self._clipped_ms(before.time_ms, after.time_ms) / 1000
                continue
            for first, last, from_point, to_point in pieces(before, after):
                self._add_piece(first, last, from_point, to_point)
        self._covered.append((points[0].time_ms, points[-1].time_ms, run.place))

    def _clipped_ms(self, first_ms: int, last_ms: int) -> int:
        return max(0, min(last_ms, self._end_ms) - max(first_ms, self._start_ms))

    def _add_piece(self, first_ms: int, last_ms: int, before: Point, after: Point) -> None:
        low_ms, high_ms = max(first_ms, self._start_ms), min(last_ms, self._end_ms)
        if high_ms <= low_ms:
            return
        low, high = (low_ms - first_ms) / (last_ms - first_ms), (high_ms - first_ms) / (last_ms - first_ms)
        hours = (high_ms - low_ms) / HOUR_MS
        self._add_state(hours, before, after)
        if before.current_a is None or after.current_a is None:
            return
        sums, net_ah = self.sums, self.sums.charge_in_ah - self.sums.charge_out_ah
        sums.known_s += (high_ms - low_ms) / 1000
        rise_a = after.current_a - before.current_a
        current_a = (before.current_a + low * rise_a, before.current_a + high * rise_a)
        mean_a = (current_a[0] + current_a[1]) / 2
        sums.current_square_a2h += hours * (mean_a * mean_a + (current_a[1] - current_a[0]) ** 2 / 12)
        voltage_v = None
        if before.voltage_v is None or after.voltage_v is None:
            sums.voltage_unknown_s += (high_ms - low_ms) / 1000
        else:
            rise_v = after.voltage_v - before.voltage_v
            voltage_v = (before.voltage_v + low * rise_v, before.voltage_v + high * rise_v)
        for part, currents, voltages in split_by_sign(current_a, voltage_v):
            self._add_flow(hours * part, currents, voltages, before.full_ah)
        net_ah = sums.charge_in_ah - sums.charge_out_ah - net_ah
        self._trace.append((high_ms, net_ah, (high_ms - low_ms) / 1000))

    def _add_flow(
        self,
        hours: float,
        current_a: tuple[float, float],
        voltage_v: tuple[float, float] | None,
        full_ah: float | None,
    ) -> None:
        """Add what flowed in one direction, current and voltage on straight lines."""
        sums = self.sums
        charge_ah = hours * (current_a[0] + current_a[1]) / 2
        energy_kwh = 0.0
        if voltage_v is not None:
            (i, j), (u, v) = current_a, voltage_v
            energy_kwh = hours * (2 * u * i + 2 * v * j + u * j + v * i) / 6000
        if charge_ah < 0:
            sums.charge_out_ah -= charge_ah
            sums.energy_out_kwh -= energy_kwh
        elif charge_ah > 0:
            sums.charge_in_ah += charge_ah
            sums.energy_in_kwh += energy_kwh
            if full_ah:
                band = band_of(charge_ah / hours / full_ah, RATE_BANDS)
                sums.charge_by_rate_ah[band] = sums.charge_by_rate_ah.get(band, 0.0) + charge_ah

    def _add_state(self, hours: float, before: Point, after: Point) -> None:
        """Add the time in bands: half of it where it was, half of it where it came to."""
        sums = self.sums
        for point in (before, after):
            if point.soc_pct is not None:
                band = band_of(point.soc_pct, SOC_BANDS)
                sums.soc_s[band] = sums.soc_s.get(band, 0.0) + hours * 1800
            if point.temperature_c is not None:
                band = band_of(point.temperature_c, TEMPERATURE_BANDS)
                sums.temperature_s[band] = sums.temperature_s.get(band, 0.0) + hours * 1800
                sums.temperature_c_h += point.temperature_c * hours / 2
                sums.temperature_h += hours / 2
                if point.ambient_c is not None:
                    sums.rise_c_h += (point.temperature_c - point.ambient_c) * hours / 2
                    sums.rise_h += hours / 2

    def charged_at(self, time_ms: int) -> Charged:
        """Return what has gone in since the hour began, at the time of a row or at the hour's end."""
        parts = [(net_ah, known_s) for end_ms, net_ah, known_s in self._trace if end_ms <= time_ms]
        net_ah, known_s = (sum(column) for column in zip(*parts, strict=True)) if parts else (0.0, 0.0)
        return Charged(round(net_ah, _DIGITS), round(known_s, _DIGITS))


def pieces(before: Point, after: Point) -> Iterator[tuple[int, int, Point, Point]]:
    """Yield the time between two rows as straight lines: (first, last, point there, point there).

    A jump lies in the middle of the poll that saw it; as a slope through zero it would hide what flowed both ways.
    """
    jumped = (
        before.current_a is not None
        and after.current_a is not None
        and abs(after.current_a - before.current_a) >= DRIFT_A
    )
    if jumped:
        jump_ms = max(after.time_ms - POLL_MS // 2, (before.time_ms + after.time_ms) // 2)
        yield before.time_ms, jump_ms, before, before
        yield jump_ms, after.time_ms, after, after
    elif after.time_ms > before.time_ms:
        yield before.time_ms, after.time_ms, before, after


def split_by_sign(
    current_a: tuple[float, float], voltage_v: tuple[float, float] | None
) -> Iterator[tuple[float, tuple[float, float], tuple[float, float] | None]]:
    """Yield the parts of a straight line on which the current has one sign: (share of the time, currents, voltages)."""
    first, last = current_a
    if first * last >= 0:
        yield 1.0, current_a, voltage_v
        return
    part = first / (first - last)
    if voltage_v is None:
        yield part, (first, 0.0), None
        yield 1.0 - part, (0.0, last), None
        return
    middle_v = voltage_v[0] + part * (voltage_v[1] - voltage_v[0])
    yield part, (first, 0.0), (voltage_v[0], middle_v)
    yield 1.0 - part, (0.0, last), (middle_v, voltage_v[1])
