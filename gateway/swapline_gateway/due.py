"""What the battery's books have to derive again: modules and hours, kept in the spool's file.

They are written in the transaction in which frames leave the spool, so a kill at any point forgets nothing: either the
frames are given to the database again, or their hours are due. An entry is there once however often it is touched; it
is done only if nothing touched it since it was taken.

- An hour that runs is due when it is over, and its last rows have come. What may have changed custody (a swap event, a
  module in another place than before) is due at once, but not again within `CUSTODY_MS`: a code that is in two places
  moves with every frame.
- Entries that are taken come again: when the keeper begins anew after a kill or an error, or else after a while.
- Beyond `limit` entries a module's hours become one entry, `WHOLE`; a module that is new beyond twice the limit (codes
  that somebody makes up) is left out and counted.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

HOUR_MS = 3_600_000
WHOLE = -1  # instead of an hour: everything of this module; of the module "": of all
FIGURES = -2  # instead of an hour: passport and warnings
EVERYTHING = ("", WHOLE)
HOLDER = "\n"  # before FLEET/NODE instead of a module: its own rows came late. No code begins so.

CUSTODY_FIRST, HOURS_NEXT, FIGURES_THEN, WHOLE_LAST = range(4)  # priorities
GRACE_MS = 300_000  # after an hour: its end counts rows of three minutes more, and frames are sealed after one
DEBOUNCE_MS = 10_000  # back-fill brings an hour in many frames
CUSTODY_MS = 5_000
FIGURES_MS = 20_000
LEASE_MS = 300_000
LIMIT = 500_000
PENDING_MAX = 200_000

T = TypeVar("T")

TABLE = """
CREATE TABLE IF NOT EXISTS due (
    module TEXT NOT NULL, hour_utc_ms INTEGER NOT NULL, priority INTEGER NOT NULL, ready_utc_ms INTEGER NOT NULL,
    touched INTEGER NOT NULL, is_again INTEGER NOT NULL, is_taken INTEGER NOT NULL,
    PRIMARY KEY (module, hour_utc_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due_ready ON due (priority, ready_utc_ms);
"""
_TOUCH = """
INSERT INTO due VALUES (?, ?, ?, ?, 1, 0, 0) ON CONFLICT DO UPDATE SET
    touched = touched + 1, is_again = 0, is_taken = 0, priority = min(priority, excluded.priority),
    ready_utc_ms = min(ready_utc_ms, excluded.ready_utc_ms)
"""
_TAKE = """
SELECT module, hour_utc_ms, touched, is_again FROM due WHERE priority = ? AND ready_utc_ms <= ?
ORDER BY ready_utc_ms LIMIT ?
"""


class Touch(NamedTuple):
    """An hour of a module that got rows, or `WHOLE`, or `FIGURES`."""

    module: str
    hour_utc_ms: int
    is_custody: bool = False


class Due(NamedTuple):
    """An entry as it was taken."""

    module: str
    hour_utc_ms: int
    touched: int
    is_again: bool


class Finish(NamedTuple):
    """What becomes of an entry that was taken: it comes again at a time, or not at all."""

    due: Due
    ready_utc_ms: int | None = None
    is_again: bool = False


class DueState(NamedTuple):
    """How much waits. `oldest_utc_ms`: since when the entry is ready that waits for longest."""

    entry_count: int = 0
    ready_count: int = 0
    oldest_utc_ms: int | None = None
    dropped: int = 0


def ready_at(hour_utc_ms: int, now_utc_ms: int) -> int:
    """Return when an hour that just got rows is to be derived."""
    if hour_utc_ms == FIGURES:
        return now_utc_ms + FIGURES_MS
    if is_running(hour_utc_ms, now_utc_ms):
        return hour_utc_ms + HOUR_MS + GRACE_MS
    return now_utc_ms + DEBOUNCE_MS


def is_running(hour_utc_ms: int, now_utc_ms: int) -> bool:
    """Say whether more rows of an hour are to be expected. An hour far ahead is one of a wrong clock."""
    return hour_utc_ms - HOUR_MS <= now_utc_ms < hour_utc_ms + HOUR_MS + GRACE_MS


class DueTable:
    """The table in the spool's file. All calls are within a transaction of the spool, from its thread."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self.dropped = 0
        self._limit = limit
        self._count = 0
        # In the table and not taken, so no need to touch them again; and whether custody wants them.
        self._pending: dict[tuple[str, int], bool] = {}
        self._custody_ms: dict[tuple[str, int], int] = {}  # when custody wanted an hour last

    def begin(self, connection: sqlite3.Connection) -> None:
        """Count what is there, after the file was opened."""
        self._pending.clear()
        (self._count,) = connection.execute("SELECT COUNT(*) FROM due").fetchone()

    def touch(self, connection: sqlite3.Connection, touches: Iterable[Touch], now_utc_ms: int) -> None:
        """Make hours due."""
        for module, hour, is_custody in touches:
            pending = self._pending.get((module, hour))
            if pending is not None and (pending or not is_custody):
                continue
            if hour >= 0 and self._count >= self._limit:
                hour = WHOLE  # noqa: PLW2901 (one entry stands for all of them)
            if self._count >= 2 * self._limit:
                self.dropped += 1
                continue
            priority = _priority(hour, is_custody=is_custody)
            if is_custody:
                ready_ms = self._custody_ready_at((module, hour), now_utc_ms)
            else:
                ready_ms = now_utc_ms if hour == WHOLE else ready_at(hour, now_utc_ms)
            connection.execute(_TOUCH, (module, hour, priority, ready_ms))
            if (module, hour) not in self._pending:
                self._count += 1  # a little too many where it was taken meanwhile: `finish` counts again
            _remember(self._pending, (module, hour), is_custody)

    def _custody_ready_at(self, key: tuple[str, int], now_utc_ms: int) -> int:
        """Return now, or a little later where the same was wanted a moment ago; clocks may be set back meanwhile."""
        last_ms = self._custody_ms.get(key, 0)
        ready_ms = last_ms + CUSTODY_MS if 0 <= now_utc_ms - last_ms < CUSTODY_MS else now_utc_ms
        _remember(self._custody_ms, key, ready_ms)
        return ready_ms

    def take(self, connection: sqlite3.Connection, priority: int, count: int, now_utc_ms: int) -> list[Due]:
        """Return entries that are ready, those that wait for longest first, and let nobody take them for a while."""
        rows = connection.execute(_TAKE, (priority, now_utc_ms, count)).fetchall()
        connection.executemany(
            "UPDATE due SET ready_utc_ms = ?, is_taken = 1 WHERE module = ? AND hour_utc_ms = ?",
            [(now_utc_ms + LEASE_MS, row[0], row[1]) for row in rows],
        )
        for row in rows:
            self._pending.pop((row[0], row[1]), None)
        return [Due(module, hour, touched, bool(again)) for module, hour, touched, again in rows]

    def release(self, connection: sqlite3.Connection) -> None:
        """Have entries that were taken and not finished ready again: who took them does not go on."""
        connection.execute("UPDATE due SET ready_utc_ms = 0, is_taken = 0 WHERE is_taken = 1")

    def finish(self, connection: sqlite3.Connection, finishes: Collection[Finish]) -> None:
        """Let go of entries, or have them come again. What was touched meanwhile stays as it is."""
        for due, ready_ms, is_again in finishes:
            key = (due.module, due.hour_utc_ms, due.touched)
            if ready_ms is None:
                connection.execute("DELETE FROM due WHERE module = ? AND hour_utc_ms = ? AND touched = ?", key)
                continue
            values = (ready_ms, is_again, _priority(due.hour_utc_ms, is_custody=False))
            connection.execute(
                "UPDATE due SET ready_utc_ms = ?, is_again = ?, priority = ?, is_taken = 0"
                " WHERE module = ? AND hour_utc_ms = ? AND touched = ?",
                (*values, *key),
            )
        (self._count,) = connection.execute("SELECT COUNT(*) FROM due").fetchone()

    def replace_all(self, connection: sqlite3.Connection, keys: Sequence[tuple[str, int]]) -> None:
        """Forget all entries and make these due: `EVERYTHING`, or nothing."""
        connection.execute("DELETE FROM due")
        for module, hour in keys:
            connection.execute(_TOUCH, (module, hour, _priority(hour, is_custody=False), 0))
        self.begin(connection)

    def state(self, connection: sqlite3.Connection, now_utc_ms: int) -> DueState:
        """Return how much waits."""
        count, ready, oldest = connection.execute(
            "SELECT COUNT(*), SUM(ready_utc_ms <= ?1), MIN(ready_utc_ms) FILTER (WHERE ready_utc_ms <= ?1) FROM due",
            (now_utc_ms,),
        ).fetchone()
        return DueState(count, ready or 0, oldest, self.dropped)


def _remember(known: dict[tuple[str, int], T], key: tuple[str, int], value: T) -> None:
    if len(known) >= PENDING_MAX:
        known.clear()
    known[key] = value


def _priority(hour_utc_ms: int, *, is_custody: bool) -> int:
    if is_custody:
        return CUSTODY_FIRST
    return {WHOLE: WHOLE_LAST, FIGURES: FIGURES_THEN}.get(hour_utc_ms, HOURS_NEXT)
