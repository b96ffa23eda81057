"""`swapline sim` processes for tests: started, asked by real clients, ended in order."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from pymodbus.client import AsyncModbusSerialClient

from swapline_bench.sim.control import send
from swapline_wire.decode import decode

REPOSITORY = Path(__file__).parents[2]
FIRMWARE = REPOSITORY / "firmware"
DRIVER_SCRIPT = REPOSITORY / "tests" / "node" / "scripts" / "ask_line.py"
PATIENCE_S = 20.0
SILENCE_S = 0.5  # nothing has come for so long: nothing will
# swapline_wire.frame: what each format has in place of a number, "not available" and "abnormal"
CODES = {"u8": (0xFF, 0xFE), "u16": (0xFFFF, 0xFFFE), "u32": (0xFFFFFFFF, 0xFFFFFFFE)}
CODES |= {"i8": (-0x80, -0x7F), "i16": (-0x8000, -0x7FFF), "i32": (-0x80000000, -0x7FFFFFFF)}


class SimProcess:
    """One simulator. `port` is what it printed first; `stdout` and `stderr` are whole once it has ended."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.port = ""
        self.stdout = ""
        self.stderr = ""
        self.returncode: int | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("swapline"),
            "sim",
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            self.port = (await self._process.stdout.readline()).decode().strip()
        return self

    async def end(self, number: signal.Signals | None = signal.SIGTERM) -> dict[str, Any]:
        """End it, or wait for its own end, and return its last line of JSON if there is one."""
        if self.returncode is None:
            if number is not None:
                self._process.send_signal(number)
            async with asyncio.timeout(PATIENCE_S):
                out, err = await self._process.communicate()
            self.stdout, self.stderr, self.returncode = out.decode(), err.decode(), self._process.returncode
        last = (self.stdout.strip().splitlines() or [""])[-1]
        return dict(json.loads(last)) if last.startswith("{") else {}

    async def __aexit__(self, *_: object) -> None:
        if self.returncode is None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.communicate()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition over another process holds, which tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_asked(count: int, name: str = "jbd") -> None:
    """Wait until a simulator was asked so often, and has begun its answers or decided to give none."""
    await until(lambda: send(name, {"do": "status"})["asked"] >= count)


@asynccontextmanager
async def modbus_client(
    port: str, baudrate: int, timeout_s: float = PATIENCE_S
) -> AsyncIterator[AsyncModbusSerialClient]:
    """Return pymodbus's own client on a line, which asks once and waits so long for the answer."""
    client = AsyncModbusSerialClient(port, baudrate=baudrate, timeout=timeout_s, retries=0)
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


async def ask_driver(driver: str, line: dict[str, Any], *, polls: int = 3, timeout_ms: int = 500) -> dict[str, Any]:
    """Let the firmware's driver in real MicroPython ask a line; return its last rows by stream, and its counters."""
    job = {"device": {"driver": driver, "address": 1, "bay": 1, "timeout_ms": timeout_ms}, "line": line, "polls": polls}
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("micropython"),
        "-X",
        "heapsize=2M",
        str(DRIVER_SCRIPT),
        json.dumps(job),
        env={**os.environ, "MICROPYPATH": f".frozen:{FIRMWARE}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    *frames, last = out.decode().splitlines()
    result: dict[str, Any] = json.loads(last)
    for frame in frames:
        result.update(_last_row(frame.removeprefix("frame ")))
    return result


def _last_row(frame: str) -> dict[str, Any]:
    """Return the last row of a frame as `stream.signal` -> quantity; None where there is none."""
    decoded = decode(bytes.fromhex(frame))
    stream = decoded.stream.name
    row: dict[str, Any] = {f"{stream}.owner": decoded.header.owner}
    for signal_, raw in zip(decoded.signals, decoded.rows[-1][1:], strict=True):
        row[f"{stream}.{signal_.name}"] = None if raw in CODES[signal_.format] else raw / 10**signal_.decimals
    return row
