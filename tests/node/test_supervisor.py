import asyncio

import pytest

from swapline_node.counter import Counters
from swapline_node.log import Log
from swapline_node.supervisor import Supervisor


class Watchdog:
    def __init__(self) -> None:
        self.fed = 0
        self.changed = asyncio.Event()

    def feed(self) -> None:
        self.fed += 1
        self.changed.set()


class Rig:
    def __init__(self) -> None:
        self.now_ms = 0
        self.counters = Counters()
        self.log = Log(lambda: self.now_ms)
        self.watchdog = Watchdog()
        self.stuck = asyncio.Event()
        self.supervisor = Supervisor(self.counters, self.log, lambda: self.now_ms, restart_ms_min=1)

    def watch(self) -> None:
        self.supervisor.watch(self.watchdog, 1, self.stuck.set)


async def test_task_that_fails_is_started_again_and_counted() -> None:
    rig = Rig()
    runs = asyncio.Queue[int]()

    async def fail() -> None:
        runs.put_nowait(rig.counters.task_restarts)
        raise ValueError("broken")

    rig.supervisor.start("part", fail)
    assert [await runs.get() for _ in range(3)] == [0, 1, 2]
    await rig.supervisor.stop()
    assert any("part task failed: ValueError broken" in line for line in rig.log.lines())


async def test_watchdog_is_fed_while_every_task_is_alive() -> None:
    rig = Rig()
    rig.supervisor.start("part", asyncio.Event().wait, reports=True)  # type: ignore[arg-type]
    rig.watch()
    for _ in range(5):
        rig.watchdog.changed.clear()
        await rig.watchdog.changed.wait()
        rig.now_ms += 1000
        rig.supervisor.alive("part")
    await rig.supervisor.stop()


async def test_task_that_hangs_is_started_again_alone_and_the_watchdog_is_fed() -> None:
    rig = Rig()
    runs: list[str] = []

    async def hang(name: str) -> None:
        runs.append(name)
        await asyncio.Event().wait()

    rig.supervisor.start("bus", lambda: hang("bus"), reports=True)
    rig.supervisor.start("other", lambda: hang("other"))
    await asyncio.sleep(0)
    rig.now_ms = 30001
    rig.watch()
    while rig.watchdog.fed < 3:
        rig.watchdog.changed.clear()
        await rig.watchdog.changed.wait()
    assert runs == ["bus", "other", "bus"]
    assert rig.counters.task_restarts == 1
    assert not rig.stuck.is_set()
    await rig.supervisor.stop()


async def test_a_task_that_cannot_be_ended_asks_for_one_restart_and_the_watchdog_is_fed_no_more() -> None:
    rig = Rig()
    release = asyncio.Event()

    async def defy() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                rig.now_ms += 1001

    rig.supervisor.start("part", defy, reports=True)
    await asyncio.sleep(0)
    rig.now_ms = 30001
    rig.watch()
    await rig.stuck.wait()
    rig.now_ms += 30001
    await asyncio.sleep(0.02)  # 20 of its periods
    assert rig.watchdog.fed == 1, "once, for the time that ending it takes"
    assert rig.supervisor.stuck() == "part"
    release.set()
    await rig.supervisor.stop()
    assert any("part is stuck" in line for line in rig.log.lines())


async def test_stop_ends_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig()
    ended: list[str] = []

    def make(name: str) -> None:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        rig.supervisor.start(name, run)

    make("a")
    make("b")
    await asyncio.sleep(0)
    await rig.supervisor.stop()
    assert sorted(ended) == ["a", "b"]
    assert capsys.readouterr().out == ""


def test_log_keeps_the_last_lines_in_order() -> None:
    ring = Log(lambda: 61234, kept_bytes=3 * len("61.234 info part line 0 is it\n"))
    for i in range(5):
        ring.info("part", f"line {i}\nis it")
    ring.debug("part", "not kept")
    assert ring.lines() == [f"61.234 info part line {i} is it" for i in (2, 3, 4)]


def test_log_lets_as_many_lines_go_as_a_new_one_needs() -> None:
    ring = Log(lambda: 0, kept_bytes=160)
    assert ring.lines() == []
    for i in range(100):
        ring.info("p", f"{i} " + "é" * (i % 40))
        lines = ring.lines()
        assert lines == [f"0.000 info p {n} " + "é" * (n % 40) for n in range(i + 1 - len(lines), i + 1)]
        kept_bytes = sum(len(line.encode()) + 1 for line in lines)
        assert lines
        assert kept_bytes <= 160


async def test_memory_errors_that_keep_coming_ask_for_one_restart() -> None:
    rig = Rig()
    asked: list[int] = []

    async def fail() -> None:
        if rig.counters.memory_errors < 24:
            raise MemoryError
        await asyncio.Event().wait()

    for number in range(12):
        rig.supervisor.start(f"bus {number}", fail)
    rig.supervisor.watch(rig.watchdog, 1, rig.stuck.set, lambda: asked.append(rig.counters.memory_errors))
    while rig.counters.memory_errors < 24 or not asked:
        rig.watchdog.changed.clear()
        await rig.watchdog.changed.wait()
    await rig.supervisor.stop()
    assert len(asked) == 1
    assert asked[0] >= 10
    assert not rig.stuck.is_set()
    assert any("memory errors" in line for line in rig.log.lines())


async def test_a_task_that_finds_no_memory_at_each_start_asks_for_one_restart() -> None:
    rig = Rig()
    asked: list[int] = []
    again = asyncio.Event()

    async def fail() -> None:
        rig.now_ms += 10000  # less than ten in a minute
        if rig.counters.memory_errors == 7:
            again.set()
        raise MemoryError

    rig.supervisor.watch(rig.watchdog, 1, rig.stuck.set, lambda: asked.append(rig.counters.memory_errors))
    rig.supervisor.start("link", fail)
    await again.wait()
    await rig.supervisor.stop()
    assert asked == [5]
    assert any("link found no memory 5 times: restart" in line for line in rig.log.lines())


async def test_memory_errors_that_are_rare_ask_for_nothing() -> None:
    rig = Rig()
    asked: list[int] = []
    rig.supervisor.watch(rig.watchdog, 1, rig.stuck.set, lambda: asked.append(rig.counters.memory_errors))
    for _ in range(20):
        rig.counters.memory_errors += 1
        rig.now_ms += 10000
        rig.watchdog.changed.clear()
        await rig.watchdog.changed.wait()
    await rig.supervisor.stop()
    assert rig.counters.memory_errors == 20
    assert asked == []
