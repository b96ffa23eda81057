"""A draft of the books' tables: rows written over those of a store, kept here or written through, and counted.

With `is_writing` False nothing reaches the store, and a rebuild can be compared with what is stored. Only what differs
is kept, so a draft of a right book is empty.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from .store import BatteryStore, is_met
from .table import Row, Table


class Draft:
    """See the module's header. Everything but the tables' rows is asked of the store."""

    def __init__(self, store: BatteryStore, *, is_writing: bool) -> None:
        self._store = store
        self._is_writing = is_writing
        self._drafted: dict[str, dict[Any, Row]] = {}
        self.change_count = 0

    def __getattr__(self, name: str) -> Any:
        """Ask the store for everything else."""
        return getattr(self._store, name)

    def put(self, rows: Iterable[Row]) -> None:
        """See `BatteryStore.put`."""
        found = list(rows)
        self.change_count += len(found)
        if self._is_writing:
            self._store.put(found)
            return
        for row in found:
            self._drafted.setdefault(row.table.name, {})[row.key] = row

    def read(
        self,
        table: Table,
        *,
        tags: dict[str, str] | None = None,
        where: Sequence[tuple[str, str, Any]] = (),
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Row]:
        """See `BatteryStore.read`."""
        drafted = self._drafted.get(table.name, {})
        room = None if limit is None else limit + len(drafted)
        stored = self._store.read(
            table,
            tags=tags,
            where=where,
            start_utc_ms=start_utc_ms,
            end_utc_ms=end_utc_ms,
            limit=room,
            newest_first=newest_first,
        )
        if not drafted:
            return stored
        rows = [row for row in stored if row.key not in drafted]
        span = (start_utc_ms, float("inf") if end_utc_ms is None else end_utc_ms)
        rows += [row for row in drafted.values() if matches(row, tags or {}, where, span)]
        rows.sort(key=lambda row: row.key[2])
        rows.sort(key=lambda row: row.time_utc_ms, reverse=newest_first)
        return rows[:limit]

    def count(self, table: Table) -> int:
        """See `BatteryStore.count`."""
        count = self._store.count(table)
        for row in self._drafted.get(table.name, {}).values():
            time_ms = row.time_utc_ms
            if row.fields.get("is_void"):
                count -= 1
            elif not self._store.read(table, tags=row.tags, start_utc_ms=time_ms, end_utc_ms=time_ms + 1, limit=1):
                count += 1
        return count


def matches(row: Row, tags: dict[str, str], where: Sequence[tuple[str, str, Any]], span: tuple[float, float]) -> bool:
    """Say whether a question asks for this row."""
    if row.fields.get("is_void") or not span[0] <= row.time_utc_ms < span[1]:
        return False
    if any(row.tags[tag] != value for tag, value in tags.items()):
        return False
    return all(is_met(row, name, how, value) for name, how, value in where)
