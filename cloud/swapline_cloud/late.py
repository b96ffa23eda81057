"""Roll-ups of rows that came late: which hours of which nodes, and how they are made again; one way for all databases.

The database makes roll-ups of rows up to `LATE_S` late by itself. A gateway that stores rows later than that (half of
it, to be sure) leaves a mark in the measurement `late`, at the time of storing: which node, stream and hour. So what a
run has to read is what was stored since the last one, however many vans there are and however far back their rows lie;
and what it has to make again are hours of single nodes. How far it is stands in the database itself (`rollup_state`).

A roll-up is a function of raw rows: made twice it is the same, and whoever makes it last has seen most. So a run may be
killed anywhere (the next one begins where it began), and two may run at once. Rows are read once for all levels and
aggregated here: to ask a database for 120 aggregates a minute costs it thirty times as much as for the rows.

- A database that was away for more than `LATE_S` made no roll-ups of what came just before that: then the hours since
  the last run are made again for everybody, `GAP_MS_MAX` at most.
- InfluxDB 3.x makes no roll-ups at all: there each run makes those of everybody since the last run.
- Hours that begin to be too old for the policy `raw` are left as they are: some of their rows may be gone.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from swapline_gateway.error import SinkTooLargeError
from swapline_gateway.influxql import InfluxqlClient, identifier, text
from swapline_gateway.sinks.line_protocol import FRAMES, LATE, LATE_MS

from .config import DatabaseConfig
from .database.policy import find as find_policy
from .database.rows import asking, make_sink
from .rollup import COUNT, FOREVER, LATE_S, LEVELS, RAW, Rollup, rollups
from .rollup_maker import RollupMaker

HOUR_MS = 3_600_000
SINCE_MS = 2 * HOUR_MS  # for the first run
OVERLAP_MS = 300_000  # a mark is written some seconds after the minute it names, by a clock that may be wrong a little
GAP_MS_MAX = 24 * HOUR_MS
HOURS_AT_ONCE = 6  # a station's twenty modules with a row each ten seconds: 43,000 rows of 30 fields in one answer
BODY_BYTES_MAX = 4 << 20
STATE = "rollup_state"
_NS_PER_MS = 1_000_000
_BY_MEASUREMENT = {rollup.measurement: rollup for rollup in rollups()}
_MARK_TAGS = '"fleet", "node", "stream"'
Series = dict[str, Any]  # of an answer
Tags = frozenset[tuple[str, str]]


class Piece(NamedTuple):
    """Hours [start, end) of a node's rows of one measurement."""

    fleet: str
    node: str
    rollup: Rollup
    start_utc_ms: int
    end_utc_ms: int
    policy: str = RAW  # where the rows are

    @property
    def hour_count(self) -> int:
        """Return how many hours that are."""
        return (self.end_utc_ms - self.start_utc_ms) // HOUR_MS


@dataclass(slots=True)
class Work:
    """What a run found to do. `gone`: hours too old to be made again. `until_utc_ms`: how far all is done after it."""

    pieces: list[Piece]
    gone: int = 0
    until_utc_ms: int | None = None
    unhealed_ms: int = 0  # of a gap that was too long to make everything again by itself

    @property
    def node_count(self) -> int:
        """Return how many nodes it is about."""
        return len({(piece.fleet, piece.node) for piece in self.pieces})

    @property
    def hour_count(self) -> int:
        """Return how many hours of one node's one measurement."""
        return sum(piece.hour_count for piece in self.pieces)


@dataclass(slots=True)
class Done:
    """What a run did."""

    hours: int = 0
    points: int = 0
    values: int = 0
    took_s: float = 0.0


@dataclass(slots=True)
class _Hours:
    """Hours to make again, by measurement and node."""

    found: dict[tuple[str, str, str], set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, tags: dict[str, str], hours: Collection[int]) -> None:
        for measurement in (tags["stream"], FRAMES):
            if measurement in _BY_MEASUREMENT:
                self.found[tags["fleet"], tags["node"], measurement].update(hours)

    def pieces(self, oldest_ms: int) -> Work:
        """Return the hours as pieces, in the order of nodes."""
        work = Work([])
        for (fleet, node, measurement), hours in sorted(self.found.items()):
            kept = sorted(hour for hour in hours if hour >= oldest_ms)
            work.gone += len(hours) - len(kept)
            rollup = _BY_MEASUREMENT[measurement]
            work.pieces += [Piece(fleet, node, rollup, start, end) for start, end in _ranges(kept)]
        return work


def _ranges(hours: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of hours that follow each other, `HOURS_AT_ONCE` at most."""
    start = end = 0
    for hour in hours:
        if hour != end or end - start >= HOURS_AT_ONCE * HOUR_MS:
            if end:
                yield start, end
            start = hour
        end = hour + HOUR_MS
    if end:
        yield start, end


class LateRows:
    """See the module's header. Calls raise `SinkBusyError` while the database does not answer."""

    def __init__(
        self, config: DatabaseConfig, *, now_utc_ms: Callable[[], int] = lambda: time.time_ns() // _NS_PER_MS
    ) -> None:
        self._makes_all = config.version == 3
        self._now_utc_ms = now_utc_ms
        self._sink, self._targets = make_sink(config)
        self._client = InfluxqlClient(asking(config))

    def find(self, since_utc_ms: int | None = None) -> Work:
        """Return what is to be done for rows stored since then; None: since the last run."""
        now_ms = self._now_utc_ms()
        last_ms = self._last_utc_ms()
        from_ms = since_utc_ms if since_utc_ms is not None else last_ms if last_ms is not None else now_ms - SINCE_MS
        hours = _Hours()
        for series in self._client.query(
            f'SELECT "hour_utc_ms" FROM {self._client.named(LATE, RAW)}'  # noqa: S608 (our own names)
            f" WHERE time >= {from_ms - OVERLAP_MS}ms GROUP BY {_MARK_TAGS}"
        ):
            hours.add(series["tags"], {row[1] for row in series["values"]})
        unhealed_ms = 0
        is_gap = last_ms is not None and now_ms - last_ms > LATE_S * 1000
        if self._makes_all or is_gap:
            begin_ms = from_ms - max(LATE_MS, 0 if self._makes_all else LATE_S * 1000)
            unhealed_ms = max(0, now_ms - GAP_MS_MAX - begin_ms)
            self._add_all(hours, begin_ms + unhealed_ms, now_ms)
        work = hours.pieces(oldest_utc_ms(RAW, now_ms))
        work.unhealed_ms = unhealed_ms
        if last_ms is None or from_ms <= last_ms:
            work.until_utc_ms = now_ms
        return work

    def find_all(self, start_utc_ms: int, end_utc_ms: int) -> Work:
        """Return what is to be done to make all roll-ups of hours that reach into [start, end) again."""
        hours = _Hours()
        self._add_all(hours, start_utc_ms, end_utc_ms)
        return hours.pieces(oldest_utc_ms(RAW, self._now_utc_ms()))

    def _add_all(self, hours: _Hours, start_utc_ms: int, end_utc_ms: int) -> None:
        """Add the hours that nodes have frames of: a point is at its frame's begin, and no frame is an hour long."""
        start_ms = start_utc_ms // HOUR_MS * HOUR_MS
        for series in self._client.query(
            f'SELECT count("seq") FROM {self._client.named(FRAMES, RAW)}'  # noqa: S608
            f" WHERE time >= {start_ms - HOUR_MS}ms AND time < {end_utc_ms}ms"
            f" GROUP BY time(1h), {_MARK_TAGS} fill(none)"
        ):
            begun = {row[0] for row in series["values"]}
            after = {hour + HOUR_MS for hour in begun}
            hours.add(series["tags"], {hour for hour in begun | after if start_ms <= hour < end_utc_ms})

    def find_rows(self, policy: str, rollup: Rollup, start_utc_ms: int, end_utc_ms: int) -> list[Piece]:
        """Return the hours between two full hours of which a policy holds rows of a measurement, as pieces."""
        hours: dict[tuple[str, str], list[int]] = {}
        for series in self._client.query(
            f"SELECT count({identifier(rollup.marker)}) FROM {self._client.named(rollup.measurement, policy)}"  # noqa: S608
            f" WHERE time >= {start_utc_ms}ms AND time < {end_utc_ms}ms"
            ' GROUP BY time(1h), "fleet", "node" fill(none)'
        ):
            hours[series["tags"]["fleet"], series["tags"]["node"]] = [row[0] for row in series["values"]]
        return [
            Piece(fleet, node, rollup, start, end, policy)
            for (fleet, node), found in sorted(hours.items())
            for start, end in _ranges(found)
        ]

    def roll(self, piece: Piece, done: Done, *, only_missing: bool = False) -> None:
        """Make the roll-ups of a piece, minutes first, as far as their policies keep them.

        With `only_missing` an hour of a series that has its point stays as it is, and so do its minutes.
        """
        begun_s = time.monotonic()
        maker = RollupMaker(piece.rollup)
        found = self._rows(piece, piece.policy, maker.fields)
        if only_missing:
            found = _without(found, self._hours_there(piece))
        for level in LEVELS:
            oldest_ms = oldest_utc_ms(level.policy, self._now_utc_ms())
            lines = [line for series in found for line in maker.lines(_since(series, oldest_ms), level)]
            self._write(level.policy, lines)
            done.points += len(lines)
        done.values += maker.value_count
        done.hours += piece.hour_count
        done.took_s += time.monotonic() - begun_s

    def _hours_there(self, piece: Piece) -> set[tuple[Tags, int]]:
        counts = [column.name for column in piece.rollup.columns if column.aggregate == COUNT]
        found = self._rows(piece, FOREVER, counts)
        return {(_tags(series), row[0]) for series in found for row in series["values"]}

    def _rows(self, piece: Piece, policy: str, fields: Sequence[str]) -> list[Series]:
        """Read fields of a piece's measurement in a policy."""
        return self._client.query(
            f"SELECT {', '.join(map(identifier, fields))} FROM {self._client.named(piece.rollup.measurement, policy)}"  # noqa: S608
            f" WHERE time >= {piece.start_utc_ms}ms AND time < {piece.end_utc_ms}ms"
            f' AND "fleet" = {text(piece.fleet)} AND "node" = {text(piece.node)} GROUP BY *'
        )

    def note(self, work: Work) -> None:
        """Write down up to when rows that came late are in the roll-ups: everything of `work` is done."""
        if work.until_utc_ms is not None:
            self._write(FOREVER, [f"{STATE},job={LATE} until_utc_ms={work.until_utc_ms}i 0"])

    def _last_utc_ms(self) -> int | None:
        found = self._client.query(
            f'SELECT "until_utc_ms" FROM {self._client.named(STATE, FOREVER)}'  # noqa: S608
            f" WHERE \"job\" = '{LATE}' AND time >= 0"
        )
        return int(found[0]["values"][0][1]) if found else None

    def _write(self, policy: str, lines: Sequence[str]) -> None:
        part: list[str] = []
        size = 0
        for line in lines:
            if part and size + len(line) > BODY_BYTES_MAX:
                self._send(policy, part)
                part, size = [], 0
            part.append(line)
            size += len(line) + 1
        if part:
            self._send(policy, part)

    def _send(self, policy: str, lines: Sequence[str]) -> None:
        try:
            self._sink.send("\n".join(lines).encode(), self._targets[policy])
        except SinkTooLargeError:
            if len(lines) == 1:
                raise
            self._send(policy, lines[: len(lines) // 2])
            self._send(policy, lines[len(lines) // 2 :])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._sink.close()


def oldest_utc_ms(policy: str, now_ms: int) -> int:
    """Return the first hour of which a policy keeps all rows."""
    days = find_policy(policy).days
    return 0 if days is None else (now_ms - days * 24 * HOUR_MS) // HOUR_MS * HOUR_MS + HOUR_MS


def _tags(series: Series) -> Tags:
    return frozenset((name, value) for name, value in series["tags"].items() if value)


def _without(found: Sequence[Series], there: Collection[tuple[Tags, int]]) -> list[Series]:
    """Return series without the rows of hours that are there."""
    return [
        {
            **series,
            "values": [row for row in series["values"] if (_tags(series), row[0] // HOUR_MS * HOUR_MS) not in there],
        }
        for series in found
    ]


def _since(series: Series, oldest_ms: int) -> Series:
    """Return a series without the rows before a time; its rows ascend."""
    if not series["values"] or series["values"][0][0] >= oldest_ms:
        return series
    return {**series, "values": [row for row in series["values"] if row[0] >= oldest_ms]}
