"""Questions to a DuckDB file, none of which may take for ever: the repair of a damaged file waits for them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import duckdb

from .error import GatewayError, SinkBusyError

OpenCursor = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]

WATCH_INTERVAL_S = 0.25
MOMENT_S = 0.01  # between two tries to interrupt what does not hear the first
QUERY_S_MAX = 10.0  # less than a damaged file's repair waits for readers


@contextmanager
def lend(open_cursor: OpenCursor, seconds_max: float | None = QUERY_S_MAX) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lend a cursor whose work is interrupted when it takes too long; never with None. Raises `SinkBusyError`."""
    try:
        with open_cursor() as cursor:
            if seconds_max is None:
                yield cursor
                return
            with _WATCH.limit(cursor, seconds_max):
                yield cursor
    except (duckdb.Error, GatewayError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SinkBusyError(f"the database does not answer: {said}") from error


def ask(open_cursor: OpenCursor, sql: str, parameters: list[Any], seconds_max: float | None) -> list[tuple[Any, ...]]:
    """Return all rows of one question's answer. Raises `SinkBusyError`."""
    with lend(open_cursor, seconds_max) as cursor:
        return cursor.execute(sql, parameters).fetchall()


class _Watch:
    """Interrupts what takes too long: one thread for all questions, as one for each costs more than the question.

    It ends soon after the last question, so that it keeps no process from ending.
    """

    def __init__(self, *, interval_s: float = WATCH_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._limits: dict[int, tuple[float, duckdb.DuckDBPyConnection]] = {}
        self._changed = threading.Condition()
        self._wakes_s = 0.0  # when the thread looks again; before that nobody needs to wake it
        self._count = 0
        self._is_running = False

    @contextmanager
    def limit(self, cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
        """Interrupt the cursor's work when the block takes longer; never after the block."""
        end_s = time.monotonic() + seconds
        with self._changed:
            self._limits[id(cursor)] = (end_s, cursor)
            self._count += 1
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="swapline-watch").start()
            elif end_s < self._wakes_s:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._limits[id(cursor)]

    def _run(self) -> None:
        seen = -1
        with self._changed:
            while self._limits or self._count != seen:
                seen = self._count
                now_s = time.monotonic()
                self._wakes_s = min([now_s + self._interval_s, *(end_s for end_s, _ in self._limits.values())])
                self._changed.wait(max(self._wakes_s - now_s, MOMENT_S))
                self._interrupt_overdue()
            self._is_running = False

    def _interrupt_overdue(self) -> None:
        for end_s, cursor in self._limits.values():
            if time.monotonic() >= end_s:
                cursor.interrupt()


_WATCH = _Watch()
