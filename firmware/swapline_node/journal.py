"""The node's journal: sealed frames on flash, from sealing until the gateway has acknowledged them.

A folder of append-only segments (`<family><first seq>.seg`, see `segment.py`) and a state file (`journal_state.py`);
`docs/journal.md` specifies both. There is one numbering and three families: routine, event, alarm. A segment is
deleted when all its frames are acknowledged, or, when the journal is full, as a declared drop: the oldest routine
segment first, then events, alarms last.

On LittleFS, which rewrites a file's last block after each flush, frames go to small segments of their own while the
gateway keeps up: those lie in the folder's metadata and cost no erase (docs/decisions/0016).

What holds at every moment, whatever a power cut interrupts: a number is never used twice (the segment with the highest
one, the witness, is not deleted before a later one is durable); a segment whose end is torn is never appended to; an
anchor is durable before it is used; a drop is durable before the segment is deleted.
"""

import os

from micropython import const

from swapline_wire.catalogue import (
    ALARM,
    LOSS_JOURNAL_DAMAGED,
    LOSS_JOURNAL_FULL,
    LOSS_NO_MEMORY,
    ROUTINE,
    TIME_ESTIMATED,
    TIME_NONE,
)

from .journal_state import (
    ANCHOR,
    BOOT,
    CLEAN_STOP,
    DROP,
    DROP_DECLARED,
    SETTLED,
    JournalState,
    Record,
    estimate_anchors,
    sync_folder,
)
from .once import call_once
from .segment import Segment, write_frame

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from .segment_scan import Recovery

_BLOCK_BYTES = const(4096)  # a file of one byte takes a whole erase block
_SEGMENTS_PER_LIMIT = const(24)  # a drop then costs about 4 % of what is kept; each segment takes heap
_SEGMENT_BYTES_MIN = const(4096)
_SEGMENT_BYTES_MAX = const(65536)
_SEGMENTS_MAX = const(48)  # 300 bytes of heap each on the 64-bit unix port
_SMALL_BYTES = const(512)  # what LittleFS keeps inline: an eighth of a block (docs/decisions/0016)
_SMALL_MAX = const(8)  # a sealing interval of a van and more; many would not fit into the folder's metadata
_BOOTS_MAX = const(128)  # whose frames without time wait: each takes heap
_SMALL_SHARE_BYTES = const(65536)  # of the limit, for each small segment: the limit counts it as a block
_STATE_BYTES = const(2 * _BLOCK_BYTES)  # the state file and its successor
_STATE_BYTES_MAX = const(3072)  # 45 drops; then it is written anew
_DROPS_APART = const(8)  # more that follow each other are one: they take heap as long as a full disk takes no event

Drop = Record


class Journal:
    """Keep sealed frames in `folder`, in at most `limit_bytes`. Until `open` (`boot` is 0) it takes nothing."""

    def __init__(self, folder: str, *, limit_bytes: int, block_bytes: int = _BLOCK_BYTES, small_max: int = -1) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.id = 0
        self.boot = 0
        self.next_seq = 1
        self.is_first_boot = self.was_stopped_cleanly = True
        self.pending_frames = 0
        self.anchors: "dict[int, tuple[int, int]]" = {}  # boot -> (UTC ms of its millisecond 0, time quality)
        self.families: "list[list[Segment]]" = [[], [], []]  # by priority, oldest first
        self._block_bytes = block_bytes
        self._segment_bytes = min(max(limit_bytes // _SEGMENTS_PER_LIMIT, _SEGMENT_BYTES_MIN), _SEGMENT_BYTES_MAX)
        self._small_max = small_max  # -1: found out when it is opened
        self._state = JournalState(folder)
        self.occupants, self.occupy = self._state.occupants, self._state.occupy
        self._open: "list[Segment | None]" = [None, None, None]
        self._files: "list[BinaryIO | None]" = [None, None, None]
        self._dirty = [0, 0, 0]  # the first number of a family that is not flushed; 0: none
        self._is_posix = self._is_folder_dirty = False
        self._is_recovered = False
        self._witness: "Segment | None" = None  # the durable segment with the highest number
        self._dropped: "list[Drop]" = []  # not yet declared by an event that is durable
        self.latest_utc_ms = 0  # the latest time that earlier boots have known
        self._uptimes: "dict[int, int]" = {}  # boot without anchor -> last uptime in ms that a frame of it tells

    # ---- opening

    def open(self, on_progress: "Callable[[], None] | None" = None) -> None:
        """Recover what earlier boots left and begin a new one. Raises OSError if the folder cannot be used.

        `on_progress` is called after every segment: reading them all takes a board seconds, and its watchdog waits.
        """
        call_once("recovery", "make_folder", self.folder)
        self._is_posix = sync_folder(self.folder)
        if self._small_max < 0:
            is_inline = not self._is_posix and call_once("recovery", "is_inline", self.folder, _SMALL_BYTES)
            self._small_max = min(_SMALL_MAX, self.limit_bytes // _SMALL_SHARE_BYTES) if is_inline else 0
        records = call_once("recovery", "read_state", self.folder)
        recovery = call_once("segment_scan", "scan_folder", self.folder, on_progress)
        self._take_over(records, recovery)
        self.occupants.update(call_once("recovery", "find_occupants", records, recovery, self.boot))
        self._finish_drops(records)
        self.anchors.update(estimate_anchors(self.boot, self.anchors, self._uptimes))
        for boot in list(self.anchors):
            if boot not in recovery.uptimes and boot != max(self.anchors):
                del self.anchors[boot]
        try:
            self._replace_state()
        except OSError:
            self.boot = 0  # not open: it takes nothing
            raise
        self._is_recovered = True
        if len(recovery.uptimes) > _BOOTS_MAX:
            self._drop_oldest(ALARM)  # the next boot will see whether that was enough

    def _replace_state(self) -> None:
        """Write the state file anew, without what has no meaning any more."""
        keep = [Record(BOOT, 0, self.id, self.boot, 0, self.next_seq, 0)]
        keep.extend([self._anchor_record(boot, self.anchors[boot]) for boot in sorted(self.anchors)])
        keep.extend(self._dropped)
        keep.extend(self._settled_records())
        self._state.replace(keep)

    def _take_over(self, records: "list[Record]", recovery: "Recovery") -> None:
        self.is_first_boot = not records and not recovery.segments
        self.was_stopped_cleanly = self.is_first_boot or bool(records and records[-1].kind == CLEAN_STOP)
        self.next_seq = max(1, recovery.next_seq)
        for record in records:
            if record.kind == BOOT:
                self.id = record.journal
                self.boot = record.boot
                self.next_seq = max(self.next_seq, record.first_seq)
            elif record.kind == ANCHOR:
                self.anchors[record.boot] = (record.value, record.detail)
            elif record.kind == DROP:
                self.next_seq = max(self.next_seq, record.last_seq + 1)
        self.id = self.id or recovery.journal or call_once("recovery", "draw_id")
        self.boot = max(self.boot, recovery.boot_max) + 1
        self._uptimes = recovery.uptimes
        known = [utc_ms for utc_ms, quality in self.anchors.values() if quality > TIME_ESTIMATED]
        self.latest_utc_ms = max([recovery.latest_utc_ms] + known)
        self._take_segments(recovery.segments, [r for r in records if r.kind == SETTLED])
        for first, last in recovery.damaged:
            self._note_drop(LOSS_JOURNAL_DAMAGED, first, last, last - first + 1)
        doubtful = recovery.next_seq_doubtful - self.next_seq
        if doubtful > 0:  # frames may have stood there and been sent: their numbers must not come again
            self._note_drop(LOSS_JOURNAL_DAMAGED, self.next_seq, self.next_seq + doubtful - 1, doubtful)
            self.next_seq += doubtful
        self._reap_all()

    def _take_segments(self, segments: "list[Segment]", settled: "list[Record]") -> None:
        for segment in segments:
            self.families[segment.priority].append(segment)
            self.pending_frames += segment.pending_count
            for record in settled:
                if (record.boot, record.first_seq) == (segment.priority, segment.first_seq):
                    self._settle(segment, record.first_seq, record.last_seq)
            if self._witness is None or segment.last_seq >= self._witness.last_seq:
                self._witness = segment
            if segment.bytes_max > (_SMALL_BYTES if self._small_max else 0):
                segment.bytes_max = self._segment_bytes

    def _finish_drops(self, records: "list[Record]") -> None:
        """Complete the drops that a power cut interrupted, and have them declared (again: same range, same count)."""
        for drop in [record for record in records if record.kind == DROP]:
            for segment in list(self.families[drop.boot % 3]):
                if segment.first_seq <= drop.first_seq and segment.last_seq >= drop.last_seq:
                    self._settle(segment, drop.first_seq, drop.last_seq)
                    self._delete_if_settled(segment)
            self._dropped.append(drop)

    # ---- anchors

    def decide_anchor(self, utc_ms: int, quality: int) -> None:
        """Write down this boot's anchor, and estimates for earlier boots that ended without one. Raises OSError.

        All or nothing: an anchor that is used but not durable could be another one after the next boot.
        """
        if not self.boot:
            raise OSError("the journal is not open")  # a record would end what the last boot said of its stop
        decided = {self.boot: (utc_ms, quality)}
        known = dict(self.anchors)
        known.update(decided)
        decided.update(estimate_anchors(self.boot, known, self._uptimes))
        self._state.append(*[self._anchor_record(boot, decided[boot]) for boot in sorted(decided, reverse=True)])
        self.anchors.update(decided)

    def _anchor_record(self, boot: int, anchor: "tuple[int, int]") -> Record:
        utc_ms, quality = anchor
        return Record(ANCHOR, quality, self.id, boot, utc_ms, 0, 0)

    def is_datable(self, boot: int, time_quality: int) -> bool:
        """Say whether a frame of `boot` sealed with `time_quality` may be sent: its time is known for ever."""
        return time_quality != TIME_NONE or boot in self.anchors

    # ---- appending

    def append(self, frame: memoryview, seq: int, priority: int) -> int:
        """Append a sealed frame; it is durable after the next `commit`. Return 0, or the reason why it is lost.

        `seq` must be `next_seq`; it is used up unless there was no room at all.
        """
        if not self.boot:
            return LOSS_JOURNAL_FULL  # it could not be opened: nowhere to put anything
        assert seq == self.next_seq
        loss = self._make_room(len(frame), priority)
        if loss:
            return loss
        self.next_seq += 1
        try:
            segment = self._segment_for(seq, len(frame), priority)
            write_frame(self._file(priority), frame)
        except (OSError, MemoryError) as error:
            self._give_up_segment(priority)
            reason = LOSS_NO_MEMORY if isinstance(error, MemoryError) else LOSS_JOURNAL_FULL
            self._note_drop(reason, seq, seq, 1, priority)
            return 0
        segment.add(seq, len(frame))
        self.pending_frames += 1
        self._dirty[priority] = self._dirty[priority] or seq
        return 0

    def commit(self) -> bool:
        """Make what was appended durable; return whether there was anything."""
        was_dirty = False
        for priority in range(3):
            if self._dirty[priority]:
                was_dirty = True
                self._flush(priority)
                segment = self._open[priority]
                if segment is not None and self._is_small(segment):
                    self._close_segment(priority)
        if self._is_folder_dirty and self._is_posix:
            sync_folder(self.folder)
        self._is_folder_dirty = False
        if was_dirty:
            self._reap_all()
        return was_dirty

    def _flush(self, priority: int) -> None:
        """Make what was appended to a family's open segment durable, or declare it as lost."""
        segment = self._open[priority]
        first = self._dirty[priority]
        if segment is None or not first:
            return
        try:
            self._file(priority).flush()
            self._dirty[priority] = 0
        except OSError:
            self._give_up_segment(priority)
            return
        if self._witness is None or segment.last_seq > self._witness.last_seq:
            self._witness = segment

    def _is_small(self, segment: Segment) -> bool:
        return segment.bytes_max < self._segment_bytes

    def _segment_to_continue(self, seq: int, length: int, priority: int) -> "Segment | None":
        """Return the segment that the next frame of a family is appended to; None if it begins a new one."""
        segment = self._open[priority]
        if segment is None:
            family = self.families[priority]
            if not family or not family[-1].bytes_max or self._new_bytes_max(length, priority) < self._segment_bytes:
                return None
            segment = family[-1]
            segment.bytes_max = self._segment_bytes  # a small one too: there are enough of them
        # Where the gateway keeps up, what is acknowledged goes soon, and is not sent again after a power cut.
        is_spent = not segment.pending_count and segment.size_bytes >= (1 if self._small_max else self._block_bytes)
        return segment if segment.takes(seq, length) and not is_spent else None

    def _segment_for(self, seq: int, length: int, priority: int) -> Segment:
        segment = self._segment_to_continue(seq, length, priority)
        if segment is None:
            segment = self._open_segment(priority, seq, self._new_bytes_max(length, priority))
        elif segment is not self._open[priority]:
            self._files[priority] = open(segment.path, "ab")  # noqa: SIM115 - stays open over many frames
            self._open[priority] = segment
        return segment

    def _new_bytes_max(self, length: int, priority: int) -> int:
        """Return how long a family's next segment may become: small as long as only few and small ones wait."""
        waiting = [s for family in self.families for s in family if s.pending_count]
        smalls = sum(self._is_small(s) for s in waiting)
        is_behind = any(s.priority == priority and not self._is_small(s) for s in waiting)
        return self._segment_bytes if is_behind or smalls >= self._small_max else max(length, _SMALL_BYTES)

    def _open_segment(self, priority: int, seq: int, bytes_max: int) -> Segment:
        """Begin a new segment. Where one of this name exists it holds no whole frame, else the number were used up."""
        self._close_segment(priority)
        segment = Segment(self.folder, priority, seq, bytes_max)
        self._is_folder_dirty = True
        self._files[priority] = open(segment.path, "wb")  # noqa: SIM115 - stays open over many frames
        self._open[priority] = segment
        self.families[priority] = [s for s in self.families[priority] if s.path != segment.path] + [segment]
        return segment

    def _close_segment(self, priority: int) -> None:
        """Close the open segment of a family, its frames flushed."""
        segment = self._open[priority]
        if segment is None:
            return
        self._flush(priority)
        if self._open[priority] is not segment:
            return  # flushing failed, and gave it up already
        file = self._file(priority)
        self._open[priority] = None
        self._files[priority] = None
        file.close()

    def _file(self, priority: int) -> "BinaryIO":
        file = self._files[priority]
        assert file is not None
        return file

    def _give_up_segment(self, priority: int) -> None:
        """Leave a segment that could not be written; declare what is not durable, and make room on a full disk."""
        segment = self._open[priority]
        file = self._files[priority]
        first = self._dirty[priority]
        self._dirty[priority] = 0
        self._open[priority] = None
        self._files[priority] = None
        try:
            if file is not None:
                file.close()
        except OSError:
            pass  # what it could not write is declared below
        if segment is not None:
            segment.bytes_max = 0
            if first:
                self._drop(segment, first - 1)
        self._drop_oldest(priority)

    # ---- making room

    def used_bytes(self) -> int:
        """Return what the journal takes, in whole erase blocks."""
        return _STATE_BYTES + sum(self._blocks_bytes(s.size_bytes) for family in self.families for s in family)

    def _blocks_bytes(self, size_bytes: int) -> int:
        return (max(size_bytes, 1) + self._block_bytes - 1) // self._block_bytes * self._block_bytes

    def _make_room(self, length: int, priority: int) -> int:
        while True:
            segment = self._segment_to_continue(self.next_seq, length, priority)
            size = segment.size_bytes if segment is not None else 0
            count = sum(len(family) for family in self.families)
            if segment is None and count >= _SEGMENTS_MAX and self._drop_oldest(ALARM):
                continue
            used = self.used_bytes() - (self._blocks_bytes(size) if segment is not None else 0)
            if used + self._blocks_bytes(size + length) <= self.limit_bytes:
                return 0
            if not self._drop_oldest(priority):
                return LOSS_JOURNAL_FULL

    def _drop_oldest(self, priority: int) -> bool:
        """Drop the oldest segment of the least important family that is not above `priority`."""
        for victim in range(priority + 1):
            for segment in self.families[victim]:
                if not segment.pending_count:
                    continue
                try:
                    if segment is self._open[victim]:
                        self._close_segment(victim)
                    if segment is self._witness:
                        self._begin_witness()
                except OSError:
                    return False
                self._drop(segment)
                return segment not in self.families[victim]
        return False

    def _begin_witness(self) -> None:
        """Have an empty segment keep the numbering, so that the one with the highest number may be deleted."""
        self._witness = self._open_segment(ROUTINE, self.next_seq, self._segment_bytes)
        sync_folder(self.folder)

    def _drop(self, segment: Segment, after: int = 0) -> None:
        """Declare the waiting frames of `segment` with numbers above `after` as lost; delete it if none is left."""
        for first, last in segment.pending_runs(after):
            self._note_drop(LOSS_JOURNAL_FULL, first, last, segment.count_pending(first, last), segment.priority)
        self._settle(segment, after + 1, segment.last_seq)
        self._delete_if_settled(segment)
        self._is_folder_dirty = True  # else it may be back after a power cut, its frames declared as lost already

    def _note_drop(self, reason: int, first: int, last: int, count: int, priority: int = 0) -> None:
        """Write down what is about to be lost, so that it is declared even if the power is cut before the event is."""
        drop = Record(DROP, reason, self.id, priority, count, first, last)
        if self._is_recovered:  # else the new state file has it
            try:
                self._state.append(drop)
            except OSError:
                pass  # the disk is full: the event, which is stored as soon as there is room, still declares it
        before = self._dropped[-1] if len(self._dropped) >= _DROPS_APART else drop
        if before.detail == reason and before.last_seq == first - 1 and before.value == first - before.first_seq:
            self._dropped.pop()
            drop = Record(DROP, reason, self.id, priority, before.value + count, before.first_seq, last)
        self._dropped.append(drop)

    def undeclared_drops(self) -> "list[Drop]":
        """Return the drops that no event has declared yet. The caller stores the events and calls `drop_declared`."""
        return list(self._dropped)

    def drop_declared(self, drop: Drop) -> None:
        """Note that the event which declares `drop` is durable."""
        if drop in self._dropped:
            self._dropped.remove(drop)
        try:
            self._state.append(Record(DROP_DECLARED, 0, self.id, drop.boot, 0, drop.first_seq, drop.last_seq))
            if self._state.size_bytes > _STATE_BYTES_MAX:
                self._replace_state()
        except OSError:
            pass  # then the next boot declares the same range again

    # ---- acknowledging

    def acknowledge(self, first: int, last: int) -> int:
        """Take the frames `first` to `last` as stored by the gateway; return how many of them were still waiting."""
        settled = 0
        for family in self.families:
            for segment in list(family):
                if segment.pending_count and segment.first_seq <= last and segment.last_seq >= first:
                    settled += self._settle(segment, first, last)
                    if not self._is_folder_dirty:  # else the witness may not have its name for ever: `commit` deletes
                        self._delete_if_settled(segment)
        return settled

    def is_pending(self, seq: int) -> bool:
        """Say whether the frame `seq` is here and not acknowledged."""
        for family in self.families:
            for segment in family:
                if segment.is_pending(seq):
                    return True
        return False

    def damage(self, segment: Segment, after_seq: int, before_seq: int) -> None:
        """Declare the waiting frames of `segment` between two numbers (exclusive) as unreadable."""
        for first, end in segment.pending_runs(after_seq):
            last = min(end, before_seq - 1)
            if first <= last:
                count = segment.count_pending(first, last)
                self._note_drop(LOSS_JOURNAL_DAMAGED, first, last, count, segment.priority)
                self._settle(segment, first, last)
        self._delete_if_settled(segment)

    def open_segment(self, priority: int) -> "Segment | None":
        """Return the segment that a family is being appended to, if there is one."""
        return self._open[priority]

    def _settle(self, segment: Segment, first: int, last: int) -> int:
        count = segment.settle(first, last)
        self.pending_frames -= count
        return count

    def _delete_if_settled(self, segment: Segment) -> None:
        """Delete a segment that nobody waits for, unless it is open or the witness of the numbering."""
        if segment.pending_count or segment in self._open or segment is self._witness:
            return
        try:
            os.remove(segment.path)
        except OSError:
            return
        self.families[segment.priority].remove(segment)

    def _reap_all(self) -> None:
        for family in self.families:
            for segment in list(family):
                self._delete_if_settled(segment)

    # ---- closing

    def close(self) -> None:
        """Close the journal in order: the next boot knows that no row was lost."""
        for priority in range(3):
            self._close_segment(priority)
        try:
            self._state.append(*self._settled_records(), Record(CLEAN_STOP, 0, self.id, self.boot, 0, 0, 0))
        except OSError:
            pass  # the disk is full: the next boot takes it for a power cut

    def _settled_records(self) -> "list[Record]":
        """Return what spares the next boot from sending again what the gateway has."""
        records = []
        for family in self.families:
            for segment in family:
                last = segment.settled_prefix()
                if last >= segment.first_seq:
                    records.append(Record(SETTLED, 0, self.id, segment.priority, 0, segment.first_seq, last))
        return records
