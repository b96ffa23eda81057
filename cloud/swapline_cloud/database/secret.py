"""Passwords and tokens that are made here: a file each, of mode 0600, in one folder of mode 0700, never shown."""

import secrets
from pathlib import Path

from swapline_gateway.durable import put
from swapline_gateway.error import StorageError

# The gateway writes, and asks as the reader. That one comes first: it is there before a gateway may no longer read.
READER, GATEWAY, GRAFANA = "reader", "gateway", "grafana"
ROLES = (READER, GATEWAY, GRAFANA)
NEEDS_READER = "! the gateway needs [sink.reader] first: with write alone it cannot ask (docs/retention.md)"
_BYTES = 32


def make() -> str:
    """Return a new secret: letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(_BYTES)


class SecretFiles:
    """The folder `secrets` of the configuration. Its methods raise `StorageError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> Path:
        """Return where a secret stands, as `gateway.password`."""
        return self.path / name

    def read(self, name: str) -> str | None:
        """Return a secret, None if there is none yet."""
        file = self.file(name)
        try:
            text = file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{file}: cannot be read: {error}.") from error
        if not text:
            raise StorageError(f"{file}: is empty; delete it, or put the secret into it.")
        return text

    def write(self, name: str, value: str) -> None:
        """Put a secret where it stands, whole or not at all."""
        file = self.file(name)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{file} cannot be written: {error.strerror}.") from error
        put(file, f"{value}\n".encode(), 0o600)
