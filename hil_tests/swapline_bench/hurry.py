"""Let a node hurry: its clock and its waits run faster than real time, so that long durations pass in a test.

The firmware, its heap, its flash and what it does with a reading are those of every day. Its devices must keep up:
lines as fast as a pseudo terminal is, answers at once. A machine that is late is late by `speed` times as much.
"""

from typing import Any

from swapline_bench.request_face import RequestFace
from swapline_bench.rig import HolderRig

# MicroPython's event loop and the firmware both ask for the time here, and nowhere else.
_HURRY = """
import asyncio.core as core
import time
from swapline_node.boards import linux
ticks_ms = time.ticks_ms
core.ticks = lambda: ticks_ms() * {speed}
wait_io_event = core.IOQueue.wait_io_event
core.IOQueue.wait_io_event = lambda queue, wait_ms: wait_io_event(queue, wait_ms // {speed} if wait_ms > 0 else wait_ms)
linux.Board.ticks_ms = lambda board: ticks_ms() * {speed} & 0x3FFFFFFF
"""


def hurry(speed: int) -> str:
    """Return the MicroPython that lets a node's time pass `speed` times as fast; it runs before the firmware."""
    return _HURRY.format(speed=speed)


def hasten(rig: HolderRig, **device: Any) -> list[dict[str, Any]]:
    """Let a holder's lines and devices lose no time; return its buses, each device with these keys."""
    for line in rig.lines.values():
        line.pace = 0.0
    for face in rig.faces:
        if isinstance(face, RequestFace):
            face.turnaround_s = 0.0
    buses = rig.config(fleet="", host="", port=0)["buses"]
    return [{**bus, "devices": [{**one, **device} for one in bus["devices"]]} for bus in buses]
