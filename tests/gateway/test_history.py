"""The same questions to DuckDB and to InfluxDB 1.x (InfluxQL), filled with the same frames: the same answers."""

from contextlib import closing
from pathlib import Path

import pytest

from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.config import DuckdbConfig, Influxdb1Config
from swapline_gateway.error import SinkBusyError
from swapline_gateway.history import History, SeriesQuery, make
from swapline_gateway.history_duckdb import DuckdbHistory
from swapline_gateway.sinks import make as make_sink
from swapline_gateway.sinks.base import Sink
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import EVENT_STREAM, FRAMES_DROPPED, LOSS_JOURNAL_FULL, VEHICLE
from tests.gateway.written import write

BASE_MS = 1_800_000_000_000


async def test_few_rows_come_back_as_they_are(opened: tuple[Sink, History]) -> None:
    sink, history = opened
    source = FrameSource(anchor_utc_ms=BASE_MS)
    write(sink, source, source.frame([(i * 1000, module_row(5000 + i)) for i in range(10)], bay=2))
    found = await history.series(
        SeriesQuery(
            stream="module",
            fleet="test",
            node=source.node,
            bay=2,
            signals=("voltage_v", "cycles"),
            start_utc_ms=BASE_MS,
            end_utc_ms=BASE_MS + 9000,
            points_max=100,
        )
    )
    assert found.time_utc_ms == [BASE_MS + i * 1000 for i in range(9)]
    assert found.values == {"voltage_v": [(5000 + i) / 100 for i in range(9)], "cycles": [10] * 9}


async def test_many_rows_become_means_of_measurements_and_last_values_of_totals(opened: tuple[Sink, History]) -> None:
    sink, history = opened
    source = FrameSource(anchor_utc_ms=BASE_MS)
    rows = [(i * 100, row_of(VEHICLE, speed_kmh=100 * i, odometer_km=1000 * i, gear=i % 4)) for i in range(40)]
    write(sink, source, source.frame(rows, stream=VEHICLE, owner="", bay=0))
    found = await history.series(
        SeriesQuery(
            stream="vehicle",
            fleet="test",
            signals=("speed_kmh", "odometer_km", "gear"),
            start_utc_ms=BASE_MS,
            end_utc_ms=BASE_MS + 4000,
            points_max=4,
        )
    )
    assert found.time_utc_ms == [BASE_MS + i * 1000 for i in range(4)]
    assert found.values == {
        "speed_kmh": [4.5, 14.5, 24.5, 34.5],
        "odometer_km": [9.0, 19.0, 29.0, 39.0],
        "gear": [1, 3, 1, 3],
    }


async def test_rows_without_the_asked_value_are_there_without_it(opened: tuple[Sink, History]) -> None:
    sink, history = opened
    source = FrameSource(anchor_utc_ms=BASE_MS)
    frame = source.frame([(0, row_of(VEHICLE, gear=1)), (5, row_of(VEHICLE, speed_kmh=1))], stream=VEHICLE, owner="")
    write(sink, source, frame)
    found = await history.series(
        SeriesQuery(
            stream="vehicle",
            fleet="test",
            node=source.node,
            signals=("speed_kmh",),
            start_utc_ms=BASE_MS,
            end_utc_ms=BASE_MS + 1000,
            points_max=10,
        )
    )
    assert (found.time_utc_ms, found.values) == ([BASE_MS, BASE_MS + 5], {"speed_kmh": [None, 0.01]})


async def test_question_only_finds_its_own_source(opened: tuple[Sink, History]) -> None:
    sink, history = opened
    for node, bay, code in (("a", 1, "M1"), ("a", 2, "M2"), ("b", 1, "M'3\\"), ("b", 0, "M4")):
        source = FrameSource(node=node, anchor_utc_ms=BASE_MS, journal=bay + ord(node))
        write(sink, source, source.frame([(bay * 7 + ord(node), module_row())], bay=bay, owner=code))

    async def times(**where: object) -> list[int]:
        found = await history.series(
            SeriesQuery(
                stream="module",
                fleet="test",
                signals=("voltage_v",),
                start_utc_ms=BASE_MS,
                end_utc_ms=BASE_MS + 1000,
                points_max=100,
                **where,  # type: ignore[arg-type]
            )
        )
        return [time - BASE_MS for time in found.time_utc_ms]

    assert await times(node="a") == [104, 111]
    assert await times(node="a", bay=2) == [111]
    assert await times(module="M1") == [104]
    assert await times(node="b", bay=0) == [98]
    assert await times(module="M'3\\") == [105]
    assert await times(node="nobody") == []
    assert await times(node="a' OR 'a'='a") == []


async def test_pipeline_counts_frames_gaps_and_declared_losses(opened: tuple[Sink, History]) -> None:
    sink, history = opened
    source = FrameSource(anchor_utc_ms=now_utc_ms() - 60_000)
    lost = row_of(EVENT_STREAM, code=FRAMES_DROPPED, reason=LOSS_JOURNAL_FULL, count=3)
    frames = [source.frame(seq=seq) for seq in (1, 2, 6)]
    event = source.frame([(9000, lost), (9001, lost)], stream=EVENT_STREAM, owner="", bay=0, seq=7)
    write(sink, source, *frames, event)
    other = FrameSource(node="van-002", anchor_utc_ms=source.anchor_utc_ms)
    write(sink, other, other.frame())
    flows = await history.pipeline(start_utc_ms=source.anchor_utc_ms, end_utc_ms=now_utc_ms())
    assert [(flow.node, flow.frame_count, flow.row_count, flow.frames_missing) for flow in flows] == [
        ("van-001", 4, 5, 3),
        ("van-002", 1, 1, 0),
    ]
    assert [flow.frames_lost for flow in flows] == [{"journal_full": 6}, {}]
    assert flows[0].value_count == 3 * 27 + 2 * 2
    assert flows[0].delay_ms_mean is not None
    assert flows[0].delay_ms_max is not None
    assert 50_000 < flows[0].delay_ms_mean <= flows[0].delay_ms_max < 120_000
    assert await history.pipeline(start_utc_ms=0, end_utc_ms=1) == []
    assert await history.pipeline(start_utc_ms=0, end_utc_ms=now_utc_ms(), fleet="nobody") == []


def test_unknown_signal_is_refused_before_any_query() -> None:
    with pytest.raises(ValueError, match="no such signals of module: evil"):
        SeriesQuery(stream="module", fleet="t", signals=("evil",), start_utc_ms=0, end_utc_ms=1, points_max=2)


async def test_database_that_is_away_is_said_so() -> None:
    config = Influxdb1Config(type="influxdb1", url="http://127.0.0.1:1")
    sink = make_sink(config)
    with closing(sink), closing(make(config, sink)) as history, pytest.raises(SinkBusyError, match="does not answer"):
        await history.pipeline(start_utc_ms=0, end_utc_ms=1)


async def test_question_that_takes_too_long_is_ended_and_the_next_one_answered(tmp_path: Path) -> None:
    sink = DuckdbSink(DuckdbConfig(path=tmp_path / "d.duckdb"))
    with closing(sink):
        sink.open()
        with sink.cursor() as cursor:
            cursor.execute(
                "INSERT INTO vehicle (time, fleet, node)"
                " SELECT make_timestamp(i * 1000), 'f', 'n' FROM range(3_000_000) AS numbers(i)"
            )
        query = SeriesQuery(
            stream="vehicle", fleet="f", signals=("speed_kmh",), start_utc_ms=0, end_utc_ms=3_000_000, points_max=2
        )
        with closing(DuckdbHistory(sink, query_s_max=0.001)) as history, pytest.raises(SinkBusyError, match="nterrupt"):
            await history.series(query)
        with closing(DuckdbHistory(sink)) as history:
            assert (await history.series(query)).values == {"speed_kmh": [None, None]}
