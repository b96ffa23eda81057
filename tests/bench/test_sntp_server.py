"""The bench's SNTP server: the truth, a lie, silence, and a server that says that it does not know the time."""

import asyncio
import contextlib
import socket
import struct
import time
from datetime import timedelta

from swapline_bench.sntp_server import UNIX_EPOCH_S, SntpServer

COOKIE = b"12345678"


async def ask(server: SntpServer, timeout_s: float = 5.0) -> bytes:
    """Ask as a client does and return the answer's bytes. Raises TimeoutError."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendto(client, b"\x23" + bytes(39) + COOKIE, (server.host, server.port))
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().sock_recv(client, 100)


def utc_s(answer: bytes) -> float:
    seconds, fraction = struct.unpack(">II", answer[40:48])
    return float(seconds - UNIX_EPOCH_S + fraction / (1 << 32))


async def test_server_tells_the_time_and_repeats_the_question_s_cookie() -> None:
    async with SntpServer() as server:
        answer = await ask(server)
        assert abs(utc_s(answer) - time.time()) < 2
        assert len(answer) == 48
        assert answer[0] >> 6 == 0
        assert answer[24:32] == COOKIE


async def test_server_lies_by_as_much_as_it_is_told() -> None:
    async with SntpServer(utc_s=lambda: 1_800_000_000.25) as server:
        server.clock_error = timedelta(days=-1)
        assert utc_s(await ask(server)) == 1_800_000_000.25 - 86400


async def test_silent_server_counts_the_question_and_says_nothing() -> None:
    async with SntpServer() as server:
        server.is_silent = True
        question = asyncio.create_task(ask(server, timeout_s=0.5))
        await server.wait_questions(1)
        assert await asyncio.wait_for(asyncio.gather(question, return_exceptions=True), 5)
        assert isinstance(question.exception(), TimeoutError)
        assert (server.questions, server.answers) == (1, 0)


async def test_unsynchronised_server_says_so() -> None:
    async with SntpServer() as server:
        server.is_unsynchronised = True
        assert (await ask(server))[0] >> 6 == 3
