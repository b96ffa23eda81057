"""The pump: from the spool into the sink, in batches, until the spool is empty; then it waits for more.

A sink that is busy is asked again with growing delays, for ever: the spool holds. Each failure halves the next batch
and each success lets it grow, as long as it takes no longer than a quarter of a second: a new frame waits for one batch
at most before its own begins, however much of the past there is to write. Alarms and events are a batch of their own,
which is done sooner than a full one; every second batch is a full one, so that they hold up nothing. A batch also costs
something by itself: slowness alone does not make one smaller than `BATCH_FRAMES_SLOW`, or else a machine that is busy
would do ever more work for ever fewer frames.

What a sink never takes goes to quarantine: frames that cannot be decoded, frames that the sink names because it refuses
rows of them (the other rows are stored), and, of a batch that a sink rejects as a whole, those that are found by
halves. A frame leaves the spool only when the sink has taken it, or for quarantine.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from swapline_wire.error import WireError

from .due import Touch
from .error import GatewayError, SinkBusyError, SinkRejectedError, StorageError
from .log import get
from .pipeline import PipelineFigures
from .reading import FrameRows, read_rows
from .retry import Backoff
from .sinks.base import Sink, Written
from .spool import Spool, SpooledFrame
from .worker import Worker

BATCH_FRAMES_MAX = 2000
BATCH_FRAMES_MIN = 32
BATCH_FRAMES_FIRST = 125
BATCH_FRAMES_SLOW = 250
BATCH_S_MAX = 0.25  # an alarm is stored within a second of its register's change, and may have to wait for one batch
URGENT_FRAMES_MAX = 250
BATCH_BYTES_MAX = 4 << 20
IDLE_S_MAX = 2.0  # how late a frame is seen that the command line replayed behind our back
LINGER_S = 0.2  # a transaction of one frame costs nearly as much as one of a hundred
BACKOFF_S_MAX = 5.0  # after an outage of hours too: an attempt is a request of a few frames, and people wait
RETRY_AFTER_S_MAX = 60.0  # a server may ask for patience, but not for an hour of it
REJECTED = "sink_rejected"
_PRIORITY_AT = 3  # in a frame's header

T = TypeVar("T")


class DueNotes(Protocol):
    """Who wants to know of rows that are stored now: the battery's books (`battery/keeper.py`)."""

    def concerned(self, frames: Iterable[FrameRows]) -> list[Touch]:
        """Return what is to be derived from these frames' rows."""

    def wake(self) -> None:
        """Say that it should be derived soon."""


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
        keeper: DueNotes | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self._keeper = keeper
        self._spool = spool
        self._spool_worker = spool_worker
        self._sink = sink
        self._sink_worker = Worker("sink")
        self._figures = figures
        self._backoff = backoff
        self._linger_s = linger_s
        self._frames_max = BATCH_FRAMES_FIRST
        self._was_urgent = False
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
                self._spool.batch, frames_max=self._frames_max, bytes_max=BATCH_BYTES_MAX
            )
            frames = self._urgent_only(frames)
            if frames:
                await self._move(frames)
            self._figures.spool_works("pump")
        except SinkBusyError as error:
            self._shrink()
            await self._wait(self._say_busy(error))
            return True
        except StorageError as error:
            self._figures.spool_fails("pump", str(error))
            await self._wait(self._backoff.fail())
            return True
        return bool(frames)

    def _urgent_only(self, frames: list[SpooledFrame]) -> list[SpooledFrame]:
        """Return the urgent ones of a full batch, which stand in front, unless the last batch was of such."""
        count = 0
        if len(frames) >= self._frames_max and not self._was_urgent:
            count = next((i for i, frame in enumerate(frames) if not is_urgent_frame(frame)), 0)
        self._was_urgent = bool(count)
        return frames[: min(count, URGENT_FRAMES_MAX)] if count else frames

    async def _wait(self, delay_s: float) -> None:
        """Wait before the next attempt. When the gateway ends there is one more at once; the spool holds the rest."""
        if self._stopping.is_set():
            raise asyncio.CancelledError
        await _wait_any((self._stopping,), delay_s)

    def _say_busy(self, error: SinkBusyError) -> float:
        delay_s = max(self._backoff.fail(), min(error.retry_after_s or 0.0, RETRY_AFTER_S_MAX))
        self._figures.sink_failed(str(error))
        say = self._log.warning if self._backoff.is_first() else self._log.debug
        say("sink does not take anything", sink=self._sink.name, error=str(error), retry_s=round(delay_s, 2))
        return delay_s

    async def _move(self, frames: Sequence[SpooledFrame]) -> None:
        begun_s = time.monotonic()
        readable, spoiled = await self._sink_worker.run(_decode, frames)
        await self._set_aside(spoiled)
        if readable:
            is_settled = await self._write(readable)
            self._fit(len(frames), time.monotonic() - begun_s, is_settled=is_settled)

    def _fit(self, frame_count: int, duration_s: float, *, is_settled: bool) -> None:
        """Choose the size of the next batch by what this one took."""
        if not is_settled:
            self._shrink()
        elif duration_s > BATCH_S_MAX:
            fitting = max(BATCH_FRAMES_SLOW, self._frames_max // 2, round(frame_count * BATCH_S_MAX / duration_s))
            self._frames_max = min(self._frames_max, fitting)
        elif frame_count >= self._frames_max:
            grown = 2 * self._frames_max if 3 * duration_s < BATCH_S_MAX else self._frames_max * 9 // 8
            self._frames_max = min(BATCH_FRAMES_MAX, grown)

    def _shrink(self) -> None:
        """Halve the next batch: what is too much for a slow sink is then found soon, and alarms wait less."""
        self._frames_max = max(BATCH_FRAMES_MIN, self._frames_max // 2)

    async def _write(self, frames: Sequence[FrameRows]) -> bool:
        """Have the sink take these frames, by halves where it rejects them, and remove them from the spool.

        Returns whether all are settled; those that are not stay in the spool. Raises `SinkBusyError`.
        """
        begun_s = time.monotonic()
        try:
            written = await self._sink_worker.run(_write, self._sink, frames)
        except SinkRejectedError as error:
            if len(frames) == 1:
                await self._set_aside([(frames[0].frame, REJECTED, str(error))])
                return True
            middle = len(frames) // 2
            is_settled = await self._write(frames[:middle])
            return await self._write(frames[middle:]) and is_settled
        self._figures.sink_write.add(time.monotonic() - begun_s)
        await self._settle(frames, written)
        if written.trouble is not None:
            raise written.trouble
        if self._backoff.failures:
            self._log.info("sink takes frames again", sink=self._sink.name, failures=self._backoff.failures)
        self._backoff.succeed()
        return not written.unsettled

    async def _settle(self, frames: Sequence[FrameRows], written: Written) -> None:
        """Let go of what the sink has taken or refused."""
        refused = [(frames[index].frame, REJECTED, detail) for index, detail in written.refused]
        others = written.unsettled.union(index for index, _ in written.refused)
        taken = [rows for index, rows in enumerate(frames) if index not in others]
        self._figures.sink_took(written, [rows.frame for rows in taken])
        if taken:
            await self._let_go(self._spool.remove, [rows.frame for rows in taken], taken)
        await self._set_aside(refused, [frames[index] for index, _ in written.refused])

    async def _let_go(
        self, call: Callable[[Sequence[T], Sequence[Touch]], None], what: Sequence[T], stored: Sequence[FrameRows]
    ) -> None:
        """Have the spool forget frames, and note in the same transaction what their rows make due."""

        def let_go() -> bool:
            touches = [] if self._keeper is None else self._keeper.concerned(stored)
            call(what, touches)
            return any(touch.is_custody for touch in touches)

        if await self._spool_worker.run(let_go) and self._keeper is not None:
            self._keeper.wake()

    async def _set_aside(
        self, refusals: Sequence[tuple[SpooledFrame, str, str]], stored: Sequence[FrameRows] = ()
    ) -> None:
        """Move frames to quarantine; of those in `stored` some rows are in the database."""
        if not refusals:
            return
        await self._let_go(self._spool.set_aside, refusals, stored)
        for frame, reason, _ in refusals:
            self._figures.quarantined(frame.fleet, frame.node, reason)
        nodes = {(frame.fleet, frame.node) for frame, _, _ in refusals}
        frame, reason, detail = refusals[0]
        first = {"reason": reason, "detail": detail, "fleet": frame.fleet, "node": frame.node}
        self._log.warning("frames set aside", frames=len(refusals), nodes=len(nodes), **first)


def is_urgent_frame(frame: SpooledFrame) -> bool:
    """Say whether a frame's header calls it an alarm or an event."""
    return frame.data[_PRIORITY_AT : _PRIORITY_AT + 1] > b"\0"


def _decode(frames: Sequence[SpooledFrame]) -> tuple[list[FrameRows], list[tuple[SpooledFrame, str, str]]]:
    """Decode frames; return also those that cannot be, each with the reason (the spool's bytes were damaged)."""
    readable: list[FrameRows] = []
    spoiled: list[tuple[SpooledFrame, str, str]] = []
    for frame in frames:
        try:
            readable.append(read_rows(frame))
        except WireError as error:
            spoiled.append((frame, error.reason, str(error)))
    return readable, spoiled


def _write(sink: Sink, frames: Sequence[FrameRows]) -> Written:
    try:
        return sink.write(frames)
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
