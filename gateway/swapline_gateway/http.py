"""HTTP: health, metrics and the gateway's figures; the console is mounted beside them."""

import json
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from .alarm.metrics import AlarmCollector
from .alarm.routes import AlarmRoutes
from .alarm.watch import AlarmWatch
from .battery.keeper import Keeper
from .battery.routes import BatteryRoutes
from .battery.store import BatteryStore
from .config import HttpConfig
from .error import ConfigurationError, SinkBusyError, UnavailableError
from .history import History
from .metrics import FiguresCollector, KeeperCollector
from .outlook.outlook import Outlook
from .outlook.routes import OutlookCollector, OutlookRoutes
from .pipeline import PipelineFigures
from .spool import now_utc_ms
from .state import FleetState
from .vitals.metrics import VitalsCollector
from .vitals.vitals import Vitals


class HttpServer:
    """The gateway's pages."""

    def __init__(
        self,
        config: HttpConfig,
        *,
        state: FleetState,
        figures: PipelineFigures,
        history: History | None,
        alarms: AlarmWatch,
        keeper: Keeper,
        store: BatteryStore,
        vitals: Vitals,
        outlook: Outlook | None,
    ) -> None:
        self._config = config
        self._figures = figures
        self._history = history
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(FiguresCollector(figures))
        self._registry.register(KeeperCollector(keeper.figures))
        self._registry.register(AlarmCollector(alarms))
        self._registry.register(VitalsCollector(vitals))
        if outlook is not None:
            self._registry.register(OutlookCollector(outlook))
        self._app = web.Application()
        self._app.router.add_get("/healthz", self._healthz)
        self._app.router.add_get("/metrics", self._metrics)
        self._app.router.add_get("/api/pipeline", self._pipeline)
        self._app.router.add_get("/api/missing", self._missing)
        AlarmRoutes(alarms, names=config.names).add_to(self._app)
        BatteryRoutes(store, keeper).add_to(self._app)
        OutlookRoutes(outlook).add_to(self._app)
        if config.console:
            from .console import add_routes, alarms_document, battery_document  # noqa: PLC0415

            console = add_routes(self._app, state=state, history=history, pipeline=self._figures_json)
            console.add_scope("alarms", lambda _request: alarms_document(alarms.figures))
            console.add_scope("battery", lambda _request: battery_document(keeper.as_json))
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=2)

    async def open(self) -> str:
        """Begin to listen and return the address. Raises `GatewayError` if the port cannot be had."""
        await self._runner.setup()
        host, port = self._config.host, self._config.port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno in (98, 48):  # EADDRINUSE of Linux and macOS
                raise UnavailableError(
                    f"Port {port} of {host} is used by another program: stop it, or set http.port to another one (0 "
                    "takes a free one)."
                ) from error
            raise ConfigurationError(
                f"http.host, http.port: {host}:{port} cannot be used: {error.strerror}."
            ) from error
        address = self._runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"http://{shown}:{address[1]}"

    async def close(self) -> None:
        """Stop listening and end the open connections."""
        await self._runner.cleanup()

    def _figures_json(self) -> dict[str, Any]:
        return self._figures.as_json(now_utc_ms())

    async def _healthz(self, _request: web.Request) -> web.Response:
        problems = self._figures.problems()
        body = {"status": "ok" if not problems else "degraded", "problems": problems}
        return web.json_response(body, status=503 if problems else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _pipeline(self, _request: web.Request) -> web.Response:
        return web.json_response(self._figures_json(), dumps=lambda data: json.dumps(data, separators=(",", ":")))

    async def _missing(self, request: web.Request) -> web.Response:
        """Answer what is missing; `fleet` and `node` narrow it."""
        if self._history is None:
            return web.json_response({"error": "this gateway has no database to ask"}, status=404)
        try:
            found = await self._history.missing(fleet=request.query.get("fleet"), node=request.query.get("node"))
        except SinkBusyError as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({"missing": [one.as_json() for one in found]})
