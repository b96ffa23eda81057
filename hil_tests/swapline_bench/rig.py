"""A rig: the whole path on one desk, every part of it the real one.

serial lines (the test plays) -> node processes (MicroPython) -> mosquitto -> gateway processes -> databases

async with Rig(folder) as rig:
    await rig.start_gateway("duckdb")
    node = await rig.start_node("van-001", [bus("gnss", end.path, {"driver": "gnss"})])
    ...play...
    await rig.tap.wait_rows("van-001", "position", 12)
    await rig.stop()
rows = DuckDatabase(rig.gateways["duckdb"].folder / "swapline.duckdb").rows(...)
"""

import asyncio
import contextlib
import json
import signal
import sys
import tomllib
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from swapline_bench import bundle, services
from swapline_bench.database import Database, DuckDatabase, Influx1Database, VictoriaDatabase
from swapline_bench.node_process import NodeProcess
from swapline_bench.tap import Tap

DATABASES = ("duckdb", "influxdb1", "influxdb2")  # the types of sink; VictoriaMetrics takes what influxdb2 writes
FLEET = "bench"
START_S_MAX = 30.0
STOP_S_MAX = 30.0
_LOG_TAIL_LINES = 40


class RigError(Exception):
    """A process of the rig ended or did not become ready; the message holds the end of its log."""


def bus(name: str, port: str, *devices: Mapping[str, Any], **line: Any) -> dict[str, Any]:
    """Return a bus entry of a node's configuration; `line` is baudrate, parity and so on."""
    return {"name": name, "port": port, "devices": [dict(device) for device in devices], **line}


class Gateway:
    """One `swapline gateway` process with its own folder: configuration, spool, embedded database and log."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._log = folder / "gateway.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, config: Path) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "swapline_gateway", "gateway", "--config", str(config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def stop(self) -> int:
        """Ask the gateway to shut down in order and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                return await self._process.wait()
        except TimeoutError as error:
            self._process.kill()
            await self._process.wait()
            raise RigError(f"{self.name} did not end within {STOP_S_MAX:.0f} s:\n{self.log_tail()}") from error

    def log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-_LOG_TAIL_LINES:])


class Rig:
    """Broker, tap, gateways and nodes in one folder; leaving the context ends whatever still runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = services.mosquitto()
        self.tap: Tap
        self.gateways: dict[str, Gateway] = {}
        self.nodes: dict[str, NodeProcess] = {}
        self._firmware: Path | None = None
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(self.broker)
            self.tap = Tap(self.broker.host, self.broker.port)
            self.run(self.tap.run(), "tap")
            async with asyncio.timeout(START_S_MAX):
                await self.tap.subscribed.wait()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await asyncio.gather(*(node.cut_power() for node in self.nodes.values()))
        await asyncio.gather(*(gateway.kill() for gateway in self.gateways.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        if error is not None:
            parts: list[NodeProcess | Gateway] = [*self.nodes.values(), *self.gateways.values()]
            for part in parts:
                error.add_note(f"--- {part.name}\n{part.log_tail()}")

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine (a player, a simulated device) until the rig is left."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def start_gateway(self, database: str, urls: Mapping[str, str] = MappingProxyType({})) -> Gateway:
        """Start `swapline gateway` for one of `DATABASES` and wait until it listens; `urls` says where servers are."""
        folder = self.folder / f"gateway-{database}"
        folder.mkdir(parents=True)
        config = folder / "gateway.toml"
        config.write_text(
            _toml(
                {
                    "mqtt": {"host": self.broker.host, "port": self.broker.port, "fleet": FLEET, "client_id": database},
                    "sink": {"type": database} if database == "duckdb" else {"type": database, "url": urls[database]},
                    "http": {"host": services.HOST, "port": 0, "console": False},
                    "state": {"publish": database == DATABASES[0]},
                    "log": {"format": "json"},
                }
            )
        )
        gateway = Gateway(database, folder)
        self.gateways[database] = gateway
        await gateway.start(config)
        return gateway

    async def start_node(self, name: str, buses: Sequence[Mapping[str, Any]], **config: Any) -> NodeProcess:
        """Start a node's firmware on `buses` and wait for its birth; `config` replaces defaults of the rig."""
        whole = {**self._node_config(name), "buses": list(buses), **config}
        node = NodeProcess(name, self.folder / name, bundle=await self.firmware(), config=whole)
        self.nodes[name] = node
        await self.start_node_again(node)
        return node

    async def start_node_again(self, node: NodeProcess) -> None:
        """Start a node that was stopped or killed, on the journal that it left."""
        await node.start()
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
            raise RigError(f"{node.name} ended with {node.returncode}:\n{node.log_tail()}")
        await waiting

    async def firmware(self) -> Path:
        """Return the compiled firmware, building it the first time."""
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
        """End all nodes, then all gateways, in order. Raises `RigError` for one that did not end well."""
        stages: list[list[NodeProcess | Gateway]] = [[*self.nodes.values()], [*self.gateways.values()]]
        for parts in stages:
            codes = await asyncio.gather(*(part.stop() for part in parts))
            for part, code in zip(parts, codes, strict=True):
                if code != 0:
                    raise RigError(f"{part.name} ended with {code}:\n{part.log_tail()}")


def open_database(name: str, folder: Path, urls: Mapping[str, str] = MappingProxyType({})) -> Database:
    """Open what the gateway `name` of the rig in `folder` has written."""
    if name == "duckdb":
        return DuckDatabase(folder / "gateway-duckdb" / "swapline.duckdb")
    if name == "influxdb1":
        return Influx1Database(urls[name], "swapline")
    return VictoriaDatabase(urls[name])


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of strings, numbers and flags as TOML; JSON writes those the same way."""
    lines = []
    for table, entries in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text
