"""The outlook of a running gateway: asked of the database once a minute, written back as points.

Any replica can do it, and all do: a point is known by its minute and its van, so they write the same one. A database
that is away costs the minutes until it is back and nothing else; one that takes rows but cannot be asked has none.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Any

from swapline_gateway.alarm.watch import LIMIT_MAX, AlarmWatch, Wanted
from swapline_gateway.config import OutlookConfig
from swapline_gateway.error import SinkBusyError, SinkError
from swapline_gateway.log import Novelty, get
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.vitals.point import LineSink, Point, format_points, make_point
from swapline_gateway.worker import Worker

from .consumption import Consumption
from .judge import Fields, judge_stations, judge_vans, place_stations
from .question import Questions
from .record import Blocked, NodeKey, Position
from .table import OUTLOOK, OUTLOOK_STATION

STATIONS_MS = 600_000  # stations do not move
BLOCKING_LEVEL = 2
REQUEST_POINTS_MAX = 5000


class Outlook:
    """See the module's header."""

    def __init__(
        self, config: OutlookConfig, *, questions: Questions, sink: LineSink, alarms: AlarmWatch | None = None
    ) -> None:
        self.time_utc_ms = 0  # of the last round
        self.vans: dict[NodeKey, Fields] = {}
        self.stations: dict[NodeKey, Fields] = {}
        self.problem = "the first round is not done yet"
        self.round_s = 0.0  # how long the last one took
        self.lost = 0  # points
        self._config = config
        self._questions = questions
        self._sink = sink
        self._alarms = alarms
        self._consumption = Consumption(questions, rated_kwh_per_km=config.rated_kwh_per_km)
        self._places: dict[NodeKey, Position] = {}
        self._places_ms = 0
        self._worker = Worker("outlook")
        self._novelty = Novelty()
        self._log = get("outlook")

    async def run(self) -> None:
        """Do a round in each interval until cancelled, replicas at different moments of it."""
        interval_s = self._config.interval_s
        while True:
            await self.do_round(now_utc_ms())
            await asyncio.sleep(interval_s - time.time() % interval_s + random.uniform(0, interval_s / 6))  # noqa: S311

    async def do_round(self, now_ms: int) -> None:
        """Ask, judge and write once."""
        begun_s = time.monotonic()
        try:
            blocked = await self._blocked()
            await self._worker.run(self._judge, now_ms, blocked)
            await self._worker.run(self._write)
            self.problem = ""
        except SinkBusyError as error:
            self.problem = str(error)
            if self._novelty.take("busy"):
                self._log.warning("no outlook", error=str(error))
        self.round_s = time.monotonic() - begun_s

    async def _blocked(self) -> Blocked:
        if self._alarms is None:
            return Blocked()
        standing = (await self._alarms.find(Wanted(is_standing_only=True, limit=LIMIT_MAX))).alarms
        keys = [alarm.key for alarm in standing if alarm.level >= BLOCKING_LEVEL]
        return Blocked(
            frozenset((key.fleet, key.node, key.bay) for key in keys if key.bay),
            frozenset(key.module for key in keys if key.module),
        )

    def _judge(self, now_ms: int, blocked: Blocked) -> None:
        config = self._config
        readings = self._questions.readings(now_ms)
        if now_ms - self._places_ms >= STATIONS_MS:
            self._places, self._places_ms = self._questions.stations(now_ms), now_ms
        self._refresh_consumption(now_ms)
        places = place_stations(config, readings, self._places)
        vans = judge_vans(config, readings, places, self._consumption.of, now_ms)
        stations = judge_stations(config, readings, places, blocked)
        self.vans, self.stations = vans, stations
        self.time_utc_ms = now_ms - now_ms % round(config.interval_s * 1000)

    def _refresh_consumption(self, now_ms: int) -> None:
        """Ask for what vans used. Where that takes the database too long, what is known of it has to do."""
        try:
            self._consumption.refresh(now_ms)
        except SinkBusyError as error:
            if self._novelty.take("consumption"):
                self._log.warning("consumption is not up to date", error=str(error))

    def points(self) -> list[Point]:
        """Return the last round's points."""
        return [
            make_point(table, self.time_utc_ms, *key, **fields)
            for table, found in ((OUTLOOK, self.vans), (OUTLOOK_STATION, self.stations))
            for key, fields in found.items()
        ]

    def _write(self) -> None:
        """Write points. What the database does not take is lost: the next minute's are as good."""
        points = self.points()
        for begin in range(0, len(points), REQUEST_POINTS_MAX):
            part = points[begin : begin + REQUEST_POINTS_MAX]
            try:
                self._sink.send(format_points(part))
            except SinkError as error:
                self.lost += len(part)
                if unsaid := self._novelty.take("lost", len(part)):
                    self._log.warning("points of the outlook are lost", points=unsaid, error=str(error))

    def as_json(self) -> dict[str, Any]:
        """Return the last round, for `/api/outlook`."""
        return {
            "time_utc_ms": self.time_utc_ms or None,
            "problem": self.problem or None,
            "vans": _listed(self.vans.items()),
            "stations": _listed(self.stations.items()),
        }

    def close(self) -> None:
        """End the thread and the connections."""
        self._worker.close()
        self._questions.close()
        self._sink.close()


def _listed(found: Iterable[tuple[NodeKey, Fields]]) -> list[dict[str, Any]]:
    return [{"fleet": fleet, "node": node, **fields} for (fleet, node), fields in found]
