"""The servers around a node: broker, the link to it, a tap that listens along, and the gateway with its database."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swapline_bench import services
from swapline_bench.database import DuckDatabase
from swapline_bench.desk.bench_file import BenchFile, DeskError
from swapline_bench.desk.tasks import Tasks
from swapline_bench.end_to_end import FLEET
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.link_proxy import LinkProxy
from swapline_bench.services import whole
from swapline_bench.tap import Tap

SUBSCRIBE_S_MAX = 15.0


class Servers:
    """The servers of one desk. `tap` and `address` are there once `start` has returned."""

    def __init__(
        self,
        file: BenchFile,
        folder: Path,
        tasks: Tasks,
        *,
        seed: int,
        on_line: Callable[[str], None],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self.gateway = GatewayProcess(folder / "gateway", {}, on_line=self._take_line)
        self.network: LinkProxy | None = None
        self.tap: Tap
        self.address = (services.HOST, 0)  # where the node finds the broker
        self._file = file
        self._tasks = tasks
        self._seed = seed
        self._on_line = on_line
        self._on_message = on_message
        self._loop: asyncio.AbstractEventLoop

    @property
    def database(self) -> DuckDatabase:
        """Return the database, which can be asked when the gateway has ended."""
        return DuckDatabase(self.gateway.database_path)

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start all of them; `stack` ends what was started, also where the rest fails."""
        self._loop = asyncio.get_running_loop()
        host, port = await self._start_broker(stack)
        self.address = (self._file.broker.advertise or self._file.broker.host, port)
        if self._file.network.control == "proxy":
            self.network = await stack.enter_async_context(
                LinkProxy(host, port, seed=self._seed, host=self._file.broker.host)
            )
            self.address = (self.address[0], self.network.port)
        self.tap = Tap(host, port, on_message=self._on_message)
        listening = self._tasks.run(self.tap.run(), "tap")
        stack.push_async_callback(whole, self.gateway.kill)
        self.gateway.tables = self._gateway_tables(host, port)
        await self._until_subscribed(listening, f"{host}:{port}")
        await whole(self.gateway.start)

    async def _start_broker(self, stack: contextlib.AsyncExitStack) -> tuple[str, int]:
        """Return where the bench reaches the broker."""
        broker = self._file.broker
        if broker.kind == "external":
            return broker.host, broker.port
        is_behind_proxy = self._file.network.control == "proxy"
        server = services.mosquitto(host=services.HOST if is_behind_proxy else broker.host)
        await stack.enter_async_context(server)
        return server.host, server.port

    async def _until_subscribed(self, listening: asyncio.Task[None], where: str) -> None:
        subscribed = asyncio.create_task(self.tap.subscribed.wait())
        await asyncio.wait([subscribed, listening], timeout=SUBSCRIBE_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        subscribed.cancel()
        self._tasks.raise_failures()
        if not self.tap.subscribed.is_set():
            raise DeskError(f"The broker at {where} did not take a subscriber within {SUBSCRIBE_S_MAX:.0f} s.")

    def _gateway_tables(self, host: str, port: int) -> dict[str, dict[str, Any]]:
        return {
            "mqtt": {"host": host, "port": port, "fleet": FLEET, "client_id": f"gateway-{self._file.bench.name}"},
            "sink": {"type": "duckdb"},
            "http": {"port": 0, "console": False},
            "log": {"format": "json"},
        }

    def _take_line(self, line: str) -> None:
        """Take a line of the gateway's log from the thread that reads it."""
        self._loop.call_soon_threadsafe(self._on_line, line)
