"""Share: how many bytes of backlog may be on their way to the broker, so that live frames do not queue behind them.

What the link cannot carry at once waits in buffers (the modem's, the base station's, the kernel's), and a live frame
waits behind it: 16 messages of 2 KB are 13 s at 20 kbit/s. So the share follows the delay, like LEDBAT (RFC 6817): it
grows by one message a round trip while round trips stay near the shortest one, and is halved when they do not. One
message is always allowed.

Halving also keeps the floor honest. It is the shortest round trip of the last one to two minutes, so a queue that never
empties would raise it; but half a window leaves less than half of the delay in the queue, so the floor cannot climb
above `_QUEUE_MS_MAX` on a link whose own round trip is shorter, and is measured afresh on one where it is longer.
"""

from micropython import const

_QUEUE_MS_MAX = const(1000)  # more than one message takes at 20 kbit/s: two that leave together are no queue yet
_FLOOR_MS = const(60000)
_UNKNOWN_MS = const(1 << 29)
_MESSAGES_AT_START = const(2)


class BacklogShare:
    """The backlog's window in bytes. Only messages of backlog count: they are of one size, so their delays compare."""

    def __init__(self, message_bytes: int) -> None:
        self._message_bytes = message_bytes
        self.restart(0)

    def restart(self, now_ms: int) -> None:
        """Begin on a new connection, whose way may be another one."""
        self.window_bytes = _MESSAGES_AT_START * self._message_bytes
        self.bytes_in_flight = 0
        self._floor_ms = self._older_floor_ms = _UNKNOWN_MS
        self._floor_since_ms = now_ms
        self._halved_ms = now_ms

    def has_room(self) -> bool:
        """Say whether a message of backlog may be sent now."""
        return not self.bytes_in_flight or self.bytes_in_flight + self._message_bytes <= self.window_bytes

    def sent(self, size_bytes: int) -> None:
        """Note that a message of backlog was sent."""
        self.bytes_in_flight += size_bytes

    def answered(self, size_bytes: int, sent_ms: int, now_ms: int) -> None:
        """Note that the broker has answered a message of backlog."""
        was_full = not self.has_room()
        self.bytes_in_flight -= size_bytes
        round_trip_ms = now_ms - sent_ms
        if now_ms - self._floor_since_ms > _FLOOR_MS:
            self._floor_since_ms = now_ms
            self._older_floor_ms = self._floor_ms
            self._floor_ms = _UNKNOWN_MS
        self._floor_ms = min(self._floor_ms, round_trip_ms)
        if round_trip_ms > min(self._floor_ms, self._older_floor_ms) + _QUEUE_MS_MAX:
            if sent_ms >= self._halved_ms:  # what was sent before tells of the window as it was
                self._halved_ms = now_ms
                self.window_bytes = max(self._message_bytes, self.window_bytes // 2)
        elif was_full:
            self.window_bytes += size_bytes * self._message_bytes // self.window_bytes
