"""The heap after a hundred thousand samples is the heap after the first ones: nothing leaks, nothing splinters it.

Time runs faster here: the node's clock and its waits by `SPEED`, its devices ten times a second, its lines as fast as a
pseudo terminal is. The firmware, its heap, its flash and what it does with a sample are those of every day.
"""

from collections.abc import Callable

import pytest

from swapline_bench.desk.strategy import Desk
from swapline_bench.hurry import hasten, hurry

pytestmark = [
    pytest.mark.promise("the heap is stable over 100,000 samples, and its peak is stated"),
    pytest.mark.needs("heap_limit", "snippet", "fast_lines", "bays:4", "slot_charger", "sdm630"),
    pytest.mark.timeout(660),
]
SAMPLES = 100_000
SAMPLES_FIRST = 5_000  # everything is loaded, every device was read many times
SPEED = 20
PERIOD_MS = 100
SLOTS = 4
HEALTH_ROWS_MIN = 20
GROWTH_BYTES_MAX = 2048  # live after a collection: what is being sent comes and goes
FREE_BYTES_MIN = 8 << 10
TIMEOUT_MS = 10_000  # half a real second: it is the bench's machine that may be late
FIRST_S_MAX, RUN_S_MAX = 120.0, 480.0
HASTE = {"period_ms": PERIOD_MS, "timeout_ms": TIMEOUT_MS}


async def test_the_largest_station_keeps_its_heap_over_100000_samples(
    desk: Desk, record_property: Callable[[str, object], None]
) -> None:
    rig = desk.make_station(slots=SLOTS)
    hasty = hasten(rig, **HASTE)
    changes = {stream: {"report": "change"} for stream in ("module", "cells", "slot", "meter")}
    await desk.boot(snippet=hurry(SPEED), buses=hasty, streams=changes)
    heard = desk.tap[desk.name]

    def samples() -> int:
        health = heard.last("node")
        return health.get("rows_kept", 0) + health.get("rows_unchanged", 0)

    await desk.tap.wait(lambda: samples() >= SAMPLES_FIRST, f"{SAMPLES_FIRST} samples", FIRST_S_MAX)
    await desk.tap.wait(lambda: samples() >= SAMPLES, f"{SAMPLES} samples", RUN_S_MAX)
    signals = [signal.name for signal in next(f for f in heard.frames.values() if f.stream.name == "node").signals]
    health = [dict(zip(signals, row[1:], strict=True)) for row in heard.rows("node")]
    late = [row for row in health if row["rows_kept"] + row["rows_unchanged"] >= SAMPLES_FIRST]
    assert len(late) >= HEALTH_ROWS_MIN
    used = [row["heap_used_bytes"] for row in late]
    half = len(used) // 2
    figures = {
        "samples": samples(),
        "heap_used_bytes_min": min(used),
        "heap_used_bytes_max": max(used),
        "growth_bytes": min(used[half:]) - min(used[:half]),
        "heap_free_bytes_min": min(row["heap_free_bytes"] for row in late),
        "heap_peak_bytes": max(row["heap_peak_bytes"] for row in late),
    }
    for name, value in figures.items():
        record_property(name, value)
    assert figures["growth_bytes"] <= GROWTH_BYTES_MAX, figures
    assert figures["heap_free_bytes_min"] >= FREE_BYTES_MIN, figures
    assert not [line for line in desk.node.lines if "memory" in line.lower()]
    assert health[-1]["task_restarts"] == 0
