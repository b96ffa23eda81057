"""Resistance from current steps: what is a step, and what is not."""

import pytest

from swapline_gateway.battery.integral import Point
from swapline_gateway.battery.resistance import Step, distinct, estimate_resistance, factor_at, find_steps

OHM = 0.0024
FULL_AH = 480.0
BEGIN = 480_000 * 3_600_000


def point(time_s: float, current_a: float, voltage_v: float | None = None) -> Point:
    volts = 52.0 + OHM * current_a if voltage_v is None else voltage_v
    return Point(BEGIN + round(time_s * 1000), current_a, volts, 50.0, 25.0, 20.0, FULL_AH)


def step_of(*points: Point) -> list[Step]:
    return find_steps(points, BEGIN)


def test_step_of_a_charger_tells_the_resistance() -> None:
    rest = [point(s, 0.0) for s in (0, 60, 100)]
    (found,) = step_of(*rest, point(101, 240.0), point(106, 240.0), point(120, 241.0))
    assert found.resistance_mohm == pytest.approx(1000 * OHM, rel=0.01)
    assert found.step_a == pytest.approx(240.0, abs=1)
    assert (found.soc_pct, found.temperature_c) == (50.0, 25.0)
    assert found.time_utc_ms == BEGIN + 101_000


def test_voltage_read_a_second_after_the_current_does_no_harm() -> None:
    late = [point(0, 0.0), point(101, 240.0, 52.0), point(102, 240.0), point(130, 240.0)]
    (found,) = step_of(*late)
    assert found.resistance_mohm == pytest.approx(1000 * OHM)


def test_ramp_of_a_charger_is_one_step() -> None:
    ramp = [point(0, 0.0), *(point(100 + n, 80.0 * n) for n in (1, 2, 3)), point(130, 240.0)]
    (found,) = distinct(step_of(*ramp))
    assert found.resistance_mohm == pytest.approx(1000 * OHM)


def test_voltage_that_drifts_is_taken_ten_seconds_after_the_step() -> None:
    drifting = [point(0, 0.0), *(point(100 + 5 * n, 240.0, 52.5 + 0.02 * n) for n in range(8))]
    (found,) = step_of(*drifting)
    assert found.resistance_mohm == pytest.approx(1000 * 0.54 / 240.0)


@pytest.mark.parametrize(
    "points",
    [
        [point(0, 0.0), point(100, 30.0), point(130, 30.0)],  # less than 0.1 C
        [point(95, 0.0), point(101, 240.0), point(130, 240.0)],  # nobody knows what was before
        [point(0, 0.0), point(80, 200.0), point(90, 0.0), point(101, 240.0), point(130, 240.0)],  # not steady before
        [point(0, 0.0), point(101, 240.0), point(105, 120.0), point(130, 240.0)],  # not steady after
        [point(0, 0.0), point(101, 240.0)],  # not seen to its end
    ],
)
def test_what_is_not_a_steady_step_does_not_count(points: list[Point]) -> None:
    assert step_of(*points) == []


def steps(count: int, *, temperature_c: float = 25.0, soc_pct: float = 50.0, scale: float = 1.0) -> list[Step]:
    factor = factor_at(temperature_c)
    return [
        Step(n * 3_600_000, 240.0, 1000 * OHM * scale * factor * (1 + 0.01 * (-1) ** n), soc_pct, temperature_c)
        for n in range(count)
    ]


def test_too_few_steps_are_not_known_yet() -> None:
    found = estimate_resistance(steps(4))
    assert (found.value, found.uncertainty, found.sample_count) == (None, None, 4)
    assert "4 of 5" in found.reason


@pytest.mark.parametrize("temperature_c", [8.0, 25.0, 42.0])
def test_estimate_is_referred_to_25_degrees(temperature_c: float) -> None:
    found = estimate_resistance(steps(8, temperature_c=temperature_c))
    assert found.value == pytest.approx(1000 * OHM, rel=0.01)
    assert found.uncertainty is not None
    at_reference = estimate_resistance(steps(8)).uncertainty
    assert at_reference is not None
    assert found.uncertainty >= at_reference


def test_colder_is_more_resistance() -> None:
    assert factor_at(5.0) > 1.5 > factor_at(25.0) == 1.0 > factor_at(45.0)


def test_steps_near_empty_full_cold_or_with_a_voltage_that_falls_do_not_count() -> None:
    wrong = [*steps(5, soc_pct=8.0), *steps(5, soc_pct=99.0), *steps(5, temperature_c=-5.0), *steps(5, scale=-1.0)]
    assert estimate_resistance(wrong).sample_count == 0


def test_outlier_does_not_move_the_estimate() -> None:
    found = estimate_resistance([*steps(9), *steps(1, scale=7.0)])
    assert found.value == pytest.approx(1000 * OHM, rel=0.01)
    assert found.sample_count == 9
