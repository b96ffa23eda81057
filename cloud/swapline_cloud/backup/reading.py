"""Rows of a measurement out of an InfluxDB, slice by slice of time, so that neither side holds more than a slice.

How much time a slice covers is found by trying: one that brings more than `rows_max` is given up half way and asked for
again in parts, one that brings few is followed by a longer one. The same when the database gives up by itself, as it
does after its `query-timeout`. A slice is never shorter than `slice_s_min`: roll-ups of all modules have one time.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from swapline_cloud.rollup import LEVELS
from swapline_gateway.error import AccessError, GatewayError, SinkBusyError, UnavailableError
from swapline_gateway.influxql import InfluxqlClient, identifier

from .measurement import TAG_TYPE, Measurement

CELLS_MAX = 8_000_000  # of one slice: 64 MB of columns, and as much again while they are made
SLICE_S = 3600
SHRINK, GROW = 8, 4
TRIES_MAX = 4
_NS_PER_S = 1_000_000_000
_SLICE_S_MIN = {level.policy: level.seconds for level in LEVELS}

Span = tuple[int, int]  # [start, end) in ns
Answer = Generator[dict[str, Any], None, None]
Ask = Callable[[Span], Answer]
Make = Callable[[dict[str, Any]], pa.Table]


class TooManyError(Exception):
    """A slice has more rows than fit."""


class Limits(NamedTuple):
    """How many rows a slice may bring, and how short it may become."""

    rows_max: int
    slice_s_min: int = 1

    @classmethod
    def of(cls, measurement: Measurement) -> "Limits":
        """Return the limits of a measurement's slices."""
        columns = 1 + len(measurement.tags) + len(measurement.fields)
        return cls(CELLS_MAX // columns, _SLICE_S_MIN.get(measurement.policy, 1))


def span_of(client: InfluxqlClient, measurement: Measurement) -> Span | None:
    """Return from the first row's time to behind the last one's. Raises `GatewayError`."""
    what = f"SELECT {_fields(measurement)} FROM {measurement.source} ORDER BY time"  # noqa: S608 (all of it is quoted)
    ends = [_first_time(client, f"{what} {way} LIMIT 1") for way in ("ASC", "DESC")]
    first, last = ends
    return None if first is None or last is None else (first, last + 1)


def _first_time(client: InfluxqlClient, statement: str) -> int | None:
    try:
        found = list(client.stream(statement))
    except SinkBusyError as error:
        raise sort_error(error) from error
    return int(found[0]["values"][0][0]) if found else None


def count(client: InfluxqlClient, measurement: Measurement) -> int:
    """Return about how many rows there are, by the field that most rows have; 0 if the database does not say."""
    name = _marker(measurement) or measurement.fields[0][0]
    try:
        found = client.query(f"SELECT count({identifier(name)}::field) FROM {measurement.source}")  # noqa: S608
    except SinkBusyError:
        return 0
    return int(found[0]["values"][0][1]) if found else 0


def counts(client: InfluxqlClient, measurement: Measurement, span: Span, *, each: str) -> dict[int, int]:
    """Return how many rows each day or hour of a span has, by its first ms; none that has no row.

    By the field that every row of ours has; else by the one that most rows have then. Raises `GatewayError`.
    """
    name = _marker(measurement)
    what = "*" if name is None else f"{identifier(name)}::field"
    try:
        found = client.query(
            f"SELECT count({what}) FROM {measurement.source}"  # noqa: S608 (all of it is quoted)
            f" WHERE time >= {span[0]} AND time < {span[1]} GROUP BY time({each}) fill(none)"
        )
    except SinkBusyError as error:
        raise sort_error(error) from error
    rows = found[0]["values"] if found else []
    return {row[0]: max(value or 0 for value in row[1:]) for row in rows}


def _marker(measurement: Measurement) -> str | None:
    """Return the field that every row of the gateway's frames and books has."""
    names = [name for name, _ in measurement.fields]
    return next((one for one in ("time_quality", "is_void", "seq") if one in names), None)


def rows(client: InfluxqlClient, measurement: Measurement, span: Span) -> Iterator[pa.Table]:
    """Yield all rows of a span, a slice at a time; within a slice by series. Raises `GatewayError`."""
    schema = measurement.schema()
    head = f"SELECT {_fields(measurement)} FROM {measurement.source}"  # noqa: S608 (all of it is quoted)

    def ask(part: Span) -> Answer:
        return client.stream(f"{head} WHERE time >= {part[0]} AND time < {part[1]} GROUP BY *")

    def make(series: dict[str, Any]) -> pa.Table:
        times, *values = zip(*series["values"], strict=True)
        named = series.get("tags", {})
        tags = [_repeat(named.get(tag, ""), len(times)) for tag in measurement.tags]
        kinds = [schema.field(index).type for index in range(1 + len(tags), len(schema))]
        fields = [array(column, kind) for column, kind in zip(values, kinds, strict=True)]
        return pa.Table.from_arrays([pa.array(times, schema.field(0).type), *tags, *fields], schema=schema)

    return slices(ask, make, span, Limits.of(measurement))


def _fields(measurement: Measurement) -> str:
    return ", ".join(f"{identifier(name)}::field" for name, _ in measurement.fields)


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return a column of values as JSON has them: of a whole float it makes an integer, also beyond 2**53."""
    if not pa.types.is_floating(kind):
        return pa.array(values, kind)
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError):
        return pa.array([None if value is None else float(value) for value in values], kind)


def _repeat(value: str, size: int) -> pa.Array:
    """Return a tag's column: one value, none where it is empty, for InfluxDB knows no empty tag."""
    index = pa.repeat(pa.scalar(0 if value else None, pa.int32()), size)
    return pa.DictionaryArray.from_arrays(index, pa.array([value] if value else [], pa.string())).cast(TAG_TYPE)


def slices(ask: Ask, make: Make, span: Span, limits: Limits) -> Iterator[pa.Table]:
    """Yield the rows of a span, one table a slice of time. Raises `GatewayError`."""
    start, end = span
    step, step_min = SLICE_S * _NS_PER_S, limits.slice_s_min * _NS_PER_S
    step = max(step, step_min)
    failures = 0
    while start < end:
        part = (start, min(end, start + step))
        try:
            found = _collect(ask(part), make, limits.rows_max if step > step_min else None)
        except TooManyError:
            step = max(step_min, step // SHRINK)
            continue
        except SinkBusyError as error:
            failures += 1
            if failures == TRIES_MAX or _is_refusal(error):
                raise sort_error(error) from error
            step = max(step_min, step // SHRINK)
            continue
        failures = 0
        start = part[1]
        count = sum(table.num_rows for table in found)
        if count < limits.rows_max // GROW:
            step *= GROW if count else GROW**2
        if found:
            yield pa.concat_tables(found)


def _collect(answer: Answer, make: Make, rows_max: int | None) -> list[pa.Table]:
    found: list[pa.Table] = []
    row_count = 0
    with closing(answer):
        for series in answer:
            row_count += len(series["values"])
            if rows_max is not None and row_count > rows_max:
                raise TooManyError
            found.append(make(series))
    return found


def _is_refusal(error: SinkBusyError) -> bool:
    return "answers 401" in str(error) or "answers 403" in str(error)


def sort_error(error: SinkBusyError) -> GatewayError:
    """Return what ends a command."""
    return AccessError(f"{error}.") if _is_refusal(error) else UnavailableError(f"{error}.")
