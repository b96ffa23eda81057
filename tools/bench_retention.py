"""What rows and roll-ups cost an InfluxDB 1.x: bytes on disk, and processor time of its continuous queries.

    python tools/bench_retention.py [--modules N] [--days N] [--json]

Sizes: one module lives for some days (`swapline_bench.module_life`: rows by exception, as a node keeps them); its rows
and roll-ups are written out and compacted by the server. Cost: three hours of a module that drives are given to N
modules; then every query of the streams `module` and `cells` is run over them as the server itself runs it, over a
turn's `span_s`, and its processor time is charged to the `every_s` for which it was done.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

from swapline_bench import services
from swapline_bench.module_life import ModuleLife, frame_rows, make_module
from swapline_bench.services import InfluxServer
from swapline_cloud.config import CloudConfig
from swapline_cloud.database import continuous
from swapline_cloud.database.part1 import Influxdb1Part
from swapline_cloud.rollup import FOREVER, LATE_TURN, LEVELS, MINUTE, RAW, Level
from swapline_gateway.reading import FrameRows
from swapline_gateway.sinks.line_protocol import format_frames

HOUR_S = 3600
DAY_MS = 86_400_000
MODULES_A_VAN = 2
FRAMES_A_REQUEST = 500
STREAMS = ("module", "cells")
# A snapshot and a full compaction at once, so that the disk holds what it will hold in the end.
EAGER = {
    "INFLUXDB_DATA_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "1s",
    "INFLUXDB_DATA_COMPACT_FULL_WRITE_COLD_DURATION": "1s",
}
SETTLED_S = 15.0


def post(server: InfluxServer, statement: str) -> None:
    """Run a statement for as long as it takes."""
    answer = services.post(f"{server.url}/query?{urlencode({'q': statement})}", b"", timeout_s=3600)
    assert b"error" not in answer, answer


def set_up(server: InfluxServer, folder: Path) -> None:
    """Make database and policies, but no queries: they would run while we measure."""
    part = Influxdb1Part(CloudConfig.model_validate({"database": {"version": 1, "url": server.url}, "secrets": folder}))
    for change in part.changes():
        if change.kind in ("database", "retention policy"):
            change.do()
    part.close()


def write(server: InfluxServer, frames: Iterator[FrameRows]) -> int:
    """Write frames, and return their number of rows."""
    count = 0
    while batch := list(islice(frames, FRAMES_A_REQUEST)):
        body = format_frames(batch, stored_utc_ms=batch[-1].columns[0][-1] + 1000)
        services.post(f"{server.url}/write?db=swapline&precision=ns", body, timeout_s=60)
        count += sum(frame.row_count for frame in batch)
    return count


def queries(level: Level, stream: str, start_s: int, end_s: int) -> list[str]:
    """Return what a stream's continuous queries of one turn select, over a range."""
    found = []
    for name, text in continuous.statements("swapline", (level._replace(turns=level.turns[:1]),)).items():
        if name.startswith(f"{continuous.OWN}{stream}."):
            select = text[text.index("BEGIN ") + 6 : text.index(" END")]
            found.append(select.replace(" GROUP BY", f" WHERE time >= {start_s}s AND time < {end_s}s GROUP BY"))
    return found


def sizes(folder: Path, days: float) -> dict[str, float]:
    """Return what one module takes on the disk."""
    end_s = int(time.time()) // HOUR_S * HOUR_S
    life = ModuleLife(make_module(1), seed=1, begin_utc_ms=round(end_s * 1000 - days * DAY_MS))
    life.live(days)
    found: dict[str, float] = {}
    os.environ |= EAGER
    with services.influxd(folder) as server:
        set_up(server, folder / "secrets")
        for stream in STREAMS:
            kept = [one for one in life.kept if one.stream.name == stream and one.time_utc_ms < end_s * 1000]
            start_s = kept[0].time_utc_ms // (HOUR_S * 1000) * HOUR_S
            before = compacted(folder)
            write(server, frame_rows(kept, life.module.code))
            after = compacted(folder)
            found[f"{stream}_raw_rows_a_day"] = len(kept) / days
            found[f"{stream}_raw_bytes_a_row"] = (after[RAW] - before[RAW]) / len(kept)
            for level in LEVELS:
                for text in queries(level, stream, start_s, end_s):
                    post(server, text)
            rolled = compacted(folder)
            for level in LEVELS:
                points = len({one.time_utc_ms // 1000 // level.seconds for one in kept})
                found[f"{stream}_{level.policy}_points_a_day"] = points / days
                size = rolled[level.policy] - after[level.policy]
                found[f"{stream}_{level.policy}_bytes_a_point"] = size / points
    for name in EAGER:
        del os.environ[name]
    return found


def compacted(folder: Path) -> dict[str, int]:
    """Return the bytes of each policy once the server has nothing left to write."""
    last, since = sizes_of(folder), time.monotonic()
    while time.monotonic() - since < SETTLED_S:
        time.sleep(0.5)
        if (now := sizes_of(folder)) != last:
            last, since = now, time.monotonic()
    return last


def sizes_of(folder: Path) -> dict[str, int]:
    """Return the bytes of each policy's files of values."""
    found = {}
    for policy in (RAW, MINUTE, FOREVER):
        files = (folder / "data" / "swapline" / policy).rglob("*.tsm")
        found[policy] = sum(file.stat().st_size for file in files)
    return found


def cpu_s(server: InfluxServer) -> float:
    """Return the processor time that the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb_max(server: InfluxServer) -> float:
    """Return the most memory that the server has had."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def cost(module_count: int) -> dict[str, float]:
    """Return what the queries of so many modules cost, all of which drive."""
    span_s = LATE_TURN.span_s
    end_s = int(time.time()) // HOUR_S * HOUR_S
    life = ModuleLife(make_module(1), seed=1, begin_utc_ms=(end_s - span_s) * 1000)
    life.drive(0.0, span_s)
    with tempfile.TemporaryDirectory() as folder, services.influxd(Path(folder)) as server:
        set_up(server, Path(folder) / "secrets")
        begun_s = cpu_s(server)
        codes = (f"0A3PB{number:019d}" for number in range(module_count))
        rows = sum(write(server, frame_rows(life.kept, code, journal=n + 1)) for n, code in enumerate(codes))
        found = {
            "modules": module_count,
            "rows_a_s": rows / span_s,
            "writing_us_a_row": 1e6 * (cpu_s(server) - begun_s) / rows,
            "memory_mb_after_writing": memory_mb_max(server),
        }
        for stream in STREAMS:
            for level in LEVELS:
                for turn in level.turns:
                    begun_s = cpu_s(server)
                    for text in queries(level, stream, end_s - turn.span_s, end_s):
                        post(server, text)
                    name = f"{stream}_{level.policy}_each_{turn.every_s}_s_share_of_a_core"
                    found[name] = (cpu_s(server) - begun_s) / turn.every_s
        found["memory_mb_after_queries"] = memory_mb_max(server)
    return found


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--modules", type=int, default=500 * MODULES_A_VAN, help="modules that drive (default: 1000)")
    parser.add_argument("--days", type=float, default=28.0, help="days that one module lives (default: 28)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = sizes(Path(folder), options.days)
    found |= cost(options.modules)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:52} {value:12.3f}", flush=True)


if __name__ == "__main__":
    main()
