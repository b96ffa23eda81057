"""What the battery's books cost beside the frames they are derived from.

    python tools/bench_books.py [--modules N] [--hours N] [--json]

Rows as modules at work report them (one each ten seconds, in frames of a minute) are decoded and written into a
DuckDB file as the pump does it, then their hours, custody, passports and warnings are derived as the keeper does it:
first the past, then one more hour of every module, which is what is measured. Processor time of the whole process
counts, so DuckDB's own threads are in it. Machines differ; the ratio of the two does not, much.
"""

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from swapline_bench.frame_source import FrameSource, row_of
from swapline_gateway.battery.derivation import Derivation
from swapline_gateway.battery.store_duckdb import DuckdbStore
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import SpooledFrame
from swapline_wire.catalogue import MODULE

HOUR_MS = 3_600_000
ROW_MS = 10_000
FRAME_ROWS = 6
BATCH_FRAMES = 500
MODULES_A_STEP = 16
FLEET_MODULES = 1500


def frames_of_hour(module: int, hour_utc_ms: int) -> Iterator[SpooledFrame]:
    """Yield a module's frames: an hour of charging and driving."""
    chance = random.Random(module * 1_000_003 + hour_utc_ms)  # noqa: S311 (not for secrets)
    source = FrameSource(node=f"van-{module // 3:03}", journal=module + 1, anchor_utc_ms=hour_utc_ms)
    source.seq = hour_utc_ms // HOUR_MS % 100_000 * 100
    owner = f"0A3PB{module:019d}"
    rows = []
    for time_ms in range(0, HOUR_MS, ROW_MS):
        current = round(8000 * math.sin(time_ms / 120_000) * chance.random())
        cell = 3300 + current // 200
        rows.append(
            (
                time_ms,
                row_of(
                    MODULE,
                    voltage_v=cell * 16 // 10,
                    current_a=current,
                    soc_pct=500 + current // 100,
                    cell_voltage_min_v=cell - 4,
                    cell_voltage_max_v=cell + 4,
                    cell_voltage_mean_v=cell,
                    temperature_min_c=240,
                    temperature_max_c=260,
                    capacity_full_ah=28000,
                    cell_count=16,
                ),
            )
        )
    for start in range(0, len(rows), FRAME_ROWS):
        data = source.frame(rows[start : start + FRAME_ROWS], bay=module % 3 + 1, owner=owner)
        yield SpooledFrame(0, source.fleet, source.node, hour_utc_ms, 3, hour_utc_ms, data)


def write(sink: DuckdbSink, frames: list[SpooledFrame]) -> float:
    """Decode and write; return the seconds of processor time."""
    begun_s = time.process_time()
    for start in range(0, len(frames), BATCH_FRAMES):
        sink.write([read_rows(frame) for frame in frames[start : start + BATCH_FRAMES]])
    return time.process_time() - begun_s


def derive(derivation: Derivation, modules: list[str], hour_utc_ms: int) -> dict[str, float]:
    """Derive an hour of all modules; return the seconds of processor time by what was done."""
    spent = {"hours_and_custody": 0.0, "passports_and_warnings": 0.0}
    for start in range(0, len(modules), MODULES_A_STEP):
        step = modules[start : start + MODULES_A_STEP]
        begun_s = time.process_time()
        derived = derivation.hours([(module, hour_utc_ms) for module in step])
        spent["hours_and_custody"] += time.process_time() - begun_s
        begun_s = time.process_time()
        derived.failed |= derivation.figures(step).failed
        spent["passports_and_warnings"] += time.process_time() - begun_s
        assert not derived.failed, derived.failed
    return spent


def measure(module_count: int, hour_count: int) -> dict[str, float]:
    """Measure one more hour behind `hour_count` hours of so many modules."""
    first_ms = (time.time_ns() // 1_000_000 // HOUR_MS - hour_count - 2) * HOUR_MS
    modules = [f"0A3PB{module:019d}" for module in range(module_count)]
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(DuckdbSink(DuckdbConfig(path=Path(folder) / "swapline.duckdb"))) as sink,
    ):
        sink.open()
        derivation = Derivation(DuckdbStore(sink.cursor))
        for number in range(hour_count + 1):
            hour_ms = first_ms + number * HOUR_MS
            frames = [frame for module in range(module_count) for frame in frames_of_hour(module, hour_ms)]
            written_s = write(sink, frames)
            spent = derive(derivation, modules, hour_ms)
    return {
        "modules": module_count,
        "hours_before": hour_count,
        "rows": module_count * HOUR_MS // ROW_MS,
        "pump_ms_a_module_hour": 1000 * written_s / module_count,
        **{f"{name}_ms_a_module_hour": 1000 * seconds / module_count for name, seconds in spent.items()},
        "ratio_to_pump": sum(spent.values()) / written_s,
        "share_of_a_core_1500_modules": sum(spent.values()) / module_count * FLEET_MODULES / 3600,
    }


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--modules", type=int, default=48, help="modules (default: 48)")
    parser.add_argument("--hours", type=int, default=24, help="hours that are stored before (default: 24)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    found = measure(options.modules, options.hours)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:40} {value:10.3f}")


if __name__ == "__main__":
    main()
