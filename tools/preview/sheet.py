"""Panels of text: large numbers and tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from unicodedata import east_asian_width

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .frame import Shown, transform
from .style import DESK, INK, LINE, PALE, Style, style_of

PIXELS_PER_LETTER, ROW_PX, PAD_PX = 6.0, 20, 6
Panel = Mapping[str, Any]


def draw_numbers(axes: Axes, panel: Panel, shown: Shown) -> None:
    """Draw each column's last value, large, on the colour of its threshold."""
    axes.set_axis_off()
    found = _last_values(panel, shown)
    for index, (name, text, fill, _) in enumerate(found):
        left, width = index / len(found), 1 / len(found)
        axes.add_patch(_box(axes, left, width, fill))
        has_name = len(found) > 1
        size = min(22.0, 0.55 * _pixels(axes)[0] * width / max(len(text), 3))
        axes.text(
            left + width / 2, 0.42 if has_name else 0.5, text, ha="center", va="center", fontsize=size, color="white"
        )
        if has_name:
            axes.text(left + width / 2, 0.86, name, ha="center", va="center", fontsize=7, color="white")


def draw_bars(axes: Axes, panel: Panel, shown: Shown) -> None:
    """Draw a bar for each column's last value, as long as it is of the largest."""
    axes.set_axis_off()
    defaults = panel["fieldConfig"]["defaults"]
    found = _last_values(panel, shown)
    low = float(defaults.get("min", 0))
    high = float(defaults.get("max", max((one.value for one in found), default=1.0))) or 1.0
    step = min(1 / max(len(found), 1), 30 / _pixels(axes)[1])
    for row, one in enumerate(found):
        y = 1 - step * (row + 0.9)
        share = min(1.0, max(0.0, (one.value - low) / (high - low or 1.0)))
        for length, fill in ((1.0, DESK), (share, one.fill)):
            axes.add_patch(Rectangle((0.3, y), 0.52 * length, step * 0.7, facecolor=fill, transform=axes.transAxes))
        axes.text(0.0, y + step * 0.35, _cut(one.name, 24), fontsize=7.5, color=INK, va="center")
        axes.text(0.84, y + step * 0.35, one.text, fontsize=8, color=INK, va="center")


class Last(NamedTuple):
    """The last value of a column."""

    name: str
    text: str
    fill: str
    value: float


def _last_values(panel: Panel, shown: Shown) -> list[Last]:
    columns: list[tuple[str, dict[str, str], Any]] = []
    for one in shown.series:
        values = [value for value in one.values if value is not None]
        columns += [(one.name, one.tags, value) for value in values[-1:]]
    for frame in shown.frames:
        for name in frame.columns[1:]:
            values = [value for value in frame.column(name) if isinstance(value, int | float)]
            columns += [(name, {}, value) for value in values[-1:]]
    found = []
    for name, tags, value in columns:
        style = style_of(panel, name)
        found.append(Last(style.label(tags, name), style.text(value), style.color_of(value), float(value)))
    return found


def _box(axes: Axes, left: float, width: float, fill: str) -> Rectangle:
    return Rectangle((left, 0), width, 1, facecolor=fill, edgecolor="white", linewidth=2, transform=axes.transAxes)


def _pixels(axes: Axes) -> tuple[float, float]:
    box = axes.get_window_extent()
    return box.width, box.height


def draw_table(axes: Axes, panel: Panel, shown: Shown) -> None:
    """Draw as many rows as there is room for."""
    axes.set_axis_off()
    table = transform(panel, shown.frames)
    styles = {name: style_of(panel, name) for name in table.columns}
    for name, style in styles.items():
        if name == "Time" and not style.unit:
            style.unit = "dateTimeAsIso"
    width_px, height_px = _pixels(axes)
    widths = _widths(table.columns, table.rows, styles, width_px)
    step = ROW_PX / height_px
    left = 0.0
    for index, name in enumerate(table.columns):
        style = styles[name]
        letters = max(2, int((widths[index] - PAD_PX) / PIXELS_PER_LETTER))
        x = left / width_px
        axes.text(
            x, 1 - step / 2, _cut(style.label({}, name), letters), fontsize=7.5, color=PALE, va="center", weight="bold"
        )
        for number, row in enumerate(table.rows[: int(height_px / ROW_PX) - 1]):
            ink = style.color_of(row[index]) if style.is_colored else INK
            text = _cut(style.text(row[index]), letters)
            axes.text(x, 1 - step * (number + 1.5), text, fontsize=7.5, color=ink, va="center")
        left += widths[index]
    for number in range(min(len(table.rows) + 1, int(height_px / ROW_PX))):
        axes.axhline(1 - step * (number + 1), color=LINE, linewidth=0.6)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    left_out = len(table.rows) - int(height_px / ROW_PX) + 1
    if left_out > 0:
        axes.text(1, 0, f"+ {left_out}", fontsize=7, color=PALE, ha="right", va="bottom", backgroundcolor=DESK)


def _widths(columns: list[str], rows: list[list[Any]], styles: Mapping[str, Style], width_px: float) -> list[float]:
    """Return the columns' widths: what is said, else by their texts, then all of them scaled to the room."""
    found = []
    for index, name in enumerate(columns):
        texts = [styles[name].label({}, name), *(styles[name].text(row[index]) for row in rows[:20])]
        found.append(styles[name].width or min(240.0, PIXELS_PER_LETTER * max(map(_length, texts)) + 2 * PAD_PX))
    total = sum(found) or 1.0
    return [one * width_px / total for one in found]


def _length(text: str) -> int:
    """Return how many letters' room a text takes: Chinese ones take two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(text: str, letters: int) -> str:
    if _length(text) <= letters:
        return text
    while text and _length(text) > letters - 1:
        text = text[:-1]
    return text + "…"
