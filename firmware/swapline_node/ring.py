"""Ring: the readings of the last half minute that were left out, so that an alarm can still have them.

The rows that were kept are in the journal. A reading that was not kept differs from the last kept row by less than a
deadband in each signal, so a record holds the signals that differ, a byte or two each; for a kept row it holds how that
differs from the one kept before. With the last kept row, which its source has anyway, all of them can be told again,
exactly. A record:

    offset  bytes  field
    0       1      length of the record
    1       2      ms since the record before
    3       m      bit 0: this row was kept; bit 1 + i: signal i differs
    3+m     n      the differences: zigzag, seven bits a byte, lowest first, bit 7 set where another byte follows

The buffer is allocated once. Where it is full the oldest records go, so of readings that come fast or differ in many
signals it holds less than half a minute. Nothing here waits for anything: a power cut takes it along.
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

BEFORE_MS = const(30000)  # of what was left out an alarm gets so much
_AFTER_MS = const(30000)  # and for so long everything is kept after it
_WINDOW_MS_MAX = const(60000)  # alarms that follow each other make it longer, up to this
_WINDOWS_MAX = const(3)  # that a source may open one after the other; then one each quarter of an hour
_WINDOW_AGAIN_MS = const(900000)
# Half a minute of a driving van's modules or of a charger, read once a second: 14 bytes a reading, 16 of one in ten.
_BYTES = const(100)
_BYTES_PER_SIGNAL = const(14)
_CLOCK_STEP_MS_MAX = const(1000)  # a gateway's time gets better by some ms with each message that was less late
_HEAD_BYTES = const(3)
_STEP_MS_MAX = const(0xFFFF)
_RECORD_BYTES_MAX = const(255)

_scratch = bytearray(_RECORD_BYTES_MAX)  # of all rings: a record is written here before its length is known


class Ring:
    """What one source, which has `count` signals, has left out, and how long it is to leave out nothing."""

    def __init__(self, count: int, buffer_bytes: int = 0) -> None:
        self._mask_bytes = (count + 8) // 8
        self._buffer = bytearray(buffer_bytes or _BYTES + count * _BYTES_PER_SIGNAL)
        self._start = 0
        self._end = 0
        self._last_ms = 0  # when the newest record was read
        self._opened_ms = 0
        self._open_until_ms = 0
        self._windows = _WINDOWS_MAX
        self._earned_ms = 0

    def clear(self) -> None:
        """Forget everything: what comes is of another module or of another time."""
        self._start = self._end = 0

    def shift(self, step_ms: int) -> None:
        """Take note that the clock was stepped. What was read before stays at its UTC, as the rows beside it do.

        It would come with the quality of the new clock, though, so after a step that matters it is forgotten.
        """
        self._last_ms -= step_ms
        if abs(step_ms) > _CLOCK_STEP_MS_MAX:
            self.clear()

    def is_open(self, now_ms: int) -> bool:
        """Say whether every reading is to be kept now: an alarm was raised within the last half minute."""
        return now_ms < self._open_until_ms

    def open(self, now_ms: int) -> bool:
        """Keep every reading from now on; return whether what was left out before is to be told.

        So many alarms may come that they would fill the journal: then this does nothing, and rows are left out as ever.
        """
        if self.is_open(now_ms):
            self._open_until_ms = min(now_ms + _AFTER_MS, self._opened_ms + _WINDOW_MS_MAX)
            return False
        earned = (now_ms - self._earned_ms) // _WINDOW_AGAIN_MS
        self._earned_ms += earned * _WINDOW_AGAIN_MS
        self._windows = min(self._windows + earned, _WINDOWS_MAX)
        if not self._windows:
            return False
        self._windows -= 1
        self._opened_ms = now_ms
        self._open_until_ms = now_ms + _AFTER_MS
        return True

    def take(self, kept: "list[int]", values: "list[int]", time_ms: int, *, is_kept: bool) -> None:
        """Take note of a reading. `kept` is the row that was kept last, before this one. Allocates nothing."""
        step_ms = time_ms - self._last_ms
        if not 0 <= step_ms <= _STEP_MS_MAX:
            self.clear()
        if self._start == self._end:
            if is_kept:
                return  # what follows differs from it
            self._last_ms = time_ms
            step_ms = 0
        length = self._write(kept, values, step_ms, is_kept)
        if self._end + length > len(self._buffer) and not self._make_room(length):
            return
        for i in range(length):
            self._buffer[self._end + i] = _scratch[i]
        self._end += length
        self._last_ms = time_ms

    def tell(self, kept: "list[int]", since_ms: int, add: "Callable[[int, list[int]], None]") -> None:
        """Pass time and values of every reading since then that was not kept to `add`, oldest first.

        `kept` is the row that was kept last.
        """
        values = list(kept)
        offsets = []
        at = self._start
        while at < self._end:
            offsets.append(at)
            at += self._buffer[at]
        time_ms = self._last_ms
        first = len(offsets)
        while first and time_ms >= since_ms:
            first -= 1
            time_ms -= self._step_ms(offsets[first])
            if self._is_kept(offsets[first]):
                self._apply(offsets[first], values, -1)
        for at in offsets[first:]:
            time_ms += self._step_ms(at)
            self._apply(at, values, 1)
            if not self._is_kept(at):
                if time_ms >= since_ms:
                    add(time_ms, values)
                self._apply(at, values, -1)

    def count(self, since_ms: int) -> int:
        """Return how many readings since then are here that were not kept."""
        time_ms = self._last_ms
        at = self._start
        while at < self._end:
            time_ms -= self._step_ms(at)
            at += self._buffer[at]
        count = 0
        at = self._start
        while at < self._end:
            time_ms += self._step_ms(at)
            count += time_ms >= since_ms and not self._is_kept(at)
            at += self._buffer[at]
        return count

    def _write(self, kept: "list[int]", values: "list[int]", step_ms: int, is_kept: bool) -> int:
        """Write a record to the scratch; return its length."""
        out = _scratch
        out[1] = step_ms & 0xFF
        out[2] = step_ms >> 8
        end = _HEAD_BYTES + self._mask_bytes
        for i in range(_HEAD_BYTES, end):
            out[i] = 0
        out[_HEAD_BYTES] = 1 if is_kept else 0
        for i in range(len(values)):
            rest = values[i] - kept[i]
            if rest:
                out[_HEAD_BYTES + (i + 1 >> 3)] |= 1 << (i + 1 & 7)
                rest = rest << 1 if rest > 0 else ~(rest << 1)
                while rest > 0x7F:
                    out[end] = rest & 0x7F | 0x80
                    rest >>= 7
                    end += 1
                out[end] = rest
                end += 1
        out[0] = end
        return end

    def _make_room(self, length: int) -> bool:
        """Let the oldest records go, a sixteenth at least, for what is left is moved; return whether it is so."""
        buffer = self._buffer
        room = max(length, len(buffer) >> 4)
        if room > len(buffer):
            self.clear()
            return False
        while self._start < self._end and self._end - self._start + room > len(buffer):
            self._start += buffer[self._start]
        count = self._end - self._start
        for i in range(count):
            buffer[i] = buffer[self._start + i]
        self._start = 0
        self._end = count
        return True

    def _step_ms(self, at: int) -> int:
        return self._buffer[at + 1] | self._buffer[at + 2] << 8

    def _is_kept(self, at: int) -> int:
        return self._buffer[at + _HEAD_BYTES] & 1

    def _apply(self, at: int, values: "list[int]", sign: int) -> None:
        """Add a record's differences to `values`, or take them away."""
        buffer = self._buffer
        place = at + _HEAD_BYTES + self._mask_bytes
        for i in range(len(values)):
            if buffer[at + _HEAD_BYTES + (i + 1 >> 3)] >> (i + 1 & 7) & 1:
                rest = shift = 0
                while True:
                    byte = buffer[place]
                    place += 1
                    rest |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                values[i] += sign * (~(rest >> 1) if rest & 1 else rest >> 1)
