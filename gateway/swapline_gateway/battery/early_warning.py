"""Slow signs that a module may fail: what hours of readings show over weeks, long before a limit is passed.

Pure functions of a module's hours (and its siblings'); time is that of the module's last hour, never a clock's, so that
the same rows give the same warnings whenever they are derived. A warning is never an alarm: nothing is stopped by it.
Methods, limits and what they were measured with: docs/modules.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean, median
from typing import Any, NamedTuple

from .counter import join_counts
from .hour import ModuleHour
from .open_circuit import LFP_CELL_V_MAX, volts_at
from .record import HOUR_MS, EarlyWarning
from .rest import FULL, Rest
from .trend import Point, Trend, find_trend

SPREAD_GROWS = "spread_grows"
CELL_FALLS_BEHIND = "cell_falls_behind"
LOSES_CHARGE = "loses_charge"
SENSOR_STANDS_STILL = "sensor_stands_still"
HOTTER_THAN_SIBLINGS = "hotter_than_siblings"
KINDS = (CELL_FALLS_BEHIND, LOSES_CHARGE, HOTTER_THAN_SIBLINGS, SPREAD_GROWS, SENSOR_STANDS_STILL)

DAY_MS = 24 * HOUR_MS
WINDOW_MS = 42 * DAY_MS
REST_MS_MIN = 1_200_000  # polarisation has mostly gone; what is left all cells have alike
POINTS_MAX = 60  # of evidence, for a picture

# Bands of filling in which rests are compared. Narrow where the voltage of LFP depends on it.
BANDS_PCT = (10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 98.0)
STEEPNESS_MV_MIN = 1.0  # a per cent of charge; on the plateau of LFP it is less, and BMSs have steps of 1 mV
STEEPNESS_OTHER_MV = 8.0  # of cells that are not LFP; of the order of NMC's
SAME_PCT = 0.3
CELLS_MIN = 3  # fewer have no middle that one of them could differ from
TREND_DAYS_MIN = 5
CELL_Z_MIN = 3.0  # one in 700 by chance: a string has 16 cells, but the growth below is not one of chance
SPREAD_Z_MIN = 2.6  # one in 200
LAG_PCT_MIN = 2.5  # growth over the window; balancing itself makes a per cent, see docs/modules.md

LOSS_PCT_PER_DAY_MIN = 0.5  # LFP loses 2 to 3 % a month; a current sensor's offset of 50 mA makes 0.2 % of 518 Ah
LOSS_DAYS_MIN = 5.0
FULL_SOC_PCT = 99.0

STILL_MS = 48 * HOUR_MS
STILL_HOURS_MIN = 20
STILL_C_MAX = 0.15  # one step of a tenth
OTHERS_MOVE_C_MIN = 3.0
OTHERS_MIN = 2

HOT_WINDOW_MS = 14 * DAY_MS
HOT_C_MIN = 1.0  # sensors are no better; where they are worse, siblings differ by more
HOT_SIGMAS_MIN = 4.0
HOT_DAYS, HOT_DAYS_MIN = 6, 4  # over which the mean is taken
LOAD_SAME_C2 = 1e-4
HOT_SIBLINGS_MIN = 3
HOT_KNOWN_S_MIN = 16 * 3600.0  # of a day
HOT_POINTS_MAX = 150

_SEVERITY = {  # what is listed first among signs of the same size
    CELL_FALLS_BEHIND: 1.0,
    LOSES_CHARGE: 0.9,
    HOTTER_THAN_SIBLINGS: 0.8,
    SPREAD_GROWS: 0.7,
    SENSOR_STANDS_STILL: 0.5,
}


class HeatHour(NamedTuple):
    """What of an hour tells how warm a module gets of its work."""

    hour_utc_ms: int
    known_s: float
    square_a2: float
    rise_c: float | None  # warmest sensor above the air inside
    rated_ah: float


def heat_hour(hour: ModuleHour) -> HeatHour | None:
    """Return what of an hour tells about warmth."""
    sums = hour.sums
    return heat_of(
        hour.hour_utc_ms,
        {name: getattr(sums, name) for name in HEAT_FIELDS} | {"rated_ah": hour.rated_ah},
    )


HEAT_FIELDS = ("known_s", "current_square_a2h", "rise_c_h", "rise_h")


def heat_of(hour_utc_ms: int, figures: Mapping[str, Any]) -> HeatHour | None:
    """Return it from an hour's figures by name; None where they do not suffice."""
    known_s, rated_ah = figures.get("known_s") or 0.0, figures.get("rated_ah")
    if known_s < HOUR_MS / 2000 or not rated_ah:
        return None
    rise_h = figures.get("rise_h") or 0.0
    return HeatHour(
        hour_utc_ms,
        known_s,
        (figures.get("current_square_a2h") or 0.0) * 3600 / known_s,
        (figures.get("rise_c_h") or 0.0) / rise_h if rise_h else None,
        rated_ah,
    )


def find_warnings(hours: Sequence[ModuleHour], siblings: Mapping[str, Sequence[HeatHour]]) -> list[EarlyWarning]:
    """Return the signs of one module, the worst first. `hours` ascending in time; only the last weeks of them count."""
    if not hours:
        return []
    start_utc_ms = hours[-1].hour_utc_ms - WINDOW_MS
    hours = [hour for hour in hours if hour.hour_utc_ms >= start_utc_ms]
    cells, still = _cell_falls_behind(hours), _sensor_stands_still(hours)
    found = [
        cells,
        _spread_grows(hours) if cells is None else None,
        _loses_charge(hours),
        still,
        _hotter_than_siblings(hours, siblings) if still is None else None,  # that sensor may be the warmest one
    ]
    return rank([warning for warning in found if warning is not None])


def rank(warnings: Iterable[EarlyWarning]) -> list[EarlyWarning]:
    """Return them as they are listed."""
    return sorted(warnings, key=lambda one: (-one.score, one.module, one.kind))


def _score(kind: str, times_limit: float) -> float:
    """Return 0 to 1: half of the kind's weight at the limit, all of it far beyond."""
    return round(_SEVERITY[kind] * (1.0 - 0.5 / max(times_limit, 1.0)), 3)


# Cells against each other at rest.


class Lag(NamedTuple):
    """How far one cell is below another at a rest: in millivolts, and in charge that it lacks at least."""

    band: str
    time_utc_ms: int
    mv: float
    pct: float


def _settled(hours: Iterable[ModuleHour]) -> Iterable[Rest]:
    """Yield rests in which voltages had settled."""
    for hour in hours:
        for rest in hour.rests:
            if rest.end_utc_ms - rest.start_utc_ms >= REST_MS_MIN and rest.soc_pct is not None:
                yield rest


def _lag(rest: Rest, mv: float, *, is_lfp: bool) -> Lag:
    assert rest.soc_pct is not None
    limits = (0.0, *BANDS_PCT, 100.0)
    number = sum(rest.soc_pct >= limit for limit in BANDS_PCT)
    steepness_mv = STEEPNESS_OTHER_MV
    if is_lfp:
        soc = min(max(rest.soc_pct / 100, 0.01), 0.99)
        steepness_mv = max(STEEPNESS_MV_MIN, (volts_at(soc + 0.01) - volts_at(soc - 0.01)) * 500)
    return Lag(f"{limits[number]:g}-{limits[number + 1]:g}", rest.end_utc_ms, mv, mv / steepness_mv)


def _is_lfp(rests: Iterable[Rest]) -> bool:
    return max((rest.cell_max_v or 0.0 for rest in rests), default=0.0) <= LFP_CELL_V_MAX


class _Growth(NamedTuple):
    """A lag that grows over days: its trend in charge, the band with most days, and that one's first and last days."""

    trend: Trend
    band: str
    first_mv: float
    last_mv: float
    last_pct: float
    since_utc_ms: int
    points: list[list[float]]

    @property
    def evidence(self) -> dict[str, Any]:
        return {
            "band_pct": self.band,
            "first_mv": round(self.first_mv, 1),
            "last_mv": round(self.last_mv, 1),
            "growth_pct": round(self.trend.growth, 1),
            "growth_pct_per_day": round(self.trend.slope_per_day, 2),
            "z": round(self.trend.z, 1),
            "days": self.trend.day_count,
            "points": self.points,
        }


def _growth(lags: Iterable[Lag], *, z_min: float) -> _Growth | None:
    """Return the growth, if it is one. A day counts once in each band: rests of one night are no new evidence."""
    found: defaultdict[tuple[str, int], list[Lag]] = defaultdict(list)
    for lag in lags:
        found[lag.band, lag.time_utc_ms // DAY_MS].append(lag)
    bands: defaultdict[str, list[Point]] = defaultdict(list)
    millivolts: defaultdict[str, list[Point]] = defaultdict(list)
    for (band, day), known in sorted(found.items()):
        bands[band].append((day, median(lag.pct for lag in known)))
        millivolts[band].append((day, median(lag.mv for lag in known)))
    trend = find_trend(bands, same=SAME_PCT)
    if trend is None or trend.day_count < TREND_DAYS_MIN or trend.z < z_min or trend.growth < LAG_PCT_MIN:
        return None
    band = max(bands, key=lambda name: (len(bands[name]), name))
    points, values = millivolts[band], [value for _, value in bands[band]]
    third = max(1, len(points) // 3)
    first_mv, last_mv = median(v for _, v in points[:third]), median(v for _, v in points[-third:])
    start = median(values[:third])
    since = next((day for n, (day, _) in enumerate(points) if min(values[n:]) > start + SAME_PCT), points[-1][0])
    shown = [[day * DAY_MS, round(value, 1)] for day, value in points[-POINTS_MAX:]]
    return _Growth(trend, band, first_mv, last_mv, median(values[-third:]), int(since) * DAY_MS, shown)


def _cell_falls_behind(hours: Sequence[ModuleHour]) -> EarlyWarning | None:
    """Look for the cell that loses most against the middle one of its string."""
    rests = list(_settled(hours))
    is_lfp = _is_lfp(rests)
    series: defaultdict[int, list[Lag]] = defaultdict(list)
    for rest in rests:
        known = [value for value in rest.cells_mv if value is not None]
        if len(known) >= CELLS_MIN:
            middle = median(known)
            for cell, value in enumerate(rest.cells_mv, start=1):
                if value is not None:
                    series[cell].append(_lag(rest, middle - value, is_lfp=is_lfp))
    found = [(growth, cell) for cell, lags in series.items() if (growth := _growth(lags, z_min=CELL_Z_MIN))]
    found = [(growth, cell) for growth, cell in found if growth.last_pct >= LAG_PCT_MIN]
    if not found:
        return None
    growth, cell = max(found, key=lambda one: (one[0].trend.growth, one[1]))
    was = f"{abs(growth.first_mv):.0f} mV {'below' if growth.first_mv >= 0 else 'above'} it"
    text = (
        f"Cell {cell} falls behind its string: at rest at {growth.band} % it is {growth.last_mv:.0f} mV below the"
        f" middle cell and was {was}, over {growth.trend.span_days:.0f} days: it loses charge."
    )
    score = _score(CELL_FALLS_BEHIND, growth.trend.growth / LAG_PCT_MIN)
    evidence = growth.evidence | {"cell": cell}
    return EarlyWarning(hours[-1].module, CELL_FALLS_BEHIND, score, text, growth.since_utc_ms, evidence)


def _spread_grows(hours: Sequence[ModuleHour]) -> EarlyWarning | None:
    """Look at the highest cell less the lowest one: all that is known where a BMS does not tell each cell."""
    rests = list(_settled(hours))
    is_lfp = _is_lfp(rests)
    lags = [_lag(rest, rest.spread_mv, is_lfp=is_lfp) for rest in rests if rest.spread_mv is not None]
    growth = _growth(lags, z_min=SPREAD_Z_MIN)
    if growth is None:
        return None
    text = (
        f"The cells drift apart: at rest at {growth.band} % they are {growth.last_mv:.0f} mV apart and were"
        f" {growth.first_mv:.0f} mV, over {growth.trend.span_days:.0f} days."
    )
    score = _score(SPREAD_GROWS, growth.trend.growth / LAG_PCT_MIN)
    return EarlyWarning(hours[-1].module, SPREAD_GROWS, score, text, growth.since_utc_ms, growth.evidence)


# Charge that goes in and does not come out.


def _loses_charge(hours: Sequence[ModuleHour]) -> EarlyWarning | None:
    """Compare the BMS's counters between the first and the last time that it was full and then rested."""
    full = [hour for hour in hours if _ends_full(hour)]
    if len(full) < 2:
        return None
    between = [hour for hour in hours if full[0].hour_utc_ms < hour.hour_utc_ms <= full[-1].hour_utc_ms]
    growths = []
    for name in ("charge_in_ah", "charge_out_ah"):
        known = [full[0].counts.get(name), *(hour.counts.get(name) for hour in between)]
        counts = [one for one in known if one is not None]
        joined = join_counts(name, counts)
        if joined is None or joined.breaks:
            return None
        growths.append(joined.growth - counts[0].growth)  # what it counted in the first hour was before it was full
    days = (full[-1].hour_utc_ms - full[0].hour_utc_ms) / DAY_MS
    rated_ah = full[-1].rated_ah
    if days < LOSS_DAYS_MIN or not rated_ah:
        return None
    lost_ah = growths[0] - growths[1]
    pct_per_day = 100 * lost_ah / rated_ah / days
    if pct_per_day < LOSS_PCT_PER_DAY_MIN:
        return None
    text = (
        f"It loses {pct_per_day:.1f} % of its charge a day: between two full charges {days:.0f} days apart"
        f" {growths[0]:.0f} Ah went in and {growths[1]:.0f} Ah came out."
    )
    evidence = {
        "lost_ah": round(lost_ah, 1),
        "in_ah": round(growths[0], 1),
        "out_ah": round(growths[1], 1),
        "days": round(days, 1),
        "pct_per_day": round(pct_per_day, 2),
        "current_a": round(lost_ah / days / 24, 3),
    }
    score = _score(LOSES_CHARGE, pct_per_day / LOSS_PCT_PER_DAY_MIN)
    return EarlyWarning(hours[-1].module, LOSES_CHARGE, score, text, full[0].hour_utc_ms, evidence)


def _ends_full(hour: ModuleHour) -> bool:
    """Say whether it was charged until full in this hour, or before, and rests at its end."""
    if not any(anchor.kind == FULL for anchor in hour.anchors) or not hour.rests:
        return False
    last = hour.rests[-1]
    ends = max((sighting.last_utc_ms for sighting in hour.sightings), default=0)
    return last.end_utc_ms >= ends and (last.soc_pct or 0.0) >= FULL_SOC_PCT


# Sensors.


def _sensor_stands_still(hours: Sequence[ModuleHour]) -> EarlyWarning | None:
    """Look for a sensor that did not move while the others did."""
    since_utc_ms = hours[-1].hour_utc_ms - STILL_MS
    ranges = _ranges(hour for hour in hours if hour.hour_utc_ms >= since_utc_ms)
    moved = {sensor: high - low for sensor, (low, high, count) in ranges.items() if count >= STILL_HOURS_MIN}
    still = [sensor for sensor, reach in moved.items() if reach <= STILL_C_MAX]
    others = [reach for sensor, reach in moved.items() if sensor not in still]
    if not still or len(others) < OTHERS_MIN or median(others) < OTHERS_MOVE_C_MIN:
        return None
    sensor = still[0]
    low, high, _ = ranges[sensor]
    began_utc_ms = _still_since(hours, sensor, low, high)
    days = (hours[-1].hour_utc_ms + HOUR_MS - began_utc_ms) / DAY_MS
    names = f"Sensor {sensor}" if len(still) == 1 else f"Sensors {', '.join(map(str, still))}"
    text = (
        f"{names} stopped moving: {low:.1f} degC for {days:.1f} days, while the others moved by"
        f" {median(others):.1f} K within two days. What it should watch is not watched."
    )
    evidence = {
        "sensors": still,
        "value_c": low,
        "days": round(days, 1),
        "others_moved_c": round(median(others), 1),
    }
    score = _score(SENSOR_STANDS_STILL, median(others) / OTHERS_MOVE_C_MIN)
    return EarlyWarning(hours[-1].module, SENSOR_STANDS_STILL, score, text, began_utc_ms, evidence)


def _ranges(hours: Iterable[ModuleHour]) -> dict[int, tuple[float, float, int]]:
    found: dict[int, tuple[float, float, int]] = {}
    for hour in hours:
        for sensor, (low, high) in hour.sensors_c.items():
            lowest, highest, count = found.get(sensor, (low, high, 0))
            found[sensor] = (min(lowest, low), max(highest, high), count + 1)
    return dict(sorted(found.items()))


def _still_since(hours: Sequence[ModuleHour], sensor: int, low: float, high: float) -> int:
    """Return the first hour of those, up to the last one, in which the sensor stayed where it is."""
    began = hours[-1].hour_utc_ms
    for hour in reversed(hours):
        reach = hour.sensors_c.get(sensor)
        if reach is None:
            continue
        low, high = min(low, reach[0]), max(high, reach[1])
        if high - low > STILL_C_MAX:
            break
        began = hour.hour_utc_ms
    return began


# Warmth against siblings.


class _WarmDay(NamedTuple):
    """A day's mean heating and mean warmth. Shorter means would show when it was heated, for modules cool in hours."""

    day: int
    load_c2: float  # mean square of the C-rate
    rise_c: float


def _hotter_than_siblings(
    hours: Sequence[ModuleHour], siblings: Mapping[str, Sequence[HeatHour]]
) -> EarlyWarning | None:
    """Compare how much warmer than the air inside it is, with what its siblings are at the same power."""
    start_utc_ms = hours[-1].hour_utc_ms - HOT_WINDOW_MS
    own = [heat for hour in hours if hour.hour_utc_ms >= start_utc_ms and (heat := heat_hour(hour)) is not None]
    others = {code: days for code, known in siblings.items() if len(days := _warm_days(known)) >= HOT_DAYS_MIN}
    if len(others) < HOT_SIBLINGS_MIN:
        return None
    slope, level = _norm(others)
    excess = [(one.day, one.rise_c - level - slope * one.load_c2) for one in _warm_days(own)]
    if len(excess) < HOT_DAYS_MIN:
        return None
    usual = fmean(value for _, value in excess[-HOT_DAYS:])
    off = [fmean(one.rise_c - level - slope * one.load_c2 for one in days[-HOT_DAYS:]) for days in others.values()]
    sigma_c = 1.4826 * median(abs(value) for value in off)
    limit_c = max(HOT_C_MIN, HOT_SIGMAS_MIN * sigma_c)
    if usual < limit_c:
        return None
    since = next(day for n, (day, _) in enumerate(excess) if fmean(value for _, value in excess[n:]) >= limit_c / 2)
    text = (
        f"It gets {usual:.1f} K hotter than its siblings at the same power, in the mean of its last"
        f" {min(len(excess), HOT_DAYS)} days; they differ by {sigma_c:.1f} K among themselves."
    )
    evidence = {
        "excess_c": round(usual, 1),
        "siblings_sigma_c": round(sigma_c, 2),
        "siblings": len(others),
        "days": min(len(excess), HOT_DAYS),
        "points": [[day * DAY_MS, round(value, 1)] for day, value in excess],
    }
    score = _score(HOTTER_THAN_SIBLINGS, usual / limit_c)
    return EarlyWarning(hours[-1].module, HOTTER_THAN_SIBLINGS, score, text, since * DAY_MS, evidence)


def _warm_days(hours: Iterable[HeatHour]) -> list[_WarmDay]:
    """Return the days of which enough is known."""
    by_day: defaultdict[int, list[HeatHour]] = defaultdict(list)
    for hour in hours:
        if hour.rise_c is not None:
            by_day[hour.hour_utc_ms // DAY_MS].append(hour)
    days = []
    for day, known in sorted(by_day.items()):
        seconds = sum(hour.known_s for hour in known)
        if seconds >= HOT_KNOWN_S_MIN:
            load_c2 = sum(hour.square_a2 / hour.rated_ah**2 * hour.known_s for hour in known) / seconds
            rise_c = sum((hour.rise_c or 0.0) * hour.known_s for hour in known) / seconds
            days.append(_WarmDay(day, load_c2, rise_c))
    return days


def _norm(siblings: Mapping[str, Sequence[_WarmDay]]) -> tuple[float, float]:
    """Return slope and level of the line of warmth over heating that most siblings' days lie on (Theil and Sen)."""
    days = [one for known in siblings.values() for one in known]
    slopes = [
        (later.rise_c - one.rise_c) / (later.load_c2 - one.load_c2)
        for one, later in combinations(days[:: max(1, len(days) // HOT_POINTS_MAX)], 2)
        if abs(later.load_c2 - one.load_c2) > LOAD_SAME_C2
    ]
    slope = max(0.0, median(slopes)) if slopes else 0.0
    return slope, median(one.rise_c - slope * one.load_c2 for one in days)
