"""Clock: milliseconds since boot that never wrap, and the boot's offset to UTC (its anchor).

The node alone decides its anchor, and trusts its own oscillator more than any one source: an oscillator is wrong by
some 0.1 s an hour, a receiver or a server can be wrong by years (decision record 0017).

- The first anchor is taken from two sources that agree; from the gateway at once, because whoever hears it can send;
  from another source alone when it has been steady for longer than a fault lasts. Without any, frames wait. A time
  before what the journal knows (`floor_utc_ms`) is taken only from two sources that agree, or after a long time.
- `before_anchor` writes the first one to the journal before it is used. A later one is a step: frames that are open are
  sealed under the old anchor first (`before_step`).
- What delay and drift explain moves the clock: a better source as soon as it has repeated itself, one of the same
  quality when it disagrees steadily. Anything more is a jump and needs a second source; of a node's only source, that
  it is steady for a long time.
- While a source that is as good as what supports the present anchor contradicts it, nothing decides: the anchor stays,
  and its quality is "estimated".
"""

from micropython import const

from swapline_wire.catalogue import TIME_ESTIMATED, TIME_GATEWAY, TIME_GNSS, TIME_NONE

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

_UTC_MS_MIN = const(
    1704067200000
)  # 2024-01-01: older than this firmware, so a time before it (GNSS week rollover) is wrong
_UTC_MS_MAX = const(4102444800000)  # 2100-01-01
_STEP_MS = const(500)  # disagreement that is not jitter: SNTP over a mobile link is good to some 100 ms
_AGREE_MS = const(2000)  # two sources that differ by less say the same: receivers are heard up to 1 s late, SNTP too
_LATE_MS = const(
    10000
)  # and a message of the gateway may have been on its way for so long: its time is that much early
_STEADY_MS = const(30000)  # for so long must a source of equal quality disagree before the clock follows it
_ALONE_MS = const(120000)  # so long must a first source be steady by itself; receivers' glitches last a minute
_ALONE_COUNT = const(5)  # and so often must it have said so in that time
_JUMP_ALONE_MS = const(600000)  # and so long the only source, for what the journal or the oscillator calls impossible
_RECENT_MS = const(60000)  # a contradiction counts for so long
_SILENT_MS_MAX = const(3600000)  # what a source said longer ago supports nothing: 0.4 s of drift at 100 ppm
_NEAR_MS = const(1 << 40)  # what a frame can say


class Opinion:
    """What one source says UTC of the boot's millisecond 0 was."""

    def __init__(self, quality: int) -> None:
        self.quality = quality
        self.anchor_utc_ms = 0
        self.since_ms = 0  # uptime since when it has said that
        self.heard_ms = 0
        self.best_ms = 0  # uptime at which an offer was last as early as the best
        self.count = 0  # of offers that said that; 0: it has never spoken

    def is_fresh(self, now_ms: int, age_ms_max: int) -> bool:
        """Say whether it has spoken, and not too long ago."""
        return self.count > 0 and now_ms - self.heard_ms <= age_ms_max

    def agrees(self, anchor: int) -> bool:
        """Say whether this source would call `anchor` right."""
        early_ms = anchor - self.anchor_utc_ms
        return -_AGREE_MS <= early_ms <= (_LATE_MS if self.quality == TIME_GATEWAY else _AGREE_MS)

    def take(self, anchor: int, now_ms: int) -> None:
        """Note an offer. Jitter is no new opinion; nor is a message of the gateway that took longer than the best."""
        moved_ms = anchor - self.anchor_utc_ms
        jitter_ms = _LATE_MS if self.quality == TIME_GATEWAY else _STEP_MS
        is_late = moved_ms < -_STEP_MS
        if not self.count or abs(moved_ms) > jitter_ms or (is_late and now_ms - self.best_ms > _JUMP_ALONE_MS):
            self.since_ms = now_ms
            self.count = 0
            self.anchor_utc_ms = anchor
            is_late = False
        elif self.quality == TIME_GATEWAY and moved_ms > 0:
            self.anchor_utc_ms = anchor
        if not is_late:
            self.best_ms = now_ms
        self.heard_ms = now_ms
        self.count += 1


class Clock:
    """Uptime and UTC of this boot. `ticks_ms` and `ticks_diff` come from the board, whose ticks wrap at 2**30 ms.

    A `utc_ms_min` below the default is for playing recordings: their receiver's time is then taken as it comes.
    """

    def __init__(
        self,
        ticks_ms: "Callable[[], int]",
        ticks_diff: "Callable[[int, int], int]",
        *,
        utc_ms_min: int = _UTC_MS_MIN,
        utc_ms_max: int = _UTC_MS_MAX,
    ) -> None:
        self.quality = TIME_NONE
        self.anchor_utc_ms = 0
        self.floor_utc_ms = 0  # the latest time that earlier boots have known
        self.step_ms = 0  # size of the last step
        self.offers_refused = 0  # implausible times offered, and those that could not be written down
        self.is_recording = utc_ms_min < _UTC_MS_MIN
        self.before_anchor: "Callable[[int, int], None] | None" = None  # (anchor_utc_ms, quality); may raise OSError
        self.before_step: "Callable[[], None] | None" = None
        self.after_anchor: "Callable[[], None] | None" = None
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._ticks_last = ticks_ms()
        self._uptime_ms = 0
        self._utc_ms_min = utc_ms_min
        self._utc_ms_max = utc_ms_max
        self._earned = TIME_NONE  # quality of the source that the anchor is from
        self._confirmed_ms = 0  # uptime at which a source of that quality last said the same
        self._opinions = [Opinion(quality) for quality in range(TIME_GATEWAY, TIME_GNSS + 1)]

    def uptime_ms(self) -> int:
        """Return milliseconds since boot. Must be called at least once in 2**29 ms (six days); the health task does."""
        now = self._ticks_ms()
        self._uptime_ms += self._ticks_diff(now, self._ticks_last)
        self._ticks_last = now
        return self._uptime_ms

    def is_plausible(self, utc_ms: int) -> bool:
        """Say whether `utc_ms` can be a time at which this firmware runs."""
        return self._utc_ms_min <= utc_ms < self._utc_ms_max

    def is_near(self, utc_ms: int) -> bool:
        """Say whether a row may be stamped with `utc_ms`: plausible, the clock is set, and within 34 years of it."""
        return self.quality != TIME_NONE and self.is_plausible(utc_ms) and abs(utc_ms - self.anchor_utc_ms) < _NEAR_MS

    def has_said(self, utc_ms: int, uptime_ms: int) -> bool:
        """Say whether the clock is set and showed `utc_ms` at `uptime_ms`, as exactly as sources agree."""
        return self.quality != TIME_NONE and abs(self.anchor_utc_ms + uptime_ms - utc_ms) <= _AGREE_MS

    def utc_ms(self) -> int:
        """Return UTC now in ms since 1970, or 0 while the clock has no anchor."""
        return self.anchor_utc_ms + self.uptime_ms() if self.quality else 0

    def offer(self, quality: int, utc_ms: int, uptime_ms: int) -> bool:
        """Tell what a source of `quality` says UTC was at `uptime_ms`. Return whether the clock was set by it."""
        if not self.is_plausible(utc_ms):
            self.offers_refused += 1
            return False
        opinion = self._opinions[quality - TIME_GATEWAY]
        opinion.take(utc_ms - uptime_ms, uptime_ms)
        if self.quality == TIME_NONE:
            return self._begin(opinion, uptime_ms)
        if self._is_step(opinion, uptime_ms):
            return self._set(opinion.anchor_utc_ms, quality, uptime_ms)
        if quality == self._earned and abs(opinion.anchor_utc_ms - self.anchor_utc_ms) <= _STEP_MS:
            self._confirmed_ms = uptime_ms
        self._show_doubt(uptime_ms)
        return False

    def _begin(self, opinion: Opinion, now_ms: int) -> bool:
        """Take the boot's first anchor, if `opinion` has what it takes."""
        witness = self._witness(opinion, now_ms)
        if witness is None and not self._may_begin_alone(opinion, now_ms):
            return False
        if witness is not None and witness.quality > opinion.quality:
            opinion = witness
        return self._set(opinion.anchor_utc_ms, opinion.quality, now_ms)

    def _may_begin_alone(self, opinion: Opinion, now_ms: int) -> bool:
        if self.is_recording:
            return True
        wait_ms = _ALONE_MS
        if opinion.anchor_utc_ms + _LATE_MS < self.floor_utc_ms:
            wait_ms = _JUMP_ALONE_MS
        elif opinion.quality == TIME_GATEWAY:
            return True
        return now_ms - opinion.since_ms >= wait_ms and opinion.count >= _ALONE_COUNT

    def _witness(self, opinion: Opinion, now_ms: int) -> "Opinion | None":
        """Return the best other source that says the same, and has said so since `opinion` does.

        Two that tell the same lie one after the other are no witnesses. The gateway speaks rarely, so it need not.
        """
        for other in reversed(self._opinions):
            is_at_once = other.heard_ms >= opinion.since_ms or TIME_GATEWAY in (opinion.quality, other.quality)
            is_other = other is not opinion and is_at_once
            if is_other and other.is_fresh(now_ms, _SILENT_MS_MAX) and _agree(opinion, other):
                return other
        return None

    def _is_step(self, opinion: Opinion, now_ms: int) -> bool:
        """Say whether the clock shall follow `opinion`."""
        distance_ms = abs(opinion.anchor_utc_ms - self.anchor_utc_ms)
        is_better = opinion.quality > self._earned
        if opinion.count < 2 or (distance_ms <= _STEP_MS and not is_better):
            return False
        steady_ms = now_ms - opinion.since_ms
        is_supported = self._is_supported(opinion, now_ms)
        if distance_ms <= _LATE_MS:
            if is_better:
                return True
        elif self._witness(opinion, now_ms) is not None:
            return not is_supported or steady_ms >= _ALONE_MS
        is_outranked = opinion.quality < self._earned and now_ms - self._confirmed_ms < _SILENT_MS_MAX
        if is_outranked or is_supported:
            return False
        return steady_ms >= (_STEADY_MS if distance_ms <= _LATE_MS else _JUMP_ALONE_MS)

    def _is_supported(self, opinion: Opinion, now_ms: int) -> bool:
        """Say whether another source holds to the present anchor and would not hold to that of `opinion`."""
        for other in self._opinions:
            if (
                other is not opinion
                and other.is_fresh(now_ms, _SILENT_MS_MAX)
                and other.agrees(self.anchor_utc_ms)
                and not _agree(opinion, other)
            ):
                return True
        return False

    def _show_doubt(self, now_ms: int) -> None:
        """Call the present anchor estimated while nothing decides between it and a source that contradicts it."""
        quality = TIME_ESTIMATED if self._is_in_doubt(now_ms, self.anchor_utc_ms) else self._earned
        if quality != self.quality:
            if self.before_step is not None:
                self.before_step()
            self.step_ms = 0
            self.quality = quality
            if self.after_anchor is not None:
                self.after_anchor()

    def _is_in_doubt(self, now_ms: int, anchor: int) -> bool:
        supporters = 0
        support = TIME_NONE
        contradiction = TIME_NONE
        for opinion in self._opinions:
            if opinion.agrees(anchor) or abs(opinion.anchor_utc_ms - anchor) <= _LATE_MS:
                if opinion.is_fresh(now_ms, _SILENT_MS_MAX):
                    supporters += 1
                    support = opinion.quality
            elif opinion.count > 1 and opinion.is_fresh(now_ms, _RECENT_MS):
                contradiction = opinion.quality
        return supporters < 2 and contradiction >= max(support, TIME_ESTIMATED)

    def _set(self, anchor: int, quality: int, uptime_ms: int) -> bool:
        first = self.quality == TIME_NONE
        shown = TIME_ESTIMATED if self._is_in_doubt(uptime_ms, anchor) else quality
        if first and self.before_anchor is not None:
            try:
                self.before_anchor(anchor, shown)
            except OSError:  # not durable, so not used: the source's next offer tries again
                self.offers_refused += 1
                return False
        if not first and self.before_step is not None:
            self.before_step()
        self.step_ms = 0 if first else anchor - self.anchor_utc_ms
        self.anchor_utc_ms = anchor
        self._earned = quality
        self.quality = shown
        self._confirmed_ms = uptime_ms
        if self.after_anchor is not None:
            self.after_anchor()
        return True


def _agree(one: Opinion, other: Opinion) -> bool:
    """Say whether two sources say the same, whichever of them is the gateway."""
    if one.quality == TIME_GATEWAY:
        return one.agrees(other.anchor_utc_ms)
    return other.agrees(one.anchor_utc_ms)
