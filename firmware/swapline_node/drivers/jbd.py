"""JBD (Jiabaida, Overkill Solar, Xiaoxiang) BMS over UART, 9600 8N1: frames `DD A5 .. 77`.

Source: JBD "general protocol" V4, checked against recorded 4S boards. A frame is DD, register, status, length, data,
the sum of status, length and data subtracted from 0x10000, 77. Read: 03 basic info, 04 cell voltages, 05 hardware name,
A2 barcode (a length byte, then text).
"""

from micropython import const

from swapline_node.bus import BusChecksumError, BusProtocolError, BusRefused
from swapline_wire.catalogue import MODULE

from .bms import BALANCING, CELL_COUNT, KELVIN_TENTHS, PROTECTIONS, SOC, SWITCHES, Bms, u16
from .modbus import RegisterMap

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from swapline_node.bus import Bus

_START = const(0xDD)
_READ = const(0xA5)
_END = const(0x77)
_BASIC = const(0x03)
_CELL = const(0x04)
_HARDWARE = const(0x05)
_BARCODE = const(0xA2)
_HEAD_BYTES = const(4)  # start, register, status, length
_TAIL_BYTES = const(3)  # sum, end

_BASIC_MAP = RegisterMap(
    MODULE,
    0,
    (
        "0 u16 voltage_v 0 0 "
        "1 i16 current_a 0 0 "
        "2 u16 capacity_remaining_ah 0 0 "
        "3 u16 capacity_full_ah 0 0 "
        "4 u16 cycles 0 0 "
    ),
)
_SOC_BYTE = const(19)
_SWITCH_BYTE = const(20)  # bit 0 charge, bit 1 discharge, as in the catalogue
_CELL_COUNT_BYTE = const(21)
_SENSOR_COUNT_BYTE = const(22)
_SENSOR_BYTE = const(23)
_PROTECTION_BITS = const(0x1FFF)  # bits 0 to 12 are the catalogue's; 13 is a charge time-out, the rest unknown


class JbdQuery:
    """A read of one register."""

    def __init__(self, register: int) -> None:
        total = 0x10000 - register
        self.request = bytes((_START, _READ, register, 0, total >> 8 & 0xFF, total & 0xFF, _END))
        self._register = register

    def measure(self, answer: memoryview, count: int) -> int:
        """Return the bytes needed to go on: a head, then what its length byte says."""
        if count < _HEAD_BYTES:
            return _HEAD_BYTES
        if answer[0] != _START:
            return count  # not a frame: let `check` say so at once
        return _HEAD_BYTES + answer[3] + _TAIL_BYTES

    def check(self, answer: memoryview) -> memoryview:
        """Return the data. Raises `BusChecksumError`, `BusProtocolError`, `BusRefused`."""
        end = len(answer) - _TAIL_BYTES
        if answer[0] != _START or end < _HEAD_BYTES or answer[-1] != _END:
            raise BusProtocolError("no frame")
        total = 0
        for i in range(2, end):
            total += answer[i]
        if (total + u16(answer, end)) & 0xFFFF:
            raise BusChecksumError("sum")
        if answer[1] != self._register:
            raise BusProtocolError("register %d" % answer[1])
        if answer[2]:
            raise BusRefused("status %d" % answer[2])
        return answer[_HEAD_BYTES:end]


class Jbd(Bms):
    """One board on its own UART: the protocol has no addresses."""

    has_look = True
    serial_query = JbdQuery(_BARCODE)
    name_query = JbdQuery(_HARDWARE)
    basic_query = JbdQuery(_BASIC)
    cell_query = JbdQuery(_CELL)

    async def read(self, bus: "Bus") -> None:
        """Read cell voltages, then basic info, so that what alarms are about is new. Raises `BusError`."""
        answer = await bus.ask(self.cell_query, self.timeout_ms)
        self.set_cells(answer, 0, len(answer) // 2)
        await self.read_look(bus)

    async def read_look(self, bus: "Bus") -> None:
        """Read basic info: everything but the cells. Raises `BusError`."""
        answer = await bus.ask(self.basic_query, self.timeout_ms)
        if len(answer) < _SENSOR_BYTE or len(answer) < _SENSOR_BYTE + 2 * answer[_SENSOR_COUNT_BYTE]:
            raise bus.protocol_error("basic info of %d bytes" % len(answer))
        values = self.module.values
        _BASIC_MAP.fill(answer, values)
        values[SOC] = answer[_SOC_BYTE] * 10
        values[SWITCHES] = answer[_SWITCH_BYTE] & 3
        values[PROTECTIONS] = u16(answer, 16) & _PROTECTION_BITS
        values[BALANCING] = u16(answer, 12) | u16(answer, 14) << 16  # cells 1 to 16, then 17 to 32
        values[CELL_COUNT] = answer[_CELL_COUNT_BYTE]
        self.set_sensors(answer, _SENSOR_BYTE, answer[_SENSOR_COUNT_BYTE], KELVIN_TENTHS)

    def serial_of(self, answer: memoryview) -> memoryview:
        """Return the barcode, without its length byte where the board sends one."""
        return answer[1:] if len(answer) and answer[0] == len(answer) - 1 else answer

    def name_of(self, answer: memoryview) -> memoryview:
        """Return the hardware's name."""
        return answer
