"""Books of rows that the database has dropped: nothing that was derived of them is taken back by deriving again."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from swapline_bench import services
from swapline_bench.frame_source import FrameSource
from swapline_bench.past import Past, PastPlan
from swapline_gateway.battery.books import Books
from swapline_gateway.battery.derivation import Derivation
from swapline_gateway.battery.record import HOUR_MS, TWO_PLACES
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.battery.table import CONTRADICTION, MODULE_HOUR, PASSPORT, STAY, SWAP, TABLES, Row
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from tests.gateway.battery import swap_story
from tests.gateway.battery.swap_story import MINUTE_MS, Teller
from tests.gateway.policies import with_policies
from tests.gateway.written import write

DAYS = 4
DAY_MS = 24 * HOUR_MS


@pytest.fixture(scope="module")
def influx() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        yield server


def fill(config: Influxdb1Config, end_utc_ms: int) -> None:
    """Store days of a van and a station as late back-fill."""
    plan = PastPlan("test", 1, 1, 4, seed=5, days=DAYS, end_utc_ms=end_utc_ms)
    past = Past(plan)
    frames = list(past.frames([Past(plan).live(number) for number in range(len(past.places))]))
    anchor_ms = end_utc_ms - round(past.schedule.end_s * 1000)
    with closing(Influxdb1Sink(config)) as sink:
        sink.open()
        spooled = (SpooledFrame(0, "test", one.node, anchor_ms, 3, 0, one.data) for one in frames)
        assert not sink.write([read_rows(one) for one in spooled]).refused


def rebuild(store: InfluxqlStore) -> int:
    """Derive everything again, as `swapline custody rebuild` does; return how many rows of custody differed."""
    books, modules = Books(store), store.modules()
    for module in modules:
        books.hours.rebuild(module)
    count = books.custody.rebuild().rows_changed
    books.passports.refresh(modules)
    books.warnings.refresh(modules)
    return count


def keep_anew(store: InfluxqlStore) -> None:
    """Derive everything again, as a keeper does whose books are of another version."""
    derivation = Derivation(store)
    for module in derivation.modules():
        next_ms: int | None = None
        while True:
            derived, next_ms = derivation.whole(module, next_ms)
            assert not derived.failed
            if next_ms is None:
                break
        assert not derivation.figures([module]).failed


def contents(store: InfluxqlStore) -> dict[str, list[Row]]:
    return {table.name: sorted(store.read(table), key=lambda row: row.key) for table in TABLES}


def drop_older(influx: services.InfluxServer, config: Influxdb1Config, before_utc_ms: int) -> None:
    """Drop raw rows of whole days, as the server does with what is past its policy's duration."""
    before = datetime.fromtimestamp(before_utc_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with closing(InfluxqlClient(config)) as client:
        (shards,) = [one for one in client.query("SHOW SHARDS") if one["name"] == config.database]
        dropped = [row[0] for row in shards["values"] if row[2] == "raw" and row[5] <= before]
    assert dropped
    for number in dropped:
        influx.execute(f"DROP SHARD {number}")


def test_books_are_the_same_when_most_of_their_rows_are_gone(influx: services.InfluxServer) -> None:
    config = with_policies(influx, Influxdb1Config(type="influxdb1", url=influx.url, database="gone"), raw="30d")
    now_ms = now_utc_ms()
    fill(config, now_ms)
    with closing(InfluxqlStore(config)) as store:
        rebuild(store)
        before = contents(store)
        assert store.gone_before_utc_ms() == 0
        assert len(before[SWAP.name]) > DAYS
        assert len(before[MODULE_HOUR.name]) > 24 * (DAYS - 1)
        assert before[STAY.name]
        assert before[PASSPORT.name]
        cut_ms = now_ms // DAY_MS * DAY_MS - DAY_MS
        drop_older(influx, config, cut_ms)
        assert store.gone_before_utc_ms() >= cut_ms
        assert rebuild(store) == 0
        assert contents(store) == before
        keep_anew(store)
        assert contents(store) == before
        hours = range(cut_ms - DAY_MS, now_ms, HOUR_MS)
        Derivation(store).hours([(module, hour) for module in store.modules() for hour in hours])
        assert contents(store) == before


def test_swaps_and_contradictions_outlive_the_rows_of_van_and_station(influx: services.InfluxServer) -> None:
    config = with_policies(influx, Influxdb1Config(type="influxdb1", url=influx.url, database="told"), raw="30d")
    start_ms = now_utc_ms() // DAY_MS * DAY_MS - 3 * DAY_MS + 6 * HOUR_MS
    tellers = (*swap_story.tell(start_ms), Teller(FrameSource(node="van-002", journal=13, anchor_utc_ms=start_ms)))
    tellers[2].sits(swap_story.MODULES[0], 1, 10 * MINUTE_MS, 40 * MINUTE_MS)
    with closing(Influxdb1Sink(config)) as sink, closing(InfluxqlStore(config)) as store:
        sink.open()
        for teller in tellers:
            write(sink, teller.source, *teller.frames)
        rebuild(store)
        before = contents(store)
        assert [row.fields["odometer_km"] for row in before[SWAP.name]] == [1_234.567] * 2
        assert TWO_PLACES in {row.tags["kind"] for row in before[CONTRADICTION.name]}
        drop_older(influx, config, start_ms + DAY_MS)
        assert store.modules() == sorted(swap_story.MODULES)
        assert rebuild(store) == 0
        keep_anew(store)
        assert contents(store) == before
