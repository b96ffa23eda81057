"""Routes of the console: pages, assets, JSON views, the live stream, charts' data.

Pages take names in the query string (`/holder?fleet=demo&node=van-001`): a path would swallow a node called `..`.
All addresses are relative, so that the console works below any prefix of a reverse proxy.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from swapline_gateway.history import History
from swapline_gateway.state import FleetState
from swapline_wire import catalogue

from . import document, label, security, series
from .document import Document, PipelineProvider
from .joined import JoinedDocument
from .live import LiveStreams

STATIC = Path(__file__).parent / "static"
PAGES = ("/", "/holder", "/stations", "/modules", "/module", "/custody", "/alarms", "/pipeline")
HISTORY_TIMEOUT_S = 15.0
HISTORY_QUERIES_MAX = 4  # at once; charts wait rather than take the database from the sink
NAME_CHARACTERS_MAX = 64

log = structlog.get_logger("console")

Scope = Callable[[web.Request], Document]


class Console:
    """The handlers, with what they read from."""

    def __init__(
        self,
        state: FleetState,
        history: History | None,
        pipeline: PipelineProvider,
        *,
        live: LiveStreams | None = None,
    ) -> None:
        self.live = live or LiveStreams(state)
        self._state = state
        self._history = history
        self._queries = asyncio.Semaphore(HISTORY_QUERIES_MAX)
        self._catalogue = _catalogue()
        self._scopes: dict[str, Scope] = {
            "fleet": lambda _request: document.FleetDocument(state),
            "modules": lambda _request: document.ModulesDocument(state),
            "pipeline": lambda _request: document.pipeline_document(state, pipeline),
            "module": lambda request: document.module_document(state, _query(request, "code")),
            "node": lambda request: document.node_document(
                state, fleet_name=_query(request, "fleet"), node_name=_query(request, "node")
            ),
            "books": lambda _request: document.empty_document(),
            "stations": lambda _request: document.stations_document(state),
        }

    def add_scope(self, name: str, build: Scope) -> None:
        """Offer one more view, by itself and beside others (`?also=`)."""
        self._scopes[name] = build

    def _document(self, request: web.Request) -> Document:
        """Return the document of the scope in the path, joined with those of `?also=`.

        What this gateway does not keep (a database without books) is left out of what stands beside a page.
        """
        build = self._scopes.get(request.match_info["scope"])
        if build is None:
            raise web.HTTPNotFound(text="unknown view")
        names = dict.fromkeys(name for name in request.query.get("also", "").split(",") if name in self._scopes)
        page = build(request)
        return JoinedDocument(page, {name: self._scopes[name](request) for name in names}) if names else page

    async def page(self, _request: web.Request) -> web.StreamResponse:
        """Serve the one page that draws all of them."""
        return web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def view(self, request: web.Request) -> web.Response:
        """Answer with what the live stream begins with."""
        content = self._document(request).content
        return _json({"now": self._state.now_utc_ms(), "content": content})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Stream a view."""
        return await self.live.serve(request, self._document(request))

    async def catalogue(self, _request: web.Request) -> web.Response:
        """Answer with signals, units and words: all that the pages know about numbers."""
        return _json(self._catalogue, cache="max-age=3600")

    async def series(self, request: web.Request) -> web.Response:
        """Answer with a chart's data."""
        query = series.read_query(request)
        if self._history is None:
            raise web.HTTPServiceUnavailable(text="this gateway's database keeps no history that the console can read")
        try:
            async with asyncio.timeout(HISTORY_TIMEOUT_S), self._queries:
                found = await self._history.series(query)
        except Exception as error:  # whatever the database raises, the page says so and stays alive
            log.warning("history does not answer", error=repr(error), stream=query.stream)
            raise web.HTTPBadGateway(text="the database does not answer") from error
        return _json({"time_utc_ms": found.time_utc_ms, "values": found.values})

    async def close(self, _app: web.Application) -> None:
        """End the live streams, or shutdown would wait for their viewers."""
        await self.live.close()


def _query(request: web.Request, name: str) -> str:
    value = request.query.get(name, "")
    if not 0 < len(value) <= NAME_CHARACTERS_MAX:
        raise web.HTTPBadRequest(text=f"{name}: 1 to {NAME_CHARACTERS_MAX} characters")
    return value


def _json(data: dict[str, Any], *, cache: str = "no-store") -> web.Response:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    response = web.Response(text=text, content_type="application/json", headers={"Cache-Control": cache})
    response.enable_compression()
    return response


def _catalogue() -> dict[str, Any]:
    streams = {
        stream.name: {
            signal.name: {
                "unit": signal.unit,
                "decimals": signal.decimals,
                "kind": signal.kind,
                "minimum": signal.minimum / 10**signal.decimals,
                "maximum": signal.maximum / 10**signal.decimals,
            }
            for signal in stream.signals
        }
        for stream in catalogue.STREAMS
    }
    silences = {stream.name: stream.silence_ms_max for stream in catalogue.STREAMS}
    return {"streams": streams, "silence_ms_max": silences, "states": label.STATES, "flags": label.FLAGS}


@web.middleware
async def answer_errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors below `/api/` into `{"error": text}`."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if not request.path.startswith("/api/") or error.status < 400:
            raise
        body = json.dumps({"error": error.text})
        retry = {"Retry-After": error.headers["Retry-After"]} if "Retry-After" in error.headers else None
        return web.Response(status=error.status, text=body, content_type="application/json", headers=retry)


async def _static_cache(request: web.BaseRequest, response: web.StreamResponse) -> None:
    if request.path.startswith("/static/"):
        response.headers["Cache-Control"] = (
            "no-cache"  # revalidated: an upgrade shows at once, unchanged files cost 304
        )


def add_routes(
    app: web.Application, *, state: FleetState, history: History | None, pipeline: PipelineProvider
) -> Console:
    """Mount the console on `app`, before it starts.

    `pipeline` returns the gateway's own figures as JSON-ready data whenever it is called.
    """
    console = Console(state, history, pipeline)
    for page in PAGES:
        app.router.add_get(page, console.page)
    app.router.add_get("/api/catalogue", console.catalogue)
    app.router.add_get("/api/series", console.series)
    app.router.add_get("/api/view/{scope}", console.view)
    app.router.add_get("/api/live/{scope}", console.stream)
    app.router.add_static("/static/", STATIC)
    app.middlewares.append(answer_errors_as_json)
    app.on_response_prepare.append(cast(Any, security.add_headers))
    app.on_response_prepare.append(cast(Any, _static_cache))
    app.on_shutdown.append(console.close)
    return console
