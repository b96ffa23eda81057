"""An InfluxDB 2.x that holds rows: organisation, buckets and mappings in memory, the rows in a real 1.x behind it.

A bucket's rows are in the 1.x database and policy that a DBRP mapping gives it; these are made with the mapping, and
forget nothing. `SHOW TAG KEYS` and `SHOW TAG VALUES` find nothing in another policy than the default one: 2.x looks
into that one's bucket, whatever policy they name (`executeShowTagKeys` in v1/coordinator/statement_executor.go).
"""

import http.server
import json
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swapline_bench import services
from swapline_cloud.rollup import RAW
from tests.cloud.fake_influxdb2 import OPERATOR_TOKEN, FakeInfluxdb2, RefusedError

_API = "/api/v2/"
_OTHER_POLICY = re.compile(rf'^SHOW TAG (KEYS|VALUES) FROM "(?!{RAW}")[^"]+"\.')
_NOTHING = b'{"results":[{"statement_id":0}]}'


class Influxdb2(FakeInfluxdb2):
    """See the module's header. `url` is where it is served, `behind` the 1.x."""

    url = ""

    def __init__(self, behind: services.InfluxServer) -> None:
        super().__init__()
        self.behind = behind
        self.organisation = self.add_organisation("swapline")

    def add_dbrp(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a mapping, and what is behind it."""
        made = super().add_dbrp(body)
        database, policy = made["database"], made["retention_policy"]
        terms = "DURATION INF REPLICATION 1"
        self.behind.execute(f'CREATE DATABASE "{database}" WITH {terms} NAME "{policy}"')
        self.behind.execute(f'CREATE RETENTION POLICY "{policy}" ON "{database}" {terms}')
        return made

    def write(self, bucket: str, body: bytes) -> None:
        """Write rows into a bucket."""
        ids = {one["name"]: one["id"] for one in self.buckets.values()}
        found = [one for one in self.dbrps.values() if one["bucketID"] == ids.get(bucket)]
        if not found:
            raise RefusedError(404, f'bucket "{bucket}" not found')
        place = urllib.parse.urlencode({"db": found[0]["database"], "rp": found[0]["retention_policy"]})
        services.post(f"{self.behind.url}/write?{place}", body)

    def ask(self, query: dict[str, str]) -> bytes:
        """Answer a statement of InfluxQL."""
        if _OTHER_POLICY.match(query["q"]):
            return _NOTHING  # a 1.x would look everywhere
        with urllib.request.urlopen(f"{self.behind.url}/query?{urllib.parse.urlencode(query)}") as response:  # noqa: S310 (our own loopback)
            found: bytes = response.read()
        return found


@contextmanager
def playing(behind: services.InfluxServer) -> Iterator[Influxdb2]:
    """Serve one in front of an InfluxDB 1.x, on a loopback port of its own."""
    state = Influxdb2(behind)
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Token ")
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            try:
                with lock:
                    self._say(*self._answer(parts.path, query, body, token))
            except RefusedError as error:
                self._say(error.status, json.dumps({"code": "refused", "message": str(error)}).encode())

        def _answer(self, path: str, query: dict[str, str], body: bytes, token: str) -> tuple[int, bytes]:
            if path == "/query":
                assert token == OPERATOR_TOKEN
                return 200, state.ask(query)
            if path == f"{_API}write":
                assert (token, query["precision"]) == (OPERATOR_TOKEN, "ns")
                state.write(query["bucket"], body)
                return 204, b""
            said = json.loads(body or b"{}")
            path = path.removeprefix(_API)
            status, found = state.answer(self.command, path, query=query, body=said, token=token)
            return status, json.dumps(found).encode()

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if status != 204 else b"")

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
