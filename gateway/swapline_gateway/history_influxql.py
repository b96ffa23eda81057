"""History by InfluxQL over HTTP (`influxql.py`).

Where rows are kept for a month only, what is older comes from the hourly roll-ups, and so does a range so long that a
point of its chart is an hour; its end comes from rows, for the last hours have no roll-up yet.
"""

from dataclasses import replace
from typing import Any

from swapline_wire.catalogue import EVENT_STREAM, Signal

from . import history_missing
from .config import Influxdb1Config, Influxdb2Config
from .history import FRAMES_DROPPED, LOSS_NAMES, NodeFlow, Series, SeriesQuery, Value, is_averaged
from .influxql import InfluxqlClient, identifier, text
from .missing import MISSING_MAX, Missing
from .sinks.line_protocol import FRAMES, LASTING, tag_value
from .spool import now_utc_ms
from .worker import Worker

_LOST_ROWS_MAX = 100_000
_HOUR_MS = 3_600_000
_RAW_AGE_MS = 29 * 24 * _HOUR_MS  # older rows may be gone: they are kept for 30 days
_ROLLED_AGE_MS = 3 * _HOUR_MS  # for so long the database goes on making an hour's roll-up


class InfluxqlHistory:
    """See the module's header."""

    def __init__(self, config: Influxdb1Config | Influxdb2Config) -> None:
        self._client = InfluxqlClient(config)
        self._query = self._client.query
        self._worker = Worker("history")

    async def series(self, query: SeriesQuery) -> Series:
        """See `History.series`."""
        return await self._worker.run(self._series, query)

    def _series(self, query: SeriesQuery) -> Series:
        edge_ms = self._rolled_until(query)
        if edge_ms <= query.start_utc_ms:
            return self._of_rows(query)
        older = self._of_hours(replace(query, end_utc_ms=min(edge_ms, query.end_utc_ms)))
        if edge_ms >= query.end_utc_ms:
            return older
        room = -(-(query.end_utc_ms - edge_ms) // query.bucket_ms)
        newer = self._of_rows(replace(query, start_utc_ms=edge_ms, points_max=room))
        values = {name: older.values[name] + newer.values[name] for name in query.signals}
        return Series(older.time_utc_ms + newer.time_utc_ms, values)

    def _rolled_until(self, query: SeriesQuery) -> int:
        """Return up to when hours answer a question, 0 if only rows do."""
        if not self._client.has_lasting or query.stream in LASTING:
            return 0
        is_long = query.bucket_ms >= _HOUR_MS
        age_ms = _ROLLED_AGE_MS if is_long else _RAW_AGE_MS
        return (now_utc_ms() - age_ms) // _HOUR_MS * _HOUR_MS

    def _of_hours(self, query: SeriesQuery) -> Series:
        aggregates = ", ".join(_rolled(signal) for signal in query.chosen())
        bucket_ms = -(-query.bucket_ms // _HOUR_MS) * _HOUR_MS
        first_ms = query.start_utc_ms // _HOUR_MS * _HOUR_MS
        where = _where(replace(query, start_utc_ms=first_ms))
        found = self._query(
            f"SELECT {aggregates} FROM {self._client.lasting(query.stream)} WHERE {where}"  # noqa: S608
            f" GROUP BY time({bucket_ms}ms, {first_ms % bucket_ms}ms) fill(none)"
        )
        return _series_of(query, found)

    def _of_rows(self, query: SeriesQuery) -> Series:
        where, table = _where(query), self._client.source(query.stream)
        # `time_quality` is in every row: without it a row whose chosen signals all have no value would be missing.
        columns = ", ".join(identifier(name) for name in query.signals)
        limit = query.points_max + 1
        found = self._query(f'SELECT {columns}, "time_quality" FROM {table} WHERE {where} LIMIT {limit}')  # noqa: S608
        if _row_count(found) == limit:
            aggregates = ", ".join(_aggregate(signal) for signal in query.chosen())
            bucket_ms = query.bucket_ms
            found = self._query(
                f"SELECT {aggregates} FROM {table} WHERE {where}"  # noqa: S608
                f" GROUP BY time({bucket_ms}ms, {query.start_utc_ms % bucket_ms}ms) fill(none)"
            )
        return _series_of(query, found)

    async def pipeline(self, *, start_utc_ms: int, end_utc_ms: int, fleet: str | None = None) -> list[NodeFlow]:
        """See `History.pipeline`."""
        return await self._worker.run(self._pipeline, start_utc_ms, end_utc_ms, fleet)

    def _pipeline(self, start_utc_ms: int, end_utc_ms: int, fleet: str | None) -> list[NodeFlow]:
        span = f"time >= {start_utc_ms}ms AND time < {end_utc_ms}ms"
        if fleet is not None:
            span += f' AND "fleet" = {text(fleet)}'
        lost = self._lost(span)
        groups = self._query(
            "SELECT count(seq), sum(row_count), sum(value_count), min(seq), max(seq), sum(delay_ms), max(delay_ms)"  # noqa: S608
            f' FROM {self._client.source(FRAMES)} WHERE {span} GROUP BY "fleet", "node", "journal"'
        )
        by_node: dict[tuple[str, str], list[list[Any]]] = {}
        for group in groups:
            key = (group["tags"]["fleet"], group["tags"]["node"])
            by_node.setdefault(key, []).append(group["values"][0][1:])
        return [_flow(key, rows, lost.get(key, {})) for key, rows in sorted(by_node.items())]

    def _lost(self, span: str) -> dict[tuple[str, str], dict[str, int]]:
        """Add up declared losses. The reason is a field, by which InfluxQL cannot group."""
        lost: dict[tuple[str, str], dict[str, int]] = {}
        groups = self._query(
            f'SELECT "reason", "count" FROM {self._client.source(EVENT_STREAM.name)}'  # noqa: S608
            f' WHERE "code" = \'{FRAMES_DROPPED}\' AND {span} GROUP BY "fleet", "node" LIMIT {_LOST_ROWS_MAX}'
        )
        for group in groups:
            counts = lost.setdefault((group["tags"]["fleet"], group["tags"]["node"]), {})
            for _, reason, count in group["values"]:
                name = LOSS_NAMES.get(reason, "unknown")
                counts[name] = counts.get(name, 0) + (count or 0)
        return lost

    async def missing(self, *, fleet: str | None = None, node: str | None = None) -> list[Missing]:
        """See `History.missing`."""
        found = await self._worker.run(history_missing.ask, self._client, fleet=fleet, node=node)
        return found[:MISSING_MAX]

    def close(self) -> None:
        """End the thread and the connections."""
        self._worker.close()
        self._client.close()


def _flow(key: tuple[str, str], journals: list[list[Any]], lost: dict[str, int]) -> NodeFlow:
    counts = [sum(journal[i] for journal in journals) for i in range(3)]
    missing = sum(journal[4] - journal[3] + 1 - journal[0] for journal in journals)
    return NodeFlow(
        fleet=key[0],
        node=key[1],
        frame_count=counts[0],
        row_count=counts[1],
        value_count=counts[2],
        frames_missing=missing,
        frames_lost=lost,
        delay_ms_mean=sum(journal[5] for journal in journals) / counts[0],
        delay_ms_max=max(journal[6] for journal in journals),
    )


def _row_count(series: list[dict[str, Any]]) -> int:
    return len(series[0]["values"]) if series else 0


def _series_of(query: SeriesQuery, found: list[dict[str, Any]]) -> Series:
    rows = found[0]["values"] if found else []
    values: dict[str, list[Value]] = {name: [row[i] for row in rows] for i, name in enumerate(query.signals, 1)}
    return Series([row[0] for row in rows], values)


def _rolled(signal: Signal) -> str:
    """Return what hours of a signal are asked for: their fields are `<signal>_mean` and `<signal>_last`."""
    name = "mean" if is_averaged(signal) else "last"
    return f"{name}({identifier(f'{signal.name}_{name}')}) AS {identifier(signal.name)}"


def _aggregate(signal: Signal) -> str:
    name = identifier(signal.name)
    return f"{'mean' if is_averaged(signal) else 'last'}({name}) AS {name}"


def _where(query: SeriesQuery) -> str:
    conditions = [f"time >= {query.start_utc_ms}ms", f"time < {query.end_utc_ms}ms", f'"fleet" = {text(query.fleet)}']
    module = None if query.module is None else tag_value(query.module)
    for tag, value in (("node", query.node), ("module", module)):
        if value is not None:
            conditions.append(f'"{tag}" = {text(value)}')
    if query.bay is not None:
        conditions.append(f"\"bay\" = '{query.bay or ''}'")  # no bay, no tag
    return " AND ".join(conditions)
