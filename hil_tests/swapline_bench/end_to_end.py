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
import collections
import contextlib
import json
import signal
import sys
import tomllib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from swapline_bench import bundle, services
from swapline_bench.child import Child, dying_with_us
from swapline_bench.database import Database, DuckDatabase, Influx1Database, VictoriaDatabase
from swapline_bench.node_process import NodeProcess
from swapline_bench.tap import Tap

DATABASES = ("duckdb", "influxdb1", "influxdb2")  # the types of sink; VictoriaMetrics takes what influxdb2 writes
FLEET = "bench"
START_S_MAX = 30.0
STOP_S_MAX = 30.0
_ASK_AGAIN_S = 0.05
_LOG_LINES_MAX = 40


class EndToEndError(Exception):
    """A process of the path ended or did not become ready; the message holds the end of its log."""


def bus(name: str, port: str, *devices: Mapping[str, Any], **line: Any) -> dict[str, Any]:
    """Return a bus entry of a node's configuration; `line` is baudrate, parity and so on."""
    return {"name": name, "port": port, "devices": [dict(device) for device in devices], **line}


class Gateway(Child):
    """One `swapline gateway` process with its own folder: configuration, spool and embedded database."""

    def __init__(self, name: str, folder: Path, *, on_line: Callable[[str], None] | None = None) -> None:
        self.name = name
        self._on_line = on_line
        self.folder = folder
        self.url = ""  # of its pages, once it is ready
        self._lines: collections.deque[str] = collections.deque(maxlen=_LOG_LINES_MAX)
        self._ready = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def wait(self) -> int:
        """Wait for the process to end by itself and return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def start(self) -> None:
        """Start the process and wait until it takes frames. Raises `EndToEndError` with its log if it ends before."""
        program = Path(sys.executable).with_name("swapline")
        self._ready.clear()
        self._process = await asyncio.create_subprocess_exec(
            *dying_with_us(), str(program), "gateway", "--config", str(self.folder / "gateway.toml"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            process_group=0,  # a Ctrl-C on the terminal is for the bench
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read_log(self._process), name=f"log of {self.name}")
        ready = asyncio.create_task(self._ready.wait())
        done, _ = await asyncio.wait({ready, self._reader}, timeout=START_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if ready not in done:
            await self.kill()
            raise EndToEndError(f"gateway {self.name} was not ready within {START_S_MAX:.0f} s:\n{self.log_tail()}")

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while raw := await process.stdout.readline():
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            if self._on_line is not None:
                self._on_line(line)
            if '"event": "ready"' in line:
                self.url = json.loads(line)["url"]
                self._ready.set()

    async def stop(self) -> int:
        """Ask the gateway to shut down in order and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the gateway as a power cut does."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        if self._process is None or self._reader is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                code = await self._process.wait()
        except TimeoutError as error:
            self._process.kill()
            await self._process.wait()
            raise EndToEndError(f"{self.name} did not end within {STOP_S_MAX:.0f} s:\n{self.log_tail()}") from error
        await self._reader
        return code

    async def frames_taken(self) -> int:
        """Return how many frames the process has made durable since its start, by its own count."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
        family = next(f for f in text_string_to_metric_families(text) if f.name == "swapline_frames_taken")
        return int(family.samples[0].value)

    def log_tail(self) -> str:
        return "\n".join(self._lines)


class EndToEnd:
    """Broker, tap, gateways and nodes in one folder; leaving the context ends whatever still runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = services.mosquitto(prefix=dying_with_us())
        self.tap: Tap
        self.gateways: dict[str, Gateway] = {}
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
            await self.stack.aclose()
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
        await self.stack.aclose()
        if error is not None:
            parts: list[NodeProcess | Gateway] = [*self.nodes.values(), *self.gateways.values()]
            for part in parts:
                error.add_note(f"--- {part.name}\n{part.log_tail()}")

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine (a player, a simulated device) until the path is left."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def start_gateway(
        self, database: str, urls: Mapping[str, str] = MappingProxyType({}), **mqtt: Any
    ) -> Gateway:
        """Start `swapline gateway` for one of `DATABASES` and wait until it listens.

        `urls` says where servers are, `mqtt` replaces keys of that section.
        """
        folder = self.folder / f"gateway-{database}"
        folder.mkdir(parents=True)
        config = folder / "gateway.toml"
        config.write_text(
            to_toml(
                {
                    "mqtt": {
                        "host": self.broker.host,
                        "port": self.broker.port,
                        "fleet": FLEET,
                        "client_id": database,
                        **mqtt,
                    },
                    "sink": {"type": database} if database == "duckdb" else {"type": database, "url": urls[database]},
                    "http": {"host": services.HOST, "port": 0, "console": False},
                    "state": {"publish": database == DATABASES[0]},
                    "log": {"format": "json"},
                }
            )
        )
        gateway = Gateway(database, folder)
        self.gateways[database] = gateway
        await gateway.start()
        return gateway

    async def start_node(self, name: str, buses: Sequence[Mapping[str, Any]], **config: Any) -> NodeProcess:
        """Start a node's firmware on `buses` and wait for its birth; `config` replaces defaults of the path."""
        node = await self.add_node(name, buses, **config)
        await self.start_node_again(node)
        return node

    async def add_node(
        self, name: str, buses: Sequence[Mapping[str, Any]], *, prefix: Sequence[str] = (), **config: Any
    ) -> NodeProcess:
        """Configure a node that is switched on later; `prefix` as `NodeProcess` takes it."""
        whole = {**self._node_config(name), "buses": list(buses), **config}
        node = NodeProcess(name, self.folder / name, bundle=await self.firmware(), config=whole, prefix=prefix)
        self.nodes[name] = node
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
        await self._stop([*self.nodes.values()])
        await self._wait_taken()
        await self._stop([*self.gateways.values()])

    async def _stop(self, parts: Sequence[NodeProcess | Gateway]) -> None:
        codes = await asyncio.gather(*(part.stop() for part in parts))
        for part, code in zip(parts, codes, strict=True):
            if code != 0:
                raise EndToEndError(f"{part.name} ended with {code}:\n{part.log_tail()}")

    async def _wait_taken(self) -> None:
        """Wait until every gateway has what the stopped nodes sent: a node is content with the first that has it."""
        heard = [self.tap[name] for name in self.nodes]
        await self.tap.wait(lambda: all(one.status.get("online") is False for one in heard), "last wills")
        count = sum(len(one.frames) for one in heard)
        for gateway in self.gateways.values():
            async with asyncio.timeout(STOP_S_MAX):
                while await gateway.frames_taken() < count:  # noqa: ASYNC110 (another process: nothing to wait on)
                    await asyncio.sleep(_ASK_AGAIN_S)


def open_database(name: str, folder: Path, urls: Mapping[str, str] = MappingProxyType({})) -> Database:
    """Open what the gateway `name` of the path in `folder` has written."""
    if name == "duckdb":
        return DuckDatabase(folder / "gateway-duckdb" / "swapline.duckdb")
    if name == "influxdb1":
        return Influx1Database(urls[name], "swapline")
    return VictoriaDatabase(urls[name])


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of strings, numbers and flags as TOML; JSON writes those the same way."""
    lines = []
    for table, entries in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text
