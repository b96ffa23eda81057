"""Draws pictures of the boards from the answers to their own queries: `python -m tools.preview_boards`.

With `--url` it asks a database that a fleet has filled; without, it starts an InfluxDB of its own and lets a fleet live
in it for a while (a minute or two). Pictures are ours, not Grafana's: same grid, queries and colours, less finish.
"""

import argparse
import contextlib
import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from swapline_cloud.board.boards import BOARDS
from swapline_cloud.board.pen import Pen, as_json
from swapline_cloud.interpolate import Choice
from swapline_cloud.rollup import DATABASE
from swapline_cloud.text import CHINESE, ENGLISH, LANGUAGES
from swapline_cloud.viewer import Ask, Look, choose, default_range
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient
from tools.preview import chart, sheet
from tools.preview.frame import Shown, ask
from tools.preview.style import DESK, INK, LINE, PALE, PAPER

WIDTH_PX, ROW_PX, GAP_PX, MARGIN_PX, HEAD_PX, DPI = 1240, 30, 6, 10, 46, 100
COLORS = 128  # of a picture's palette
ROWS_MAX = 72  # of Grafana's grid: what a picture in a page can carry; the rest of a long board is left out
CHINESE_FONTS = ("Noto Sans CJK SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei")
EMPTY = "No data"
SHEETS = {"stat": sheet.draw_numbers, "table": sheet.draw_table, "bargauge": sheet.draw_bars}


def draw_board(
    board: dict[str, Any], query: Ask, now_utc_ms: int, wanted: dict[str, Choice], rows_max: int
) -> Image.Image:
    """Return a picture of a board that has just been opened."""
    time_range = default_range(board, now_utc_ms)
    look = Look(time_range, choose(board, query, time_range, wanted))
    shown = [panel for panel in board["panels"] if _end(panel) <= rows_max]
    height_px = HEAD_PX + MARGIN_PX + ROW_PX * max(_end(panel) for panel in shown)
    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, facecolor=DESK)
    chosen = "   ".join(f"{name}: {_chosen(value)}" for name, value in look.choices.items())
    figure.text(
        MARGIN_PX / WIDTH_PX, 1 - 16 / height_px, board["title"], fontsize=14, color=INK, weight="bold", va="center"
    )
    figure.text(
        MARGIN_PX / WIDTH_PX,
        1 - 36 / height_px,
        f"{chosen}   {board['time']['from']}",
        fontsize=8,
        color=PALE,
        va="center",
    )
    for panel in shown:
        _draw_panel(figure, panel, look, query, height_px)
    return _picture(figure)


def _end(panel: dict[str, Any]) -> int:
    place = panel["gridPos"]
    return int(place["y"] + place["h"])


def _chosen(value: Any) -> str:
    return "All" if value == ".*" else " + ".join(value) if isinstance(value, tuple) else str(value)


def _draw_panel(figure: Figure, panel: dict[str, Any], look: Look, query: Ask, height_px: float) -> None:
    place = panel["gridPos"]
    column_px = (WIDTH_PX - 2 * MARGIN_PX) / 24
    left, top = MARGIN_PX + place["x"] * column_px, HEAD_PX + place["y"] * ROW_PX
    width, height = place["w"] * column_px - GAP_PX, place["h"] * ROW_PX - GAP_PX

    def box(dx: float, dy: float, w: float, h: float) -> tuple[float, float, float, float]:
        """Return a box within the panel, from its upper left corner, as the figure counts."""
        return (left + dx) / WIDTH_PX, 1 - (top + dy + h) / height_px, w / WIDTH_PX, h / height_px

    if panel["type"] == "row":
        figure.text(*box(2, 0, 0, height / 2)[:2], panel["title"], fontsize=10, color=INK, weight="bold", va="center")
        return
    x, y, w, h = box(0, 0, width, height)
    figure.add_artist(Rectangle((x, y), w, h, facecolor=PAPER, edgecolor=LINE, linewidth=0.8, zorder=-5))
    figure.text(*box(8, 13, 0, 0)[:2], _fit(panel["title"], width), fontsize=8.5, color=INK, va="center", weight="bold")
    shown = ask(panel, look, query) if panel.get("targets") else Shown([], [])
    kind = panel["type"]
    if kind == "text":
        figure.text(
            *box(8, 30, 0, 0)[:2], panel["options"]["content"][:300], fontsize=8, color=INK, va="top", wrap=True
        )
    elif shown.is_empty:
        text = panel["fieldConfig"]["defaults"].get("noValue", EMPTY)
        figure.text(*box(width / 2, height / 2, 0, 0)[:2], text, fontsize=10, color=PALE, ha="center", va="center")
    elif kind in SHEETS:
        SHEETS[kind](figure.add_axes(box(8, 26, width - 16, height - 32)), panel, shown)
    else:
        inside = (
            box(68, 30, width - 82, height - 74) if kind != "state-timeline" else box(84, 28, width - 96, height - 52)
        )
        _draw_chart(figure.add_axes(inside), panel, shown, look)


def _fit(title: str, width_px: float) -> str:
    letters = int(width_px / 7.6)
    return title if len(title) <= letters else title[: letters - 1] + "…"


def _draw_chart(axes: Any, panel: dict[str, Any], shown: Shown, look: Look) -> None:
    kind = panel["type"]
    if kind == "timeseries":
        chart.draw_course(axes, panel, shown, look.time_range)
    elif kind == "state-timeline":
        chart.draw_states(axes, panel, shown, look.time_range)
    elif kind == "barchart":
        chart.draw_days(axes, panel, shown)
    elif kind == "histogram":
        chart.draw_histogram(axes, panel, shown)
    elif kind == "geomap":
        chart.draw_map(axes, panel, shown)
    else:
        raise NotImplementedError(f"the preview draws no {kind}")


def _picture(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=DESK)
    return Image.open(file).convert("RGB").quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def use_font(language: str) -> bool:
    """Take a font that has the language's letters; say whether there is one."""
    if language == ENGLISH:
        mpl.rcParams["font.family"] = ["DejaVu Sans"]
        return True
    installed = {font.name for font in font_manager.fontManager.ttflist}
    found = [name for name in CHINESE_FONTS if name in installed]
    mpl.rcParams["font.family"] = [*found, "DejaVu Sans"]
    return bool(found)


@contextlib.contextmanager
def asking(url: str | None, now_utc_ms: int | None) -> Iterator[tuple[Ask, int]]:
    """Yield what asks a filled database, and the moment at which its history ends."""
    if url is None:
        from tests.cloud.filled import Size, filled

        with filled(Size(days=14, hours=30)) as database:
            yield database.query, database.now_utc_ms
        return
    client = InfluxqlClient(Influxdb1Config(type="influxdb1", url=url, database=DATABASE, timeout_s=60))
    with contextlib.closing(client):
        yield client.query, now_utc_ms or time.time_ns() // 1_000_000


def main() -> None:
    """Draw the boards that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--url", help="of an InfluxDB 1.x with the database swapline; default: fill one")
    parser.add_argument("--now-utc-ms", type=int, help="when its history ends; default: now")
    parser.add_argument("--lang", choices=LANGUAGES, default=ENGLISH)
    parser.add_argument("--board", action="append", choices=[board.NAME for board in BOARDS], help="default: all")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="choose a variable's value")
    parser.add_argument("--rows", type=int, default=ROWS_MAX, help="of Grafana's grid, from the top")
    args = parser.parse_args()
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font without bold letters is good enough
    if not use_font(args.lang):
        parser.error(
            f"no font has Chinese letters; Debian: fonts-wqy-microhei or fonts-noto-cjk ({', '.join(CHINESE_FONTS)})"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, Choice] = dict(one.split("=", 1) for one in args.set)
    ending = "-zh" if args.lang == CHINESE else ""
    with asking(args.url, args.now_utc_ms) as (query, now_utc_ms):
        for board in BOARDS:
            if args.board and board.NAME not in args.board:
                continue
            picture = draw_board(as_json(board.draw(Pen(args.lang))), query, now_utc_ms, wanted, args.rows)
            path = args.out / f"board-{board.NAME}{ending}.png"
            picture.save(path, optimize=True)
            print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
