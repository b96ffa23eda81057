"""Whatever goes wrong on a serial line, no wrong value reaches the database, and readings come back when it is over.

Every device of a van and of a station suffers every kind of fault, each line another one at a time, while the oracle
writes down what the devices really said. An answer that was damaged and passes its protocol's check by chance is no
reader's fault: the fault model counts it, the oracle accepts what it may have said, and nothing else.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.fault.model import NO_FAULTS, Faults

pytestmark = pytest.mark.promise("survives every bus fault without a wrong value")
UNPLUG = "unplug"  # the adapter itself vanishes, and comes back under the same name
KINDS = (
    "bit-errors=0.003",
    "drop=0.01",
    "double=0.01",
    "extra=0.01",
    "noise=20",
    "truncated=0.7",
    "late=0.7",
    "late=0.7 late-s=1.3",
    "silent=0.8",
    "wrong-slave=0.8",
    "exception=0.5",
    "two-slaves=0.8",
    "device-baudrate=14400",
    "pulled",
    "stuck",
    "babble",
    UNPLUG,
    "bit-errors=0.0005 noise=5 late=0.1 exception=0.1",
)
INJECTED = frozenset(kind.partition("=")[0] for kind in KINDS)
PHASE_S = 0.6
PHASE_S_MAX = 2.5  # for a line on which nothing has gone wrong yet: its device is asked rarely, or the machine is busy
PERIOD_MS = 300  # several polls a phase, and looks between them, so that each fault meets some
RECOVERY_S_MAX = 8.0  # a device that was silent is asked at least every 5 s; then code, data, code
ERRORS = ("bus_checksum_errors", "bus_timeouts", "bus_protocol_errors")


def often(desk: Desk) -> list[dict[str, Any]]:
    """Return the buses of a desk's configuration with devices that are asked more often."""
    assert desk.rig is not None
    buses = desk.rig.config(fleet="", host="", port=0)["buses"]
    return [{**bus, "devices": [{**one, "period_ms": PERIOD_MS} for one in bus["devices"]]} for bus in buses]


async def last(desk: Desk) -> None:
    """Let the present faults last for their time, and for longer where a line has not met its own yet."""
    # A receiver meets few of the kinds, and chargers that fell silent together are asked rarely.
    asked = [line.fault for bus, line in desk.lines.items() if bus not in {"gnss", "chargers"}]
    before = [(model, model.injected.total()) for model in asked if model is not None]
    await asyncio.sleep(PHASE_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PHASE_S_MAX - PHASE_S):
            while any(model.injected.total() == count for model, count in before):  # noqa: ASYNC110 (counters)
                await asyncio.sleep(0.05)


async def suffer(desk: Desk) -> None:
    """Let every line suffer every kind of fault, no two lines the same one at a time."""
    kinds = [kind for kind in KINDS if kind != UNPLUG or "unplug" in desk.features]
    for phase in range(len(kinds)):
        for place, (bus, line) in enumerate(desk.lines.items()):
            line.plug_in()
            kind = kinds[(phase + 3 * place) % len(kinds)]
            desk.disturb(bus, NO_FAULTS if kind == UNPLUG else Faults.parse(kind.split()))
            if kind == UNPLUG:
                line.unplug()
        await last(desk)
    for bus, line in desk.lines.items():
        line.plug_in()
        desk.disturb(bus, NO_FAULTS)


async def wait_for_all(desk: Desk) -> dict[tuple[str, int], float]:
    """Wait until every device is told about again, and return after how many seconds, by stream and bay."""
    assert desk.rig is not None
    bays = {("module", int(bus.removeprefix("bay"))) for bus in desk.lines if bus.startswith("bay")}
    places = bays | set(desk.rig.fixtures)
    since_utc_ms = int(time.time() * 1000)
    heard = desk.tap[desk.name]
    back: dict[tuple[str, int], float] = {}

    def are_back() -> bool:
        for frame in heard.frames.values():
            place = (frame.stream.name, frame.header.bay)
            times_ms = [frame.header.anchor_utc_ms + row[0] - since_utc_ms for row in frame.rows]
            for time_ms in times_ms:
                if place in places and time_ms >= 0:
                    back[place] = min(back.get(place, time_ms / 1000), time_ms / 1000)
        return back.keys() >= places

    await desk.tap.wait(are_back, f"readings of all of {sorted(places)}", 3 * RECOVERY_S_MAX)
    return back


@pytest.mark.needs("simulators", "bays:3")
@pytest.mark.parametrize("holder", ["van", "station"])
async def test_no_fault_of_a_line_makes_a_wrong_row(
    desk: Desk, holder: str, record_property: Callable[[str, Any], None]
) -> None:
    if holder == "van":
        desk.make_van(bays=1, bms="seplos_v3")
    else:
        desk.make_station(slots=3, bms=("jbd", "jbd_up16s", "jk"))
    await desk.boot(buses=often(desk))
    await desk.tap.wait_rows(desk.name, "module", 4)
    await suffer(desk)
    back_s, health = await asyncio.gather(wait_for_all(desk), desk.wait_for_health())
    models = [line.fault for line in desk.lines.values() if line.fault is not None]
    injected = sum((model.injected for model in models), start=Counter[str]())
    verdict = await desk.judge()
    errors = {name: health[name] for name in ERRORS}
    spoiled, by_chance = sum(model.spoiled for model in models), sum(model.passed_by_chance for model in models)
    record_property("faults injected", str(dict(injected)))
    record_property("answers spoiled", spoiled)
    record_property("answers that passed their check by chance", by_chance)
    record_property("wrong rows of those", verdict.rows_by_chance)
    record_property("errors counted by the node", str(errors))
    record_property("back_s_max", round(max(back_s.values()), 3))

    assert verdict.is_good, (verdict.examples, injected)
    assert verdict.rows_by_chance <= by_chance
    assert not INJECTED - injected.keys()
    assert sum(errors.values()) >= spoiled > 0, "damage is counted by the node"
    assert max(back_s.values()) <= RECOVERY_S_MAX
