"""The board "Module passport"."""

from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

NAME = "module-passport"
TITLE = Text("Module passport", "电池护照")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    return pen.board(NAME, TITLE, Text("", ""))
