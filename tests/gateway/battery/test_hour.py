"""Hours: exact at their edges, additive under any cut, the same in any order of arrival."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swapline_bench.randomness import make_random
from swapline_gateway.battery.counter import Count, count, join_counts
from swapline_gateway.battery.hour import (
    CELL_SIGNALS,
    MARGIN_MS,
    RUN_GAP_MS,
    SIGNALS,
    ModuleHour,
    join_sightings,
    summarise,
)
from swapline_gateway.battery.hour_book import HourBook
from swapline_gateway.battery.record import HOUR_MS, Place, Sighting
from swapline_gateway.battery.rest import FULL
from swapline_gateway.battery.span import DAY_MS, Span, merge, span_of_hour
from swapline_gateway.battery.store import ModuleRows
from swapline_gateway.battery.table import MODULE_DAY, MODULE_HOUR
from tests.gateway.battery.reading_store import Reading, ReadingStore

MODULE = "0SLPB0451800168380000001"
VAN, SLOT = Place("test", "van-001", 1), Place("test", "station-001", 4)
DAY = 20_000 * DAY_MS
USUAL: dict[str, float | None] = {
    "voltage_v": 50.0,
    "current_a": 0.0,
    "soc_pct": 50.0,
    "soh_pct": 95.0,
    "capacity_full_ah": 475.0,
    "cell_voltage_min_v": 3.29,
    "cell_voltage_max_v": 3.30,
    "cell_voltage_mean_v": 3.295,
    "temperature_min_c": 20.0,
    "temperature_max_c": 24.0,
    "temperature_ambient_c": 20.0,
    "cell_count": 16.0,
}


def reading(time_s: float, place: Place = VAN, **values: float | None) -> Reading:
    return DAY + round(time_s * 1000), place, {**USUAL, **values}


def rows_of(readings: Sequence[Reading]) -> ModuleRows:
    ordered = sorted(readings, key=lambda one: (one[0], one[1]))
    columns: dict[str, Sequence[float | None]] = {
        name: [values.get(name) for _, _, values in ordered] for name in SIGNALS
    }
    return ModuleRows([time for time, _, _ in ordered], [place for _, place, _ in ordered], columns)


def hour_of(readings: Sequence[Reading], hour: int = 0) -> ModuleHour:
    start = DAY + hour * HOUR_MS
    near = [one for one in readings if start - MARGIN_MS <= one[0] < start + HOUR_MS + MARGIN_MS]
    return summarise(MODULE, rows_of(near), start)


def test_constant_current_is_charge_and_energy_exactly() -> None:
    hour = hour_of([reading(s, current_a=-36.0) for s in range(-60, 3720, 60)])
    assert hour.sums.known_s == 3600.0
    assert hour.sums.charge_out_ah == pytest.approx(36.0)
    assert hour.energy_out_kwh == pytest.approx(1.8)
    assert (hour.sums.charge_in_ah, hour.energy_in_kwh) == (0.0, 0.0)
    assert hour.sums.current_square_a2h == pytest.approx(36.0**2)


def test_run_is_cut_exactly_at_both_edges() -> None:
    readings = [reading(s, current_a=-36.0) for s in range(-40, 3700, 60)]
    hour = hour_of(readings)
    assert hour.sightings == (Sighting(MODULE, VAN, DAY, DAY + HOUR_MS, 60),)
    assert hour.sums.charge_out_ah == pytest.approx(36.0)


def test_gap_is_unknown_and_not_zero() -> None:
    hour = hour_of([reading(s, current_a=-36.0) for s in (0, 60, 60 + RUN_GAP_MS / 1000 + 1, 600)])
    assert [(s.first_utc_ms - DAY, s.last_utc_ms - DAY) for s in hour.sightings] == [
        (0, 60_000),
        (241_000, 241_000),
        (600_000, 600_000),
    ]
    assert hour.sums.known_s == 60.0
    assert hour.sums.charge_out_ah == pytest.approx(0.6)


def test_jump_lies_within_the_poll_that_saw_it() -> None:
    hour = hour_of([reading(0, current_a=0.0), reading(60, current_a=-100.0), reading(61, current_a=-100.0)])
    assert hour.sums.charge_out_ah == pytest.approx(100.0 * 1.5 / 3600)


def test_drift_is_a_straight_line() -> None:
    hour = hour_of([reading(0, current_a=20.0), reading(60, current_a=18.9)])
    assert hour.sums.charge_in_ah == pytest.approx(19.45 * 60 / 3600)


def test_current_that_turns_counts_both_ways() -> None:
    drift = hour_of([reading(0, current_a=-0.6), reading(30, current_a=0.6)])
    assert drift.sums.charge_in_ah == pytest.approx(drift.sums.charge_out_ah)
    assert drift.sums.charge_in_ah == pytest.approx(0.3 * 15 / 3600)
    jump = hour_of([reading(0, current_a=-90.0), reading(1, current_a=30.0)])
    assert jump.sums.charge_out_ah == pytest.approx(45 / 3600)
    assert jump.sums.charge_in_ah == pytest.approx(15 / 3600)


def test_energy_of_a_straight_line_is_exact() -> None:
    first, last = reading(0, current_a=10.0, voltage_v=50.0), reading(60, current_a=11.5, voltage_v=53.0)
    exact = sum((10 + 1.5 * x) * (50 + 3 * x) for x in ((n + 0.5) / 10_000 for n in range(10_000))) / 10_000
    assert hour_of([first, last]).energy_in_kwh == pytest.approx(exact * 60 / 3.6e6, rel=1e-6)


def test_voltage_falls_back_on_the_cells_and_is_counted_where_there_is_none() -> None:
    cells = hour_of([reading(s, current_a=10.0, voltage_v=None) for s in (0, 60)])
    assert cells.energy_in_kwh == pytest.approx(16 * 3.295 * 10 * 60 / 3.6e6)
    nothing = hour_of([reading(s, current_a=10.0, voltage_v=None, cell_voltage_mean_v=None) for s in (0, 60)])
    assert (nothing.energy_in_kwh, nothing.sums.voltage_unknown_s, nothing.sums.known_s) == (0.0, 60.0, 60.0)
    assert nothing.sums.charge_in_ah == pytest.approx(10 * 60 / 3600)


def test_time_without_a_current_is_not_known() -> None:
    hour = hour_of([reading(s, current_a=None if s == 60 else 5.0) for s in (0, 60, 120, 180)])
    assert hour.sums.known_s == 60.0
    assert sum(hour.sums.soc_s.values()) == pytest.approx(180.0)


def test_of_two_places_at_once_only_the_one_with_more_rows_counts() -> None:
    van = [reading(s, VAN, current_a=-36.0) for s in range(0, 3600, 10)]
    slot = [reading(s + 5, SLOT, current_a=260.0) for s in range(600, 900, 30)]
    hour = hour_of([*van, *slot])
    assert hour.sums.charge_in_ah == 0.0
    assert hour.sums.disputed_s == pytest.approx(270.0)
    assert {sighting.place for sighting in hour.sightings} == {VAN, SLOT}


def test_bands_are_half_where_it_was_and_half_where_it_came_to() -> None:
    hour = hour_of(
        [reading(0, soc_pct=19.9, temperature_max_c=34.9), reading(60, soc_pct=20.1, temperature_max_c=35.0)]
    )
    assert hour.sums.soc_s == {"10-20": 30.0, "20-80": 30.0}
    assert hour.sums.temperature_s == {"25-35": 30.0, "35-45": 30.0}


def test_rest_tells_its_end_and_recuperation_is_not_full() -> None:
    drive = [reading(s, current_a=-100.0, soc_pct=60.0) for s in range(0, 600, 10)]
    brake = [reading(600, current_a=20.0, cell_voltage_mean_v=3.47), reading(603, current_a=-50.0)]
    rest = [reading(s, cell_voltage_min_v=3.2, cell_voltage_max_v=3.208, soc_pct=11.0) for s in range(660, 3000, 60)]
    hour = hour_of([*drive, *brake, *rest])
    (found,) = hour.rests
    assert (found.start_utc_ms - DAY, found.end_utc_ms - DAY) == (660_000, 2_940_000)
    assert (found.spread_mv, hour.spread_mv) == (8.0, 8.0)
    assert found.net_ah == pytest.approx(hour.sums.charge_in_ah - hour.sums.charge_out_ah)
    assert hour.anchors == ()


def test_end_of_charging_is_full() -> None:
    charge = [reading(s, SLOT, current_a=25.0 - s / 100, cell_voltage_mean_v=3.5) for s in range(0, 300, 10)]
    (full,) = hour_of(charge).anchors
    assert (full.kind, full.time_utc_ms) == (FULL, DAY + 290_000)
    assert full.net_ah == pytest.approx(hour_of(charge).sums.charge_in_ah)


def test_hour_comes_back_from_its_row_as_it_was() -> None:
    readings = list(lively(make_random(5), 3600))
    hour = hour_of(readings)
    assert hour.rests
    assert hour.counts
    assert ModuleHour.from_row(hour.as_row()) == hour
    assert ModuleHour.from_row(ModuleHour(MODULE, DAY).as_row()) == ModuleHour(MODULE, DAY)


def test_rated_capacity_is_full_capacity_over_health_or_what_the_bms_was_set_to() -> None:
    assert hour_of([reading(0), reading(60)]).rated_ah == 500.0
    assert hour_of([reading(0, soh_pct=None), reading(60, soh_pct=None)]).rated_ah == 475.0
    assert hour_of([reading(0, capacity_full_ah=None)]).rated_ah is None


# Counters.


def test_counter_grows_over_gaps_and_breaks_where_it_is_another_one() -> None:
    grown = count("energy_in_kwh", [(0, 100.0), (HOUR_MS, 112.0), (9 * HOUR_MS, 150.0)])
    assert grown == Count(0, 100.0, 9 * HOUR_MS, 150.0, 50.0, 0)
    reset = count("energy_in_kwh", [(0, 100.0), (1000, 0.0), (HOUR_MS, 5.0)])
    assert reset == Count(0, 100.0, HOUR_MS, 5.0, 5.0, 1)
    replaced = count("energy_in_kwh", [(0, 100.0), (1000, 9000.0), (HOUR_MS, 9005.0)])
    assert replaced == Count(0, 100.0, HOUR_MS, 9005.0, 5.0, 1)
    assert count("energy_in_kwh", [(0, None)]) is None


@given(st.lists(st.floats(0, 40), min_size=2, max_size=30), st.sets(st.integers(1, 28)))
def test_counter_is_the_same_in_one_piece_and_in_parts(growths: list[float], cuts: set[int]) -> None:
    values: list[tuple[int, float | None]] = [(0, 0.0)]
    for n, growth in enumerate(growths, start=1):
        values.append((n * HOUR_MS, float(values[-1][1] or 0.0) + growth))
    edges = [0, *sorted(cut for cut in cuts if cut < len(values)), len(values)]
    parts = [count("energy_in_kwh", values[low:high]) for low, high in pairwise(edges)]
    joined = join_counts("energy_in_kwh", [part for part in parts if part is not None])
    whole = count("energy_in_kwh", values)
    assert joined is not None
    assert whole is not None
    assert joined.growth == pytest.approx(whole.growth, abs=1e-4)
    assert (joined.first, joined.last, joined.breaks) == (whole.first, whole.last, whole.breaks)


# Additive, and the same however rows arrive.


def lively(random: Random, duration_s: int, begin_s: int = 0) -> Iterator[Reading]:
    """Yield a module that drives, rests, changes places, loses rows, and counts."""
    time_s, place, charge_in, charge_out = float(begin_s), VAN, 1000.0, 1000.0
    while time_s < begin_s + duration_s:
        what = random.choice(("drive", "rest", "rest", "charge", "gap", "move"))
        if what == "gap":
            time_s += random.uniform(10, 900)
        elif what == "move":
            place = SLOT if place == VAN else VAN
            time_s += random.uniform(1, 240)
        else:
            current_a, steps = {"drive": -80.0, "charge": 200.0, "rest": 0.0}[what], random.randrange(2, 40)
            for _ in range(steps):
                step_s = 60.0 if what == "rest" else random.choice((1.0, 1.0, 3.0, 10.0))
                now_a = current_a * random.uniform(0.3, 1.7) if what == "drive" else current_a
                time_s += step_s
                charge_in += max(now_a, 0.0) * step_s / 3600
                charge_out += max(-now_a, 0.0) * step_s / 3600
                yield reading(
                    time_s,
                    place,
                    current_a=round(now_a, 2),
                    voltage_v=round(50 + now_a / 400, 2),
                    soc_pct=round(50 + 40 * math.sin(time_s / 9000), 1),
                    charge_in_ah=round(charge_in, 2),
                    charge_out_ah=round(charge_out, 2),
                )


def _life(readings: Sequence[Reading]) -> tuple[Span, list[Sighting]]:
    store = ReadingStore()
    store.add(MODULE, readings)
    hours = HourBook(store).hours(MODULE)
    life = merge([span_of_hour(hour) for hour in hours])
    assert life is not None
    return life, join_sightings(sighting for hour in hours for sighting in hour.sightings)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3599))
def test_sums_do_not_depend_on_where_hours_begin(seed: int, shift_s: int) -> None:
    readings = list(lively(make_random(seed), 3 * 3600))
    shifted = [(time + shift_s * 1000, place, values) for time, place, values in readings]
    (first, seen), (second, seen_later) = (_life(rows) for rows in (readings, shifted))
    move_ms = shift_s * 1000
    assert seen_later == [
        replace(one, first_utc_ms=one.first_utc_ms + move_ms, last_utc_ms=one.last_utc_ms + move_ms) for one in seen
    ]
    for name in ("known_s", "charge_in_ah", "charge_out_ah", "energy_in_kwh", "energy_out_kwh", "current_square_a2h"):
        assert getattr(first.sums, name) == pytest.approx(getattr(second.sums, name), rel=1e-6, abs=1e-6), name
    assert len(first.steps) == len(second.steps)
    for name, one in first.counts.items():
        assert second.counts[name].growth == pytest.approx(one.growth, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 3))
def test_hours_are_the_same_in_any_order_of_arrival(seed: int, batch_count: int, replica_count: int) -> None:
    """Batches of rows arrive in any order, perhaps twice; one of several gateways refreshes the hours of each."""
    random = make_random(seed)
    readings = list(lively(random, 4 * 3600, begin_s=22 * 3600))  # over midnight
    at_once, piece_by_piece = ReadingStore(), ReadingStore()
    at_once.add(MODULE, readings)
    HourBook(at_once).rebuild(MODULE)
    replicas = [HourBook(piece_by_piece) for _ in range(replica_count)]
    batches = [readings[n::batch_count] if random.random() < 0.3 else [] for n in range(batch_count)]
    left = [one for one in readings if not any(one in batch for batch in batches)]
    size = max(1, len(left) // batch_count)
    batches += [left[n : n + size] for n in range(0, len(left), size)]
    random.shuffle(batches)
    for batch in [*batches, random.choice(batches)]:
        piece_by_piece.add(MODULE, batch)
        random.choice(replicas).refresh(MODULE, {row[0] // HOUR_MS * HOUR_MS for row in batch})
    assert piece_by_piece.tables == at_once.tables
    assert {key[0] for key in at_once.tables} == {MODULE_HOUR.name, MODULE_DAY.name}


def test_refresh_of_what_is_known_writes_nothing() -> None:
    store = ReadingStore()
    store.add(MODULE, lively(make_random(1), 3 * 3600))
    book = HourBook(store)
    assert book.rebuild(MODULE) is True
    written = store.puts
    assert book.rebuild(MODULE) is False
    assert store.puts == written


def test_late_row_at_an_edge_changes_the_hour_before_it_too() -> None:
    store = ReadingStore()
    store.add(MODULE, [reading(3540, current_a=-10.0)])
    book = HourBook(store)
    book.refresh(MODULE, [DAY])
    store.add(MODULE, [reading(3660, current_a=-10.0)])
    assert book.refresh(MODULE, [DAY + HOUR_MS]) is True
    assert [hour.sums.known_s for hour in book.hours(MODULE)] == [60.0, 60.0]
    assert len(join_sightings(s for hour in book.hours(MODULE) for s in hour.sightings)) == 1


def test_hour_that_nobody_has_written_is_computed() -> None:
    store = ReadingStore()
    store.add(MODULE, lively(make_random(2), 3 * 3600))
    computed = HourBook(store).hours(MODULE)
    HourBook(store).rebuild(MODULE)
    assert computed == HourBook(store).hours(MODULE)
    assert len(computed) >= 3


def test_hours_outlive_the_readings_that_they_were_made_of() -> None:
    store = ReadingStore()
    store.add(MODULE, lively(make_random(3), 3 * 3600))
    book = HourBook(store)
    book.rebuild(MODULE)
    before = dict(store.tables)
    store.rows.clear()  # a database's retention
    assert book.refresh(MODULE, [DAY, DAY + HOUR_MS]) is False
    assert store.tables == before
    assert len(book.hours(MODULE)) >= 3


def test_days_add_up_to_what_the_hours_add_up_to() -> None:
    store = ReadingStore()
    store.add(MODULE, lively(make_random(4), 30 * 3600))
    book = HourBook(store)
    book.rebuild(MODULE)
    by_days, by_hours = merge(book.days(MODULE)), merge([span_of_hour(hour) for hour in book.hours(MODULE)])
    assert by_days is not None
    assert by_hours is not None
    assert by_days.sums.energy_in_kwh == pytest.approx(by_hours.sums.energy_in_kwh, abs=1e-6)
    assert by_days.counts == by_hours.counts
    assert by_days.steps == by_hours.steps
    longer = [rest for rest in by_hours.rests if rest.end_utc_ms - rest.start_utc_ms >= 1_800_000]
    kept = [rest for rest in by_days.rests if rest.end_utc_ms - rest.start_utc_ms >= 1_800_000]
    assert [(r.start_utc_ms, r.end_utc_ms) for r in kept] == [(r.start_utc_ms, r.end_utc_ms) for r in longer]
    assert all(a.net_ah == pytest.approx(b.net_ah, abs=1e-6) for a, b in zip(kept, longer, strict=True))


def test_hour_and_day_of_another_version_are_derived_again() -> None:
    store = ReadingStore()
    store.add(MODULE, lively(make_random(6), 3 * 3600))
    book = HourBook(store)
    book.rebuild(MODULE)
    before = dict(store.tables)
    for key, row in before.items():
        store.tables[key] = row._replace(fields={**row.fields, "detail": '{"of": "another version"}'})
    assert book.hours(MODULE)[-1] == ModuleHour.from_row(before[MODULE_HOUR.name, DAY + 2 * HOUR_MS, (MODULE,)])
    assert book.days(MODULE)
    assert book.rebuild(MODULE) is True
    assert store.tables == before


def test_old_days_are_read_without_their_moments() -> None:
    store = ReadingStore()
    store.add(MODULE, lively(make_random(7), 6 * 3600))
    book = HourBook(store)
    book.rebuild(MODULE)
    store.add(MODULE, [(DAY + 201 * DAY_MS + n * 60_000, VAN, USUAL) for n in range(40)])
    book.refresh(MODULE, [DAY + 201 * DAY_MS])
    old, new = book.days(MODULE)
    assert (old.rests, old.anchors, old.steps) == ((), (), ())
    assert new.rests
    assert old.sums.energy_in_kwh > 0


# Cells and sensors.


def cells_of(*told: tuple[float, Place, dict[str, float]]) -> ModuleRows:
    columns: dict[str, Sequence[float | None]] = {
        name: [values.get(name) for _, _, values in told] for name in CELL_SIGNALS
    }
    return ModuleRows([DAY + round(s * 1000) for s, _, _ in told], [place for _, place, _ in told], columns)


def test_rest_tells_each_cell_and_the_hour_each_sensor() -> None:
    cells = cells_of(
        (100, VAN, {"segment": 0, "cell_01_v": 3.301, "cell_02_v": 3.290, "temperature_1_c": 20.0}),
        (100, VAN, {"segment": 1, "cell_01_v": 3.305, "temperature_8_c": 31.0}),
        (400, VAN, {"segment": 0, "cell_01_v": 3.300, "temperature_1_c": 22.5}),
        (410, SLOT, {"segment": 0, "cell_01_v": 3.4}),  # somewhere else
        (3500, VAN, {"segment": 0, "cell_01_v": 3.2, "temperature_1_c": 21.0}),  # after the rest
    )
    readings = [reading(s) for s in range(0, 1200, 60)]
    hour = summarise(MODULE, rows_of(readings), DAY, cells)
    (rest,) = hour.rests
    assert rest.cells_mv == (3300, None, *[None] * 14, 3305)
    assert hour.sensors_c == {1: (20.0, 22.5), 16: (31.0, 31.0)}
    assert ModuleHour.from_row(hour.as_row()) == hour


def test_segment_that_the_database_does_not_know_is_the_first() -> None:
    hour = summarise(MODULE, rows_of([reading(0), reading(60)]), DAY, cells_of((30, VAN, {"temperature_2_c": 7.0})))
    assert hour.sensors_c == {2: (7.0, 7.0)}
