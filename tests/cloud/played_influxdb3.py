"""An InfluxDB 3.x as far as its names go: a database `swapline/raw` is a policy of a real InfluxDB 1.x behind it.

How a request finds its database is as 3.x documents it (what InfluxQL shall ask is called `database/policy`) and as its
server's sources have it (`iox_query_influxql_rewrite`, `influxdb3_server`), the stricter of their versions: a statement
that names database and policy asks `database/policy`; one that does not asks the request's `db`, whatever policy it
names; if both are there they must be the same; one statement asks one database. Everything else is 1.x's own.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3

_SOURCE = re.compile(r'\bFROM ((?:"[^"]+"\.)*"[^"]+")')
_NAME = re.compile(r'"([^"]+)"')
Answer = tuple[int, bytes]


class PlayedInfluxdb3:
    """Takes the tokens `writer`, `reader` and `admin`. `written` and `asked` are databases and measurements."""

    def __init__(self, behind: str, databases: set[str]) -> None:
        self._behind, self._databases = behind, databases
        self.written: set[tuple[str, str]] = set()
        self.asked: set[tuple[str, str]] = set()
        self.refused: list[str] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._say(played.answer(self.path, self.headers["Authorization"], b""))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self._say(played.answer(self.path, self.headers["Authorization"], body))

            def _say(self, answer: Answer) -> None:
                self.send_response(answer[0])
                if answer[0] != 204:
                    self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, address: str, authorization: str | None, body: bytes) -> Answer:
        """Return what 3.x says; where it is to store or to find something, what 1.x says."""
        path, query = urlsplit(address).path, dict(parse_qsl(urlsplit(address).query))
        does, who = {"/api/v2/write": (self._write, "writer"), "/query": (self._query, "reader")}[path]
        if authorization not in (f"Token {who}", "Token admin"):
            return self._refuse(403, f"{path}: not by {authorization}")
        return does(query, body)

    def _write(self, query: dict[str, str], body: bytes) -> Answer:
        name = query["bucket"]
        if name not in self._databases:
            return self._refuse(404, f"nobody made {name}")
        self.written |= {(name, line.split(b",")[0].decode()) for line in body.splitlines()}
        database, policy = name.split("/")
        target = urlencode({"db": database, "rp": policy, "precision": query["precision"]})
        return _pass_on("POST", f"{self._behind}/write?{target}", body)

    def _query(self, query: dict[str, str], _body: bytes) -> Answer:
        statement = query.pop("q")
        sources = [_NAME.findall(found) for found in _SOURCE.findall(statement)]
        named = {"/".join(source[:-1]) if len(source) == 3 else query.get("db") for source in sources}
        given = query.pop("db", None)
        if len(named) != 1:
            return self._refuse(400, f"can only perform queries on a single database: {statement}")
        name = named.pop()
        if name is None:
            return self._refuse(400, f"must specify a 'db' parameter, or provide the database: {statement}")
        if given not in (None, name):
            return self._refuse(400, f"provided a database in both the parameters ({given}) and query ({name})")
        if name not in self._databases:
            return self._refuse(404, f"no database {name}: {statement}")
        self.asked |= {(name, source[-1]) for source in sources}
        return _pass_on("GET", f"{self._behind}/query?{urlencode({**query, 'q': statement})}", b"")

    def _refuse(self, status: int, why: str) -> Answer:
        self.refused.append(why)
        return status, json.dumps({"error": why}).encode()


def _pass_on(method: str, address: str, body: bytes) -> Answer:
    answer = urllib3.request(method, address, body=body, retries=False)
    return answer.status, answer.data
