"""Put a file of a backup where a program of ours will look for it; what is there is put aside, never overwritten."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from swapline_gateway.durable import sync
from swapline_gateway.error import StorageError


def put(source: Path, target: Path, companions: Sequence[str], *, is_forced: bool) -> Path | None:
    """Copy a file to its place, durable before it has its name. Return what was put aside, if anything.

    `companions` are suffixes of a database's further files: beside the new file they would be taken for its own. The
    file belongs to whom its folder belongs, as far as we may say so. Raises `StorageError`.
    """
    if target.exists() and not is_forced:
        raise StorageError(f"{target} is there already: --force puts it aside and takes the backup's.")
    coming = target.with_name(f"{target.name}.restoring")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, coming)
        if os.geteuid() == 0:
            owner = target.parent.stat()
            os.chown(coming, owner.st_uid, owner.st_gid)
            coming.chmod(0o640)
        sync(coming)
        aside = _put_aside(target, companions)
        coming.rename(target)
        sync(target.parent)
    except OSError as error:
        coming.unlink(missing_ok=True)
        raise StorageError(f"{error.filename or target}: cannot be written: {error.strerror or error}.") from error
    return aside


def _put_aside(target: Path, companions: Sequence[str]) -> Path | None:
    aside = target.with_name(f"{target.name}.before-{time.time_ns() // 1_000_000}")
    found = [suffix for suffix in (*companions, "") if target.with_name(target.name + suffix).exists()]
    for suffix in found:
        target.with_name(target.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside if found else None
