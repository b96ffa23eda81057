"""Exported rows are those that nodes sealed: out of a real InfluxDB 1.x, and out of a DuckDB file."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner, Result

from swapline_bench import services
from swapline_bench.frame_source import MODULE_CODE, FrameSource, module_row, row_of
from swapline_cloud.backup import reading
from swapline_cloud.export.command import export
from swapline_cloud.export.table import order
from swapline_cloud.rollup import DATABASE, FOREVER, LEVELS, MINUTE, RAW, rollups
from swapline_gateway.config import DuckdbConfig, Influxdb1Config
from swapline_gateway.reading import FrameRows, no_value_codes, read_rows
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, CELLS, KEY, MODULE, VEHICLE, Stream

DAY_MS, MINUTE_MS = 86_400_000, 60_000
STREAMS = (MODULE, CELLS, VEHICLE, ALARM_STREAM)
Row = dict[str, Any]
MIDNIGHT_MS = now_utc_ms() // DAY_MS * DAY_MS  # of all tests: a day may begin between two of them


def day_of(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d")


def frames_of(node: str, start_ms: int) -> list[FrameRows]:
    """Return what a van tells in two hours and a half: two modules, their cells, itself, one alarm."""
    source = FrameSource(node=node, anchor_utc_ms=start_ms)
    data = []
    for first in range(0, 150 * MINUTE_MS, 5 * MINUTE_MS):
        times = range(first, first + 5 * MINUTE_MS, 10_000)
        for bay, code in ((2, MODULE_CODE), (1, "0AACDE'345,=901234ABCE")):
            data.append(source.frame([(ms, module_row(5000 + ms // 10_000 % 77)) for ms in times], bay=bay, owner=code))
        cells = [
            (ms, row_of(CELLS, segment=n, cell_01_v=3300 + n, temperature_1_c=-51)) for ms in times for n in (1, 0)
        ]
        data.append(source.frame(cells, stream=CELLS))
        itself = [(ms, row_of(VEHICLE, odometer_km=1_000_000 + ms, speed_kmh=ms // 1000 % 500)) for ms in times]
        data.append(source.frame(itself, stream=VEHICLE, bay=0, owner=""))
    data.append(source.frame([(1000, row_of(ALARM_STREAM, code=3, level=2))], stream=ALARM_STREAM, bay=0, owner=""))
    return [read_rows(SpooledFrame(n, "test", node, start_ms, 3, 0, one)) for n, one in enumerate(data)]


def everything() -> list[FrameRows]:
    """Return what two vans tell in an evening and half an hour of the next day, which are over for long enough."""
    evening_ms = MIDNIGHT_MS - 3 * DAY_MS + 22 * 60 * MINUTE_MS
    return [*frames_of("van-002", evening_ms), *frames_of("van-001", evening_ms)]


def expected(stream: Stream, frames: list[FrameRows], day: str) -> list[Row]:
    found = []
    for frame in (one for one in frames if one.stream is stream):
        for time_ms, *raw in zip(*frame.columns, strict=True):
            row: Row = {"time": time_ms, "fleet": "test", "node": frame.frame.node, "bay": frame.header.bay or None}
            row |= {"module": frame.module or None, "time_quality": 3}
            for signal, value in zip(frame.signals, raw, strict=True):
                is_there = signal.kind == KEY or value not in no_value_codes(signal)
                scaled = value / 10**signal.decimals if signal.decimals else value
                row[signal.name] = scaled if is_there else None
            found.append(row)
    wanted = [row for row in found if day_of(row["time"]) == day]
    return sorted(wanted, key=lambda row: tuple((row[name] is None, row[name] or 0) for name in order(stream)))


def read(path: Path) -> list[Row]:
    """Return a file's rows, times in ms."""
    table = pq.read_table(path, partitioning=None)
    table = table.set_column(0, "time", table["time"].cast(pa.int64()))
    found: list[Row] = table.to_pylist()
    return found


@pytest.fixture(scope="module")
def frames() -> list[FrameRows]:
    return everything()


@pytest.fixture(scope="module")
def server(frames: list[FrameRows]) -> Iterator[services.InfluxServer]:
    with services.influxd() as influx:
        influx.execute(f'CREATE DATABASE "{DATABASE}" WITH DURATION 30d REPLICATION 1 NAME "{RAW}"')
        for policy, duration in ((MINUTE, "731d"), (FOREVER, "INF")):
            influx.execute(f'CREATE RETENTION POLICY "{policy}" ON "{DATABASE}" DURATION {duration} REPLICATION 1')
        config = Influxdb1Config(type="influxdb1", url=influx.url, database=DATABASE, forever=FOREVER)
        with closing(Influxdb1Sink(config)) as sink:
            assert not sink.write(frames).refused
        yield influx


@pytest.fixture(scope="module")
def file(frames: list[FrameRows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("duckdb") / "swapline.duckdb"
    with closing(DuckdbSink(DuckdbConfig(path=path))) as sink:
        sink.write(frames)
    return path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(export, [str(one) for one in arguments])
    found = getattr(result.exception, "exit_code", result.exit_code)
    assert found == code, (result.output, result.exception)
    return result


def span() -> tuple[object, ...]:
    return "--from", day_of(MIDNIGHT_MS - 4 * DAY_MS), "--to", day_of(MIDNIGHT_MS + DAY_MS)


def path_of(out: Path, stream: str, day: str) -> Path:
    return out / f"stream={stream}" / f"day={day}.parquet"


@pytest.fixture(params=["influxdb", "duckdb"])
def whence(request: pytest.FixtureRequest) -> tuple[object, ...]:
    """Return the option that names a database with the rows."""
    if request.param == "duckdb":
        return "--file", request.getfixturevalue("file")
    return "--url", request.getfixturevalue("server").url


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: str(stream.name))
def test_rows_are_those_that_nodes_sealed(
    whence: tuple[object, ...], stream: Stream, frames: list[FrameRows], tmp_path: Path
) -> None:
    run(*whence, *span(), "--stream", stream.name, "--out", tmp_path)
    days = sorted({day_of(ms) for frame in frames if frame.stream is stream for ms in frame.columns[0]})
    assert len(days) == (1 if stream is ALARM_STREAM else 2)
    files = [path_of(tmp_path, stream.name, day) for day in days]
    assert sorted(tmp_path.rglob("*.parquet")) == files
    for day, path in zip(days, files, strict=True):
        found = read(path)
        assert found == expected(stream, frames, day)
        assert all(type(row[name]) is type(found[0][name]) for row in found for name in ("time", "fleet"))


def test_slices_of_time_keep_the_order_and_lose_nothing(
    server: services.InfluxServer, frames: list[FrameRows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CELLS_MAX", 4000)
    run("--url", server.url, *span(), "--stream", "module", "--out", tmp_path)
    for path in (tmp_path / "stream=module").iterdir():
        assert read(path) == expected(MODULE, frames, path.stem.removeprefix("day="))


def test_columns_have_types_units_and_meanings_of_the_catalogue(server: services.InfluxServer, tmp_path: Path) -> None:
    run("--url", server.url, *span(), "--stream", "module,cells", "--out", tmp_path)
    columns = pq.read_schema(next((tmp_path / "stream=module").iterdir()))
    assert columns.field("time").type == pa.timestamp("ms", tz="UTC")
    assert columns.field("voltage_v").type == pa.float64()
    assert columns.field("voltage_v").metadata[b"unit"] == b"V"
    assert columns.field("cycles").type == pa.int64()
    assert columns.field("cycles").metadata[b"kind"] == b"total"
    for name in ("fleet", "node", "module"):
        assert pa.types.is_dictionary(columns.field(name).type)
    assert pq.read_schema(next((tmp_path / "stream=cells").iterdir())).field("segment").type == pa.uint8()


def test_duckdb_reads_a_folder_of_days_sorted_by_node_and_time(server: services.InfluxServer, tmp_path: Path) -> None:
    run("--url", server.url, *span(), "--stream", "module,vehicle", "--out", tmp_path)
    glob = str(tmp_path / "stream=module" / "*.parquet")
    with duckdb.connect() as connection:
        counted = connection.execute(
            "SELECT node, module, count(*), min(voltage_v), max(voltage_v) FROM read_parquet(?)"
            " GROUP BY ALL ORDER BY ALL",
            [glob],
        ).fetchall()
        assert [row[2:] for row in counted] == [(900, 50.0, 50.76)] * 4
        (first,) = connection.execute(
            "SELECT DISTINCT stream FROM read_parquet(?, hive_partitioning = true)", [glob]
        ).fetchall()
        assert first == ("module",)
    for path in (tmp_path / "stream=module").iterdir():
        rows = [(row["node"], row["time"]) for row in read(path)]
        assert all(one <= other for one, other in pairwise(rows))


def test_only_the_rows_of_a_node_or_a_module_are_exported(
    server: services.InfluxServer, file: Path, frames: list[FrameRows], tmp_path: Path
) -> None:
    for number, whence in enumerate((("--url", server.url), ("--file", file))):
        out = tmp_path / str(number)
        run(*whence, *span(), "--stream", "module", "--node", "van-001", "--module", MODULE_CODE, "--out", out)
        for path in (out / "stream=module").iterdir():
            wanted = expected(MODULE, frames, path.stem.removeprefix("day="))
            chosen = [row for row in wanted if (row["node"], row["module"]) == ("van-001", MODULE_CODE)]
            assert read(path) == chosen
        result = run(*whence, *span(), "--stream", "module", "--out", out, code=73)
        assert "has other rows than these (node van-001, module" in str(result.exception)


def test_day_that_is_there_is_left_unless_it_was_not_over_or_again_is_said(
    server: services.InfluxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--url", server.url, *span(), "--stream", "vehicle", "--out", tmp_path)
    run(*command)
    first, second = sorted((tmp_path / "stream=vehicle").iterdir())
    marks = [path.stat().st_ino for path in (first, second)]
    assert run(*command).output.count("is there") == 2
    assert [path.stat().st_ino for path in (first, second)] == marks
    run(*command, "--again")
    assert all(path.stat().st_ino != mark for path, mark in zip((first, second), marks, strict=True))

    noon_ms = MIDNIGHT_MS - 2 * DAY_MS + 12 * 60 * MINUTE_MS  # of the second day
    monkeypatch.setattr("swapline_cloud.export.writing.time.time_ns", lambda: noon_ms * 1_000_000)
    run(*command, "--again")
    monkeypatch.undo()
    marks = [path.stat().st_ino for path in (first, second)]
    assert run(*command).output.count("is there") == 1
    assert first.stat().st_ino == marks[0]
    assert second.stat().st_ino != marks[1]


def test_export_that_fails_leaves_no_half_file(
    server: services.InfluxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = pq.ParquetWriter.write_table

    def fail(self: Any, table: pa.Table) -> None:
        written(self, table)
        raise OSError(28, "No space left on device", "the file")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    result = run("--url", server.url, *span(), "--stream", "module", "--out", tmp_path, code=73)
    assert "No space left" in str(result.exception)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("rollup", ["minute", "hour"])
def test_rollups_are_exported_with_whole_numbers_where_signals_are_whole(
    rollup: str, server: services.InfluxServer, tmp_path: Path
) -> None:
    found = next(one for one in rollups() if one.measurement == "module")
    level = LEVELS[("minute", "hour").index(rollup)]
    since = MIDNIGHT_MS - 3 * DAY_MS
    where = f"WHERE time >= {since}ms AND time < {MIDNIGHT_MS}ms"
    server.execute(_select(found, level, where))
    run("--url", server.url, *span(), "--rollup", rollup, "--stream", "module", "--out", tmp_path)
    rows = [row for path in sorted((tmp_path / f"rollup={rollup}" / "stream=module").iterdir()) for row in read(path)]
    assert sum(row["voltage_v_count"] for row in rows) == 3600
    assert {row["voltage_v_count"] for row in rows} == ({6} if rollup == "minute" else {360, 180})
    assert all(row["voltage_v_min"] <= row["voltage_v_mean"] <= row["voltage_v_max"] for row in rows)
    columns = pq.read_schema(next((tmp_path / f"rollup={rollup}" / "stream=module").iterdir()))
    assert columns.field("cycles_max").type == pa.int64()
    assert columns.field("soc_pct_mean").metadata[b"aggregate"] == b"mean"


def _select(rollup: Any, level: Any, where: str) -> str:
    what = ", ".join(f'{one.aggregate}("{one.field}") AS "{one.name}"' for one in rollup.columns)
    source, target = f'"{DATABASE}"."{RAW}"."module"', f'"{DATABASE}"."{level.policy}"."module"'
    by = f"GROUP BY time({level.interval}), *"
    return f"SELECT {what} INTO {target} FROM {source} {where} {by}"  # noqa: S608


def test_duckdb_file_that_is_open_elsewhere_says_what_to_do(file: Path, tmp_path: Path) -> None:
    holding = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        result = run("--file", file, *span(), "--out", tmp_path, code=73)
    assert "stop it for as long as this takes" in str(result.exception)


def test_configurations_of_gateway_and_cloud_say_where_rows_are(
    server: services.InfluxServer, file: Path, tmp_path: Path
) -> None:
    gateway, cloud = tmp_path / "gateway.toml", tmp_path / "cloud.toml"
    cloud.write_text(f'[database]\nversion = 1\nurl = "{server.url}"\n')
    for number, sink in enumerate(
        (f'type = "influxdb1"\nurl = "{server.url}"\nforever = "forever"', f'path = "{file}"')
    ):
        gateway.write_text(f"[sink]\n{sink}\n")
        out = tmp_path / str(number)
        run("--config", gateway, *span(), "--stream", "alarm", "--out", out)
        assert len(list(out.rglob("*.parquet"))) == 1
    run("--cloud", cloud, *span(), "--stream", "alarm", "--out", tmp_path / "cloud")
    assert len(list((tmp_path / "cloud").rglob("*.parquet"))) == 1
    run(*span(), "--out", tmp_path, code=2)
    run("--config", gateway, "--rollup", "hour", *span(), "--out", tmp_path, code=2)
    run("--config", gateway, *span(), "--stream", "modul", "--out", tmp_path, code=2)
