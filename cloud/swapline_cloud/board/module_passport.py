"""The board "Module passport": where one module was, what it is worth, what it did, and what may fail next."""

from swapline_cloud.text import Text

from . import passport_cells, passport_course, passport_figure, passport_place, variable
from .pen import Pen
from .sdk import dashboard

NAME = "module-passport"
TITLE = Text("Module passport", "电池护照")
DESCRIPTION = Text(
    "One battery module: holders, capacity and resistance with their uncertainty, how it was treated, early "
    "warnings, and its readings. docs/modules.md says how each figure is found.",
    "单个电池模块：历任持有者、容量与内阻及其不确定度、使用情况、预警与读数。各指标的来源见 docs/modules.md。",
)


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    board = pen.board(NAME, TITLE, DESCRIPTION, variables=[variable.module(pen)], start="now-30d", refresh="1m")
    for panel in passport_figure.draw(pen):
        board = board.with_panel(panel)
    for title, panels in (
        (Text("Where it is and was", "现在与过去的位置"), passport_place.stays(pen)),
        (Text("What may be wrong", "可能的问题"), passport_place.findings(pen)),
        (Text("How it is treated", "使用情况"), passport_course.treatment(pen)),
        (Text("Readings", "读数"), passport_course.readings(pen)),
        (Text("Cells and temperatures", "单体与温度"), passport_cells.draw(pen)),
    ):
        board = board.with_row(pen.row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board
