"""Say in a few words what a telegram on a serial line is: JBD, JK, Modbus RTU, NMEA. For people; nothing relies on it.

A telegram is only recognised when its own check holds, so words never decorate damaged bytes. What is left over on a
line whose other telegrams are recognised is shown as damaged.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from swapline_bench.faces import jk
from swapline_bench.faces.modbus import crc16
from swapline_bench.report.timeline import FROM_NODE, Entry

NMEA, JBD, JK, MODBUS, UP16S = "NMEA", "JBD", "JK", "Modbus", "JBD UP16S"
DAMAGED = "damaged or cut short"

_SENTENCE = re.compile(rb"\$([A-Z]{2})([A-Z]{3})[^$*\r\n]*\*([0-9A-F]{2})\r?\n?")
_JBD_REGISTERS = {0x03: "basic information", 0x04: "cell voltages", 0x05: "hardware version", 0xA2: "bar code"}
_JBD_REGISTERS |= {0xAA: "error counts"}
_JK_COMMANDS = {1: "activate", 2: "write", 3: "read one", 5: "pair", 6: "read all"}
_FUNCTIONS = {1: "coils", 2: "discrete inputs", 3: "holding registers", 4: "input registers"}
_EXCEPTIONS = {1: "illegal function", 2: "illegal address", 3: "illegal value", 4: "device failure", 6: "busy"}
_UP16S_READ = 0x78


class Words(NamedTuple):
    """What a telegram is, and by which protocol."""

    protocol: str
    text: str


def describe(data: bytes, *, is_from_node: bool) -> Words | None:
    """Return what a telegram says; None where no protocol's check holds."""
    for reader in (_nmea, _jbd, _jk, _modbus):
        if text := reader(data, is_from_node):
            return text
    return None


def describe_all(entries: Sequence[Entry]) -> tuple[str, list[Words | None]]:
    """Return a line's protocol and describe its telegrams.

    Those that nothing recognises are damaged where most others are whole.
    """
    described = [describe(_bytes(entry), is_from_node=entry.kind == FROM_NODE) for entry in entries]
    usual = _usual(described)
    return usual, [words or (Words(usual, DAMAGED) if usual else None) for words in described]


def _usual(described: Iterable[Words | None]) -> str:
    """Return the protocol of a line: what at least a third of its telegrams are."""
    counts = Counter(words.protocol if words else "" for words in described)
    known = {name: count for name, count in counts.items() if name}
    best = max(known, key=lambda name: known[name], default="")
    return best if best and known[best] * 3 >= counts.total() else ""


def _bytes(entry: Entry) -> bytes:
    assert isinstance(entry.content, bytes)
    return entry.content


def _nmea(data: bytes, _is_from_node: bool) -> Words | None:
    kinds: Counter[str] = Counter()
    for match in _SENTENCE.finditer(data):
        body = data[match.start() + 1 : match.end(3) - 3]
        check = 0
        for byte in body:
            check ^= byte
        if check != int(match[3], 16):
            return None
        kinds[match[1].decode() + match[2].decode()] += 1
    if not kinds:
        return None
    return Words(NMEA, ", ".join(name if count == 1 else f"{name} x{count}" for name, count in kinds.items()))


def _jbd(data: bytes, _is_from_node: bool) -> Words | None:
    if len(data) < 7 or data[0] != 0xDD or data[-1] != 0x77 or data[3] + 7 != len(data):
        return None
    is_request = data[1] in (0xA5, 0x5A)
    checked = data[2:-3]
    if -sum(checked) & 0xFFFF != int.from_bytes(data[-3:-1], "big"):
        return None
    register = data[2] if is_request else data[1]
    name = _JBD_REGISTERS.get(register, f"register {register:02x}")
    if is_request:
        return Words(JBD, f"{'read' if data[1] == 0xA5 else 'write'} {name}")
    return Words(JBD, f"{name}, {data[3]} bytes" if data[2] == 0 else f"{name}: refused, status {data[2]:02x}")


def _jk(data: bytes, is_from_node: bool) -> Words | None:
    if len(data) < 20 or not data.startswith(jk.START) or int.from_bytes(data[2:4], "big") + 2 != len(data):
        return None
    if sum(data[:-4]) & 0xFFFF != int.from_bytes(data[-2:], "big"):
        return None
    command = _JK_COMMANDS.get(data[8], f"command {data[8]:02x}")
    return Words(JK, command if is_from_node else f"answer to {command}, {len(data)} bytes")


def _modbus(data: bytes, is_from_node: bool) -> Words | None:
    if len(data) < 5 or crc16(data[:-2]) != data[-2:]:
        return None
    unit, function = data[0], data[1]
    if function & 0x80 and len(data) == 5:
        name = _EXCEPTIONS.get(data[2], "unknown")
        return Words(MODBUS, f"unit {unit}: exception {data[2]}, {name}")
    if function == _UP16S_READ:
        block = f"block {int.from_bytes(data[2:4], 'big'):#06x}"
        return Words(UP16S, f"unit {unit}: {'read ' + block if is_from_node else f'{block}, {len(data) - 10} bytes'}")
    if function in _FUNCTIONS:
        return Words(MODBUS, f"unit {unit}: {_modbus_read(data, is_from_node)}")
    return Words(MODBUS, f"unit {unit}: function {function}")


def _modbus_read(data: bytes, is_from_node: bool) -> str:
    what = _FUNCTIONS[data[1]]
    if is_from_node:
        first, count = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big")
        return f"read {count} {what} at {first:#06x}"
    count = data[2] // 2 if data[1] in (3, 4) else data[2] * 8
    return f"{count} {what}"
