import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from swapline_bench import services
from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row, row_of
from swapline_gateway.config import Influxdb1Config, Influxdb2Config
from swapline_gateway.error import SinkBusyError, SinkRejectedError, SinkTooLargeError
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.base import Refusal
from swapline_gateway.sinks.influx_answer import error_of
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.sinks.influxdb2 import Influxdb2Sink
from swapline_gateway.sinks.line_protocol import escape_tag, format_frames
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from swapline_wire.catalogue import EVENT_STREAM, POSITION

BASE_MS = 1_800_000_000_000


def rows_of(source: FrameSource, *frames: bytes) -> list[FrameRows]:
    spooled = (
        SpooledFrame(i, source.fleet, source.node, source.anchor_utc_ms, 3, 0, data) for i, data in enumerate(frames)
    )
    return [read_rows(frame) for frame in spooled]


@pytest.fixture(scope="module")
def victoria() -> Iterator[services.Server]:
    with services.victoria_metrics() as server:
        yield server


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (a server of this test)
        body: bytes = answer.read()
        return body


def ask(url: str, **query: str) -> Any:
    return json.loads(fetch(f"{url}?{urllib.parse.urlencode(query)}"))


def query_influx(server: services.InfluxServer, database: str, statement: str) -> list[list[Any]]:
    result = ask(f"{server.url}/query", db=database, epoch="ms", q=statement)["results"][0]
    return result["series"][0]["values"] if "series" in result else []


def test_line_protocol_is_one_line_a_row_and_one_a_frame() -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    frame = source.frame([(5, row_of(EVENT_STREAM, code=2, soc_pct=905, count=3))], stream=EVENT_STREAM, bay=2, seq=12)
    assert format_frames(rows_of(source, frame), stored_utc_ms=BASE_MS + 105).decode().splitlines() == [
        f"event,fleet=test,node=van-001,bay=2,module={MODULE_CODE},code=2 time_quality=3i,soc_pct=90.5,count=3i"
        " 1800000000005000000",
        "frames,fleet=test,node=van-001,journal=7,stream=event seq=12i,boot=1i,row_count=1i,value_count=2i"
        ",rows_refused=0i,time_quality=3i,span_ms=0i,delay_ms=100i 1800000000005000012",
    ]


def test_node_stream_has_neither_bay_nor_module() -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    frame = source.frame([(5, row_of(POSITION, latitude_deg=-1))], stream=POSITION, bay=0, owner="")
    line = format_frames(rows_of(source, frame), stored_utc_ms=0).decode().splitlines()[0]
    assert line == "position,fleet=test,node=van-001 time_quality=3i,latitude_deg=-1e-07 1800000000005000000"


def test_module_code_of_any_characters_stays_one_tag() -> None:
    assert escape_tag("a,b=c\\") == "a\\,b\\=c/"


def test_influxdb_1_takes_rows_and_gives_them_back_exactly(influx: services.InfluxServer) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    rows = [(i * 1000, module_row(5000 + i)) for i in range(10)]
    with closing(Influxdb1Sink(Influxdb1Config(type="influxdb1", url=influx.url, database="one"))) as sink:
        sink.open()
        written = sink.write(rows_of(source, source.frame(rows)))
        sink.write(rows_of(source, source.frame(rows, seq=1)))
    assert (written.row_count, written.value_count) == (10, 270)
    found = query_influx(influx, "one", 'SELECT "voltage_v", "cycles", "module" FROM "module"')
    assert found == [[BASE_MS + i * 1000, (5000 + i) / 100, 10, MODULE_CODE] for i in range(10)]
    assert query_influx(influx, "one", "SELECT seq FROM frames") == [[BASE_MS, 1]]


def test_hostile_module_codes_cannot_reach_another_nodes_points(influx: services.InfluxServer) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    codes = ["a,node=van-999", "b\\", 'c"d', "e=f", "g\\,node=van-999"]
    with closing(Influxdb1Sink(Influxdb1Config(type="influxdb1", url=influx.url, database="hostile"))) as sink:
        sink.open()
        sink.write(rows_of(source, *(source.frame(owner=code) for code in codes)))
    found = query_influx(influx, "hostile", 'SELECT "voltage_v", "node", "module" FROM "module"')
    assert {(row[2], row[3]) for row in found} == {("van-001", code.replace("\\", "/")) for code in codes}


def test_influxdb_1_that_refuses_a_point_is_told_from_one_that_is_away(influx: services.InfluxServer) -> None:
    source = FrameSource(anchor_utc_ms=now_utc_ms() - 86_400_000)
    influx.execute('CREATE DATABASE "short" WITH DURATION 1h')
    short = Influxdb1Config(type="influxdb1", url=influx.url, database="short")
    fresh = FrameSource(anchor_utc_ms=now_utc_ms(), journal=8)
    with closing(Influxdb1Sink(short)) as sink:
        written = sink.write([*rows_of(source, source.frame()), *rows_of(fresh, fresh.frame(seq=9))])
    assert written.refused == (
        Refusal(0, "all 1 rows refused: 400: partial write: points beyond retention policy dropped=2"),
    )
    assert query_influx(influx, "short", "SELECT seq FROM frames") == [[fresh.anchor_utc_ms + 9000, 9]]
    away = Influxdb1Config(type="influxdb1", url="http://127.0.0.1:1")
    with closing(Influxdb1Sink(away)) as sink, pytest.raises(SinkBusyError, match="does not answer"):
        sink.write(rows_of(source, source.frame()))


def test_dropped_database_is_made_again(influx: services.InfluxServer) -> None:
    source = FrameSource(anchor_utc_ms=BASE_MS)
    with closing(Influxdb1Sink(Influxdb1Config(type="influxdb1", url=influx.url, database="gone"))) as sink:
        sink.open()
        influx.execute('DROP DATABASE "gone"')
        with pytest.raises(SinkBusyError, match="404"):
            sink.write(rows_of(source, source.frame()))
        sink.write(rows_of(source, source.frame()))
    assert query_influx(influx, "gone", "SELECT seq FROM frames") == [[BASE_MS + 2000, 2]]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, SinkRejectedError), (413, SinkTooLargeError), (422, SinkRejectedError)]
    + [(status, SinkBusyError) for status in (200, 302, 401, 403, 404, 429, 500, 502, 503, 504)],
)
def test_status_says_whether_to_try_again(status: int, kind: type[Exception]) -> None:
    assert type(error_of(status, "text")) is kind


def test_retry_after_of_the_server_is_heard() -> None:
    error = error_of(429, "slow down", retry_after="7")
    assert isinstance(error, SinkBusyError)
    assert error.retry_after_s == 7
    soon = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    for header, low, high in ((soon, 290, 300), ("Wed, 21 Oct 2020 07:28:00 GMT", 0, 0), ("9" * 500, 1e6, 1e9)):
        error = error_of(503, "", retry_after=header)
        assert isinstance(error, SinkBusyError)
        assert error.retry_after_s is not None
        assert low <= error.retry_after_s <= high


@pytest.mark.parametrize("header", ["soon", "-1", "\u00b2", "1.5", "Wed, 99 Oct 2020", ""])
def test_retry_after_that_says_nothing_is_no_delay(header: str) -> None:
    error = error_of(503, "", retry_after=header)
    assert isinstance(error, SinkBusyError)
    assert error.retry_after_s is None


def test_influxdb_client_writes_to_victoria_metrics_and_rows_come_back(victoria: services.Server) -> None:
    source = FrameSource(anchor_utc_ms=now_utc_ms() - 3_600_000)
    rows = [(i * 1000, module_row(5000 + i)) for i in range(10)]
    with closing(Influxdb2Sink(Influxdb2Config(type="influxdb2", url=victoria.url))) as sink:
        sink.open()
        assert sink.write(rows_of(source, source.frame(rows))).row_count == 10
    fetch(f"{victoria.url}/internal/force_flush")
    lines = fetch(f"{victoria.url}/api/v1/export?match[]=module_voltage_v").splitlines()
    (series,) = [json.loads(line) for line in lines]
    assert series["values"] == [(5000 + i) / 100 for i in range(10)]
    assert series["timestamps"] == [source.anchor_utc_ms + i * 1000 for i in range(10)]
    assert series["metric"]["module"] == MODULE_CODE


def test_influxdb_client_against_a_dead_server_is_busy() -> None:
    source = FrameSource()
    away = Influxdb2Config(type="influxdb2", url="http://127.0.0.1:1")
    with closing(Influxdb2Sink(away)) as sink, pytest.raises(SinkBusyError, match="does not answer"):
        sink.write(rows_of(source, source.frame()))


def test_influxdb_client_against_a_server_without_that_call_is_busy(influx: services.InfluxServer) -> None:
    source = FrameSource()
    config = Influxdb2Config(type="influxdb2", url=influx.url)
    with closing(Influxdb2Sink(config)) as sink, pytest.raises(SinkBusyError, match="404"):
        sink.write(rows_of(source, source.frame()))
