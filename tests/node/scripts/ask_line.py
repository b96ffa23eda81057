"""Ask a serial line with one of the firmware's drivers, in MicroPython, and print the frames and the counters.

The argument is a job as JSON: `device` (as in a node's configuration), `line` (port, baudrate, parity), `polls`.
"""

# ruff: noqa: T201, UP031 (runs on MicroPython)

import asyncio
import binascii
import json
import sys

from swapline_node import driver
from swapline_node.boards.linux import Board
from swapline_node.bus import Bus, BusError
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler


class Store:
    """The journal's place: prints the frames."""

    def __init__(self) -> None:
        self.id = 1
        self.boot = 1
        self.next_seq = 1
        self.occupants = {}

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def append(self, frame: memoryview, seq: int, priority: int) -> int:  # noqa: ARG002
        print("frame", binascii.hexlify(bytes(frame)).decode())
        self.next_seq = seq + 1
        return 0

    def commit(self) -> bool:
        return True


async def run(job):
    board = Board()
    counters = Counters()
    clock = Clock(board.ticks_ms, board.ticks_diff, utc_ms_min=0)
    sampler = Sampler(Store(), clock, counters)
    streams = ("position", "module", "cells", "meter", "vehicle", "slot")
    sampler.overrides = {name: {"report": "all"} for name in streams}
    reader, writer = board.open_uart(job["line"])
    bus = Bus("line", reader, writer, counters, clock)
    device = driver.make(job["device"]["driver"], sampler, clock, counters, job["device"])
    errors = []
    if device.listens:
        task = asyncio.create_task(device.run(bus))
        await asyncio.sleep(job["polls"])
        task.cancel()
    else:
        for _ in range(job["polls"]):
            try:
                await device.poll(bus)
            except BusError as error:
                errors.append("%s %s" % (type(error).__name__, error))
    sampler.seal_all()
    counts = {name: value for name, value in counters.__dict__.items() if name.startswith("bus_")}
    return {"errors": errors, "counters": counts}


print(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))))
