"""History out of the DuckDB file, through cursors of the sink's own connection: a file has one process."""

from typing import Any

from .duckdb_cursor import QUERY_S_MAX, ask
from .history import FRAMES_DROPPED, LOSS_NAMES, NodeFlow, Series, SeriesQuery, is_averaged
from .missing import MISSING_MAX, Missing
from .sinks.duckdb_file import DuckdbSink
from .worker import Worker

_FLOW = """
SELECT fleet, node, SUM(frame_count)::BIGINT, SUM(row_count)::BIGINT, SUM(value_count)::BIGINT,
    SUM(seq_max - seq_min + 1 - frame_count)::BIGINT, SUM(delay_sum) / SUM(frame_count), MAX(delay_max)
FROM (
    SELECT fleet, node, journal, COUNT(*) AS frame_count, SUM(row_count) AS row_count, SUM(value_count) AS value_count,
        MIN(seq)::BIGINT AS seq_min, MAX(seq)::BIGINT AS seq_max,
        SUM(epoch_ms(stored_time) - epoch_ms(last_time)) AS delay_sum,
        MAX(epoch_ms(stored_time) - epoch_ms(last_time)) AS delay_max
    FROM frames WHERE first_time >= make_timestamp(?) AND first_time < make_timestamp(?) AND (fleet = ? OR ? IS NULL)
    GROUP BY fleet, node, journal
) GROUP BY fleet, node ORDER BY fleet, node
"""
_LOST = """
SELECT fleet, node, reason, SUM("count")::BIGINT FROM event
WHERE code = ? AND time >= make_timestamp(?) AND time < make_timestamp(?) AND (fleet = ? OR ? IS NULL)
GROUP BY fleet, node, reason
"""

_MISSING = """
SELECT fleet, node, journal, first_seq, last_seq, frame_count, row_count, reason,
    epoch_ms(after_time), epoch_ms(before_time)
FROM missing WHERE (fleet = ? OR ? IS NULL) AND (node = ? OR ? IS NULL)
ORDER BY fleet, node, first_seq IS NULL, journal, first_seq, before_time LIMIT ?
"""


class DuckdbHistory:
    """See the module's header."""

    def __init__(self, sink: DuckdbSink, *, query_s_max: float = QUERY_S_MAX) -> None:
        self._sink = sink
        self._query_s_max = query_s_max
        self._worker = Worker("history")

    async def series(self, query: SeriesQuery) -> Series:
        """See `History.series`."""
        return await self._worker.run(self._series, query)

    def _series(self, query: SeriesQuery) -> Series:
        where, parameters = _where(query)
        columns = ", ".join(f'"{name}"' for name in query.signals)
        rows = self._query(
            f'SELECT epoch_ms(time), {columns} FROM "{query.stream}" WHERE {where} ORDER BY time LIMIT ?',  # noqa: S608
            [*parameters, query.points_max + 1],
        )
        if len(rows) > query.points_max:
            aggregates = ", ".join(
                f'AVG("{s.name}")' if is_averaged(s) else f'arg_max("{s.name}", time)' for s in query.chosen()
            )
            start_ms, bucket_ms = query.start_utc_ms, query.bucket_ms
            rows = self._query(
                f"SELECT ? + (epoch_ms(time) - ?) // ? * ? AS bucket, {aggregates}"  # noqa: S608
                f' FROM "{query.stream}" WHERE {where} GROUP BY bucket ORDER BY bucket',
                [start_ms, start_ms, bucket_ms, bucket_ms, *parameters],
            )
        turned = list(zip(*rows, strict=True)) or [()] * (len(query.signals) + 1)
        return Series(list(turned[0]), {name: list(turned[i]) for i, name in enumerate(query.signals, start=1)})

    async def pipeline(self, *, start_utc_ms: int, end_utc_ms: int, fleet: str | None = None) -> list[NodeFlow]:
        """See `History.pipeline`."""
        return await self._worker.run(self._pipeline, start_utc_ms, end_utc_ms, fleet)

    def _pipeline(self, start_utc_ms: int, end_utc_ms: int, fleet: str | None) -> list[NodeFlow]:
        span = [start_utc_ms * 1000, end_utc_ms * 1000, fleet, fleet]
        lost: dict[tuple[str, str], dict[str, int]] = {}
        for fleet_name, node, reason, count in self._query(_LOST, [FRAMES_DROPPED, *span]):
            lost.setdefault((fleet_name, node), {})[LOSS_NAMES.get(reason, "unknown")] = count
        return [
            NodeFlow(fleet_name, node, frames, rows, values, missing, lost.get((fleet_name, node), {}), mean_ms, max_ms)
            for fleet_name, node, frames, rows, values, missing, mean_ms, max_ms in self._query(_FLOW, span)
        ]

    async def missing(self, *, fleet: str | None = None, node: str | None = None) -> list[Missing]:
        """See `History.missing`."""
        rows = await self._worker.run(self._query, *missing_statement(fleet, node))
        return [Missing(*row) for row in rows]

    def _query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return ask(self._sink.cursor, sql, parameters, self._query_s_max)

    def close(self) -> None:
        """End the thread."""
        self._worker.close()


def missing_statement(fleet: str | None, node: str | None) -> tuple[str, list[Any]]:
    """Return the question to the view `missing`; a row of its answer is a `Missing`."""
    return _MISSING, [fleet, fleet, node, node, MISSING_MAX]


def _where(query: SeriesQuery) -> tuple[str, list[Any]]:
    conditions = ["time >= make_timestamp(?)", "time < make_timestamp(?)", "fleet = ?"]
    parameters: list[Any] = [query.start_utc_ms * 1000, query.end_utc_ms * 1000, query.fleet]
    for column, value in (("node", query.node), ("bay", query.bay), ("module", query.module)):
        if value is not None:
            conditions.append(f"{column} = ?")
            parameters.append(value)
    return " AND ".join(conditions), parameters
