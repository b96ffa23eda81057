"""JBD UP16S packs over RS-485, 9600 8N1: function 0x78 in frames that end with a Modbus CRC.

Source: a recorded bus of two packs, and syssi's esphome-jbd-bms for the meaning of the fields. A request is address,
78, first and last register address, 0000, CRC; an answer repeats address, function and range, then a length word, data,
CRC.
"""

from swapline_node.bus import BusProtocolError, BusRefused
from swapline_wire.catalogue import MODULE

from .bms import (
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
    MOSFET_OVER_TEMPERATURE,
    OTHER_PROTECTION,
    PACK_OVER_VOLTAGE,
    PACK_UNDER_VOLTAGE,
    PRECHARGE_ON,
    PROTECTIONS,
    SENSOR_FAULT,
    SHORT_CIRCUIT,
    SWITCHES,
    Bms,
    mapped_bits,
    u16,
)
from .modbus import Register, RegisterMap, check_crc, with_crc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

FUNCTION = 0x78
STATUS = 0x1000
STATUS_END = 0x10A0
NUMBERS = 0x1C00
NUMBERS_END = 0x1CA0
HEAD_BYTES = 8  # address, function, range, length
EXCEPTION_BYTES = 5
SENSOR_ZERO = -500  # temperatures are sent as 0.1 degrees above -50 degC
CURRENT_ZERO = -300000  # currents as 0.01 A above -3000 A
CELL_COUNT_BYTE = 66
CELL_BYTE = 68
NAME_BYTES = 30
SERIAL_BYTE = 16

STATUS_MAP = (  # addresses here are words of the answer's data
    Register(0, "u16", "voltage_v", 0, 0),
    Register(2, "u32", "current_a", 0, CURRENT_ZERO),
    Register(4, "u16", "soc_pct", -1, 0),
    Register(5, "u16", "capacity_remaining_ah", 0, 0),
    Register(6, "u16", "capacity_full_ah", 0, 0),
    Register(8, "u16", "temperature_mosfet_c", 0, SENSOR_ZERO),
    Register(9, "u16", "temperature_ambient_c", 0, SENSOR_ZERO),
    Register(11, "u16", "soh_pct", 1, 0),
    Register(18, "u16", "cycles", 0, 0),
)
PROTECTION_BYTE = 24
PROTECTION_BITS = (
    CELL_OVER_VOLTAGE,
    CELL_UNDER_VOLTAGE,
    PACK_OVER_VOLTAGE,
    PACK_UNDER_VOLTAGE,
    CHARGE_OVER_CURRENT,  # level 1
    CHARGE_OVER_CURRENT,  # level 2
    DISCHARGE_OVER_CURRENT,
    DISCHARGE_OVER_CURRENT,
    CHARGE_OVER_TEMPERATURE,
    CHARGE_UNDER_TEMPERATURE,
    DISCHARGE_OVER_TEMPERATURE,
    DISCHARGE_UNDER_TEMPERATURE,
    MOSFET_OVER_TEMPERATURE,
    OTHER_PROTECTION,  # ambient over-temperature
    OTHER_PROTECTION,  # ambient under-temperature
    CELL_SPREAD,
    OTHER_PROTECTION,  # temperature spread
    OTHER_PROTECTION,  # SoC too low
    SHORT_CIRCUIT,
    SENSOR_FAULT,  # a cell's wire is off
    OTHER_PROTECTION,  # temperature drop
    OTHER_PROTECTION,  # charge MOSFET
    OTHER_PROTECTION,  # discharge MOSFET
    OTHER_PROTECTION,  # current limiter
    OTHER_PROTECTION,  # aerosol
    0,  # full: the normal end of charging
    FRONT_END_FAULT,
)
SWITCH_BYTE = 33
SWITCH_BITS = (DISCHARGE_ON, CHARGE_ON, PRECHARGE_ON, HEATER_ON)


class Up16sQuery:
    """A read of one range of registers."""

    def __init__(self, address: int, first: int, last: int) -> None:
        body = bytes((address, FUNCTION, first >> 8, first & 0xFF, last >> 8, last & 0xFF, 0, 0))
        self.request = with_crc(body)

    def measure(self, answer: memoryview, count: int) -> int:
        """Return the bytes needed to go on: a head, then what its length word says."""
        if count < EXCEPTION_BYTES:
            return EXCEPTION_BYTES
        if answer[1] & 0x80 or answer[1] != FUNCTION:
            return max(count, EXCEPTION_BYTES)
        if count < HEAD_BYTES:
            return HEAD_BYTES
        return HEAD_BYTES + u16(answer, 6) + 2

    def check(self, answer: memoryview) -> memoryview:
        """Return the data. Raises `BusChecksumError`, `BusProtocolError`, `BusRefused`."""
        check_crc(answer)
        if answer[0] != self.request[0] or answer[1] & 0x7F != FUNCTION:
            raise BusProtocolError("answer from %d, function %d" % (answer[0], answer[1]))
        if answer[1] & 0x80:
            raise BusRefused("exception %d" % answer[2])
        if len(answer) < HEAD_BYTES + 2 or answer[2:6] != self.request[2:6]:
            raise BusProtocolError("another range")
        return answer[HEAD_BYTES:-2]


class JbdUp16s(Bms):
    """One pack of a bus."""

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(sampler, clock, counters, device_config)
        self.serial_query = Up16sQuery(self.address, NUMBERS, NUMBERS_END)
        self.name_query = Up16sQuery(self.address, STATUS, STATUS_END)
        self._map = RegisterMap(MODULE, 0, STATUS_MAP)

    async def read(self, bus: "Bus") -> None:
        """Read the pack's status. Raises `BusError`."""
        answer = await bus.ask(self.name_query, self.timeout_ms)
        sensor_count_byte = self._sensor_count_byte(answer)
        if not sensor_count_byte:
            raise bus.protocol_error("status of %d bytes" % len(answer))
        values = self.module.values
        self._map.fill(answer, values)
        values[PROTECTIONS] = mapped_bits(
            u16(answer, PROTECTION_BYTE) << 16 | u16(answer, PROTECTION_BYTE + 2), PROTECTION_BITS
        )
        values[SWITCHES] = mapped_bits(answer[SWITCH_BYTE], SWITCH_BITS)
        self.set_cells(answer, CELL_BYTE, u16(answer, CELL_COUNT_BYTE))
        self.set_sensors(answer, sensor_count_byte + 2, u16(answer, sensor_count_byte), SENSOR_ZERO)

    def serial_of(self, answer: memoryview) -> memoryview:
        """Return the BMS's serial number."""
        return answer[SERIAL_BYTE : SERIAL_BYTE + NAME_BYTES]

    def name_of(self, answer: memoryview) -> memoryview:
        """Return the model's name, which follows the sensors."""
        sensor_count_byte = self._sensor_count_byte(answer)
        if not sensor_count_byte:
            return answer[:0]
        start = sensor_count_byte + 2 + 2 * u16(answer, sensor_count_byte) + 6
        return answer[start : start + NAME_BYTES]

    def _sensor_count_byte(self, answer: memoryview) -> int:
        """Return where a status says how many sensors it has; 0 if the answer is too short for what it announces."""
        if len(answer) < CELL_BYTE:
            return 0
        place = CELL_BYTE + 2 * u16(answer, CELL_COUNT_BYTE)
        if len(answer) < place + 2 or len(answer) < place + 2 + 2 * u16(answer, place):
            return 0
        return place
