"""The alarm book: rows that say raised, escalated, cleared become alarms. A pure function of stored rows.

A node tells each change once, and forgets what stood when it is started again: what still stands then it raises again.
So rows are taken run by run (a run is one boot of one journal, which no wrong clock can disturb), those of a run in the
order in which their frames were sealed, as far as that is known: a clock may be set back meanwhile. An alarm that stood
at a run's end

- goes on where the next run raises it within `RAISED_AGAIN_S` of its start: it is the same one, told again;
- ended with the restart where that run lasted longer and did not raise it. Its end is the time of the start, for the
  node has known nothing of it since;
- stands where nobody knows: the node has not been back for that long.

`module lost` is the exception, for a node that starts does not know who was there: it ends when a module answers in
that bay, or its slot says "empty".

Rows may be missing: dropped by a full journal (which `swapline missing` names), or still on their way. A second
"raised" of one run means that the "cleared" between them is missing: the first alarm ends there. A "cleared" alone is
the end of something that is not known. When the missing rows come, the book is another one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from swapline_gateway.alarm_meaning import meaning, sentence
from swapline_gateway.battery.record import Acknowledgement
from swapline_gateway.fleet_record import RAISED_AGAIN_S, NodeKey, Value
from swapline_wire.catalogue import MODULE_LOST

# How an alarm ended.
BY_NODE = "cleared"  # its node said so
BY_RESTART = "restart"  # its node was started again, and did not raise it any more
BY_ANSWER = "answered"  # module lost: one answered there, or the slot is empty
BY_NEXT = "unknown"  # it was raised again without having been cleared: that row is missing

RAISED_AGAIN_MS = RAISED_AGAIN_S * 1000
Run = tuple[int, int]  # journal, boot


class AlarmKey(NamedTuple):
    """What an alarm is about. At any time one of them stands at most."""

    fleet: str
    node: str
    bay: int
    module: str
    code: int


class AlarmRow(NamedTuple):
    """A row of the stream `alarm`; `values` are its other signals, as the catalogue names them."""

    time_utc_ms: int
    key: AlarmKey
    journal: int
    boot: int
    values: Mapping[str, Value]
    seq: int = 0  # of its frame; 0 where that is not known

    @property
    def level(self) -> int:
        """Return the level; 0 says "cleared"."""
        return int(self.values.get("level") or 0)

    @property
    def identity(self) -> tuple[AlarmKey, int]:
        """Return what tells this row from every other, however often and on which way it comes."""
        return self.key, self.time_utc_ms


class Boot(NamedTuple):
    """A node's start, as its BOOT event tells it."""

    time_utc_ms: int
    fleet: str
    node: str
    journal: int
    boot: int


class Witness(Protocol):
    """Knows what the rows of alarms do not say. What is not known is None or False: then an alarm stands."""

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        """Say whether the node told of more than `RAISED_AGAIN_S` of this run; the next one began at `end_utc_ms`."""

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        """Return when, after that, a module answered in this bay or its slot said "empty"."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm from raised to cleared. `row` is the one that told its highest level."""

    key: AlarmKey
    raised_utc_ms: int
    level: int  # now; 0 when it is over
    level_max: int
    row: AlarmRow
    cleared_utc_ms: int | None = None
    ending: str | None = None
    told_count: int = 1  # how often it was raised: more than once after restarts of its node
    acknowledgement: Acknowledgement | None = None

    @property
    def is_standing(self) -> bool:
        """Say whether it has not ended, as far as is known."""
        return self.cleared_utc_ms is None

    def covers(self, time_utc_ms: int) -> bool:
        """Say whether it stood then; its last moment belongs to whatever comes next."""
        end = self.cleared_utc_ms
        return self.raised_utc_ms <= time_utc_ms and (end is None or time_utc_ms < max(end, self.raised_utc_ms + 1))

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data: numbers and words of the row that told the highest level."""
        keys = {"code": self.key.code}
        told = meaning(keys, self.row.values)
        return {
            **self.key._asdict(),
            "name": told["alarm"],
            "level": self.level,
            "level_max": self.level_max,
            "raised_utc_ms": self.raised_utc_ms,
            "cleared_utc_ms": self.cleared_utc_ms,
            "ending": self.ending,
            "signal": told["signal"],
            "value": told["value"],
            "unit": told["unit"],
            "threshold": told["threshold"],
            "position": self.row.values.get("position"),
            "text": sentence(keys, self.row.values),
            "told_count": self.told_count,
            "acknowledgement": None if self.acknowledgement is None else self.acknowledgement.as_json(),
        }


def join(rows: Iterable[AlarmRow], boots: Iterable[Boot], witness: Witness) -> list[Alarm]:
    """Return the alarms that these rows tell of, in the order in which they were raised."""
    by_node: dict[NodeKey, dict[AlarmKey, dict[tuple[object, ...], AlarmRow]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        by_node[row.key.fleet, row.key.node][row.key][row.identity] = row
    starts: dict[NodeKey, list[Boot]] = defaultdict(list)
    for boot in boots:
        starts[boot.fleet, boot.node].append(boot)
    found: list[Alarm] = []
    for node, by_key in by_node.items():
        runs = _runs((row for of_key in by_key.values() for row in of_key.values()), starts[node])
        for key, of_key in by_key.items():
            found += _Joiner(key, runs, witness).join(of_key.values())
    return sorted(found, key=lambda alarm: (alarm.raised_utc_ms, alarm.key))


def acknowledge(alarms: Iterable[Alarm], said: Iterable[Acknowledgement]) -> list[Alarm]:
    """Return the alarms, each with what was said of it: of the alarm that stood then, never of a later one."""
    by_place: dict[tuple[str, str, int, int], list[Acknowledgement]] = defaultdict(list)
    for one in said:
        by_place[one.fleet, one.node, one.bay, one.code].append(one)
    return [replace(alarm, acknowledgement=_said_of(alarm, by_place)) for alarm in alarms]


def _said_of(
    alarm: Alarm, by_place: Mapping[tuple[str, str, int, int], Sequence[Acknowledgement]]
) -> Acknowledgement | None:
    key = alarm.key
    of_it = [
        one
        for one in by_place.get((key.fleet, key.node, key.bay, key.code), ())
        if one.module == key.module and alarm.covers(one.raised_utc_ms)
    ]
    return min(of_it, key=lambda one: (one.time_utc_ms, one.by), default=None)  # who was first; the rest came twice


def _runs(rows: Iterable[AlarmRow], boots: Iterable[Boot]) -> "dict[Run, Boot | None]":
    """Return a node's runs in their order. Boots of one journal are numbered; journals follow each other in time."""
    known: dict[Run, Boot | None] = {}
    began: dict[int, int] = {}
    for boot in boots:
        known[boot.journal, boot.boot] = boot
        began[boot.journal] = min(began.get(boot.journal, boot.time_utc_ms), boot.time_utc_ms)
    for row in rows:
        known.setdefault((row.journal, row.boot), None)
        began[row.journal] = min(began.get(row.journal, row.time_utc_ms), row.time_utc_ms)
    return {run: known[run] for run in sorted(known, key=lambda run: (began[run[0]], run))}


def _in_order(of_run: Sequence[AlarmRow]) -> list[AlarmRow]:
    """Return the rows of one run as they were told: frame by frame, else by their times."""
    is_known = all(row.seq for row in of_run)
    return sorted(of_run, key=lambda row: (row.seq if is_known else 0, row.time_utc_ms))


@dataclass(slots=True)
class _Joiner:
    """Goes through one key's rows."""

    key: AlarmKey
    runs: "dict[Run, Boot | None]"
    witness: Witness
    found: list[Alarm] = field(default_factory=list)
    open: Alarm | None = None

    def join(self, rows: Iterable[AlarmRow]) -> list[Alarm]:
        """Return the alarms of these rows."""
        by_run: dict[Run, list[AlarmRow]] = defaultdict(list)
        for row in rows:
            by_run[row.journal, row.boot].append(row)
        runs = list(self.runs.items())
        for index, (run, boot) in enumerate(runs):
            of_run = _in_order(by_run.get(run, ()))
            following = None
            if self.open is not None:
                following = next((later for _, later in runs[index + 1 :] if later is not None), None)
            again = self._begin_run(of_run, boot, following)
            for row in of_run:
                if row is not again:
                    self._take(row)
        if self.open is not None:
            self.found.append(self.open)
        return self.found

    def _begin_run(self, of_run: Sequence[AlarmRow], boot: Boot | None, following: Boot | None) -> AlarmRow | None:
        """Decide what became of an alarm that stood when the run before ended; return the row that says it goes on."""
        if self.open is None:
            return None
        again = next((row for row in of_run if row.level), None)
        if self.key.code == MODULE_LOST:
            since = self.open.raised_utc_ms if boot is None else boot.time_utc_ms
            ended = self.witness.answered(self.key, since)
            if ended is not None and (again is None or ended < again.time_utc_ms):
                self._close(ended, BY_ANSWER)
                return None
        elif boot is not None and self._is_over(boot, again, following):
            self._close(boot.time_utc_ms, BY_RESTART)
            return None
        if again is not None:
            self.open = replace(self.open, level=0, told_count=self.open.told_count + 1)
            self._raise_to(again)
        return again

    def _is_over(self, boot: Boot, again: AlarmRow | None, following: Boot | None) -> bool:
        if again is not None:
            return again.time_utc_ms - boot.time_utc_ms > RAISED_AGAIN_MS
        return self.witness.has_run(boot, None if following is None else following.time_utc_ms)

    def _take(self, row: AlarmRow) -> None:
        if self.open is None:
            if row.level:
                self.open = Alarm(self.key, row.time_utc_ms, row.level, row.level, row)
        elif not row.level:
            self._close(row.time_utc_ms, BY_NODE)
        elif row.level > self.open.level:
            self._raise_to(row)
        else:
            self._close(row.time_utc_ms, BY_NEXT)
            self.open = Alarm(self.key, row.time_utc_ms, row.level, row.level, row)

    def _raise_to(self, row: AlarmRow) -> None:
        assert self.open is not None
        is_highest = row.level > self.open.level_max
        level_max, told = (row.level, row) if is_highest else (self.open.level_max, self.open.row)
        self.open = replace(self.open, level=row.level, level_max=level_max, row=told)

    def _close(self, time_utc_ms: int, ending: str) -> None:
        assert self.open is not None
        end = max(time_utc_ms, self.open.raised_utc_ms)  # a clock that was set back ends nothing before it began
        self.found.append(replace(self.open, level=0, cleared_utc_ms=end, ending=ending))
        self.open = None
