"""Rows that come late are in the roll-ups, whoever is killed: a real InfluxDB 1.x, and figures worked out here."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_cloud.cli import cloud
from swapline_cloud.config import DatabaseConfig
from swapline_cloud.late import HOUR_MS, LateRows, Work
from swapline_cloud.late import Done as Did
from swapline_cloud.rollup import DATABASE, FOREVER, LATE_S, LEVELS, MINUTE, RAW, Level, Rollup, rollups
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.error import SinkBusyError
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.sinks.line_protocol import FRAMES, LATE_MS
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, VEHICLE
from tests.gateway.fake_influx import FakeInflux

DAY_MS = 24 * HOUR_MS
MINUTE_MS = 60_000
ROLLUPS = {rollup.measurement: rollup for rollup in rollups()}
VAN, OTHER = "van-001", "van-002"


class Database:
    """The database as `swapline cloud apply` makes it, without its continuous queries, and a gateway's sink."""

    def __init__(self, server: services.InfluxServer) -> None:
        self.url = server.url
        self.now_ms = now_utc_ms()
        self.config = DatabaseConfig(version=1, url=server.url)
        sink = Influxdb1Config(type="influxdb1", url=server.url, database=DATABASE, forever=FOREVER)
        self.client = InfluxqlClient(sink)
        self.sink = Influxdb1Sink(sink)
        server.execute(f'DROP DATABASE "{DATABASE}"')
        server.execute(f'CREATE DATABASE "{DATABASE}" WITH DURATION 30d REPLICATION 1 NAME "{RAW}"')
        for policy, duration in ((MINUTE, "731d"), (FOREVER, "INF")):
            server.execute(f'CREATE RETENTION POLICY "{policy}" ON "{DATABASE}" DURATION {duration} REPLICATION 1')

    def store(self, *frames: FrameRows, late_ms: int = 0) -> int:
        """Store frames so long after their last row; return how many the database refused."""
        stored_ms = max(max(frame.columns[0]) for frame in frames) + late_ms
        with patch("swapline_gateway.sinks.influx_points.now_utc_ms", lambda: min(stored_ms, self.now_ms)):
            return len(self.sink.write(frames).refused)

    def roll_up_by_itself(self, start_ms: int, end_ms: int) -> None:
        """Do what continuous queries do, for everybody."""
        for rollup in rollups():
            for level in LEVELS:
                what = ", ".join(f'{c.aggregate}("{c.field}") AS "{c.name}"' for c in rollup.columns)
                self.client.query(
                    f'SELECT {what} INTO "{DATABASE}"."{level.policy}"."{rollup.measurement}"'  # noqa: S608
                    f' FROM "{RAW}"."{rollup.measurement}" WHERE time >= {start_ms}ms AND time < {end_ms}ms'
                    f" GROUP BY time({level.interval}), * fill(none)"
                )

    def points(self, policy: str, measurement: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return the points by tags and time, fields without a value left out."""
        found = {}
        for series in self.client.query(f'SELECT * FROM "{policy}"."{measurement}" GROUP BY *'):  # noqa: S608
            for time_ms, *values in series["values"]:
                fields = dict(zip(series["columns"][1:], values, strict=True))
                key = (tuple(sorted(series["tags"].items())), time_ms)
                found[key] = {name: value for name, value in fields.items() if value is not None}
        return found

    def everything(self) -> dict[tuple[str, str], Any]:
        return {(level.policy, name): self.points(level.policy, name) for level in LEVELS for name in ROLLUPS}

    def late(self, *, after_ms: int = 0) -> LateRows:
        return LateRows(self.config, now_utc_ms=lambda: self.now_ms + after_ms)


def worked_out(database: Database, rollup: Rollup, level: Level) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the roll-up of raw rows, made by Python."""
    step_ms = level.seconds * 1000
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for (tags, time_ms), fields in sorted(database.points(RAW, rollup.measurement).items(), key=lambda one: one[0][1]):
        rows[tags, time_ms // step_ms * step_ms].append(fields)
    call = {"mean": fmean, "min": min, "max": max, "count": len, "last": lambda values: values[-1], "sum": sum}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key, of_it in rows.items():
        fields = {}
        for column in rollup.columns:
            values = [row[column.field] for row in of_it if column.field in row]
            if values:
                fields[column.name] = call[column.aggregate](values)  # type: ignore[operator]
        found[key] = fields
    return found


def assert_all_rolled_up(database: Database) -> None:
    for rollup in rollups():
        for level in LEVELS:
            wanted, found = worked_out(database, rollup, level), database.points(level.policy, rollup.measurement)
            assert found.keys() == wanted.keys(), (level.policy, rollup.measurement)
            for key, fields in wanted.items():
                assert found[key] == pytest.approx(fields), (level.policy, key)


def frames_of(
    start_ms: int, *, node: str = VAN, seq: int = 0, minutes: int = 150, voltage_cv: int = 5000
) -> list[FrameRows]:
    """Return what a van tells: a frame of its module and one of itself each five minutes, a row each ten seconds."""
    source = FrameSource(node=node, anchor_utc_ms=start_ms, seq=seq)
    data = []
    for first in range(0, minutes * MINUTE_MS, 5 * MINUTE_MS):
        times = range(first, first + 5 * MINUTE_MS, 10_000)
        rows = [(ms, module_row(voltage_cv + ms // 10_000 % 77)) for ms in times]
        data.append(source.frame(rows, bay=1 + first // (5 * MINUTE_MS) % 2))
        itself = [(ms, row_of(VEHICLE, odometer_km=1_000_000 + ms, speed_kmh=ms // 1000 % 500)) for ms in times]
        data.append(source.frame(itself, stream=VEHICLE, bay=0, owner=""))
    data.append(source.frame([(1000, row_of(ALARM_STREAM, code=3, level=2))], stream=ALARM_STREAM))
    return [read_rows(SpooledFrame(n, "test", node, start_ms, 3, 0, one)) for n, one in enumerate(data)]


def run(late: LateRows, work: Work | None = None) -> Did:
    done = Did()
    found = late.find() if work is None else work
    for piece in found.pieces:
        late.roll(piece, done)
    late.note(found)
    return done


@pytest.fixture
def database(server: services.InfluxServer) -> Iterator[Database]:
    found = Database(server)
    yield found
    found.client.close()
    found.sink.close()


@pytest.fixture
def yesterday(database: Database) -> int:
    """Fill yesterday with two vans' rows that came in time and are rolled up; one of them kept some back. Its begin."""
    start_ms = (database.now_ms - DAY_MS) // HOUR_MS * HOUR_MS
    for node in (VAN, OTHER):
        frames = frames_of(start_ms, node=node)
        for frame in frames if node == OTHER else frames[::3]:
            assert database.store(frame) == 0
    database.roll_up_by_itself(start_ms, database.now_ms)
    assert_all_rolled_up(database)
    return start_ms


def send_the_rest(database: Database, start_ms: int) -> None:
    frames = [frame for n, frame in enumerate(frames_of(start_ms)) if n % 3]
    assert database.store(*frames, late_ms=DAY_MS) == 0


def test_a_gateway_marks_rows_before_the_database_gives_them_up() -> None:
    assert LATE_MS < LATE_S * 1000


def test_late_rows_are_in_minutes_and_hours(database: Database, yesterday: int) -> None:
    send_the_rest(database, yesterday)
    with pytest.raises(AssertionError):
        assert_all_rolled_up(database)
    with closing(database.late()) as late:
        done = run(late)
    assert_all_rolled_up(database)
    assert done.hours == 3 * 3  # of the module, the van, and their frames
    assert done.points > 2 * 150


def test_twice_is_the_same_and_what_is_done_is_not_done_again(database: Database, yesterday: int) -> None:
    send_the_rest(database, yesterday)
    with closing(database.late()) as late:
        run(late)
    once = database.everything()
    with closing(database.late()) as late:  # as another one would that runs beside it
        assert run(late, late.find(database.now_ms - HOUR_MS)).hours == 9
    assert database.everything() == once
    with closing(database.late(after_ms=10 * MINUTE_MS)) as late:
        run(late)
    with closing(database.late(after_ms=20 * MINUTE_MS)) as late:
        assert late.find().pieces == []


def test_other_nodes_are_left_alone(database: Database, yesterday: int) -> None:
    send_the_rest(database, yesterday)
    mark = f"vehicle,fleet=test,node={OTHER} speed_kmh_mean=-1 {yesterday}000000"
    database.sink.send(mark.encode(), FOREVER)
    with closing(database.late()) as late:
        assert {piece.node for piece in late.find().pieces} == {VAN}
        run(late)
    (found,) = [
        fields
        for (tags, time_ms), fields in database.points(FOREVER, "vehicle").items()
        if ("node", OTHER) in tags and time_ms == yesterday
    ]
    assert found["speed_kmh_mean"] == -1


@pytest.mark.parametrize("killed_at", [0, 3, 5])
def test_run_that_is_killed_between_two_writes_is_made_good_by_the_next(
    database: Database, yesterday: int, killed_at: int
) -> None:
    send_the_rest(database, yesterday)
    writes = 0

    def send(self: Influxdb1Sink, body: bytes, policy: str | None = None) -> None:
        nonlocal writes
        if writes == killed_at:
            raise SinkBusyError("killed")
        writes += 1
        whole(self, body, policy)

    whole = Influxdb1Sink.send
    with closing(database.late()) as late, patch.object(Influxdb1Sink, "send", send), pytest.raises(SinkBusyError):
        run(late)
    with pytest.raises(AssertionError):
        assert_all_rolled_up(database)
    with closing(database.late(after_ms=DAY_MS)) as late:
        assert late.find(database.now_ms - HOUR_MS).pieces
    with closing(database.late()) as late:
        run(late)
    assert_all_rolled_up(database)


def test_hours_that_the_database_did_not_roll_up_while_it_was_away_are_found(database: Database) -> None:
    with closing(database.late(after_ms=-6 * HOUR_MS)) as late:
        run(late)
    start_ms = (database.now_ms - 7 * HOUR_MS) // HOUR_MS * HOUR_MS
    for frame in frames_of(start_ms, minutes=90):
        database.store(frame)  # in time, and no continuous query ran
    with closing(database.late()) as late:
        run(late)
    assert_all_rolled_up(database)
    with closing(database.late(after_ms=10 * MINUTE_MS)) as late:
        assert late.find().pieces == []


def test_gap_that_is_too_long_to_be_made_good_is_told(database: Database) -> None:
    with closing(database.late(after_ms=-3 * DAY_MS)) as late:
        run(late)
    with closing(database.late()) as late:
        assert late.find().unhealed_ms == 2 * DAY_MS + LATE_S * 1000


def test_all_hours_can_be_asked_for(database: Database) -> None:
    start_ms = (database.now_ms - 12 * HOUR_MS) // HOUR_MS * HOUR_MS
    for frame in frames_of(start_ms):
        database.store(frame)
    with closing(database.late()) as late:
        run(late, late.find_all(start_ms, database.now_ms))
        assert_all_rolled_up(database)
        assert late.find_all(start_ms, start_ms + HOUR_MS).hour_count == 3


def command(folder: Path, url: str, *more: str) -> tuple[int, str]:
    path = folder / "cloud.toml"
    path.write_text(f"[database]\nversion = 1\nurl = '{url}'\n")
    result = CliRunner().invoke(cloud, ["rollup", "--config", str(path), *more])
    assert not isinstance(result.exception, AssertionError)
    return result.exit_code, result.output


def test_command_shows_does_and_sums_up(database: Database, yesterday: int, tmp_path: Path) -> None:
    send_the_rest(database, yesterday)
    code, shown = command(tmp_path, database.url, "--dry-run")
    assert code == 0
    assert "test/van-001  vehicle " in shown
    assert "9 hours of 1 nodes would be made again." in shown
    with pytest.raises(AssertionError):
        assert_all_rolled_up(database)
    code, said = command(tmp_path, database.url, "--json")
    assert (code, json.loads(said)["hours"], json.loads(said)["nodes"]) == (0, 9, 1)
    assert_all_rolled_up(database)


def test_rows_too_late_for_raw_are_told(database: Database, tmp_path: Path) -> None:
    start_ms = (database.now_ms - 35 * DAY_MS) // HOUR_MS * HOUR_MS
    assert database.store(*frames_of(start_ms, minutes=10), late_ms=40 * DAY_MS) > 0
    code, said = command(tmp_path, database.url)
    assert code == 0
    assert "0 hours of 0 nodes made again" in said
    assert "3 hours are 30 days old: too late for the policy raw" in said
    assert "quarantine" in said


@pytest.mark.parametrize(
    "arguments", [["--to", "2026-01-01"], ["--from", "2d", "--follow"], ["--follow", "--dry-run"], ["--every", "1w"]]
)
def test_options_that_contradict_are_refused(arguments: Sequence[str], tmp_path: Path) -> None:
    assert command(tmp_path, "http://127.0.0.1:1", *arguments)[0] == 2


@pytest.mark.parametrize(("version", "bucket"), [(2, "swapline_forever"), (3, "swapline/forever")])
def test_other_versions_have_buckets(version: int, bucket: str) -> None:
    with FakeInflux(2) as fake:
        config = DatabaseConfig.model_validate({"version": version, "url": fake.url, "token": "t"})
        with closing(LateRows(config)) as late:
            late.note(Work([], until_utc_ms=1))
        assert fake.places == {bucket: {"rollup_state"}}


def test_frames_roll_up_counts_late_frames(database: Database, yesterday: int) -> None:
    send_the_rest(database, yesterday)
    with closing(database.late()) as late:
        run(late)
    hours = [fields for (tags, _), fields in database.points(FOREVER, FRAMES).items() if ("node", VAN) in tags]
    assert sum(fields["frames"] for fields in hours) == len(frames_of(yesterday))
    assert max(fields["delay_ms_max"] for fields in hours) > 20 * HOUR_MS
