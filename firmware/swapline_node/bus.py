"""Bus: one serial line, half duplex. Asks, waits, and gives up in time; schedules the devices that share the line.

A `Query` (a protocol's file defines them) holds the request and knows how long its answer is and whether it is whole.
The bus sends it when the line is quiet, collects the answer and counts what went wrong, each failure once and by its
kind. One task owns a bus, so a slow or dead line delays nobody else; on the line itself a silent device is asked less
often.

What the bus needs of the board's stream: `await reader.read(n)` returns 1 to n bytes as soon as there are any.
"""

import asyncio

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Protocol

    from .clock import Clock
    from .counter import Counters
    from .log import Log

    class Reader(Protocol):
        """What the bus needs of an asyncio stream to read from."""

        async def read(self, n: int = -1) -> bytes: ...

    class Writer(Protocol):
        """What the bus needs of an asyncio stream to write to."""

        def write(self, data: bytes) -> "Any": ...
        async def drain(self) -> None: ...

    class Query(Protocol):
        """One request and what its answer must look like."""

        request: bytes

        def measure(self, answer: memoryview, count: int) -> int: ...
        def check(self, answer: memoryview) -> memoryview: ...

    class Device(Protocol):
        """What the schedule needs of a driver."""

        name: str
        listens: bool
        period_ms: int

        async def poll(self, bus: "Bus") -> None: ...
        async def run(self, bus: "Bus") -> None: ...
        def silent(self) -> None: ...


TimedOut = asyncio.TimeoutError

_ANSWER_BYTES_MAX = const(300)  # the longest answers that BMSs give are 260 bytes
_SILENCE_MS = const(5)  # more than 3.5 characters at 9600 baud, the gap that separates Modbus RTU frames
_LATE_MS = const(100)  # after a timeout the answer may still come: recorded packs answer up to 307 ms late
_FLUSH_READS_MAX = const(16)  # a line that talks without a pause for so many reads is not answering us
_SILENT_POLLS_MAX = const(3)  # after so many unanswered polls in a row a device is gone
_PERIOD_MS_MAX = const(5000)  # a silent device is asked at least so often, so that one that appears is seen soon
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


async def within_ms(awaitable: "Awaitable[Any]", timeout_ms: int) -> "Any":
    """Await with a limit; raises `TimedOut`."""
    return await asyncio.wait_for(awaitable, timeout_ms / 1000)


async def pause_ms(duration_ms: int) -> None:
    """Sleep; at least let the other tasks run."""
    await asyncio.sleep(max(duration_ms, 0) / 1000)


class Turn:
    """When a device is next asked, and how often it has failed in a row."""

    def __init__(self, device: "Device", due_ms: int) -> None:
        self.device = device
        self.due_ms = due_ms
        self.failures = 0
        self.silences = 0

    def delay_ms(self, period_ms_max: int) -> int:
        """Return the time until the next poll: the period, doubled for each silent poll from the third on."""
        period_ms = self.device.period_ms
        doublings = min(max(self.silences - _SILENT_POLLS_MAX + 1, 0), 8)
        return min(period_ms << doublings, max(period_ms_max, period_ms))


class Bus:
    """One line and its devices.

    `reopen` (optional) opens the line again after it failed: a USB adapter was unplugged. `has_echo` says that the
    transceiver hears itself, so that every request comes back before its answer.
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
        has_echo: bool = False,
        silence_ms: int = _SILENCE_MS,
        late_ms: int = _LATE_MS,
        period_ms_max: int = _PERIOD_MS_MAX,
    ) -> None:
        self.name = name
        self.counters = counters
        self.clock = clock
        self._reader = reader
        self._writer = writer
        self._log = log
        self._reopen = reopen
        self._has_echo = has_echo
        self._silence_ms = silence_ms
        self._late_ms = late_ms
        self._period_ms_max = period_ms_max
        self._is_late = False
        self._buffer = bytearray(_ANSWER_BYTES_MAX)
        self._view = memoryview(self._buffer)

    async def ask(self, query: "Query", timeout_ms: int) -> memoryview:
        """Send a query and return its answer's payload: a view that the next query overwrites. Raises `BusError`."""
        self.counters.count("bus_requests")
        try:
            return await self._exchange(query, timeout_ms)
        except BusError as error:
            self._count(error)
            raise

    def protocol_error(self, text: str) -> BusProtocolError:
        """Count and return an error for an answer that is whole but makes no sense; the caller raises it."""
        error = BusProtocolError(text)
        self._count(error)
        return error

    async def listen(self, size: int, timeout_ms: int) -> bytes:
        """Return what a device that talks by itself sent, at most `size` bytes; empty after `timeout_ms` of silence."""
        try:
            chunk: bytes = await within_ms(self._reader.read(size), timeout_ms)
        except TimedOut:
            return b""
        except OSError:
            await self._restore()
            return b""
        if not chunk:
            await pause_ms(timeout_ms)  # a closed line reads as empty at once: do not spin
        return chunk

    async def run(self, devices: "list[Device]") -> None:
        """Serve the line's devices for ever: one that talks by itself, or any number that are asked in turn."""
        if len(devices) == 1 and devices[0].listens:
            await devices[0].run(self)
            return
        now_ms = self.clock.uptime_ms()
        turns = [Turn(device, now_ms) for device in devices]
        while turns:
            turn = turns[0]
            for other in turns:
                if other.due_ms < turn.due_ms:
                    turn = other
            await pause_ms(turn.due_ms - self.clock.uptime_ms())
            await self._poll(turn)

    async def _poll(self, turn: Turn) -> None:
        """Ask one device and decide when it is next asked."""
        device = turn.device
        try:
            await device.poll(self)
            if turn.failures:
                self._say(device, "answers again")
            turn.failures = turn.silences = 0
        except BusError as error:
            turn.failures += 1
            turn.silences = turn.silences + 1 if isinstance(error, BusTimeout) else 0
            if turn.failures == 1:
                self._say(device, "%s %s" % (type(error).__name__, error))
            if turn.silences == _SILENT_POLLS_MAX:
                device.silent()
                self._say(device, "is silent")
        turn.due_ms = max(turn.due_ms + turn.delay_ms(self._period_ms_max), self.clock.uptime_ms())

    async def _exchange(self, query: "Query", timeout_ms: int) -> memoryview:
        try:
            await self._wait_for_quiet()
            self._writer.write(query.request)
            await self._writer.drain()
            count: int = await within_ms(self._collect(query), timeout_ms)
        except TimedOut:
            self._is_late = True
            raise BusTimeout("no whole answer in %d ms" % timeout_ms) from None
        except OSError as error:
            await self._restore()
            raise BusTimeout("line failed: %s" % error) from None
        return query.check(self._view[:count])

    async def _wait_for_quiet(self) -> None:
        """Throw away what came uninvited (noise, late answers) until the line has been silent long enough to talk."""
        silence_ms = self._late_ms if self._is_late else self._silence_ms
        self._is_late = False
        for _ in range(_FLUSH_READS_MAX):
            try:
                if not await within_ms(self._reader.read(_ANSWER_BYTES_MAX), silence_ms):
                    return
            except TimedOut:
                return
        raise BusProtocolError("line is never quiet")

    async def _collect(self, query: "Query") -> int:
        """Read the answer, complete by its own length, into the buffer; return its length."""
        if self._has_echo:
            await self._read(0, len(query.request))
            if self._view[: len(query.request)] != query.request:
                raise BusProtocolError("no echo")
        count = 0
        needed = query.measure(self._view, 0)
        while count < needed:
            if needed > _ANSWER_BYTES_MAX:
                raise BusProtocolError("answer of %d bytes" % needed)
            await self._read(count, needed)
            count = needed
            needed = query.measure(self._view, count)
        return count

    async def _read(self, start: int, end: int) -> None:
        """Fill the buffer from `start` to `end`."""
        while start < end:
            chunk = await self._reader.read(end - start)
            if not chunk:
                await pause_ms(self._silence_ms)  # a closed line reads as empty at once: do not spin
                continue
            self._view[start : start + len(chunk)] = chunk
            start += len(chunk)

    async def _restore(self) -> None:
        """Open a failed line again, not too often."""
        await pause_ms(_REOPEN_MS)
        if self._reopen is not None:
            try:
                self._reader, self._writer = self._reopen()
            except OSError:
                pass  # still away; every poll tries again and is counted as a timeout

    def _count(self, error: BusError) -> None:
        if isinstance(error, BusTimeout):
            self.counters.count("bus_timeouts")
        elif isinstance(error, BusChecksumError):
            self.counters.count("bus_checksum_errors")
        else:
            self.counters.count("bus_protocol_errors")

    def _say(self, device: "Device", text: str) -> None:
        if self._log is not None:
            self._log.warning(self.name, "%s %s" % (device.name, text))
