"""`swapline check` of an InfluxDB: is it there, may we write, is the reader answered? Changes nothing."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import urllib3

from .config import Influxdb1Config, Influxdb2Config
from .error import SinkBusyError, reason
from .finding import Finding
from .influxql import InfluxqlClient, reading_headers, token_header
from .sinks.influxdb1 import credentials
from .sinks.line_protocol import FRAMES

_TIMEOUT_S = 5
_TAKES_NOTHING = (200, 204, 400)  # said to nothing at all: 1.x, VictoriaMetrics, and 2.x, which misses points
InfluxConfig = Influxdb1Config | Influxdb2Config


@dataclass(frozen=True, slots=True)
class Request:
    """How to ask a server for the database `name`; `keys` of the configuration hold the credentials."""

    path: str
    headers: dict[str, str]
    name: str
    keys: str
    is_made_by_us: bool
    advice: str


def findings(sink: InfluxConfig) -> Iterator[Finding]:
    """Yield what there is to say: of a sink with a `reader` also whether each of the two may do its part."""
    database = _ask(sink, _ask_influxdb1(sink) if isinstance(sink, Influxdb1Config) else _ask_influxdb2(sink))
    yield database
    forever = _forever(sink)
    if forever is not None:
        yield replace(_ask(sink, forever), part="for ever")
    if database.is_ok and sink.reader.model_fields_set:
        yield _writer(sink)
        yield _reader(sink)


def _forever(sink: InfluxConfig) -> Request | None:
    """Return how to ask for the place of events, alarms and books, where they have one of their own."""
    if isinstance(sink, Influxdb1Config) and sink.forever:
        path = "/query?" + urlencode({"q": f'SHOW RETENTION POLICIES ON "{sink.database}"'})
        request = replace(_ask_influxdb1(sink), path=path, name=sink.forever)
        request = replace(request, headers=reading_headers(sink), keys=_reading_keys(sink))
    elif isinstance(sink, Influxdb2Config) and sink.forever_bucket:
        request = _ask_influxdb2(sink.model_copy(update={"bucket": sink.forever_bucket}))
    else:
        return None
    advice = "events, alarms and books wait until it is there: `swapline cloud apply` makes it"
    return replace(request, is_made_by_us=False, advice=advice)


def _ask(sink: InfluxConfig, request: Request) -> Finding:
    url = sink.url.rstrip("/")
    try:
        answer = urllib3.request("GET", url + request.path, timeout=_TIMEOUT_S, retries=False, headers=request.headers)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        advice = "start it, or see sink.url of the configuration"
        return Finding("database", is_ok=False, text=f"{url} does not answer: {reason(error)}", advice=advice)
    if answer.status in (401, 403):
        text = f"{url} refuses our credentials ({answer.status})"
        return Finding("database", is_ok=False, text=text, advice=f"see {request.keys} of the configuration")
    if answer.status == 404:  # other servers behind the same write call have no such list
        return Finding("database", is_ok=True, text=f"{url} answers, but cannot be asked for {request.name}")
    if answer.status >= 300:
        return Finding(
            "database", is_ok=False, text=f"{url} answers {answer.status}", advice="see the server's own log"
        )
    if f'"{request.name}"'.encode() not in answer.data:
        text = f"{url} has no {request.name}, or does not show it to us"
        return Finding("database", is_ok=request.is_made_by_us, text=text, advice=request.advice)
    return Finding("database", is_ok=True, text=f"{url} takes our credentials and has {request.name}")


def _ask_influxdb1(sink: Influxdb1Config) -> Request:
    advice = "the gateway makes it at its first start"
    path = "/query?" + urlencode({"q": "SHOW DATABASES"})
    return Request(path, credentials(sink), sink.database, _writing_keys(sink), True, advice)


def _ask_influxdb2(sink: Influxdb2Config) -> Request:
    """Ask as the reader: who may only write is shown no bucket."""
    path = "/api/v2/buckets?" + urlencode({"org": sink.org, "name": sink.bucket})
    advice = "make the bucket, or see sink.bucket and sink.org"
    return Request(path, reading_headers(sink), sink.bucket, _reading_keys(sink), False, advice)


def _writer(sink: InfluxConfig) -> Finding:
    """Write nothing: who may not write is refused that too."""
    url = sink.url.rstrip("/")
    if isinstance(sink, Influxdb1Config):
        headers, address = credentials(sink), f"{url}/write?{urlencode({'db': sink.database})}"
    else:
        query = urlencode({"org": sink.org, "bucket": sink.bucket})
        headers, address = token_header(sink.token), f"{url}/api/v2/write?{query}"
    try:
        status = urllib3.request("POST", address, timeout=_TIMEOUT_S, retries=False, headers=headers).status
    except (urllib3.exceptions.HTTPError, OSError) as error:
        advice = "see the server's own log"
        return Finding("writer", is_ok=False, text=f"{url} does not answer: {reason(error)}", advice=advice)
    if status not in _TAKES_NOTHING:
        advice = f"see {_writing_keys(sink)} of the configuration"
        return Finding("writer", is_ok=False, text=f"{url} does not let us write ({status})", advice=advice)
    return Finding("writer", is_ok=True, text=f"{url} lets us write")


def _reader(sink: InfluxConfig) -> Finding:
    """Ask as books, history and outlook do."""
    with closing(InfluxqlClient(sink)) as client:
        try:
            client.query(f'SELECT last("seq") FROM {client.source(FRAMES)}')  # noqa: S608 (our own name)
        except SinkBusyError as error:
            advice = f"see {_reading_keys(sink)} of the configuration"
            return Finding("reader", is_ok=False, text=str(error), advice=advice)
    return Finding("reader", is_ok=True, text=f"{sink.url.rstrip('/')} answers questions")


def _writing_keys(sink: InfluxConfig) -> str:
    return "sink.username and sink.password" if isinstance(sink, Influxdb1Config) else "sink.token"


def _reading_keys(sink: InfluxConfig) -> str:
    has_own = sink.reader.username if isinstance(sink, Influxdb1Config) else sink.reader.token
    return "[sink.reader]" if has_own else _writing_keys(sink)
