"""The boards "Fleet now", "Van" and "Station": complete in both languages, and InfluxDB takes every query of theirs."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from swapline_bench import services
from swapline_cloud.board import fleet_now, station, van
from swapline_cloud.board.pen import Pen, as_json, uid
from swapline_cloud.interpolate import ALL, Choice, TimeRange, interpolate
from swapline_cloud.rollup import rolled_streams
from swapline_gateway.battery import table
from swapline_gateway.outlook.table import OUTLOOKS
from swapline_wire import catalogue
from swapline_wire.catalogue import STATE, TOTAL
from tests.cloud.influx import Influx, empty

BOARDS = {board.NAME: board for board in (fleet_now, van, station)}
CHOSEN: dict[str, Choice] = {"fleet": ALL, "node": "van-1", "module": "M1"}
DAY_MS = 86_400_000
AGGREGATES = ("mean", "min", "max", "count", "last")
TAGS = {"fleet", "node", "bay", "module", "code", "van", "station"}


def drawn(name: str, language: str) -> dict[str, Any]:
    return as_json(BOARDS[name].draw(Pen(language)))


def panels(name: str, language: str = "en") -> list[dict[str, Any]]:
    return [panel for panel in drawn(name, language)["panels"] if panel["type"] != "row"]


def statements(name: str) -> list[str]:
    return [target["query"] for panel in panels(name) for target in panel["targets"]]


@pytest.fixture(scope="module")
def influx() -> Iterator[Influx]:
    with services.influxd() as server:
        yield empty(server)


@pytest.mark.parametrize("days", [0.25, 30, 365])
@pytest.mark.parametrize("name", BOARDS)
def test_every_query_is_taken_by_influxdb(influx: Influx, name: str, days: float) -> None:
    now = int(time.time() * 1000)
    shown = TimeRange(now - int(days * DAY_MS), now)
    for statement in statements(name):
        influx.ask(interpolate(statement, shown, 3_600_000, CHOSEN))


@pytest.mark.parametrize("name", BOARDS)
def test_every_choice_of_a_board_is_taken_by_influxdb(influx: Influx, name: str) -> None:
    now = int(time.time() * 1000)
    for variable in drawn(name, "en")["templating"]["list"]:
        influx.ask(interpolate(variable["query"], TimeRange(now - DAY_MS, now), 60_000, CHOSEN))


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_in_both_languages_what_it_shows_and_what_to_do(name: str) -> None:
    for english, chinese in zip(panels(name, "en"), panels(name, "zh"), strict=True):
        for key in ("title", "description"):
            assert english[key], english["title"]
            assert english[key].isascii(), english[key]
            assert re.search(r"[\u4e00-\u9fff]", chinese[key]), english["title"]
        assert len(english["description"]) > 60, english["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_only_texts_depend_on_the_language(name: str) -> None:
    for english, chinese in zip(panels(name, "en"), panels(name, "zh"), strict=True):
        assert english["targets"] == chinese["targets"], english["title"]
        assert (english["id"], english["gridPos"]) == (chinese["id"], chinese["gridPos"])
    assert drawn(name, "en")["uid"] == drawn(name, "zh")["uid"] == uid(name)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_stand_beside_each_other_and_fill_the_width(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in drawn(name, "en")["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {x for x, _ in taken} == set(range(24))
    assert len(taken) == 24 * (1 + max(y for _, y in taken)), "a gap between panels"


@pytest.mark.parametrize("name", BOARDS)
def test_ids_and_titles_are_unique(name: str) -> None:
    found = drawn(name, "en")["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    assert len({panel["title"] for panel in found}) == len(found)


@pytest.mark.parametrize("name", BOARDS)
def test_every_number_has_a_unit_or_a_name(name: str) -> None:
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "table":
            assert panel["fieldConfig"]["overrides"], panel["title"]
            continue
        assert defaults.get("unit") or defaults.get("mappings") or panel["type"] == "state-timeline", panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_every_column_of_a_table_is_one_that_its_queries_answer(name: str) -> None:
    for panel in panels(name):
        known = " ".join(target["query"] for target in panel["targets"])
        for override in panel["fieldConfig"]["overrides"]:
            field = override["matcher"]["options"]
            aliases = {target["alias"] for target in panel["targets"]}
            assert field == "Time" or f'"{field}"' in known or field in aliases, (panel["title"], field)


@pytest.mark.parametrize("name", BOARDS)
def test_every_field_that_a_query_names_is_known(name: str) -> None:
    known = {
        *TAGS,
        *(signal.name for stream in catalogue.STREAMS for signal in stream.signals),
        *(field for one in (*table.TABLES, *OUTLOOKS) for field in one.fields),
    }
    rolled = {f"{signal.name}_{how}" for stream in rolled_streams() for signal in stream.signals for how in AGGREGATES}
    for statement in statements(name):
        made = set(re.findall(r'AS "(\w+)"', statement))
        measured = set(re.findall(r'"(\w+)"\."(\w+)"', statement))
        named = set(re.findall(r'"([^"]+)"', statement)) - made - {word for pair in measured for word in pair}
        assert named <= known | rolled, (named - known - rolled, statement)


@pytest.mark.parametrize("name", BOARDS)
def test_no_total_and_no_state_is_averaged(name: str) -> None:
    never = {signal.name for stream in catalogue.STREAMS for signal in stream.signals if signal.kind in (TOTAL, STATE)}
    for statement in statements(name):
        averaged = set(re.findall(r'(?:mean|median)\("(\w+?)(?:_mean)?"\)', statement))
        assert not averaged & never, statement


@pytest.mark.parametrize("name", BOARDS)
def test_every_link_of_a_table_names_columns_that_the_table_has(name: str) -> None:
    for panel in panels(name):
        if panel["type"] == "table":
            columns = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            linked = set(re.findall(r"__data\.fields\.(\w+)", str(panel["fieldConfig"])))
            assert linked <= columns, (panel["title"], linked - columns)


def test_boards_lead_to_each_other() -> None:
    text = {name: str(drawn(name, "en")) for name in BOARDS}
    assert all(f"/d/{uid('van')}?" in text[name] for name in ("fleet-now", "station"))
    assert all(f"/d/{uid('station')}?" in text[name] for name in ("fleet-now", "van"))
    assert all(f"/d/{uid('module-passport')}?" in text[name] for name in BOARDS)
