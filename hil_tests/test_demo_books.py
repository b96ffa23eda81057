"""The demo's verdict can be trusted: a real run's books balance, and what is spoiled in a copy of its data shows."""

import asyncio
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from swapline_bench.demo import Demo, DemoConfig, Status
from swapline_bench.demo_report import Report
from swapline_bench.journal_reader import read_journal
from swapline_gateway.error import StorageError

DURATION_S_MAX = 120.0  # at speed 60 the first van is exchanged its modules within half a minute
ROWS_MIN = 300
PCT_PER_S_MAX = 1.0  # half a C at speed 60, and a margin


class Run(NamedTuple):
    """A demo that has ended, what it reported, and what it said."""

    demo: Demo
    report: Report
    said: list[str]


def play(config: DemoConfig, is_enough: Callable[[list[dict[str, Any]], Status], bool]) -> Run:
    """Run a demo until it is enough, by the moves of modules that nodes have told its gateway of since it began."""
    began_ms, urls, said = time.time() * 1000, list[str](), list[str]()

    def look(status: Status) -> None:
        with urllib.request.urlopen(f"{urls[0]}api/view/fleet", timeout=5) as answer:  # noqa: S310 (our own gateway)
            moves = json.load(answer)["content"]["moves"]
        if is_enough([move for move in moves if move["time_utc_ms"] >= began_ms], status):
            demo.stopping.set()

    demo = Demo(config, on_console=urls.append, on_status=look, on_step=said.append)
    return Run(demo, asyncio.run(demo.run()), said)


@pytest.fixture(scope="module")
def run(mosquitto: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    del mosquitto
    folder = tmp_path_factory.mktemp("demo")
    config = DemoConfig(vans=2, stations=1, speed=60, duration_s=DURATION_S_MAX, data_dir=folder, console_port=0)
    return play(
        config,
        lambda moves, status: (
            status.rows_stored > ROWS_MIN and any(move["destination"]["holder"] == "van" for move in moves)
        ),
    )


def test_a_real_run_balances_and_reports_every_swap(run: Run) -> None:
    report = run.report
    assert report.is_good, report.problems + report.custody_errors
    assert report.swaps_in_world >= 1
    assert report.swaps >= 1
    assert report.frames_lost == {}
    assert report.rows_stored > ROWS_MIN


def test_an_untouched_copy_balances_too(run: Run, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    assert run.demo.close_books(copy).is_good


def copy_of(run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.demo.config.data_dir, tmp_path / "copy"))


def test_a_run_that_goes_on_has_every_module_where_it_was_and_as_full_and_balances(run: Run, tmp_path: Path) -> None:
    before = run.demo._world  # noqa: SLF001 (as it was when the nodes stopped)
    held = {m.code: (v.name, n, m.soc_pct) for v in before.vans for n, m in enumerate(v.bays, 1) if m}
    held |= {
        s.module.code: (station.name, n, s.module.soc_pct)
        for station in before.stations
        for n, s in enumerate(station.slots, 1)
        if s.module
    }
    carried = {event.code for event in before.custody} - held.keys()
    began_s = time.time()
    config = replace(run.demo.config, data_dir=copy_of(run, tmp_path))
    after = play(config, lambda moves, status: status.swaps > 0 and carried <= {move["module"] for move in moves})
    assert after.report.is_good, after.report.problems + after.report.custody_errors
    assert "world: goes on where it stopped" in after.said
    with duckdb.connect(str(config.data_dir / "gateway" / "swapline.duckdb"), read_only=True) as connection:
        first = connection.execute(
            "SELECT module, arg_min((node, bay, soc_pct), time), epoch_ms(min(time)) / 1000 FROM module"
            " WHERE time >= make_timestamp(?) GROUP BY module",
            [int(began_s * 1_000_000)],
        ).fetchall()
    assert {module for module, _, _ in first} == held.keys() | carried
    for module, (node, bay, soc_pct), time_s in first:
        if module in held:
            assert (node, bay) == held[module][:2]
            assert abs(soc_pct - held[module][2]) < 1.0 + PCT_PER_S_MAX * (time_s - began_s)


def choose_victim(data_dir: Path, connection: duckdb.DuckDBPyConnection) -> str:
    """Return the condition of a stored frame of module rows; its node's flash is damaged, so that it has it no more."""
    statement = "SELECT node, journal, seq FROM frames WHERE stream = 'module' AND node LIKE 'van%' ORDER BY ALL"
    node, journal, seq = connection.execute(statement).fetchall()[0]
    folder = data_dir / "nodes" / node / "journal"
    frame = read_journal(folder).frames.get(seq)
    for segment in folder.glob("*.seg"):
        if frame is not None and frame in (data := segment.read_bytes()):
            segment.write_bytes(data.replace(frame, bytes(len(frame))))
    assert seq not in read_journal(folder).frames
    return f"node = '{node}' AND journal = {journal} AND seq = {seq}"


STRANGER = "(SELECT min(s.module) FROM module AS s WHERE s.node = 'station-001')"


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        pytest.param(
            ["DELETE FROM frames WHERE {victim}", "DELETE FROM module WHERE {victim}"],
            r"frames \d+ are unaccounted for",
            id="a frame is gone",
        ),
        pytest.param(["DELETE FROM module WHERE {victim}"], r"rows, 0 are stored", id="rows of a frame are gone"),
        pytest.param(["DELETE FROM frames WHERE {victim}"], r"frame \d+ has 0 module rows", id="a frame's key is gone"),
        pytest.param(
            ["INSERT INTO module SELECT * FROM module WHERE {victim}"],
            r"frame \d+ has \d+ module rows",
            id="rows twice",
        ),
        pytest.param(
            ["UPDATE module SET module = {stranger} WHERE {victim}"],
            r"credited to module \w+ in bay",
            id="rows are another module's",
        ),
        pytest.param(["UPDATE module SET bay = 9 WHERE {victim}"], r"in bay 9 of", id="rows are another bay's"),
        pytest.param(
            ["UPDATE cells SET time = time + INTERVAL 1 HOUR, module = 'NOBODY'"], r"module NOBODY", id="nobody's cells"
        ),
        pytest.param(["DELETE FROM event WHERE module != ''"], r"arrived 1 times, 0 reported", id="swaps are gone"),
    ],
)
def test_whatever_is_spoiled_shows(run: Run, tmp_path: Path, statements: list[str], complaint: str) -> None:
    copy = copy_of(run, tmp_path)
    with duckdb.connect(str(copy / "gateway" / "swapline.duckdb")) as connection:
        victim = choose_victim(copy, connection)
        for statement in statements:
            (count,) = connection.execute(statement.format(victim=victim, stranger=STRANGER)).fetchone() or (0,)
            assert count > 0
    report = run.demo.close_books(copy)
    assert not report.is_good
    assert re.search(complaint, "\n".join(report.problems + report.custody_errors))


def test_a_frame_that_is_stored_twice_is_counted(run: Run, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    with duckdb.connect(str(copy / "gateway" / "swapline.duckdb")) as connection:
        victim = choose_victim(copy, connection)
        connection.execute(f"INSERT INTO frames SELECT * FROM frames WHERE {victim}")  # noqa: S608
    report = run.demo.close_books(copy)
    assert report.duplicates == 1
    assert not report.is_balanced


def test_a_journal_that_is_gone_is_no_balance(run: Run, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    shutil.rmtree(copy / "nodes" / "van-001" / "journal")
    with pytest.raises(StorageError, match="holds no journal"):
        run.demo.close_books(copy)
