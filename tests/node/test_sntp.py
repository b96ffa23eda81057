import asyncio
import socket
import struct
from typing import cast

import pytest

from swapline_node.clock import Clock
from swapline_node.log import Log
from swapline_node.sntp import Sntp, SntpError, ask, parse_answer
from swapline_wire.catalogue import TIME_NTP

TRANSMIT = bytes(range(8))
UTC_S = 1_800_000_000


def answer(seconds: int, *, first: int = 0x24, stratum: int = 2, originate: bytes = TRANSMIT) -> bytes:
    return bytes((first, stratum)) + bytes(22) + originate + bytes(8) + struct.pack(">II", seconds, 1 << 31)


def test_answer_gives_utc_in_milliseconds() -> None:
    assert parse_answer(answer(UTC_S + 2208988800), TRANSMIT) == UTC_S * 1000 + 500


def test_era_after_2036_is_understood() -> None:
    seconds = 2_200_000_000 + 2208988800
    assert parse_answer(answer(seconds - (1 << 32)), TRANSMIT) == 2_200_000_000_500


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(47),
        answer(1, first=0xE4),
        answer(1, stratum=0),
        answer(1, stratum=16),
        answer(1, first=0x23),
        answer(1, originate=bytes(8)),
    ],
)
def test_unusable_answer_is_refused(data: bytes) -> None:
    with pytest.raises(SntpError):
        parse_answer(data, TRANSMIT)


class Server(asyncio.DatagramProtocol):
    def __init__(self, *, is_silent: bool = False) -> None:
        self._is_silent = is_silent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._is_silent:
            self._transport.sendto(answer(UTC_S + 2208988800, originate=data[40:48]), addr)


async def serve(*, is_silent: bool = False) -> tuple[asyncio.DatagramTransport, int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(is_silent=is_silent), local_addr=("127.0.0.1", 0))
    return transport, transport.get_extra_info("sockname")[1]


async def test_client_sets_the_clock() -> None:
    transport, port = await serve()
    clock = Clock(lambda: 5000, lambda later, earlier: later - earlier, utc_ms_min=0)  # takes the first time at once
    was_set = asyncio.Event()
    clock.after_anchor = was_set.set
    task = asyncio.create_task(Sntp("127.0.0.1", port, clock, Log(clock.uptime_ms)).run())
    async with asyncio.timeout(10):
        await was_set.wait()
    task.cancel()
    transport.close()
    assert (clock.quality, clock.anchor_utc_ms) == (TIME_NTP, UTC_S * 1000 + 500)


async def test_silent_server_is_given_up_in_time() -> None:
    transport, port = await serve(is_silent=True)
    now = iter(range(0, 100000, 50))
    with pytest.raises(SntpError, match="no answer"):
        await ask(socket.AF_INET, ("127.0.0.1", port), lambda: next(now), timeout_ms=200)
    transport.close()
