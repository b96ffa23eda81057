"""The passport: how a module was treated and what it is worth, from its days.

Everything here is a pure function: of the module's life (`span.py`), its stays, its alarms and its siblings' passports.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from .capacity import estimate_capacity
from .code import parse
from .counter import Count
from .integral import RATE_BANDS, SOC_BANDS, TEMPERATURE_BANDS
from .record import HOUR_MS, Estimate, Passport
from .resistance import estimate_resistance
from .span import Span
from .spread import estimate_spread

__all__ = ["FAST_CHARGE_C", "RATE_BANDS", "SOC_BANDS", "TEMPERATURE_BANDS", "compare", "make_passport"]

# No standard draws the line; in common usage fast means full within less than an hour.
FAST_CHARGE_C = 1.0
COUNTERS_AGREE = 0.02  # of what the readings add up to
_COARSE = {"Ah": 20.0, "kWh": 1.0}
_GAP_C_MAX = 0.5  # what may have flowed where nothing was read
_SIBLINGS_MIN = 3


def make_passport(
    module: str, life: Span, *, places: Sequence[tuple[str, str]] = (), alarms: Iterable[Mapping[str, Any]] = ()
) -> Passport:
    """Return the passport, without siblings.

    `places`: holders (fleet, node) of the module's stays in the order of time. `alarms`: rows of the alarm stream.
    """
    charge_in, charge_out, _ = _totals(life, "charge_in_ah", "charge_out_ah", "Ah")
    energy_in, energy_out, energy_method = _totals(life, "energy_in_kwh", "energy_out_kwh", "kWh")
    rated_ah, code = life.rated_ah, parse(module)
    spread, spread_trend = estimate_spread(life.rests)
    return Passport(
        module,
        code.as_json(),
        life.first_utc_ms,
        life.last_utc_ms,
        round(life.sums.known_s, 3),
        round(energy_in, 3),
        round(energy_out, 3),
        energy_method,
        round(charge_in, 2),
        round(charge_out, 2),
        # Half of what went in and out is one direction's share of it: losses count as little as possible.
        round((charge_in + charge_out) / (2 * rated_ah), 3) if rated_ah else None,
        {band: round(life.sums.soc_s.get(band, 0.0), 3) for band in SOC_BANDS},
        {band: round(life.sums.temperature_s.get(band, 0.0), 3) for band in TEMPERATURE_BANDS},
        _fast_charge_share(life),
        estimate_capacity(life, code.chemistry),
        estimate_resistance(life.steps),
        spread,
        spread_trend,
        sum(1 for n in range(1, len(places)) if places[n] != places[n - 1]),
        len(set(places)),
        count_alarms(alarms),
    )


def _totals(life: Span, name_in: str, name_out: str, unit: str) -> tuple[float, float, str]:
    """Return what went in and out, by the BMS's counters where they can be believed, and how it was found."""
    read = getattr(life.sums, name_in), getattr(life.sums, name_out)
    unread_s = max(0.0, (life.last_utc_ms - life.first_utc_ms) / 1000 - life.sums.known_s)
    counts = life.counts.get(name_in), life.counts.get(name_out)
    objection = _objection(life, counts, read, unread_s, unit)
    hours = f"{unread_s / 3600:.1f} h"
    if objection or counts[0] is None or counts[1] is None:
        return *read, f"added up from readings, {hours} that none covers are not in it; {objection}"
    return counts[0].growth, counts[1].growth, f"the BMS's own counters, also over {hours} that no reading covers"


def _objection(
    life: Span, counts: tuple[Count | None, Count | None], read: tuple[float, float], unread_s: float, unit: str
) -> str:
    """Say why counters cannot be believed; nothing if they can."""
    gap = _GAP_C_MAX * (life.rated_ah or 0.0) * unread_s / 3600
    if unit == "kWh":
        gap *= 0.06  # the most that 16 cells make of an ampere-hour, and less for fewer
    for count, total in zip(counts, read, strict=True):
        if count is None:
            return "the BMS has no counters"
        if count.breaks:
            return f"the BMS's counters started anew {count.breaks} times"
        margin = COUNTERS_AGREE * total + _COARSE[unit]
        if not total - margin <= count.growth <= total + margin + gap:
            return f"the BMS's counters say {count.growth:.1f} {unit} where readings say {total:.1f} {unit}"
    return ""


def _fast_charge_share(life: Span) -> float | None:
    """Return the share of the charge taken in faster than `FAST_CHARGE_C`; None if nothing with a known rate was."""
    by_rate = life.sums.charge_by_rate_ah
    total = sum(by_rate.values())
    fast = sum(by_rate.get(band, 0.0) for band, limit in RATE_BANDS.items() if limit > FAST_CHARGE_C)
    return round(fast / total, 6) if total > 0 else None


def count_alarms(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many alarms were raised, by the highest level that each came to."""
    counts = {"1": 0, "2": 0, "3": 0}
    standing: dict[tuple[Any, ...], int] = {}
    for row in sorted(rows, key=lambda one: int(one["time_utc_ms"])):
        level = row.get("level")
        if level is None:
            continue
        key = (row["fleet"], row["node"], row["bay"], row["code"])
        if level > 0:
            standing[key] = max(int(level), standing.get(key, 0))
        elif key in standing:
            counts[str(standing.pop(key))] += 1
    for level in standing.values():
        counts[str(level)] += 1
    return counts


def figures_of(passport: Passport) -> dict[str, float]:
    """Return what siblings are compared in, as far as it is known."""
    cycles = passport.equivalent_full_cycles
    hours = (passport.last_utc_ms - passport.first_utc_ms) / HOUR_MS
    warm_s = sum(seconds for band, seconds in passport.temperature_s.items() if band in {"35-45", "above 45"})
    known_s = sum(passport.temperature_s.values())
    figures: dict[str, float | None] = {
        "capacity_ah": passport.capacity.value,
        "resistance_mohm": passport.resistance.value,
        "spread_mv": passport.spread.value,
        "spread_trend_mv": passport.spread_trend.value,
        "equivalent_full_cycles": cycles,
        "cycles_per_day": cycles / hours * 24 if hours and cycles is not None else None,
        "warm_share": warm_s / known_s if known_s else None,
    }
    return {name: value for name, value in figures.items() if value is not None}


def compare(passport: Passport, siblings: Iterable[Passport]) -> dict[str, Any]:
    """Return how a module stands among its siblings: modules of the same maker, types and specification by their code.

    Each figure: the siblings' median, how many they are, and the percentile, the share of them that lie below.
    """
    family = parse(passport.module).family
    if family is None:
        return {"family": None, "count": 0, "figures": {}, "reason": "the code does not say who its siblings are"}
    others = [one for one in siblings if one.module != passport.module and parse(one.module).family == family]
    known = [figures_of(one) for one in others]
    figures = {}
    for name, value in figures_of(passport).items():
        values = [one[name] for one in known if name in one]
        if len(values) >= _SIBLINGS_MIN:
            below = sum(1 for one in values if one < value) + sum(0.5 for one in values if one == value)
            percentile = round(100 * below / len(values), 1)
            figures[name] = {"value": value, "median": median(values), "percentile": percentile, "count": len(values)}
    reason = "" if figures else f"{len(others)} siblings are known, {_SIBLINGS_MIN} are needed"
    return {"family": family, "count": len(others), "figures": figures, "reason": reason}


def from_json(content: Mapping[str, Any]) -> Passport:
    """Return the passport that `as_json` gave."""
    estimates = {name: Estimate(**content[name]) for name in ("capacity", "resistance", "spread", "spread_trend")}
    return Passport(**{**content, **estimates})


def as_json(passport: Passport) -> dict[str, Any]:
    """Return JSON-ready data without siblings: those change while a module lies still."""
    return {**asdict(passport), "siblings": {}}
