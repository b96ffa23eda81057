"""What no frame says: the gateway's figures of its own work, and outlooks of vans and stations."""

import math
from collections.abc import Iterator

from swapline_bench.randomness import make_random
from swapline_gateway.outlook.table import OUTLOOK, OUTLOOK_STATION
from swapline_gateway.vitals.point import Point, make_point
from swapline_gateway.vitals.table import BROKER, CERTIFICATE, DISK, GATEWAY
from tests.cloud.fleet_life import FleetLife

NAME = "gateway-1"
VITALS_MS, OUTLOOK_MS, DISK_MS, CERTIFICATE_MS = 15_000, 60_000, 60_000, 3_600_000
OUTAGE_MS, OUTAGE_HALF_MS = 7_200_000, 1_080_000
GB = 1_000_000_000
FRAMES_PER_S = 0.6
KWH_PER_KM = 0.2
LOW_PCT, LOW_SHARE = 20.0, 1.3


def gateway_points(begin_utc_ms: int, end_utc_ms: int) -> Iterator[Point]:
    """Yield what a gateway, its disks and its broker told in that time. The database was away before its end."""
    random = make_random(1, "vitals")
    for time_ms in range(begin_utc_ms, end_utc_ms, VITALS_MS):
        age_s = (time_ms - begin_utc_ms) / 1000
        frames = int(age_s * FRAMES_PER_S)
        outage = (time_ms - end_utc_ms + OUTAGE_MS) / OUTAGE_HALF_MS  # -1 to 1 while it lasts
        waiting = max(0, round(4000 * (1 - abs(outage))))
        yield make_point(
            GATEWAY,
            time_ms,
            NAME,
            frames_received=frames + 40,
            frames_taken=frames,
            frames_stored=frames - waiting // 10,
            rows_stored=4 * frames,
            duplicates=frames // 200,
            refused=0,
            quarantined=2,
            lost=0,
            spool_frames=waiting,
            spool_bytes=300 * waiting,
            spool_limit_bytes=4 * GB,
            spool_oldest_s=waiting / 5.0,
            sink_write_ms_mean=random.uniform(8, 30),
            sink_write_ms_max=random.uniform(30, 120),
            sink_failures=14 * (outage > -1),
            link_failures=1,
            broker_connected=1,
            sink_working=int(not waiting),
            books_due=random.randint(0, 12),
            books_behind_s=random.uniform(0, 20),
            memory_bytes=180_000_000 + random.randint(0, 8_000_000),
            cpu_s=age_s * 0.11,
            uptime_s=age_s,
            ended=0,
        )
        yield make_point(
            BROKER,
            time_ms,
            NAME,
            "mosquitto",
            clients_connected=5,
            messages_received=2 * frames,
            messages_sent=3 * frames,
            messages_dropped=0,
            bytes_received=700 * frames,
            bytes_sent=900 * frames,
            messages_stored=40,
            heap_bytes=900_000 + random.randint(0, 90_000),
        )
    for time_ms in range(begin_utc_ms, end_utc_ms, DISK_MS):
        free = 310 * GB - (time_ms - begin_utc_ms) * 40
        yield make_point(
            DISK, time_ms, NAME, "/var/lib/swapline", free_bytes=free, total_bytes=480 * GB, free_share=free / 480 / GB
        )
    for time_ms in range(begin_utc_ms, end_utc_ms, CERTIFICATE_MS):
        for name, days in (("broker", 80.0), ("client", 310.0), ("ca", 3400.0)):
            yield make_point(CERTIFICATE, time_ms, NAME, name, days_left=days + (end_utc_ms - time_ms) / 86_400_000)


def outlook_points(fleet: str, life: FleetLife) -> Iterator[Point]:
    """Yield the outlooks of vans and stations, as they were each minute."""
    for glance in life.glances:
        station = glance.stations[0]
        for van in glance.vans:
            distance_km = 1.3 * math.dist(van.place, station.place) * 111.0
            range_km = van.energy_kwh / KWH_PER_KM
            yield make_point(
                OUTLOOK,
                glance.time_utc_ms,
                fleet,
                van.node,
                soc_pct=van.soc_pct,
                soc_min_pct=van.soc_min_pct,
                energy_left_kwh=van.energy_kwh,
                consumption_kwh_per_km=KWH_PER_KM,
                range_km=range_km,
                modules=van.modules,
                latitude_deg=van.place[0],
                longitude_deg=van.place[1],
                station=station.node,
                station_distance_km=distance_km,
                is_low=int(van.soc_pct < LOW_PCT or range_km < LOW_SHARE * distance_km),
                age_s=2.0,
            )
        for one in glance.stations:
            yield make_point(
                OUTLOOK_STATION,
                glance.time_utc_ms,
                fleet,
                one.node,
                slots=one.slots,
                occupied=one.occupied,
                ready=one.ready,
                charging=one.charging,
                power_kw=one.power_kw,
                latitude_deg=one.place[0],
                longitude_deg=one.place[1],
                swaps_hour=one.swaps_hour,
            )
