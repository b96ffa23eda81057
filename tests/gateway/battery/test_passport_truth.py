"""The passport against the simulator's truth: lives of weeks, rows by exception, as a node keeps them.

`SWAPLINE_LIVES="seed:days seed:days ..."` passes other lives; the figures of docs/modules.md come from
`SWAPLINE_LIVES="1:21 2:21 3:21" pytest -s tests/gateway/battery/test_passport_truth.py`.
"""

import os
from typing import NamedTuple

import pytest

from swapline_bench.module_life import ModuleLife
from swapline_gateway.battery.hour_book import HourBook
from swapline_gateway.battery.passport_book import PassportBook
from swapline_gateway.battery.record import Estimate, Passport
from swapline_wire.catalogue import CELLS, MODULE
from tests.gateway.battery.module_truth import WITHOUT_COUNTERS, Truth, live, store_of, truth_of
from tests.gateway.battery.reading_store import ReadingStore

LIVES = [one.split(":") for one in os.environ.get("SWAPLINE_LIVES", "11:8 12:7").split()]


class Lived(NamedTuple):
    life: ModuleLife
    store: ReadingStore
    passport: Passport
    truth: Truth


@pytest.fixture(scope="module", params=LIVES, ids=lambda life: f"seed{life[0]}")
def lived(request: pytest.FixtureRequest) -> Lived:
    seed, days = int(request.param[0]), float(request.param[1])
    life = live(seed, days, None if seed % 2 else WITHOUT_COUNTERS)  # with the BMS's counters, and without
    store = store_of(life, (MODULE, CELLS))
    hours = HourBook(store)
    hours.rebuild(life.module.code)
    book = PassportBook(store, hours)
    book.refresh([life.module.code])
    passport = book.passport(life.module.code)
    assert passport is not None
    return Lived(life, store, passport, truth_of(life.module))


def off(found: float, true: float) -> float:
    return abs(found / true - 1.0)


def holds(estimate: Estimate, true: float, share: float) -> None:
    assert estimate.value is not None, estimate.reason
    assert estimate.uncertainty is not None
    print(f"{estimate.value} +- {estimate.uncertainty} {estimate.unit}, true {true:.3f}")  # noqa: T201 -- read with -s
    assert off(estimate.value, true) < share, (estimate, true)
    assert abs(estimate.value - true) < 3 * estimate.uncertainty, (estimate, true)


def test_energy_and_cycles_are_within_half_a_percent(lived: Lived) -> None:
    passport, truth = lived.passport, lived.truth
    for name in ("energy_in_kwh", "energy_out_kwh", "charge_in_ah", "charge_out_ah", "equivalent_full_cycles"):
        found, true = getattr(passport, name), getattr(truth, name)
        print(f"{name} {found:.3f}, true {true:.3f}: {100 * (found / true - 1):+.3f} %")  # noqa: T201 -- read with -s
        assert off(found, true) < 0.005, name


def test_energy_says_how_it_was_found(lived: Lived) -> None:
    has_counters = any("energy_in_kwh" in hour.counts for hour in HourBook(lived.store).hours(lived.passport.module))
    assert ("the BMS's own counters" in lived.passport.energy_method) is has_counters


def test_resistance_is_within_ten_percent_and_its_uncertainty_holds(lived: Lived) -> None:
    holds(lived.passport.resistance, lived.truth.resistance_mohm, 0.10)


def test_capacity_is_within_three_percent_and_its_uncertainty_holds(lived: Lived) -> None:
    holds(lived.passport.capacity, lived.truth.capacity_ah, 0.03)


def test_seconds_by_band_are_all_that_was_known(lived: Lived) -> None:
    passport, days = lived.passport, (lived.life.now_utc_ms - lived.passport.first_utc_ms) / 86_400_000
    assert sum(passport.soc_s.values()) == pytest.approx(passport.known_s, rel=1e-6)
    assert sum(passport.temperature_s.values()) == pytest.approx(passport.known_s, rel=1e-6)
    assert 0.97 * days * 86_400 < passport.known_s < days * 86_400  # a swap takes four minutes
    assert passport.fast_charge_share == 0.0  # the charger gives half a C


def test_nothing_is_known_of_capacity_and_resistance_on_the_first_day(lived: Lived) -> None:
    first = ReadingStore()
    module = lived.life.module.code
    begin = lived.passport.first_utc_ms
    rows = lived.store.rows[module, "module"].values()
    first.add(module, [row for row in rows if row[0] < begin + 2 * 3_600_000])
    passport = PassportBook(first, HourBook(first)).passport(module)
    assert passport is not None
    for estimate in (passport.capacity, passport.resistance, passport.spread, passport.spread_trend):
        assert estimate.value is None
        assert estimate.uncertainty is None
        assert estimate.reason
