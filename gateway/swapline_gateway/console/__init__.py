"""The web console: pages that people watch, and the JSON and live stream behind them.

`add_routes` mounts it on an aiohttp application; everything it shows comes from `FleetState` (now), a `History` (then)
and a pipeline provider (the gateway's own health). It works without internet: every asset lies in `static/`.
"""

from .document import alarms_document, battery_document
from .routes import add_routes

__all__ = ["add_routes", "alarms_document", "battery_document"]
