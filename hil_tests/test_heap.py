"""Does the work fit the memory: the largest station and vans with every row kept, in 256 KiB, over the whole path."""

import time
from collections.abc import Callable
from pathlib import Path

from swapline_bench import rig
from swapline_bench.end_to_end import FLEET, EndToEnd
from swapline_bench.node_process import HEAP_BYTES
from swapline_bench.statement import StatementLog
from swapline_bench.world import World
from swapline_wire.catalogue import NODE, find_signal

SLOT_COUNT = 4
FREE_BYTES_MIN = {"van-001": 16 << 10, "van-002": 16 << 10, "station-001": 12 << 10}
HEALTH_ROWS = 6  # half a minute: all devices have been read many times, their cells twice

LAST_ROWS = 3


async def test_four_slots_and_vans_of_three_bays_keep_memory_free(
    mosquitto: None, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    del mosquitto
    world = World(van_count=2, station_count=1, slot_count=SLOT_COUNT, speed=10.0, seed=7, real_time_s=time.monotonic)
    with StatementLog(tmp_path / "statements.jsonl") as log:  # with it, every reading is to become a row
        async with EndToEnd(tmp_path) as path:
            rigs = [
                rig.make_van_rig(world.vans[0], tmp_path / "van-001", statements=log),
                rig.make_van_rig(world.vans[1], tmp_path / "van-002", statements=log, bms_driver="jbd"),
                rig.make_station_rig(world.stations[0], tmp_path / "station", statements=log),
            ]
            for one in rigs:
                path.stack.push_async_callback(one.close)
            path.run(world.pass_time(), "world")
            await path.start_gateway("duckdb")
            for one in rigs:
                one.plug()
                config = one.config(fleet=FLEET, host=path.broker.host, port=path.broker.port)
                config["streams"]["node"] = {"report": "all"}
                await path.start_node(one.name, config.pop("buses"), **config)
            for one in rigs:
                await path.tap.wait_rows(one.name, "node", HEALTH_ROWS, timeout_s=20 * NODE.period_ms / 1000)
                await path.tap.wait_rows(one.name, "cells", 2)
            free = {name: free_bytes(path, name) for name in FREE_BYTES_MIN}
            lines = [line for node in path.nodes.values() for line in node.lines]
            assert all(node.heap_bytes == HEAP_BYTES for node in path.nodes.values())
            await path.stop()
    for name, left in free.items():
        record_property(name, left)
    assert not [line for line in lines if "memory" in line.lower()]
    assert {name: left for name, left in free.items() if left < FREE_BYTES_MIN[name]} == {}, free


def free_bytes(path: EndToEnd, name: str) -> int:
    """Return what was left after a collection, at the best of the last moments: what is being sent comes and goes."""
    place = 1 + find_signal(NODE, "heap_free_bytes")
    return max(row[place] for row in path.tap[name].rows("node")[-LAST_ROWS:])
