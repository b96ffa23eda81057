"""Another module in a bay is noticed within 2 s, and no row is ever credited to the wrong one.

Modules are exchanged between bays at any moment: between two polls, between the answers of one poll, in the middle of
an answer, and after a bay stood empty. The oracle knows who sat where.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.fault.model import NO_FAULTS
from swapline_bench.module import Module
from swapline_bench.randomness import make_random
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT

pytestmark = [
    pytest.mark.promise("a module swap is noticed within 2 s, and no row is credited to the wrong module"),
    pytest.mark.needs("simulators", "bays:2"),
]
NOTICED_S_MAX = 2.0
EXCHANGES = 3
GONE_S_MAX = 4.5  # three polls without an answer, each of which is waited for
EMPTY_S = 3.0  # a bay stays empty for so long: nobody may have stopped looking there
POLL_S = 1.0
WAIT_S_MAX = 20.0
CLOCK_ERROR_MS_MAX = 300


class Began:
    """The moment of an exchange, on the bench's clock and on that of the node, which is set by then."""

    def __init__(self) -> None:
        self.s = time.monotonic()
        self.utc_ms = int(time.time() * 1000) - CLOCK_ERROR_MS_MAX


class Bays:
    """The bays of a desk's holder, whichever kind it is, and what the node says of them."""

    def __init__(self, desk: Desk, drivers: tuple[str, ...]) -> None:
        self.desk = desk
        self.all = range(1, len(drivers) + 1)
        assert desk.rig is not None
        self._van = desk.rig.van
        self._slots = desk.rig.station.slots if desk.rig.station else []
        self._order = make_random(desk.seed, "exchanges")
        self.noticed_s: list[float] = []

    def module(self, bay: int) -> Module | None:
        return self._van.bays[bay - 1] if self._van else self._slots[bay - 1].module

    def put(self, bay: int, module: Module | None) -> None:
        self.desk.timeline.mark(f"bay {bay} has {'no module' if module is None else module.code}")
        if self._van:
            self._van.bays[bay - 1] = module
        else:
            self._slots[bay - 1].module = module

    def code(self, bay: int) -> str:
        module = self.module(bay)
        assert module is not None
        return module.code

    def happened(self, kind: int, bay: int, code: str, since_utc_ms: int) -> bool:
        """Say whether the node has told of an event since then."""
        for frame in self.desk.tap[self.desk.name].frames.values():
            if frame.stream.name == "event" and frame.header.bay == bay and frame.header.owner == code:
                for row in frame.rows:
                    if row[1] == kind and frame.header.anchor_utc_ms + row[0] >= since_utc_ms:
                        return True
        return False

    async def wait_noticed(self, kind: int, codes: dict[int, str], began: Began) -> float:
        """Wait until the broker has the node's word for it of every bay, and return after how many seconds."""
        for bay, code in codes.items():
            await self.desk.tap.wait(
                lambda: self.happened(kind, bay, code, began.utc_ms),  # noqa: B023 (awaited here)
                f"event {kind} of {code} in bay {bay}",
                WAIT_S_MAX,
            )
        took_s = time.monotonic() - began.s
        self.desk.timeline.mark(f"event {kind} of bays {sorted(codes)} was there after {took_s:.2f} s")
        if kind == BATTERY_IN:
            self.noticed_s.append(took_s)
        return took_s

    async def exchange(self) -> None:
        """Move every module to the next bay, all at once, and wait until that was noticed."""
        began = Began()
        modules = [self.module(bay) for bay in self.all]
        for bay in self.all:
            self.put(bay, modules[bay % len(modules)])
        await self.wait_noticed(BATTERY_IN, {bay: self.code(bay) for bay in self.all}, began)

    async def exchange_at_any_moment(self) -> None:
        await asyncio.sleep(POLL_S + self._order.random())
        await self.exchange()

    async def exchange_inside_an_answer(self, bay: int, place: int) -> None:
        """Let all modules move when `place` bytes of the next long enough answer of one bay have left."""
        fault = self.desk.disturb(f"bay{bay}", NO_FAULTS)
        moved = asyncio.Event()
        fault.at_byte(place, moved.set)
        async with asyncio.timeout(10):
            await moved.wait()
        await self.exchange()

    async def leave_one_empty(self, bay: int) -> float:
        """Take a module out and put it in again after a while; return after how many seconds it was told as gone."""
        module, code = self.module(bay), self.code(bay)
        self.put(bay, None)
        gone_s = await self.wait_noticed(BATTERY_OUT, {bay: code}, Began())
        await asyncio.sleep(EMPTY_S)
        self.put(bay, module)
        await self.wait_noticed(BATTERY_IN, {bay: code}, Began())
        return gone_s


@pytest.mark.parametrize(
    ("holder", "drivers"),
    [("van", ("seplos_v3", "seplos_v3")), ("station", ("jbd", "jbd_up16s", "jk"))],
    ids=["van", "station"],
)
async def test_another_module_is_noticed_and_gets_no_row_of_the_one_before(
    desk: Desk, holder: str, drivers: tuple[str, ...], record_property: Callable[[str, Any], None]
) -> None:
    if holder == "van":
        desk.make_van(bays=len(drivers), bms=drivers)
    else:
        desk.make_station(slots=len(drivers), bms=drivers)
    await desk.boot()
    await desk.tap.wait_rows(desk.name, "module", 2 * len(drivers))
    bays = Bays(desk, drivers)
    for _ in range(EXCHANGES):
        await bays.exchange_at_any_moment()
    for bay in bays.all:
        await bays.exchange_inside_an_answer(bay, place=9)
    gone_s = await bays.leave_one_empty(bay=1)
    verdict = await desk.judge()
    record_property("exchanges", len(bays.noticed_s))
    record_property("noticed_s_max", round(max(bays.noticed_s), 3))
    record_property("gone_s", round(gone_s, 3))

    assert verdict.is_good, verdict.examples
    assert max(bays.noticed_s) <= NOTICED_S_MAX
    assert gone_s <= GONE_S_MAX
