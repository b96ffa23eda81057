"""Register tables: what a driver's text says of an answer's registers, as the bytes that `modbus.RegisterMap` reads.

A board's bundle has the bytes already. This is loaded for a moment where a driver comes with its text.
"""

import struct

from swapline_wire.catalogue import Stream, find_signal

KINDS = ("u16", "i16", "u32", "i32", "f32")
ROW = "<BBHbi"  # place in the stream, kind, address, power, offset


def rows_of(table: str) -> "list[tuple[int, str, str, int, int]]":
    """Return the rows of a map's table: (address, type, signal, power, offset)."""
    words = table.split()
    return [
        (int(words[i], 0), words[i + 1], words[i + 2], int(words[i + 3]), int(words[i + 4]))
        for i in range(0, len(words), 5)
    ]


def pack_rows(stream: Stream, table: str) -> bytes:
    """Return the rows of a map's table one behind the other."""
    packed = b""
    for address, kind, name, power, offset in rows_of(table):
        packed += struct.pack(ROW, find_signal(stream, name), KINDS.index(kind), address, power, offset)
    return packed
