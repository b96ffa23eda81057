"""What is due: kept with the frames' leaving, once a module and hour, until it was derived and nothing touched it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row, row_of
from swapline_gateway import due
from swapline_gateway.battery.concern import Concerns
from swapline_gateway.due import (
    CUSTODY_FIRST,
    EVERYTHING,
    FIGURES,
    FIGURES_THEN,
    GRACE_MS,
    HOUR_MS,
    HOURS_NEXT,
    LEASE_MS,
    WHOLE,
    WHOLE_LAST,
    Due,
    DueTable,
    Finish,
    Touch,
)
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.spool import Spool, SpooledFrame
from swapline_wire.catalogue import ALARM_STREAM, BATTERY_IN, BOOT, EVENT_STREAM, VEHICLE, Stream

NOW_MS = 500_000 * HOUR_MS + HOUR_MS // 2
PAST = NOW_MS // HOUR_MS * HOUR_MS - 100 * HOUR_MS
RUNNING = NOW_MS // HOUR_MS * HOUR_MS
LONG_AFTER_MS = NOW_MS + 10 * HOUR_MS


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(due.TABLE)
        yield connection


def hours_taken(table: DueTable, connection: sqlite3.Connection, priority: int, now_ms: int) -> list[int]:
    return [one.hour_utc_ms for one in table.take(connection, priority, 100, now_ms)]


def test_hour_that_is_touched_often_is_due_once(connection: sqlite3.Connection) -> None:
    table = DueTable()
    for _ in range(5):
        table.touch(connection, [Touch("M", PAST), Touch("N", PAST)], NOW_MS)
    taken = table.take(connection, HOURS_NEXT, 100, LONG_AFTER_MS)
    assert sorted((one.module, one.hour_utc_ms) for one in taken) == [("M", PAST), ("N", PAST)]


def test_past_hour_waits_a_moment_for_company_and_a_running_one_until_it_is_over(
    connection: sqlite3.Connection,
) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", PAST), Touch("M", RUNNING)], NOW_MS)
    assert hours_taken(table, connection, HOURS_NEXT, NOW_MS) == []
    (past,) = table.take(connection, HOURS_NEXT, 100, NOW_MS + due.DEBOUNCE_MS)
    assert past.hour_utc_ms == PAST
    table.finish(connection, [Finish(past)])
    assert hours_taken(table, connection, HOURS_NEXT, RUNNING + HOUR_MS + GRACE_MS - 1) == []
    assert hours_taken(table, connection, HOURS_NEXT, RUNNING + HOUR_MS + GRACE_MS) == [RUNNING]


def test_hour_of_a_clock_far_ahead_is_not_waited_for(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", RUNNING + 50_000 * HOUR_MS)], NOW_MS)
    assert len(table.take(connection, HOURS_NEXT, 1, NOW_MS + due.DEBOUNCE_MS)) == 1


def test_what_may_change_custody_is_due_at_once_also_in_an_hour_that_waited(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", RUNNING)], NOW_MS)
    table.touch(connection, [Touch("M", RUNNING, is_custody=True)], NOW_MS)
    assert hours_taken(table, connection, CUSTODY_FIRST, NOW_MS) == [RUNNING]


def test_module_that_is_in_two_places_is_not_derived_with_every_frame(connection: sqlite3.Connection) -> None:
    table = DueTable()
    taken = 0
    for step in range(100):  # ten seconds: a frame and a look every tenth
        now_ms = NOW_MS + step * 100
        table.touch(connection, [Touch("M", RUNNING, is_custody=True)], now_ms)
        found = table.take(connection, CUSTODY_FIRST, 10, now_ms)
        table.finish(connection, [Finish(one) for one in found])
        taken += len(found)
    assert taken == 10_000 // due.CUSTODY_MS
    assert len(table.take(connection, CUSTODY_FIRST, 10, now_ms + due.CUSTODY_MS)) == 1  # the last frame's


def test_clock_that_is_set_back_does_not_keep_custody_waiting(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", RUNNING, is_custody=True)], NOW_MS)
    table.finish(connection, [Finish(one) for one in table.take(connection, CUSTODY_FIRST, 10, NOW_MS)])
    table.touch(connection, [Touch("M", RUNNING, is_custody=True)], NOW_MS - HOUR_MS)
    assert len(table.take(connection, CUSTODY_FIRST, 10, NOW_MS - HOUR_MS)) == 1


def test_entry_that_was_touched_after_it_was_taken_is_not_done(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", PAST), Touch("N", PAST)], NOW_MS)
    taken = table.take(connection, HOURS_NEXT, 10, NOW_MS + due.DEBOUNCE_MS)
    table.touch(connection, [Touch("M", PAST)], NOW_MS + due.DEBOUNCE_MS)
    table.finish(connection, [Finish(one) for one in taken])
    (again,) = table.take(connection, HOURS_NEXT, 10, LONG_AFTER_MS)
    assert again.module == "M"
    table.finish(connection, [Finish(again)])
    assert table.state(connection, LONG_AFTER_MS).entry_count == 0


def test_entry_that_was_taken_by_somebody_who_was_killed_comes_again(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", PAST)], NOW_MS)
    taken_ms = NOW_MS + due.DEBOUNCE_MS
    assert len(table.take(connection, HOURS_NEXT, 10, taken_ms)) == 1
    assert table.take(connection, HOURS_NEXT, 10, taken_ms + LEASE_MS - 1) == []
    assert len(DueTable().take(connection, HOURS_NEXT, 10, taken_ms + LEASE_MS)) == 1
    table.release(connection)
    assert len(table.take(connection, HOURS_NEXT, 10, taken_ms)) == 1


def test_entry_can_be_put_off(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", PAST, is_custody=True)], NOW_MS)
    (taken,) = table.take(connection, CUSTODY_FIRST, 10, NOW_MS)
    table.finish(connection, [Finish(taken, NOW_MS + 500, is_again=True)])
    assert table.take(connection, HOURS_NEXT, 10, NOW_MS + 499) == []
    (again,) = table.take(connection, HOURS_NEXT, 10, NOW_MS + 500)
    assert again.is_again
    table.touch(connection, [Touch("M", PAST)], NOW_MS)
    (fresh,) = table.take(connection, HOURS_NEXT, 10, LONG_AFTER_MS)
    assert not fresh.is_again


def test_beyond_the_limit_a_module_is_due_as_a_whole_and_new_ones_are_counted(connection: sqlite3.Connection) -> None:
    table = DueTable(limit=4)
    table.touch(connection, [Touch("M", PAST + i * HOUR_MS) for i in range(10)], NOW_MS)
    assert len(table.take(connection, HOURS_NEXT, 10, LONG_AFTER_MS)) == 4
    assert [one.module for one in table.take(connection, WHOLE_LAST, 10, LONG_AFTER_MS)] == ["M"]
    table.touch(connection, [Touch(f"N{i}", PAST) for i in range(10)], NOW_MS)
    state = table.state(connection, LONG_AFTER_MS)
    assert (state.entry_count, state.dropped) == (8, 7)


def test_state_says_since_when_something_waits(connection: sqlite3.Connection) -> None:
    table = DueTable()
    table.touch(connection, [Touch("M", PAST, is_custody=True), Touch("M", RUNNING), Touch("M", FIGURES)], NOW_MS)
    state = table.state(connection, NOW_MS + 5)
    assert (state.entry_count, state.ready_count, state.oldest_utc_ms) == (3, 1, NOW_MS)
    assert [one.hour_utc_ms for one in table.take(connection, FIGURES_THEN, 9, LONG_AFTER_MS)] == [FIGURES]


def rows_of(source: FrameSource, data: bytes, received_utc_ms: int = PAST) -> FrameRows:
    return read_rows(SpooledFrame(0, source.fleet, source.node, source.anchor_utc_ms, 3, received_utc_ms, data))


def frame(
    times_ms: list[int], *, stream: Stream | None = None, node: str = "van-001", bay: int = 1, **row: int
) -> FrameRows:
    source = FrameSource(node=node, anchor_utc_ms=PAST)
    if stream is None:
        return rows_of(source, source.frame([(ms, module_row()) for ms in times_ms], bay=bay))
    owner = "" if stream is VEHICLE else MODULE_CODE
    return rows_of(source, source.frame([(ms, row_of(stream, **row)) for ms in times_ms], stream=stream, owner=owner))


def test_frame_concerns_the_hours_of_its_rows() -> None:
    found = Concerns().of([frame([0, 1000]), frame([HOUR_MS - 1, HOUR_MS])])
    assert found == [Touch(MODULE_CODE, PAST, True), Touch(MODULE_CODE, PAST + HOUR_MS, False)]


def test_module_is_urgent_where_it_was_not_before() -> None:
    concerns = Concerns()
    (first,) = concerns.of([frame([0])])
    (same,) = concerns.of([frame([60_000])])
    (other_bay,) = concerns.of([frame([120_000], bay=2)])
    (other_node,) = concerns.of([frame([180_000], bay=2, node="van-002")])
    assert [one.is_custody for one in (first, same, other_bay, other_node)] == [True, False, True, True]


def test_what_is_told_late_is_not_urgent_and_does_not_make_live_rows_so() -> None:
    concerns = Concerns()
    concerns.of([frame([0])])
    event = frame([0], stream=EVENT_STREAM, code=BATTERY_IN)
    late = [
        replace(rows, frame=rows.frame._replace(received_utc_ms=PAST + 9 * HOUR_MS))
        for rows in (
            event,
            frame([60_000], bay=2),
        )
    ]
    found = concerns.of(late) + concerns.of([frame([120_000])])
    assert [one.is_custody for one in found] == [False, False]


def test_swap_event_is_urgent_and_an_alarm_concerns_the_passport() -> None:
    found = Concerns().of(
        [
            frame([0], stream=EVENT_STREAM, code=BATTERY_IN),
            frame([HOUR_MS], stream=EVENT_STREAM, code=BOOT),
            frame([0], stream=ALARM_STREAM, code=3, level=2),
        ]
    )
    assert found == [Touch(MODULE_CODE, PAST, True), Touch(MODULE_CODE, FIGURES, False)]


def test_holder_s_own_rows_concern_it_when_they_come_late() -> None:
    rows = frame([0, HOUR_MS], stream=VEHICLE, speed_kmh=3)
    at = [replace(rows, frame=rows.frame._replace(received_utc_ms=PAST + hours * HOUR_MS)) for hours in (0, 1, 50)]
    names = ("\ntest/van-001", PAST), ("\ntest/van-001", PAST + HOUR_MS)
    assert [[one[:2] for one in Concerns().of([frame])] for frame in at] == [[], [names[0]], list(names)]


def test_due_is_kept_with_the_frames_leaving_and_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with closing(Spool(path, limit_bytes=1 << 20)) as spool:
        spool.remove([], [Touch("M", PAST, is_custody=True)])
    with closing(Spool(path, limit_bytes=1 << 20)) as spool:
        assert spool.due_state().entry_count == 1
        (taken,) = spool.take_due(CUSTODY_FIRST, 10)
        assert taken == Due("M", PAST, 1, False)
        spool.finish_due([Finish(taken)], [Touch("M", FIGURES)])
        assert spool.due_state().entry_count == 1


def test_spool_that_was_damaged_makes_everything_due(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with closing(Spool(path, limit_bytes=1 << 20)) as spool:
        spool.remove([], [Touch(f"M{i}", PAST) for i in range(1000)])
    damaged = bytearray(path.read_bytes())
    damaged[100:5000] = bytes(4900)
    path.write_bytes(damaged)
    with closing(Spool(path, limit_bytes=1 << 20)) as spool:
        (taken,) = spool.take_due(WHOLE_LAST, 10)
        assert (taken.module, taken.hour_utc_ms) == EVERYTHING
        assert spool.due_state().entry_count == 1
    assert WHOLE < 0


def test_spool_of_an_older_gateway_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with closing(Spool(path, limit_bytes=1 << 20)):
        pass
    with closing(sqlite3.connect(path)) as old:
        old.execute("DROP TABLE due")
    with closing(Spool(path, limit_bytes=1 << 20)) as spool:
        assert spool.due_state().entry_count == 0
    assert not list(tmp_path.glob("*.damaged-*"))
