"""Measure what the alert rules' statements cost a real InfluxDB 1.x: `python tools/bench_alert.py --vans 500`.

Of each van there are a day of rows of the stream `node`, five hours of frames as roll-ups, weeks of what was told of
its alarms, a module that was lost, a day of losses, and the outlook; of two gateways a day of what they say of
themselves.
"""

import argparse
import time
import urllib.parse
from collections.abc import Iterator

from swapline_bench import services
from swapline_cloud.alert.rules import RULES
from swapline_cloud.rollup import DATABASE, FOREVER, RAW
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient
from swapline_wire.catalogue import FRAMES_DROPPED, MODULE_LOST

NODE_STEP_S, FRAMES_A_SECOND, ALARMS = 30, 0.5, 20
BODY_LINES = 50_000
DAY_S, SPAN_S = 86_400, 14_400
GATEWAYS, STATIONS = 2, 20


def node_lines(vans: int, now: int) -> Iterator[str]:
    for van in range(vans):
        for second in range(now - DAY_S, now, NODE_STEP_S):
            yield f"node,fleet=f,node=van-{van:05} uptime_s={second - now + DAY_S}i {second}"


def hour_lines(vans: int, now: int) -> Iterator[str]:
    """Yield the roll-ups of frames by hours."""
    frames = int(3600 * FRAMES_A_SECOND)
    for van in range(vans):
        for age_h in range(1, 6):
            for stream in ("node", "vehicle", "module", "position"):
                series = f"frames,fleet=f,node=van-{van:05},journal=7,stream={stream}"
                fields = f"frames={frames // 4}i,seq_min={frames * (6 - age_h)}i,seq_max={frames * (7 - age_h) - 1}i"
                yield f"{series} {fields} {now - age_h * 3600}"


def alarm_lines(vans: int, now: int) -> Iterator[str]:
    for van in range(vans):
        for number in range(ALARMS):
            owner = f"fleet=f,node=van-{van:05},bay=1,module=M{van:05},code={number + 1}"
            yield f"standing,{owner} level={2 * (number == 0)}i {now - number * DAY_S}"
        yield f"standing,fleet=f,node=van-{van:05},bay=1,code={MODULE_LOST} level=2i {now - DAY_S}"


def event_lines(vans: int, now: int) -> Iterator[str]:
    """Yield losses that were declared, an hour each."""
    for van in range(vans):
        for age_h in range(24):
            yield f"event,fleet=f,node=van-{van:05},code={FRAMES_DROPPED} reason=1i {now - age_h * 3600}"


def outlook_lines(vans: int, now: int) -> Iterator[str]:
    for van in range(vans):
        for second in range(now - SPAN_S, now, 60):
            yield f"outlook,fleet=f,node=van-{van:05} soc_min_pct=9,station_distance_km=7 {second}"
            if van < STATIONS:
                yield f"outlook_station,fleet=f,node=station-{van:03} ready=0i {second}"


def gateway_lines(_vans: int, now: int) -> Iterator[str]:
    words = "spool_frames=7i,spool_oldest_s=1,sink_working=1i,broker_connected=1i"
    for number in range(GATEWAYS):
        for second in range(now - DAY_S, now, 15):
            yield f"gateway,gateway=g{number} uptime_s={second - now + DAY_S},{words} {second}"
            if second % 60 < 15:
                yield f"disk,gateway=g{number},path=/data free_share=0.5 {second}"
        yield f"certificate,gateway=g{number},name=broker days_left=9 {now - 60}"


def write(url: str, policy: str, lines: Iterator[str]) -> None:
    target = f"{url}/write?" + urllib.parse.urlencode({"db": DATABASE, "rp": policy, "precision": "s"})
    body: list[str] = []
    for line in lines:
        body.append(line)
        if len(body) == BODY_LINES:
            services.post(target, "\n".join(body).encode(), 60)
            body.clear()
    if body:
        services.post(target, "\n".join(body).encode(), 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vans", type=int, default=500)
    vans = parser.parse_args().vans
    with services.influxd() as server:
        assert isinstance(server, services.InfluxServer)
        server.execute(f'CREATE DATABASE "{DATABASE}" WITH DURATION 30d REPLICATION 1 NAME "{RAW}"')
        server.execute(f'CREATE RETENTION POLICY "{FOREVER}" ON "{DATABASE}" DURATION INF REPLICATION 1')
        now = int(time.time())
        for policy, lines in (
            (RAW, node_lines),
            (FOREVER, hour_lines),
            (FOREVER, alarm_lines),
            (FOREVER, event_lines),
            (RAW, outlook_lines),
            (RAW, gateway_lines),
        ):
            write(server.url, policy, lines(vans, now))
        client = InfluxqlClient(Influxdb1Config(type="influxdb1", url=server.url, database=DATABASE, timeout_s=60))
        for rule in RULES:
            begun = time.perf_counter()
            counts = [len(client.query(condition.statement)) for condition in rule.conditions]
            print(f"{rule.name:24} {time.perf_counter() - begun:6.2f} s  series {counts}")


if __name__ == "__main__":
    main()
