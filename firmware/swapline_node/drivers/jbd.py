"""JBD (Jiabaida, Overkill Solar, Xiaoxiang) BMS over UART, 9600 8N1: frames `DD A5 .. 77`.

Source: JBD "general protocol" V4, checked against recorded 4S boards. A frame is DD, register, status, length, data,
the sum of status, length and data subtracted from 0x10000, 77. Read: 03 basic info, 04 cell voltages, 05 hardware name,
A2 barcode (a length byte, then text).
"""

from swapline_node.bus import BusChecksumError, BusProtocolError, BusRefused
from swapline_wire.catalogue import MODULE

from .bms import BALANCING, KELVIN_TENTHS, PROTECTIONS, SWITCHES, Bms, u16
from .modbus import Register, RegisterMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

START = 0xDD
READ = 0xA5
END = 0x77
BASIC = 0x03
CELL = 0x04
HARDWARE = 0x05
BARCODE = 0xA2
HEAD_BYTES = 4  # start, register, status, length
TAIL_BYTES = 3  # sum, end

BASIC_MAP = (
    Register(0, "u16", "voltage_v", 0, 0),
    Register(1, "i16", "current_a", 0, 0),
    Register(2, "u16", "capacity_remaining_ah", 0, 0),
    Register(3, "u16", "capacity_full_ah", 0, 0),
    Register(4, "u16", "cycles", 0, 0),
)
SOC_BYTE = 19
SWITCH_BYTE = 20  # bit 0 charge, bit 1 discharge, as in the catalogue
SENSOR_COUNT_BYTE = 22
SENSOR_BYTE = 23
PROTECTION_BITS = 0x1FFF  # bits 0 to 12 are the catalogue's; 13 is a charge time-out, the rest unknown


class JbdQuery:
    """A read of one register."""

    def __init__(self, register: int) -> None:
        total = 0x10000 - register
        self.request = bytes((START, READ, register, 0, total >> 8 & 0xFF, total & 0xFF, END))
        self._register = register

    def measure(self, answer: memoryview, count: int) -> int:
        """Return the bytes needed to go on: a head, then what its length byte says."""
        if count < HEAD_BYTES:
            return HEAD_BYTES
        if answer[0] != START:
            return count  # not a frame: let `check` say so at once
        return HEAD_BYTES + answer[3] + TAIL_BYTES

    def check(self, answer: memoryview) -> memoryview:
        """Return the data. Raises `BusChecksumError`, `BusProtocolError`, `BusRefused`."""
        end = len(answer) - TAIL_BYTES
        if answer[0] != START or end < HEAD_BYTES or answer[-1] != END:
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
        return answer[HEAD_BYTES:end]


class Jbd(Bms):
    """One board on its own UART: the protocol has no addresses."""

    serial_query = JbdQuery(BARCODE)
    name_query = JbdQuery(HARDWARE)

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(sampler, clock, counters, device_config)
        self._basic_query = JbdQuery(BASIC)
        self._cell_query = JbdQuery(CELL)
        self._basic_map = RegisterMap(MODULE, 0, BASIC_MAP)
        self._soc = self.module.index("soc_pct")

    async def read(self, bus: "Bus") -> None:
        """Read basic info and cell voltages. Raises `BusError`."""
        answer = await bus.ask(self._basic_query, self.timeout_ms)
        if len(answer) < SENSOR_BYTE or len(answer) < SENSOR_BYTE + 2 * answer[SENSOR_COUNT_BYTE]:
            raise bus.protocol_error("basic info of %d bytes" % len(answer))
        values = self.module.values
        self._basic_map.fill(answer, values)
        values[self._soc] = answer[SOC_BYTE] * 10
        values[SWITCHES] = answer[SWITCH_BYTE] & 3
        values[PROTECTIONS] = u16(answer, 16) & PROTECTION_BITS
        values[BALANCING] = u16(answer, 12) | u16(answer, 14) << 16  # cells 1 to 16, then 17 to 32
        self.set_sensors(answer, SENSOR_BYTE, answer[SENSOR_COUNT_BYTE], KELVIN_TENTHS)
        answer = await bus.ask(self._cell_query, self.timeout_ms)
        self.set_cells(answer, 0, len(answer) // 2)

    def serial_of(self, answer: memoryview) -> memoryview:
        """Return the barcode, without its length byte where the board sends one."""
        return answer[1:] if len(answer) and answer[0] == len(answer) - 1 else answer

    def name_of(self, answer: memoryview) -> memoryview:
        """Return the hardware's name."""
        return answer
