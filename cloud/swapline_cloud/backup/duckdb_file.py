"""The DuckDB file: it has one process at a time, so the gateway must be stopped while it is copied or put back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from swapline_gateway.access import FileInUseError, unreadable
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import StorageError

from .place import put

FILE = "swapline.duckdb"
_COMPANIONS = (".wal",)


def dump(config: DuckdbConfig, folder: Path) -> list[dict[str, Any]]:
    """Copy all tables as they are at one moment, and return what the manifest says of them. Raises `StorageError`."""
    if not config.path.is_file():
        raise StorageError(f"There is no database at {config.path}.")
    settings: dict[str, Any] = {"memory_limit": f"{config.memory_bytes_max}B", "threads": str(config.thread_count)}
    with duckdb.connect(config=settings) as connection:
        try:
            connection.execute(f"ATTACH {_text(config.path)} AS source (READ_ONLY)")
        except duckdb.Error as error:
            raise _sort(config.path, error) from error
        try:
            connection.execute(f"ATTACH {_text(folder / FILE)} AS copy")
            connection.execute("COPY FROM DATABASE source TO copy")
            tables = [name for (name,) in connection.execute(_TABLES).fetchall()]
            return [_describe(connection, name) for name in tables]
        except duckdb.Error as error:
            raise StorageError(f"{config.path} cannot be copied: {str(error).splitlines()[0].rstrip('.')}.") from error


_TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'copy' ORDER BY table_name"


def _describe(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, Any]:
    found = connection.execute(f'SELECT COUNT(*) FROM copy.main."{table}"').fetchone()  # noqa: S608 (its own names)
    return {"measurement": table, "rows": found[0] if found else 0, "file": FILE}


def load(source: Path, target: Path, *, is_forced: bool) -> Path | None:
    """Put a file in its place, and return what was put aside. Raises `StorageError`, also while a gateway runs."""
    if target.exists():
        try:
            duckdb.connect(str(target)).close()
        except duckdb.Error as error:
            found = _sort(target, error)
            if isinstance(found, FileInUseError):
                raise found from error  # a damaged one may be put aside
    return put(source, target, _COMPANIONS, is_forced=is_forced)


def rows(path: Path, tables: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return how many rows a file has of the tables that a manifest names. Raises `StorageError`."""
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            found = {}
            for table in tables:
                name = str(table["measurement"]).replace('"', '""')
                (count,) = connection.execute(f'SELECT COUNT(*) FROM "{name}"').fetchall()[0]  # noqa: S608
                found[table["measurement"]] = int(count)
            return found
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def _sort(path: Path, error: duckdb.Error) -> StorageError:
    if "set lock" in str(error):
        return FileInUseError(
            f"{path} is open in another process, perhaps the running gateway: stop it for as long as this takes. Nodes"
            " hold what they cannot send meanwhile."
        )
    return unreadable(path, error)


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
