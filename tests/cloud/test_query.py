"""Queries of boards: the roll-up that answers follows the range, and every age of a reading is answered once."""

import time
from collections.abc import Iterator

import pytest

from swapline_bench import services
from swapline_cloud.interpolate import TimeRange, interpolate
from swapline_cloud.query import CHOICES, ROLLED_CHOICES, Query, courses, ending, growth, history, of, select
from swapline_cloud.rollup import FOREVER, MINUTE, RAW
from tests.cloud.influx import Influx, empty

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOW = int(time.time() * 1000) // HOUR_MS * HOUR_MS
CHOSEN = {"fleet": "f", "node": "van-1"}


@pytest.fixture(scope="module")
def influx() -> Iterator[Influx]:
    with services.influxd() as server:
        database = empty(server)
        for age_days in (1, 40, 800):
            at = NOW - age_days * DAY_MS
            value = float(age_days)
            database.write(RAW, [f"module,fleet=f,node=van-1,bay=1 soc_pct={value} {at}"] if age_days < 30 else [])
            rolled = f"module,fleet=f,node=van-1,bay=1 soc_pct_mean={value},soc_pct_last={value} {at}"
            database.write(MINUTE, [rolled] if age_days < 731 else [])
            database.write(FOREVER, [rolled])
        yield database


def ask(influx: Influx, queries: list[Query], start: int, end: int, step_ms: int = HOUR_MS) -> list[tuple[int, float]]:
    found = []
    for query in queries:
        for series in influx.ask(interpolate(query.statement, TimeRange(start, end), step_ms, CHOSEN)):
            found += [(row[0], row[1]) for row in series["values"]]
    return sorted(found)


@pytest.mark.parametrize(("age_days", "span_days"), [(1, 1), (1, 30), (1, 365), (40, 1), (40, 30), (800, 1), (800, 90)])
def test_reading_of_any_age_is_answered_once_in_a_range_of_any_length(
    influx: Influx, age_days: int, span_days: int
) -> None:
    at = NOW - age_days * DAY_MS
    found = ask(influx, history("module", "soc_pct"), at - span_days * DAY_MS // 2, at + span_days * DAY_MS // 2)
    assert found.count((at, float(age_days))) == 1
    assert len({time_utc_ms for time_utc_ms, _ in found}) == len(found)


def test_range_over_all_ages_answers_each_once(influx: Influx) -> None:
    found = ask(influx, history("module", "soc_pct"), NOW - 900 * DAY_MS, NOW, DAY_MS)
    assert [value for _, value in found] == [800.0, 40.0, 1.0]


@pytest.mark.parametrize("choices", [CHOICES, ROLLED_CHOICES])
def test_choices_name_every_policy_that_lasts_longer_than_what_it_follows(choices: tuple[tuple[str, str], ...]) -> None:
    assert [policy for policy, _ in choices][-1] == FOREVER
    assert {policy for policy, _ in choices} >= {MINUTE, FOREVER}


def test_sum_over_nodes_adds_up_what_each_says(influx: Influx) -> None:
    at = NOW - 2 * HOUR_MS
    for node, power_kw in (("st-1", 3.0), ("st-2", 4.0)):
        fields = f"power_kw_mean={power_kw},energy_import_kwh_last="
        influx.write(MINUTE, [f"meter,fleet=f,node={node} {fields}{30 + i} {at + i * MINUTE_MS}" for i in range(3)])
    summed = ask(influx, history("meter", "power_kw", each=["fleet", "node"]), at, at + HOUR_MS, MINUTE_MS)
    assert [value for _, value in summed] == [7.0, 7.0, 7.0]
    grown = ask(influx, growth("meter", "energy_import_kwh", each=["fleet", "node"]), at, at + HOUR_MS, MINUTE_MS)
    assert [value for _, value in grown] == [2.0, 2.0]


def test_column_is_computed_of_several_signals(influx: Influx) -> None:
    at = NOW - 3 * HOUR_MS
    influx.write(RAW, [f"vehicle,fleet=f,node=van-1 traction_voltage_v=400,traction_current_a=-20.0 {at}"])
    power = {"power_kw": "{traction_voltage_v} * {traction_current_a} / -1000"}
    assert ask(influx, courses("vehicle", power), at - HOUR_MS, at + HOUR_MS) == [(at, 8.0)]


def test_newest_of_a_range_in_the_past_is_what_was_then(influx: Influx) -> None:
    end = NOW - 5 * HOUR_MS
    influx.write(RAW, [f"outlook,fleet=f,node=van-{n} soc_pct={n},is_low={n % 2}i {end - MINUTE_MS}" for n in range(4)])
    influx.write(RAW, [f"outlook,fleet=f,node=van-{n} soc_pct=99,is_low=0i {end + MINUTE_MS}" for n in range(4)])
    newest = select('last("is_low") AS "is_low"', "outlook", within=ending("10m"), by=["fleet", "node"])
    found = ask(influx, [Query(of(newest, 'sum("is_low") AS "low"'))], end - HOUR_MS, end)
    assert [value for _, value in found] == [2.0]


def test_mean_of_a_total_or_a_state_is_refused() -> None:
    with pytest.raises(ValueError, match="total"):
        history("vehicle", "odometer_km")
    with pytest.raises(ValueError, match="state"):
        courses("vehicle", {"doors": "{doors}"})


def test_signal_that_the_catalogue_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match=r"vehicle\.odometer_miles"):
        growth("vehicle", "odometer_miles")
