"""Whom alerts are told: contact points (webhook, e-mail) and the route of the notification policy that leads to them.

The policy's tree is everybody's. Our route stands in it beside the others and first, for one before it might keep our
alerts; it says `continue`, so that routes which others made for our alerts get them too.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from swapline_cloud.board.pen import uid
from swapline_cloud.config import AlertConfig
from swapline_cloud.plan import CREATE, DELETE, UPDATE, Change, diff_of

from .compare import as_text, is_same, plain, seen
from .connection import EDITABLE, Connection
from .rule import LABEL, LABEL_VALUE

NAME = "swapline"  # of the contact point; each way of telling is a receiver in it
WEBHOOK, EMAIL = uid("webhook"), uid("email")
_MATCHER = [LABEL, "=", LABEL_VALUE]
_REDACTED = "[REDACTED]"

ROUTE: dict[str, Any] = {
    "receiver": NAME,
    "object_matchers": [_MATCHER],
    "group_by": ["alertname", "fleet"],  # not by node: an outage is one message, not one of each van
    "group_wait": "30s",
    "group_interval": "5m",
    "repeat_interval": "4h",
    "continue": True,
}


def contact_points(config: AlertConfig, *, webhook_url: str | None = None) -> list[dict[str, Any]]:
    """Return the contact points. `webhook_url` stands where the real one must not, in files."""
    found: list[dict[str, Any]] = []
    if config.webhook_url is not None:
        url = webhook_url or config.webhook_url.get_secret_value()
        found.append(_point(WEBHOOK, "webhook", {"url": url, "httpMethod": "POST"}))
    if config.email:
        found.append(_point(EMAIL, "email", {"addresses": ";".join(config.email), "singleEmail": False}))
    return found


def _point(name: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"uid": name, "name": NAME, "type": kind, "settings": settings, "disableResolveMessage": False}


def changes(connection: Connection, config: AlertConfig) -> Iterator[Change]:
    """Yield what is to be done: points before the route that needs them, and the other way round when they go."""
    api = connection.api.alertingprovisioning
    wanted = {point["uid"]: point for point in contact_points(config)}
    listed = connection.ask("list the contact points", api.get_contactpoints) or []
    actual = {point["uid"]: point for point in listed if point["uid"] in (WEBHOOK, EMAIL)}
    for name, point in wanted.items():
        now = _readable(actual.get(name), point)
        save = partial(_save_point, connection, point, is_new=now is None)
        if now is None:
            yield Change(CREATE, "contact point", name, diff_of("", _show(point, point)), save)
        elif not is_same(now, point):
            diff = diff_of(_show(seen(now, point), point), _show(point, point))
            yield Change(UPDATE, "contact point", name, diff, save)
    yield from _route_changes(connection, is_wanted=bool(wanted))
    for name in sorted(set(actual) - set(wanted)):
        remove = partial(connection.ask, f"delete the contact point {name}", api.delete_contactpoint, name)
        yield Change(DELETE, "contact point", name, diff_of(name, ""), remove)


def _readable(now: dict[str, Any] | None, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return a contact point with our values where Grafana does not tell its own."""
    if now is None:
        return None
    settings = {
        key: wanted["settings"].get(key) if value == _REDACTED else value for key, value in now["settings"].items()
    }
    return {**now, "settings": settings}


def _show(point: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return a contact point as text, of a webhook's address only what is no secret."""
    settings = dict(point.get("settings", {}))
    if "url" in settings:
        parts = urlsplit(settings["url"])
        is_other = settings["url"] != wanted["settings"].get("url")
        settings["url"] = f"{parts.scheme}://{parts.hostname}/***" + (" (another)" if is_other else "")
    return as_text({**point, "settings": settings})


def _save_point(connection: Connection, point: dict[str, Any], *, is_new: bool) -> None:
    api, name = connection.api, point["uid"]
    if is_new:
        create = api.alertingprovisioning.create_contactpoint
        connection.ask(f"create the contact point {name}", create, point, disable_provenance=True)
    else:  # the client's own call cannot say that the contact point stays editable
        path = f"/v1/provisioning/contact-points/{name}"
        connection.ask(f"change the contact point {name}", api.client.PUT, path, json=point, headers=EDITABLE)


def _route_changes(connection: Connection, *, is_wanted: bool) -> Iterator[Change]:
    tree = _tree(connection)
    now = next((route for route in tree.get("routes") or [] if _is_ours(route)), None)
    save = partial(_save_route, connection, is_wanted=is_wanted)
    if now is None and is_wanted:
        yield Change(CREATE, "notification policy", NAME, diff_of("", as_text(ROUTE)), save)
    elif now is not None and not is_wanted:
        yield Change(DELETE, "notification policy", NAME, diff_of(as_text(now), ""), save)
    elif now is not None and not is_same(now, ROUTE):
        yield Change(UPDATE, "notification policy", NAME, diff_of(as_text(seen(now, ROUTE)), as_text(ROUTE)), save)


def _tree(connection: Connection) -> dict[str, Any]:
    get = connection.api.alertingprovisioning.get_notification_policy_tree
    found: dict[str, Any] = connection.ask("read the notification policy", get)
    return found


def _is_ours(route: dict[str, Any]) -> bool:
    return route.get("receiver") == NAME and _MATCHER in (route.get("object_matchers") or [])


def _save_route(connection: Connection, *, is_wanted: bool) -> None:
    """Put our route into the tree as it is at this moment, or take it out; every other route stays where it is."""
    tree = plain(_tree(connection))
    routes = tree.get("routes", [])
    place = next((index for index, route in enumerate(routes) if _is_ours(route)), None)
    if place is not None:
        routes[place : place + 1] = [ROUTE | {"routes": routes[place].get("routes", [])}] if is_wanted else []
    elif is_wanted:
        routes.insert(0, ROUTE)
    tree = {key: value for key, value in tree.items() if key != "provenance"} | {"routes": routes}
    put = connection.api.alertingprovisioning.set_notification_policy_tree
    connection.ask("change the notification policy", put, tree, disable_provenance=True)
