"""The demo's books, closed after everything has stopped: what was sealed, stored, lost and is still on its way.

Each column comes from another witness. Sealed: the numbers that the nodes' journals have given out. Stored: distinct
keys in the database. Lost: drops that events in the database declare. In flight: frames in journals and spool that the
database does not have. Nothing is computed as the rest of something else, so a hole in the books shows as unaccounted.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from swapline_bench.custody_check import Truth, check_arrivals, check_owners
from swapline_bench.journal_reader import read_journal
from swapline_bench.past import ACKNOWLEDGED, FRAMES, split_frames
from swapline_wire import catalogue
from swapline_wire.frame import read_prefix

LOSS_NAMES = {
    value: name.removeprefix("LOSS_").lower() for name, value in vars(catalogue).items() if name.startswith("LOSS_")
}

PROBLEMS_SHOWN_MAX = 5  # of one kind

JournalKey = tuple[str, int]  # node, journal id


@dataclass(slots=True)
class Books:
    """Sequence numbers of one journal, by what became of them."""

    sealed: int = 0
    held: set[int] = field(default_factory=set)  # frames in the journal or the spool, stored or not
    stored: set[int] = field(default_factory=set)
    lost: dict[int, str] = field(default_factory=dict)  # number -> reason

    @property
    def in_flight(self) -> set[int]:
        """Return what waits somewhere and is not in the database."""
        return self.held - self.stored

    @property
    def lost_only(self) -> dict[int, str]:
        """Return what was declared lost and is nowhere: a declared frame may have been stored before its loss."""
        return {seq: reason for seq, reason in self.lost.items() if seq not in self.stored and seq not in self.held}

    @property
    def unaccounted(self) -> set[int]:
        """Return numbers that were given out and that nobody can account for."""
        return set(range(1, self.sealed + 1)) - self.stored - self.held - self.lost.keys()

    @property
    def unsealed(self) -> set[int]:
        """Return numbers in the database or on the way that the journal has never given out."""
        return {seq for seq in self.stored | self.held if not 1 <= seq <= self.sealed}


@dataclass(slots=True)
class PastBooks:
    """What became of the past: frames that were made, by where they are."""

    frames_sealed: int = 0
    frames_stored: int = 0
    frames_in_flight: int = 0
    frames_unaccounted: int = 0
    rows_stored: int = 0

    @property
    def is_balanced(self) -> bool:
        """Say whether each frame is stored or waits somewhere."""
        return self.frames_unaccounted == 0 and self.frames_sealed == self.frames_stored + self.frames_in_flight


@dataclass(slots=True)
class Report:
    """What the demo did. The past has books of its own: nothing else counts its frames and rows."""

    nodes: int = 0
    frames_sealed: int = 0
    frames_stored: int = 0
    frames_in_flight: int = 0
    frames_lost: dict[str, int] = field(default_factory=dict)
    frames_unaccounted: int = 0
    frames_incomplete: int = 0  # stored with more or fewer rows than they were sealed with
    duplicates: int = 0
    rows_stored: int = 0
    values_stored: int = 0
    rows_lost: int = 0
    swaps: int = 0
    swaps_in_world: int = 0
    custody_errors: list[str] = field(default_factory=list)
    first_row_s: float | None = None
    heap_peak_bytes_max: int | None = None
    node_restarts: int = 0
    power_cuts: int = 0
    duration_s: float = 0.0
    data_dir: str = ""
    broker: str = ""
    past: PastBooks | None = None
    story: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_balanced(self) -> bool:
        """Say whether every sealed frame is stored whole, in flight or declared lost, and nothing is stored twice."""
        lost = sum(self.frames_lost.values())
        return (
            self.frames_sealed == self.frames_stored + self.frames_in_flight + lost
            and self.frames_unaccounted == 0
            and self.frames_incomplete == 0
            and self.duplicates == 0
            and (self.past is None or self.past.is_balanced)
        )

    @property
    def is_good(self) -> bool:
        """Say whether the books balance and every swap was seen as it happened."""
        return self.is_balanced and not self.custody_errors and not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        names = [name for name in Report.__dataclass_fields__ if name != "nodes"]
        content = {name: getattr(self, name) for name in names}
        content["past"] = None if self.past is None else asdict(self.past)
        return {"runtime": "micropython", "nodes": self.nodes, **content}


def close_books(
    *, database: Path, spool: Path, journals: Mapping[str, Path], truth: Truth, past: Path | None = None
) -> Report:
    """Read every witness and return the report; nodes and gateway must have stopped.

    `journals` maps nodes to journal folders. `past` is the folder of the past's frames.
    """
    books: dict[JournalKey, Books] = {}
    report = Report(nodes=len(journals))
    _read_journals(books, journals)
    past_keys = set() if past is None else _read_past(books, past)
    _read_spool(books, spool)
    with closing(duckdb.connect(str(database), read_only=True)) as connection:
        _read_stored(books, connection)
        _read_lost(books, connection)
        _count_rows(report, connection)
        _check_rows(report, connection)
        arrivals = check_arrivals(connection, truth)
        owners = check_owners(connection, truth)
    report.swaps, report.swaps_in_world = arrivals.swaps, arrivals.swaps_in_world
    report.custody_errors = [*arrivals.errors, *owners]
    report.past = None if past is None else _add_up_past(report, {key: books.pop(key) for key in past_keys}, database)
    _add_up(report, books)
    return report


def _read_past(books: dict[JournalKey, Books], folder: Path) -> set[JournalKey]:
    """Take a node's file as its journal: it holds what is in it and was not acknowledged."""
    keys = set()
    for path in sorted(folder.glob(f"*{FRAMES}")):
        prefixes = [read_prefix(frame) for frame in split_frames(path.read_bytes())]
        if not prefixes:
            continue
        note = path.with_suffix(ACKNOWLEDGED)
        acknowledged = int(note.read_text(encoding="utf-8")) if note.exists() else 0
        key = (path.stem, prefixes[0].journal)
        book = books.setdefault(key, Books())
        book.sealed = len(prefixes)
        book.held.update(prefix.seq for prefix in prefixes if prefix.seq > acknowledged)
        keys.add(key)
    return keys


def _add_up_past(report: Report, books: Mapping[JournalKey, Books], database: Path) -> PastBooks:
    """Return the past's books, and take its rows out of those of the demo."""
    found = PastBooks()
    journals = [journal for _, journal in books]
    with closing(duckdb.connect(str(database), read_only=True)) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(row_count), 0), coalesce(sum(value_count), 0) FROM frames"
            " WHERE list_contains(?, journal)",
            [journals],
        ).fetchone()
    assert row is not None
    found.rows_stored = int(row[0])
    report.rows_stored -= found.rows_stored
    report.values_stored -= int(row[1])
    for (node, journal), book in sorted(books.items()):
        found.frames_sealed += book.sealed
        found.frames_stored += len(book.stored)
        found.frames_in_flight += len(book.in_flight)
        found.frames_unaccounted += len(book.unaccounted) + len(book.unsealed)
        if book.unaccounted:
            report.problems.append(f"{node} past {journal:08x}: frames {_ranges(book.unaccounted)} are unaccounted for")
    return found


def _add_up(report: Report, books: Mapping[JournalKey, Books]) -> None:
    lost: Counter[str] = Counter()
    for (node, journal), book in sorted(books.items()):
        report.frames_sealed += book.sealed
        report.frames_stored += len(book.stored)
        report.frames_in_flight += len(book.in_flight)
        lost.update(book.lost_only.values())
        report.frames_unaccounted += len(book.unaccounted) + len(book.unsealed)
        for what, numbers in (("unaccounted for", book.unaccounted), ("never sealed", book.unsealed)):
            if numbers:
                report.problems.append(f"{node} journal {journal:08x}: frames {_ranges(numbers)} are {what}")
    report.frames_lost = dict(lost)


def _read_journals(books: dict[JournalKey, Books], journals: Mapping[str, Path]) -> None:
    for node, folder in journals.items():
        contents = read_journal(folder)
        book = books.setdefault((node, contents.journal), Books())
        book.sealed = contents.frames_sealed
        book.held.update(contents.frames)


def _read_spool(books: dict[JournalKey, Books], spool: Path) -> None:
    if not spool.is_file():
        return
    with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT node.node, journal, seq FROM frame JOIN node ON node.id = frame.node_id")
        for node, journal, seq in rows:
            books.setdefault((node, journal), Books()).held.add(seq)


def _read_stored(books: dict[JournalKey, Books], connection: duckdb.DuckDBPyConnection) -> None:
    for node, journal, seq in connection.execute("SELECT DISTINCT node, journal, seq FROM frames").fetchall():
        books.setdefault((node, journal), Books()).stored.add(seq)


def _read_lost(books: dict[JournalKey, Books], connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.execute(
        "SELECT node, journal, reason, first_seq, last_seq FROM event WHERE code = ?", [catalogue.FRAMES_DROPPED]
    ).fetchall()
    for node, journal, reason, first, last in rows:
        book = books.setdefault((node, journal), Books())
        for seq in range(first, last + 1):
            book.lost.setdefault(seq, LOSS_NAMES.get(reason, f"reason_{reason}"))


def _count_rows(report: Report, connection: duckdb.DuckDBPyConnection) -> None:
    report.duplicates = _scalar(connection, "SELECT count(*) - count(DISTINCT (fleet, node, journal, seq)) FROM frames")
    for stream in catalogue.STREAMS:
        identity = ["fleet", "node", "bay", "module", "time"]
        identity += [signal.name for signal in stream.signals if signal.kind == catalogue.KEY]
        columns = ", ".join(f"coalesce(CAST({name} AS VARCHAR), '')" for name in identity)
        rows = _scalar(connection, f"SELECT count(*) FROM {stream.name}")  # noqa: S608 - names from the catalogue
        distinct = _scalar(connection, f"SELECT count(DISTINCT ({columns})) FROM {stream.name}")  # noqa: S608
        report.duplicates += rows - distinct
        report.rows_stored += rows
    report.values_stored = _scalar(connection, "SELECT coalesce(sum(value_count), 0) FROM frames")
    report.rows_lost = _scalar(
        connection, 'SELECT coalesce(sum("count"), 0) FROM event WHERE code = ?', [catalogue.ROWS_DROPPED]
    )
    report.heap_peak_bytes_max = _scalar(connection, "SELECT max(heap_peak_bytes) FROM node")


def _check_rows(report: Report, connection: duckdb.DuckDBPyConnection) -> None:
    """Compare each stored frame's rows with the count in its header: half a frame is not stored."""
    for stream in catalogue.STREAMS:
        statement = f"""
            SELECT coalesce(f.node, r.node), coalesce(f.journal, r.journal), coalesce(f.seq, r.seq),
                coalesce(f.row_count, 0), coalesce(r.row_count, 0)
            FROM (SELECT DISTINCT fleet, node, journal, seq, row_count FROM frames WHERE stream = '{stream.name}') AS f
            FULL JOIN (SELECT fleet, node, journal, seq, count(*) AS row_count FROM "{stream.name}" GROUP BY ALL) AS r
            USING (fleet, node, journal, seq)
            WHERE f.row_count IS DISTINCT FROM r.row_count ORDER BY ALL"""  # noqa: S608 - names from the catalogue
        wrong = connection.execute(statement).fetchall()
        report.frames_incomplete += len(wrong)
        for node, journal, seq, count, found in wrong[:PROBLEMS_SHOWN_MAX]:
            report.problems.append(
                f"{node} journal {journal:08x}: frame {seq} has {count} {stream.name} rows, {found} are stored"
            )


def _scalar(connection: duckdb.DuckDBPyConnection, statement: str, values: Sequence[int] = ()) -> Any:
    row = connection.execute(statement, list(values)).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def first_stored_utc_s(database: Path, *, since_utc_s: float) -> float | None:
    """Return when the first frame of rows since a time was stored, in seconds of UTC; None if there is none."""
    times = "stored_time >= make_timestamp(?) AND last_time >= make_timestamp(?)"
    statement = f"SELECT epoch_ms(min(stored_time)) FROM frames WHERE {times}"  # noqa: S608
    since_us = int(since_utc_s * 1_000_000)
    with closing(duckdb.connect(str(database), read_only=True)) as connection:
        row = connection.execute(statement, [since_us, since_us]).fetchone()
    return None if row is None or row[0] is None else float(row[0]) / 1000


def _ranges(numbers: Iterable[int], shown_max: int = 5) -> str:
    """Return numbers as short text: 3-7, 9."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
    return ", ".join(texts[:shown_max]) + (", ..." if len(texts) > shown_max else "")


def format_report(report: Report) -> str:
    """Return the report for people."""
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(report.frames_lost.items())) or "none"
    first_row = "none" if report.first_row_s is None else f"{report.first_row_s:.1f} s after the start"
    heap = "unknown" if report.heap_peak_bytes_max is None else f"{report.heap_peak_bytes_max / 1024:.0f} KiB"
    rows = f"{report.rows_stored:,} rows, {report.values_stored:,} values"
    lines = [
        f"{report.nodes} nodes ran {report.duration_s:.0f} s in MicroPython; highest heap {heap}",
        f"  frames sealed      {report.frames_sealed:>9,}   counted in the nodes' journals",
        f"  frames stored      {report.frames_stored:>9,}   {rows}",
        f"  frames in flight   {report.frames_in_flight:>9,}   in journals or spool; the next start delivers them",
        f"  frames lost        {sum(report.frames_lost.values()):>9,}   {lost}",
        f"  stored twice       {report.duplicates:>9,}",
        f"  swaps              {report.swaps:>9,}   of {report.swaps_in_world} in the world",
        f"  first row          {first_row}",
    ]
    if report.past is not None:
        past = report.past
        lines.append(
            f"  the past           {past.frames_stored:>9,}   of {past.frames_sealed:,} frames sent late are stored,"
            f" {past.rows_stored:,} rows; {past.frames_in_flight:,} wait for the next start"
        )
    if report.rows_lost:
        lines.append(f"  rows lost before sealing {report.rows_lost:,}")
    if report.power_cuts or report.node_restarts:
        lines.append(
            f"  power cuts {report.power_cuts}, restarts of nodes that ended by themselves {report.node_restarts}"
        )
    lines += [f"  {sentence}" for sentence in report.story]
    lines += [f"  ! {problem}" for problem in (*report.problems, *report.custody_errors)]
    verdict = "every sealed frame is accounted for" if report.is_balanced else "THE BOOKS DO NOT BALANCE"
    return "\n".join([*lines, f"  {verdict}; data in {report.data_dir}"])
