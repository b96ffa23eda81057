"""Boards: what `swapline cloud render` writes, and every board that Grafana has now, people's own as well."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from swapline_cloud.board import boards
from swapline_cloud.config import CloudConfig, GrafanaConfig
from swapline_cloud.database.access import render_files
from swapline_cloud.grafana import provisioning
from swapline_cloud.grafana.compare import plain
from swapline_cloud.grafana.connection import Connection
from swapline_cloud.text import ENGLISH
from swapline_gateway.error import GatewayError, StorageError

APPLY, GRAFANA = "apply", "grafana"
MESSAGE = "swapline cloud restore"  # stands in the board's history
_BOARDS_MAX = 5000  # what Grafana tells in one answer
_OF_THIS_GRAFANA = ("id", "version")
RESTORED, SAME, OTHER, APPLIED = "restored", "as it was", "changed since, left alone", "made by apply"


class Restored(NamedTuple):
    """What became of a board."""

    uid: str
    title: str
    state: str


def dump(config: CloudConfig, folder: Path) -> tuple[dict[str, Any], GatewayError | None]:
    """Write the files. Return what the manifest says of them, and why Grafana's are not among them, if so."""
    language = config.grafana.language if config.grafana else ENGLISH
    files = {**render_files(config), **provisioning.files(config, language)}
    for name, text in files.items():
        _write(folder / APPLY / name, text)
    found: dict[str, Any] = {"files": len(files)}
    if config.grafana is None:
        return found, None
    try:
        with closing(Connection(config.grafana)) as connection:
            read = list(_read(connection))
    except GatewayError as error:
        return found | {"problem": str(error)}, error
    return found | {"boards": [_save(board, folder / GRAFANA) for board in read]}, None


def _read(connection: Connection) -> Iterator[dict[str, Any]]:
    listed = connection.ask(
        "list the boards", connection.api.search.search_dashboards, type_="dash-db", limit=_BOARDS_MAX
    )
    for one in listed:
        found = connection.find(f"read the board {one['uid']}", connection.api.dashboard.get_dashboard, one["uid"])
        if found is not None:  # somebody may have deleted it meanwhile
            place = found.get("meta", {})
            folder = {"uid": place.get("folderUid", ""), "title": place.get("folderTitle", "")}
            yield {"folder": folder, "dashboard": found["dashboard"]}


def _save(board: dict[str, Any], folder: Path) -> dict[str, str]:
    uid, title = board["dashboard"]["uid"], board["dashboard"].get("title", "")
    text = json.dumps(board, indent=2, ensure_ascii=False) + "\n"
    _write(folder / f"{quote(uid, safe='')}.json", text)
    return {"uid": uid, "title": title, "folder": board["folder"]["title"] or board["folder"]["uid"]}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def load(config: GrafanaConfig, folder: Path, *, is_forced: bool, is_dry: bool) -> Iterator[Restored]:
    """Write people's boards back into Grafana; `apply` makes swapline's own. Raises `GatewayError`.

    A board that is there and has been changed since stays as it is, unless that is forced.
    """
    ours = {board["uid"] for board in boards.render(config.language).values()}
    with closing(Connection(config)) as connection:
        for path in sorted((folder / GRAFANA).glob("*.json")):
            saved = _parse(path)
            board = saved["dashboard"]
            state = APPLIED if board["uid"] in ours else _state(connection, board)
            if state == OTHER and is_forced:
                state = RESTORED
            if state == RESTORED and not is_dry:
                _put(connection, saved)
            yield Restored(board["uid"], board.get("title", ""), state)


def _parse(path: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}.") from error
    return saved


def _state(connection: Connection, board: dict[str, Any]) -> str:
    name = board["uid"]
    now = connection.find(f"read the board {name}", connection.api.dashboard.get_dashboard, name)
    if now is None:
        return RESTORED
    return SAME if _content(now["dashboard"]) == _content(board) else OTHER


def _content(board: dict[str, Any]) -> Any:
    return plain({key: value for key, value in board.items() if key not in _OF_THIS_GRAFANA})


def _put(connection: Connection, saved: dict[str, Any]) -> None:
    board, folder = saved["dashboard"], saved["folder"]
    if folder["uid"]:
        api = connection.api.folder
        if connection.find(f"read the folder {folder['uid']}", api.get_folder, folder["uid"]) is None:
            title = folder["title"] or folder["uid"]
            connection.ask(f"create the folder {title}", api.create_folder, title, folder["uid"])
    body = {"dashboard": _content(board), "folderUid": folder["uid"], "overwrite": True, "message": MESSAGE}
    connection.ask(f"save the board {board['uid']}", connection.api.dashboard.update_dashboard, body)
