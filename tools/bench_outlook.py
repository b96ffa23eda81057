"""Measure what the outlook costs: a round of it over a real InfluxDB 1.x that holds hours of a generated fleet.

    python tools/bench_outlook.py --vans 500 --hours 3 --row-s 5

Every van drives without a rest, with two modules; a station for twenty vans, with six slots. Each question is told with
the time that its answer took and the database's processor time; then rounds as a gateway does them.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from swapline_bench import services
from swapline_gateway.config import Influxdb1Config, OutlookConfig
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.outlook.outlook import Outlook
from swapline_gateway.outlook.question import HOUR_MS, SLOT_MS, Questions
from swapline_gateway.vitals.point import make_line_sink

VANS_PER_STATION = 20
SLOTS = 6
MODULES_PER_VAN = 2
BODY_LINES = 10_000
SPEED_KMH = 30.0
KWH_PER_KM = 0.25


def lines(vans: int, begin_ms: int, end_ms: int, row_ms: int) -> Iterator[str]:
    """Yield the rows of the fleet, node by node and an hour at a time."""
    for hour_ms in range(begin_ms, end_ms, HOUR_MS):
        times = range(hour_ms, min(end_ms, hour_ms + HOUR_MS), row_ms)
        for van in range(vans):
            yield from van_lines(van, begin_ms, times)
        for station in range(max(1, vans // VANS_PER_STATION)):
            yield from station_lines(station, times)
    for station in range(max(1, vans // VANS_PER_STATION)):
        yield (
            f"swap,fleet=bench,van=van-0000,station=station-{station:03d},module=m0 is_void=false,"
            f"latitude_deg={31 + station / 100},longitude_deg=121.4 {(end_ms - row_ms) * 1_000_000}"
        )


def van_lines(van: int, begin_ms: int, times: range) -> Iterator[str]:
    """Yield a van's rows: it loses a hundredth of its charge each half hour."""
    head = f"fleet=bench,node=van-{van:04d}"
    for ms in times:
        hours, ns = (ms - begin_ms) / HOUR_MS, ms * 1_000_000
        km = 1000 + van + hours * SPEED_KMH
        yield f"vehicle,{head} speed_kmh=30.0,odometer_km={km:.3f},traction_voltage_v=380.1,time_quality=4i {ns}"
        place = f"latitude_deg={31 + van / 1000:.7f},longitude_deg={121.4 + hours / 100:.7f}"
        yield f"position,{head} {place},time_quality=4i {ns}"
        for bay in range(1, MODULES_PER_VAN + 1):
            out = 500 + hours * SPEED_KMH * KWH_PER_KM / MODULES_PER_VAN
            yield (
                f"module,{head},bay={bay},module=V{van:04d}B{bay} soc_pct={max(5.0, 90 - hours * 2 - van / 10):.1f},"
                f"voltage_v=512.3,current_a=-12.5,capacity_full_ah=51.8,energy_out_kwh={out:.3f},energy_in_kwh=400.1,"
                f"temperature_max_c=25.1,time_quality=4i {ns}"
            )


def station_lines(station: int, times: range) -> Iterator[str]:
    """Yield a station's rows."""
    head = f"fleet=bench,node=station-{station:03d}"
    for ms in times:
        ns = ms * 1_000_000
        yield f"meter,{head} power_kw=33.1,time_quality=3i {ns}"
        for bay in range(1, SLOTS + 1):
            yield f"slot,{head},bay={bay} occupied=1i,charger_state=2i,time_quality=3i {ns}"
            yield (
                f"module,{head},bay={bay},module=S{station:03d}B{bay} soc_pct=95.5,voltage_v=530.2,"
                f"capacity_full_ah=51.8,energy_out_kwh=1.0,energy_in_kwh=2.0,time_quality=3i {ns}"
            )


def fill(config: Influxdb1Config, rows: Iterator[str]) -> int:
    """Write all rows; return how many."""
    sink = make_line_sink(config)
    count, part = 0, list[str]()
    for row in rows:
        part.append(row)
        if len(part) == BODY_LINES:
            sink.send("\n".join(part).encode())
            count += len(part)
            part = []
    sink.send("\n".join(part).encode())
    sink.close()
    return count + len(part)


def cpu_s(pid: int) -> float:
    """Return a process's processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(name: str, server: services.Server, call: Callable[[], Any]) -> Any:
    """Call, and say how long it took, the database and us."""
    began_s, database_s, own_s = time.monotonic(), cpu_s(server.pid), time.process_time()
    answer = call()
    took = (time.monotonic() - began_s, cpu_s(server.pid) - database_s, time.process_time() - own_s)
    click.echo(f"{name:30} {took[0]:7.3f} s, database {took[1]:6.2f} s, ours {took[2]:6.3f} s of processor")
    return answer


def do_round(outlook: Outlook, at_ms: int) -> None:
    """Do a round as a gateway does it."""
    asyncio.run(outlook.do_round(at_ms))


@click.command()
@click.option("--vans", default=500, show_default=True)
@click.option("--hours", default=3, show_default=True)
@click.option("--row-s", default=5.0, show_default=True, help="Between two rows of a stream.")
@click.option("--rounds", default=3, show_default=True)
def main(vans: int, hours: int, row_s: float, rounds: int) -> None:
    """Measure the outlook's rounds."""
    with services.influxd() as server:
        server.execute('CREATE DATABASE "bench"')
        config = Influxdb1Config(type="influxdb1", url=server.url, database="bench", timeout_s=120)
        now_ms = time.time_ns() // 1_000_000
        count = measured(
            "filling", server, lambda: fill(config, lines(vans, now_ms - hours * HOUR_MS, now_ms, round(row_s * 1000)))
        )
        click.echo(f"{count} rows of {vans} vans")
        questions = Questions(InfluxqlClient(config))
        for _ in range(2):
            found = measured("newest of everything (7)", server, lambda: questions.readings(now_ms))
        assert len(found.vans) == vans
        measured("places of stations (1)", server, lambda: questions.stations(now_ms))
        slot_ms = now_ms - now_ms % SLOT_MS - SLOT_MS
        use = measured("use of a slot (2)", server, lambda: questions.use(slot_ms, slot_ms + SLOT_MS))
        hour_ms = slot_ms - HOUR_MS
        measured("use of an hour (2)", server, lambda: questions.use(hour_ms, slot_ms))
        assert len(use) == vans
        outlook = Outlook(OutlookConfig(), questions=questions, sink=make_line_sink(config))
        for number in range(rounds):
            measured(f"round {number}", server, partial(do_round, outlook, now_ms + number * 60_000))
        assert not outlook.problem, outlook.problem
        some = outlook.vans["bench", "van-0007"]
        click.echo(f"van-0007: {some}")
        outlook.close()


if __name__ == "__main__":
    main()
