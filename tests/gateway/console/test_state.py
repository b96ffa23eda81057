"""The fleet as last seen: order, custody, limits, batches."""

import asyncio

import pytest

from swapline_gateway.state import FleetState
from swapline_wire import catalogue, catalogue_text

from .fleet_feed import ANCHOR_UTC_MS, Unit, cell_values, module_values, slot_values, vehicle_values

NOW_UTC_MS = ANCHOR_UTC_MS + 3_600_000
CODE = "08YPB1B0001A0C5D8F000001"
OTHER = "08YPB1B0002A0C5D8F000002"


@pytest.fixture
def state() -> FleetState:
    return FleetState(now_utc_ms=lambda: NOW_UTC_MS)


@pytest.fixture
def van(state: FleetState) -> Unit:
    return Unit(state, "van-001", journal=11)


@pytest.fixture
def station(state: FleetState) -> Unit:
    return Unit(state, "station-1", journal=22)


def soc_of(unit: Unit) -> object:
    reading = unit.state.nodes["demo", unit.node].newest("vehicle")
    return reading and reading.values["soc_pct"]


def place_of(state: FleetState, code: str) -> tuple[str, int, bool] | None:
    custody = state.modules[code].custody
    return (custody.node, custody.bay, custody.is_present) if custody else None


def test_values_are_scaled_and_both_codes_are_no_number(van: Unit) -> None:
    abnormal = catalogue.FORMATS["u16"][3] / 10
    van.send("vehicle", [(1_000, {"speed_kmh": 42.51, "odometer_km": 18_204.512, "soc_pct": abnormal})])
    reading = van.state.nodes["demo", "van-001"].newest("vehicle")
    assert reading is not None
    assert (reading.values["speed_kmh"], reading.values["odometer_km"]) == (42.51, 18_204.512)
    assert reading.values["soc_pct"] is None
    assert reading.values["range_km"] is None
    assert reading.abnormal == ("soc_pct",)
    assert reading.time_utc_ms == ANCHOR_UTC_MS + 1_000


def test_only_the_newest_row_of_a_frame_is_announced(van: Unit) -> None:
    changes = van.send("vehicle", [(t, vehicle_values(80 - t / 1000)) for t in (1_000, 3_000, 2_000)])
    assert [change.reading.uptime_ms for change in changes] == [3_000]
    assert changes[0].channel == "state/vehicle"
    assert soc_of(van) == 77.0


def test_channel_of_a_bay_names_it(station: Unit) -> None:
    (change,) = station.send("slot", [(1_000, slot_values(occupied=True, charger_state=2))], bay=7)
    assert change.channel == "state/slot/7"


def test_late_back_fill_changes_nothing(van: Unit) -> None:
    van.send("vehicle", [(60_000, vehicle_values(50))])
    assert van.send("vehicle", [(1_000, vehicle_values(90))]) == []
    assert soc_of(van) == 50


def test_a_repeated_frame_changes_nothing(van: Unit) -> None:
    van.send("vehicle", [(60_000, vehicle_values(50))])
    assert van.send("vehicle", [(60_000, vehicle_values(50))]) == []


def test_within_a_journal_the_boot_decides_and_not_the_clock(van: Unit) -> None:
    van.send("vehicle", [(60_000, vehicle_values(50))])
    van.boot, van.anchor_utc_ms = 2, ANCHOR_UTC_MS - 86_400_000  # rebooted with a clock a day behind
    van.send("vehicle", [(1_000, vehicle_values(49))])
    assert soc_of(van) == 49


def test_a_clock_that_runs_ahead_does_not_own_a_module_for_ever(state: FleetState, van: Unit) -> None:
    van.anchor_utc_ms = NOW_UTC_MS + 86_400_000
    van.send("module", [(0, module_values(50))], bay=1, owner=CODE)
    later = FleetState(now_utc_ms=lambda: NOW_UTC_MS + 5_000)
    later.nodes, later.modules = state.nodes, state.modules
    station = Unit(later, "station-1", journal=22, anchor_utc_ms=NOW_UTC_MS)
    station.send("module", [(4_000, module_values(49))], bay=3, owner=CODE)
    assert place_of(later, CODE) == ("station-1", 3, True)


def test_a_replaced_unit_with_a_new_journal_takes_over_by_time(state: FleetState, van: Unit) -> None:
    van.send("vehicle", [(60_000, vehicle_values(50))])
    spare = Unit(state, "van-001", journal=99, anchor_utc_ms=ANCHOR_UTC_MS + 100_000)
    spare.send("vehicle", [(10, vehicle_values(48))])
    assert soc_of(van) == 48


def test_custody_follows_the_module_and_the_move_is_noted(van: Unit, station: Unit) -> None:
    state = van.state
    van.send("module", [(1_000, module_values(15))], bay=2, owner=CODE)
    van.send("event", [(5_000, {"code": catalogue.BATTERY_OUT, "soc_pct": 15})], bay=2, owner=CODE)
    assert place_of(state, CODE) == ("van-001", 2, False)
    assert state.occupant(state.nodes["demo", "van-001"], 2) is None
    station.send("event", [(9_000, {"code": catalogue.BATTERY_IN, "soc_pct": 15})], bay=4, owner=CODE)
    assert place_of(state, CODE) == ("station-1", 4, True)
    (move,) = state.moves
    assert (move.origin, move.origin_bay, move.destination, move.destination_bay) == (
        ("demo", "van-001"),
        2,
        ("demo", "station-1"),
        4,
    )


def test_silent_module_that_cannot_have_left_is_still_in_its_bay(station: Unit) -> None:
    station.send("module", [(1_000, module_values(15))], bay=4, owner=CODE)
    event: dict[str, float] = {"code": catalogue.BATTERY_OUT, "reason": catalogue_text.SILENT}
    station.send("event", [(5_000, event)], bay=4, owner=CODE)
    assert place_of(station.state, CODE) == ("station-1", 4, True)
    event = {"code": catalogue.BATTERY_OUT, "reason": catalogue_text.LEFT}
    station.send("event", [(9_000, event)], bay=4, owner=CODE)
    assert place_of(station.state, CODE) == ("station-1", 4, False)


def test_departure_that_is_told_late_does_not_take_the_module_from_its_new_place(van: Unit, station: Unit) -> None:
    van.send("module", [(1_000, module_values(15))], bay=1, owner=CODE)
    station.send("module", [(60_000, module_values(15))], bay=4, owner=CODE)
    event: dict[str, float] = {"code": catalogue.BATTERY_OUT, "reason": catalogue_text.FOUND_GONE}
    van.send("event", [(1_001, event)], bay=1, owner=CODE)
    assert place_of(van.state, CODE) == ("station-1", 4, True)


def test_rows_of_a_module_without_a_code_are_nobodys(van: Unit) -> None:
    van.send("module", [(1_000, module_values(15))], bay=1, owner=CODE)
    van.send("event", [(5_000, {"code": catalogue.BATTERY_OUT})], bay=1, owner=CODE)
    van.send("module", [(9_000, module_values(80))], bay=1)
    state = van.state
    assert list(state.modules) == [CODE]
    assert state.modules[CODE].readings["module", ()].values["soc_pct"] == 15
    assert state.occupant(state.nodes["demo", "van-001"], 1) is None
    newest = state.nodes["demo", "van-001"].newest("module", 1)
    assert newest is not None
    assert (newest.module, newest.values["soc_pct"]) == ("", 80)


def test_back_fill_of_a_former_holder_does_not_take_the_module_back(van: Unit, station: Unit) -> None:
    station.send("module", [(90_000, module_values(20))], bay=4, owner=CODE)
    van.send("module", [(t, module_values(30)) for t in range(0, 20_000, 1_000)], bay=2, owner=CODE)
    assert place_of(van.state, CODE) == ("station-1", 4, True)
    reading = van.state.modules[CODE].readings["module", ()]
    assert reading.values["soc_pct"] == 20
    assert van.state.occupant(van.state.nodes["demo", "van-001"], 2) is None


def test_rows_from_before_leaving_do_not_bring_a_module_back(van: Unit) -> None:
    van.send("event", [(9_000, {"code": catalogue.BATTERY_OUT})], bay=1, owner=CODE)
    van.send("module", [(8_000, module_values(30))], bay=1, owner=CODE)
    assert place_of(van.state, CODE) == ("van-001", 1, False)


def test_a_bay_holds_one_module_even_if_the_leaving_was_not_told(van: Unit) -> None:
    state = van.state
    van.send("module", [(1_000, module_values(15))], bay=1, owner=CODE)
    van.send("module", [(60_000, module_values(95))], bay=1, owner=OTHER)
    assert place_of(state, CODE) == ("van-001", 1, False)
    occupant = state.occupant(state.nodes["demo", "van-001"], 1)
    assert occupant is not None
    assert occupant.code == OTHER


def test_late_news_of_a_former_guest_leaves_the_bay_as_it_is(van: Unit) -> None:
    state = van.state
    van.send("module", [(60_000, module_values(95))], bay=1, owner=OTHER)
    van.send("module", [(1_000, module_values(15))], bay=1, owner=CODE)
    assert place_of(state, OTHER) == ("van-001", 1, True)
    assert place_of(state, CODE) == ("van-001", 1, False)


def test_segments_of_a_large_module_are_kept_apart(van: Unit) -> None:
    for segment in (0, 1):
        van.send("cells", [(1_000, cell_values(50) | {"segment": segment})], bay=1, owner=CODE)
    assert set(van.state.modules[CODE].readings) == {("cells", (0,)), ("cells", (1,))}


def test_birth_will_and_return(van: Unit) -> None:
    state = van.state
    van.say_birth("van", [1, 2])
    node = state.nodes["demo", "van-001"]
    assert (node.is_online, node.holder) == (True, "van")
    state.apply_status("demo", "van-001", {"online": False})
    assert (node.is_online, node.holder, node.birth["board"]) == (False, "van", "esp32")
    van.say_birth("van", [1, 2], boot=2)
    assert (node.is_online, node.birth["boot"]) == (True, 2)


@pytest.mark.parametrize("birth", [{}, {"online": "yes"}, {"online": 1, "holder": ["van"], "bays": 7}])
def test_a_strange_birth_is_taken_as_not_online(van: Unit, birth: dict[str, object]) -> None:
    van.state.apply_status("demo", "van-001", birth)
    node = van.state.nodes["demo", "van-001"]
    assert (node.is_online, node.holder) == (False, "unknown")


def test_holder_is_told_by_what_it_measures_before_its_birth(van: Unit, station: Unit) -> None:
    van.send("vehicle", [(1_000, vehicle_values(50))])
    station.send("slot", [(1_000, slot_values(occupied=False, charger_state=0))], bay=1)
    nodes = van.state.nodes
    assert (nodes["demo", "van-001"].holder, nodes["demo", "station-1"].holder) == ("van", "station")


def test_limits_hold_and_evictions_are_counted() -> None:
    state = FleetState(nodes_max=3, modules_max=2, readings_per_node_max=4)
    for number in range(5):
        unit = Unit(state, f"van-{number}", journal=number + 1)
        unit.send("module", [(1_000, module_values(50))], bay=1, owner=f"M{number}")
    assert [node for _, node in state.nodes] == ["van-2", "van-3", "van-4"]
    assert list(state.modules) == ["M3", "M4"]
    for bay in range(1, 9):
        unit.send("slot", [(1_000, slot_values(occupied=False, charger_state=0))], bay=bay)
    assert len(state.nodes["demo", "van-4"].readings) == 4
    assert state.evictions == 2 + 3 + 5


def test_events_are_kept_in_order_once_and_in_bounds(van: Unit) -> None:
    for time_ms in [3_000, 1_000, 2_000, 2_000, *range(10_000, 80_000, 1_000)]:
        van.send("event", [(time_ms, {"code": catalogue.CLOCK_STEP, "reason": 3})])
    times = [event.uptime_ms for event in van.state.nodes["demo", "van-001"].events]
    assert times == list(range(30_000, 80_000, 1_000))


def test_an_alarm_stands_until_it_is_cleared(van: Unit) -> None:
    alarm: dict[str, float] = {"code": 5, "stream": 3, "signal": 12, "position": 2}
    van.send("alarm", [(1_000, alarm | {"level": 2})], bay=1, owner=CODE)
    van.send("alarm", [(9_000, alarm | {"level": 0})], bay=1, owner=CODE)
    van.send("alarm", [(5_000, alarm | {"level": 3})], bay=1, owner=CODE)  # back-fill
    (standing,) = van.state.nodes["demo", "van-001"].alarms.values()
    assert standing.values["level"] == 0


def test_alarms_that_were_cleared_are_forgotten_before_one_that_stands(van: Unit) -> None:
    van.send("alarm", [(1_000, {"code": 1, "level": 3})], bay=1, owner=CODE)
    for number in range(250):
        flapping: dict[str, float] = {"code": 32, "level": 0, "position": number}
        van.send("alarm", [(2_000 + number, flapping)], bay=1, owner=CODE)
    state = van.state.nodes["demo", "van-001"]
    assert len(state.alarms) == 200
    assert [alarm.keys["code"] for alarm in state.standing_alarms()] == [1]
    assert van.state.evictions == 51


def levels_of(van: Unit) -> list[object]:
    return [alarm.values["level"] for alarm in van.state.nodes["demo", "van-001"].standing_alarms()]


ALARM: dict[str, float] = {"code": 5, "level": 2, "stream": 3, "signal": 12, "position": 2}


def start_again(van: Unit) -> None:
    van.boot += 1
    van.send("node", [(2_000, {"uptime_s": 2})])


def test_alarm_that_a_node_does_not_raise_again_after_a_start_is_over(van: Unit) -> None:
    van.send("alarm", [(90_000, ALARM)], bay=1, owner=CODE)
    van.send("node", [(95_000, {"uptime_s": 95})])
    start_again(van)
    assert levels_of(van) == [2]  # it has had no time to raise it yet
    van.send("node", [(61_000, {"uptime_s": 61})])
    assert levels_of(van) == []
    van.boot -= 1
    van.send("alarm", [(99_000, ALARM | {"level": 3})], bay=1, owner=CODE)  # back-fill
    assert levels_of(van) == []


def test_alarm_that_a_node_raises_again_after_a_start_stands_on(van: Unit) -> None:
    van.send("alarm", [(90_000, ALARM)], bay=1, owner=CODE)
    start_again(van)
    van.send("alarm", [(12_000, ALARM | {"level": 1})], bay=1, owner=CODE)
    van.send("node", [(61_000, {"uptime_s": 61})])
    assert levels_of(van) == [1]


@pytest.mark.parametrize("found", ["module", "slot"])
def test_module_that_is_lost_stays_lost_over_a_start_until_its_bay_tells_of_it(van: Unit, found: str) -> None:
    van.send("module", [(1_000, module_values(50))], bay=1, owner=CODE)
    van.send("slot", [(1_000, slot_values(occupied=True, charger_state=2))], bay=1)
    van.send("alarm", [(90_000, {"code": catalogue.MODULE_LOST, "level": 2, "stream": 3})], bay=1, owner=CODE)
    start_again(van)
    van.send("slot", [(3_000, slot_values(occupied=True, charger_state=2))], bay=1)
    van.send("node", [(61_000, {"uptime_s": 61})])
    assert levels_of(van) == [2]
    if found == "slot":
        van.send("slot", [(62_000, slot_values(occupied=False, charger_state=0))], bay=1)
    else:
        van.send("module", [(62_000, module_values(50))], bay=1, owner=OTHER)
    assert levels_of(van) == []


def test_every_alarm_has_a_retained_topic_of_its_own(van: Unit) -> None:
    changes = van.send("alarm", [(1_000, ALARM), (2_000, ALARM | {"code": 1}), (3_000, ALARM)], bay=1, owner=CODE)
    assert {change.channel: change.reading.uptime_ms for change in changes} == {
        "state/alarm/1/5": 3_000,
        "state/alarm/1/1": 2_000,
    }


async def test_changes_come_in_batches_without_a_queue(van: Unit) -> None:
    state = van.state
    batches = state.changes(interval_s=0.01)
    first = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    for time_ms in range(1_000, 4_000, 1_000):
        van.send("module", [(time_ms, module_values(50))], bay=1, owner=CODE)
    batch = await first
    assert batch.nodes == {("demo", "van-001")}
    assert batch.modules == {CODE}
    state.apply_status("demo", "van-002", {"online": True})
    assert (await anext(batches)).nodes == {("demo", "van-002")}
    await batches.aclose()
    assert state.subscription_count == 0


async def test_a_subscription_returns_an_empty_batch_when_nothing_changes(state: FleetState) -> None:
    with state.subscribe() as changes:
        assert (await changes.take(0.001)).is_empty()


def test_forgetting_a_node_drops_it(van: Unit) -> None:
    van.say_birth("van", [1])
    van.state.forget("demo", "van-001")
    van.state.forget("demo", "van-001")
    assert not van.state.nodes


def test_snapshot_is_json_ready(van: Unit, station: Unit) -> None:
    van.send("module", [(1_000, module_values(50))], bay=1, owner=CODE)
    station.send("slot", [(1_000, slot_values(occupied=False, charger_state=0))], bay=1)
    snapshot = van.state.snapshot()
    assert [node["node"] for node in snapshot["nodes"]] == ["van-001", "station-1"]
    assert snapshot["modules"][0]["custody"] == ["demo", "van-001", 1]


def test_a_station_without_receiver_is_placed_where_vans_exchange_modules(van: Unit, station: Unit) -> None:
    van.say_birth("van", [1])
    station.say_birth("station", [1])
    van.send("position", [(1_000, {"latitude_deg": 52.5, "longitude_deg": 13.4})])
    van.send("module", [(2_000, module_values(15))], bay=1, owner=CODE)
    station.send("module", [(20_000, module_values(15))], bay=1, owner=CODE)
    assert van.state.nodes["demo", "station-1"].estimated_position == (52.5, 13.4)


def test_an_old_position_does_not_place_a_station(van: Unit, station: Unit) -> None:
    van.say_birth("van", [1])
    station.say_birth("station", [1])
    van.send("position", [(1_000, {"latitude_deg": 52.5, "longitude_deg": 13.4})])
    van.send("module", [(2_000, module_values(15))], bay=1, owner=CODE)
    station.send("module", [(900_000, module_values(15))], bay=1, owner=CODE)
    assert van.state.nodes["demo", "station-1"].estimated_position is None


def test_sealed_frames_are_known_by_their_highest_number(van: Unit) -> None:
    for seq in (7, 3):
        van.seq = seq - 1
        van.send("vehicle", [(seq, vehicle_values(50))])
    assert van.state.nodes["demo", "van-001"].seq_max == 7
    van.journal, van.seq = 99, 0
    van.send("vehicle", [(9, vehicle_values(50))])
    assert van.state.nodes["demo", "van-001"].seq_max == 1
