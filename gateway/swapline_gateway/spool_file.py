"""The spool's file: how it is opened, and what becomes of one that is damaged.

SQLite has no checksums of its own, but a frame has one. So a damaged file (refused by SQLite at the start or later) is
copied row by row into a new one, `<name>.mending`: every frame that verifies and whose node and journal are known
together from `taken`, every entry of quarantine, every range. Halves of a stretch that cannot be read are tried apart.
A first page that cannot be read is replaced by that of a new file: all spools have the same tables at the same places.

When the copy is on the disk it becomes `<name>.mended`; the damaged file is put aside as `<name>.damaged-<ms>`, and the
copy takes its name. A kill in between is finished by the next start. Ranges that are forgotten cost repeats, which the
database drops; what was due of the battery's books is not copied: everything is derived again. Frames that are gone
were acknowledged: the gateway's next start declares them (`sinks/duckdb_loss.py`).
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

from swapline_wire.catalogue import TIME_NONE
from swapline_wire.decode import decode
from swapline_wire.error import WireError
from swapline_wire.frame import is_anchor

from . import due
from .durable import sync
from .log import get
from .mended import beside, finish
from .ranges import merge

SCHEMA_VERSION = 1
VERIFY_BYTES_MAX = 64 << 20  # SQLite checks so much in a second; damage in a larger file is found when it is read
UNREADABLE_MAX = 10_000  # stretches; then the rest of a table is given up
_COMPANIONS = ("-shm", "-wal")  # SQLite's further files of one database
_CORRUPT = (11, 18, 26)  # SQLITE_CORRUPT, SQLITE_TOOBIG (a length that nothing of ours has), SQLITE_NOTADB
# Where SQLite quotes damaged bytes, Python cannot make a text of what it says, and raises that instead.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_SCHEMA = """
CREATE TABLE node (id INTEGER PRIMARY KEY, fleet TEXT NOT NULL, node TEXT NOT NULL, UNIQUE (fleet, node));
CREATE TABLE frame (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node_id INTEGER NOT NULL, journal INTEGER NOT NULL, seq INTEGER NOT NULL,
    priority INTEGER NOT NULL, anchor_utc_ms INTEGER NOT NULL, time_quality INTEGER NOT NULL,
    received_utc_ms INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (node_id, journal, seq)
);
CREATE INDEX frame_urgent ON frame (priority DESC, id) WHERE priority > 0;
CREATE TABLE taken (
    node_id INTEGER NOT NULL, journal INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (node_id, journal, first)
) WITHOUT ROWID;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node_id INTEGER NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, journal INTEGER, seq INTEGER, anchor_utc_ms INTEGER NOT NULL, time_quality INTEGER NOT NULL,
    first_utc_ms INTEGER NOT NULL, last_utc_ms INTEGER NOT NULL, times INTEGER NOT NULL DEFAULT 1,
    digest BLOB NOT NULL, data BLOB NOT NULL, UNIQUE (node_id, digest)
);
"""
# `delivered` is a frame of the last batch that the database took, `repair` the files that were damaged.
_SCHEMA_LATER = (
    """
CREATE TABLE IF NOT EXISTS delivered (
    id INTEGER PRIMARY KEY CHECK (id = 1), node_id INTEGER NOT NULL, journal INTEGER NOT NULL, seq INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS repair (utc_ms INTEGER NOT NULL, error TEXT NOT NULL, frame_count INTEGER NOT NULL);
"""
    + due.TABLE
)

_WIDTHS = {"node": 3, "frame": 9, "taken": 4, "quarantine": 14, "delivered": 4}  # columns
_DESCRIPTION = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"

_log = get("spool")


def now_utc_ms() -> int:
    """Return this machine's UTC."""
    return time.time_ns() // 1_000_000


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, make its tables if it is new. Raises one of `SQLITE_ERRORS`."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        if connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'due_ready'").fetchone() == (0,):
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA_LATER} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: BaseException) -> bool:
    """Say whether SQLite complains of what is in the file, and not of what is around it."""
    if isinstance(error, UnicodeDecodeError) or "Could not decode to UTF-8" in str(error):
        return True  # all that we write is text, or bytes in columns of bytes
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    # A page of zeros where a table was is "no such table", and a version of its own is a schema that does not fit.
    is_schema = code == 1 and ("no such table" in str(error) or "no such column" in str(error))
    return code & 0xFF in _CORRUPT or is_schema or "malformed" in str(error)


def open_file(path: Path) -> sqlite3.Connection:
    """Open the spool, sound or not. Raises one of `SQLITE_ERRORS`, or `OSError`, for what is around the file."""
    finish(path, _COMPANIONS)
    try:
        connection = connect(path)
    except SQLITE_ERRORS as error:
        if not (is_damage(error) or "already exists" in str(error)):  # the latter: its version is gone, its tables not
            raise
        mend(path, error)
        return connect(path)
    try:
        _verify(connection, path)
    except SQLITE_ERRORS as error:
        connection.close()
        if not is_damage(error):
            raise
        mend(path, error)
        return connect(path)
    return connection


def _verify(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("SELECT fleet, node FROM node").fetchall()  # bytes that are no text are no fault to SQLite
    if not _has_our_tables(connection):
        raise sqlite3.DatabaseError("malformed: its tables are described in other words than ours")
    # Of a large file the names alone: a table of theirs that contradicts its index has a letter changed.
    table = "node" if path.stat().st_size > VERIFY_BYTES_MAX else "1"
    (verdict,) = connection.execute(f"PRAGMA integrity_check({table})").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"malformed: {verdict.splitlines()[-1]}")


@cache
def _our_tables() -> frozenset[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA + _SCHEMA_LATER)
        return frozenset(connection.execute(_DESCRIPTION))


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    """Say whether a file says of our tables what we do. Raises one of `SQLITE_ERRORS`."""
    return _our_tables() <= set(connection.execute(_DESCRIPTION))


def mend(path: Path, error: Exception) -> None:
    """Replace a damaged spool by a new one with what could be read of it. Nobody may have it open."""
    _log.error("spool is damaged: copying what can be read of it", path=str(path), error=str(error))
    mending = beside(path, ".mending")
    for suffix in ("", *_COMPANIONS):
        beside(mending, suffix).unlink(missing_ok=True)
    with closing(connect(mending)) as new:
        frames, entries = _salvage(path, new)
        new.execute("INSERT INTO repair VALUES (?, ?, ?)", (now_utc_ms(), str(error), frames))
        due.DueTable().replace_all(new, [due.EVERYTHING])  # what was due is known no more
    mending.rename(beside(path, ".mended"))
    sync(path.parent)
    finish(path, _COMPANIONS)
    _log.error("spool was damaged: a new file has what could be read", frames=frames, quarantine_entries=entries)


def _salvage(path: Path, new: sqlite3.Connection) -> tuple[int, int]:
    """Copy what can be read; return frames and entries of quarantine."""
    for is_first_page_new in (False, True):
        if is_first_page_new:
            _replace_first_page(path, new)
        with suppress(*SQLITE_ERRORS), closing(sqlite3.connect(path, isolation_level=None)) as old:
            new.execute("BEGIN")
            try:
                _copy(old, new)
            finally:
                new.execute("COMMIT")
            if _has_our_tables(old) and new.execute("SELECT COUNT(*) FROM node").fetchone() != (0,):
                break
    frames, entries = (new.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in ("frame", "quarantine"))  # noqa: S608
    return frames, entries


def _replace_first_page(path: Path, new: sqlite3.Connection) -> None:
    """Put a sound first page into the damaged file: the places of all tables are the same in every spool."""
    new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page_bytes,) = new.execute("PRAGMA page_size").fetchone()
    (name,) = (row[2] for row in new.execute("PRAGMA database_list"))
    page = bytearray(Path(name).read_bytes()[:page_bytes])
    with path.open("rb+") as file:
        pages = file.seek(0, os.SEEK_END) // page_bytes
        page[28:32] = pages.to_bytes(4, "big")  # the size is believed only if the two counters agree
        page[32:40] = bytes(8)  # no free pages
        page[92:96] = page[24:28]
        file.seek(0)
        file.write(page)
        file.flush()
        os.fsync(file.fileno())


def _copy(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    nodes = _read_nodes(old)
    new.executemany("INSERT OR IGNORE INTO node VALUES (?, ?, ?)", nodes.values())
    taken: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for node_id, journal, first, last in _read_ends(old, "taken", "node_id, journal, first"):
        if node_id in nodes and all(isinstance(number, int) for number in (journal, first, last)) and first <= last:
            taken.setdefault((node_id, journal), []).append((first, last))
    for row in _read(old, "frame", "id"):
        if (row[1], row[2]) in taken and _is_sound(row):
            new.execute("INSERT OR IGNORE INTO frame VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            taken[row[1], row[2]].append((row[3], row[3]))
    for (node_id, journal), ranges in taken.items():
        rows = [(node_id, journal, first, last) for first, last in merge(ranges, ())]
        new.executemany("INSERT OR IGNORE INTO taken VALUES (?, ?, ?, ?)", rows)
    for row in _read(old, "quarantine", "id"):
        if row[1] in nodes:
            marks = ", ".join("?" * len(row))
            with suppress(*SQLITE_ERRORS):  # a column that the schema does not allow
                new.execute(f"INSERT OR IGNORE INTO quarantine VALUES ({marks})", row)  # noqa: S608
    for row in _read(old, "delivered", "id"):
        new.execute("INSERT OR IGNORE INTO delivered VALUES (?, ?, ?, ?)", row)


def _read_nodes(old: sqlite3.Connection) -> dict[int, tuple[Any, ...]]:
    """Return the nodes that the table or its index knows, without those that the two name differently.

    A name with one letter changed would be another node's.
    """
    nodes = {row[0]: row for row in _read(old, "node", "id")}
    for way in ("ASC", "DESC"):
        with suppress(*SQLITE_ERRORS):
            for row in old.execute(f"SELECT id, fleet, node FROM node ORDER BY fleet {way}, node {way}"):  # noqa: S608
                if nodes.setdefault(row[0], row) != row:
                    nodes[row[0]] = (row[0], None, None)
    return {number: row for number, row in nodes.items() if all(isinstance(part, str) for part in row[1:])}


def _is_sound(row: tuple[Any, ...]) -> bool:
    """Say whether a line of `frame` holds what its frame says, and the frame what was sealed."""
    _, _, journal, seq, priority, anchor_utc_ms, time_quality, received_utc_ms, data = row
    if not (is_anchor_found(anchor_utc_ms, time_quality) and isinstance(received_utc_ms, int)):
        return False
    try:
        header = decode(data).header
    except (WireError, TypeError):
        return False
    own = (header.anchor_utc_ms, header.time_quality)
    return (header.journal, header.seq, header.priority) == (journal, seq, priority) and (
        header.time_quality == TIME_NONE or own == (anchor_utc_ms, time_quality)
    )


def is_anchor_found(utc_ms: object, quality: object) -> bool:
    """Say whether a line's columns hold an anchor that a clock can have set: nothing else is taken into a spool."""
    return isinstance(utc_ms, int) and isinstance(quality, int) and quality > TIME_NONE and is_anchor(utc_ms, quality)


def _read_ends(old: sqlite3.Connection, table: str, order: str) -> list[tuple[Any, ...]]:
    """Return the rows up to the first that cannot be read, and those behind the last."""
    rows: dict[tuple[Any, ...], None] = {}
    backwards = ", ".join(f"{name} DESC" for name in order.split(", "))
    for way in (order, backwards):
        with suppress(*SQLITE_ERRORS):
            for row in old.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY {way}"):  # noqa: S608
                rows[row] = None
    return [row for row in rows if len(row) == _WIDTHS[table]]


def _read(old: sqlite3.Connection, table: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table with a row number, those that can be read."""
    found: dict[int, tuple[Any, ...]] = {}
    ends: list[int] = []
    for way in ("ASC", "DESC"):
        last = 0
        with suppress(*SQLITE_ERRORS):
            for row in old.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY {key} {way}"):  # noqa: S608
                last = row[0]
                found[last] = row
            ends = []
            break
        ends.append(last)
    if len(ends) == 2:
        sql = f"SELECT * FROM {table} NOT INDEXED WHERE {key} BETWEEN ? AND ?"  # noqa: S608
        found.update(_read_between(lambda first, last: old.execute(sql, (first, last)).fetchall(), *ends))
    # A damaged description may still be one, of other columns.
    yield from (found[number] for number in sorted(found) if len(found[number]) == _WIDTHS[table])


def _read_between(
    read: Callable[[int, int], list[tuple[Any, ...]]], first: int, last: int
) -> dict[int, tuple[Any, ...]]:
    """Read the rows first..last by halves, and leave out what cannot be read."""
    found: dict[int, tuple[Any, ...]] = {}
    stretches, failures = [(first, last)], 0
    while stretches and failures < UNREADABLE_MAX:
        low, high = stretches.pop()
        if low > high:
            continue
        try:
            found.update({row[0]: row for row in read(low, high)})
        except SQLITE_ERRORS:
            failures += 1
            if low < high:
                middle = (low + high) // 2
                stretches += [(middle + 1, high), (low, middle)]
    return found
