"""JK (Jikong) BMS over its UART ("GPS port"), 115200 8N1: one question, `4E 57`, whose answer is everything.

Source: the maker's UART protocol as translated in syssi/esphome-jk-bms (docs/protocol-design-uart-ttl-gps-port.md), and
recorded answers of a B2A24S20P and a BD6A17S6P. The registers that only set the BMS up have the recorded packs' order.
"""

import struct
from collections.abc import Callable

from swapline_bench.faces.turnaround import TURNAROUNDS
from swapline_bench.module import Module
from swapline_bench.serial_line import RequestFace

BAUDRATE = 115200
START = b"\x4e\x57"
END = 0x68
READ_ALL = 0x06
CELLS = 0x79
_REQUEST_BYTES_MIN = 21  # a read of everything; a write is longer
_REQUEST_BYTES_MAX = 64
_COMMAND = 8
_FROM_BMS = 0
_ANSWER = 1
_COLD_BASE = 100  # temperatures below zero are counted up from here: 101 is -1 degC
_COLDEST_C = -40
_HOTTEST_C = 100
_SENSORS = 2  # "battery box" and "battery": what the protocol has registers for
_MODEL = "JK_B2A24S20P"
_NAME_BYTES = 24
_VERSION_SIGN_BIT = 1  # from protocol version 1 on, the current has a sign bit
_CURRENT_MAX = 0x7FFF
_CURRENT_ZERO = 10000

# This bench's protection bits -> bits of the BMS's warning word. One bit each says that the cells are too hot, or too
# cold, for charging or discharging.
WARNINGS = {
    0: 10,
    1: 11,
    2: 2,
    3: 3,
    4: 4,
    5: 9,
    6: 4,
    7: 9,
    8: 5,
    9: 6,
    11: 12,
    13: 7,
    14: 1,
}


def frame(command: int, data: bytes, *, source: int = _FROM_BMS, kind: int = _ANSWER) -> bytes:
    """Return a frame as on the line. Its length counts everything but the start; the sum is of all bytes before it."""
    body = struct.pack(">IBBB", 0, command, source, kind) + data + struct.pack(">IB", 0, END)
    head = START + struct.pack(">H", len(body) + 6)
    return head + body + struct.pack(">I", sum(head + body) & 0xFFFF)


def current_word(current_a: float, version: int) -> int:
    """Return the current as the protocol version encodes it; charging is positive here."""
    raw = round(current_a * 100)
    if version < _VERSION_SIGN_BIT:
        return min(max(_CURRENT_ZERO - raw, 0), 0xFFFF)
    return min(abs(raw), _CURRENT_MAX) | (0x8000 if raw > 0 else 0)


def temperature_word(temperature_c: float) -> int:
    """Return whole degrees as the BMS counts them."""
    whole = min(max(round(temperature_c), _COLDEST_C), _HOTTEST_C)
    return whole if whole >= 0 else _COLD_BASE - whole


class JkFace(RequestFace):
    """The BMS of whichever module `module` returns; no module, no answer. `version` is the protocol's, 0 or 1."""

    def __init__(
        self,
        module: Callable[[], Module | None],
        *,
        version: int = 1,
        turnaround_s: float = TURNAROUNDS["jk"].typical_s,
    ) -> None:
        super().__init__(turnaround_s=turnaround_s)
        self._module = module
        self.version = version
        self.name: str | None = None  # what is in the name's register; None: the module's code
        self.device_id = "Input Us"
        self.software = "10.XW_S10.07___"
        self.production = "2204"
        self.runtime_min = 0

    def take_request(self, received: bytearray) -> bytes | None:
        """Take one frame by its length; bytes before a start are noise."""
        while received and not received.startswith(START[: len(received)]):
            del received[0]
        if len(received) < len(START) + 2:
            return None
        length = len(START) + int.from_bytes(received[2:4], "big")
        if not _REQUEST_BYTES_MIN <= length <= _REQUEST_BYTES_MAX:
            del received[: len(START)]
            return self.take_request(received)
        if len(received) < length:
            return None
        request = bytes(received[:length])
        del received[:length]
        return request

    def answer(self, request: bytes) -> bytes | None:
        """Answer a read of everything; a wrong sum or end gets no answer, and neither does a write."""
        module = self._module()
        checksum = int.from_bytes(request[-4:], "big")
        if module is None or request[-5] != END or checksum != sum(request[:-4]) & 0xFFFF:
            return None
        return frame(READ_ALL, self._data(module)) if request[_COMMAND] == READ_ALL else None

    def speaker(self, request: bytes) -> object:
        """See `RequestFace`."""
        del request
        return self._module()

    def is_accepted(self, request: bytes, heard: bytes) -> bool:
        """See `RequestFace`: start, length, command, end and sum are what an answer has."""
        whole = heard[: len(START) + int.from_bytes(heard[2:4], "big")]
        if len(whole) < _REQUEST_BYTES_MIN or len(whole) != len(START) + int.from_bytes(whole[2:4], "big"):
            return False
        is_answer = whole[:2] == START and whole[_COMMAND] == request[_COMMAND] and whole[-5] == END
        return is_answer and int.from_bytes(whole[-4:], "big") == sum(whole[:-4]) & 0xFFFF

    def _data(self, module: Module) -> bytes:
        cells = [round(v * 1000) for v in module.cell_voltages_v]
        groups = b"".join(struct.pack(">BH", i, mv) for i, mv in enumerate(cells, 1))
        return bytes((CELLS, len(groups))) + groups + self._measured(module) + _settings(module) + self._names(module)

    def _measured(self, module: Module) -> bytes:
        temperatures = sensors_c(module)
        status = module.charge_switch | module.discharge_switch << 1 | bool(module.balancing_mask) << 2
        return (
            _words(0x80, temperature_word(module.temperature_mosfet_c), *map(temperature_word, temperatures))
            + _words(0x83, round(module.voltage_v * 100), current_word(module.current_a, self.version))
            + bytes((0x85, round(module.soc_pct), 0x86, _SENSORS))
            + _words(0x87, module.cycles)
            + struct.pack(">BI", 0x89, round(module.charge_out_ah))
            + _words(0x8A, len(module.cell_voltages_v), warning_word(module.protections), status)
        )

    def _names(self, module: Module) -> bytes:
        name = module.code if self.name is None else self.name
        return (
            _text(0xB2, "123456", 10)
            + bytes((0xB3, 0))
            + _text(0xB4, self.device_id, 8)
            + _text(0xB5, self.production, 4)
            + struct.pack(">BI", 0xB6, self.runtime_min)
            + _text(0xB7, self.software, 15)
            + bytes((0xB8, 0))
            + struct.pack(">BI", 0xB9, round(module.capacity_full_ah))
            + _text(0xBA, name, _NAME_BYTES)
            + bytes((0xC0, self.version))
        )


def sensors_c(module: Module) -> list[float]:
    """Return what the BMS's two sensors measure: the hottest and the coldest of the module's places."""
    return [max(module.cell_temperatures_c), min(module.cell_temperatures_c)]


def warning_word(protections: int) -> int:
    """Return the BMS's warning word for this bench's protection bits."""
    word = 0
    for ours, theirs in WARNINGS.items():
        word |= (protections >> ours & 1) << theirs
    return word


def _words(first: int, *values: int) -> bytes:
    """Return registers that follow each other, two bytes each."""
    return b"".join(struct.pack(">BH", first + i, value & 0xFFFF) for i, value in enumerate(values))


def _text(register: int, text: str, length: int) -> bytes:
    return bytes((register,)) + text.encode("ascii")[:length].ljust(length, b"\0")


def _settings(module: Module) -> bytes:
    """Return the limits that the BMS was set up with, those of an LFP pack of this many cells."""
    cells = len(module.cell_voltages_v)
    return (
        _words(0x8E, 365 * cells, 260 * cells, 3650, 3550, 5, 2600, 2700, 5, 300, 540, 300, 540, 30, 3400, 10)
        + bytes((0x9D, 1))
        + _words(0x9E, 90, 70, 100, 100, 20, 60, 62, 0, 5, -20, -10)
        + bytes((0xA9, cells))
        + struct.pack(">BI", 0xAA, round(module.capacity_full_ah))
        + bytes((0xAB, module.charge_switch, 0xAC, module.discharge_switch))
        + _words(0xAD, 1000)
        + bytes((0xAE, 1, 0xAF, 0))
        + _words(0xB0, 10)
        + bytes((0xB1, 20))
    )
