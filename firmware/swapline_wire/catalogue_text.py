"""What people read about the catalogue: titles, descriptions, names of values and bits. Boards never load it.

A description says what an operator needs beyond the name and the unit: what the value includes, and what to make of an
unusual one. `tests/wire` holds that every stream and signal has its text here, and nothing else has.
"""

from collections import namedtuple

from . import catalogue
from .catalogue import CELLS_PER_SEGMENT, SENSORS_PER_SEGMENT, Signal, Stream

Text = namedtuple("Text", ("title", "description"))

STREAMS = {
    "vehicle": Text("Vehicle", "What the vehicle controller says about driving, load, doors and energy."),
    "position": Text(
        "Position", "What the GNSS receiver says, one row an epoch, at the time that the receiver states."
    ),
    "module": Text("Module", "One battery module as its own management system (BMS) sees it, wherever it sits."),
    "cells": Text(
        "Cells",
        "Every cell voltage and temperature sensor of a module, sixteen cells and eight sensors a segment, at a slower "
        "pace than `module`.",
    ),
    "slot": Text("Slot", "A station's slot and its charger, whether or not a module sits in it."),
    "meter": Text("Grid meter", "The station's connection to the grid. Positive power is drawn from the grid."),
    "node": Text("Node", "The telemetry unit about itself: memory, backlog, bus and link errors, clock."),
    "event": Text("Event", "Things that happened once: boots, modules put in and taken out, losses, clock steps."),
    "alarm": Text("Alarm", "A limit of the catalogue's alarm table was passed, escalated or left again."),
}

_VEHICLE = {
    "speed_kmh": Text("Speed", "Road speed from the wheels; differs from the GNSS speed when wheels slip."),
    "odometer_km": Text("Odometer", "Distance driven in the vehicle's life."),
    "drive_mode": Text("Drive mode", "Who drives. `fault` and `emergency stop` need a person."),
    "gear": Text("Gear", "Selected direction."),
    "doors": Text("Open doors", "One bit a door, 1 is open. A cargo door open while driving needs a look."),
    "cargo_lock": Text("Cargo lock", "Lock of the cargo space; `jammed` means that nobody can unload."),
    "auxiliary_voltage_v": Text(
        "Auxiliary voltage",
        "Low-voltage supply (12 V or 24 V). When it sinks, node and autonomy computer go next.",
    ),
    "traction_voltage_v": Text("Traction voltage", "High-voltage bus at the inverter."),
    "traction_current_a": Text(
        "Traction current", "Sum over all modules, positive into them (recuperation, charging)."
    ),
    "soc_pct": Text("State of charge", "The vehicle's own figure over all its modules."),
    "range_km": Text("Range left", "The vehicle's estimate at its recent consumption."),
    "accelerator_pct": Text("Accelerator", "Pedal, or the demand of whoever drives instead."),
    "brake_pct": Text("Brake", "Pedal, or the demand of whoever drives instead."),
    "motor_torque_nm": Text("Motor torque", "At the motor's shaft, negative while recuperating."),
    "motor_speed_rpm": Text("Motor speed", "Negative in reverse."),
    "motor_temperature_c": Text(
        "Motor temperature", "Stator winding; the controller takes power back before it gets too hot."
    ),
    "inverter_temperature_c": Text("Inverter temperature", "Hottest power stage."),
    "acceleration_mps2": Text(
        "Acceleration", "Along the vehicle, forward positive. Below -8 m/s2 no tyre brakes any more: look."
    ),
    "ambient_temperature_c": Text(
        "Outside temperature", "Air outside the van, warmer than the weather while standing."
    ),
    "cabin_temperature_c": Text("Cabin temperature", "Cabin, or the control compartment of a van without one."),
    "cargo_temperature_c": Text("Cargo temperature", "Air in the cargo space; what a cold chain is judged by."),
    "heating_power_kw": Text("Heating power", "Electric heating; it costs range."),
    "aircon_power_kw": Text("Air conditioning power", "Air conditioning and cargo cooling; they cost range."),
    "insulation_kohm": Text(
        "Insulation", "High-voltage bus against the chassis. GB 18384 asks for at least 500 ohm a volt of the bus."
    ),
    "cargo_mass_kg": Text("Load", "Mass in the cargo space."),
    "faults": Text("Vehicle faults", "One bit a fault as the vehicle controller reports it."),
    "request_id": Text("Swap request", "Of the swap that the van takes part in (OCPP 2.1 `requestId`); 0: none."),
}

_POSITION = {
    "latitude_deg": Text("Latitude", "WGS 84, north positive."),
    "longitude_deg": Text("Longitude", "WGS 84, east positive."),
    "altitude_m": Text("Altitude", "Above mean sea level, two to three times less exact than the position."),
    "speed_kmh": Text("Speed over ground", "From Doppler shifts; true also when wheels slip."),
    "heading_deg": Text("Heading", "Course over ground from north, clockwise; meaningless while standing."),
    "fix_quality": Text("Fix quality", "How the position was found. `none` means that the row has no position."),
    "fix_mode": Text("Fix mode", "Two or three dimensions; with 2D the altitude is an assumption."),
    "satellites_used": Text("Satellites used", "In the solution. Fewer than 5 in the open: look at the antenna."),
    "satellites_in_view": Text(
        "Satellites in view", "That the receiver expects above the horizon, all systems together."
    ),
    "hdop": Text(
        "Horizontal dilution", "Geometry's factor on the horizontal error: below 2 is good, above 5 is a guess."
    ),
    "pdop": Text("Position dilution", "Geometry's factor on the error in space."),
    "vdop": Text("Vertical dilution", "Geometry's factor on the altitude's error."),
    "snr_max_db": Text("Best signal", "Carrier-to-noise ratio of the strongest satellite. Below 35: antenna or cable."),
}

_MODULE = {
    "voltage_v": Text("Module voltage", "At the module's terminals."),
    "current_a": Text("Module current", "Positive into the module (charging)."),
    "soc_pct": Text("State of charge", "The BMS's own estimate."),
    "soh_pct": Text("State of health", "Capacity left of the capacity when new, the BMS's own estimate."),
    "capacity_remaining_ah": Text("Charge left", "What the BMS believes can still be drawn."),
    "capacity_full_ah": Text("Full capacity", "What the BMS believes a full charge holds today."),
    "cell_voltage_min_v": Text("Lowest cell voltage", "The weakest cell ends the discharge of the whole module."),
    "cell_voltage_max_v": Text("Highest cell voltage", "The fullest cell ends the charge of the whole module."),
    "cell_voltage_mean_v": Text("Mean cell voltage", "Over all cells; the yardstick for the spread."),
    "cell_voltage_min_cell": Text("Lowest cell", "Which cell, counted from 1. Always the same one: it ages faster."),
    "cell_voltage_max_cell": Text("Highest cell", "Which cell, counted from 1."),
    "temperature_min_c": Text(
        "Lowest temperature", "Of the sensors in the cell pack. Below 0 degC LFP must not be charged."
    ),
    "temperature_max_c": Text(
        "Highest temperature",
        "Of the sensors in the cell pack. Compare it with the module's siblings at the same power.",
    ),
    "temperature_min_sensor": Text("Coldest sensor", "Which sensor, counted from 1."),
    "temperature_max_sensor": Text("Warmest sensor", "Which sensor, counted from 1."),
    "temperature_mosfet_c": Text("Switch temperature", "Of the BMS's power switches, not of the cells."),
    "temperature_ambient_c": Text("Inside temperature", "Air inside the module's housing, at the BMS."),
    "insulation_kohm": Text("Module insulation", "Terminals against the housing."),
    "cycles": Text("Cycles", "Full cycles as the BMS counts them."),
    "charge_in_ah": Text("Charge in", "Taken in during the module's life."),
    "charge_out_ah": Text("Charge out", "Given out during the module's life."),
    "energy_in_kwh": Text("Energy in", "Taken in during the module's life."),
    "energy_out_kwh": Text("Energy out", "Given out during the module's life; less than what went in, by the losses."),
    "cell_count": Text("Cells", "Cells in series that the BMS monitors."),
    "switches": Text("Switches", "One bit a power switch, 1 is closed."),
    "protections": Text(
        "Protections", "One bit a protection that the BMS has raised, in common numbering for all makes."
    ),
    "balancing": Text("Balancing", "Bit 0 is cell 1; a set bit means that the cell is being balanced."),
}

_CELLS = {
    "segment": Text("Segment", "Which sixteen cells: 0 is cells 1 to 16 and sensors 1 to 8, 1 the next, and so on.")
}
_CELLS.update(
    {
        "cell_%02d_v" % number: Text("Cell %d" % number, "Voltage of the segment's cell %d." % number)
        for number in range(1, CELLS_PER_SEGMENT + 1)
    }
)
_CELLS.update(
    {
        "temperature_%d_c" % number: Text("Sensor %d" % number, "Temperature at the segment's sensor %d." % number)
        for number in range(1, SENSORS_PER_SEGMENT + 1)
    }
)

_SLOT = {
    "occupied": Text("Occupied", "1: a module sits in the slot, whether or not its BMS answers."),
    "locked": Text("Locked", "1: the slot's lock holds the module. Occupied and unlocked outside a swap needs a look."),
    "charger_state": Text("Charger state", "What the charger is doing with the module."),
    "charger_voltage_v": Text("Charger voltage", "At the charger's output."),
    "charger_current_a": Text("Charger current", "Into the module."),
    "charger_power_kw": Text("Charger power", "At the charger's output, without the charger's own losses."),
    "current_limit_a": Text("Current limit", "What the charger is allowed now, by the module's BMS or the station."),
    "energy_kwh": Text("Energy delivered", "In the charger's life."),
    "charger_temperature_c": Text(
        "Charger temperature",
        "Hottest power stage. Higher than its neighbours' at the same power: look at fan and filter.",
    ),
    "faults": Text("Charger faults", "One bit a fault as the charger reports it."),
    "session_duration_s": Text("Charging session", "Since the module in the slot was connected; 0 while it is empty."),
    "request_id": Text("Swap request", "Of the swap that the slot takes part in (OCPP 2.1 `requestId`); 0: none."),
}

_METER = {
    "voltage_l1_v": Text("Voltage L1", "Phase 1 against neutral."),
    "voltage_l2_v": Text("Voltage L2", "Phase 2 against neutral."),
    "voltage_l3_v": Text("Voltage L3", "Phase 3 against neutral."),
    "current_l1_a": Text("Current L1", "Phase 1."),
    "current_l2_a": Text("Current L2", "Phase 2."),
    "current_l3_a": Text("Current L3", "Phase 3. Far from the others: chargers are spread unevenly over the phases."),
    "power_kw": Text("Power", "Active power of all phases, positive from the grid."),
    "power_l1_kw": Text("Power L1", "Active power of phase 1, positive from the grid."),
    "power_l2_kw": Text("Power L2", "Active power of phase 2, positive from the grid."),
    "power_l3_kw": Text("Power L3", "Active power of phase 3, positive from the grid."),
    "reactive_power_kvar": Text("Reactive power", "All phases, positive inductive."),
    "power_factor": Text("Power factor", "Active over apparent power, negative when feeding in."),
    "frequency_hz": Text("Grid frequency", "Leaves 49.8..50.2 Hz (59.8..60.2 Hz) only when the grid is in trouble."),
    "energy_import_kwh": Text("Energy drawn", "From the grid in the meter's life."),
    "energy_export_kwh": Text("Energy fed in", "Into the grid in the meter's life."),
}

_NODE = {
    "uptime_s": Text("Uptime", "Since the node's start; it falls only at a restart."),
    "reset_cause": Text(
        "Reset cause", "Why the node started last. `watchdog`, `brown-out` or `no memory` again and again: look at it."
    ),
    "heap_used_bytes": Text("Heap used", "Live memory after a collection."),
    "heap_free_bytes": Text("Heap free", "Left after a collection. Falling from day to day is a leak."),
    "heap_peak_bytes": Text("Heap peak", "Most memory in use at once since the start, as far as the node has seen."),
    "journal_used_bytes": Text("Journal used", "Bytes in flash, of frames that are not acknowledged yet."),
    "journal_limit_bytes": Text(
        "Journal limit", "What the journal may use; when it is full the oldest routine frames go."
    ),
    "backlog_frames": Text("Backlog", "Sealed frames that the gateway has not acknowledged yet."),
    "frames_sealed": Text("Frames sealed", "Since the start: what must arrive, or be declared lost."),
    "frames_acknowledged": Text("Frames acknowledged", "That the gateway has confirmed to hold durably."),
    "frames_sent_again": Text("Frames sent again", "Sent once more because no acknowledgement came in time. Harmless."),
    "frames_dropped": Text("Frames dropped", "Lost and declared as such, with the reason in `event`."),
    "rows_kept": Text("Rows kept", "Readings that moved enough, or were due, to become a row."),
    "rows_unchanged": Text("Rows unchanged", "Readings that told nothing new and were left out on purpose."),
    "values_abnormal": Text(
        "Abnormal values", "Outside their limits or called invalid by their source; none became a number."
    ),
    "bus_requests": Text("Bus requests", "Asked on all serial buses together; on a GNSS line, sentences."),
    "bus_timeouts": Text("Bus timeouts", "Requests without an answer. Growing: a device is off or a wire is loose."),
    "bus_checksum_errors": Text(
        "Bus checksum errors", "Answers damaged on the wire. Growing: shielding, termination, baud."
    ),
    "bus_protocol_errors": Text(
        "Bus protocol errors", "Intact answers that make no sense, or that refuse the request."
    ),
    "link_connects": Text("Link connects", "Times the broker was reached."),
    "link_failures": Text("Link failures", "Connections that failed or broke."),
    "link_rtt_ms": Text("Link round trip", "From a publish to the broker's answer."),
    "rssi_dbm": Text("Radio signal", "Received strength. Below -85 dBm the link becomes slow; boards with radio only."),
    "clock_quality": Text("Clock quality", "Where the node's time comes from."),
    "clock_step_ms": Text(
        "Last clock step", "By how much the clock was last set; the larger, the worse it was before."
    ),
    "loop_lag_ms_max": Text("Longest pause", "Longest time that the node's tasks had to wait for each other."),
    "task_restarts": Text(
        "Task restarts", "Parts of the node that failed and were started again. Anything but 0 is a bug."
    ),
    "safe_mode": Text("Safe mode", "1: the configuration was refused; the node answers, but reads no device."),
}

_EVENT = {
    "code": Text("Event", "What happened."),
    "reason": Text(
        "Reason",
        "By event: a loss reason, a reset cause, a clock quality, 1 for refused, how a module came, how it left.",
    ),
    "request_id": Text("Request", "Joins the halves of one swap (OCPP 2.1 `requestId`); 0: holder says there is none."),
    "soc_pct": Text("State of charge", "Of the module that was put in or taken out, as last read."),
    "soh_pct": Text("State of health", "Of the module that was put in or taken out, as last read."),
    "first_seq": Text("First frame", "First sequence number of a lost range, in this journal."),
    "last_seq": Text("Last frame", "Last sequence number of a lost range, in this journal."),
    "count": Text("Count", "Frames or rows that were lost; the boot number for `boot`."),
    "duration_s": Text(
        "Duration",
        "How long the module sat there before it was taken out; how long a power cut's loss may be; by how much a clock"
        " step went back.",
    ),
    "odometer_km": Text("Odometer", "Of the van when a module came or left, if its controller had just told it."),
    "latitude_deg": Text("Latitude", "Of the van when a module came or left, if its receiver had just told it."),
    "longitude_deg": Text("Longitude", "Of the van when a module came or left, if its receiver had just told it."),
}

_ALARM = {
    "code": Text("Alarm", "Which rule of the alarm table."),
    "level": Text("Level", "0 cleared, 1 to 3 as in GB/T 32960: 3 means stop now."),
    "stream": Text("Stream", "Id of the stream that the signal belongs to."),
    "signal": Text("Signal", "The signal's place in its stream, counted from 0."),
    "position": Text("Position", "Which cell or sensor, counted from 1; not available where there is only one."),
    "value": Text("Value", "Raw value of the signal when the rule was met; its decimals are those of the signal."),
    "threshold": Text("Threshold", "Raw limit that was passed; its decimals are those of the signal."),
}

SIGNALS = {
    "vehicle": _VEHICLE,
    "position": _POSITION,
    "module": _MODULE,
    "cells": _CELLS,
    "slot": _SLOT,
    "meter": _METER,
    "node": _NODE,
    "event": _EVENT,
    "alarm": _ALARM,
}

# Reasons of `BATTERY_IN` (docs/node.md).
CAME = 0  # while the node was running
FOUND = 1  # when the node began to run: it does not remember this module here
STILL_THERE = 2  # when the node began to run: it remembers it here, so nothing arrived
# Reasons of `BATTERY_OUT`.
LEFT = 0  # another code answered, or the bay fell silent
FOUND_GONE = 1  # told late, at the next boot; the event's time is when the node was last alive before that
SILENT = 2  # the bay fell silent, but the module cannot have left: a lost module, no departure

LOSSES = {
    catalogue.LOSS_JOURNAL_FULL: "journal full",
    catalogue.LOSS_JOURNAL_DAMAGED: "journal damaged",
    catalogue.LOSS_POWER_CUT: "power cut",
    catalogue.LOSS_NO_MEMORY: "no memory",
    catalogue.LOSS_JOURNAL_FORMATTED: "journal formatted",
}

TIME_QUALITIES = {
    catalogue.TIME_NONE: "none",
    catalogue.TIME_ESTIMATED: "estimated",
    catalogue.TIME_GATEWAY: "gateway",
    catalogue.TIME_NTP: "NTP",
    catalogue.TIME_GNSS: "GNSS",
}

_NO_YES = {0: "no", 1: "yes"}

# Names of the values of states and keys: (stream, signal) -> value -> name.
VALUES = {
    ("vehicle", "drive_mode"): {
        0: "off",
        1: "ready",
        2: "manual",
        3: "autonomous",
        4: "remote",
        5: "swapping",
        6: "fault",
        7: "emergency stop",
    },
    ("vehicle", "gear"): {0: "park", 1: "reverse", 2: "neutral", 3: "drive"},
    ("vehicle", "cargo_lock"): {0: "open", 1: "locked", 2: "jammed"},
    # NMEA 0183, GGA field 6.
    ("position", "fix_quality"): {
        0: "none",
        1: "GNSS",
        2: "differential",
        3: "PPS",
        4: "RTK fixed",
        5: "RTK float",
        6: "dead reckoning",
        7: "manual",
        8: "simulation",
    },
    # NMEA 0183, GSA field 2; 0 is never sent.
    ("position", "fix_mode"): {1: "none", 2: "2D", 3: "3D"},
    ("slot", "occupied"): _NO_YES,
    ("slot", "locked"): _NO_YES,
    ("slot", "charger_state"): {0: "idle", 1: "connected", 2: "charging", 3: "full", 4: "fault", 5: "reserved"},
    ("node", "reset_cause"): {
        0: "unknown",
        1: "power-on",
        2: "hard",
        3: "watchdog",
        4: "deep sleep",
        5: "soft",
        6: "brown-out",
        7: "configuration",
        8: "no memory",
    },
    ("node", "clock_quality"): TIME_QUALITIES,
    ("node", "safe_mode"): _NO_YES,
    ("event", "code"): {
        catalogue.BOOT: "boot",
        catalogue.BATTERY_IN: "BatteryIn",
        catalogue.BATTERY_OUT: "BatteryOut",
        catalogue.FRAMES_DROPPED: "frames dropped",
        catalogue.ROWS_DROPPED: "rows dropped",
        catalogue.CLOCK_STEP: "clock step",
        catalogue.CONFIGURATION: "configuration",
    },
    ("alarm", "level"): {0: "cleared", 1: "level 1", 2: "level 2", 3: "level 3"},
    ("alarm", "stream"): {stream.id: stream.name for stream in catalogue.STREAMS},
}

# Names of the bits of flag words: (stream, signal) -> bit -> name. Bit 0 is the lowest.
BITS = {
    ("vehicle", "doors"): {0: "cargo left", 1: "cargo right", 2: "cargo rear", 3: "service"},
    ("vehicle", "faults"): {
        0: "drive inverter",
        1: "motor over-temperature",
        2: "brake",
        3: "steering",
        4: "auxiliary supply low",
        5: "DC/DC converter",
        6: "insulation below limit",
        7: "high-voltage interlock open",
        8: "pre-charge failed",
        9: "autonomy computer lost",
        10: "remote link lost",
        11: "cargo door",
        12: "cooling",
        13: "tyre pressure",
        14: "lock of module bay 1",
        15: "lock of module bay 2",
        16: "lock of module bay 3",
    },
    ("module", "switches"): {0: "charge", 1: "discharge", 2: "pre-charge", 3: "heater"},
    ("module", "protections"): {
        0: "cell over-voltage",
        1: "cell under-voltage",
        2: "pack over-voltage",
        3: "pack under-voltage",
        4: "charge over-temperature",
        5: "charge under-temperature",
        6: "discharge over-temperature",
        7: "discharge under-temperature",
        8: "charge over-current",
        9: "discharge over-current",
        10: "short circuit",
        11: "front-end fault",
        12: "switches locked by software",
        13: "cell spread",
        14: "switch over-temperature",
        15: "insulation",
        16: "sensor fault",
        17: "another one of this BMS",
    },
    ("module", "balancing"): {bit: "cell %d" % (bit + 1) for bit in range(32)},
    ("slot", "faults"): {
        0: "grid input",
        1: "output over-voltage",
        2: "output over-current",
        3: "over-temperature",
        4: "fan",
        5: "BMS of the module silent",
        6: "slot lock",
        7: "output contactor stuck",
        8: "insulation below limit",
        9: "position sensor",
        10: "emergency stop",
        11: "smoke or fire detector",
    },
}


def _names_of_bits(first: int, prefix: str, stream: str, signal: str) -> "dict[int, str]":
    return {first + bit: prefix + name for bit, name in BITS[stream, signal].items()}


# The rules of the alarm table by their code; a row of bits has a code for each of them.
VALUES["alarm", "code"] = {
    1: "cell over-voltage",
    2: "cell under-voltage",
    3: "pack over-voltage",
    4: "pack under-voltage",
    5: "cell spread",
    6: "over-temperature",
    7: "under-temperature",
    8: "temperature spread",
    9: "charge over-current",
    10: "discharge over-current",
    11: "module insulation low",
    12: "vehicle insulation low",
    13: "crash-like deceleration",
    catalogue.MODULE_LOST: "module lost",
    15: "thermal runaway suspected",
    **_names_of_bits(32, "BMS protection: ", "module", "protections"),
    **_names_of_bits(64, "charger fault: ", "slot", "faults"),
    **_names_of_bits(96, "vehicle fault: ", "vehicle", "faults"),
}


def signal_text(stream: Stream, signal: Signal) -> Text:
    """Return title and description of a signal."""
    return SIGNALS[stream.name][signal.name]


def value_name(stream: Stream, signal: Signal, raw: int) -> str:
    """Return the name of a state's value; the number itself where it has none."""
    name: str = VALUES.get((stream.name, signal.name), {}).get(raw, str(raw))
    return name


def bit_names(stream: Stream, signal: Signal, raw: int) -> list[str]:
    """Return the names of the bits that are set in a flag word; `bit n` where one has none."""
    names = BITS.get((stream.name, signal.name), {})
    return [names.get(bit, "bit %d" % bit) for bit in range(raw.bit_length()) if raw >> bit & 1]
