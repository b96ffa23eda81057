"""What a BMS does not let happen to its cells: limits with release values and delays, as bits.

Limits are inside the cell's data sheet (2.5..3.65 V, charge 0..60 degC, discharge -35..60 degC, 1 C continuous) with
the margins that 16S BMSs on the market use by default.
"""

from typing import NamedTuple

CELL_OVER_VOLTAGE = 1 << 0
CELL_UNDER_VOLTAGE = 1 << 1
PACK_OVER_VOLTAGE = 1 << 2
PACK_UNDER_VOLTAGE = 1 << 3
CHARGE_OVER_TEMPERATURE = 1 << 4
CHARGE_UNDER_TEMPERATURE = 1 << 5
DISCHARGE_OVER_TEMPERATURE = 1 << 6
DISCHARGE_UNDER_TEMPERATURE = 1 << 7
CHARGE_OVER_CURRENT = 1 << 8
DISCHARGE_OVER_CURRENT = 1 << 9
CELL_SPREAD = 1 << 13

CHARGE_BLOCKING = (
    CELL_OVER_VOLTAGE
    | PACK_OVER_VOLTAGE
    | CHARGE_OVER_TEMPERATURE
    | CHARGE_UNDER_TEMPERATURE
    | CHARGE_OVER_CURRENT
    | CELL_SPREAD
)
DISCHARGE_BLOCKING = (
    CELL_UNDER_VOLTAGE
    | PACK_UNDER_VOLTAGE
    | DISCHARGE_OVER_TEMPERATURE
    | DISCHARGE_UNDER_TEMPERATURE
    | DISCHARGE_OVER_CURRENT
)


class Measurement(NamedTuple):
    """What the BMS has just measured; current is positive into the module."""

    cell_voltages_v: list[float]
    temperatures_c: list[float]
    current_a: float


class Limit(NamedTuple):
    """Trip at or above `trip` for `delay_s`, release at or below `release`; limits from below are written negative."""

    bit: int
    figure: int  # index into the figures of `_figures`
    trip: float
    release: float
    delay_s: float


_CELL_MAX, _CELL_MIN, _PACK, _PACK_LOW, _HOT, _COLD, _CHARGE, _DISCHARGE, _SPREAD = range(9)

LIMITS = (
    Limit(CELL_OVER_VOLTAGE, _CELL_MAX, 3.65, 3.40, 1.0),
    Limit(CELL_UNDER_VOLTAGE, _CELL_MIN, -2.50, -3.00, 1.0),
    Limit(PACK_OVER_VOLTAGE, _PACK, 58.0, 54.4, 1.0),
    Limit(PACK_UNDER_VOLTAGE, _PACK_LOW, -40.0, -48.0, 1.0),
    Limit(CHARGE_OVER_TEMPERATURE, _HOT, 60.0, 50.0, 2.0),
    Limit(CHARGE_UNDER_TEMPERATURE, _COLD, 0.0, -5.0, 2.0),
    Limit(DISCHARGE_OVER_TEMPERATURE, _HOT, 62.0, 52.0, 2.0),
    Limit(DISCHARGE_UNDER_TEMPERATURE, _COLD, 20.0, 15.0, 2.0),
    Limit(CHARGE_OVER_CURRENT, _CHARGE, 540.0, 10.0, 5.0),
    Limit(DISCHARGE_OVER_CURRENT, _DISCHARGE, 560.0, 10.0, 5.0),
    Limit(CELL_SPREAD, _SPREAD, 0.80, 0.30, 10.0),
)


def _figures(measurement: Measurement) -> tuple[float, ...]:
    voltages, temperatures, current_a = measurement
    highest, lowest, total = max(voltages), min(voltages), sum(voltages)
    hot, cold = max(temperatures), min(temperatures)
    return (highest, -lowest, total, -total, hot, -cold, current_a, -current_a, highest - lowest)


class Protection:
    """The state of all limits of one BMS."""

    def __init__(self) -> None:
        self._bits = 0
        self._over_s = [0.0] * len(LIMITS)

    def judge(self, measurement: Measurement, dt_s: float) -> int:
        """Return the protection bits after `dt_s` with this measurement."""
        figures = _figures(measurement)
        for n, limit in enumerate(LIMITS):
            figure = figures[limit.figure]
            if self._bits & limit.bit:
                if figure <= limit.release:
                    self._bits &= ~limit.bit
                    self._over_s[n] = 0.0
            elif figure >= limit.trip:
                self._over_s[n] += dt_s
                if self._over_s[n] >= limit.delay_s:
                    self._bits |= limit.bit
            else:
                self._over_s[n] = 0.0
        return self._bits
