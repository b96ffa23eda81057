"""Modbus RTU: queries, and register maps as data. Writes are in modbus_write.py: who only reads need not load them.

Source: MODBUS over Serial Line V1.02 and MODBUS Application Protocol V1.1b3. A query is built once and asked again and
again. A `RegisterMap` is compiled once from rows of names and turns an answer's bytes into raw values of a source
without floats: the boards' floats are single precision and coarser than the catalogue's integers.
"""

import struct
from array import array

from micropython import const

from swapline_node.bus import BusChecksumError, BusProtocolError, BusRefused
from swapline_node.once import call_once
from swapline_wire.catalogue import CODES, Stream, columns

READ_COILS = 1
READ_DISCRETE_INPUTS = 2
READ_HOLDING_REGISTERS = 3
READ_INPUT_REGISTERS = 4
WRITE_COIL = 5
WRITE_REGISTER = 6
WRITE_COILS = 15
WRITE_REGISTERS = 16
_WRITES = (WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS)
_REPEATED_BYTES = const(6)  # of a write, in its answer
_SHORTEST_ANSWER_BYTES = const(5)  # an exception: address, function, code, CRC


def _crc_table() -> "array[int]":
    table = array("H", [0] * 256)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table[byte] = crc
    return table


_CRC_TABLE = _crc_table()


def crc16(data: "bytes | bytearray | memoryview", count: int) -> int:
    """Return the CRC of the first `count` bytes. On the line its low byte comes first."""
    crc = 0xFFFF
    table = _CRC_TABLE
    for i in range(count):
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF]
    return crc


def with_crc(body: bytes) -> bytes:
    """Return a frame: the body and its CRC."""
    crc = crc16(body, len(body))
    return body + bytes((crc & 0xFF, crc >> 8))


def check_crc(answer: memoryview) -> None:
    """Raise `BusChecksumError` unless the last two bytes are the CRC of the others."""
    end = len(answer) - 2
    if crc16(answer, end) != answer[end] | answer[end + 1] << 8:
        raise BusChecksumError("CRC")


class ModbusQuery:
    """A request (without its CRC), which says by itself what the answer must look like."""

    def __init__(self, body: bytes) -> None:
        self.request = with_crc(body)

    def measure(self, answer: memoryview, count: int) -> int:
        """Return the bytes needed to go on."""
        if count < _SHORTEST_ANSWER_BYTES or answer[1] & 0x80:
            return _SHORTEST_ANSWER_BYTES
        return _REPEATED_BYTES + 2 if self._is_write() else 3 + self._data_bytes() + 2

    def check(self, answer: memoryview) -> memoryview:
        """Return the payload. Raises `BusChecksumError`, `BusProtocolError`, `BusRefused`."""
        check_crc(answer)
        request = self.request
        if answer[0] != request[0] or answer[1] & 0x7F != request[1]:
            raise BusProtocolError("answer from %d, function %d" % (answer[0], answer[1]))
        if answer[1] & 0x80:
            raise BusRefused("exception %d" % answer[2])
        if self._is_write():
            if answer[:_REPEATED_BYTES] != request[:_REPEATED_BYTES]:
                raise BusProtocolError("write not confirmed")
        elif answer[2] != self._data_bytes():
            raise BusProtocolError("%d bytes of %d" % (answer[2], self._data_bytes()))
        return answer[3:-2]

    def _is_write(self) -> bool:
        """Say whether the answer repeats the request's address and value (or count)."""
        return self.request[1] in _WRITES

    def _data_bytes(self) -> int:
        count = self.request[4] << 8 | self.request[5]
        return (count + 7) // 8 if self.request[1] <= READ_DISCRETE_INPUTS else 2 * count


def read(address: int, function: int, start: int, count: int) -> ModbusQuery:
    """Return a query for `count` bits (functions 01, 02) or registers (03, 04) from `start` on."""
    assert 1 <= count <= (2000 if function <= READ_DISCRETE_INPUTS else 125)
    return ModbusQuery(bytes((address, function, start >> 8, start & 0xFF, count >> 8, count & 0xFF)))


NOT_A_NUMBER = -0x80000000 << 32  # outside every format of the catalogue, so it becomes abnormal


def scaled_float32(bits: int, power: int) -> int:
    """Return round(x * 10**power), half away from zero, of the IEEE 754 single x that these bits are.

    Integers only, so a board whose floats cannot tell 16777217 from 16777216 gives the same result as a PC. Infinities,
    NaN and numbers beyond 2**40 give `NOT_A_NUMBER`.
    """
    exponent = bits >> 23 & 0xFF
    mantissa = bits & 0x7FFFFF
    if exponent:
        mantissa |= 0x800000
    shift = max(exponent, 1) - 150
    if exponent == 0xFF or shift > 17:
        return NOT_A_NUMBER
    scaled: int = mantissa * 10**power
    if shift >= 0:
        scaled <<= shift
    else:
        scaled = (scaled + (1 << min(-shift, 96) - 1)) >> min(-shift, 96)
    return -scaled if bits & 0x80000000 else scaled


_KIND_WIDE = const(2)  # the first of `register_table.KINDS` that takes two registers
_KIND_SINGLE = const(4)
_SIGNED = (1, 3)
_STRUCT_CODES = "HhIi"  # of those kinds that have codes
_ROW = "<BBHbi"  # as in `register_table`: place in the stream, kind, address, power, offset
_ROW_BYTES = const(9)


class RegisterMap:
    """The signals of one answer that begins at register `start`.

    `table` has five words a row: address, type, signal, power and offset. Types are u16, i16, u32, i32 and f32, high
    word first; the raw value is (number + offset) * 10**power, where a negative power rounds half up. With `has_codes`,
    the line's codes for "not available" and "abnormal" are the catalogue's for the register's type. A board's bundle
    has nine bytes a row instead of the text, which it would keep as long as the driver; an object a row took 350 bytes.
    """

    def __init__(self, stream: Stream, start: int, table: "str | bytes", *, has_codes: bool = False) -> None:
        self._columns = columns(stream.signals)
        self._start = start
        self._has_codes = has_codes
        self._rows: bytes = (
            table if isinstance(table, bytes) else call_once("register_table", "pack_rows", stream, table)
        )
        _, kind, address, _, _ = struct.unpack_from(_ROW, self._rows, len(self._rows) - _ROW_BYTES)
        self.registers: int = address - start + (2 if kind >= _KIND_WIDE else 1)  # from `start` on

    def fill(self, payload: memoryview, values: "list[int]") -> None:
        """Write the raw values of the map's signals into a source's `values`; what the answer ends before is none."""
        for at in range(0, len(self._rows), _ROW_BYTES):
            values[self._rows[at]] = self._raw(payload, at)

    def _raw(self, payload: memoryview, at: int) -> int:
        """Return the raw value of the row at this byte, or one of its signal's codes."""
        place, kind, address, power, offset = struct.unpack_from(_ROW, self._rows, at)
        position = 2 * (address - self._start)
        empty, abnormal = CODES[self._columns.codes[place]]
        if position >= len(payload):
            return int(empty)
        number = payload[position] << 8 | payload[position + 1]
        mask = 0xFFFF
        if kind >= _KIND_WIDE:
            number = number << 16 | payload[position + 2] << 8 | payload[position + 3]
            mask = 0xFFFFFFFF
        if kind == _KIND_SINGLE:
            number = scaled_float32(number, power)
        else:
            if self._has_codes:
                line_empty, line_abnormal = CODES[_STRUCT_CODES[kind]]
                if number == line_empty & mask:
                    return int(empty)
                if number == line_abnormal & mask:
                    return int(abnormal)
            if kind in _SIGNED and number > mask >> 1:
                number -= mask + 1
            number = _scaled(number + offset, power)
        is_possible = self._columns.minimums[place] <= number <= self._columns.maximums[place]
        return number if is_possible else int(abnormal)


def _scaled(number: int, power: int) -> int:
    factor: int = 10 ** abs(power)
    if power >= 0:
        return number * factor
    return (number + factor // 2) // factor
