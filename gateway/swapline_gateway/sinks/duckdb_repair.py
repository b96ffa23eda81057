"""What becomes of a damaged DuckDB file: nobody has to come.

1. What can be read of it is copied into a new file beside it, `<name>.mending`, by a process of its own
   (`duckdb_salvage.py`): a damaged file may make the library itself fail, and the gateway must not go with it.
2. When that is complete and on the disk it becomes `<name>.mended`. Then the damaged file and its write-ahead log are
   put aside as `<name>.damaged-<ms>`, and the new file takes the name. A kill in between is finished by the next start.

What is gone is declared afterwards: `duckdb_loss.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb

from swapline_gateway.battery.table import TABLES
from swapline_gateway.durable import sync
from swapline_gateway.log import get
from swapline_gateway.mended import beside, finish
from swapline_wire.catalogue import STREAMS

from .duckdb_salvage import record_repair
from .duckdb_schema import make_tables

# A file of this size is read whole in a second. Damage in a larger one is found when its place is read.
VERIFY_BYTES_MAX = 64 << 20
ATTEMPTS = 2  # of a copying process that is killed, as the system does when memory is short
PATIENCE_S = (
    600.0  # with a copying process, and a second a megabyte: a library that loops must not hold the sink for ever
)
ROOM_BYTES = 64 << 20  # that stay free on the disk beside the copy
COMPANIONS = (".wal",)  # its write-ahead log
_log = get("duckdb")


def verify(connection: duckdb.DuckDBPyConnection, path: Path, *, bytes_max: int = VERIFY_BYTES_MAX) -> None:
    """Read everything in a file that is not large. Raises `duckdb.Error` where it cannot be read."""
    if path.stat().st_size > bytes_max:
        return
    for name in ("frames", "loss", *(stream.name for stream in STREAMS), *(table.name for table in TABLES)):
        connection.execute(f'SELECT max(hash(everything)) FROM "{name}" AS everything').fetchall()  # noqa: S608


def repair(path: Path, error: Exception) -> None:
    """Replace a damaged file by a new one with what could be read of it. Raises `OSError`, `duckdb.Error`."""
    first_line = str(error).splitlines()[0]
    _log.error("database is damaged: copying what can be read of it", path=str(path), error=first_line)
    mending = beside(path, ".mending")
    report = _salvage(path, mending, first_line)
    if report is None:  # nothing of it can be read
        _discard(mending)
        with duckdb.connect(str(mending)) as connection:
            make_tables(connection)
            record_repair(connection, first_line, {})
        report = {}
    with mending.open("rb+") as file:
        os.fsync(file.fileno())
    mending.rename(beside(path, ".mended"))
    sync(path.parent)
    finish(path, COMPANIONS)
    rows = {name: count for name, count in report.items() if name != "unreadable"}
    _log.error(
        "database was damaged: a new file has what could be read",
        frames=rows.pop("frames", 0),
        rows=sum(rows.values()),
        rows_unreadable=report.get("unreadable", 0),
    )


def _salvage(path: Path, mending: Path, error: str) -> dict[str, int] | None:
    """Copy in a process of its own; return rows copied by table, or None when that did not end well."""
    _discard(mending)
    size = path.stat().st_size if path.exists() else 0
    if shutil.disk_usage(path.parent).free < size + ROOM_BYTES:
        _log.error("no room to copy what can be read: it stays in the file put aside", bytes=size)
        return None
    command = [sys.executable, "-m", "swapline_gateway.sinks.duckdb_salvage", str(path), str(mending), error]
    for _ in range(ATTEMPTS):
        _discard(mending)
        patience_s = PATIENCE_S + size / 1e6
        try:
            child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience_s)  # noqa: S603 (our own module)
        except subprocess.TimeoutExpired:
            _log.error("copying did not end", seconds=round(patience_s))
            break
        if child.returncode == 0:
            report: dict[str, int] = json.loads(child.stdout)
            return report
        _log.error("copying ended early", code=child.returncode, error=child.stderr.strip()[-300:])
        if child.returncode > 0:  # it said why, and would say so again; one that was killed may have better luck
            break
    return None


def _discard(file: Path) -> None:
    for suffix in ("", ".wal"):
        beside(file, suffix).unlink(missing_ok=True)
