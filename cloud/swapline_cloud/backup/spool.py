"""The gateway's spool: copied while the gateway writes to it, put back while no gateway runs."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from swapline_gateway.error import StorageError
from swapline_gateway.lock import Lock

from .place import put

FILE = "spool.sqlite"
_COMPANIONS = ("-wal", "-shm")
_BUSY_S = 30.0


def dump(path: Path, folder: Path) -> dict[str, Any]:
    """Copy the spool as it is at this moment, and return what the manifest says of it. Raises `StorageError`.

    In one step: SQLite begins anew whenever somebody writes between two, and a gateway writes all the time. It goes on
    writing meanwhile, into its log.
    """
    if not path.is_file():
        raise StorageError(f"There is no spool at {path}.")
    try:
        with closing(_open(path)) as source, closing(sqlite3.connect(folder / FILE)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StorageError(f"The spool {path} is damaged ({verdict}): the gateway's next start mends it.")
            return {name: _count(copy, name) for name in ("frame", "quarantine", "taken")}
    except sqlite3.Error as error:
        raise StorageError(f"The spool {path} cannot be copied: {error}.") from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        # Nobody has it open, and its folder is not ours: SQLite could not make the log that it wants to look into.
        return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    return connection


def _count(connection: sqlite3.Connection, table: str) -> int:
    (found,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608 (our own names)
    return int(found)


def load(source: Path, target: Path, *, is_forced: bool) -> Path | None:
    """Put a spool in its place, and return what was put aside. Raises `StorageError`, also while a gateway runs."""
    with closing(Lock(target.with_name(target.name + ".lock"))):
        return put(source, target, _COMPANIONS, is_forced=is_forced)
