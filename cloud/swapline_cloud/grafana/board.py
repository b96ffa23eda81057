"""The boards in Grafana. Our own ones, by uid, tag and folder, that are no longer wanted go; nobody else's."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from swapline_cloud.board import boards
from swapline_cloud.board.pen import TAG, uid
from swapline_cloud.plan import CREATE, DELETE, UPDATE, Change, diff_of

from .compare import as_text, plain, seen
from .connection import Connection
from .folder import FOLDER

MESSAGE = "swapline cloud apply"  # stands in the board's history at each of our saves
OWN = uid("")
# Grafana counts these itself; it raises the schema's version when somebody saves a board.
_COUNTED = ("id", "version", "schemaVersion")


def changes(connection: Connection, language: str) -> Iterator[Change]:
    """Yield what is to be done about the boards."""
    wanted = {board["uid"]: board for board in boards.render(language).values()}
    for name, board in wanted.items():
        found = connection.find(f"read the board {name}", connection.api.dashboard.get_dashboard, name)
        save = partial(_save, connection, name, board)
        if found is None:
            yield Change(CREATE, "board", name, diff_of("", _outline(board)), save)
        elif diff := _difference(connection, found, board):
            yield Change(UPDATE, "board", name, diff, save)
    for name in _unwanted(connection, set(wanted)):
        remove = partial(connection.ask, f"delete the board {name}", connection.api.dashboard.delete_dashboard, name)
        yield Change(DELETE, "board", name, diff_of(name, ""), remove)


def _uncounted(board: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in board.items() if key not in _COUNTED}


def _outline(board: dict[str, Any]) -> str:
    titles = [f"  {panel.get('title', '')}" for panel in board.get("panels", [])]
    return "\n".join([f"{board['title']}: {len(titles)} panels", *titles])


def _difference(connection: Connection, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return the diff between Grafana's board and ours, empty if there is none.

    What only Grafana has is its default, unless somebody has saved the board since we did: then it is theirs.
    """
    place = {"folder": found.get("meta", {}).get("folderUid", "")}
    actual, ours = plain(_uncounted(found["dashboard"]) | place), plain(_uncounted(wanted) | {"folder": FOLDER})
    known = seen(actual, ours)
    if known != ours:
        return diff_of(as_text(known), as_text(ours))
    if actual == ours or _is_last_save_ours(connection, wanted["uid"]):
        return ""
    return diff_of(as_text(actual), as_text(ours))


def _is_last_save_ours(connection: Connection, name: str) -> bool:
    path = f"/dashboards/uid/{name}/versions?limit=1"
    answer = connection.find(f"read the history of the board {name}", connection.api.client.GET, path)
    versions = answer.get("versions", []) if isinstance(answer, dict) else answer or []
    return not versions or versions[0].get("message") == MESSAGE


def _save(connection: Connection, name: str, board: dict[str, Any]) -> None:
    body = {"dashboard": plain(board), "folderUid": FOLDER, "overwrite": True, "message": MESSAGE}
    connection.ask(f"save the board {name}", connection.api.dashboard.update_dashboard, body)


def _unwanted(connection: Connection, wanted: set[str]) -> list[str]:
    found = connection.ask("list the boards", connection.api.search.search_dashboards, tag=TAG, type_="dash-db")
    ours = (item["uid"] for item in found if item["uid"].startswith(OWN) and item.get("folderUid") == FOLDER)
    return sorted(set(ours) - wanted)
