"""Points straight to a database that is away, refuses, and is back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import structlog
from pydantic import SecretStr

from swapline_gateway.config import Influxdb2Config
from swapline_gateway.error import SinkBusyError, SinkRejectedError
from swapline_gateway.vitals.point import Point, format_points, make_line_sink, make_point
from swapline_gateway.vitals.sender import PointSender
from swapline_gateway.vitals.table import DISK
from tests.gateway.fake_influx import FakeInflux
from tests.gateway.test_gateway import until


class MemorySink:
    """Keeps lines, or raises what it is told to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.error: Exception | None = None
        self.attempts = 0

    def send(self, body: bytes) -> None:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        self.lines += body.decode().splitlines()

    def close(self) -> None:
        pass


def point(number: int) -> Point:
    return make_point(DISK, number, "g 1", "/var,x", free_bytes=number, total_bytes=9, free_share=number / 9)


@contextlib.asynccontextmanager
async def running(sender: PointSender) -> AsyncIterator[PointSender]:
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sender.close()


def test_point_is_a_line_with_the_types_of_its_table() -> None:
    line = format_points([make_point(DISK, 7, "g 1", "/var,x", free_bytes=3, total_bytes=9, free_share=1 / 3)])
    assert line == rb"disk,gateway=g\ 1,path=/var\,x free_bytes=3i,total_bytes=9i,free_share=0.3333333333333333 7000000"


def test_fields_without_a_number_are_left_out_and_so_are_points_without_fields() -> None:
    points = [make_point(DISK, 7, "g", "/", free_bytes=None, free_share=float("nan")), point(1)]
    assert format_points(points) == format_points([point(1)])


async def test_points_wait_for_a_database_that_is_away() -> None:
    sink = MemorySink()
    sink.error = SinkBusyError("away")
    async with running(PointSender(sink, backoff_s_max=0.05)) as sender:
        sender.add([point(1)])
        await until(lambda: sink.attempts > 2)
        sender.add([point(2)])
        sink.error = None
        await until(lambda: sender.sent == 2)
        assert sink.lines == format_points([point(1), point(2)]).decode().splitlines()
        assert (sender.lost, sender.waiting) == (0, 0)


async def test_oldest_points_are_lost_beyond_the_limit_counted_and_logged_once() -> None:
    sink = MemorySink()
    sink.error = SinkBusyError("away")
    with structlog.testing.capture_logs() as logs:
        async with running(PointSender(sink, points_max=3, backoff_s_max=0.05)) as sender:
            for number in range(8):
                sender.add([point(number)])
                await asyncio.sleep(0)
            assert (sender.lost, sender.waiting) == (5, 3)
            attempts = sink.attempts
            await until(lambda: sink.attempts >= attempts + 2)  # what is under way now began with what still waits
            sink.error = None
            await until(lambda: sender.waiting == 0)
    assert sink.lines == format_points([point(5), point(6), point(7)]).decode().splitlines()
    assert len([one for one in logs if one["event"] == "figures about the gateway are lost"]) == 1


async def test_points_that_are_refused_are_lost_and_keep_no_others_out() -> None:
    sink = MemorySink()
    sink.error = SinkRejectedError("400: field type conflict")
    async with running(PointSender(sink)) as sender:
        sender.add([point(1), point(2)])
        await until(lambda: sender.lost == 2)
        sink.error = None
        sender.add([point(3)])
        await until(lambda: sender.sent == 1)


@pytest.mark.parametrize("count", [1, 240])
async def test_points_are_one_request(count: int) -> None:
    sink = MemorySink()
    async with running(PointSender(sink)) as sender:
        sender.add(point(number) for number in range(count))
        await until(lambda: sender.sent == count)
        assert sink.attempts == 1


async def test_points_reach_an_influxdb_2_through_its_own_client() -> None:
    with FakeInflux(2) as fake:
        config = Influxdb2Config(type="influxdb2", url=fake.url, token=SecretStr("t"))
        async with running(PointSender(make_line_sink(config))) as sender:
            sender.add([point(1), point(2)])
            await asyncio.to_thread(fake.wait_for, 2, "disk")
            await until(lambda: sender.sent == 2)
