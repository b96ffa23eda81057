"""The alarm book's questions in InfluxQL.

Rows of alarms have no room for the run that told them; the frames that they came in have (`frames`): a row belongs to
the frame of its node whose time it is in. Where several fit (two bays' alarms of one second), they are of one run.

Rows of alarms and starts may be kept for ever, frames and readings a month. Then an older row belongs to the start
before it, and what a node told of itself is asked of its hourly roll-up: only full hours of a run count there.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from swapline_gateway.fleet_record import RAISED_AGAIN_S, NodeKey
from swapline_gateway.influxql import InfluxqlClient, text
from swapline_gateway.sinks.line_protocol import FRAMES, tag_value
from swapline_wire.catalogue import ALARM_STREAM, BOOT, EVENT_STREAM, KEY, MODULE, NODE, SLOT

from .book import RAISED_AGAIN_MS, AlarmKey, AlarmRow, Boot
from .source import ANSWER_MS_MAX, FRAME_MS_MAX, LAST_UTC_MS, Span

HOUR_MS = 3_600_000
RUN_MS_MAX = 31 * 24 * HOUR_MS  # a longer one has no number here: its alarms are of the time before all that have
_VALUES = tuple(signal.name for signal in ALARM_STREAM.signals if signal.kind != KEY)


class _Frame(NamedTuple):
    first_utc_ms: int
    last_utc_ms: int
    journal: int
    boot: int
    seq: int


class InfluxqlAlarms:
    """See the module's header."""

    def __init__(self, client: InfluxqlClient) -> None:
        self._client = client

    def is_understood(self) -> bool:
        """See `AlarmSource.is_understood`."""
        return self._client.is_understood()

    def rows(self, span: Span, limit: int) -> list[AlarmRow]:
        """See `AlarmSource.rows`."""
        columns = ", ".join(f'"{name}"' for name in _VALUES)
        where = _where(span) + (f' AND "module" = {text(tag_value(span.module))}' if span.module is not None else "")
        groups = self._client.query(
            f"SELECT {columns} FROM {self._client.source(ALARM_STREAM.name)} WHERE {where}"  # noqa: S608 (our own names)
            f' GROUP BY "fleet", "node", "bay", "module", "code" ORDER BY time DESC LIMIT {limit}'
        )
        frames = self._frames(ALARM_STREAM.name, span)
        found = [row for group in groups for row in _alarm_rows(group, frames)]
        if self._client.has_lasting:
            found = self._with_runs(found, span)
        found.sort(key=lambda row: (-row.time_utc_ms, row.key))
        return found[:limit]

    def _frames(self, stream: str, span: Span) -> dict[NodeKey, list[_Frame]]:
        """Return the frames of a stream, in the order of their first rows."""
        wider = span._replace(start_utc_ms=max(0, span.start_utc_ms - FRAME_MS_MAX))
        frames: dict[NodeKey, list[_Frame]] = defaultdict(list)
        for group in self._client.query(
            f'SELECT "boot", "span_ms", "seq" FROM {self._client.source(FRAMES)}'  # noqa: S608
            f' WHERE {_where(wider)} AND "stream" = {text(stream)} GROUP BY "fleet", "node", "journal"'
        ):
            tags = group["tags"]
            of_node = frames[tags["fleet"], tags["node"]]
            journal = int(tags["journal"])
            of_node += [_Frame(ms, ms + length, journal, boot, seq) for ms, boot, length, seq in group["values"]]
        for of_node in frames.values():
            of_node.sort()
        return frames

    def _with_runs(self, rows: list[AlarmRow], span: Span) -> list[AlarmRow]:
        """Give rows whose frames are gone the run of the start before them, of the last `RUN_MS_MAX`."""
        old = [row.time_utc_ms for row in rows if not row.boot]
        if not old:
            return rows
        around = span._replace(start_utc_ms=max(0, min(old) - RUN_MS_MAX), end_utc_ms=max(old) + 1)
        starts = {
            (group["tags"]["fleet"], group["tags"]["node"]): [(ms, boot or 0) for ms, boot in group["values"]]
            for group in self._client.query(_boots(self._client, around))
        }
        return [row if row.boot else row._replace(boot=_start_before(starts, row)) for row in rows]

    def boots(self, span: Span, nodes: Collection[NodeKey] | None = None) -> list[Boot]:
        """See `AlarmSource.boots`."""
        if nodes is not None and not nodes:
            return []
        groups = self._client.query(_boots(self._client, span))
        frames = self._frames(EVENT_STREAM.name, span)
        found: list[Boot] = []
        for group in groups:
            node = group["tags"]["fleet"], group["tags"]["node"]
            if nodes is None or node in nodes:
                found += (
                    Boot(ms, *node, _find(frames.get(node, ()), ms, boot).journal, boot) for ms, boot in group["values"]
                )
        return sorted(found)

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        """See `AlarmSource.has_run`."""
        end = LAST_UTC_MS if end_utc_ms is None else end_utc_ms
        where = _where(Span(boot.time_utc_ms + RAISED_AGAIN_MS, end, boot.fleet, boot.node))
        questions = [
            f'SELECT "uptime_s" FROM {self._client.source(NODE.name)}'  # noqa: S608
            f' WHERE {where} AND "uptime_s" >= {RAISED_AGAIN_S} LIMIT 1'
        ]
        if self._client.has_lasting:
            where = _where(Span(_full_hour(boot.time_utc_ms), end - HOUR_MS, boot.fleet, boot.node))
            questions.append(
                f'SELECT "uptime_s_max" FROM {self._client.lasting(NODE.name)}'  # noqa: S608
                f' WHERE {where} AND "uptime_s_max" >= {RAISED_AGAIN_S} LIMIT 1'
            )
        return any(self._client.query(question) for question in questions)

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        """See `AlarmSource.answered`."""
        end_ms = after_utc_ms + ANSWER_MS_MAX
        found = self._first_of(key, Span(after_utc_ms + 1, end_ms, key.fleet, key.node), self._client.source, "")
        if found is None and self._client.has_lasting:
            hours = Span(_full_hour(after_utc_ms), end_ms, key.fleet, key.node)
            found = self._first_of(key, hours, self._client.lasting, "_last")
        return found

    def _first_of(self, key: AlarmKey, span: Span, named: Callable[[str], str], aggregate: str) -> int | None:
        """Return when a module first answered in a bay or its slot said "empty", of rows or of a roll-up of them."""
        where = _where(span) + f" AND \"bay\" = '{key.bay}'"
        answer = "voltage_v_count" if aggregate else "time_quality"
        occupied = f'"occupied{aggregate}"'
        times: list[int] = []
        for question in (
            f'SELECT first("{answer}") FROM {named(MODULE.name)} WHERE {where}',  # noqa: S608
            f"SELECT first({occupied}) FROM {named(SLOT.name)} WHERE {where} AND {occupied} = 0",  # noqa: S608
        ):
            times += [series["values"][0][0] for series in self._client.query(question)]
        return min(times, default=None)

    def close(self) -> None:
        """End the connections."""
        self._client.close()


def _boots(client: InfluxqlClient, span: Span) -> str:
    """Return the statement for nodes' starts."""
    return (
        f'SELECT "count" FROM {client.source(EVENT_STREAM.name)}'  # noqa: S608
        f' WHERE {_where(span)} AND "code" = \'{BOOT}\' GROUP BY "fleet", "node"'
    )


def _full_hour(utc_ms: int) -> int:
    return -(-utc_ms // HOUR_MS) * HOUR_MS


def _alarm_rows(group: dict[str, Any], frames: dict[NodeKey, list[_Frame]]) -> Iterable[AlarmRow]:
    tags = group["tags"]
    key = AlarmKey(tags["fleet"], tags["node"], int(tags["bay"] or 0), tags["module"], int(tags["code"]))
    of_node = frames.get((key.fleet, key.node), ())
    for time_ms, *values in group["values"]:
        frame = _find(of_node, time_ms)
        told = dict(zip(_VALUES, values, strict=True))
        yield AlarmRow(time_ms, key, frame.journal, frame.boot, told, frame.seq)


def _start_before(starts: Mapping[NodeKey, Sequence[tuple[int, int]]], row: AlarmRow) -> int:
    """Return the number of the last start of a row's node before it, 0 if none is known."""
    known = starts.get((row.key.fleet, row.key.node), ())
    place = bisect_right(known, row.time_utc_ms, key=lambda start: start[0])
    return known[place - 1][1] if place else 0


def _find(frames: Sequence[_Frame], time_ms: int, boot: int | None = None) -> _Frame:
    """Return the frame that a row is in; one of no run where it is not found (its point was refused, or dropped).

    An alarm seals its frame at once: where another one fits as well, that one is of the same moment.
    """
    for index in range(bisect_right(frames, (time_ms, LAST_UTC_MS, 0, 0, 0)) - 1, -1, -1):
        frame = frames[index]
        if frame.last_utc_ms >= time_ms and boot in (None, frame.boot):
            return frame
        if frame.first_utc_ms < time_ms - FRAME_MS_MAX:
            break
    return _Frame(time_ms, time_ms, 0, boot or 0, 0)


def _where(span: Span) -> str:
    conditions = [f"time >= {span.start_utc_ms}ms", f"time < {min(span.end_utc_ms, LAST_UTC_MS)}ms"]
    for tag, value in (("fleet", span.fleet), ("node", span.node)):
        if value is not None:
            conditions.append(f'"{tag}" = {text(value)}')
    return " AND ".join(conditions)
