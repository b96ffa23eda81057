"""`swapline bench backlog`: how late live rows are while a node sends what an outage left, and how fast that drains.

A real node on the desk's van (its devices speak in real time, every row is kept), whose journal the firmware's own
code has filled with an outage's frames; a link as bad as asked for, a real mosquitto, the real gateway, DuckDB. A row's
delay is taken from the database: stored minus the row's own time, which the van's GNSS receiver states. So the wait for
the seal is in it, up to `SEAL_INTERVAL_MS`.
"""

import asyncio
import json
import math
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from swapline_bench import bundle, services
from swapline_bench.database import DuckDatabase
from swapline_bench.frame_source import MODULE_CODE, module_row, row_of
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.link_proxy import HEALTHY, Impairment, LinkProxy
from swapline_bench.node_process import NodeProcess
from swapline_bench.rig import HolderRig, make_van_rig
from swapline_bench.tap import Tap
from swapline_bench.world import World
from swapline_node import cpython  # noqa: F401 (MicroPython's module, which the journal imports)
from swapline_node.journal import Journal
from swapline_wire.catalogue import ALARM_STREAM, MODULE, TIME_GNSS, Stream
from swapline_wire.frame import FrameBuilder

FLEET = "bench"
SEAL_INTERVAL_MS = 500
ALARMS = 20  # the newest frames of the outage
_ROWS_PER_FRAME = 3
_OUTAGE_ENDED_S = 120
_FRAME_PERIOD_MS = 3000
_STREAMS = ("module", "cells", "vehicle", "position", "node")
_DRAIN_S_MAX = 900.0


@dataclass(frozen=True)
class Outage:
    """What the node has to catch up with, and over which link. `frames` are routine; alarms come on top."""

    frames: int = 5000
    backlog_frames_per_s: int = 200
    impairment: Impairment = HEALTHY


@dataclass(frozen=True)
class Result:
    """What was measured. Live frames are those sealed during the drain; delays are from a frame's newest row on."""

    frames: int
    frames_per_s: float
    drain_s: float
    live_frames: int
    live_delay_s_p50: float
    live_delay_s_p99: float
    live_delay_s_max: float
    frames_before_alarms: int
    frames_sent_again: int
    heap_peak_bytes: int


def fill_journal(folder: Path, frames: int, *, limit_bytes: int) -> int:
    """Leave in `folder` what an outage leaves: routine frames of a module, then alarms; return the last number."""
    journal = Journal(str(folder), limit_bytes=limit_bytes)
    journal.open()
    anchor_utc_ms = time.time_ns() // 1_000_000 - _OUTAGE_ENDED_S * 1000 - frames * _FRAME_PERIOD_MS
    journal.decide_anchor(anchor_utc_ms, TIME_GNSS)
    routine = FrameBuilder(MODULE, bay=1, owner=MODULE_CODE, buffer_bytes=1024)
    for number in range(frames):
        for row in range(_ROWS_PER_FRAME):
            routine.add(number * _FRAME_PERIOD_MS + row * 1000, module_row(5000 + number % 500))
        _append(journal, routine, MODULE, anchor_utc_ms)
    alarm = FrameBuilder(ALARM_STREAM, bay=1, owner=MODULE_CODE, buffer_bytes=256)
    for number in range(ALARMS):
        alarm.add(frames * _FRAME_PERIOD_MS + number, row_of(ALARM_STREAM))
        _append(journal, alarm, ALARM_STREAM, anchor_utc_ms)
    journal.commit()
    journal.close()
    assert journal.pending_frames == frames + ALARMS, "the journal is too small for the outage"
    return journal.next_seq - 1


def _append(journal: Journal, builder: FrameBuilder, stream: Stream, anchor_utc_ms: int) -> None:
    sealed = builder.seal(
        journal=journal.id,
        seq=journal.next_seq,
        boot=journal.boot,
        time_quality=TIME_GNSS,
        anchor_utc_ms=anchor_utc_ms,
    )
    assert not journal.append(sealed, journal.next_seq, stream.priority)


class Bench:
    """The whole path for one node, which starts on a journal that an outage has filled."""

    def __init__(self, folder: Path, outage: Outage) -> None:
        self.outage = outage
        self.world = World(van_count=1, modules_per_van=(3,), speed=1.0)
        self.rig: HolderRig
        self.node: NodeProcess
        self.tap: Tap
        self.link: LinkProxy
        self._folder = folder
        self._gateway: GatewayProcess
        self._stack = AsyncExitStack()
        self._last_seq = 0

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.rig.name

    async def __aenter__(self) -> "Bench":
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        broker = self._stack.enter_context(services.mosquitto())
        self._gateway = self._stack.enter_context(GatewayProcess.unlimited(self._folder, broker_port=broker.port))
        self.link = await self._stack.enter_async_context(LinkProxy(broker.host, broker.port))
        self.link.impair(self.outage.impairment)
        self.tap = Tap(broker.host, broker.port)
        listening = asyncio.create_task(self.tap.run(), name="tap")
        self._stack.push_async_callback(_end, listening)
        await self.tap.subscribed.wait()
        self.rig = make_van_rig(self.world.vans[0], self._folder / "node")
        self._stack.push_async_callback(self.rig.close)
        config = self._config()
        self._last_seq = await asyncio.to_thread(
            fill_journal, self.rig.journal_folder, self.outage.frames, limit_bytes=config["journal"]["limit_bytes"]
        )
        firmware = await asyncio.to_thread(bundle.build, self._folder / "firmware")
        self.node = self.rig.node = NodeProcess(self.name, self.rig.folder, bundle=firmware, config=config)
        self.rig.plug()
        await self.node.start()

    def _config(self) -> dict[str, Any]:
        config = self.rig.config(fleet=FLEET, host=self.link.host, port=self.link.port)
        config["link"]["backlog_frames_per_s"] = self.outage.backlog_frames_per_s
        config["seal_interval_ms"] = SEAL_INTERVAL_MS
        config["streams"] = {stream: {"report": "all"} for stream in _STREAMS}
        config["journal"]["limit_bytes"] = max(config["journal"]["limit_bytes"], self.outage.frames * 400)
        return config

    async def drain(self) -> None:
        """Wait until the gateway has acknowledged everything that the outage left."""
        waiting = set(range(1, self._last_seq + 1))
        acknowledged = self.tap[self.name].acknowledged
        await self.tap.wait(lambda: waiting <= acknowledged, "end of the backlog", _DRAIN_S_MAX)

    async def finish(self) -> Result:
        """Stop the node and the gateway in order and read the result from the database."""
        heard = self.tap[self.name]
        count = heard.row_count("node")
        await self.tap.wait(lambda: heard.row_count("node") > count, "row of health")  # it tells of the drain
        last = heard.last("node")
        await self.node.stop()
        await asyncio.to_thread(self._gateway.stop)
        return read_result(DuckDatabase(self._folder / "swapline.duckdb"), last)


def read_result(database: DuckDatabase, health: dict[str, int]) -> Result:
    """Return what the frames in the database tell; `health` is the node's last row about itself."""
    frames = database.query(
        "SELECT boot, priority, epoch_ms(last_time) AS last_ms, epoch_ms(received_time) AS received_ms,"
        " epoch_ms(stored_time) AS stored_ms FROM frames ORDER BY received_time"
    )
    backlog = [frame for frame in frames if frame["boot"] == 1 and frame["priority"] == 0]
    alarms = [frame for frame in frames if frame["boot"] == 1 and frame["priority"] == ALARM_STREAM.priority]
    begin_ms, end_ms = backlog[0]["received_ms"], backlog[-1]["received_ms"]
    live = [f for f in frames if f["boot"] > 1 and f["last_ms"] >= begin_ms and f["received_ms"] <= end_ms]
    delays_s = sorted((frame["stored_ms"] - frame["last_ms"]) / 1000 for frame in live)
    alarms_ms = max(frame["received_ms"] for frame in alarms)
    drain_s = max((end_ms - begin_ms) / 1000, 0.001)
    return Result(
        frames=len(backlog),
        frames_per_s=round(len(backlog) / drain_s, 1),
        drain_s=drain_s,
        live_frames=len(live),
        live_delay_s_p50=_percentile(delays_s, 50),
        live_delay_s_p99=_percentile(delays_s, 99),
        live_delay_s_max=_percentile(delays_s, 100),
        frames_before_alarms=sum(frame["received_ms"] < alarms_ms for frame in backlog),
        frames_sent_again=health["frames_sent_again"],
        heap_peak_bytes=health["heap_peak_bytes"],
    )


def _percentile(ordered: list[float], percent: int) -> float:
    """Return the nearest-rank percentile; NaN of nothing."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def run(folder: Path, outage: Outage) -> Result:
    """Measure one outage in `folder`."""
    async with Bench(folder, outage) as path:
        await path.drain()
        return await path.finish()


@click.command()
@click.option("--frames", default=5000, show_default=True, help="That the outage left; 4 MB of journal hold 10,000.")
@click.option("--frames-per-s", default=200, show_default=True, help="The node's link.backlog_frames_per_s.")
@click.option("--delay-s", default=0.0, show_default=True, help="Of the link, one way.")
@click.option("--loss", default=0.0, show_default=True, help="Share of the link's packets that are lost.")
@click.option("--rate-bit-s", default=None, type=float, help="Of the link.  [default: no limit]")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def backlog(
    *, frames: int, frames_per_s: int, delay_s: float, loss: float, rate_bit_s: float | None, as_json: bool
) -> None:
    """Measure how late live rows are while a node catches up after an outage."""
    impairment = Impairment(delay_s=delay_s, loss=loss, rate_bit_s=rate_bit_s)
    with tempfile.TemporaryDirectory(prefix="swapline-bench-") as folder:
        result = asyncio.run(run(Path(folder), Outage(frames, frames_per_s, impairment)))
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    for name, value in asdict(result).items():
        click.echo(f"{name:<22} {value:>14,}")
