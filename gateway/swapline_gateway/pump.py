"""The pump: from the spool into the sink, in batches, until the spool is empty; then it waits for more.

A sink that is busy is asked again with growing delays, for ever: the spool holds. A batch that the sink rejects is
halved until the guilty frames are found; they go to quarantine, the others on. A frame leaves the spool only when the
sink has taken it.
"""

import asyncio
from collections.abc import Sequence

from swapline_wire.error import WireError

from .error import GatewayError, SinkBusyError, SinkRejectedError, StorageError
from .log import get
from .pipeline import PipelineFigures
from .reading import FrameRows, read_rows
from .retry import Backoff
from .sinks.base import Sink, Written
from .spool import Spool, SpooledFrame
from .worker import Worker

BATCH_FRAMES_MAX = 2000
BATCH_BYTES_MAX = 4 << 20
IDLE_S_MAX = 2.0  # how late a frame is seen that the command line replayed behind our back
LINGER_S = 0.2  # a transaction of one frame costs nearly as much as one of a hundred
RETRY_AFTER_S_MAX = 60.0  # a server may ask for patience, but not for an hour of it
REJECTED = "sink_rejected"


class Pump:
    """See the module's header."""

    def __init__(
        self,
        *,
        spool: Spool,
        spool_worker: Worker,
        sink: Sink,
        figures: PipelineFigures,
        backoff: Backoff,
        linger_s: float = LINGER_S,
    ) -> None:
        self._spool = spool
        self._spool_worker = spool_worker
        self._sink = sink
        self._sink_worker = Worker("sink")
        self._figures = figures
        self._backoff = backoff
        self._linger_s = linger_s
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._stopping = asyncio.Event()
        self._log = get("pump")

    async def open(self) -> None:
        """Open the sink. Raises `GatewayError` for what only people can fix; a server that is away may come later."""
        try:
            await self._sink_worker.run(self._sink.open)
        except SinkBusyError as error:
            self._say_busy(error)

    def wake(self, *, is_urgent: bool = False) -> None:
        """Say that the spool has got frames; urgent ones do not wait for company."""
        self._work.set()
        if is_urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Pump until `finish` is called and the spool is empty, or until cancelled."""
        while True:
            if await self._pump_once():
                continue
            if self._stopping.is_set():
                return
            await _wait_any((self._work, self._stopping), IDLE_S_MAX)
            if not self._stopping.is_set():
                await _wait_any((self._urgent, self._stopping), self._linger_s)
            self._work.clear()
            self._urgent.clear()

    def finish(self) -> None:
        """Ask `run` to end as soon as the spool is empty."""
        self._stopping.set()

    async def close(self) -> None:
        """Close the sink."""
        await self._sink_worker.run(self._sink.close)
        self._sink_worker.close()

    async def _pump_once(self) -> bool:
        """Move one batch; say whether there was anything to do."""
        try:
            frames = await self._spool_worker.run(
                self._spool.batch, frames_max=BATCH_FRAMES_MAX, bytes_max=BATCH_BYTES_MAX
            )
            if frames:
                await self._write(frames)
            self._figures.spool_works("pump")
        except SinkBusyError as error:
            await self._wait(self._say_busy(error))
            return True
        except StorageError as error:
            self._figures.spool_fails("pump", str(error))
            await self._wait(self._backoff.fail())
            return True
        return bool(frames)

    async def _wait(self, delay_s: float) -> None:
        """Wait before the next attempt; when the gateway ends, the spool holds what is left."""
        if await _wait_any((self._stopping,), delay_s):
            raise asyncio.CancelledError

    def _say_busy(self, error: SinkBusyError) -> float:
        delay_s = max(self._backoff.fail(), min(error.retry_after_s or 0.0, RETRY_AFTER_S_MAX))
        self._figures.sink_failed(str(error))
        say = self._log.warning if self._backoff.is_first() else self._log.debug
        say("sink does not take anything", sink=self._sink.name, error=str(error), retry_s=round(delay_s, 2))
        return delay_s

    async def _write(self, frames: Sequence[SpooledFrame]) -> None:
        """Have the sink take these frames, by halves where it rejects them, and remove them from the spool."""
        try:
            written = await self._sink_worker.run(_decode_and_write, self._sink, frames)
        except (SinkRejectedError, WireError) as error:
            if len(frames) == 1:
                await self._set_aside(frames[0], error)
                return
            middle = len(frames) // 2
            await self._write(frames[:middle])
            await self._write(frames[middle:])
            return
        if self._backoff.failures:
            self._log.info("sink takes frames again", sink=self._sink.name, failures=self._backoff.failures)
        self._backoff.succeed()
        self._figures.sink_took(written, frames)
        await self._spool_worker.run(self._spool.remove, frames)

    async def _set_aside(self, frame: SpooledFrame, error: Exception) -> None:
        reason = error.reason if isinstance(error, WireError) else REJECTED
        await self._spool_worker.run(self._spool.set_aside, [(frame, reason, str(error))])
        self._figures.quarantined(frame.fleet, frame.node, reason)
        self._log.warning("frame set aside", reason=reason, error=str(error), fleet=frame.fleet, node=frame.node)


def _decode_and_write(sink: Sink, frames: Sequence[SpooledFrame]) -> Written:
    rows: list[FrameRows] = [read_rows(frame) for frame in frames]
    try:
        return sink.write(rows)
    except GatewayError as error:  # it was reopened and something of it is gone: the spool holds until it is back
        raise SinkBusyError(str(error)) from error


async def _wait_any(events: Sequence[asyncio.Event], timeout_s: float) -> bool:
    """Wait until one of the events is set; say whether one was before the time was over."""
    if any(event.is_set() for event in events):
        return True
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
