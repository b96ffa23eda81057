"""`swapline bench gateway`: how many rows a second one gateway process takes, from MQTT to its database.

A real mosquitto, the real gateway as a child process, and module frames (27 signals a row) published as a fleet would,
with a window of unacknowledged frames. The clock runs from the first publish until the database has the last row, so
verify, spool with full sync, acknowledge, decode and store are all in it. Machines differ: beside the rate stands its
ratio to what one core does when it only decodes the same frames, measured in the same run.
"""

import asyncio
import contextlib
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import click

from swapline_bench import services
from swapline_bench.bench_alarm import alarm
from swapline_bench.bench_backlog import backlog
from swapline_bench.bench_week import week
from swapline_bench.gateway_process import GatewayProcess
from swapline_wire import catalogue, message, topic
from swapline_wire.decode import decode
from swapline_wire.frame import FrameBuilder

FLEET = "bench"
_ROW = [5300, -1000, 905, 990, 40000, 51800, 3300, 3310, 3305, 1, 2, 250, 260, 1, 2, 300, 290, 500, 10, 20, 30, 40, 50]
_ROW += [16, 3, 0, 0]
_WINDOW_FRAMES = 5000
_TIMEOUT_S = 300
DUCKDB, INFLUXDB, VICTORIA_METRICS = "duckdb", "influxdb1", "victoria-metrics"


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent."""

    node_count: int
    frames_per_node: int
    rows_per_frame: int
    frames_per_message: int

    @property
    def frame_count(self) -> int:
        return self.node_count * self.frames_per_node


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured. `ratio_to_decoding`: 1 would be a gateway that costs no more than decoding on one core."""

    frames: int
    rows: int
    values: int
    duration_s: float
    acknowledged_s: float
    rows_per_s: float
    gateway_cpu_s: float
    gateway_memory_bytes: int
    decoding_rows_per_s: float
    ratio_to_decoding: float


def make_messages(load: Load) -> Iterator[tuple[str, bytes, list[bytes]]]:
    """Yield topic, message and frames, the nodes in turn."""
    builders = [
        FrameBuilder(catalogue.MODULE, bay=1, owner=f"0AACDE12345678901234{node:04d}", buffer_bytes=4096)
        for node in range(load.node_count)
    ]
    anchor_utc_ms = time.time_ns() // 1_000_000 - 86_400_000
    for first in range(0, load.frames_per_node, load.frames_per_message):
        for node in range(load.node_count):
            name = topic.format_topic(FLEET, f"node-{node:04d}", topic.UP)
            builder, frames = builders[node], []
            for seq in range(first, min(first + load.frames_per_message, load.frames_per_node)):
                for row in range(load.rows_per_frame):
                    builder.add((seq * load.rows_per_frame + row) * 1000, [_ROW[0] + row, *_ROW[1:]])
                sealed = builder.seal(
                    journal=node + 1, seq=seq + 1, boot=1, time_quality=catalogue.TIME_NTP, anchor_utc_ms=anchor_utc_ms
                )
                frames.append(bytes(sealed))
            yield name, message.pack_up_head(node + 1, []) + b"".join(frames), frames


def measure_decoding(frames: list[bytes]) -> float:
    """Return the rows a second that one core decodes."""
    started_s = time.perf_counter()
    rows = sum(len(decode(data).rows) for data in frames)
    return rows / (time.perf_counter() - started_s)


class Fleet:
    """Publishes with a window and counts what is acknowledged."""

    def __init__(self, client: aiomqtt.Client, frame_count: int) -> None:
        self._client = client
        self._frame_count = frame_count
        self._acknowledged = 0
        self._progress = asyncio.Event()

    async def listen(self) -> None:
        async for incoming in self._client.messages:
            ranges = message.read_ack(incoming.payload).ranges
            self._acknowledged += sum(last - first + 1 for first, last in ranges)
            self._progress.set()

    async def send(self, messages: list[tuple[str, bytes, list[bytes]]]) -> None:
        sent = 0
        inner = self._client._client  # noqa: SLF001 (aiomqtt only publishes one at a time)
        for name, payload, frames in messages:
            while sent - self._acknowledged > _WINDOW_FRAMES:
                await self._wait()
            inner.publish(name, payload, 1)
            sent += len(frames)
            if inner.want_write():
                await asyncio.sleep(0)
        while self._acknowledged < self._frame_count:
            await self._wait()

    async def _wait(self) -> None:
        self._progress.clear()
        await self._progress.wait()


async def _drive(port: int, messages: list[tuple[str, bytes, list[bytes]]], frame_count: int) -> float:
    """Send everything and return the seconds until all of it was acknowledged."""
    async with aiomqtt.Client("127.0.0.1", port, max_inflight_messages=1000) as client, asyncio.timeout(_TIMEOUT_S):
        await client.subscribe(topic.format_topic(FLEET, "+", topic.ACK), 1)
        fleet = Fleet(client, frame_count)
        listener = asyncio.create_task(fleet.listen())
        started_s = time.perf_counter()
        await fleet.send(messages)
        taken_s = time.perf_counter() - started_s
        listener.cancel()
    return taken_s


def _process_metric(url: str, name: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 (our own child)
        lines: list[str] = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


@contextlib.contextmanager
def _sink(kind: str) -> Iterator[dict[str, Any]]:
    """Start the database that the gateway is to write to; yield its table of the configuration, or nothing."""
    if kind == DUCKDB:
        yield {}
        return
    with services.influxd() if kind == INFLUXDB else services.victoria_metrics() as server:
        yield {"sink": {"type": "influxdb1" if kind == INFLUXDB else "influxdb2", "url": server.url}}


def run(load: Load, folder: Path, sink: str = DUCKDB) -> Result:
    """Measure one load in `folder`."""
    messages = list(make_messages(load))
    frames = [data for _, _, group in messages for data in group]
    decoding_rows_per_s = measure_decoding(frames)
    with (
        _sink(sink) as settings,
        services.mosquitto() as broker,
        GatewayProcess.unlimited(folder, broker_port=broker.port, settings=settings) as gateway,
    ):
        cpu_s_before = _process_metric(gateway.url, "process_cpu_seconds_total")
        started_s = time.perf_counter()
        acknowledged_s = asyncio.run(_drive(broker.port, messages, load.frame_count))
        figures = gateway.wait_for_figures(lambda figures: figures["frames_stored"] >= load.frame_count)
        duration_s = time.perf_counter() - started_s
        cpu_s = _process_metric(gateway.url, "process_cpu_seconds_total") - cpu_s_before
        memory = _process_metric(gateway.url, "process_resident_memory_bytes")
    rows = figures["rows_stored"]
    return Result(
        frames=figures["frames_stored"],
        rows=rows,
        values=figures["values_stored"],
        duration_s=round(duration_s, 3),
        acknowledged_s=round(acknowledged_s, 3),
        rows_per_s=round(rows / duration_s),
        gateway_cpu_s=round(cpu_s, 3),
        gateway_memory_bytes=round(memory),
        decoding_rows_per_s=round(decoding_rows_per_s),
        ratio_to_decoding=round(rows / duration_s / decoding_rows_per_s, 4),
    )


@click.group()
def bench() -> None:
    """Measure what the README states."""


bench.add_command(alarm)
bench.add_command(backlog)
bench.add_command(week)


@bench.command()
@click.option("--nodes", default=100, show_default=True)
@click.option("--frames", default=200, show_default=True, help="Of every node.")
@click.option("--rows", default=10, show_default=True, help="In every frame.")
@click.option("--frames-per-message", default=2, show_default=True)
@click.option("--sink", type=click.Choice([DUCKDB, INFLUXDB, VICTORIA_METRICS]), default=DUCKDB, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def gateway(nodes: int, frames: int, rows: int, frames_per_message: int, sink: str, *, as_json: bool) -> None:
    """Measure how many rows a second one gateway takes into its database, on the same machine."""
    load = Load(nodes, frames, rows, frames_per_message)
    with tempfile.TemporaryDirectory(prefix="swapline-bench-") as folder:
        result = run(load, Path(folder), sink)
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    for name, value in asdict(result).items():
        click.echo(f"{name:<22} {value:>14,}")
