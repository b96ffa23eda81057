"""What a running gateway remembers of alarms: rows, starts of nodes, acknowledgements. Bounded, and counted.

The database has all of it; this is what is asked every second. Rows come on four ways, in any order and more than
once: from this gateway's own intake, from the other replicas' `alarm` messages, from the retained states at the start,
and from the database. All calls belong to the event loop's thread.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from swapline_gateway.battery.record import Acknowledgement
from swapline_gateway.fleet_record import NodeKey, Reading
from swapline_gateway.ingest import Item
from swapline_gateway.state import scale_row
from swapline_wire import catalogue

from .book import Alarm, AlarmKey, AlarmRow, Boot, acknowledge
from .source import LAST_UTC_MS

KEPT_MS = 30 * 86_400_000  # what a page shows without asking the database
ROWS_MAX = 50_000  # some 60 MB; 500 vans with three rows a day each make as many in a month
_TRIMMED_SHARE = 0.9
_VALUES = frozenset(signal.name for signal in catalogue.ALARM_STREAM.signals if signal.kind != catalogue.KEY)


class Shelf:
    """See the module's header. `since_utc_ms`: everything later is here, as far as it is known at all."""

    def __init__(self, *, rows_max: int = ROWS_MAX) -> None:
        self.alarms: dict[NodeKey, list[Alarm]] = {}
        self.dirty: set[NodeKey] = set()  # nodes whose alarms have to be derived again
        self.since_utc_ms = 0
        self.forgotten = 0  # rows that were pushed out
        self._rows: defaultdict[NodeKey, dict[tuple[Any, ...], AlarmRow]] = defaultdict(dict)
        self._boots: defaultdict[NodeKey, dict[tuple[int, int], Boot]] = defaultdict(dict)
        self._said: defaultdict[NodeKey, dict[tuple[int, int, int], Acknowledgement]] = defaultdict(dict)
        self._rows_max = rows_max
        self._row_count = 0

    def put_rows(self, rows: Iterable[AlarmRow]) -> None:
        """Take rows; those that are known change nothing."""
        for row in rows:
            node = (row.key.fleet, row.key.node)
            known = self._rows[node].get(row.identity)
            # A database may not know the run of a row, nor its frame.
            if known is None or (bool(row.journal), bool(row.seq)) > (bool(known.journal), bool(known.seq)):
                self._rows[node][row.identity] = row
                self._row_count += known is None
                self.dirty.add(node)
        if self._row_count > self._rows_max:
            self._trim()

    def put_boots(self, boots: Iterable[Boot]) -> None:
        """Take starts of nodes that have alarms; the others' say nothing."""
        for boot in boots:
            node = (boot.fleet, boot.node)
            known = self._boots[node]
            if known.get((boot.journal, boot.boot)) != boot:
                known[boot.journal, boot.boot] = boot
                if node in self._rows:
                    self.dirty.add(node)

    def put_said(self, said: Iterable[Acknowledgement]) -> None:
        """Take acknowledgements. Of one alarm the earliest counts, in whatever order they come."""
        for one in said:
            node, key = (one.fleet, one.node), (one.bay, one.code, one.raised_utc_ms)
            known = self._said[node].get(key)
            if known is None or (one.time_utc_ms, one.by) < (known.time_utc_ms, known.by):
                self._said[node][key] = one
                self.dirty.add(node)

    def rows_of(self, node: NodeKey) -> list[AlarmRow]:
        """Return a node's rows."""
        return list(self._rows[node].values())

    def boots_of(self, node: NodeKey) -> list[Boot]:
        """Return a node's starts."""
        return list(self._boots[node].values())

    def settle(self, node: NodeKey, alarms: Iterable[Alarm]) -> bool:
        """Take over what was derived of a node's rows; say whether anything is different now."""
        before = self.alarms.get(node, [])
        self.alarms[node] = acknowledge(alarms, self._said[node].values())
        return self.alarms[node] != before

    def said_of(self, alarms: Iterable[Alarm]) -> list[Alarm]:
        """Return alarms that are not kept here, with what was said of them."""
        return acknowledge(alarms, (one for of_node in self._said.values() for one in of_node.values()))

    def standing(self) -> list[Alarm]:
        """Return the alarms that stand."""
        return [alarm for of_node in self.alarms.values() for alarm in of_node if alarm.is_standing]

    def begin(self, since_utc_ms: int) -> None:
        """Note that everything later than this has been put here."""
        self.since_utc_ms = since_utc_ms

    def _trim(self) -> None:
        """Let go of the alarms that ended longest ago; the database has them."""
        ended = sorted(
            (alarm for of_node in self.alarms.values() for alarm in of_node if not alarm.is_standing),
            key=lambda alarm: alarm.cleared_utc_ms or 0,
        )
        for alarm in ended:
            if self._row_count <= self._rows_max * _TRIMMED_SHARE:
                return
            self._let_go(alarm)
        if self._row_count > self._rows_max:  # of what stands, or has never been derived
            rows = sorted((row for of in self._rows.values() for row in of.values()), key=lambda row: row.time_utc_ms)
            for row in rows[: round(self._row_count - self._rows_max * _TRIMMED_SHARE)]:
                self._drop((row.key.fleet, row.key.node), row)

    def _let_go(self, alarm: Alarm) -> None:
        node = (alarm.key.fleet, alarm.key.node)
        end = alarm.cleared_utc_ms or alarm.raised_utc_ms
        for row in self.rows_of(node):
            if row.key == alarm.key and row.time_utc_ms <= end:
                self._drop(node, row)
        self._said[node].pop((alarm.key.bay, alarm.key.code, alarm.raised_utc_ms), None)

    def _drop(self, node: NodeKey, row: AlarmRow) -> None:
        del self._rows[node][row.identity]
        self._row_count -= 1
        self.forgotten += 1
        self.since_utc_ms = max(self.since_utc_ms, row.time_utc_ms + 1)
        self.dirty.add(node)


def rows_of_item(item: Item) -> list[AlarmRow]:
    """Return the rows of a frame of alarms."""
    header, signals = item.decoded.header, item.decoded.signals
    place = next(index for index, signal in enumerate(signals) if signal.name == "code")
    return [
        AlarmRow(
            item.anchor_utc_ms + row[0],
            AlarmKey(item.sender.fleet, item.sender.node, header.bay, str(header.owner or ""), row[1 + place]),
            header.journal,
            header.boot,
            scale_row(signals, row[1:])[0],
            header.seq,
        )
        for row in item.decoded.rows
    ]


def boots_of_item(item: Item) -> list[Boot]:
    """Return the starts that a frame of events tells of."""
    header, signals = item.decoded.header, item.decoded.signals
    place = next(index for index, signal in enumerate(signals) if signal.name == "code")
    return [
        Boot(item.anchor_utc_ms + row[0], item.sender.fleet, item.sender.node, header.journal, header.boot)
        for row in item.decoded.rows
        if row[1 + place] == catalogue.BOOT
    ]


def row_of_reading(reading: Reading) -> AlarmRow:
    """Return a row of alarms that the broker had retained."""
    key = AlarmKey(reading.fleet, reading.node, reading.bay, reading.module, reading.keys["code"])
    return AlarmRow(reading.time_utc_ms, key, reading.journal, reading.boot, reading.values, reading.seq)


def row_of_message(fleet: str, node: str, content: Mapping[str, Any]) -> AlarmRow:
    """Return the row of an `alarm` message. Raises `ValueError`, `TypeError` or `KeyError` for what is none."""
    bay, module = content["bay"] or 0, content["module"] or ""
    seq = content.get("seq", 0)  # replicas of an older version do not tell it
    numbers = [bay, content["keys"]["code"], content["time_utc_ms"], content["journal"], content["boot"], seq]
    values = {name: value for name, value in content["values"].items() if name in _VALUES}
    numbers += [value for value in values.values() if value is not None]
    is_whole = all(type(number) is int and abs(number) < LAST_UTC_MS for number in numbers)
    if not is_whole or not isinstance(module, str) or min(numbers[:6]) < 0:
        raise ValueError("not an alarm message")
    key = AlarmKey(fleet, node, bay, module, content["keys"]["code"])
    return AlarmRow(content["time_utc_ms"], key, content["journal"], content["boot"], values, seq)
