"""A board as somebody looks at it, without Grafana: its variables chosen, its statements asked, its answers as series.

It reads the board's JSON, nothing else, so what is seen is what Grafana would ask. Tests prove boards with it, and
`tools/preview_boards.py` draws them. What it does not do: Grafana's transformations and its drawing.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .interpolate import ALL, Choice, TimeRange, interpolate, interval_ms, range_of

GRID_WIDTH = 24
POINTS_MAX = 1600  # of a chart as wide as the board: Grafana takes a panel's width in pixels
_ALIAS = re.compile(r"\$(\w+)|\[\[(\w+)\]\]")

Answer = list[dict[str, Any]]  # series as InfluxDB returns them: name, tags, columns, values
Ask = Callable[[str], Answer]


class Series(NamedTuple):
    """One column of an answer, over time. `values` has None where there is none."""

    name: str
    tags: dict[str, str]
    column: str
    times_utc_ms: list[int]
    values: list[Any]


class Target(NamedTuple):
    """One statement of a panel, as InfluxDB gets it."""

    ref_id: str
    statement: str
    is_table: bool
    alias: str


@dataclass(frozen=True)
class Look:
    """How a board is looked at: over which range, with which choices of its variables."""

    time_range: TimeRange
    choices: Mapping[str, Choice] = field(default_factory=dict)


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that ask something, also those within rows."""
    for panel in board.get("panels", []):
        yield from panels(panel)
        if panel.get("targets"):
            yield panel


def variables(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the board's variables that ask something, in their order."""
    listed: list[dict[str, Any]] = board.get("templating", {}).get("list", [])
    return [variable for variable in listed if variable["type"] == "query"]


def default_range(board: Mapping[str, Any], now_utc_ms: int) -> TimeRange:
    """Return the range that the board opens with."""
    return range_of(board["time"]["from"], now_utc_ms)


def choose(
    board: Mapping[str, Any], ask: Ask, time_range: TimeRange, wanted: Mapping[str, Choice] | None = None
) -> dict[str, Choice]:
    """Choose as a board does that is opened: what is wanted, else everything, else the first value.

    Raises `LookupError` for a variable that has no value to choose.
    """
    chosen: dict[str, Choice] = {}
    for variable in variables(board):
        name = variable["name"]
        values = values_of(variable, ask, Look(time_range, chosen))
        if wanted and name in wanted:
            chosen[name] = wanted[name]
        elif variable.get("includeAll"):
            chosen[name] = ALL if variable.get("allValue") == ALL else tuple(values)
        elif values:
            chosen[name] = values[0]
        else:
            raise LookupError(f"${name} has no value to choose")
    return chosen


def values_of(variable: Mapping[str, Any], ask: Ask, look: Look) -> list[str]:
    """Return what may be chosen of a variable, in its order (`sort` 1: by the alphabet; others are not used)."""
    statement = variable["query"]
    if isinstance(statement, Mapping):
        statement = statement["query"]
    step_ms = interval_ms(look.time_range, POINTS_MAX)
    answer = ask(interpolate(statement, look.time_range, step_ms, look.choices))
    column = -1  # of `key, value`, and of `time, what is selected`
    return sorted({str(row[column]) for series in answer for row in series["values"]} - {"None", ""})


def targets(panel: Mapping[str, Any], look: Look) -> list[Target]:
    """Return a panel's statements as InfluxDB gets them. Raises `InterpolationError`."""
    time_range = _panel_range(panel, look.time_range)
    points = panel.get("maxDataPoints") or round(POINTS_MAX * panel["gridPos"]["w"] / GRID_WIDTH)
    step_ms = interval_ms(time_range, points, panel.get("interval") or "")
    return [
        Target(
            target["refId"],
            interpolate(target["query"], time_range, step_ms, look.choices),
            target["resultFormat"] == "table",
            target["alias"],
        )
        for target in panel["targets"]
        if not target.get("hide")
    ]


def _panel_range(panel: Mapping[str, Any], time_range: TimeRange) -> TimeRange:
    own = panel.get("timeFrom")
    if not own:
        return time_range
    return range_of(own if own.startswith("now-") else f"now-{own}", time_range.to_utc_ms)


def series_of(target: Target, answer: Answer) -> list[Series]:
    """Return an answer's columns over time, named as a chart's legend names them."""
    found = []
    for one in answer:
        times = [row[0] for row in one["values"]]
        for index, column in enumerate(one["columns"][1:], start=1):
            tags = one.get("tags", {})
            name = _name(target.alias, one["name"], column, tags)
            found.append(Series(name, tags, column, times, [row[index] for row in one["values"]]))
    return found


def table_of(answer: Answer) -> tuple[list[str], list[list[Any]]]:
    """Return an answer as one table: `Time`, its tags, its columns."""
    if not answer:
        return [], []
    tags = list(answer[0].get("tags", {}))
    header = ["Time", *tags, *answer[0]["columns"][1:]]
    rows = [
        [row[0], *(one.get("tags", {}).get(tag, "") for tag in tags), *row[1:]]
        for one in answer
        for row in one["values"]
    ]
    return header, rows


def _name(alias: str, measurement: str, column: str, tags: Mapping[str, str]) -> str:
    """Return a series' name: `$tag_bay`, `$col` and `$m` put into its alias (docs of the InfluxDB data source)."""
    if not alias:
        listed = ", ".join(f"{key}: {value}" for key, value in tags.items())
        return f"{measurement}.{column}" + (f" {{{listed}}}" if listed else "")
    words = {"col": column, "m": measurement, "measurement": measurement}
    words |= {f"tag_{key}": value for key, value in tags.items()}
    return _ALIAS.sub(lambda match: words.get(match[1] or match[2], match[0]), alias)


def count_values(answer: Sequence[Mapping[str, Any]]) -> int:
    """Return how many values an answer has beside its times."""
    return sum(value is not None for series in answer for row in series["values"] for value in row[1:])
