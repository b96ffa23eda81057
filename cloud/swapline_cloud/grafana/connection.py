"""Grafana's HTTP API through `grafana-client`, with errors that say what to do."""

import re
from collections.abc import Callable
from typing import Any

from grafana_client import GrafanaApi
from grafana_client import client as _client

from swapline_cloud.config import GrafanaConfig
from swapline_gateway.error import AccessError, ConfigurationError, GatewayError, UnavailableError

GrafanaException = _client.GrafanaException
# Taken from the client, for of the name `requests` mypy knows MicroPython's module only.
JSONDecodeError, RequestException = _client.requests.JSONDecodeError, _client.requests.RequestException
# What swapline writes stays editable in Grafana: an edit shows in `--check` and goes with the next `apply`.
EDITABLE = {"X-Disable-Provenance": "true"}
_NOT_FOUND, _CONFLICTS = 404, (409, 412)
_WHO = re.compile(r"^(HTTPS?Connection(Pool)?\(.*?\)|<.*?>): ")  # urllib3 says first who it is


class Connection:
    """One Grafana. `api` is the client; every call goes through `ask` or `find`."""

    def __init__(self, config: GrafanaConfig) -> None:
        self.url = config.url.rstrip("/")
        # The client puts "api" right behind the address' path.
        self.api = GrafanaApi.from_url(self.url + "/", _credential(config), timeout=config.timeout_s)
        if config.ca is not None:
            if not config.ca.is_file():
                raise ConfigurationError(f"grafana.ca: {config.ca} is not there.")
            self.api.client.verify = str(config.ca)

    def ask(self, what: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Return what Grafana answers. `what` says what is asked, as "read the folder". Raises `GatewayError`."""
        stranger = UnavailableError(f"{self.url} does not answer as Grafana does: it did not {what}.")
        try:
            answer = call(*arguments, **named)
        except GrafanaException as error:
            raise self._explain(what, error) from error
        except JSONDecodeError as error:
            raise stranger from error
        except RequestException as error:
            raise UnavailableError(f"Grafana at {self.url} does not answer: {_reason(error)}.") from error
        if isinstance(answer, str):  # a page of somebody else's: the API answers in JSON
            raise stranger
        return answer

    def find(self, what: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any | None:
        """Do as `ask`; return None where Grafana has no such thing."""

        def found() -> Any | None:
            try:
                return call(*arguments, **named)
            except GrafanaException as error:
                if error.status_code == _NOT_FOUND:
                    return None
                raise

        return self.ask(what, found)

    def close(self) -> None:
        """Close what is open to Grafana."""
        self.api.client.s.close()

    def _explain(self, what: str, error: Any) -> GatewayError:
        said = _said(error)
        if error.status_code == 401:
            return AccessError(
                f"Grafana at {self.url} refuses our credentials: [grafana] needs the token of a service account with"
                " the role Admin, or such a user's name and password."
            )
        if error.status_code == 403:
            return AccessError(f"Grafana at {self.url} does not let us {what} ({said}): the role Admin is needed.")
        if error.status_code in _CONFLICTS:
            return UnavailableError(f"Grafana at {self.url} did not {what}: something changed meanwhile ({said}).")
        if error.status_code >= 500:
            return UnavailableError(f"Grafana at {self.url} could not {what}: it says {error.status_code} ({said}).")
        return GatewayError(f"Grafana at {self.url} does not {what}: it says {error.status_code} ({said}).")


def _credential(config: GrafanaConfig) -> str | tuple[str, str]:
    if config.token is not None:
        return config.token.get_secret_value()
    if config.username is not None and config.password is not None:
        return config.username, config.password.get_secret_value()
    raise ConfigurationError("[grafana] needs token, or username and password.")


def _said(error: Any) -> str:
    response = error.response
    text = response.get("message") or response.get("error") if isinstance(response, dict) else response
    return " ".join(str(text or "nothing more").split())[:300].rstrip(".")


def _reason(error: Any) -> str:
    """Return the innermost reason: requests wraps what the socket said three times."""
    inner: BaseException = error
    while (reason := getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)) is not None:
        if not isinstance(reason, BaseException):
            break
        inner = reason
    return _WHO.sub("", str(inner)).rstrip(".")
