"""What the database had and has no more, declared in the table `loss`.

The spool knows the number of every frame that was ever acknowledged (as far back as it keeps ranges). Those that
neither wait in it nor are stored are lost; so are rows of frames that are there in part. That is looked up when

- the file was damaged and replaced by what could be read of it,
- the spool was damaged: frames that waited in it may be gone,
- the file lacks the frame that was stored last: its write-ahead log is gone, or an older copy was put in place.

Frames that people deleted from the file by hand cannot be told from lost ones, and are declared with them.
"""

from collections.abc import Callable

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from swapline_gateway.books import Books
from swapline_gateway.log import get
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import STREAMS

DAMAGED = "database_damaged"
WENT_BACK = "database_went_back"
SPOOL_DAMAGED = "spool_damaged"

_log = get("duckdb")

# Within each range of numbers that ought to be there: the gaps between those that are, its two ends included.
_LOST_FRAMES = """
INSERT INTO loss BY NAME
WITH there AS (
    SELECT fleet, node, journal, first, last, frames.seq::BIGINT AS seq
    FROM settled JOIN frames USING (fleet, node, journal) WHERE seq BETWEEN first AND last
    UNION ALL
    SELECT fleet, node, journal, first, last, last + 1 FROM settled
), gap AS (
    SELECT *, lag(seq, 1, first - 1) OVER (PARTITION BY fleet, node, journal, first ORDER BY seq) AS before FROM there
)
SELECT fleet, node, journal, before + 1 AS first_seq, seq - 1 AS last_seq, seq - before - 1 AS frame_count,
    NULL AS row_count, ? AS reason, make_timestamp(?) AS declared_time
FROM gap
WHERE seq > before + 1 AND NOT EXISTS (
    FROM loss WHERE (loss.fleet, loss.node, loss.journal) = (gap.fleet, gap.node, gap.journal)
    AND loss.first_seq <= before + 1 AND loss.last_seq >= seq - 1)
"""
_LOST_ROWS = """
INSERT INTO loss BY NAME
SELECT fleet, node, journal, seq AS first_seq, seq AS last_seq, 0 AS frame_count,
    row_count - COALESCE(found, 0) AS row_count, ? AS reason, make_timestamp(?) AS declared_time
FROM frames LEFT JOIN (
    SELECT fleet, node, journal, seq, COUNT(*) AS found FROM "{stream}" GROUP BY fleet, node, journal, seq
) USING (fleet, node, journal, seq)
WHERE stream = '{stream}' AND row_count > COALESCE(found, 0) AND NOT EXISTS (
    FROM loss WHERE loss.frame_count = 0
    AND (loss.fleet, loss.node, loss.journal, loss.first_seq) = (frames.fleet, frames.node, frames.journal, seq))
"""


def declare_losses(connection: duckdb.DuckDBPyConnection, read_books: Callable[[], Books]) -> None:
    """Write into `loss` what was stored and is not, where one of the module's cases holds. Raises `duckdb.Error`."""
    books = read_books()
    reason = _reason(connection, books)
    if reason is None:
        return
    now_us = now_utc_ms() * 1000
    connection.execute("BEGIN")
    _register(connection, books)
    connection.execute(_LOST_FRAMES, [reason, now_us])
    for stream in STREAMS:
        connection.execute(_LOST_ROWS.format(stream=stream.name), [reason, now_us])
    connection.execute("UPDATE repair SET is_declared = true")
    if books.repaired_utc_ms is not None:
        connection.execute(
            "INSERT INTO repair SELECT make_timestamp(?), 'the spool was damaged', 0, 0, 0, true"
            " WHERE NOT EXISTS (FROM repair WHERE time = make_timestamp(?))",
            [books.repaired_utc_ms * 1000] * 2,
        )
    found = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(frame_count), 0)::BIGINT, COALESCE(SUM(row_count), 0)::BIGINT"
        " FROM loss WHERE declared_time = make_timestamp(?)",
        [now_us],
    ).fetchone()
    connection.execute("COMMIT")
    connection.unregister("settled")
    ranges, frames, rows = found or (0, 0, 0)
    if ranges:
        _log.error("acknowledged frames are lost", reason=reason, ranges=ranges, frames=frames, rows_of_others=rows)


def _reason(connection: duckdb.DuckDBPyConnection, books: Books) -> str | None:
    if connection.execute("FROM repair WHERE NOT is_declared").fetchone():
        return DAMAGED
    repaired = books.repaired_utc_ms
    if (
        repaired is not None
        and not connection.execute("FROM repair WHERE time = make_timestamp(?)", [repaired * 1000]).fetchone()
    ):
        return SPOOL_DAMAGED
    return WENT_BACK if _lacks_newest(connection, books) else None


def _lacks_newest(connection: duckdb.DuckDBPyConnection, books: Books) -> bool:
    """Say whether the frame that was stored last is not there, and nothing says yet that it is lost."""
    if books.newest is None:
        return False
    owner, seq = books.newest[:3], books.newest.seq
    stored = connection.execute(
        "FROM frames WHERE fleet = ? AND node = ? AND journal = ? AND seq = ?", [*owner, seq]
    ).fetchone()
    declared = connection.execute(
        "FROM loss WHERE fleet = ? AND node = ? AND journal = ? AND ? BETWEEN first_seq AND last_seq", [*owner, seq]
    ).fetchone()
    return not (stored or declared)


def _register(connection: duckdb.DuckDBPyConnection, books: Books) -> None:
    names = ("fleet", "node", "journal", "first", "last")
    types = (pa.string(), pa.string(), pa.int64(), pa.int64(), pa.int64())
    columns = [pa.array([row[i] for row in books.settled], kind) for i, kind in enumerate(types)]
    connection.register("settled", pa.table(columns, names=list(names)))
