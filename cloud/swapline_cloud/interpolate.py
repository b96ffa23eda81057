"""What Grafana does to a statement before InfluxDB sees it: variables put in, as its InfluxDB data source puts them in.

Proofs and previews run the boards' very statements through this. Two things replace variables, one behind the other:

- the browser: `$name`, `${name}`, `${name:regex}` of the board's choices, `$__from`, `$__to` (ms of UTC), `$__interval`
  and `$__interval_ms` (grafana.com/docs/grafana/latest/visualizations/dashboards/variables/global-variables and
  .../variable-syntax; the data source's own escaping of a plain `$name` is `interpolateQueryExpr` in
  public/app/plugins/datasource/influxdb/datasource.ts);
- the server: `$timeFilter`, `$__interval`, `$__interval_ms` (pkg/tsdb/influxdb/models/query.go). Alert rules are run
  by the server alone: the browser's variables would stay in their statements, and InfluxDB would refuse them.

The length of an interval is `calculateInterval` of packages/grafana-data/src/datetime/rangeutil.ts. A variable that is
not known stays in Grafana's statement; here it is an error.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_VARIABLE = re.compile(r"\$\{(?P<braced>\w+)(?::(?P<format>[^}]*))?\}|\$(?P<plain>\w+)|\[\[(?P<old>[^\]]*)\]\]")
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")  # what `escapeRegex` puts a backslash before
_DURATION = re.compile(r"(\d+)(ms|[smhdwMy])")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_UNITS_MS |= {"M": 2_592_000_000, "y": 31_536_000_000}
# Below so many ms -> so many: `roundInterval`.
_ROUND_MS = (
    *((10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000), (3500, 2000)),
    *((7500, 5000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000), (45_000, 30_000), (90_000, 60_000)),
    *((210_000, 120_000), (450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000), (1_500_000, 1_200_000)),
    *((2_700_000, 1_800_000), (5_400_000, 3_600_000), (9_000_000, 7_200_000), (16_200_000, 10_800_000)),
    *((32_400_000, 21_600_000), (86_400_000, 43_200_000), (604_800_000, 86_400_000)),
    *((1_814_400_000, 604_800_000), (3_628_800_000, 2_592_000_000)),
)
_LONGEST_MS = _UNITS_MS["y"]


class InterpolationError(ValueError):
    """A statement that Grafana would send with a variable still in it, or in a form that boards do not use."""


class Verbatim(str):
    """A value that is put in as it is: a variable's own word for "all"."""

    __slots__ = ()


ALL = Verbatim(".*")
# What is chosen of a variable: one value, some values of one that takes several, or the word for all of them.
Choice = str | tuple[str, ...]


class TimeRange(NamedTuple):
    """The range that a board shows."""

    from_utc_ms: int
    to_utc_ms: int

    @property
    def span_ms(self) -> int:
        """Return its length."""
        return self.to_utc_ms - self.from_utc_ms


def duration_ms(text: str) -> int:
    """Return how long `10s`, `6h` or `30d` is. Raises `InterpolationError`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InterpolationError(f"{text!r} is no duration")
    return int(match[1]) * _UNITS_MS[match[2]]


def range_of(start: str, now_utc_ms: int) -> TimeRange:
    """Return the range from `now-6h` to now. Raises `InterpolationError`."""
    if not start.startswith("now-"):
        raise InterpolationError(f"{start!r} is no time before now")
    return TimeRange(now_utc_ms - duration_ms(start.removeprefix("now-")), now_utc_ms)


def interval_ms(time_range: TimeRange, points_max: int, minimum: str = "") -> int:
    """Return how far apart a chart's points are: the range over as many points as fit, rounded, not below `minimum`."""
    wanted_ms = time_range.span_ms / points_max
    rounded_ms = next((rounded for limit, rounded in _ROUND_MS if wanted_ms < limit), _LONGEST_MS)
    return max(rounded_ms, duration_ms(minimum) if minimum else 1)


def interval_text(length_ms: int) -> str:
    """Return an interval as it is written into a statement: its largest unit, rounded down."""
    unit = next(unit for unit in ("y", "d", "h", "m", "s", "ms") if length_ms >= _UNITS_MS[unit])
    return f"{length_ms // _UNITS_MS[unit]}{unit}"


def escape_regex(value: str) -> str:
    """Return a value so that a regular expression means the value itself."""
    return _SPECIAL.sub(r"\\\g<0>", value)


def interpolate(statement: str, time_range: TimeRange, step_ms: int, choices: Mapping[str, Choice]) -> str:
    """Return what InfluxDB gets of a panel's or a variable's statement. Raises `InterpolationError`."""
    known = _of_browser(time_range) | _of_server(time_range, step_ms)

    def put_in(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        if name is None:
            raise InterpolationError(f"{match[0]} is Grafana's old form of a variable: {statement}")
        if name in known and not match["format"]:
            return known[name]
        if name not in choices:
            raise InterpolationError(f"Grafana knows no variable {match[0]}: {statement}")
        return _formatted(match, choices[name], statement)

    return _VARIABLE.sub(put_in, statement)


def interpolate_alert(statement: str, time_range: TimeRange, step_ms: int) -> str:
    """Return what InfluxDB gets of an alert rule's statement. Raises `InterpolationError` for a board's variables."""
    known = _of_server(time_range, step_ms)

    def put_in(match: re.Match[str]) -> str:
        if match["plain"] not in known:
            raise InterpolationError(f"{match[0]} means nothing in an alert rule: {statement}")
        return known[match["plain"]]

    return _VARIABLE.sub(put_in, statement)


def _of_browser(time_range: TimeRange) -> dict[str, str]:
    return {"__from": str(time_range.from_utc_ms), "__to": str(time_range.to_utc_ms)}


def _of_server(time_range: TimeRange, step_ms: int) -> dict[str, str]:
    return {
        "timeFilter": f"time >= {time_range.from_utc_ms}ms and time <= {time_range.to_utc_ms}ms",
        "__interval": interval_text(step_ms),
        "__interval_ms": str(step_ms),
    }


def _formatted(match: re.Match[str], choice: Choice, statement: str) -> str:
    how = match["format"]
    if isinstance(choice, Verbatim):
        return choice
    if how == "regex":
        return _regex(choice)
    if how:
        raise InterpolationError(f"{match[0]}: boards use no format but regex: {statement}")
    if isinstance(choice, tuple):
        return f"({'|'.join(escape_regex(value) for value in choice)})"
    return escape_regex(choice) if _is_in_regex(match, statement) else choice


def _regex(choice: Choice) -> str:
    values = [escape_regex(value) for value in ([choice] if isinstance(choice, str) else choice)]
    return values[0] if len(values) == 1 else f"({'|'.join(values)})"


def _is_in_regex(match: re.Match[str], statement: str) -> bool:
    return bool(re.search(rf"/\^?[^/]*{re.escape(match[0])}[^/]*\$?/", statement))
