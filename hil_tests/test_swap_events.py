"""A swap on the real path: all four halves carry the station's request, and those of the van where it was.

A van of one module, so its node is without power in the middle of it; a station; the robot between them. What the nodes
told is compared with what happened in the world.
"""

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from swapline_bench import rig
from swapline_bench.end_to_end import FLEET, EndToEnd, open_database
from swapline_bench.node_process import NodeProcess
from swapline_bench.van import Van
from swapline_bench.world import World
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT
from swapline_wire.catalogue_text import CAME, FOUND, FOUND_GONE, LEFT

pytestmark = pytest.mark.promise("all halves of a swap carry its request, those of a van its odometer and position")
SWAP_S_MAX = 120.0
NOTICED_S_MAX = 8.0  # three polls without an answer; a boot; a busy machine
CLOCK_ERROR_S = 2.0  # a node's clock by its quality, and a busy bench that cuts the power late
LOOK_S = 0.1


class Half(NamedTuple):
    """What a node told of one change of custody."""

    utc_s: float
    reason: int
    request_id: int | None
    odometer_km: float | None
    latitude_deg: float | None


async def follow_power(path: EndToEnd, van: Van, node: NodeProcess) -> None:
    """Let the van's node have power when the van has."""
    is_on = True
    while True:
        await asyncio.sleep(LOOK_S)
        if is_on and not van.is_powered:
            await node.cut_power()
        elif not is_on and van.is_powered:
            await path.start_node_again(node)
        is_on = van.is_powered


async def swap_once(path: EndToEnd, world: World) -> None:
    """Let the world turn until a van's only module was exchanged, and the nodes have told everything."""
    rigs = [
        rig.make_van_rig(world.vans[0], path.folder / "van"),
        rig.make_station_rig(world.stations[0], path.folder / "station"),
    ]
    for one in rigs:
        path.stack.push_async_callback(one.close)
        one.plug()
        config = one.config(fleet=FLEET, host=path.broker.host, port=path.broker.port)
        await path.start_node(one.name, config.pop("buses"), **config)
    await path.tap.wait_rows("van-001", "position", 1)
    path.run(world.pass_time(), "world")
    path.run(follow_power(path, world.vans[0], path.nodes["van-001"]), "power")
    async with asyncio.timeout(SWAP_S_MAX):
        while not world.swaps:  # noqa: ASYNC110 - the world tells nobody
            await asyncio.sleep(LOOK_S)
    stored = world.swaps[0].code_out
    await path.tap.wait(
        lambda: any(f.header.owner == stored for f in path.tap["station-001"].frames.values()), f"{stored} in its slot"
    )
    await path.tap.wait(
        lambda: sum(f.header.owner != "" for f in path.tap["van-001"].frames.values() if f.stream.name == "event") >= 3,
        "the van's halves",
    )


def halves(folder: Path) -> dict[tuple[Any, ...], list[Half]]:
    """Return what the database has of arrivals and departures, by kind, holder, bay and module."""
    found = defaultdict(list)
    for row in open_database("duckdb", folder).rows("event", "van-001") + open_database("duckdb", folder).rows(
        "event", "station-001"
    ):
        if row["code"] in (BATTERY_IN, BATTERY_OUT):
            kind = "in" if row["code"] == BATTERY_IN else "out"
            rest = (row["reason"], row.get("request_id"), row.get("odometer_km"), row.get("latitude_deg"))
            found[kind, row["node"], row["bay"], row["module"]].append(Half(row["time_utc_ms"] / 1000, *rest))
    return found


async def test_all_halves_of_a_swap_carry_its_request_and_the_vans_say_where_it_was(
    mosquitto: None, tmp_path: Path
) -> None:
    del mosquitto
    world = World(
        van_count=1,
        slot_count=2,
        modules_per_van=(1,),
        speed=60.0,
        seed=3,
        swap_absence_real_s=8.0,
        real_time_s=time.monotonic,
    )
    world.swap_below_pct = 99.0
    clock_utc_s = time.time() - time.monotonic()
    async with EndToEnd(tmp_path) as path:
        await path.start_gateway("duckdb")
        await swap_once(path, world)
        world.speed = 1.0
        await path.stop()
    told = halves(tmp_path)
    swap = world.swaps[0]
    reasons = {}
    for event in [event for event in world.custody if event.request_id == swap.request_id]:
        happened_s = event.real_time_s + clock_utc_s
        (half,) = [
            half
            for half in told[event.kind, event.holder, event.bay, event.code]
            if abs(half.utc_s - happened_s) <= NOTICED_S_MAX
        ]
        reasons[event.kind, event.holder] = half.reason
        if half.reason == FOUND_GONE:
            assert happened_s - NOTICED_S_MAX <= half.utc_s <= happened_s + CLOCK_ERROR_S
            continue  # the node was without power then: it knows nothing more than who and until when
        assert half.request_id == swap.request_id, event
        if event.holder == "van-001":
            assert half.odometer_km == pytest.approx(world.vans[0].odometer_km, abs=0.05)
    assert reasons == {
        ("out", "station-001"): LEFT,
        ("out", "van-001"): FOUND_GONE,
        ("in", "van-001"): FOUND,
        ("in", "station-001"): CAME,
    }
    assert {half.request_id for key, found in told.items() for half in found if key[0] == "in"} <= {0, swap.request_id}
