"""Vans: the city they drive in, how they drive, what it costs, and how modules in parallel share it."""

import csv
from itertools import pairwise
from math import hypot
from pathlib import Path

import pytest

from swapline_bench.drivetrain import Build, drive
from swapline_bench.module import Module, format_code
from swapline_bench.randomness import make_random
from swapline_bench.route import METRES_PER_DEGREE, City, Driver, Leg
from swapline_bench.traction_bus import TractionBus
from swapline_bench.van import DOOR_REAR, MODE_AUTONOMOUS, MODE_FAULT, MODE_MANUAL, Van


def make_module(seed: int, *, soc: float) -> Module:
    return Module(format_code(serial=seed + 1), make_random(seed), soc=soc, health_pct=100.0)


def make_van(*, seed: int = 1, count: int = 3, soc: float = 0.9) -> Van:
    city, random = City(seed), make_random(seed)
    bays: list[Module | None] = [make_module(10 * seed + n, soc=soc) for n in range(count)]
    return Van("van-001", bays, city, random, start=city.middle_crossings()[0])


def drive_cycle(seed: int, *, seconds: int) -> list[float]:
    """Return speeds (m/s, 1 Hz) of leg after leg without parking."""
    city, random = City(seed), make_random(seed)
    speeds: list[float] = []
    here = 0
    while len(speeds) < seconds:
        there = random.randrange(len(city.crossings))
        if city.distance_m(here, there) < 900.0:
            continue
        driver = Driver(Leg(city, city.find_path(here, there), random), random)
        while not driver.is_there:
            driver.step(1.0)
            speeds.append(driver.speed_mps)
        here = there
    return speeds


def describe(speeds: list[float]) -> dict[str, float]:
    """Return the figures by which urban cycles are compared."""
    moving = [v for v in speeds if v > 0.1]
    rises = sorted(b - a for a, b in pairwise(speeds) if b - a > 0.05)
    falls = sorted(a - b for a, b in pairwise(speeds) if a - b > 0.05)
    return {
        "mean_kmh": sum(speeds) / len(speeds) * 3.6,
        "moving_kmh": sum(moving) / len(moving) * 3.6,
        "top_kmh": max(speeds) * 3.6,
        "idle_share": 1.0 - len(moving) / len(speeds),
        "stops_per_km": sum(a > 0.1 >= b for a, b in pairwise(speeds)) / (sum(speeds) / 1000.0),
        "rise_mps2": sum(rises) / len(rises),
        "fall_mps2": sum(falls) / len(falls),
        "rise_95_mps2": rises[int(0.95 * len(rises))],
        "fall_95_mps2": falls[int(0.95 * len(falls))],
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_driving_has_the_figures_of_published_urban_cycles(seed: int) -> None:
    figures = describe(drive_cycle(seed, seconds=15000))
    # Braunschweig: 22.9 km/h, 22 % idle, 58.2 km/h; UDDS: 31.5 km/h, 19 % idle, 91 km/h.
    assert 20.0 < figures["mean_kmh"] < 32.0
    assert 0.12 < figures["idle_share"] < 0.30
    assert 55.0 < figures["top_kmh"] < 70.0
    assert 0.9 < figures["stops_per_km"] < 3.0


def test_driving_lies_among_recorded_urban_cycles_in_every_figure(recordings: Path) -> None:
    names = ("artemis_cadc_urban", "braunschweig_bcdc", "epa_nycc", "epa_udds", "vecto_urban_delivery_3.5t")
    recorded = []
    for name in names:
        with (recordings / "drive_cycles" / f"{name}.csv").open() as file:
            recorded.append(describe([float(row["speed_mps"]) for row in csv.DictReader(file)]))
    figures = describe(drive_cycle(5, seconds=20000))
    for name, figure in figures.items():
        lowest, highest = min(r[name] for r in recorded), max(r[name] for r in recorded)
        assert 0.95 * lowest <= figure <= 1.10 * highest, (name, figure, lowest, highest)


@pytest.mark.parametrize("seed", range(5))
def test_every_place_of_a_city_can_be_reached(seed: int) -> None:
    city = City(seed)
    for there in range(1, len(city.crossings), 7):
        path = city.find_path(0, there)
        assert path[0] == 0
        assert path[-1] == there
        assert all(city.limit_mps(a, b) > 5.0 for a, b in pairwise(path))


@pytest.mark.parametrize("dt_s", [0.1, 0.5, 1.0])
def test_driver_stops_at_every_red_light_and_never_jumps(dt_s: float) -> None:
    city, random = City(4), make_random(4)
    leg = Leg(city, city.find_path(3, 400), random)
    stops_m = [c.at_m for c in leg.constraints if c.speed_mps == 0.0]
    assert len(stops_m) > 3
    stood_at_m: list[float] = []
    driver = Driver(leg, random)
    before_m, before_mps = 0.0, 0.0
    while not driver.is_there:
        driver.step(dt_s)
        assert 0.0 <= driver.at_m - before_m <= 20.0 * dt_s
        assert driver.speed_mps - before_mps > -3.2 * dt_s or driver.speed_mps == 0.0
        if driver.speed_mps == 0.0 and (not stood_at_m or driver.at_m - stood_at_m[-1] > 5.0):
            stood_at_m.append(driver.at_m)
        before_m, before_mps = driver.at_m, driver.speed_mps
    for stop_m in stops_m:
        assert any(stop_m - 2.5 < at_m <= stop_m + 0.5 for at_m in stood_at_m)


@pytest.mark.parametrize("seed", [1, 2])
def test_three_modules_last_400_km(seed: int) -> None:
    van = make_van(seed=seed, soc=1.0)
    begin_km = van.odometer_km
    while not van.faults:
        van.step(6.0)
    assert van.odometer_km - begin_km == pytest.approx(400.0, rel=0.05)
    assert van.soc_pct < 1.0


def test_predicted_range_comes_true_half_way() -> None:
    van = make_van(seed=3, soc=1.0)
    begin_km = van.odometer_km
    while van.soc_pct > 50.0:
        van.step(6.0)
    driven_km, predicted_km = van.odometer_km - begin_km, van.range_km
    assert predicted_km == pytest.approx(driven_km, rel=0.25)


@pytest.mark.parametrize("dt_s", [0.1, 6.0, 30.0])
def test_what_the_van_uses_is_what_its_modules_give(dt_s: float) -> None:
    van = make_van()
    for _ in range(int(3600 / dt_s)):
        van.step(dt_s)
    used_j = van.driven_j + van.auxiliary_j
    delivered_j = -sum(m.cells.energy_in_j for m in van.modules)
    assert used_j > 5e6
    assert van.bus.undelivered_j == 0.0
    assert delivered_j - van.bus.refused_j - van.bus.carry_j == pytest.approx(used_j, rel=1e-9)
    assert delivered_j == pytest.approx(used_j, rel=1e-3)


def test_odometer_is_the_way_between_the_positions() -> None:
    van = make_van()
    way_m, begin_km = 0.0, van.odometer_km
    before = (van.latitude_deg, van.longitude_deg)
    for _ in range(7200):
        van.step(1.0)
        north_m = (van.latitude_deg - before[0]) * METRES_PER_DEGREE
        east_m = (van.longitude_deg - before[1]) * METRES_PER_DEGREE * 0.8497
        step_m = hypot(north_m, east_m)
        assert step_m < 20.0
        way_m += step_m
        before = (van.latitude_deg, van.longitude_deg)
    assert van.odometer_km - begin_km > 10.0
    assert way_m / 1000.0 == pytest.approx(van.odometer_km - begin_km, rel=0.02)  # corners are cut by the seconds


def test_reported_figures_stay_within_the_limits_of_the_catalogue() -> None:
    van = make_van()
    limits = {
        "speed_kmh": (0, 250),
        "accelerator_pct": (0, 100),
        "brake_pct": (0, 100),
        "motor_torque_nm": (-500, 500),
        "motor_speed_rpm": (0, 12000),
        "motor_temperature_c": (-20, 140),
        "traction_voltage_v": (40, 60),
        "traction_current_a": (-1000, 700),
        "heading_deg": (0, 360),
        "range_km": (0, 800),
        "cabin_temperature_c": (0, 45),
        "heating_power_kw": (0, 3),
    }
    for _ in range(5000):
        van.step(2.0)
        for name, (lowest, highest) in limits.items():
            assert lowest <= getattr(van, name) <= highest, name


def test_doors_open_only_while_the_van_stands_and_is_parked() -> None:
    van = make_van()
    seen = set()
    for _ in range(5000):
        van.step(2.0)
        seen.add((van.doors, van.task))
        assert (van.cargo_lock == 0) == bool(van.doors & DOOR_REAR)
        if van.doors:
            assert van.speed_kmh == 0.0
            assert van.gear == 0
        if van.speed_kmh > 0:
            assert van.drive_mode == MODE_AUTONOMOUS
    assert (DOOR_REAR, "parked") in seen
    assert (0, "delivering") in seen


def test_modules_in_parallel_share_by_voltage_and_resistance() -> None:
    strong, weak = make_module(1, soc=0.6), make_module(2, soc=0.6)
    strong.cells.charge_ah = list(weak.cells.charge_ah)
    weak.cells.raise_resistance(2.0)
    weak.cells.advance(0.0, 1.0)
    bus = TractionBus()
    bus.exchange([strong, weak], -20000.0, 1.0)
    assert bus.current_a == pytest.approx(-20000.0 / bus.voltage_v, rel=0.001)
    assert strong.cells.current_a < 1.6 * weak.cells.current_a < 0.0


def test_a_fuller_module_charges_an_emptier_one_until_they_agree() -> None:
    full, empty = make_module(1, soc=0.95), make_module(2, soc=0.10)
    bus = TractionBus()
    bus.exchange([full, empty], 0.0, 1.0)
    assert full.cells.current_a < -20.0
    assert empty.cells.current_a == pytest.approx(-full.cells.current_a, rel=0.01)
    for _ in range(3000):
        bus.exchange([full, empty], 0.0, 10.0)
    assert abs(empty.cells.current_a) < 25.0
    assert full.cells.energy_in_j + empty.cells.energy_in_j == pytest.approx(0.0, abs=5000.0)


def test_a_module_with_an_open_switch_takes_no_part() -> None:
    working, refusing = make_module(1, soc=0.6), make_module(2, soc=0.6)
    refusing.is_connected = False
    refusing.update(1.0)
    bus = TractionBus()
    bus.exchange([working, refusing], -10000.0, 1.0)
    assert refusing.cells.current_a == 0.0
    assert working.cells.current_a == pytest.approx(bus.current_a)
    assert bus.exchange([refusing], -10000.0, 1.0) == 0.0
    assert bus.undelivered_j > 9000.0


def test_the_bus_keeps_its_voltage_while_the_only_module_refuses_recuperated_energy() -> None:
    module = make_module(1, soc=0.95)
    module.charge_switch = False
    bus = TractionBus()
    assert bus.exchange([module], 10000.0, 1.0) == 0.0
    assert bus.refused_j > 9000.0
    assert bus.voltage_v == pytest.approx(module.cells.source_v, abs=0.1)
    module.discharge_switch = False
    bus.exchange([module], 10000.0, 1.0)
    assert bus.voltage_v == 0.0


def test_braking_returns_part_of_the_energy_and_books_the_rest() -> None:
    build = Build()
    faster = drive(build, 2700.0, (0.0, 10.0, 50.0, 0.0), 10.0, charge_w_max=75000.0)
    slower = drive(build, 2700.0, (10.0, 0.0, 50.0, 0.0), 10.0, charge_w_max=75000.0)
    assert slower.bus_j < 0.0
    assert 0.3 < -slower.bus_j / faster.bus_j < 0.7
    assert slower.braked_j > 0.0
    too_slow = drive(build, 2700.0, (1.0, 0.0, 0.5, 0.0), 1.0, charge_w_max=75000.0)
    assert too_slow.bus_j == 0.0


def test_braking_returns_no_more_than_the_modules_take() -> None:
    motion, three, one = (16.0, 13.0, 14.5, 0.0), 75000.0, 25000.0
    much, less = (drive(Build(), 2700.0, motion, 1.0, charge_w_max=taken_w) for taken_w in (three, one))
    assert much.bus_j == pytest.approx(-Build().regeneration_w_max)
    assert less.bus_j == pytest.approx(-one)
    assert less.braked_j > much.braked_j


def test_no_bms_protects_itself_from_a_healthy_van_in_whatever_steps_its_time_passes() -> None:
    van, random = make_van(count=1), make_random(1)
    steps_a: list[float] = []
    while van.soc_pct > 40.0:
        van.step(random.uniform(6.0, 6.9))  # as a demo's world steps; the last part of such a step may be very short
        steps_a.append(van.bus.current_a)
        assert van.modules[0].protections == 0
    assert max(steps_a) > 400.0, "it braked hard"


def test_no_stop_of_a_healthy_van_looks_like_a_crash_in_however_short_steps_its_time_passes() -> None:
    van = make_van()
    hardest_mps2 = stops = 0.0
    for _ in range(7_000):
        before_kmh = van.speed_kmh
        van.step(0.05)
        hardest_mps2 = min(hardest_mps2, van.acceleration_mps2)
        stops += before_kmh > 0.0 == van.speed_kmh
    assert stops >= 3
    assert -5.0 < hardest_mps2 < -1.0, "brakes hold 3 m/s2; a crash is 12 and more"


def test_a_van_sent_to_the_station_on_its_way_goes_there_without_a_jump() -> None:
    van = make_van(seed=2)
    while van.speed_kmh < 30.0:
        van.step(1.0)
    target = City(2).middle_crossings()[60]
    before = (van.latitude_deg, van.longitude_deg)
    van.head_for(target)
    while van.task == "to_station":
        van.step(1.0)
        assert hypot(van.latitude_deg - before[0], van.longitude_deg - before[1]) < 0.0003
        before = (van.latitude_deg, van.longitude_deg)
    assert van.task == "queueing"
    assert van.crossing == target
    assert van.speed_kmh == 0.0


def test_an_empty_van_reports_a_fault_and_is_towed_without_using_energy() -> None:
    van = make_van(soc=0.02)
    while not van.faults:
        van.step(2.0)
    while van.drive_mode != MODE_FAULT:
        van.step(2.0)
    van.head_for(City(1).middle_crossings()[70])
    stood_s, driven_j = 0.0, van.driven_j
    while van.task == "to_station":
        van.step(2.0)
        stood_s += 2.0 * (van.speed_kmh == 0.0)
        assert van.drive_mode in {MODE_FAULT, MODE_MANUAL} or van.task == "queueing"
    assert stood_s > 600.0
    assert van.driven_j == pytest.approx(driven_j, abs=1.0)
