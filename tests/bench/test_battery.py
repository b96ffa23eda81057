"""Cells, string and BMS: published figures are met, books balance, and what the BMS says stays near the truth."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest

from swapline_bench import lfp, protection
from swapline_bench.battery import CAPACITY_NOMINAL_AH, CELLS, POLARISATION_S, CellString
from swapline_bench.module import Module, format_code
from swapline_bench.randomness import make_random


def make_string(*, soc: float = 0.5, seed: int = 1, health_pct: float = 100.0) -> CellString:
    return CellString(make_random(seed), soc=soc, health_pct=health_pct)


def make_module(*, soc: float = 0.5, seed: int = 1) -> Module:
    return Module(format_code(serial=seed), make_random(seed), soc=soc, health_pct=100.0)


def read_recording(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_rest_voltage_rises_with_charge_and_has_the_flat_middle_of_lfp() -> None:
    voltages = [lfp.open_circuit_voltage_v(n / 200) for n in range(201)]
    assert all(a < b for a, b in pairwise(voltages))
    assert 2.5 < voltages[0] < 2.9
    assert 3.38 < voltages[-1] < 3.65
    assert lfp.open_circuit_voltage_v(0.8) - lfp.open_circuit_voltage_v(0.4) < 0.05


def test_rest_voltage_is_within_40_mv_of_a_measured_lfp_cell(recordings: Path) -> None:
    rows = read_recording(recordings / "battery" / "CLFP_Sony_US26650_OCV.csv")
    inner = [r for r in rows if 0.05 <= float(r["SOC"]) <= 0.98]
    assert len(inner) > 150
    worst = max(abs(float(r["OCV"]) - lfp.open_circuit_voltage_v(float(r["SOC"]))) for r in inner)
    assert worst < 0.04


def test_resistance_by_capacity_is_that_of_a_measured_lfp_cell_and_rises_alike_in_the_cold(
    recordings: Path,
) -> None:
    rows = read_recording(recordings / "battery" / "CLFP_Sony_US26650_Rint.csv")
    middle = [r for r in rows if 0.3 <= float(r["SOC"]) <= 0.9]
    measured = {t: sum(float(r[f"R_DCh(T={t})"]) for r in middle) / len(middle) * 3.0 for t in (10, 25, 40)}  # ohm Ah
    string = make_string()
    for temperature_c, ohm_ah in measured.items():
        string.node_temperature_c = [float(temperature_c)] * 4
        string.advance(0.0, 1.0)
        cell_ohm_ah = string.source_resistance_ohm(1e9) * CAPACITY_NOMINAL_AH / CELLS  # ohmic and half of the RC pair
        whole_ohm_ah = cell_ohm_ah * (0.110 + 0.150) / (0.110 + 0.075)
        assert ohm_ah / 1.35 < whole_ohm_ah < ohm_ah * 1.35


@pytest.mark.parametrize("dt_s", [0.1, 1.0, 6.0, 30.0])
def test_energy_charge_and_heat_books_balance_whatever_happens(dt_s: float) -> None:
    string, random = make_string(seed=3), make_random(4)
    begin_j = string.chemical_j + string.transient_j
    begin_thermal_j, begin_charge = string.thermal_j, list(string.charge_ah)
    string.bleed_ohm[3] = 33.0
    for n in range(4000):
        drift_a = 200.0 if string.soc < 0.2 else -200.0 if string.soc > 0.8 else 0.0
        string.advance(0.0 if n % 9 == 0 else random.uniform(-250.0, 250.0) + drift_a, dt_s)
        if n % 20 == 0:
            string.bleed(20 * dt_s)
        if n % 1000 == 0:
            string.age(500.0)
    gained_j = string.chemical_j + string.transient_j - begin_j
    spent_j = gained_j + string.heat_j + string.balancing_j + string.aged_j
    assert string.energy_in_j == pytest.approx(string.energy_gross_in_j - string.energy_gross_out_j, rel=1e-9)
    assert spent_j == pytest.approx(string.energy_in_j, abs=1e-9 * string.energy_gross_out_j)
    assert string.thermal_j - begin_thermal_j + string.heat_lost_j == pytest.approx(string.heat_j, rel=1e-6)
    for begin_ah, now_ah, bled_ah in zip(begin_charge, string.charge_ah, string.bled_ah, strict=True):
        expected_ah = begin_ah + string.charge_in_ah - string.charge_out_ah - bled_ah
        assert now_ah == pytest.approx(expected_ah, abs=1e-8)


def test_no_step_makes_energy_from_nothing() -> None:
    string, random = make_string(), make_random(2)
    for _ in range(3000):
        before_j = string.heat_j
        string.advance(random.uniform(-400.0, 400.0), 2.0)
        # Cells warm or cool between steps, so the polarisation energy is re-valued by a hair.
        assert string.heat_j - before_j > -0.01


def test_result_does_not_depend_on_the_step_size() -> None:
    fine, coarse = make_string(soc=0.9), make_string(soc=0.9)
    for _ in range(36000):
        fine.advance(-150.0, 0.1)
    for _ in range(120):
        coarse.advance(-150.0, 30.0)
    assert coarse.charge_ah == pytest.approx(fine.charge_ah, rel=1e-9)
    assert coarse.voltage_v == pytest.approx(fine.voltage_v, abs=0.002)
    assert coarse.energy_in_j == pytest.approx(fine.energy_in_j, rel=1e-5)
    assert coarse.temperature_c == pytest.approx(fine.temperature_c, abs=0.02)


def test_a_new_module_gives_26_5_kwh() -> None:
    string = make_string(soc=1.0)
    while min(string.cell_voltages_v()) > 2.6:
        string.advance(-CAPACITY_NOMINAL_AH / 3, 10.0)
    assert string.energy_gross_out_j / 3.6e6 == pytest.approx(26.5, rel=0.03)
    assert string.charge_out_ah == pytest.approx(518.0, rel=0.02)


def test_round_trip_efficiency_is_that_of_lfp_at_a_third_of_c() -> None:
    string = make_string(soc=0.1)
    begin_ah = string.charge_ah[0]
    while string.charge_ah[0] < 0.9 * CAPACITY_NOMINAL_AH:
        string.advance(CAPACITY_NOMINAL_AH / 3, 10.0)
    while string.charge_ah[0] > begin_ah:
        string.advance(-CAPACITY_NOMINAL_AH / 3, 10.0)
    assert 0.93 < string.energy_gross_out_j / string.energy_gross_in_j < 0.985


def test_voltage_relaxes_with_the_time_constant_of_polarisation() -> None:
    string = make_string()
    string.advance(-200.0, 600.0)
    string.advance(0.0, 1e-6)
    begin_v = string.voltage_v
    string.advance(0.0, POLARISATION_S)
    after_v = string.voltage_v
    string.advance(0.0, 100 * POLARISATION_S)
    assert (after_v - begin_v) / (string.voltage_v - begin_v) == pytest.approx(1 - 0.3679, abs=0.02)


def test_rest_voltage_remembers_whether_the_module_was_charged_or_discharged() -> None:
    charged, discharged = make_string(soc=0.4), make_string(soc=0.6)
    charged.advance(100.0, 0.1 * CAPACITY_NOMINAL_AH / 100.0 * 3600.0)
    discharged.advance(-100.0, 0.1 * CAPACITY_NOMINAL_AH / 100.0 * 3600.0)
    for string in (charged, discharged):
        string.advance(0.0, 3600.0)
    assert charged.soc == pytest.approx(discharged.soc, abs=0.005)
    assert 0.010 < (charged.voltage_v - discharged.voltage_v) / CELLS < 0.040


def test_cells_of_a_module_differ_and_a_seed_gives_the_same_module_again() -> None:
    one, same, other = make_string(seed=7), make_string(seed=7), make_string(seed=8)
    assert one.charge_ah == same.charge_ah
    assert one.charge_ah != other.charge_ah
    assert 0.005 < max(one.capacity_ah) / min(one.capacity_ah) - 1.0 < 0.06
    assert min(one.capacity_ah) == pytest.approx(CAPACITY_NOMINAL_AH)


def test_current_warms_the_module_and_the_surroundings_cool_it() -> None:
    string = make_string(soc=0.9)
    string.advance(-250.0, 30.0)
    for _ in range(170):
        string.advance(-250.0, 30.0)
    warm = string.temperature_c
    assert 27.0 < warm < 40.0
    assert max(string.node_temperature_c) in string.node_temperature_c[1:3]  # the middle is warmest
    for _ in range(5000):
        string.advance(0.0, 60.0)
    assert string.temperature_c == pytest.approx(25.0, abs=0.1)


def test_ageing_costs_some_percent_in_a_thousand_cycles_and_faster_in_the_heat() -> None:
    cool, hot = make_string(), make_string()
    hot.node_temperature_c = [45.0] * 4
    for string in (cool, hot):
        for _ in range(100):
            string.age(20 * CAPACITY_NOMINAL_AH)
    assert 3.0 < cool.lost_pct < 10.0
    assert hot.lost_pct > 1.4 * cool.lost_pct
    assert cool.capacity_min_ah == pytest.approx(CAPACITY_NOMINAL_AH * (1 - cool.lost_pct / 100))
    assert cool.resistance_growth > 1.04
    assert lfp.continue_fade_pct(0.0, 2000.0, capacity_ah=518.0, temperature_c=25.0) == pytest.approx(
        lfp.fade_pct(2000.0, 518.0, 25.0)
    )


def cycle(module: Module, *, current_a: float, hours: float) -> None:
    for _ in range(int(hours * 360)):
        limited_a = current_a if (module.charge_switch if current_a > 0 else module.discharge_switch) else 0.0
        module.advance(limited_a, 10.0)
        module.update(10.0)


def test_bms_soc_stays_near_the_truth_over_days_and_is_set_right_when_full() -> None:
    module = make_module(soc=0.95)
    for _ in range(6):
        cycle(module, current_a=-90.0, hours=4.0)
        assert module.soc_pct == pytest.approx(100 * module.cells.soc, abs=3.0)
        cycle(module, current_a=90.0, hours=3.9)
    while not module.is_full and module.charge_switch:
        module.advance(min(200.0, max(0.0, (56.0 - module.cells.source_v) / 0.004)), 10.0)
        module.update(10.0)
    assert module.soc_pct == 100.0


def test_bms_counters_are_within_half_a_percent_of_the_truth() -> None:
    module = make_module(soc=0.9)
    begin = (module.charge_out_ah, module.energy_out_kwh, module.charge_in_ah, module.energy_in_kwh)
    cycle(module, current_a=-130.0, hours=3.0)
    cycle(module, current_a=130.0, hours=2.5)
    cells = module.cells
    assert module.charge_out_ah - begin[0] == pytest.approx(cells.charge_out_ah, rel=0.005)
    assert module.energy_out_kwh - begin[1] == pytest.approx(cells.energy_gross_out_j / 3.6e6, rel=0.005)
    assert module.charge_in_ah - begin[2] == pytest.approx(cells.charge_in_ah, rel=0.005)
    assert module.energy_in_kwh - begin[3] == pytest.approx(cells.energy_gross_in_j / 3.6e6, rel=0.005)


def test_counters_and_cycles_only_grow() -> None:
    module = make_module(soc=0.6)
    before = (0.0, 0.0, 0.0, 0.0, 0)
    random = make_random(5)
    for _ in range(500):
        module.advance(random.uniform(-250.0, 250.0), 6.0)
        module.update(6.0)
        counters = (module.charge_in_ah, module.charge_out_ah, module.energy_in_kwh, module.energy_out_kwh)
        now = (*counters, module.cycles)
        assert all(a <= b for a, b in zip(before, now, strict=True))
        before = now


def test_overcharge_opens_the_charge_switch_only_and_it_closes_after_the_voltage_has_fallen() -> None:
    module = make_module(soc=0.97)
    cycle(module, current_a=260.0, hours=0.4)
    assert module.protections & protection.CELL_OVER_VOLTAGE
    assert not module.charge_switch
    assert module.discharge_switch
    assert module.cells.current_a == 0.0
    cycle(module, current_a=-150.0, hours=0.2)
    assert module.protections == 0
    assert module.charge_switch


def test_deep_discharge_opens_the_discharge_switch_and_says_empty() -> None:
    module = make_module(soc=0.08)
    cycle(module, current_a=-200.0, hours=0.5)
    assert module.protections & protection.CELL_UNDER_VOLTAGE
    assert not module.discharge_switch
    assert module.charge_switch
    assert module.soc_pct <= 1.0


@pytest.mark.parametrize(
    ("temperature_c", "bit"),
    [
        (61.0, protection.CHARGE_OVER_TEMPERATURE),
        (64.0, protection.DISCHARGE_OVER_TEMPERATURE),
        (-1.0, protection.CHARGE_UNDER_TEMPERATURE),
        (-21.0, protection.DISCHARGE_UNDER_TEMPERATURE),
    ],
)
def test_temperature_protection_trips_after_its_delay_and_releases_with_hysteresis(
    temperature_c: float, bit: int
) -> None:
    judge = protection.Protection()
    cells = [3.3] * CELLS
    assert not judge.judge(protection.Measurement(cells, [temperature_c] * 4, 0.0), 1.0) & bit
    assert judge.judge(protection.Measurement(cells, [temperature_c] * 4, 0.0), 1.5) & bit
    nearly = temperature_c - 3.0 if temperature_c > 0 else temperature_c + 3.0
    assert judge.judge(protection.Measurement(cells, [nearly] * 4, 0.0), 60.0) & bit
    assert not judge.judge(protection.Measurement(cells, [25.0] * 4, 0.0), 1.0) & bit


def test_balancing_bleeds_the_high_cells_near_full_and_narrows_the_spread() -> None:
    module = make_module(soc=0.97)
    module.cells.charge_ah[5] += 0.02 * CAPACITY_NOMINAL_AH
    cycle(module, current_a=20.0, hours=0.6)
    assert module.balancing_mask >> 5 & 1
    lowest = module.cell_voltages_v.index(min(module.cell_voltages_v))
    assert not module.balancing_mask >> lowest & 1
    ahead_ah = module.cells.charge_ah[5] - module.cells.charge_ah[lowest]
    cycle(module, current_a=0.0, hours=0.1)
    for _ in range(20):
        module.update(30.0)
    assert module.cells.charge_ah[5] - module.cells.charge_ah[lowest] < ahead_ah
    assert module.cells.balancing_j > 0.0


def test_a_corroding_joint_grows_by_its_share_each_day_and_only_there() -> None:
    module = make_module()
    before = list(module.cells.resistance_share)
    module.worsen_cell(4, share_per_day=0.1)
    for _ in range(48):
        module.update(3600.0)
    after = module.cells.resistance_share
    assert after[4] / before[4] == pytest.approx(1.1**2)
    assert [after[n] for n in range(CELLS) if n != 4] == [before[n] for n in range(CELLS) if n != 4]


def test_a_stuck_sensor_shows_what_it_showed_while_the_others_follow_the_warmth() -> None:
    module = make_module()
    module.advance(0.0, 1.0)
    shown = list(module.cell_temperatures_c)
    module.stick_sensor(1)
    for _ in range(120):
        module.advance(-250.0, 10.0)
    warmth = [now - then for now, then in zip(module.cell_temperatures_c, shown, strict=True)]
    assert warmth.pop(1) == 0.0
    assert min(warmth) > 0.5


def test_module_codes_have_the_shape_of_gb_t_34014_and_differ() -> None:
    codes = {format_code(serial=n) for n in range(1, 200)}
    assert len(codes) == 199
    for code in codes:
        assert len(code) == 24
        assert code.isalnum()
        assert code == code.upper()
        assert code[3:5] == "PB"


def test_attributes_that_faces_read_have_the_resolution_of_registers_and_agree() -> None:
    module = make_module(soc=0.5)
    module.advance(-123.4, 5.0)
    module.update(5.0)
    assert len(module.cell_voltages_v) == CELLS
    assert len(module.cell_temperatures_c) == 4
    assert module.voltage_v == pytest.approx(sum(module.cell_voltages_v), abs=0.006)
    assert module.current_a == pytest.approx(-123.4, abs=0.6)
    assert module.soc_pct == pytest.approx(100 * module.capacity_remaining_ah / module.capacity_full_ah, abs=0.06)
    assert module.charge_switch
    assert module.discharge_switch
