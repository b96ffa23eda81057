"""The catalogue's streams that only a station has."""

from .catalogue import MEASUREMENT, OF_BAY, OF_NODE, ROUTINE, U16_MAX, U32_MAX, Signal, Stream, state, total

_M = MEASUREMENT

SLOT = Stream(
    5,
    "slot",
    OF_BAY,
    ROUTINE,
    1000,
    60000,
    (
        state("occupied", "u8", 1, "charger"),
        state("locked", "u8", 1, "charger"),
        state("charger_state", "u8", 5, "charger"),
        Signal("charger_voltage_v", "V", "u16", 2, 0, U16_MAX, 20, _M, "charger"),
        Signal("charger_current_a", "A", "u16", 2, 0, U16_MAX, 50, _M, "charger"),
        Signal("charger_power_kw", "kW", "u16", 3, 0, 60000, 50, _M, "charger"),
        Signal("current_limit_a", "A", "u16", 2, 0, U16_MAX, 50, _M, "charger"),
        total("energy_kwh", "kW.h", 3, 50, "charger"),
        Signal("charger_temperature_c", "degC", "i16", 1, -500, 2000, 10, _M, "charger"),
        state("faults", "u16", U16_MAX, "charger"),
        Signal("session_duration_s", "s", "u32", 0, 0, U32_MAX, 30, _M, "charger"),
        state("request_id", "u32", U32_MAX, "charger"),
    ),
)

METER = Stream(
    6,
    "meter",
    OF_NODE,
    ROUTINE,
    1000,
    60000,
    (
        Signal("voltage_l1_v", "V", "u16", 2, 0, 60000, 50, _M, "meter"),
        Signal("voltage_l2_v", "V", "u16", 2, 0, 60000, 50, _M, "meter"),
        Signal("voltage_l3_v", "V", "u16", 2, 0, 60000, 50, _M, "meter"),
        Signal("current_l1_a", "A", "i32", 3, -10000000, 10000000, 200, _M, "meter"),
        Signal("current_l2_a", "A", "i32", 3, -10000000, 10000000, 200, _M, "meter"),
        Signal("current_l3_a", "A", "i32", 3, -10000000, 10000000, 200, _M, "meter"),
        Signal("power_kw", "kW", "i32", 3, -10000000, 10000000, 100, _M, "meter"),
        Signal("power_l1_kw", "kW", "i32", 3, -10000000, 10000000, 100, _M, "meter"),
        Signal("power_l2_kw", "kW", "i32", 3, -10000000, 10000000, 100, _M, "meter"),
        Signal("power_l3_kw", "kW", "i32", 3, -10000000, 10000000, 100, _M, "meter"),
        Signal("reactive_power_kvar", "kvar", "i32", 3, -10000000, 10000000, 100, _M, "meter"),
        Signal("power_factor", "", "i16", 3, -1000, 1000, 20, _M, "meter"),
        Signal("frequency_hz", "Hz", "u16", 2, 4000, 7000, 5, _M, "meter"),
        total("energy_import_kwh", "kW.h", 2, 5, "meter"),
        total("energy_export_kwh", "kW.h", 2, 5, "meter"),
    ),
)
