"""InfluxQL for boards: a series of one field over any range, from the roll-up that suits the range.

Grafana puts the range's ends, in ms, where `$__from` and `$__to` stand, so a condition of theirs alone is a constant,
and InfluxDB gives up a statement whose condition is false before it reads anything (seen with 1.6.7: a year of a module
costs what its hours cost). A panel therefore has a query for each roll-up, of which one answers, or two that meet where
the finer one ends:

| range | newer than `RAW_DAYS` | older | older than `MINUTE_DAYS` |
|---|---|---|---|
| up to two days | raw | minute | hour |
| up to two months | minute | minute | hour |
| longer | hour | hour | hour |
"""

from collections.abc import Sequence
from typing import NamedTuple

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
CHOICES = (
    (RAW, f"{_SHORT} AND time >= now() - {_RAW_AGE}"),
    (MINUTE, f"{_SHORT} AND time < now() - {_RAW_AGE} AND time >= now() - {_MINUTE_AGE}"),
    (MINUTE, f"{_MIDDLE} AND time >= now() - {_MINUTE_AGE}"),
    (FOREVER, f"{_NOT_LONG} AND time < now() - {_MINUTE_AGE}"),
    (FOREVER, _LONG),
)


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


def select(
    what: str, measurement: str, *, policy: str = RAW, where: Sequence[str] = (), by: Sequence[str] = (), tail: str = ""
) -> str:
    """Return a statement over the board's range. `by` are tags, or `time(...)`; `tail` is `fill(...)`, `ORDER BY`..."""
    conditions = " AND ".join(["$timeFilter", *where])
    begin = f"SELECT {what} FROM {source(measurement, policy)} WHERE {conditions}"  # noqa: S608 (our own names)
    return " ".join(part for part in (begin, _group(by), tail) if part)


def _group(by: Sequence[str]) -> str:
    names = [name if "(" in name else f'"{name}"' for name in by]
    return f"GROUP BY {', '.join(names)}" if names else ""


def history(
    stream: str,
    field: str,
    *,
    aggregate: str = MEAN,
    where: Sequence[str] = (),
    by: Sequence[str] = (),
    alias: str = "",
    expression: str = "{}",
    fill: str = "none",
) -> list[Query]:
    """Return the queries of a signal's course, one for each roll-up.

    `aggregate` is taken of the rows within a point of the chart: `mean`, `min`, `max` or `last`; of a roll-up, from the
    field that keeps it. `expression` is put around it (`non_negative_difference({})` for the growth of a total). Raises
    `KeyError` for a signal that the catalogue does not have, `ValueError` for a mean of what is never averaged.
    """
    kept = _kept(stream, field, aggregate)
    found = []
    for policy, condition in CHOICES:
        name = field if policy == RAW else kept
        what = expression.format(f'{aggregate}("{name}")')
        statement = select(
            f'{what} AS "{field}"',
            stream,
            policy=policy,
            where=[*where, condition],
            by=["time($__interval)", *by],
            tail=f"fill({fill})",
        )
        found.append(Query(statement, alias))
    return found


def _kept(stream: str, field: str, aggregate: str) -> str:
    kind = find(stream, field).kind
    if aggregate not in AGGREGATES[kind]:
        raise ValueError(f"{stream}.{field} is a {kind}: a roll-up keeps no {aggregate} of it")
    return rolled(field, aggregate)


def growth(stream: str, field: str, **more: object) -> list[Query]:
    """Return the queries of how much a total grew within each point of the chart."""
    return history(stream, field, aggregate=LAST, expression="non_negative_difference({})", **more)  # type: ignore[arg-type]
