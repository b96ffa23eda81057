"""What the boards "Module passport" and "Data completeness" add up is right."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from swapline_bench import services
from swapline_cloud.board import completeness_query, passport_query
from swapline_cloud.interpolate import ALL, Choice, TimeRange, interpolate
from swapline_cloud.query import Query
from swapline_gateway.battery.store_influxql import format_row
from swapline_gateway.battery.table import PASSPORT
from tests.cloud.influx import Influx, empty

CHOSEN: dict[str, Choice] = {"fleet": ALL, "node": ALL, "module": "M1", "gateway": ALL}
DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000


@pytest.fixture(scope="module")
def server() -> Iterator[services.InfluxServer]:
    with services.influxd() as running:
        assert isinstance(running, services.InfluxServer)
        yield running


@pytest.fixture
def influx(server: services.InfluxServer) -> Iterator[Influx]:
    yield empty(server)
    server.execute('DROP DATABASE "swapline"')


class Asker:
    """Asks a board's queries about a range that ends now."""

    def __init__(self, influx: Influx, *, days: float, choices: dict[str, Choice] | None = None) -> None:
        self.influx = influx
        self.now = int(time.time() * 1000)
        self._range = TimeRange(self.now - int(days * DAY_MS), self.now)
        self._choices = CHOSEN | (choices or {})

    def rows(self, queries: list[Query]) -> list[list[Any]]:
        return [row[1:] for series in self.series(queries) for row in series["values"]]

    def series(self, queries: list[Query]) -> list[dict[str, Any]]:
        found = []
        for query in queries:
            found += self.influx.ask(interpolate(query.statement, self._range, HOUR_MS, self._choices))
        return found

    def one(self, queries: list[Query]) -> Any:
        ((value,),) = self.rows(queries)
        return value


def frame(node: str, journal: int, seq: int, time_ms: int, *, delay_ms: int = 900) -> str:
    return (
        f"frames,fleet=f,node={node},journal={journal},stream=node seq={seq}i,row_count=4i,rows_refused=0i"
        f",delay_ms={delay_ms}i {time_ms}"
    )


def test_missing_frames_are_counted_by_journal_and_begin_at_the_range(influx: Influx) -> None:
    ask = Asker(influx, days=0.25)
    begin = ask.now - 5 * HOUR_MS
    lines = [frame("van", 7, seq, begin + seq * 1000) for seq in range(500, 600) if seq not in (510, 511, 580)]
    lines += [frame("van", 8, seq, begin + 700_000 + seq * 1000) for seq in range(1, 20)]
    lines += [frame("station", 9, seq, begin + seq * 1000) for seq in (1, 2, 3, 9)]
    influx.write("raw", lines)
    assert ask.one(completeness_query.holes()) == 3 + 5
    each = ask.series(
        [
            Query(statement)
            for statement in completeness_query.frames(completeness_query.HOLES, "missing", by=["node", "journal"])
        ]
    )
    assert {(one["tags"]["node"], one["tags"]["journal"]): one["values"][0][1] for one in each} == {
        ("van", "7"): 3,
        ("van", "8"): 0,
        ("station", "9"): 5,
    }
    over_time = ask.series(completeness_query.holes_over_time())
    assert {one["tags"]["node"] for one in over_time} == {"van", "station"}


def test_missing_frames_of_a_long_range_come_from_roll_ups(influx: Influx) -> None:
    ask = Asker(influx, days=30)
    head, delay = "frames,fleet=f,node=van,journal=7,stream=node", "delay_ms_mean=800,delay_ms_max=2000i"
    hours = [(1, 100, 100), (101, 200, 97), (201, 300, 100)]
    lines = [
        f"{head} frames={count}i,seq_min={low}i,seq_max={high}i,{delay} {ask.now - age * DAY_MS}"
        for age, (low, high, count) in zip((9, 8, 7), hours, strict=True)
    ]
    influx.write("minute", lines)
    assert ask.one(completeness_query.holes()) == 3


def test_late_share_counts_frames_that_took_more_than_a_minute(influx: Influx) -> None:
    ask = Asker(influx, days=0.25)
    assert ask.rows(completeness_query.late_share(over_time=False)) == []
    begin = ask.now - HOUR_MS
    influx.write("raw", [frame("van", 7, seq, begin + seq * 1000, delay_ms=60_000) for seq in range(30)])
    assert ask.one(completeness_query.late_share(over_time=False)) == 0
    influx.write("raw", [frame("van", 7, seq, begin + seq * 1000, delay_ms=60_001) for seq in range(30, 40)])
    assert ask.one(completeness_query.late_share(over_time=False)) == pytest.approx(0.25)
    shares = ask.rows(completeness_query.late_share(over_time=True))
    assert shares
    assert all(0 <= share <= 1 for (share,) in shares)


def test_silent_nodes_are_those_that_said_nothing_at_the_ranges_end(influx: Influx) -> None:
    ask = Asker(influx, days=0.25)
    for node, age_ms in (("runs", MINUTE_MS), ("silent", 11 * MINUTE_MS), ("too", 5 * HOUR_MS), ("gone", 25 * HOUR_MS)):
        influx.write("raw", [f"node,fleet=f,node={node} uptime_s=9i {ask.now - age_ms}"])
    assert ask.one([completeness_query.silent()]) == 2
    assert Asker(influx, days=0.25, choices={"node": "runs"}).rows([completeness_query.silent()]) == []


def test_a_passports_estimate_that_is_not_known_any_more_is_not_shown(influx: Influx) -> None:
    ask = Asker(influx, days=30)
    begin = ask.now - 200 * DAY_MS
    known = {"last_utc_ms": ask.now, "swap_count": 3, "holder_count": 2, "capacity_ah": 487.5, "capacity_sigma_ah": 7.0}
    influx.write("forever", lines_of(PASSPORT.row(begin, {"module": "M1"}, **known)))
    influx.write("forever", lines_of(PASSPORT.row(begin, {"module": "M2"}, capacity_ah=100.0)))
    estimate = [passport_query.estimate("capacity_ah", "capacity_sigma_ah")]
    assert ask.rows(estimate) == [[487.5, 7.0]]
    del known["capacity_ah"], known["capacity_sigma_ah"]
    influx.write("forever", lines_of(PASSPORT.row(begin, {"module": "M1"}, **known)))
    assert ask.rows(estimate) == []
    assert ask.rows([passport_query.estimate("swap_count", "holder_count")]) == [[3, 2]]


def test_rows_of_the_books_that_were_taken_back_are_not_shown(influx: Influx) -> None:
    ask = Asker(influx, days=30)
    row = PASSPORT.row(ask.now - DAY_MS, {"module": "M1"}, swap_count=3)
    influx.write("forever", lines_of(row))
    assert ask.rows([passport_query.estimate("swap_count")]) == [[3]]
    influx.write("forever", lines_of(row.void()))
    assert ask.rows([passport_query.estimate("swap_count")]) == []


def lines_of(row: Any) -> list[str]:
    """Return the row's line with its time in ms."""
    return [f"{format_row(row).rsplit(' ', 1)[0]} {row.time_utc_ms}"]
