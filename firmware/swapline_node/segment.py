"""Segments: the journal's files, frames back to back, and which of them the gateway still has to acknowledge."""

import os

from micropython import const

from swapline_wire.error import WireError
from swapline_wire.frame import PREFIX_BYTES, verify

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import BinaryIO

FAMILIES = "rea"  # first letter of a segment's name by priority: routine, event, alarm
SEQ_SPAN_MAX = 4096  # sequence numbers that one segment may span: bounds its bitmap to 512 bytes
_SEQ_MAX = const(0xFFFF0000)  # reached after 136 years of a frame a second: a higher number is no name of ours
_SUFFIX = ".seg"
_SEARCH_BYTES = const(512)
_RUNS_MAX = const(16)  # of ranges to declare for one segment: each is an event, and takes heap


def segment_name(priority: int, seq: int) -> str:
    """Return the file name of the segment of a family whose frames have numbers from `seq` on."""
    return "%s%08x%s" % (FAMILIES[priority], seq, _SUFFIX)


def parse_segment_name(name: str) -> "tuple[int, int] | None":
    """Return priority and first sequence number, or None if no segment is called so."""
    if len(name) != 9 + len(_SUFFIX) or not name.endswith(_SUFFIX) or name[0] not in FAMILIES:
        return None
    try:
        seq = int(name[1:9], 16)
    except ValueError:
        return None
    return (FAMILIES.index(name[0]), seq) if seq < _SEQ_MAX else None


class Segment:
    """One file of the journal. A bit of `_pending` is set for every frame that is not acknowledged.

    It takes frames until it has `bytes_max`; 0: none, because its end is torn.
    """

    def __init__(self, folder: str, priority: int, first_seq: int, bytes_max: int = 0) -> None:
        self._folder = folder
        self.priority = priority
        self.first_seq = first_seq
        self.last_seq = first_seq - 1
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.pending_count = 0
        self._pending = bytearray(8)

    @property
    def path(self) -> str:
        """The file; made when asked for, because a journal has dozens of segments and a path takes 60 bytes."""
        return self._folder + "/" + segment_name(self.priority, self.first_seq)

    def add(self, seq: int, length: int) -> None:
        """Note that the frame `seq` of `length` bytes was appended."""
        bit = seq - self.first_seq
        if bit >> 3 >= len(self._pending):
            self._pending.extend(bytes((bit >> 3) + 9 - len(self._pending)))
        self._pending[bit >> 3] |= 1 << (bit & 7)
        self.pending_count += 1
        self.last_seq = seq
        self.size_bytes += length

    def takes(self, seq: int, length: int) -> bool:
        """Say whether the frame `seq` of `length` bytes has room here."""
        return self.size_bytes + length <= self.bytes_max and seq - self.first_seq < SEQ_SPAN_MAX

    def is_pending(self, seq: int) -> bool:
        """Say whether the frame `seq` lies here and is not acknowledged."""
        bit = seq - self.first_seq
        return 0 <= bit < len(self._pending) * 8 and bool(self._pending[bit >> 3] & 1 << (bit & 7))

    def settle(self, first: int, last: int) -> int:
        """Forget the pending frames `first` to `last`, which are acknowledged or lost; return how many there were."""
        before = self.pending_count
        for seq in range(max(first, self.first_seq), min(last, self.last_seq) + 1):
            if self.is_pending(seq):
                bit = seq - self.first_seq
                self._pending[bit >> 3] &= ~(1 << (bit & 7))
                self.pending_count -= 1
        return before - self.pending_count

    def settled_prefix(self) -> int:
        """Return the number up to which no frame waits."""
        runs = self.pending_runs(runs_max=1)
        return runs[0][0] - 1 if runs else self.last_seq

    def count_pending(self, first: int, last: int) -> int:
        """Return how many of the frames `first` to `last` wait."""
        count = 0
        for seq in range(max(first, self.first_seq), min(last, self.last_seq) + 1):
            if self.is_pending(seq):
                count += 1
        return count

    def pending_runs(self, after: int = 0, runs_max: int = _RUNS_MAX) -> "list[tuple[int, int]]":
        """Return the pending frames above `after` as inclusive ranges; the last has gaps if there would be too many."""
        runs: "list[tuple[int, int]]" = []
        for seq in range(max(after + 1, self.first_seq), self.last_seq + 1):
            if not self.is_pending(seq):
                continue
            if runs and (runs[-1][1] == seq - 1 or len(runs) == runs_max):
                runs[-1] = (runs[-1][0], seq)
            else:
                runs.append((seq, seq))
        return runs


def read_frame(file: "BinaryIO", offset: int, buffer: memoryview) -> "memoryview | None":
    """Read the frame at `offset` of an open file into `buffer`; None at the end, or where it is torn or damaged."""
    file.seek(offset)
    if file.readinto(buffer[:PREFIX_BYTES]) != PREFIX_BYTES:
        return None
    length = buffer[4] | buffer[5] << 8
    if length > len(buffer) or length <= PREFIX_BYTES:
        return None
    if file.readinto(buffer[PREFIX_BYTES:length]) != length - PREFIX_BYTES:
        return None
    frame = buffer[:length]
    try:
        verify(frame)
    except WireError:
        return None
    return frame


def write_frame(file: "BinaryIO", frame: memoryview) -> None:
    """Append a frame. Raises OSError if only a part of it was written."""
    if file.write(frame) != len(frame):
        raise OSError("no room for the whole frame")


def find_frame(file: "BinaryIO", offset: int, size_bytes: int, buffer: memoryview) -> int:
    """Return the offset of the first good frame after damage at `offset`, or `size_bytes` if there is none."""
    while offset < size_bytes:
        offset += 1
        file.seek(offset)
        count = file.readinto(buffer[:_SEARCH_BYTES]) or 0
        place = bytes(buffer[:count]).find(b"SL")
        if place < 0:
            offset += max(count - 2, 0)
        else:
            offset += place
            if read_frame(file, offset, buffer) is not None:
                return offset
    return size_bytes


def file_size(path: str) -> int:
    """Return the size of a file in bytes."""
    return int(os.stat(path)[6])
