"""What a request says, in a few words, for people who watch a simulator."""

import struct

_MODBUS_FUNCTIONS = {1: "coils", 2: "inputs", 3: "holding registers", 4: "input registers"}
_UP16S_READ = 0x78


def describe_jbd(request: bytes) -> str:
    """Say what a JBD request asks."""
    return f"{'read' if request[1] == 0xA5 else 'write'} register 0x{request[2]:02X}"


def describe_jk(request: bytes) -> str:
    """Say what a JK request asks."""
    command = {0x06: "read everything", 0x03: "read one register", 0x02: "write"}.get(request[8], "?")
    return f"{command}, command 0x{request[8]:02X}"


def describe_modbus(request: bytes) -> str:
    """Say what a Modbus RTU request, or one of the UP16S's own kind, asks."""
    unit, function = request[0], request[1]
    first, second = struct.unpack(">HH", request[2:6])
    if function == _UP16S_READ:
        return f"unit {unit}: read 0x{first:04X} to 0x{second:04X}"
    if function in _MODBUS_FUNCTIONS:
        return f"unit {unit}: read {second} {_MODBUS_FUNCTIONS[function]} from 0x{first:04X}"
    return f"unit {unit}: function {function}, 0x{first:04X}"
