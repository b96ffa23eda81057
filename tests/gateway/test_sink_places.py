"""Events, alarms and books in a place of their own, where rows as they came are kept for a month only."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.alarm.source import Span
from swapline_gateway.alarm.source_influxql import InfluxqlAlarms
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.battery.table import WARNING
from swapline_gateway.cli import main
from swapline_gateway.config import Influxdb1Config, Influxdb2Config
from swapline_gateway.error import SinkBusyError
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.influx_answer import error_of
from swapline_gateway.sinks.influx_points import PointWriter
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.sinks.influxdb2 import Influxdb2Sink
from swapline_gateway.sinks.line_protocol import LATE_MS, format_late
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, BATTERY_IN, BOOT, EVENT_STREAM
from tests.gateway.fake_influx import FakeInflux
from tests.gateway.policies import with_policies

HOUR_MS = 3_600_000


def frames_of(source: FrameSource) -> list[FrameRows]:
    """Return a frame of readings, one of two events and one of an alarm, all of one second."""
    boot, came = row_of(EVENT_STREAM, code=BOOT, count=4), row_of(EVENT_STREAM, code=BATTERY_IN, soc_pct=905)
    data = (
        source.frame([(n * 1000, module_row(5000 + n)) for n in range(4)]),
        source.frame([(1000, boot), (2000, came)], stream=EVENT_STREAM),
        source.frame([(3000, row_of(ALARM_STREAM, code=3, level=2))], stream=ALARM_STREAM),
    )
    frames = (SpooledFrame(n, source.fleet, source.node, source.anchor_utc_ms, 3, 0, one) for n, one in enumerate(data))
    return [read_rows(frame) for frame in frames]


class Place:
    """Takes lines but those with the guilty text in them."""

    def __init__(self, guilty: str = "", words: str = "partial write: some reason") -> None:
        self.lines: list[str] = []
        self._guilty = guilty
        self._words = words

    def post(self, body: bytes) -> None:
        lines = body.decode().splitlines()
        good = [line for line in lines if not self._guilty or self._guilty not in line]
        self.lines += good
        if len(good) < len(lines):
            raise error_of(400, json.dumps({"error": self._words}))

    @property
    def measurements(self) -> set[str]:
        return {line.split(",")[0] for line in self.lines}


def gone(_body: bytes) -> None:
    raise SinkBusyError("retention policy not found")


def test_events_and_alarms_have_requests_of_their_own() -> None:
    usual, lasting = Place(), Place()
    written = PointWriter(usual.post, lasting.post).write(frames_of(FrameSource(anchor_utc_ms=now_utc_ms())))
    assert (usual.measurements, lasting.measurements) == ({"module", "frames"}, {"event", "alarm"})
    assert (len(usual.lines), len(lasting.lines), written.frame_count, written.row_count) == (4 + 3, 3, 3, 7)


def test_frames_with_rows_for_a_place_that_is_away_come_again_and_the_others_do_not() -> None:
    usual = Place()
    written = PointWriter(usual.post, gone).write(frames_of(FrameSource(anchor_utc_ms=now_utc_ms())))
    assert (written.unsettled, written.frame_count) == (frozenset([1, 2]), 1)
    assert str(written.trouble) == "retention policy not found"
    assert sum(line.startswith("module,") for line in usual.lines) == 4


def test_event_that_one_place_refuses_is_found_and_its_frame_says_so_in_the_other() -> None:
    usual, lasting = Place(), Place(f"code={BATTERY_IN}")
    written = PointWriter(usual.post, lasting.post).write(frames_of(FrameSource(anchor_utc_ms=now_utc_ms())))
    assert [(one.frame_index, one.detail[:26]) for one in written.refused] == [(1, "1 of 2 rows refused (2): 4")]
    assert (written.frame_count, written.row_count) == (2, 6)
    assert any("stream=event" in line and "rows_refused=1i" in line for line in usual.lines)


def test_words_of_a_stranger_at_one_place_are_not_believed_because_the_other_one_takes_points() -> None:
    usual, lasting = Place(), Place(",", "<html>no such place</html>")
    written = PointWriter(usual.post, lasting.post).write(frames_of(FrameSource(anchor_utc_ms=now_utc_ms())))
    assert written.refused == ()
    assert written.unsettled == frozenset([1, 2])


def test_request_that_is_too_large_is_divided_within_its_place() -> None:
    usual, lasting = Place(), Place()
    sizes: list[int] = []

    def narrow(body: bytes) -> None:
        sizes.append(len(body))
        if len(body) > 1000:
            raise error_of(413, "too large")
        (lasting if body.startswith((b"event", b"alarm")) else usual).post(body)

    source = FrameSource(anchor_utc_ms=now_utc_ms())
    frames = [frame for _ in range(5) for frame in frames_of(source)]
    written = PointWriter(narrow, narrow).write(frames)
    assert (written.frame_count, written.trouble) == (15, None)
    assert (usual.measurements, lasting.measurements) == ({"module", "frames"}, {"event", "alarm"})
    assert max(sizes) > 1000


def test_late_frame_says_of_which_hours_it_is_once_a_minute() -> None:
    now_ms = 1_800_000_000_000 + 25_000
    source = FrameSource(anchor_utc_ms=1_800_000_000_000 - 50 * HOUR_MS)
    frames = [
        read_rows(SpooledFrame(n, "test", "van-001", source.anchor_utc_ms, 3, 0, source.frame(rows)))
        for n, rows in enumerate(
            [[(t, module_row()) for t in (0, HOUR_MS - 1, HOUR_MS)], [(50 * HOUR_MS - LATE_MS + 26_000, module_row())]]
        )
    ]
    lines = format_late(frames[0], now_ms)
    assert lines == format_late(frames[0], now_ms + 30_000)
    assert [line.rsplit(" ", 2)[:2] for line in lines] == [
        ["late,fleet=test,node=van-001,stream=module", f"hour_utc_ms={1_800_000_000_000 - n * HOUR_MS}i"]
        for n in (50, 49)
    ]
    assert len({line.rsplit(" ", 1)[1] for line in lines}) == 2
    assert format_late(frames[1], now_ms) == []


@pytest.fixture(params=[1, 2])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeInflux]:
    with FakeInflux(request.param) as server:
        yield server


@pytest.mark.parametrize("is_divided", [False, True])
def test_both_sinks_name_the_place_only_where_there_is_one(fake: FakeInflux, is_divided: bool) -> None:
    sink: Influxdb1Sink | Influxdb2Sink
    usual, forever = ("", "for ever") if fake.version == 1 else ("swapline", "swapline_forever")
    chosen = forever if is_divided else None
    if fake.version == 1:
        sink = Influxdb1Sink(Influxdb1Config(type="influxdb1", url=fake.url, forever=chosen))
    else:
        sink = Influxdb2Sink(Influxdb2Config(type="influxdb2", url=fake.url, forever_bucket=chosen))
    with closing(sink):
        sink.write(frames_of(FrameSource(anchor_utc_ms=now_utc_ms())))
    divided = {usual: {"module", "frames"}, forever: {"event", "alarm"}}
    together = {usual: {"module", "frames", "event", "alarm"}}
    assert fake.places == (divided if is_divided else together)


@pytest.fixture(scope="module")
def influx() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        yield server


def test_influxdb_1_keeps_events_and_books_when_rows_are_gone(influx: services.InfluxServer) -> None:
    config = with_policies(influx, Influxdb1Config(type="influxdb1", url=influx.url, database="kept"), raw="30d")
    source = FrameSource(anchor_utc_ms=now_utc_ms() - 20 * HOUR_MS)
    with closing(Influxdb1Sink(config)) as sink, closing(InfluxqlStore(config)) as store:
        sink.open()
        assert sink.write(frames_of(source)).frame_count == 3
        store.put([WARNING.row(source.anchor_utc_ms, {"module": "M", "kind": "k"}, score=0.5)])
        influx.execute('DROP RETENTION POLICY "raw" ON "kept"')
        influx.execute('CREATE RETENTION POLICY "raw" ON "kept" DURATION 30d REPLICATION 1 DEFAULT')
        assert [half.is_in for half in store.halves()] == [True]
        assert len(store.alarms()) == len(store.read(WARNING)) == store.count(WARNING) == 1
        assert store.modules()
        with closing(InfluxqlAlarms(InfluxqlClient(config))) as alarms:
            span = Span(source.anchor_utc_ms)
            assert [row.level for row in alarms.rows(span, 10)] == [2]
            assert [boot.boot for boot in alarms.boots(span)] == [4]


def test_place_that_is_not_there_is_waited_for_and_told_by_check(influx: services.InfluxServer, tmp_path: Path) -> None:
    influx.execute('CREATE DATABASE "bare"')
    config = Influxdb1Config(type="influxdb1", url=influx.url, database="bare", forever="forever")
    frames = frames_of(FrameSource())
    with closing(Influxdb1Sink(config)) as sink:
        written = sink.write(frames)
        assert "retention policy not found" in str(written.trouble)
        assert written.unsettled == frozenset([1, 2])
        assert "swapline cloud apply" in checked(influx, tmp_path)
        with_policies(influx, config)
        assert sink.write(frames).frame_count == 3
    assert "ok      for ever" in checked(influx, tmp_path)


def checked(influx: services.InfluxServer, folder: Path) -> str:
    path = folder / "gateway.toml"
    path.write_text(f"[sink]\ntype = 'influxdb1'\nurl = '{influx.url}'\ndatabase = 'bare'\nforever = 'forever'\n")
    result = CliRunner().invoke(main, ["check", "--config", str(path)])
    (line,) = [line for line in result.output.splitlines() if " for ever " in line]
    return result.output if "problem" in line else line
