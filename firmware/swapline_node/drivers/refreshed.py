"""Refreshed maps: what swapline's own two register maps share, a header with a map's name and an alive counter.

Source: docs/vehicle-controller.md and docs/slot-charger.md. The alive counter tells a reading from a repetition: an
answer with the counter of the one before is the same reading and makes no row, and a counter that stands still is a
dead device. A device of map version 1 has no request id, its last signal, and refuses to be asked for it: so a device
is asked for as much as version 1 has until it says that it has more. A look reads the registers behind the header, for
alarms alone: it makes no row and counts for no refresh.
"""

from micropython import const

from swapline_node.bus import BusRefused
from swapline_node.driver import Driver
from swapline_wire.catalogue import Stream

from .modbus import READ_INPUT_REGISTERS, RegisterMap, read

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_node.bus import Bus
    from swapline_node.clock import Clock
    from swapline_node.counter import Counters
    from swapline_node.sampler import Sampler

HEADER_REGISTERS = const(4)
_VERSION = const(2)
_ADDED_REGISTERS = const(2)  # by version 2
_STALE_MS = const(5000)  # five times the slowest refresh that the documents allow


class Refreshed(Driver):
    """A device with one of our maps. A subclass says which: its stream, its id, its table and what that compiles to."""

    STREAM: Stream
    MAP_ID = 0
    TABLE = ""
    MAP: RegisterMap
    has_look = True

    def __init__(
        self, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
    ) -> None:
        super().__init__(clock, counters, device_config)
        self._source = sampler.source(self.STREAM, self.bay)
        self._ask_for(self.MAP.registers - _ADDED_REGISTERS)
        self._alive = -1
        self._refreshed_ms = 0

    def _ask_for(self, registers: int) -> None:
        self._query = read(self.address, READ_INPUT_REGISTERS, 0, HEADER_REGISTERS + registers)
        self._look_query = read(self.address, READ_INPUT_REGISTERS, HEADER_REGISTERS, registers)

    async def poll(self, bus: "Bus") -> None:
        """Read the map; commit it if it was refreshed since the last poll. Raises `BusError`."""
        registers = self.MAP.registers
        try:
            answer = await bus.ask(self._query, self.timeout_ms)
        except BusRefused:
            self._ask_for(registers - _ADDED_REGISTERS)  # it may be another device now, of version 1
            raise
        if answer[0] << 8 | answer[1] != self.MAP_ID:
            raise bus.protocol_error("not this map: 0x%04X" % (answer[0] << 8 | answer[1]))
        version = answer[2] << 8 | answer[3]
        if not version:
            raise bus.protocol_error("map version 0")
        if version >= _VERSION and len(answer) < 2 * (HEADER_REGISTERS + registers):
            self._ask_for(registers)
            answer = await bus.ask(self._query, self.timeout_ms)
        alive = answer[4] << 8 | answer[5]
        now_ms = self.clock.uptime_ms()
        if alive == self._alive:
            if now_ms - self._refreshed_ms >= _STALE_MS:
                raise bus.protocol_error("not refreshed for %d ms" % (now_ms - self._refreshed_ms))
            return
        self._alive = alive
        self._refreshed_ms = now_ms
        self.MAP.fill(answer[2 * HEADER_REGISTERS :], self._source.values)
        self._source.commit()

    async def look(self, bus: "Bus") -> None:
        """Judge what the registers say now. Raises `BusError`."""
        self.MAP.fill(await bus.ask(self._look_query, self.timeout_ms), self._source.values)
        self._source.judge("")
