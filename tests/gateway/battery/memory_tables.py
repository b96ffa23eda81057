"""The tables of a store in memory: what the stores of tests that have no database share."""

from collections.abc import Iterable, Sequence
from typing import Any

from swapline_gateway.battery.draft import matches
from swapline_gateway.battery.table import Row, Table


class MemoryTables:
    """Rows as a database has them. `puts` counts those that were written."""

    def __init__(self) -> None:
        self.tables: dict[Any, Row] = {}
        self.puts = 0

    def put(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.tables[row.key] = row
            self.puts += 1

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
        span = (start_utc_ms, float("inf") if end_utc_ms is None else end_utc_ms)
        rows = [row for row in self.tables.values() if row.table is table and matches(row, tags or {}, where, span)]
        rows.sort(key=lambda row: row.key[2])
        rows.sort(key=lambda row: row.time_utc_ms, reverse=newest_first)
        return rows[:limit]

    def count(self, table: Table) -> int:
        return len(self.read(table))
