"""What the spool knows of the frames that left it: by that, a database that lost some can say which."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .ranges import as_ranges, subtract


class Settled(NamedTuple):
    """Numbers of frames that the database has taken."""

    fleet: str
    node: str
    journal: int
    first: int
    last: int


class Key(NamedTuple):
    """One frame."""

    fleet: str
    node: str
    journal: int
    seq: int


@dataclass(frozen=True, slots=True)
class Books:
    """What the spool says of the database.

    `settled`: what was ever acknowledged and waits no more. `newest`: a frame of the last batch that was stored.
    `repaired_utc_ms`: when the spool itself was last repaired; what waited in it then may be lost.
    """

    settled: list[Settled]
    newest: Key | None = None
    repaired_utc_ms: int | None = None


def read(spool_path: Path) -> Books:
    """Read the spool's books beside the gateway, whose own connection goes on. Raises one of `SQLITE_ERRORS`."""
    with closing(sqlite3.connect(f"file:{spool_path}?mode=ro", uri=True, timeout=10)) as connection:
        connection.execute("BEGIN")
        nodes = {row[0]: (row[1], row[2]) for row in connection.execute("SELECT id, fleet, node FROM node")}
        taken: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for node_id, journal, first, last in connection.execute("SELECT * FROM taken ORDER BY 1, 2, 3"):
            taken.setdefault((node_id, journal), []).append((first, last))
        waiting: dict[tuple[int, int], list[int]] = {}
        for table in ("frame", "quarantine"):
            for node_id, journal, seq in connection.execute(
                f"SELECT node_id, journal, seq FROM {table} WHERE seq IS NOT NULL"  # noqa: S608 (our own names)
            ):
                waiting.setdefault((node_id, journal), []).append(seq)
        newest = connection.execute(
            "SELECT fleet, node, journal, seq FROM delivered JOIN node ON node.id = node_id"
        ).fetchone()
        (repaired,) = connection.execute("SELECT MAX(utc_ms) FROM repair").fetchone()
    settled = [
        Settled(*nodes[node_id], journal, first, last)
        for (node_id, journal), ranges in taken.items()
        for first, last in subtract(ranges, as_ranges(waiting.get((node_id, journal), ())))
    ]
    return Books(settled, Key(*newest) if newest else None, repaired)
