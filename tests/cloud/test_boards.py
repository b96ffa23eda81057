"""Every board is complete in both languages, well laid out, and InfluxDB takes every query of it."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from swapline_bench import services
from swapline_cloud import viewer
from swapline_cloud.board.boards import BOARDS
from swapline_cloud.board.pen import Pen, as_json, uid
from swapline_cloud.board.unit import alarm_limits
from swapline_cloud.interpolate import ALL, Choice, TimeRange, interpolate, range_of
from swapline_wire import catalogue
from swapline_wire.catalogue import STATE, TOTAL
from tests.cloud.influx import Influx, empty
from tests.cloud.named import read_select

CHOSEN: dict[str, Choice] = {"fleet": ALL, "node": "van-1", "module": "M1", "gateway": ALL}
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
CHARTS = ("timeseries", "state-timeline", "bargauge", "barchart")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
by_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.NAME)


def drawn(board: Any, language: str = "en") -> dict[str, Any]:
    return as_json(board.draw(Pen(language)))


def panels(board: Any, language: str = "en") -> list[dict[str, Any]]:
    return list(viewer.panels(drawn(board, language)))


def statements(board: Any) -> list[str]:
    return [target["query"] for panel in panels(board) for target in panel["targets"]]


@pytest.fixture(scope="module")
def influx() -> Iterator[Influx]:
    with services.influxd() as server:
        yield empty(server)


@by_board
@pytest.mark.parametrize("days", [0.25, 30, 365])
def test_every_query_is_taken_by_influxdb(influx: Influx, board: Any, days: float) -> None:
    now = int(time.time() * 1000)
    shown = TimeRange(now - int(days * DAY_MS), now)
    for statement in statements(board):
        influx.ask(interpolate(statement, shown, HOUR_MS, CHOSEN))


@by_board
def test_every_choice_of_a_board_is_taken_by_influxdb(influx: Influx, board: Any) -> None:
    now = int(time.time() * 1000)
    for variable in viewer.variables(drawn(board)):
        influx.ask(interpolate(variable["query"], TimeRange(now - DAY_MS, now), 60_000, CHOSEN))


@by_board
def test_every_panel_says_in_both_languages_what_it_shows_and_what_to_do(board: Any) -> None:
    for english, chinese in zip(panels(board, "en"), panels(board, "zh"), strict=True):
        for key in ("title", "description"):
            assert english[key].isascii(), english[key]
            assert CHINESE.search(chinese[key]), english["title"]
        assert len(english["description"]) > 60, english["title"]


def limited() -> set[tuple[str, str]]:
    """Return the signals that the alarm table has a limit for, by stream and name."""
    streams = [stream for stream in map(catalogue.stream_by_name, catalogue.STREAM_NAMES) if stream is not None]
    signals = [(stream.name, signal.name) for stream in streams for signal in stream.signals]
    return {(stream, signal) for stream, signal in signals if len(alarm_limits(stream, signal)) > 1}


def shows_thresholds(panel: dict[str, Any]) -> bool:
    config = panel["fieldConfig"]
    of_fields = [one["id"] for override in config["overrides"] for one in override["properties"]]
    return "thresholds" in config["defaults"] or "thresholds" in of_fields


@by_board
def test_every_panel_of_a_signal_that_alarms_shows_its_limits(board: Any) -> None:
    assert len(limited()) >= 7
    for panel in panels(board):
        asked = " ".join(target["query"] for target in panel["targets"])
        for stream, signal in limited():
            is_asked = f'"{stream}"' in asked and re.search(rf'"{signal}(_mean|_min|_max|_last)?"', asked)
            is_shown = is_asked and panel["title"] != "Hours at temperatures"  # which counts them by the signal
            assert not is_shown or shows_thresholds(panel), (panel["title"], signal)


@by_board
def test_only_texts_depend_on_the_language(board: Any) -> None:
    for english, chinese in zip(panels(board, "en"), panels(board, "zh"), strict=True):
        assert english["targets"] == chinese["targets"], english["title"]
        assert (english["id"], english["gridPos"]) == (chinese["id"], chinese["gridPos"])
    assert drawn(board, "en")["uid"] == drawn(board, "zh")["uid"] == uid(board.NAME)


@by_board
def test_no_series_is_called_by_a_word_of_the_query(board: Any) -> None:
    for language in ("en", "zh"):
        json = drawn(board, language)
        look = viewer.Look(range_of(json["time"]["from"], HOUR_MS * 500_000), CHOSEN)
        for panel in viewer.panels(json):
            if panel["type"] in CHARTS and not panel["fieldConfig"]["defaults"].get("displayName"):
                for target in viewer.targets(panel, look):
                    unnamed = set() if target.is_table else set(unnamed_series(panel, target))
                    assert not unnamed, (language, panel["title"], unnamed)


def unnamed_series(panel: dict[str, Any], target: viewer.Target) -> Iterator[str]:
    """Yield the series that have a word beside their tags' values, and no override that gives it in a language."""
    for column in read_select(target.statement).columns:
        name = target.alias.replace("$col", column) or column
        has_word = re.sub(r"\$tag_\w+", "", name).strip()
        if has_word and not any(is_chosen(override["matcher"], name) for override in panel["fieldConfig"]["overrides"]):
            yield name


def is_chosen(matcher: dict[str, Any], name: str) -> bool:
    if matcher["id"] == "byRegexp":
        return bool(re.search(matcher["options"].strip("/"), name))
    return bool(matcher["options"] == name)


@by_board
def test_panels_stand_beside_each_other_and_fill_the_width(board: Any) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in drawn(board)["panels"]:
        place = panel["gridPos"]
        rows, columns = range(place["y"], place["y"] + place["h"]), range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {x for x, _ in taken} == set(range(24))
    assert len(taken) == 24 * (1 + max(y for _, y in taken)), "a gap between panels"


@by_board
def test_ids_and_titles_are_unique(board: Any) -> None:
    for language in ("en", "zh"):
        found = drawn(board, language)["panels"]
        assert len({panel["id"] for panel in found}) == len(found)
        assert len({panel["title"] for panel in found}) == len(found), language


@by_board
def test_every_number_has_a_unit_or_a_name(board: Any) -> None:
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "table":
            assert panel["fieldConfig"]["overrides"], panel["title"]
        else:
            assert defaults.get("unit") or defaults.get("mappings") or panel["type"] == "state-timeline", panel["title"]


@by_board
def test_no_total_and_no_state_is_averaged(board: Any) -> None:
    never = {signal.name for stream in catalogue.STREAMS for signal in stream.signals if signal.kind in (TOTAL, STATE)}
    of_streams = re.compile("|".join(rf'"\."{stream.name}"' for stream in catalogue.STREAMS))  # a book's row is a sum
    for statement in filter(of_streams.search, statements(board)):
        averaged = set(re.findall(r'(?:mean|median)\("(\w+?)(?:_mean)?"\)', statement))
        assert not averaged & never, statement


@by_board
def test_every_link_of_a_table_names_columns_that_the_table_has(board: Any) -> None:
    for panel in panels(board):
        if panel["type"] == "table":
            columns = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            linked = set(re.findall(r"__data\.fields\.(\w+)", str(panel["fieldConfig"])))
            assert linked <= columns, (panel["title"], linked - columns)


def test_boards_lead_to_each_other() -> None:
    text = {board.NAME: str(drawn(board)) for board in BOARDS}
    assert all(
        f"/d/{uid('van')}?" in text[name] for name in ("fleet-now", "station", "module-passport", "completeness")
    )
    assert all(
        f"/d/{uid('station')}?" in text[name] for name in ("fleet-now", "van", "module-passport", "completeness")
    )
    assert all(f"/d/{uid('module-passport')}?" in text[name] for name in ("fleet-now", "van", "station"))
