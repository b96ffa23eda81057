"""Where panels stand on Grafana's grid: each as high up as it fits, then as far left."""

from typing import Any

WIDTH = 24


def lay_out(panels: list[dict[str, Any]]) -> None:
    """Set the panels' places. A row stands below everything before it."""
    bottoms = [0] * WIDTH
    for panel in panels:
        place = panel["gridPos"]
        width = place["w"]
        if panel["type"] == "row":
            place["x"], place["y"] = 0, max(bottoms)
        else:
            tops = [max(bottoms[x : x + width]) for x in range(WIDTH - width + 1)]
            place["y"] = min(tops)
            place["x"] = tops.index(place["y"])
        for x in range(place["x"], place["x"] + width):
            bottoms[x] = place["y"] + place["h"]
