"""Grafana's provisioning folder: the same as `apply` makes, as files that Grafana reads at its start.

Grafana puts environment variables where a file says `$NAME`; `$$` is a dollar. Secrets come in that way. It does so
neither in boards nor in the questions of alert rules, and in an alert's texts only for `${NAME}`, which none of ours
has (pkg/services/provisioning of its sources).
"""

import json
from typing import Any

import yaml

from swapline_cloud.alert import rules
from swapline_cloud.board import boards
from swapline_cloud.config import AlertConfig, CloudConfig

from .folder import FOLDER
from .notice import ROUTE, contact_points
from .source import Source

PROVISIONING, BOARDS = "grafana/provisioning", "grafana/dashboards"
BOARD_PATH = "/etc/grafana/dashboards"  # where Grafana finds the folder `BOARDS`
# Grafana makes this folder by its title and gives it a uid of its own; one named as the boards' would be there twice.
ALERT_FOLDER = "swapline alerts"
TOKEN, PASSWORD, WEBHOOK_URL = "SWAPLINE_DB_TOKEN", "SWAPLINE_DB_PASSWORD", "SWAPLINE_WEBHOOK_URL"
_ORGANISATION = 1
_HEAD = "# Made by `swapline cloud render`. Change cloud.toml and render again.\napiVersion: 1\n"
_ONLY_API = ("uid", "folderUID", "ruleGroup", "keep_firing_for")


def files(config: CloudConfig, language: str) -> dict[str, str]:
    """Return the files by path. No secret is in them: `variables` says what Grafana's environment needs."""
    return {
        f"{PROVISIONING}/datasources/swapline.yaml": _as_yaml("datasources", [_source(config)]),
        f"{PROVISIONING}/dashboards/swapline.yaml": _as_yaml("providers", [_provider()]),
        f"{PROVISIONING}/alerting/rules.yaml": _as_yaml("groups", _groups(config.alert, language)),
        f"{PROVISIONING}/alerting/contact_points.yaml": _as_yaml("contactPoints", _points(config.alert)),
        f"{PROVISIONING}/alerting/policies.yaml": _as_yaml("policies", _policies(config.alert)),
        **{f"{BOARDS}/{name}.json": _as_json(board) for name, board in boards.render(language).items()},
    }


def variables(config: CloudConfig) -> dict[str, str]:
    """Return what Grafana's environment needs: names, and what each is."""
    is_token = config.database.version > 1
    found = {TOKEN if is_token else PASSWORD: f"Grafana's {'token' if is_token else 'password'} for the database"}
    if config.alert.webhook_url is not None:
        found[WEBHOOK_URL] = "the webhook's address"
    return found


def _as_yaml(key: str, value: list[dict[str, Any]]) -> str:
    body = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=120)
    return f"{_HEAD}{body}"


def _as_json(board: dict[str, Any]) -> str:
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _escape(value: Any) -> Any:
    """Return a value in which every dollar stays one."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _source(config: CloudConfig) -> dict[str, Any]:
    source = Source(config)
    variable = next(iter(variables(config)))
    secure = source.secure(f"${variable}")
    return {"orgId": _ORGANISATION, **_escape(source.settings()), "secureJsonData": secure, "editable": False}


def _provider() -> dict[str, Any]:
    return {
        "orgId": _ORGANISATION,
        "name": FOLDER,
        "type": "file",
        "folder": FOLDER,
        "folderUid": FOLDER,
        "disableDeletion": False,
        "allowUiUpdates": False,  # what people save would be gone with the next render
        "updateIntervalSeconds": 60,
        "options": {"path": BOARD_PATH},
    }


def _groups(config: AlertConfig, language: str) -> list[dict[str, Any]]:
    rendered = rules.render(config, language)
    return [
        {
            "orgId": _ORGANISATION,
            "name": group,
            "folder": ALERT_FOLDER,
            "interval": f"{rules.INTERVALS_S[group]}s",
            "rules": [_rule(rule) for rule in rendered if rule["ruleGroup"] == group],
        }
        for group in dict.fromkeys(rule["ruleGroup"] for rule in rendered)
    ]


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in rule.items() if key not in _ONLY_API}
    said |= {"title": _escape(rule["title"]), "labels": _escape(rule["labels"])}
    return {"uid": rule["uid"], **said, "keepFiringFor": rule["keep_firing_for"]}


def _points(config: AlertConfig) -> list[dict[str, Any]]:
    receivers = []
    for point in contact_points(config, webhook_url="-"):
        settings = _escape(point["settings"])
        if "url" in settings:
            settings["url"] = f"${WEBHOOK_URL}"
        receivers.append({"uid": point["uid"], "type": point["type"], "settings": settings})
    return [{"orgId": _ORGANISATION, "name": ROUTE["receiver"], "receivers": receivers}] if receivers else []


def _policies(config: AlertConfig) -> list[dict[str, Any]]:
    """Return the whole tree, for a file replaces it: Grafana's own default, and our route."""
    if not contact_points(config, webhook_url="-"):
        return []
    default = {"receiver": "grafana-default-email", "group_by": ["grafana_folder", "alertname"]}
    return [{"orgId": _ORGANISATION, **default, "routes": [ROUTE]}]
