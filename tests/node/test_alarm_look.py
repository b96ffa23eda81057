"""A look between polls: an alarm is told sooner, and never as another module's."""

import asyncio
from typing import Any

import pytest

from swapline_node.bus import BusProtocolError, BusTimeout
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.drivers.bms import PROTECTIONS, Bms
from swapline_node.sampler import Sampler
from tests.node.test_alarm import CODE, OTHER, Rig, Store


class Line:
    """Stands where the bus is, with one module at its end."""

    def __init__(self) -> None:
        self.code = CODE
        self.protections = 0
        self.asked: list[str] = []
        self.is_dead = False
        self.after_look: str | None = None  # the module that is put in when a look has been answered

    async def ask(self, query: Any, _timeout_ms: int) -> Any:
        self.asked.append(query)
        if self.is_dead:
            raise BusTimeout("nobody")
        if query == "code":
            return memoryview(self.code.encode())
        protections, self.code = self.protections, self.after_look or self.code
        return protections

    def protocol_error(self, text: str) -> BusProtocolError:
        return BusProtocolError(text)


class Simple(Bms):
    """A BMS whose one answer is its protections."""

    has_look = True
    serial_query: Any = "code"
    name_query: Any = "code"

    async def read(self, bus: Any) -> None:
        self.module.values[PROTECTIONS] = await bus.ask("data", 100)

    def serial_of(self, answer: memoryview) -> memoryview:
        return answer

    def name_of(self, answer: memoryview) -> memoryview:
        return answer


class LookRig(Rig):
    """A driver on a line, polled once."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.store = Store()
        self.counters = Counters()
        clock = Clock(lambda: self.now_ms, lambda later, earlier: later - earlier, utc_ms_min=0)
        self.sampler = Sampler(self.store, clock, self.counters)
        self.device = Simple(self.sampler, clock, self.counters, {"driver": "simple", "bay": 1})
        self.source = self.device.module
        self.line = Line()
        asyncio.run(self.device.poll(self.line))  # type: ignore[arg-type]
        self.line.asked.clear()

    def look(self) -> None:
        asyncio.run(self.device.look(self.line))  # type: ignore[arg-type]


@pytest.fixture
def rig() -> LookRig:
    return LookRig()


def test_look_that_shows_nothing_new_asks_for_no_code_and_makes_no_row(rig: LookRig) -> None:
    rig.look()
    assert rig.line.asked == ["data"]
    assert rig.told == []
    rig.sampler.seal_all()
    assert sum(len(f.rows) for f in rig.store.frames if f.stream.name == "module") == 1


def test_look_that_shows_a_fault_reads_whose_it_is_and_tells_it(rig: LookRig) -> None:
    rig.line.protections = 1
    rig.look()
    assert rig.line.asked == ["data", "code"]
    assert [(row["code"], row["level"], row["owner"]) for row in rig.rows] == [(32, 2, CODE)]
    rig.look()
    assert rig.line.asked[2:] == ["data"]


def test_fault_of_a_module_that_was_exchanged_is_told_of_nobody(rig: LookRig) -> None:
    rig.line.protections = 1
    rig.line.after_look = OTHER
    with pytest.raises(BusProtocolError, match="became"):
        rig.look()
    assert rig.told == []
    asyncio.run(rig.device.poll(rig.line))  # type: ignore[arg-type]
    assert [row["owner"] for row in rig.rows] == [OTHER]


def test_device_that_fails_a_look_is_not_looked_at_before_a_poll(rig: LookRig) -> None:
    rig.line.is_dead = True
    with pytest.raises(BusTimeout):
        rig.look()
    rig.line.is_dead = False
    rig.line.protections = 1
    rig.line.asked.clear()
    rig.look()  # its code is not known: nobody could be told of
    assert rig.line.asked == []
    assert rig.told == []
