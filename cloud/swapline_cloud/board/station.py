"""The board "Station"."""

from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

NAME = "station"
TITLE = Text("Station", "换电站")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    return pen.board(NAME, TITLE, Text("", ""))
