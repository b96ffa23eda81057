"""Statements of InfluxQL that set up an InfluxDB 1.x, over HTTP.

They go in the body of a POST: a password in the address would stand in logs.
"""

from typing import Any
from urllib.parse import urlencode

import urllib3

from swapline_cloud.config import DatabaseConfig
from swapline_gateway.error import AccessError, GatewayError, UnavailableError, reason

_NO_ADMINISTRATOR = "create admin user first"
Row = dict[str, Any]


class NoAdministratorError(AccessError):
    """The server wants its first administrator before anything else."""


class AdminClient:
    """Asks one server. `as_user` is somebody else than the configuration's user; its methods raise `GatewayError`."""

    def __init__(self, config: DatabaseConfig, *, as_user: tuple[str, str] | None = None) -> None:
        self._url = config.url.rstrip("/")
        password = config.password.get_secret_value() if config.password else ""
        self._user = as_user or ((config.username, password) if config.username else None)
        headers = urllib3.make_headers(basic_auth=":".join(self._user)) if self._user else {}
        self._pool = urllib3.PoolManager(headers=dict(headers), timeout=config.timeout_s, retries=False)

    def run(self, statement: str) -> None:
        """Run what changes something."""
        self._ask(statement)

    def rows(self, statement: str) -> list[Row]:
        """Return the rows of an answer, each with its columns' names. Rows of all series, `_series` naming theirs."""
        return [
            {"_series": series.get("name", ""), **dict(zip(series["columns"], values, strict=True))}
            for series in self._ask(statement)
            for values in series.get("values", [])
        ]

    def is_let_in(self) -> bool:
        """Say whether the server takes the user's name and password, or anybody's."""
        return self._post("SHOW DATABASES").status not in (401, 403)  # 403: there is no administrator yet

    def _ask(self, statement: str) -> list[Row]:
        response = self._post(statement)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or not ("results" in body or "error" in body):
            raise UnavailableError(f"{self._url} answers {response.status}, but not as an InfluxDB 1.x.")
        problem = str(body.get("error") or next((r["error"] for r in body.get("results", []) if "error" in r), ""))
        if problem or response.status != 200:
            raise self._error(response.status, problem)
        found: list[Row] = [series for result in body["results"] for series in result.get("series", [])]
        return found

    def _error(self, status: int, problem: str) -> GatewayError:
        if _NO_ADMINISTRATOR in problem:
            return NoAdministratorError(f"{self._url} has no administrator yet.")
        if status in (401, 403):
            who = f"user {self._user[0]!r}" if self._user else "nobody: set database.username and database.password"
            return AccessError(f"{self._url} refuses {who}: {problem}.")
        if status >= 500:
            return UnavailableError(f"{self._url} answers {status}: {problem}.")
        return GatewayError(f"{self._url} refuses a statement: {problem}.")

    def _post(self, statement: str) -> urllib3.BaseHTTPResponse:
        body = urlencode({"q": statement})
        headers = {**self._pool.headers, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            return self._pool.request("POST", f"{self._url}/query", body=body, headers=headers)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"{self._url} does not answer: {reason(error)}.") from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
