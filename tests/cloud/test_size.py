"""What `swapline cloud size` says, and that docs/scale.md says the same."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from swapline_cloud.command.size import size
from swapline_cloud.size import size_of

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


def test_page_has_the_figures_of_the_command() -> None:
    for vans, values, gateways, rows in ((500, "32,000", 2, "1,450"), (10_000, "640,000", 6, "29,000")):
        found = size_of(vans)
        assert f"{round(found.values_per_s, -3):,.0f}" == values
        assert found.gateways == gateways
        assert values in PAGE
        assert rows in PAGE
        assert found.rows_per_s == pytest.approx(float(rows.replace(",", "")), rel=0.01)
    million = size_of(1_000_000)
    assert f"| {million.gateways} |" in PAGE
    assert f"| {million.influxdb_cores} |" in PAGE


def test_twice_the_vans_need_twice_of_everything_that_is_counted_by_van() -> None:
    one, two = size_of(5_000), size_of(10_000)
    for name in ("rows_per_s", "messages_per_s", "raw_gb", "minute_gb", "hour_gb_a_year", "series_a_month"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))
    assert two.traffic_gb_a_van_month == one.traffic_gb_a_van_month
    assert two.stored_gb_a_van == pytest.approx(one.stored_gb_a_van)


def test_van_that_stands_costs_less() -> None:
    assert size_of(10, driving_h=0).traffic_gb_a_van_month < size_of(10, driving_h=24).traffic_gb_a_van_month / 3


@pytest.mark.parametrize("wrong", [{"vans": 0}, {"vans": 1, "driving_h": 25}, {"vans": 1, "vans_a_station": 0}])
def test_impossible_fleets_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one van"):
        size_of(**wrong)


def test_command_shows_a_line_each_and_one_object_for_machines() -> None:
    shown = CliRunner().invoke(size, ["--vans", "500"]).output
    assert re.search(r"gateway processes .* 2\n", shown)
    found = json.loads(CliRunner().invoke(size, ["--vans", "500", "--json", "--traffic-price", "0"]).output)
    assert found["stations"] == 20
    assert found["price_a_van_month"] == pytest.approx(0.1 * size_of(500).stored_gb_a_van, abs=0.001)
