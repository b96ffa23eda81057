"""The catalogue's streams that only a van has."""

from .catalogue import MEASUREMENT, OF_NODE, ROUTINE, U16_MAX, U32_MAX, Signal, Stream, state, total

_M = MEASUREMENT

VEHICLE = Stream(
    1,
    "vehicle",
    OF_NODE,
    ROUTINE,
    1000,
    60000,
    (
        Signal("speed_kmh", "km/h", "u16", 2, 0, 25000, 50, _M, "vcu"),
        total("odometer_km", "km", 3, 10, "vcu"),
        state("drive_mode", "u8", 7, "vcu"),
        state("gear", "u8", 3, "vcu"),
        state("doors", "u8", 0xFD, "vcu"),
        state("cargo_lock", "u8", 2, "vcu"),
        Signal("auxiliary_voltage_v", "V", "u16", 2, 0, 4000, 10, _M, "vcu"),
        Signal("traction_voltage_v", "V", "u16", 1, 0, 10000, 10, _M, "vcu"),
        Signal("traction_current_a", "A", "i32", 2, -200000, 200000, 100, _M, "vcu"),
        Signal("soc_pct", "%", "u16", 1, 0, 1000, 5, _M, "vcu"),
        Signal("range_km", "km", "u16", 1, 0, 20000, 10, _M, "vcu"),
        Signal("accelerator_pct", "%", "u16", 2, 0, 10000, 200, _M, "vcu"),
        Signal("brake_pct", "%", "u16", 2, 0, 10000, 200, _M, "vcu"),
        Signal("motor_torque_nm", "N.m", "i32", 2, -500000, 500000, 500, _M, "vcu"),
        Signal("motor_speed_rpm", "rpm", "i32", 0, -20000, 20000, 50, _M, "vcu"),
        Signal("motor_temperature_c", "degC", "i16", 1, -500, 2500, 10, _M, "vcu"),
        Signal("inverter_temperature_c", "degC", "i16", 1, -500, 2500, 10, _M, "vcu"),
        Signal("acceleration_mps2", "m/s2", "i16", 2, -10000, 10000, 50, _M, "vcu"),
        Signal("ambient_temperature_c", "degC", "i16", 2, -5000, 8500, 50, _M, "vcu"),
        Signal("cabin_temperature_c", "degC", "i16", 2, -5000, 8500, 50, _M, "vcu"),
        Signal("cargo_temperature_c", "degC", "i16", 2, -5000, 8500, 50, _M, "vcu"),
        Signal("heating_power_kw", "kW", "u16", 2, 0, 5000, 10, _M, "vcu"),
        Signal("aircon_power_kw", "kW", "u16", 2, 0, 5000, 10, _M, "vcu"),
        Signal("insulation_kohm", "kohm", "u16", 0, 0, U16_MAX, 50, _M, "vcu"),
        Signal("cargo_mass_kg", "kg", "u16", 0, 0, 5000, 10, _M, "vcu"),
        state("faults", "u32", U32_MAX, "vcu"),
        state("request_id", "u32", U32_MAX, "vcu"),
    ),
)

POSITION = Stream(
    2,
    "position",
    OF_NODE,
    ROUTINE,
    1000,
    60000,
    (
        Signal("latitude_deg", "deg", "i32", 7, -900000000, 900000000, 200, _M, "gnss"),
        Signal("longitude_deg", "deg", "i32", 7, -1800000000, 1800000000, 200, _M, "gnss"),
        Signal("altitude_m", "m", "i32", 2, -100000, 2000000, 500, _M, "gnss"),
        Signal("speed_kmh", "km/h", "u16", 2, 0, 50000, 100, _M, "gnss"),
        Signal("heading_deg", "deg", "u16", 2, 0, 36000, 500, _M, "gnss"),
        state("fix_quality", "u8", 8, "gnss"),
        state("fix_mode", "u8", 3, "gnss"),
        Signal("satellites_used", "", "u8", 0, 0, 0xFD, 2, _M, "gnss"),
        Signal("satellites_in_view", "", "u8", 0, 0, 0xFD, 4, _M, "gnss"),
        Signal("hdop", "", "u16", 2, 0, 9999, 50, _M, "gnss"),
        Signal("pdop", "", "u16", 2, 0, 9999, 50, _M, "gnss"),
        Signal("vdop", "", "u16", 2, 0, 9999, 50, _M, "gnss"),
        Signal("snr_max_db", "dB", "u8", 0, 0, 99, 5, _M, "gnss"),
    ),
)
