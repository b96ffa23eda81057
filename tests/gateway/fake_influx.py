"""An InfluxDB of the test's own: it keeps points, and answers as it is told to, in the words of the real ones.

The words of 1.x are those of a real influxd 1.6.7 (`test_sink_influx.py` holds the sink against one); those of 2.x are
taken from its documentation and from reports of its users.
"""

import json
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

HOST = "127.0.0.1"
SLOW_S = 2.0


@dataclass(frozen=True)
class Answer:
    """What to say instead of what is right. Nothing is stored."""

    status: int
    body: str = '{"error": "told to"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Rules:
    """What this database refuses."""

    oldest_ns: int | None = None  # its retention
    conflict: tuple[str, str] | None = None  # measurement and field that have another type
    unparsable: str | None = None  # a text that no line may hold
    request_bytes_max: int | None = None
    slow_bytes: int | None = None  # a larger request takes `SLOW_S`, and is not stored
    token: str | None = None


@dataclass
class FakeInflux:
    """A server on a port of its own; `with` starts and stops it, and it can be stopped and started in between."""

    version: int = 1
    rules: Rules = field(default_factory=Rules)
    always: Answer | None = None  # to every write
    answers: deque[Answer] = field(default_factory=deque)  # to the next writes, before `always`
    points: dict[tuple[str, int], str] = field(default_factory=dict)  # series and time -> fields
    order: list[tuple[str, int]] = field(default_factory=list)  # of the first writing of each point
    statuses: list[int] = field(default_factory=list)  # of all writes
    answered_s: list[float] = field(default_factory=list)  # when, by the monotonic clock, just before the answer left
    places: dict[str, set[str]] = field(default_factory=dict)  # bucket or policy -> measurements written there
    port: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> Self:
        self._closing.clear()
        self._server = _Server((HOST, self.port), _Handler)
        self._server.fake = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def stop(self) -> None:
        """Let connections be refused until the next start; the points stay."""
        if self._server is not None:
            self._closing.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def measurement(self, name: str) -> list[tuple[str, int]]:
        """Return the points of a measurement, in the order in which they were first written."""
        return [point for point in self.order if point[0].split(",")[0] == name]

    def wait_for(self, count: int, measurement: str = "frames") -> None:
        """Wait until a measurement has so many points."""
        with self.changed:
            found = self.changed.wait_for(lambda: len(self.measurement(measurement)) >= count, timeout=60)
        assert found, f"{len(self.measurement(measurement))} points of {count} in {measurement}; {self.statuses[-20:]}"

    def wait_for_writes(self, count: int) -> None:
        """Wait until so many writes were answered."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.statuses) >= count, timeout=60), self.statuses

    def answer_write(self, body: bytes, token: str | None) -> Answer:
        """Store what may be stored and return the answer."""
        told = self.answers.popleft() if self.answers else self.always
        if told is not None:
            self._closing.wait(told.delay_s)
            return told
        if self.rules.token is not None and token != self.rules.token:
            return Answer(401, self._json("unauthorized", "authorization failed"))
        if self.rules.request_bytes_max is not None and len(body) > self.rules.request_bytes_max:
            return Answer(413, self._json("request too large", "Request Entity Too Large"))
        if self.rules.slow_bytes is not None and len(body) > self.rules.slow_bytes:
            self._closing.wait(SLOW_S)
            return Answer(503, self._json("unavailable", "timeout"))
        return self._store(body.decode().splitlines())

    def _store(self, lines: list[str]) -> Answer:
        rules = self.rules
        torn = [line for line in lines if rules.unparsable is not None and rules.unparsable in line]
        if torn and self.version == 2:
            return Answer(400, self._json("invalid", f"unable to parse '{torn[0]}': missing fields"))
        old = [line for line in lines if rules.oldest_ns is not None and _time_ns(line) < rules.oldest_ns]
        conflicting = [line for line in lines if rules.conflict and _has_field(line, *rules.conflict)]
        conflicting = [line for line in conflicting if line not in old]
        for line in lines:
            if line not in torn and line not in old and line not in conflicting:
                self._keep(line)
        if torn:
            said = "\n".join(f"unable to parse '{line}': missing fields" for line in torn)
            return Answer(400, self._json("invalid", f"partial write: {said} dropped=0"))
        if conflicting:
            assert rules.conflict is not None
            measurement, name = rules.conflict
            said = f'field type conflict: input field "{name}" on measurement "{measurement}" is type float,'
            return self._partial(f"{said} already exists as type string", len(conflicting))
        if old:
            words = "points beyond retention policy" if self.version == 1 else _retention_words(old)
            return self._partial(words, len(old))
        return Answer(204, "")

    def _partial(self, words: str, count: int) -> Answer:
        if self.version == 1:
            return Answer(400, self._json("", f"partial write: {words} dropped={count}"))
        said = f"failure writing points to database: partial write: {words} dropped={count}"
        return Answer(422, self._json("unprocessable entity", f"{said} for database: a for retention policy: autogen"))

    def _json(self, code: str, message: str) -> str:
        return json.dumps({"error": message} if self.version == 1 else {"code": code, "message": message})

    def _keep(self, line: str) -> None:
        series, fields, time = line.rsplit(" ", 2)
        point = (series, int(time))
        if point not in self.points:
            self.order.append(point)
        self.points[point] = fields

    def took(self, answer: Answer) -> None:
        with self.changed:
            self.statuses.append(answer.status)
            self.answered_s.append(time.monotonic())
            self.changed.notify_all()


def _time_ns(line: str) -> int:
    return int(line.rsplit(" ", 1)[1])


def _has_field(line: str, measurement: str, name: str) -> bool:
    head, fields, _ = line.rsplit(" ", 2)
    return head.split(",")[0] == measurement and any(part.startswith(f"{name}=") for part in fields.split(","))


def _retention_words(old: list[str]) -> str:
    """Return what 2.7.11 and newer say."""
    point = old[0].split(" ")[0]
    bound = "dropped because it violates a Retention Policy Lower Bound at 2026-01-01T00:00:00Z"
    return (
        f"dropped {len(old)} points outside retention policy of duration 1h0m0s - oldest point {point} at"
        f" 2025-01-01T00:00:00Z {bound}, newest point {point} at 2025-01-01T00:00:00Z {bound}"
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeInflux

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that gave up does not hear its answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True  # else head and body of an answer are 40 ms apart

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = urllib.parse.urlsplit(self.path)
        path, query = parts.path, dict(urllib.parse.parse_qsl(parts.query))
        if path not in ("/write", "/api/v2/write"):
            self._say(Answer(200, '{"results": []}'))
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Token ")
        place = server.fake.places.setdefault(query.get("bucket") or query.get("rp", ""), set())
        place.update(line.split(",")[0] for line in body.decode().splitlines())
        answer = server.fake.answer_write(body, token)
        server.fake.took(answer)
        self._say(answer)

    def _say(self, answer: Answer) -> None:
        data = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if answer.status != 204:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        pass
