"""The alarm book: rows become alarms, from raised to cleared, in whatever order and however often they come."""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.alarm.book import Alarm, AlarmKey, AlarmRow, Boot, acknowledge, join
from swapline_gateway.alarm.shelf import Shelf, row_of_message, row_of_reading, rows_of_item
from swapline_gateway.alarm.source import AlarmSource, Span
from swapline_gateway.alarm.source_duckdb import DuckdbAlarms
from swapline_gateway.alarm.source_influxql import InfluxqlAlarms
from swapline_gateway.alarm.watch import read_alarms
from swapline_gateway.battery.record import Acknowledgement
from swapline_gateway.config import DuckdbConfig, Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.ingest import Sender, examine_message
from swapline_gateway.publisher import alarm_rows
from swapline_gateway.restore import read_state
from swapline_gateway.sinks.base import Sink
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.state import FleetState
from swapline_wire.catalogue import ALARM_STREAM, BOOT, EVENT_STREAM, MODULE_LOST, NODE, SLOT
from tests.gateway.written import write

T = 1_800_000_000_000
KEY = AlarmKey("test", "van-001", 1, "M", 1)
LOST = KEY._replace(module="", code=MODULE_LOST)
CELL_HIGH = {"stream": 3, "signal": 7, "position": 7, "value": 3662, "threshold": 3650}


def row(at_s: float, level: int, *, boot: int = 1, journal: int = 7, key: AlarmKey = KEY, seq: int = 0) -> AlarmRow:
    return AlarmRow(T + round(at_s * 1000), key, journal, boot, {"level": level, **CELL_HIGH}, seq)


def boot(at_s: float, number: int, *, journal: int = 7) -> Boot:
    return Boot(T + at_s * 1000, "test", "van-001", journal, number)  # type: ignore[arg-type]


@dataclass
class Known:
    """A witness that knows for how long each boot ran, and when somebody answered."""

    ran: set[int] = field(default_factory=set)
    answered_s: float | None = None

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        del end_utc_ms
        return boot.boot in self.ran

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        del key
        found = None if self.answered_s is None else T + round(self.answered_s * 1000)
        return found if found is not None and found > after_utc_ms else None


def lives(alarms: Sequence[Alarm]) -> list[tuple[float, float | None, int, str | None]]:
    """Return (raised, cleared, highest level, ending) of each, in seconds."""
    return [
        (
            (alarm.raised_utc_ms - T) / 1000,
            None if alarm.cleared_utc_ms is None else (alarm.cleared_utc_ms - T) / 1000,
            alarm.level_max,
            alarm.ending,
        )
        for alarm in alarms
    ]


def test_raised_escalated_and_cleared_are_one_alarm_with_its_highest_level() -> None:
    found = join([row(0, 1), row(5, 2), row(9, 3), row(30, 0)], [], Known())
    assert lives(found) == [(0, 30, 3, "cleared")]
    told = found[0].as_json()
    assert (told["name"], told["value"], told["unit"], told["threshold"], told["level"]) == (
        "cell over-voltage",
        3.662,
        "V",
        3.65,
        0,
    )
    assert told["text"] == "level 3 cell over-voltage (cell 7): cell_voltage_max_v 3.662 V, limit 3.65 V"


def test_an_alarm_stands_until_its_node_says_otherwise() -> None:
    (found,) = join([row(0, 2)], [], Known())
    assert found.is_standing
    assert (found.level, found.as_json()["cleared_utc_ms"]) == (2, None)


def test_what_a_restarted_node_raises_again_is_the_same_alarm() -> None:
    (found,) = join([row(0, 2), row(130, 2, boot=2), row(150, 0, boot=2)], [boot(100, 2)], Known({2}))
    assert lives([found]) == [(0, 150, 2, "cleared")]
    assert found.told_count == 2


def test_level_told_again_may_be_lower_and_rise_from_there() -> None:
    rows = [row(0, 3), row(130, 1, boot=2), row(140, 2, boot=2)]
    (found,) = join(rows, [boot(100, 2)], Known({2}))
    assert (found.level, found.level_max, found.is_standing) == (2, 3, True)


def test_what_a_restarted_node_does_not_raise_any_more_ended_with_the_restart() -> None:
    rows, boots = [row(0, 2)], [boot(100, 2)]
    assert lives(join(rows, boots, Known({2}))) == [(0, 100, 2, "restart")]
    assert lives(join(rows, boots, Known())) == [(0, None, 2, None)], "nobody knows: it did not run for long enough"


def test_what_is_raised_long_after_a_restart_is_another_alarm() -> None:
    found = join([row(0, 2), row(400, 2, boot=2)], [boot(100, 2)], Known({2}))
    assert lives(found) == [(0, 100, 2, "restart"), (400, None, 2, None)]


def test_short_boots_in_between_end_nothing() -> None:
    boots = [boot(100, 2), boot(110, 3), boot(125, 4)]
    assert lives(join([row(0, 2), row(150, 2, boot=4)], boots, Known({4}))) == [(0, None, 2, None)]


def test_a_restart_whose_event_is_not_here_yet_ends_nothing() -> None:
    assert lives(join([row(0, 2), row(5000, 2, boot=2)], [], Known())) == [(0, None, 2, None)]


def test_lost_module_stands_over_restarts_until_one_answers_there() -> None:
    rows, boots = [row(0, 2, key=LOST)], [boot(100, 2)]
    assert lives(join(rows, boots, Known({2}))) == [(0, None, 2, None)]
    assert lives(join(rows, boots, Known({2}, answered_s=300))) == [(0, 300, 2, "answered")]


def test_a_clear_that_is_missing_makes_two_alarms_and_one_that_is_alone_makes_none() -> None:
    assert lives(join([row(0, 2), row(50, 2)], [], Known())) == [(0, 50, 2, "unknown"), (50, None, 2, None)]
    assert join([row(9, 0)], [], Known()) == []


def test_runs_are_ordered_by_their_boot_and_not_by_a_clock_that_ran_ahead() -> None:
    rows = [row(3600, 2, boot=1), row(130, 2, boot=2), row(150, 0, boot=2)]
    found = join(rows, [boot(3500, 1), boot(100, 2)], Known({2}))
    assert [(alarm.is_standing, alarm.told_count) for alarm in found] == [(False, 2)]


def test_a_clock_that_is_set_back_while_an_alarm_stands_leaves_it_neither_standing_nor_hides_the_next_one() -> None:
    told = [row(100, 2, seq=4), row(20, 0, seq=5)]
    assert lives(join(reversed(told), [], Known())) == [(100, 100, 2, "cleared")]
    told += [row(90, 2, seq=6)]
    found = join(reversed(told), [], Known())
    assert [(alarm.raised_utc_ms, alarm.is_standing) for alarm in found] == [(T + 90_000, True), (T + 100_000, False)]


def test_rows_of_which_one_has_no_frame_are_in_the_order_of_time() -> None:
    assert lives(join([row(0, 1, seq=9), row(5, 2), row(9, 0, seq=3)], [], Known())) == [(0, 9, 2, "cleared")]


def test_a_replaced_unit_begins_a_journal_and_ends_what_it_does_not_raise() -> None:
    found = join([row(0, 2)], [boot(-9, 1), boot(1000, 1, journal=8)], Known({1}))
    assert lives(found) == [(0, 1000, 2, "restart")]


def test_modules_that_change_places_have_alarms_of_their_own() -> None:
    other = KEY._replace(module="N")
    found = join([row(0, 2), row(10, 0), row(20, 1, key=other)], [], Known())
    assert [(alarm.key.module, alarm.is_standing) for alarm in found] == [("M", False), ("N", True)]


def said(raised_s: float, *, at_s: float = 0.0, by: str = "Li", module: str = "M") -> Acknowledgement:
    times = {"raised_utc_ms": T + round(raised_s * 1000), "time_utc_ms": T + round(at_s * 1000)}
    return Acknowledgement("test", "van-001", 1, 1, module, **times, by=by, note="")


def test_acknowledged_is_the_alarm_that_was_raised_then_and_no_later_one() -> None:
    alarms = join([row(0, 1), row(30, 0), row(60, 2)], [], Known())
    assert [one.acknowledgement for one in acknowledge(alarms, [said(0)])] == [said(0), None]
    assert [one.acknowledgement for one in acknowledge(alarms, [said(60)])] == [None, said(60)]
    assert [one.acknowledgement for one in acknowledge(alarms, [said(60, module="N")])] == [None, None]


def test_acknowledged_stays_so_when_the_row_that_raised_it_comes_late() -> None:
    late = acknowledge(join([row(0, 1), row(5, 2)], [], Known()), [said(5)])
    assert [(alarm.raised_utc_ms, alarm.acknowledgement) for alarm in late] == [(T, said(5))]


def test_of_two_who_acknowledge_the_first_counts_in_whatever_order_they_come() -> None:
    alarms, first, second = join([row(0, 1)], [], Known()), said(0, at_s=8, by="Ann"), said(0, at_s=9, by="Bob")
    for order in ([first, second], [second, first]):
        assert acknowledge(alarms, order)[0].acknowledgement == first
        shelf = Shelf()
        shelf.put_said(order)
        assert shelf.said_of(alarms)[0].acknowledgement == first


def test_a_row_is_the_same_one_on_whichever_way_it_comes() -> None:
    node = FrameSource(node="van-001", anchor_utc_ms=T)
    frame = node.frame([(9000, row_of(ALARM_STREAM, code=1, level=2))], stream=ALARM_STREAM, bay=1, owner="M")
    (item,) = examine_message(Sender("test", "van-001"), node.message(frame)).items
    (told,) = rows_of_item(item)
    assert told.seq == item.decoded.header.seq > 0
    (published,) = alarm_rows(item)
    assert row_of_message("test", "van-001", json.loads(json.dumps(published))) == told
    (change,) = FleetState().apply("test", "van-001", item.decoded, item.anchor_utc_ms)
    retained = json.dumps(change.reading.as_state_json()).encode()
    reading = read_state(f"swapline/v1/test/van-001/{change.channel}", retained)
    assert reading is not None
    assert row_of_reading(reading) == told


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[AlarmRow], list[Boot], Known]:
    """A node's life: boots, each with alarms that are raised, escalated, cleared, or stand when the power goes."""
    dice = random.Random(draw(st.integers(0, 10**9)))  # noqa: S311
    rows: list[AlarmRow] = []
    boots: list[Boot] = []
    at_s = 0.0
    for number in range(1, draw(st.integers(1, 5)) + 1):
        offset_s = dice.choice((0, 0, 5000))  # a clock that is set after this boot
        boots.append(Boot(T + round((at_s + offset_s) * 1000), "test", "van-001", 7, number))
        level = 0
        for _ in range(dice.randrange(6)):
            at_s += dice.uniform(0.5, 90)
            level = dice.randrange(level + 1, 4) if level < 3 and dice.random() < 0.6 else 0 if level else 1
            rows.append(row(at_s + offset_s, level, boot=number))
        at_s += dice.uniform(1, 200)
    return rows, boots, Known({b.boot for b in boots if dice.random() < 0.7})


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_book_does_not_depend_on_the_order_or_the_number_of_times_in_which_rows_come(
    life: tuple[list[AlarmRow], list[Boot], Known], dice: random.Random
) -> None:
    rows, boots, witness = life
    expected = join(rows, boots, witness)
    again = [*rows, *dice.sample(rows, len(rows) // 2)]
    dice.shuffle(again)
    dice.shuffle(boots)
    assert join(again, boots, witness) == expected
    shelf = Shelf()
    for part in (again[::2], again[1::2]):
        shelf.put_rows(part)
    shelf.put_boots(boots)
    assert join(shelf.rows_of(("test", "van-001")), shelf.boots_of(("test", "van-001")), witness) == expected
    for earlier, later in itertools.pairwise(expected):
        assert earlier.raised_utc_ms <= later.raised_utc_ms
    assert sum(alarm.is_standing for alarm in expected) <= 1


def test_shelf_lets_go_of_what_ended_longest_ago_and_says_since_when_it_has_all() -> None:
    shelf = Shelf(rows_max=20)
    node = ("test", "van-001")
    for n in range(30):
        shelf.put_rows([row(100 * n, 2), *([row(100 * n + 50, 0)] if n else [])])
        shelf.settle(node, join(shelf.rows_of(node), [], Known()))
    assert shelf.forgotten > 0
    kept = join(shelf.rows_of(node), [], Known())
    assert len(shelf.rows_of(node)) <= 20
    assert kept[-1].raised_utc_ms == T + 2_900_000
    assert all(alarm.cleared_utc_ms is None or alarm.cleared_utc_ms >= shelf.since_utc_ms for alarm in kept)


@pytest.fixture(params=["duckdb", "influxdb1"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, AlarmSource]]:
    if request.param == "duckdb":
        with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "swapline.duckdb"))) as file:
            file.open()
            yield file, DuckdbAlarms(file.cursor)
        return
    server: services.InfluxServer = request.getfixturevalue("influx")
    config = Influxdb1Config(type="influxdb1", url=server.url, database=request.node.name)
    with closing(Influxdb1Sink(config)) as sink, closing(InfluxqlAlarms(InfluxqlClient(config))) as source:
        sink.open()
        yield sink, source


@dataclass
class Written:
    """Writes what a node tells; times in s since its boot."""

    sink: Sink
    node: FrameSource = field(default_factory=lambda: FrameSource(anchor_utc_ms=T))

    def start(self, at_s: float) -> None:
        self.node.boot += 1
        self.node.anchor_utc_ms = T + round(at_s * 1000)
        self.event(0.5, code=BOOT, count=self.node.boot)

    def event(self, at_s: float, **values: int) -> None:
        rows = [(round(at_s * 1000), row_of(EVENT_STREAM, **values))]
        write(self.sink, self.node, self.node.frame(rows, stream=EVENT_STREAM, bay=0, owner=""))

    def alarm(self, at_s: float, level: int, *, bay: int = 1, owner: str = "M", code: int = 1) -> None:
        values = row_of(ALARM_STREAM, code=code, level=level, signal=7, value=3662, threshold=3650)
        values[2] = 3  # the signal that is called `stream`
        rows = [(round(at_s * 1000), values)]
        write(self.sink, self.node, self.node.frame(rows, stream=ALARM_STREAM, bay=bay, owner=owner))

    def health(self, at_s: float) -> None:
        rows = [(round(at_s * 1000), row_of(NODE, uptime_s=round(at_s)))]
        write(self.sink, self.node, self.node.frame(rows, stream=NODE, bay=0, owner=""))


def read(source: AlarmSource) -> list[Alarm]:
    return read_alarms(source, Span(T - 1, T + 10_000_000))


def test_databases_know_alarms_runs_and_what_became_of_them(database: tuple[Sink, AlarmSource]) -> None:
    sink, source = database
    told = Written(sink)
    told.alarm(10, 1)
    told.alarm(15, 2)
    told.alarm(12, 2, bay=2, owner="N", code=6)
    told.start(1000)
    told.alarm(30, 2)
    told.health(59)
    assert {(a.key.module, a.level, a.told_count) for a in read(source)} == {("M", 2, 2), ("N", 2, 1)}
    told.health(80)
    told.alarm(90, 0)
    ended = {alarm.key.module: lives([alarm])[0] for alarm in read(source)}
    assert ended == {"M": (10, 1090, 2, "cleared"), "N": (12, 1000.5, 2, "restart")}


def test_databases_know_in_which_order_rows_were_told_around_a_step_of_the_clock(
    database: tuple[Sink, AlarmSource],
) -> None:
    sink, source = database
    told = Written(sink)
    told.alarm(1000, 2)
    told.alarm(1000, 2, bay=2, owner="N")  # of one moment with it
    told.node.anchor_utc_ms -= 600_000
    told.alarm(1100, 0)
    told.alarm(1200, 1, code=6)
    ended = {(a.key.module, a.key.code): lives([a])[0] for a in read(source)}
    assert ended["M", 1] == (1000, 1000, 2, "cleared")
    assert ended["N", 1] == (1000, None, 2, None)
    told.alarm(1300, 0, code=6)
    told.node.anchor_utc_ms -= 600_000
    told.alarm(1350, 3, code=6)
    last = [lives([a])[0] for a in read(source) if a.key.code == 6]
    assert last == [(150, None, 3, None), (600, 700, 1, "cleared")]


def test_databases_know_when_a_lost_module_was_there_again(database: tuple[Sink, AlarmSource]) -> None:
    sink, source = database
    told = Written(sink)
    for bay in (1, 2, 3):
        told.alarm(10, 2, bay=bay, owner="", code=MODULE_LOST)
    told.start(1000)
    told.health(100)
    module = told.node.frame([(120_000, module_row())], bay=1, owner="M")
    empty = told.node.frame([(130_000, row_of(SLOT, occupied=0))], stream=SLOT, bay=2, owner="")
    full = told.node.frame([(130_000, row_of(SLOT, occupied=1))], stream=SLOT, bay=3, owner="")
    for frame in (module, empty, full):
        write(sink, told.node, frame)
    ends = {alarm.key.bay: lives([alarm])[0] for alarm in read(source)}
    assert ends == {1: (10, 1120, 2, "answered"), 2: (10, 1130, 2, "answered"), 3: (10, None, 2, None)}


def test_databases_answer_for_one_fleet_node_and_module(database: tuple[Sink, AlarmSource]) -> None:
    sink, source = database
    for name in ("van-001", "van-002"):
        told = Written(sink, FrameSource(node=name, anchor_utc_ms=T))
        told.alarm(10, 1, owner="M'1,=")
        told.alarm(20, 1, owner="N", bay=2)
    span = Span(T - 1, T + 10_000_000)
    assert len(source.rows(span, 100)) == 4
    assert {r.key.module for r in source.rows(span._replace(module="M'1,="), 100)} == {"M'1,="}
    assert len(source.rows(span._replace(node="van-002"), 100)) == 2
    assert source.rows(span._replace(fleet="none"), 100) == []
    assert [r.time_utc_ms for r in source.rows(span, 2)] == [T + 20_000, T + 20_000]
    assert source.rows(span._replace(start_utc_ms=T + 15_000, node="van-001"), 9)[0].journal == 7
