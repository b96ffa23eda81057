"""Seplos V3 BMS (16 cells) over Modbus RTU, 19200 8N1.

Source: XZH-ElecTech "BMS3.0 Modbus-RTU Protocol", checked against a recorded 16S LFP 330 Ah pack. Blocks: PIA 0x1000
(pack, function 04), PIB 0x1100 (cells, 04), PIC 0x1200 (144 coils, 01), VIA 0x1700 (names and serial numbers, 04).
"""

from swapline_node.bus import BusRefused, BusTimeout
from swapline_wire.catalogue import MODULE

from .bms import (
    BALANCING,
    CELL_OVER_VOLTAGE,
    CELL_SPREAD,
    CELL_UNDER_VOLTAGE,
    CHARGE_ON,
    CHARGE_OVER_CURRENT,
    CHARGE_OVER_TEMPERATURE,
    CHARGE_UNDER_TEMPERATURE,
    DISCHARGE_ON,
    DISCHARGE_OVER_CURRENT,
    DISCHARGE_OVER_TEMPERATURE,
    DISCHARGE_UNDER_TEMPERATURE,
    FRONT_END_FAULT,
    HEATER_ON,
    KELVIN_TENTHS,
    MOSFET_OVER_TEMPERATURE,
    OTHER_PROTECTION,
    PACK_OVER_VOLTAGE,
    PACK_UNDER_VOLTAGE,
    PROTECTIONS,
    SENSOR_FAULT,
    SHORT_CIRCUIT,
    SWITCHES,
    Bms,
    mapped_bits,
)
from .modbus import READ_COILS, READ_INPUT_REGISTERS, Register, RegisterMap, read_bits, read_registers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

PACK = 0x1000
PACK_REGISTERS = 0x11
CELL = 0x1100
CELL_REGISTERS = 0x1A
STATE = 0x1200
STATE_COILS = 0x90
VERSION = 0x1700
VERSION_REGISTERS = 0x33
CELLS_IN_PACK = 16
SENSORS_IN_PACK = 4  # the next four registers are reserved and read 0 degC
STATE_RETRY_POLLS = 30  # a pack that does not give its state is asked again after so many polls

PACK_MAP = (
    Register(0x1000, "u16", "voltage_v", 0, 0),
    Register(0x1001, "i16", "current_a", 0, 0),
    Register(0x1002, "u16", "capacity_remaining_ah", 0, 0),
    Register(0x1003, "u16", "capacity_full_ah", 0, 0),
    Register(0x1004, "u16", "charge_out_ah", 3, 0),  # in 10 Ah
    Register(0x1005, "u16", "soc_pct", 0, 0),
    Register(0x1006, "u16", "soh_pct", 0, 0),
    Register(0x1007, "u16", "cycles", 0, 0),
)
CELL_MAP = (
    Register(0x1118, "u16", "temperature_ambient_c", 0, KELVIN_TENTHS),
    Register(0x1119, "u16", "temperature_mosfet_c", 0, KELVIN_TENTHS),
)

# Byte of the state block -> what its bits 0..7 mean among the common protections (0: an alarm or a mode).
PROTECTION_BYTES = (
    (9, (0, CELL_OVER_VOLTAGE, 0, CELL_UNDER_VOLTAGE, 0, PACK_OVER_VOLTAGE, 0, PACK_UNDER_VOLTAGE)),  # TB02
    (
        10,  # TB03
        (
            0,
            CHARGE_OVER_TEMPERATURE,
            0,
            CHARGE_UNDER_TEMPERATURE,
            0,
            DISCHARGE_OVER_TEMPERATURE,
            0,
            DISCHARGE_UNDER_TEMPERATURE,
        ),
    ),
    (11, (0, OTHER_PROTECTION, 0, OTHER_PROTECTION, 0, MOSFET_OVER_TEMPERATURE)),  # TB04: ambient, power stage
    (
        12,  # TB05: first and second level
        (
            0,
            CHARGE_OVER_CURRENT,
            CHARGE_OVER_CURRENT,
            0,
            DISCHARGE_OVER_CURRENT,
            DISCHARGE_OVER_CURRENT,
            SHORT_CIRCUIT,
        ),
    ),
    (13, (SHORT_CIRCUIT, 0, CHARGE_OVER_CURRENT, DISCHARGE_OVER_CURRENT)),  # TB16: latched
    (14, (0, 0, 0, OTHER_PROTECTION, CELL_SPREAD)),  # TB06: low SoC, cell difference
    (
        17,  # TB15: hardware
        (
            SENSOR_FAULT,
            FRONT_END_FAULT,
            OTHER_PROTECTION,
            OTHER_PROTECTION,
            OTHER_PROTECTION,
            SENSOR_FAULT,
            OTHER_PROTECTION,
            OTHER_PROTECTION,
        ),
    ),
)
SWITCH_BYTE = 15  # TB07
SWITCH_BITS = (DISCHARGE_ON, CHARGE_ON, 0, HEATER_ON)
BALANCING_BYTE = 6  # cells 1 to 8, then 9 to 16


class SeplosV3(Bms):
    """One pack. `address` is its Modbus address, 0 for a single one."""

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(sampler, clock, counters, device_config)
        self._pack_query = read_registers(self.address, READ_INPUT_REGISTERS, PACK, PACK_REGISTERS)
        self._cell_query = read_registers(self.address, READ_INPUT_REGISTERS, CELL, CELL_REGISTERS)
        self._state_query = read_bits(self.address, READ_COILS, STATE, STATE_COILS)
        self.serial_query = read_registers(self.address, READ_INPUT_REGISTERS, VERSION, VERSION_REGISTERS)
        self.name_query = self.serial_query
        self._pack_map = RegisterMap(MODULE, PACK, PACK_MAP)
        self._cell_map = RegisterMap(MODULE, CELL, CELL_MAP)
        self._state_skips = 0

    async def read(self, bus: "Bus") -> None:
        """Read pack, cells and state. Raises `BusError`."""
        values = self.module.values
        self._pack_map.fill(await bus.ask(self._pack_query, self.timeout_ms), values)
        answer = await bus.ask(self._cell_query, self.timeout_ms)
        self._cell_map.fill(answer, values)
        self.set_cells(answer, 0, CELLS_IN_PACK)
        self.set_sensors(answer, 2 * CELLS_IN_PACK, SENSORS_IN_PACK, KELVIN_TENTHS)
        if self._state_skips:
            self._state_skips -= 1
        else:
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
        except (BusRefused, BusTimeout):
            self._state_skips = STATE_RETRY_POLLS
            return
        protections = 0
        for byte, table in PROTECTION_BYTES:
            protections |= mapped_bits(answer[byte], table)
        values = self.module.values
        values[PROTECTIONS] = protections
        values[SWITCHES] = mapped_bits(answer[SWITCH_BYTE], SWITCH_BITS)
        values[BALANCING] = answer[BALANCING_BYTE] | answer[BALANCING_BYTE + 1] << 8
