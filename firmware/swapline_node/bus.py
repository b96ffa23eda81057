"""Bus: one serial line, half duplex. Asks, waits, and gives up in time; schedules the devices that share the line.

A `Query` (a protocol's file defines them) holds the request and knows how long its answer is and whether it is whole.
The bus sends it when the line is quiet, collects the answer and counts what went wrong, each failure once and by its
kind. One task owns a bus, so a slow or dead line delays nobody else; on the line itself a silent device is asked less
often. Between polls, where line and node have time, devices are looked at for alarms (`Driver.look`). No poll
waits for a look: where there is no time for one any more, the poll begins then. A node that has more to do than it can
(`has_time`) takes no looks: alarms are then judged at every poll.

A port is looked at every few milliseconds instead of awaited: `asyncio.wait_for` around a stream's `read` takes 2 KB of
heap each time (two tasks, a cancellation), and a station asks fifty times a second. What the bus needs of the board:
`reader.s.readinto(buffer)` returns how many bytes it has put there, 0 or None when there are none now; it never waits.
"""

import asyncio
import gc

from micropython import const

from swapline_wire.catalogue import LOSS_NO_MEMORY

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .clock import Clock
    from .counter import Counters
    from .log import Log

    class Port(Protocol):
        """A line's bytes as they come."""

        def readinto(self, buffer: memoryview) -> "int | None": ...

    class Reader(Protocol):
        """What the bus needs of an asyncio stream: the port behind it."""

        s: Port

    class Writer(Protocol):
        """What the bus needs of an asyncio stream to write to."""

        def write(self, data: bytes) -> "Any": ...
        async def drain(self) -> None: ...
        def close(self) -> None: ...

    class Query(Protocol):
        """One request and what its answer must look like."""

        request: bytes

        def measure(self, answer: memoryview, count: int) -> int: ...
        def check(self, answer: memoryview) -> memoryview: ...

    class Device(Protocol):
        """What the schedule needs of a driver."""

        name: str
        look_ms: int
        listens: bool
        period_ms: int

        async def poll(self, bus: "Bus") -> None: ...
        async def look(self, bus: "Bus") -> None: ...
        async def run(self, bus: "Bus") -> None: ...
        def silent(self) -> None: ...


_ANSWER_BYTES_MAX = const(316)  # the longest that BMSs give: 315 bytes, a JK of 24 cells
_SILENCE_MS = const(5)  # more than 3.5 characters at 9600 baud, the gap that separates Modbus RTU frames
_ANSWER_MS = const(5)  # a look for bytes while an answer comes: adds at most this to it, a few per cent of a board
_LISTEN_MS = const(20)  # in which 115200 baud bring 230 bytes
_LATE_MS = const(100)  # after a timeout the answer may still come: recorded packs answer up to 307 ms late
_FLUSH_READS_MAX = const(16)  # a line that talks without a pause for so many reads is not answering us
_SILENT_POLLS_MAX = const(3)  # after so many unanswered polls in a row a device is gone
_PERIOD_MS_MAX = const(5000)  # a silent device is asked at least so often, so that one that appears is seen soon
_LONE_PERIOD_MS_MAX = const(1000)  # a device that is alone on its line delays nobody: a module comes and is seen
_TURN_MS_MAX = const(5000)  # so often at least a bus that waits says that it is alive
_LOOK_MS_MIN = const(20)  # what a look takes is not known before the first one
_UNHEARD_MS_MAX = const(10000)  # a listener's line is opened again: one that was unplugged reads as silent for ever
_REOPEN_MS = const(1000)  # a USB adapter that was unplugged comes back after seconds


class BusError(Exception):
    """A transaction failed. The bus has counted it; whoever catches it tries again at the next poll."""


class BusTimeout(BusError):  # noqa: N818 it says what happened
    """Nobody answered, or not to the end."""


class BusChecksumError(BusError):
    """An answer was damaged on the line."""


class BusProtocolError(BusError):
    """An answer was whole but not what was asked for."""


class BusRefused(BusProtocolError):  # noqa: N818
    """The device answered that it will not do what was asked (a Modbus exception, a JBD error status)."""


async def _sleep_ms(duration_ms: int) -> None:
    await asyncio.sleep(duration_ms / 1000)


pause_ms = getattr(asyncio, "sleep_ms", _sleep_ms)  # MicroPython's own takes no heap


class Turn:
    """When a device is next asked and looked at, and how often it has failed in a row."""

    def __init__(self, device: "Device", due_ms: int) -> None:
        self.device = device
        self.due_ms = due_ms
        self.failures = 0
        self.silences = 0
        self.look_due_ms = -1  # never: from a poll that succeeds to whatever fails it is known
        self.look_took_ms = _LOOK_MS_MIN  # the last one

    def delay_ms(self, period_ms_max: int) -> int:
        """Return the time until the next poll: the period, doubled for each silent poll from the third on."""
        period_ms = self.device.period_ms
        doublings = min(max(self.silences - _SILENT_POLLS_MAX + 1, 0), 8)
        return min(period_ms << doublings, max(period_ms_max, period_ms))


class Away:
    """Stand for a line that is not there now."""

    def readinto(self, _buffer: memoryview) -> int:
        """Fail."""
        raise OSError("the line is away")

    def write(self, _data: bytes) -> None:
        """Fail."""
        raise OSError("the line is away")

    async def drain(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _ignore() -> None:
    """Stand for a listener that nobody has set."""


def _always() -> bool:
    return True


class Bus:
    """One line and its devices.

    `alive` is called more often than every 20 s unless a driver hangs. `has_time` (optional) says whether the node has
    time for looks. `reopen` (optional) opens the line again after it failed: a USB adapter was unplugged. `has_echo`
    says that the transceiver hears itself, so that every request comes back before its answer.
    """

    def __init__(
        self,
        name: str,
        reader: "Reader",
        writer: "Writer",
        counters: "Counters",
        clock: "Clock",
        *,
        log: "Log | None" = None,
        reopen: "Callable[[], tuple[Reader, Writer]] | None" = None,
        alive: "Callable[[], None] | None" = None,
        has_time: "Callable[[], bool] | None" = None,
        has_echo: bool = False,
        silence_ms: int = _SILENCE_MS,
        late_ms: int = _LATE_MS,
        period_ms_max: int = _PERIOD_MS_MAX,
    ) -> None:
        self.name = name
        self.counters = counters
        self.clock = clock
        self._port = reader.s
        self._writer = writer
        self._log = log
        self._reopen = reopen
        self._alive = alive or _ignore
        self._has_time = has_time or _always
        self.is_ending = False  # set by whoever is about to end it: then it begins no poll
        self.is_busy = False  # a device is being polled, or is talking
        self.memory_errors = 0
        self._heard_ms = clock.uptime_ms()
        self._has_echo = has_echo
        self._silence_ms = silence_ms
        self._late_ms = late_ms
        self._period_ms_max = period_ms_max
        self._is_late = False
        self._is_shared = False
        self._buffer = bytearray(_ANSWER_BYTES_MAX)
        self._view = memoryview(self._buffer)

    async def ask(self, query: "Query", timeout_ms: int) -> memoryview:
        """Send a query and return its answer's payload: a view that the next query overwrites. Raises `BusError`.

        The answer is complete by its own length. Waiting for it is no coroutine of its own: each takes 300 bytes.
        """
        self.counters.count("bus_requests")
        self._alive()
        try:
            await self._wait_for_quiet()
            self._writer.write(query.request)
            await self._writer.drain()
            deadline_ms = self.clock.uptime_ms() + timeout_ms
            echo_bytes = len(query.request) if self._has_echo else 0
            count = 0
            needed = echo_bytes or query.measure(self._view, 0)
            while count < needed:
                came = self._read(count, needed)
                if came:
                    count += came
                    if count == needed and echo_bytes:
                        self._check_echo(query, count)
                        count = echo_bytes = 0
                    if count == needed or not count:
                        needed = query.measure(self._view, count)
                elif self.clock.uptime_ms() >= deadline_ms:
                    self._is_late = True
                    raise BusTimeout("%d bytes of %d" % (count, needed))
                else:
                    await pause_ms(_ANSWER_MS)
            return query.check(self._view[:count])
        except BusError as error:
            self._count(error)
            raise
        except OSError as error:
            await self._restore()
            raise self._count(BusTimeout("line failed: %s" % error)) from None

    def protocol_error(self, text: str) -> BusProtocolError:
        """Count and return an error for an answer that is whole but makes no sense; the caller raises it."""
        error = BusProtocolError(text)
        self._count(error)
        return error

    async def listen(self, timeout_ms: int) -> bytes:
        """Return what a device that talks by itself has sent; empty after `timeout_ms` of silence."""
        deadline_ms = self.clock.uptime_ms() + timeout_ms
        self._alive()
        try:
            while True:
                count = self._port.readinto(self._view)
                if count:
                    self.is_busy = True
                    self._heard_ms = self.clock.uptime_ms()
                    await pause_ms(0)
                    return bytes(self._view[:count])
                if self.clock.uptime_ms() >= deadline_ms:
                    break
                await pause_ms(_LISTEN_MS)
            self.is_busy = False
            if deadline_ms - self._heard_ms < _UNHEARD_MS_MAX:
                return b""
        except OSError:
            pass
        self._heard_ms = self.clock.uptime_ms()
        self._count(BusTimeout("nothing heard"))
        await self._restore()
        return b""

    def close(self) -> None:
        """Close the line."""
        self._writer.close()

    async def run(self, devices: "list[Device]") -> None:
        """Serve the line's devices for ever: one that talks by itself, or any number that are asked in turn."""
        if len(devices) == 1 and devices[0].listens:
            await self._hear(devices[0])
            return
        self._is_shared = len(devices) > 1
        if not self._is_shared:
            self._period_ms_max = min(self._period_ms_max, _LONE_PERIOD_MS_MAX)
        now_ms = self.clock.uptime_ms()
        turns = [Turn(device, now_ms) for device in devices]
        while turns:
            turn = turns[0]
            for other in turns:
                if other.due_ms < turn.due_ms:
                    turn = other
            while turn.due_ms > self.clock.uptime_ms():
                look = self._next_look(turns)
                now_ms = self.clock.uptime_ms()
                next_ms = turn.due_ms if look is None else min(look.look_due_ms, turn.due_ms)
                if look is None or next_ms > now_ms:
                    await pause_ms(min(max(next_ms - now_ms, 0), _TURN_MS_MAX))
                elif now_ms + look.look_took_ms <= turn.due_ms:
                    await self._look(look)
                else:
                    break  # the poll, sooner: it sees what the look would have seen
                self._alive()
            await pause_ms(0)
            while self.is_ending:
                await pause_ms(_TURN_MS_MAX)
            self.is_busy = True
            await self._poll(turn)
            self.is_busy = False

    def _next_look(self, turns: "list[Turn]") -> "Turn | None":
        """Return the device that is to be looked at first; None while the node is too busy for looks."""
        if not self._has_time():
            return None
        first = None
        for turn in turns:
            if turn.look_due_ms >= 0 and (first is None or turn.look_due_ms < first.look_due_ms):
                first = turn
        return first

    async def _look(self, turn: Turn) -> None:
        """Look at one device. One that fails is not looked at again before a poll has succeeded, which tells of it."""
        began_ms = self.clock.uptime_ms()
        turn.look_due_ms = -1
        try:
            await turn.device.look(self)
        except BusError:  # counted by its kind
            if not self._is_shared:
                turn.due_ms = self.clock.uptime_ms()
            return
        except MemoryError:
            self._note_memory_error()
            return
        turn.look_took_ms = self.clock.uptime_ms() - began_ms
        turn.look_due_ms = began_ms + turn.device.look_ms

    async def _hear(self, device: "Device") -> None:
        """Let a device that talks by itself be heard, again after it ran out of memory."""
        while True:
            try:
                await device.run(self)
            except MemoryError:
                self._lose_reading(device)
                await pause_ms(_LISTEN_MS)
            else:
                return

    async def _poll(self, turn: Turn) -> None:
        """Ask one device and decide when it is next asked."""
        turn.look_due_ms = -1
        began_ms = self.clock.uptime_ms()
        device = turn.device
        try:
            await device.poll(self)
            if turn.failures:
                self._say(device, "answers again")
            turn.failures = turn.silences = 0
            if device.look_ms:
                turn.look_due_ms = began_ms + device.look_ms
        except BusError as error:
            self._note_failure(turn, error)
        except MemoryError:
            self._lose_reading(device)
        turn.due_ms = max(turn.due_ms + turn.delay_ms(self._period_ms_max), self.clock.uptime_ms())
        if turn.silences == 1 and not self._is_shared:
            turn.due_ms = self.clock.uptime_ms()  # it was pulled out in the middle: who sits there now?

    def _lose_reading(self, device: "Device") -> None:
        """Count the reading that was under way as a row lost. The interpreter has collected garbage already."""
        self._note_memory_error()
        self.counters.lose(LOSS_NO_MEMORY, rows=1)
        try:
            self._say(device, "a reading is lost: no memory")
        except MemoryError:
            pass  # it is counted

    def _note_memory_error(self) -> None:
        gc.collect()
        self._is_late = True
        self.memory_errors += 1
        self.counters.memory_errors += 1

    def _note_failure(self, turn: Turn, error: BusError) -> None:
        device = turn.device
        turn.failures += 1
        turn.silences = turn.silences + 1 if isinstance(error, BusTimeout) else 0
        if turn.failures == 1:
            self._say(device, "%s %s" % (type(error).__name__, error))
        if turn.silences == _SILENT_POLLS_MAX:
            device.silent()
            self._say(device, "is silent")

    async def _wait_for_quiet(self) -> None:
        """Throw away what came uninvited (noise, late answers) until the line has been silent long enough to talk."""
        silence_ms = self._late_ms if self._is_late else self._silence_ms
        self._is_late = False
        for _ in range(_FLUSH_READS_MAX):
            self._port.readinto(self._view)
            await pause_ms(silence_ms)
            if not self._port.readinto(self._view):
                return
        raise BusProtocolError("line is never quiet")

    def _read(self, count: int, needed: int) -> int:
        """Read what has come of an answer of `needed` bytes behind the first `count`; return how many bytes that is."""
        if needed > _ANSWER_BYTES_MAX:
            raise BusProtocolError("answer of %d bytes" % needed)
        return self._port.readinto(self._view[count:needed]) or 0

    def _check_echo(self, query: "Query", count: int) -> None:
        if self._view[:count] != query.request:
            raise BusProtocolError("no echo")

    async def _restore(self) -> None:
        """Open a failed line again, not too often. It is closed first, else its name stays taken."""
        if self._reopen is None:
            await pause_ms(_REOPEN_MS)
            return
        self._writer.close()
        self._port = self._writer = Away()
        await pause_ms(_REOPEN_MS)
        try:
            reader, self._writer = self._reopen()
            self._port = reader.s
        except OSError:
            pass  # still away; every poll tries again and is counted as a timeout

    def _count(self, error: BusError) -> BusError:
        if isinstance(error, BusTimeout):
            self.counters.count("bus_timeouts")
        elif isinstance(error, BusChecksumError):
            self.counters.count("bus_checksum_errors")
        else:
            self.counters.count("bus_protocol_errors")
        return error

    def _say(self, device: "Device", text: str) -> None:
        if self._log is not None:
            self._log.warning(self.name, "%s %s" % (device.name, text))
