"""Seplos V3 BMS (16 cells) over Modbus RTU, 19200 8N1.

Source: XZH-ElecTech "BMS3.0 Modbus-RTU Protocol", checked against a recorded 16S LFP 330 Ah pack. Blocks: PIA 0x1000
(pack, function 04), PIB 0x1100 (cells, 04), PIC 0x1200 (144 coils, 01), VIA 0x1700 (names and serial numbers, 04).
"""

from micropython import const

from swapline_node.bus import BusRefused, BusTimeout
from swapline_wire.catalogue import MODULE

from .bms import BALANCING, CELL_COUNT, KELVIN_TENTHS, PROTECTIONS, SWITCHES, Bms, mapped_bits
from .modbus import READ_COILS, READ_INPUT_REGISTERS, ModbusQuery, RegisterMap, read

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

_PACK = const(0x1000)
_PACK_REGISTERS = const(0x11)
_CELL = const(0x1100)
_CELL_REGISTERS = const(0x1A)
_STATE = const(0x1200)
_STATE_COILS = const(0x90)
_VERSION = const(0x1700)
_VERSION_REGISTERS = const(0x33)
_CELLS_IN_PACK = const(16)
_SENSORS_IN_PACK = const(4)  # the next four registers are reserved and read 0 degC
_STATE_MISSES_MAX = const(3)  # a pack that gives everything but its state so often has none
_STATE_RETRY_POLLS = const(30)  # a pack that does not give its state is asked again after so many polls

_PACK_MAP = RegisterMap(
    MODULE,
    _PACK,
    (
        "0x1000 u16 voltage_v 0 0 "
        "0x1001 i16 current_a 0 0 "
        "0x1002 u16 capacity_remaining_ah 0 0 "
        "0x1003 u16 capacity_full_ah 0 0 "
        "0x1004 u16 charge_out_ah 3 0 "  # in 10 Ah
        "0x1005 u16 soc_pct 0 0 "
        "0x1006 u16 soh_pct 0 0 "
        "0x1007 u16 cycles 0 0 "
    ),
)
# What the pack says of its cells and sensors by itself: a look does not read each of them.
_LOOK_MAP = RegisterMap(
    MODULE,
    _PACK,
    (
        "0x100A u16 cell_voltage_max_v 0 0 "
        "0x100B u16 cell_voltage_min_v 0 0 "
        "0x100C u16 temperature_max_c 0 -2731 "  # KELVIN_TENTHS
        "0x100D u16 temperature_min_c 0 -2731 "
    ),
)
_CELL_MAP = RegisterMap(
    MODULE,
    _CELL,
    (
        "0x1118 u16 temperature_ambient_c 0 -2731 "  # KELVIN_TENTHS
        "0x1119 u16 temperature_mosfet_c 0 -2731 "
    ),
)

# Byte of the state block, and for its bits 0 to 7 the number of the common protection. Alarms have none.
PROTECTION_BYTES = (
    (9, b"\xff\x00\xff\x01\xff\x02\xff\x03"),  # TB02: cell over, under; pack over, under
    (10, b"\xff\x04\xff\x05\xff\x06\xff\x07"),  # TB03: charge over, under; discharge over, under
    (11, b"\xff\x11\xff\x11\xff\x0e"),  # TB04: ambient over, under; power stage
    (12, b"\xff\x08\x08\xff\x09\x09\x0a"),  # TB05: charge, discharge (two levels each); short circuit
    (13, b"\x0a\xff\x08\x09"),  # TB16, latched: short circuit, charge, discharge
    (14, b"\xff\xff\xff\x11\x0d"),  # TB06: low SoC, cell difference
    (17, b"\x10\x0b\x11\x11\x11\x10\x11\x11"),  # TB15: sensor, front end, FETs, cell, broken wire, key, aerosol
)
_SWITCH_BYTE = const(15)  # TB07: discharge FET, charge FET, current limiter, heater
SWITCH_BITS = b"\x01\x00\xff\x03"
_BALANCING_BYTE = const(6)  # cells 1 to 8, then 9 to 16


_queries: "dict[int, tuple[ModbusQuery, ModbusQuery, ModbusQuery, ModbusQuery]]" = {}


def _queries_to(address: int) -> "tuple[ModbusQuery, ModbusQuery, ModbusQuery, ModbusQuery]":
    """Return the queries for pack, cells, state and version: data, which packs on lines of their own share."""
    if address not in _queries:
        _queries[address] = (
            read(address, READ_INPUT_REGISTERS, _PACK, _PACK_REGISTERS),
            read(address, READ_INPUT_REGISTERS, _CELL, _CELL_REGISTERS),
            read(address, READ_COILS, _STATE, _STATE_COILS),
            read(address, READ_INPUT_REGISTERS, _VERSION, _VERSION_REGISTERS),
        )
    return _queries[address]


class SeplosV3(Bms):
    """One pack. `address` is its Modbus address, 0 for a single one."""

    has_look = True

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(sampler, clock, counters, device_config)
        self._pack_query, self._cell_query, self._state_query, self.serial_query = _queries_to(self.address)
        self.name_query = self.serial_query
        self._state_skips = 0
        self._state_misses = 0
        self._has_state = False  # it has given its state before

    async def read(self, bus: "Bus") -> None:
        """Read pack, cells and state. Raises `BusError`."""
        values = self.module.values
        _PACK_MAP.fill(await bus.ask(self._pack_query, self.timeout_ms), values)
        answer = await bus.ask(self._cell_query, self.timeout_ms)
        _CELL_MAP.fill(answer, values)
        self.set_cells(answer, 0, _CELLS_IN_PACK)
        self.set_sensors(answer, 2 * _CELLS_IN_PACK, _SENSORS_IN_PACK, KELVIN_TENTHS)
        if self._state_skips:
            self._state_skips -= 1
        else:
            await self._read_state(bus)

    async def read_look(self, bus: "Bus") -> None:
        """Read pack and state. Raises `BusError`."""
        values = self.module.values
        answer = await bus.ask(self._pack_query, self.timeout_ms)
        _PACK_MAP.fill(answer, values)
        _LOOK_MAP.fill(answer, values)
        values[CELL_COUNT] = _CELLS_IN_PACK
        if not self._state_skips:
            await self._read_state(bus)

    def serial_of(self, answer: memoryview) -> memoryview:
        """Return the pack's serial number, else the BMS's."""
        return answer[72:102] if answer[72] else answer[42:72]

    def name_of(self, answer: memoryview) -> memoryview:
        """Return the device's name."""
        return answer[20:40]

    async def _read_state(self, bus: "Bus") -> None:
        """Read the state coils. Some firmwares do not have them: their packs have no protections and switches then."""
        try:
            answer = await bus.ask(self._state_query, self.timeout_ms)
        except (BusRefused, BusTimeout) as error:
            self._state_misses += 1
            is_lacking = isinstance(error, BusRefused) and not self._has_state
            if self._state_misses < _STATE_MISSES_MAX and not is_lacking:
                raise  # one answer that goes wrong must not hide protections for half a minute
            self._state_skips = _STATE_RETRY_POLLS
            return
        self._state_misses = 0
        self._has_state = True
        protections = 0
        for byte, table in PROTECTION_BYTES:
            protections |= mapped_bits(answer[byte], table)
        values = self.module.values
        values[PROTECTIONS] = protections
        values[SWITCHES] = mapped_bits(answer[_SWITCH_BYTE], SWITCH_BITS)
        values[BALANCING] = answer[_BALANCING_BYTE] | answer[_BALANCING_BYTE + 1] << 8
