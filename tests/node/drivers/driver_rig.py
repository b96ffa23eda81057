"""Run one driver against a scripted line, under CPython or MicroPython alike, and print what came of it.

Called as a script with a job (a JSON file):
    driver, config     as in a node's configuration
    answers            request (hex) -> list of answers (hex, null: silence), the last one for ever
    polls              how often to poll; what each raised is in the result's `errors`
    nmea               instead of answers and polls: the file of what a receiver sends
    bursts, pause_s    the same in pieces (text), and how long the receiver is silent between them
    echo               the line hears its own requests
    queries            instead of a driver: Modbus bodies and their answers, to be asked one by one
Output: a line `frame <hex>` for each sealed frame, then one line of JSON with counters, errors and requests.
"""

# ruff: noqa: PTH123, T201, ASYNC110, ASYNC230, PERF401, SIM105 (runs on MicroPython too)

import asyncio
import binascii
import json
import sys

from swapline_node import driver
from swapline_node.bus import Bus, BusError
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.drivers.modbus import ModbusQuery
from swapline_node.sampler import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.driver import Driver

try:
    from time import ticks_diff, ticks_ms  # type: ignore[attr-defined]
except ImportError:
    from time import monotonic_ns

    def ticks_ms() -> int:
        return monotonic_ns() // 1000000

    def ticks_diff(now: int, before: int) -> int:
        return now - before


class Store:
    """The journal's place: prints the frames."""

    def __init__(self) -> None:
        self.id = 1
        self.boot = 1
        self.next_seq = 1
        self.occupants: dict[int, tuple[str, Any]] = {}

    def append(self, frame: memoryview, seq: int, priority: int) -> int:  # noqa: ARG002
        print("frame", binascii.hexlify(bytes(frame)).decode())
        self.next_seq = seq + 1
        return 0

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def commit(self) -> bool:
        return True


class Line:
    """Both ends of the stream: what is written looks up its answer."""

    def __init__(self, answers: "dict[str, list[str | None]]", echo: bool) -> None:
        self.answers = {binascii.unhexlify(key): list(value) for key, value in answers.items()}
        self._echo = echo
        self.s: Any = self  # the port behind the stream
        self.pending = b""
        self.requests: list[str] = []

    def write(self, data: bytes) -> None:
        data = bytes(data)
        self.requests.append(binascii.hexlify(data).decode())
        if self._echo:
            self.arrive(data)
        queue = self.answers.get(data, [None])
        answer = queue[0] if len(queue) == 1 else queue.pop(0)
        if answer is not None:
            self.arrive(binascii.unhexlify(answer))

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    def arrive(self, data: bytes) -> None:
        self.pending += data

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self.pending))
        buffer[:count] = self.pending[:count]
        self.pending = self.pending[count:]
        return count


async def hear_burst(line: Line, data: bytes) -> None:
    line.arrive(data)
    while line.pending:
        await asyncio.sleep(0)


async def hear(device: "Driver", bus: Bus, line: Line, job: "dict[str, Any]") -> None:
    task = asyncio.create_task(device.run(bus))
    for burst in job.get("bursts", []):
        await hear_burst(line, burst.encode())
        await asyncio.sleep(job["pause_s"])
    if "nmea" in job:
        with open(job["nmea"], "rb") as file:
            chunk = file.read(500)
            while chunk:
                await hear_burst(line, chunk)
                chunk = file.read(500)
    await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


async def ask(bus: Bus, line: Line, query: "dict[str, Any]") -> str:
    """Ask one Modbus query; return its payload as hex or the name of the error."""
    request = ModbusQuery(binascii.unhexlify(query["body"]))
    line.answers[request.request] = [query["answer"] or None]
    try:
        return binascii.hexlify(bytes(await bus.ask(request, 20))).decode()
    except BusError as error:
        return type(error).__name__


def make(job: "dict[str, Any]", sampler: Sampler, clock: Clock, counters: Counters) -> "Driver":
    config = {"driver": job["driver"], "timeout_ms": 40}
    config.update(job.get("config", {}))
    return driver.make(job["driver"], sampler, clock, counters, config)


async def poll(device: "Driver", bus: Bus) -> "str | None":
    """Poll once; return the name of the error, if any."""
    try:
        await device.poll(bus)
    except BusError as error:
        return type(error).__name__
    return None


async def run(job: "dict[str, Any]") -> "dict[str, Any]":
    counters = Counters()
    clock = Clock(ticks_ms, ticks_diff, utc_ms_min=0)
    sampler = Sampler(Store(), clock, counters)
    sampler.overrides = {
        name: {"report": "all"} for name in ("position", "module", "cells", "meter", "vehicle", "slot")
    }
    line = Line(job.get("answers", {}), job.get("echo", False))
    echo = job.get("echo", False)
    bus = Bus("line", line, line, counters, clock, has_echo=echo, silence_ms=1, late_ms=2)
    results = []
    for query in job.get("queries", []):
        results.append(await ask(bus, line, query))
    errors = []
    device: Any = None
    if "driver" in job:
        device = make(job, sampler, clock, counters)
        if "nmea" in job or "bursts" in job:
            await hear(device, bus, line, job)
        for _ in range(job.get("polls", 0)):
            errors.append(await poll(device, bus))
            await asyncio.sleep(0.002)
        if job.get("then_silent"):
            device.silent()
    sampler.seal_all()
    return {
        "counters": {name: value for name, value in counters.__dict__.items() if not name.startswith("_")},
        "errors": errors,
        "results": results,
        "requests": line.requests,
        "is_lfp": device.module.is_lfp if hasattr(device, "module") else None,
    }


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        result = asyncio.run(run(json.load(file)))
    print(json.dumps(result))
