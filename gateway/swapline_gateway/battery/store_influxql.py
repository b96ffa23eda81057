"""The battery's books in an InfluxDB: asked in InfluxQL, written as line protocol with the sink's own settings.

InfluxDB merges a point that is written again into the one that is there, field by field, and cannot forget a field. So
every point of ours names in the field `absent` what it has no value of; what InfluxDB still remembers there does not
count. A tag without a text is no tag. Answers come by pages, so that no question takes a server's memory.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from swapline_gateway.config import Influxdb1Config, Influxdb2Config
from swapline_gateway.error import SinkRejectedError, SinkTooLargeError
from swapline_gateway.influxql import InfluxqlClient, identifier, text
from swapline_gateway.sinks.influx_answer import is_about_age
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.sinks.influxdb2 import Influxdb2Sink
from swapline_gateway.sinks.line_protocol import FRAMES, escape_tag, tag_value
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, BATTERY_IN, BATTERY_OUT, EVENT_STREAM, KEY, Signal, stream_by_name

from .record import HOUR_MS, Place, SwapHalf
from .store import HALF_SIGNALS, OPERATORS, ModuleRows, is_met
from .table import MODULE_HOUR, NUMBER, TEXT, TRUTH, WHOLE, Row, Table

PAGE_ROWS = 10_000
BODY_BYTES_MAX = 1 << 20
ABSENT = "absent"
_NS_PER_MS = 1_000_000
_OWNER = ("fleet", "node", "bay")
_SWAP_CODES = f"(\"code\" = '{BATTERY_IN}' OR \"code\" = '{BATTERY_OUT}')"

Values = list[Any]  # a row of an answer: its time in ms, then its columns


class InfluxqlStore:
    """See the module's header."""

    def __init__(self, config: Influxdb1Config | Influxdb2Config) -> None:
        self._client = InfluxqlClient(config)
        self._sink = Influxdb1Sink(config) if isinstance(config, Influxdb1Config) else Influxdb2Sink(config)

    def is_understood(self) -> bool:
        """Say whether the database can be asked at all. Raises `SinkBusyError` if it cannot be known now."""
        return self._client.is_understood()

    def known_as(self, module: str) -> str:
        """See `BatteryStore.known_as`."""
        return tag_value(module)

    def modules(self, *, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[str]:
        """See `BatteryStore.modules`."""
        found: set[str] = set()
        for stream, condition in (("module", ""), ("event", f" AND {_SWAP_CODES}")):
            where = _where({}, start_utc_ms, end_utc_ms) + condition
            for series in self._client.query(
                f'SELECT last("time_quality") FROM {self._client.source(stream)} WHERE {where} GROUP BY "module"'  # noqa: S608
            ):
                found.add(series["tags"]["module"])
        return sorted(found - {""})

    def span(self, module: str) -> tuple[int, int] | None:
        """See `BatteryStore.span`."""
        times: list[int] = []
        owner = _where({"module": module}, 0, None)
        for stream, condition in (("module", ""), ("event", f" AND {_SWAP_CODES}")):
            for end in ("first", "last"):
                found = self._client.query(
                    f'SELECT {end}("time_quality") FROM {self._client.source(stream)} WHERE {owner}{condition}'  # noqa: S608
                )
                times += [series["values"][0][0] for series in found]
        return (min(times), max(times)) if times else None

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
        known = _signals(stream)
        keys = [name for name, signal in known.items() if signal.kind == KEY]
        columns = list(dict.fromkeys((*_OWNER, *keys, *signals, "time_quality")))
        rows = self._rows(stream, columns, _where(owner, 0, None), start_utc_ms, end_utc_ms)
        places = {name: index for index, name in enumerate(columns, start=1)}

        def order(row: Values) -> tuple[Any, ...]:
            return (row[0], row[1], row[2], _bay(row[3]), *(_number(row[places[key]]) for key in keys))

        found = sorted(rows, key=order)
        return ModuleRows(
            [row[0] for row in found],
            [Place(row[1], row[2], _bay(row[3])) for row in found],
            {name: [_value(known.get(name), row[places[name]]) for row in found] for name in signals},
        )

    def halves(
        self,
        *,
        module: str | None = None,
        fleet: str | None = None,
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
    ) -> list[SwapHalf]:
        """See `BatteryStore.halves`."""
        known = _signals(EVENT_STREAM.name)
        columns = [*_OWNER, "module", "code", *HALF_SIGNALS]
        where = _where({"module": module, "fleet": fleet}, 0, None, _SWAP_CODES)
        rows = self._rows(EVENT_STREAM.name, columns, where, start_utc_ms, end_utc_ms)
        halves = [
            SwapHalf(
                time_ms,
                Place(fleet_name, node, _bay(bay)),
                code or "",
                kind == str(BATTERY_IN),
                *(_value(known.get(name), value) for name, value in zip(HALF_SIGNALS, values, strict=True)),
            )
            for time_ms, fleet_name, node, bay, code, kind, *values in rows
        ]
        return sorted(halves, key=lambda half: (half.time_utc_ms, half.place, half.module, not half.is_in))

    def alarms(
        self, *, module: str | None = None, start_utc_ms: int = 0, end_utc_ms: int | None = None, limit: int = 10_000
    ) -> list[dict[str, Any]]:
        """See `BatteryStore.alarms`."""
        known = _signals(ALARM_STREAM.name)
        columns = [*_OWNER, "module", *known, "time_quality"]
        where = _where({"module": module}, 0, None)
        rows = _Pages(self._client.query, self._client.source(ALARM_STREAM.name), columns, where).newest(
            start_utc_ms, end_utc_ms, limit
        )
        found = [
            {
                "time_utc_ms": time_ms,
                "fleet": fleet,
                "node": node,
                "bay": _bay(bay),
                "module": code or "",
                **{name: _value(known.get(name), value) for name, value in zip(known, values, strict=True)},
            }
            for time_ms, fleet, node, bay, code, *values, _ in rows
        ]
        found.sort(key=lambda one: (-one["time_utc_ms"], one["fleet"], one["node"], one["bay"], one["code"]))
        return found[:limit]

    def put(self, rows: Iterable[Row]) -> None:
        """See `BatteryStore.put`. Rows that are older than what the database keeps are left out."""
        by_key = {row.key: format_row(row) for row in rows}
        lines, size = list[str](), 0
        for line in by_key.values():
            if lines and size + len(line) > BODY_BYTES_MAX:
                self._send(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        if lines:
            self._send(lines)

    def _send(self, lines: Sequence[str]) -> None:
        try:
            self._sink.send_lasting("\n".join(lines).encode())
        except SinkTooLargeError:
            if len(lines) == 1:
                raise
            self._send(lines[: len(lines) // 2])
            self._send(lines[len(lines) // 2 :])
        except SinkRejectedError as error:
            if not is_about_age(error):
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
        condition = _where(dict(tags or {}), 0, None, '"is_void" = false')
        for name, operator, value in where:
            assert operator in OPERATORS, operator
            condition += f" AND {identifier(name)} {operator} {_literal(value)}"
        columns = [*table.tags, *table.fields, ABSENT]
        pages = _Pages(self._client.query, self._client.lasting(table.name), columns, condition)

        def is_wanted(values: Values) -> bool:
            """Judge again by what counts: InfluxDB still compares what a row no longer has."""
            row = _row(table, values)
            return all(is_met(row, *one) for one in where)

        found = [_row(table, values) for values in pages.read(start_utc_ms, end_utc_ms, newest_first, limit, is_wanted)]
        found.sort(key=lambda row: (-row.time_utc_ms if newest_first else row.time_utc_ms, row.key))
        return found[:limit]

    def count(self, table: Table) -> int:
        """See `BatteryStore.count`."""
        series = self._client.query(
            f'SELECT count("is_void") FROM {self._client.lasting(table.name)} WHERE "is_void" = false'  # noqa: S608
        )
        return int(series[0]["values"][0][1]) if series else 0

    def repair_count(self) -> int:
        """See `BatteryStore.repair_count`."""
        return 0

    def gone_before_utc_ms(self) -> int:
        """See `BatteryStore.gone_before_utc_ms`: hours are there that are older than every frame."""
        if not self._client.has_lasting:
            return 0
        first_hour_ms = self._first(self._client.lasting(MODULE_HOUR.name), "is_void")
        first_frame_ms = self._first(self._client.source(FRAMES), "seq")
        if first_hour_ms is None or (first_frame_ms is not None and first_frame_ms < first_hour_ms + HOUR_MS):
            return 0
        return now_utc_ms() if first_frame_ms is None else first_frame_ms

    def _first(self, source: str, field: str) -> int | None:
        found = self._client.query(f"SELECT first({identifier(field)}) FROM {source} WHERE time >= 0")  # noqa: S608
        return int(found[0]["values"][0][0]) if found else None

    def _rows(
        self, stream: str, columns: Sequence[str], where: str, start_utc_ms: int, end_utc_ms: int | None
    ) -> Iterator[Values]:
        source = self._client.source(stream)
        return _Pages(self._client.query, source, columns, where).read(start_utc_ms, end_utc_ms)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._sink.close()


class _Pages:
    """Rows of one question by pages: each ends where a time ends, so that the next one begins after it."""

    def __init__(
        self, query: Callable[[str], list[dict[str, Any]]], source: str, columns: Sequence[str], where: str
    ) -> None:
        self._query = query
        names = ", ".join(identifier(name) for name in columns)
        self._head = f"SELECT {names} FROM {source} WHERE {where}"  # noqa: S608 (all of it is quoted)

    def newest(self, start_utc_ms: int, end_utc_ms: int | None, limit: int) -> Iterator[Values]:
        """Yield the newest rows, some more than `limit`."""
        return self.read(start_utc_ms, end_utc_ms, True, limit)

    def read(
        self,
        start_utc_ms: int,
        end_utc_ms: int | None,
        newest_first: bool = False,
        limit: int | None = None,
        is_wanted: Callable[[Values], bool] = lambda _values: True,
    ) -> Iterator[Values]:
        """Yield the rows that are wanted; the last time's all, so some more than `limit`."""
        size = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit + 1)
        count = 0
        while limit is None or count < limit:
            rows = self._page(start_utc_ms, end_utc_ms, newest_first, size)
            if len(rows) == size:
                edge_ms = rows[-1][0]
                rows = [row for row in rows if row[0] != edge_ms]
                if not rows:  # a page of one time: it takes a larger one to see its end
                    size *= 2
                    continue
                start_utc_ms, end_utc_ms = (start_utc_ms, edge_ms + 1) if newest_first else (edge_ms, end_utc_ms)
                is_last = False
            else:
                is_last = True
            for row in filter(is_wanted, rows):
                count += 1
                yield row
            if is_last:
                return

    def _page(self, start_utc_ms: int, end_utc_ms: int | None, newest_first: bool, size: int) -> list[Values]:
        end = "" if end_utc_ms is None else f" AND time < {end_utc_ms}ms"
        order = " ORDER BY time DESC" if newest_first else ""
        series = self._query(f"{self._head} AND time >= {start_utc_ms}ms{end}{order} LIMIT {size}")
        values: list[Values] = series[0]["values"] if series else []
        return values


def format_row(row: Row) -> str:
    """Return a row as line protocol."""
    table = row.table
    head = table.name + "".join(f",{tag}={escape_tag(row.tags[tag])}" for tag in table.tags if row.tags[tag])
    fields: list[str] = []
    absent: list[str] = []
    for name, kind in table.fields.items():
        value = row.fields.get(name)
        if value is None or (kind == NUMBER and not math.isfinite(value)):
            absent.append(name)
        else:
            fields.append(f"{name}={_field(kind, value)}")
    fields.append(f"{ABSENT}={_field(TEXT, ','.join(absent))}")
    return f"{head} {','.join(fields)} {row.time_utc_ms * _NS_PER_MS}"


def _field(kind: str, value: Any) -> str:
    if kind == TEXT:
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if kind == WHOLE:
        return f"{int(value)}i"
    if kind == TRUTH:
        return "true" if value else "false"
    return repr(float(value))


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return text(value) if isinstance(value, str) else repr(value)


def _where(owners: Mapping[str, str | None], start_utc_ms: int, end_utc_ms: int | None, condition: str = "") -> str:
    conditions = [condition] if condition else []
    if start_utc_ms or not owners:
        conditions.append(f"time >= {start_utc_ms}ms")
    if end_utc_ms is not None:
        conditions.append(f"time < {end_utc_ms}ms")
    conditions += [f'"{name}" = {text(tag_value(value))}' for name, value in owners.items() if value is not None]
    return " AND ".join(conditions) or "time >= 0ms"


def _row(table: Table, values: Values) -> Row:
    time_utc_ms, *rest = values
    count = len(table.tags)
    absent = set((rest[-1] or "").split(","))
    tags = {tag: value or "" for tag, value in zip(table.tags, rest[:count], strict=True)}
    fields = {
        name: float(value) if kind == NUMBER else value
        for (name, kind), value in zip(table.fields.items(), rest[count:-1], strict=True)
        if value is not None and name not in absent
    }
    return Row(table, time_utc_ms, tags, fields)


def _signals(stream: str) -> dict[str, Signal]:
    found = stream_by_name(stream)
    assert found is not None, stream
    return {signal.name: signal for signal in found.signals}


def _value(signal: Signal | None, value: Any) -> Any:
    """Return a value as the row had it. `time_quality` is in every row, and is no signal."""
    if value is None:
        return None
    return int(value) if signal is None or signal.decimals == 0 else float(value)


def _number(value: Any) -> int:
    return -1 if value is None else int(value)


def _bay(tag: str | None) -> int:
    return int(tag or 0)
