"""Sampler: readings become rows, rows become frames.

A `Source` is one stream of one bay. Its driver fills `source.values` with raw integers and commits them; the sampler
marks impossible values, keeps the row if a signal moved by its deadband or the stream's longest silence is over, and
seals the frame into the journal when it is full, when the sealing interval is over, when the owner changes and before a
step of the clock.
"""

from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, EVENT_STREAM, FORMATS, KEY, Stream, row_size
from swapline_wire.frame import CRC_BYTES, FRAME_BYTES_MAX, HEADER_BYTES, OWNER_BYTES_MAX, FrameBuilder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from .clock import Clock
    from .counter import Counters

    class FrameStore(Protocol):
        """What the sampler needs of the journal."""

        id: int
        boot: int
        next_seq: int

        def append(self, frame: memoryview, seq: int, priority: int) -> int: ...
        def commit(self) -> bool: ...


CHANGE = "change"
ALL = "all"
ROWS_PER_FRAME_MAX = 8  # more would only grow the buffers: the interval seals most frames before
OFFSET_MS_MAX = 0x7FFFFFFF


class Layout:
    """What the sampler needs to know of a stream's signals, once for all its sources."""

    def __init__(self, stream: Stream) -> None:
        signals = stream.signals
        self.names = [s.name for s in signals]
        self.empty = [FORMATS[s.format][2] for s in signals]
        self.abnormal = [FORMATS[s.format][3] for s in signals]
        self.minimum = [s.minimum for s in signals]
        self.maximum = [s.maximum for s in signals]
        self.deadband = [s.deadband for s in signals]
        self.keys = [i for i in range(len(signals)) if signals[i].kind == KEY]


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
        self, sampler: "Sampler", stream: Stream, layout: Layout, *, bay: int, report: str, silence_ms_max: int
    ) -> None:
        self.stream = stream
        self.bay = bay
        self.values = list(layout.empty)
        self._sampler = sampler
        self._layout = layout
        self._all = report == ALL
        self._silence_ms_max = silence_ms_max
        self._buffer_bytes = min(
            FRAME_BYTES_MAX, HEADER_BYTES + OWNER_BYTES_MAX + row_size(stream.signals) * ROWS_PER_FRAME_MAX + CRC_BYTES
        )
        self._builder = FrameBuilder(stream, bay=bay, buffer_bytes=self._buffer_bytes)
        self._kept: "dict[int, Kept]" = {}

    @property
    def owner(self) -> str:
        """The code of the module whose rows are being collected (empty: the node itself)."""
        return self._builder.owner

    def index(self, name: str) -> int:
        """Return the place of a signal in `values`. For constructors, not for every sample."""
        return self._layout.names.index(name)

    def clear(self) -> None:
        """Set every value to "not available"."""
        self.values[:] = self._layout.empty

    def commit(self, owner: str = "", utc_ms: "int | None" = None) -> bool:
        """Take `values` as a reading made now, or at the UTC that the source itself states. Return whether it was kept.

        `owner` is the module's code, empty for what belongs to the node or to a place. A source that states the same
        UTC twice has said nothing new: the second is not kept.
        """
        sampler = self._sampler
        self._mark_abnormal()
        if owner != self._builder.owner:
            self._change_owner(owner)
        kept = self._kept_of_key()
        if utc_ms is not None and utc_ms == kept.stated_utc_ms:
            sampler.counters.rows_unchanged += 1
            return False
        now_ms = sampler.clock.uptime_ms()
        is_due = self._all or kept.is_stale or now_ms - kept.kept_ms >= self._silence_ms_max
        if not is_due and not self._moved(kept.values):
            sampler.counters.rows_unchanged += 1
            return False
        time_ms = now_ms
        if utc_ms is not None and sampler.clock.quality and sampler.clock.is_plausible(utc_ms):
            time_ms = utc_ms - sampler.clock.anchor_utc_ms
            kept.stated_utc_ms = utc_ms
        elif time_ms <= kept.time_ms:
            time_ms = kept.time_ms + 1
        kept.values[:] = self.values
        kept.is_stale = False
        kept.time_ms = time_ms
        kept.kept_ms = now_ms
        self._add(time_ms)
        sampler.counters.rows_kept += 1
        return True

    def seal(self) -> None:
        """Close the open frame, if it has rows, and hand it to the journal."""
        if self._builder.row_count:
            self._sampler.store(self._builder)

    def _add(self, time_ms: int) -> None:
        builder = self._builder
        if builder.row_count and abs(time_ms - builder.first_row_ms) > OFFSET_MS_MAX:
            self.seal()
        builder.add(time_ms, self.values)
        if builder.is_full():
            self.seal()
            self._sampler.commit()

    def _change_owner(self, owner: str) -> None:
        self.seal()
        self._builder = FrameBuilder(self.stream, bay=self.bay, owner=owner, buffer_bytes=self._buffer_bytes)
        for kept in self._kept.values():
            kept.is_stale = True

    def _kept_of_key(self) -> Kept:
        key = 0
        for i in self._layout.keys:
            key = key << 16 | self.values[i]
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept(len(self.values))
        return kept

    def _mark_abnormal(self) -> None:
        layout = self._layout
        values = self.values
        for i in range(len(values)):
            value = values[i]
            if layout.minimum[i] <= value <= layout.maximum[i] or value == layout.empty[i]:
                continue
            if value != layout.abnormal[i]:
                values[i] = layout.abnormal[i]
            self._sampler.counters.values_abnormal += 1

    def _moved(self, kept: "list[int]") -> bool:
        layout = self._layout
        values = self.values
        for i in range(len(values)):
            value = values[i]
            if value == kept[i]:
                continue
            if abs(value - kept[i]) >= layout.deadband[i]:
                return True
            if kept[i] == layout.empty[i] or kept[i] == layout.abnormal[i]:
                return True
            if value == layout.empty[i] or value == layout.abnormal[i]:
                return True
        return False


class Presence:
    """Which module sits in a bay: turns what its driver sees into BATTERY_IN and BATTERY_OUT events, once each."""

    def __init__(self, sampler: "Sampler", bay: int) -> None:
        self.code = ""
        self._sampler = sampler
        self._bay = bay
        self._since_ms = 0
        self._soc: "int | None" = None
        self._soh: "int | None" = None

    def seen(self, code: str, soc: "int | None" = None, soh: "int | None" = None) -> None:
        """Tell that the module `code` answered; `soc` and `soh` are raw values of the catalogue, None if not known."""
        if code != self.code:
            self.absent()
            self.code = code
            self._since_ms = self._sampler.clock.uptime_ms()
            self._sampler.event(BATTERY_IN, owner=code, bay=self._bay, soc_pct=soc, soh_pct=soh, request_id=0)
        self._soc = soc
        self._soh = soh

    def absent(self) -> None:
        """Tell that the bay is empty: its module left, or has been silent for too long."""
        if not self.code:
            return
        sampler = self._sampler
        sampler.seal_bay(self._bay)
        duration_s = (sampler.clock.uptime_ms() - self._since_ms) // 1000
        sampler.event(
            BATTERY_OUT,
            owner=self.code,
            bay=self._bay,
            soc_pct=self._soc,
            soh_pct=self._soh,
            request_id=0,
            duration_s=duration_s,
        )
        self.code = ""


class Sampler:
    """Own every source and the way from rows to the journal. `on_sealed` is called when frames are durable."""

    def __init__(self, journal: "FrameStore", clock: "Clock", counters: "Counters") -> None:
        self.clock = clock
        self.counters = counters
        self.on_sealed: "Callable[[], None] | None" = None
        self.overrides: "dict[str, dict[str, object]]" = {}
        self._journal = journal
        self._layouts: "dict[int, Layout]" = {}
        self._sources: "list[Source]" = []
        self._event_ms = -1

    def source(self, stream: Stream, bay: int = 0) -> Source:
        """Create the source of `stream` in `bay`. Once, at start."""
        override = self.overrides.get(stream.name, {})
        source = Source(
            self,
            stream,
            self._layout(stream),
            bay=bay,
            report=str(override.get("report", CHANGE)),
            silence_ms_max=int(str(override.get("silence_ms_max", stream.silence_ms_max))),
        )
        self._sources.append(source)
        return source

    def presence(self, bay: int) -> Presence:
        """Create the watch over who sits in `bay`."""
        return Presence(self, bay)

    def event(self, code: int, owner: str = "", bay: int = 0, **signals: "int | None") -> None:
        """Store an event at once. `signals` are raw; what is None or not named is "not available"."""
        layout = self._layout(EVENT_STREAM)
        values = list(layout.empty)
        values[layout.names.index("code")] = code
        for name, value in signals.items():
            if value is not None:
                i = layout.names.index(name)
                values[i] = min(max(value, layout.minimum[i]), layout.maximum[i])
        self._event_ms = max(self.clock.uptime_ms(), self._event_ms + 1)
        builder = FrameBuilder(EVENT_STREAM, bay=bay, owner=owner, buffer_bytes=128)
        builder.add(self._event_ms, values)
        self.store(builder)
        self.commit()

    def seal_all(self) -> None:
        """Seal every open frame and make them durable."""
        for source in self._sources:
            source.seal()
        self.commit()

    def seal_bay(self, bay: int) -> None:
        """Seal the open frames of one bay."""
        for source in self._sources:
            if source.bay == bay:
                source.seal()

    def store(self, builder: FrameBuilder) -> None:
        """Seal `builder` and append the frame to the journal."""
        journal = self._journal
        seq = journal.next_seq
        rows = builder.row_count
        frame = builder.seal(
            journal=journal.id,
            seq=seq,
            boot=journal.boot,
            time_quality=self.clock.quality,
            anchor_utc_ms=self.clock.anchor_utc_ms,
        )
        loss = journal.append(frame, seq, builder.stream.priority)
        if loss:
            self.counters.lose(loss, rows=rows)
        else:
            self.counters.frames_sealed += 1

    def commit(self) -> None:
        """Make what was appended durable, and tell the publisher."""
        if self._journal.commit() and self.on_sealed is not None:
            self.on_sealed()

    def _layout(self, stream: Stream) -> Layout:
        layout = self._layouts.get(stream.id)
        if layout is None:
            layout = self._layouts[stream.id] = Layout(stream)
        return layout
