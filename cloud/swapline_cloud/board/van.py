"""The board "Van"."""

from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

NAME = "van"
TITLE = Text("Van", "车辆")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    return pen.board(NAME, TITLE, Text("", ""))
