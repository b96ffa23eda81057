"""What `swapline cloud` sets up, and where: one TOML file, typed, checked at once.

A secret stands in the file itself or, with `_file` behind the key's name (`token_file`), in a file of its own. Relative
paths count from the folder of the TOML file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from swapline_gateway.config import Section, Text, Url, check, read
from swapline_gateway.error import ConfigurationError

from .rollup import DATABASE


# Whose secrets for the database are kept in the folder `secrets`, by the user's name in 1.x, the token's elsewhere.
GATEWAY_USER, GRAFANA_USER = "gateway", "grafana"


def _check_webhook(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("allowed: an address that begins with http:// or https://")
    return value


WebhookUrl = Annotated[SecretStr, AfterValidator(_check_webhook)]


class DatabaseConfig(Section):
    """InfluxDB, reached as somebody who may set it up. `database` is also the raw bucket's name in 2.x.

    `token` is for 2.x and 3.x; `username` and `password` for 1.x. `gateway_reads`: the gateway's battery books, history
    and console ask for what was stored. A gateway that may not needs `battery.keep = false`.
    """

    version: Literal[1, 2, 3] = 2
    url: Url
    organisation: Text = "swapline"
    database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = DATABASE
    token: SecretStr | None = None
    token_file: Path | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    gateway_reads: bool = True
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0


class GrafanaConfig(Section):
    """Grafana, reached by the token of a service account with the role Admin, or as a user with it.

    `database_url` is how Grafana reaches InfluxDB, where that is not `database.url`. Members of the teams are e-mail
    addresses that Grafana knows.
    """

    url: Url
    token: SecretStr | None = None
    token_file: Path | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    database_url: Url | None = None
    language: Literal["en", "zh"] = "en"
    viewers: tuple[str, ...] = ()
    editors: tuple[str, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0


class AlertConfig(Section):
    """Whom alerts are told, and from where on. The webhook's address is a secret: who knows it can send alerts."""

    webhook_url: WebhookUrl | None = None
    webhook_url_file: Path | None = None
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

    def secret_file(self, user: str) -> Path:
        """Return where the database's secret of a user is kept: a token, or in 1.x a password."""
        return self.secrets / f"database-{user}"


Part = TypeVar("Part", bound=Section)


def load(path: Path, *, has_secrets: bool = True) -> CloudConfig:
    """Read and check the file, and without `has_secrets=False` the files that secrets are in.

    Raises `ConfigurationError` naming file, key, value and what is allowed.
    """
    return parse(read(path), source=str(path), folder=path.parent, has_secrets=has_secrets)


def parse(raw: dict[str, Any], *, source: str, folder: Path, has_secrets: bool = True) -> CloudConfig:
    """Check what a file said. `source` names it in errors; relative paths are taken from `folder`."""
    config = check(CloudConfig, raw, source=source)
    changes: dict[str, Any] = {"secrets": folder / config.secrets}
    if has_secrets:
        for name in ("database", "grafana", "alert"):
            section = getattr(config, name)
            if section is not None:
                changes[name] = _with_secrets(section, where=f"{source}: {name}", folder=folder)
    return config.model_copy(update=changes)


def _with_secrets(section: Part, *, where: str, folder: Path) -> Part:
    """Put in what stands in files of its own."""
    found = {}
    for key in type(section).model_fields:
        file = getattr(section, f"{key}_file", None)
        if file is None:
            continue
        if getattr(section, key) is not None:
            raise ConfigurationError(f"{where}.{key}: stands there twice; leave {key} or {key}_file.")
        found[key] = SecretStr(read_secret(folder / file, where=f"{where}.{key}_file"))
    return section.model_copy(update=found)


def read_secret(path: Path, *, where: str) -> str:
    """Return a secret without the line's end. Raises `ConfigurationError` if there is none."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{where}: {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where}: {path} is not UTF-8 text.") from error
    if not secret:
        raise ConfigurationError(f"{where}: {path} is empty.")
    return secret
