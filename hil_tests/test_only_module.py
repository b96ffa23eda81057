"""The swap of a van's only module cuts its node's power: the node tells the departure that it could not see.

Power goes and comes on the real firmware; the journal's state is what remembers.
"""

import time
from typing import Any, NamedTuple

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.module import Module, format_code
from swapline_bench.randomness import make_random
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, find_signal, stream_by_name
from swapline_wire.catalogue_text import FOUND, FOUND_GONE, LEFT, STILL_THERE

pytestmark = [
    pytest.mark.promise(
        "a module that left with its van's power is told as left at the time at which it was last there"
    ),
    pytest.mark.needs("power", "simulators", "bays:1"),
]
REQUEST = 4711
CLOCK_ERROR_S = 0.5
UNSEEN_S_MAX = 3.0  # what a power cut takes: readings of a sealing interval
WAIT_S_MAX = 45.0


class Told(NamedTuple):
    """A swap event of the node, at its UTC."""

    kind: int
    module: str
    reason: int
    utc_s: float
    request_id: int
    odometer_km: int


def told(desk: Desk) -> list[Told]:
    """Return the swap events that reached the broker, in the order of their frames."""
    heard = desk.tap[desk.name]
    stream = stream_by_name("event")
    assert stream is not None
    places = {name: 1 + find_signal(stream, name) for name in ("code", "reason", "request_id", "odometer_km")}
    found = []
    for seq in sorted(heard.frames):
        frame = heard.frames[seq]
        if frame.stream.name != "event" or not frame.header.owner:
            continue
        for row in frame.rows:
            rest = (row[places["request_id"]], row[places["odometer_km"]])
            utc_s = (frame.header.anchor_utc_ms + row[0]) / 1000
            found.append(Told(row[places["code"]], frame.header.owner, row[places["reason"]], utc_s, *rest))
    return found


async def wait_for(desk: Desk, count: int) -> list[Told]:
    """Wait until the node has told of `count` arrivals and departures."""
    await desk.tap.wait(lambda: len(told(desk)) >= count, f"{count} swap events", WAIT_S_MAX)
    return told(desk)


def make_module(serial: int) -> Module:
    return Module(format_code(serial=serial), make_random(serial), soc=0.97, health_pct=96.0)


async def test_departure_of_the_only_module_is_told_at_the_next_boot_and_an_unmoved_module_never_arrives(
    desk: Desk, record_property: Any
) -> None:
    rig = desk.make_van(bays=1)
    assert rig.van is not None
    first = rig.van.bays[0]
    assert first is not None
    await desk.boot(seal_interval_ms=500)
    await desk.tap.wait_rows(desk.name, "module", 8)
    (arrival,) = await wait_for(desk, 1)
    assert (arrival.kind, arrival.module, arrival.reason) == (BATTERY_IN, first.code, FOUND)

    await desk.cut_power()
    cut_s = time.time()
    rig.van.bays[0] = second = make_module(4242)
    rig.van.request_id = REQUEST
    await desk.boot_again()
    late, found = (await wait_for(desk, 3))[1:]
    assert (late.kind, late.module, late.reason) == (BATTERY_OUT, first.code, FOUND_GONE)
    assert cut_s - UNSEEN_S_MAX <= late.utc_s <= cut_s + CLOCK_ERROR_S
    assert (found.kind, found.module, found.reason) == (BATTERY_IN, second.code, FOUND)
    assert found.utc_s >= cut_s - CLOCK_ERROR_S
    assert found.request_id == REQUEST
    assert found.odometer_km == pytest.approx(rig.van.odometer_km * 1000, abs=1)
    record_property("left_before_cut_s", round(cut_s - late.utc_s, 3))

    await desk.tap.wait_rows(desk.name, "module", 12)
    await desk.cut_power()
    await desk.boot_again()
    (unmoved,) = (await wait_for(desk, 4))[3:]
    assert (unmoved.kind, unmoved.module, unmoved.reason) == (BATTERY_IN, second.code, STILL_THERE)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert [event.reason for event in told(desk) if event.kind == BATTERY_OUT] == [FOUND_GONE]


async def test_boot_in_which_the_contacts_bounce_does_not_move_the_departure(desk: Desk) -> None:
    rig = desk.make_van(bays=1)
    assert rig.van is not None
    rig.van.is_kept_waiting = True  # from a van that drives off nothing leaves
    first = rig.van.bays[0]
    assert first is not None
    await desk.boot(seal_interval_ms=500)
    await desk.tap.wait_rows(desk.name, "module", 8)
    await desk.cut_power()
    cut_s = time.time()
    rig.van.bays[0] = None  # nobody answers: the boot is over before a module could
    await desk.boot_again()
    await desk.cut_power()
    rig.van.bays[0] = second = make_module(4243)
    await desk.boot_again()
    late, found = (await wait_for(desk, 3))[1:]
    assert (late.kind, late.module, late.reason) == (BATTERY_OUT, first.code, FOUND_GONE)
    assert late.utc_s <= cut_s + CLOCK_ERROR_S
    assert (found.module, found.reason) == (second.code, FOUND)
    rig.van.bays[0] = None
    (left,) = (await wait_for(desk, 4))[3:]
    assert (left.kind, left.module, left.reason) == (BATTERY_OUT, second.code, LEFT)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
