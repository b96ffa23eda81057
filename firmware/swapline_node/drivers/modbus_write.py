"""Modbus RTU queries that write: functions 05, 06, 15 and 16."""

from .modbus import WRITE_COIL, WRITE_COILS, WRITE_REGISTER, WRITE_REGISTERS, ModbusQuery


def _words(*values: int) -> bytes:
    data = bytearray()
    for value in values:
        data.append(value >> 8 & 0xFF)
        data.append(value & 0xFF)
    return bytes(data)


def write_coil(address: int, coil: int, *, on: bool) -> ModbusQuery:
    """Return a query that sets one coil (function 05)."""
    return ModbusQuery(bytes((address, WRITE_COIL)) + _words(coil, 0xFF00 if on else 0))


def write_register(address: int, register: int, value: int) -> ModbusQuery:
    """Return a query that sets one register (function 06)."""
    return ModbusQuery(bytes((address, WRITE_REGISTER)) + _words(register, value))


def write_registers(address: int, start: int, values: "list[int]") -> ModbusQuery:
    """Return a query that sets registers in a row (function 16)."""
    assert 1 <= len(values) <= 123
    head = bytes((address, WRITE_REGISTERS)) + _words(start, len(values))
    return ModbusQuery(head + bytes((2 * len(values),)) + _words(*values))


def write_coils(address: int, start: int, bits: "list[bool]") -> ModbusQuery:
    """Return a query that sets coils in a row (function 15)."""
    assert 1 <= len(bits) <= 1968
    data = bytearray((len(bits) + 7) // 8)
    for i in range(len(bits)):
        data[i >> 3] |= bits[i] << (i & 7)
    return ModbusQuery(bytes((address, WRITE_COILS)) + _words(start, len(bits)) + bytes((len(data),)) + bytes(data))
