"""The embedded sink: one DuckDB file. A batch of frames and their rows is one transaction.

Exactly once: before a batch goes in, the frames of it that are in the table `frames` already are dropped, in the same
transaction. A frame's first time is a function of the frame, so only frames of that stretch of time are looked at,
which the file's min-max indexes find quickly however large the table grows. There is one writer (the file's own lock).

Values stay raw integers until DuckDB's vectors scale them: `raw / 10**decimals` in IEEE doubles, the nearest double to
the decimal that the device meant.
"""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import cast

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import SinkBusyError, SinkRejectedError, StorageError
from swapline_gateway.log import get
from swapline_gateway.reading import FrameRows, no_value_codes
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import KEY, STREAMS, Signal, Stream

from .base import Written, count_written

_IDENTITY = "time TIMESTAMP, fleet VARCHAR, node VARCHAR, bay UTINYINT, module VARCHAR"
_ORIGIN = "time_quality UTINYINT, journal UINTEGER, seq UINTEGER"
_FRAMES = """CREATE TABLE IF NOT EXISTS frames (
    fleet VARCHAR, node VARCHAR, journal UINTEGER, seq UINTEGER, boot UINTEGER, stream VARCHAR, bay UTINYINT,
    module VARCHAR, priority UTINYINT, row_count USMALLINT, value_count UINTEGER, first_time TIMESTAMP,
    last_time TIMESTAMP, time_quality UTINYINT, received_time TIMESTAMP, stored_time TIMESTAMP)"""
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

    def __init__(self, config: DuckdbConfig) -> None:
        self._config = config
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._log = get("duckdb")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to the same file, for another thread. The caller closes it."""
        if self._connection is None:
            raise SinkBusyError("the database is not open at this moment")
        return self._connection.cursor()

    def open(self) -> None:
        """Open the file and bring its tables up to the catalogue."""
        self._connection = self._connect()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        path = self._config.path
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{self._config.memory_bytes_max}B",
            "threads": str(self._config.thread_count),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(path), config=settings)
            make_tables(connection)
        except OSError as error:
            raise StorageError(f"The folder {path.parent} cannot be used: {error.strerror}.") from error
        except duckdb.IOException as error:
            raise StorageError(_open_sentence(str(path), str(error))) from error
        except duckdb.Error as error:
            raise StorageError(f"{path} is not a database of ours that DuckDB can open: {_line(error)}.") from error
        return connection

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Store the frames in one transaction, without those that are there already."""
        if self._connection is None:
            self.open()
        connection = cast("duckdb.DuckDBPyConnection", self._connection)
        try:
            connection.execute("BEGIN")
            known = self._register(connection, frames)
            fresh = {index: frame for index, frame in enumerate(frames) if index not in known}
            if fresh:
                self._insert(connection, fresh)
            connection.execute("COMMIT")
        except (duckdb.DataError, duckdb.IntegrityError) as error:
            self._drop_connection()
            raise SinkRejectedError(_line(error)) from error
        except duckdb.Error as error:  # also a table that somebody changed: people can mend it, the spool holds
            self._drop_connection()
            raise SinkBusyError(_line(error)) from error
        return count_written(list(fresh.values()), duplicates=len(known))

    def _drop_connection(self) -> None:
        """Let the next write begin with a new connection, whatever state the error left this one in."""
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


def column_type(signal: Signal) -> str:
    """Return the type of a signal's column: whole numbers stay whole."""
    return "BIGINT" if signal.decimals == 0 else "DOUBLE"


def make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a table a stream, and add the columns of signals that are newer than the file."""
    connection.execute(_FRAMES)
    for stream in STREAMS:
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{stream.name}" ({_IDENTITY}, {_ORIGIN})')
        for signal in stream.signals:
            connection.execute(
                f'ALTER TABLE "{stream.name}" ADD COLUMN IF NOT EXISTS "{signal.name}" {column_type(signal)}'
            )


def _open_sentence(path: str, error: str) -> str:
    if "lock" in error:
        return f"{path} is open in another process; DuckDB files have one user at a time, so stop the other one."
    if "No space" in error:
        return f"{path} cannot be opened: the disk is full."
    return (
        f"{path} cannot be opened: {error.splitlines()[0].rstrip('.!')}. Put a good copy in its place, or move it away "
        "(then a new one is begun); frames that are not stored yet wait in the spool."
    )


def _line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
