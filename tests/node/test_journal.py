import errno
import shutil
from pathlib import Path

import pytest

from swapline_node.journal import Journal
from swapline_node.journal_state import ANCHOR, Record, pack_record
from swapline_node.recovery import make_folder, read_state
from swapline_wire.catalogue import (
    ALARM,
    EVENT,
    LOSS_JOURNAL_DAMAGED,
    LOSS_JOURNAL_FULL,
    LOSS_NO_MEMORY,
    NODE,
    ROUTINE,
    TIME_ESTIMATED,
    TIME_GATEWAY,
    TIME_NTP,
)
from tests.node.journal_rig import LIMIT, append, close_journals, frame, open_journal, waiting

RECORD_BYTES = 32
UTC = 1_800_000_000_000


def test_first_boot_draws_an_id_and_starts_at_one(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "a" / "b")
    assert journal.id > 0
    assert (journal.boot, journal.next_seq, journal.is_first_boot) == (1, 1, True)


def test_frames_numbers_boot_and_id_survive_a_power_cut(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    sealed = [append(journal, priority) for priority in (ROUTINE, EVENT, ALARM, ROUTINE)]
    again = open_journal(tmp_path)
    assert (again.id, again.boot, again.next_seq) == (journal.id, 2, 5)
    assert not again.was_stopped_cleanly
    assert waiting(again) == sealed == [1, 2, 3, 4]
    assert again.pending_frames == 4


def test_clean_stop_is_known_to_the_next_boot(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)
    journal.close()
    assert open_journal(tmp_path).was_stopped_cleanly
    assert not open_journal(tmp_path).was_stopped_cleanly


def test_numbers_are_never_used_again_even_when_everything_was_acknowledged(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(5):
        append(journal)
    assert journal.acknowledge(1, 5) == 5
    for boot in range(2, 6):
        journal = open_journal(tmp_path)
        assert (journal.boot, journal.next_seq) == (boot, 6)


def test_frames_acknowledged_before_a_clean_stop_are_not_sent_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(9):
        append(journal)
    journal.acknowledge(1, 5)
    journal.acknowledge(8, 8)
    journal.close()
    assert waiting(open_journal(tmp_path)) == [6, 7, 8, 9]
    assert waiting(open_journal(tmp_path)) == [6, 7, 8, 9]


def test_acknowledged_frames_leave_and_only_those(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for i in range(60):
        append(journal, EVENT if i % 7 == 0 else ROUTINE, rows=6)
    assert journal.acknowledge(10, 40) == 31
    assert journal.acknowledge(1, 20) == 9
    assert waiting(journal) == list(range(41, 61))
    assert journal.acknowledge(1, 0xFFFFFFFF) == 20
    assert journal.pending_frames == 0


def test_segments_without_waiting_frames_are_deleted(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(60):
        append(journal, rows=6)
    before = len(list(tmp_path.glob("*.seg")))
    journal.acknowledge(1, 55)
    assert before >= 5
    assert len(list(tmp_path.glob("*.seg"))) <= 2


def test_full_journal_drops_oldest_routine_frames_and_declares_exactly_those(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for i in range(300):
        append(journal, EVENT if i % 10 == 0 else ALARM if i % 25 == 1 else ROUTINE, rows=1 if i % 10 == 0 else 6)
    drops = journal.undeclared_drops()
    lost = {seq for drop in drops for seq in range(drop.first_seq, drop.last_seq + 1)}
    assert {drop.detail for drop in drops} == {LOSS_JOURNAL_FULL}
    assert sum(drop.value for drop in drops) == len(lost) > 50
    assert lost | set(waiting(journal)) == set(range(1, 301))
    assert not lost & set(waiting(journal))
    assert set(waiting(journal, EVENT)) == set(range(1, 301, 10))
    assert max(lost) < min(waiting(journal, ROUTINE))
    assert journal.used_bytes() <= LIMIT
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= LIMIT


def test_events_go_before_alarms_and_routine_frames_never_displace_either(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(100):
        append(journal, ALARM)
    while not (drops := journal.undeclared_drops()):
        append(journal, EVENT)
    assert drops[0].first_seq == 101
    assert waiting(journal, ALARM) == list(range(1, 101))
    events = waiting(journal, EVENT)
    for _ in range(50):
        journal.append(frame(journal, NODE, rows=6, quality=2), journal.next_seq, ROUTINE)
        journal.commit()
    assert waiting(journal, EVENT) == events
    assert journal.used_bytes() <= LIMIT
    while waiting(journal, EVENT):
        assert waiting(journal, ALARM)[0] == 1
        append(journal, ALARM, rows=30)


def test_drop_is_declared_again_if_the_power_was_cut_before_its_event(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    while not (drops := journal.undeclared_drops()):
        append(journal, rows=6)
    again = open_journal(tmp_path)
    assert again.undeclared_drops() == drops
    again.drop_declared(drops[0])
    assert open_journal(tmp_path).undeclared_drops() == drops[1:]


def test_drop_that_was_written_down_is_finished_after_a_power_cut(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(100):
        append(journal, rows=6)
    saved = tmp_path.parent / "saved"
    shutil.copytree(tmp_path, saved)
    while not (drops := journal.undeclared_drops()):
        append(journal, rows=6)
    shutil.copy(tmp_path / "state", saved / "state")  # the record is there, the segment as well
    again = open_journal(saved)
    declared = again.undeclared_drops()
    assert declared == drops
    lost = {seq for drop in declared for seq in range(drop.first_seq, drop.last_seq + 1)}
    assert not lost & set(waiting(again))


def test_torn_frame_at_the_end_costs_only_itself(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(4):
        append(journal, rows=3)
    (segment,) = tmp_path.glob("r*.seg")
    whole = segment.read_bytes()
    for length in range(len(whole) - 300, len(whole)):
        segment.write_bytes(whole[:length])
        folder = tmp_path.parent / "torn"
        shutil.copytree(tmp_path, folder)
        again = open_journal(folder)
        assert waiting(again) == [1, 2, 3]
        assert append(again) == again.next_seq - 1
        shutil.rmtree(folder)


def test_damage_inside_a_segment_costs_only_what_it_hit_and_is_declared(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(6):
        append(journal, rows=2)
    (segment,) = tmp_path.glob("r*.seg")
    data = bytearray(segment.read_bytes())
    size = len(data) // 6
    data[2 * size + 5 : 3 * size + 5] = bytes(size)
    segment.write_bytes(data)
    again = open_journal(tmp_path)
    assert waiting(again) == [1, 2, 5, 6]
    (drop,) = again.undeclared_drops()
    assert (drop.detail, drop.first_seq, drop.last_seq, drop.value) == (LOSS_JOURNAL_DAMAGED, 3, 4, 2)


def test_whole_frame_of_an_absurd_number_behind_damage_declares_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)
    journal.next_seq = 0xFFFFFFF0
    stray = bytes(frame(journal, NODE, quality=2))
    (segment,) = tmp_path.glob("r*.seg")
    segment.write_bytes(segment.read_bytes() + bytes(100) + stray)
    again = open_journal(tmp_path)
    assert waiting(again) == [1]
    assert again.undeclared_drops() == []
    assert again.next_seq < 10


def test_flash_that_loses_a_frame_while_the_node_runs_is_noticed_and_declared(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(5):
        append(journal, rows=2)
    (segment,) = tmp_path.glob("r*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 5 + 60] ^= 1
    segment.write_bytes(data)
    assert waiting(journal) == [1, 3, 4, 5]
    (drop,) = journal.undeclared_drops()
    assert (drop.detail, drop.first_seq, drop.last_seq) == (LOSS_JOURNAL_DAMAGED, 2, 2)
    assert journal.pending_frames == 4


def test_state_file_that_is_gone_is_rebuilt_from_the_frames(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)
    (tmp_path / "state").unlink()
    again = open_journal(tmp_path)
    assert (again.id, again.boot, again.next_seq) == (journal.id, 2, 2)


def test_garbage_in_the_folder_neither_stops_the_node_nor_is_sent(tmp_path: Path) -> None:
    other = open_journal(tmp_path / "other")
    append(other)
    mine = open_journal(tmp_path / "mine")
    append(mine)
    for name in ("r00000009.seg", "rzzzzzzzz.seg", "notes.txt", "e00000000.seg"):
        (tmp_path / "mine" / name).write_bytes(b"SL" * 700)
    shutil.copy(next((tmp_path / "other").glob("r*.seg")), tmp_path / "mine" / "r00000005.seg")
    (tmp_path / "mine" / "state.new").write_bytes(b"\xff" * 100)
    again = open_journal(tmp_path / "mine")
    assert waiting(again) == [1]
    assert again.next_seq >= 9


def test_frames_of_a_boot_without_time_wait_for_its_anchor(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal, quality=0)
    append(journal, quality=TIME_NTP)
    assert waiting(journal) == [2]
    journal.decide_anchor(1_800_000_000_000, TIME_GATEWAY)
    assert waiting(journal) == [1, 2]


def test_anchor_survives_a_power_cut_as_long_as_frames_need_it(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal, quality=0)
    journal.decide_anchor(1_800_000_000_123, TIME_GATEWAY)
    for _ in range(3):
        again = open_journal(tmp_path)
        assert again.anchors[1] == (1_800_000_000_123, TIME_GATEWAY)
    again.decide_anchor(1_800_000_000_456, TIME_GATEWAY)
    for _ in range(20):
        again.acknowledge(1, append(again, rows=6))
    open_journal(tmp_path)
    assert 1 not in open_journal(tmp_path).anchors


def test_boots_that_ended_without_time_are_dated_back_from_the_next_one_that_has_it(tmp_path: Path) -> None:
    for uptime_ms in (50_000, 20_000):
        append(open_journal(tmp_path), time_ms=uptime_ms, rows=3, quality=0)
    journal = open_journal(tmp_path)
    journal.decide_anchor(1_800_000_000_000, TIME_NTP)
    second = 1_800_000_000_000 - 20_002
    expected = {3: (1_800_000_000_000, TIME_NTP), 2: (second, TIME_ESTIMATED), 1: (second - 50_002, TIME_ESTIMATED)}
    assert journal.anchors == expected
    again = open_journal(tmp_path)
    assert {boot: again.anchors[boot] for boot in (1, 2)} == {boot: expected[boot] for boot in (1, 2)}


def test_estimates_do_not_change_if_the_power_was_cut_before_they_were_written(tmp_path: Path) -> None:
    append(open_journal(tmp_path), time_ms=50_000, quality=0)
    journal = open_journal(tmp_path)
    append(journal, quality=0)
    journal.decide_anchor(1_800_000_000_000, TIME_NTP)
    estimate = journal.anchors[1]
    state = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(state[:-RECORD_BYTES])
    assert open_journal(tmp_path).anchors[1] == estimate


@pytest.mark.parametrize("length", range(0, 3 * RECORD_BYTES, 5))
def test_state_records_are_read_up_to_the_torn_one(length: int, tmp_path: Path) -> None:
    records = [Record(ANCHOR, 2, 7, boot, -5, 1, 2) for boot in range(3)]
    data = b"".join(pack_record(record) for record in records)
    (tmp_path / "state").write_bytes(data[:length])
    assert read_state(str(tmp_path)) == records[: length // RECORD_BYTES]


def test_state_file_stays_small_however_much_is_dropped(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    drops = 0
    while drops < 300:
        append(journal, rows=8)
        for drop in journal.undeclared_drops():
            drops += 1
            journal.drop_declared(drop)
    assert (tmp_path / "state").stat().st_size <= 4096
    assert journal.used_bytes() <= LIMIT
    assert open_journal(tmp_path).undeclared_drops() == []


def test_many_short_boots_without_a_gateway_do_not_fill_the_memory(tmp_path: Path) -> None:
    lost: set[int] = set()
    for _ in range(150):
        journal = open_journal(tmp_path, 1 << 22)
        for drop in journal.undeclared_drops():
            lost.update(range(drop.first_seq, drop.last_seq + 1))
            journal.drop_declared(drop)
        append(journal, EVENT)
        append(journal, ROUTINE)
        close_journals()
    assert sum(len(family) for family in journal.families) <= 82
    for drop in journal.undeclared_drops():
        lost.update(range(drop.first_seq, drop.last_seq + 1))
    assert lost | set(waiting(journal)) == set(range(1, 301))


def test_drop_that_begins_a_witness_does_not_take_the_place_of_the_frame_that_needs_room(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, 1 << 22)
    journal._segment_bytes = 150  # noqa: SLF001 - every frame in a segment of its own
    events = [append(journal, EVENT, rows=2) for _ in range(47)]
    dropped, routine = append(journal), append(journal)
    assert [(drop.first_seq, drop.last_seq) for drop in journal.undeclared_drops()] == [(dropped, dropped)]
    assert waiting(journal) == [*events, routine]
    again = open_journal(tmp_path, 1 << 22)
    assert waiting(again) == [*events, routine]
    assert again.next_seq == routine + 1


def test_memory_error_while_appending_is_a_declared_loss(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)

    class Exhausted:
        def write(self, _data: bytes) -> int:
            raise MemoryError

        def flush(self) -> None: ...

        def close(self) -> None: ...

    file = journal._files[ROUTINE]  # noqa: SLF001
    assert file is not None
    file.close()
    journal._files[ROUTINE] = Exhausted()  # type: ignore[call-overload]  # noqa: SLF001
    lost = append(journal)
    after = append(journal)
    drops = journal.undeclared_drops()
    assert (lost, LOSS_NO_MEMORY) in [(drop.first_seq, drop.detail) for drop in drops]
    assert waiting(journal) == [after]
    assert {s for d in drops for s in range(d.first_seq, d.last_seq + 1)} | {after} == {1, lost, after}


def test_segment_is_not_deleted_while_its_successor_has_no_durable_name(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal._segment_bytes = 150  # noqa: SLF001 - every frame in a segment of its own
    append(journal)
    for seq in (2, 3):
        assert journal.append(frame(journal, NODE, quality=2), seq, ROUTINE) == 0
    assert journal.acknowledge(1, 1) == 1
    assert (tmp_path / "r00000001.seg").exists()
    journal.commit()
    assert sorted(path.name for path in tmp_path.glob("*.seg")) == ["r00000002.seg", "r00000003.seg"]


def test_anchor_and_estimates_are_decided_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(open_journal(tmp_path), time_ms=500, quality=0)
    close_journals()
    journal = open_journal(tmp_path)

    def refuse(*_records: Record) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(
            journal._state,  # noqa: SLF001
            "append",
            refuse,
        )
        with pytest.raises(OSError, match="no space"):
            journal.decide_anchor(UTC, TIME_NTP)
    assert journal.anchors == {}
    journal.decide_anchor(UTC + 7, TIME_NTP)
    assert journal.anchors == {2: (UTC + 7, TIME_NTP), 1: (UTC + 7 - 500, TIME_ESTIMATED)}
    close_journals()
    assert open_journal(tmp_path).anchors[1] == (UTC + 7 - 500, TIME_ESTIMATED)


def test_journal_that_could_not_be_opened_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    journal = Journal(str(tmp_path / "file"), limit_bytes=LIMIT)
    with pytest.raises(OSError, match="file"):
        journal.open()
    assert journal.append(memoryview(b"frame"), 1, ROUTINE) == LOSS_JOURNAL_FULL
    assert (journal.next_seq, journal.pending_frames) == (1, 0)
    journal.close()


def test_recovery_tells_its_progress_so_that_the_watchdog_can_be_fed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(60):
        append(journal, rows=6)
    segments = len(list(tmp_path.glob("*.seg")))
    calls: list[int] = []
    again = Journal(str(tmp_path), limit_bytes=LIMIT)
    again.open(lambda: calls.append(1))
    assert len(calls) == segments > 3
    again.close()


def test_name_that_no_journal_reaches_is_no_segment(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    kept = append(journal)
    (tmp_path / "rffffffff.seg").write_bytes(bytes(frame(journal, NODE, quality=2)))
    again = open_journal(tmp_path)
    assert again.next_seq < kept + 10
    assert waiting(again) == [kept]
    assert append(again) > kept


def test_folder_that_finds_no_room_is_named_and_one_that_is_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr("os.mkdir", refuse)
    make_folder(str(tmp_path))
    with pytest.raises(OSError, match="no room left for folder"):
        make_folder(str(tmp_path / "new"))
