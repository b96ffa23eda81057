"""What the gateway's own figures are asked for, by the board "Pipeline health"."""

from collections.abc import Sequence
from typing import Any

from swapline_cloud.query import Query, ending, of, select, tag_is

GATEWAY = tag_is("gateway", "gateway")
# The gateway writes its figures each 15 s; a chart's point has two of them at least.
INTERVAL = "30s"


def latest(field: str, *, measurement: str = "gateway", by: Sequence[str] = ("gateway",), span: str = "10m") -> str:
    """Return the statement of each series' last value of the last minutes of the range."""
    return select(f'last("{field}") AS "{field}"', measurement, where=[GATEWAY], by=by, within=ending(span))


def silent() -> str:
    """Return the statement of how many gateways wrote within a day, not in the last two minutes, and did not end."""
    rows = select('count("uptime_s") AS "n"', "gateway", where=[GATEWAY], by=["gateway"], within=ending("2m"))
    known = select('last("uptime_s") * 0 AS "n"', "gateway", where=[GATEWAY], by=["gateway"], within=ending("1d"))
    ended = select('last("ended") AS "n"', "gateway", where=[GATEWAY], by=["gateway"], within=ending("1d"))
    each = of(f"{rows}), ({known}), ({ended}", 'sum("n") AS "n"', where=[ending("1d")], by=["gateway"])
    return of(each, 'count("n") AS "silent"', where=['"n" = 0'])


def course(
    what: str, name: str, *, measurement: str = "gateway", by: Sequence[str] = ("gateway",), alias: str
) -> Query:
    """Return the query of a figure over time, a series for each of `by`."""
    times = ["time($__interval)", *by]
    return Query(select(f'{what} AS "{name}"', measurement, where=[GATEWAY], by=times, tail="fill(none)"), alias)


def rate(field: str, name: str, **more: Any) -> Query:
    """Return the query of how much a total grows in a second. It begins at zero when its process is started again."""
    return course(f'non_negative_derivative(last("{field}"), 1s)', name, **more)


def growth(field: str, name: str, **more: Any) -> Query:
    """Return the query of how much a total grew within each point of the chart."""
    return course(f'non_negative_difference(last("{field}"))', name, **more)
