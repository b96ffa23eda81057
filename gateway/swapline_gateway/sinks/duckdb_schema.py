"""What is in a DuckDB file of ours: a table a stream, the battery's books, `frames`, `loss`, `repair`, and `missing`.

The battery's books (`battery/table.py`) have no index: a row that is written again is found by its time, by which the
file's min-max indexes leave out nearly all. An index over 65 million hours of modules would not fit in memory.

`missing` is the one question "what is missing, from whom, why": a row for each range of numbers that is not stored.

- `reason` is what the node declared (events FRAMES_DROPPED), what the gateway declared (`loss`), or `not_arrived`: a
  hole between stored numbers that nobody declared. That is on its way (a node sends its past after its present), waits
  in the spool or in quarantine, or was lost before anybody could say so.
- A declared range counts only as far as it is not stored: a node may declare what the gateway has, and a frame that the
  gateway lost may come again. Ranges that were declared twice count once.
- Rows without a range (`first_seq` is null) are rows lost, not frames: by a node before a frame was sealed (events
  ROWS_DROPPED), or out of a stored frame when the file was damaged.
- `after_time`, `before_time`: the last row before and the first row after what is missing, as far as they are known.
"""

import duckdb

from swapline_gateway.battery.table import NUMBER, TABLES, TEXT, TRUTH, WHOLE
from swapline_wire import catalogue
from swapline_wire.catalogue import FRAMES_DROPPED, ROWS_DROPPED, STREAMS, Signal

IDENTITY = "time TIMESTAMP, fleet VARCHAR, node VARCHAR, bay UTINYINT, module VARCHAR"
ORIGIN = "time_quality UTINYINT, journal UINTEGER, seq UINTEGER"
_FRAMES = """CREATE TABLE IF NOT EXISTS frames (
    fleet VARCHAR, node VARCHAR, journal UINTEGER, seq UINTEGER, boot UINTEGER, stream VARCHAR, bay UTINYINT,
    module VARCHAR, priority UTINYINT, row_count USMALLINT, value_count UINTEGER, first_time TIMESTAMP,
    last_time TIMESTAMP, time_quality UTINYINT, received_time TIMESTAMP, stored_time TIMESTAMP)"""

# What the gateway itself lost after it had acknowledged it. `row_count` is null where nobody can know.
_LOSS = """CREATE TABLE IF NOT EXISTS loss (
    fleet VARCHAR, node VARCHAR, journal UINTEGER, first_seq UINTEGER, last_seq UINTEGER, frame_count UINTEGER,
    row_count UINTEGER, reason VARCHAR, declared_time TIMESTAMP)"""

# One row for each file that was damaged and put aside.
_REPAIR = """CREATE TABLE IF NOT EXISTS repair (
    time TIMESTAMP, error VARCHAR, frame_count UBIGINT, row_count UBIGINT, unreadable_count UBIGINT,
    is_declared BOOLEAN)"""

_MISSING = """
CREATE OR REPLACE VIEW missing AS
WITH declared AS (
    SELECT fleet, node, journal, first_seq::BIGINT AS first, last_seq::BIGINT AS last, {reason} AS reason
    FROM event WHERE code = {frames_dropped} AND first_seq <= last_seq
    UNION ALL
    SELECT fleet, node, journal, first_seq, last_seq, reason FROM loss WHERE frame_count > 0
), stored AS (
    SELECT fleet, node, journal, seq::BIGINT AS seq, first_time, last_time FROM frames
), hole AS (
    SELECT fleet, node, journal, lag(seq, 1, 0) OVER numbers + 1 AS first, seq - 1 AS last,
        lag(last_time) OVER numbers AS after_time, first_time AS before_time,
        lag(seq) OVER numbers IS NOT NULL AS is_between
    FROM stored WINDOW numbers AS (PARTITION BY fleet, node, journal ORDER BY seq)
    QUALIFY first <= last
    UNION ALL
    SELECT fleet, node, journal, max(seq) + 1, {seq_max}, arg_max(last_time, seq), NULL, false
    FROM stored GROUP BY fleet, node, journal
    UNION ALL
    SELECT DISTINCT fleet, node, journal, 1, {seq_max}, NULL::TIMESTAMP, NULL::TIMESTAMP, false
    FROM declared ANTI JOIN stored USING (fleet, node, journal)
), piece AS (
    SELECT hole.*, greatest(hole.first, declared.first) AS piece_first, least(hole.last, declared.last) AS piece_last,
        declared.reason
    FROM hole JOIN declared USING (fleet, node, journal)
    WHERE declared.first <= hole.last AND declared.last >= hole.first
    UNION ALL
    SELECT hole.*, last + 1, last + 1, NULL FROM hole WHERE is_between
), placed AS (
    SELECT *, coalesce(max(piece_last) OVER (
        PARTITION BY fleet, node, journal, first ORDER BY piece_first, piece_last, reason NULLS LAST
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), first - 1) AS known_last
    FROM piece
), lost_range AS (
    SELECT fleet, node, journal, greatest(piece_first, known_last + 1) AS first, piece_last AS last, reason,
        after_time, before_time
    FROM placed WHERE reason IS NOT NULL AND piece_last > known_last
    UNION ALL
    SELECT fleet, node, journal, known_last + 1, piece_first - 1, 'not_arrived', after_time, before_time
    FROM placed WHERE is_between AND piece_first > known_last + 1
), boot_end AS (
    SELECT fleet, node, journal, boot, lag(max(last_time)) OVER (
        PARTITION BY fleet, node, journal ORDER BY boot) AS previous_end
    FROM frames GROUP BY fleet, node, journal, boot
)
SELECT fleet, node, journal, first AS first_seq, last AS last_seq, last - first + 1 AS frame_count,
    NULL::BIGINT AS row_count, reason, after_time, before_time
FROM lost_range
UNION ALL
SELECT fleet, node, journal, NULL, NULL, 0, "count", {reason}, boot_end.previous_end, time
FROM event LEFT JOIN frames USING (fleet, node, journal, seq) LEFT JOIN boot_end USING (fleet, node, journal, boot)
WHERE code = {rows_dropped}
UNION ALL
SELECT fleet, node, journal, NULL, NULL, 0, loss.row_count, reason, frames.first_time, frames.last_time
FROM loss JOIN frames USING (fleet, node, journal) WHERE loss.frame_count = 0 AND seq = loss.first_seq
"""


_COLUMNS = """SELECT table_name, column_name FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = 'main'"""
BOOK_TYPES = {TEXT: "VARCHAR", WHOLE: "BIGINT", NUMBER: "DOUBLE", TRUTH: "BOOLEAN"}


def column_type(signal: Signal) -> str:
    """Return the type of a signal's column: whole numbers stay whole."""
    return "BIGINT" if signal.decimals == 0 else "DOUBLE"


def make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make what is not there yet, and add the columns of signals that are newer than the file."""
    for statement in (_FRAMES, _LOSS, _REPAIR):
        connection.execute(statement)
    there: dict[str, set[str]] = {}
    for table, column in connection.execute(_COLUMNS).fetchall():
        there.setdefault(table, set()).add(column)
    for stream in STREAMS:
        signals = {signal.name: column_type(signal) for signal in stream.signals}
        _make_table(connection, stream.name, f"{IDENTITY}, {ORIGIN}", signals, there.get(stream.name))
    for book in TABLES:
        tags = ", ".join(["time TIMESTAMP", *(f'"{tag}" VARCHAR' for tag in book.tags)])
        fields = {name: BOOK_TYPES[kind] for name, kind in book.fields.items()}
        _make_table(connection, book.name, tags, fields, there.get(book.name))
    connection.execute(_missing_statement())


def _make_table(
    connection: duckdb.DuckDBPyConnection, name: str, head: str, columns: dict[str, str], there: set[str] | None
) -> None:
    """Make a table, or add the columns that it lacks: a statement a column each time would take half a second."""
    if there is None:
        rest = "".join(f', "{column}" {kind}' for column, kind in columns.items())
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{name}" ({head}{rest})')
        return
    for column, kind in columns.items():
        if column not in there:
            connection.execute(f'ALTER TABLE "{name}" ADD COLUMN IF NOT EXISTS "{column}" {kind}')


def _missing_statement() -> str:
    names = sorted(name for name in vars(catalogue) if name.startswith("LOSS_"))
    cases = " ".join(f"WHEN {getattr(catalogue, name)} THEN '{name[5:].lower()}'" for name in names)
    return _MISSING.format(
        reason=f"CASE event.reason {cases} ELSE 'unknown' END",
        frames_dropped=FRAMES_DROPPED,
        rows_dropped=ROWS_DROPPED,
        seq_max=0xFFFFFFFF,
    )
