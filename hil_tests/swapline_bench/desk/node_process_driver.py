"""The node as a MicroPython process of this computer: in a folder (Raspberry Pi), or as a virtual board."""

import asyncio
import collections
from pathlib import Path
from typing import Any

from swapline_bench.desk import bench_file
from swapline_bench.desk.node import NodeError, OnLine, OnPower
from swapline_bench.desk.virtual_board import FEATURES as BOARD_FEATURES
from swapline_bench.desk.virtual_board import VirtualBoard
from swapline_bench.desk.watchdog import NODE_SERVICE, Service
from swapline_bench.node_process import NodeProcess

RUN_S_MAX = 30.0
WATCHDOG_MS = 8000  # the configuration's default
_SNIPPET_FILE = "bench_snippet.py"


class ProcessNode:
    """`NodeProcess` with the verbs of `NodeUnderTest`; its folder plays the board's flash."""

    def __init__(
        self, name: str, resource: bench_file.Node, folder: Path, *, on_line: OnLine, on_power: OnPower
    ) -> None:
        self.name = name
        self.folder = folder
        self.features = frozenset({"power", "watchdog", "snippet", "heap_limit", "clock"})
        self._resource = resource
        self._on_line = on_line
        self._on_power = on_power
        self._bundle = folder
        self._process: NodeProcess | None = None
        self._nothing: collections.deque[str] = collections.deque(maxlen=1)

    @property
    def process(self) -> NodeProcess:
        """Return the process, for tests of what only a process has. Raises `NodeError` before it was flashed."""
        if self._process is None:
            raise NodeError(f"{self.name} has no firmware yet: flash it first.")
        return self._process

    @property
    def lines(self) -> collections.deque[str]:
        """Return the log, newest last."""
        return self._nothing if self._process is None else self._process.lines

    @property
    def is_running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.is_running

    async def flash(self, bundle: Path) -> None:
        """Take the firmware from `bundle`; a journal that is there stays."""
        if self.is_running:
            raise NodeError(f"{self.name} runs: stop it before it is flashed.")
        self._bundle = bundle
        self._process = self._make_process(on_line=self._on_line, on_power=self._on_power, service=NODE_SERVICE)

    async def configure(self, config: dict[str, Any]) -> None:
        """Write `config.json`. The bench plays systemd, whose `WatchdogSec=` is the configuration's `watchdog_ms`."""
        self.process.configure(config)
        watchdog_ms = config.get("watchdog_ms")
        self.process.watchdog.timeout_s = (watchdog_ms if isinstance(watchdog_ms, int) else WATCHDOG_MS) / 1000

    async def start(self, *, snippet: str | None = None) -> None:
        """Start the process."""
        if self.is_running:
            raise NodeError(f"{self.name} runs already.")
        await self.process.start(snippet=snippet)

    async def stop(self) -> None:
        """Ask the process to stop in order. Raises `NodeError` where it does not, or ends with a code of failure."""
        code = await self.process.stop()
        if code != 0:
            raise NodeError(f"{self.name} ended with {code}; its last lines:\n{self.process.log_tail()}")

    async def cut_power(self) -> None:
        """Kill the process."""
        if self._process is not None:
            await self._process.cut_power()

    async def brown_out(self, warning_ms: int) -> None:
        """Raise `NodeError`: a process in a folder has no power-good input."""
        raise NodeError(
            f"{self.name} has no power-good input that could fall {warning_ms} ms before its supply: only the virtual "
            "board has one, [node.flash] kind = 'block_device'."
        )

    async def reset(self) -> None:
        """Kill the process and start it anew."""
        await self.process.cut_power()
        await self.process.start()

    async def run(self, snippet: str) -> str:
        """Run code in an interpreter of its own that has the firmware's modules and the node's folder."""
        if self.is_running:
            raise NodeError(f"{self.name} runs its firmware: stop it before other code is run.")
        program = self.folder / _SNIPPET_FILE
        program.write_text(snippet, encoding="utf-8")
        printed: list[str] = []
        process = self._make_process(on_line=printed.append)
        try:
            await process.start(program=program)
            async with asyncio.timeout(RUN_S_MAX):
                code = await process.wait()
        except TimeoutError:
            raise NodeError(f"{self.name}: the code did not end within {RUN_S_MAX:.0f} s: {snippet[:80]!r}") from None
        finally:
            await process.cut_power()
            program.unlink(missing_ok=True)
        output = "\n".join(printed)
        if code != 0:
            raise NodeError(f"{self.name}: the code ended with {code}:\n{output}")
        return output

    async def wait_for_line(self, text: str, *, timeout_s: float = 10.0) -> str:
        """Return the first log line that contains `text`."""
        return await self.process.wait_for_line(text, timeout_s=timeout_s)

    async def close(self) -> None:
        """Kill the process."""
        if self._process is not None:
            await self._process.close()

    def _make_process(
        self, *, on_line: OnLine, on_power: OnPower | None = None, service: Service | None = None
    ) -> NodeProcess:
        return NodeProcess(
            self.name,
            self.folder,
            bundle=self._bundle,
            heap_bytes=self._resource.heap_kib * 1024,
            on_line=on_line,
            on_power=on_power,
            service=service,
        )


class VirtualNode(ProcessNode):
    """`VirtualBoard` with the verbs of `NodeUnderTest`: flash of blocks, supply, reset button and watchdog."""

    def __init__(
        self, name: str, resource: bench_file.Node, folder: Path, *, on_line: OnLine, on_power: OnPower
    ) -> None:
        super().__init__(name, resource, folder, on_line=on_line, on_power=on_power)
        self.features = BOARD_FEATURES
        self._board: VirtualBoard | None = None

    @property
    def board(self) -> VirtualBoard:
        """Return the board, for faults of its flash. Raises `NodeError` before it was flashed."""
        if self._board is None:
            raise NodeError(f"{self.name} has no firmware yet: flash it first.")
        return self._board

    async def flash(self, bundle: Path) -> None:
        """Write the firmware to the flash; what else is there stays."""
        if self._board is None:
            flash = self._resource.flash
            assert isinstance(flash, bench_file.BlockDeviceFlash)
            self._process = self._board = VirtualBoard(
                self.name,
                self.folder,
                heap_bytes=self._resource.heap_kib * 1024,
                on_line=self._on_line,
                on_power=self._on_power,
                flash_bytes=flash.size_kib * 1024,
                is_flash_timed=flash.timed,
            )
        if self.is_running:
            raise NodeError(f"{self.name} runs: stop it before it is flashed.")
        await self._board.flash(bundle)

    async def brown_out(self, warning_ms: int) -> None:
        """Let power-good fall and take the power away `warning_ms` later."""
        await self.board.brown_out(warning_ms)

    async def reset(self) -> None:
        """Press the reset button."""
        await self.board.reset()

    async def run(self, snippet: str) -> str:
        """Run code on the board's file system."""
        return await self.board.run(snippet)
