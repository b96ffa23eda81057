"""Passports: what they say, why, and that they survive the databases."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from swapline_bench.module_life import ModuleLife, frame_rows, make_module
from swapline_bench.randomness import make_random
from swapline_gateway.battery import table
from swapline_gateway.battery.counter import Count
from swapline_gateway.battery.hour_book import HourBook
from swapline_gateway.battery.integral import Sums
from swapline_gateway.battery.passport import compare, count_alarms, from_json, make_passport
from swapline_gateway.battery.passport_book import PassportBook
from swapline_gateway.battery.record import HOUR_MS, Estimate, Passport
from swapline_gateway.battery.rest import Rest
from swapline_gateway.battery.span import DAY_MS, Span
from swapline_gateway.battery.spread import estimate_spread
from swapline_wire.catalogue import CELLS, MODULE
from tests.gateway.battery.conftest import Database
from tests.gateway.battery.module_truth import WITHOUT_COUNTERS, scaled, store_of, truth_of
from tests.gateway.battery.reading_store import ReadingStore
from tests.gateway.battery.test_capacity import SLOT, VAN, rest

CODE = "0SLPB0451800168380000001"


def span(sums: Sums, counts: dict[str, Count] | None = None, rests: Sequence[Rest] = ()) -> Span:
    return Span(
        start_utc_ms=0,
        end_utc_ms=DAY_MS,
        first_utc_ms=0,
        last_utc_ms=10 * HOUR_MS,
        row_count=100,
        sums=sums,
        soc_min_pct=10.0,
        soc_max_pct=90.0,
        temperature_min_c=10.0,
        temperature_max_c=30.0,
        rated_ah=500.0,
        rests=tuple(rests),
        counts=counts or {},
    )


SUMS = Sums(known_s=36_000.0, charge_in_ah=260.0, charge_out_ah=240.0, energy_in_kwh=14.0, energy_out_kwh=12.0)


def counts(growth_in: float, growth_out: float, breaks: int = 0) -> dict[str, Count]:
    return {
        "energy_in_kwh": Count(0, 100.0, 10 * HOUR_MS, 100.0 + growth_in, growth_in, breaks),
        "energy_out_kwh": Count(0, 90.0, 10 * HOUR_MS, 90.0 + growth_out, growth_out, breaks),
    }


def test_equivalent_full_cycles_are_half_of_what_went_through() -> None:
    assert make_passport(CODE, span(SUMS)).equivalent_full_cycles == 0.5
    assert make_passport(CODE, replace(span(SUMS), rated_ah=None)).equivalent_full_cycles is None


def test_counters_that_agree_speak_for_the_energy() -> None:
    passport = make_passport(CODE, span(SUMS, counts(14.1, 12.1)))
    assert (passport.energy_in_kwh, passport.energy_out_kwh) == (14.1, 12.1)
    assert passport.energy_method.startswith("the BMS's own counters")


def test_counters_close_gaps_that_no_reading_covers() -> None:
    read_half = replace(SUMS, known_s=18_000.0, energy_in_kwh=7.0, energy_out_kwh=6.0)
    passport = make_passport(CODE, span(read_half, counts(14.1, 12.1)))
    assert (passport.energy_in_kwh, passport.energy_out_kwh) == (14.1, 12.1)
    assert "also over 5.0 h that no reading covers" in passport.energy_method


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "has no counters"),
        (counts(14.0, 12.0, breaks=2), "started anew 2 times"),
        (counts(30.0, 12.0), "say 30.0 kWh where readings say 14.0 kWh"),
        (counts(14.0, 3.0), "say 3.0 kWh where readings say 12.0 kWh"),
    ],
)
def test_counters_that_cannot_be_believed_are_named(found: dict[str, Count], why: str) -> None:
    passport = make_passport(CODE, span(SUMS, found))
    assert (passport.energy_in_kwh, passport.energy_out_kwh) == (14.0, 12.0)
    assert passport.energy_method.startswith("added up from readings")
    assert why in passport.energy_method


def test_fast_charge_share_is_of_charge_with_a_known_rate() -> None:
    fast = replace(SUMS, charge_by_rate_ah={"0.25-0.5": 30.0, "0.8-1": 10.0, "above 1": 10.0})
    assert make_passport(CODE, span(fast)).fast_charge_share == 0.2
    assert make_passport(CODE, span(SUMS)).fast_charge_share is None


def test_places_make_swaps_and_holders() -> None:
    places = [("test", "van-1"), ("test", "station-1"), ("test", "station-1"), ("test", "van-1"), ("test", "van-2")]
    passport = make_passport(CODE, span(SUMS), places=places)
    assert (passport.swap_count, passport.holder_count) == (3, 3)


def alarm(time_ms: int, level: int | None, code: int = 1, bay: int = 1) -> dict[str, Any]:
    return {"time_utc_ms": time_ms, "fleet": "test", "node": "van-1", "bay": bay, "code": code, "level": level}


def test_alarm_counts_once_at_its_highest_level() -> None:
    rows = [
        *(alarm(1, 1), alarm(2, 3), alarm(3, 0)),  # escalated
        *(alarm(4, 2), alarm(5, 0)),  # another one of the same code
        alarm(6, 1, code=2),  # still standing
        *(alarm(7, 0, code=3), alarm(8, None)),  # raised before the first row that is known; no level
    ]
    assert count_alarms(reversed(rows)) == {"1": 1, "2": 1, "3": 1}


def sibling(number: int, resistance_mohm: float, family: str = "0SLPB04") -> Passport:
    made = make_passport(f"{family}51800168380{number:06d}", span(SUMS))
    return replace(made, resistance=Estimate(resistance_mohm, 0.1, "mohm", "test", 9))


def test_siblings_are_of_the_same_maker_and_specification() -> None:
    others = [sibling(n, 2.0 + n / 10) for n in range(5)]
    strangers = [sibling(n, 9.0, family="0SLPB05") for n in range(10, 15)]
    found = compare(sibling(7, 2.35), [*others, *strangers, sibling(7, 2.35)])
    assert (found["family"], found["count"]) == ("0SLPB04", 5)
    told = found["figures"]["resistance_mohm"]
    assert (told["value"], told["median"], told["percentile"], told["count"]) == (2.35, 2.2, 80.0, 5)
    assert "capacity_ah" not in found["figures"]  # not known yet


def test_too_few_siblings_say_nothing() -> None:
    found = compare(sibling(1, 2.0), [sibling(2, 2.0), sibling(3, 2.0)])
    assert (found["figures"], found["reason"]) == ({}, "2 siblings are known, 3 are needed")
    assert compare(make_passport("odd", span(SUMS)), [])["family"] is None


# Spread.


def rests(spreads_mv: Sequence[float], cell_v: float = 3.30, apart_days: float = 1.0) -> list[Rest]:
    return [
        rest(round((n + 1) * apart_days * DAY_MS), 0.0, cell_v, cell_mean_v=cell_v, cell_max_v=cell_v + mv / 1000)
        for n, mv in enumerate(spreads_mv)
    ]


def test_spread_and_its_trend() -> None:
    spread, trend = estimate_spread(rests([10 + 0.5 * n + (n % 2) for n in range(40)]))
    assert spread.value == pytest.approx(10 + 0.5 * 24, abs=1.5)  # of the last 30 days
    assert trend.value == pytest.approx(15.0, abs=0.5)
    assert trend.uncertainty is not None
    assert trend.uncertainty < 2.0


def test_steady_spread_has_a_trend_within_its_uncertainty() -> None:
    _, trend = estimate_spread(rests([12 + (n * 7 % 5) for n in range(60)]))
    assert trend.value is not None
    assert trend.uncertainty is not None
    assert abs(trend.value) < 3 * trend.uncertainty


def test_spread_compares_rests_of_one_region_only() -> None:
    mixed = rests([5, 5, 5, 5]) + rests([40, 40, 40], cell_v=3.10)
    spread, trend = estimate_spread(mixed)
    assert spread.value == pytest.approx(5.0)
    assert "plateau region" in spread.method
    assert trend.value is None
    assert "8 over 14 days are needed" in trend.reason


def test_spread_is_not_known_without_rests() -> None:
    spread, trend = estimate_spread(rests([5, 5]))
    assert (spread.value, trend.value) == (None, None)
    assert "2 of 3 rests" in spread.reason
    assert estimate_spread([])[0].value is None


# In a book, in a database.


def short_life(hours: float = 14.0) -> ModuleLife:
    life = ModuleLife(make_module(3), seed=3, power_factor=2.0)
    life.rest(300.0)
    life.drive(0.75)
    life.rest(2000.0)
    life.move("station-001", 4)
    life.charge()
    life.rest(max(60.0, hours * 3600.0 - life.time_s))
    return life


def test_passport_comes_back_from_its_row_as_it_was() -> None:
    store = store_of(short_life(6.0), (MODULE, CELLS))
    (code,) = store.modules()
    book = PassportBook(store, HourBook(store))
    book.refresh([code])
    stored = store.read(table.PASSPORT)
    made = book.passport(code)
    assert made is not None
    assert len(stored) == 1
    assert from_json(made.as_json()) == made
    assert book.passport("0SLPB0451800168389999999") is None
    written = store.puts
    book.refresh([code, "unknown"])
    assert store.puts == written


def test_earlier_rows_move_the_passport_to_its_new_begin() -> None:
    life = short_life(6.0)
    begin = life.kept[0].time_utc_ms
    late = [reading for reading in scaled(life.kept, MODULE) if reading[0] >= begin + HOUR_MS]
    store = ReadingStore()
    store.add(CODE, late)
    book = PassportBook(store, HourBook(store))
    book.refresh([CODE])
    store.add(CODE, scaled(life.kept, MODULE))
    book.refresh([CODE])
    assert [row.time_utc_ms for row in store.read(table.PASSPORT)] == [begin]


def test_books_in_a_database_are_the_same_again(database: Database) -> None:
    life = short_life(4.0)
    code = life.module.code
    frames = list(frame_rows(life.kept, code))
    database.sink.write(frames[1::2])  # a frame of each two came late
    book = HourBook(database.store)
    assert book.rebuild(code) is True
    database.sink.write(frames[0::2])
    assert book.rebuild(code) is True
    assert book.rebuild(code) is False
    passports = PassportBook(database.store, book)
    passports.refresh([code])
    made = passports.passport(code)
    stored = database.store.read(table.PASSPORT)
    assert made is not None
    assert [row.fields["energy_out_kwh"] for row in stored] == [made.energy_out_kwh]
    expected = PassportBook(store := store_of(life, (MODULE, CELLS)), HourBook(store)).passport(code)
    assert replace(made, siblings={}) == replace(expected, siblings={}) if expected else False
    seen = {sighting.place[1:] for hour in book.hours(code) for sighting in hour.sightings}
    assert seen == {VAN[1:], SLOT[1:]}


def passport_of(life: ModuleLife) -> Passport:
    store = store_of(life, (MODULE,))
    made = PassportBook(store, HourBook(store)).passport(life.module.code)
    assert made is not None
    return made


def driven_unread(signals: frozenset[str] | None) -> ModuleLife:
    """Return a life in which an hour of driving was not read."""
    life = ModuleLife(make_module(4), seed=4, power_factor=2.0, signals=signals)
    life.drive(0.8)
    life.be_unread(3600.0, current_a=-60.0)
    life.rest(1800.0)
    return life


def test_hour_that_nobody_read_is_in_the_counters_and_else_unknown() -> None:
    counted, uncounted = driven_unread(None), driven_unread(WITHOUT_COUNTERS)
    truth = truth_of(counted.module)
    with_counters, without = passport_of(counted), passport_of(uncounted)
    assert with_counters.energy_out_kwh == pytest.approx(truth.energy_out_kwh, rel=0.005)
    assert with_counters.charge_out_ah == pytest.approx(truth.charge_out_ah, rel=0.005)
    assert without.charge_out_ah == pytest.approx(truth.charge_out_ah - 60.0, rel=0.01)
    assert without.last_utc_ms - without.first_utc_ms - 1000 * without.known_s == pytest.approx(3_600_000, abs=5000)
    assert "1.0 h that none covers are not in it" in without.energy_method


def test_bms_that_was_replaced_is_noticed_and_the_readings_count() -> None:
    life = ModuleLife(make_module(4), seed=4, power_factor=2.0)
    life.drive(0.85)
    life.module.energy_in_kwh = life.module.energy_out_kwh = 0.0
    life.module.charge_in_ah = life.module.charge_out_ah = 0.0
    life.drive(0.7)
    made, truth = passport_of(life), truth_of(life.module)
    assert "started anew" in made.energy_method
    assert made.energy_out_kwh == pytest.approx(truth.energy_out_kwh, rel=0.005)
    assert made.charge_out_ah == pytest.approx(truth.charge_out_ah, rel=0.005)


def test_passport_is_the_same_in_any_order_of_arrival_through_any_gateway() -> None:
    life = short_life(5.0)
    whole = store_of(life, (MODULE, CELLS))
    PassportBook(whole, HourBook(whole)).refresh([life.module.code])
    HourBook(whole).rebuild(life.module.code)
    random, pieces = make_random("order"), ReadingStore()
    readings = [(stream.name, one) for stream in (MODULE, CELLS) for one in scaled(life.kept, stream)]
    batches = [readings[n : n + 700] for n in range(0, len(readings), 700)]
    random.shuffle(batches)
    replicas = [HourBook(pieces), HourBook(pieces)]
    for batch in batches:
        for name, one in batch:
            pieces.add(life.module.code, [one], name)
        replica = random.choice(replicas)
        replica.refresh(life.module.code, {one[0] // HOUR_MS * HOUR_MS for _, one in batch})
        PassportBook(pieces, replica).refresh([life.module.code])
    assert [row.fields for row in pieces.read(table.PASSPORT)] == [row.fields for row in whole.read(table.PASSPORT)]
    days = [[row.fields for row in store.read(table.MODULE_DAY)] for store in (whole, pieces)]
    assert days[0] == days[1]


def test_book_knows_holders_alarms_and_siblings() -> None:
    life = short_life(6.0)
    store, code = store_of(life, (MODULE,)), life.module.code
    begin = life.kept[0].time_utc_ms
    for n, (node, bay) in enumerate((("van-001", "1"), ("station-001", "4"), ("van-002", "1"))):
        tags = {"module": code, "fleet": "test", "node": node, "bay": bay}
        store.put([table.STAY.row(begin + n * HOUR_MS, tags, from_evidence="sighting")])
    store.put([table.STAY.row(begin, {"module": "another", "fleet": "test", "node": "van-9", "bay": "1"})])
    store.alarm_rows = [{**alarm(begin + n, level), "module": code} for n, level in enumerate((1, 3, 0))]
    store.alarm_rows.append({**alarm(begin, 2), "module": "another"})
    book = PassportBook(store, HourBook(store))
    for number in range(3):
        store.add(code[:-3] + f"9{number:02d}", scaled(life.kept, MODULE))
    book.refresh(store.modules())
    made = book.passport(code)
    assert made is not None
    assert (made.swap_count, made.holder_count) == (2, 3)
    assert made.alarm_counts == {"1": 0, "2": 0, "3": 1}
    assert (made.siblings["family"], made.siblings["count"]) == (code[:7], 3)
    assert made.siblings["figures"]["equivalent_full_cycles"]["percentile"] == 50.0
