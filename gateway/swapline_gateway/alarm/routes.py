"""HTTP of the alarm book: `GET /api/alarms`, `POST /api/alarms/acknowledge`.

There is no login: whoever reaches the console may acknowledge, in the name that they give. But no other site may have
a viewer's browser do it: the request must be JSON, which browsers let no foreign page send without asking us first (and
we never agree), where the browser says from which site it comes, that must be ours, and the name that it asked for must
be one of ours: a foreign site may have its own name point at our address, and then the browser takes it for us.
"""

import json
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from .acknowledge import check_words
from .watch import LIMIT_MAX, AlarmWatch, NotDoneError, NotKnownError, Wanted

NAME_CHARACTERS_MAX = 64
BODY_BYTES_MAX = 8192
LIMIT = 500
_PORT = re.compile(r":\d*$")
_TRUE, _FALSE = ("1", "true"), ("", "0", "false")

Handler = Callable[[web.Request], Awaitable[web.Response]]


class BadRequestError(Exception):
    """A question or a statement that cannot be understood; the message says what is allowed."""


class AlarmRoutes:
    """See the module's header."""

    def __init__(self, watch: AlarmWatch, *, names: Collection[str] = ()) -> None:
        self._watch = watch
        self._names = {name.lower() for name in names}

    def add_to(self, app: web.Application) -> None:
        """Mount the routes."""
        app.router.add_get("/api/alarms", _answering(self._alarms))
        app.router.add_post("/api/alarms/acknowledge", _answering(self._acknowledge))

    async def _alarms(self, request: web.Request) -> web.Response:
        found = await self._watch.find(read_wanted(request.query))
        body = {"alarms": [alarm.as_json() for alarm in found.alarms], "problem": found.problem or None}
        response = _json(body | {"revision": self._watch.revision})
        response.enable_compression()
        return response

    async def _acknowledge(self, request: web.Request) -> web.Response:
        if (refusal := refuse_foreign(request, self._names)) is not None:
            return refusal
        said, problem = await self._watch.acknowledge(**read_statement(await _body(request)))
        return _json({"acknowledgement": said.as_json(), "problem": problem or None}, status=202 if problem else 200)


def read_wanted(query: "dict[str, str] | Any") -> Wanted:
    """Return what a query string asks for. Raises `BadRequestError`."""
    standing = query.get("standing", "")
    if standing not in (*_TRUE, *_FALSE):
        raise BadRequestError("standing: allowed are 1 and 0")
    names = {name: query.get(name) or None for name in ("fleet", "node", "module")}
    if any(value is not None and len(value) > NAME_CHARACTERS_MAX for value in names.values()):
        raise BadRequestError(f"fleet, node, module: {NAME_CHARACTERS_MAX} characters at most")
    return Wanted(
        is_standing_only=standing in _TRUE,
        since_utc_ms=_number(query, "since", 0, 1 << 43) if "since" in query else None,
        limit=_number(query, "limit", 1, LIMIT_MAX) if "limit" in query else LIMIT,
        **names,
    )


def _number(query: "dict[str, str] | Any", name: str, minimum: int, maximum: int) -> int:
    text = query[name]
    if not (text.isascii() and text.isdigit()) or not minimum <= int(text[:20]) <= maximum:
        raise BadRequestError(f"{name}: allowed is a whole number from {minimum} to {maximum}")
    return int(text)


def refuse_foreign(request: web.Request, names: Collection[str] = ()) -> web.Response | None:
    """Return the answer to a statement that may have been made by another site's page, None to one of our own.

    `names`: what the pages are called beside the machine's own names, as before a proxy.
    """
    if request.content_type != "application/json":
        return _json({"error": "the body must be application/json"}, status=415)
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:  # what the browser itself says; no page can set it
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or origin.partition("://")[2].lower() == request.host.lower()
    if not is_ours:
        return _json({"error": "acknowledge alarms from the console's own pages"}, status=403)
    name = _PORT.sub("", request.host.lower()).strip("[]").rstrip(".")
    if (site is None and origin is None) or _is_own_name(name, names):
        return None  # no browser, or one that was told our name
    return _json({"error": f"these pages are not known as {name}: add it to http.names of the gateway"}, status=403)


def _is_own_name(name: str, names: Collection[str]) -> bool:
    """Say whether a name can only be ours: an address, a name of this machine, or one of the configuration."""
    try:
        ip_address(name)
    except ValueError:
        machine = socket.gethostname().lower()
        return name in {"localhost", machine, machine.partition(".")[0], f"{machine}.local", *names}
    return True


async def _body(request: web.Request) -> Any:
    data = await request.content.read(BODY_BYTES_MAX + 1)
    while len(data) <= BODY_BYTES_MAX and not request.content.at_eof():
        data += await request.content.read(BODY_BYTES_MAX + 1 - len(data))
    try:
        return json.loads(data[:BODY_BYTES_MAX])  # cut off, it is no JSON any more
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body must be JSON of {BODY_BYTES_MAX} bytes at most") from error


def read_statement(body: Any) -> dict[str, Any]:
    """Return the arguments of `AlarmWatch.acknowledge`. Raises `BadRequestError`."""
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    statement: dict[str, Any] = {}
    for name in ("fleet", "node"):
        value = body.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS_MAX:
            raise BadRequestError(f"{name}: 1 to {NAME_CHARACTERS_MAX} characters")
        statement[name] = value
    for name, maximum in (("bay", 255), ("code", 0xFFFF), ("raised_utc_ms", 1 << 43)):
        value = body.get(name)
        if type(value) is not int or not 0 <= value <= maximum:
            raise BadRequestError(f"{name}: allowed is a whole number from 0 to {maximum}")
        statement[name] = value
    try:
        statement["by"], statement["note"] = check_words(body.get("by"), body.get("note", ""))
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    return statement


def _answering(handle: Handler) -> Handler:
    """Turn what goes wrong into `{"error": sentence}`."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handle(request)
        except BadRequestError as error:
            return _json({"error": str(error)}, status=400)
        except NotKnownError as error:
            return _json({"error": str(error)}, status=404)
        except NotDoneError as error:
            return _json({"error": str(error)}, status=503)

    return answer


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return web.Response(
        text=text, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
