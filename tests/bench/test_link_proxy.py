"""The bad link of the bench: what it does to the bytes between two ends that speak real TCP."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import pytest

from swapline_bench.link_proxy import HEALTHY, MSS_BYTES, Impairment, LinkProxy

End = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SOON_S = 30.0  # everything here takes far less, unless it never happens


class Target:
    """A server whose connections the test plays by hand."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[End] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1")
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.ends.put_nowait((reader, writer))

    async def next(self) -> End:
        return await asyncio.wait_for(self.ends.get(), SOON_S)


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with Target() as one:
        yield one


@pytest.fixture
async def link(target: Target) -> AsyncIterator[LinkProxy]:
    async with LinkProxy("127.0.0.1", target.port, seed=1) as proxy:
        yield proxy


@pytest.fixture
async def connect(link: LinkProxy) -> AsyncIterator[Callable[[], Awaitable[End]]]:
    writers: list[asyncio.StreamWriter] = []

    async def open_one() -> End:
        reader, writer = await asyncio.open_connection(link.host, link.port)
        writers.append(writer)
        return reader, writer

    yield open_one
    for writer in writers:
        writer.transport.abort()  # what a bad link still holds would keep `close` waiting
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def test_healthy_link_hands_on_bytes_and_ends_of_both_directions(
    target: Target, connect: Callable[[], Awaitable[End]]
) -> None:
    reader, writer = await connect()
    far_reader, far_writer = await target.next()
    data = bytes(range(256)) * 5000
    sent = asyncio.create_task(send(writer, data))
    assert await asyncio.wait_for(far_reader.readexactly(len(data)), SOON_S) == data
    await sent
    writer.write_eof()
    assert await asyncio.wait_for(far_reader.read(), SOON_S) == b""
    await send(far_writer, b"answer after the other end has finished")
    far_writer.close()
    assert await asyncio.wait_for(reader.read(), SOON_S) == b"answer after the other end has finished"


async def test_delay_is_one_way_and_does_not_add_up_over_segments(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    _, writer = await connect()
    far_reader, _ = await target.next()
    link.impair(Impairment(delay_s=0.5))
    start_s = time.monotonic()
    await send(writer, bytes(10 * MSS_BYTES))
    await asyncio.wait_for(far_reader.readexactly(10 * MSS_BYTES), SOON_S)
    assert 0.5 <= time.monotonic() - start_s < 4.5  # ten times the delay would be 5 s


async def test_new_connection_pays_for_its_handshake(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    link.impair(Impairment(delay_s=0.3))
    start_s = time.monotonic()
    await connect()
    await target.next()
    assert time.monotonic() - start_s >= 0.6


async def test_rate_is_shared_by_all_connections_of_a_direction(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    ends = [(await connect(), await target.next()) for _ in range(2)]
    link.impair(Impairment(rate_bit_s=80_000))
    start_s = time.monotonic()
    sends = [asyncio.create_task(send(writer, bytes(5000))) for (_, writer), _ in ends]
    for _, (far_reader, _) in ends:
        await asyncio.wait_for(far_reader.readexactly(5000), SOON_S)
    await asyncio.gather(*sends)
    assert time.monotonic() - start_s >= 10_000 * 8 / 80_000


async def test_slow_link_holds_up_its_sender(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    _, writer = await connect()
    await target.next()
    link.impair(Impairment(rate_bit_s=8000))
    writer.transport.set_write_buffer_limits(high=0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(send(writer, bytes(30_000_000)), 1.0)


async def test_lossy_link_keeps_order_and_loses_nothing_in_the_end(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    _, writer = await connect()
    far_reader, _ = await target.next()
    link.impair(Impairment(loss=0.3, jitter_s=0.01))
    data = b"".join(number.to_bytes(4, "big") for number in range(5000))
    start_s = time.monotonic()
    sent = asyncio.create_task(send(writer, data))
    assert await asyncio.wait_for(far_reader.readexactly(len(data)), SOON_S) == data
    await sent
    assert link.figures.segments_lost > 0
    assert time.monotonic() - start_s >= 0.2  # a lost segment costs a timeout


async def test_same_seed_loses_the_same_segments() -> None:
    async def lost(seed: int) -> list[float]:
        proxy = LinkProxy("127.0.0.1", 9, seed=seed)
        proxy.impairment = Impairment(loss=0.3, jitter_s=0.1)
        return [proxy.up.arrival_s(1000, 0.0) for _ in range(50)]

    assert await lost(1) == await lost(1)
    assert await lost(1) != await lost(2)


async def test_healing_lets_what_was_on_its_way_arrive_at_once(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    _, writer = await connect()
    far_reader, _ = await target.next()
    link.impair(Impairment(delay_s=3600.0))
    await send(writer, b"first")
    await send(writer, b"second")
    link.heal()
    assert await asyncio.wait_for(far_reader.readexactly(11), SOON_S) == b"firstsecond"


async def swallowed(link: LinkProxy, count: int) -> None:
    async with asyncio.timeout(SOON_S):
        while link.figures.bytes_swallowed < count:  # noqa: ASYNC110 (a counter, no event)
            await asyncio.sleep(0.01)


async def test_silent_link_swallows_both_directions_and_a_connection_that_lost_bytes_never_recovers(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    _, writer = await connect()
    far_reader, far_writer = await target.next()
    link.impair(Impairment(is_silent=True))
    await send(writer, b"up")
    await send(far_writer, b"down")
    await swallowed(link, 6)
    link.heal()
    await send(writer, b"more")
    await send(far_writer, b"more")
    await swallowed(link, 14)
    writer.close()  # nor does its FIN arrive
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(far_reader.read(1), 0.3)


@pytest.mark.parametrize("is_up", [True, False])
async def test_link_can_be_silent_in_one_direction(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]], *, is_up: bool
) -> None:
    reader, writer = await connect()
    far_reader, far_writer = await target.next()
    link.impair(Impairment(is_silent_up=is_up, is_silent_down=not is_up))
    await send(writer, b"going up")
    await send(far_writer, b"coming down")
    if is_up:
        assert await asyncio.wait_for(reader.readexactly(11), SOON_S) == b"coming down"
        await swallowed(link, 8)
    else:
        assert await asyncio.wait_for(far_reader.readexactly(8), SOON_S) == b"going up"
        await swallowed(link, 11)


async def test_silent_link_accepts_and_says_nothing_and_serves_new_connections_when_healed(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    link.impair(Impairment(is_silent=True))
    reader, writer = await connect()
    await send(writer, b"hello")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.3)
    await swallowed(link, len(b"hello"))
    assert target.ends.empty()
    assert link.figures.bytes_swallowed == len(b"hello")
    link.heal()
    _, second = await connect()
    far_reader, _ = await target.next()
    await send(second, b"hello")
    assert await asyncio.wait_for(far_reader.readexactly(5), SOON_S) == b"hello"


async def test_connection_that_was_idle_during_silence_goes_on(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    _, writer = await connect()
    far_reader, _ = await target.next()
    link.impair(Impairment(is_silent=True))
    link.heal()
    await send(writer, b"after")
    assert await asyncio.wait_for(far_reader.readexactly(5), SOON_S) == b"after"


async def test_refusing_link_resets_what_is_open_and_keeps_its_port(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    reader, _ = await connect()
    await target.next()
    link.impair(Impairment(is_refusing=True))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), SOON_S)
    with pytest.raises(ConnectionRefusedError):
        await connect()
    link.heal()
    _, writer = await connect()
    far_reader, _ = await target.next()
    await send(writer, b"back")
    assert await asyncio.wait_for(far_reader.readexactly(4), SOON_S) == b"back"


async def test_cut_resets_both_ends_once(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    reader, _ = await connect()
    far_reader, _ = await target.next()
    link.cut()
    for end in (reader, far_reader):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(end.read(1), SOON_S)
    await connect()
    await target.next()


async def test_reset_of_one_end_reaches_the_other(target: Target, connect: Callable[[], Awaitable[End]]) -> None:
    reader, _ = await connect()
    _, far_writer = await target.next()
    far_writer.transport.abort()
    assert await _end_of(reader)


async def test_target_that_refuses_resets_the_client(link: LinkProxy, connect: Callable[[], Awaitable[End]]) -> None:
    link.retarget("127.0.0.1", 9)
    reader, _ = await connect()
    assert await _end_of(reader)


async def _end_of(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), SOON_S) == b""
    except ConnectionResetError:
        return True


async def test_retarget_leads_new_connections_elsewhere(
    target: Target, link: LinkProxy, connect: Callable[[], Awaitable[End]]
) -> None:
    await connect()
    await target.next()
    async with Target() as other:
        link.retarget("127.0.0.1", other.port)
        await connect()
        await other.next()
    assert target.ends.empty()


@pytest.mark.parametrize("wrong", [{"loss": 1.0}, {"loss": -0.1}, {"delay_s": -1.0}, {"rate_bit_s": -1.0}])
def test_impossible_links_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no link is like this"):
        Impairment(**wrong)


def test_healthy_link_is_no_impairment() -> None:
    assert Impairment() == HEALTHY
