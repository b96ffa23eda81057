"""Run as a process: copy what can be read of a damaged DuckDB file into a new one.

    python -m swapline_gateway.sinks.duckdb_salvage DAMAGED NEW ERROR

DuckDB checks every block that it reads, so what is copied is as it was written. Attempts to open the file, in turn: as
it is; with the checksums of its headers made right (most of a header's bytes mean nothing); with its write-ahead log
cut before the first entry that does not verify; without the log; with one header in place of another. Then each table
is copied by stretches of rows, and a stretch that cannot be read by halves, down to what DuckDB reads at once. A frame
whose line in `frames` is gone, but whose rows are there, gets a new line. Prints the rows copied by table as JSON.
"""

import contextlib
import json
import re
import shutil
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import duckdb

from swapline_wire.catalogue import STREAMS

from .duckdb_schema import make_tables

STRETCH_ROWS = 122_880  # a row group
STRETCH_ROWS_MIN = 2048  # a vector
_PAGE_BYTES = 4096  # of each of the three headers
_MULTIPLIER = 0xBF58476D1CE4E5B9
_OTHER_CAUSES = (  # the file may be sound: people, or time, mend these
    "set lock",
    "No space",
    "File too large",
    "Permission denied",
    "Read-only file system",
    "Is a directory",
    "Too many open files",
    "version number",
    "newer version",
    "encrypt",
    "Out of Memory",
    "could not allocate",
    "Interrupted",
)
_DAMAGE = (
    "Corrupt",
    "checksum",
    "not a valid DuckDB database",
    "Could not read",
    "while replaying WAL",
    "deserialize",
    "INTERNAL Error",
)


def is_damage(error: Exception) -> bool:
    """Say whether DuckDB complains of what is in the file, and not of what is around it."""
    text = str(error)
    return any(sign in text for sign in _DAMAGE) and not any(sign in text for sign in _OTHER_CAUSES)


def checksum(data: bytes) -> int:
    """Return DuckDB's checksum of a header (without the eight bytes that hold it)."""
    result = 5381
    for (word,) in struct.iter_unpack("<Q", data):
        result ^= word * _MULTIPLIER & 0xFFFFFFFFFFFFFFFF
    return result


def record_repair(connection: duckdb.DuckDBPyConnection, error: str, report: dict[str, int]) -> None:
    """Write down that this file replaces a damaged one, whose losses are yet to be declared."""
    rows = sum(report.get(stream.name, 0) for stream in STREAMS)
    connection.execute(
        "INSERT INTO repair VALUES (make_timestamp(?), ?, ?, ?, ?, false)",
        [time.time_ns() // 1000, error, report.get("frames", 0), rows, report.get("unreadable", 0)],
    )


def _cut_log(path: Path) -> Generator[str, str | None, None]:
    """Cut the log where DuckDB says that it is torn, as long as it says so; at last put it away."""
    log = path.with_name(path.name + ".wal")
    if not log.exists():
        return
    shutil.copyfile(log, log.with_name(log.name + ".torn"))
    error = yield "the log was kept"
    while place := re.search(r"entry at byte position (\d+)", error or ""):
        end = int(place[1])
        if end >= log.stat().st_size:
            break
        with log.open("rb+") as file:
            file.truncate(end)
        error = yield "the log was cut"
    log.unlink()
    yield "the log was left out"


def _headers(path: Path) -> list[bytes]:
    """Return the three headers with checksums that are right; none of a file that ends before they do."""
    with path.open("rb") as file:
        pages = [file.read(_PAGE_BYTES) for _ in range(3)]
    if any(len(page) < _PAGE_BYTES for page in pages):
        return []
    return [struct.pack("<Q", checksum(page[8:])) + page[8:] for page in pages]


def _write_headers(path: Path, *pages: bytes) -> None:
    with path.open("rb+") as file:
        file.write(b"".join(pages))


def _swap_headers(path: Path, new: Path) -> Iterator[str]:
    """Use each of the two headers that alternate in place of the other, and a new first one."""
    damaged, first, second = _headers(path)
    with new.open("rb") as file:
        sound = file.read(_PAGE_BYTES)
    for main in (damaged, sound):
        for pair in ((first, second), (first, first), (second, second)):
            _write_headers(path, main, *pair)
            yield "headers were exchanged"


def _attempts(path: Path, new: Path) -> Generator[str, str | None, None]:
    yield "as it is"
    pages = _headers(path)
    if pages:
        _write_headers(path, *pages)
        yield "the headers' checksums were made right"
    yield from _cut_log(path)
    if pages:
        yield from _swap_headers(path, new)


def attach(connection: duckdb.DuckDBPyConnection, path: Path, new: Path) -> str:
    """Attach the damaged file as `old`, by whatever means; return which helped. Raises `duckdb.Error` if none did."""
    attempts = _attempts(path, new)
    how = next(attempts)
    while True:
        try:
            connection.execute(f"ATTACH {_text(path)} AS old (READ_ONLY)")
            if "frames" in _tables(connection):
                return how
            raise duckdb.IOException("it holds no table of ours")
        except duckdb.Error as error:
            with contextlib.suppress(duckdb.Error):
                connection.execute("DETACH old")
            try:
                how = attempts.send(str(error))
            except StopIteration:
                raise error from None


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'old' AND schema_name = 'main'"
    ).fetchall()
    return [name for (name,) in found]


def _columns(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> list[str]:
    found = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND table_name = ?", [database, table]
    ).fetchall()
    return [name for (name,) in found]


class Copy:
    """The copying of one file into another."""

    def __init__(self, damaged: Path, new: Path) -> None:
        self.rows: Counter[str] = Counter()
        self._damaged = damaged
        self._new = new
        self._connection = self._connect()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(config={"threads": "2"})
        connection.execute(f"ATTACH {_text(self._new)} AS mending")
        connection.execute("USE mending")
        self.how = attach(connection, self._damaged, self._new)
        return connection

    def run(self, error: str) -> None:
        """Copy all tables, then mend the lines of `frames`."""
        make_tables(self._connection)
        for table in _tables(self._connection):
            self._table(table)
        self._restore_frames()
        record_repair(self._connection, error, dict(self.rows))
        self._connection.execute("USE memory")
        self._connection.execute("DETACH mending")  # writes all into the one file
        self._connection.close()

    def _table(self, table: str) -> None:
        name = '"' + table.replace('"', '""') + '"'
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {name} AS SELECT * FROM old.main.{name} LIMIT 0")  # noqa: S608
        kept = set(_columns(self._connection, "mending", table))
        columns = ", ".join(f'"{column}"' for column in _columns(self._connection, "old", table) if column in kept)
        size = self._connection.execute(
            "SELECT estimated_size FROM duckdb_tables() WHERE database_name = 'old' AND table_name = ?", [table]
        ).fetchone()
        assert size is not None
        statement = f"INSERT INTO {name} BY NAME SELECT {columns} FROM old.main.{name} WHERE rowid >= ? AND rowid < ?"  # noqa: S608
        # Numbers of deleted rows are not used again, so the highest may be above the count: go on until there is none.
        first = 0
        while first < size[0] or self._has_more(name, first):
            self._stretch(table, statement, first, first + STRETCH_ROWS)
            first += STRETCH_ROWS

    def _has_more(self, name: str, first: int) -> bool:
        try:
            found = self._connection.execute(f"SELECT max(rowid) >= ? FROM old.main.{name}", [first]).fetchone()  # noqa: S608
        except duckdb.Error:
            return False
        return bool(found and found[0])

    def _stretch(self, table: str, statement: str, first: int, end: int) -> None:
        try:
            found = self._connection.execute(statement, [first, end]).fetchone()
        except duckdb.Error as error:
            is_invalidated = "has been invalidated" in str(error)
            if not (is_invalidated or is_damage(error)):
                raise
            if is_invalidated:
                self._connection.close()
                self._connection = self._connect()
            if end - first > STRETCH_ROWS_MIN:
                middle = first + (end - first) // 2
                self._stretch(table, statement, first, middle)
                self._stretch(table, statement, middle, end)
            else:
                self.rows["unreadable"] += end - first
            return
        self.rows[table] += found[0] if found else 0

    def _restore_frames(self) -> None:
        """Give the rows whose frame's line is gone a new one: without it a repeat would be stored twice."""
        for stream in STREAMS:
            found = self._connection.execute(
                "INSERT INTO frames BY NAME SELECT fleet, node, journal, seq, ? AS stream, any_value(bay) AS bay,"  # noqa: S608
                " any_value(module) AS module, ? AS priority, COUNT(*)::USMALLINT AS row_count,"
                " min(time) AS first_time, max(time) AS last_time, any_value(time_quality) AS time_quality"
                f' FROM "{stream.name}" ANTI JOIN frames USING (fleet, node, journal, seq)'
                " GROUP BY fleet, node, journal, seq",
                [stream.name, stream.priority],
            ).fetchone()
            self.rows["frames"] += found[0] if found else 0


def main(arguments: list[str], write: Callable[[str], object] = sys.stdout.write) -> None:
    """Do it."""
    damaged, new, error = arguments
    copy = Copy(Path(damaged), Path(new))
    copy.run(error)
    write(json.dumps(copy.rows))


if __name__ == "__main__":
    main(sys.argv[1:])
