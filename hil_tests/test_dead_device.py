"""A dead device costs its own readings and nobody else's: not on other lines, and on its own bus next to nothing."""

import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.faces.modbus import ModbusFace
from swapline_bench.fault.model import Faults
from swapline_wire.catalogue import SLOT

pytestmark = [
    pytest.mark.promise("a dead device does not slow the others"),
    pytest.mark.needs("simulators"),
]
ROWS = 6  # before, and while the device is dead
SLOWER_MAX = 1.15  # of the mean time between rows, dead to alive, within one run: one late row is no slowness
TIMEOUT_MS = 500  # of a poll that nobody answers: what it may cost the others on its bus, once a poll of the dead one
SLOTS = 3

Record = Callable[[str, Any], None]


def tell(record_property: Record, slower: dict[tuple[str, int], float]) -> None:
    """State how many times as long each place's period was while the device was dead."""
    for (stream, bay), ratio in slower.items():
        record_property(f"period, dead to alive: {stream} {bay}", round(ratio, 3))


def periods_ms(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the times between rows."""
    return [later[0] - earlier[0] for earlier, later in itertools.pairwise(rows)]


def rows_of(desk: Desk, stream: str, bay: int = 0) -> list[tuple[int, ...]]:
    """Return the rows that the tap has heard of one stream and bay, in the order of their time since boot."""
    frames = desk.tap[desk.name].frames.values()
    return sorted(
        row for frame in frames if frame.stream.name == stream and frame.header.bay == bay for row in frame.rows
    )


async def wait_rows(desk: Desk, places: Sequence[tuple[str, int]], count: int) -> dict[tuple[str, int], int]:
    """Wait until every place has `count` more rows than now; return how many it had before."""
    before = {place: len(rows_of(desk, *place)) for place in places}
    await desk.tap.wait(
        lambda: all(len(rows_of(desk, *place)) >= before[place] + count for place in places),
        f"{count} more rows of each of {places}",
    )
    return before


async def compare(desk: Desk, places: Sequence[tuple[str, int]], die: object) -> dict[tuple[str, int], float]:
    """Return by place how much slower its rows came after `die` was called than before."""
    assert callable(die)
    await wait_rows(desk, places, 2)  # what is loaded at first is loaded
    alive = await wait_rows(desk, places, ROWS)
    die()
    dead = await wait_rows(desk, places, ROWS)
    slower = {}
    for place in places:
        rows = rows_of(desk, *place)
        before_ms = statistics.mean(periods_ms(rows[alive[place] : alive[place] + ROWS]))
        after_ms = statistics.mean(periods_ms(rows[dead[place] : dead[place] + ROWS]))
        slower[place] = after_ms / before_ms
    return slower


@pytest.mark.needs("bays:3", "vcu", "gnss")
async def test_modules_that_fall_silent_or_babble_do_not_slow_the_other_lines(
    desk: Desk, record_property: Record
) -> None:
    rig = desk.make_van(bays=3, bms=("seplos_v3", "seplos_v3", "jbd"))
    await desk.boot(seal_interval_ms=500)

    def die() -> None:
        desk.disturb("bay3", Faults.parse(["stuck"]))
        rig.lines["bay2"].detach()

    slower = await compare(desk, [("module", 1), ("vehicle", 0), ("position", 0)], die)
    tell(record_property, slower)
    assert max(slower.values()) <= SLOWER_MAX, slower
    assert desk.tap[desk.name].last("node")["bus_timeouts"] > 0
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


@pytest.mark.needs(f"bays:{SLOTS}", "slot_charger", "sdm630")
async def test_a_dead_charger_costs_the_chargers_on_its_bus_one_timeout_a_poll_of_it_and_ever_fewer(
    desk: Desk, record_property: Record
) -> None:
    rig = desk.make_station(slots=SLOTS)
    (chargers,) = [face for face in rig.faces if isinstance(face, ModbusFace) and len(face.units) == SLOTS]
    alive = [("slot", 1), ("slot", 3), ("meter", 0), ("module", 2)]
    await desk.boot(seal_interval_ms=500)

    def die() -> None:
        chargers.units = {address: unit for address, unit in chargers.units.items() if address != 2}

    slower = await compare(desk, alive, die)
    tell(record_property, slower)
    assert max(slower[place] for place in alive[2:]) <= SLOWER_MAX, slower
    on_its_bus = [rows_of(desk, *place)[-ROWS:] for place in alive[:2]]
    record_property("chargers_period_ms_max", max(max(periods_ms(rows)) for rows in on_its_bus))
    for rows in on_its_bus:
        assert max(periods_ms(rows)) <= SLOT.period_ms + 2 * TIMEOUT_MS, rows
        assert statistics.median(periods_ms(rows)) <= SLOT.period_ms * SLOWER_MAX, rows
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
