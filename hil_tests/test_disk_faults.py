"""A disk that is full, under a real gateway: it stops acknowledging, holds what it has, and goes on when there is room.

Two ways to be full: a file system of its own of 64 MiB that is filled to the last byte (as root, who may mount one),
and a limit for the size of files, which the system sets on the running gateway.
"""

import asyncio
import json
import os
import resource
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import duckdb
import pytest

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, KeepingNode, module_row
from swapline_bench.gateway_process import GatewayProcess

FRAMES = 400
NUMBERS = range(1, FRAMES + 1)
ROWS = 30  # of a frame, so that 400 frames are more than the smallest spool
DISK_BYTES = 64 << 20
WAYS = ["size limit", *(["file system"] if os.geteuid() == 0 else [])]
WAIT_S_MAX = 60


class Disk:
    """A folder whose room can be taken away and given back."""

    def __init__(self, folder: Path, *, is_limit: bool) -> None:
        self.folder = folder
        self._is_limit = is_limit
        self._balloon = folder / "balloon"

    def fill(self, gateway: GatewayProcess) -> None:
        """Leave nothing."""
        if self._is_limit:
            # Files may not grow beyond what the largest of ours is: no write to their ends succeeds any more.
            resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            return
        with self._balloon.open("wb", buffering=0) as file:
            try:
                for size in (1 << 20, 4096, 1):
                    self._write_until_full(file.write, bytes(size))
            finally:
                os.fsync(file.fileno())

    @staticmethod
    def _write_until_full(write: Callable[[bytes], int | None], block: bytes) -> None:
        while True:
            try:
                write(block)
            except OSError:
                return

    def free(self, gateway: GatewayProcess) -> None:
        """Give it all back."""
        if self._is_limit:
            resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        else:
            self._balloon.unlink()


@pytest.fixture(params=WAYS)
def disk(request: pytest.FixtureRequest, mosquitto: None, tmp_path: Path) -> Iterator[Disk]:
    del mosquitto  # only: it is installed
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "size limit":
        yield Disk(folder, is_limit=True)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield Disk(folder, is_limit=False)
    finally:
        subprocess.run(["umount", folder], check=True)


def make_node(client: aiomqtt.Client) -> KeepingNode:
    node = KeepingNode(client, FrameSource())
    rows = [(row * 1000, module_row(5000 + row)) for row in range(ROWS)]
    node.frames = {seq: node.source.frame([(seq * 100_000 + ms, row) for ms, row in rows]) for seq in NUMBERS}
    return node


def health(gateway: GatewayProcess) -> list[str]:
    """Return the problems that /healthz names."""
    try:
        with urllib.request.urlopen(f"{gateway.url}/healthz", timeout=10):  # noqa: S310 (our own child)
            return []
    except urllib.error.HTTPError as error:
        problems: list[str] = json.load(error)["problems"]
        return problems


async def wait_until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 (another process, which tells nobody)
            await asyncio.sleep(0.05)


def assert_everything_once(path: Path) -> None:
    with duckdb.connect(str(path), read_only=True) as connection:
        frames = Counter(seq for (seq,) in connection.execute("SELECT seq FROM frames").fetchall())
        rows = connection.execute("SELECT COUNT(*), COUNT(DISTINCT time) FROM module").fetchone()
        missing = connection.execute("FROM missing").fetchall()
    assert frames == Counter(NUMBERS)
    assert rows == (FRAMES * ROWS, FRAMES * ROWS)
    assert missing == []


async def test_full_disk_of_the_spool_is_not_acknowledged_and_nothing_is_lost(disk: Disk, tmp_path: Path) -> None:
    settings = {"spool": {"path": str(disk.folder / "spool.sqlite"), "limit_bytes": 10_000_000}}
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            node = make_node(client)
            await node.acks.begin()
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as gateway:
                await node.send(*range(1, 101))
                await asyncio.wait_for(node.acks.wait_for(set(range(1, 101))), WAIT_S_MAX)
                disk.fill(gateway)
                await node.send(*NUMBERS[100:])
                await wait_until(lambda: health(gateway))
                figures = await asyncio.to_thread(gateway.figures)
                taken = figures["frames_taken"]
                disk.free(gateway)
                await asyncio.wait_for(node.send_until_acknowledged(), WAIT_S_MAX)
                assert taken < FRAMES
                await wait_until(lambda: not health(gateway))
                assert await asyncio.to_thread(gateway.stop) == 0
    assert_everything_once(tmp_path / "swapline.duckdb")
    assert not list(disk.folder.glob("*damaged*"))


async def test_full_disk_of_the_database_fills_the_spool_until_the_nodes_hold_and_then_all_goes_on(
    disk: Disk, tmp_path: Path
) -> None:
    settings = {
        "sink": {"type": "duckdb", "path": str(disk.folder / "swapline.duckdb")},
        "spool": {"path": str(tmp_path / "spool.sqlite"), "limit_bytes": 200_000},
    }
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            node = make_node(client)
            await node.acks.begin()
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as gateway:
                await node.send(*range(1, 11))
                await asyncio.to_thread(gateway.wait_for_figures, lambda figures: figures["frames_stored"] >= 10)
                disk.fill(gateway)
                await node.send(*node.frames)
                await asyncio.to_thread(gateway.wait_for_figures, lambda figures: figures["refused"])
                assert health(gateway)
                assert (await asyncio.to_thread(gateway.figures))["frames_stored"] < FRAMES
                disk.free(gateway)
                await asyncio.wait_for(node.send_until_acknowledged(), WAIT_S_MAX)
                await asyncio.to_thread(gateway.wait_for_figures, lambda figures: figures["frames_stored"] >= FRAMES)
                assert await asyncio.to_thread(gateway.stop) == 0
    assert_everything_once(disk.folder / "swapline.duckdb")
    assert not list(disk.folder.glob("*damaged*"))
