"""The battery's books in the DuckDB file: through cursors of the sink's own connection, or a connection of our own.

DuckDB lets several transactions of one process write at once as long as they do not touch the same rows, and only the
books write the books' tables. So the sink never waits for us. A write replaces rows in one transaction; rows that are
there already, word for word, are left alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from swapline_gateway.duckdb_cursor import QUERY_S_MAX, OpenCursor, lend
from swapline_wire.catalogue import ALARM_STREAM, BATTERY_IN, BATTERY_OUT, EVENT_STREAM

from .record import Place, SwapHalf
from .store import HALF_SIGNALS, OPERATORS, ModuleRows
from .table import NUMBER, TEXT, TRUTH, WHOLE, Row, Table

TIME_END_MS = 1 << 47  # later than any clock says
_BETWEEN = "stored.time BETWEEN make_timestamp(?) AND make_timestamp(?)"
_ARROW_TYPES = {TEXT: pa.string(), WHOLE: pa.int64(), NUMBER: pa.float64(), TRUTH: pa.bool_()}


class DuckdbStore:
    """See the module's header. `query_s_max` None: a question may take as long as it takes."""

    def __init__(self, open_cursor: OpenCursor, *, query_s_max: float | None = QUERY_S_MAX) -> None:
        self._open_cursor = open_cursor
        self._query_s_max = query_s_max
        self._known_columns: dict[str, frozenset[str]] = {}

    def known_as(self, module: str) -> str:
        """Return the code under which a module is stored here."""
        return module

    def modules(self, *, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[str]:
        """See `BatteryStore.modules`. The table of frames answers: it is a hundred times smaller than the rows'."""
        end_ms = TIME_END_MS if end_utc_ms is None else end_utc_ms
        rows = self._query(
            "SELECT DISTINCT module FROM frames WHERE stream IN ('module', 'event') AND module <> ''"
            " AND last_time >= make_timestamp(?) AND first_time < make_timestamp(?) ORDER BY module",
            [_microseconds(start_utc_ms), _microseconds(end_ms)],
        )
        return [module for (module,) in rows]

    def span(self, module: str) -> tuple[int, int] | None:
        """See `BatteryStore.span`."""
        ((first, last),) = self._query(
            "SELECT epoch_ms(min(first_time)), epoch_ms(max(last_time)) FROM frames"
            " WHERE stream IN ('module', 'event') AND module = ?",
            [module],
        ) or [(None, None)]
        return None if first is None else (first, last)

    def readings(
        self, module: str, signals: Sequence[str], *, stream: str = "module", start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        """See `BatteryStore.readings`."""
        return self._readings(stream, signals, {"module": module}, start_utc_ms, end_utc_ms)

    def holder_readings(
        self, fleet: str, node: str, signals: Sequence[str], *, stream: str, start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        """See `BatteryStore.holder_readings`."""
        return self._readings(stream, signals, {"fleet": fleet, "node": node}, start_utc_ms, end_utc_ms)

    def _readings(
        self, stream: str, signals: Sequence[str], owner: dict[str, str], start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        columns = "".join(", " + self._column(stream, name) for name in signals)
        where, parameters = _where(dict(owner), start_utc_ms, end_utc_ms, "true")
        # The order is a function of the rows alone, and not of when they came: what is derived of them must be, too.
        rows = self._query(
            f'SELECT epoch_ms(time), fleet, node, bay{columns} FROM "{stream}" WHERE {where}'  # noqa: S608 (our names)
            " ORDER BY time, fleet, node, bay, journal, seq",
            parameters,
        )
        turned = list(zip(*rows, strict=True)) or [()] * (4 + len(signals))
        places = [Place(fleet, node, bay or 0) for fleet, node, bay in zip(*turned[1:4], strict=True)]
        return ModuleRows(turned[0], places, {name: turned[4 + i] for i, name in enumerate(signals)})

    def halves(
        self,
        *,
        module: str | None = None,
        fleet: str | None = None,
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
    ) -> list[SwapHalf]:
        """See `BatteryStore.halves`."""
        where, parameters = _where(
            {"module": module, "fleet": fleet}, start_utc_ms, end_utc_ms, f"code IN ({BATTERY_IN}, {BATTERY_OUT})"
        )
        columns = ", ".join(self._column(EVENT_STREAM.name, name) for name in HALF_SIGNALS)
        rows = self._query(
            f"SELECT epoch_ms(time), fleet, node, bay, module, code, {columns} FROM event WHERE {where}"  # noqa: S608
            " ORDER BY time, fleet, node, bay, module, code, journal, seq",
            parameters,
        )
        return [
            SwapHalf(time_ms, Place(fleet_name, node, bay or 0), code, kind == BATTERY_IN, *values)
            for time_ms, fleet_name, node, bay, code, kind, *values in rows
        ]

    def alarms(
        self, *, module: str | None = None, start_utc_ms: int = 0, end_utc_ms: int | None = None, limit: int = 10_000
    ) -> list[dict[str, Any]]:
        """See `BatteryStore.alarms`."""
        where, parameters = _where({"module": module}, start_utc_ms, end_utc_ms, "true")
        names = [signal.name for signal in ALARM_STREAM.signals]
        columns = ", ".join(self._column(ALARM_STREAM.name, name) for name in names)
        rows = self._query(
            f"SELECT epoch_ms(time), fleet, node, coalesce(bay, 0), coalesce(module, ''), {columns} FROM alarm"  # noqa: S608
            f" WHERE {where} ORDER BY time DESC, fleet, node, bay, code, journal, seq LIMIT ?",
            [*parameters, limit],
        )
        keys = ("time_utc_ms", "fleet", "node", "bay", "module", *names)
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def put(self, rows: Iterable[Row]) -> None:
        """See `BatteryStore.put`."""
        tables: dict[Table, dict[Any, Row]] = defaultdict(dict)
        for row in rows:
            tables[row.table][row.key] = row
        if not tables:
            return
        with self._cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                for table, by_key in tables.items():
                    _replace(cursor, table, list(by_key.values()))
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # the first error says what is wrong
                    cursor.execute("ROLLBACK")
                raise

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
        if not self._columns(table.name):
            return []  # a file of an older gateway that has not been opened by a newer one yet
        conditions, parameters = _where(dict(tags or {}), start_utc_ms, end_utc_ms, "NOT is_void")
        for name, operator, value in where:
            assert operator in OPERATORS, operator
            assert name in table.fields or name in table.tags, name
            conditions += f' AND "{name}" {operator} ?'
            parameters.append(value)
        names = ", ".join(self._column(table.name, name) for name in (*table.tags, *table.fields))
        order = ", ".join([f"time {'DESC' if newest_first else 'ASC'}", *(f'"{tag}"' for tag in table.tags)])
        found = self._query(
            f'SELECT epoch_ms(time), {names} FROM "{table.name}" WHERE {conditions} ORDER BY {order}'  # noqa: S608
            f"{'' if limit is None else f' LIMIT {int(limit)}'}",
            parameters,
        )
        return [_row(table, values) for values in found]

    def count(self, table: Table) -> int:
        """See `BatteryStore.count`."""
        if not self._columns(table.name):
            return 0
        ((count,),) = self._query(f'SELECT COUNT(*) FROM "{table.name}" WHERE NOT is_void', [])  # noqa: S608
        return int(count)

    def repair_count(self) -> int:
        """See `BatteryStore.repair_count`."""
        ((count,),) = self._query("SELECT COUNT(*) FROM repair", [])
        return int(count)

    def gone_before_utc_ms(self) -> int:
        """See `BatteryStore.gone_before_utc_ms`: nothing is ever dropped."""
        return 0

    def is_understood(self) -> bool:
        """See `BatteryStore.is_understood`."""
        return True

    def close(self) -> None:
        """Do nothing: the connection is who opened it's."""

    def _columns(self, table: str) -> frozenset[str]:
        """Return the columns of a table; they only become more, and where we write they are all there."""
        if table not in self._known_columns:
            rows = self._query("SELECT column_name FROM duckdb_columns() WHERE table_name = ?", [table])
            self._known_columns[table] = frozenset(name for (name,) in rows)
        return self._known_columns[table]

    def _column(self, table: str, name: str) -> str:
        """Return a column for a statement, NULL where the file is older than it."""
        return f'"{name}"' if name in self._columns(table) else f'NULL AS "{name}"'

    def _query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            return cursor.execute(sql, parameters).fetchall()

    def _cursor(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return lend(self._open_cursor, self._query_s_max)


def _replace(cursor: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Row]) -> None:
    """Write rows in place of those with the same key, but those that are there already."""
    times = [row.time_utc_ms for row in rows]
    columns: dict[str, Any] = {"time": pa.array(times, pa.timestamp("ms"))}
    columns |= {tag: pa.array([row.tags[tag] for row in rows], pa.string()) for tag in table.tags}
    columns |= {
        name: pa.array([row.fields.get(name) for row in rows], _ARROW_TYPES[kind])
        for name, kind in table.fields.items()
    }
    incoming = pa.table(columns)
    span = [_microseconds(min(times)), _microseconds(max(times))]
    keys = ("time", *table.tags)
    same_key = " AND ".join(f'stored."{name}" = incoming."{name}"' for name in keys)
    same_fields = " AND ".join(f'stored."{name}" IS NOT DISTINCT FROM incoming."{name}"' for name in table.fields)
    cursor.register("incoming", incoming)
    cursor.execute(
        f'DELETE FROM "{table.name}" AS stored USING incoming'  # noqa: S608
        f" WHERE {_BETWEEN} AND {same_key} AND NOT ({same_fields})",
        span,
    )
    cursor.execute(
        f'INSERT INTO "{table.name}" BY NAME SELECT * FROM incoming WHERE NOT EXISTS ('  # noqa: S608
        f'FROM "{table.name}" AS stored WHERE {_BETWEEN} AND {same_key})',
        span,
    )
    cursor.unregister("incoming")


def _row(table: Table, values: Sequence[Any]) -> Row:
    time_utc_ms, *rest = values
    count = len(table.tags)
    tags = {tag: value or "" for tag, value in zip(table.tags, rest[:count], strict=True)}
    fields = {name: value for name, value in zip(table.fields, rest[count:], strict=True) if value is not None}
    return Row(table, time_utc_ms, tags, fields)


def _where(
    owners: dict[str, str | None], start_utc_ms: int, end_utc_ms: int | None, condition: str
) -> tuple[str, list[Any]]:
    conditions = [condition, "time >= make_timestamp(?)"]
    parameters: list[Any] = [_microseconds(start_utc_ms)]
    if end_utc_ms is not None:
        conditions.append("time < make_timestamp(?)")
        parameters.append(_microseconds(end_utc_ms))
    for name, value in owners.items():
        if value is not None:
            conditions.append(f'"{name}" = ?')
            parameters.append(value)
    return " AND ".join(conditions), parameters


def _microseconds(utc_ms: int) -> int:
    return utc_ms * 1000
