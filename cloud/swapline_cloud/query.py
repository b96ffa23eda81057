"""InfluxQL for boards: a series of one field over any range, from the roll-up that suits the range.

Grafana puts the range's ends, in ms, where `$__from` and `$__to` stand, so a condition of theirs alone is a constant,
and InfluxDB gives up a statement whose condition is false before it reads anything (seen with 1.6.7: a year of a module
costs what its hours cost). A panel therefore has a query for each roll-up, of which one answers, or two that meet where
the finer one ends. A panel that adds up many nodes begins with minutes:

| range | newer than `RAW_DAYS` | older | older than `MINUTE_DAYS` |
|---|---|---|---|
| up to two days | raw | minute | hour |
| up to two months | minute | minute | hour |
| longer | hour | hour | hour |
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .rollup import AGGREGATES, FOREVER, LAST, MEAN, MINUTE, MINUTE_DAYS, RAW, RAW_DAYS, find, rolled

RAW_MS_MAX = 2 * 86_400_000
MINUTE_MS_MAX = 62 * 86_400_000
_SPAN = "($__to - $__from)"
_RAW_AGE = f"{RAW_DAYS - 1}d"
_MINUTE_AGE = f"{MINUTE_DAYS - 1}d"
_SHORT = f"{_SPAN} <= {RAW_MS_MAX}"
_MIDDLE = f"{_SPAN} > {RAW_MS_MAX} AND {_SPAN} <= {MINUTE_MS_MAX}"
_LONG = f"{_SPAN} > {MINUTE_MS_MAX}"
_NOT_LONG = f"{_SPAN} <= {MINUTE_MS_MAX}"
# Policy, and where it answers. Together they cover every range and every age once.
CHOICES: tuple[tuple[str, str], ...] = (
    (RAW, f"{_SHORT} AND time >= now() - {_RAW_AGE}"),
    (MINUTE, f"{_SHORT} AND time < now() - {_RAW_AGE} AND time >= now() - {_MINUTE_AGE}"),
    (MINUTE, f"{_MIDDLE} AND time >= now() - {_MINUTE_AGE}"),
    (FOREVER, f"{_NOT_LONG} AND time < now() - {_MINUTE_AGE}"),
    (FOREVER, _LONG),
)
ROLLED_CHOICES: tuple[tuple[str, str], ...] = (
    (MINUTE, f"{_NOT_LONG} AND time >= now() - {_MINUTE_AGE}"),
    (FOREVER, f"{_NOT_LONG} AND time < now() - {_MINUTE_AGE}"),
    (FOREVER, _LONG),
)
IN_RANGE = "$timeFilter"


class Query(NamedTuple):
    """One statement for Grafana. `alias` may name tags and columns: `$tag_bay`, `$col`."""

    statement: str
    alias: str = ""
    is_table: bool = False


def source(measurement: str, policy: str = RAW) -> str:
    """Return how InfluxQL names a measurement of a policy."""
    return f'"{policy}"."{measurement}"'


def tag_is(tag: str, variable: str) -> str:
    """Return the condition that a tag is one of a variable's chosen values (`$module`); Grafana escapes them."""
    return f'"{tag}" =~ /^${{{variable}:regex}}$/'


def ending(duration: str) -> str:
    """Return the condition that a row is of the last `duration` ("10m") of the board's range.

    So a board that shows what is now shows, of a range in the past, what was then.
    """
    return f"time > ${{__to}}ms - {duration} AND time <= ${{__to}}ms"


def select(
    what: str,
    measurement: str,
    *,
    policy: str = RAW,
    where: Sequence[str] = (),
    by: Sequence[str] = (),
    tail: str = "",
    within: str = IN_RANGE,
) -> str:
    """Return a statement over the board's range, or another time `within`.

    `by` are tags, or `time(...)`; `tail` is `fill(...)`, `ORDER BY`...
    """
    return _statement(what, source(measurement, policy), [within, *where], by, tail)


def of(inner: str, what: str, *, where: Sequence[str] = (), by: Sequence[str] = (), tail: str = "") -> str:
    """Return a statement of another one's answer: of the last row of each van, how many are low."""
    return _statement(what, f"({inner})", where, by, tail)


def _statement(what: str, whence: str, where: Sequence[str], by: Sequence[str], tail: str) -> str:
    conditions = f"WHERE {' AND '.join(where)}" if where else ""
    begin = f"SELECT {what} FROM {whence}"  # noqa: S608 (our own names)
    return " ".join(part for part in (begin, conditions, _group(by), tail) if part)


def _group(by: Sequence[str]) -> str:
    names = [name if "(" in name else f'"{name}"' for name in by]
    return f"GROUP BY {', '.join(names)}" if names else ""


def history(
    stream: str,
    field: str,
    *,
    aggregate: str = MEAN,
    expression: str = "{}",
    **more: Any,
) -> list[Query]:
    """Return the queries of a signal's course, one for each roll-up.

    `aggregate` is taken of the rows within a point of the chart: `mean`, `min`, `max` or `last`; of a roll-up, from the
    field that keeps it. `expression` is put around it. For `more` see `courses`. Raises `KeyError` for a signal that
    the catalogue does not have, `ValueError` for a mean of what is never averaged.
    """
    return courses(stream, {field: expression.format(f"{{{field}}}")}, aggregate=aggregate, **more)


def growth(stream: str, field: str, **more: Any) -> list[Query]:
    """Return the queries of how much a total grew within each point of the chart."""
    return history(stream, field, aggregate=LAST, expression="non_negative_difference({})", **more)


def grown(stream: str, field: str, name: str, *, where: Sequence[str] = (), by: Sequence[str] = ()) -> list[Query]:
    """Return the queries of how much a total grew in the whole range; `by` are tags."""
    return [
        Query(of(query.statement, f'sum("{field}") AS "{name}"', by=by), is_table=True)
        for query in growth(stream, field, where=where, by=by)
    ]


def courses(
    stream: str,
    columns: Mapping[str, str],
    *,
    aggregate: str = MEAN,
    where: Sequence[str] = (),
    by: Sequence[str] = (),
    each: Sequence[str] = (),
    alias: str = "",
    fill: str = "none",
    is_table: bool = False,
) -> list[Query]:
    """Return the queries of columns, each computed of signals: `{"power_kw": "{voltage_v} * {current_a} / 1000"}`.

    `each` are tags whose series are added up, from minutes on: seconds of nodes that keep a row a minute do not meet.
    Raises as `history` does.
    """
    found = []
    for policy, condition in ROLLED_CHOICES if each else CHOICES:
        taken = _Taken(stream, policy, aggregate)
        what = ", ".join(f'{text.format_map(taken)} AS "{name}"' for name, text in columns.items())
        tail = f"fill({fill})"
        statement = select(
            what,
            stream,
            policy=policy,
            where=[*where, condition],
            by=["time($__interval)", *by, *each],
            tail="" if each else tail,
        )
        if each:
            sums = ", ".join(f'sum("{name}") AS "{name}"' for name in columns)
            statement = of(statement, sums, where=[IN_RANGE], by=["time($__interval)", *by], tail=tail)
        found.append(Query(statement, alias, is_table))
    return found


def daily(
    stream: str, field: str, name: str, *, where: Sequence[str] = (), each: Sequence[str] = (), days: int = 14
) -> Query:
    """Return the query of how much a total grew in each of the last days (of UTC) of the board's range.

    `each` are the tags of the series that are added up. Raises `KeyError` as `history` does.
    """
    counted = f'last("{_kept(stream, field, LAST)}")'
    grown = select(
        f'non_negative_difference({counted}) AS "{name}"',
        stream,
        policy=FOREVER,
        where=where,
        by=["time(1d)", *each],
        within=ending(f"{days + 1}d"),
    )
    summed = of(grown, f'sum("{name}") AS "{name}"', where=[ending(f"{days}d")], by=["time(1d)"], tail="fill(none)")
    return Query(summed, is_table=True)


class _Taken(dict[str, str]):
    """How a signal is taken of the rows or of the roll-up: `mean("soc_pct_mean")`."""

    def __init__(self, stream: str, policy: str, aggregate: str) -> None:
        super().__init__()
        self._stream, self._policy, self._aggregate = stream, policy, aggregate

    def __missing__(self, field: str) -> str:
        kept = _kept(self._stream, field, self._aggregate)
        return f'{self._aggregate}("{field if self._policy == RAW else kept}")'


def _kept(stream: str, field: str, aggregate: str) -> str:
    kind = find(stream, field).kind
    if aggregate not in AGGREGATES[kind]:
        raise ValueError(f"{stream}.{field} is a {kind}: a roll-up keeps no {aggregate} of it")
    return rolled(field, aggregate)
