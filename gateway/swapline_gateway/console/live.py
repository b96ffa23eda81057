"""The live stream: server-sent events, first the whole document, then patches, at most two a second.

A viewer that reads slowly gets fewer and larger patches, never a queue; one that does not read at all is dropped after
`SEND_TIMEOUT_S`. `now` in every event is the gateway's clock, so pages state ages without trusting the viewer's clock.
"""

import asyncio
import json
from typing import Any

from aiohttp import web

from swapline_gateway.state import BATCH_INTERVAL_S, FleetState

from .document import Document
from .joined import refresh_part

HEARTBEAT_S = 5.0  # shorter than what pages take for a broken line, and than any proxy's idle limit
SEND_TIMEOUT_S = 20.0
VIEWERS_MAX = 256


class LiveStreams:
    """All viewers' streams: bounded in number, ended together at shutdown."""

    def __init__(
        self, fleet: FleetState, *, viewers_max: int = VIEWERS_MAX, interval_s: float = BATCH_INTERVAL_S
    ) -> None:
        self._fleet = fleet
        self._viewers_max = viewers_max
        self._interval_s = interval_s
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def viewer_count(self) -> int:
        """Return how many streams are open."""
        return len(self._tasks)

    async def close(self) -> None:
        """End all streams; pages reconnect by themselves when the gateway is back."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, request: web.Request, document: Document) -> web.StreamResponse:
        """Stream `document` until the viewer leaves; an empty patch still tells that the line is alive."""
        if len(self._tasks) >= self._viewers_max:
            raise web.HTTPServiceUnavailable(text="too many viewers", headers={"Retry-After": "10"})
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await self._stream(request, document)
        finally:
            self._tasks.discard(task)

    async def _stream(self, request: web.Request, document: Document) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # or nginx would hold events back
        with self._fleet.subscribe() as changes:
            await response.prepare(request)
            try:
                await self._send(response, "snapshot", {"content": document.content})
                while True:
                    batch = await changes.take(min(document.interval_s or HEARTBEAT_S, HEARTBEAT_S))
                    await self._send(response, "patch", refresh_part(document, batch))
                    await asyncio.sleep(self._interval_s)
            except (ConnectionError, TimeoutError):  # the viewer left, or does not read
                if request.transport is not None:
                    request.transport.abort()  # or the server would wait for ever to say goodbye to it
                return response

    async def _send(self, response: web.StreamResponse, event: str, data: dict[str, Any]) -> None:
        text = json.dumps({"now": self._fleet.now_utc_ms(), **data}, separators=(",", ":"), allow_nan=False)
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await response.write(f"event: {event}\ndata: {text}\n\n".encode())
