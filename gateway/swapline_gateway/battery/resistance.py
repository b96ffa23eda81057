"""Resistance from current steps: how far the voltage has moved ten seconds after the current did.

`R = (U(t + 10 s) - U(t)) / (I(t + 10 s) - I(t))`, the ten-second pulse resistance of cell testing (hybrid pulse power
characterisation, USABC/FreedomCAR manual), taken from the steps that vans and chargers make by themselves. Only steps
from a steady current to a steady current count: then a BMS that reads voltage and current a second apart does no harm,
and what the cells did before does not hide in the answer.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from math import exp
from statistics import fmean, median
from typing import Any

from .integral import Point
from .record import HOUR_MS, Estimate

PULSE_MS = 10_000
STEADY_BEFORE_MS = 15_000  # a station waits 20 s between locking a module and its first current
SETTLE_MS = 3_000  # a charger's ramp, and a BMS that averages
STEP_C_MIN = 0.1
STEADY_SHARE = 0.1  # of the step: how far the current may wander before and after
STEPS_PER_HOUR_MAX = 20
_SAME_STEP_MS = 2_000

# What estimates are referred to: 25 degC, and the middle of charge, where resistance hardly depends on it.
REFERENCE_C = 25.0
SOC_PCT = (20.0, 92.0)
TEMPERATURE_C = (5.0, 45.0)
ACTIVATION_J_PER_MOL, ACTIVATION_SIGMA_J_PER_MOL = 20_000.0, 8_000.0
_GAS_J_PER_MOL_K = 8.314
_ZERO_C_K = 273.15
SAMPLES_MIN, SAMPLES_MAX = 5, 60
SYSTEMATIC = 0.04  # direction of the step, hysteresis, gain of the current sensor
OUTLIER_SIGMAS = 4.0
_METHOD = "voltage 10 s after steps of the current of 0.1 C and more, 20 to 92 % of charge, referred to 25 degC"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the current, and the resistance that it shows."""

    time_utc_ms: int
    step_a: float
    resistance_mohm: float
    soc_pct: float | None
    temperature_c: float | None

    def as_list(self) -> list[Any]:
        """Return JSON-ready data; `Step(*values)` takes it back."""
        return list(astuple(self))


def find_steps(points: Sequence[Point], start_utc_ms: int) -> list[Step]:
    """Return the largest steps of one run whose last row before them lies in the hour."""
    found: list[Step] = []
    times = [point.time_ms for point in points]
    for n, (before, after) in enumerate(pairwise(points)):
        if not start_utc_ms <= before.time_ms < start_utc_ms + HOUR_MS:
            continue
        step = _step(points, times, n, before, after)
        if step is not None:
            found.append(step)
    largest = sorted(found, key=lambda step: (-abs(step.step_a), step.time_utc_ms))[:STEPS_PER_HOUR_MAX]
    return sorted(largest, key=lambda step: step.time_utc_ms)


def _step(points: Sequence[Point], times: Sequence[int], n: int, before: Point, after: Point) -> Step | None:
    if before.current_a is None or after.current_a is None or before.voltage_v is None or not before.full_ah:
        return None
    if abs(after.current_a - before.current_a) < STEP_C_MIN * before.full_ah / 2:
        return None  # not even half of a step: most rows end here
    pulse_ms = after.time_ms + PULSE_MS
    end = _interpolate(points, times, pulse_ms)
    if end is None or points[0].time_ms > after.time_ms - STEADY_BEFORE_MS:
        return None
    current_a, voltage_v = end
    step_a = current_a - before.current_a
    if abs(step_a) < STEP_C_MIN * before.full_ah:
        return None
    wander_a = STEADY_SHARE * abs(step_a)
    early = _between(points, times, n, after.time_ms - STEADY_BEFORE_MS)
    settled = bisect_right(times, after.time_ms + SETTLE_MS) - 1
    late = points[settled : bisect_right(times, pulse_ms)]
    if not (_is_steady(early, before.current_a, wander_a) and _is_steady(late, current_a, wander_a)):
        return None
    resistance_mohm = 1000 * (voltage_v - before.voltage_v) / step_a
    return Step(after.time_ms, round(step_a, 3), round(resistance_mohm, 6), before.soc_pct, before.temperature_c)


def _between(points: Sequence[Point], times: Sequence[int], n: int, from_ms: int) -> Sequence[Point]:
    """Return the points up to n that say what was since `from_ms`: one from before it holds until the next."""
    return points[max(0, bisect_right(times, from_ms) - 1) : n + 1]


def _is_steady(points: Sequence[Point], current_a: float, wander_a: float) -> bool:
    return all(point.current_a is not None and abs(point.current_a - current_a) <= wander_a for point in points)


def _interpolate(points: Sequence[Point], times: Sequence[int], time_ms: int) -> tuple[float, float] | None:
    """Return current and voltage at a time: on a straight line where the current drifts, else as they stood."""
    n = bisect_right(times, time_ms)
    if n == 0 or n == len(points):
        return None
    before, after = points[n - 1], points[n]
    if before.current_a is None or before.voltage_v is None or after.current_a is None or after.voltage_v is None:
        return None
    if abs(after.current_a - before.current_a) >= STEADY_SHARE * abs(before.current_a):
        return before.current_a, before.voltage_v
    share = (time_ms - before.time_ms) / (after.time_ms - before.time_ms)
    voltage_v = before.voltage_v + share * (after.voltage_v - before.voltage_v)
    return before.current_a + share * (after.current_a - before.current_a), voltage_v


def distinct(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield steps, of those within two seconds only the largest: a ramp is one step."""
    group: list[Step] = []
    for step in steps:
        if group and step.time_utc_ms - group[-1].time_utc_ms > _SAME_STEP_MS:
            yield max(group, key=lambda one: abs(one.step_a))
            group = []
        group.append(step)
    if group:
        yield max(group, key=lambda one: abs(one.step_a))


def estimate_resistance(steps: Sequence[Step]) -> Estimate:
    """Return the module's ten-second resistance at 25 degC as of its last steps, or what is missing."""
    usable = [step for step in steps if _is_usable(step)][-SAMPLES_MAX:]
    if len(usable) < SAMPLES_MIN:
        reason = f"{len(usable)} of {SAMPLES_MIN} usable current steps seen: steady, 0.1 C, then steady again for 10 s"
        return Estimate(None, None, "mohm", _METHOD, len(usable), reason)
    values = [step.resistance_mohm / factor_at(step.temperature_c or REFERENCE_C) for step in usable]
    middle = median(values)
    # 1.4826: from the median absolute deviation to a normal distribution's sigma.
    scatter = max(1.4826 * median(abs(value - middle) for value in values), 0.005 * middle)
    kept = [value for value in values if abs(value - middle) <= OUTLIER_SIGMAS * scatter]
    mean_c = fmean(step.temperature_c or REFERENCE_C for step in usable)
    referred = ACTIVATION_SIGMA_J_PER_MOL * abs(_inverse_k(mean_c)) / _GAS_J_PER_MOL_K
    value = fmean(kept)
    sigma = ((scatter / len(kept) ** 0.5) ** 2 + (value * SYSTEMATIC) ** 2 + (value * referred) ** 2) ** 0.5
    return Estimate(round(value, 4), round(sigma, 4), "mohm", _METHOD, len(kept))


def factor_at(temperature_c: float) -> float:
    """Return resistance at this temperature relative to 25 degC (Arrhenius)."""
    return exp(ACTIVATION_J_PER_MOL / _GAS_J_PER_MOL_K * _inverse_k(temperature_c))


def _inverse_k(temperature_c: float) -> float:
    return 1 / (temperature_c + _ZERO_C_K) - 1 / (REFERENCE_C + _ZERO_C_K)


def _is_usable(step: Step) -> bool:
    if step.resistance_mohm <= 0 or step.soc_pct is None or step.temperature_c is None:
        return False
    (low_pct, high_pct), (cold_c, warm_c) = SOC_PCT, TEMPERATURE_C
    return low_pct <= step.soc_pct <= high_pct and cold_c <= step.temperature_c <= warm_c
