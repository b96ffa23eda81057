"""JBD UP16S packs over RS-485, 9600 8N1: function 0x78 in frames that end with a Modbus CRC.

Source: a recorded bus of two packs, and syssi's esphome-jbd-bms for the meaning of the fields. A request is address,
78, first and last register address, 0000, CRC; an answer repeats address, function and range, then a length word, data,
CRC.
"""

from micropython import const

from swapline_node.bus import BusProtocolError, BusRefused
from swapline_wire.catalogue import MODULE

from .bms import PROTECTIONS, SWITCHES, Bms, mapped_bits, u16
from .modbus import RegisterMap, check_crc, with_crc

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

_FUNCTION = const(0x78)
_STATUS = const(0x1000)
_STATUS_END = const(0x10A0)
_NUMBERS = const(0x1C00)
_NUMBERS_END = const(0x1CA0)
_HEAD_BYTES = const(8)  # address, function, range, length
_EXCEPTION_BYTES = const(5)
_SENSOR_ZERO = const(-500)  # temperatures are sent as 0.1 degrees above -50 degC
_CELL_COUNT_BYTE = const(66)
_CELL_BYTE = const(68)
_NAME_BYTES = const(30)
_SERIAL_BYTE = const(16)

# Addresses here are words of the answer's data.
_STATUS_MAP = RegisterMap(
    MODULE,
    0,
    (
        "0 u16 voltage_v 0 0 "
        "2 u32 current_a 0 -300000 "  # in 0.01 A above -3000 A
        "4 u16 soc_pct -1 0 "
        "5 u16 capacity_remaining_ah 0 0 "
        "6 u16 capacity_full_ah 0 0 "
        "8 u16 temperature_mosfet_c 0 -500 "
        "9 u16 temperature_ambient_c 0 -500 "
        "11 u16 soh_pct 1 0 "
        "18 u16 cycles 0 0 "
    ),
)
_PROTECTION_BYTE = const(24)
PROTECTION_BITS = (
    b"\x00\x01\x02\x03"  # cell over, under; pack over, under
    b"\x08\x08\x09\x09"  # charge over-current, discharge over-current (two levels each)
    b"\x04\x05\x06\x07"  # charge over, under temperature; discharge over, under
    b"\x0e\x11\x11\x0d"  # MOSFET; ambient over, under; cell spread
    b"\x11\x11\x0a\x10"  # temperature spread; SoC too low; short circuit; a cell's wire is off
    b"\x11\x11\x11\x11"  # temperature drop; charge MOSFET; discharge MOSFET; current limiter
    b"\x11\xff\x0b"  # aerosol; full (the normal end of charging); front end
)
_SWITCH_BYTE = const(33)
SWITCH_BITS = b"\x01\x00\x02\x03"  # discharge, charge, pre-charge, heater


class Up16sQuery:
    """A read of one range of registers."""

    def __init__(self, address: int, first: int, last: int) -> None:
        body = bytes((address, _FUNCTION, first >> 8, first & 0xFF, last >> 8, last & 0xFF, 0, 0))
        self.request = with_crc(body)

    def measure(self, answer: memoryview, count: int) -> int:
        """Return the bytes needed to go on: a head, then what its length word says."""
        if count < _EXCEPTION_BYTES:
            return _EXCEPTION_BYTES
        if answer[1] & 0x80 or answer[1] != _FUNCTION:
            return max(count, _EXCEPTION_BYTES)
        if count < _HEAD_BYTES:
            return _HEAD_BYTES
        return _HEAD_BYTES + u16(answer, 6) + 2

    def check(self, answer: memoryview) -> memoryview:
        """Return the data. Raises `BusChecksumError`, `BusProtocolError`, `BusRefused`."""
        check_crc(answer)
        if answer[0] != self.request[0] or answer[1] & 0x7F != _FUNCTION:
            raise BusProtocolError("answer from %d, function %d" % (answer[0], answer[1]))
        if answer[1] & 0x80:
            raise BusRefused("exception %d" % answer[2])
        if len(answer) < _HEAD_BYTES + 2 or answer[2:6] != self.request[2:6]:
            raise BusProtocolError("another range")
        return answer[_HEAD_BYTES:-2]


class JbdUp16s(Bms):
    """One pack of a bus."""

    has_look = True

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(sampler, clock, counters, device_config)
        self.serial_query = Up16sQuery(self.address, _NUMBERS, _NUMBERS_END)
        self.name_query = Up16sQuery(self.address, _STATUS, _STATUS_END)

    async def read(self, bus: "Bus") -> None:
        """Read the pack's status. Raises `BusError`."""
        answer = await bus.ask(self.name_query, self.timeout_ms)
        sensor_count_byte = self._sensor_count_byte(answer)
        if not sensor_count_byte:
            raise bus.protocol_error("status of %d bytes" % len(answer))
        values = self.module.values
        _STATUS_MAP.fill(answer, values)
        values[PROTECTIONS] = mapped_bits(
            u16(answer, _PROTECTION_BYTE) << 16 | u16(answer, _PROTECTION_BYTE + 2), PROTECTION_BITS
        )
        values[SWITCHES] = mapped_bits(answer[_SWITCH_BYTE], SWITCH_BITS)
        self.set_cells(answer, _CELL_BYTE, u16(answer, _CELL_COUNT_BYTE))
        self.set_sensors(answer, sensor_count_byte + 2, u16(answer, sensor_count_byte), _SENSOR_ZERO)

    def serial_of(self, answer: memoryview) -> memoryview:
        """Return the BMS's serial number."""
        return answer[_SERIAL_BYTE : _SERIAL_BYTE + _NAME_BYTES]

    def name_of(self, answer: memoryview) -> memoryview:
        """Return the model's name, which follows the sensors."""
        sensor_count_byte = self._sensor_count_byte(answer)
        if not sensor_count_byte:
            return answer[:0]
        start = sensor_count_byte + 2 + 2 * u16(answer, sensor_count_byte) + 6
        return answer[start : start + _NAME_BYTES]

    def _sensor_count_byte(self, answer: memoryview) -> int:
        """Return where a status says how many sensors it has; 0 if the answer is too short for what it announces."""
        if len(answer) < _CELL_BYTE:
            return 0
        place = _CELL_BYTE + 2 * u16(answer, _CELL_COUNT_BYTE)
        if len(answer) < place + 2 or len(answer) < place + 2 + 2 * u16(answer, place):
            return 0
        return place
