"""Slot charger over Modbus RTU. Source: docs/slot-charger.md, which this table repeats (a test compares them)."""

from swapline_wire.catalogue import SLOT

from .modbus import RegisterMap
from .refreshed import HEADER_REGISTERS, Refreshed


class SlotCharger(Refreshed):
    """The charger of one slot; `bay` is the slot."""

    STREAMS = (SLOT,)
    STREAM = SLOT
    MAP_ID = 0x5343  # "SC"
    TABLE = (
        "0x0004 u16 occupied 0 0 "
        "0x0005 u16 locked 0 0 "
        "0x0006 u16 charger_state 0 0 "
        "0x0007 u16 charger_voltage_v 0 0 "
        "0x0008 u16 charger_current_a 0 0 "
        "0x0009 u16 charger_power_kw 0 0 "
        "0x000A u16 current_limit_a 0 0 "
        "0x000B u32 energy_kwh 0 0 "
        "0x000D i16 charger_temperature_c 0 0 "
        "0x000E u16 faults 0 0 "
        "0x000F u32 session_duration_s 0 0 "
        "0x0011 u32 request_id 0 0 "
    )
    MAP = RegisterMap(SLOT, HEADER_REGISTERS, TABLE, has_codes=True)
