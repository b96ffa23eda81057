"""A Grafana of our own, as far as `apply` talks to one: what its HTTP API documents, kept in memory.

After Grafana's documentation and sources (data source, folder, dashboard, team and alerting provisioning API). It adds
what the real one adds - numbers, versions, defaults, durations in its own writing - forgets secrets, and refuses what
the real one refuses. It is no proof that a live Grafana does the same: docs/cloud.md says what was not tried.
"""

import asyncio
import base64
import contextlib
import json
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

TOKEN = "glsa_a-token-of-a-service-account"  # noqa: S105 (of the fake)
USER, PASSWORD = "admin", "a-password-of-the-fake"
Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SECURE_SETTINGS = ("password", "authorization_credentials")


def refused(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


def duration(text: str) -> str:
    """Write a duration as Grafana does: `600s` is `10m`, and nothing is `0s`."""
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
    parts = []
    for unit in "dhms":
        count, seconds = divmod(seconds, _SECONDS[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


class FakeGrafana:
    """Everything that Grafana keeps is here to be looked at and to be spoilt."""

    def __init__(self) -> None:
        self.url = ""
        self.sources: dict[str, Json] = {}
        self.secrets: dict[str, Json] = {}  # of sources, by uid
        self.folders: dict[str, Json] = {}
        self.permissions: dict[str, list[Json]] = {}
        self.boards: dict[str, Json] = {}  # dashboard, folderUid, and messages: one for each version
        self.rules: dict[str, Json] = {}
        self.intervals: dict[tuple[str, str], int] = {}
        self.default_interval_s = 60
        default = {"uid": "", "name": "grafana-default-email", "type": "email", "disableResolveMessage": False}
        self.points: list[Json] = [default | {"settings": {"addresses": "<example@email.com>"}}]
        self.policy: Json = {"receiver": "grafana-default-email", "group_by": ["grafana_folder", "alertname"]}
        self.teams: dict[int, Json] = {}
        self.members: dict[int, list[int]] = {}
        self.users = [self._user(1, "admin", "admin@localhost", "Admin"), self._user(2, "li", "li@example.org")]
        self.users.append(self._user(3, "ann", "Ann@Example.org", "Editor"))
        self.writes: list[str] = []  # method and path of everything that changed something
        self.fault: Callable[[web.Request], web.Response | None] = lambda _: None
        self._next_id = 100

    @staticmethod
    def _user(number: int, login: str, email: str, role: str = "Viewer") -> Json:
        return {"orgId": 1, "userId": number, "email": email, "login": login, "role": role, "isDisabled": False}

    def snapshot(self) -> str:
        kept = (self.sources, self.folders, self.permissions, self.boards, self.rules, self.points, self.policy)
        return json.dumps([*kept, self.teams, self.members, sorted(map(str, self.intervals.items()))], sort_keys=True)

    def fail(self, status: int, *, after_writes: int = 0, path: str = "/") -> None:
        """Refuse every request below `path` once so many writes are done."""
        limit = len(self.writes) + after_writes

        def refuse(request: web.Request) -> web.Response | None:
            is_due = request.method != "GET" or not after_writes
            if is_due and len(self.writes) >= limit and request.path.startswith(path):
                return refused(status, f"refused with {status} as asked")
            return None

        self.fault = refuse

    def heal(self) -> None:
        self.fault = lambda _: None

    def save_by_hand(self, name: str, change: Callable[[Json], object]) -> None:
        """Edit a board as somebody does in Grafana."""
        board = self.boards[name]
        change(board["dashboard"])
        board["dashboard"]["version"] += 1
        board["messages"].append("")

    def number(self) -> int:
        self._next_id += 1
        return self._next_id

    # What answers

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard()], client_max_size=1 << 24)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/datasources/uid/{uid}", self._get_source),
            ("POST", "/datasources", self._add_source),
            ("PUT", "/datasources/uid/{uid}", self._put_source),
            ("GET", "/folders/{uid}", self._get_folder),
            ("POST", "/folders", self._add_folder),
            ("PUT", "/folders/{uid}", self._put_folder),
            ("GET", "/folders/{uid}/permissions", self._get_permissions),
            ("POST", "/folders/{uid}/permissions", self._set_permissions),
            ("GET", "/dashboards/uid/{uid}", self._get_board),
            ("GET", "/dashboards/uid/{uid}/versions", self._get_versions),
            ("DELETE", "/dashboards/uid/{uid}", self._delete_board),
            ("POST", "/dashboards/db", self._save_board),
            ("GET", "/search", self._search),
            ("GET", "/v1/provisioning/alert-rules", self._list_rules),
            ("POST", "/v1/provisioning/alert-rules", self._add_rule),
            ("PUT", "/v1/provisioning/alert-rules/{uid}", self._put_rule),
            ("DELETE", "/v1/provisioning/alert-rules/{uid}", self._delete_rule),
            ("GET", "/v1/provisioning/folder/{folder}/rule-groups/{group}", self._get_group),
            ("PUT", "/v1/provisioning/folder/{folder}/rule-groups/{group}", self._put_group),
            ("GET", "/v1/provisioning/contact-points", self._list_points),
            ("POST", "/v1/provisioning/contact-points", self._add_point),
            ("PUT", "/v1/provisioning/contact-points/{uid}", self._put_point),
            ("DELETE", "/v1/provisioning/contact-points/{uid}", self._delete_point),
            ("GET", "/v1/provisioning/policies", self._get_policy),
            ("PUT", "/v1/provisioning/policies", self._put_policy),
            ("GET", "/teams/search", self._search_teams),
            ("POST", "/teams", self._add_team),
            ("GET", "/teams/{id}/members", self._get_members),
            ("POST", "/teams/{id}/members", self._add_member),
            ("DELETE", "/teams/{id}/members/{user}", self._remove_member),
            ("GET", "/org/users", self._list_users),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, f"/api{path}", handler)
        return app

    def _guard(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if request.headers.get("Authorization") not in (f"Bearer {TOKEN}", f"Basic {basic}"):
                return refused(401, "Invalid API key")
            if (answer := self.fault(request)) is not None:
                return answer
            answer_of = await handler(request)
            if request.method != "GET" and answer_of.status < 400:
                self.writes.append(f"{request.method} {request.path}")
            return answer_of

        return guard

    async def _get_source(self, request: web.Request) -> web.Response:
        source = self.sources.get(request.match_info["uid"])
        return web.json_response(source) if source else refused(404, "Data source not found")

    async def _add_source(self, request: web.Request) -> web.Response:
        body = await request.json()
        if any(source["name"] == body["name"] for source in self.sources.values()):
            return refused(409, "data source with the same name already exists")
        return self._keep_source(body["uid"], body, {"id": self.number(), "version": 1}, "Datasource added")

    async def _put_source(self, request: web.Request) -> web.Response:
        uid, body = request.match_info["uid"], await request.json()
        now = self.sources.get(uid)
        if now is None:
            return refused(404, "Data source not found")
        if now["readOnly"]:
            return refused(403, "Cannot update read-only data source")
        if body.get("version") not in (None, now["version"]):
            return refused(409, "Datasource has already been updated by someone else. Please reload and try again")
        return self._keep_source(uid, body, {"id": now["id"], "version": now["version"] + 1}, "Datasource updated")

    def _keep_source(self, uid: str, body: Json, counted: Json, message: str) -> web.Response:
        secrets = self.secrets.setdefault(uid, {})
        secrets |= body.pop("secureJsonData", {})
        defaults = {
            "orgId": 1, "typeLogoUrl": "", "password": "", "user": "", "database": "", "basicAuth": False,
            "basicAuthUser": "", "withCredentials": False, "isDefault": False, "jsonData": {}, "readOnly": False,
        }  # fmt: skip
        kept = defaults | body | counted | {"uid": uid, "secureJsonFields": dict.fromkeys(secrets, True)}
        self.sources[uid] = kept
        return web.json_response({"datasource": kept, "id": kept["id"], "message": message, "name": kept["name"]})

    async def _get_folder(self, request: web.Request) -> web.Response:
        folder = self.folders.get(request.match_info["uid"])
        return web.json_response(folder) if folder else refused(404, "folder not found")

    async def _add_folder(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["uid"] in self.folders:
            return refused(412, "the folder has been changed by someone else")
        folder = {"id": self.number(), "uid": body["uid"], "title": body["title"], "url": "", "version": 1}
        self.folders[body["uid"]] = folder
        self.permissions[body["uid"]] = [{"role": "Editor", "permission": 2}, {"role": "Viewer", "permission": 1}]
        return web.json_response(folder)

    async def _put_folder(self, request: web.Request) -> web.Response:
        folder, body = self.folders[request.match_info["uid"]], await request.json()
        if not body.get("overwrite") and body.get("version") != folder["version"]:
            return refused(412, "the folder has been changed by someone else")
        folder |= {"title": body["title"], "version": folder["version"] + 1}
        return web.json_response(folder)

    async def _get_permissions(self, request: web.Request) -> web.Response:
        if request.match_info["uid"] not in self.folders:
            return refused(404, "folder not found")
        found: list[Json] = [{"role": "Admin", "permission": 4, "inherited": False}]  # they may everything everywhere
        for item in self.permissions[request.match_info["uid"]]:
            team = self.teams.get(item.get("teamId", 0), {})
            found.append({"userId": 0, "teamId": 0, "role": "", "inherited": False} | item | {"team": team.get("name")})
        return web.json_response(found)

    async def _set_permissions(self, request: web.Request) -> web.Response:
        if request.match_info["uid"] not in self.folders:
            return refused(404, "folder not found")
        items = (await request.json())["items"]
        if any(len({"userId", "teamId", "role"} & set(item)) != 1 or item.get("role") == "Admin" for item in items):
            return refused(400, "one of userId, teamId and role, Viewer or Editor")
        self.permissions[request.match_info["uid"]] = items
        return web.json_response({"message": "Folder permissions updated"})

    async def _get_board(self, request: web.Request) -> web.Response:
        board = self.boards.get(request.match_info["uid"])
        if board is None:
            return refused(404, "Dashboard not found")
        meta = {"folderUid": board["folderUid"], "version": board["dashboard"]["version"], "provisioned": False}
        return web.json_response({"dashboard": board["dashboard"], "meta": meta})

    async def _get_versions(self, request: web.Request) -> web.Response:
        messages = self.boards[request.match_info["uid"]]["messages"]
        versions = [{"version": count, "message": message} for count, message in enumerate(messages, 1)]
        return web.json_response({"continueToken": "", "versions": versions[::-1][: int(request.query["limit"])]})

    async def _delete_board(self, request: web.Request) -> web.Response:
        if self.boards.pop(request.match_info["uid"], None) is None:
            return refused(404, "Dashboard not found")
        return web.json_response({"message": "Dashboard deleted"})

    async def _save_board(self, request: web.Request) -> web.Response:
        body = await request.json()
        board, folder = body["dashboard"], body.get("folderUid", "")
        if not board.get("title"):
            return refused(400, "Dashboard title cannot be empty")
        if folder and folder not in self.folders:
            return refused(400, "folder not found")
        now = self.boards.get(board["uid"])
        if now and not body.get("overwrite") and board.get("version") != now["dashboard"]["version"]:
            return refused(412, "The dashboard has been changed by someone else")
        number = now["dashboard"]["id"] if now else self.number()
        version = now["dashboard"]["version"] + 1 if now else 1
        messages = [*(now["messages"] if now else []), body.get("message", "")]
        kept = {"annotations": {"list": []}, "preload": False, **board, "id": number, "version": version}
        self.boards[board["uid"]] = {"dashboard": kept, "folderUid": folder, "messages": messages}
        return web.json_response({"id": number, "uid": board["uid"], "status": "success", "version": version})

    async def _search(self, request: web.Request) -> web.Response:
        found = [
            {"uid": uid, "title": board["dashboard"]["title"], "type": "dash-db", "folderUid": board["folderUid"]}
            for uid, board in self.boards.items()
            if request.query.get("tag") in (None, *board["dashboard"].get("tags", []))
        ]
        return web.json_response(found)

    async def _list_rules(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.rules.values()))

    async def _add_rule(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["uid"] in self.rules:
            return refused(409, "rule with the same uid already exists")
        return self._keep_rule(body, self.number(), request, 201)

    async def _put_rule(self, request: web.Request) -> web.Response:
        now = self.rules.get(request.match_info["uid"])
        if now is None:
            return web.Response(status=404)
        if now["provenance"] == "file":
            return refused(400, "cannot change provenance from 'file' to ''")
        return self._keep_rule(await request.json(), now["id"], request, 200)

    def _keep_rule(self, body: Json, number: int, request: web.Request, status: int) -> web.Response:
        if body["folderUID"] not in self.folders:
            return refused(400, "invalid alert rule: folder does not exist")
        if not any(query["refId"] == body["condition"] for query in body["data"]):
            return refused(400, "invalid alert rule: condition does not exist")
        same = [rule for rule in self.rules.values() if rule["title"] == body["title"]]
        if any(rule["uid"] != body["uid"] and rule["folderUID"] == body["folderUID"] for rule in same):
            return refused(400, "a conflicting alert rule is found: rule title under the same folder must be unique")
        kept: Json = {"annotations": {}, "labels": {}, "isPaused": False, "notification_settings": None, "record": None}
        kept |= body | {"id": number, "orgID": 1, "updated": "2026-11-22T00:00:00Z"}
        kept["provenance"] = "" if "X-Disable-Provenance" in request.headers else "api"
        for key in ("for", "keep_firing_for"):
            kept[key] = duration(kept.get(key, ""))
        kept["data"] = [{"queryType": "", **query} for query in kept["data"]]
        self.rules[body["uid"]] = kept
        self.intervals.setdefault((body["folderUID"], body["ruleGroup"]), self.default_interval_s)
        return web.json_response(kept, status=status)

    async def _delete_rule(self, request: web.Request) -> web.Response:
        self.rules.pop(request.match_info["uid"], None)
        return web.Response(status=204)

    async def _get_group(self, request: web.Request) -> web.Response:
        folder, group = request.match_info["folder"], request.match_info["group"]
        rules = [r for r in self.rules.values() if (r["folderUID"], r["ruleGroup"]) == (folder, group)]
        if not rules:
            return refused(404, "rule group does not exist")
        interval = self.intervals[folder, group]
        return web.json_response({"title": group, "folderUid": folder, "interval": interval, "rules": rules})

    async def _put_group(self, request: web.Request) -> web.Response:
        folder, group, body = request.match_info["folder"], request.match_info["group"], await request.json()
        if body["interval"] % 10:
            return refused(400, "interval should be divided exactly by scheduler interval")
        said = {rule["uid"] for rule in body["rules"]}  # the group is replaced
        for uid, rule in list(self.rules.items()):
            if (rule["folderUID"], rule["ruleGroup"]) == (folder, group) and uid not in said:
                del self.rules[uid]
        self.intervals[folder, group] = body["interval"]
        return web.json_response(body)

    async def _list_points(self, _: web.Request) -> web.Response:
        found = []
        for point in self.points:
            hidden = {key: "[REDACTED]" for key in point["settings"] if key in _SECURE_SETTINGS}
            found.append({**point, "settings": point["settings"] | hidden})
        return web.json_response(found)

    async def _add_point(self, request: web.Request) -> web.Response:
        body = await request.json()
        if any(point["uid"] == body["uid"] for point in self.points):
            return refused(400, "invalid object specification: uid is already used")
        return self._keep_point(body, request, 202)

    async def _put_point(self, request: web.Request) -> web.Response:
        body = await request.json() | {"uid": request.match_info["uid"]}
        if not any(point["uid"] == body["uid"] for point in self.points):
            return refused(404, "contact point not found")
        self.points = [point for point in self.points if point["uid"] != body["uid"]]
        return self._keep_point(body, request, 202)

    def _keep_point(self, body: Json, request: web.Request, status: int) -> web.Response:
        needed = {"webhook": "url", "email": "addresses"}[body["type"]]
        if not body["settings"].get(needed):
            return refused(400, f"invalid object specification: required field '{needed}' is not specified")
        kept = {**body, "provenance": "" if "X-Disable-Provenance" in request.headers else "api"}
        self.points.append(kept)
        return web.json_response(kept, status=status)

    async def _delete_point(self, request: web.Request) -> web.Response:
        left = [point for point in self.points if point["uid"] != request.match_info["uid"]]
        gone = {point["name"] for point in self.points} - {point["name"] for point in left}
        if gone & self._receivers(self.policy):
            return refused(409, "contact point is currently used by a notification policy")
        self.points = left
        return web.json_response({"message": "contactpoint deleted"}, status=202)

    def _receivers(self, route: Json) -> set[str]:
        below = [self._receivers(child) for child in route.get("routes") or []]
        return {route["receiver"]}.union(*below)

    async def _get_policy(self, _: web.Request) -> web.Response:
        return web.json_response(self.policy)

    async def _put_policy(self, request: web.Request) -> web.Response:
        body = await request.json()
        unknown = self._receivers(body) - {point["name"] for point in self.points}
        if unknown:
            return refused(400, f"invalid object specification: receiver '{min(unknown)}' does not exist")
        self.policy = body
        return web.json_response({"message": "policies updated"}, status=202)

    async def _search_teams(self, request: web.Request) -> web.Response:
        found = [team for team in self.teams.values() if team["name"] == request.query["name"]]
        return web.json_response({"totalCount": len(found), "teams": found, "page": 1, "perPage": 1000})

    async def _add_team(self, request: web.Request) -> web.Response:
        name, number = (await request.json())["name"], self.number()
        if any(team["name"] == name for team in self.teams.values()):
            return refused(409, "Team name taken")
        self.teams[number] = {"id": number, "orgId": 1, "name": name, "email": "", "memberCount": 0}
        is_person = request.headers["Authorization"].startswith("Basic")  # who makes a team is in it
        self.members[number] = [1] if is_person else []
        return web.json_response({"message": "Team created", "teamId": number, "uid": f"team-{number}"})

    async def _get_members(self, request: web.Request) -> web.Response:
        number = int(request.match_info["id"])
        found = [user | {"teamId": number} for user in self.users if user["userId"] in self.members[number]]
        return web.json_response(found)

    async def _add_member(self, request: web.Request) -> web.Response:
        user, members = (await request.json())["userId"], self.members[int(request.match_info["id"])]
        if user in members:
            return refused(400, "User is already added to this team")
        members.append(user)
        return web.json_response({"message": "Member added to Team"})

    async def _remove_member(self, request: web.Request) -> web.Response:
        user, members = int(request.match_info["user"]), self.members[int(request.match_info["id"])]
        if user not in members:
            return refused(404, "Team member not found")
        members.remove(user)
        return web.json_response({"message": "Team Member removed"})

    async def _list_users(self, _: web.Request) -> web.Response:
        return web.json_response(self.users)


@contextlib.contextmanager
def running(grafana: FakeGrafana, tls: ssl.SSLContext | None = None) -> Iterator[FakeGrafana]:
    """Let a Grafana answer at a port of its own, from a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(grafana.application(), access_log=None)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        grafana.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, name="fake Grafana")
    thread.start()
    try:
        assert ready.wait(30)
        yield grafana
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
