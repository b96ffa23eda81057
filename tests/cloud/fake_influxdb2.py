"""As much of an InfluxDB 2.x as `swapline cloud apply` talks to, in memory, as its API documentation says.

Checked is what a real one checks: tokens, ids that exist, bodies that are whole. A task's name comes from its script.
"""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

OPERATOR_TOKEN = "operator's token"  # noqa: S105
_TASK_NAME = re.compile(r'option task = \{name: "([^"]+)", every: (\w+)')
Record = dict[str, Any]


class RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeInfluxdb2:
    """The state of a server, which tests look at and change. `requests` is what was asked of it."""

    def __init__(self, *, is_set_up: bool = True) -> None:
        self._ids = itertools.count(1)
        self.organisations: dict[str, Record] = {}
        self.buckets: dict[str, Record] = {}
        self.dbrps: dict[str, Record] = {}
        self.authorizations: dict[str, Record] = {}
        self.tasks: dict[str, Record] = {}
        self.is_set_up = is_set_up
        self.set_ups: list[Record] = []
        self.points: list[Record] = []  # a field each: bucket, measurement, field, value, tags
        self.requests: list[str] = []
        if is_set_up:
            self.add_authorization({"orgID": "", "description": "admin's Token", "permissions": []}, OPERATOR_TOKEN)

    def _new(self, table: dict[str, Record], record: Record) -> Record:
        record["id"] = f"{next(self._ids):016x}"
        table[record["id"]] = record
        return record

    def add_organisation(self, name: str) -> Record:
        if any(one["name"] == name for one in self.organisations.values()):
            raise RefusedError(422, f"organization with name {name} already exists")
        return self._new(self.organisations, {"name": name})

    def add_bucket(self, body: Record) -> Record:
        self._need(self.organisations, body["orgID"])
        if any(one["name"] == body["name"] and one["orgID"] == body["orgID"] for one in self.buckets.values()):
            raise RefusedError(422, f"bucket with name {body['name']} already exists")
        bucket = {"name": body["name"], "orgID": body["orgID"], "type": "user"}
        return self._new(self.buckets, bucket | {"retentionRules": self._rules(body.get("retentionRules"))})

    @staticmethod
    def _rules(rules: list[Record] | None) -> list[Record]:
        """Return a rule as the server keeps it: it chooses shards where nobody did."""
        rule = rules[0] if rules else {"everySeconds": 0}
        assert rule.get("type", "expire") == "expire"
        seconds = rule["everySeconds"]
        if seconds and seconds < 3600:
            raise RefusedError(422, "retention policy duration must be greater than 1h0m0s")
        shard = rule.get("shardGroupDurationSeconds") or (86_400 if 0 < seconds <= 180 * 86_400 else 604_800)
        return [{"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": shard}]

    def add_dbrp(self, body: Record) -> Record:
        self._need(self.organisations, body["orgID"])
        self._need(self.buckets, body["bucketID"])
        of_database = [one for one in self.dbrps.values() if one["database"] == body["database"]]
        if any(one["retention_policy"] == body["retention_policy"] for one in of_database):
            raise RefusedError(409, "another DBRP mapping with same orgID, db, and rp exists")
        found = {key: body[key] for key in ("orgID", "bucketID", "database", "retention_policy")}
        made = self._new(self.dbrps, found | {"default": False, "virtual": False})
        if body.get("default") or not of_database:
            self.set_default(made)
        return made

    def set_default(self, mapping: Record) -> None:
        for one in self.dbrps.values():
            if one["database"] == mapping["database"]:
                one["default"] = one["id"] == mapping["id"]

    def add_authorization(self, body: Record, token: str | None = None) -> Record:
        for permission in body["permissions"]:
            assert permission["action"] in ("read", "write")
            self._need(self.buckets, permission["resource"]["id"])
        found = {key: body.get(key) for key in ("orgID", "description", "permissions")}
        made = self._new(self.authorizations, found | {"status": body.get("status") or "active"})
        made["token"] = token or f"token {made['id']}=="
        return made

    def add_task(self, body: Record) -> Record:
        self._need(self.organisations, body["orgID"])
        task = {"orgID": body["orgID"], "description": body.get("description"), "status": body.get("status", "active")}
        return self._new(self.tasks, task | self._script(body["flux"]))

    @staticmethod
    def _script(flux: str) -> Record:
        found = _TASK_NAME.search(flux)
        if found is None:
            raise RefusedError(400, "invalid options: missing task option 'name'")
        return {"flux": flux, "name": found[1], "every": found[2]}

    @staticmethod
    def _need(table: dict[str, Record], key: str) -> Record:
        if key not in table:
            raise RefusedError(404, f"{key} not found")
        return table[key]

    def answer(self, method: str, path: str, *, query: dict[str, str], body: Record, token: str) -> tuple[int, Any]:
        if path.startswith("/"):
            raise RefusedError(404, "path not found")
        self.requests.append(f"{method} {path}")
        if path == "setup":
            return self._set_up(method, body)
        known = [one for one in self.authorizations.values() if one["token"] == token and one["status"] == "active"]
        if not known:
            raise RefusedError(401, "unauthorized access")
        is_operator = token == OPERATOR_TOKEN or "operator" in known[0]
        if (method, path) == ("POST", "query"):
            return 200, self._query(body["query"])
        kind, _, key = path.partition("/")
        if not is_operator and (method, path) != ("GET", "buckets"):
            raise RefusedError(403, "insufficient permissions")
        if method == "GET":
            return 200, self._list(kind, query)
        if method == "POST":
            return 201, self._adders()[kind](body)
        table: dict[str, Record] = getattr(self, {"orgs": "organisations"}.get(kind, kind))
        record = self._need(table, key)
        if method == "DELETE":
            table.pop(key)
            return 204, None
        return 200, self._patch(kind, record, body)

    def _query(self, flux: str) -> str:
        """Answer a script that counts points of a bucket, or takes the last, as annotated CSV."""
        bucket = re.search(r'^from\(bucket: "([^"]+)"\)\n    \|> range\(start: 0\)\n', flux)
        assert bucket, flux
        if bucket[1] not in {one["name"] for one in self.buckets.values()}:
            raise RefusedError(404, f'failed to initialize execute state: could not find bucket "{bucket[1]}"')
        names, fields, sources = (
            re.findall(rf'r\.{key} == "([^"]+)"', flux) for key in ("_measurement", "_field", "source")
        )
        found = [
            one["value"]
            for one in self.points
            if (one["bucket"], one.get("source", "")) == (bucket[1], "".join(sources))
            and one["measurement"] in names
            and one["field"] in fields
        ]
        if not found:
            return "\r\n"
        value = len(found) if flux.endswith("|> count()\n    |> group()\n    |> sum()\n") else found[-1]
        head = "#datatype,string,long,long\r\n#group,false,false,false\r\n#default,_result,,\r\n,result,table,_value"
        return f"{head}\r\n,,0,{value}\r\n\r\n"

    def _adders(self) -> dict[str, Callable[[Record], Record]]:
        return {
            "orgs": lambda body: self.add_organisation(body["name"]),
            "buckets": self.add_bucket,
            "dbrps": self.add_dbrp,
            "authorizations": self.add_authorization,
            "tasks": self.add_task,
        }

    def _set_up(self, method: str, body: Record) -> tuple[int, Any]:
        if method == "GET":
            return 200, {"allowed": not self.is_set_up}
        if self.is_set_up:
            raise RefusedError(422, "onboarding has already been completed")
        self.is_set_up = True
        self.set_ups.append(body)
        organisation = self.add_organisation(body["org"])
        rules = [{"type": "expire", "everySeconds": body.get("retentionPeriodSeconds", 0)}]
        self.add_bucket({"name": body["bucket"], "orgID": organisation["id"], "retentionRules": rules})
        made = self.add_authorization(
            {"orgID": organisation["id"], "description": "admin's Token", "permissions": []}, body["token"]
        )
        made["operator"] = True
        return 201, {"org": organisation}

    def _list(self, kind: str, query: dict[str, str]) -> Record:
        if kind == "orgs":
            found = [one for one in self.organisations.values() if query.get("org") in (None, one["name"])]
            if not found:
                raise RefusedError(404, f'organization name "{query["org"]}" not found')
            return {"orgs": found}
        if kind == "dbrps":
            found = [one for one in self.dbrps.values() if query.get("db") in (None, one["database"])]
            invented = [self._virtual(one) for one in self.buckets.values() if one["name"] == query.get("db")]
            return {"content": found + invented}
        found = [one for one in getattr(self, kind).values() if query.get("orgID") in (None, one["orgID"])]
        if kind == "authorizations":
            return {kind: [{key: value for key, value in one.items() if key != "token"} for one in found]}
        found = [one for one in found if one["id"] > query.get("after", "")]
        return {kind: found[: int(query.get("limit", "20"))]}

    @staticmethod
    def _virtual(bucket: Record) -> Record:
        mapping = {"database": bucket["name"], "retention_policy": "autogen", "default": True, "virtual": True}
        return mapping | {"id": bucket["id"], "bucketID": bucket["id"], "orgID": bucket["orgID"]}

    def _patch(self, kind: str, record: Record, body: Record) -> Record:
        if kind == "buckets" and "retentionRules" in body:
            record["retentionRules"] = self._rules(body["retentionRules"])
        elif kind == "dbrps" and body.get("default"):
            self.set_default(record)
        elif kind == "tasks":
            record |= self._script(body["flux"]) if "flux" in body else {}
            record["status"] = body.get("status", record["status"])
        elif kind == "authorizations":
            record["status"] = body["status"]
        return record


@contextmanager
def serving(state: FakeInfluxdb2) -> Iterator[str]:
    """Serve a state on a loopback port of its own, and yield the address."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            token = (self.headers.get("Authorization") or "").removeprefix("Token ")
            try:
                with lock:
                    path = parts.path.removeprefix("/api/v2/")
                    status, answer = state.answer(self.command, path, query=query, body=body, token=token)
            except RefusedError as error:
                status, answer = error.status, {"code": "refused", "message": str(error)}
            text = answer if isinstance(answer, str) else json.dumps(answer)
            data = b"" if answer is None else text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="InfluxDB 2.x that is none")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
