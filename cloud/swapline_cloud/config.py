"""What `swapline cloud` sets up, and where: one TOML file, typed, checked at once."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from swapline_gateway.config import Section, Text, Url

from .rollup import DATABASE


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

    `database_url` is how Grafana reaches InfluxDB, where that is not `database.url`. Members of the teams are e-mail
    addresses that Grafana knows.
    """

    url: Url
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    database_url: Url | None = None
    language: Literal["en", "zh"] = "en"
    viewers: tuple[str, ...] = ()
    editors: tuple[str, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0


class AlertConfig(Section):
    """Whom alerts are told, and from where on."""

    webhook_url: Url | None = None
    email: tuple[str, ...] = ()
    silent_minutes: Annotated[int, Field(ge=1)] = 10
    near_empty_pct: Annotated[float, Field(ge=0, le=100)] = 15.0
    far_km: Annotated[float, Field(ge=0)] = 5.0
    disk_free_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    certificate_days: Annotated[int, Field(ge=1)] = 21
    backlog_frames: Annotated[int, Field(ge=1)] = 50_000


class CloudConfig(Section):
    """The whole file. `secrets` is a folder for tokens and passwords that are made here; no repository has it."""

    database: DatabaseConfig
    grafana: GrafanaConfig | None = None
    alert: AlertConfig = AlertConfig()
    secrets: Path = Path("secrets")
