"""The charger of one slot: docs/slot-charger.md, simulated from a slot."""

from collections.abc import Callable

from swapline_bench.faces.register_map import Field, MapUnit, steady_clock_s
from swapline_bench.station import Slot

MAGIC = 0x5343
BAUDRATE = 19200
FIELDS = (
    Field(0x04, "occupied", "u16", 0),
    Field(0x05, "locked", "u16", 0),
    Field(0x06, "charger_state", "u16", 0),
    Field(0x07, "charger_voltage_v", "u16", 2),
    Field(0x08, "charger_current_a", "u16", 2),
    Field(0x09, "charger_power_kw", "u16", 3),
    Field(0x0A, "current_limit_a", "u16", 2),
    Field(0x0B, "energy_kwh", "u32", 3),
    Field(0x0D, "charger_temperature_c", "i16", 1),
    Field(0x0E, "faults", "u16", 0),
    Field(0x0F, "session_duration_s", "u32", 0),
    Field(0x11, "request_id", "u32", 0),
)


class SlotCharger(MapUnit):
    """The charger answers whether a module sits in its slot or not."""

    def __init__(self, slot: Slot, *, clock_s: Callable[[], float] = steady_clock_s) -> None:
        super().__init__(MAGIC, FIELDS, lambda name: getattr(slot, name), clock_s)
