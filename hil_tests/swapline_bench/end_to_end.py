"""The whole path on one desk, every part of it the real one.

Serial lines (the test plays) -> node processes (MicroPython) -> mosquitto -> gateway processes -> databases:

    async with EndToEnd(folder) as path:
        await path.start_gateway("duckdb")
        await path.start_node("van-001", [bus("gnss", end.path, {"driver": "gnss"})])
        ...play...
        await path.tap.wait_rows("van-001", "position", 12)
        await path.stop()
    rows = open_database("duckdb", folder).rows("position", "van-001")
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from swapline_bench import bundle, services
from swapline_bench.database import Database, DuckDatabase, Influx1Database, VictoriaDatabase
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.node_process import NodeProcess
from swapline_bench.services import whole
from swapline_bench.tap import Tap

DATABASES = ("duckdb", "influxdb1", "influxdb2")  # the types of sink; VictoriaMetrics takes what influxdb2 writes
FLEET = "bench"
START_S_MAX = 30.0
TAKEN_S_MAX = 30.0
_ASK_AGAIN_S = 0.05


class EndToEndError(Exception):
    """A process of the path ended or did not become ready; the message holds the end of its log."""


def bus(name: str, port: str, *devices: Mapping[str, Any], **line: Any) -> dict[str, Any]:
    """Return a bus entry of a node's configuration; `line` is baudrate, parity and so on."""
    return {"name": name, "port": port, "devices": [dict(device) for device in devices], **line}


class EndToEnd:
    """Broker, tap, gateways and nodes in one folder; leaving the context ends whatever still runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = services.mosquitto()
        self.tap: Tap
        self.gateways: dict[str, GatewayProcess] = {}
        self.nodes: dict[str, NodeProcess] = {}
        self._firmware: Path | None = None
        self._building = asyncio.Lock()
        self.stack = contextlib.AsyncExitStack()  # for lines that must outlive the nodes that have them open
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        try:
            await self.stack.enter_async_context(self.broker)
            self.tap = Tap(self.broker.host, self.broker.port)
            self.run(self.tap.run(), "tap")
            async with asyncio.timeout(START_S_MAX):
                await self.tap.subscribed.wait()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end()
        if error is not None:
            parts: list[NodeProcess | GatewayProcess] = [*self.nodes.values(), *self.gateways.values()]
            for part in parts:
                error.add_note(f"--- {part.name}\n{part.log_tail()}")

    async def _end(self) -> None:
        """End whatever still runs, the broker also where the end of another part fails."""
        async with self.stack:
            await asyncio.gather(*(node.cut_power() for node in self.nodes.values()))
            await asyncio.gather(*(whole(gateway.kill) for gateway in self.gateways.values()))
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine (a player, a simulated device) until the path is left."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def start_gateway(
        self, database: str, urls: Mapping[str, str] = MappingProxyType({}), **mqtt: Any
    ) -> GatewayProcess:
        """Start `swapline gateway` for one of `DATABASES` and wait until it listens.

        `urls` says where servers are, `mqtt` replaces keys of that section.
        """
        broker = {"host": self.broker.host, "port": self.broker.port}
        tables: dict[str, dict[str, Any]] = {
            "mqtt": {**broker, "fleet": FLEET, "client_id": database, **mqtt},
            "sink": {"type": database} if database == "duckdb" else {"type": database, "url": urls[database]},
            "http": {"port": 0, "console": False},
            "state": {"publish": database == DATABASES[0]},
            "log": {"format": "json"},
        }
        gateway = GatewayProcess(self.folder / f"gateway-{database}", tables, name=database)
        self.gateways[database] = gateway
        await whole(gateway.start)
        return gateway

    async def start_node(self, name: str, buses: Sequence[Mapping[str, Any]], **config: Any) -> NodeProcess:
        """Start a node's firmware on `buses` and wait for its birth; `config` replaces defaults of the path."""
        node = await self.add_node(name, buses, **config)
        await self.start_node_again(node)
        return node

    async def add_node(
        self,
        name: str,
        buses: Sequence[Mapping[str, Any]],
        *,
        prefix: Sequence[str] = (),
        firmware: Path | None = None,
        **config: Any,
    ) -> NodeProcess:
        """Configure a node that is switched on later; `prefix` as `NodeProcess` takes it.

        With `firmware`, it runs that bundle: one with a driver of the test's own.
        """
        whole = {**self._node_config(name), "buses": list(buses), **config}
        taken = firmware or await self.firmware()
        node = NodeProcess(name, self.folder / name, bundle=taken, config=whole, prefix=prefix)
        self.nodes[name] = node
        return node

    async def start_node_again(self, node: NodeProcess, *, snippet: str | None = None) -> None:
        """Start a node that was stopped or killed, on the journal that it left; `snippet` as `NodeProcess` takes it."""
        await node.start(snippet=snippet)
        await self._wait_alive(node, self.tap.wait_online(node.name, START_S_MAX))

    async def wait_health(self, name: str) -> None:
        """Wait for a health row that a node takes from now on, so that its counters tell what happened until now."""
        count = self.tap[name].row_count("node")
        await self.tap.wait_rows(name, "node", count + 1)

    async def _wait_alive(self, node: NodeProcess, event: Coroutine[Any, Any, None]) -> None:
        """Wait for `event`, but not longer than the process lives."""
        waiting = asyncio.ensure_future(event)
        ended = asyncio.ensure_future(node.wait())
        await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not waiting.done():
            waiting.cancel()
            raise EndToEndError(f"{node.name} ended with {node.returncode}:\n{node.log_tail()}")
        await waiting

    async def firmware(self) -> Path:
        """Return the compiled firmware, building it the first time."""
        async with self._building:
            if self._firmware is None:
                self._firmware = await asyncio.to_thread(bundle.build, self.folder / "firmware")
        return self._firmware

    def _node_config(self, name: str) -> dict[str, Any]:
        return {
            "fleet": FLEET,
            "node": name,
            "holder": "van",
            "link": {"host": self.broker.host, "port": self.broker.port},
            "journal": {"path": "journal", "limit_bytes": 4_000_000},
            "seal_interval_ms": 500,
            "streams": {"node": {"report": "all"}},
        }

    async def stop(self) -> None:
        """End all nodes, then all gateways, in order. Raises `EndToEndError` for one that did not end well."""
        nodes, gateways = [*self.nodes.values()], [*self.gateways.values()]
        self._require_good_ends(nodes, await asyncio.gather(*(node.stop() for node in nodes)))
        await self._wait_taken()
        ends = await asyncio.gather(*(whole(gateway.stop) for gateway in gateways))
        self._require_good_ends(gateways, ends)

    @staticmethod
    def _require_good_ends(parts: Sequence[NodeProcess | GatewayProcess], codes: Sequence[int]) -> None:
        for part, code in zip(parts, codes, strict=True):
            if code != 0:
                raise EndToEndError(f"{part.name} ended with {code}:\n{part.log_tail()}")

    async def _wait_taken(self) -> None:
        """Wait until every gateway has what the stopped nodes sent: a node is content with the first that has it."""
        heard = [self.tap[name] for name in self.nodes]
        await self.tap.wait(lambda: all(one.status.get("online") is False for one in heard), "last wills")
        count = sum(len(one.frames) for one in heard)
        for gateway in self.gateways.values():
            async with asyncio.timeout(TAKEN_S_MAX):
                while (await asyncio.to_thread(gateway.figures))["frames_taken"] < count:  # noqa: ASYNC110
                    await asyncio.sleep(_ASK_AGAIN_S)  # another process: nothing to wait on


def open_database(name: str, folder: Path, urls: Mapping[str, str] = MappingProxyType({})) -> Database:
    """Open what the gateway `name` of the path in `folder` has written."""
    if name == "duckdb":
        return DuckDatabase(folder / "gateway-duckdb" / "swapline.duckdb")
    if name == "influxdb1":
        return Influx1Database(urls[name], "swapline")
    return VictoriaDatabase(urls[name])
