"""Variables are put into statements as Grafana puts them in; what Grafana would leave standing is an error."""

import pytest

from swapline_cloud.interpolate import (
    ALL,
    Choice,
    InterpolationError,
    TimeRange,
    escape_regex,
    interpolate,
    interpolate_alert,
    interval_ms,
    interval_text,
    range_of,
)

RANGE = TimeRange(1_700_000_000_000, 1_700_021_600_000)
FILTER = "time >= 1700000000000ms and time <= 1700021600000ms"


@pytest.mark.parametrize(
    ("statement", "choices", "wanted"),
    [
        pytest.param("WHERE $timeFilter", {}, f"WHERE {FILTER}", id="time filter"),
        pytest.param(
            "($__to - $__from) <= 172800000",
            {},
            "(1700021600000 - 1700000000000) <= 172800000",
            id="the range's ends",
        ),
        pytest.param("time > ${__to}ms - 10m", {}, "time > 1700021600000ms - 10m", id="a unit behind a variable"),
        pytest.param("time($__interval), $__interval_ms", {}, "time(30s), 30000", id="interval"),
        pytest.param("/^${node:regex}$/", {"node": "van-001"}, "/^van-001$/", id="one value"),
        pytest.param("/^${node:regex}$/", {"node": "a.b/c"}, r"/^a\.b\/c$/", id="one value is escaped"),
        pytest.param("/^${node:regex}$/", {"node": ("a", "b.c")}, r"/^(a|b\.c)$/", id="several values"),
        pytest.param("/^${node:regex}$/", {"node": ("a",)}, "/^a$/", id="one of several"),
        pytest.param("/^${node:regex}$/", {"node": ALL}, "/^.*$/", id="all"),
        pytest.param("= '$node'", {"node": "a.b"}, "= 'a.b'", id="a plain name in a text"),
        pytest.param("=~ /^$node$/", {"node": "a.b"}, r"=~ /^a\.b$/", id="a plain name in a regular expression"),
        pytest.param("=~ /^$node$/", {"node": ("a", "b")}, "=~ /^(a|b)$/", id="a plain name of several values"),
    ],
)
def test_a_variable_is_put_in(statement: str, choices: dict[str, Choice], wanted: str) -> None:
    assert interpolate(statement, RANGE, 30_000, choices) == wanted


@pytest.mark.parametrize(
    "statement",
    ["$vehicle", "${vehicle}", "${vehicle:regex}", "[[node]]", "${node:csv}", "${__from:date}", "$interval"],
)
def test_what_grafana_would_leave_standing_is_an_error(statement: str) -> None:
    with pytest.raises(InterpolationError):
        interpolate(statement, RANGE, 30_000, {"node": "a"})


@pytest.mark.parametrize("statement", ["$__from", "$__to", "${__to}", "/^${node:regex}$/", "$node", "[[node]]"])
def test_an_alert_rule_has_no_variables_of_a_board(statement: str) -> None:
    with pytest.raises(InterpolationError):
        interpolate_alert(statement, RANGE, 30_000)


def test_an_alert_rule_has_what_the_server_puts_in() -> None:
    found = interpolate_alert("WHERE $timeFilter GROUP BY time($__interval)", RANGE, 60_000)
    assert found == f"WHERE {FILTER} GROUP BY time(1m)"


@pytest.mark.parametrize(
    ("span", "points", "minimum", "wanted"),
    [
        ("6h", 1600, "", "15s"),
        ("6h", 533, "", "30s"),
        ("6h", 1600, "1m", "1m"),
        ("2d", 800, "", "5m"),
        ("30d", 1600, "", "30m"),
        ("365d", 1600, "", "6h"),
        ("1h", 100_000, "", "50ms"),
        ("3650d", 100, "", "30d"),
    ],
)
def test_an_interval_is_what_grafana_takes(span: str, points: int, minimum: str, wanted: str) -> None:
    time_range = range_of(f"now-{span}", 1_700_000_000_000)
    assert interval_text(interval_ms(time_range, points, minimum)) == wanted


def test_a_range_that_is_no_past_is_an_error() -> None:
    with pytest.raises(InterpolationError):
        range_of("now/d", 1_700_000_000_000)
    with pytest.raises(InterpolationError):
        range_of("now-6 h", 1_700_000_000_000)


def test_every_character_that_means_something_is_escaped() -> None:
    assert escape_regex(r"a\^$*+?.()|[]{}/-b") == r"a\\\^\$\*\+\?\.\(\)\|\[\]\{\}\/-b"
