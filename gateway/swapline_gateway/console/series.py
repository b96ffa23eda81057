"""`/api/series`: a chart's data out of the history, with everything from the query string checked first."""

from aiohttp import web

from swapline_gateway.history import SeriesQuery
from swapline_wire.catalogue import KEY, Stream, stream_by_name
from swapline_wire.frame import OWNER_BYTES_MAX
from swapline_wire.topic import NAME_CHARACTERS_MAX

SIGNALS_MAX = 32
POINTS_MAX = 2_000
POINTS_DEFAULT = 600
SPAN_MS_MAX = 400 * 86_400_000


def _bad(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=text)


def _text(request: web.Request, name: str, length_max: int) -> str | None:
    value = request.query.get(name)
    if value is not None and (not 0 < len(value) <= length_max or not value.isascii() or not value.isprintable()):
        raise _bad(f"{name}: 1 to {length_max} printable ASCII characters")
    return value


def _number(request: web.Request, name: str, *, default: int | None, minimum: int, maximum: int) -> int:
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    try:
        value = int(text or "")
    except ValueError:
        raise _bad(f"{name}: a whole number is needed") from None
    if not minimum <= value <= maximum:
        raise _bad(f"{name}: {minimum} to {maximum}")
    return value


def _signals(request: web.Request, stream: Stream) -> list[str]:
    names = [name for name in request.query.get("signals", "").split(",") if name]
    known = {signal.name for signal in stream.signals if signal.kind != KEY}
    unknown = [name for name in names if name not in known]
    if not names or unknown or len(names) > SIGNALS_MAX:
        raise _bad(f"signals: 1 to {SIGNALS_MAX} signals of {stream.name}")
    return names


def read_query(request: web.Request) -> SeriesQuery:
    """Return what is asked for. Raises `HTTPBadRequest` with what is allowed."""
    stream = stream_by_name(request.query.get("stream", ""))
    if stream is None:
        raise _bad("stream: a stream of the catalogue is needed")
    start = _number(request, "start", default=None, minimum=0, maximum=1 << 45)
    end = _number(request, "end", default=None, minimum=0, maximum=1 << 45)
    if not 0 < end - start <= SPAN_MS_MAX:
        raise _bad("end: later than start, by 400 days at most")
    fleet = _text(request, "fleet", NAME_CHARACTERS_MAX)
    if fleet is None:
        raise _bad("fleet: is missing")
    bay = request.query.get("bay")
    return SeriesQuery(
        stream=stream.name,
        fleet=fleet,
        node=_text(request, "node", NAME_CHARACTERS_MAX),
        bay=None if bay is None else _number(request, "bay", default=None, minimum=0, maximum=255),
        module=_text(request, "module", OWNER_BYTES_MAX),
        signals=tuple(_signals(request, stream)),
        start_utc_ms=start,
        end_utc_ms=end,
        points_max=_number(request, "points", default=POINTS_DEFAULT, minimum=2, maximum=POINTS_MAX),
    )
