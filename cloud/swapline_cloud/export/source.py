"""Where rows come from: an InfluxDB by InfluxQL, node by node; or a DuckDB file, which sorts by itself."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from swapline_cloud.backup import reading
from swapline_gateway.access import open_file, unreadable
from swapline_gateway.config import DuckdbConfig, Influxdb1Config, Influxdb2Config
from swapline_gateway.error import SinkBusyError
from swapline_gateway.influxql import InfluxqlClient, identifier, text
from swapline_gateway.sinks.line_protocol import tag_value

from .table import POLICIES, Day, Selection, keys, order, schema

BATCH_ROWS = 100_000
_NS_PER_MS = 1_000_000
_TEXT = pa.string()  # while rows are sorted
Shares = Iterator[tuple[float, pa.Table]]


class Source(Protocol):
    """A database that rows are read from."""

    def tables(self, day: Day, selection: Selection) -> Shares:
        """Yield the rows of a day in their order, with the share of the day that is read then. Raises `GatewayError`.

        Within a table, texts are plain: the file's schema has them coded.
        """

    def close(self) -> None:
        """Let go of the database."""


class InfluxSource:
    """Rows by InfluxQL: for each node that has any on a day, slice after slice of time."""

    def __init__(self, config: Influxdb1Config | Influxdb2Config) -> None:
        self._client = InfluxqlClient(config)

    def tables(self, day: Day, selection: Selection) -> Shares:
        """See `Source.tables`."""
        nodes = self._nodes(day, selection)
        columns = schema(day.stream, selection.rollup)
        for number, (fleet, node) in enumerate(nodes, 1):
            where = _where(fleet=fleet, node=node, module=selection.module)
            for table in self._rows(day, selection, columns, where):
                yield number / len(nodes), _with_owner(table, columns, fleet, node)

    def _source(self, day: Day, selection: Selection) -> str:
        if selection.rollup is None:
            return self._client.source(day.stream.name)
        return self._client.named(day.stream.name, POLICIES[selection.rollup])

    def _nodes(self, day: Day, selection: Selection) -> list[tuple[str, str]]:
        start, end = day.span_ms
        field = schema(day.stream, selection.rollup).names[-1]
        if selection.rollup is not None:
            field = next(name for name in schema(day.stream, selection.rollup).names if name.endswith("_count"))
        where = _where(fleet=selection.fleet, node=selection.node, module=selection.module)
        try:
            found = self._client.query(
                f"SELECT first({identifier(field)}) FROM {self._source(day, selection)}"  # noqa: S608 (all is quoted)
                f' WHERE time >= {start}ms AND time < {end}ms{where} GROUP BY "fleet", "node"'
            )
        except SinkBusyError as error:
            raise reading.sort_error(error) from error
        return sorted((one["tags"]["fleet"], one["tags"]["node"]) for one in found)

    def _rows(self, day: Day, selection: Selection, columns: pa.Schema, where: str) -> Iterator[pa.Table]:
        tags = ["bay", "module", *keys(day.stream)]
        fields = columns.names[3 + len(tags) :]
        what = [f"{identifier(name)}::tag" for name in tags] + [f"{identifier(name)}::field" for name in fields]
        head = f"SELECT {', '.join(what)} FROM {self._source(day, selection)}"  # noqa: S608 (all of it is quoted)
        plain = pa.schema(
            [pa.field(one.name, _plain(one.type)) for one in columns if one.name not in ("fleet", "node")]
        )

        def ask(part: reading.Span) -> reading.Answer:
            return self._client.stream(f"{head} WHERE time >= {part[0]} AND time < {part[1]}{where}")

        def make(series: dict[str, Any]) -> pa.Table:
            times, *values = zip(*series["values"], strict=True)
            arrays = [pa.array([time_ns // _NS_PER_MS for time_ns in times], plain.field(0).type)]
            for index, column in enumerate(values, 1):
                arrays.append(_array(column, plain.field(index).type))
            return pa.Table.from_arrays(arrays, schema=plain)

        start, end = day.span_ms
        limits = reading.Limits(reading.CELLS_MAX // len(columns))
        for table in reading.slices(ask, make, (start * _NS_PER_MS, end * _NS_PER_MS), limits):
            yield table.sort_by([(name, "ascending") for name in order(day.stream)[2:]])

    def close(self) -> None:
        """See `Source.close`."""
        self._client.close()


def _where(**owners: str | None) -> str:
    return "".join(f" AND {identifier(tag)} = {text(tag_value(name))}" for tag, name in owners.items() if name)


def _plain(kind: pa.DataType) -> pa.DataType:
    return _TEXT if pa.types.is_dictionary(kind) else kind


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == _TEXT:
        return pa.array([value or None for value in values], kind)
    if kind == pa.uint8():  # tags, and the quality of a row's time
        return pa.array([int(value) if value not in (None, "") else None for value in values], kind)
    return reading.array(values, kind)


def _with_owner(table: pa.Table, columns: pa.Schema, fleet: str, node: str) -> pa.Table:
    for place, name, value in ((1, "fleet", fleet), (2, "node", node)):
        table = table.add_column(place, name, pa.repeat(pa.scalar(value, _TEXT), table.num_rows))
    return table.select(columns.names)


class DuckdbSource:
    """Rows of a DuckDB file. It has one process at a time: while the gateway has it open, nobody reads it."""

    def __init__(self, config: DuckdbConfig) -> None:
        self._config = config
        self._lent = open_file(config)
        self._connection = self._lent.__enter__()

    def tables(self, day: Day, selection: Selection) -> Shares:
        """See `Source.tables`."""
        statement, parameters = self._statement(day, selection)
        columns = schema(day.stream, None)
        try:
            reader: Any = self._connection.sql(statement, params=parameters).to_arrow_reader(BATCH_ROWS)
            for batch in reader:
                yield 0.5, pa.Table.from_batches([batch]).select(columns.names)
        except duckdb.Error as error:
            raise unreadable(self._config.path, error) from error

    def _statement(self, day: Day, selection: Selection) -> tuple[str, list[Any]]:
        start, end = day.span_ms
        columns = schema(day.stream, None)
        special = {"bay": "nullif(bay, 0) AS bay", "module": "nullif(module, '') AS module"}
        what = ", ".join(special.get(name, identifier(name)) for name in columns.names)
        where = "time >= make_timestamp(?) AND time < make_timestamp(?)"
        parameters: list[Any] = [start * 1000, end * 1000]
        for name in ("fleet", "node", "module"):
            if value := getattr(selection, name):
                where += f" AND {name} = ?"
                parameters.append(value)
        by = ", ".join(identifier(name) for name in order(day.stream))
        table = identifier(day.stream.name)
        return f"SELECT {what} FROM {table} WHERE {where} ORDER BY {by}", parameters  # noqa: S608 (our own names)

    def close(self) -> None:
        """See `Source.close`."""
        self._lent.__exit__(None, None, None)


def make(config: DuckdbConfig | Influxdb1Config | Influxdb2Config) -> Source:
    """Return the database that a gateway writes to. Raises `StorageError` for a file that another process has open."""
    return DuckdbSource(config) if isinstance(config, DuckdbConfig) else InfluxSource(config)
