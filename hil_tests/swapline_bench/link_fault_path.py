"""Nodes behind bad links: each with a GNSS receiver that says something new every second, and a supervisor who listens.

What the receiver said is written down here, so the database can be compared with it: a second that is missing was lost,
or nobody sampled it. `Supervisor` is what systemd is to a node on Linux: it takes the signs of life that feed a
watchdog.
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from swapline_bench.end_to_end import EndToEnd, bus
from swapline_bench.faces import gnss
from swapline_bench.link_proxy import LinkProxy
from swapline_bench.node_process import NodeProcess
from swapline_bench.serial_line import SerialLine

START_S_MAX = 60.0
SEALED_S_MAX = 1.0  # the path's nodes seal twice a second


class Said(NamedTuple):
    """An epoch that a receiver said, and when it had said it."""

    utc_ms: int
    speed_kmh: float
    ended_utc_ms: int


class Receiver:
    """A GNSS receiver that drives straight on; its speed in km/h is the second of the epoch, from 0 to 99."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self._is_ending = False
        self._has_ended = asyncio.Event()

    async def run(self, line: SerialLine) -> None:
        """Say an epoch every second."""
        while not self._is_ending:
            await asyncio.sleep(1 - time.time() % 1)
            second = int(time.time() + 0.5)
            speed_kmh = float(second % 100)
            fix = gnss.Fix(datetime.fromtimestamp(second, UTC), 31.82, 117.29, 40.0, speed_kmh, 90.0)
            await asyncio.sleep(gnss.LATENCY_S)
            await line.write(gnss.burst(fix))
            self.said.append(Said(second * 1000, speed_kmh, int(time.time() * 1000)))
        self._has_ended.set()

    async def finish(self) -> None:
        """Say the present epoch to its end, and nothing after it."""
        self._is_ending = True
        await self._has_ended.wait()


class Supervisor:
    """The socket that systemd would give a node, and the longest time between two signs of life in it."""

    def __init__(self, path: Path) -> None:
        self.gap_s_max = 0.0
        self.signs = 0
        self.path = path
        self._last_s = 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._take)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while self._socket.recv(64):
                now_s = asyncio.get_running_loop().time()
                if self.signs:
                    self.gap_s_max = max(self.gap_s_max, now_s - self._last_s)
                self.signs += 1
                self._last_s = now_s


class LinkedNode:
    """A node, its receiver and its link."""

    def __init__(self, path: EndToEnd, name: str, link: LinkProxy) -> None:
        self.name = name
        self.link = link
        self.receiver = Receiver()
        self.line = SerialLine(f"{name} gnss", baudrate=gnss.BAUDRATE)
        self.supervisor = Supervisor(path.folder / f"{name}.notify")
        self.process: NodeProcess
        self._path = path
        self._started_s = 0.0

    async def add(self, *, prefix: Sequence[str] = (), **link: Any) -> Self:
        """Configure the node; `link` overrides keys of that section of its configuration."""
        await self._path.stack.enter_async_context(self.line)
        self._path.stack.enter_context(self.supervisor)
        self.process = await self._path.add_node(
            self.name,
            [bus("gnss", self.line.path, {"driver": "gnss"}, baudrate=gnss.BAUDRATE)],
            prefix=[*prefix, "env", f"NOTIFY_SOCKET={self.supervisor.path}"],
            link={"host": self.link.host, "port": self.link.port, "backoff_ms_max": 2000, **link},
            streams={"position": {"report": "all"}, "node": {"report": "all"}},
        )
        self.line.attach(self.receiver)
        return self

    async def switch_on(self) -> None:
        """Start it, whatever becomes of it."""
        self._started_s = time.monotonic()
        await self.process.start()

    async def start(self) -> None:
        """Start it and wait until rows of it are acknowledged."""
        self._started_s = time.monotonic()
        await self._path.start_node_again(self.process)
        await self._path.tap.wait_rows(self.name, "position", 3, START_S_MAX)

    async def wait_content(self, timeout_s: float = 90.0) -> None:
        """Wait until the node itself says that all it has sealed was acknowledged, what it has read by now included."""
        heard = self._path.tap[self.name]
        uptime_s = time.monotonic() - self._started_s + SEALED_S_MAX  # at most: it counts from a moment later

        def is_content() -> bool:
            health = heard.last("node")
            is_told = bool(health) and health["uptime_s"] >= uptime_s
            return is_told and health["frames_acknowledged"] >= health["frames_sealed"] and heard.is_acknowledged()

        await self._path.tap.wait(is_content, f"acknowledgement of all that {self.name} sealed", timeout_s)
