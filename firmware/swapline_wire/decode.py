"""Decoding whole frames, row by row with one `struct` format a frame. For the gateway; boards need not load it."""

import struct
from collections import namedtuple

from .catalogue import FORMATS, Stream, stream_by_id
from .error import BAD_HEADER, UNKNOWN_STREAM, WireError
from .frame import Header, read_header

# `rows` holds tuples: the row's time in ms since boot, then raw integers, one a signal of `signals`.
# `signals` are those that the frame carries: fewer than the catalogue's when an older firmware sealed it.
Decoded = namedtuple("Decoded", ("header", "stream", "signals", "rows"))

_layouts: dict[tuple[int, int], tuple[Stream, tuple[object, ...], struct.Struct]] = {}


def _layout(stream_id: int, size: int) -> "tuple[Stream, tuple[object, ...], struct.Struct]":
    """Return the stream, the signals that a row of `size` bytes carries, and the format that reads it."""
    key = (stream_id, size)
    if key in _layouts:
        return _layouts[key]
    stream = stream_by_id(stream_id)
    if stream is None:
        raise WireError(UNKNOWN_STREAM, "%d" % stream_id)
    codes = "<i"
    used = 4
    count = 0
    for signal in stream.signals:
        code, width = FORMATS[signal.format][:2]
        if used + width > size:
            break
        codes += code
        used += width
        count += 1
    if count < len(stream.signals) and used != size:
        raise WireError(BAD_HEADER, "row of %d bytes ends inside a signal of %s" % (size, stream.name))
    layout = (stream, stream.signals[:count], struct.Struct(codes + "%dx" % (size - used)))
    _layouts[key] = layout
    return layout


def decode(data: "bytes | memoryview") -> Decoded:
    """Verify and decode one frame. Raises `WireError`."""
    header: Header = read_header(data)
    stream, signals, layout = _layout(header.stream_id, header.row_size)
    start = header.rows_offset
    rows = [
        (header.first_row_ms + fields[0],) + fields[1:]
        for fields in layout.iter_unpack(memoryview(data)[start : start + header.row_size * header.row_count])
    ]
    return Decoded(header, stream, signals, rows)
