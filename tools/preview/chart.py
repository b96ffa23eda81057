"""Charts over time, strips of states, bars, histograms and maps."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator

from swapline_cloud.interpolate import TimeRange
from swapline_cloud.viewer import Series

from .frame import Frame, Shown, transform
from .style import INK, LINE, PALE, PALETTE, Style, color, style_of, with_unit

Panel = Mapping[str, Any]


def as_time(utc_ms: float) -> datetime:
    """Return a time as matplotlib takes it."""
    return datetime.fromtimestamp(utc_ms / 1000, UTC)


def frame_axes(axes: Axes, time_range: TimeRange | None = None) -> None:
    """Draw the frame of a chart: faint lines, small figures."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(colors=PALE, labelsize=7, length=0)
    axes.grid(visible=True, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    if time_range is not None:
        axes.set_xlim(as_time(time_range.from_utc_ms), as_time(time_range.to_utc_ms))  # type: ignore[arg-type]
        locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]


def draw_course(axes: Axes, panel: Panel, shown: Shown, time_range: TimeRange) -> None:
    """Draw a chart over time."""
    frame_axes(axes, time_range)
    defaults = panel["fieldConfig"]["defaults"]
    is_bars = defaults.get("custom", {}).get("drawStyle") == "bars"
    base = style_of(panel)
    for number, one in enumerate(_joined(shown.series)):
        style = style_of(panel, one.name, one.column)
        line = color(style.color) if style.color else PALETTE[number % len(PALETTE)]
        points = [(as_time(t), v) for t, v in zip(one.times_utc_ms, one.values, strict=True) if _is_number(v)]
        if not points:
            continue
        times, values = zip(*points, strict=True)
        name = style.label(one.tags, one.name)
        if is_bars:
            axes.bar(times, values, width=_bar_width(one, time_range), color=line, alpha=0.75, label=name, align="edge")
        else:
            marker = "o" if len(points) < 3 else None
            axes.plot(times, values, color=line, linewidth=1.1, label=name, marker=marker, markersize=3)
    if defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode") == "dashed":
        _draw_thresholds(axes, base)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, base.unit, base.decimals)))
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"])
    _draw_legend(axes)


def _joined(series: Sequence[Series]) -> list[Series]:
    """Return the series; those of two roll-ups that meet as one."""
    found: dict[tuple[str, str], Series] = {}
    for one in series:
        key = (one.name, str(one.tags))
        if key in found:
            first = found[key]
            one = first._replace(  # noqa: PLW2901 (the two together)
                times_utc_ms=first.times_utc_ms + one.times_utc_ms, values=first.values + one.values
            )
        found[key] = one
    return list(found.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bar_width(one: Series, time_range: TimeRange) -> float:
    """Return a bar's width in days: most of its interval, but not so little that it is not seen."""
    steps = [b - a for a, b in zip(one.times_utc_ms, one.times_utc_ms[1:], strict=False) if b > a]
    return max(0.8 * min(steps, default=600_000), time_range.span_ms / 300) / 86_400_000


def _draw_thresholds(axes: Axes, style: Style) -> None:
    low, high = axes.get_ylim()
    for limit, name in style.steps:
        if low <= limit <= high:
            axes.axhline(limit, color=color(name), linewidth=0.9, linestyle="--", alpha=0.8)


def _draw_legend(axes: Axes) -> None:
    """Name as many series as one line has room for."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    letter_px, line_px = 5.4, 26
    columns = max(1, int(axes.get_window_extent().width / (letter_px * max(map(len, names)) + line_px)))
    axes.legend(
        handles[:columns],
        names[:columns],
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.10),
        ncol=columns,
        fontsize=7,
        frameon=False,
        labelcolor=INK,
        handlelength=1.0,
        columnspacing=1.2,
    )


def draw_states(axes: Axes, panel: Panel, shown: Shown, time_range: TimeRange) -> None:
    """Draw a strip for each series."""
    frame_axes(axes, time_range)
    axes.grid(visible=False)
    strips = [one for one in _joined(shown.series) if any(value is not None for value in one.values)]
    known: dict[str, str] = {}
    for row, one in enumerate(strips):
        style = style_of(panel, one.name, one.column)
        for begin_ms, end_ms, value in _spans(one, time_range):
            has_look = style.mappings or style.steps
            fill = (
                style.color_of(value) if has_look else known.setdefault(str(value), PALETTE[len(known) % len(PALETTE)])
            )
            width = (end_ms - begin_ms) / 86_400_000
            axes.barh(-row, width, left=as_time(begin_ms), height=0.8, color=fill, alpha=0.75)  # type: ignore[arg-type]
            if width > 0.08 * time_range.span_ms / 86_400_000:
                axes.text(
                    as_time(begin_ms),  # type: ignore[arg-type]
                    -row,
                    " " + style.text(value)[-12:],
                    fontsize=6.5,
                    va="center",
                    color=INK,
                    clip_on=True,
                )
    names = [style_of(panel, one.name, one.column).label(one.tags, one.name) for one in strips]
    axes.set_yticks([-row for row in range(len(strips))], names)
    axes.tick_params(labelsize=7)


def _spans(one: Series, time_range: TimeRange) -> list[tuple[int, int, Any]]:
    """Return from when to when which value stood, within the range."""
    told = [
        (t, v) for t, v in sorted(zip(one.times_utc_ms, one.values, strict=True), key=lambda p: p[0]) if v is not None
    ]
    ends = [*(t for t, _ in told[1:]), time_range.to_utc_ms]
    found: list[tuple[int, int, Any]] = []
    for (begin_ms, value), end_ms in zip(told, ends, strict=True):
        begin_ms = max(begin_ms, time_range.from_utc_ms)  # noqa: PLW2901 (clipped)
        if found and found[-1][2] == value:
            found[-1] = (found[-1][0], end_ms, value)
        elif end_ms > begin_ms:
            found.append((begin_ms, end_ms, value))
    return found


def draw_days(axes: Axes, panel: Panel, shown: Shown) -> None:
    """Draw a bar for each row and column of a table."""
    frame_axes(axes)
    table = transform(panel, shown.frames)
    by = panel["options"].get("xField", "Time")
    rows = sorted((row for row in table.rows if row[table.columns.index(by)] is not None), key=lambda row: row[0])
    names = [name for name in table.columns if name != by and any(_is_number(value) for value in table.column(name))]
    for number, name in enumerate(names):
        style = style_of(panel, name)
        place, width = table.columns.index(name), 0.8 / max(len(names), 1)
        heights = [row[place] or 0 for row in rows]
        fill = color(style.color) if style.color else PALETTE[number % len(PALETTE)]
        at = [index + (number - (len(names) - 1) / 2) * width for index in range(len(rows))]
        axes.bar(at, heights, width=width * 0.95, color=fill, label=style.label({}, name))
    step = max(1, len(rows) // 7)
    labels = [as_time(row[table.columns.index(by)]).strftime("%m-%d") for row in rows]
    axes.set_xticks(range(0, len(rows), step), labels[::step])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, style_of(panel).unit)))
    _draw_legend(axes)


def draw_histogram(axes: Axes, panel: Panel, shown: Shown) -> None:
    """Draw how many values are about how large."""
    frame_axes(axes)
    size = panel["options"].get("bucketSize") or 1
    for frame in shown.frames:
        for name in frame.columns[1:]:
            values = [value for value in frame.column(name) if _is_number(value)]
            if values:
                low, high = math.floor(min(values) / size), math.floor(max(values) / size) + 1
                axes.hist(
                    values, bins=[size * n for n in range(low, high + 1)], color=PALETTE[0], alpha=0.8, rwidth=0.95
                )
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, style_of(panel).unit)))


def draw_map(axes: Axes, panel: Panel, shown: Shown) -> None:
    """Draw a map's layers on bare ground: markers with names, ways as lines."""
    frame_axes(axes)
    axes.set_facecolor("#eef1f0")
    for layer in panel["options"]["layers"]:
        wanted = layer.get("filterData", {}).get("options")
        for frame in shown.frames:
            if wanted in (None, frame.ref_id) or frame.ref_id in str(wanted):
                _draw_layer(axes, panel, layer, frame)
    latitude_deg = sum(axes.get_ylim()) / 2
    axes.set_aspect(1 / max(0.2, math.cos(math.radians(latitude_deg))), adjustable="datalim")
    axes.margins(0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3f}°"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3f}°"))


def _draw_layer(axes: Axes, panel: Panel, layer: Mapping[str, Any], frame: Frame) -> None:
    place = layer.get("location", {})
    xs, ys = frame.column(place.get("longitude", "longitude_deg")), frame.column(place.get("latitude", "latitude_deg"))
    look = layer.get("config", {}).get("style", {})
    field = look.get("color", {}).get("field")
    fixed = color(look.get("color", {}).get("fixed", "blue"))
    fills = [style_of(panel, field).color_of(value) for value in frame.column(field)] if field else [fixed] * len(xs)
    points = [one for one in zip(xs, ys, fills, strict=True) if _is_number(one[0]) and _is_number(one[1])]
    if layer["type"] == "route":
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color=PALE, linewidth=1.2)
    is_square = "square" in str(look.get("symbol", {}).get("fixed"))
    size = 10 * float(look.get("size", {}).get("fixed", 5))
    marker = "s" if is_square else "o"
    axes.scatter(
        [x for x, _, _ in points], [y for _, y, _ in points], s=size, c=[c for *_, c in points], marker=marker, zorder=3
    )
    for x, y, name in zip(xs, ys, frame.column(look.get("text", {}).get("field", "")), strict=True):
        if name:
            axes.annotate(
                str(name), (x, y), xytext=(7, 0), textcoords="offset points", fontsize=7.5, color=INK, va="center"
            )
