"""What is missing, asked from an InfluxDB in InfluxQL.

Two statements do: the numbers of a node's frames, and what it declared. The journal of an event is that of the frame in
which it came: the newest of the stream `event` that begins at or before it.
"""

from bisect import bisect_right
from typing import Any

from swapline_wire.catalogue import EVENT_STREAM, FRAMES_DROPPED, ROWS_DROPPED

from .influxql import InfluxqlClient, text
from .missing import Declared, Missing, Origin, Stored, find_missing
from .pipeline import LOSS_NAMES
from .sinks.line_protocol import FRAMES

NODES = 'SELECT count("seq") FROM {frames} GROUP BY "fleet", "node"'
NUMBERS = 'SELECT "seq", "boot", "span_ms" FROM {frames} WHERE {node} GROUP BY "journal", "stream"'
DECLARED = (
    'SELECT "reason", "first_seq", "last_seq", "count", "time_quality" FROM {event}'
    ' WHERE {node} AND time >= {first_ms}ms AND ("code" = {frames} OR "code" = {rows}) GROUP BY "code"'
)


def ask(client: InfluxqlClient, *, fleet: str | None, node: str | None) -> list[Missing]:
    """Return what is missing from the nodes that are asked for."""
    found: list[Missing] = []
    for group in client.query(NODES.format(frames=client.source(FRAMES))):
        tags = group["tags"]
        if fleet in (None, tags["fleet"]) and node in (None, tags["node"]):
            found += _Node(client, tags["fleet"], tags["node"]).missing()
    return found


class _Node:
    """One node's frames and declarations."""

    def __init__(self, client: InfluxqlClient, fleet: str, node: str) -> None:
        self._fleet = fleet
        self._node = node
        self._stored: dict[Origin, list[Stored]] = {}
        self._boots: dict[Origin, dict[int, int]] = {}  # boot -> time of its last row
        self._event_frames: list[tuple[int, Origin, int]] = []  # first time, whose, boot
        where = f'"fleet" = {text(fleet)} AND "node" = {text(node)}'
        for group in client.query(NUMBERS.format(frames=client.source(FRAMES), node=where)):
            self._add(Origin(fleet, node, int(group["tags"]["journal"])), group)
        self._event_frames.sort()
        self._declared = client.query(
            DECLARED.format(
                event=client.source(EVENT_STREAM.name),
                node=where,
                first_ms=min((row.first_utc_ms for rows in self._stored.values() for row in rows), default=0),
                frames=text(str(FRAMES_DROPPED)),
                rows=text(str(ROWS_DROPPED)),
            )
        )

    def _add(self, origin: Origin, group: dict[str, Any]) -> None:
        stored, boots = self._stored.setdefault(origin, []), self._boots.setdefault(origin, {})
        for time_ms, seq, boot, span_ms in group["values"]:
            last_ms = time_ms + (span_ms or 0)
            stored.append(Stored(seq, time_ms, last_ms))
            boots[boot] = max(last_ms, boots.get(boot, last_ms))
            if group["tags"]["stream"] == "event":
                self._event_frames.append((time_ms, origin, boot))

    def _frame_of(self, time_ms: int) -> tuple[Origin | None, int]:
        place = bisect_right(self._event_frames, time_ms, key=lambda frame: frame[0])
        return self._event_frames[place - 1][1:] if place else (None, 0)

    def missing(self) -> list[Missing]:
        declared: dict[Origin, list[Declared]] = {}
        rows: list[Missing] = []
        for group in self._declared:
            for time_ms, reason, first, last, count, _ in group["values"]:
                origin, boot = self._frame_of(time_ms)
                name = LOSS_NAMES.get(reason, "unknown")
                if int(group["tags"]["code"]) == ROWS_DROPPED:
                    rows.append(self._rows(origin, boot, count, name, time_ms))
                elif origin is not None and first is not None and last is not None:
                    declared.setdefault(origin, []).append(Declared(first, last, name))
        return find_missing(self._stored, declared) + rows

    def _rows(self, origin: Origin | None, boot: int, count: int | None, reason: str, time_ms: int) -> Missing:
        earlier = (
            {number: end for number, end in self._boots.get(origin, {}).items() if number < boot} if origin else {}
        )
        after_ms = earlier[max(earlier)] if earlier else None
        journal = origin.journal if origin else None
        return Missing(self._fleet, self._node, journal, None, None, 0, count, reason, after_ms, time_ms)
