"""The player of recordings is a judge's tool: it must not lose, invent or reorder a byte."""

import asyncio
import os
from pathlib import Path

from swapline_bench.replay import Chunk, Exchange, SerialEnd, play, read_nmea
from swapline_bench.serial_line import SerialLine
from swapline_bench.sim.transcript import TranscriptFace

BAUDRATE = 115200
RMC = b"$GPRMC,1200%02d.00,A,4813.0535,N,00824.8697,E,0.00,0.00,101015,,,A*00\r\n"


async def read_from(end: SerialEnd, size: int) -> bytes:
    """Read what the line's other end receives."""
    return await ask(end, b"", size)


async def ask(end: SerialEnd | SerialLine, request: bytes, answer_bytes: int) -> bytes:
    """Send a request as a node does, and return the answer."""
    port = os.open(end.path, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(port, request)
        answer = b""
        while len(answer) < answer_bytes:
            answer += await asyncio.to_thread(os.read, port, answer_bytes - len(answer))
        return answer
    finally:
        os.close(port)


async def test_recording_longer_than_the_line_s_buffer_arrives_whole() -> None:
    chunks = [Chunk(0.0, bytes([i % 251]) * 1000) for i in range(50)]
    with SerialEnd() as end:
        received, sent = await asyncio.gather(read_from(end, 50_000), play(end, chunks))
    assert sent == 50_000
    assert received == b"".join(chunk.data for chunk in chunks)


async def test_pauses_of_the_recording_are_kept_at_the_asked_speed() -> None:
    loop = asyncio.get_running_loop()
    with SerialEnd() as end:
        started = loop.time()
        await asyncio.gather(read_from(end, 3), play(end, [Chunk(2.0, b"a"), Chunk(0.0, b"b"), Chunk(1.0, b"c")], 20.0))
        assert loop.time() - started >= 0.15


def test_log_is_paused_by_its_own_times_and_torn_at_its_cookies(tmp_path: Path) -> None:
    log = tmp_path / "receiver.log"
    lines = [b"# Delay-Cookie: | 0.01\n", RMC % 1, b"$GP|GGA\r\n", b"# remark\n", RMC % 4]
    log.write_bytes(b"".join(lines))
    assert read_nmea(log) == [
        Chunk(0.0, RMC % 1),
        Chunk(0.0, b"$GP"),
        Chunk(0.01, b"GGA\r\n"),
        Chunk(3.0, RMC % 4),
    ]


async def test_device_gives_each_request_its_answers_in_recorded_order_and_again() -> None:
    device = TranscriptFace([Exchange(b"AB", b"1"), Exchange(b"CD", b"x"), Exchange(b"AB", b"2")])
    async with SerialLine("recorded", baudrate=BAUDRATE) as line:
        line.attach(device)
        answers = [await ask(line, request, 1) for request in (b"AB", b"AB", b"CD", b"AB")]
    assert answers == [b"1", b"2", b"x", b"1"]
    assert device.asked == {b"AB": 3, b"CD": 1}


async def test_device_keeps_recorded_silence_and_counts_what_it_does_not_know() -> None:
    device = TranscriptFace([Exchange(b"AB", None), Exchange(b"CD", b"x"), Exchange(b"EF", b"y")])
    async with SerialLine("recorded", baudrate=BAUDRATE) as line:
        line.attach(device)
        silent = asyncio.create_task(ask(line, b"AB", 1))
        async with asyncio.timeout(5):
            await device.wait_asked(b"AB", 1)
        assert not silent.done()
        line.disturb(b"!")  # ends the reader that waits for the silent device
        assert await silent == b"!"
        assert await ask(line, b"GHICD", 1) == b"x"
    assert device.unknown == {b"GHI": 1}
    assert device.never_asked() == [b"EF"]


async def test_answer_leaves_after_its_recorded_latency() -> None:
    loop = asyncio.get_running_loop()
    async with SerialLine("recorded", baudrate=BAUDRATE) as line:
        line.attach(TranscriptFace([Exchange(b"AB", b"x", latency_s=0.4)], speed=2.0))
        started = loop.time()
        await ask(line, b"AB", 1)
        assert loop.time() - started >= 0.2


async def test_player_ends_when_the_node_has_read_everything() -> None:
    with SerialEnd() as end:
        player = asyncio.create_task(play(end, [Chunk(0.0, b"x" * 2000)]))
        assert await read_from(end, 1999) == b"x" * 1999
        done, _ = await asyncio.wait({player}, timeout=0.2)
        assert not done
        assert end.unread_bytes() == 1
        assert await read_from(end, 1) == b"x"
        assert await player == 2000
