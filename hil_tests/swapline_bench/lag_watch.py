"""How late the bench itself is: a device that answers late because its machine is busy is not broken."""

import asyncio
import time
from collections import deque

PERIOD_S = 0.02
_LAG_S_MIN = 0.02  # shorter ones delay no answer noticeably
_STALLS_MAX = 64


class LagWatch:
    """Notices when the event loop stood still. It beats as long as somebody asks within the loop."""

    def __init__(self) -> None:
        self._stalls: deque[tuple[float, float]] = deque(maxlen=_STALLS_MAX)  # (end, duration)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Beat in the running loop; a second call changes nothing."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._due_s = time.monotonic()
            self._tick()

    def stop(self) -> None:
        """Stop beating."""
        if self._beat is not None:
            self._beat.cancel()
        self._beat = self._loop = None

    def stalled_s(self, since_s: float) -> float:
        """Return for how long in all the loop stood still in stalls that ended after `since_s` (monotonic time)."""
        return sum(duration_s for end_s, duration_s in self._stalls if end_s >= since_s)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._due_s >= _LAG_S_MIN:
            self._stalls.append((now_s, now_s - self._due_s))
        if self._loop is not None:
            self._due_s = now_s + PERIOD_S
            self._beat = self._loop.call_later(PERIOD_S, self._tick)
