"""The alarm book's questions to the DuckDB file, through cursors that somebody lends."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from swapline_gateway.duckdb_cursor import QUERY_S_MAX, OpenCursor, ask
from swapline_gateway.fleet_record import RAISED_AGAIN_S, NodeKey
from swapline_wire.catalogue import ALARM_STREAM, BOOT, KEY

from .book import RAISED_AGAIN_MS, AlarmKey, AlarmRow, Boot
from .source import ANSWER_MS_MAX, FRAME_MS_MAX, LAST_UTC_MS, Span

_VALUES = tuple(signal.name for signal in ALARM_STREAM.signals if signal.kind != KEY)
# The run is in the table of frames, which its min-max indexes narrow to that time.
_ROWS = f"""
SELECT epoch_ms(alarm.time), fleet, node, alarm.bay, alarm.module, code, journal, coalesce(boot, 0), seq,
    {", ".join(f'alarm."{name}"' for name in _VALUES)}
FROM alarm LEFT JOIN (
    SELECT fleet, node, journal, seq, boot FROM frames WHERE stream = 'alarm' AND first_time BETWEEN ? AND ?
) AS sealed USING (fleet, node, journal, seq)
WHERE alarm.time >= ? AND alarm.time < ? {{where}} ORDER BY alarm.time DESC, fleet, node, alarm.bay, code LIMIT ?
"""  # noqa: S608 (names of the catalogue)
_BOOTS = f"""
SELECT epoch_ms(time), fleet, node, journal, "count"::BIGINT FROM event
WHERE code = {BOOT} AND "count" IS NOT NULL AND time >= ? AND time < ? {{where}} ORDER BY time
"""  # noqa: S608
_HAS_RUN = f"""
SELECT 1 FROM node
WHERE time >= ? AND time < ? AND fleet = ? AND node = ? AND uptime_s >= {RAISED_AGAIN_S} LIMIT 1
"""  # noqa: S608
_ANSWERED = """
SELECT epoch_ms(min(time)) FROM (
    SELECT time, fleet, node, bay FROM module UNION ALL SELECT time, fleet, node, bay FROM slot WHERE occupied = 0
) WHERE time > ? AND time < ? AND fleet = ? AND node = ? AND bay = ?
"""


class DuckdbAlarms:
    """See the module's header."""

    def __init__(self, open_cursor: OpenCursor, *, query_s_max: float = QUERY_S_MAX) -> None:
        self._open_cursor = open_cursor
        self._query_s_max = query_s_max

    def is_understood(self) -> bool:
        """See `AlarmSource.is_understood`."""
        return True

    def rows(self, span: Span, limit: int) -> list[AlarmRow]:
        """See `AlarmSource.rows`."""
        start, end = span.start_utc_ms, min(span.end_utc_ms, LAST_UTC_MS)
        where, parameters = _where(span)
        times = [_time(max(0, start - FRAME_MS_MAX)), _time(end), _time(start), _time(end)]
        found = self._query(_ROWS.format(where=where), [*times, *parameters, limit])
        return [
            AlarmRow(
                row[0],
                AlarmKey(row[1], row[2], row[3] or 0, row[4] or "", row[5]),
                row[6],
                row[7],
                dict(zip(_VALUES, row[9:], strict=True)),
                row[8],
            )
            for row in found
        ]

    def boots(self, span: Span, nodes: Collection[NodeKey] | None = None) -> list[Boot]:
        """See `AlarmSource.boots`."""
        where, parameters = _where(span._replace(module=None))
        if nodes is not None:
            where += " AND fleet || '/' || node IN (SELECT unnest(?))"
            parameters.append(["/".join(node) for node in nodes])
        times = [_time(span.start_utc_ms), _time(min(span.end_utc_ms, LAST_UTC_MS))]
        return [Boot(*row) for row in self._query(_BOOTS.format(where=where), [*times, *parameters])]

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        """See `AlarmSource.has_run`."""
        start, end = boot.time_utc_ms + RAISED_AGAIN_MS, LAST_UTC_MS if end_utc_ms is None else end_utc_ms
        return bool(self._query(_HAS_RUN, [_time(start), _time(end), boot.fleet, boot.node]))

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        """See `AlarmSource.answered`."""
        span = [_time(after_utc_ms), _time(after_utc_ms + ANSWER_MS_MAX)]
        ((found,),) = self._query(_ANSWERED, [*span, key.fleet, key.node, key.bay])
        return None if found is None else int(found)

    def _query(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return ask(self._open_cursor, sql, parameters, self._query_s_max)


def _where(span: Span) -> tuple[str, list[Any]]:
    named = {"fleet": span.fleet, "node": span.node, "alarm.module": span.module}
    chosen = {name: value for name, value in named.items() if value is not None}
    return "".join(f" AND {name} = ?" for name in chosen), list(chosen.values())


def _time(utc_ms: int) -> datetime:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).replace(tzinfo=None)
