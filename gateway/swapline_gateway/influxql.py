"""InfluxQL over HTTP, the one query language of InfluxDB 1.x, 2.x (with a DBRP mapping) and 3.x.

Who asks is the sink's `reader`, or who writes where that has no credentials of its own.

In 3.x a policy is a database named `swapline/raw`. It looks there only if the statement names database and policy, and
older ones refuse a request whose `db` is not that very name. So with `reader.policy` statements name both
(`"swapline"."raw"."module"`), and the request names none: docs/retention.md.
"""

import json
from collections.abc import Generator
from typing import Any
from urllib.parse import urlencode

import urllib3
from pydantic import SecretStr

from .config import Influxdb1Config, Influxdb2Config
from .error import SinkBusyError, reason
from .sinks.influxdb1 import credentials
from .sinks.line_protocol import LASTING

_PART_BYTES = 1 << 18  # of an answer, at once
_NOTHING = "swapline_asks_who_answers"  # a measurement that nobody has


def text(value: str) -> str:
    """Return a text as InfluxQL writes it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """Return a name as InfluxQL writes it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def reading_headers(config: Influxdb1Config | Influxdb2Config) -> dict[str, str]:
    """Return the header that says as whom stored rows are asked for."""
    if isinstance(config, Influxdb1Config):
        return credentials(config.reader if config.reader.username else config)
    return token_header(config.reader.token or config.token)


def token_header(token: SecretStr) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": f"Token {token.get_secret_value()}"}


class InfluxqlClient:
    """Asks one database. Threads may share it."""

    def __init__(self, config: Influxdb1Config | Influxdb2Config) -> None:
        self._url = config.url.rstrip("/") + "/query"
        self._lasting_policy = config.lasting_policy
        self._raw_policy = config.reader.policy
        usual = config.database if isinstance(config, Influxdb1Config) else config.bucket
        self._database = config.reader.database or usual
        self._pool = urllib3.PoolManager(headers=reading_headers(config), timeout=config.timeout_s, retries=False)
        self._has_understood = False

    @property
    def has_lasting(self) -> bool:
        """Say whether what is kept for ever has a place of its own."""
        return self._lasting_policy is not None

    def source(self, stream: str) -> str:
        """Return how a statement names the rows of a stream, or `frames`."""
        return self.lasting(stream) if stream in LASTING else self.named(stream, self._raw_policy)

    def lasting(self, measurement: str) -> str:
        """Return how a statement names what is kept for ever: a book, or a roll-up."""
        return self.named(measurement, self._lasting_policy or self._raw_policy)

    def named(self, measurement: str, policy: str | None) -> str:
        """Return how a statement names a measurement of a policy; None: of the default one."""
        database = self._database if self._names_all else None
        return ".".join(identifier(name) for name in (database, policy, measurement) if name is not None)

    @property
    def _names_all(self) -> bool:
        return self._raw_policy is not None

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Return the series of one statement's answer, times in ms. Raises `SinkBusyError`.

        That also where nobody understands statements: VictoriaMetrics answers each of them with the same words.
        """
        if not self._has_understood and not self.is_understood():
            raise SinkBusyError(f"{self._url} takes rows, but cannot be asked for them in InfluxQL")
        self._has_understood = True
        response = self._get(statement)
        try:
            body = response.json()
        except (ValueError, UnicodeDecodeError) as error:
            raise SinkBusyError(f"{self._url} does not answer: {error}") from error
        if not isinstance(body, dict):
            raise SinkBusyError(f"{self._url} answers {response.status}: something that is no answer")
        result = (body.get("results") or [{}])[0]
        problem = body.get("error") or body.get("message") or result.get("error")
        if response.status != 200 or problem:
            raise SinkBusyError(f"{self._url} answers {response.status}: {problem}")
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def stream(self, statement: str, *, rows_max: int = 10_000) -> Generator[dict[str, Any], None, None]:
        """Yield the series of one statement's answer as they come, times in ns, `rows_max` rows at most at once.

        A series with more rows comes in several pieces. Raises `SinkBusyError`, also between two pieces. Whoever stops
        early closes the iterator, and with it the connection: the server stops as well.
        """
        address = self._address(statement, epoch="ns", chunked="true", chunk_size=str(rows_max))
        try:
            response = self._pool.request("GET", address, preload_content=False)
            try:
                rest = b""
                for part in response.stream(_PART_BYTES):
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        yield from self._piece(line, response.status)
                yield from self._piece(rest, response.status)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise SinkBusyError(f"{self._url} does not answer: {reason(error)}") from error

    def _piece(self, line: bytes, status: int) -> list[dict[str, Any]]:
        if status == 200 and not line.strip():
            return []
        try:
            body = json.loads(line)
            results = [body, *body.get("results", [])]
        except (ValueError, AttributeError) as error:
            raise SinkBusyError(f"{self._url} answers {status}: something that is no answer") from error
        problem = next((one[key] for one in results for key in ("error", "message") if key in one), None)
        if status != 200 or problem:
            raise SinkBusyError(f"{self._url} answers {status}: {problem}")
        return [series for one in results for series in one.get("series", [])]

    def is_understood(self) -> bool:
        """Say whether the database speaks InfluxQL. Raises `SinkBusyError` if it cannot be known now.

        What only takes line protocol has no such page, or answers as if there were rows of what nobody wrote.
        """
        statement = f'SELECT "value" FROM {self.source(_NOTHING)}'  # noqa: S608 (our own name)
        response = self._get(statement)
        try:
            body = response.json()
        except (ValueError, UnicodeDecodeError):
            body = None
        if response.status in (400, 404, 405) and not isinstance(body, dict):
            return False
        if not isinstance(body, dict) or response.status != 200:
            said = f": {body.get('error') or body.get('message')}" if isinstance(body, dict) else ""
            raise SinkBusyError(f"{self._url} answers {response.status}{said}")
        results = body.get("results")
        return isinstance(results, list) and len(results) == 1 and not results[0].get("series")

    def _get(self, statement: str) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request("GET", self._address(statement, epoch="ms"))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise SinkBusyError(f"{self._url} does not answer: {reason(error)}") from error

    def _address(self, statement: str, **more: str) -> str:
        database = {} if self._names_all else {"db": self._database}
        return f"{self._url}?{urlencode({**database, **more, 'q': statement})}"

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
