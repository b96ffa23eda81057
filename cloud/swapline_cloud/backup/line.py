"""Columns as line protocol, `reading.py` the other way round: the same points, type for type, to the nanosecond."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from .measurement import Measurement

_FORMATS: dict[str, Callable[[Any], str]] = {
    "float": repr,
    "integer": lambda value: f"{value}i",
    "unsigned": lambda value: f"{value}u",
    "string": lambda value: '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"',
    "boolean": lambda value: "true" if value else "false",
}


def lines(measurement: Measurement, batch: pa.RecordBatch) -> Iterator[str]:
    """Yield a line a row."""
    head = _escape(measurement.name, ", ")
    columns = batch.columns
    times = columns[0].cast(pa.int64()).to_pylist()
    tag_count = len(measurement.tags)
    tags = [_tag(name, column) for name, column in zip(measurement.tags, columns[1:], strict=False)]
    fields = [
        _field(name, kind, column)
        for (name, kind), column in zip(measurement.fields, columns[1 + tag_count :], strict=True)
    ]
    for time_ns, marks, values in zip(times, _rows(tags, len(times)), _rows(fields, len(times)), strict=True):
        yield f"{head}{''.join(marks)} {','.join(filter(None, values))} {time_ns}"


def _rows(columns: Sequence[Sequence[str]], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*columns, strict=True) if columns else iter([()] * size)


def _tag(name: str, column: pa.DictionaryArray) -> list[str]:
    key = _escape(name, ",= ")
    texts = [f",{key}={_escape(value, ',= ')}" for value in column.dictionary.to_pylist()]
    return ["" if index is None else texts[index] for index in column.indices.to_pylist()]


def _field(name: str, kind: str, column: pa.Array) -> list[str]:
    key, write = _escape(name, ",= "), _FORMATS[kind]
    return ["" if value is None else f"{key}={write(value)}" for value in column.to_pylist()]


def _escape(text: str, marks: str) -> str:
    """Put a backslash before each of the marks. Those in the text stay: no point has one before a mark."""
    for mark in marks:
        text = text.replace(mark, f"\\{mark}")
    return text
