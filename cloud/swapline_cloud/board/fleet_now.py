"""The board "Fleet now"."""

from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

NAME = "fleet-now"
TITLE = Text("Fleet now", "车队概览")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    return pen.board(NAME, TITLE, Text("", ""))
