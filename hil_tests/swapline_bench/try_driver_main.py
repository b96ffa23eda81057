"""Run one driver on one serial line: what `swapline try-driver` starts, in MicroPython.

Argument: a job (a JSON file) with `driver`, `config` (of the device), `bus` (as in a node's configuration) and `polls`.
Prints `listening`, or `poll NAME` after each poll: an error's name or `-`; `frame HEX` for each sealed frame, and
a last line of JSON with the counters. A device that talks by itself is heard until a line comes on standard input. Exit
code 3: the driver failed other than by a `BusError`; the trace is on standard error.
"""

# ruff: noqa: T201, PTH123, SIM115, ASYNC110, SIM105, UP031 (a script for MicroPython)

import asyncio
import binascii
import json
import select
import sys

from swapline_node import driver
from swapline_node.boards.linux import Board
from swapline_node.bus import Bus, BusError
from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler

_EXIT_FAILED = 3
_LOOK_S = 0.02


class Store:
    """Stands where the journal is, and prints the frames."""

    def __init__(self):
        self.id = 1
        self.boot = 1
        self.next_seq = 1
        self.occupants = {}

    def append(self, frame, seq, _priority):
        print("frame", binascii.hexlify(bytes(frame)).decode())
        self.next_seq = seq + 1
        return 0

    def occupy(self, bay, code):
        self.occupants[bay] = (code, None)

    def commit(self):
        return True


async def hear(device, bus, sampler):
    """Hear a device that talks by itself until the bench says that it has said everything."""
    task = asyncio.create_task(device.run(bus))
    stdin = select.poll()
    stdin.register(sys.stdin, select.POLLIN)
    while not stdin.poll(0) and not task.done():
        await asyncio.sleep(_LOOK_S)
    if task.done():
        await task
    await asyncio.sleep(_LOOK_S * 2)  # the last bytes have left the line, and may still be in the driver
    task.cancel()
    try:
        await task  # it keeps what it has heard of the last epoch
    except asyncio.CancelledError:
        pass
    sampler.seal_all()


async def ask(device, bus, sampler, polls):
    """Poll as a bus does, without the pauses."""
    silences = 0
    for _ in range(polls):
        name = "-"
        try:
            await device.poll(bus)
            silences = 0
        except BusError as error:
            name = "%s: %s" % (type(error).__name__, error)
            silences = silences + 1 if type(error).__name__ == "BusTimeout" else 0
            if silences == 3:
                device.silent()
        sampler.seal_all()
        print("poll", name)


async def main(job):
    board = Board()
    counters = Counters()
    clock = Clock(board.ticks_ms, board.ticks_diff, utc_ms_min=0)
    sampler = Sampler(Store(), clock, counters)
    device = driver.make(job["driver"], sampler, clock, counters, job["config"])
    print("streams", *(stream.name for stream in device.STREAMS))
    sampler.overrides = {stream.name: {"report": "all"} for stream in device.STREAMS}
    device = driver.make(job["driver"], sampler, clock, counters, job["config"])  # again: now it keeps every row
    reader, writer = board.open_uart(job["bus"])
    bus = Bus("line", reader, writer, counters, clock)
    if device.listens:
        print("listening")  # opening a port throws away what came before
        await hear(device, bus, sampler)
    else:
        await ask(device, bus, sampler, job["polls"])
    public = {name: value for name, value in counters.__dict__.items() if not name.startswith("_")}
    print(json.dumps({name: value for name, value in public.items() if isinstance(value, int)}))


try:
    asyncio.run(main(json.load(open(sys.argv[1]))))
except Exception as error:  # noqa: BLE001 - whatever the driver does wrong is shown as it is
    sys.print_exception(error, sys.stderr)
    sys.exit(_EXIT_FAILED)
