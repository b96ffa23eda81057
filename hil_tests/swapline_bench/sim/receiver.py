"""A GNSS receiver by itself: bursts of a set or driving van, sentences without a fix, and recorded logs."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from swapline_bench.faces.gnss import LATENCY_S, SKY, GnssFace, burst, fix_of, gsv, sentence
from swapline_bench.replay import Chunk
from swapline_bench.serial_line import SerialLine

HEARD_S_MAX = 5.0
LOOK_S = 0.02


def burst_without_fix(utc: datetime) -> bytes:
    """Return one epoch of a receiver that has the time and no position, as u-blox receivers word it."""
    clock = f"{utc:%H%M%S}.00"
    bodies = [
        f"GNRMC,{clock},V,,,,,,,{utc:%d%m%y},,,N,V",
        "GNVTG,,,,,,,,,N",
        f"GNGGA,{clock},,,,,0,00,99.99,,,,,,",
        "GNGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99,1",
    ]
    untracked = [satellite._replace(snr_db=None) for satellite in SKY[:4]]
    return "".join([*(sentence(body) for body in bodies), *gsv(untracked)]).encode("ascii")


class ReceiverFace(GnssFace):
    """Writes what the device's settings say, once a second."""

    def __init__(self, view: Any) -> None:
        super().__init__(view)
        self._view = view

    async def _say(self, line: SerialLine, epoch: datetime) -> None:
        if not self._view.is_powered:
            return
        await asyncio.sleep(LATENCY_S)
        stated = epoch + timedelta(seconds=self._view.clock_error)
        fix = fix_of(self._view, stated)._replace(satellites_used=self._view.satellites)
        await line.write(burst(fix) if self._view.fix else burst_without_fix(stated))
        self.bursts += 1


class LogFace:
    """Plays a receiver's log once, or over and over, at `speed` times its own pace."""

    def __init__(self, chunks: Sequence[Chunk], *, speed: float = 1.0, is_endless: bool = False) -> None:
        self._chunks = chunks
        self._speed = speed
        self._is_endless = is_endless
        self.rounds = 0
        self.is_done = asyncio.Event()

    async def run(self, line: SerialLine) -> None:
        """Write the log's bytes in their order; `is_done` is set after the last one."""
        while self._is_endless or not self.rounds:
            for chunk in self._chunks:
                if chunk.pause_s:
                    await asyncio.sleep(chunk.pause_s / self._speed)
                await line.write(chunk.data)
            self.rounds += 1
        await _until_heard(line)
        self.is_done.set()


async def _until_heard(line: SerialLine) -> None:
    """Wait until the other end has read what was said, but not for somebody who does not listen."""
    looks = round(HEARD_S_MAX / LOOK_S)
    while line.unread_bytes() and looks > 0:
        await asyncio.sleep(LOOK_S)
        looks -= 1
