"""Eastron SDM630 three-phase energy meter over Modbus RTU, 9600 8N1: function 04, every quantity an IEEE 754 single.

Source: Eastron "SDM630-Modbus" protocol, input registers. Two short reads: older meters refuse more than 30 values
at once.
"""

from micropython import const

from swapline_node.driver import Driver
from swapline_wire.catalogue import METER

from .modbus import READ_INPUT_REGISTERS, RegisterMap, read

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

_PHASES = const(0x0000)
_PHASES_REGISTERS = const(18)
_TOTALS = const(0x0034)
_TOTALS_REGISTERS = const(24)

PHASES_TABLE = (
    "0x0000 f32 voltage_l1_v 2 0 "
    "0x0002 f32 voltage_l2_v 2 0 "
    "0x0004 f32 voltage_l3_v 2 0 "
    "0x0006 f32 current_l1_a 3 0 "
    "0x0008 f32 current_l2_a 3 0 "
    "0x000A f32 current_l3_a 3 0 "
    "0x000C f32 power_l1_kw 0 0 "  # W, and the catalogue's kW have three decimals
    "0x000E f32 power_l2_kw 0 0 "
    "0x0010 f32 power_l3_kw 0 0 "
)
TOTALS_TABLE = (
    "0x0034 f32 power_kw 0 0 "
    "0x003C f32 reactive_power_kvar 0 0 "
    "0x003E f32 power_factor 3 0 "
    "0x0046 f32 frequency_hz 2 0 "
    "0x0048 f32 energy_import_kwh 2 0 "
    "0x004A f32 energy_export_kwh 2 0 "
)
_PHASES_MAP = RegisterMap(METER, _PHASES, PHASES_TABLE)
_TOTALS_MAP = RegisterMap(METER, _TOTALS, TOTALS_TABLE)


class Sdm630(Driver):
    """One meter."""

    STREAMS = (METER,)

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(clock, counters, device_config)
        self._source = sampler.source(METER)
        self._phases_query = read(self.address, READ_INPUT_REGISTERS, _PHASES, _PHASES_REGISTERS)
        self._totals_query = read(self.address, READ_INPUT_REGISTERS, _TOTALS, _TOTALS_REGISTERS)

    async def poll(self, bus: "Bus") -> None:
        """Read both blocks and commit them as one row. Raises `BusError`."""
        values = self._source.values
        self._source.clear()
        _PHASES_MAP.fill(await bus.ask(self._phases_query, self.timeout_ms), values)
        _TOTALS_MAP.fill(await bus.ask(self._totals_query, self.timeout_ms), values)
        self._source.commit()
