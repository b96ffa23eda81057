"""The journal on a disk that has no room: what is lost is declared, what was promised stays."""

from pathlib import Path
from typing import BinaryIO

import pytest

from swapline_node.journal import Journal
from swapline_wire.catalogue import EVENT, LOSS_JOURNAL_FULL, NODE, ROUTINE, TIME_NTP
from tests.node.journal_rig import LIMIT, append, close_journals, frame, open_journal, waiting

UTC = 1_800_000_000_000


def test_disk_without_room_loses_only_declared_frames(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)
    journal._files[ROUTINE] = FullDisk(journal._files[ROUTINE])  # type: ignore[call-overload, arg-type] # noqa: SLF001
    seq = journal.next_seq
    assert journal.append(frame(journal, NODE, quality=2), seq, ROUTINE) == 0
    after = append(journal)
    declared = {s for drop in journal.undeclared_drops() for s in range(drop.first_seq, drop.last_seq + 1)}
    assert seq in declared
    assert declared | set(waiting(journal)) == {1, seq, after}


class FullDisk:
    """A file on a disk that has no room."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, _data: object) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_disk_that_is_full_only_when_flushed_loses_no_row_unseen(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)

    class Full:
        def write(self, data: bytes) -> int:
            return len(data)

        def flush(self) -> None:
            raise OSError(28, "no space left")

        def close(self) -> None: ...

    file = journal._files[ROUTINE]  # noqa: SLF001
    assert file is not None
    file.close()
    journal._files[ROUTINE] = Full()  # type: ignore[call-overload]  # noqa: SLF001
    sealed = frame(journal, NODE, quality=2)
    assert journal.append(sealed, 2, ROUTINE) == 0
    journal.commit()
    drops = journal.undeclared_drops()
    after = append(journal)
    assert [(drop.first_seq, drop.last_seq) for drop in drops] == [(2, 2), (1, 1)]  # the oldest makes room
    assert waiting(journal) == [after]


def test_disk_that_stays_full_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path)
    monkeypatch.setattr("swapline_node.journal.open", no_room, raising=False)
    monkeypatch.setattr("swapline_node.journal_state.open", no_room, raising=False)
    for _ in range(50):
        append(journal)
        append(journal, EVENT)
    drops = journal.undeclared_drops()
    assert len(drops) == 8
    assert [seq for drop in drops for seq in range(drop.first_seq, drop.last_seq + 1)] == list(range(1, 101))
    assert sum(drop.value for drop in drops) == 100
    monkeypatch.undo()
    assert append(journal) == 101
    assert waiting(journal) == [101]


def no_room(*_: object) -> BinaryIO:
    raise OSError(28, "No space left on device")


def test_record_behind_one_that_was_written_in_part_is_read_by_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    append(journal, quality=0)

    class Half:
        """A state file that takes half of what is written."""

        def __init__(self, path: str, mode: str) -> None:
            self._file = Path(path).open(mode)  # noqa: SIM115

        def __enter__(self) -> "Half":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, data: bytes) -> int:
            self._file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("swapline_node.journal_state.open", Half, raising=False)
        with pytest.raises(OSError, match="No space"):
            journal.decide_anchor(UTC, TIME_NTP)
    journal.decide_anchor(UTC + 7, TIME_NTP)
    journal.close()
    again = open_journal(tmp_path)
    assert again.anchors[1] == (UTC + 7, TIME_NTP)
    assert again.was_stopped_cleanly


def test_journal_whose_state_cannot_be_written_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(open_journal(tmp_path))
    close_journals()
    monkeypatch.setattr("swapline_node.journal_state.open", no_room, raising=False)
    journal = Journal(str(tmp_path), limit_bytes=LIMIT, small_max=0)
    with pytest.raises(OSError, match="No space"):
        journal.open()
    assert journal.append(memoryview(b"frame"), journal.next_seq, ROUTINE) == LOSS_JOURNAL_FULL
    assert waiting(journal) == [1]
    assert journal.acknowledge(1, 1) == 1  # which may make room for the next try
    monkeypatch.undo()
    with pytest.raises(OSError, match="not open"):
        journal.decide_anchor(UTC, TIME_NTP)
