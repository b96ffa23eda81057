"""When a bus looks at its devices between two polls, in virtual time: often, but never at the cost of a poll."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from swapline_node.bus import Bus, BusTimeout
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.drivers.modbus import read
from swapline_node.health import Health
from swapline_node.sampler import Sampler
from tests.node.drivers.test_bus import GOOD, Line, Polled, Store, in_virtual_time, make_bus

RUN_S = 30


class Looked(Polled):
    """A device whose looks and polls take as long as the line makes them."""

    def __init__(self, address: int, *, look_ms: int = 150, period_ms: int = 1000) -> None:
        super().__init__(address, period_ms)
        self.look_ms = look_ms
        self.looked_s: list[float] = []
        self.look_query = read(1, 4, 0, 1)

    async def look(self, bus: Bus) -> None:
        self.looked_s.append(asyncio.get_running_loop().time())
        await bus.ask(self.look_query, 500)


async def run(
    *devices: Looked, answer_s: float = 0.02, has_time: Callable[[], bool] | None = None, until_s: float = RUN_S
) -> None:
    """Run a bus whose devices answer after `answer_s`."""
    loop = asyncio.get_running_loop()
    line = Line()
    line.device = lambda _: line.arrive(GOOD, after_s=answer_s)
    bus = make_bus(line, silence_ms=1, has_time=has_time)
    task = asyncio.create_task(bus.run(list(devices)))
    await asyncio.sleep(until_s - loop.time())
    task.cancel()


def gaps(times_s: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times_s)]


def test_a_device_is_looked_at_every_150_ms_unless_its_configuration_says_otherwise() -> None:
    async def main() -> None:
        often, seldom, never = Looked(1), Looked(1, look_ms=400), Looked(1, look_ms=0)
        for device in (often, seldom, never):
            await run(device, until_s=asyncio.get_running_loop().time() + RUN_S)
            seen = sorted(device.looked_s + device.polled_s)
            assert max(gaps(seen)) < (device.look_ms or device.period_ms) / 1000 + 0.02
        assert 5 * RUN_S <= len(often.looked_s) <= 6 * RUN_S
        assert 1 * RUN_S <= len(seldom.looked_s) <= 2 * RUN_S
        assert never.looked_s == []

    in_virtual_time(main)


@pytest.mark.parametrize("answer_s", [0.02, 0.09, 0.2, 0.4])
def test_no_look_makes_a_poll_late(answer_s: float) -> None:
    async def main() -> None:
        device = Looked(1)
        await run(device, answer_s=answer_s)
        late_s = [at_s % 1 if at_s % 1 < 0.5 else at_s % 1 - 1 for at_s in device.polled_s]
        assert len(device.polled_s) >= RUN_S
        assert max(late_s) < 0.02, "it may be early by a look: it is what sees the next thing"
        assert min(late_s) > -answer_s - 0.05
        assert device.looked_s

    in_virtual_time(main)


def test_a_line_that_has_no_time_for_looks_has_none() -> None:
    async def main() -> None:
        devices = [Looked(address) for address in range(1, 9)]
        await run(*devices, answer_s=0.11)
        assert sum(len(device.looked_s) for device in devices) < 2 * RUN_S
        assert min(len(device.polled_s) for device in devices) > RUN_S - 4

    in_virtual_time(main)


def test_a_node_that_has_too_much_to_do_takes_no_looks_and_polls_on() -> None:
    async def main() -> None:
        device = Looked(1)
        await run(device, has_time=lambda: False)
        assert device.looked_s == []
        assert len(device.polled_s) >= RUN_S - 1

    in_virtual_time(main)


class Node:
    """What the node's health needs of the node, and a load that comes again and again."""

    def __init__(self) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.clock = Clock(lambda: int(self.loop.time() * 1000), lambda now, before: now - before)
        self.counters = Counters()
        self.sampler = Sampler(Store(), self.clock, self.counters)
        self.health = Health(self)  # type: ignore[arg-type]
        self.watch = asyncio.create_task(self.health.watch_lag())

    async def work(self, *, block_s: float, every_s: float) -> list[bool]:
        """Block the loop for so long again and again, for half a minute; return whether it was busy, each time."""
        said = []
        for _ in range(round(RUN_S / every_s)):
            await asyncio.sleep(every_s - block_s)
            self.loop.now_s += block_s
            said.append(not self.health.has_time())
        return said


def test_a_node_whose_loop_is_blocked_most_of_the_time_is_busy_until_that_ends() -> None:
    async def main() -> None:
        node = Node()
        said = await node.work(block_s=0.08, every_s=0.089)
        assert said.count(True) > len(said) * 3 // 4
        assert not any((await node.work(block_s=0.0, every_s=0.1))[20:]), "two seconds later"
        node.watch.cancel()

    in_virtual_time(main)


def test_a_collection_or_a_flash_write_now_and_then_makes_no_node_busy() -> None:
    async def main() -> None:
        node = Node()
        assert not any(await node.work(block_s=0.1, every_s=1.0))
        node.watch.cancel()

    in_virtual_time(main)


def test_a_device_that_fails_a_look_is_looked_at_again_after_a_poll() -> None:
    async def main() -> None:
        device = Looked(1)
        fails = True

        async def look(_: Bus) -> None:
            device.looked_s.append(asyncio.get_running_loop().time())
            if fails:
                raise BusTimeout("nobody")

        device.look = look  # type: ignore[method-assign, assignment]
        await run(device, until_s=5)
        assert len(device.looked_s) <= len(device.polled_s)
        fails = False
        await run(device, until_s=10)
        assert len(device.looked_s) > 20

    in_virtual_time(main)
