"""Vehicle controller over Modbus RTU.

Source: docs/vehicle-controller.md, which this table repeats (a test compares them).
"""

from swapline_wire.catalogue import VEHICLE

from .modbus import RegisterMap
from .refreshed import HEADER_REGISTERS, Refreshed


class Vcu(Refreshed):
    """A van's vehicle controller."""

    STREAMS = (VEHICLE,)
    STREAM = VEHICLE
    MAP_ID = 0x5356  # "SV"
    TABLE = (
        "0x0004 u16 speed_kmh 0 0 "
        "0x0005 u32 odometer_km 0 0 "
        "0x0007 u16 drive_mode 0 0 "
        "0x0008 u16 gear 0 0 "
        "0x0009 u16 doors 0 0 "
        "0x000A u16 cargo_lock 0 0 "
        "0x000B u16 auxiliary_voltage_v 0 0 "
        "0x000C u16 traction_voltage_v 0 0 "
        "0x000D i32 traction_current_a 0 0 "
        "0x000F u16 soc_pct 0 0 "
        "0x0010 u16 range_km 0 0 "
        "0x0011 u16 accelerator_pct 0 0 "
        "0x0012 u16 brake_pct 0 0 "
        "0x0013 i32 motor_torque_nm 0 0 "
        "0x0015 i32 motor_speed_rpm 0 0 "
        "0x0017 i16 motor_temperature_c 0 0 "
        "0x0018 i16 inverter_temperature_c 0 0 "
        "0x0019 i16 acceleration_mps2 0 0 "
        "0x001A i16 ambient_temperature_c 0 0 "
        "0x001B i16 cabin_temperature_c 0 0 "
        "0x001C i16 cargo_temperature_c 0 0 "
        "0x001D u16 heating_power_kw 0 0 "
        "0x001E u16 aircon_power_kw 0 0 "
        "0x001F u16 insulation_kohm 0 0 "
        "0x0020 u16 cargo_mass_kg 0 0 "
        "0x0021 u32 faults 0 0 "
        "0x0023 u32 request_id 0 0 "
    )
    MAP = RegisterMap(VEHICLE, HEADER_REGISTERS, TABLE, has_codes=True)
