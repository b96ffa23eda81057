"""No alarm over what is healthy: the simulated fleet's normal life, and recordings of real vehicles."""

import csv
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from swapline_bench.bench_week import JudgedSource, Week, reading_of
from swapline_bench.bench_week import week as command
from swapline_bench.world import World

INSULATION, RUNAWAY = 11, 15
HOURS = 4  # from 8 in the morning: vans drive, swap and charge. `swapline bench week` lives through seven days
CELLS = 96  # of the recorded car: only how far the voltage drops counts, and for its cells there are no limits


def test_normal_life_of_the_demo_fleet_raises_nothing() -> None:
    lived = Week(World(seed=3, speed=1.0))
    lived.pass_by(HOURS)
    result = lived.result()
    assert result["swaps"] >= 2
    assert result["readings"] > HOURS * 1800 * 15
    assert result["extremes"]["c_rate_max"] > 0.5, "somebody charged, or drove uphill"
    assert result["alarms"] == []


def test_a_fault_in_such_a_life_is_seen() -> None:
    lived = Week(World(seed=3, speed=1.0))
    lived.pass_by(0.02)
    module = lived.world.vans[0].modules[0]
    module.insulation_kohm = 20
    lived.pass_by(0.02)
    assert [(told["module"], told["code"], told["level"]) for told in lived.alarms] == [
        (module.code, INSULATION, 2),
    ]


def test_a_module_that_runs_away_in_such_a_life_is_suspected() -> None:
    source = JudgedSource("module", 1)
    module = World(seed=3, speed=1.0).vans[0].modules[0]
    for second in range(0, 80, 2):
        heat_c = max(0, second - 60) * 2.5
        healthy = reading_of(module)
        source.see(second, module.code, healthy | {"temperature_max_c": healthy["temperature_max_c"] + heat_c})
    assert (RUNAWAY, 3) in [(code, level) for code, level, _ in source.told.alarms]


def test_the_command_ends_well_where_nothing_was_told() -> None:
    result = CliRunner().invoke(command, ["--vans", "1", "--hours", "0.1", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["hours"], told["alarms"]) == (0.1, [])


def trips() -> list[Path]:
    folder = os.environ.get("SWAPLINE_RECORDINGS")
    return sorted(Path(folder, "ev_field").glob("Trip*_1Hz.csv")) if folder else []


@pytest.mark.skipif("SWAPLINE_RECORDINGS" not in os.environ, reason="SWAPLINE_RECORDINGS does not name the recordings")
def test_recorded_car_trips_raise_nothing() -> None:
    """Temperatures, deceleration and how far voltages drop are as they were, once a second: also what suspects runaway.

    Its cells are not LFP, so their limits do not count; nor do currents, whose capacity nobody recorded.
    """
    assert len(trips()) == 4
    for path in trips():
        battery, vehicle = JudgedSource("module", 1, is_lfp=False), JudgedSource("vehicle", 0)
        with path.open(encoding="utf-8") as file:
            for second, row in enumerate(csv.DictReader(file)):
                mean_c, max_c = float(row["Battery Temperature [°C]"]), float(row["max. Battery Temperature [°C]"])
                cell_v = float(row["Battery Voltage [V]"]) / CELLS
                values = {"temperature_max_c": max_c, "temperature_min_c": 2 * mean_c - max_c}
                battery.see(second, "recorded", values | {"cell_voltage_min_v": cell_v, "cell_voltage_max_v": cell_v})
                acceleration = {"acceleration_mps2": float(row["Longitudinal Acceleration [m/s^2]"])}
                vehicle.see(second, "", acceleration)
        assert (path.name, battery.told.alarms, vehicle.told.alarms) == (path.name, [], [])
