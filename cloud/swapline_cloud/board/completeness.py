"""The board "Data completeness": what is missing, what came late, who gave up what, by node and reason."""

from swapline_cloud.text import Text

from . import completeness_figure, completeness_frame, completeness_node, variable
from .pen import Pen
from .sdk import dashboard

NAME = "completeness"
TITLE = Text("Data completeness", "数据完整性")
DESCRIPTION = Text(
    "Every frame has a number, so what is missing is known. What is missing may be on its way, was given up with a "
    "reason, or is a bug. `swapline missing` names single frames.",
    "每一帧都有编号，因此缺失可知：可能仍在途中、已声明放弃并给出原因，或者是缺陷。`swapline missing` 可列出具体的帧。",
)


def draw(pen: Pen) -> dashboard.Dashboard:
    """Return the board."""
    board = pen.board(NAME, TITLE, DESCRIPTION, variables=[variable.fleet(pen), variable.node(pen)], start="now-24h")
    for panel in completeness_figure.draw(pen):
        board = board.with_panel(panel)
    for title, panels in (
        (Text("Missing and lost", "缺失与丢失"), completeness_frame.missing(pen)),
        (Text("Delay and back-fill", "延迟与补传"), completeness_frame.delay(pen)),
        (Text("Nodes", "节点"), completeness_node.draw(pen)),
    ):
        board = board.with_row(pen.row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board
