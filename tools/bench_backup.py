"""What backup, restore and export cost: module rows of a small fleet, one a second and van, every signal kept.

    python tools/bench_backup.py [--vans 4] [--hours 24]

It starts a real InfluxDB 1.x, writes the rows through the gateway's sink, then runs the commands themselves, and says
rows a second, bytes a row, and the highest memory of each.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row
from swapline_cloud.rollup import DATABASE, FOREVER, MINUTE, RAW
from swapline_gateway.config import DuckdbConfig, Influxdb1Config
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.base import Sink
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import SpooledFrame
from swapline_wire.catalogue import MODULE, STATE, TOTAL, Signal

FRAME_ROWS, BATCH_FRAMES = 5, 2000  # as a node seals them, and as the gateway's pump takes them
HOUR_MS = 3_600_000
SWAPLINE = Path(sys.executable).with_name("swapline")


def main() -> None:
    """Fill, run the commands, say what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vans", type=int, default=4)
    parser.add_argument("--hours", type=int, default=24)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, services.influxd() as server:
        folder = Path(name)
        for policy, duration, is_default in ((RAW, "30d", " DEFAULT"), (MINUTE, "731d", ""), (FOREVER, "INF", "")):
            server.execute(f'CREATE DATABASE "{DATABASE}"')
            server.execute(
                f'CREATE RETENTION POLICY "{policy}" ON "{DATABASE}" DURATION {duration} REPLICATION 1{is_default}'
            )
        sink = Influxdb1Config(type="influxdb1", url=server.url, forever=FOREVER, timeout_s=60)
        start_ms = (time.time_ns() // 1_000_000 // (24 * HOUR_MS) - 2) * 24 * HOUR_MS
        rows = wanted.vans * wanted.hours * 3600
        for what, target in (("InfluxDB", Influxdb1Sink(sink)), ("DuckDB", DuckdbSink(file_of(folder)))):
            begun_s = time.monotonic()
            fill(target, wanted.vans, wanted.hours, start_ms)
            say(f"filling {what}", rows, time.monotonic() - begun_s)
        run_all(server.url, folder, rows, start_ms)


def file_of(folder: Path) -> DuckdbConfig:
    return DuckdbConfig(path=folder / "swapline.duckdb")


def fill(sink: Sink, vans: int, hours: int, start_ms: int) -> None:
    with closing(sink):
        sink.open()
        waiting: list[FrameRows] = []
        for van in range(vans):
            for frame in frames(f"van-{van:03}", hours, start_ms):
                waiting.append(frame)
                if len(waiting) == BATCH_FRAMES:
                    sink.write(waiting)
                    waiting = []
        if waiting:
            sink.write(waiting)


def frames(node: str, hours: int, start_ms: int) -> list[FrameRows]:
    """Return a module's rows: figures that wander, as a battery's do."""
    draw = random.Random(node)  # noqa: S311 (a bench's figures)
    source = FrameSource(node=node, anchor_utc_ms=start_ms)
    values = module_row(5300)
    found = []
    for first in range(0, hours * 3600, FRAME_ROWS):
        rows = []
        for second in range(first, first + FRAME_ROWS):
            values = [step(signal, value, draw) for signal, value in zip(MODULE.signals, values, strict=True)]
            rows.append((second * 1000, values))
        sealed = source.frame(rows)
        found.append(read_rows(SpooledFrame(0, "bench", node, start_ms, 3, 0, sealed)))
    return found


def step(signal: Signal, value: int, draw: random.Random) -> int:
    if signal.kind == STATE:
        return value
    by = draw.choice((0, 0, 1)) if signal.kind == TOTAL else draw.choice((0, 0, 0, 1, -1))
    stepped: int = max(signal.minimum, min(signal.maximum, value + by))
    return stepped


def run_all(url: str, folder: Path, rows: int, start_ms: int) -> None:
    config = folder / "cloud.toml"
    config.write_text(f'[database]\nversion = 1\nurl = "{url}"\n')
    backups = folder / "backups"
    run("backup", rows, "cloud", "backup", "--config", config, "--out", backups)
    (backup,) = [path for path in backups.iterdir() if path.is_dir()]
    size = sum(path.stat().st_size for path in (backup / "database").rglob("*") if path.is_file())
    print(f"  {size / 1e6:.1f} MB, {size / rows:.1f} B a module row (with the frames' own points)")
    run("restore", rows, "cloud", "restore", "--config", config, "--from", backup, "--into", "drill")
    days = [datetime.fromtimestamp(start_ms / 1000, UTC) + timedelta(days=number) for number in (0, 2)]
    which = ("--from", f"{days[0]:%Y-%m-%d}", "--to", f"{days[1]:%Y-%m-%d}", "--stream", "module")
    for name, whence in (("InfluxDB", ("--url", url)), ("DuckDB", ("--file", file_of(folder).path))):
        out = folder / name
        run(f"export from {name}", rows, "export", *whence, *which, "--out", out)
        size = sum(path.stat().st_size for path in out.rglob("*.parquet"))
        print(f"  {size / 1e6:.1f} MB, {size / rows:.1f} B a row")


def run(what: str, rows: int, *arguments: object) -> None:
    begun_s = time.monotonic()
    memory_kb = 0
    process = subprocess.Popen([str(SWAPLINE), *map(str, arguments)], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        memory_kb = max(memory_kb, highest_kb(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0, what
    say(what, rows, time.monotonic() - begun_s, memory_kb)


def highest_kb(pid: int) -> int:
    """Return the highest memory of a process so far: what `wait4` says begins with its parent's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def say(what: str, rows: int, took_s: float, memory_kb: int | None = None) -> None:
    memory = "" if memory_kb is None else f", at most {memory_kb / 1000:.0f} MB"
    print(f"{what}: {rows:,} module rows in {took_s:.1f} s, {rows / took_s:,.0f} rows/s{memory}")


if __name__ == "__main__":
    main()
