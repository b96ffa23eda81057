"""What `swapline cloud` sets up, and where: one TOML file, typed, checked at once.

A secret stands in the file itself or, with `_file` behind its name (`token_file`), in a file of its own: see the
gateway's `secret_file`. Relative paths count from the folder of the TOML file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from swapline_gateway.config import Section, Text, Url, check, read

from .rollup import DATABASE


def _check_webhook(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("allowed: an address that begins with http:// or https://")
    return value


WebhookUrl = Annotated[SecretStr, AfterValidator(_check_webhook)]


class DatabaseConfig(Section):
    """InfluxDB, reached as somebody who may set it up. `database` is also the raw bucket's name in 2.x.

    `token` is for 2.x and 3.x; `username` and `password` for 1.x.
    """

    version: Literal[1, 2, 3] = 2
    url: Url
    organisation: Text = "swapline"
    database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = DATABASE
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0


class GrafanaConfig(Section):
    """Grafana, reached by the token of a service account with the role Admin, or as a user with it.

    `ca`: the authority that signed Grafana's certificate, where the system does not know it. `database_url` is how
    Grafana reaches InfluxDB, where that is not `database.url`. Members of the teams are e-mail addresses that Grafana
    knows.
    """

    url: Url
    ca: Path | None = None
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    database_url: Url | None = None
    language: Literal["en", "zh"] = "en"
    viewers: tuple[str, ...] = ()
    editors: tuple[str, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0


class AlertConfig(Section):
    """Whom alerts are told, and from where on. The webhook's address is a secret: who knows it can send alerts."""

    webhook_url: WebhookUrl | None = None
    email: tuple[str, ...] = ()
    silent_minutes: Annotated[int, Field(ge=1)] = 10
    near_empty_pct: Annotated[float, Field(ge=0, le=100)] = 15.0
    far_km: Annotated[float, Field(ge=0)] = 5.0
    disk_free_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    certificate_days: Annotated[int, Field(ge=1)] = 21
    backlog_frames: Annotated[int, Field(ge=1)] = 50_000
    backlog_s: Annotated[int, Field(ge=1)] = 900
    gap_frames: Annotated[int, Field(ge=0)] = 200
    runbook_url: Text | None = None  # without one, each alert brings its section of the runbook along


class CloudConfig(Section):
    """The whole file. `secrets` is a folder for tokens and passwords that are made here; no repository has it."""

    database: DatabaseConfig
    grafana: GrafanaConfig | None = None
    alert: AlertConfig = AlertConfig()
    secrets: Path = Path("secrets")


def load(path: Path) -> CloudConfig:
    """Read and check the file. Raises `ConfigurationError` naming file, key, value and what is allowed."""
    return parse(read(path), source=str(path), folder=path.parent)


def parse(raw: dict[str, Any], *, source: str, folder: Path) -> CloudConfig:
    """Check what a file said. `source` names it in errors; relative paths are taken from `folder`."""
    config = check(CloudConfig, raw, source=source)
    changes: dict[str, Any] = {"secrets": folder / config.secrets}
    if config.grafana is not None and config.grafana.ca is not None:
        changes["grafana"] = config.grafana.model_copy(update={"ca": folder / config.grafana.ca})
    return config.model_copy(update=changes)
