"""No alarm over what is healthy: the simulated fleet's normal life, and recordings of real vehicles."""

import csv
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from swapline_bench.module import Module
from swapline_bench.world import World
from swapline_wire.catalogue import MODULE, SLOT, VEHICLE
from tests.node.test_alarm import Rig

STEP_S = 5.0
DECIMALS = {s.name: {signal.name: signal.decimals for signal in s.signals} for s in (MODULE, SLOT, VEHICLE)}
HOURS = 8  # from 8 in the morning: vans drive, swap and charge; at night they stand


def raw(rig: Rig, values: Mapping[str, float]) -> dict[str, int]:
    decimals = DECIMALS[rig.source.stream.name]
    return {name: round(value * 10 ** decimals[name]) for name, value in values.items()}


def reading_of(module: Module) -> dict[str, float]:
    cells_v, temperatures_c = module.cell_voltages_v, module.cell_temperatures_c
    return {
        "voltage_v": module.voltage_v,
        "current_a": module.current_a,
        "capacity_full_ah": module.capacity_full_ah,
        "cell_voltage_max_v": max(cells_v),
        "cell_voltage_min_v": min(cells_v),
        "temperature_max_c": max(temperatures_c),
        "temperature_min_c": min(temperatures_c),
        "insulation_kohm": module.insulation_kohm,
        "cell_count": len(cells_v),
        "protections": module.protections,
    }


def pass_by(rig: Rig, seconds: float, owner: str, values: Mapping[str, float]) -> None:
    """Judge these values as a reading. Rows take time, so only an owner's first reading makes one."""
    rig.set(**raw(rig, values))
    if rig.source.owner == owner:
        rig.source.judge(owner)
    else:
        rig.source.commit(owner=owner)
    rig.now_ms += round(seconds * 1000)


def test_normal_life_of_the_demo_fleet_raises_nothing() -> None:
    world = World(seed=3, speed=1.0)
    modules: defaultdict[str, Rig] = defaultdict(Rig)
    vans: defaultdict[int, Rig] = defaultdict(lambda: Rig(VEHICLE))
    slots: defaultdict[int, Rig] = defaultdict(lambda: Rig(SLOT))
    for _ in range(round(HOURS * 3600 / STEP_S)):
        world.step(STEP_S)
        present = [module for van in world.vans for module in van.bays if module is not None]
        present += [slot.module for station in world.stations for slot in station.slots if slot.module is not None]
        for module in present:
            pass_by(modules[module.code], STEP_S, module.code, reading_of(module))
        for van in world.vans:
            values = {name: getattr(van, name) for name in ("insulation_kohm", "acceleration_mps2", "faults")}
            pass_by(vans[id(van)], STEP_S, "", values)
        for slot in world.stations[0].slots:
            pass_by(slots[id(slot)], STEP_S, "", {"faults": slot.faults})
    assert len(modules) > 8
    assert len(world.swaps) > 2
    assert {code: rig.told for code, rig in modules.items() if rig.told} == {}
    assert [rig.told for rig in (*vans.values(), *slots.values()) if rig.told] == []


def trips() -> list[Path]:
    folder = os.environ.get("SWAPLINE_RECORDINGS")
    return sorted(Path(folder, "ev_field").glob("Trip*_1Hz.csv")) if folder else []


@pytest.mark.skipif("SWAPLINE_RECORDINGS" not in os.environ, reason="SWAPLINE_RECORDINGS does not name the recordings")
def test_recorded_car_trips_raise_nothing() -> None:
    """Temperatures and deceleration as they were. Voltages and currents are those of no LFP battery, and not judged."""
    assert len(trips()) == 4
    for path in trips():
        battery, vehicle = Rig(), Rig(VEHICLE)
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                mean_c, max_c = float(row["Battery Temperature [°C]"]), float(row["max. Battery Temperature [°C]"])
                values = {"temperature_max_c": max_c, "temperature_min_c": 2 * mean_c - max_c}
                pass_by(battery, 1.0, "recorded", values)
                pass_by(vehicle, 1.0, "", {"acceleration_mps2": float(row["Longitudinal Acceleration [m/s^2]"])})
        assert (path.name, battery.told, vehicle.told) == (path.name, [], [])


def test_a_fault_in_such_a_life_would_be_seen() -> None:
    rig = Rig()
    for cell_v in (3.3, 3.61, 3.61, 3.61):
        pass_by(rig, STEP_S, "faulty", {"cell_voltage_max_v": cell_v})
    assert rig.told == [(1, 1)]
