"""The board "Data completeness"."""

from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

NAME = "completeness"
TITLE = Text("Data completeness", "数据完整性")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    return pen.board(NAME, TITLE, Text("", ""))
