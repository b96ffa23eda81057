"""A gateway, its books and the roll-ups beside InfluxDB 3.x: its names are played, an InfluxDB 1.x is behind them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swapline_bench import services
from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row, row_of
from swapline_cloud.config import DatabaseConfig
from swapline_cloud.database.rows import asking_forever
from swapline_cloud.export.source import InfluxSource
from swapline_cloud.export.table import Day, Selection
from swapline_cloud.late import Done, LateRows
from swapline_cloud.rollup import FOREVER, MINUTE, RAW
from swapline_gateway import config as configuration
from swapline_gateway.alarm.source import Span
from swapline_gateway.alarm.source_influxql import InfluxqlAlarms
from swapline_gateway.battery.books import Books
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.battery.table import MODULE_HOUR, PASSPORT, STAY
from swapline_gateway.config import Influxdb2Config
from swapline_gateway.history import SeriesQuery
from swapline_gateway.history_influxql import InfluxqlHistory
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.outlook.question import Questions
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.influxdb2 import Influxdb2Sink
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, BATTERY_IN, BOOT, EVENT_STREAM, MODULE, VEHICLE
from tests.cloud.played_influxdb3 import PlayedInfluxdb3

K8S = Path(__file__).parents[2] / "cloud" / "k8s" / "overlays" / "influxdb3"
RAW3, MINUTE3, FOREVER3 = (f"swapline/{policy}" for policy in (RAW, MINUTE, FOREVER))
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def server(require: Callable[[str], Path]) -> Iterator[PlayedInfluxdb3]:
    require("influxd")
    with services.influxd() as behind:
        # The default policy is nobody's: what names none finds nothing.
        behind.execute('CREATE DATABASE "swapline"')
        for policy in (RAW, MINUTE, FOREVER):
            behind.execute(f'CREATE RETENTION POLICY "{policy}" ON "swapline" DURATION INF REPLICATION 1')
        with PlayedInfluxdb3(behind.url, {RAW3, MINUTE3, FOREVER3}) as played:
            yield played


@pytest.fixture(scope="module")
def sink(server: PlayedInfluxdb3, tmp_path_factory: pytest.TempPathFactory) -> Influxdb2Config:
    """Return the database of the cluster's gateway, with rows of a van in it."""
    folder = tmp_path_factory.mktemp("gateway")
    text = (K8S / "gateway.toml").read_text().replace("/run/secrets/swapline", str(folder))
    (folder / "gateway-token").write_text("writer\n")
    (folder / "reader-token").write_text("reader\n")
    (folder / "gateway.toml").write_text(text.replace("http://store:8086", server.url))
    found = configuration.load(folder / "gateway.toml").sink
    assert isinstance(found, Influxdb2Config)
    with closing(Influxdb2Sink(found)) as writer:
        assert writer.write(frames()).frame_count == 5
    return found


def frames() -> list[FrameRows]:
    source = FrameSource()
    minutes = [minute * MINUTE_MS for minute in range(30, 59)]
    came = row_of(EVENT_STREAM, code=BATTERY_IN, soc_pct=905)
    sealed = (
        source.frame([(1000, row_of(EVENT_STREAM, code=BOOT, count=1))], stream=EVENT_STREAM, bay=0, owner=""),
        source.frame([(minutes[0], came)], stream=EVENT_STREAM),
        source.frame([(ms, module_row(5300)) for ms in minutes]),
        source.frame([(minutes[-1], row_of(VEHICLE, odometer_km=500))], stream=VEHICLE, bay=0, owner=""),
        source.frame([(minutes[-1], row_of(ALARM_STREAM, code=3, level=2))], stream=ALARM_STREAM),
    )
    owner = source.fleet, source.node, source.anchor_utc_ms
    return [read_rows(SpooledFrame(number, *owner, 3, 0, one)) for number, one in enumerate(sealed)]


def test_rows_go_to_the_one_database_and_what_lasts_to_the_other(
    server: PlayedInfluxdb3, sink: Influxdb2Config
) -> None:
    assert (sink.bucket, sink.forever_bucket) == (RAW3, FOREVER3)
    usual, lasting = ("module", "vehicle", "frames"), ("event", "alarm")
    wanted = {(RAW3, one) for one in usual} | {(FOREVER3, one) for one in lasting}
    assert server.written == wanted


async def test_every_question_of_a_gateway_is_answered_and_names_the_database_where_its_rows_are(
    server: PlayedInfluxdb3, sink: Influxdb2Config
) -> None:
    end = now_utc_ms()
    begin = end - 2 * 60 * MINUTE_MS
    server.asked.clear()
    with closing(InfluxqlStore(sink)) as store:
        books = Books(store)
        assert books.hours.rebuild(MODULE_CODE)
        assert books.custody.rebuild().stays == 1
        books.passports.refresh([MODULE_CODE])
        books.warnings.refresh([MODULE_CODE])
        assert all(store.count(table) for table in (MODULE_HOUR, STAY, PASSPORT))
        assert len(store.alarms()) == 1
        assert store.gone_before_utc_ms() == 0
    with closing(InfluxqlAlarms(InfluxqlClient(sink))) as alarms:
        assert alarms.is_understood()
        (row,) = alarms.rows(Span(begin), 10)
        assert row.boot == 1, "told by the frame that it came in"
        (boot,) = alarms.boots(Span(begin))
        assert not alarms.has_run(boot, None)
        assert alarms.answered(row.key, begin) is not None
    history = InfluxqlHistory(sink)
    query = SeriesQuery(
        stream="module", fleet="test", signals=("voltage_v",), start_utc_ms=begin, end_utc_ms=end, points_max=100
    )
    assert len((await history.series(query)).time_utc_ms) == 29
    old = replace(query, start_utc_ms=begin - 40 * 1440 * MINUTE_MS)
    assert await history.series(old)  # of hours, which nobody made yet
    (flow,) = await history.pipeline(start_utc_ms=begin, end_utc_ms=end)
    assert (flow.frame_count, flow.row_count) == (5, 33)
    assert await history.missing() == []
    history.close()
    with closing(InfluxqlClient(sink)) as client:
        questions = Questions(client)
        assert questions.readings(end).vans == {("test", "van-001")}
        assert set(questions.use(begin, end)) == {("test", "van-001")}
        assert questions.stations(end) == {}
    assert server.refused == []
    assert {name for name, _ in server.asked} == {RAW3, FOREVER3}


def test_roll_ups_and_export_find_their_rows(server: PlayedInfluxdb3, sink: Influxdb2Config) -> None:
    server.asked.clear()
    database = DatabaseConfig.model_validate({"version": 3, "url": server.url, "token": "admin"})
    with closing(LateRows(database)) as rollup:
        work, done = rollup.find(), Done()
        for piece in work.pieces:
            rollup.roll(piece, done)
        rollup.note(work)
        assert {piece.rollup.measurement for piece in work.pieces} == {"module", "vehicle", "frames"}
    assert {(MINUTE3, "module"), (FOREVER3, "module"), (FOREVER3, "rollup_state")} <= server.written
    of_hours = asking_forever(database)
    for config, rollup_name, count in ((sink, None, 29), (of_hours, "minute", 29), (of_hours, "hour", None)):
        source, selection = InfluxSource(config), Selection(rollup=rollup_name)
        days = {datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (now_utc_ms(), now_utc_ms() - 60 * MINUTE_MS)}
        found = sum(table.num_rows for day in days for _, table in source.tables(Day(MODULE, day), selection))
        source.close()
        assert found == count if count else found in (1, 2)
    assert server.refused == []
    assert {name for name, _ in server.asked} == {RAW3, MINUTE3, FOREVER3}
