"""The embedded sink: one DuckDB file. A batch of frames and their rows is one transaction.

Exactly once: before a batch goes in, the frames of it that are in the table `frames` already are dropped, in the same
transaction. A frame's first time is a function of the frame, so only frames of that stretch of time are looked at,
which the file's min-max indexes find quickly however large the table grows. There is one writer (the file's own lock).

Values stay raw integers until DuckDB's vectors scale them: `raw / 10**decimals` in IEEE doubles, the nearest double to
the decimal that the device meant.
"""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import cast

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from swapline_gateway.books import Books
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import SinkBusyError, SinkRejectedError, StorageError
from swapline_gateway.mended import finish
from swapline_gateway.reading import FrameRows, no_value_codes
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.spool_file import SQLITE_ERRORS
from swapline_wire.catalogue import KEY, Signal, Stream

from .base import Written, count_written
from .duckdb_loss import declare_losses
from .duckdb_repair import COMPANIONS, VERIFY_BYTES_MAX, repair, verify
from .duckdb_salvage import is_damage
from .duckdb_schema import make_tables

READERS_S_MAX = 15.0  # longer than a question about history may take

_BATCH = pa.schema(
    [
        ("frame", pa.int32()),
        ("fleet", pa.string()),
        ("node", pa.string()),
        ("journal", pa.uint32()),
        ("seq", pa.uint32()),
        ("boot", pa.uint32()),
        ("stream", pa.string()),
        ("bay", pa.uint8()),
        ("module", pa.string()),
        ("priority", pa.uint8()),
        ("row_count", pa.uint16()),
        ("value_count", pa.uint32()),
        ("first_time", pa.timestamp("ms")),
        ("last_time", pa.timestamp("ms")),
        ("time_quality", pa.uint8()),
        ("received_time", pa.timestamp("ms")),
        ("stored_time", pa.timestamp("ms")),
    ]
)


class DuckdbSink:
    """See the module's header."""

    name = "duckdb"

    def __init__(self, config: DuckdbConfig, read_books: Callable[[], Books] | None = None) -> None:
        self._config = config
        self._read_books = read_books
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._damage: Exception | None = None
        self._readers = 0
        self._changed = threading.Condition()  # guards the two before it: questions come from other threads

    @contextlib.contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a connection of its own to the same file, for another thread. Raises `SinkBusyError` if it is closed."""
        with self._changed:
            if self._connection is None:
                raise SinkBusyError("the database is not open at this moment")
            cursor = self._connection.cursor()
            self._readers += 1
        try:
            with cursor:
                yield cursor
        except duckdb.Error as error:
            self._note_damage(error)
            raise
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    def _note_damage(self, error: Exception) -> None:
        """Remember that a place in the file could not be read: the next write begins with a repair."""
        if self._damage is None and is_damage(error):
            self._damage = error

    def open(self) -> None:
        """Open the file, mend it if it is damaged, and bring its tables up to the catalogue."""
        path = self._config.path
        try:
            finish(path, COMPANIONS)
            self._connection = self._connect(is_suspect=self._damage is not None)
            self._damage = None
        except DamagedError as error:
            self._repair(error)
            self._connection = self._connect_anew()
        except OSError as error:
            raise StorageError(f"The folder {path.parent} cannot be used: {error.strerror}.") from error

    def _connect_anew(self) -> duckdb.DuckDBPyConnection:
        try:
            return self._connect()
        except DamagedError as error:
            raise StorageError(f"{self._config.path} cannot be read, though it is new: {error}.") from error

    def _wait_for_readers(self) -> None:
        """Close the file for everybody: DuckDB would give a later opening what an earlier one still has."""
        self._drop_connection()
        with self._changed:
            if not self._changed.wait_for(lambda: self._readers == 0, timeout=READERS_S_MAX):
                raise SinkBusyError("the damaged database waits for a question that is being answered")

    def _repair(self, error: Exception) -> None:
        """Replace the file."""
        self._wait_for_readers()
        try:
            repair(self._config.path, error)
        except (OSError, duckdb.Error) as problem:
            raise SinkBusyError(f"the damaged database cannot be replaced yet: {_line(problem)}") from problem
        self._damage = None

    def _connect(self, *, is_suspect: bool = False) -> duckdb.DuckDBPyConnection:
        """Open the file. Raises `DamagedError`; a suspect one is read whole, for a question may also fail by itself."""
        if is_suspect:
            self._wait_for_readers()
        path = self._config.path
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{self._config.memory_bytes_max}B",
            "threads": str(self._config.thread_count),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(path), config=settings)
        except OSError as error:
            raise StorageError(f"The folder {path.parent} cannot be used: {error.strerror}.") from error
        except duckdb.Error as error:
            raise _sort_error(path, error) from error
        try:
            make_tables(connection)
            verify(connection, path, bytes_max=path.stat().st_size if is_suspect else VERIFY_BYTES_MAX)
            if self._read_books is not None:
                declare_losses(connection, self._read_books)
        except duckdb.Error as error:
            connection.close()
            raise _sort_error(path, error) from error
        except SQLITE_ERRORS as error:  # the spool's own books; it says more itself
            connection.close()
            raise SinkBusyError(f"the spool cannot be read beside the database: {error}") from error
        return connection

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Store the frames in one transaction, without those that are there already."""
        if self._connection is None or self._damage is not None:
            self.open()
        connection = cast("duckdb.DuckDBPyConnection", self._connection)
        try:
            connection.execute("BEGIN")
            known = self._register(connection, frames)
            fresh = {index: frame for index, frame in enumerate(frames) if index not in known}
            if fresh:
                self._insert(connection, fresh)
            connection.execute("COMMIT")
        except (duckdb.DataError, duckdb.IntegrityError, pa.ArrowInvalid, OverflowError) as error:
            self._roll_back(connection)
            raise SinkRejectedError(_line(error)) from error
        except duckdb.Error as error:  # also a table that somebody changed: people can mend it, the spool holds
            self._note_damage(error)
            self._drop_connection()
            raise SinkBusyError(_line(error)) from error
        return count_written(list(fresh.values()), duplicates=len(known))

    def _roll_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Forget a batch that was rejected, and keep the connection: opening a file reads much of it."""
        try:
            connection.execute("ROLLBACK")
        except duckdb.Error:
            self._drop_connection()

    def _drop_connection(self) -> None:
        """Let the next write begin with a new connection, whatever state the error left this one in."""
        with self._changed:
            if self._connection is not None:
                with contextlib.suppress(duckdb.Error):
                    self._connection.close()
                self._connection = None

    def _register(self, connection: duckdb.DuckDBPyConnection, frames: Sequence[FrameRows]) -> set[int]:
        """Show the frames that are new to DuckDB as `batch`; return the indexes of those that are stored already."""
        stored_ms = now_utc_ms()
        batch = pa.Table.from_pylist([_describe(i, frame, stored_ms) for i, frame in enumerate(frames)], schema=_BATCH)
        connection.register("batch", batch)
        low, high = (limit(frame.columns[0][0] for frame in frames) for limit in (min, max))
        rows = connection.execute(
            "SELECT frame FROM batch SEMI JOIN (SELECT fleet, node, journal, seq FROM frames"
            " WHERE first_time BETWEEN make_timestamp(?) AND make_timestamp(?)) AS stored"
            " USING (fleet, node, journal, seq)",
            [low * 1000, high * 1000],
        ).fetchall()
        known = {index for (index,) in rows}
        if known:
            connection.register("batch", batch.filter(pa.array([i not in known for i in range(len(frames))])))
        return known

    def _insert(self, connection: duckdb.DuckDBPyConnection, frames: dict[int, FrameRows]) -> None:
        groups: dict[tuple[Stream, int], list[tuple[int, FrameRows]]] = defaultdict(list)
        for index, frame in frames.items():
            groups[frame.stream, len(frame.signals)].append((index, frame))
        for (stream, _), group in groups.items():
            signals = group[0][1].signals
            connection.register("rows", _rows_table(signals, group))
            connection.execute(_insert_statement(stream.name, signals))
        connection.execute("INSERT INTO frames BY NAME SELECT * EXCLUDE (frame) FROM batch")

    def close(self) -> None:
        """Write everything into the one file and let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _describe(index: int, rows: FrameRows, stored_ms: int) -> dict[str, object]:
    header, frame, times = rows.header, rows.frame, rows.columns[0]
    return {
        "frame": index,
        "fleet": frame.fleet,
        "node": frame.node,
        "journal": header.journal,
        "seq": header.seq,
        "boot": header.boot,
        "stream": rows.stream.name,
        "bay": header.bay,
        "module": rows.module,
        "priority": header.priority,
        "row_count": rows.row_count,
        "value_count": rows.value_count,
        "first_time": times[0],
        "last_time": max(times),
        "time_quality": frame.time_quality,
        "received_time": frame.received_utc_ms,
        "stored_time": stored_ms,
    }


def _rows_table(signals: Sequence[Signal], group: Sequence[tuple[int, FrameRows]]) -> pa.Table:
    """Return the rows of all frames of one layout: index of the frame, time in ms, raw values."""
    names = ["frame", "time_ms", *(signal.name for signal in signals)]
    arrays = [pa.array(list(chain.from_iterable([i] * rows.row_count for i, rows in group)), pa.int32())]
    arrays += [
        pa.array(list(chain.from_iterable(rows.columns[column] for _, rows in group)), pa.int64())
        for column in range(len(signals) + 1)
    ]
    return pa.table(arrays, names=names)


@cache
def _insert_statement(table: str, signals: tuple[Signal, ...]) -> str:
    values = ", ".join(f'{_scale(signal)} AS "{signal.name}"' for signal in signals)
    return (
        f'INSERT INTO "{table}" BY NAME SELECT make_timestamp(time_ms * 1000) AS time, fleet, node, bay, module,'  # noqa: S608
        f" {values}, time_quality, journal, seq FROM rows JOIN batch USING (frame)"
    )


def _scale(signal: Signal) -> str:
    column = f'rows."{signal.name}"'
    if signal.kind == KEY:
        return column
    unavailable, abnormal = no_value_codes(signal)
    scaled = column if signal.decimals == 0 else f"{column} / CAST({10**signal.decimals} AS DOUBLE)"
    return f"CASE WHEN {column} IN ({unavailable}, {abnormal}) THEN NULL ELSE {scaled} END"


class DamagedError(Exception):
    """What is in the file cannot be read."""


def _sort_error(path: Path, error: duckdb.Error) -> Exception:
    """Return the error to raise: damage we mend ourselves, the rest is for people."""
    text = _line(error)
    if is_damage(error):
        return DamagedError(text)
    if "set lock" in text:
        return StorageError(
            f"{path} is open in another process; DuckDB files have one user at a time, so stop the other one."
        )
    if "No space" in text:
        return StorageError(f"{path} cannot be opened: the disk is full.")
    if isinstance(error, duckdb.IOException):
        return StorageError(f"{path} cannot be opened: {text}.")
    return StorageError(f"{path} is not a database of ours that DuckDB can open: {text}.")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
