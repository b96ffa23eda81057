"""What is missing, from whom, why: the same answer from DuckDB's view, from InfluxQL and from the command line."""

import json
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, row_of
from swapline_bench.gateway_process import GatewayProcess
from swapline_gateway.config import DuckdbConfig, Influxdb1Config
from swapline_gateway.history import History
from swapline_gateway.history_duckdb import missing_statement
from swapline_gateway.missing import Declared, Missing, Origin, Stored, count_missing, find_missing
from swapline_gateway.sinks import make as make_sink
from swapline_gateway.sinks.base import Sink
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.sinks.duckdb_schema import make_tables
from swapline_wire.catalogue import (
    EVENT_STREAM,
    FRAMES_DROPPED,
    LOSS_JOURNAL_FULL,
    LOSS_NO_MEMORY,
    LOSS_POWER_CUT,
    ROWS_DROPPED,
)
from tests.gateway.written import write

BASE_MS = 1_800_000_000_000
ORIGIN = Origin("test", "van-001", 7)


def event(source: FrameSource, seq: int, **values: int) -> bytes:
    return source.frame([(seq * 1000, row_of(EVENT_STREAM, **values))], stream=EVENT_STREAM, bay=0, owner="", seq=seq)


def fill(sink: Sink) -> None:
    """Two boots of a van that lost 4..5 nobody knows why, 8..20 of which it dropped 8..15, 23, and rows."""
    source = FrameSource(anchor_utc_ms=BASE_MS)
    write(sink, source, *(source.frame(seq=seq) for seq in (1, 2, 3, 6, 7, 21)))
    source.boot = 2
    write(
        sink,
        source,
        event(source, 22, code=ROWS_DROPPED, reason=LOSS_POWER_CUT, duration_s=5),
        event(source, 24, code=FRAMES_DROPPED, reason=LOSS_JOURNAL_FULL, first_seq=7, last_seq=15, count=9),
        event(source, 25, code=FRAMES_DROPPED, reason=LOSS_NO_MEMORY, first_seq=23, last_seq=23, count=1),
        event(source, 26, code=ROWS_DROPPED, reason=LOSS_NO_MEMORY, count=12),
        event(source, 27, code=FRAMES_DROPPED, reason=LOSS_JOURNAL_FULL, first_seq=12, last_seq=14, count=3),
    )
    whole = FrameSource(node="van-002", anchor_utc_ms=BASE_MS)
    write(sink, whole, *(whole.frame(seq=seq) for seq in (5, 6, 7)))


def missing(
    first: int | None, last: int | None, reason: str, after: int, before: int, *, row_count: int | None = None
) -> Missing:
    frames = last - first + 1 if first is not None and last is not None else 0
    times = (BASE_MS + after * 1000, BASE_MS + before * 1000)
    return Missing(*ORIGIN, first, last, frames, row_count, reason, *times)


EXPECTED = [
    missing(4, 5, "not_arrived", 3, 6),
    missing(8, 15, "journal_full", 7, 21),
    missing(16, 20, "not_arrived", 7, 21),
    missing(23, 23, "no_memory", 22, 24),
    missing(None, None, "power_cut", 21, 22),
    missing(None, None, "no_memory", 21, 26, row_count=12),
]


async def test_both_databases_say_what_is_missing_from_whom_and_why(opened: tuple[Sink, History]) -> None:
    sink, history = opened
    fill(sink)
    found = await history.missing()
    assert found == EXPECTED
    assert count_missing(found) == 16
    assert await history.missing(node="van-001", fleet="test") == EXPECTED
    assert await history.missing(node="van-002") == []
    assert await history.missing(fleet="other") == []


async def test_one_query_of_an_operator_answers_from_influxdb(influx: services.InfluxServer) -> None:
    """The statements of docs/gateway.md, as they stand there."""
    config = Influxdb1Config(type="influxdb1", url=influx.url, database="documented")
    with closing(make_sink(config)) as sink:
        sink.open()
        fill(sink)
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    counted, declared = (part.split("```")[0] for part in page.split("```sql\n-- InfluxQL\n")[1:])
    influxql = "; ".join(statement.strip() for statement in (counted, declared))
    answers = json.loads(influx.execute(influxql.replace('FROM "', 'FROM "documented".."')))["results"]
    by_node = {series["tags"]["node"]: series["values"][0][1] for series in answers[0]["series"]}
    assert by_node == {"van-001": 16, "van-002": 0}
    assert sum(len(series["values"]) for series in answers[1]["series"]) == 5


def test_declared_range_of_a_journal_of_which_nothing_arrived_is_missing(tmp_path: Path) -> None:
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "d.duckdb"))) as sink:
        sink.open()
        with sink.cursor() as cursor:
            cursor.execute("INSERT INTO loss VALUES ('f', 'n', 9, 3, 8, 6, NULL, 'database_damaged', NULL)")
            cursor.execute("INSERT INTO loss VALUES ('f', 'n', 9, 6, 9, 4, NULL, 'database_damaged', NULL)")
            found = cursor.execute("SELECT journal, first_seq, last_seq, reason FROM missing").fetchall()
    assert found == [(9, 3, 8, "database_damaged"), (9, 9, 9, "database_damaged")]


numbers = st.integers(1, 40)
ranges = st.tuples(numbers, numbers).map(sorted).map(lambda both: Declared(both[0], both[1], "journal_full"))


@given(stored=st.sets(numbers), declared=st.lists(ranges, max_size=6))
def test_every_number_is_stored_or_missing_once_and_only_holes_and_declared_ones_are(
    stored: set[int], declared: list[Declared]
) -> None:
    found = find_missing({ORIGIN: [Stored(seq, seq, seq) for seq in stored]} if stored else {}, {ORIGIN: declared})
    listed = [seq for one in found for seq in range(one.first_seq or 0, (one.last_seq or 0) + 1)]
    given_up = {seq for one in declared for seq in range(one.first, one.last + 1)}
    between = set(range(min(stored), max(stored))) if stored else set()
    assert len(listed) == len(set(listed))
    assert set(listed) == (given_up | between) - stored
    holes = [(one.first_seq or 0, one.last_seq or 0) for one in found if one.reason == "not_arrived"]
    assert {seq for first, last in holes for seq in range(first, last + 1)} == between - stored - given_up


def test_view_and_python_agree_on_random_books() -> None:
    chance = random.Random(7)  # noqa: S311 (test data, not a secret)
    with duckdb.connect() as connection:
        make_tables(connection)
        for _ in range(40):
            connection.execute("DELETE FROM frames; DELETE FROM loss")
            stored = sorted(chance.sample(range(1, 60), chance.randint(1, 40)))
            firsts = [chance.randint(1, 60) for _ in range(chance.randint(0, 5))]
            declared = [Declared(first, first + chance.randint(0, 15), chance.choice("ab")) for first in firsts]
            for seq in stored:
                connection.execute(
                    "INSERT INTO frames (fleet, node, journal, seq, first_time, last_time)"
                    " VALUES (?, ?, ?, ?, make_timestamp(?), make_timestamp(?))",
                    [*ORIGIN, seq, seq * 1000, seq * 2000],
                )
            for one in declared:
                connection.execute("INSERT INTO loss VALUES (?, ?, ?, ?, ?, 1, NULL, ?, NULL)", [*ORIGIN, *one])
            statement, parameters = missing_statement(None, None)
            rows = connection.execute(statement, parameters).fetchall()
            expected = find_missing({ORIGIN: [Stored(seq, seq, seq * 2) for seq in stored]}, {ORIGIN: declared})
            assert [Missing(*row) for row in rows] == expected


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "swapline_gateway", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_command_answers_people_and_machines_beside_a_running_gateway_and_without_one(tmp_path: Path) -> None:
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "swapline.duckdb"))) as sink:
        sink.open()
        fill(sink)
    port = services.free_port()
    with services.mosquitto() as broker:
        settings = {"http": {"port": port, "console": False}}
        with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as gateway:
            config = gateway.config_path
            beside = run("missing", "--json", "--config", config)
            assert [Missing(**json.loads(line)) for line in beside.stdout.splitlines()] == EXPECTED
            assert gateway.stop() == 0
    alone = run("missing", "--json", "--config", config)
    assert (alone.returncode, alone.stdout) == (0, beside.stdout)
    people = run("missing", "--config", config, "--node", "van-001").stdout
    assert "test/van-001  00000007  8..15" in people
    assert people.splitlines()[-1] == "16 frames are missing."
    assert run("missing", "--config", config, "--node", "van-002").stdout == "Nothing is missing.\n"


def test_command_without_a_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("")
    result = run("missing", "--config", tmp_path / "gateway.toml")
    assert result.returncode == 73
    assert result.stderr.count("\n") == 1
    assert "There is no database at" in result.stderr
