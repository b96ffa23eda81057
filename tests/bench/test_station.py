"""Stations: charging, what the grid meter sees of it, and the robot's exchange of modules."""

from math import sqrt

import pytest

from swapline_bench.custody import Ledger, WorldClock
from swapline_bench.grid import GridMeter
from swapline_bench.module import Module, format_code
from swapline_bench.randomness import make_random
from swapline_bench.robot import SwapRobot
from swapline_bench.route import City
from swapline_bench.station import CHARGE_V, CHARGING, CONNECTED, CURRENT_A_MAX, FULL, GRID_W_MAX, IDLE, Slot, Station
from swapline_bench.van import MODE_SWAPPING, Van

STEP_S = 6.0


def make_module(seed: int, *, soc: float) -> Module:
    return Module(format_code(serial=seed + 1), make_random(seed), soc=soc, health_pct=97.0)


def make_station(*socs: float | None) -> Station:
    slots = [Slot(make_module(100 + n, soc=soc) if soc is not None else None) for n, soc in enumerate(socs)]
    return Station("station-001", slots, make_random(1))


class Yard:
    """A station, its robot and vans that already stand in its queue."""

    def __init__(self, station: Station, *bay_counts: int, speed: float = 60.0, absence_real_s: float = 8.0) -> None:
        self.station = station
        self.ledger = Ledger(WorldClock(speed))
        self.robot = SwapRobot(station, self.ledger, absence_real_s=absence_real_s)
        self.vans = []
        for number, bay_count in enumerate(bay_counts):
            bays: list[Module | None] = [make_module(10 * number + n, soc=0.2 + 0.01 * n) for n in range(bay_count)]
            van = Van(f"van-{number + 1:03d}", bays, City(1), make_random(number))
            van.task = "queueing"
            station.queue.append(van)
            self.vans.append(van)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / STEP_S)):
            self.ledger.clock.time_s += STEP_S
            for van in self.vans:
                if van in self.station.queue:
                    van.step(STEP_S)
            self.robot.step(STEP_S)
            self.station.step(25.0, STEP_S)


def test_charger_holds_its_current_then_its_voltage_until_the_module_is_full() -> None:
    station = make_station(0.3)
    slot = station.slots[0]
    assert slot.charger_state == CONNECTED
    seen, currents = [], []
    while slot.charger_state != FULL:
        station.step(25.0, STEP_S)
        seen.append(slot.charger_state)
        currents.append(slot.charger_current_a)
        assert slot.charger_current_a <= CURRENT_A_MAX + 1e-6
        assert slot.charger_voltage_v <= CHARGE_V + 0.05
        assert slot.session_duration_s < 3 * 3600
    assert CHARGING in seen
    assert sum(a > CURRENT_A_MAX - 0.01 for a in currents) > 0.7 * len(currents)
    taper = [a for a in currents[20:] if 0.0 < a < CURRENT_A_MAX - 1.0]
    assert taper == sorted(taper, reverse=True)
    assert slot.module is not None
    assert slot.module.soc_pct == 100.0
    assert slot.module.protections == 0
    station.step(25.0, STEP_S)
    assert slot.charger_current_a == 0.0


def test_a_full_module_is_charged_again_when_it_has_run_down_a_little() -> None:
    station = make_station(0.3)
    slot = station.slots[0]
    while slot.charger_state != FULL:
        station.step(25.0, STEP_S)
    assert slot.module is not None
    slot.module.advance(-60.0, 1200.0)
    station.step(25.0, STEP_S)
    station.step(25.0, STEP_S)
    assert slot.charger_state == CHARGING


def test_grid_energy_is_what_modules_took_plus_losses_plus_the_house() -> None:
    station = make_station(0.2, 0.5, 0.9, None)
    begin_kwh, house_j = station.meter.energy_import_kwh, 0.0
    for _ in range(900):
        station.step(25.0, STEP_S)
        house_j += station.house_w * STEP_S
    taken_j = sum(s.module.cells.energy_in_j for s in station.slots if s.module)
    input_j = sum(s.input_j for s in station.slots)
    assert sum(s.output_j for s in station.slots) == pytest.approx(taken_j, rel=1e-12)
    assert sum(s.energy_kwh for s in station.slots) * 3.6e6 == pytest.approx(taken_j, rel=1e-9)
    assert (station.meter.energy_import_kwh - begin_kwh) * 3.6e6 == pytest.approx(input_j + house_j, rel=1e-6)
    assert 0.93 < taken_j / input_j < 0.96
    assert station.meter.energy_export_kwh == 0.0


def test_chargers_share_what_the_grid_connection_may_give() -> None:
    station = make_station(*[0.3] * 8)
    for _ in range(60):
        station.step(25.0, STEP_S)
        assert station.meter.power_kw * 1000.0 <= GRID_W_MAX * 1.01
    assert station.meter.power_kw > 60.0
    assert station.slots[0].current_limit_a < CURRENT_A_MAX


def test_meter_figures_agree_with_each_other() -> None:
    meter = GridMeter(make_random(3))
    for _ in range(500):
        meter.step((8000.0, 7000.0, 7000.0), STEP_S)
        assert meter.power_kw == pytest.approx(meter.power_l1_kw + meter.power_l2_kw + meter.power_l3_kw)
        apparent_kva = sqrt(meter.power_kw**2 + meter.reactive_power_kvar**2)
        assert meter.power_factor == pytest.approx(meter.power_kw / apparent_kva)
        volt_ampere = meter.voltage_l1_v * meter.current_l1_a
        assert volt_ampere >= meter.power_l1_kw * 1000.0
        for voltage_v in (meter.voltage_l1_v, meter.voltage_l2_v, meter.voltage_l3_v):
            assert 207.0 < voltage_v < 253.0  # EN 50160: 230 V +-10 %
        assert 49.5 < meter.frequency_hz < 50.5
    assert meter.power_factor > 0.95


def test_robot_exchanges_all_modules_of_a_van_one_after_the_other_and_fullest_first() -> None:
    yard = Yard(make_station(0.95, 0.99, None, 0.92, 0.5), 3)
    van, before = yard.vans[0], [m.code for m in yard.vans[0].modules]
    fullest = [s.module.code for s in (yard.station.slots[n] for n in (1, 0, 3)) if s.module]
    yard.run(3600)
    assert [s.code_in for s in yard.ledger.swaps] == fullest
    assert [s.code_out for s in yard.ledger.swaps] == before  # the emptiest first
    assert {m.code for m in van.modules} == set(fullest)
    assert van.task == "parked"
    assert not yard.station.queue
    assert {s.module.code for s in yard.station.slots if s.module} >= set(before)


def test_each_exchange_leaves_four_events_in_order_joined_by_its_request() -> None:
    yard = Yard(make_station(0.95, 0.99), 2)
    yard.run(3600)
    assert len(yard.ledger.swaps) == 2
    for swap in yard.ledger.swaps:
        events = [e for e in yard.ledger.events if e.request_id == swap.request_id]
        assert [(e.kind, e.holder, e.bay, e.code) for e in events] == [
            ("out", "station-001", swap.slot, swap.code_in),
            ("out", "van-001", swap.bay, swap.code_out),
            ("in", "van-001", swap.bay, swap.code_in),
            ("in", "station-001", swap.slot, swap.code_out),
        ]
        assert [e.world_time_s for e in events] == sorted(e.world_time_s for e in events)


def test_van_and_slot_tell_the_request_while_their_modules_move_and_a_minute_longer() -> None:
    yard = Yard(make_station(0.95, 0.99), 2, speed=60.0, absence_real_s=8.0)
    told: dict[
        int, tuple[int, int]
    ] = {}  # number of the custody event -> request ids of its holder: then, and 2 s later
    holders: list[Van | Slot] = []
    times: list[tuple[float, int, int]] = []
    while len(yard.ledger.swaps) < 2 or yard.ledger.clock.real_time_s < yard.ledger.swaps[-1].real_time_s + 59.0:
        yard.run(STEP_S)
        for event in yard.ledger.events[len(holders) :]:
            holder = yard.vans[0] if event.holder == "van-001" else yard.station.slots[event.bay - 1]
            times.append((event.real_time_s, event.request_id, holder.request_id))
            holders.append(holder)
        for number, (time_s, _, then) in enumerate(times):
            if number not in told and yard.ledger.clock.real_time_s - time_s >= 2.0:
                told[number] = (then, holders[number].request_id)
    assert len(told) == 8
    for number, (_, request_id, _) in enumerate(times):
        assert told[number] == (request_id, request_id)
    assert yard.vans[0].request_id == yard.ledger.swaps[-1].request_id
    yard.run(2 * 60.0)
    assert yard.vans[0].request_id == 0
    assert {slot.request_id for slot in yard.station.slots} == {0}


@pytest.mark.parametrize(("speed", "absence_real_s"), [(1.0, 8.0), (60.0, 8.0), (600.0, 3.0)])
def test_module_is_on_no_line_for_the_shortest_absence_of_real_time(speed: float, absence_real_s: float) -> None:
    yard = Yard(make_station(0.95, 0.99), 1, speed=speed, absence_real_s=absence_real_s)
    yard.run(2000 + 60 * speed)
    events = yard.ledger.events
    for code in {e.code for e in events}:
        out, back = (e for e in events if e.code == code)
        assert (out.kind, back.kind) == ("out", "in")
        assert absence_real_s <= back.real_time_s - out.real_time_s < absence_real_s + 140.0 / speed + 1.0


def test_a_bay_and_a_slot_are_empty_while_the_robot_holds_their_modules() -> None:
    yard = Yard(make_station(0.95), 1)
    van, slot = yard.vans[0], yard.station.slots[0]
    seen = set()
    for _ in range(250):
        yard.run(STEP_S)
        seen.add((van.bays[0] is None, slot.module is None))
        assert slot.occupied == (slot.module is not None)
        if slot.module is None:
            assert slot.charger_state == IDLE
            assert slot.charger_current_a == 0.0
            assert not slot.locked
        if van.bays[0] is None:
            assert van.drive_mode == MODE_SWAPPING
            assert not van.is_powered
    assert {(False, False), (False, True), (True, True)} <= seen
    assert van.is_powered


def test_a_van_of_several_modules_keeps_power_while_one_is_exchanged() -> None:
    yard = Yard(make_station(0.95, 0.96), 2)
    for _ in range(300):
        yard.run(STEP_S)
        assert yard.vans[0].is_powered
    assert len(yard.ledger.swaps) == 2


def test_vans_are_served_in_the_order_in_which_they_came() -> None:
    yard = Yard(make_station(0.95, 0.97, 0.99), 1, 1, 1)
    yard.run(3600)
    assert [s.van for s in yard.ledger.swaps] == ["van-001", "van-002", "van-003"]


def test_a_van_waits_for_a_module_that_is_worth_it() -> None:
    yard = Yard(make_station(0.6), 1)
    yard.run(900)
    assert not yard.ledger.swaps
    assert yard.vans[0].task == "queueing"
    yard.run(5400)
    assert len(yard.ledger.swaps) == 1
    event = next(e for e in yard.ledger.events if e.kind == "in" and e.holder == "van-001")
    assert event.soc_pct >= 75.0


def test_a_module_with_a_protection_or_a_faulty_slot_is_not_given_out() -> None:
    station = make_station(0.99, 0.95, 0.92)
    station.slots[0].faults = 1
    hot = station.slots[1].module
    assert hot is not None
    hot.protections = 1 << 4
    assert station.find_fullest() is station.slots[2]
    assert make_station(None, None).find_fullest() is None
