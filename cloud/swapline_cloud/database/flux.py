"""Roll-ups by tasks of InfluxDB 2.x: Flux, one task for each measurement and level, from raw rows.

What the text relies on, by Flux's documentation (nothing of it was tried against a live InfluxDB 2.x):

- In a task `now()` is when the run was due, whatever `offset` delays it by. Cut down to the level's unit it ends the
  range, so that no window is a half one: `aggregateWindow` would give a half one the time where the range cuts it.
- `timeSrc: "_start"` gives a point its window's beginning as its time, as InfluxQL does.
- `min`, `max` and `last` are selectors and keep a field's type; `count` gives an integer; `mean` a float.
- Tables stay apart by series and field, so fields of several types go through one pipe.
- `to` writes every column of text that does not begin with `_` as a tag: all tags of the row.
- Every `to` is a result, and results of one task need names: `yield`.
"""

from collections.abc import Iterator, Sequence

from swapline_cloud.rollup import LEVELS, RAW, Column, Level, Rollup, Turn, rolled, rollups

from . import policy
from .continuous import names

# How much later than due a task runs: the gateway's last rows of the last window are written by then.
OFFSET_S = 30


def text(value: str) -> str:
    """Return a text as Flux writes it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'


def scripts(organisation: str, database: str, levels: tuple[Level, ...] = LEVELS) -> dict[str, str]:
    """Return the Flux of all tasks, by their names."""
    return {
        name: _head(name, turn, level, rollup) + "".join(_pipes(organisation, database, level, rollup))
        for level in levels
        for rollup in rollups()
        for name, turn in names(rollup, level)
    }


def _head(name: str, turn: Turn, level: Level, rollup: Rollup) -> str:
    return f"""\
// Made by `swapline cloud apply`, which puts it back: a point each {level.interval} of {rollup.measurement}.
import "date"

option task = {{name: {text(name)}, every: {turn.every_s}s, offset: {OFFSET_S}s}}

stop = date.truncate(t: now(), unit: {level.interval})
start = date.sub(from: stop, d: {turn.span_s}s)
"""


def _pipes(organisation: str, database: str, level: Level, rollup: Rollup) -> Iterator[str]:
    raw = policy.find(RAW).bucket(database)
    kept = policy.find(level.policy).bucket(database)
    target = f"bucket: {text(kept)}, org: {text(organisation)}"
    for columns in _groups(rollup.columns):
        yield "\n" + _pipe(raw, target, rollup._replace(columns=columns), level)


def normalise(flux: str) -> list[str]:
    """Return a script's lines as they compare: without what surrounds them."""
    return [line.strip() for line in flux.strip().splitlines()]


def _groups(columns: Sequence[Column]) -> Iterator[tuple[Column, ...]]:
    """Yield columns that one pipe makes: of one aggregate, and named by the rule; others alone."""
    by_rule: dict[str, list[Column]] = {}
    others: list[Column] = []
    for column in columns:
        if column.name == rolled(column.field, column.aggregate):
            by_rule.setdefault(column.aggregate, []).append(column)
        else:
            others.append(column)
    yield from map(tuple, by_rule.values())
    yield from ((column,) for column in others)


def _pipe(raw: str, target: str, rollup: Rollup, level: Level) -> str:
    first = rollup.columns[0]
    fields = "\n                or ".join(f"r._field == {text(column.field)}" for column in rollup.columns)
    is_by_rule = first.name == rolled(first.field, first.aggregate)
    name = f"r._field + {text('_' + first.aggregate)}" if is_by_rule else text(first.name)
    result = first.aggregate if is_by_rule else first.name
    return f"""\
from(bucket: {text(raw)})
    |> range(start: start, stop: stop)
    |> filter(fn: (r) => r._measurement == {text(rollup.measurement)})
    |> filter(
        fn: (r) =>
            {fields},
    )
    |> aggregateWindow(every: {level.interval}, fn: {first.aggregate}, createEmpty: false, timeSrc: "_start")
    |> map(fn: (r) => ({{r with _field: {name}}}))
    |> to({target})
    |> yield(name: {text(result)})
"""
