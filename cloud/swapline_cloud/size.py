"""How large everything has to be for so many vans: from what was measured, each figure with where it comes from.

Measured at the default settings with the real firmware, rows kept by exception: `swapline demo --speed 1 --vans 4
--stations 1 --duration 600 --past-days 0 --no-story` (moving 97 % of the time, two modules a van on average), standing
vans from `tools/bench_wear.py`. Every other figure names its command.
"""

import math
from dataclasses import dataclass

from .rollup import MINUTE_DAYS, RAW_DAYS

SECONDS_A_DAY = 86_400
DAYS_A_MONTH = 30


@dataclass(frozen=True, slots=True)
class Talk:
    """What one node says in a second."""

    rows: float
    values: float
    frames: float
    messages: float
    sealed_bytes: float

    @property
    def wire_bytes(self) -> float:
        """Return what goes over the link, in both directions: see `WIRE_BYTES_A_MESSAGE`."""
        return self.sealed_bytes + self.messages * WIRE_BYTES_A_MESSAGE


# A message's own bytes on a link, both ways: IP and TCP 40, TLS 1.3 22 and MQTT's head and topic 40 of the message; the
# same with 4 bytes of PUBACK; with 63 bytes of the gateway's acknowledgement; and two empty TCP segments of 40.
WIRE_BYTES_A_MESSAGE = 102 + 66 + 125 + 80
DRIVING = Talk(rows=2.8, values=62.0, frames=1.7, messages=0.41, sealed_bytes=291.0)
STANDING = Talk(rows=0.2, values=4.5, frames=0.15, messages=0.2, sealed_bytes=23.0)
STATION = Talk(rows=2.7, values=49.0, frames=2.1, messages=0.41, sealed_bytes=292.0)  # of four slots
VANS_A_STATION = 25

# One process on one of two cores, the others' work beside it: `swapline bench gateway --sink influxdb1 --rows 3`
GATEWAY_ROWS_PER_S = 10_000
# mosquitto 2.0.11 without TLS and persistence took 0.37 s of processor in 20 s of `swapline bench alarm`, for 850
# messages of 2 KB a second, in and out.
BROKER_MESSAGES_PER_S = 45_000
# InfluxDB 1.6.7 on two cores, and VictoriaMetrics there.
INFLUXDB_VALUES_PER_S, VICTORIA_METRICS_VALUES_PER_S = 1_100_000, 10_700_000
USE = 0.5  # of what was measured: the other half is for a back-fill, a restart, a busy hour

# Bytes on InfluxDB 1.6.7's disk after compaction: `python tools/bench_retention.py`, a module's four weeks. A row of
# any stream is taken for one of `module`, whose 27 signals are the most of all. A day of minutes or hours is that
# of one thing that tells of itself (a van of two modules has seven: vehicle, position, node, module and cells twice).
RAW_BYTES_A_ROW = 81
MINUTE_BYTES_A_PLACE_DAY = 1428 * 258
HOUR_BYTES_A_PLACE_DAY = 24 * 870
PLACES_A_VAN, PLACES_A_STATION = 7, 14
# The same tool: continuous queries of the streams `module` and `cells` of 1,000 modules take a quarter of a core.
ROLLUP_CORES_A_MODULE = 0.25 / 1000
SWAPS_A_MODULE_DAY = 2  # each makes a series anew: of the module in another bay


@dataclass(frozen=True, slots=True)
class Size:
    """What a fleet needs. Rates are of the hour when every van drives; bytes are what lies there in the end."""

    vans: int
    stations: int
    rows_per_s: float
    values_per_s: float
    frames_per_s: float
    messages_per_s: float
    gateways: int
    broker_cores: int
    influxdb_cores: int
    rollup_cores: int
    victoria_metrics_cores: int
    traffic_gb_a_van_month: float
    raw_gb: float
    minute_gb: float
    hour_gb_a_year: float
    series_a_month: int

    @property
    def stored_gb_a_van(self) -> float:
        """Return what of a van lies on the disks when the policies are full, its first year of hours included."""
        return (self.raw_gb + self.minute_gb + self.hour_gb_a_year) / self.vans


def size_of(vans: int, *, driving_h: float = 20.0, vans_a_station: int = VANS_A_STATION) -> Size:
    """Return what `vans` vans that drive `driving_h` hours a day, and their stations, need. Raises `ValueError`."""
    if vans < 1 or vans_a_station < 1 or not 0 <= driving_h <= 24:
        raise ValueError("a fleet has at least one van, one station for some of them, and days of 24 hours")
    stations = math.ceil(vans / vans_a_station)
    share = driving_h / 24

    def peak(name: str) -> float:
        return vans * float(getattr(DRIVING, name)) + stations * float(getattr(STATION, name))

    def of_van(name: str) -> float:
        return share * float(getattr(DRIVING, name)) + (1 - share) * float(getattr(STANDING, name))

    rows_a_day = SECONDS_A_DAY * (vans * of_van("rows") + stations * STATION.rows)
    places = vans * PLACES_A_VAN + stations * PLACES_A_STATION
    modules = 2 * vans + 4 * stations
    return Size(
        vans=vans,
        stations=stations,
        rows_per_s=peak("rows"),
        values_per_s=peak("values"),
        frames_per_s=peak("frames"),
        messages_per_s=peak("messages"),
        gateways=max(2, math.ceil(peak("rows") / (USE * GATEWAY_ROWS_PER_S))),
        broker_cores=math.ceil(peak("messages") / (USE * BROKER_MESSAGES_PER_S)),
        influxdb_cores=math.ceil(peak("values") / (USE * INFLUXDB_VALUES_PER_S / 2)),
        rollup_cores=math.ceil(modules * ROLLUP_CORES_A_MODULE),
        victoria_metrics_cores=math.ceil(peak("values") / (USE * VICTORIA_METRICS_VALUES_PER_S / 2)),
        traffic_gb_a_van_month=of_van("wire_bytes") * SECONDS_A_DAY * DAYS_A_MONTH / 1e9,
        raw_gb=rows_a_day * RAW_DAYS * RAW_BYTES_A_ROW / 1e9,
        minute_gb=places * MINUTE_DAYS * MINUTE_BYTES_A_PLACE_DAY / 1e9,
        hour_gb_a_year=places * 365 * HOUR_BYTES_A_PLACE_DAY / 1e9,
        series_a_month=places + round(modules * 2 * SWAPS_A_MODULE_DAY * DAYS_A_MONTH),
    )
