"""Recovery: read what earlier boots left in the journal's folder, in one pass and with one buffer."""

import os

from micropython import const

from swapline_wire.catalogue import TIME_ESTIMATED
from swapline_wire.frame import CRC_BYTES, FRAME_BYTES_MAX, HEADER_BYTES

from .segment import SEQ_SPAN_MAX, Segment, file_size, find_frame, parse_segment_name, read_frame

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable


_FRAME_BYTES_MIN = HEADER_BYTES + CRC_BYTES


class Recovery:
    """What the folder holds."""

    def __init__(self) -> None:
        self.segments: "list[Segment]" = []  # oldest first; only those of this journal
        self.journal = 0
        self.boot_max = 0
        self.next_seq = 1
        self.next_seq_doubtful = 1  # above all numbers that unreadable ends of segments have room for
        self.latest_utc_ms = 0  # the latest time that a frame with a time tells
        self.uptimes: "dict[int, int]" = {}  # boot -> last uptime in ms told by its frames without time
        self.last: "tuple[int, ...]" = ()  # of the last row of all: a MOMENT record's fields behind its kind
        self.damaged: "list[tuple[int, int]]" = []  # sequence ranges that stood where the bytes are unreadable


def scan_folder(folder: str, on_progress: "Callable[[], None] | None" = None) -> Recovery:
    """Read every segment in `folder`; call `on_progress` after each. Raises OSError."""
    recovery = Recovery()
    names = sorted([name for name in os.listdir(folder) if parse_segment_name(name) is not None], key=_by_seq)
    buffer = memoryview(bytearray(FRAME_BYTES_MAX))
    holes: "list[tuple[int, int]]" = []
    for name in names:
        parsed = parse_segment_name(name)
        assert parsed is not None
        segment = Segment(folder, parsed[0], parsed[1])
        recovery.next_seq = max(recovery.next_seq, parsed[1])
        _scan_segment(segment, recovery, buffer, holes)
        recovery.segments.append(segment)
        if on_progress is not None:
            on_progress()
    for first, last in holes:
        _note_damage(recovery, first, last)
    return recovery


def _by_seq(name: str) -> str:
    return name[1:]


def _scan_segment(segment: Segment, recovery: Recovery, buffer: memoryview, holes: "list[tuple[int, int]]") -> None:
    """Note the frames of a segment. One that is whole to its end gets its size as `bytes_max`."""
    size_bytes = file_size(segment.path)
    offset = end = 0
    is_ours = True
    with open(segment.path, "rb") as file:
        while offset < size_bytes:
            frame = read_frame(file, offset, buffer)
            hole = segment.last_seq + 1 if frame is None else 0
            if frame is None:
                offset = find_frame(file, offset, size_bytes, buffer)
                if offset < size_bytes:
                    frame = read_frame(file, offset, buffer)
                    assert frame is not None
            if frame is not None:
                if not _note_frame(segment, recovery, frame):
                    is_ours = False  # its number says nothing about a hole either
                elif hole:
                    holes.append((hole, _seq(frame) - 1))
                offset += len(frame)
                end = offset
    segment.size_bytes = size_bytes
    if end < size_bytes:
        lost = min((size_bytes - end) // _FRAME_BYTES_MIN + 1, SEQ_SPAN_MAX)
        recovery.next_seq_doubtful = max(recovery.next_seq_doubtful, segment.last_seq + 1 + lost)
    elif is_ours:
        segment.bytes_max = size_bytes


def _u32(data: memoryview, offset: int) -> int:
    return int.from_bytes(bytes(data[offset : offset + 4]), "little")


def _seq(frame: memoryview) -> int:
    return _u32(frame, 10)


def _note_frame(segment: Segment, recovery: Recovery, frame: memoryview) -> bool:
    """Note a good frame; return False if it was not written here: somebody copied files."""
    seq = _seq(frame)
    boot = _u32(frame, 14)
    if not segment.last_seq < seq <= segment.first_seq + SEQ_SPAN_MAX or recovery.journal not in (0, _u32(frame, 6)):
        return False
    segment.add(seq, len(frame))
    recovery.journal = _u32(frame, 6)
    recovery.boot_max = max(recovery.boot_max, boot)
    recovery.next_seq = max(recovery.next_seq, seq + 1)
    if frame[35] == 0:  # its first row is not before the boot
        _note_time(recovery, frame, boot)
    return True


def _note_time(recovery: Recovery, frame: memoryview, boot: int) -> None:
    first_ms = int.from_bytes(bytes(frame[28:36]), "little")
    row_last_ms = _u32(frame, len(frame) - 4 - (frame[38] | frame[39] << 8))
    uptime_ms = first_ms + (row_last_ms if row_last_ms < 0x80000000 else 0)
    anchor_utc_ms = int.from_bytes(bytes(frame[20:28]), "little")
    quality = frame[18]
    last = recovery.last
    if not last or (boot, uptime_ms) > (last[2], last[4] | last[5] << 32):
        recovery.last = (quality, recovery.journal, boot, anchor_utc_ms, uptime_ms & 0xFFFFFFFF, uptime_ms >> 32)
    if quality == 0:
        recovery.uptimes[boot] = max(recovery.uptimes.get(boot, 0), uptime_ms)
    elif quality > TIME_ESTIMATED:
        recovery.latest_utc_ms = max(recovery.latest_utc_ms, anchor_utc_ms + first_ms)


def _note_damage(recovery: Recovery, first: int, last: int) -> None:
    """Note the numbers of a hole that no other segment holds: those frames were here."""
    run = 0
    for seq in range(first, last + 2):
        is_elsewhere = seq > last or any([s.is_pending(seq) for s in recovery.segments])
        if not is_elsewhere and not run:
            run = seq
        if is_elsewhere and run:
            recovery.damaged.append((run, seq - 1))
            run = 0
