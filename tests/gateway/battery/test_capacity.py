"""Capacity: what counts as full and low, with a cell that is not the estimator's own, and what is not known yet."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from swapline_gateway.battery.capacity import SIGMA_MAX, estimate_capacity
from swapline_gateway.battery.code import parse
from swapline_gateway.battery.integral import Sums
from swapline_gateway.battery.open_circuit import charge_after_discharge, soc_at, volts_at
from swapline_gateway.battery.record import HOUR_MS, Place
from swapline_gateway.battery.rest import EMPTY, FULL, Anchor, Rest
from swapline_gateway.battery.span import Span

VAN, SLOT = Place("test", "van-001", 1), Place("test", "station-001", 4)
RATED_AH = 518.0
TRUE_AH = 480.0
CYCLE_MS = 20 * HOUR_MS
Curve = Callable[[float], float]


def rest(time_ms: int, net_ah: float, cell_v: float, **changes: float) -> Rest:
    found = Rest(
        start_utc_ms=time_ms - HOUR_MS,
        end_utc_ms=time_ms,
        place=VAN,
        net_ah=net_ah,
        known_s=time_ms / 1000,
        current_a=0.0,
        cell_min_v=cell_v,
        cell_max_v=cell_v + 0.004,
        cell_mean_v=cell_v + 0.002,
        min_cell=3,
        max_cell=7,
        soc_pct=10.0,
        temperature_c=25.0,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def full(time_ms: int, net_ah: float = 0.0) -> Anchor:
    return Anchor(FULL, time_ms, net_ah, time_ms / 1000, 20.0, 3.49, 3.5, 100.0, 28.0)


def life(rests: Sequence[Rest], anchors: Sequence[Anchor], rated_ah: float | None = RATED_AH) -> Span:
    last_ms = max([one.end_utc_ms for one in rests] + [one.time_utc_ms for one in anchors], default=0)
    return Span(
        start_utc_ms=0,
        end_utc_ms=last_ms,
        first_utc_ms=0,
        last_utc_ms=last_ms,
        row_count=1,
        sums=Sums(),
        soc_min_pct=None,
        soc_max_pct=None,
        temperature_min_c=None,
        temperature_max_c=None,
        rated_ah=rated_ah,
        rests=tuple(rests),
        anchors=tuple(anchors),
    )


def cycles(curve: Curve, depths: Sequence[float]) -> Span:
    """Return a life of a module of `TRUE_AH` that is discharged to these states of charge, rests, and is charged."""
    rests, anchors = [], [full(HOUR_MS)]
    for n, depth in enumerate(depths, start=1):
        rests.append(rest(n * CYCLE_MS, -TRUE_AH * (1 - depth), curve(depth)))
        anchors.append(full(n * CYCLE_MS + 8 * HOUR_MS))
    return life(rests, anchors)


@pytest.mark.parametrize("soc", [0.0, 0.034, 0.1, 0.3, 0.555, 0.97, 1.0])
def test_curve_is_its_own_inverse(soc: float) -> None:
    assert soc_at(volts_at(soc)) == pytest.approx(soc, abs=1e-9)


def test_plateau_says_less_than_the_knee() -> None:
    deep, middle = charge_after_discharge(volts_at(0.05), 0.0), charge_after_discharge(volts_at(0.5), 0.0)
    assert deep.sigma < 0.01
    assert middle.sigma > 0.1


def test_deep_rest_and_full_tell_the_capacity() -> None:
    found = estimate_capacity(cycles(lambda soc: volts_at(soc) - 0.008, [0.07, 0.05, 0.08]))
    assert found.value == pytest.approx(TRUE_AH, rel=0.005)
    assert found.uncertainty is not None
    assert 0.005 * TRUE_AH < found.uncertainty < SIGMA_MAX * TRUE_AH
    assert found.sample_count == 6  # down and up again


def test_measured_cell_of_another_maker_is_within_three_percent() -> None:
    folder = os.environ.get("SWAPLINE_RECORDINGS")
    if not folder:
        pytest.skip("SWAPLINE_RECORDINGS does not name the folder with the measured cell battery/CLFP_Sony_US26650")
    with (Path(folder) / "battery/CLFP_Sony_US26650_OCV.csv").open() as file:
        points = [(float(row["SOC"]), float(row["OCV"])) for row in csv.DictReader(file)]
    with (Path(folder) / "battery/CLFP_Sony_US26650_HystV.csv").open() as file:
        gaps = [(float(row["SOC"]), float(row["HystV"])) for row in csv.DictReader(file)]

    def curve(soc: float) -> float:
        return between(points, soc) - between(gaps, soc) / 2  # after a discharge

    for depths in ([0.04, 0.06], [0.07], [0.05, 0.09, 0.15], [0.08, 0.3, 0.03]):
        found = estimate_capacity(cycles(curve, depths))
        assert found.value is not None, (depths, found.reason)
        assert found.uncertainty is not None
        assert abs(found.value / TRUE_AH - 1) < 0.03, (depths, found)
        assert abs(found.value - TRUE_AH) < 3 * found.uncertainty, (depths, found)
    for depths in ([0.15], [0.18, 0.2], [0.4]):  # there the curves differ by five per cent of charge
        assert estimate_capacity(cycles(curve, depths)).value is None, depths


def between(points: Sequence[tuple[float, float]], x: float) -> float:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    raise AssertionError(x)


def test_light_load_below_the_knee_counts_with_its_drop() -> None:
    curve = volts_at(0.05) - 0.008
    drop_v = 0.15 * 30 / RATED_AH
    low = Anchor(EMPTY, CYCLE_MS, -TRUE_AH * 0.95, CYCLE_MS / 1000, -30.0, curve - drop_v, curve, 4.0, 25.0)
    found = estimate_capacity(life([], [full(HOUR_MS), low, full(CYCLE_MS + 8 * HOUR_MS)]))
    assert found.value == pytest.approx(TRUE_AH, rel=0.01)
    heavy = replace(low, current_a=-250.0, cell_min_v=curve - 0.15 * 250 / RATED_AH)
    less = estimate_capacity(life([], [full(HOUR_MS), heavy]))
    assert less.value == pytest.approx(TRUE_AH, rel=0.01)
    assert found.uncertainty is not None
    assert less.uncertainty is not None
    assert less.uncertainty > found.uncertainty


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (life([], []), "neither charged until full nor seen resting"),
        (life([], [full(HOUR_MS)]), "not seen resting"),
        (life([rest(HOUR_MS, -450.0, volts_at(0.06))], []), "not seen being charged until full"),
        (life([rest(CYCLE_MS, -450.0, volts_at(0.06))], [full(HOUR_MS)], rated_ah=None), "tells no capacity"),
        (life([rest(CYCLE_MS, -450.0, volts_at(0.06), cell_max_v=4.1)], [full(HOUR_MS)]), "not LFP"),
        (life([rest(CYCLE_MS, -450.0, volts_at(0.06), known_s=9000.0)], [full(HOUR_MS)]), "readings are missing"),
        (life([rest(5 * CYCLE_MS, -450.0, volts_at(0.06))], [full(HOUR_MS)]), "more than three days apart"),
    ],
)
def test_what_is_missing_is_said(span: Span, reason: str) -> None:
    found = estimate_capacity(span)
    assert (found.value, found.uncertainty) == (None, None)
    assert reason in found.reason


def test_code_of_another_chemistry_has_no_curve() -> None:
    deep = cycles(lambda soc: volts_at(soc) - 0.008, [0.05])
    assert "not LFP" in estimate_capacity(deep, "ternary lithium (NMC, NCA)").reason
    assert estimate_capacity(deep, parse("of no standard").chemistry).value is not None
    assert estimate_capacity(deep, parse("0SLPB0451800168380000001").chemistry).value is not None


def test_short_rest_does_not_count() -> None:
    short = rest(CYCLE_MS, -450.0, volts_at(0.06), start_utc_ms=CYCLE_MS - 600_000)
    assert estimate_capacity(life([short], [full(HOUR_MS)])).value is None


def test_swap_without_readings_makes_it_less_certain() -> None:
    certain = estimate_capacity(cycles(lambda soc: volts_at(soc) - 0.008, [0.05]))
    span = cycles(lambda soc: volts_at(soc) - 0.008, [0.05])
    late = tuple(replace(one, known_s=one.known_s - 300.0) for one in span.rests)
    less = estimate_capacity(replace(span, rests=late, anchors=span.anchors[:1]))
    assert certain.uncertainty is not None
    assert less.uncertainty is not None
    assert less.uncertainty > certain.uncertainty
