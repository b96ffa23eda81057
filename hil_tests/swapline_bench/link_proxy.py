"""A bad link in user space: a TCP proxy that delays, loses, throttles, swallows, refuses and cuts.

    async with LinkProxy(broker.host, broker.port, seed=1) as link:
        node.configure({..., "link": {"host": link.host, "port": link.port}})
        link.impair(Impairment(delay_s=2.0, rate_bit_s=20_000))
        ...
        link.heal()

The ends speak real TCP with the proxy; what lies between is a model of what TCP makes of such a link:

- Data travel in segments of `MSS_BYTES`. One that is lost arrives a retransmission timeout later, which doubles with
  each further loss, and everything behind it waits: order is kept. Fast retransmits are not modelled, so the model is
  worse than the real thing; `packet_link` has the real thing where root can be had.
- All connections share the line: `rate_bit_s` is that of a direction, and each segment pays `HEADER_BYTES`.
- A new connection first loses and delays its handshake. The end that connects sees it established at once.
- Of each direction at most `WINDOW_BYTES` are on their way, then the sender is held up; on a slow line what it carries
  in about a second, as a modem does. The kernels' own buffers come on top.
- A silent link swallows what reaches it, also FIN and RST. A connection that lost bytes that way stays silent for ever:
  its ends must find that out by themselves. One that sent nothing meanwhile goes on.
- When the impairment changes, what was on its way arrives at once, or is swallowed by a link that became silent.
"""

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from typing import Self

from swapline_bench.services import HOST

MSS_BYTES = 1400
HEADER_BYTES = 40
WINDOW_BYTES = 65536
RETRANSMIT_S_MIN, RETRANSMIT_S_MAX = 0.2, 60.0  # Linux: at least 200 ms over the round trip; RFC 6298: at most 60 s
HANDSHAKE_RETRANSMIT_S = 1.0  # RFC 6298
LOSS_MAX = 0.95
_RECEIVE_BUFFER_BYTES = 32768
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Impairment:
    """What is wrong with a link, in both directions alike unless said otherwise; `delay_s` is one way.

    Up is away from the end that connects, down is towards it.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0  # up to so much more for each segment
    loss: float = 0.0  # share of segments
    rate_bit_s: float | None = None
    is_silent: bool = False  # half-open: swallow everything, keep sockets open, accept new ones and say nothing
    is_silent_up: bool = False  # the same for one direction; the other one works
    is_silent_down: bool = False
    is_refusing: bool = False  # reset what is open, refuse what is new

    def __post_init__(self) -> None:
        if min(self.delay_s, self.jitter_s) < 0 or not 0 <= self.loss <= LOSS_MAX or (self.rate_bit_s or 1) <= 0:
            raise ValueError(f"no link is like this: {self}")

    @property
    def window_bytes(self) -> int:
        """Return how much a direction holds before it holds up its sender."""
        if self.rate_bit_s is None:
            return WINDOW_BYTES
        return min(WINDOW_BYTES, max(2 * MSS_BYTES, int(self.rate_bit_s / 8 * (1 + self.delay_s))))


HEALTHY = Impairment()


@dataclass
class Figures:
    """What a proxy has seen."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_swallowed: int = 0
    segments_lost: int = 0
    resets: int = 0


class LinkProxy:
    """The link to one target. `target_host` and `target_port` may change; open connections stay where they are."""

    def __init__(self, target_host: str, target_port: int, *, seed: int = 0, host: str = HOST) -> None:
        self.host = host
        self.port = 0
        self.impairment = HEALTHY
        self.figures = Figures()
        self.changes = 0  # of the impairment
        self._changed = asyncio.Event()
        self._target = (target_host, target_port)
        self._random = random.Random(seed)  # noqa: S311 (a schedule that can be repeated, no secret)
        self.up = _Line(self)
        self.down = _Line(self)
        self._place: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        # A bound socket that does not listen keeps the port while the link refuses: nobody else can take it.
        self._place = _bind(self.host, self.port)
        self.port = self._place.getsockname()[1]
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._refuse()
        await self._end_connections()
        if self._place is not None:
            self._place.close()

    def retarget(self, host: str, port: int) -> None:
        """Lead new connections elsewhere."""
        self._target = (host, port)

    def impair(self, impairment: Impairment) -> None:
        """Make the link as bad as `impairment` says, at once."""
        self.impairment = impairment
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()
        self.up.clear()
        self.down.clear()
        if impairment.is_refusing:
            self._refuse()
            self.cut()
        else:
            self._listen()

    def heal(self) -> None:
        """Make the link good again."""
        self.impair(HEALTHY)

    def cut(self) -> None:
        """Reset all connections, both ends."""
        for connection, task in list(self._connections.items()):
            connection.reset()
            task.cancel()

    def draw(self) -> float:
        """Return the next random number from 0 to 1."""
        return self._random.random()

    async def travel(self, until_s: float) -> None:
        """Wait for a time of the event loop's clock, or for the link to become another one."""
        left_s = until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()

    async def connect_target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open the far side of a connection. Raises OSError."""
        return await asyncio.open_connection(*self._target, limit=WINDOW_BYTES // 2)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bind(self.host, self.port)
            self._listener.listen(100)
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept, self._listener)

    def _refuse(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            accepted, _ = listener.accept()
            self.figures.connections += 1
            connection = _Connection(self, accepted)
            task = asyncio.create_task(connection.run(), name="connection of a bad link")
            self._connections[connection] = task
            task.add_done_callback(lambda _: self._connections.pop(connection))

    async def _end_connections(self) -> None:
        tasks = list(self._connections.values())
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """One direction of the link: when a segment that is sent now arrives."""

    def __init__(self, proxy: LinkProxy) -> None:
        self._proxy = proxy
        self._free_s = 0.0  # when the line has sent what it was given

    def clear(self) -> None:
        """Forget what the line still has to send."""
        self._free_s = 0.0

    def arrival_s(self, count: int, now_s: float) -> float:
        """Return when `count` bytes arrive, which may take several attempts."""
        link = self._proxy.impairment
        cost_s = 0.0 if link.rate_bit_s is None else (count + HEADER_BYTES) * 8 / link.rate_bit_s
        self._free_s = max(now_s, self._free_s) + cost_s if link.rate_bit_s else now_s
        return self._free_s + self._lost_s(RETRANSMIT_S_MIN + 2 * link.delay_s) + self._travel_s()

    def handshake_s(self) -> float:
        """Return how long one way of a handshake takes."""
        return self._lost_s(HANDSHAKE_RETRANSMIT_S) + self._travel_s()

    def _travel_s(self) -> float:
        link = self._proxy.impairment
        return link.delay_s + (link.jitter_s * self._proxy.draw() if link.jitter_s else 0.0)

    def _lost_s(self, timeout_s: float) -> float:
        """Return what the losses of one segment cost."""
        loss = self._proxy.impairment.loss
        waited_s = 0.0
        while loss and self._proxy.draw() < loss:
            self._proxy.figures.segments_lost += 1
            waited_s += min(timeout_s, RETRANSMIT_S_MAX)
            timeout_s *= 2
        return waited_s


class _Connection:
    """One connection through the link."""

    def __init__(self, proxy: LinkProxy, accepted: socket.socket) -> None:
        self._proxy = proxy
        self._accepted = accepted
        self._writers: list[asyncio.StreamWriter] = []
        self._has_hole = False  # bytes were swallowed: nothing may follow them

    async def run(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=self._accepted, limit=WINDOW_BYTES // 2)
            self._writers.append(writer)
            handshake_s = self._proxy.up.handshake_s() + self._proxy.down.handshake_s()
            await self._proxy.travel(asyncio.get_running_loop().time() + handshake_s)
            if self.is_silent():
                while data := await reader.read(MSS_BYTES):
                    self._proxy.figures.bytes_swallowed += len(data)
                return
            far_reader, far_writer = await self._proxy.connect_target()
            self._writers.append(far_writer)
            async with asyncio.TaskGroup() as both:
                self._join(both, self._proxy.up, reader, far_writer)
                self._join(both, self._proxy.down, far_reader, writer)
        except* OSError:
            self.reset()  # one end has, or the target does not answer: the other end must learn it
        finally:
            for open_writer in self._writers:
                open_writer.close()

    def reset(self) -> None:
        """Send RST to both ends."""
        self._proxy.figures.resets += 1
        for one in [self._accepted, *(writer.get_extra_info("socket") for writer in self._writers)]:
            with contextlib.suppress(OSError):  # closed by its end
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        for writer in self._writers:
            writer.transport.abort()
        if not self._writers:
            self._accepted.close()

    def is_silent(self) -> bool:
        """Say whether what arrives now is swallowed, and remember it."""
        self._has_hole = self._has_hole or self._proxy.impairment.is_silent
        return self._has_hole

    def _join(
        self, group: asyncio.TaskGroup, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        pipe = _Pipe(self, self._proxy, line)
        group.create_task(pipe.take(reader))
        group.create_task(pipe.give(writer))


class _Pipe:
    """One direction of one connection: what is on its way, in order."""

    def __init__(self, connection: _Connection, proxy: LinkProxy, line: _Line) -> None:
        self._connection = connection
        self._proxy = proxy
        self._line = line
        self._segments: asyncio.Queue[tuple[float, int, bytes]] = asyncio.Queue()
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._has_hole = False

    async def take(self, reader: asyncio.StreamReader) -> None:
        """Put on the line what one end sends; an empty segment is its FIN."""
        loop = asyncio.get_running_loop()
        segment = b"-"
        while segment:
            while self._waiting_bytes >= self._proxy.impairment.window_bytes:
                self._room.clear()
                await self._room.wait()
            segment = await self._read(reader)
            self._waiting_bytes += len(segment)
            arrival_s = self._line.arrival_s(len(segment), loop.time())
            self._segments.put_nowait((arrival_s, self._proxy.changes, segment))

    async def give(self, writer: asyncio.StreamWriter) -> None:
        """Hand to the other end what has arrived."""
        while True:
            arrival_s, changes, segment = await self._segments.get()
            if changes == self._proxy.changes:
                await self._proxy.travel(arrival_s)
            if self._is_silent():
                self._proxy.figures.bytes_swallowed += len(segment)
            elif segment:
                self._count(len(segment))
                writer.write(segment)
                await writer.drain()
            else:
                writer.write_eof()
            self._waiting_bytes -= len(segment)
            self._room.set()
            if not segment:
                return

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(MSS_BYTES)
        except OSError:
            if self._is_silent():
                return b""  # the other end never sees the RST
            raise

    def _is_silent(self) -> bool:
        """Say whether what arrives now is swallowed, and remember it."""
        link = self._proxy.impairment
        self._has_hole = self._has_hole or (link.is_silent_up if self._line is self._proxy.up else link.is_silent_down)
        return self._connection.is_silent() or self._has_hole

    def _count(self, count: int) -> None:
        if self._line is self._proxy.up:
            self._proxy.figures.bytes_up += count
        else:
            self._proxy.figures.bytes_down += count


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket()
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)  # or it would swallow megabytes
    bound.bind((host, port))
    return bound
