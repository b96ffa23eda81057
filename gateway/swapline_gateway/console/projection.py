"""What the pages show of the fleet's state, as JSON-ready dictionaries.

Births and names come from devices, so nothing here trusts their shape: a field that is not what it should be is left
out. Signals keep the catalogue's names; everything else is named as in `state.py`.
"""

from typing import Any

from swapline_gateway.alarm_meaning import meaning
from swapline_gateway.state import Custody, FleetState, ModuleState, Move, NodeState, Reading, Value
from swapline_wire import catalogue

READY_SOC_PCT = 90.0  # a station's module that may go into a van; chargers report "full" only at the very end
CHARGER_FULL = 3
BAY_MAX = 255
BIRTH_TEXTS = ("firmware", "board")
BIRTH_NUMBERS = ("protocol", "boot", "journal", "clock_quality")
EVENT_NAMES = {
    catalogue.BOOT: "boot",
    catalogue.BATTERY_IN: "battery_in",
    catalogue.BATTERY_OUT: "battery_out",
    catalogue.FRAMES_DROPPED: "frames_dropped",
    catalogue.ROWS_DROPPED: "rows_dropped",
    catalogue.CLOCK_STEP: "clock_step",
    catalogue.CONFIGURATION: "configuration",
}
MODULE_SUMMARY_SIGNALS = (
    "soc_pct",
    "soh_pct",
    "voltage_v",
    "current_a",
    "temperature_max_c",
    "cell_voltage_min_v",
    "cell_voltage_max_v",
    "cycles",
    "protections",
)


def bays_of(state: NodeState) -> list[int]:
    """Return the node's bays: those that its birth names and those that it has reported from, in order."""
    stated = state.birth.get("bays")
    named = stated if isinstance(stated, list) else []
    bays = {bay for bay in named if type(bay) is int and 0 < bay <= BAY_MAX}
    return sorted(bays | {bay for _, bay, _ in state.readings if bay})


def _values(reading: Reading | None, *names: str) -> dict[str, Value]:
    return {name: reading.values.get(name) if reading else None for name in names}


def unknown_reading(fleet: FleetState, state: NodeState, bay: int) -> Reading | None:
    """Return the newest reading of a module without a code that sits in this bay; None where there is none.

    Such a module is told neither to come nor to leave. It left when its slot says so, or when a known one is there.
    """
    reading, slot = state.newest("module", bay), state.newest("slot", bay)
    if reading is None or reading.module or fleet.occupant(state, bay) is not None:
        return None
    is_empty = slot is not None and slot.values.get("occupied") == 0 and slot.is_newer_than(reading)
    return None if is_empty else reading


def _module_reading(module: ModuleState | None) -> Reading | None:
    return module.readings.get(("module", ())) if module else None


def _bay_summary(fleet: FleetState, state: NodeState, bay: int) -> dict[str, Any]:
    module = fleet.occupant(state, bay)
    unknown = unknown_reading(fleet, state, bay)
    reading = _module_reading(module) or unknown
    summary: dict[str, Any] = {"bay": bay, "module": module.code if module else None}
    summary["unknown"] = unknown is not None
    summary |= _values(reading, "soc_pct", "current_a", "temperature_max_c")
    slot = state.newest("slot", bay)
    if slot is not None:
        summary["slot"] = _values(slot, "occupied", "locked", "charger_state", "charger_power_kw", "faults")
        summary["ready"] = is_ready(module, reading, slot)
    return summary


def is_ready(module: ModuleState | None, reading: Reading | None, slot: Reading) -> bool:
    """Say whether a van could take this slot's module now."""
    if module is None or slot.values.get("faults"):
        return False
    soc = reading.values.get("soc_pct") if reading else None
    return slot.values.get("charger_state") == CHARGER_FULL or (soc is not None and soc >= READY_SOC_PCT)


def _soc(vehicle: Reading | None, bays: dict[str, dict[str, Any]]) -> Value:
    """Return a van's state of charge: as the vehicle says, else the mean of its modules."""
    stated = vehicle.values.get("soc_pct") if vehicle else None
    if stated is not None:
        return stated
    known = [bay["soc_pct"] for bay in bays.values() if bay["soc_pct"] is not None]
    return round(sum(known) / len(known), 1) if known else None


def alarm_level(state: NodeState) -> int:
    """Return the highest level of the node's standing alarms, 0 for none."""
    return max((int(alarm.values.get("level") or 0) for alarm in state.standing_alarms()), default=0)


def _position(state: NodeState) -> dict[str, Value]:
    """Return where the node is: as its receiver says, else as its exchanges with vans tell."""
    measured = _values(state.newest("position"), "latitude_deg", "longitude_deg", "heading_deg")
    if measured["latitude_deg"] is not None or state.estimated_position is None:
        return measured | {"position_estimated": False}
    latitude, longitude = state.estimated_position
    return {"latitude_deg": latitude, "longitude_deg": longitude, "heading_deg": None, "position_estimated": True}


def node_summary(fleet: FleetState, state: NodeState) -> dict[str, Any]:
    """Return what the fleet's overview shows of one node."""
    vehicle, own, meter = (state.newest(stream) for stream in ("vehicle", "node", "meter"))
    bays = {str(bay): _bay_summary(fleet, state, bay) for bay in bays_of(state)}
    return {
        "fleet": state.fleet,
        "node": state.node,
        "holder": state.holder,
        "online": state.is_online,
        "online_since_utc_ms": state.online_since_utc_ms,
        "data_utc_ms": state.data_utc_ms,
        "delay_ms": state.delay_ms,
        "soc_pct": _soc(vehicle, bays),
        **_values(vehicle, "range_km", "speed_kmh", "drive_mode", "faults"),
        **_position(state),
        **_values(meter, "power_kw"),
        **_values(own, "backlog_frames", "clock_quality", "safe_mode"),
        "alarm_level": alarm_level(state),
        "bays": bays,
    }


def _birth(state: NodeState) -> dict[str, Any]:
    birth = state.birth
    texts = {name: birth[name][:80] for name in BIRTH_TEXTS if isinstance(birth.get(name), str)}
    numbers = {name: birth[name] for name in BIRTH_NUMBERS if type(birth.get(name)) is int}
    return texts | numbers | {"safe_mode": birth.get("safe_mode") is True}


def _event(reading: Reading) -> dict[str, Any]:
    code = reading.keys.get("code")
    return {"node": reading.node, "name": EVENT_NAMES.get(code or 0, f"code {code}"), **reading.as_json()}


def _cells(module: ModuleState) -> dict[str, Any]:
    return {
        str(keys[0]): reading.as_json()
        for (stream, keys), reading in sorted(module.readings.items())
        if stream == "cells" and keys
    }


def _bay_detail(fleet: FleetState, state: NodeState, bay: int) -> dict[str, Any]:
    module, slot = fleet.occupant(state, bay), state.newest("slot", bay)
    unknown = unknown_reading(fleet, state, bay)
    reading = _module_reading(module) or unknown
    custody = module.custody if module else None
    return {
        "bay": bay,
        "module": module.code if module else None,
        "unknown": unknown is not None,
        "since_utc_ms": custody.since_utc_ms if custody else None,
        "reading": reading.as_json() if reading else None,
        "slot": slot.as_json() if slot else None,
        "ready": slot is not None and is_ready(module, reading, slot),
    }


def node_detail(fleet: FleetState, state: NodeState) -> dict[str, Any]:
    """Return what a holder's page shows."""
    own = ("vehicle", "position", "meter", "node")
    return {
        "known": True,
        "summary": node_summary(fleet, state),
        "birth": _birth(state),
        "readings": {name: reading.as_json() for name in own if (reading := state.newest(name)) is not None},
        "bays": {str(bay): _bay_detail(fleet, state, bay) for bay in bays_of(state)},
        "events": [_event(event) for event in reversed(state.events)],
        "alarms": [_alarm(alarm) for alarm in _worst_first(state.standing_alarms())],
    }


def _worst_first(alarms: list[Reading]) -> list[Reading]:
    return sorted(alarms, key=lambda alarm: (-int(alarm.values.get("level") or 0), -alarm.believed_utc_ms))


def _alarm(alarm: Reading) -> dict[str, Any]:
    """Return a standing alarm with what its numbers mean."""
    return {**alarm.as_json(), "meaning": meaning(alarm.keys, alarm.values)}


def _custody(custody: Custody | None) -> dict[str, Any] | None:
    if custody is None:
        return None
    return {
        "fleet": custody.fleet,
        "node": custody.node,
        "bay": custody.bay,
        "since_utc_ms": custody.since_utc_ms,
        "seen_utc_ms": custody.seen_utc_ms,
        "present": custody.is_present,
    }


def _holder(fleet: FleetState, custody: Custody | None) -> str:
    state = fleet.nodes.get((custody.fleet, custody.node)) if custody else None
    return state.holder if state else "unknown"


def module_summary(fleet: FleetState, module: ModuleState) -> dict[str, Any]:
    """Return what the list of modules shows of one."""
    reading = _module_reading(module)
    return {
        "code": module.code,
        "custody": _custody(module.custody),
        "holder": _holder(fleet, module.custody),
        "data_utc_ms": reading.time_utc_ms if reading else None,
        **_values(reading, *MODULE_SUMMARY_SIGNALS),
    }


def module_detail(fleet: FleetState, module: ModuleState) -> dict[str, Any]:
    """Return what a module's page shows."""
    reading, custody = _module_reading(module), module.custody
    state = fleet.nodes.get((custody.fleet, custody.node)) if custody else None
    return {
        "known": True,
        "code": module.code,
        "custody": _custody(custody),
        "holder": _holder(fleet, custody),
        "online": state.is_online if state else None,
        "reading": reading.as_json() if reading else None,
        "cells": _cells(module),
        "moves": [move_json(fleet, move) for move in reversed(fleet.moves) if move.module == module.code],
    }


def move_json(fleet: FleetState, move: Move) -> dict[str, Any]:
    """Return one move of a module from holder to holder."""
    return {
        "time_utc_ms": move.time_utc_ms,
        "module": move.module,
        "origin": _place(fleet, move.origin, move.origin_bay),
        "destination": _place(fleet, move.destination, move.destination_bay),
    }


def _place(fleet: FleetState, key: tuple[str, str], bay: int) -> dict[str, Any]:
    state = fleet.nodes.get(key)
    return {"fleet": key[0], "node": key[1], "bay": bay, "holder": state.holder if state else "unknown"}


def node_pipeline(state: NodeState) -> dict[str, Any]:
    """Return what the pipeline page shows of one node: its own counters and its delay."""
    reading = state.newest("node")
    return {
        "fleet": state.fleet,
        "node": state.node,
        "holder": state.holder,
        "online": state.is_online,
        "data_utc_ms": state.data_utc_ms,
        "delay_ms": state.delay_ms,
        "seq_max": state.seq_max,
        "values": dict(reading.values) if reading else None,
    }
