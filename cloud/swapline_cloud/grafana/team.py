"""The teams: viewers look at what is in the folder, editors change it.

A team's members are exactly those of the configuration, unless it names none: then Grafana's administrators say who is
in it. What others may do in the folder stays as it is.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from swapline_cloud.config import GrafanaConfig
from swapline_cloud.plan import CREATE, UPDATE, Change, diff_of
from swapline_gateway.error import ConfigurationError

from .connection import Connection
from .folder import FOLDER

VIEWERS, EDITORS = "swapline-viewers", "swapline-editors"
RIGHTS = {VIEWERS: 1, EDITORS: 2}  # View, Edit
_RIGHT_NAMES = {1: "View", 2: "Edit", 4: "Admin"}
_WHO = ("role", "teamId", "userId")
_READ_RIGHTS = "read the folder's permissions"


def changes(connection: Connection, config: GrafanaConfig) -> Iterator[Change]:
    """Yield what is to be done about teams, their rights and, last, their members."""
    teams = {name: _find(connection, name) for name in RIGHTS}
    for name, team in teams.items():
        if team is None:
            create = partial(connection.ask, f"create the team {name}", connection.api.teams.add_team, {"name": name})
            yield Change(CREATE, "team", name, diff_of("", name), create)
    yield from _right_changes(connection)
    for name, emails in ((VIEWERS, config.viewers), (EDITORS, config.editors)):
        yield from _member_changes(connection, name, teams[name], emails)


def _find(connection: Connection, name: str) -> dict[str, Any] | None:
    found = connection.find(f"read the team {name}", connection.api.teams.get_team_by_name, name)
    return next((team for team in found or [] if team["name"] == name), None)


def _right_changes(connection: Connection) -> Iterator[Change]:
    actual = connection.find(_READ_RIGHTS, connection.api.folder.get_folder_permissions, FOLDER) or []
    now = {item["team"]: item["permission"] for item in actual if item.get("team") in RIGHTS}
    if now != RIGHTS:
        action = UPDATE if now else CREATE
        diff = diff_of(_show(now), _show(RIGHTS))
        yield Change(action, "folder permissions", FOLDER, diff, partial(_save_rights, connection))


def _show(rights: dict[str, int]) -> str:
    return "\n".join(f"{name}: {_RIGHT_NAMES.get(right, right)}" for name, right in sorted(rights.items()))


def _save_rights(connection: Connection) -> None:
    """Give the teams their rights. Grafana replaces the whole list, so everybody else's are said again."""
    api = connection.api.folder
    actual = connection.ask(_READ_RIGHTS, api.get_folder_permissions, FOLDER)
    others = [_kept(item) for item in actual if _is_others(item)]
    ours = [{"teamId": _team_id(connection, name), "permission": right} for name, right in RIGHTS.items()]
    connection.ask(
        "change the folder's permissions", api.update_folder_permissions, FOLDER, {"items": [*others, *ours]}
    )


def _is_others(item: dict[str, Any]) -> bool:
    """Say whether a right was given here, and not to our teams. Administrators' own cannot be given."""
    is_given = not item.get("inherited") and item.get("role") != "Admin" and any(item.get(who) for who in _WHO)
    return is_given and item.get("team") not in RIGHTS


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    who = next(key for key in _WHO if item.get(key))
    return {who: item[who], "permission": item["permission"]}


def _member_changes(
    connection: Connection, name: str, team: dict[str, Any] | None, emails: Sequence[str]
) -> Iterator[Change]:
    if not emails:
        return
    wanted = sorted({email.lower() for email in emails})
    now = [] if team is None else sorted(_members(connection, team["id"]))
    if now != wanted:
        action = UPDATE if now else CREATE
        diff = diff_of("\n".join(now), "\n".join(wanted))
        yield Change(action, "team members", name, diff, partial(_save_members, connection, name, wanted))


def _members(connection: Connection, team_id: int) -> dict[str, int]:
    """Return a team's members: user ids by e-mail address."""
    found = connection.ask("list a team's members", connection.api.teams.get_team_members, team_id)
    return {member["email"].lower(): member["userId"] for member in found}


def _save_members(connection: Connection, name: str, wanted: Sequence[str]) -> None:
    """Make a team's members those that are wanted. Whoever makes a team as a user is its first member."""
    api, team_id = connection.api, _team_id(connection, name)
    users = connection.ask("list the users", api.organization.get_current_organization_users)
    known = {user["email"].lower(): user["userId"] for user in users}
    now = _members(connection, team_id)
    for email in wanted:
        if email not in now and email in known:
            connection.ask(f"add {email} to {name}", api.teams.add_team_member, team_id, known[email])
    for email in sorted(set(now) - set(wanted)):
        connection.ask(f"take {email} out of {name}", api.teams.remove_team_member, team_id, now[email])
    if strangers := [email for email in wanted if email not in known]:
        raise ConfigurationError(
            f"Grafana knows nobody as {', '.join(strangers)}: invite them there, or take them out of [grafana];"
            f" the other members of {name} are as wanted."
        )


def _team_id(connection: Connection, name: str) -> int:
    team = _find(connection, name)
    if team is None:
        raise ConfigurationError(f"Grafana has no team {name} any more: somebody deleted it meanwhile; apply again.")
    return int(team["id"])
