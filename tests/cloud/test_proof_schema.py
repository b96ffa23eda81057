"""Every board is what the pinned Grafana's schemas allow, and what they do not allow would be found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from swapline_cloud.board.boards import BOARDS
from swapline_cloud.board.pen import Pen, as_json
from swapline_cloud.text import LANGUAGES
from tests.cloud.grafana_schema import problems

Board = dict[str, Any]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.NAME)
def test_a_board_is_what_grafana_reads(board: Any, language: str) -> None:
    assert problems(as_json(board.draw(Pen(language)))) == []


def small_board() -> Board:
    """Return a board with one panel of what can be wrong."""
    return {
        "uid": "x",
        "title": "T",
        "tags": [],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "schemaVersion": 42,
        "templating": {},
        "annotations": {},
        "panels": [
            {
                "type": "timeseries",
                "transparent": False,
                "repeatDirection": "h",
                "gridPos": {"h": 8, "w": 12, "x": 0, "y": 0},
                "targets": [
                    {
                        "refId": "A",
                        "datasource": {"type": "influxdb", "uid": "u"},
                        "query": "SELECT 1",
                        "rawQuery": True,
                        "resultFormat": "table",
                        "alias": "",
                    }
                ],
                "transformations": [{"id": "organize", "options": {}}],
                "options": {
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "none"},
                },
                "fieldConfig": {
                    "defaults": {"unit": "volt", "min": 1, "custom": {"lineWidth": 1}},
                    "overrides": [
                        {
                            "matcher": {"id": "byName", "options": "a"},
                            "properties": [{"id": "unit", "value": "suffix: x"}, {"id": "custom.width", "value": 90}],
                        }
                    ],
                },
            }
        ],
    }


def test_a_small_good_board_has_no_problem() -> None:
    board = small_board()
    board["panels"][0]["fieldConfig"]["overrides"][0]["properties"].pop()
    assert problems(board) == []


def panel(board: Board) -> Any:
    return board["panels"][0]


def defaults(board: Board) -> Any:
    return panel(board)["fieldConfig"]["defaults"]


SPOILS: dict[str, Callable[[Board], Any]] = {
    "a key of the board that is misspelt": lambda b: b.update(refesh="30s"),
    "a key of a panel that is misspelt": lambda b: panel(b).update(descripton="x"),
    "a key of its options that is misspelt": lambda b: panel(b)["options"].update(legned={}),
    "a key of a legend that is misspelt": lambda b: panel(b)["options"]["legend"].update(show=True),
    "a word that a legend does not know": lambda b: panel(b)["options"]["legend"].update(placement="left"),
    "a number where a text belongs": lambda b: b.update(title=7),
    "a text where a number belongs": lambda b: defaults(b).update(min="1"),
    "a truth where a number belongs": lambda b: defaults(b).update(max=True),
    "a list where an object belongs": lambda b: panel(b).update(gridPos=[1, 2, 3, 4]),
    "a panel without a place's width": lambda b: panel(b)["gridPos"].pop("w"),
    "a panel that Grafana does not have": lambda b: panel(b).update(type="timeserie"),
    "a unit that Grafana does not have": lambda b: defaults(b).update(unit="volts"),
    "a style that a chart does not have": lambda b: defaults(b)["custom"].update(drawStyle="dots"),
    "a custom key that a chart does not have": lambda b: defaults(b)["custom"].update(linewidth=1),
    "a transformation that Grafana does not have": lambda b: panel(b)["transformations"][0].update(id="organise"),
    "a matcher that Grafana does not have": lambda b: panel(b)["fieldConfig"]["overrides"][0]["matcher"].update(
        id="name"
    ),
    "a property that no override has": lambda b: panel(b)["fieldConfig"]["overrides"][0]["properties"][0].update(
        id="units"
    ),
    "a query without its statement": lambda b: panel(b)["targets"][0].pop("query"),
    "a query with a key too many": lambda b: panel(b)["targets"][0].update(expr="up"),
    "a form of result that is none": lambda b: panel(b)["targets"][0].update(resultFormat="timeseries"),
    "a threshold's mode that is none": lambda b: defaults(b).update(thresholds={"mode": "abs", "steps": []}),
    "no object where a variable belongs": lambda b: b.update(templating={"list": ["fleet"]}),
}


@pytest.mark.parametrize("spoil", [pytest.param(call, id=name) for name, call in SPOILS.items()])
def test_what_grafana_would_not_read_is_found(spoil: Callable[[Board], Any]) -> None:
    board = small_board()
    panel(board)["fieldConfig"]["overrides"][0]["properties"].pop()
    before = copy.deepcopy(board)
    spoil(board)
    assert board != before
    assert problems(board), "nothing was found"


def test_a_tables_own_property_is_no_charts() -> None:
    board = small_board()
    assert [line for line in problems(board) if "custom.width" in line]
    panel(board).update(type="table", options={"frameIndex": 0, "showHeader": True, "cellHeight": "sm"})
    assert not [line for line in problems(board) if "custom.width" in line]
