"""The spool's file: how it is opened, and what becomes of one that is damaged.

SQLite has no checksums of its own, but a frame has one. So a damaged file (refused by SQLite at the start or later) is
copied row by row into a new one, `<name>.mending`: every frame that verifies and whose node and journal are known
together from `taken`, every entry of quarantine, every range. Halves of a stretch that cannot be read are tried apart.
A first page that cannot be read is replaced by that of a new file: all spools have the same tables at the same places.

When the copy is on the disk it becomes `<name>.mended`; the damaged file is put aside as `<name>.damaged-<ms>`, and the
copy takes its name. A kill in between is finished by the next start. Ranges that are forgotten cost repeats, which the
database drops. Frames that are gone were acknowledged: the gateway's next start declares them (`sinks/duckdb_loss.py`).
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from swapline_wire.decode import decode
from swapline_wire.error import WireError

from .log import get
from .ranges import merge

SCHEMA_VERSION = 1
VERIFY_BYTES_MAX = 64 << 20  # SQLite checks so much in a second; damage in a larger file is found when it is read
UNREADABLE_MAX = 10_000  # stretches; then the rest of a table is given up
_CORRUPT = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB

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
_SCHEMA_LATER = """
CREATE TABLE IF NOT EXISTS delivered (
    id INTEGER PRIMARY KEY CHECK (id = 1), node_id INTEGER NOT NULL, journal INTEGER NOT NULL, seq INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS repair (utc_ms INTEGER NOT NULL, error TEXT NOT NULL, frame_count INTEGER NOT NULL);
"""

_log = get("spool")


def now_utc_ms() -> int:
    """Return this machine's UTC."""
    return time.time_ns() // 1_000_000


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, make its tables if it is new. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        if connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'repair'").fetchone() == (0,):
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA_LATER} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: BaseException) -> bool:
    """Say whether SQLite complains of what is in the file, and not of what is around it."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    # A page of zeros where a table was is "no such table", and a version of its own is a schema that does not fit.
    return code & 0xFF in _CORRUPT or (code == 1 and "no such table" in str(error)) or "malformed" in str(error)


def open_file(path: Path) -> sqlite3.Connection:
    """Open the spool, sound or not. Raises `sqlite3.Error`, `OSError` for what is around the file."""
    _finish(path)
    try:
        connection = connect(path)
    except sqlite3.Error as error:
        if not (is_damage(error) or "already exists" in str(error)):  # the latter: its version is gone, its tables not
            raise
        mend(path, error)
        return connect(path)
    try:
        _verify(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        if not is_damage(error):
            raise
        mend(path, error)
        return connect(path)
    return connection


def _verify(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > VERIFY_BYTES_MAX:
        return
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(f"malformed: {verdict.splitlines()[-1]}")
        error.sqlite_errorcode = _CORRUPT[0]
        raise error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def mend(path: Path, error: Exception) -> None:
    """Replace a damaged spool by a new one with what could be read of it. Nobody may have it open."""
    _log.error("spool is damaged: copying what can be read of it", path=str(path), error=str(error))
    mending = _beside(path, ".mending")
    for suffix in ("", "-wal", "-shm"):
        _beside(mending, suffix).unlink(missing_ok=True)
    with closing(connect(mending)) as new:
        frames, entries = _salvage(path, new)
        new.execute("INSERT INTO repair VALUES (?, ?, ?)", (now_utc_ms(), str(error), frames))
    mending.rename(_beside(path, ".mended"))
    _sync_folder(path)
    _finish(path)
    _log.error("spool was damaged: a new file has what could be read", frames=frames, quarantine_entries=entries)


def _finish(path: Path) -> None:
    mended = _beside(path, ".mended")
    if not mended.exists():
        return
    aside = _beside(path, f".damaged-{now_utc_ms()}")
    for suffix in ("-shm", "-wal", ""):  # the log first: beside the new file it would be taken for that one's
        if _beside(path, suffix).exists():
            _beside(path, suffix).rename(_beside(aside, suffix))
    mended.rename(path)
    _sync_folder(path)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _salvage(path: Path, new: sqlite3.Connection) -> tuple[int, int]:
    """Copy what can be read; return frames and entries of quarantine."""
    counts = (0, 0)
    for is_first_page_new in (False, True):
        if is_first_page_new:
            _replace_first_page(path, new)
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as old:
            new.execute("BEGIN")
            try:
                counts = _copy(old, new)
            finally:
                new.execute("COMMIT")
            if new.execute("SELECT COUNT(*) FROM node").fetchone() != (0,):
                break
    return counts


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


def _copy(old: sqlite3.Connection, new: sqlite3.Connection) -> tuple[int, int]:
    nodes = {row[0]: row for row in _read(old, "node", "id") if all(isinstance(part, str) for part in row[1:])}
    new.executemany("INSERT OR IGNORE INTO node VALUES (?, ?, ?)", nodes.values())
    taken: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for node_id, journal, first, last in _read_ends(old, "taken", "node_id, journal, first"):
        if node_id in nodes and all(isinstance(number, int) for number in (journal, first, last)) and first <= last:
            taken.setdefault((node_id, journal), []).append((first, last))
    frames = 0
    for row in _read(old, "frame", "id"):
        if (row[1], row[2]) in taken and _is_sound(row):
            frames += new.execute("INSERT OR IGNORE INTO frame VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount
            taken[row[1], row[2]].append((row[3], row[3]))
    for (node_id, journal), ranges in taken.items():
        rows = [(node_id, journal, first, last) for first, last in merge(ranges, ())]
        new.executemany("INSERT OR IGNORE INTO taken VALUES (?, ?, ?, ?)", rows)
    entries = 0
    for row in _read(old, "quarantine", "id"):
        if row[1] in nodes:
            marks = ", ".join("?" * len(row))
            with suppress(sqlite3.Error):  # a column that the schema does not allow
                entries += new.execute(f"INSERT OR IGNORE INTO quarantine VALUES ({marks})", row).rowcount  # noqa: S608
    for row in _read(old, "delivered", "id"):
        new.execute("INSERT OR IGNORE INTO delivered VALUES (?, ?, ?, ?)", row)
    return frames, entries


def _is_sound(row: tuple[Any, ...]) -> bool:
    """Say whether a line of `frame` holds what its frame says, and the frame what was sealed."""
    _, _, journal, seq, priority, anchor_utc_ms, time_quality, received_utc_ms, data = row
    if not all(isinstance(number, int) for number in (anchor_utc_ms, time_quality, received_utc_ms)):
        return False
    try:
        header = decode(data).header
    except (WireError, TypeError):
        return False
    return bool((header.journal, header.seq, header.priority) == (journal, seq, priority))


def _read_ends(old: sqlite3.Connection, table: str, order: str) -> list[tuple[Any, ...]]:
    """Return the rows up to the first that cannot be read, and those behind the last."""
    rows: dict[tuple[Any, ...], None] = {}
    backwards = ", ".join(f"{name} DESC" for name in order.split(", "))
    for way in (order, backwards):
        with suppress(sqlite3.Error):
            for row in old.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY {way}"):  # noqa: S608
                rows[row] = None
    return list(rows)


def _read(old: sqlite3.Connection, table: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table with a row number, those that can be read."""
    found: dict[int, tuple[Any, ...]] = {}
    ends: list[int] = []
    for way in ("ASC", "DESC"):
        last = 0
        with suppress(sqlite3.Error):
            for row in old.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY {key} {way}"):  # noqa: S608
                last = row[0]
                found[last] = row
            ends = []
            break
        ends.append(last)
    if len(ends) == 2:
        sql = f"SELECT * FROM {table} NOT INDEXED WHERE {key} BETWEEN ? AND ?"  # noqa: S608
        found.update(_read_between(lambda first, last: old.execute(sql, (first, last)).fetchall(), *ends))
    yield from (found[number] for number in sorted(found))


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
        except sqlite3.Error:
            failures += 1
            if low < high:
                middle = (low + high) // 2
                stretches += [(middle + 1, high), (low, middle)]
    return found
