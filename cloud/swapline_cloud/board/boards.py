"""All boards, in the order in which they are listed."""

from typing import Any

from swapline_cloud.board import completeness, fleet_now, module_passport, pipeline_health, station, van

from .pen import Pen, as_json

BOARDS = (fleet_now, van, module_passport, station, completeness, pipeline_health)


def render(language: str) -> dict[str, dict[str, Any]]:
    """Return every board's JSON by its name (`fleet-now`)."""
    pen = Pen(language)
    return {board.NAME: as_json(board.draw(pen)) for board in BOARDS}
