"""Poll a device while the heap is full to a different block each time; print what became of every reading."""

import asyncio
import gc
import json

from swapline_node.bus import Bus, Turn
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler
from swapline_wire.catalogue import LOSS_NO_MEMORY, NODE

ATTEMPTS = 200
BLOCK_BYTES = 32


class Clock:
    quality = 0
    anchor_utc_ms = 0
    now_ms = 0

    def uptime_ms(self):
        return self.now_ms

    def is_near(self, _utc_ms):
        return False


class Store:
    """A journal that takes a copy of each frame, as far as there is memory."""

    id = boot = 1
    next_seq = 1
    rows = 0

    def append(self, frame, _seq, _priority):
        bytes(frame)
        self.rows += frame[40] | frame[41] << 8
        return 0

    def commit(self):
        return False


class Device:
    name = "device"
    look_ms = 0
    listens = False
    period_ms = 10
    polls = 0

    def __init__(self, source):
        self.source = source

    async def poll(self, _bus):
        self.polls += 1
        bytes(100)  # an answer
        self.source.values[0] = self.polls
        self.source.commit()


class Port:
    s = None


def fill():
    """Take all that the heap has; return the blocks as a chain."""
    gc.collect()
    chain = None
    for size in (16384, 1024, BLOCK_BYTES):
        while True:
            try:
                chain = (bytearray(size), chain)
            except MemoryError:
                break
    return chain


async def run(bus, device):
    """Poll again and again, with nothing free at first, then with one more small block each time."""
    attempts = escaped = 0
    turn = Turn(device, 0)
    chain = fill()
    while attempts < ATTEMPTS:
        attempts += 1
        try:
            await bus._poll(turn)  # noqa: SLF001 - a bus by itself asks for ever
        except MemoryError:
            escaped += 1  # before the device was asked
        chain = chain[1]
    return attempts - escaped


counters = Counters()
store = Store()
sampler = Sampler(store, Clock(), counters)
sampler.overrides = {"node": {"report": "all"}}
device = Device(sampler.source(NODE))
attempts = asyncio.run(run(Bus("bus", Port, Port, counters, Clock()), device))
gc.collect()
sampler.seal_all()
lost = counters.take_rows_lost()
result = {"attempts": attempts, "polls": device.polls, "stored": store.rows, "lost": lost.get(LOSS_NO_MEMORY)}
print(json.dumps(result))  # noqa: T201 - what the test reads
