"""Points straight to the database, past the spool: figures about the gateway must not wait behind what it reports on.

What the database does not take waits in memory, `POINTS_MAX` at most; then the oldest are lost, which is counted and
logged. Nothing else waits for any of it: requests are made in a thread of their own.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

from swapline_gateway.error import SinkBusyError, SinkError
from swapline_gateway.log import Novelty, get
from swapline_gateway.retry import Backoff
from swapline_gateway.worker import Worker

from .point import LineSink, Point, format_points

POINTS_MAX = 240  # about half an hour's
BACKOFF_S_MAX = 30.0
FINISH_S_MAX = 3.0


class PointSender:
    """See the module's header."""

    def __init__(self, sink: LineSink, *, points_max: int = POINTS_MAX, backoff_s_max: float = BACKOFF_S_MAX) -> None:
        self.sent = 0
        self.lost = 0
        self._sink = sink
        self._points_max = points_max
        self._waiting: deque[Point] = deque()
        self._some = asyncio.Event()
        self._backoff = Backoff(delay_s_max=backoff_s_max)
        self._worker = Worker("vitals of the database")
        self._novelty = Novelty()
        self._log = get("vitals")

    @property
    def waiting(self) -> int:
        """Return how many points wait."""
        return len(self._waiting)

    def add(self, points: Iterable[Point]) -> None:
        """Take points to send."""
        self._waiting.extend(points)
        excess = len(self._waiting) - self._points_max
        for _ in range(excess):
            self._waiting.popleft()
        if excess > 0:
            self._lose(excess, "the database takes nothing, and no more than that is kept")
        self._some.set()

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if unsaid := self._novelty.take("lost", count):
            self._log.warning("figures about the gateway are lost", points=unsaid, error=why)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            if not await self._send():
                await asyncio.sleep(self._backoff.fail())
                self._some.set()

    async def finish(self, points: Iterable[Point]) -> None:
        """Send what waits and these, after `run` has ended; what the database does not take at once is not sent."""
        self.add(points)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S_MAX):
                await self._send()

    async def _send(self) -> bool:
        """Send what waits; say whether it is done with."""
        points = list(self._waiting)
        try:
            await self._worker.run(self._sink.send, format_points(points))
        except SinkBusyError as error:
            if self._novelty.take("busy"):
                self._log.warning("figures about the gateway wait for the database", error=str(error))
            return False
        except SinkError as error:
            self._lose(len(points), str(error))
        else:
            self.sent += len(points)
        self._backoff.succeed()
        self._forget(points)
        return True

    def _forget(self, points: list[Point]) -> None:
        """Let go of what is done with; some may have been lost meanwhile."""
        done = {id(point) for point in points}
        while self._waiting and id(self._waiting[0]) in done:
            self._waiting.popleft()

    def close(self) -> None:
        """End the thread and the connections."""
        self._worker.close()
        self._sink.close()
