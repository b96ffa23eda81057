"""A gateway's console on a free port: real server, real DuckDB, a small fleet of real frames."""

import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from swapline_gateway.console import add_routes
from swapline_gateway.console.routes import Console
from swapline_gateway.history_duckdb import DuckdbHistory
from swapline_gateway.pipeline import PipelineFigures
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import SpooledFrame
from swapline_gateway.state import FleetState

from .book_feed import FakeBooks
from .fleet_feed import (
    Unit,
    cell_values,
    meter_values,
    module_values,
    node_values,
    position_values,
    slot_values,
    vehicle_values,
)

SPAN_MS = 120_000  # of stored rows, up to now
STEP_MS = 5_000


@dataclass
class Demo:
    """The fleet, the database behind the charts, and the server. `now_ms` is the time since the units' boot."""

    state: FleetState
    sink: DuckdbSink
    history: DuckdbHistory
    figures: PipelineFigures
    start_utc_ms: int
    frames: list[SpooledFrame] = field(default_factory=list)
    units: dict[str, Unit] = field(default_factory=dict)
    console: Console | None = None
    runner: web.AppRunner | None = None
    url: str = ""
    books: FakeBooks | None = None

    def unit(self, node: str, journal: int) -> Unit:
        unit = Unit(self.state, node, journal=journal, anchor_utc_ms=self.start_utc_ms, keep=self.frames.append)
        self.units[node] = unit
        return unit

    @property
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 - self.start_utc_ms

    def store(self) -> None:
        self.sink.write([read_rows(frame) for frame in self.frames])
        self.frames.clear()

    def figures_json(self) -> dict[str, Any]:
        return self.figures.as_json(time.time_ns() // 1_000_000)

    async def start(self, port: int = 0, *, shutdown_s: float = 1) -> None:
        app = web.Application()
        self.console = add_routes(app, state=self.state, history=self.history, pipeline=self.figures_json)
        if self.books is not None:
            self.books.mount(app, self.console)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_s)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


def code(number: int) -> str:
    return f"08YPB1B{number:04d}A0C5D8F{number:06d}"


def fill(demo: Demo, *, span_ms: int = SPAN_MS) -> None:
    """Two vans (one offline and low) and a station of four slots, rows of two minutes each, or of the last of them."""
    first, second, station = demo.unit("van-001", 11), demo.unit("van-002", 12), demo.unit("station-1", 21)
    first.say_birth("van", [1, 2])
    second.say_birth("van", [1])
    station.say_birth("station", [1, 2, 3, 4], board="linux")
    for start_ms in range(SPAN_MS - span_ms, SPAN_MS, STEP_MS):
        times = range(start_ms, start_ms + STEP_MS, 1_000)
        soc = 72 - start_ms / 60_000
        first.send("vehicle", [(t, vehicle_values(round(soc, 1), speed_kmh=40 + t % 7_000 / 1_000)) for t in times])
        first.send("position", [(t, position_values(0, t / 400_000)) for t in times])
        first.send("module", [(t, module_values(soc)) for t in times], bay=1, owner=code(1))
        first.send("module", [(t, module_values(soc + 1)) for t in times], bay=2, owner=code(2))
        second.send("vehicle", [(t, vehicle_values(12, speed_kmh=0, drive_mode=1)) for t in times])
        second.send("module", [(t, module_values(12, current_a=0)) for t in times], bay=1, owner=code(3))
        station.send("meter", [(t, meter_values(6.5)) for t in times])
        for bay, state in ((1, 3), (2, 2), (3, 0), (4, 4)):
            values = slot_values(occupied=state != 0, charger_state=state, power_kw=3.2 if state == 2 else 0)
            station.send("slot", [(t, values | {"faults": 4 if state == 4 else 0}) for t in times], bay=bay)
        for bay, charge in ((1, 99.0), (2, 48.0), (4, 61.0)):
            station.send(
                "module", [(t, module_values(charge, current_a=50)) for t in times], bay=bay, owner=code(bay + 10)
            )
    last_ms = SPAN_MS - 1_000
    second.send("position", [(last_ms, position_values(1, 2.0))])
    station.send("position", [(last_ms, {"latitude_deg": 52.49, "longitude_deg": 13.38})])
    first.send("cells", [(last_ms, cell_values(62))], bay=1, owner=code(1))
    for unit in (first, second, station):
        unit.send("node", [(last_ms, node_values())])
    demo.state.apply_status("demo", "van-002", {"online": False})
    demo.store()
