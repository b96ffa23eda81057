"""Sampler: readings become rows, rows become frames.

A `Source` is one stream of one bay. Its driver fills `source.values` with raw integers and commits them; the sampler
marks impossible values, has them judged (`alarm.py`), keeps the row if a signal moved by its deadband or the stream's
longest silence is over, and seals the frame into the journal when it is full, when the sealing interval is over, when
the owner changes and before a step of the clock. Alarms and events are frames of their own, sealed at once. Around an
alarm every reading of its source is kept, those of the half minute before it too (`ring.py`).
"""

import gc
from array import array

from micropython import const

from swapline_wire.catalogue import (
    ALARM_STREAM,
    CODES,
    EVENT_STREAM,
    LOSS_NO_MEMORY,
    OF_MODULE,
    Stream,
    columns,
    find_signal,
    not_available,
    row_size,
)
from swapline_wire.frame import CRC_BYTES, HEADER_BYTES, OWNER_BYTES_MAX, FrameBuilder

from .alarm import CLEARED, is_judged, judge, leave, make_state
from .once import call_once
from .presence import Presence
from .ring import BEFORE_MS, Ring

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from .clock import Clock
    from .counter import Counters
    from .journal_state import Record as Moment

    class FrameStore(Protocol):
        """What the sampler needs of the journal."""

        id: int
        boot: int
        next_seq: int
        occupants: "dict[int, tuple[str, Moment | None]]"

        def occupy(self, bay: int, code: str) -> None: ...
        def append(self, frame: memoryview, seq: int, priority: int) -> int: ...
        def commit(self) -> bool: ...


# What an event about a module tells of the place, by stream.
_PLACE = {"vehicle": "odometer_km", "position": "latitude_deg longitude_deg"}

CHANGE = "change"
ALL = "all"
_SEAL_INTERVAL_MS = const(5000)
_BACKWARD_MS_MAX = const(10000)  # so far behind the last row, rows follow it by 1 ms each instead of meeting older ones
_NO_RULES = array("H")
_FRESH_MS_MAX = const(5000)  # older readings say nothing about now
_ROWS_PER_FRAME_MAX = const(8)  # more would only grow the buffers: the interval seals most frames before


def later(time_ms: int, last_ms: int) -> int:
    """Return the time of a row: now, or just after the last one where that is now or a little ahead of it."""
    return last_ms + 1 if time_ms <= last_ms < time_ms + _BACKWARD_MS_MAX else time_ms


class Kept:
    """The last row that was kept of one key."""

    def __init__(self, width: int) -> None:
        self.values = [0] * width
        self.time_ms = -1
        self.kept_ms = 0  # uptime, which a source's own time may differ from
        self.stated_utc_ms = 0
        self.is_stale = True


class Source:
    """One stream of one bay (0: none). Fill `values`, then `commit`."""

    def __init__(
        self, sampler: "Sampler", stream: Stream, *, bay: int, report: str, silence_ms_max: int, rows_max: int
    ) -> None:
        self.stream = stream
        self.bay = bay
        self.values = not_available(stream.signals)
        self._sampler = sampler
        self.columns = columns(stream.signals)
        self._all = report == ALL
        self._silence_ms_max = silence_ms_max
        buffer_bytes = HEADER_BYTES + OWNER_BYTES_MAX + row_size(stream.signals) * rows_max + CRC_BYTES
        self._builder = FrameBuilder(stream, bay=bay, buffer_bytes=buffer_bytes)
        self._kept: "dict[int, Kept]" = {}
        self.rules = sampler.rules_of(stream) if is_judged(stream) else _NO_RULES
        self.state = make_state(self.rules) if self.rules else _NO_RULES
        self.judged_ms = -_FRESH_MS_MAX
        self.is_lfp = True
        self._is_raised = False
        self._ring = None if self._all or not self.rules else Ring(len(self.values))

    @property
    def owner(self) -> str:
        """The code of the module whose rows are being collected (empty: the node itself)."""
        return self._builder.owner

    @property
    def row_count(self) -> int:
        """How many rows the open frame has."""
        return self._builder.row_count

    def index(self, name: str) -> int:
        """Return the place of a signal in `values`. For constructors, not for every sample."""
        return find_signal(self.stream, name)

    def last_row_ms(self) -> int:
        """Return the time of the newest row, in ms since boot; -1 before the first."""
        newest_ms = -1
        for kept in self._kept.values():
            newest_ms = max(newest_ms, kept.time_ms)
        return newest_ms

    def clear(self) -> None:
        """Set every value to "not available"."""
        i = 0
        for code in self.columns.codes:
            self.values[i] = CODES[code][0]
            i += 1

    def commit(self, owner: str = "", utc_ms: "int | None" = None, read_ms: "int | None" = None) -> bool:
        """Take `values` as a reading made now, or at the UTC that the source itself states. Return whether it was kept.

        `read_ms` is the uptime at which it was made, where it was held back since.

        `owner` is the module's code, empty for what belongs to the node or to a place. A source that states the same
        UTC twice has said nothing new: the second is not kept.
        """
        try:
            self._mark_abnormal()
            self.judge(owner)
            is_kept = self._keep(owner, utc_ms, read_ms)
        except MemoryError:
            self._lose_row()
            return False
        if self._builder.is_full():
            self.seal()
            self._sampler.commit()
        return is_kept

    def _keep(self, owner: str, utc_ms: "int | None", read_ms: "int | None") -> bool:
        sampler = self._sampler
        if owner != self._builder.owner:
            self._change_owner(owner)
        kept = self._kept_of_key()
        if utc_ms is not None and utc_ms == kept.stated_utc_ms:
            sampler.counters.rows_unchanged += 1
            return False
        now_ms = sampler.clock.uptime_ms()
        ring = self._ring
        is_due = self._all or kept.is_stale or now_ms - kept.kept_ms >= self._silence_ms_max
        is_kept = is_due or self._moved(kept.values) or (ring is not None and ring.is_open(now_ms))
        if not is_kept and ring is None:
            sampler.counters.rows_unchanged += 1
            return False
        time_ms = now_ms if read_ms is None else read_ms
        if utc_ms is not None and sampler.clock.is_near(utc_ms):
            time_ms = utc_ms - sampler.clock.anchor_utc_ms
            kept.stated_utc_ms = utc_ms
            if time_ms == kept.time_ms:
                time_ms += 1  # a row without fix, at the node's own time, happens to stand there
        else:
            time_ms = later(time_ms, kept.time_ms)
        kept.time_ms = time_ms
        if ring is not None:
            ring.take(kept.values, self.values, time_ms, is_kept=is_kept)
            if not is_kept:
                sampler.counters.rows_unchanged += 1
                return False
        if not self._all:
            kept.values[:] = self.values
        kept.is_stale = False
        kept.kept_ms = now_ms
        self._add(time_ms, self.values)
        sampler.counters.rows_kept += 1
        return True

    def judge(self, owner: "str | None") -> bool:
        """Judge `values`, and tell the alarms that change; without an owner only return whether there are any."""
        now_ms = self._sampler.clock.uptime_ms()
        if not self.rules:
            self.judged_ms = now_ms  # nothing to judge, but a reading all the same
            return False
        if owner is not None and owner != self.owner:
            leave(self)
        changes = judge(self, now_ms, owner)
        if changes and owner is not None:
            self._sampler.commit()
            if self._is_raised:
                self._is_raised = False
                self._tell_around(owner, now_ms)
        return changes > 0

    def tell(self, values: "list[int]", owner: str) -> bool:
        """Store one row of the alarm stream about this source; return whether the journal has it."""
        is_told = self._sampler.alarm(values, owner, self.bay)
        if is_told and values[1] != CLEARED:
            self._is_raised = True
        return is_told

    def _tell_around(self, owner: str, now_ms: int) -> None:
        """Keep every reading from now on, and add those that were left out before an alarm: the module's own."""
        ring = self._ring
        if ring is None or not ring.open(now_ms) or owner != self.owner:
            return
        self.seal()
        counters = self._sampler.counters
        rows = counters.rows_kept + ring.count(now_ms - BEFORE_MS)
        try:
            for kept in self._kept.values():
                ring.tell(kept.values, now_ms - BEFORE_MS, self._add_left_out)
        except MemoryError:
            gc.collect()
            counters.memory_errors += 1
            counters.lose(LOSS_NO_MEMORY, rows=rows - counters.rows_kept)
        self.seal()
        ring.clear()
        self._sampler.commit()

    def _add_left_out(self, time_ms: int, values: "list[int]") -> None:
        self._add(time_ms, values)
        self._sampler.counters.rows_kept += 1

    def number_now(self, name: str) -> "int | None":
        """Return what a fresh reading says here; None if there is none, or it is no number."""
        i = self.index(name)
        if self._sampler.clock.uptime_ms() - self.judged_ms >= _FRESH_MS_MAX:
            return None
        return None if self.values[i] in CODES[self.columns.codes[i]] else self.values[i]

    def seal(self) -> None:
        """Close the open frame, if it has rows, and hand it to the journal."""
        if self._builder.row_count:
            self._sampler.store(self._builder)

    def shift(self, step_ms: int) -> None:
        """Take note that the clock was stepped: the last rows' times are others now, in the new boot time."""
        for kept in self._kept.values():
            kept.time_ms -= step_ms
        if self._ring is not None:
            self._ring.shift(step_ms)

    def _forget_left_out(self) -> None:
        if self._ring is not None:
            self._ring.clear()

    def _add(self, time_ms: int, values: "list[int]") -> None:
        builder = self._builder
        if not builder.takes(time_ms):
            self.seal()
        builder.add(time_ms, values)

    def _lose_row(self) -> None:
        """Count a row that found no memory as lost. The next reading is kept, whatever has changed since."""
        gc.collect()
        for kept in self._kept.values():
            kept.is_stale = True
        self._forget_left_out()
        self._sampler.counters.memory_errors += 1
        self._sampler.counters.lose(LOSS_NO_MEMORY, rows=1)

    def _change_owner(self, owner: str) -> None:
        self.seal()
        self._builder.change_owner(owner)
        self._forget_left_out()
        for kept in self._kept.values():
            kept.is_stale = True

    def _kept_of_key(self) -> Kept:
        key = 0
        for i in self.columns.keys:
            key = key << 16 | self.values[i]
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept(0 if self._all else len(self.values))  # where all is kept, none is compared
        return kept

    def _mark_abnormal(self) -> None:
        values = self.values
        _, codes, minimums, maximums, _, _ = self.columns
        for i in range(len(values)):
            if not minimums[i] <= values[i] <= maximums[i]:
                empty, abnormal = CODES[codes[i]]
                if values[i] != empty:
                    values[i] = abnormal
                    self._sampler.counters.values_abnormal += 1

    def _moved(self, kept: "list[int]") -> bool:
        values = self.values
        _, codes, _, _, deadbands, _ = self.columns
        for i in range(len(values)):
            value = values[i]
            if value != kept[i]:
                special = CODES[codes[i]]  # no number: a change from or to it is one, however small
                if abs(value - kept[i]) >= deadbands[i] or value in special or kept[i] in special:
                    return True
        return False


class Sampler:
    """Own every source and the way from rows to the journal. `on_sealed` is called when frames are durable."""

    def __init__(self, journal: "FrameStore", clock: "Clock", counters: "Counters") -> None:
        self.clock = clock
        self.counters = counters
        self.on_sealed: "Callable[[], None] | None" = None
        self.overrides: "dict[str, dict[str, object]]" = {}
        self.seal_interval_ms = _SEAL_INTERVAL_MS
        self._journal = journal
        self._sources: "list[Source]" = []
        self._presences: "list[Presence]" = []
        self._event_ms = self._alarm_ms = -1
        self._untold: "set[int]" = set()
        self._rules: "dict[int, array[int]]" = {}

    def rules_of(self, stream: Stream) -> "array[int]":
        """Return the rules of the alarm table for `stream`, compiled once."""
        rules = self._rules.get(stream.id)
        if rules is None:
            rules = call_once("alarm_table", "compile_rules", stream, package="swapline_wire")
            self._rules[stream.id] = rules
        return rules

    def source(self, stream: Stream, bay: int = 0) -> Source:
        """Create the source of `stream` in `bay`. Once, at start."""
        override = self.overrides.get(stream.name, {})
        rows_max = self.seal_interval_ms // stream.period_ms + 2 if stream.period_ms else _ROWS_PER_FRAME_MAX
        source = Source(
            self,
            stream,
            bay=bay,
            rows_max=min(rows_max, _ROWS_PER_FRAME_MAX),
            report=str(override.get("report", CHANGE)),
            silence_ms_max=int(str(override.get("silence_ms_max", stream.silence_ms_max))),
        )
        self._sources.append(source)
        return source

    def presence(self, bay: int) -> Presence:
        """Create the watch over who sits in `bay`."""
        presence = Presence(self, bay)
        self._presences.append(presence)
        return presence

    def look_for_lost(self) -> None:
        """See whether modules that are missed have left since. To be called now and then."""
        for presence in self._presences:
            presence.look()

    def event(
        self, code: int, owner: str = "", bay: int = 0, moment: "Moment | None" = None, **signals: "int | None"
    ) -> None:
        """Store an event at once. `signals` are raw; what is None or not named is "not available".

        With `moment`, of an earlier boot, it stands at that time, in that boot.
        """
        values = not_available(EVENT_STREAM.signals)
        limits = columns(EVENT_STREAM.signals)
        values[find_signal(EVENT_STREAM, "code")] = code
        if owner and moment is None:
            self._tell_place(bay, signals)
        for name, value in signals.items():
            if value is not None:
                i = find_signal(EVENT_STREAM, name)
                values[i] = min(max(value, limits.minimums[i]), limits.maximums[i])
        builder = FrameBuilder(EVENT_STREAM, bay=bay, owner=owner, buffer_bytes=128)
        if moment is None:
            self._event_ms = later(self.clock.uptime_ms(), self._event_ms)
            builder.add(self._event_ms, values)
        else:
            builder.add((moment.first_seq | moment.last_seq << 32) + 1, values)
        self.store(builder, moment=moment)
        self.commit()

    def _tell_place(self, bay: int, signals: "dict[str, int | None]") -> None:
        """Add to an event what the bay's slot, or the van, says of the swap, and where the van is."""
        for source in self._sources:
            if source.stream.name == "vehicle" or (source.stream.name == "slot" and source.bay == bay):
                signals["request_id"] = source.number_now("request_id")
            names = _PLACE.get(source.stream.name, "")
            for name in names.split():
                signals[name] = source.number_now(name)

    def awaits_request(self, bay: int, limit_ms: int) -> bool:
        """Say whether slot or vehicle were not read yet since the start, and that is less than `limit_ms` ago."""
        for source in self._sources:
            if source.stream.name == "vehicle" or (source.stream.name == "slot" and source.bay == bay):
                return source.judged_ms < 0 and self.clock.uptime_ms() < limit_ms
        return False

    def occupant(self, bay: int) -> "tuple[str, Moment | None] | None":
        """Return the code of the module that sits in this bay as the journal remembers it.

        With the moment of an earlier boot at which it was there, if this boot has not seen it.
        """
        return self._journal.occupants.get(bay)

    def occupy(self, bay: int, code: str) -> None:
        """Have the journal remember who sits in this bay."""
        self._journal.occupy(bay, code)

    def alarm(self, values: "list[int]", owner: str, bay: int) -> bool:
        """Seal a frame with one row of the alarm stream; `commit` makes it durable. Return whether there was room.

        A row without room is tried again at every reading, and counted as lost once: until any finds room.
        """
        self._alarm_ms = later(self.clock.uptime_ms(), self._alarm_ms)  # two rows of one code may not share a time
        builder = FrameBuilder(ALARM_STREAM, bay=bay, owner=owner, buffer_bytes=128)
        builder.add(self._alarm_ms, values)
        what = (bay << 16 | values[0]) << 2 | values[1]  # code and level
        if not self.store(builder, is_again=what in self._untold):
            self._untold.clear()
            return True
        self._untold.add(what)
        return False

    def tells_of_module(self, bay: int) -> "int | None":
        """Return 1 if a module cannot have left this bay (its slot is occupied, the van moves), 0 if it is not there.

        None: nobody knows.
        """
        for source in self._sources:
            if source.stream.name == "slot" and source.bay == bay:
                return source.number_now("occupied")
            if source.stream.name == "vehicle" and source.number_now("speed_kmh"):
                return 1
        return None

    def row_count(self) -> int:
        """Return how many rows wait in open frames."""
        return sum([source.row_count for source in self._sources])

    def seal_all(self) -> None:
        """Seal every open frame and make them durable."""
        for source in self._sources:
            source.seal()
        self.commit()

    def shift(self, step_ms: int) -> None:
        """Take note that the clock was stepped by so much, so that no two rows get the same UTC."""
        self._event_ms -= step_ms
        self._alarm_ms -= step_ms
        for source in self._sources:
            source.shift(step_ms)

    def leave_bay(self, bay: int) -> None:
        """Seal the open frames of one bay, and clear the alarms of the module that was there."""
        for source in self._sources:
            if source.bay == bay:
                source.seal()
                if source.stream.owner == OF_MODULE:
                    leave(source)

    def store(self, builder: FrameBuilder, *, is_again: bool = False, moment: "Moment | None" = None) -> int:
        """Seal `builder` and append the frame to the journal; return the reason if that failed.

        What is tried again (`is_again`) was counted as lost already. With `moment` it is a frame of that boot.
        """
        journal = self._journal
        seq = journal.next_seq
        rows = builder.row_count
        try:
            frame = builder.seal(
                journal=journal.id,
                seq=seq,
                boot=journal.boot if moment is None else moment.boot,
                time_quality=self.clock.quality if moment is None else moment.detail,
                anchor_utc_ms=self.clock.anchor_utc_ms if moment is None else moment.value,
            )
            loss = journal.append(frame, seq, builder.stream.priority)
        except MemoryError:
            gc.collect()
            builder.clear()
            self.counters.memory_errors += 1
            loss = LOSS_NO_MEMORY
        if loss:
            self.counters.lose(loss, rows=0 if is_again else rows)
        else:
            self.counters.frames_sealed += 1
        return loss

    def commit(self) -> None:
        """Make what was appended durable, and tell the publisher."""
        if self._journal.commit() and self.on_sealed is not None:
            self.on_sealed()
