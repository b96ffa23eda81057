"""A cable between two pseudo terminals: what is written at one end comes out at the other, as between two adapters."""

import asyncio
import os
import pty
import tty
from typing import Self

_READ_BYTES = 4096


class PtyCable:
    """`left` and `right` are the paths of two serial ports that are wired to each other, TX to RX, until it is closed.

    What the other end's reader leaves no room for is gone, as on a wire, and counted.
    """

    def __init__(self) -> None:
        self._masters: list[int] = []
        self._slaves: list[int] = []
        self.bytes_discarded = 0
        for _ in range(2):
            master, slave = pty.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            self._masters.append(master)
            self._slaves.append(slave)
        self.left, self.right = (os.ttyname(slave) for slave in self._slaves)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for index in range(2):
            loop.add_reader(self._masters[index], self._carry, self._masters[index], self._masters[1 - index])
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for master in self._masters:
            loop.remove_reader(master)
        for descriptor in (*self._masters, *self._slaves):
            os.close(descriptor)

    def _carry(self, source: int, target: int) -> None:
        data = os.read(source, _READ_BYTES)
        try:
            written = os.write(target, data)
        except BlockingIOError:
            written = 0
        self.bytes_discarded += len(data) - written
