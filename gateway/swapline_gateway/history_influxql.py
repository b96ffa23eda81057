"""History by InfluxQL over HTTP, the one query language of InfluxDB 1.x, 2.x (with a DBRP mapping) and 3.x."""

from typing import Any
from urllib.parse import urlencode

import urllib3

from swapline_wire.catalogue import Signal

from . import history_missing
from .config import Influxdb1Config, Influxdb2Config
from .error import SinkBusyError
from .history import FRAMES_DROPPED, LOSS_NAMES, NodeFlow, Series, SeriesQuery, Value, is_averaged
from .history_missing import text
from .missing import MISSING_MAX, Missing
from .sinks.influxdb1 import credentials
from .sinks.line_protocol import tag_value
from .worker import Worker

_LOST_ROWS_MAX = 100_000


class InfluxqlHistory:
    """See the module's header."""

    def __init__(self, config: Influxdb1Config | Influxdb2Config) -> None:
        self._url = config.url.rstrip("/") + "/query"
        if isinstance(config, Influxdb2Config):
            self._database = config.bucket
            headers = {"Authorization": f"Token {config.token.get_secret_value()}"}
        else:
            self._database = config.database
            headers = credentials(config)
        self._pool = urllib3.PoolManager(headers=headers, timeout=config.timeout_s, retries=False)
        self._worker = Worker("history")

    async def series(self, query: SeriesQuery) -> Series:
        """See `History.series`."""
        return await self._worker.run(self._series, query)

    def _series(self, query: SeriesQuery) -> Series:
        where, table = _where(query), _identifier(query.stream)
        # `time_quality` is in every row: without it a row whose chosen signals all have no value would be missing.
        columns = ", ".join(_identifier(name) for name in query.signals)
        limit = query.points_max + 1
        found = self._query(f'SELECT {columns}, "time_quality" FROM {table} WHERE {where} LIMIT {limit}')  # noqa: S608
        if _row_count(found) == limit:
            aggregates = ", ".join(_aggregate(signal) for signal in query.chosen())
            bucket_ms = query.bucket_ms
            found = self._query(
                f"SELECT {aggregates} FROM {table} WHERE {where}"  # noqa: S608
                f" GROUP BY time({bucket_ms}ms, {query.start_utc_ms % bucket_ms}ms) fill(none)"
            )
        rows = found[0]["values"] if found else []
        values: dict[str, list[Value]] = {name: [row[i] for row in rows] for i, name in enumerate(query.signals, 1)}
        return Series([row[0] for row in rows], values)

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
            f' FROM "frames" WHERE {span} GROUP BY "fleet", "node", "journal"'
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
            f'SELECT "reason", "count" FROM "event" WHERE "code" = \'{FRAMES_DROPPED}\' AND {span}'  # noqa: S608
            f' GROUP BY "fleet", "node" LIMIT {_LOST_ROWS_MAX}'
        )
        for group in groups:
            counts = lost.setdefault((group["tags"]["fleet"], group["tags"]["node"]), {})
            for _, reason, count in group["values"]:
                name = LOSS_NAMES.get(reason, "unknown")
                counts[name] = counts.get(name, 0) + (count or 0)
        return lost

    async def missing(self, *, fleet: str | None = None, node: str | None = None) -> list[Missing]:
        """See `History.missing`."""
        found = await self._worker.run(history_missing.ask, self._query, fleet=fleet, node=node)
        return found[:MISSING_MAX]

    def _query(self, statement: str) -> list[dict[str, Any]]:
        """Return the series of one statement's answer, times in ms."""
        query = urlencode({"db": self._database, "epoch": "ms", "q": statement})
        try:
            response = self._pool.request("GET", f"{self._url}?{query}")
            body = response.json()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise SinkBusyError(f"{self._url} does not answer: {error}") from error
        result = body.get("results", [{}])[0]
        problem = body.get("error") or body.get("message") or result.get("error")
        if response.status != 200 or problem:
            raise SinkBusyError(f"{self._url} answers {response.status}: {problem}")
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def close(self) -> None:
        """End the thread and the connections."""
        self._worker.close()
        self._pool.clear()


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


def _aggregate(signal: Signal) -> str:
    name = _identifier(signal.name)
    return f"{'mean' if is_averaged(signal) else 'last'}({name}) AS {name}"


def _identifier(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _where(query: SeriesQuery) -> str:
    conditions = [f"time >= {query.start_utc_ms}ms", f"time < {query.end_utc_ms}ms", f'"fleet" = {text(query.fleet)}']
    module = None if query.module is None else tag_value(query.module)
    for tag, value in (("node", query.node), ("module", module)):
        if value is not None:
            conditions.append(f'"{tag}" = {text(value)}')
    if query.bay is not None:
        conditions.append(f"\"bay\" = '{query.bay or ''}'")  # no bay, no tag
    return " AND ".join(conditions)
