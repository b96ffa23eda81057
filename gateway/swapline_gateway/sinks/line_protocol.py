"""Frames as InfluxDB line protocol.

A measurement is a stream. Tags: fleet, node, bay, module (each left out where there is none) and the stream's key
signals. Fields: the signals that have a value, and `time_quality`. A point is a pure function of its row, so writing it
again changes nothing. Beside them every frame leaves one point in `frames`, for completeness and delay; its time
carries the sequence number in the nanoseconds, so that no two frames of a journal can share a point.

Where roll-ups are made of rows, a frame that comes `LATE_MS` after its rows leaves a point in `late` for each hour that
it has rows of: whoever makes roll-ups finds by it, in the order of storing, which hours to make again. Its time is the
minute of storing, with the hour's number in the nanoseconds: one point for all frames of a node, stream, hour and
minute.
"""

from collections.abc import Sequence
from functools import lru_cache

from swapline_gateway.reading import FrameRows, no_value_codes
from swapline_wire.catalogue import ALARM_STREAM, EVENT_STREAM, KEY, Signal

FRAMES = "frames"
# Streams of what happens once. Rows of them are kept for ever, where the sink has a place for that.
LASTING = (EVENT_STREAM.name, ALARM_STREAM.name)
LATE = "late"
# Half of what roll-ups wait for rows (`swapline_cloud.rollup.LATE_S`), so that no row falls between the two.
LATE_MS = 3_600_000
_NS_PER_MS = 1_000_000
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000


def format_frames(frames: Sequence[FrameRows], *, stored_utc_ms: int) -> bytes:
    """Return all rows of all frames, with times in nanoseconds."""
    return "\n".join(line for rows in frames for line in format_lines(rows, stored_utc_ms=stored_utc_ms)).encode()


def format_lines(rows: FrameRows, *, stored_utc_ms: int) -> list[str]:
    """Return a line a row of the frame, then the frame's own."""
    return [*_format_rows(rows), format_frame(rows, stored_utc_ms)]


def count_values(line: str) -> int:
    """Return how many values a row's line holds. Fields are numbers, so no comma and no space hides in them."""
    return line.rsplit(" ", 2)[1].count(",")


def tag_value(value: str) -> str:
    """Return how a text is stored as a tag. Line protocol cannot say a backslash before what is escaped: a slash."""
    return value.replace("\\", "/")


@lru_cache(maxsize=100_000)  # codes come from outside: not without a bound
def escape_tag(value: str) -> str:
    """Escape a tag's value."""
    return tag_value(value).replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def _identity(rows: FrameRows) -> str:
    tags = f",fleet={rows.frame.fleet},node={rows.frame.node}"
    if rows.header.bay:
        tags += f",bay={rows.header.bay}"
    if rows.module:
        tags += f",module={escape_tag(rows.module)}"
    return tags


def _format_rows(rows: FrameRows) -> list[str]:
    prefix = rows.stream.name + _identity(rows)
    quality = f" time_quality={rows.frame.time_quality}i"
    tags: list[list[str]] = []
    fields: list[list[str]] = []
    for signal, column in zip(rows.signals, rows.columns[1:], strict=True):
        if signal.kind == KEY:
            tags.append([f",{signal.name}={value}" for value in column])
        else:
            fields.append(_format_column(signal, column))
    times = [f" {ms * _NS_PER_MS}" for ms in rows.columns[0]]
    heads = [[prefix] * len(times), *tags, [quality] * len(times)]
    return ["".join(parts) for parts in zip(*heads, *fields, times, strict=True)]


def _format_column(signal: Signal, column: Sequence[int]) -> list[str]:
    """Return `,name=value` for every value, or nothing where there is none."""
    unavailable, abnormal = no_value_codes(signal)
    name = signal.name
    if signal.decimals == 0:
        return ["" if raw in (unavailable, abnormal) else f",{name}={raw}i" for raw in column]
    divisor = 10**signal.decimals
    return ["" if raw in (unavailable, abnormal) else f",{name}={raw / divisor!r}" for raw in column]


def format_frame(rows: FrameRows, stored_utc_ms: int, *, rows_refused: int = 0, values_refused: int = 0) -> str:
    """Return the frame's own line: what of it is stored."""
    header, times = rows.header, rows.columns[0]
    row_count, value_count = rows.row_count - rows_refused, rows.value_count - values_refused
    return (
        f"{FRAMES},fleet={rows.frame.fleet},node={rows.frame.node},journal={header.journal},stream={rows.stream.name}"
        f" seq={header.seq}i,boot={header.boot}i,row_count={row_count}i,value_count={value_count}i"
        f",rows_refused={rows_refused}i"
        f",time_quality={rows.frame.time_quality}i,span_ms={max(times) - times[0]}i"
        f",delay_ms={stored_utc_ms - max(times)}i"
        f" {times[0] * _NS_PER_MS + header.seq % _NS_PER_MS}"
    )


def format_late(rows: FrameRows, stored_utc_ms: int) -> list[str]:
    """Return the lines that say of which hours a late frame has rows; none for one in time."""
    times = rows.columns[0]
    if stored_utc_ms - min(times) <= LATE_MS:
        return []
    head = f"{LATE},fleet={rows.frame.fleet},node={rows.frame.node},stream={rows.stream.name}"
    minute_ns = stored_utc_ms // _MINUTE_MS * _MINUTE_MS * _NS_PER_MS
    hours = sorted({time // _HOUR_MS for time in times})
    return [f"{head} hour_utc_ms={hour * _HOUR_MS}i {minute_ns + hour % _NS_PER_MS}" for hour in hours]
