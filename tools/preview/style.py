"""How a value looks: its text, unit and colour, as a panel's field configuration says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

INK, PALE, LINE, PAPER, DESK = "#24292e", "#6e7580", "#e3e6ea", "#ffffff", "#f4f5f5"
PALETTE = ("#56a64b", "#d9a400", "#3aa6b9", "#e8762d", "#d23b30", "#1f60c4", "#a3389b", "#6a5acd", "#2f7d4f", "#b58900")
_COLORS = {
    "green": "#56a64b",
    "yellow": "#e0b400",
    "orange": "#ff780a",
    "red": "#e02f44",
    "blue": "#3274d9",
    "purple": "#a352cc",
    "text": "#9aa1ab",
    "transparent": PAPER,
}
# Grafana's id -> what stands behind the number.
_BEHIND = {
    "volt": "V",
    "amp": "A",
    "amphour": "Ah",
    "kwatt": "kW",
    "watt": "W",
    "kwatth": "kWh",
    "lengthkm": "km",
    "lengthm": "m",
    "velocitykmh": "km/h",
    "celsius": "°C",
    "percent": "%",
    "ms": "ms",
    "s": "s",
    "kohm": "kΩ",
    "mohm": "mΩ",
    "mvolt": "mV",
    "hertz": "Hz",
    "dB": "dB",
    "dBm": "dBm",
    "degree": "°",
    "masskg": "kg",
    "rotrpm": "rpm",
    "kvoltampreact": "kvar",
    "accMS2": "m/s²",
}
_SHORT = ("", "K", "Mil", "Bil")
# What is scaled: by which base, with which prefixes, of what.
_PREFIXES = {
    "": (1000, _SHORT, ""),
    "short": (1000, _SHORT, ""),
    "bytes": (1024, ("", "Ki", "Mi", "Gi", "Ti"), "B"),
    "decbytes": (1000, ("", "k", "M", "G", "T"), "B"),
    "Bps": (1000, ("", "k", "M", "G", "T"), "B/s"),
    "binBps": (1024, ("", "Ki", "Mi", "Gi", "Ti"), "B/s"),
}
_LABEL = re.compile(r"\$\{__field\.labels\.(\w+)\}")
_DAY_S = 86_400


@dataclass
class Style:
    """What is configured for one column."""

    unit: str = ""
    decimals: int | None = None
    name: str = ""
    mappings: list[Any] = field(default_factory=list)
    steps: list[tuple[float, str]] = field(default_factory=list)
    color: str = ""
    width: float | None = None
    is_colored: bool = False  # the text of a table's cell is

    def text(self, value: Any) -> str:
        """Return a value as people read it."""
        if value is None:
            return "-"
        mapped = self._mapped(value)
        if mapped and mapped.get("text"):
            return str(mapped["text"])
        if isinstance(value, bool | str):
            return str(value)
        return with_unit(float(value), self.unit, self.decimals)

    def color_of(self, value: Any) -> str:
        """Return the colour of a value: of its text, else of its threshold, else the column's own."""
        mapped = self._mapped(value)
        if mapped and mapped.get("color"):
            return color(mapped["color"])
        if self.steps and isinstance(value, int | float):
            return color(next((name for limit, name in reversed(self.steps) if value >= limit), self.steps[0][1]))
        return color(self.color) if self.color else PALE

    def _mapped(self, value: Any) -> Mapping[str, Any] | None:
        key = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for mapping in self.mappings:
            options = mapping["options"]
            if mapping["type"] == "value" and key in options:
                found: Mapping[str, Any] = options[key]
                return found
            if mapping["type"] == "range" and isinstance(value, int | float):
                low, high = options.get("from"), options.get("to")
                if (low is None or value >= low) and (high is None or value <= high):
                    result: Mapping[str, Any] = options["result"]
                    return result
        return None

    def label(self, tags: Mapping[str, str], name: str) -> str:
        """Return what a column is called."""
        return _LABEL.sub(lambda match: tags.get(match[1], ""), self.name) if self.name else name


def style_of(panel: Mapping[str, Any], *names: str) -> Style:
    """Return what a panel says of a column that goes by any of these names."""
    config = panel.get("fieldConfig", {})
    found = Style()
    _take(found, config.get("defaults", {}))
    for override in config.get("overrides", []):
        matcher = override["matcher"]
        is_match = matcher["id"] == "byName" and matcher["options"] in names
        is_match |= matcher["id"] == "byRegexp" and any(
            re.search(matcher["options"].strip("/"), name) for name in names
        )
        if is_match:
            _take(found, {one["id"]: one.get("value") for one in override["properties"]})
    return found


def _take(style: Style, said: Mapping[str, Any]) -> None:
    style.unit = said.get("unit", style.unit)
    style.decimals = said.get("decimals", style.decimals)
    style.name = said.get("displayName", style.name)
    style.mappings = said.get("mappings", style.mappings)
    style.width = said.get("custom.width", style.width)
    if "thresholds" in said:
        style.steps = [
            (float("-inf") if one["value"] is None else one["value"], one["color"])
            for one in said["thresholds"]["steps"]
        ]
    if "color" in said:
        style.color = said["color"].get("fixedColor") or ""
    style.is_colored |= said.get("custom.cellOptions", {}).get("type") in ("color-text", "color-background")


def color(name: str) -> str:
    """Return a colour of Grafana's by its name."""
    if name.startswith("#"):
        return name
    return _COLORS.get(name.rsplit("-", 1)[-1], _COLORS["text"])


def with_unit(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a number with its unit."""
    if unit.startswith("dateTime"):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%m-%d %H:%M")
    if unit in ("dtdurations", "dtdurationms", "s", "ms") and (not unit.endswith("ms") or abs(value) >= 1000):
        return _duration(value / (1000 if unit.endswith("ms") else 1))
    if unit in _PREFIXES:
        base, prefixes, behind = _PREFIXES[unit]
        scaled, prefix = _scaled(value, base, prefixes)
        return f"{_number(scaled, decimals)} {prefix}{behind}".strip()
    if unit.startswith("percent"):
        return f"{_number(value * 100 if unit == 'percentunit' else value, decimals)}%"
    behind = unit.removeprefix("suffix:").strip() if unit.startswith("suffix:") else _BEHIND.get(unit, "")
    return f"{_number(value, decimals)} {behind}".strip()


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> tuple[float, str]:
    power = 0
    while abs(value) >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    return value, prefixes[power]


def _number(value: float, decimals: int | None) -> str:
    if decimals is None:
        size = abs(value)
        decimals = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2
    return f"{value:.{decimals}f}"


def _duration(seconds: float) -> str:
    for length, name in ((_DAY_S, "day"), (3600, "hour"), (60, "min")):
        if abs(seconds) >= length:
            return f"{seconds / length:.1f} {name}" + ("s" if seconds / length >= 1.05 and name != "min" else "")
    return f"{_number(seconds, None)} s"
