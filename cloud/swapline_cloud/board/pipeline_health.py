"""The board "Pipeline health"."""

from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

NAME = "pipeline-health"
TITLE = Text("Pipeline health", "管道健康")


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    return pen.board(NAME, TITLE, Text("", ""))
