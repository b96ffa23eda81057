"""InfluxDB 3.x (Core, Enterprise) as far as it can be set up over HTTP. Stated plan; not tried against a live one.

- A policy is a database named `swapline/minute`: that is where 3.x looks when InfluxQL asks for
  `"swapline"."minute"."module"`. Databases that are missing are made, with their retention
  (`/api/v3/configure/database`).
- Core cannot change the retention of a database that is there, and lists names only: such databases are left alone.
- There are no continuous queries and no tasks. `swapline cloud rollup --follow` makes all roll-ups, fresh and late.
- Core has no tokens of limited rights; those of Enterprise are made with its own tool. `apply` makes none.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import urllib3

from swapline_cloud.config import CloudConfig
from swapline_cloud.plan import CREATE, Change, diff_of
from swapline_gateway.error import AccessError, ConfigurationError, GatewayError, UnavailableError, reason

from .policy import POLICIES, Policy, describe

PATH = "/api/v3/configure/database"
_NAME = "iox::database"


class Influxdb3Part:
    """See the module's header."""

    name = "InfluxDB 3.x"

    def __init__(self, config: CloudConfig) -> None:
        self._config = config.database
        self._url = config.database.url.rstrip("/") + PATH
        token = self._config.token
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._pool = urllib3.PoolManager(headers=headers, timeout=config.database.timeout_s, retries=False)

    def changes(self) -> Sequence[Change]:
        """See `plan.Part.changes`."""
        found = {row.get(_NAME) for row in self._ask("GET", query="?format=json")}
        return [self._change(policy) for policy in POLICIES if self._name(policy) not in found]

    def warnings(self) -> list[str]:
        """Return what is not as it should be and cannot be changed from here."""
        return [
            "InfluxDB 3.x has no continuous queries and no tasks: keep `swapline cloud rollup --follow` running.",
            "No tokens are made in InfluxDB 3.x: make them with its own tool (docs/retention.md).",
        ]

    def _name(self, policy: Policy) -> str:
        return f"{self._config.database}/{policy.name}"

    def _change(self, policy: Policy) -> Change:
        name = self._name(policy)
        wanted = describe(policy.seconds, policy.shard_s).splitlines()[0]  # it has no shards to choose
        return Change(CREATE, "database", name, diff_of("", wanted), partial(self._make, name, policy))

    def _make(self, name: str, policy: Policy) -> None:
        body = {"db": name} | ({} if policy.days is None else {"retention_period": f"{policy.days}d"})
        self._ask("POST", body=body)

    def rotate(self, role: str) -> None:
        """Refuse: tokens of 3.x are made with its own tool."""
        raise ConfigurationError(
            f"The token of the {role} is made with InfluxDB's own tool: `influxdb3 create token` (docs/retention.md)."
        )

    def _ask(self, method: str, *, query: str = "", body: dict[str, str] | None = None) -> list[dict[str, Any]]:
        try:
            response = self._pool.request(method, self._url + query, json=body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"{self._config.url} does not answer: {reason(error)}.") from error
        if response.status in (401, 403):
            raise AccessError(f"{self._config.url} refuses database.token.")
        if response.status >= 500:
            raise UnavailableError(f"{self._config.url} answers {response.status}.")
        if response.status == 404:
            raise UnavailableError(f"{self._config.url} answers 404, but not as an InfluxDB 3.x.")
        if response.status >= 300:
            raise GatewayError(
                f"{self._config.url} answers {response.status}: {response.data.decode(errors='replace').strip()}"
            )
        if method == "POST":
            return []
        try:
            rows = response.json()
        except ValueError:
            rows = None
        if not isinstance(rows, list):
            raise UnavailableError(f"{self._config.url} does not answer as an InfluxDB 3.x.")
        return [row for row in rows if isinstance(row, dict)]

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
