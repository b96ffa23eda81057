"""The alert rules in Grafana, and how often their groups are looked at.

Who pauses a rule in Grafana, or gives it labels of their own, keeps that: only what we set is compared and set again.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from swapline_cloud.alert import rules
from swapline_cloud.board.pen import uid
from swapline_cloud.config import AlertConfig
from swapline_cloud.plan import CREATE, DELETE, UPDATE, Change, diff_of

from .compare import as_text, is_same, merge, plain, seen
from .connection import Connection
from .folder import FOLDER

LABEL, LABEL_VALUE = "swapline", "true"
OWN = uid("")
_READ_ONLY = ("id", "updated", "provenance")
_UNSAID = {"keep_firing_for": "0s"}  # what a rule has of which Grafana says nothing
_THEIRS = "isPaused"  # a rule that somebody paused stays so


def changes(connection: Connection, config: AlertConfig, language: str) -> Iterator[Change]:
    """Yield what is to be done about the alert rules."""
    api = connection.api.alertingprovisioning
    rendered = rules.render(config, language)
    wanted = {rule["uid"]: {key: rule[key] for key in rule if key != _THEIRS} for rule in rendered}
    listed = connection.ask("list the alert rules", api.get_alertrules_all) or []
    actual = {rule["uid"]: _UNSAID | rule for rule in listed}
    for name, rule in wanted.items():
        now = actual.get(name)
        save = partial(_save, connection, rule, now)
        if now is None:
            yield Change(CREATE, "alert rule", name, diff_of("", _outline(rule)), save)
        elif not is_same(now, rule):
            yield Change(UPDATE, "alert rule", name, diff_of(as_text(seen(now, rule)), as_text(rule)), save)
    for name, rule in actual.items():
        if _is_ours(rule) and name not in wanted:
            remove = partial(connection.ask, f"delete the alert rule {name}", api.delete_alertrule, name)
            yield Change(DELETE, "alert rule", name, diff_of(rule["title"], ""), remove)
    for group in dict.fromkeys(rule["ruleGroup"] for rule in wanted.values()):
        yield from _group_changes(connection, group)


def _outline(rule: dict[str, Any]) -> str:
    questions = [query["model"]["query"] for query in rule["data"] if "query" in query["model"]]
    labels = ", ".join(f"{name}={value}" for name, value in rule["labels"].items())
    return "\n".join([f"{rule['title']}, for {rule['for']}, {labels}", *questions])


def _is_ours(rule: dict[str, Any]) -> bool:
    is_labelled = (rule.get("labels") or {}).get(LABEL) == LABEL_VALUE
    return rule["uid"].startswith(OWN) and rule.get("folderUID") == FOLDER and is_labelled


def _save(connection: Connection, rule: dict[str, Any], now: dict[str, Any] | None) -> None:
    api, name = connection.api.alertingprovisioning, rule["uid"]
    if now is None:
        connection.ask(f"create the alert rule {name}", api.create_alertrule, plain(rule), disable_provenance=True)
        return
    body = {key: value for key, value in merge(now, plain(rule)).items() if key not in _READ_ONLY}
    connection.ask(f"change the alert rule {name}", api.update_alertrule, name, body, disable_provenance=True)


def _group_changes(connection: Connection, group: str) -> Iterator[Change]:
    now = _group(connection, group)
    if now is None or now["interval"] != rules.INTERVALS_S[group]:
        before = "" if now is None else f"every {now['interval']} s"
        action = CREATE if now is None else UPDATE
        diff = diff_of(before, f"every {rules.INTERVALS_S[group]} s")
        yield Change(action, "alert group", group, diff, partial(_set_interval, connection, group))


def _group(connection: Connection, group: str) -> dict[str, Any] | None:
    api = connection.api.alertingprovisioning
    found: dict[str, Any] | None = connection.find(f"read the alert group {group}", api.get_rule_group, FOLDER, group)
    return found


def _set_interval(connection: Connection, group: str) -> None:
    """Set how often a group is looked at. Its rules made it, with whatever interval this Grafana has by default."""
    now = _group(connection, group)
    if now is not None and now["interval"] != rules.INTERVALS_S[group]:
        body = {**now, "interval": rules.INTERVALS_S[group]}
        api = connection.api.alertingprovisioning
        connection.ask(
            f"change the alert group {group}", api.update_rule_group, FOLDER, group, body, disable_provenance=True
        )
