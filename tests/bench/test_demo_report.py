"""The books balance when everything is accounted for, and show every kind of hole."""

import time
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pytest

from swapline_bench.custody import CustodyEvent
from swapline_bench.custody_check import Truth
from swapline_bench.demo_report import Report, close_books, format_report
from swapline_bench.frame_source import FrameSource
from swapline_gateway.sinks.duckdb_schema import make_tables
from swapline_gateway.spool import Spool
from swapline_node.journal import Journal
from swapline_wire import catalogue
from swapline_wire.frame import FrameBuilder

STOPPED_S = 1000.0
PAST_JOURNAL = 99


class Desk:
    """A journal, a database and a spool that a test fills as it likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(str(folder / "journal"), limit_bytes=200_000)
        self.journal.open()
        self.past = folder / "past"
        self.database = folder / "swapline.duckdb"
        self.connection = duckdb.connect(str(self.database))
        make_tables(self.connection)
        self.custody: list[CustodyEvent] = []
        self._stored: set[int] = set()
        self.began_utc_s = time.time()

    def seal(self, count: int) -> None:
        for _ in range(count):
            builder = FrameBuilder(catalogue.METER, buffer_bytes=256)
            builder.add(1000, catalogue.not_available(catalogue.METER.signals))
            journal = self.journal
            sealed = builder.seal(
                journal=journal.id, seq=journal.next_seq, boot=1, time_quality=4, anchor_utc_ms=1_780_000_000_000
            )
            assert journal.append(sealed, journal.next_seq, catalogue.ROUTINE) == 0
        self.journal.commit()

    def store(self, seqs: Iterable[int]) -> None:
        """Store frames of one row; a frame that is stored twice has its row once."""
        for seq in seqs:
            self._store_frame("meter", seq)
            if seq not in self._stored:
                self._stored.add(seq)
                self.insert("meter", seq, utc_s=1_780_000_000 + seq)

    def _store_frame(self, stream: str, seq: int) -> None:
        self.connection.execute(
            "INSERT INTO frames BY NAME SELECT 'demo' AS fleet, 'van-001' AS node, ? AS journal, ? AS seq,"
            " ? AS stream, 1 AS row_count, 3 AS value_count",
            [self.journal.id, seq, stream],
        )

    def insert(self, stream: str, seq: int, *, utc_s: float, **values: object) -> None:
        """Put a row of a frame into a stream's table."""
        origin = {"fleet": "demo", "node": "van-001", "journal": self.journal.id, "seq": seq, "time_quality": 4}
        columns = {**origin, **values}
        names = ", ".join(f"? AS {name}" for name in columns)
        self.connection.execute(
            f"INSERT INTO {stream} BY NAME SELECT make_timestamp(?) AS time, {names}",
            [int(utc_s * 1_000_000), *columns.values()],
        )

    def add(self, stream: str, *, utc_s: float, **values: object) -> None:
        """Seal and store a frame of one row."""
        self.seal(1)
        seq = self.journal.next_seq - 1
        self._store_frame(stream, seq)
        self.insert(stream, seq, utc_s=utc_s, **values)

    def event(self, code: int, *, module: str = "", bay: int = 0, **signals: int) -> None:
        self.add("event", utc_s=time.time(), module=module, bay=bay, code=code, **signals)

    def arrive(self, *, bay: int, code: str, real_time_s: float = 100.0, request_id: int = 1) -> None:
        self.custody.append(CustodyEvent("in", "van-001", bay, code, 0.0, real_time_s, 50.0, request_id))

    def leave(self, *, bay: int, code: str, real_time_s: float) -> None:
        self.custody.append(CustodyEvent("out", "van-001", bay, code, 0.0, real_time_s, 50.0, 1))

    def measure(self, *, bay: int, code: str, real_time_s: float, stream: str = "module", quality: int = 4) -> None:
        """Store a row of a module at a time of the custody's clock, whose zero is when the world began."""
        self.add(stream, utc_s=self.began_utc_s + real_time_s, bay=bay, module=code, time_quality=quality)

    def make_past(self, count: int, *, acknowledged: int) -> None:
        """Lay down a node's past of one row a frame, so many of which the gateway has acknowledged."""
        source = FrameSource("demo", "van-001", journal=PAST_JOURNAL)
        self.past.mkdir()
        data = b"".join(
            source.frame([(n * 1000, [0] * len(catalogue.METER.signals))], stream=catalogue.METER, owner="")
            for n in range(count)
        )
        (self.past / "van-001.frames").write_bytes(data)
        (self.past / "van-001.acknowledged").write_text(f"{acknowledged}\n")

    def store_past(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self.connection.execute(
                "INSERT INTO frames BY NAME SELECT 'demo' AS fleet, 'van-001' AS node, ? AS journal, ? AS seq,"
                " 'meter' AS stream, 1 AS row_count, 3 AS value_count",
                [PAST_JOURNAL, seq],
            )
            self.insert("meter", seq, utc_s=1_770_000_000 + seq, journal=PAST_JOURNAL)

    def close_books(self, *, has_nothing_left: bool = False) -> Report:
        if has_nothing_left:  # the next boot notes the numbers; then the frames that were on the flash are gone
            self.journal.close()
            self.journal = Journal(str(self.folder / "journal"), limit_bytes=200_000)
            self.journal.open()
            for segment in (self.folder / "journal").glob("*.seg"):
                segment.write_bytes(b"")
        self.journal.close()
        self.connection.close()
        Spool(self.folder / "spool.sqlite", limit_bytes=1 << 20).close()
        return close_books(
            database=self.database,
            spool=self.folder / "spool.sqlite",
            journals={"van-001": self.folder / "journal"},
            truth=Truth(self.custody, self.began_utc_s, STOPPED_S, clock_utc_s=self.began_utc_s),
            past=self.past if self.past.exists() else None,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_stored_and_in_flight_frames_balance(desk: Desk) -> None:
    desk.seal(10)
    desk.store(range(1, 8))
    report = desk.close_books()
    assert (report.frames_sealed, report.frames_stored, report.frames_in_flight) == (10, 7, 3)
    assert report.values_stored == 21
    assert report.is_good
    assert report.as_json()["runtime"] == "micropython"
    assert "every sealed frame is accounted for" in format_report(report)


def test_a_frame_that_is_nowhere_breaks_the_balance(desk: Desk) -> None:
    desk.seal(10)
    desk.store([1, 2, 3, 5, 6, 7, 8, 9, 10])
    report = desk.close_books(has_nothing_left=True)
    assert report.frames_unaccounted == 1
    assert not report.is_balanced
    assert "frames 4 are unaccounted for" in report.problems[0]
    assert "DO NOT BALANCE" in format_report(report)


def test_a_declared_loss_is_counted_with_its_reason(desk: Desk) -> None:
    desk.seal(10)
    desk.store([1, 2, 3, 7, 8, 9, 10])
    desk.event(catalogue.FRAMES_DROPPED, reason=catalogue.LOSS_JOURNAL_FULL, first_seq=4, last_seq=6, count=3)
    report = desk.close_books(has_nothing_left=True)
    assert report.frames_lost == {"journal_full": 3}
    assert report.is_good


def test_a_loss_that_was_stored_all_the_same_is_not_counted_twice(desk: Desk) -> None:
    desk.seal(6)
    desk.store(range(1, 6))
    desk.event(catalogue.FRAMES_DROPPED, reason=catalogue.LOSS_JOURNAL_FULL, first_seq=4, last_seq=6, count=3)
    report = desk.close_books(has_nothing_left=True)
    assert report.frames_lost == {"journal_full": 1}
    assert report.is_good


def test_a_frame_stored_twice_is_a_duplicate(desk: Desk) -> None:
    desk.seal(3)
    desk.store([1, 2, 3, 2])
    report = desk.close_books()
    assert report.duplicates == 1
    assert report.frames_stored == 3
    assert not report.is_balanced


def test_rows_that_differ_in_time_are_two_rows(desk: Desk) -> None:
    desk.add("meter", utc_s=1_770_000_000)
    desk.add("meter", utc_s=1_770_000_001)
    assert desk.close_books().is_good


def test_the_same_row_twice_is_a_duplicate(desk: Desk) -> None:
    desk.add("meter", utc_s=1_770_000_000)
    desk.add("meter", utc_s=1_770_000_000)
    report = desk.close_books()
    assert report.duplicates == 1
    assert report.rows_stored == 2
    assert not report.is_balanced


def test_a_frame_that_lost_a_row_breaks_the_balance(desk: Desk) -> None:
    desk.seal(3)
    desk.store([1, 2, 3])
    desk.connection.execute("DELETE FROM meter WHERE seq = 2")
    report = desk.close_books()
    assert report.frames_incomplete == 1
    assert report.problems == [f"van-001 journal {desk.journal.id:08x}: frame 2 has 1 meter rows, 0 are stored"]
    assert not report.is_balanced


def test_a_row_without_its_frame_breaks_the_balance(desk: Desk) -> None:
    desk.seal(2)
    desk.store([1])
    desk.insert("meter", 2, utc_s=1_770_000_000)
    report = desk.close_books()
    assert report.problems == [f"van-001 journal {desk.journal.id:08x}: frame 2 has 0 meter rows, 1 are stored"]
    assert not report.is_balanced


@pytest.mark.parametrize("stream", ["module", "cells"])
def test_rows_are_credited_to_the_module_that_was_there_at_their_time(desk: Desk, stream: str) -> None:
    desk.arrive(bay=1, code="OLD", real_time_s=0, request_id=0)
    desk.event(catalogue.BATTERY_IN, bay=1, module="OLD")
    desk.leave(bay=1, code="OLD", real_time_s=50)
    desk.arrive(bay=1, code="NEW", real_time_s=60)
    desk.event(catalogue.BATTERY_IN, bay=1, module="NEW")
    desk.measure(bay=1, code="OLD", real_time_s=49, stream=stream)
    desk.measure(bay=1, code="NEW", real_time_s=61, stream=stream)
    assert desk.close_books().is_good


@pytest.mark.parametrize("stream", ["module", "cells"])
@pytest.mark.parametrize(("bay", "code", "real_time_s"), [(1, "OLD", 70), (1, "NEW", 40), (2, "OLD", 40), (1, "", 40)])
def test_rows_of_a_module_that_was_not_there_are_an_error(
    desk: Desk, stream: str, bay: int, code: str, real_time_s: float
) -> None:
    desk.arrive(bay=1, code="OLD", real_time_s=0, request_id=0)
    desk.event(catalogue.BATTERY_IN, bay=1, module="OLD")
    desk.leave(bay=1, code="OLD", real_time_s=50)
    desk.arrive(bay=1, code="NEW", real_time_s=60)
    desk.event(catalogue.BATTERY_IN, bay=1, module="NEW")
    desk.measure(bay=bay, code=code, real_time_s=real_time_s, stream=stream)
    report = desk.close_books()
    assert report.custody_errors == [
        f"1 rows are credited to module {code} in bay {bay} of van-001, which was not there then"
    ]
    assert not report.is_good


def test_rows_with_an_estimated_time_are_not_judged_by_it(desk: Desk) -> None:
    desk.measure(bay=1, code="ANY", real_time_s=10, quality=catalogue.TIME_ESTIMATED)
    assert desk.close_books().is_good


def test_a_stored_frame_that_nobody_sealed_breaks_the_balance(desk: Desk) -> None:
    desk.seal(3)
    desk.store([1, 2, 3, 4])
    report = desk.close_books()
    assert report.frames_unaccounted == 1
    assert "never sealed" in report.problems[0]
    assert not report.is_balanced


def test_swaps_are_counted_from_events_that_the_world_confirms(desk: Desk) -> None:
    desk.arrive(bay=1, code="OLD", request_id=0)
    desk.arrive(bay=1, code="NEW")
    desk.event(catalogue.BATTERY_IN, bay=1, module="OLD")
    desk.event(catalogue.BATTERY_IN, bay=1, module="NEW")
    report = desk.close_books()
    assert (report.swaps, report.swaps_in_world) == (1, 1)
    assert report.is_good


def test_a_swap_that_nobody_reported_is_an_error_once_it_is_old_enough(desk: Desk) -> None:
    desk.arrive(bay=1, code="SEEN")
    desk.arrive(bay=2, code="MISSED")
    desk.arrive(bay=3, code="JUST-NOW", real_time_s=STOPPED_S - 1)
    desk.event(catalogue.BATTERY_IN, bay=1, module="SEEN")
    report = desk.close_books()
    assert report.custody_errors == ["module MISSED in bay 2 of van-001 arrived 1 times, 0 reported"]
    assert (report.swaps, report.swaps_in_world) == (1, 3)
    assert report.is_balanced
    assert not report.is_good


def test_events_of_an_earlier_run_are_not_compared_with_this_world(desk: Desk) -> None:
    desk.event(catalogue.BATTERY_IN, bay=2, module="EARLIER")
    desk.began_utc_s = time.time() + 60
    assert desk.close_books().is_good


def test_a_module_reported_where_it_never_was_is_an_error(desk: Desk) -> None:
    desk.event(catalogue.BATTERY_IN, bay=2, module="GHOST")
    report = desk.close_books()
    assert report.custody_errors == ["module GHOST in bay 2 of van-001 is reported, but was never there"]


def test_the_past_has_books_of_its_own(desk: Desk) -> None:
    desk.seal(3)
    desk.store([1, 2, 3])
    desk.make_past(6, acknowledged=4)
    desk.store_past([1, 2, 3, 4])
    report = desk.close_books()
    assert (report.frames_sealed, report.frames_stored, report.rows_stored, report.values_stored) == (3, 3, 3, 9)
    assert report.past is not None
    assert (report.past.frames_sealed, report.past.frames_stored, report.past.frames_in_flight) == (6, 4, 2)
    assert report.past.rows_stored == 4
    assert report.is_good
    assert report.as_json()["past"]["frames_sealed"] == 6
    assert "4   of 6 frames sent late are stored, 4 rows; 2 wait for the next start" in format_report(report)


def test_a_frame_of_the_past_that_was_acknowledged_and_is_nowhere_breaks_the_balance(desk: Desk) -> None:
    desk.make_past(6, acknowledged=4)
    desk.store_past([1, 2, 4])
    report = desk.close_books()
    assert report.past is not None
    assert report.past.frames_unaccounted == 1
    assert report.problems == ["van-001 past 00000063: frames 3 are unaccounted for"]
    assert not report.is_balanced
