"""The oracle's reader against journals that the firmware wrote."""

import shutil
from pathlib import Path

import pytest

from swapline_bench.journal_reader import JournalError, read_journal
from swapline_node.journal import Journal
from swapline_wire import catalogue
from swapline_wire.frame import FrameBuilder


def write_frames(journal: Journal, count: int, *, priority_stream: catalogue.Stream = catalogue.METER) -> list[bytes]:
    frames = []
    for _ in range(count):
        builder = FrameBuilder(priority_stream, buffer_bytes=256)
        builder.add(1000 * journal.next_seq, catalogue.not_available(priority_stream.signals))
        sealed = builder.seal(
            journal=journal.id, seq=journal.next_seq, boot=journal.boot, time_quality=4, anchor_utc_ms=1_780_000_000_000
        )
        frames.append(bytes(sealed))
        assert journal.append(sealed, journal.next_seq, priority_stream.priority) == 0
    journal.commit()
    return frames


def open_journal(folder: Path, **limits: int) -> Journal:
    journal = Journal(str(folder), limit_bytes=limits.get("limit_bytes", 200_000))
    journal.open()
    return journal


def segment_of(folder: Path, family: str) -> Path:
    (path,) = [p for p in folder.glob(f"{family}*.seg") if p.stat().st_size]
    return path


def test_reads_what_the_firmware_sealed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal")
    routine = write_frames(journal, 5)
    events = write_frames(journal, 2, priority_stream=catalogue.EVENT_STREAM)
    journal.decide_anchor(1_780_000_000_000, catalogue.TIME_GNSS)
    journal.close()
    contents = read_journal(tmp_path / "journal")
    assert contents.journal == journal.id
    assert contents.boot == 1
    assert contents.next_seq == journal.next_seq == 8
    assert contents.frames_sealed == 7
    assert [contents.frames[seq] for seq in range(1, 8)] == routine + events
    assert contents.anchors == {1: (1_780_000_000_000, catalogue.TIME_GNSS)}
    assert contents.was_stopped_cleanly
    assert contents.unreadable_bytes == 0


def test_numbers_survive_that_everything_was_acknowledged_and_deleted(tmp_path: Path) -> None:
    for boot in range(1, 4):
        journal = open_journal(tmp_path)
        write_frames(journal, 10)
        journal.acknowledge(1, journal.next_seq - 1)
        journal.close()
        contents = read_journal(tmp_path)
        assert (contents.boot, contents.frames_sealed) == (boot, 10 * boot)


def test_a_power_cut_leaves_what_was_committed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "node")
    frames = write_frames(journal, 3)
    cut = Path(shutil.copytree(tmp_path / "node", tmp_path / "cut"))
    journal.close()
    segment = segment_of(cut, "r")
    segment.write_bytes(segment.read_bytes()[:-7])
    contents = read_journal(cut)
    assert not contents.was_stopped_cleanly
    assert list(contents.frames.values()) == frames[:2]
    assert contents.frames_sealed == 2
    assert contents.unreadable_bytes == len(frames[2]) - 7


def test_finds_the_frames_behind_damage(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    frames = write_frames(journal, 3)
    journal.close()
    segment = segment_of(tmp_path, "r")
    data = bytearray(segment.read_bytes())
    data[len(frames[0]) + 40] ^= 0x10
    segment.write_bytes(data)
    contents = read_journal(tmp_path)
    assert contents.frames == {1: frames[0], 3: frames[2]}
    assert contents.frames_sealed == 3
    assert contents.unreadable_bytes == len(frames[1])


def test_drops_of_a_full_journal_are_read_with_their_reason(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, limit_bytes=65536)
    write_frames(journal, 1200)
    drops = journal.undeclared_drops()
    assert drops
    journal.drop_declared(drops[0])
    journal.close()
    contents = read_journal(tmp_path)
    assert contents.frames_sealed == 1200
    assert [drop.first_seq for drop in contents.drops if drop.is_declared] == [drops[0].first_seq]
    assert {drop.reason for drop in contents.drops} == {catalogue.LOSS_JOURNAL_FULL}
    lost = {seq for drop in contents.drops for seq in range(drop.first_seq, drop.last_seq + 1)}
    assert sum(drop.count for drop in contents.drops) == len(lost)
    assert lost | contents.frames.keys() == set(range(1, 1201))
    assert not lost & contents.frames.keys()


def test_a_torn_state_record_is_ignored(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.close()
    state = tmp_path / "state"
    state.write_bytes(state.read_bytes()[:-5])
    contents = read_journal(tmp_path)
    assert contents.journal == journal.id
    assert not contents.was_stopped_cleanly


def test_a_folder_without_state_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        read_journal(tmp_path)


def test_frames_of_another_journal_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        journal = open_journal(tmp_path / name)
        write_frames(journal, 1)
        journal.close()
    stranger = segment_of(tmp_path / "two", "r")
    (tmp_path / "one" / "r00000009.seg").write_bytes(stranger.read_bytes())
    with pytest.raises(JournalError, match="lies in journal"):
        read_journal(tmp_path / "one")
