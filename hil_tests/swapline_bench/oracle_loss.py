"""Which losses the database itself declares: what nodes say of power cuts, dropped frames and dropped rows.

The codes are written down here a second time, from docs/catalogue.md, so that a mistake there does not excuse a loss.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from swapline_bench.oracle_match import QUALITY_TOLERANCE_MS
from swapline_bench.verdict import FrameRecord, RowSource, Truth

FRAMES_DROPPED = 4
ROWS_DROPPED = 5
POWER_CUT = 3  # a reason of ROWS_DROPPED

POLL_MS = 2000  # the poll under way, and the row that waited for the sealing to have its turn
AFTER_CUT_MS = 1000  # an answer that was on the line when nobody was there any more
CLOCK_MS = 2000  # what an event's own time may be wrong by
BOOT_MS = 10_000  # a node that is off again so soon may not have come to declare anything; then the next boot does


class Window:
    """A stretch of time in which rows may be missing. `count` None: any number."""

    def __init__(self, low_ms: float, high_ms: float, count: int | None = None) -> None:
        self.low_ms = low_ms
        self.high_ms = high_ms
        self.count = count

    def take(self, utc_ms: int) -> bool:
        """Say whether a row of this time may be missing, and count it."""
        if not self.low_ms <= utc_ms <= self.high_ms or self.count == 0:
            return False
        if self.count is not None:
            self.count -= 1
        return True


class Losses:
    """What one node's losses are excused by."""

    def __init__(self, node: str, truth: Truth, database: RowSource) -> None:
        self.cuts = sorted(cut.utc_ms for cut in truth.power_cuts if cut.node == node)
        events = database.rows("event", node)
        interval_ms = truth.seal_interval_ms
        self._declared_cuts = _declared_cuts(self.cuts, _declarations(events))
        self._windows = [*_dropped_rows(events, interval_ms), *_dropped_frames(events, database, node, interval_ms)]
        self._interval_ms = interval_ms

    def is_declared(self, utc_ms: int) -> bool:
        """Say whether the database declares, for another reason than a power cut, that a row may be missing."""
        return any(window.take(utc_ms) for window in self._windows)

    def before_cut_ms(self, utc_ms: int, next_kept_ms: float) -> int | None:
        """Return how long before a declared power cut a row of this time is missing; None if no cut explains that.

        `next_kept_ms` is when the same device said the next thing that is stored: a frame that was sealed with it
        holds all that came before, so a power cut after that took nothing from this device that is older.
        """
        low = bisect_left(self.cuts, utc_ms - AFTER_CUT_MS)
        high = bisect_right(self.cuts, utc_ms + self._interval_ms + POLL_MS)
        explaining = [cut for cut in range(low, high) if cut in self._declared_cuts and self.cuts[cut] <= next_kept_ms]
        return self.cuts[explaining[0]] - utc_ms if explaining else None

    def is_near_cut(self, utc_ms: int, *, before_ms: int, after_ms: int) -> bool:
        """Say whether the power was cut shortly before or after a moment."""
        i = bisect_left(self.cuts, utc_ms - before_ms)
        return i < len(self.cuts) and self.cuts[i] <= utc_ms + after_ms


def _declared_cuts(cuts: Sequence[int], declarations: Sequence[tuple[int, int, int]]) -> set[int]:
    """Return the power cuts (as places in `cuts`) that a boot after them declares.

    It is the first boot that lived long enough to come to it; cuts between which none did are declared at once. Each
    declaration speaks for one boot only, so that one with a poor clock does not excuse its neighbours.
    """
    boots: dict[int, list[int]] = {}  # the last of the cuts that a boot has to declare -> all of them
    waiting: list[int] = []
    for cut, (begin_ms, end_ms) in enumerate(zip(cuts, [*cuts[1:], float("inf")], strict=False)):
        waiting.append(cut)
        if end_ms - begin_ms >= BOOT_MS:
            boots[cut], waiting = waiting, []
    speakers: dict[int, int] = {}  # declaration -> the boot that made it
    ends = [*cuts[1:], float("inf")]
    reach = {
        last: [
            place
            for place, (utc_ms, early_ms, late_ms) in enumerate(declarations)
            if cuts[among[0]] - early_ms <= utc_ms <= ends[last] + late_ms
        ]
        for last, among in boots.items()
    }

    def assign(boot: int, seen: set[int]) -> bool:
        for place in reach[boot]:
            if place not in seen:
                seen.add(place)
                if place not in speakers or assign(speakers[place], seen):
                    speakers[place] = boot
                    return True
        return False

    return {cut for boot, among in boots.items() if assign(boot, set()) for cut in among}


def _declarations(events: Iterable[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """Return when power cuts were declared, and how far too early and too late that may seem.

    Too late only with a poor clock: behind its boot's end a declaration is about the next power cut.
    """
    found = []
    for event in events:
        if int(event["code"]) == ROWS_DROPPED and event.get("reason") == POWER_CUT:
            poor_ms = QUALITY_TOLERANCE_MS.get(int(event.get("time_quality", 0)), 0)
            found.append((event["time_utc_ms"], max(poor_ms, CLOCK_MS), poor_ms))
    return found


def _dropped_rows(events: Iterable[dict[str, Any]], interval_ms: int) -> Iterable[Window]:
    for event in events:
        if int(event["code"]) == ROWS_DROPPED and event.get("reason") != POWER_CUT and event.get("count"):
            end_ms = event["time_utc_ms"] + CLOCK_MS
            yield Window(end_ms - interval_ms - POLL_MS - 2 * CLOCK_MS, end_ms, int(event["count"]))


def _dropped_frames(
    events: Iterable[dict[str, Any]], database: RowSource, node: str, interval_ms: int
) -> Iterable[Window]:
    """Yield a window for each dropped range, from the frames that are stored on either side of it.

    An event in InfluxDB does not say which journal it is about, so every journal of the node is looked at.
    """
    ranges = [
        (int(event["first_seq"]), int(event["last_seq"])) for event in events if int(event["code"]) == FRAMES_DROPPED
    ]
    if not ranges:
        return
    journals: dict[int, list[FrameRecord]] = {}
    for frame in database.frames(node):
        journals.setdefault(frame.journal, []).append(frame)
    for first, last in ranges:
        for frames in journals.values():
            yield _between(frames, first, last, interval_ms)


def _between(frames: Sequence[FrameRecord], first: int, last: int, interval_ms: int) -> Window:
    """Return the time that frames `first` to `last` can be about: from the frame before to the frame behind."""
    below = [frame.first_utc_ms for frame in frames if frame.seq < first]
    above = [frame.last_utc_ms for frame in frames if frame.seq > last]
    low_ms = below[-1] - interval_ms - POLL_MS if below else float("-inf")
    high_ms = above[0] + interval_ms + POLL_MS if above else float("inf")  # a position's row is older than its seal
    return Window(low_ms, high_ms)
