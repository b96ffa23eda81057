"""Units and limits of the catalogue in Grafana's words."""

from collections.abc import Sequence

from swapline_cloud.rollup import find
from swapline_wire import alarm_table

from .sdk import model, units

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"
LEVEL_COLORS = {0: GREEN, 1: YELLOW, 2: ORANGE, 3: RED}

# The catalogue's unit -> Grafana's. What Grafana has no name for is put behind the number.
_UNITS: dict[str, str] = {
    "": units.Short,
    "%": units.Percent,
    "A": units.Ampere,
    "A.h": units.AmpereHour,
    "B": units.BytesIEC,
    "Hz": units.Hertz,
    "N.m": "suffix: N·m",
    "V": units.Volt,
    "dB": units.Decibel,
    "dBm": units.DecibelMilliWatt,
    "deg": units.Degrees,
    "degC": units.Celsius,
    "kW": units.KiloWatt,
    "kW.h": units.KiloWattHour,
    "kg": units.Kilogram,
    "km": units.Kilometer,
    "km/h": units.KilometersPerHour,
    "kohm": units.KiloOhm,
    "kvar": units.KiloVoltAmpereReactive,
    "m": units.Meter,
    "m/s2": units.MetersSecSquared,
    "ms": units.Milliseconds,
    "rpm": units.RevolutionsPerMinute,
    "s": units.DurationSeconds,
}
# Of fields that are not the catalogue's (the books, the gateway's own figures) the name's last word is the unit.
_SUFFIXES: dict[str, str] = {
    "ah": units.AmpereHour,
    "bytes": units.BytesIEC,
    "c": units.Celsius,
    "days": units.Short,
    "deg": units.Degrees,
    "km": units.Kilometer,
    "kw": units.KiloWatt,
    "kwh": units.KiloWattHour,
    "mohm": units.MilliOhm,
    "ms": units.Milliseconds,
    "mv": units.MilliVolt,
    "pct": units.Percent,
    "s": units.DurationSeconds,
    "share": units.PercentUnit,
    "v": units.Volt,
}


def unit_of(stream: str, field: str) -> str:
    """Return Grafana's unit of a signal. Raises `KeyError` for one that the catalogue does not have."""
    return _UNITS[find(stream, field).unit]


def unit_by_name(field: str) -> str:
    """Return Grafana's unit of a field that is not the catalogue's, by the last word of its name."""
    if field.endswith("kwh_per_km"):
        return "suffix: kWh/km"
    return _SUFFIXES.get(field.rsplit("_", 1)[-1], units.Short)


def steps(*pairs: tuple[float, str], base: str = GREEN) -> list[model.Threshold]:
    """Return thresholds: `base` below the first of the (value, colour) pairs."""
    return [model.Threshold(None, base), *(model.Threshold(value, color) for value, color in pairs)]


def alarm_limits(stream: str, field: str, less: str = "-") -> list[model.Threshold]:
    """Return the alarm table's limits of a signal as thresholds: where levels 1 to 3 begin, on both sides.

    `less` is the signal that is subtracted, of a spread. Rules that scale by another signal have no limit in the
    signal's own numbers and are left out. Raises `KeyError` for a signal that the catalogue does not have.
    """
    scale = 10 ** find(stream, field).decimals
    above: Sequence[float] = ()
    below: Sequence[float] = ()
    for words in alarm_table.rules_of(stream):
        _, signal, subtracted, per, _, how, *numbers = words
        if (signal, subtracted, per) != (field, less, "-") or how not in ("above", "below"):
            continue
        limits = [int(number) / scale for number in numbers[:3]]
        if how == "above":
            above = limits
        else:
            below = limits
    found = [model.Threshold(None, RED if below else GREEN)]
    if below:
        found += [
            model.Threshold(below[2], ORANGE),
            model.Threshold(below[1], YELLOW),
            model.Threshold(below[0], GREEN),
        ]
    found += [model.Threshold(limit, color) for limit, color in zip(above, (YELLOW, ORANGE, RED), strict=False)]
    return found
