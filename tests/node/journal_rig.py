"""Journals in a test's folder, and what can be read back from them."""

from pathlib import Path

from swapline_node.cursor import Cursor
from swapline_node.journal import Journal
from swapline_wire.catalogue import ALARM, ALARM_STREAM, EVENT, EVENT_STREAM, NODE, ROUTINE, Stream, not_available
from swapline_wire.frame import FrameBuilder

STREAMS = {ROUTINE: NODE, EVENT: EVENT_STREAM, ALARM: ALARM_STREAM}
LIMIT = 65536
opened: list[Journal] = []  # closed by the fixture `close_journals`


def frame(journal: Journal, stream: Stream, *, rows: int = 1, time_ms: int = 0, quality: int = 0) -> memoryview:
    builder = FrameBuilder(stream, buffer_bytes=1024)
    for row in range(rows):
        builder.add(time_ms + row, not_available(stream.signals))
    anchor = 1_800_000_000_000 if quality else 0
    return builder.seal(
        journal=journal.id, seq=journal.next_seq, boot=journal.boot, time_quality=quality, anchor_utc_ms=anchor
    )


def append(journal: Journal, priority: int = ROUTINE, *, rows: int = 1, time_ms: int = 0, quality: int = 2) -> int:
    seq = journal.next_seq
    sealed = frame(journal, STREAMS[priority], rows=rows, time_ms=time_ms, quality=quality)
    assert journal.append(sealed, seq, priority) == 0
    journal.commit()
    return seq


def open_journal(folder: Path, limit_bytes: int = LIMIT, small_max: int = 0) -> Journal:
    """Open a journal that keeps its frames as on Linux; with `small_max`, as on LittleFS."""
    journal = Journal(str(folder), limit_bytes=limit_bytes, small_max=small_max)
    journal.open()
    opened.append(journal)
    return journal


def close_journals() -> None:
    """Close the files of every journal, as the end of a process does."""
    for journal in opened:
        for file in journal._files:  # noqa: SLF001
            if file is not None:
                file.close()
    opened.clear()


def waiting(journal: Journal, priority: int | None = None) -> list[int]:
    """Return the numbers of the frames that can be read back, as the publisher reads them."""
    found = []
    buffer = memoryview(bytearray(1200))
    for family in (ROUTINE, EVENT, ALARM) if priority is None else (priority,):
        cursor = Cursor(journal, family, 1200)
        while (read := cursor.read(buffer, lambda _: True)) is not None:
            found.append(int.from_bytes(read[10:14], "little"))
        cursor.release()
    return sorted(found)
