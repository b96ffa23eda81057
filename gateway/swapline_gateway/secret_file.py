"""Secrets in files of their own: `token_file = "PATH"` says where `token` is, `password_file` where `password` is.

That is how containers and systemd hand secrets over; the configuration itself can then be read by anybody, and be kept
in a repository.
"""

from pathlib import Path
from typing import Any

from .error import ConfigurationError

SECRETS = ("password", "token", "webhook_url")  # no message shows them
_SUFFIX = "_file"


def fill_in(table: dict[str, Any], folder: Path, *, source: str) -> dict[str, Any]:
    """Return the table, and those in it, with every secret that a file has. Relative paths count from `folder`.

    Raises `ConfigurationError` for a file that cannot be read or is empty, and for a secret that is said twice.
    """
    filled: dict[str, Any] = {}
    for key, value in table.items():
        name = key.removesuffix(_SUFFIX)
        if isinstance(value, dict):
            filled[key] = fill_in(value, folder, source=source)
        elif name != key and name in SECRETS and isinstance(value, str):
            if name in table:
                raise ConfigurationError(f"{source}: {key}: {name} is there as well; only one of them is allowed.")
            filled[name] = _read(folder / value, key, source)
        else:
            filled[key] = value
    return filled


def _read(path: Path, key: str, source: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise ConfigurationError(f"{source}: {key}: {path} cannot be read: {why}.") from error
    if not text:
        raise ConfigurationError(f"{source}: {key}: {path} is empty.")
    return text
