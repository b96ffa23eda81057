"""The van's controller: docs/vehicle-controller.md, simulated from a van."""

from collections.abc import Callable

from swapline_bench.faces.register_map import Field, MapUnit, steady_clock_s
from swapline_bench.van import Van

MAGIC = 0x5356
BAUDRATE = 19200
FIELDS = (
    Field(0x04, "speed_kmh", "u16", 2),
    Field(0x05, "odometer_km", "u32", 3),
    Field(0x07, "drive_mode", "u16", 0),
    Field(0x08, "gear", "u16", 0),
    Field(0x09, "doors", "u16", 0),
    Field(0x0A, "cargo_lock", "u16", 0),
    Field(0x0B, "auxiliary_voltage_v", "u16", 2),
    Field(0x0C, "traction_voltage_v", "u16", 1),
    Field(0x0D, "traction_current_a", "i32", 2),
    Field(0x0F, "soc_pct", "u16", 1),
    Field(0x10, "range_km", "u16", 1),
    Field(0x11, "accelerator_pct", "u16", 2),
    Field(0x12, "brake_pct", "u16", 2),
    Field(0x13, "motor_torque_nm", "i32", 2),
    Field(0x15, "motor_speed_rpm", "i32", 0),
    Field(0x17, "motor_temperature_c", "i16", 1),
    Field(0x18, "inverter_temperature_c", "i16", 1),
    Field(0x19, "acceleration_mps2", "i16", 2),
    Field(0x1A, "ambient_temperature_c", "i16", 2),
    Field(0x1B, "cabin_temperature_c", "i16", 2),
    Field(0x1C, "cargo_temperature_c", "i16", 2),
    Field(0x1D, "heating_power_kw", "u16", 2),
    Field(0x1E, "aircon_power_kw", "u16", 2),
    Field(0x1F, "insulation_kohm", "u16", 0),
    Field(0x20, "cargo_mass_kg", "u16", 0),
    Field(0x21, "faults", "u32", 0),
    Field(0x23, "request_id", "u32", 0),
)


class Vcu(MapUnit):
    """The controller of one van; without power it does not answer."""

    def __init__(self, van: Van, *, clock_s: Callable[[], float] = steady_clock_s) -> None:
        super().__init__(MAGIC, FIELDS, lambda name: getattr(van, name), clock_s)
        self._van = van

    def is_present(self) -> bool:
        """Say whether a module feeds the van."""
        return self._van.is_powered
