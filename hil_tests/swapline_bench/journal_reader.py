"""Read a node's journal folder from its documented format (docs/journal.md), with no code of the firmware.

The oracle's side of the books: what a node sealed is known from its own flash, not from what it said.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SEGMENT_NAME = re.compile(r"([rea])([0-9a-f]{8})\.seg")
_STATE_RECORD = struct.Struct("<2sBBIIqIII")
_FRAME_PREFIX = struct.Struct("<2sBBHII")
_CRC_BYTES = 4
_FRAME_BYTES_MAX = 4096
_BOOT, _ANCHOR, _DROP, _DROP_DECLARED, _CLEAN_STOP = 1, 2, 3, 4, 5


class JournalError(Exception):
    """A folder that is no journal, or whose parts contradict each other."""


@dataclass(slots=True)
class JournalDrop:
    """A range of sequence numbers that the node gave up; `reason` is a LOSS_ code of the catalogue."""

    first_seq: int
    last_seq: int
    count: int
    reason: int
    is_declared: bool


@dataclass(slots=True)
class JournalContents:
    """What a journal folder holds. `frames` may hold frames that the gateway has acknowledged already."""

    journal: int
    boot: int
    next_seq: int
    was_stopped_cleanly: bool
    frames: dict[int, bytes] = field(default_factory=dict)
    anchors: dict[int, tuple[int, int]] = field(default_factory=dict)  # boot -> UTC ms of its ms 0, time quality
    drops: list[JournalDrop] = field(default_factory=list)
    unreadable_bytes: int = 0

    @property
    def frames_sealed(self) -> int:
        """Return how many numbers this journal has given out since it was formatted."""
        return self.next_seq - 1


def read_journal(folder: Path) -> JournalContents:
    """Read the journal in `folder` of a node that is switched off. Raises `JournalError`."""
    state = folder / "state"
    if not state.is_file():
        raise JournalError(f"{folder} holds no journal: there is no file named state.")
    contents = _read_state(state.read_bytes())
    for path in sorted(folder.iterdir()):
        match = _SEGMENT_NAME.fullmatch(path.name)
        if match:
            contents.next_seq = max(contents.next_seq, int(match[2], 16))
            _read_segment(path.read_bytes(), contents)
    return contents


def _read_state(data: bytes) -> JournalContents:
    contents = JournalContents(journal=0, boot=0, next_seq=1, was_stopped_cleanly=False)
    drops: list[JournalDrop] = []
    for offset in range(0, len(data) - _STATE_RECORD.size + 1, _STATE_RECORD.size):
        record = data[offset : offset + _STATE_RECORD.size]
        magic, kind, detail, journal, boot, value, first, last, crc = _STATE_RECORD.unpack(record)
        if magic != b"SJ" or zlib.crc32(record[:-_CRC_BYTES]) != crc:
            break  # torn by a power cut: always the last one
        contents.was_stopped_cleanly = kind == _CLEAN_STOP
        if kind == _BOOT:
            contents.journal, contents.boot = journal, boot
            contents.next_seq = max(contents.next_seq, first)
        elif kind == _ANCHOR:
            contents.anchors[boot] = (value, detail)
        elif kind == _DROP:
            drops.append(JournalDrop(first, last, value, detail, is_declared=False))
        elif kind == _DROP_DECLARED:
            for drop in drops:
                drop.is_declared = drop.is_declared or first <= drop.first_seq <= drop.last_seq <= last
    contents.drops = drops
    return contents


def _read_segment(data: bytes, contents: JournalContents) -> None:
    covered = 0
    for frame in _frames(data):
        _, _, _, _, journal, seq = _FRAME_PREFIX.unpack_from(frame)
        if contents.journal == 0:
            contents.journal = journal
        if journal != contents.journal:
            raise JournalError(f"A frame of journal {journal:08x} lies in journal {contents.journal:08x}.")
        if contents.frames.setdefault(seq, frame) != frame:
            raise JournalError(f"Two different frames of journal {journal:08x} have number {seq}.")
        contents.next_seq = max(contents.next_seq, seq + 1)
        covered += len(frame)
    contents.unreadable_bytes += len(data) - covered


def _frames(data: bytes) -> Iterator[bytes]:
    """Yield the whole frames of a segment, looking for the next one behind torn or damaged bytes."""
    offset = 0
    while (offset := data.find(b"SL", offset)) >= 0:
        frame = _frame_at(data, offset)
        if frame is None:
            offset += 1
        else:
            yield frame
            offset += len(frame)


def _frame_at(data: bytes, offset: int) -> bytes | None:
    if offset + _FRAME_PREFIX.size + _CRC_BYTES > len(data):
        return None
    length = _FRAME_PREFIX.unpack_from(data, offset)[3]
    frame = data[offset : offset + length]
    if not _FRAME_PREFIX.size + _CRC_BYTES <= length <= _FRAME_BYTES_MAX or len(frame) != length:
        return None
    return frame if zlib.crc32(frame[:-_CRC_BYTES]) == int.from_bytes(frame[-_CRC_BYTES:], "little") else None
