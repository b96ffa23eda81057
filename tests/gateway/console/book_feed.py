"""Books for the console's pages: the contract's endpoints and views with made-up content, kept in memory.

The gateway's own answers are tested where they are made; here it is what people see of them.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from swapline_gateway.battery import record
from swapline_gateway.battery.answers import LIMIT
from swapline_gateway.battery.code import parse
from swapline_gateway.battery.record import (
    Acknowledgement,
    Contradiction,
    EarlyWarning,
    Estimate,
    Ledger,
    Passport,
    Place,
    Stay,
    Swap,
    SwapHalf,
)
from swapline_gateway.console.document import BuiltDocument
from swapline_gateway.console.routes import Console

HOUR_MS = record.HOUR_MS
DAY_MS = 24 * HOUR_MS


@dataclass
class FakeAlarm:
    """An alarm as the alarm book tells it."""

    node: str
    code: int
    name: str
    level_max: int
    raised_utc_ms: int
    bay: int = 0
    module: str = ""
    cleared_utc_ms: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    acknowledgement: Acknowledgement | None = None
    fleet: str = "demo"

    def as_json(self) -> dict[str, Any]:
        said = self.acknowledgement
        own = {name: getattr(self, name) for name in ("fleet", "node", "bay", "module", "code", "name", "level_max")}
        return own | {
            "level": 0 if self.cleared_utc_ms else self.level_max,
            "raised_utc_ms": self.raised_utc_ms,
            "cleared_utc_ms": self.cleared_utc_ms,
            "ending": "cleared" if self.cleared_utc_ms else None,
            "text": f"level {self.level_max} {self.name}",
            **dict.fromkeys(("signal", "value", "unit", "threshold", "position")),
            **self.figures,
            "acknowledgement": said.as_json() if said else None,
        }


@dataclass
class FakeBooks:
    """What the keeper and the alarm book would know. `change` makes pages ask again."""

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    passports: dict[str, Passport] = field(default_factory=dict)
    hours: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    warnings: list[EarlyWarning] = field(default_factory=list)
    alarms: list[FakeAlarm] = field(default_factory=list)
    revision: int = 1
    is_away: bool = False
    due: int = 0
    off: str | None = None
    refused_code: int | None = None
    posted: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    stays_at_once: int = LIMIT

    def change(self) -> None:
        self.revision += 1

    @property
    def contradictions(self) -> list[Contradiction]:
        found = [one for ledger in self.ledgers.values() for one in ledger.contradictions]
        return sorted(found, key=lambda one: -one.time_utc_ms)

    @property
    def swaps(self) -> list[Swap]:
        found = {swap for ledger in self.ledgers.values() for swap in ledger.swaps}
        return sorted(found, key=lambda swap: -swap.start_utc_ms)

    def battery_figures(self) -> dict[str, Any]:
        counts = {"contradiction_count": len(self.contradictions), "warning_count": len(self.warnings)}
        return {"revision": self.revision, **counts, "due": self.due, "behind_s": 3 * self.due, "off": self.off}

    def alarm_figures(self) -> dict[str, Any]:
        standing = [alarm for alarm in self.alarms if alarm.cleared_utc_ms is None]
        open_count = sum(alarm.acknowledgement is None for alarm in standing)
        return {"revision": self.revision, "standing_count": len(standing), "unacknowledged_count": open_count}

    def mount(self, app: web.Application, console: Console) -> None:
        for name, build in (("battery", self.battery_figures), ("alarms", self.alarm_figures)):
            console.add_scope(name, _scope(build))
        routes = {
            "battery/module": self.module,
            "battery/contradictions": lambda _request: {"contradictions": _json(self.contradictions)},
            "battery/swaps": lambda _request: {"swaps": _json(self.swaps)},
            "battery/warnings": lambda _request: {"warnings": _json(self.warnings)},
            "alarms": self.alarm_list,
        }
        for path, answer in routes.items():
            app.router.add_get(f"/api/{path}", self._handler(answer))
        app.router.add_post("/api/alarms/acknowledge", self.acknowledge)

    def _handler(self, answer: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            self.asked.append(request.path_qs)
            if self.is_away:
                raise web.HTTPBadGateway(text="the database does not answer")
            return web.json_response(answer(request))

        return handle

    def module(self, request: web.Request) -> dict[str, Any]:
        code = request.query["code"]
        passport = self.passports.get(code)
        ledger = _page(self.ledgers.get(code, Ledger(code)), request.query.get("before"), self.stays_at_once)
        return {
            "code": code,
            "parts": parse(code).as_json(),
            "ledger": ledger.as_json(),
            "passport": passport.as_json() if passport else None,
            "warnings": _json(one for one in self.warnings if one.module == code),
            "hours": self.hours.get(code, []),
        }

    def alarm_list(self, request: web.Request) -> dict[str, Any]:
        module, since = request.query.get("module"), int(request.query.get("since", 0))
        found = [
            alarm
            for alarm in self.alarms
            if (module is None or alarm.module == module)
            and ("standing" not in request.query or alarm.cleared_utc_ms is None)
            and alarm.raised_utc_ms >= since
        ]
        return {"alarms": _json(found)}

    async def acknowledge(self, request: web.Request) -> web.Response:
        said = await request.json()
        self.posted.append(said)
        if said["code"] == self.refused_code:
            raise web.HTTPBadGateway(text="the broker does not answer, so no other screen would know; try again")
        place = ("fleet", "node", "bay", "code", "raised_utc_ms")
        for index, alarm in enumerate(self.alarms):
            if all(getattr(alarm, name) == said[name] for name in place):
                given = {name: said[name] for name in (*place, "by", "note")}
                kept = Acknowledgement(module=alarm.module, time_utc_ms=time.time_ns() // 1_000_000, **given)
                self.alarms[index] = replace(alarm, acknowledgement=kept)
                self.change()
                return web.json_response({"acknowledgement": kept.as_json()})
        raise web.HTTPNotFound(text="no such alarm")


def _page(ledger: Ledger, before: str | None, limit: int) -> Ledger:
    """Return what the gateway tells of a long life at once."""
    stays = [stay for stay in ledger.stays if before is None or stay.from_utc_ms < int(before)]
    newest = tuple(stays[-limit:])
    older_ms = newest[0].from_utc_ms if len(stays) > limit else None
    return replace(ledger, stays=newest, is_complete=older_ms is None, older_utc_ms=older_ms)


def _scope(build: Any) -> Any:
    return lambda _request: BuiltDocument(build, concerns=lambda _batch: True, interval_s=0.5)


def _json(items: Iterable[Any]) -> list[dict[str, Any]]:
    return [item.as_json() for item in items]


def fill_books(books: FakeBooks, module: str, other: str, now_utc_ms: int) -> None:
    """Forty days of one module between two vans and a station, with what may go wrong; a fresh one beside it."""
    start_ms = now_utc_ms - 40 * DAY_MS
    stays, swaps = _life(module, other, start_ms, now_utc_ms)
    books.ledgers[module] = Ledger(
        module, tuple(stays), tuple(swaps), tuple(_contradictions(module, other, now_utc_ms))
    )
    books.ledgers[other] = Ledger(other, (Stay(other, Place("demo", "van-001", 2), now_utc_ms - HOUR_MS, "sighting"),))
    books.passports[module] = passport_of(module, start_ms, now_utc_ms)
    books.hours[module] = [_hour(start_ms, index) for index in range(40 * 24) if index % 24 not in {2, 3}]
    points = [[start_ms + day * DAY_MS, 4.0 + day * 0.75] for day in range(40)]
    evidence = {"band_pct": "20-30", "first_mv": 4.4, "last_mv": 34.1, "slope_mv_per_day": 0.76, "z": 8.2, "days": 40}
    evidence["points"] = points
    text = "The cells drift apart: at rest they are 34 mV apart, and were 4 mV; 0.8 mV more each day."
    books.warnings = [
        EarlyWarning(module, "spread_grows", 0.86, text, start_ms + 20 * DAY_MS, evidence),
        EarlyWarning(
            other, "sensor_stands_still", 0.41, "Sensor 3 stopped moving.", start_ms, {"sensors": [3], "value_c": 21.5}
        ),
    ]
    books.alarms = _alarms(module, now_utc_ms)


def _life(module: str, other: str, start_ms: int, now_ms: int) -> tuple[list[Stay], list[Swap]]:
    places = [Place("demo", "van-001", 1), Place("demo", "station-1", 2), Place("demo", "van-002", 1)]
    places += [Place("demo", "station-1", 4), Place("demo", "van-001", 2)]
    stays, swaps, time_ms, index = [], [], start_ms, 0
    while time_ms < now_ms - 2 * HOUR_MS:
        place, length_ms = places[index % len(places)], (5 + index % 4) * HOUR_MS
        came = SwapHalf(time_ms, place, module, is_in=True, request_id=index, soc_pct=96.0 - 70 * (index % 2))
        end_ms = time_ms + length_ms
        went = SwapHalf(end_ms, place, module, is_in=False, soc_pct=26.0 + 70 * (index % 2))
        inferred = index % 7 == 6
        begin, end = ("sighting", "elsewhere") if inferred else ("event", "event")
        stays.append(Stay(module, place, time_ms, begin, end_ms, end, time_ms, end_ms, came, went))
        if place.node.startswith("van"):
            swaps.append(swap_of(module, other, time_ms, place, index))
        time_ms, index = end_ms + 40_000, index + 1
    stays.append(Stay(module, Place("demo", "van-001", 1), time_ms, "event"))
    return stays, swaps


def swap_of(module: str, other: str, time_ms: int, place: Place, index: int) -> Swap:
    """A swap whose module comes into a van; every third is told by halves only."""
    told = 1 if index % 3 == 0 else 2
    return Swap(
        start_utc_ms=time_ms - 31_000, end_utc_ms=time_ms, fleet=place.fleet, van=place.node, bay=place.bay,
        station="station-1", module_out=other, module_in=module, slot_out=2, slot_in=3,
        request_id=4_000 + index if told == 2 else None, basis="request" if told == 2 else "matched",
        soc_out_pct=14.5, soc_in_pct=97.0, odometer_km=18_204.5 + 31 * index, latitude_deg=52.5, longitude_deg=13.4,
        told_by_van=told, told_by_station=2,
    )  # fmt: skip


def _contradictions(module: str, other: str, now_ms: int) -> list[Contradiction]:
    van, station = Place("demo", "van-001", 1), Place("demo", "station-1", 2)
    return [
        Contradiction(
            record.TWO_PLACES, module, now_ms - 3 * DAY_MS, now_ms - 3 * DAY_MS + HOUR_MS, van, station, None,
            "For 1 h it answered 720 times in van-001 bay 1 and 64 times in station-1 slot 2.",
        ),
        Contradiction(
            record.ARRIVAL_WITHOUT_DEPARTURE, module, now_ms - 12 * DAY_MS, now_ms - 12 * DAY_MS, station, van, None,
            "It came to station-1 slot 2, and nobody saw it leave van-001 bay 1.",
        ),
        Contradiction(
            record.SWAP_HALF_TOLD, module, now_ms - 20 * DAY_MS, None, van, None, other,
            "station-1 tells its half of a swap with van-001; van-001 tells nothing.",
        ),
    ]  # fmt: skip


def passport_of(module: str, start_ms: int, end_ms: int) -> Passport:
    """A passport of which one figure is not known yet."""
    soc = {"0-10": 7_200.0, "10-20": 40_000.0, "20-80": 2_100_000.0, "80-90": 500_000.0, "90-100": 700_000.0}
    temperature = {"below 0": 0.0, "0-10": 1_900_000.0, "10-25": 1_440_000.0, "above 45": 300.0}
    return Passport(
        module, parse(module).as_json(), start_ms, end_ms, 3_340_000.0, 812.4, 768.1, "the BMS's counters",
        15_570.2, 15_541.9, 30.06, soc, temperature, 0.124,
        Estimate(503.2, 6.4, "Ah", "charge between rest points and anchors at full and empty", 41),
        Estimate(None, None, "mohm", "voltage over current, 10 s after a step", 3, "3 of 10 current steps were seen"),
        Estimate(18.4, 0.9, "mV", "median of the last ten rests", 38),
        Estimate(22.7, 3.1, "mV", "Theil-Sen slope over rests", 38),
        swap_count=24, holder_count=3, alarm_counts={"1": 2, "2": 1, "3": 0},
        siblings={"family": module[:7], "count": 11, "reason": "", "figures": {
            "capacity_ah": {"value": 503.2, "median": 514.8, "percentile": 12, "count": 11},
            "spread_mv": {"value": 18.4, "median": 4.4, "percentile": 99, "count": 11},
        }},
    )  # fmt: skip


def _hour(start_ms: int, index: int) -> dict[str, Any]:
    return {
        "time_utc_ms": start_ms - start_ms % HOUR_MS + index * HOUR_MS,
        "soc_min_pct": 20.0 + index * 7 % 40,
        "soc_max_pct": 55.0 + index * 11 % 44,
        "temperature_max_c": 24 + index % 13 * 0.9,
        "spread_mv": 4 + index / 66 + index % 3 if index % 5 == 0 else None,
        "energy_in_kwh": index % 4 * 0.7,
        "energy_out_kwh": (index + 2) % 4 * 0.6,
    }


def _alarms(module: str, now_ms: int) -> list[FakeAlarm]:
    hour = HOUR_MS
    seen = Acknowledgement(
        "demo", "van-002", 0, 99, "", now_ms - 5 * hour, now_ms - 4 * hour, "Ada", "towed to the yard"
    )
    spread = {"signal": "cell_voltage_max_v", "value": 0.512, "threshold": 0.5, "unit": "V", "position": 4}
    return [
        FakeAlarm("van-001", 5, "cell spread", 2, now_ms - 600_000, 1, module, figures=spread),
        FakeAlarm("station-1", 6, "over-temperature", 1, now_ms - hour, 2, "SOMETHING ELSE"),
        FakeAlarm("van-002", 99, "vehicle fault: steering", 3, now_ms - 5 * hour, acknowledgement=seen),
        FakeAlarm("van-001", 10, "discharge over-current", 1, now_ms - 30 * hour, 1, module, now_ms - 29 * hour),
    ]  # fmt: skip
