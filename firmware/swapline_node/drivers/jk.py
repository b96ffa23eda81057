"""JK (Jikong) BMS over its UART, 115200 8N1: frames `4E 57`. One question, and everything is in its answer.

Source: the maker's UART protocol as translated in syssi/esphome-jk-bms, checked against recorded 13S and 16S boards. A
frame is 4E 57, a length word (of all that follows it and itself), terminal number (4 bytes), command, source, kind,
registers, record number (4 bytes), 68, and the sum of all bytes before it (4 bytes). Each register is its number and as
many bytes as its number says.
"""

from array import array

from micropython import const

from swapline_node.bus import BusChecksumError, BusProtocolError, BusTimeout
from swapline_wire.catalogue import MODULE, find_signal

from .bms import PROTECTIONS, SWITCHES, Bms, mapped_bits, module_code, u16

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

_NAMELESS_MAX = const(3)  # readings without any code; then the module is unknown
_LENGTH_END = const(4)  # start, length
_HEAD_BYTES = const(11)
_TAIL_BYTES = const(9)
_COMMANDS = b"\x06\x03"  # read all; some boards answer it as a read
_ANSWER = const(1)
_END = const(0x68)
_FIRST = const(0x79)
_COUNTED = const(0xFF)
# Bytes of the registers from 0x79 on; 0xFF: a length byte says it, 0: there is no such register.
_SIZES = (
    b"\xff\x00\x00\x00\x00\x00\x00"  # 79: cells
    b"\x02\x02\x02\x02\x02\x01\x01\x02\x00\x04\x02\x02\x02\x00\x02\x02"  # 80: what is measured; 8E: limits
    b"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x01\x02\x02"  # 90
    b"\x02\x02\x02\x02\x02\x02\x02\x02\x02\x01\x04\x01\x01\x02\x01\x01"  # A0
    b"\x02\x01\x0a\x01\x08\x04\x04\x0f\x01\x04\x18\x01\x01\x01\x02\x02"  # B0: settings and names
    b"\x01"  # C0: protocol version
)
# Register, signal, and what its number is multiplied by. Not taken: the total cycle capacity (89), for nobody says
# whether it was charged or discharged.
_TABLE = "0x83 voltage_v 1 0x85 soc_pct 10 0x87 cycles 1 0xAA capacity_full_ah 100"
_CELLS = const(0x79)
_MOSFET = const(0x80)
_BOX = const(0x81)  # "battery box", then "battery": the two sensors
_CURRENT = const(0x84)
_SENSOR_COUNT = const(0x86)
_WARNINGS = const(0x8B)
_STATUS = const(0x8C)
_CHEMISTRY = const(0xAF)  # 0 LFP, 1 NMC, 2 LTO
_DEVICE = const(0xB4)
_NAME = const(0xBA)
_VERSION = const(0xC0)
_SENSORS_MAX = const(2)
_CURRENT_ZERO = const(10000)
_COLD_BASE = const(100)
_PROMPT = b"Input Userda"  # what the name begins with until somebody enters one; the board's type follows

# For each bit of the warnings the number of the common protection. Bit 4 is "too hot" and 9 "too cold", for charging
# and for discharging.
_WARNING_BITS = (
    b"\x11\x0e\x02\x03"  # low SoC; MOSFET; pack over, under
    b"\x04\x08\x09\x0d"  # over-temperature; charge, discharge over-current; cell spread
    b"\x11\x05\x00\x01"  # battery box; under-temperature; cell over, under
    b"\x0b\x0b"  # front end A, B
)
_CHARGE_TEMPERATURES = const(0x30)  # protections 4 and 5; those for discharging are two bits above
_AMPERES = find_signal(MODULE, "current_a")
_TEMPERATURE_MOSFET = find_signal(MODULE, "temperature_mosfet_c")


def _compile(table: str) -> bytes:
    """Return the table's rows as three bytes each: register, place in `module.values`, factor."""
    words = table.split()
    rows = bytearray()
    for i in range(0, len(words), 3):
        rows += bytes((int(words[i], 0), find_signal(MODULE, words[i + 1]), int(words[i + 2])))
    return bytes(rows)


_ROWS = _compile(_TABLE)


class JkQuery:
    """A read of all registers."""

    request = b"\x4e\x57\x00\x13\x00\x00\x00\x00\x06\x03\x00\x00\x00\x00\x00\x00\x68\x00\x00\x01\x29"

    def measure(self, answer: memoryview, count: int) -> int:
        """Return the bytes needed to go on: a start and a length, then what the length says."""
        if count < _LENGTH_END:
            return _LENGTH_END
        if answer[:2] != self.request[:2]:
            return count  # not a frame: let `check` say so at once
        length: int = u16(answer, 2)
        return 2 + length

    def check(self, answer: memoryview) -> memoryview:
        """Return the registers. Raises `BusChecksumError`, `BusProtocolError`."""
        end = len(answer) - _TAIL_BYTES
        if end < _HEAD_BYTES or answer[:2] != self.request[:2]:
            raise BusProtocolError("no frame")
        total = 0
        for i in range(len(answer) - 4):
            total += answer[i]
        if (total ^ u16(answer, len(answer) - 2)) & 0xFFFF:
            raise BusChecksumError("sum")
        if answer[8] not in _COMMANDS or answer[10] != _ANSWER or answer[end + 4] != _END:
            raise BusProtocolError("command %d, kind %d" % (answer[8], answer[10]))
        return answer[_HEAD_BYTES:end]


class Jk(Bms):
    """One board on its own UART. Each answer tells whose it is, so a poll is one question."""

    query = JkQuery()

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(sampler, clock, counters, device_config)
        self._places = array("H", bytes(2 * len(_SIZES)))  # of each register's value in the answer, 0: it has none

    async def poll(self, bus: "Bus") -> None:
        """Read everything and commit it as that module's whose code came with it. Raises `BusError`.

        The sum is a weak check, so a code that was not there before must come twice.
        """
        try:
            code = await self._read_all(bus)
            if code != self._code:
                self._code = None
                again = await self._read_all(bus)
                if again != code:
                    raise bus.protocol_error("module %s became %s" % (code, again))
                self._code = code
        except BusTimeout:
            self._code = None  # it may be another one that answers next
            raise
        self._commit(code)

    async def _read_all(self, bus: "Bus") -> str:
        """Ask once, fill what is to be committed, and return the module's code."""
        places = self._places
        answer = await bus.ask(self.query, self.timeout_ms)
        if not _locate(answer, places):
            raise bus.protocol_error("registers do not fit into %d bytes" % len(answer))
        code = module_code(_name(answer, places)) or module_code(_text(answer, places, _DEVICE))
        self._serial_misses = 0 if code else self._serial_misses + 1
        if not code and self._serial_misses <= _NAMELESS_MAX:
            raise bus.protocol_error("module has no code")
        self.module.clear()
        _fill_numbers(answer, places, self.module.values)
        _fill_state(answer, places, self.module.values)
        self.module.is_lfp = self.is_lfp and _number(answer, places, _CHEMISTRY) <= 0
        self.sensor_count = min(max(_number(answer, places, _SENSOR_COUNT), 0), _SENSORS_MAX)
        for i in range(self.sensor_count):
            self.sensor_dc[i] = _temperature_dc(_number(answer, places, _BOX + i))
        at = places[_CELLS - _FIRST]  # a length byte, then three bytes each: a cell's number and its mV
        self.cell_count = min(answer[at] // 3, len(self.cell_mv)) if at else 0
        for i in range(self.cell_count):
            self.cell_mv[i] = u16(answer, at + 2 + 3 * i)
        return code


# Functions, not methods: a bundle gives a module's functions names that all modules share, and names are scarce.


def _locate(answer: memoryview, places: "array[int]") -> bool:
    """Find every register's value; return whether the registers fill the answer exactly."""
    for i in range(len(places)):
        places[i] = 0
    at = 0
    while at < len(answer):
        index = answer[at] - _FIRST
        size = _SIZES[index] if 0 <= index < len(_SIZES) else 0
        at += 1
        if size == _COUNTED and at < len(answer):
            size = 1 + answer[at]
        if not size:
            return False
        places[index] = at
        at += size
    return at == len(answer) > 0


def _number(answer: memoryview, places: "array[int]", register: int) -> int:
    """Return a register's value, -1 if the answer does not have it."""
    number = -1
    for byte in _text(answer, places, register):
        number = max(number, 0) << 8 | byte
    return number


def _text(answer: memoryview, places: "array[int]", register: int) -> memoryview:
    """Return a register's bytes, none if the answer does not have it."""
    at = places[register - _FIRST]
    return answer[at : at + _SIZES[register - _FIRST] if at else 0]


def _name(answer: memoryview, places: "array[int]") -> memoryview:
    """Return the name that somebody has entered; else the board's type, which stands behind the prompt for one."""
    name = _text(answer, places, _NAME)
    return name[len(_PROMPT) :] if name[: len(_PROMPT)] == _PROMPT else name


def _temperature_dc(word: int) -> int:
    """Return tenths of a degree: whole ones up to 100, and beyond that 101 is -1."""
    return 10 * (word if word <= _COLD_BASE else _COLD_BASE - word)


def _fill_numbers(answer: memoryview, places: "array[int]", values: "list[int]") -> None:
    """Fill the table's signals, the MOSFETs' temperature and the current.

    Up to protocol version 0 the current is 10000 at rest; from 1 on it has a bit for charging.
    """
    for i in range(0, len(_ROWS), 3):
        number = _number(answer, places, _ROWS[i])
        if number >= 0:
            values[_ROWS[i + 1]] = number * _ROWS[i + 2]
    number = _number(answer, places, _MOSFET)
    if number >= 0:
        values[_TEMPERATURE_MOSFET] = _temperature_dc(number)
    number = _number(answer, places, _CURRENT)
    if number < 0:
        return
    if _number(answer, places, _VERSION) < 1:
        number = _CURRENT_ZERO - number
    else:
        number = number - 0x8000 if number & 0x8000 else -number
    values[_AMPERES] = number


def _fill_state(answer: memoryview, places: "array[int]", values: "list[int]") -> None:
    """Fill protections and switches."""
    warnings = _number(answer, places, _WARNINGS)
    if warnings >= 0:
        bits = mapped_bits(warnings, _WARNING_BITS)
        values[PROTECTIONS] = bits | (bits & _CHARGE_TEMPERATURES) << 2
    status = _number(answer, places, _STATUS)
    if status >= 0:
        values[SWITCHES] = status & 3  # bit 0 charge, bit 1 discharge, as in the catalogue
