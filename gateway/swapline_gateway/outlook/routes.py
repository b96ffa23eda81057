"""HTTP of the outlook: `GET /api/outlook`, and its figures in `/metrics`."""

import json
from collections.abc import Iterator

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .outlook import Outlook

NONE = "this gateway has no outlook: it needs an InfluxDB, and outlook.keep"


class OutlookRoutes:
    """See the module's header."""

    def __init__(self, outlook: Outlook | None) -> None:
        self._outlook = outlook

    def add_to(self, app: web.Application) -> None:
        """Mount the route."""
        app.router.add_get("/api/outlook", self._answer)

    async def _answer(self, _request: web.Request) -> web.Response:
        if self._outlook is None:
            return web.json_response({"error": NONE}, status=404)
        response = web.json_response(
            self._outlook.as_json(),
            dumps=lambda data: json.dumps(data, separators=(",", ":"), allow_nan=False),
            headers={"Cache-Control": "no-store"},
        )
        response.enable_compression()
        return response


class OutlookCollector(Collector):
    """Reads the last round's figures when it is asked."""

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        outlook = self._outlook
        for name, text, value in (
            ("working", "0 while the outlook waits for the database", not outlook.problem),
            ("round_seconds", "how long the last round took", outlook.round_s),
            ("vans", "vans in the last round", len(outlook.vans)),
            ("vans_low", "vans that need a swap", sum(bool(van.get("is_low")) for van in outlook.vans.values())),
            ("stations", "stations in the last round", len(outlook.stations)),
        ):
            yield GaugeMetricFamily(f"swapline_outlook_{name}", text, value=float(value))
        yield CounterMetricFamily("swapline_outlook_lost", "points that the database never got", value=outlook.lost)
