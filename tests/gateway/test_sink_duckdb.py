from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row, row_of
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import SpooledFrame
from swapline_wire import catalogue
from swapline_wire.catalogue import CELLS, FORMATS, MODULE, POSITION, STREAMS


def rows_of(source: FrameSource, *frames: bytes) -> list[FrameRows]:
    spooled = (
        SpooledFrame(i, source.fleet, source.node, source.anchor_utc_ms, 3, 0, data) for i, data in enumerate(frames)
    )
    return [read_rows(frame) for frame in spooled]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[DuckdbSink]:
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "d.duckdb"))) as opened:
        opened.open()
        yield opened


def fetch(sink: DuckdbSink, sql: str) -> list[tuple[object, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def test_every_stream_stores_every_signal_as_its_exact_decimal(sink: DuckdbSink) -> None:
    source = FrameSource()
    for stream in STREAMS:
        raws = [min(signal.maximum, 12345) for signal in stream.signals]
        sink.write(rows_of(source, source.frame([(5, raws)], stream=stream)))
        names = ", ".join(f'"{signal.name}"' for signal in stream.signals)
        (row,) = fetch(sink, f'SELECT {names} FROM "{stream.name}"')  # noqa: S608
        assert row == tuple(
            raw if signal.decimals == 0 else float(f"{raw}e-{signal.decimals}")
            for raw, signal in zip(raws, stream.signals, strict=True)
        )


def test_codes_for_no_value_become_null_and_are_not_counted(sink: DuckdbSink) -> None:
    source = FrameSource()
    raws = catalogue.not_available(MODULE.signals)
    raws[0] = FORMATS[MODULE.signals[0].format][3]
    raws[1] = -1234
    written = sink.write(rows_of(source, source.frame([(1, raws)])))
    assert (written.row_count, written.value_count) == (1, 1)
    assert fetch(sink, "SELECT voltage_v, current_a, soc_pct FROM module") == [(None, -12.34, None)]


def test_row_carries_time_origin_and_owner(sink: DuckdbSink) -> None:
    source = FrameSource(anchor_utc_ms=1_800_000_000_000, journal=0xFFFFFFFF)
    sink.write(rows_of(source, source.frame([(250, module_row())], bay=2, seq=0xFFFFFFFF)))
    sql = "SELECT epoch_ms(time), fleet, node, bay, module, time_quality, journal, seq FROM module"
    assert fetch(sink, sql) == [
        (1_800_000_000_250, "test", "van-001", 2, MODULE_CODE, 3, 0xFFFFFFFF, 0xFFFFFFFF),
    ]


def test_stream_of_the_node_has_no_module_and_no_bay(sink: DuckdbSink) -> None:
    source = FrameSource()
    frame = source.frame([(1, row_of(POSITION, latitude_deg=311234567))], stream=POSITION, bay=0, owner="")
    sink.write(rows_of(source, frame))
    assert fetch(sink, "SELECT bay, module, latitude_deg FROM position") == [(0, "", 31.1234567)]


def test_repeated_frames_are_dropped_within_the_transaction(sink: DuckdbSink) -> None:
    source = FrameSource()
    first, second, third = (source.frame() for _ in range(3))
    sink.write(rows_of(source, first, second))
    written = sink.write(rows_of(source, second, third, first))
    assert (written.frame_count, written.duplicates) == (1, 2)
    assert fetch(sink, "SELECT seq, COUNT(*) FROM frames GROUP BY seq ORDER BY seq") == [(1, 1), (2, 1), (3, 1)]
    assert fetch(sink, "SELECT COUNT(*) FROM module") == [(3,)]


def test_same_number_of_another_journal_is_no_repeat(sink: DuckdbSink) -> None:
    for journal in (7, 8):
        source = FrameSource(journal=journal, anchor_utc_ms=1_800_000_000_000)
        assert sink.write(rows_of(source, source.frame())).frame_count == 1


def test_frames_table_says_what_a_frame_held(sink: DuckdbSink) -> None:
    source = FrameSource(anchor_utc_ms=1_800_000_000_000)
    frame = source.frame(
        [(100, row_of(CELLS, segment=0, cell_01_v=3300)), (900, row_of(CELLS, segment=1))], stream=CELLS
    )
    sink.write(rows_of(source, frame))
    sql = (
        "SELECT stream, bay, module, priority, boot, row_count, value_count, epoch_ms(first_time), epoch_ms(last_time)"
        " FROM frames"
    )
    assert fetch(sink, sql) == [
        ("cells", 1, MODULE_CODE, 0, 1, 2, 1, 1_800_000_000_100, 1_800_000_000_900),
    ]
    assert fetch(sink, "SELECT segment, cell_01_v FROM cells ORDER BY segment") == [(0, 3.3), (1, None)]


def test_shorter_rows_of_an_older_firmware_fill_the_signals_they_have(sink: DuckdbSink) -> None:
    source = FrameSource()
    older = MODULE._replace(signals=MODULE.signals[:3])
    old, new = source.frame([(1, [5300, 100, 905])], stream=older), source.frame([(2, module_row())])
    sink.write(rows_of(source, old, new))
    assert fetch(sink, "SELECT soc_pct, soh_pct FROM module ORDER BY time") == [(90.5, None), (90.5, 99.0)]


def test_file_of_an_older_catalogue_gets_the_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "d.duckdb"
    with closing(DuckdbSink(DuckdbConfig(path=path))) as sink:
        sink.open()
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE module DROP COLUMN soh_pct")
    with closing(DuckdbSink(DuckdbConfig(path=path))) as sink:
        sink.open()
        source = FrameSource()
        sink.write(rows_of(source, source.frame()))
        assert fetch(sink, "SELECT soh_pct FROM module") == [(99.0,)]
