"""Cursors: read waiting frames back from the journal, family by family, oldest first."""

from micropython import const

from swapline_wire.frame import PREFIX_BYTES

from .segment import find_frame, read_frame

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from .journal import Journal
    from .segment import Segment

_SEQ_OFFSET = const(10)
_BOOT_OFFSET = const(14)
_QUALITY_OFFSET = const(18)


def read_u32(data: memoryview, offset: int) -> int:
    """Return the little-endian unsigned 32-bit number at `offset`."""
    return data[offset] | data[offset + 1] << 8 | data[offset + 2] << 16 | data[offset + 3] << 24


class Cursor:
    """A place in one family of segments. It outlives its segment: when that is deleted it moves on to the next."""

    def __init__(self, journal: "Journal", priority: int, frame_bytes_max: int) -> None:
        self._journal = journal
        self._frame_bytes_max = frame_bytes_max
        self._priority = priority
        self._segment: "Segment | None" = None
        self._after_seq = 0  # the highest number that was passed
        self._offset = 0
        self._before_seq = 0
        self._length = 0
        self._file: "BinaryIO | None" = None

    def rewind(self) -> None:
        """Go to the oldest frame."""
        self.release()
        self._segment = None
        self._after_seq = 0

    def skip_to_end(self) -> None:
        """Go behind the newest frame."""
        self.release()
        self._segment = self._journal.open_segment(self._priority)
        self._offset = self._segment.size_bytes if self._segment is not None else 0
        self._after_seq = self._journal.next_seq - 1

    def release(self) -> None:
        """Close the file. Call it after each batch: LittleFS shows appended bytes only to a file opened anew."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, buffer: memoryview, is_wanted: "Callable[[int], bool]") -> "memoryview | None":
        """Copy the next waiting frame that may be sent and `is_wanted(seq)` into `buffer` and pass it.

        Return None where none is left, an empty view if it does not fit into `buffer` (then it is not passed).
        """
        while True:
            segment = self._find_segment()
            if segment is None:
                return None
            frame = self._read_here(segment, buffer)
            if frame is None:
                if self._has_room(segment, buffer):
                    self._leap(segment)
                    continue
                return buffer[:0]
            seq = read_u32(frame, _SEQ_OFFSET)
            self._before_seq = self._after_seq
            self._length = len(frame)
            self._offset += len(frame)
            self._after_seq = max(seq, self._after_seq)
            if seq == self._before_seq or not segment.is_pending(seq) or not is_wanted(seq):
                continue
            if self._journal.is_datable(read_u32(frame, _BOOT_OFFSET), frame[_QUALITY_OFFSET]):
                return frame

    def unread(self) -> None:
        """Go back before the frame that was read last."""
        self._offset -= self._length
        self._after_seq = self._before_seq

    def _find_segment(self) -> "Segment | None":
        """Return the segment under the cursor, if anything in it is left to read."""
        family = self._journal.families[self._priority]
        if self._segment is not None and self._segment in family:
            return self._segment if self._offset < self._segment.size_bytes else self._next_segment()
        return self._next_segment()

    def _next_segment(self) -> "Segment | None":
        for segment in self._journal.families[self._priority]:
            if segment.pending_count and segment.last_seq > self._after_seq:
                if segment is self._segment:
                    return None
                self.release()
                self._segment = segment
                self._offset = 0
                return segment
        return None

    def _read_here(self, segment: "Segment", buffer: memoryview) -> "memoryview | None":
        if self._file is None:
            self._file = open(segment.path, "rb")  # noqa: SIM115 - open over a batch, see release
        return read_frame(self._file, self._offset, buffer)

    def _has_room(self, segment: "Segment", buffer: memoryview) -> bool:
        """Say whether a whole frame of any length fits, so that what cannot be read is damage and not lack of room."""
        assert self._file is not None
        self._file.seek(self._offset)
        head = self._file.read(PREFIX_BYTES)
        if len(head) < PREFIX_BYTES or head[:2] != b"SL":
            return True
        length = head[4] | head[5] << 8
        return length <= len(buffer) or length > self._frame_bytes_max or self._offset + length > segment.size_bytes

    def _leap(self, segment: "Segment") -> None:
        """Pass what cannot be read: an end torn by a power cut, or flash that has lost what was written."""
        assert self._file is not None
        buffer = memoryview(bytearray(self._frame_bytes_max))
        self._offset = find_frame(self._file, self._offset, segment.size_bytes, buffer)
        frame = read_frame(self._file, self._offset, buffer)
        next_seq = segment.last_seq + 1 if frame is None else read_u32(frame, _SEQ_OFFSET)
        self._journal.damage(segment, self._after_seq, next_seq)
        self._after_seq = max(self._after_seq, next_seq - 1)
