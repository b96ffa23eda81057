"""Files that are on the disk whole, or not at all."""

import os
import tempfile
from pathlib import Path

from .error import StorageError


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is there whole or not at all, and that nobody could read for a moment who may not.

    Raises `StorageError`.
    """
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            Path(draft).replace(path)
        except OSError:
            Path(draft).unlink()
            raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error
