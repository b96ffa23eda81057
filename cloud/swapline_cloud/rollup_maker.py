"""Roll-ups out of raw rows, as the database's own statements make them, as line protocol."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from swapline_gateway.sinks.line_protocol import FRAMES, escape_tag

from .rollup import COUNT, LAST, MAXIMUM, MEAN, MINIMUM, SUM, Column, Level, Rollup, find

_NS_PER_MS = 1_000_000
_AGGREGATE: dict[str, Callable[[Sequence[Any]], Any]] = {
    MEAN: lambda values: sum(values) / len(values),
    MINIMUM: min,
    MAXIMUM: max,
    COUNT: len,
    LAST: lambda values: values[-1],
    SUM: sum,
}


class RollupMaker:
    """Makes the roll-ups of one measurement. `fields` are the raw fields that it needs, in the order of its rows."""

    def __init__(self, rollup: Rollup) -> None:
        self.fields = list(dict.fromkeys(column.field for column in rollup.columns))
        self.value_count = 0
        self._rollup = rollup
        self._makers = [
            [_maker(column, rollup.measurement) for column in rollup.columns if column.field == field]
            for field in self.fields
        ]

    def lines(self, series: dict[str, Any], level: Level) -> Iterator[str]:
        """Yield the points of a series of raw rows: `values` are (time in ms, fields), ascending in time."""
        step_ms = level.seconds * 1000
        tags = "".join(
            f",{tag}={escape_tag(series['tags'][tag])}" for tag in self._rollup.tags if series["tags"].get(tag)
        )
        for number, rows in groupby(series["values"], key=lambda row: row[0] // step_ms):
            fields = self._fields(list(zip(*rows, strict=True))[1:])
            if fields:
                self.value_count += len(fields)
                yield f"{self._rollup.measurement}{tags} {','.join(fields)} {number * step_ms * _NS_PER_MS}"

    def _fields(self, columns: Sequence[Sequence[Any]]) -> list[str]:
        found: list[str] = []
        for makers, column in zip(self._makers, columns, strict=True):
            values = [value for value in column if value is not None]
            if values:
                found += [
                    f"{name}={make(values)}i" if is_whole else f"{name}={float(make(values))!r}"
                    for name, is_whole, make in makers
                ]
        return found


def _maker(column: Column, measurement: str) -> tuple[str, bool, Callable[[Sequence[Any]], Any]]:
    """Return a field's name, whether it holds whole numbers, and what makes it: as the database's own roll-ups do."""
    if column.aggregate in (COUNT, MEAN):
        is_whole = column.aggregate == COUNT
    else:
        is_whole = measurement == FRAMES or find(measurement, column.field).decimals == 0
    return column.name, is_whole, _AGGREGATE[column.aggregate]
