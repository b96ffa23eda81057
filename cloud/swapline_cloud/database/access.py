"""What the rest of `swapline cloud` needs of the database side: its `Part`, its files, its credentials."""

from typing import NamedTuple

from swapline_cloud.config import CloudConfig
from swapline_gateway.error import ConfigurationError

from . import render, secret
from .part1 import USERS, Influxdb1Part
from .part2 import Influxdb2Part
from .part3 import Influxdb3Part

DatabasePart = Influxdb1Part | Influxdb2Part | Influxdb3Part


class Credentials(NamedTuple):
    """As whom somebody asks the database. `username` is for 1.x only; `secret` is a password or a token."""

    username: str | None
    secret: str


def make_part(config: CloudConfig) -> DatabasePart:
    """Return the database as it should be, for the version that the configuration names."""
    if config.database.version == 1:
        return Influxdb1Part(config)
    return Influxdb2Part(config) if config.database.version == 2 else Influxdb3Part(config)


def render_files(config: CloudConfig) -> dict[str, str]:
    """Return what people who set up the database by hand need, by path. Without secrets."""
    return render.files(config)


def rotate(config: CloudConfig, role: str) -> str:
    """Make a new password or token for one of `secret.ROLES`, and return the file that has it. Raises `GatewayError`.

    The old one is worth nothing afterwards: give the new one to who uses it, and start that again.
    """
    if role not in secret.ROLES:
        raise ConfigurationError(f"{role!r} has no password or token of ours; these have: {', '.join(secret.ROLES)}.")
    part = make_part(config)
    try:
        part.rotate(role)
    finally:
        part.close()
    return str(config.secrets / file_of(config, role))


def file_of(config: CloudConfig, role: str) -> str:
    """Return the name of a role's file in the folder of secrets."""
    return f"{role}.password" if config.database.version == 1 else f"{role}.token"


def credentials(config: CloudConfig, role: str) -> Credentials | None:
    """Return as whom a role uses the database, None before `apply` made it."""
    found = secret.SecretFiles(config.secrets).read(file_of(config, role))
    if found is None:
        return None
    return Credentials(USERS[role] if config.database.version == 1 else None, found)
