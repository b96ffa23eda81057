import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swapline_bench.frame_source import FrameSource, row_of
from swapline_gateway.error import StorageError
from swapline_gateway.ingest import Item, Sender, Spoiled, examine_message
from swapline_gateway.quarantine import Quarantine
from swapline_gateway.spool import ENTRY_BYTES, Outcome, Spool, connect
from swapline_wire.catalogue import ALARM_STREAM, EVENT_STREAM

LIMIT_BYTES = 1 << 24


def items_of(source: FrameSource, *frames: bytes) -> list[Item]:
    sender = Sender(source.fleet, source.node)
    return [examine_message(sender, source.message(frame)).items[0] for frame in frames]


def numbered(source: FrameSource, *seqs: int) -> list[Item]:
    return items_of(source, *(source.frame(seq=seq) for seq in seqs))


def acknowledged(outcome: Outcome) -> set[int]:
    return {seq for seqs in outcome.acknowledge.values() for seq in seqs}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as opened:
        yield opened


def drain(spool: Spool, frames_max: int = 1000) -> list[int]:
    """Remove everything and return the numbers in the order of delivery."""
    seqs = []
    while frames := spool.batch(frames_max=frames_max, bytes_max=1 << 30):
        seqs += [int.from_bytes(frame.data[10:14], "little") for frame in frames]
        spool.remove(frames)
    return seqs


def test_stored_frames_come_back_with_their_bytes_and_anchor(spool: Spool) -> None:
    source = FrameSource()
    items = numbered(source, 1, 2)
    outcome = spool.store(items, [], 99)
    assert acknowledged(outcome) == {1, 2}
    frames = spool.batch(frames_max=10, bytes_max=1 << 20)
    assert [frame.data for frame in frames] == [item.data for item in items]
    assert {(f.fleet, f.node, f.anchor_utc_ms, f.received_utc_ms) for f in frames} == {
        ("test", "van-001", source.anchor_utc_ms, 99)
    }


def test_repeat_is_acknowledged_again_and_counted_also_after_it_left_the_spool(spool: Spool) -> None:
    source = FrameSource()
    spool.store(numbered(source, 1, 2), [], 0)
    drain(spool)
    outcome = spool.store(numbered(source, 2, 3), [], 0)
    assert [item.key[1] for item in outcome.stored] == [3]
    assert len(outcome.duplicates) == 1
    assert acknowledged(outcome) == {2, 3}
    assert drain(spool) == [3]


def test_frame_twice_in_one_group_is_stored_once(spool: Spool) -> None:
    source = FrameSource()
    outcome = spool.store(numbered(source, 5, 5), [], 0)
    assert len(outcome.stored) == 1
    assert len(outcome.duplicates) == 1
    assert drain(spool) == [5]


def test_same_number_of_another_node_or_journal_is_another_frame(spool: Spool) -> None:
    sources = [FrameSource(), FrameSource(node="van-002"), FrameSource(journal=8), FrameSource(fleet="other")]
    for source in sources:
        assert len(spool.store(numbered(source, 1), [], 0).stored) == 1
    assert len(drain(spool)) == 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), max_size=12))
def test_any_order_of_numbers_is_taken_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.sqlite"
    seen: set[int] = set()
    with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
        for group in groups:
            outcome = spool.store(numbered(FrameSource(), *group), [], 0)
            assert {item.key[1] for item in outcome.stored} == set(group) - seen
            assert acknowledged(outcome) == set(group)
            assert len(outcome.stored) + len(outcome.duplicates) == len(group)
            seen |= set(group)
        assert sorted(drain(spool)) == sorted(seen)
    with closing(sqlite3.connect(path)) as connection:
        taken = connection.execute("SELECT first, last FROM taken ORDER BY first").fetchall()
    assert {number for first, last in taken for number in range(first, last + 1)} == seen
    assert all(left[1] + 1 < right[0] for left, right in pairwise(taken))


def test_spool_at_its_limit_refuses_routine_frames_and_still_takes_alarms(tmp_path: Path) -> None:
    source = FrameSource()
    size = len(source.frame(seq=1))
    limit_bytes = 65536
    with closing(Spool(tmp_path / "s", limit_bytes=limit_bytes)) as spool:
        outcome = spool.store(numbered(source, *range(1, limit_bytes // size + 10)), [], 0)
        assert outcome.refused
        refused = outcome.refused[0]
        assert refused[1] == "spool_full"
        assert len(outcome.stored) + refused[2] == limit_bytes // size + 9
        assert acknowledged(outcome) == {item.key[1] for item in outcome.stored}
        alarm = items_of(source, source.frame([(1, row_of(ALARM_STREAM, code=1))], stream=ALARM_STREAM, seq=9000))
        assert acknowledged(spool.store(alarm, [], 0)) == {9000}


def test_refused_frame_is_taken_once_there_is_room(tmp_path: Path) -> None:
    source = FrameSource()
    with closing(Spool(tmp_path / "s", limit_bytes=65536)) as spool:
        refused = 1 + len(spool.store(numbered(source, *range(1, 2000)), [], 0).stored)
        assert not acknowledged(spool.store(numbered(source, refused), [], 0))
        drain(spool)
        assert acknowledged(spool.store(numbered(source, refused), [], 0)) == {refused}


def test_full_disk_stores_nothing_acknowledges_nothing_and_recovers(spool: Spool) -> None:
    source = FrameSource()
    spool.store(numbered(source, 1), [], 0)
    pages = spool._connection.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001 (a full disk to order)
    spool._connection.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001
    with pytest.raises(StorageError, match="disk is full"):
        spool.store(numbered(source, *range(2, 500)), [], 0)
    assert spool.frame_count == 1
    spool._connection.execute("PRAGMA max_page_count = 1000000")  # noqa: SLF001
    assert acknowledged(spool.store(numbered(source, *range(2, 500)), [], 0)) == set(range(2, 500))
    assert sorted(drain(spool)) == list(range(1, 500))


def test_alarms_and_events_leave_first_then_newest_and_oldest_by_halves(spool: Spool) -> None:
    source = FrameSource()
    spool.store(numbered(source, *range(1, 11)), [], 0)
    event = source.frame([(1, row_of(EVENT_STREAM, code=1))], stream=EVENT_STREAM, seq=100)
    alarm = source.frame([(1, row_of(ALARM_STREAM, code=1))], stream=ALARM_STREAM, seq=101)
    spool.store(items_of(source, event, alarm), [], 0)
    frames = spool.batch(frames_max=6, bytes_max=1 << 20)
    seqs = [int.from_bytes(frame.data[10:14], "little") for frame in frames]
    assert seqs == [101, 100, 9, 10, 1, 2]


def test_batch_is_bounded_in_bytes_and_every_frame_is_delivered_once(spool: Spool) -> None:
    source = FrameSource()
    spool.store(numbered(source, *range(1, 51)), [], 0)
    size = len(source.frame(seq=1))
    assert len(spool.batch(frames_max=50, bytes_max=5 * size)) == 5
    assert sorted(drain(spool, frames_max=7)) == list(range(1, 51))


def test_frames_survive_closing_and_opening(tmp_path: Path) -> None:
    source = FrameSource()
    with closing(Spool(tmp_path / "s", limit_bytes=LIMIT_BYTES)) as spool:
        spool.store(numbered(source, 1, 2, 3), [], 0)
    with closing(Spool(tmp_path / "s", limit_bytes=LIMIT_BYTES)) as spool:
        assert spool.backlog().frame_count == 3
        assert not spool.store(numbered(source, 2), [], 0).stored
        assert drain(spool) == [1, 2, 3]


def test_second_gateway_on_one_spool_is_refused_by_process_number(spool: Spool) -> None:
    with pytest.raises(StorageError, match=r"used by another gateway \(process \d+\)"):
        Spool(spool.path, limit_bytes=LIMIT_BYTES)


def test_damaged_spool_is_put_aside_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at as one" * 100)
    with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
        assert spool.store(numbered(FrameSource(), 1), [], 0).stored
    (aside,) = tmp_path.glob("spool.sqlite.damaged-*[0-9]")
    assert b"this is no database" in aside.read_bytes()


def test_ranges_of_a_journal_are_bounded_and_forgetting_them_costs_only_a_repeat(tmp_path: Path) -> None:
    source = FrameSource()
    with closing(Spool(tmp_path / "s", limit_bytes=LIMIT_BYTES, ranges_max=50, trim_interval=5)) as spool:
        for seq in range(1, 1000, 2):
            spool.store(numbered(source, seq), [], 0)
            spool.remove(spool.batch(frames_max=10, bytes_max=1 << 20))
        (count,) = spool._connection.execute("SELECT COUNT(*) FROM taken").fetchone()  # noqa: SLF001
        assert 50 <= count <= 55
        assert acknowledged(spool.store(numbered(source, 1), [], 0)) == {1}
        assert len(spool.store(numbered(source, 999), [], 0).duplicates) == 1


def test_ranges_of_a_node_are_bounded_however_many_journals_it_claims_to_have(tmp_path: Path) -> None:
    source, other = FrameSource(), FrameSource(node="van-002")
    with closing(Spool(tmp_path / "s", limit_bytes=LIMIT_BYTES, ranges_max=50, trim_interval=5)) as spool:
        spool.store(numbered(other, 1), [], 0)
        for journal in range(1, 500):
            source.journal = journal
            spool.store(numbered(source, 1), [], 0)
        (count,) = spool._connection.execute("SELECT COUNT(*) FROM taken").fetchone()  # noqa: SLF001
        assert 50 < count <= 56
        assert len(spool.store(numbered(other, 1), [], 0).duplicates) == 1, "its own ranges are not touched"


def spoiled(data: bytes, key: tuple[int, int] | None, node: str = "van-001") -> Spoiled:
    return Spoiled(Sender("test", node), "unknown_stream", "frame: 200", data, key)


def test_spoiled_frame_with_a_key_is_durable_and_acknowledged_once(spool: Spool) -> None:
    first = spool.store([], [spoiled(b"x" * 40, (7, 1))], 0)
    again = spool.store([], [spoiled(b"x" * 40, (7, 1))], 0)
    assert acknowledged(first) == acknowledged(again) == {1}
    assert (len(first.quarantined), len(again.quarantined)) == (1, 0)
    assert spool.backlog().quarantine_count == 1


def test_spoiled_bytes_without_a_key_are_kept_once_and_never_acknowledged(spool: Spool) -> None:
    for _ in range(3):
        assert not spool.store([], [spoiled(b"y" * 40, None)], 0).acknowledge
    (times,) = spool._connection.execute("SELECT times FROM quarantine").fetchone()  # noqa: SLF001
    assert times == 3


def test_node_over_its_quarantine_quota_is_not_acknowledged_and_others_are(tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "s", limit_bytes=LIMIT_BYTES, quarantine_node_bytes_max=ENTRY_BYTES + 100)) as spool:
        assert acknowledged(spool.store([], [spoiled(b"a" * 80, (7, 1))], 0)) == {1}
        full = spool.store([], [spoiled(b"b" * 80, (7, 2))], 0)
        assert not full.acknowledge
        assert full.refused == [(Sender("test", "van-001"), "quarantine_full", 1)]
        assert acknowledged(spool.store([], [spoiled(b"b" * 80, (7, 2), "van-002")], 0)) == {2}


def test_repeat_whose_range_was_forgotten_is_dropped_and_does_not_stop_its_group(tmp_path: Path) -> None:
    """The database was away so long that the ranges of frames that still wait here were forgotten."""
    source, other = FrameSource(), FrameSource(node="van-002")
    path = tmp_path / "spool.sqlite"
    with closing(Spool(path, limit_bytes=LIMIT_BYTES, ranges_max=2, trim_interval=1)) as spool:
        for seq in (1, 3, 5, 7, 9):
            spool.store(numbered(source, seq), [], 0)
        outcome = spool.store(numbered(source, 1, 2, 9, 11) + numbered(other, 1), [], 0)
        assert acknowledged(outcome) == {1, 2, 9, 11}
        assert sorted(item.key[1] for item in outcome.stored) == [1, 2, 11]
        assert outcome.duplicates.count(Sender(source.fleet, source.node)) == 2
        assert (spool.frame_count, sorted(drain(spool))) == (8, [1, 1, 2, 3, 5, 7, 9, 11])


def test_frame_replayed_out_of_a_message_of_its_own_version_is_a_repeat_when_its_node_sends_it_again(
    tmp_path: Path,
) -> None:
    source, sender = FrameSource(), Sender("test", "van-001")
    path = tmp_path / "spool.sqlite"
    with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
        unreadable = Spoiled(sender, "newer_version", "message: 9", source.message(source.frame(seq=4)))
        assert acknowledged(spool.store([], [unreadable], 0)) == set()
        with Quarantine(path) as quarantine:
            assert quarantine.replay(quarantine.entries(limit=1)[0]) == ""
        outcome = spool.store(numbered(source, 4, 5), [], 0)
        assert acknowledged(outcome) == {4, 5}
        assert [item.key[1] for item in outcome.stored] == [5]
        assert drain(spool) == [4, 5]


def test_quarantine_counts_what_tiny_entries_really_cost(tmp_path: Path) -> None:
    sender = Sender("test", "van-001")
    spool = Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES, quarantine_node_bytes_max=10 * (ENTRY_BYTES + 1))
    with closing(spool):
        bad = [Spoiled(sender, "truncated", "1 bytes", bytes([i])) for i in range(20)]
        outcome = spool.store([], bad, 0)
        assert len(outcome.quarantined) == 10
        assert outcome.refused == [(sender, "quarantine_full", 1)] * 10


def test_disk_that_fails_altogether_is_a_sentence_and_not_a_crash(spool: Spool) -> None:
    spool._connection.close()  # noqa: SLF001 (every call to SQLite fails from here on, also those that clean up)
    with pytest.raises(StorageError, match="cannot be written"):
        spool.store(numbered(FrameSource(), 1), [], 0)
    spool._connection = connect(spool.path)  # noqa: SLF001


def test_disk_without_room_refuses_before_it_is_full_so_that_the_spool_can_still_drain(tmp_path: Path) -> None:
    free_bytes = shutil.disk_usage(tmp_path).free
    source, path = FrameSource(), tmp_path / "spool.sqlite"
    with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
        spool.store(numbered(source, 1, 2), [], 0)
        assert not spool.backlog().is_disk_full
    with closing(Spool(path, limit_bytes=LIMIT_BYTES, disk_reserve_bytes=2 * free_bytes)) as spool:
        outcome = spool.store(numbered(source, 2, 3), [], 0)
        assert acknowledged(outcome) == {2}
        assert outcome.refused == [(Sender(source.fleet, source.node), "spool_full", 1)]
        assert spool.backlog().is_disk_full
        assert drain(spool) == [1, 2]
