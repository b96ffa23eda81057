"""Roll-ups by continuous queries of InfluxDB 1.x, from raw rows.

For each measurement and level there is one query for `COLUMNS_MAX` fields: one of all fields of a thousand modules took
2.9 GB of memory (docs/retention.md). The catalogue only ever appends, so a new signal changes the last one or adds one.

The server keeps the text and shows it written its own way: names without the quotes they do not need, durations in
other units. `normalise` takes both sides apart, so that what means the same compares as the same.

A query's name begins with `OWN`; whatever does not is somebody else's.
"""

import re
from collections.abc import Iterator

from swapline_cloud.rollup import LEVELS, RAW, Level, Rollup, Turn, rollups
from swapline_gateway.influxql import identifier

OWN = "swapline."
COLUMNS_MAX = 10
_TOKEN = re.compile(r""" "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | \w+ | \S """, re.VERBOSE)
_DURATION = re.compile(r"(\d+)(ns|u|ms|s|m|h|d|w)")
_SECONDS = {"ns": 1e-9, "u": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def names(rollup: Rollup, level: Level) -> Iterator[tuple[str, Turn]]:
    """Yield the names of a roll-up's tasks, with which its queries' names begin, and when each is run."""
    name = f"{OWN}{rollup.measurement}.{level.policy}"
    for turn in level.turns:
        yield (name if turn == level.turns[0] else f"{name}.late"), turn


def selection(rollup: Rollup) -> str:
    """Return what a roll-up takes of its raw rows, with the names of its fields."""
    return ", ".join(
        f"{column.aggregate}({identifier(column.field)}) AS {identifier(column.name)}" for column in rollup.columns
    )


def statements(database: str, levels: tuple[Level, ...] = LEVELS) -> dict[str, str]:
    """Return the statements that make all continuous queries, by the queries' names."""
    return {
        f"{begin}.{number}": _statement(database, f"{begin}.{number}", turn, level, part)
        for level in levels
        for rollup in rollups()
        for begin, turn in names(rollup, level)
        for number, part in enumerate(_parts(rollup), start=1)
    }


def _statement(database: str, name: str, turn: Turn, level: Level, part: Rollup) -> str:
    table = identifier(part.measurement)
    return (
        f"CREATE CONTINUOUS QUERY {identifier(name)} ON {identifier(database)}"  # noqa: S608 (all of it is quoted)
        f" RESAMPLE EVERY {turn.every_s}s FOR {turn.span_s}s BEGIN"
        f" SELECT {selection(part)}"
        f" INTO {identifier(database)}.{identifier(level.policy)}.{table}"
        f" FROM {identifier(database)}.{identifier(RAW)}.{table}"
        f" GROUP BY time({level.interval}), * fill(none) END"
    )


def _parts(rollup: Rollup) -> Iterator[Rollup]:
    for start in range(0, len(rollup.columns), COLUMNS_MAX):
        yield rollup._replace(columns=rollup.columns[start : start + COLUMNS_MAX])


def normalise(text: str) -> list[str]:
    """Return a statement's tokens: names without quotes, durations in seconds."""
    return [_plain(token) for token in _TOKEN.findall(text)]


def _plain(token: str) -> str:
    if token[0] == '"':
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    parts = _DURATION.findall(token)
    if parts and "".join(number + unit for number, unit in parts) == token:
        return f"{sum(int(number) * _SECONDS[unit] for number, unit in parts):g}s"
    return token


def show(text: str) -> str:
    """Return a statement for a diff: normalised, a line for each field."""
    joined = " ".join(normalise(text))
    return re.sub(r" ?([(),.]) ?", r"\1", joined).replace(",", ",\n  ").replace(" INTO ", "\nINTO ")
