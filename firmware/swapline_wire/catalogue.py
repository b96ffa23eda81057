"""The catalogue: with `catalogue_van.py` and `catalogue_station.py` the only place that says what a signal is.

Packing on the device, decoding in the gateway, database fields and units, panels and the documentation's tables all
come from here (`catalogue_text.py` adds the sentences that people read; boards need not load it). Signals are only ever
appended to a stream and streams to the catalogue: a signal's place in its stream is its identity, so a shorter row of
an older firmware still decodes, and a longer row of a newer one is read up to what this catalogue knows.

A value travels as the integer `raw`; the number that people see is `raw / 10**decimals`. Limits and deadbands are raw
as well: ESP32 floats are single precision, and the device needs none. Two codes of every format are not numbers (the
idea of GB/T 32960's FF and FE): `not available` (the source has no value now) and `abnormal` (it gave one that cannot
be true).
"""

import struct
from collections import namedtuple

# format -> (struct code, bytes, not-available code, abnormal code)
FORMATS = {
    "u8": ("B", 1, 0xFF, 0xFE),
    "u16": ("H", 2, 0xFFFF, 0xFFFE),
    "u32": ("I", 4, 0xFFFFFFFF, 0xFFFFFFFE),
    "i8": ("b", 1, -0x80, -0x7F),
    "i16": ("h", 2, -0x8000, -0x7FFF),
    "i32": ("i", 4, -0x80000000, -0x7FFFFFFF),
}
# struct code -> (not-available code, abnormal code)
CODES = {entry[0]: (entry[2], entry[3]) for entry in FORMATS.values()}

# Kinds: what a dashboard may do with a signal.
MEASUREMENT = "measurement"  # a quantity that may be averaged
TOTAL = "total"  # a counter that only grows (until its device restarts): differences, never averages
STATE = "state"  # an enumeration, a flag word or an index: last value and durations, never averages
KEY = "key"  # a part of the row's identity (a database tag): rows of one stream, owner and time differ in it

# Who a row belongs to.
OF_NODE = "node"  # the van or station itself
OF_BAY = "bay"  # a place: a station's slot
OF_MODULE = "module"  # a battery module by its code; the frame also says in which bay it was

# Priorities: what a full journal drops first, and what overtakes on the link.
ROUTINE = 0
EVENT = 1
ALARM = 2

Signal = namedtuple(
    "Signal", ("name", "unit", "format", "decimals", "minimum", "maximum", "deadband", "kind", "source")
)
Stream = namedtuple("Stream", ("id", "name", "owner", "priority", "period_ms", "silence_ms_max", "signals"))
# What a board needs of a stream's signals, by columns: all names between spaces, struct codes, limits, the places of
# keys. In the bundle for boards this stands in a stream instead of its signals: 50 bytes of heap each instead of 168.
Columns = namedtuple("Columns", ("names", "codes", "minimums", "maximums", "deadbands", "keys"))


def total(name: str, unit: str, decimals: int, deadband: int, source: str) -> Signal:
    return Signal(name, unit, "u32", decimals, 0, 0xFFFFFFFD, deadband, TOTAL, source)


def state(name: str, fmt: str, maximum: int, source: str) -> Signal:
    return Signal(name, "", fmt, 0, 0, maximum, 1, STATE, source)


def key(name: str, fmt: str, maximum: int, source: str) -> Signal:
    return Signal(name, "", fmt, 0, 0, maximum, 1, KEY, source)


U16_MAX = 0xFFFD  # the largest numbers of their formats: two codes are above them
U32_MAX = 0xFFFFFFFD
_M = MEASUREMENT

# One stream is one device's answer, so that each row has one true time: what the GNSS receiver says is not mixed with
# what the vehicle controller says. Ids count from 1. What only a van or only a station has is in a file of its own and
# loaded when somebody first asks for it: each stream costs a board a kilobyte of heap.
STREAM_NAMES = ("vehicle", "position", "module", "cells", "slot", "meter", "node", "event", "alarm")
_ELSEWHERE = {"VEHICLE": "van", "POSITION": "van", "SLOT": "station", "METER": "station"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    VEHICLE: Stream
    POSITION: Stream
    SLOT: Stream
    METER: Stream
    STREAMS: tuple[Stream, ...]

MODULE = Stream(
    3,
    "module",
    OF_MODULE,
    ROUTINE,
    1000,
    60000,
    (
        Signal("voltage_v", "V", "u32", 2, 0, 150000, 10, _M, "bms"),
        Signal("current_a", "A", "i32", 2, -200000, 200000, 100, _M, "bms"),
        Signal("soc_pct", "%", "u16", 1, 0, 1000, 2, _M, "bms"),
        Signal("soh_pct", "%", "u16", 1, 0, 1200, 1, _M, "bms"),
        Signal("capacity_remaining_ah", "A.h", "u32", 2, 0, 1000000, 50, _M, "bms"),
        Signal("capacity_full_ah", "A.h", "u32", 2, 0, 1000000, 10, _M, "bms"),
        Signal("cell_voltage_min_v", "V", "u16", 3, 0, 6000, 5, _M, "bms"),
        Signal("cell_voltage_max_v", "V", "u16", 3, 0, 6000, 5, _M, "bms"),
        Signal("cell_voltage_mean_v", "V", "u16", 3, 0, 6000, 5, _M, "bms"),
        state("cell_voltage_min_cell", "u8", 0xFD, "bms"),
        state("cell_voltage_max_cell", "u8", 0xFD, "bms"),
        Signal("temperature_min_c", "degC", "i16", 1, -500, 2000, 5, _M, "bms"),
        Signal("temperature_max_c", "degC", "i16", 1, -500, 2000, 5, _M, "bms"),
        state("temperature_min_sensor", "u8", 0xFD, "bms"),
        state("temperature_max_sensor", "u8", 0xFD, "bms"),
        Signal("temperature_mosfet_c", "degC", "i16", 1, -500, 2000, 10, _M, "bms"),
        Signal("temperature_ambient_c", "degC", "i16", 1, -500, 2000, 10, _M, "bms"),
        Signal("insulation_kohm", "kohm", "u16", 0, 0, U16_MAX, 50, _M, "bms"),
        total("cycles", "", 0, 1, "bms"),
        total("charge_in_ah", "A.h", 2, 50, "bms"),
        total("charge_out_ah", "A.h", 2, 50, "bms"),
        total("energy_in_kwh", "kW.h", 3, 50, "bms"),
        total("energy_out_kwh", "kW.h", 3, 50, "bms"),
        state("cell_count", "u8", 0xFD, "bms"),
        state("switches", "u8", 0xFD, "bms"),
        state("protections", "u32", U32_MAX, "bms"),
        state("balancing", "u32", U32_MAX, "bms"),
    ),
)

# A row of `cells` is one segment: sixteen cells and eight sensors. A module of more cells answers with more segments.
CELLS_PER_SEGMENT = 16
SENSORS_PER_SEGMENT = 8
CELLS = Stream(
    4,
    "cells",
    OF_MODULE,
    ROUTINE,
    10000,
    300000,
    tuple(
        [key("segment", "u8", 15, "bms")]
        + [Signal("cell_%02d_v" % (i + 1), "V", "u16", 3, 0, 6000, 5, _M, "bms") for i in range(CELLS_PER_SEGMENT)]
        + [
            Signal("temperature_%d_c" % (i + 1), "degC", "i16", 1, -500, 2000, 5, _M, "bms")
            for i in range(SENSORS_PER_SEGMENT)
        ]
    ),
)

NODE = Stream(
    7,
    "node",
    OF_NODE,
    ROUTINE,
    5000,
    30000,
    (
        total("uptime_s", "s", 0, 30, "node"),
        state("reset_cause", "u8", 8, "node"),
        Signal("heap_used_bytes", "B", "u32", 0, 0, U32_MAX, 4096, _M, "node"),
        Signal("heap_free_bytes", "B", "u32", 0, 0, U32_MAX, 4096, _M, "node"),
        Signal("heap_peak_bytes", "B", "u32", 0, 0, U32_MAX, 1024, _M, "node"),
        Signal("journal_used_bytes", "B", "u32", 0, 0, U32_MAX, 4096, _M, "node"),
        Signal("journal_limit_bytes", "B", "u32", 0, 0, U32_MAX, 1, _M, "node"),
        Signal("backlog_frames", "", "u32", 0, 0, U32_MAX, 10, _M, "node"),
        total("frames_sealed", "", 0, 50, "node"),
        total("frames_acknowledged", "", 0, 50, "node"),
        total("frames_sent_again", "", 0, 1, "node"),
        total("frames_dropped", "", 0, 1, "node"),
        total("rows_kept", "", 0, 500, "node"),
        total("rows_unchanged", "", 0, 500, "node"),
        total("values_abnormal", "", 0, 1, "node"),
        total("bus_requests", "", 0, 200, "node"),
        total("bus_timeouts", "", 0, 1, "node"),
        total("bus_checksum_errors", "", 0, 1, "node"),
        total("bus_protocol_errors", "", 0, 1, "node"),
        total("link_connects", "", 0, 1, "node"),
        total("link_failures", "", 0, 1, "node"),
        Signal("link_rtt_ms", "ms", "u16", 0, 0, U16_MAX, 50, _M, "node"),
        Signal("rssi_dbm", "dBm", "i8", 0, -126, 0, 5, _M, "node"),
        state("clock_quality", "u8", 4, "node"),
        Signal("clock_step_ms", "ms", "i32", 0, -0x7FFFFFFE, 0x7FFFFFFE, 20, _M, "node"),
        Signal("loop_lag_ms_max", "ms", "u16", 0, 0, U16_MAX, 50, _M, "node"),
        total("task_restarts", "", 0, 1, "node"),
        state("safe_mode", "u8", 1, "node"),
    ),
)

# Events and alarms of the node itself (a boot, dropped frames) have no owner code and bay 0.
EVENT_STREAM = Stream(
    8,
    "event",
    OF_MODULE,
    EVENT,
    0,
    0,
    (
        key("code", "u16", U16_MAX, "node"),
        state("reason", "u8", 0xFD, "node"),
        state("request_id", "u32", U32_MAX, "node"),
        Signal("soc_pct", "%", "u16", 1, 0, 1000, 1, _M, "bms"),
        Signal("soh_pct", "%", "u16", 1, 0, 1200, 1, _M, "bms"),
        state("first_seq", "u32", U32_MAX, "node"),
        state("last_seq", "u32", U32_MAX, "node"),
        Signal("count", "", "u32", 0, 0, U32_MAX, 1, _M, "node"),
        Signal("duration_s", "s", "u32", 0, 0, U32_MAX, 1, _M, "node"),
        total("odometer_km", "km", 3, 1, "vcu"),
        Signal("latitude_deg", "deg", "i32", 7, -900000000, 900000000, 1, _M, "gnss"),
        Signal("longitude_deg", "deg", "i32", 7, -1800000000, 1800000000, 1, _M, "gnss"),
    ),
)

ALARM_STREAM = Stream(
    9,
    "alarm",
    OF_MODULE,
    ALARM,
    0,
    0,
    (
        key("code", "u16", U16_MAX, "node"),
        state("level", "u8", 3, "node"),
        state("stream", "u8", 0xFD, "node"),
        state("signal", "u8", 0xFD, "node"),
        state("position", "u8", 0xFD, "node"),
        Signal("value", "", "i32", 0, -0x7FFFFFFE, 0x7FFFFFFF, 1, _M, "node"),
        Signal("threshold", "", "i32", 0, -0x7FFFFFFE, 0x7FFFFFFF, 1, _M, "node"),
    ),
)

# Codes of the event stream. A code is never reused. BatteryIn and BatteryOut are OCPP 2.1 section S terms.
BOOT = 1  # reason: the node's reset cause; count: the boot number
BATTERY_IN = 2  # a module's code appeared in the frame's bay; reason: `catalogue_text.CAME` and its like
BATTERY_OUT = 3  # a module's code left the frame's bay; reason: `LEFT` and its like; duration_s: how long it sat there
FRAMES_DROPPED = 4  # first_seq..last_seq of this journal are lost; reason: a LOSS_ code; count: frames
ROWS_DROPPED = 5  # rows lost before a frame was sealed; reason: a LOSS_ code; count: rows
CLOCK_STEP = 6  # the node's clock was set; reason: the new time quality
CONFIGURATION = 7  # a configuration was applied (reason 0) or refused (reason 1)

# The code of the alarm stream that is not in `alarm_table.py`, for it has no limit: a module fell silent in a place
# that it cannot have left.
MODULE_LOST = 14

# Reasons for a loss (event signal `reason` of FRAMES_DROPPED and ROWS_DROPPED; the gateway's loss table).
LOSS_JOURNAL_FULL = 1
LOSS_JOURNAL_DAMAGED = 2
LOSS_POWER_CUT = 3
LOSS_NO_MEMORY = 4
LOSS_JOURNAL_FORMATTED = 5

# Where a time comes from, best last (header field `time quality`).
TIME_NONE = 0
TIME_ESTIMATED = 1
TIME_GATEWAY = 2
TIME_NTP = 3
TIME_GNSS = 4


def columns(signals: "tuple[Signal, ...] | Columns") -> Columns:
    """Return a stream's signals by columns, made of them where it was not bundled that way."""
    if isinstance(signals, Columns):
        return signals
    return Columns(
        " " + " ".join([s.name for s in signals]) + " ",
        "".join([FORMATS[s.format][0] for s in signals]),
        tuple([s.minimum for s in signals]),
        tuple([s.maximum for s in signals]),
        tuple([s.deadband for s in signals]),
        bytes([i for i in range(len(signals)) if signals[i].kind == KEY]),
    )


def find_signal(stream: Stream, name: str) -> int:
    """Return the place of a signal in its stream's rows. Raises `ValueError`."""
    names: str = columns(stream.signals).names
    place = names.find(" " + name + " ")
    if place < 0:
        raise ValueError("%s has no signal %s" % (stream.name, name))
    return names.count(" ", 0, place + 1) - 1


def struct_format(signals: "tuple[Signal, ...] | Columns") -> str:
    """Return the struct format of one row, without byte-order mark: `i` (time offset, ms) and the signals' codes."""
    return "i" + str(columns(signals).codes)


def row_size(signals: "tuple[Signal, ...] | Columns") -> int:
    """Return the bytes of one row: four for its time offset and the signals'."""
    return struct.calcsize("<" + struct_format(signals))


def not_available(signals: "tuple[Signal, ...] | Columns") -> list[int]:
    """Return a row of codes that say "no value", one a signal."""
    return [CODES[code][0] for code in columns(signals).codes]


def stream_by_id(stream_id: int) -> Stream | None:
    """Return the stream with this id, or None if this catalogue does not know it."""
    return stream_by_name(STREAM_NAMES[stream_id - 1]) if 0 < stream_id <= len(STREAM_NAMES) else None


def stream_by_name(name: str) -> Stream | None:
    """Return the stream with this name, or None if this catalogue does not know it."""
    if name not in STREAM_NAMES:
        return None
    attribute = name.upper()
    if name in ("event", "alarm"):
        attribute += "_STREAM"  # EVENT and ALARM are priorities
    stream: Stream = globals().get(attribute) or _load(attribute)
    return stream


def _load(attribute: str) -> Stream:
    module = __import__("swapline_wire.catalogue_" + _ELSEWHERE[attribute], None, None, (attribute,))
    stream: Stream = getattr(module, attribute)
    globals()[attribute] = stream
    return stream


if not TYPE_CHECKING:

    def __getattr__(name: str) -> "Stream | tuple[Stream, ...]":
        """Find a stream that is in another file, and `STREAMS`, which is all of them."""
        if name == "STREAMS":
            streams = tuple([stream_by_name(known) for known in STREAM_NAMES])
            globals()[name] = streams
            return streams
        if name not in _ELSEWHERE:
            raise AttributeError(name)
        return _load(name)
