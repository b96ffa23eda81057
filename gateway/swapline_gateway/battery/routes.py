"""HTTP of the battery's books: `GET /api/battery/...`, with the answers of `answers.py`.

A few questions at a time are answered, each in a thread: a long one takes neither the event loop nor the keeper's turn.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from swapline_gateway.error import SinkError
from swapline_gateway.log import get
from swapline_gateway.spool import now_utc_ms

from .answers import LIMIT, LIMIT_MAX, Answer, BookAnswers
from .books import Books
from .keeper import Keeper
from .record import KINDS
from .store import BatteryStore

QUESTIONS_MAX = 2  # at once
WAITING_MAX = 32
MODULE_MS = 600_000  # for which a module's page may show old siblings
TIMEOUT_S = 30.0
NAME_CHARACTERS_MAX = 64
TIME_MS_MAX = 1 << 43
BELOW = "/api/battery/"

_log = get("battery")


class BadQuestionError(Exception):
    """A question that cannot be understood; the message says what is allowed."""


class BatteryRoutes:
    """See the module's header."""

    def __init__(self, store: BatteryStore, keeper: Keeper) -> None:
        self._store = store
        self._keeper = keeper
        self._turn = asyncio.Semaphore(QUESTIONS_MAX)
        self._waiting = 0

    def add_to(self, app: web.Application) -> None:
        """Mount the routes."""
        for name, ask in (
            ("codes", _codes),
            ("module", _module),
            ("holder", _holder),
            ("contradictions", _contradictions),
            ("warnings", _warnings),
            ("swaps", _swaps),
        ):
            app.router.add_get(BELOW + name, self._answering(ask))

    def _answering(self, ask: "Ask") -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                question = ask(request)
            except BadQuestionError as error:
                return _json({"error": str(error)}, status=400)
            if self._waiting >= WAITING_MAX:
                return _json({"error": "too many questions at once: ask again in a moment"}, status=503)
            etag = self._etag(request) if ask is _module else None
            if etag and any(one.value == etag for one in request.if_none_match or ()):
                return web.Response(status=304)
            self._waiting += 1
            try:
                response = await self._answer(question)
            finally:
                self._waiting -= 1
            if etag and response.status == 200:
                response.headers["ETag"] = f'W/"{etag}"'
                response.headers["Cache-Control"] = "private, no-cache"
            return response

        return answer

    def _etag(self, request: web.Request) -> str:
        """Return what an answer about one module is good for: as long as nothing of this module has changed.

        Its siblings change too, and its running hour, but need not be told at once.
        """
        revision = self._keeper.module_revision(request.query["code"])
        return f"{revision}-{now_utc_ms() // MODULE_MS}"

    async def _answer(self, question: Callable[[BookAnswers], Answer]) -> web.Response:
        revision = self._keeper.revision  # before the answer: what changes meanwhile makes pages ask again
        books = Books(self._store, is_kept=not self._keeper.figures.off)
        try:
            async with asyncio.timeout(TIMEOUT_S), self._turn:
                found = await asyncio.to_thread(question, BookAnswers(books))
        except (SinkError, TimeoutError) as error:
            _log.warning("books cannot be asked", error=str(error) or "no answer in time")
            return _json({"error": f"the database does not answer: {error}"}, status=503)
        response = _json({**found, "revision": revision})
        response.enable_compression()
        return response


Ask = Callable[[web.Request], Callable[[BookAnswers], Answer]]


def _codes(_request: web.Request) -> Callable[[BookAnswers], Answer]:
    return lambda answers: answers.codes()


def _module(request: web.Request) -> Callable[[BookAnswers], Answer]:
    code = _text(request, "code")
    since_ms, limit = _number(request, "since", 0, TIME_MS_MAX), _limit(request)
    before_ms = _number(request, "before", None, TIME_MS_MAX)
    return lambda answers: answers.module(code, since_utc_ms=since_ms or 0, before_utc_ms=before_ms, limit=limit)


def _holder(request: web.Request) -> Callable[[BookAnswers], Answer]:
    fleet, node = _text(request, "fleet"), _text(request, "node")
    at_ms = _number(request, "at", None, TIME_MS_MAX)
    return lambda answers: answers.holder(fleet, node, at_ms)


def _contradictions(request: web.Request) -> Callable[[BookAnswers], Answer]:
    since_ms, limit = _number(request, "since", 0, TIME_MS_MAX), _limit(request)
    kind = request.query.get("kind") or None
    if kind not in (None, *KINDS):
        raise BadQuestionError(f"kind: allowed are {', '.join(KINDS)}")
    return lambda answers: answers.contradictions(since_utc_ms=since_ms or 0, limit=limit, kind=kind)


def _warnings(_request: web.Request) -> Callable[[BookAnswers], Answer]:
    return lambda answers: answers.warnings()


def _swaps(request: web.Request) -> Callable[[BookAnswers], Answer]:
    since_ms, limit = _number(request, "since", 0, TIME_MS_MAX), _limit(request)
    fleet = _text(request, "fleet") if "fleet" in request.query else None
    return lambda answers: answers.swaps(since_utc_ms=since_ms or 0, limit=limit, fleet=fleet)


def _text(request: web.Request, name: str) -> str:
    value = request.query.get(name, "")
    if not 0 < len(value) <= NAME_CHARACTERS_MAX or not value.isprintable():
        raise BadQuestionError(f"{name}: 1 to {NAME_CHARACTERS_MAX} characters")
    return value


def _limit(request: web.Request) -> int:
    limit = _number(request, "limit", LIMIT, LIMIT_MAX)
    if not limit:
        raise BadQuestionError(f"limit: allowed is a whole number from 1 to {LIMIT_MAX}")
    return limit


def _number(request: web.Request, name: str, default: int | None, maximum: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > maximum:
        raise BadQuestionError(f"{name}: allowed is a whole number from 0 to {maximum}")
    return int(text)


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return web.Response(
        text=text, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
