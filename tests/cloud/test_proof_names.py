"""No statement of a board or an alert names what nobody writes; and the check finds what does not exist."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from swapline_cloud.alert.rules import RULES, Rule
from swapline_cloud.board.boards import BOARDS
from swapline_cloud.board.pen import Pen, as_json
from swapline_cloud.interpolate import interpolate_alert, range_of
from swapline_cloud.text import CHINESE, ENGLISH
from swapline_cloud.viewer import Look, Target, panels, targets, variables
from tests.cloud.named import policies, read_select, unknown_names, written

KNOWN = written()
NOW_UTC_MS = 1_790_000_000_000


def drawn(board: Any, language: str) -> dict[str, Any]:
    return as_json(board.draw(Pen(language)))


def statements(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every statement with the title of its panel."""
    look = Look(range_of(board["time"]["from"], NOW_UTC_MS), {one["name"]: "x" for one in variables(board)})
    for panel in panels(board):
        for target in targets(panel, look):
            yield panel["title"], target.statement


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.NAME)
def test_every_name_in_a_boards_statements_is_written_by_somebody(board: Any) -> None:
    json = drawn(board, ENGLISH)
    asked = [*statements(json), *((f"${one['name']}", one["query"]) for one in variables(json))]
    found = {place: unknown_names(statement, KNOWN) for place, statement in asked}
    assert {place: lines for place, lines in found.items() if lines} == {}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.NAME)
def test_a_board_asks_the_same_in_both_languages(board: Any) -> None:
    english, chinese = (drawn(board, language) for language in (ENGLISH, CHINESE))
    assert [text for _, text in statements(english)] == [text for _, text in statements(chinese)]


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ('SELECT mean("voltage_v") FROM "raw"."module" WHERE time > 0', None),
        ('SELECT mean("voltage") FROM "raw"."module" WHERE time > 0', "raw.module has no voltage"),
        ('SELECT mean("voltage_v_mean") FROM "raw"."module"', "raw.module has no voltage_v_mean"),
        ('SELECT mean("voltage_v_mean") FROM "minute"."module"', None),
        ('SELECT mean("voltage_v") FROM "forever"."module"', "forever.module has no voltage_v"),
        ('SELECT last("odometer_km_mean") FROM "minute"."vehicle"', "minute.vehicle has no odometer_km_mean"),
        ('SELECT "level" FROM "raw"."alarm"', "nobody writes [('raw', 'alarm')]"),
        ('SELECT "level" FROM "module"', "nobody writes [('', 'module')]"),
        ('SELECT "voltage_v" FROM "raw"."modul"', "nobody writes [('raw', 'modul')]"),
        ('SELECT "level" FROM "forever"."alarm" WHERE "nod" = \'a\'', "forever.alarm has no nod"),
        ('SELECT "level" FROM "forever"."alarm" GROUP BY "cod"', "forever.alarm has no cod"),
        ('SELECT level FROM "forever"."alarm"', "level is no word of InfluxQL and has no quotes"),
        ('SELECT "text" FROM "forever"."warning" WHERE is_void = false', "is_void is no word of InfluxQL"),
        ('SELECT "node", "bay" FROM "forever"."stay" WHERE "is_void" = false', "tags alone"),
        ('SELECT "node", "is_void" FROM "forever"."stay"', None),
        ('SELECT sum("n") FROM (SELECT last("n") AS "n" FROM "raw"."node")', "raw.node has no n"),
        ('SELECT sum("n") FROM (SELECT last("uptime_s") AS "m" FROM "raw"."node")', "(...) has no n"),
        ('SELECT sum("last") FROM (SELECT last("uptime_s") FROM "raw"."node" GROUP BY "node") GROUP BY "node"', None),
        (
            'SELECT sum("last") FROM (SELECT last("uptime_s") FROM "raw"."node" GROUP BY "node") GROUP BY "bay"',
            "(...) has no bay",
        ),
        ('SELECT "a" FROM (SELECT "soc_pct" AS "a" FROM "raw"."vehicle"), (SELECT "b" FROM "raw"."meter")', "no b"),
        ('SHOW TAG VALUES FROM "node" WITH KEY = "fleet" WHERE "fleet" =~ /^.*$/', None),
        ('SHOW TAG VALUES FROM "node" WITH KEY = "bay"', "node has no tag bay"),
        ('SHOW TAG VALUES FROM "nodes" WITH KEY = "fleet"', "nobody writes raw.nodes"),
        ('SHOW TAG VALUES FROM "stay" WITH KEY = "module"', "nobody writes raw.stay"),
        ('SHOW TAG VALUES FROM "forever"."event" WITH KEY = "fleet"', "forever: InfluxDB 2.x looks into raw only"),
    ],
)
def test_a_name_that_nobody_writes_is_found(statement: str, complaint: str | None) -> None:
    found = unknown_names(statement, KNOWN)
    assert (complaint is None) == (found == [])
    assert complaint is None or any(complaint in line for line in found), found


def test_a_wrong_field_in_a_boards_own_statement_is_found() -> None:
    checked = 0
    for board in BOARDS:
        for _, statement in statements(drawn(board, ENGLISH)):
            select = read_select(statement)
            for name in {name for name in select.names if "(" not in name}:
                spoiled = statement.replace(f'"{name}"', f'"{name}_x"', 1)
                if f'AS "{name}_x"' not in spoiled:
                    assert unknown_names(spoiled, KNOWN), spoiled
                    checked += 1
    assert checked > 0


def test_policies_are_found_within_brackets() -> None:
    assert policies(read_select('SELECT "a" FROM (SELECT "soc_pct" AS "a" FROM "raw"."module"), "forever"."stay"')) == {
        "raw",
        "forever",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_name_in_an_alert_rules_statements_is_written_by_somebody(rule: Rule) -> None:
    for condition in rule.conditions:
        assert unknown_names(condition.statement, KNOWN) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_alert_rule_needs_no_variable_of_a_board(rule: Rule) -> None:
    for condition in rule.conditions:
        assert interpolate_alert(condition.statement, range_of("now-10m", NOW_UTC_MS), 1000) == condition.statement


def shown_names(target: Target) -> Iterator[str]:
    """Yield regular expressions of what a statement's columns are called in its panel."""
    select = read_select(target.statement)
    if target.is_table:
        yield from map(re.escape, ("Time", *select.by, *select.columns))
        return
    for column in select.columns:
        alias = re.escape(target.alias.replace("$col", column))
        yield re.sub(r"\\\$tag_\w+", ".*", alias)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.NAME)
def test_every_column_that_is_dressed_is_there(board: Any) -> None:
    json = drawn(board, ENGLISH)
    look = Look(range_of(json["time"]["from"], NOW_UTC_MS), {one["name"]: "x" for one in variables(json)})
    missed = []
    for panel in panels(json):
        names = [name for target in targets(panel, look) for name in shown_names(target)]
        for override in panel["fieldConfig"]["overrides"]:
            matcher = override["matcher"]
            if matcher["id"] == "byName" and not any(re.fullmatch(name, matcher["options"]) for name in names):
                missed.append((panel["title"], matcher["options"]))
        for one in panel.get("transformations", []):
            wanted = one["options"].get("include", {}).get("names", [])
            missed += [(panel["title"], name) for name in wanted if not any(re.fullmatch(n, name) for n in names)]
    assert missed == []
