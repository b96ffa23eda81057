"""What roll-ups of late rows cost: weeks of a small fleet come at once, and `swapline cloud rollup` makes them again.

    python tools/bench_rollup.py [--vans 2] [--slots 6] [--days 14] [--seed 5]

It starts a real InfluxDB 1.x, stores the bench's past of that many days through the gateway's sink, and times the rest.
"""

import argparse
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

from swapline_bench import services
from swapline_bench.past import Past, PastPlan
from swapline_cloud.config import DatabaseConfig
from swapline_cloud.late import Done, LateRows
from swapline_cloud.rollup import DATABASE, FOREVER, MINUTE, RAW
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import SpooledFrame

BATCH_FRAMES = 2000  # as the gateway's pump takes


def main() -> None:
    """Fill, roll up, say what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("vans", 2), ("slots", 6), ("days", 14), ("seed", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    with services.influxd() as server:
        for policy, duration, is_default in ((RAW, "30d", " DEFAULT"), (MINUTE, "731d", ""), (FOREVER, "INF", "")):
            server.execute(f'CREATE DATABASE "{DATABASE}"')
            server.execute(
                f'CREATE RETENTION POLICY "{policy}" ON "{DATABASE}" DURATION {duration} REPLICATION 1{is_default}'
            )
        fill(server.url, PastPlan("bench", wanted.vans, 1, wanted.slots, wanted.seed, wanted.days, now_utc_ms()))
        roll(server)


def now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


def fill(url: str, plan: PastPlan) -> None:
    """Store the past as late back-fill."""
    past = Past(plan)
    lives = [Past(plan).live(number) for number in range(len(past.places))]
    anchor_ms = plan.end_utc_ms - round(past.schedule.end_s * 1000)
    rows = 0
    begun_s = time.monotonic()
    with closing(Influxdb1Sink(Influxdb1Config(type="influxdb1", url=url, forever=FOREVER, timeout_s=60))) as sink:
        sealed = past.frames(lives)
        while part := list(islice(sealed, BATCH_FRAMES)):
            frames = [
                read_rows(SpooledFrame(0, plan.fleet, one.node, anchor_ms, 3, 0, one.data))
                for one in part
                if anchor_ms + one.time_ms > now_utc_ms() - 30 * 86_400_000
            ]
            rows += sink.write(frames).row_count if frames else 0
    print(f"stored: {len(lives)} modules, {plan.days} days, {rows} rows in {time.monotonic() - begun_s:.1f} s")


def roll(server: services.InfluxServer) -> None:
    """Make the roll-ups, and look how far this process and the server worked."""
    with closing(LateRows(DatabaseConfig(version=1, url=server.url))) as late:
        begun_s, own_s, server_s = time.monotonic(), time.process_time(), cpu_s(server.pid)
        work = late.find()
        print(f"found: {work.hour_count} hours of {work.node_count} nodes in {time.monotonic() - begun_s:.2f} s")
        done = Done()
        for piece in work.pieces:
            late.roll(piece, done)
        late.note(work)
        print(
            f"made again: {done.hours} hours, {done.points} points, {done.values} values in"
            f" {time.monotonic() - begun_s:.1f} s (processor: {time.process_time() - own_s:.1f} s here,"
            f" {cpu_s(server.pid) - server_s:.1f} s in the database; its memory at most {peak_mb(server.pid)} MB)"
        )
        begun_s = time.monotonic()
        again = Done()
        for piece in late.find().pieces:
            late.roll(piece, again)
        print(f"again: {again.points} points in {time.monotonic() - begun_s:.1f} s")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def peak_mb(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
