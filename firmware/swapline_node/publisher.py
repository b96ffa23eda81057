"""Publisher: choose which frames travel next, and forget them when the gateway has stored them.

Live first: alarms, and what is sealed from now on, go out at once, each once. Everything older that is not
acknowledged is the backlog, events before routine frames: it follows at a bounded rate, and only while not too much of
it is unanswered. A frame that is not acknowledged in time, or whose connection died, is backlog again. Where nobody
acknowledges anything (the gateway is away, the broker delivers nothing), the time limit doubles and the backlog only
probes; the first acknowledgement ends that. The publisher knows no sockets; `link.py` sends.
"""

import random

from micropython import const

from swapline_wire.catalogue import ALARM, EVENT, ROUTINE
from swapline_wire.message import ANCHORS_MAX, Anchor, pack_up_head

from .cursor import Cursor, read_u32

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

    from .counter import Counters
    from .journal import Journal

_ACKNOWLEDGE_MS_MAX = const(20000)  # a gateway commits in well under a second; a mobile link may hold a message for ten
_DOUBLINGS_MAX = const(4)  # 320 s: then 60,000 nodes ask a dead gateway 200 times a second, not 3000 times
_BACKLOG_FRAMES_IN_FLIGHT = const(192)  # at 200 frames/s and a round trip of 0.9 s, the pipe stays full
_PROBE_FRAMES = const(4)  # so many frames wait for an answer while there is none: enough for one to arrive
_IN_FLIGHT_MAX = const(208)  # that are remembered: 3.5 KB; a live frame beyond is sent, and is backlog at once
_LIVE_LAG_MS_MAX = const(10000)  # a link slower than what is sealed: skip to the newest, and send the rest as backlog
MESSAGE_BYTES = 2048  # TCP's overhead is then below 3 %, and an ESP32 without PSRAM has the room
_FRAMES_MAX = const(255)  # in one message: more than fit
_BURST_MS = const(250)  # the backlog's rate is held over a quarter of a second
_HEAD_BYTES_MAX = 8 + 13 * ANCHORS_MAX + 4


class Publisher:
    """Turn the journal's waiting frames into `up` messages."""

    def __init__(
        self,
        journal: "Journal",
        counters: "Counters",
        uptime_ms: "Callable[[], int]",
        *,
        backlog_frames_per_s: int,
        acknowledge_ms_max: int = _ACKNOWLEDGE_MS_MAX,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        self._journal = journal
        self._counters = counters
        self._uptime_ms = uptime_ms
        self._rate = backlog_frames_per_s
        self.timeouts = 0  # time limits that passed since the last acknowledgement
        self.is_backlog = False  # whether the last message was of backlog
        self._acknowledge_ms_max = acknowledge_ms_max
        self._limit_ms = acknowledge_ms_max
        self._judged_ms = 0  # frames sent before it say nothing more about whether anybody acknowledges
        self._caught_up_ms = 0
        self._buffer = memoryview(bytearray(_HEAD_BYTES_MAX + message_bytes))
        self._live = [Cursor(journal, priority, message_bytes) for priority in (ROUTINE, EVENT, ALARM)]
        self._backlog = [Cursor(journal, priority, message_bytes) for priority in (ROUTINE, EVENT, ALARM)]
        self._in_flight: "dict[int, int]" = {}  # seq -> uptime in ms when it was sent
        self._backlog_is_due = True
        self._tokens = 0  # thousandths of a frame
        self._tokens_ms = 0
        self._anchors: "list[Anchor]" = []

    def restart(self) -> None:
        """Begin on a new connection: what was in flight is backlog, alarms go first of all."""
        self._counters.frames_sent_again += len(self._in_flight)
        self._in_flight = {}
        self._caught_up_ms = self._uptime_ms()
        self._journal.commit()
        for cursor in self._live:
            cursor.skip_to_end()
        if not self.timeouts:  # else the probes of backlog begin with them
            self._live[ALARM].rewind()
        self.restart_backlog()

    def restart_backlog(self) -> None:
        """Go through all waiting frames again: some may be sent now that could not be before."""
        for cursor in self._backlog:
            cursor.rewind()
        self._backlog_is_due = True

    def backlog_frames(self) -> int:
        """Return how many frames wait that are not on their way."""
        return max(0, self._journal.pending_frames - len(self._in_flight))

    def next_message(self, *, has_backlog_room: bool = True) -> "memoryview | None":
        """Return the next message, a view that is valid until the next call, or None if nothing may be sent now.

        Without `has_backlog_room` it is one of live frames.
        """
        self._expire()
        self._journal.commit()  # what was sent must not be lost here: its number would come again with other rows
        end = _HEAD_BYTES_MAX
        self._anchors = []
        for priority in (ALARM, EVENT, ROUTINE):
            end, _ = self._gather(self._live[priority], end, _FRAMES_MAX)
        self._watch_lag(is_behind=end > _HEAD_BYTES_MAX)
        self.is_backlog = end == _HEAD_BYTES_MAX
        if self.is_backlog and has_backlog_room and self._backlog_is_due:
            end = self._gather_backlog(end)
        if end == _HEAD_BYTES_MAX:
            return None
        head = pack_up_head(self._journal.id, self._anchors)
        start = _HEAD_BYTES_MAX - len(head)
        self._buffer[start:_HEAD_BYTES_MAX] = head
        return self._buffer[start:end]

    def acknowledge(self, ranges: "list[tuple[int, int]]") -> int:
        """Take the inclusive `ranges` as stored by the gateway; return how many frames that settled."""
        settled = 0
        for first, last in ranges:
            settled += self._journal.acknowledge(first, last)
        for seq in list(self._in_flight):
            for first, last in ranges:
                if first <= seq <= last:
                    self._in_flight.pop(seq, None)
        self._counters.frames_acknowledged += settled
        if ranges:
            self.timeouts = 0
            self._limit_ms = self._acknowledge_ms_max
            self._judged_ms = self._uptime_ms()
        return settled

    def _watch_lag(self, *, is_behind: bool) -> None:
        """Leave live frames to the backlog where the link has not caught up with them for long."""
        now_ms = self._uptime_ms()
        if is_behind and now_ms - self._caught_up_ms <= _LIVE_LAG_MS_MAX:
            return
        self._caught_up_ms = now_ms
        if is_behind:
            self._live[ROUTINE].skip_to_end()
            self._backlog_is_due = True

    def _gather_backlog(self, end: int) -> int:
        room = (_PROBE_FRAMES if self.timeouts else _BACKLOG_FRAMES_IN_FLIGHT) - len(self._in_flight)
        frames_max = min(room, self._take_tokens())
        if frames_max <= 0:
            return end
        start_max = frames_max
        for priority in (ALARM, EVENT, ROUTINE):
            end, taken = self._gather(self._backlog[priority], end, frames_max)
            frames_max -= taken
        if end == _HEAD_BYTES_MAX:
            self._backlog_is_due = False
        self._tokens -= 1000 * (start_max - frames_max)
        return end

    def _take_tokens(self) -> int:
        """Return how many backlog frames the rate allows now."""
        now_ms = self._uptime_ms()
        burst = max(self._rate * _BURST_MS, 1000)
        self._tokens = min(burst, self._tokens + self._rate * (now_ms - self._tokens_ms))
        self._tokens_ms = now_ms
        return self._tokens // 1000

    def _gather(self, cursor: Cursor, end: int, frames_max: int) -> "tuple[int, int]":
        """Copy frames behind `end` until the message is full; return the new end and how many frames were taken."""
        taken = 0
        now_ms = self._uptime_ms()
        while taken < frames_max:
            frame = cursor.read(self._buffer[end:], self._is_wanted)
            if not frame:
                break
            if frame[18] == 0 and not self._carry_anchor(read_u32(frame, 14)):
                cursor.unread()
                break
            if len(self._in_flight) < _IN_FLIGHT_MAX:
                self._in_flight[read_u32(frame, 10)] = now_ms
            else:
                self._backlog_is_due = True
            end += len(frame)
            taken += 1
        cursor.release()
        return end, taken

    def _is_wanted(self, seq: int) -> bool:
        return seq not in self._in_flight

    def _carry_anchor(self, boot: int) -> bool:
        """Put the anchor of `boot` into the message's head; return whether there is room for it."""
        for anchor in self._anchors:
            if anchor.boot == boot:
                return True
        if len(self._anchors) == ANCHORS_MAX:
            return False
        utc_ms, quality = self._journal.anchors[boot]
        self._anchors.append(Anchor(boot, utc_ms, quality))
        return True

    def _expire(self) -> None:
        """Make frames that were not acknowledged in time backlog again."""
        now_ms = self._uptime_ms()
        limit_ms = now_ms - self._limit_ms
        expired = [seq for seq, sent_ms in self._in_flight.items() if sent_ms <= limit_ms]
        if not expired:
            return
        is_unheard = False
        for seq in expired:
            is_unheard = self._in_flight.pop(seq) >= self._judged_ms or is_unheard
            if self._journal.is_pending(seq):
                self._counters.frames_sent_again += 1
        if is_unheard:
            self._judged_ms = now_ms
            self.timeouts += 1
            limit_ms = self._acknowledge_ms_max << min(self.timeouts, _DOUBLINGS_MAX)
            self._limit_ms = random.randint(limit_ms * 3 // 4, limit_ms)  # noqa: S311 - jitter
        self.restart_backlog()
