"""The keeper: derives the battery's books again wherever rows came, and never stands in the frames' way.

The pump notes hours of modules as due in the spool, in the transaction in which their frames leave it. The keeper takes
a few of them at a time: hours, then custody, which may make passports and warnings due. An entry is done only when its
result is in the database; a kill in between means that it is derived again, to the same result.

Where several gateways write to one database, another one may have written rows of the same hour while this one derived
it, and the older result may have been written last. So there every entry is derived once more after `settle_s`. So is,
everywhere, what is derived at once because a module changed places: events overtake the rows around them. What has not
changed is not written again.

Late back-fill makes many hours due. They are taken many at a time: their hours first, each module's in its order, then
custody once for each module, or else each hour would ask about all that came after it. While it still comes they wait a
little: half of what several nodes tell late looks like a contradiction.

The work is done in a thread of its own, in steps of about half a second; between them it rests, so that it uses no more
than its share of a core, and only a fifth of that while many frames wait for the database: they come first. Swaps and
modules that turn up in another place now come before every step.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from swapline_gateway.config import BatteryConfig
from swapline_gateway.due import (
    CUSTODY_FIRST,
    EVERYTHING,
    FIGURES,
    FIGURES_THEN,
    HOURS_NEXT,
    WHOLE,
    WHOLE_LAST,
    Due,
    DueState,
    Finish,
    Touch,
    is_running,
    ready_at,
)
from swapline_gateway.error import SinkError, StorageError
from swapline_gateway.log import get
from swapline_gateway.reading import FrameRows
from swapline_gateway.retry import Backoff
from swapline_gateway.spool import Spool, now_utc_ms
from swapline_gateway.worker import Worker

from .concern import Concerns
from .derivation import Counts, Derivation, Derived, custody_parts

STEP_S_MAX = 0.5
FRAMES_WAIT = 2000  # in the spool: as many as a batch takes, so the pump is behind
FRAMES_WAIT_SHARE = 0.2  # of our share, then
REST_S_MAX = 5.0
ROUND_ENTRIES_MAX = 5000
QUIET_S = 3.0  # without late rows, before late hours are derived
QUIET_S_MAX = 120.0  # for which that is waited for: somebody may always be late
STEP_ENTRIES_FIRST = 8
STEP_ENTRIES_MAX = 64
IDLE_S = 2.0  # how late an hour is seen that became ready by itself
SWEEP_S = 600.0  # between looks for what becomes a contradiction by waiting
COUNT_S = 30.0  # between counts of what is in the books: other gateways write to them too
RECOUNT_S = 3.0  # after a change of our own
FAILED_AGAIN_MS = 900_000
MODULES_MAX = 100_000

T = TypeVar("T")


@dataclass(slots=True)
class KeeperFigures:
    """What the keeper did since the process began, and what waits. `off`: why no books are kept, if none are."""

    off: str = ""
    due: DueState = field(default_factory=DueState)
    behind_s: float = 0.0
    hours_derived: int = 0
    figures_derived: int = 0
    changes: int = 0
    failures: int = 0  # modules whose books could not be derived, each time
    errors: int = 0  # times that database or spool did not answer
    error: str = ""
    busy_s: float = 0.0  # of the thread's processor time
    counts: Counts = field(default_factory=Counts)


class Round:
    """Hours that were taken together, and how far they are: hours, then custody, then done."""

    def __init__(self, dues: Iterable[Due]) -> None:
        self.dues = sorted(dues)
        self.derived = Derived()
        self._next = 0
        self._custody: list[tuple[list[str], int]] | None = None

    def next_hours(self, count: int) -> list[tuple[str, int]]:
        """Return the next hours to derive; none when all are."""
        dues = self.dues[self._next : self._next + count]
        self._next += len(dues)
        return [(due.module, due.hour_utc_ms) for due in dues]

    def next_custody(self) -> tuple[list[str], int] | None:
        """Return the next modules whose custody is to be derived, and since when."""
        if self._custody is None:
            self._custody = list(custody_parts(self.derived.custody_since))[::-1]
        return self._custody.pop() if self._custody else None


class Keeper:
    """See the module's header."""

    def __init__(
        self,
        config: BatteryConfig,
        derivation: Derivation,
        *,
        spool: Spool,
        spool_worker: Worker,
        is_understood: Callable[[], bool] = lambda: True,
        is_shared: bool = False,
        idle_s: float = IDLE_S,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.figures = KeeperFigures()
        self.revision = now_utc_ms() // 1000  # grows over restarts too
        self._config = config
        self._derivation = derivation
        self._spool = spool
        self._spool_worker = spool_worker
        self._is_understood = is_understood
        self._is_shared = is_shared
        self._idle_s = idle_s
        self._quiet_s = quiet_s
        self._late_s = self._quiet_from_s = -QUIET_S_MAX
        self._concerns = Concerns()
        self._worker = Worker("battery")
        self._wake = asyncio.Event()
        self._backoff = Backoff(delay_s_max=30.0)
        self._module_revisions: OrderedDict[str, int] = OrderedDict()
        self._first_revision = self.revision
        self._entries_max = STEP_ENTRIES_FIRST
        self._round: Round | None = None
        self._whole: tuple[Due, int | None] | None = None
        self._swept_s = -SWEEP_S
        self._counted_s = -COUNT_S
        self._counted_revision = self.revision
        self._log = get("battery")

    def module_revision(self, code: str) -> int:
        """Return the revision in which something of this module changed last."""
        return self._module_revisions.get(self._derivation.known_as(code), self._first_revision)

    def concerned(self, frames: Iterable[FrameRows]) -> list[Touch]:
        """Return what frames make due, whose rows are stored now. Called from the spool's thread."""
        if self.figures.off:
            return []
        touches = self._concerns.of(frames)
        now_ms = now_utc_ms()
        if any(one.hour_utc_ms >= 0 and not is_running(one.hour_utc_ms, now_ms) for one in touches):
            self._late_s = time.monotonic()
        return touches

    def _is_quiet(self) -> bool:
        """Say whether late rows have all come, as far as one can tell, or have been waited for long enough."""
        now_s = time.monotonic()
        if now_s - self._late_s >= self._quiet_s or now_s - self._quiet_from_s >= QUIET_S_MAX:
            self._quiet_from_s = now_s
            return True
        return False

    def wake(self) -> None:
        """Say that custody may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Keep the books until cancelled."""
        while True:
            try:
                if await self._begin():
                    await self._keep()
                await asyncio.Event().wait()  # off: nothing more to do
            except (SinkError, StorageError) as error:
                await self._rest_after(error)
            except Exception as error:  # noqa: BLE001 (frames must go on whatever is wrong with the books)
                self._log.exception("the books' keeper met an error of its own")
                await self._rest_after(error)

    async def _begin(self) -> bool:
        """Find out whether the database can be asked, and whether everything is to be derived again."""
        if not self._config.keep:
            return await self._stay_off("battery.keep is false")
        if not await self._work(self._is_understood):
            return await self._stay_off("the database takes rows but cannot be asked for them in InfluxQL")
        await self._spool_worker.run(self._spool.release_due)
        self._round = self._whole = None
        if await self._work(self._derivation.is_outdated):
            await self._begin_anew()
        return True

    async def _stay_off(self, why: str) -> bool:
        """Keep no books. Should they be kept one day, everything is due."""
        self.figures.off = why
        self._log.info("no battery books are kept", why=why)
        await self._spool_worker.run(self._spool.replace_due, EVERYTHING)
        return False

    async def _begin_anew(self) -> None:
        self._log.info("battery books are derived from everything stored")
        await self._spool_worker.run(self._spool.finish_due, [], [Touch(*EVERYTHING)])
        await self._work(self._derivation.mark_up_to_date)

    async def _keep(self) -> None:
        while True:
            begun_s = self.figures.busy_s
            self._wake.clear()
            is_busy = await self._cycle()
            self._backoff.succeed()
            self.figures.error = ""
            if is_busy:
                await asyncio.sleep(self._rest_s(self.figures.busy_s - begun_s))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._idle_s):
                    await self._wake.wait()

    def _rest_s(self, busy_s: float) -> float:
        """Return how long to rest after so much work."""
        share = self._config.share * (FRAMES_WAIT_SHARE if self._spool.frame_count > FRAMES_WAIT else 1)
        return min(busy_s * (1 / share - 1), REST_S_MAX)

    async def _rest_after(self, error: Exception) -> None:
        self.figures.errors += 1
        self.figures.error = str(error)
        delay_s = self._backoff.fail()
        say = self._log.warning if self._backoff.is_first() else self._log.debug
        say("battery books wait", error=str(error), retry_s=round(delay_s, 2))
        await asyncio.sleep(delay_s)

    async def _work(self, call: Callable[..., T], *args: Any) -> T:
        """Run a call in the keeper's thread and add up its processor time."""

        def timed() -> T:
            begun_s = time.thread_time()
            try:
                return call(*args)
            finally:
                self.figures.busy_s += time.thread_time() - begun_s

        return await self._worker.run(timed)

    async def _cycle(self) -> bool:
        """Do one step of each kind of work; of custody alone while there is any. Says whether there was anything."""
        if await self._news():
            return True
        is_busy = await self._round_step()
        is_busy |= await self._figures()
        is_busy |= await self._whole_step()
        if time.monotonic() - self._counted_s >= COUNT_S or not is_busy:
            await self._look()
        if not is_busy and time.monotonic() - self._swept_s >= SWEEP_S:
            self._swept_s = time.monotonic()
            self._note(await self._work(self._derivation.sweep))
        return is_busy

    async def _take(self, priority: int, count: int) -> list[Due]:
        return await self._spool_worker.run(self._spool.take_due, priority, count)

    async def _news(self) -> bool:
        """Derive where modules changed places just now."""
        dues = await self._take(CUSTODY_FIRST, STEP_ENTRIES_FIRST)
        if not dues:
            return False
        derived = await self._work(self._derivation.hours, [(due.module, due.hour_utc_ms) for due in dues])
        self.figures.hours_derived += derived.hour_count
        await self._finish(dues, derived, _figures_of(derived.changed), is_again_wanted=True)
        return True

    async def _round_step(self) -> bool:
        """Derive some hours of a round, or some modules' custody, or end it; or begin with the next one."""
        if self._round is None:
            if not self._is_quiet():
                return False
            dues = await self._take(HOURS_NEXT, ROUND_ENTRIES_MAX)
            if not dues:
                return False
            self._round = Round(dues)
        this = self._round
        if hours := this.next_hours(self._entries_max):
            begun_s = time.monotonic()
            derived = await self._work(self._derivation.only_hours, hours)
            self._fit(len(hours), time.monotonic() - begun_s)
            self.figures.hours_derived += derived.hour_count
            this.derived.add(derived)
        elif part := this.next_custody():
            this.derived.add(await self._work(self._derivation.custody, *part))
        else:
            self._round = None
            touches = _figures_of(this.derived.changed)
            await self._finish(this.dues, this.derived, touches, is_again_wanted=self._is_shared)
        return True

    def _fit(self, count: int, duration_s: float) -> None:
        """Choose the size of the next step by what this one took."""
        if duration_s > STEP_S_MAX:
            self._entries_max = max(1, self._entries_max // 2)
        elif count >= self._entries_max:
            self._entries_max = min(STEP_ENTRIES_MAX, self._entries_max + 1)

    async def _figures(self) -> bool:
        dues = await self._take(FIGURES_THEN, max(1, self._entries_max // 8))
        if not dues:
            return False
        derived = await self._work(self._derivation.figures, [due.module for due in dues])
        self.figures.figures_derived += len(dues)
        await self._finish(dues, derived, is_again_wanted=self._is_shared)
        return True

    async def _whole_step(self) -> bool:
        """Derive a day of a module of which everything is due, or begin with the next such module."""
        if self._whole is None:
            dues = await self._take(WHOLE_LAST, 1)
            if not dues:
                return False
            if (dues[0].module, WHOLE) == EVERYTHING:
                modules = await self._work(self._derivation.modules)
                touches = [Touch(module, WHOLE) for module in modules]
                await self._spool_worker.run(self._spool.finish_due, [Finish(dues[0])], touches)
                return True
            self._whole = (dues[0], None)
        due, start = self._whole
        derived, end = await self._work(self._derivation.whole, due.module, start)
        self.figures.hours_derived += derived.hour_count
        if end is not None:
            self._whole = (due, end)
            self._note(derived)
            return True
        self._whole = None
        await self._finish([due], derived, touches=_figures_of({*derived.changed, due.module}))
        return True

    async def _finish(
        self, dues: Iterable[Due], derived: Derived, touches: Sequence[Touch] = (), *, is_again_wanted: bool = False
    ) -> None:
        now_ms = now_utc_ms()
        finishes = [self._next(due, derived, now_ms, is_again_wanted=is_again_wanted) for due in dues]
        await self._spool_worker.run(self._spool.finish_due, finishes, touches)
        self._note(derived)

    def _next(self, due: Due, derived: Derived, now_ms: int, *, is_again_wanted: bool) -> Finish:
        """Return what becomes of an entry."""
        if self._derivation.known_as(due.module) in derived.failed:
            return Finish(due, now_ms + FAILED_AGAIN_MS, due.is_again)
        if is_again_wanted and not due.is_again:
            return Finish(due, now_ms + round(self._config.settle_s * 1000), is_again=True)
        if due.hour_utc_ms >= 0 and is_running(due.hour_utc_ms, now_ms):
            return Finish(due, ready_at(due.hour_utc_ms, now_ms))
        return Finish(due)

    def _note(self, derived: Derived) -> None:
        """Let viewers know what changed."""
        self.figures.failures += len(derived.failed)
        if not derived.changed:
            return
        self.figures.changes += len(derived.changed)
        self.revision += 1
        for module in derived.changed:
            self._module_revisions[module] = self.revision
            self._module_revisions.move_to_end(module)
        while len(self._module_revisions) > MODULES_MAX:
            _, self._first_revision = self._module_revisions.popitem(last=False)

    async def _look(self) -> None:
        """Refresh the figures; count what is in the books now and then."""
        state = await self._spool_worker.run(self._spool.due_state)
        self.figures.due = state
        waited_ms = 0 if state.oldest_utc_ms is None else now_utc_ms() - state.oldest_utc_ms
        self.figures.behind_s = max(0, waited_ms) / 1000
        has_changed = self.revision != self._counted_revision
        if time.monotonic() - self._counted_s < (RECOUNT_S if has_changed else COUNT_S):
            return
        self._counted_s, self._counted_revision = time.monotonic(), self.revision
        counts = await self._work(self._derivation.counts)
        if counts.is_outdated:  # the file was damaged, and replaced
            await self._begin_anew()
        if counts != self.figures.counts:
            self.revision += 1
            self._counted_revision = self.revision
        self.figures.counts = counts

    def as_json(self) -> dict[str, Any]:
        """Return what pages show beside everything: that something changed, and how much waits."""
        figures = self.figures
        return {
            "revision": self.revision,
            "contradiction_count": figures.counts.contradictions,
            "warning_count": figures.counts.warnings,
            "due": figures.due.ready_count,
            "behind_s": round(figures.behind_s),
            "off": figures.off or None,
        }

    async def close(self) -> None:
        """Wait for the step that is being done."""
        await asyncio.to_thread(self._worker.close)


def _figures_of(modules: Iterable[str]) -> list[Touch]:
    return [Touch(module, FIGURES) for module in sorted(modules)]
