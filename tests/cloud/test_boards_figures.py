"""What the boards "Module passport" and "Data completeness" add up is right."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from swapline_bench import services
from swapline_bench.randomness import make_random
from swapline_cloud.board import completeness_query, passport_query
from swapline_cloud.interpolate import ALL, Choice, TimeRange, interpolate
from swapline_cloud.query import Query
from swapline_gateway.battery.store_influxql import format_row
from swapline_gateway.battery.table import PASSPORT
from tests.cloud.influx import Influx, empty

CHOSEN: dict[str, Choice] = {"fleet": ALL, "node": ALL, "module": "M1", "gateway": ALL}
DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000


@pytest.fixture
def influx(server: services.InfluxServer) -> Iterator[Influx]:
    yield empty(server)
    server.execute('DROP DATABASE "swapline"')


class Asker:
    """Asks a board's queries about a range that ends now, or so many hours ago."""

    def __init__(
        self,
        influx: Influx,
        *,
        days: float,
        end_h: float = 0.0,
        now: int | None = None,
        choices: dict[str, Choice] | None = None,
    ) -> None:
        self.influx = influx
        self.now = now or int(time.time() * 1000)
        end = self.now - int(end_h * HOUR_MS)
        self._range = TimeRange(end - int(days * DAY_MS), end)
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


def frame(node: str, journal: int, seq: int, time_ms: int, *, stream: str = "node", delay_ms: int = 900) -> str:
    return (
        f"frames,fleet=f,node={node},journal={journal},stream={stream} seq={seq}i,row_count=4i,rows_refused=0i"
        f",delay_ms={delay_ms}i {time_ms}"
    )


def sealed(begin_ms: int, end_ms: int, *, seed: int) -> list[tuple[int, int, str]]:
    """Return number, time and stream of the frames of a van that drives, each sealed within 5 s of its first row.

    Full ones are sealed earlier, alarms at once. So a frame's number is later than those of frames that began after it.
    """
    random = make_random(seed, "frames")
    closed = []
    for source, period_ms in enumerate((1000, 1000, 2000, 2000, 2000, 15_000, 60_000, 60_000)):
        time_ms = begin_ms + random.randint(0, period_ms)
        while time_ms < end_ms:
            closed.append((time_ms + random.randint(300, 5040), time_ms, f"s{source}"))
            time_ms += max(period_ms, 5000) + random.randint(0, 900)
    closed += [(time_ms, time_ms, "alarm") for time_ms in range(begin_ms + 7777, end_ms, 31_007)]
    return [(seq, time_ms, stream) for seq, (_, time_ms, stream) in enumerate(sorted(closed), 1)]


def figures(ask: Asker) -> dict[str, int]:
    """Return the figure of missing frames: `missing` for certain, `with_ends` at most."""
    found: dict[str, int] = {}
    for series in ask.series(completeness_query.missing()):
        found |= {series["columns"][1]: series["values"][0][1]}
    return found


def test_missing_frames_are_counted_by_journal_and_begin_at_the_range(influx: Influx) -> None:
    ask = Asker(influx, days=0.25)
    begin = ask.now - 5 * HOUR_MS
    lines = [frame("van", 7, seq, begin + seq * 1000) for seq in range(500, 600) if seq not in (510, 511, 580)]
    lines += [frame("van", 8, seq, begin + 700_000 + seq * 1000) for seq in range(1, 20)]
    lines += [frame("station", 9, seq, begin + seq * 1000) for seq in (1, 2, 3, 9)]
    influx.write("raw", lines)
    assert figures(ask) == {"missing": 3 + 5, "with_ends": 3 + 5}
    each = ask.series(completeness_query.missing_by_journal())
    assert {(one["tags"]["node"], one["tags"]["journal"]): one["values"][0][1] for one in each} == {
        ("van", "7"): 3,
        ("station", "9"): 5,
    }
    over_time = ask.series(completeness_query.holes_over_time())
    assert {one["tags"]["node"] for one in over_time} == {"van", "station"}


def test_frames_that_are_missing_in_the_whole_range_are_missing(influx: Influx) -> None:
    ask = Asker(influx, days=1 / 24, end_h=2)
    influx.write(
        "raw", [frame("van", 7, 50, ask.now - 3 * HOUR_MS - 9000), frame("van", 7, 71, ask.now - 2 * HOUR_MS + 9000)]
    )
    assert ask.rows(completeness_query.missing_by_journal())[0][0] == 20


def test_missing_frames_of_a_long_range_come_from_roll_ups(influx: Influx) -> None:
    ask = Asker(influx, days=30)
    head, delay = "frames,fleet=f,node=van,journal=7,stream=node", "delay_ms_mean=800,delay_ms_max=2000i"
    hours = [(1, 100, 100), (101, 200, 97), (201, 300, 100)]
    lines = [
        f"{head} frames={count}i,seq_min={low}i,seq_max={high}i,{delay} {ask.now - age * DAY_MS}"
        for age, (low, high, count) in zip((9, 8, 7), hours, strict=True)
    ]
    influx.write("minute", lines)
    assert figures(ask) == {"missing": 3, "with_ends": 3}


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


# Hours before now: ranges whose both ends cut through frames, one that ends now, one beyond all frames.
LOST_H, LOST = 1.9, 43
RANGES = ((3.01, 1.0), (2.503, 1.507), (2.2, 0.0), (30.0, 0.0))


@pytest.fixture(scope="module")
def driven(server: services.InfluxServer) -> Iterator[tuple[Influx, int]]:
    """Return a moment, and three vans up to it: one lost nothing, one 40 and 3 numbers two hours ago, one is new."""
    found = empty(server)
    now_ms = int(time.time() * 1000)
    for node, begin_h, loses in (("whole", 4.0, False), ("lossy", 4.0, True), ("new", 0.3, False)):
        sent = sealed(now_ms - int(begin_h * HOUR_MS), now_ms, seed=len(node))
        middle = next(seq for seq, time_ms, _ in sent if time_ms > now_ms - LOST_H * HOUR_MS) if loses else 0
        gone = {middle + after for after in (*range(40), 100, 102, 104)} if loses else set()
        lines = [frame(node, 7, seq, time_ms, stream=stream) for seq, time_ms, stream in sent if seq not in gone]
        for begin in range(0, len(lines), 4000):
            found.write("raw", lines[begin : begin + 4000])
    yield found, now_ms
    server.execute('DROP DATABASE "swapline"')


Driven = tuple[Influx, int]


def ask_of(driven: Driven, begin_h: float, end_h: float, *nodes: str) -> Asker:
    """Return who asks about these hours before the moment at which the vans were left."""
    influx, now = driven
    return Asker(influx, days=(begin_h - end_h) / 24, end_h=end_h, now=now, choices={"node": nodes} if nodes else None)


@pytest.mark.parametrize(("begin_h", "end_h"), RANGES)
def test_a_fleet_that_lost_nothing_misses_nothing_whatever_the_range_cuts(
    driven: Driven, begin_h: float, end_h: float
) -> None:
    ask = ask_of(driven, begin_h, end_h, "whole", "new")
    assert figures(ask)["missing"] == 0
    assert ask.rows(completeness_query.missing_by_journal()) == []


def test_frames_at_a_ranges_ends_would_be_called_missing_by_numbers_alone(driven: Driven) -> None:
    assert 0 < figures(ask_of(driven, *RANGES[0], "whole"))["with_ends"] < 20


@pytest.mark.parametrize(("begin_h", "end_h"), RANGES)
def test_the_truth_lies_between_the_two_figures(driven: Driven, begin_h: float, end_h: float) -> None:
    ask = ask_of(driven, begin_h, end_h)
    found = figures(ask)
    assert LOST - 20 < found["missing"] <= LOST <= found["with_ends"] < LOST + 20
    ((certain, _),) = ask.rows(completeness_query.missing_by_journal())
    assert certain == found["missing"]


def test_losses_in_a_range_whose_ends_cut_nothing_are_counted_exactly(driven: Driven) -> None:
    assert figures(ask_of(driven, 30, 0)) == {"missing": LOST, "with_ends": LOST}
