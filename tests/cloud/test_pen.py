"""The pen: what boards are drawn with keeps its promises whatever is drawn."""

import re
from typing import Any

import pytest

from swapline_cloud.board import layer, unit, word
from swapline_cloud.board.field import Field
from swapline_cloud.board.grid import lay_out
from swapline_cloud.board.pen import Pen, as_json, link, ref_id
from swapline_cloud.query import Query
from swapline_cloud.text import Text
from swapline_wire import catalogue, catalogue_text

TITLE = Text("Charge", "电量")
DESCRIPTION = Text("What it holds. Red: swap it.", "剩余电量。变红：请换电。")
QUERY = Query('SELECT last("soc_pct") AS "soc_pct" FROM "raw"."module"', is_table=True)


def drawn(pen: Pen, *panels: Any) -> list[dict[str, Any]]:
    board = pen.board("van", TITLE, DESCRIPTION)
    for panel in panels:
        board = board.with_panel(panel)
    found: list[dict[str, Any]] = as_json(board)["panels"]
    return found


def test_column_has_its_title_unit_colour_and_link_whatever_the_language() -> None:
    to_module = (Text("Open", "打开"), link("module-passport", module="${__data.fields.module}"))
    fields = [
        Field("module", TITLE, links=(to_module,)),
        Field("soc_pct", TITLE, "percent", unit.steps((20, unit.YELLOW)), width=80, is_colored=True),
    ]
    english, chinese = (
        drawn(Pen(language), Pen(language).table(TITLE, DESCRIPTION, [QUERY], fields=fields))[0]
        for language in ("en", "zh")
    )
    module, soc = (
        {one["id"]: one["value"] for one in override["properties"]} for override in chinese["fieldConfig"]["overrides"]
    )
    assert module["displayName"] == soc["displayName"] == "电量"
    assert module["links"] == [{"title": "打开", "url": to_module[1]}]
    assert (soc["unit"], soc["custom.width"], soc["custom.cellOptions"]) == ("percent", 80, {"type": "color-text"})
    assert [step["color"] for step in soc["thresholds"]["steps"]] == ["green", "yellow"]
    assert english["targets"] == chinese["targets"]


def test_table_has_its_columns_in_their_order_and_no_other() -> None:
    fields = [Field("soc_pct", TITLE), Field("bay", TITLE)]
    pen = Pen("en")
    (panel,) = drawn(pen, pen.table(TITLE, DESCRIPTION, [QUERY, QUERY], fields=fields, key="bay", sort="soc_pct"))
    steps = {step["id"]: step["options"] for step in panel["transformations"]}
    assert list(steps) == ["joinByField", "filterFieldsByName", "organize", "sortBy"]
    assert steps["joinByField"]["byField"] == "bay"
    assert steps["filterFieldsByName"]["include"]["names"] == ["soc_pct", "bay"]
    assert steps["organize"]["indexByName"] == {"soc_pct": 0, "bay": 1}


def test_layers_of_a_map_each_show_one_query() -> None:
    pen = Pen("en")
    layers = [
        layer.points("vans", "A", color_by="soc_pct", label="node", symbol="circle", size=7),
        layer.way("way", "B", color_by="speed_kmh"),
    ]
    (panel,) = drawn(pen, pen.geomap(TITLE, DESCRIPTION, [QUERY, QUERY], layers))
    options = panel["options"]
    assert [(one["type"], one["filterData"]["options"]) for one in options["layers"]] == [
        ("markers", "A"),
        ("route", "B"),
    ]
    assert {target["refId"] for target in panel["targets"]} == {"A", "B"}
    assert all(one["location"]["latitude"] == "latitude_deg" for one in options["layers"])
    assert options["view"]["id"] == "fit"


def test_panel_stands_as_high_up_as_it_fits() -> None:
    def panel(width: int, height: int, kind: str = "stat") -> dict[str, Any]:
        return {"type": kind, "gridPos": {"x": 0, "y": 0, "w": width, "h": height}}

    panels = [panel(12, 8), panel(12, 4), panel(12, 4), panel(24, 1, "row"), panel(8, 3)]
    lay_out(panels)
    assert [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels] == [(0, 0), (12, 0), (12, 4), (0, 8), (0, 9)]


def test_queries_are_named_as_grafana_names_them() -> None:
    assert [ref_id(index) for index in (0, 25, 26, 51, 52)] == ["A", "Z", "AA", "AZ", "BA"]


def test_link_keeps_the_time_and_chooses() -> None:
    assert (
        link("van", fleet="demo", node="van-1") == "/d/swapline-van?${__url_time_range}&var-fleet=demo&var-node=van-1"
    )


def test_every_unit_of_the_catalogue_is_one_of_grafanas() -> None:
    for stream in catalogue.STREAMS:
        for signal in stream.signals:
            assert unit.unit_of(stream.name, signal.name)


def test_unit_of_a_field_that_is_not_the_catalogues_is_its_names_last_word() -> None:
    assert unit.unit_by_name("station_distance_km") == unit.unit_of("vehicle", "range_km")
    assert unit.unit_by_name("power_kw") == unit.unit_of("meter", "power_kw")
    assert unit.unit_by_name("consumption_kwh_per_km") == "suffix: kWh/km"


@pytest.mark.parametrize(
    ("stream", "field", "less", "limits"),
    [
        ("module", "cell_voltage_max_v", "-", [None, 3.6, 3.65, 3.75]),
        ("module", "cell_voltage_min_v", "-", [None, 2.0, 2.5, 2.8]),
        ("module", "cell_voltage_max_v", "cell_voltage_min_v", [None, 0.3, 0.5, 1.0]),
        ("vehicle", "insulation_kohm", "-", [None, 6, 30, 60]),
        ("module", "protections", "-", [None]),
    ],
)
def test_limits_are_those_of_the_alarm_table(stream: str, field: str, less: str, limits: list[float | None]) -> None:
    assert [step.value for step in unit.alarm_limits(stream, field, less)] == limits


def test_a_value_beyond_level_3_is_red_on_either_side() -> None:
    assert unit.alarm_limits("module", "temperature_max_c")[-1].color == unit.RED
    assert unit.alarm_limits("module", "temperature_min_c")[0].color == unit.RED


@pytest.mark.parametrize("key", catalogue_text.VALUES)
def test_every_value_has_a_name_in_both_languages(key: tuple[str, str]) -> None:
    states = word.states(*key)
    assert {value: text.en for value, (text, _) in states.items()} == catalogue_text.VALUES[key]
    assert len({text.zh for text, _ in states.values()}) == len(states)
    assert all(re.search(r"[\u4e00-\u9fff]", text.zh) or text.zh == text.en for text, _ in states.values())


@pytest.mark.parametrize("key", catalogue_text.BITS)
def test_every_bit_has_a_name_in_both_languages(key: tuple[str, str]) -> None:
    bits = word.bits(*key)
    assert {bit: text.en for bit, text in bits.items()} == catalogue_text.BITS[key]
    assert len({text.zh for text in bits.values()}) == len(bits)
