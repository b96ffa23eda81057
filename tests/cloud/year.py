"""A year of one module, its van and its station, as it is kept: roll-ups and books, for boards that look back far."""

import json
import math
from collections.abc import Iterator, Mapping

from swapline_cloud.rollup import COUNT, LAST, MAXIMUM, MEAN, MINIMUM, Column, columns, find
from swapline_gateway.battery.table import FOREVER_UTC_MS, MODULE_DAY, MODULE_HOUR, PASSPORT, STAY, SWAP, Row
from swapline_wire.catalogue import CELLS, METER, MODULE, POSITION, SLOT, STATE, TOTAL, VEHICLE, Signal, Stream
from swapline_wire.catalogue import NODE as NODE_STREAM

CODE = "0SLPB045180016G380019999"
FLEET, NODE, STATION, BAY = "demo", "van-001", "station-001", "1"
DAYS = 366
HALF_DAY = 12
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
# What a signal is about, and how far it goes with the hours of a day and the days of a year; others are 1.
_COURSES = {
    "voltage_v": (52.5, 1.2),
    "current_a": (-20.0, 60.0),
    "soc_pct": (62.0, 30.0),
    "soh_pct": (95.0, 0.4),
    "cell_voltage_min_v": (3.27, 0.07),
    "cell_voltage_max_v": (3.30, 0.07),
    "cell_voltage_mean_v": (3.28, 0.07),
    "temperature_min_c": (21.0, 9.0),
    "temperature_max_c": (25.0, 9.0),
    "insulation_kohm": (4000.0, 300.0),
    "latitude_deg": (31.23, 0.02),
    "longitude_deg": (121.47, 0.02),
}
_WIDTH = {MEAN: 0.0, MINIMUM: -0.1, MAXIMUM: 0.1, LAST: 0.05}


def roll_ups(end_utc_ms: int) -> Iterator[str]:
    """Yield a line for each hour of the module, fewer of its cells, and one each half day of its van and station."""
    owner = {"fleet": FLEET, "node": NODE, "bay": BAY, "module": CODE}
    van, station = {"fleet": FLEET, "node": NODE}, {"fleet": FLEET, "node": STATION}
    yield from _lines(MODULE, owner, 1, end_utc_ms)
    yield from _lines(CELLS, owner | {"segment": "0"}, 6, end_utc_ms)
    for stream, tags in ((VEHICLE, van), (POSITION, van), (NODE_STREAM, van), (NODE_STREAM, station)):
        yield from _lines(stream, tags, HALF_DAY, end_utc_ms)
    yield from _lines(METER, station, HALF_DAY, end_utc_ms)
    yield from _lines(SLOT, station | {"bay": BAY}, HALF_DAY, end_utc_ms)


def _lines(stream: Stream, tags: Mapping[str, str], step: int, end_utc_ms: int) -> Iterator[str]:
    """Yield a line each `step` hours, up to a day ago: what came later is of the fleet that lives."""
    first = end_utc_ms // HOUR_MS - DAYS * 24
    words = "".join(f",{tag}={value}" for tag, value in tags.items())
    kept = [(column, find(stream.name, column.field)) for column in columns(stream)]
    for hour in range(0, (DAYS - 1) * 24, step):
        fields = ",".join(_field(column, signal, hour) for column, signal in kept)
        yield f"{stream.name}{words} {fields} {(first + hour) * HOUR_MS * 1_000_000}"


def _field(column: Column, signal: Signal, hour: int) -> str:
    if column.aggregate == COUNT:
        return f"{column.name}=360i"
    if signal.kind == STATE:
        return f"{column.name}=3i"
    if signal.kind == TOTAL:
        value = 900.0 + 0.4 * hour
    else:
        usual = (3.28, 0.05) if signal.name.startswith("cell") else (24.0, 6.0)
        middle, swing = _COURSES.get(signal.name, usual)
        value = middle + swing * (math.sin(hour * 0.61) * 0.8 + math.sin(hour / 1400) * 0.2 + _WIDTH[column.aggregate])
    is_whole = signal.decimals == 0 and column.aggregate != MEAN
    return f"{column.name}={round(value)}i" if is_whole else f"{column.name}={value:.3f}"


def books(end_utc_ms: int) -> Iterator[Row]:
    """Yield the module's hours, days, stays and passport."""
    first_ms = end_utc_ms // DAY_MS * DAY_MS - (DAYS - 1) * DAY_MS
    tags = {"module": CODE}
    for table, step_ms in ((MODULE_HOUR, HOUR_MS), (MODULE_DAY, DAY_MS)):
        for time_ms in range(first_ms, end_utc_ms, step_ms):
            yield table.row(time_ms, tags, **_sums(step_ms / 1000, (time_ms - first_ms) / DAY_MS))
    for number, time_ms in enumerate(range(first_ms, end_utc_ms, DAY_MS // 2)):
        until_ms = time_ms + DAY_MS // 2
        yield STAY.row(
            time_ms,
            tags | {"fleet": FLEET, "node": (NODE, STATION)[number % 2], "bay": BAY},
            from_evidence="event",
            until_utc_ms=until_ms if until_ms < end_utc_ms else FOREVER_UTC_MS,
            until_evidence="event",
            first_seen_utc_ms=time_ms,
            last_seen_utc_ms=min(until_ms, end_utc_ms),
        )
        yield SWAP.row(
            time_ms,
            {"fleet": FLEET, "van": NODE, "station": STATION, "module": CODE},
            end_utc_ms=time_ms + 240_000,
            duration_s=240.0,
            module_out=CODE,
            module_in="0SLPB045180016G380018888",
            soc_out_pct=31.0,
            soc_in_pct=97.0,
        )
    yield PASSPORT.row(
        first_ms,
        tags,
        last_utc_ms=end_utc_ms,
        known_s=DAYS * 86_400.0,
        energy_in_kwh=5200.0,
        energy_out_kwh=5010.0,
        charge_in_ah=101_000.0,
        charge_out_ah=99_000.0,
        equivalent_full_cycles=196.0,
        fast_charge_share=0.12,
        capacity_ah=492.0,
        capacity_sigma_ah=3.5,
        resistance_mohm=14.2,
        resistance_sigma_mohm=0.6,
        spread_mv=18.0,
        spread_trend_mv=2.0,
        swap_count=2 * DAYS,
        holder_count=4,
        detail=json.dumps({}),
    )


def _sums(length_s: float, day: float) -> dict[str, object]:
    hours = length_s / 3600
    return {
        "row_count": round(360 * hours),
        "known_s": length_s,
        "disputed_s": 0.0,
        "voltage_unknown_s": 0.0,
        "charge_in_ah": 11.5 * hours,
        "charge_out_ah": 11.3 * hours,
        "energy_in_kwh": 0.60 * hours,
        "energy_out_kwh": 0.57 * hours,
        "current_square_a2h": 900.0 * hours,
        "temperature_c_h": 24.0 * hours,
        "temperature_h": hours,
        "rise_c_h": 2.0 * hours,
        "rise_h": hours,
        "soc_min_pct": 34.0 + 4 * math.sin(day),
        "soc_max_pct": 95.0,
        "temperature_min_c": 15.0 + 6 * math.sin(day / 58),
        "temperature_max_c": 27.0 + 6 * math.sin(day / 58),
        "rated_ah": 510.0,
    }
