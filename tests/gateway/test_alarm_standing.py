"""Which alarms stand is told in the database: by the book, by several gateways, and by nobody who does not know."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource, row_of
from swapline_gateway.alarm.book import Alarm, AlarmKey, AlarmRow
from swapline_gateway.alarm.source import Span
from swapline_gateway.alarm.source_influxql import InfluxqlAlarms
from swapline_gateway.alarm.standing import (
    CLOCKS_MS,
    REPEAT_MS,
    STANDING,
    StandingRows,
    Tags,
    Told,
    changes,
    tags_of,
)
from swapline_gateway.alarm.standing import (
    row_of as row_told,
)
from swapline_gateway.alarm.watch import read_alarms
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient
from swapline_wire.catalogue import ALARM_STREAM, BOOT, EVENT_STREAM, NODE
from tests.gateway.conftest import MakeGateway
from tests.gateway.policies import with_policies

KEY = AlarmKey("test", "van-001", 1, "M\\1", 1)
OTHER = KEY._replace(bay=0, module="", code=96)
NOW = 1_800_000_000_000


def alarm(level: int, raised_ms: int = NOW - 5000, key: AlarmKey = KEY) -> Alarm:
    return Alarm(key, raised_ms, level, level, AlarmRow(raised_ms, key, 7, 1, {"level": level}))


def told_of(told: dict[Tags, Told], standing: Iterable[Alarm], now_ms: int = NOW, since_ms: int = 0) -> list[Told]:
    """Return what is told, and take it as told."""
    new = changes(told, standing, since_utc_ms=since_ms, now_utc_ms=now_ms)
    told |= new
    return list(new.values())


def test_what_changes_is_told_once_and_what_stands_no_more_gets_level_0() -> None:
    told: dict[Tags, Told] = {}
    assert told_of(told, [alarm(1)]) == [Told(NOW, 1, NOW - 5000)]
    assert told_of(told, [alarm(1)], NOW + 1) == []
    assert told_of(told, [alarm(3)], NOW + 2) == [Told(NOW + 2, 3, NOW - 5000)]
    assert told_of(told, [], NOW + 3) == [Told(NOW + 3, 0, NOW - 5000)]
    assert told_of(told, [], NOW + 4) == []
    assert told_of(told, [alarm(3, NOW + 4)], NOW + 5) == [Told(NOW + 5, 3, NOW + 4)]


def test_a_row_is_later_than_the_one_that_it_corrects_whatever_that_gateways_clock_was() -> None:
    ahead = NOW + CLOCKS_MS
    told = {tags_of(KEY): Told(ahead, 2, NOW - 5000)}
    assert told_of(told, []) == [Told(ahead + 1, 0, NOW - 5000)]
    assert told_of(told, [alarm(2)]) == [Told(ahead + 2, 2, NOW - 5000)]


def test_what_stands_is_told_again_each_day_and_what_the_book_no_longer_reaches_is_left() -> None:
    told: dict[Tags, Told] = {}
    told_of(told, [alarm(2)])
    assert told_of(told, [alarm(2)], NOW + REPEAT_MS - 1) == []
    assert len(told_of(told, [alarm(2)], NOW + REPEAT_MS)) == 1
    assert told_of(told, [], NOW + REPEAT_MS, since_ms=NOW) == []


class Book:
    """An alarm book that says what a test says."""

    def __init__(self, *alarms: Alarm) -> None:
        self.revision = 1
        self.alarms = list(alarms)

    def is_whole(self) -> bool:
        return True

    def standing(self) -> list[Alarm]:
        return self.alarms

    def since_utc_ms(self) -> int:
        return 0


@pytest.fixture
def config(influx: services.InfluxServer, request: pytest.FixtureRequest) -> Influxdb1Config:
    name = request.node.name
    return with_policies(influx, Influxdb1Config(type="influxdb1", url=influx.url, database=name))


def rows(config: Influxdb1Config) -> list[tuple[int, str, str, str, int]]:
    """Return time, node, bay, code and level of all rows, by time."""
    with closing(InfluxqlStore(config)) as store:
        return [
            (row.time_utc_ms, row.tags["node"], row.tags["bay"], row.tags["code"], row.fields["level"])
            for row in store.read(STANDING)
        ]


async def test_gateways_tell_what_is_not_told_yet_and_correct_each_other(config: Influxdb1Config) -> None:
    with closing(InfluxqlStore(config)) as store:
        knows, late = Book(alarm(2), alarm(3, key=OTHER)), Book(alarm(2))
        with closing(StandingRows(knows, store)) as one, closing(StandingRows(late, store)) as other:
            assert await one.do_round(NOW)
            assert await other.do_round(NOW + 1000)  # thinks that one of them is over
            assert await one.do_round(NOW + 2000)
            late.alarms = knows.alarms
            assert await other.do_round(NOW + 3000)
            assert await one.do_round(NOW + 4000)
        with closing(StandingRows(late, store)) as started_again:
            assert await started_again.do_round(NOW + 5000)
        assert (one.written, other.written, started_again.written) == (3, 1, 0)
        store.put([row_told(tags_of(KEY), Told(NOW, 2, NOW - 5000))])  # two that looked at the same moment
    assert [row[2:] for row in rows(config)] == [("", "96", 3), ("1", "1", 2), ("", "96", 0), ("", "96", 3)]


async def test_rows_that_strangers_wrote_end_nothing(influx: services.InfluxServer, config: Influxdb1Config) -> None:
    line = f"standing,fleet=a,node=b is_void=false,level=2i {NOW}"
    services.post(f"{influx.url}/write?db={config.database}&rp=forever&precision=ms", line.encode())
    with closing(InfluxqlStore(config)) as store, closing(StandingRows(Book(), store)) as found:
        assert await found.do_round(NOW + 1)


async def test_a_database_that_is_away_is_told_later(config: Influxdb1Config) -> None:
    away = config.model_copy(update={"url": "http://127.0.0.1:9", "timeout_s": 1})
    with closing(InfluxqlStore(away)) as store, closing(StandingRows(Book(alarm(2)), store)) as found:
        assert not await found.do_round(NOW)
        assert found.written == 0


async def until(config: Influxdb1Config, condition: Callable[[list[Any]], object]) -> list[Any]:
    async with asyncio.timeout(40):
        while not condition(found := await asyncio.to_thread(rows, config)):  # noqa: ASYNC110 (a database announces nothing)
            await asyncio.sleep(0.1)
    return found


def newest(found: Iterable[tuple[int, str, str, str, int]]) -> dict[str, int]:
    """Return the last level of each code."""
    return {code: level for _, _, _, code, level in found}


async def test_two_gateways_tell_an_alarm_and_its_end_by_a_restart(
    make_gateway: MakeGateway, broker: services.Server, config: Influxdb1Config
) -> None:
    sink = {"type": "influxdb1", "url": config.url, "database": config.database, "forever": "forever"}
    both: dict[str, Any] = {"sink": sink, "mqtt": {"share_group": "g"}}
    node = FrameSource(node="van-007")
    begun_ms = time.time_ns() // 1_000_000
    async with aiomqtt.Client(broker.host, broker.port) as client:
        acks = await AckListener(client, node).begin()

        async def tell(stream: Any, at_ms: int, **values: int) -> None:
            is_alarm = stream is ALARM_STREAM
            frame = node.frame(
                [(at_ms, row_of(stream, **values))], stream=stream, bay=int(is_alarm), owner="M" * is_alarm
            )
            await node.publish(client, frame)
            await acks.wait_for({node.seq})

        async with make_gateway(**both), make_gateway(**both, spool={"path": "other.sqlite"}):
            await tell(ALARM_STREAM, 1000, code=1, level=2)
            await tell(ALARM_STREAM, 2000, code=6, level=3)
            await until(config, lambda found: newest(found) == {"1": 2, "6": 3})
            node.boot = 2
            await tell(NODE, 200_000, uptime_s=120)
            await tell(ALARM_STREAM, 90_000, code=6, level=3)  # stands still, and is told again
            await tell(EVENT_STREAM, 80_000, code=BOOT, count=2)
            found = await until(config, lambda found: newest(found)["1"] == 0)
            assert newest(found) == {"1": 0, "6": 3}
            assert all(row[0] >= begun_ms for row in found)
        with closing(InfluxqlAlarms(InfluxqlClient(config))) as source:
            book = read_alarms(source, Span(0))
    assert [(one.key.code, one.ending, one.told_count) for one in book] == [(1, "restart", 1), (6, None, 2)]
    async with make_gateway(**both) as gateway:  # whose book comes from stored rows, and has nothing new to tell
        assert gateway._standing is not None  # noqa: SLF001
        async with asyncio.timeout(30):
            while gateway._standing._revision != gateway._alarms.revision:  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0.05)
        assert gateway._standing.written == 0  # noqa: SLF001
    assert newest(rows(config)) == {"1": 0, "6": 3}
