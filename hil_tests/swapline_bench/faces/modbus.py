"""A Modbus RTU server for simulated devices: several units on one line, each with blocks of registers or coils.

Not pymodbus's server: recorded packs answer requests that it never passes on (2304 coils are exception 02 there, and
unit 0 is a pack, not a broadcast). pymodbus is the client in the tests, so that somebody else judges this file.
"""

import struct
from collections.abc import Mapping, Sequence

from swapline_bench.serial_line import RequestFace

READ_COILS = 1
READ_HOLDING = 3
READ_INPUT = 4
ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
REGISTERS_MAX = 125  # Modbus application protocol 1.1b3, section 6.4

_SHORTEST_DATA_BYTES = 6  # unit, function, length, one byte of coils, CRC
_FIXED_REQUEST_BYTES = 8  # functions 1 to 6: unit, function, two words, CRC
_CRC_POLYNOMIAL = 0xA001


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_CRC_POLYNOMIAL if value & 1 else 0)
    return value


_CRC_TABLE = tuple(_crc_entry(i) for i in range(256))


def crc16(data: bytes) -> bytes:
    """Return the CRC-16 of Modbus RTU as it stands on the line, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return struct.pack("<H", crc)


class ModbusError(Exception):
    """An exception answer. `code` is 1 to 4: function, address, value, device failure."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class Unit:
    """One device on the bus: blocks of words (or, for function 1, of bits) by start address.

    Subclasses return their present values from `blocks`; a range must lie inside one block.
    """

    functions: Sequence[int] = (READ_HOLDING, READ_INPUT)
    registers_max = REGISTERS_MAX

    def is_present(self) -> bool:
        """Say whether the device is on the line; an absent one does not answer."""
        return True

    def speaker(self) -> object:
        """Return who answers: somebody else after a module was exchanged."""
        return self

    def blocks(self, function: int) -> Mapping[int, Sequence[int]]:
        """Return the words or bits that `function` reads, by start address."""
        raise NotImplementedError

    def answer(self, pdu: bytes) -> bytes:
        """Answer one request without unit and CRC. Raises `ModbusError`."""
        function = pdu[0]
        if function not in self.functions or len(pdu) != 5:
            raise ModbusError(ILLEGAL_FUNCTION)
        address, count = struct.unpack(">HH", pdu[1:])
        if function == READ_COILS:
            packed = _pack_bits(self.read(function, address, count))
        else:
            if count < 1 or count > self.registers_max:
                raise ModbusError(ILLEGAL_VALUE)
            packed = struct.pack(f">{count}H", *self.read(function, address, count))
        return bytes((function, len(packed))) + packed

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        """Return `count` words or bits from `address`. Raises `ModbusError` for a range that no block holds."""
        for start, values in self.blocks(function).items():
            if start <= address and address + count <= start + len(values):
                return values[address - start : address - start + count]
        raise ModbusError(ILLEGAL_ADDRESS)


class ModbusFace(RequestFace):
    """The units of one RS-485 bus. Requests for other units, and those with a wrong CRC, get no answer."""

    def __init__(self, units: Mapping[int, Unit], *, turnaround_s: float = 0.01) -> None:
        super().__init__(turnaround_s=turnaround_s)
        self.units = units

    def take_request(self, received: bytearray) -> bytes | None:
        """Take one request by its length; after a wrong CRC only silence can say where the next one begins."""
        if len(received) < _FIXED_REQUEST_BYTES:
            return None
        length = _FIXED_REQUEST_BYTES if received[1] not in {15, 16} else 9 + received[6]
        if len(received) < length:
            return None
        request = bytes(received[:length])
        if crc16(request[:-2]) != request[-2:]:
            received.clear()
            return None
        del received[:length]
        return request

    def answer(self, request: bytes) -> bytes | None:
        """Answer for the unit that the request names."""
        unit = self.units.get(request[0])
        if unit is None or not unit.is_present():
            return None
        pdu = request[1:-2]
        try:
            body = unit.answer(pdu)
        except ModbusError as error:
            body = bytes((pdu[0] | 0x80, error.code))
        return with_crc(bytes((request[0],)) + body)

    def speaker(self, request: bytes) -> object:
        """See `RequestFace`."""
        unit = self.units.get(request[0])
        return None if unit is None or not unit.is_present() else unit.speaker()

    def refusal(self, request: bytes) -> bytes | None:
        """Return the exception of a device that is there and cannot."""
        return with_crc(bytes((request[0], request[1] | 0x80, DEVICE_FAILURE)))

    def from_another(self, request: bytes, reply: bytes) -> bytes | None:
        """Return the answer as the next unit would have given it."""
        return with_crc(bytes(((request[0] + 1) & 0xFF,)) + reply[1:-2])

    def is_accepted(self, request: bytes, heard: bytes) -> bool:
        """See `RequestFace`: unit, function, length and CRC are what an answer has."""
        if len(heard) < _SHORTEST_DATA_BYTES or heard[:2] != request[:2]:
            return False
        count = int.from_bytes(request[4:6])
        size = (count + 7) // 8 if request[1] == READ_COILS else 2 * count
        frame = heard[: 3 + size + 2]
        return heard[2] == size & 0xFF and len(frame) == 3 + size + 2 and with_crc(frame[:-2]) == frame


def with_crc(body: bytes) -> bytes:
    """Return a frame: the body and its CRC."""
    return body + crc16(body)


def _pack_bits(bits: Sequence[int]) -> bytes:
    """Pack coils eight a byte, the first one in the lowest bit."""
    packed = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        packed[i // 8] |= bool(bit) << i % 8
    return bytes(packed)


def bits_of(codes: bytes) -> list[int]:
    """Return the bits of code bytes in coil order, lowest bit first."""
    return [code >> i & 1 for code in codes for i in range(8)]


def words_of(text: str, words: int) -> list[int]:
    """Return ASCII text as registers, high byte first, filled with zeros."""
    data = text.encode("ascii")[: 2 * words].ljust(2 * words, b"\0")
    return list(struct.unpack(f">{words}H", data))


def word(value: float, scale: float = 1.0) -> int:
    """Scale, round and clamp to an unsigned register: a device shows its end stop, it does not wrap."""
    return min(max(round(value * scale), 0), 0xFFFF)


def word_signed(value: float, scale: float = 1.0) -> int:
    """Scale, round and clamp to a two's-complement register."""
    return min(max(round(value * scale), -0x8000), 0x7FFF) & 0xFFFF


def words_long(value: float, scale: float = 1.0) -> list[int]:
    """Scale, round and clamp to an unsigned 32-bit value in two registers, high word first."""
    raw = min(max(round(value * scale), 0), 0xFFFFFFFF)
    return [raw >> 16, raw & 0xFFFF]


def words_long_signed(value: float, scale: float = 1.0) -> list[int]:
    """Scale, round and clamp to a signed 32-bit value in two registers, high word first."""
    raw = min(max(round(value * scale), -0x80000000), 0x7FFFFFFF) & 0xFFFFFFFF
    return [raw >> 16, raw & 0xFFFF]


def words_float(value: float) -> list[int]:
    """Return an IEEE 754 single in two registers, high word first."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [high, low]
