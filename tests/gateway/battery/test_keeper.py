"""The keeper: what is due is derived, in its order, whatever fails in between; and it keeps out of the frames' way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from pathlib import Path

import pytest

from swapline_gateway.battery.derivation import Counts, Derivation, Derived
from swapline_gateway.battery.keeper import Keeper
from swapline_gateway.config import BatteryConfig
from swapline_gateway.due import EVERYTHING, FIGURES, GRACE_MS, HOUR_MS, WHOLE, WHOLE_LAST, Touch
from swapline_gateway.error import SinkBusyError
from swapline_gateway.spool import Spool
from swapline_gateway.worker import Worker

PATIENCE_S = 20.0
START_MS = 500_000 * HOUR_MS + HOUR_MS // 2
PAST = START_MS // HOUR_MS * HOUR_MS - 100 * HOUR_MS
RUNNING = START_MS // HOUR_MS * HOUR_MS


class Clock:
    """The gateway's clock, put forward by the test."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("swapline_gateway.spool.now_utc_ms", clock)
    monkeypatch.setattr("swapline_gateway.battery.keeper.now_utc_ms", clock)
    return clock


class Script(Derivation):
    """Derives nothing, writes down what it was asked for, and fails as it is told."""

    def __init__(self) -> None:
        self.hours_asked: list[tuple[str, int]] = []
        self.figures_asked: list[str] = []
        self.whole_asked: list[tuple[str, int | None]] = []
        self.known = ["M", "N"]
        self.poison: set[str] = set()
        self.busy = 0
        self.sweeps = 0
        self.outdated = False
        self.during: Callable[[], None] = lambda: None

    def known_as(self, module: str) -> str:
        return module.replace("\\", "/")

    def modules(self) -> list[str]:
        return self.known

    def _answer(self, modules: Collection[str]) -> Derived:
        if self.busy:
            self.busy -= 1
            raise SinkBusyError("the database does not answer")
        self.during()
        bad = {module: "rows that no formula survives" for module in modules if module in self.poison}
        return Derived(len(modules), set(modules) - set(bad), bad)

    def hours(self, due: Iterable[tuple[str, int]]) -> Derived:
        asked = list(due)
        derived = self._answer([self.known_as(module) for module, _ in asked])
        self.hours_asked += asked
        return derived

    only_hours = hours

    def custody(self, modules: Collection[str], since_utc_ms: int) -> Derived:
        raise AssertionError(f"no answer named {modules} with custody to derive since {since_utc_ms}")

    def sweep(self) -> Derived:
        self.sweeps += 1
        return Derived()

    def figures(self, modules: Collection[str]) -> Derived:
        derived = self._answer(modules)
        self.figures_asked += modules
        return derived

    def whole(self, module: str, next_utc_ms: int | None) -> tuple[Derived, int | None]:
        derived = self._answer([module])
        self.whole_asked.append((module, next_utc_ms))
        return derived, 7 if next_utc_ms is None else None

    def is_outdated(self) -> bool:
        return self.outdated

    def mark_up_to_date(self) -> None:
        self.outdated = False

    def counts(self) -> Counts:
        return Counts(3, 2, self.outdated)


class Rig:
    """A keeper on a spool, and a script that it works by."""

    def __init__(self, spool: Spool, worker: Worker, script: Script, keeper: Keeper) -> None:
        self.spool, self.worker, self.script, self.keeper = spool, worker, script, keeper

    async def touch(self, *touches: Touch) -> None:
        await self.worker.run(self.spool.remove, [], touches)
        self.keeper.wake()

    async def until(self, condition: Callable[[], bool], clock: Clock | None = None, step_ms: int = 1000) -> None:
        """Wait, while the clock, if it is given, goes on by steps."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self._go_on(clock, step_ms)

    async def entries(self) -> int:
        return (await self.worker.run(self.spool.due_state)).entry_count

    async def until_entries(self, count: int, clock: Clock | None = None, step_ms: int = 1000) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.entries() != count:
                await self._go_on(clock, step_ms)

    async def _go_on(self, clock: Clock | None, step_ms: int) -> None:
        """Put the clock forward as soon as the keeper has done all that is due at this time."""
        if clock is None:
            self.keeper.wake()
            await asyncio.sleep(0.005)
            return
        for _ in range(2):  # the first time that it finds nothing to do it may have looked before we asked
            seen = self.keeper.figures.due
            while self.keeper.figures.due is seen:
                self.keeper.wake()
                await asyncio.sleep(0.001)
        clock.now_ms += step_ms


@contextlib.asynccontextmanager
async def keeping(
    folder: Path,
    script: Script,
    *,
    is_shared: bool = False,
    is_understood: Callable[[], bool] = lambda: True,
    config: BatteryConfig | None = None,
) -> AsyncIterator[Rig]:
    worker = Worker("spool")
    spool = await worker.run(Spool, folder / "spool.sqlite", limit_bytes=1 << 20)
    keeper = Keeper(
        config or BatteryConfig(),
        script,
        spool=spool,
        spool_worker=worker,
        is_understood=is_understood,
        is_shared=is_shared,
        idle_s=0.05,
    )
    task = asyncio.create_task(keeper.run())
    try:
        yield Rig(spool, worker, script, keeper)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keeper.close()
        await worker.run(spool.close)
        worker.close()


async def test_hour_is_derived_then_its_passport_and_then_nothing_is_due(tmp_path: Path, clock: Clock) -> None:
    async with keeping(tmp_path, Script()) as rig:
        await rig.touch(Touch("M", PAST))
        await rig.until(lambda: rig.script.hours_asked == [("M", PAST)], clock)
        assert rig.script.figures_asked == []
        await rig.until_entries(0, clock)
        assert rig.script.figures_asked == ["M"]
        assert rig.keeper.module_revision("M") == rig.keeper.revision
        assert rig.keeper.module_revision("N") < rig.keeper.revision


async def test_running_hour_with_a_swap_is_derived_at_once_a_little_later_and_when_it_is_over(
    tmp_path: Path, clock: Clock
) -> None:
    async with keeping(tmp_path, Script()) as rig:
        await rig.touch(Touch("M", RUNNING, is_custody=True))
        await rig.until(lambda: len(rig.script.hours_asked) == 1)
        await rig.until(lambda: rig.script.figures_asked == ["M"], clock)
        assert len(rig.script.hours_asked) == 1
        await rig.until(lambda: len(rig.script.hours_asked) == 2, clock)
        assert START_MS + 120_000 <= clock.now_ms < RUNNING + HOUR_MS
        await rig.until(lambda: len(rig.script.hours_asked) == 3, clock, step_ms=30_000)
        assert clock.now_ms >= RUNNING + HOUR_MS + GRACE_MS
        await rig.until_entries(0, clock)


@pytest.mark.usefixtures("clock")
async def test_silent_fleet_is_looked_through_for_modules_that_are_lost(tmp_path: Path) -> None:
    async with keeping(tmp_path, Script()) as rig:
        await rig.until(lambda: rig.script.sweeps == 1)


@pytest.mark.usefixtures("clock")
async def test_database_that_does_not_answer_costs_time_and_nothing_else(tmp_path: Path) -> None:
    script = Script()
    script.busy = 3
    async with keeping(tmp_path, script) as rig:
        await rig.touch(Touch("M", PAST, is_custody=True))
        await rig.until(lambda: script.hours_asked == [("M", PAST)])
        assert rig.keeper.figures.errors == 3
        await rig.until(lambda: not rig.keeper.figures.error)


async def test_module_that_cannot_be_derived_keeps_no_other_waiting_and_is_tried_again(
    tmp_path: Path, clock: Clock
) -> None:
    script = Script()
    script.poison = {"M"}
    async with keeping(tmp_path, script) as rig:
        await rig.touch(Touch("M", PAST, is_custody=True), Touch("N", PAST, is_custody=True))
        await rig.until(lambda: rig.keeper.figures.failures == 1)
        await rig.until(lambda: script.figures_asked == ["N"], clock)
        script.poison = set()
        await rig.until_entries(0, clock, step_ms=30_000)
        assert set(script.figures_asked) == {"N", "M"}


async def test_rows_that_come_while_their_hour_is_derived_make_it_due_again(tmp_path: Path, clock: Clock) -> None:
    script = Script()
    async with keeping(tmp_path, script) as rig:
        late = [Touch("M", PAST, is_custody=True)]

        def arrive() -> None:
            while late:
                asyncio.run_coroutine_threadsafe(rig.touch(late.pop()), loop).result(PATIENCE_S)

        loop = asyncio.get_running_loop()
        script.during = arrive
        await rig.touch(Touch("M", PAST, is_custody=True))
        await rig.until(lambda: len(script.hours_asked) == 2, clock)


async def test_where_others_write_too_every_hour_is_derived_once_more(tmp_path: Path, clock: Clock) -> None:
    async with keeping(tmp_path, Script(), is_shared=True, config=BatteryConfig(settle_s=100)) as rig:
        await rig.touch(Touch("M", PAST))
        await rig.until(lambda: len(rig.script.hours_asked) == 1, clock)
        await rig.until(lambda: rig.script.figures_asked == ["M"], clock)
        assert len(rig.script.hours_asked) == 1
        await rig.until(lambda: len(rig.script.hours_asked) == 2, clock)
        assert clock.now_ms >= START_MS + 100_000
        await rig.until_entries(0, clock)
        assert len(rig.script.hours_asked) == 2


async def test_books_of_another_version_are_derived_from_everything(tmp_path: Path, clock: Clock) -> None:
    script = Script()
    script.outdated = True
    async with keeping(tmp_path, script) as rig:
        await rig.until(lambda: len(script.whole_asked) == 4)
        assert script.whole_asked == [("M", None), ("M", 7), ("N", None), ("N", 7)]
        await rig.until_entries(0, clock)
        assert sorted(script.figures_asked) == ["M", "N"]


@pytest.mark.usefixtures("clock")
async def test_swap_comes_before_years_that_are_derived_again(tmp_path: Path) -> None:
    script = Script()
    script.outdated = True
    script.known = [f"M{i:02}" for i in range(50)]
    async with keeping(tmp_path, script) as rig:
        await rig.until(lambda: len(script.whole_asked) > 2)
        await rig.touch(Touch("N", RUNNING, is_custody=True))
        await rig.until(lambda: bool(script.hours_asked))
        assert len(script.whole_asked) < 2 * len(script.known), "it did not wait for the years"


@pytest.mark.usefixtures("clock")
async def test_database_that_cannot_be_asked_has_no_books_and_frames_make_nothing_due(tmp_path: Path) -> None:
    async with keeping(tmp_path, Script(), is_understood=lambda: False) as rig:
        await rig.until(lambda: bool(rig.keeper.figures.off))
        await rig.until_entries(1)
        assert rig.keeper.concerned([]) == []
        (entry,) = await rig.worker.run(rig.spool.take_due, WHOLE_LAST, 5)
        assert (entry.module, entry.hour_utc_ms) == EVERYTHING == ("", WHOLE)
        assert rig.keeper.as_json()["off"]


@pytest.mark.usefixtures("clock")
async def test_books_that_were_switched_off_are_derived_whole_when_they_are_wanted(tmp_path: Path) -> None:
    async with keeping(tmp_path, Script(), config=BatteryConfig(keep=False)) as rig:
        await rig.until_entries(1)
    script = Script()
    async with keeping(tmp_path, script) as rig:
        await rig.until(lambda: len(script.whole_asked) == 4)


async def test_error_in_the_keeper_itself_does_not_end_it(tmp_path: Path, clock: Clock) -> None:
    script = Script()
    failures = iter([RuntimeError("a bug")])

    def fail_once() -> None:
        for error in failures:
            raise error

    script.during = fail_once
    async with keeping(tmp_path, script) as rig:
        await rig.touch(Touch("M", PAST, is_custody=True))
        await rig.until(lambda: rig.keeper.figures.errors == 1)
        await rig.until(lambda: script.hours_asked == [("M", PAST)], clock, step_ms=10_000)


async def test_pages_learn_what_is_in_the_books(tmp_path: Path, clock: Clock) -> None:
    async with keeping(tmp_path, Script()) as rig:
        await rig.until(lambda: rig.keeper.as_json()["contradiction_count"] == 3)
        shown = rig.keeper.as_json()
        assert (shown["warning_count"], shown["due"], shown["off"]) == (2, 0, None)
        await rig.touch(Touch("M", FIGURES))
        before = rig.keeper.revision
        await rig.until(lambda: rig.keeper.revision > before, clock)
