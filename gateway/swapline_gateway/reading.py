"""From a spooled frame to columns: what all sinks start from.

Rows are unpacked by one `struct` format a frame and turned into columns of raw integers; scaling and the codes for "no
value" are left to whoever can do them fastest (the database's vectors, or text).
"""

from dataclasses import dataclass
from functools import cache

from swapline_wire.catalogue import FORMATS, KEY, OF_MODULE, TIME_NONE, Signal, Stream
from swapline_wire.decode import decode
from swapline_wire.error import BAD_HEADER, WireError
from swapline_wire.frame import Header

from .spool import SpooledFrame
from .spool_file import is_anchor_found


@dataclass(frozen=True, slots=True)
class FrameRows:
    """One frame as columns. `columns[0]` is each row's UTC in ms, then raw integers, one column a signal."""

    frame: SpooledFrame
    header: Header
    stream: Stream
    signals: tuple[Signal, ...]
    columns: tuple[tuple[int, ...], ...]
    value_count: int

    @property
    def row_count(self) -> int:
        """Return the number of rows."""
        return len(self.columns[0])

    @property
    def module(self) -> str:
        """Return the module's code where rows belong to a module, else nothing."""
        return str(self.header.owner) if self.stream.owner == OF_MODULE else ""


def read_rows(frame: SpooledFrame) -> FrameRows:
    """Decode one frame. Raises `WireError` (only when the spool's bytes were damaged, or this version is older).

    What the frame says of its time is under its CRC, so it counts more than the spool's columns beside it.
    """
    if not isinstance(frame.data, bytes):
        raise WireError(BAD_HEADER, "the spool's line holds no bytes")
    header, stream, signals, rows = decode(frame.data)
    if header.time_quality != TIME_NONE:
        frame = frame._replace(anchor_utc_ms=header.anchor_utc_ms, time_quality=header.time_quality)
    if not is_anchor_found(frame.anchor_utc_ms, frame.time_quality):
        raise WireError(BAD_HEADER, f"anchor {frame.anchor_utc_ms!r} of quality {frame.time_quality!r}")
    columns = tuple(zip(*rows, strict=True))
    anchor = frame.anchor_utc_ms
    times = tuple([anchor + ms for ms in columns[0]])
    return FrameRows(frame, header, stream, signals, (times, *columns[1:]), _count_values(signals, columns))


@cache
def no_value_codes(signal: Signal) -> tuple[int, int]:
    """Return the codes for "not available" and "abnormal"."""
    _, _, unavailable, abnormal = FORMATS[signal.format]
    return unavailable, abnormal


@cache
def _measured(signals: tuple[Signal, ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((i, *no_value_codes(s)) for i, s in enumerate(signals, start=1) if s.kind != KEY)


def _count_values(signals: tuple[Signal, ...], columns: tuple[tuple[int, ...], ...]) -> int:
    count = 0
    for index, unavailable, abnormal in _measured(signals):
        column = columns[index]
        count += len(column) - column.count(unavailable) - column.count(abnormal)
    return count
