"""History out of the DuckDB file, through cursors of the sink's own connection: a file has one process."""

from contextlib import closing
from typing import Any

import duckdb

from .error import GatewayError, SinkBusyError
from .history import FRAMES_DROPPED, LOSS_NAMES, NodeFlow, Series, Source, chosen, is_averaged
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


class DuckdbHistory:
    """See the module's header."""

    def __init__(self, sink: DuckdbSink) -> None:
        self._sink = sink
        self._worker = Worker("history")

    async def series(
        self,
        *,
        stream: str,
        fleet: str,
        node: str | None = None,
        bay: int | None = None,
        module: str | None = None,
        signals: list[str],
        start_utc_ms: int,
        end_utc_ms: int,
        points_max: int,
    ) -> Series:
        """See `History.series`."""
        source = Source(stream, fleet, node, bay, module)
        return await self._worker.run(self._series, source, signals, start_utc_ms, end_utc_ms, points_max)

    def _series(self, source: Source, names: list[str], start_utc_ms: int, end_utc_ms: int, points_max: int) -> Series:
        where, parameters = _where(source, start_utc_ms, end_utc_ms)
        wanted = chosen(source.stream, names)
        columns = ", ".join(f'"{signal.name}"' for signal in wanted)
        rows = self._query(
            f'SELECT epoch_ms(time), {columns} FROM "{source.stream}" WHERE {where} ORDER BY time LIMIT ?',  # noqa: S608
            [*parameters, points_max + 1],
        )
        if len(rows) > points_max:
            bucket_ms = max(1, -(-(end_utc_ms - start_utc_ms) // points_max))
            aggregates = ", ".join(
                f'AVG("{s.name}")' if is_averaged(s) else f'arg_max("{s.name}", time)' for s in wanted
            )
            rows = self._query(
                f"SELECT ? + (epoch_ms(time) - ?) // ? * ? AS bucket, {aggregates}"  # noqa: S608
                f' FROM "{source.stream}" WHERE {where} GROUP BY bucket ORDER BY bucket',
                [start_utc_ms, start_utc_ms, bucket_ms, bucket_ms, *parameters],
            )
        turned = list(zip(*rows, strict=True)) or [()] * (len(names) + 1)
        return Series(list(turned[0]), {name: list(turned[i]) for i, name in enumerate(names, start=1)})

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

    def _query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        try:
            with closing(self._sink.cursor()) as cursor:
                return cursor.execute(sql, parameters).fetchall()
        except (duckdb.Error, GatewayError) as error:
            raise SinkBusyError(f"the database does not answer: {error}") from error

    def close(self) -> None:
        """End the thread."""
        self._worker.close()


def _where(source: Source, start_utc_ms: int, end_utc_ms: int) -> tuple[str, list[Any]]:
    conditions = ["time >= make_timestamp(?)", "time < make_timestamp(?)", "fleet = ?"]
    parameters: list[Any] = [start_utc_ms * 1000, end_utc_ms * 1000, source.fleet]
    for column, value in (("node", source.node), ("bay", source.bay), ("module", source.module)):
        if value is not None:
            conditions.append(f"{column} = ?")
            parameters.append(value)
    return " AND ".join(conditions), parameters
