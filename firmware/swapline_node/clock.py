"""Clock: milliseconds since boot that never wrap, and the boot's offset to UTC (its anchor).

The node alone decides its anchor. The first anchor of a boot is adopted at once, after `before_anchor` has written it
to the journal. A later one is a step: frames that are open are sealed under the old anchor first (`before_step`). A
source of the same quality must disagree steadily before it moves the clock; a better one moves it as soon as it has
repeated itself.
"""

from micropython import const

from swapline_wire.catalogue import TIME_NONE

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

_UTC_MS_MIN = const(
    1704067200000
)  # 2024-01-01: older than this firmware, so a time before it (GNSS week rollover) is wrong
_UTC_MS_MAX = const(4102444800000)  # 2100-01-01
_STEP_MS = const(500)  # disagreement that is not jitter: SNTP over a mobile link is good to some 100 ms
_STEADY_MS = const(30000)  # for so long must a source of equal quality disagree before the clock follows it
_NEAR_MS = const(1 << 40)  # what a frame can say
_SILENT_MS_MAX = const(3600000)  # a source that has been silent for so long no longer outranks a poorer one


class Clock:
    """Uptime and UTC of this boot. `ticks_ms` and `ticks_diff` come from the board, whose ticks wrap at 2**30 ms."""

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
        self.step_ms = 0  # size of the last step
        self.offers_refused = 0  # implausible times offered, and those that could not be written down
        self.before_anchor: "Callable[[int, int], None] | None" = None  # (anchor_utc_ms, quality); may raise OSError
        self.before_step: "Callable[[], None] | None" = None
        self.after_anchor: "Callable[[], None] | None" = None
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._ticks_last = ticks_ms()
        self._uptime_ms = 0
        self._utc_ms_min = utc_ms_min
        self._utc_ms_max = utc_ms_max
        self._confirmed_ms = 0  # uptime of the last offer of the present quality
        self._candidate_utc_ms = 0
        self._candidate_quality = TIME_NONE
        self._candidate_since_ms = 0

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

    def utc_ms(self) -> int:
        """Return UTC now in ms since 1970, or 0 while the clock has no anchor."""
        return self.anchor_utc_ms + self.uptime_ms() if self.quality else 0

    def offer(self, quality: int, utc_ms: int, uptime_ms: int) -> bool:
        """Tell what a source of `quality` says UTC was at `uptime_ms`. Return whether the clock was set by it."""
        if not self.is_plausible(utc_ms):
            self.offers_refused += 1
            return False
        anchor = utc_ms - uptime_ms
        if self.quality == TIME_NONE:
            return self._set(anchor, quality, uptime_ms)
        if quality < self.quality and uptime_ms - self._confirmed_ms < _SILENT_MS_MAX:
            return False
        if quality == self.quality and abs(anchor - self.anchor_utc_ms) <= _STEP_MS:
            self._confirmed_ms = uptime_ms
            self._candidate_quality = TIME_NONE
            return False
        return self._consider(anchor, quality, uptime_ms)

    def _consider(self, anchor: int, quality: int, uptime_ms: int) -> bool:
        """Hold a differing anchor until it is confirmed, then step to it."""
        if quality != self._candidate_quality or abs(anchor - self._candidate_utc_ms) > _STEP_MS:
            self._candidate_quality = quality
            self._candidate_utc_ms = anchor
            self._candidate_since_ms = uptime_ms
            return False
        if quality <= self.quality and uptime_ms - self._candidate_since_ms < _STEADY_MS:
            return False
        return self._set(anchor, quality, uptime_ms)

    def _set(self, anchor: int, quality: int, uptime_ms: int) -> bool:
        first = self.quality == TIME_NONE
        if first and self.before_anchor is not None:
            try:
                self.before_anchor(anchor, quality)
            except OSError:  # not durable, so not used: the source's next offer tries again
                self.offers_refused += 1
                return False
        if not first and self.before_step is not None:
            self.before_step()
        self.step_ms = 0 if first else anchor - self.anchor_utc_ms
        self.anchor_utc_ms = anchor
        self.quality = quality
        self._confirmed_ms = uptime_ms
        self._candidate_quality = TIME_NONE
        if self.after_anchor is not None:
            self.after_anchor()
        return True
