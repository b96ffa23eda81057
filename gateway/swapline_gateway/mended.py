"""Put the mended copy of a damaged file in its place, in steps that a kill cannot break.

`<name>.mending` is being written; `<name>.mended` is complete and on the disk; `<name>.damaged-<ms>` was put aside. Of
the last only the newest few are kept: a disk that keeps failing must not fill up with them.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from .durable import sync

ASIDE_MAX = 3


def beside(path: Path, suffix: str) -> Path:
    """Return the file in the same folder whose name goes on with `suffix`."""
    return path.with_name(path.name + suffix)


def finish(path: Path, companions: Sequence[str]) -> None:
    """Put the mended file of `path` in its place, if there is one; `companions` are suffixes of its further files."""
    mended = beside(path, ".mended")
    if not mended.exists():
        return
    aside = beside(path, f".damaged-{time.time_ns() // 1_000_000}")
    for suffix in (*companions, ""):  # a log first: beside the new file it would be taken for that one's
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(aside, suffix))
    mended.rename(path)
    sync(path.parent)
    _forget_old(path, companions)


def _forget_old(path: Path, companions: Sequence[str]) -> None:
    for old in sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))[:-ASIDE_MAX]:
        for suffix in ("", *companions):
            beside(old, suffix).unlink(missing_ok=True)
