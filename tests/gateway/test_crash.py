"""kill -9 of a real gateway process at the worst moments: afterwards every frame is there, and there once.

The sender behaves as a node does: it keeps a frame until it is acknowledged, and sends it again after a while.
"""

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import aiomqtt
import duckdb
import pytest

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, KeepingNode
from swapline_bench.gateway_process import GatewayProcess

KILL_AT = Path(__file__).with_name("kill_at.py")
FRAMES = 300


def make_node(client: aiomqtt.Client) -> KeepingNode:
    node = KeepingNode(client, FrameSource())
    node.frames = {seq: node.source.frame() for seq in range(1, FRAMES + 1)}
    return node


def numbers_stored(folder: Path) -> tuple[Counter[int], Counter[int]]:
    """Return how often each frame, and each frame's row, is in the database."""
    with duckdb.connect(str(folder / "swapline.duckdb"), read_only=True) as connection:
        frames = Counter(seq for (seq,) in connection.execute("SELECT seq FROM frames").fetchall())
        rows = Counter(seq for (seq,) in connection.execute("SELECT seq FROM module").fetchall())
    return frames, rows


def killed_at(point: str, count: int) -> list[str]:
    return [sys.executable, str(KILL_AT), point, str(count), "gateway"]


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("before_spool_commit", 2),
        ("after_spool_commit_before_ack", 2),
        ("after_ack_before_sink", 1),
        ("after_ack_before_sink", 2),
        ("inside_sink_transaction", 2),
        ("after_sink_commit_before_spool_delete", 1),
        ("after_sink_commit_before_spool_delete", 2),
        ("after_spool_delete", 1),
    ],
)
async def test_kill_at_any_point_loses_nothing_and_stores_nothing_twice(tmp_path: Path, point: str, count: int) -> None:
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            node = make_node(client)
            await node.acks.begin()
            doomed = GatewayProcess.unlimited(tmp_path, broker_port=broker.port, command=killed_at(point, count))
            await asyncio.to_thread(doomed.start)
            await node.send()
            assert await asyncio.to_thread(doomed.wait) == -signal.SIGKILL
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port) as gateway:
                await node.send_until_acknowledged()
                assert await asyncio.to_thread(gateway.stop) == 0
    once = Counter(range(1, FRAMES + 1))
    assert numbers_stored(tmp_path) == (once, once)


async def test_acknowledged_frame_needs_no_second_sending_after_a_kill(tmp_path: Path) -> None:
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            node = make_node(client)
            await node.acks.begin()
            command = killed_at("after_ack_before_sink", 1)
            doomed = GatewayProcess.unlimited(tmp_path, broker_port=broker.port, command=command)
            await asyncio.to_thread(doomed.start)
            await node.send()
            await asyncio.to_thread(doomed.wait)
            async with asyncio.timeout(10):
                while not node.acks.acknowledged:
                    await node.acks.next()
    with services.mosquitto() as empty, GatewayProcess.unlimited(tmp_path, broker_port=empty.port) as gateway:
        await asyncio.to_thread(gateway.stop)
    frames, _ = numbers_stored(tmp_path)
    assert node.acks.acknowledged
    assert all(frames[seq] == 1 for seq in node.acks.acknowledged)


@pytest.mark.parametrize("seed", [1, 2])
async def test_kills_at_random_moments_lose_nothing_and_store_nothing_twice(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (a schedule, not a secret)
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            node = make_node(client)
            await node.acks.begin()
            for _ in range(4):
                gateway = GatewayProcess.unlimited(tmp_path, broker_port=broker.port)
                await asyncio.to_thread(gateway.start)
                sending = asyncio.create_task(node.send())
                await asyncio.sleep(chance.uniform(0.01, 0.4))
                await asyncio.to_thread(gateway.kill)
                await sending
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port) as gateway:
                await node.send_until_acknowledged()
                assert await asyncio.to_thread(gateway.stop) == 0
    once = Counter(range(1, FRAMES + 1))
    assert numbers_stored(tmp_path) == (once, once)


async def test_kill_between_influxdb_and_spool_leaves_every_point_once(tmp_path: Path) -> None:
    with services.mosquitto() as broker, services.influxd() as influx:
        settings = {"sink": {"type": "influxdb1", "url": influx.url}}
        async with aiomqtt.Client(broker.host, broker.port) as client:
            node = make_node(client)
            await node.acks.begin()
            command = killed_at("after_influxdb_write_before_spool_delete", 1)
            doomed = GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings, command=command)
            await asyncio.to_thread(doomed.start)
            await node.send()
            assert await asyncio.to_thread(doomed.wait) == -signal.SIGKILL
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as gateway:
                await node.send_until_acknowledged()
                assert await asyncio.to_thread(gateway.stop) == 0
        statement = 'SELECT count(voltage_v) FROM "swapline".."module"; SELECT count(seq) FROM "swapline".."frames"'
        results = json.loads(influx.execute(statement))["results"]
    assert [result["series"][0]["values"][0][1] for result in results] == [FRAMES, FRAMES]
