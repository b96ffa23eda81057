"""A real InfluxDB 1.x, set up and filled as in life: what boards and alerts are tried on.

Frames of the demo's past and of a fleet's last hours (`fleet_life.py`) go the gateway's way: decoded, written by its
sink, the battery's books derived from them. Roll-ups are made by what continuous queries select. Beside the gateway
nothing is written but what no frame says: its own figures and outlooks (`figures.py`), and what a test plants.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

from swapline_bench import services
from swapline_bench.past import Past, PastPlan
from swapline_bench.world import World
from swapline_cloud.config import CloudConfig
from swapline_cloud.database.access import make_part
from swapline_cloud.database.continuous import selection
from swapline_cloud.rollup import DATABASE, FOREVER, LEVELS, MINUTE, RAW, Level, Rollup, rollups
from swapline_gateway.alarm.source import Span
from swapline_gateway.alarm.source_influxql import InfluxqlAlarms
from swapline_gateway.alarm.standing import changes, row_of
from swapline_gateway.alarm.watch import read_alarms
from swapline_gateway.battery.concern import Concerns
from swapline_gateway.battery.derivation import Derivation
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.battery.table import Row
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient, identifier
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import SpooledFrame
from swapline_gateway.vitals.point import Point, format_points
from swapline_wire.catalogue import TIME_NTP
from tests.cloud.figures import gateway_points, outlook_points
from tests.cloud.fleet_life import ARRIVAL_MS, FleetLife, Sent

FLEET = "demo"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
LINES_MAX = 2000  # InfluxDB takes 25 MB in one request
# What one statement rolls up: InfluxDB answers when all of it is written.
ROLLED_MS = {MINUTE: 3 * HOUR_MS, FOREVER: 2 * DAY_MS}
DERIVED_AT_ONCE = 64  # hours of modules, as the keeper takes them
BACKFILL_NODE, BACKFILL_MS = "van-002", DAY_MS  # the past's last day of this van came late


class Size(NamedTuple):
    """How much is lived: days of the past (modules alone), then hours of everything."""

    days: int = 1
    hours: float = 6.5
    vans: int = 3
    slots: int = 4
    seed: int = 1


class Filled:
    """The database, what is in it, and what may be done to it. `now_utc_ms` is where its history ends."""

    def __init__(self, url: str, now_utc_ms: int) -> None:
        self.url = url
        self.now_utc_ms = now_utc_ms
        self.config = Influxdb1Config(type="influxdb1", url=url, database=DATABASE, forever=FOREVER, timeout_s=60)
        self._client = InfluxqlClient(self.config)
        self._sink = Influxdb1Sink(self.config)
        self._store = InfluxqlStore(self.config)

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Return the series of an answer. Raises `SinkBusyError` with InfluxDB's words."""
        return self._client.query(statement)

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows of the battery's books."""
        self._store.put(rows)

    def put_points(self, points: Iterable[Point]) -> None:
        """Write points that the gateway writes about itself."""
        self._sink.send(format_points(list(points)))

    def put_lines(self, lines: Iterable[str], policy: str = RAW) -> None:
        """Write line protocol, times in nanoseconds."""
        for part in batched(lines, LINES_MAX):
            self._sink.send("\n".join(part).encode(), policy)

    def write(self, frames: list[FrameRows], stored_utc_ms: int) -> None:
        """Write frames as the pump does, as if it were that time."""
        with patch("swapline_gateway.sinks.influx_points.now_utc_ms", lambda: stored_utc_ms):
            written = self._sink.write(frames)
        assert not written.refused, written.refused[:3]

    def derive(self, frames: Iterable[FrameRows]) -> None:
        """Derive the battery's books where these frames make them due."""
        derivation = Derivation(self._store)
        due = sorted({(one.module, one.hour_utc_ms) for one in Concerns().of(frames)})
        custody: dict[str, int] = {}
        for first in range(0, len(due), DERIVED_AT_ONCE):
            derived = derivation.only_hours(due[first : first + DERIVED_AT_ONCE])
            assert not derived.failed, derived.failed
            for module, since_utc_ms in derived.custody_since.items():
                custody[module] = min(since_utc_ms, custody.get(module, since_utc_ms))
        derived = derivation.custody(sorted(custody), min(custody.values()))
        assert not derived.failed, derived.failed
        derivation.figures(derivation.modules())
        derivation.sweep()

    def tell_standing(self) -> None:
        """Tell which alarms stand, as a gateway that has just been started."""
        standing = [alarm for alarm in read_alarms(InfluxqlAlarms(self._client), Span(0)) if alarm.is_standing]
        told = changes({}, standing, since_utc_ms=0, now_utc_ms=self.now_utc_ms)
        self.put(row_of(tags, one) for tags, one in told.items())

    def roll_up(self, since_utc_ms: Mapping[str, int]) -> None:
        """Make the roll-ups of everything since then, by policy."""
        for level in LEVELS:
            begin_ms = since_utc_ms[level.policy] // HOUR_MS * HOUR_MS
            for part_ms in range(begin_ms, self.now_utc_ms, ROLLED_MS[level.policy]):
                for rollup in rollups():
                    self.query(_into(rollup, level, part_ms, part_ms + ROLLED_MS[level.policy]))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._sink.close()
        self._store.close()


def batched(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of so many lines at most."""
    rest = iter(lines)
    while part := list(islice(rest, size)):
        yield part


def _into(rollup: Rollup, level: Level, begin_utc_ms: int, end_utc_ms: int) -> str:
    measurement, database = identifier(rollup.measurement), identifier(DATABASE)
    return (
        f"SELECT {selection(rollup)} INTO {database}.{identifier(level.policy)}.{measurement}"  # noqa: S608
        f" FROM {database}.{identifier(RAW)}.{measurement}"
        f" WHERE time >= {begin_utc_ms}ms AND time < {end_utc_ms}ms GROUP BY time({level.interval}), * fill(none)"
    )


def _set_up(url: str, secrets: Path) -> None:
    """Set the server up as `swapline cloud apply` does."""
    database = {"version": 1, "url": url, "username": "admin", "password": "first"}
    part = make_part(CloudConfig.model_validate({"database": database, "secrets": secrets}))
    with contextlib.closing(part):
        for change in part.changes():
            change.do()


def _past(size: Size, end_utc_ms: int) -> Iterator[Sent]:
    """Yield the past's frames with the time at which they arrived."""
    plan = PastPlan(FLEET, size.vans, 1, size.slots, size.seed, size.days, end_utc_ms)
    past = Past(plan)
    lives = [Past(plan).live(number) for number in range(len(past.places))]
    anchor_utc_ms = end_utc_ms - round(past.schedule.end_s * 1000)
    for sealed in past.frames(lives):
        at_utc_ms = anchor_utc_ms + sealed.time_ms + ARRIVAL_MS
        is_late = sealed.node == BACKFILL_NODE and at_utc_ms > end_utc_ms - BACKFILL_MS
        yield Sent(sealed.node, sealed.data, anchor_utc_ms, end_utc_ms if is_late else at_utc_ms)


def _decode(sent: Iterable[Sent]) -> list[FrameRows]:
    return [
        read_rows(SpooledFrame(0, FLEET, one.node, one.anchor_utc_ms, TIME_NTP, one.stored_utc_ms, one.data))
        for one in sent
    ]


@contextlib.contextmanager
def filled(size: Size = Size()) -> Iterator[Filled]:  # noqa: B008 (immutable)
    """Start a server, fill it and stop it at the end."""
    with services.influxd() as server, TemporaryDirectory() as secrets:
        _set_up(server.url, Path(secrets))
        now_utc_ms = time.time_ns() // 1_000_000
        with contextlib.closing(Filled(server.url, now_utc_ms)) as database:
            fill(database, size)
            yield database


def fill(database: Filled, size: Size) -> None:
    """Let a fleet live up to now, and everything of it be stored, derived and rolled up."""
    world = World(van_count=size.vans, station_count=1, slot_count=size.slots, seed=size.seed, speed=1.0)
    life = FleetLife(world, hours=size.hours, end_utc_ms=database.now_utc_ms)
    frames: list[FrameRows] = []
    past = sorted(_past(size, life.begin_utc_ms), key=lambda one: one.stored_utc_ms)
    for sent in (past, life.frames()):
        for stored_utc_ms, group in groupby(sent, key=lambda one: one.stored_utc_ms):
            batch = _decode(group)
            database.write(batch, stored_utc_ms)
            frames += batch
    database.derive(frames)
    database.tell_standing()
    database.put_points(gateway_points(life.begin_utc_ms, database.now_utc_ms))
    database.put_points(outlook_points(FLEET, life))
    # Minutes of the past would take the server a minute, and nothing asks for them that does not ask for these.
    database.roll_up({MINUTE: life.begin_utc_ms, FOREVER: min(frame.columns[0][0] for frame in frames)})
