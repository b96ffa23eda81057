"""The oracle on a real run: whole path, a power cut, two databases. It is clean, and whatever is spoiled shows."""

import asyncio
import itertools
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from swapline_bench import rig, services
from swapline_bench.database import TAGS, DuckDatabase, Influx1Database, Row
from swapline_bench.end_to_end import FLEET, EndToEnd
from swapline_bench.oracle import PowerCut, Truth, Verdict, judge
from swapline_bench.statement import Statement, StatementLog, read_statements
from swapline_bench.world import World

BEFORE_CUT_S = 8.0  # the node's clock is set, and several sealing intervals have passed
AFTER_CUT_S = 8.0
CERTAIN_MIN = 24  # readings of the module that is spoiled: a busy machine leaves some of them in doubt
CERTAIN_S_MAX = 90.0
SPEED = 10.0  # values change from poll to poll; no swap comes within half a minute


class CountingLog(StatementLog):
    """A log that knows how many readings of the station's first module are beyond doubt."""

    certain = 0

    def write(self, statement: Statement) -> None:
        super().write(statement)
        place = (statement.node, statement.stream, statement.bay)
        self.certain += place == ("station-001", "module", 1) and not statement.is_doubtful


class Run(NamedTuple):
    """A run that has settled."""

    folder: Path
    influx_url: str
    cuts: list[PowerCut]

    def truth(self, *, cuts: list[PowerCut] | None = None) -> Truth:
        return Truth(
            read_statements(self.folder / "statements.jsonl"),
            self.cuts if cuts is None else cuts,
            seal_interval_ms=rig.SEAL_INTERVAL_MS,
        )

    @property
    def influx(self) -> Influx1Database:
        return Influx1Database(self.influx_url, "swapline")

    @property
    def duckdb(self) -> Path:
        return self.folder / "gateway-duckdb" / "swapline.duckdb"


async def play(folder: Path, influxd_url: str) -> list[PowerCut]:
    """Run a van and a station on the whole path and cut the van's power once."""
    world = World(van_count=1, station_count=1, slot_count=2, speed=SPEED, seed=7, real_time_s=time.monotonic)
    with CountingLog(folder / "statements.jsonl") as log:
        async with EndToEnd(folder) as path:
            rigs = [
                rig.make_van_rig(world.vans[0], folder / "van", statements=log),
                rig.make_station_rig(world.stations[0], folder / "station", statements=log),
            ]
            for one in rigs:
                path.stack.push_async_callback(one.close)
            path.run(world.pass_time(), "world")
            await path.start_gateway("duckdb")
            await path.start_gateway("influxdb1", {"influxdb1": influxd_url})
            for one in rigs:
                one.plug()
                config = one.config(fleet=FLEET, host=path.broker.host, port=path.broker.port)
                config["streams"]["node"] = {"report": "all"}
                await path.start_node(one.name, config.pop("buses"), **config)
            van = path.nodes["van-001"]
            await path.tap.wait_rows("van-001", "module", int(3 * BEFORE_CUT_S))
            cuts = [PowerCut("van-001", int(time.time() * 1000))]
            await van.cut_power()
            await path.start_node_again(van)
            await path.tap.wait_rows("van-001", "module", int(3 * (BEFORE_CUT_S + AFTER_CUT_S)))
            await path.tap.wait(lambda: log.certain >= CERTAIN_MIN, "readings beyond doubt", CERTAIN_S_MAX)
            await asyncio.gather(*(settle(path, one) for one in rigs))
            await path.stop()
    return cuts


async def settle(path: EndToEnd, one: rig.HolderRig) -> None:
    """Let the devices fall silent, and wait until all that they said is acknowledged."""
    await one.hush()
    await path.wait_health(one.name)  # a row that is sealed with or after the last ones of the devices
    await path.tap.wait(path.tap[one.name].is_acknowledged, f"acknowledgements for {one.name}")


@pytest.fixture(scope="module")
def run(mosquitto: None, require: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    del mosquitto
    require("influxd")
    folder = tmp_path_factory.mktemp("oracle")
    with services.influxd() as server:  # one of its own: the oracle asks for the rows of everybody
        cuts = asyncio.run(play(folder, server.url))
        yield Run(folder, server.url, cuts)


def test_a_real_run_is_clean_in_both_databases(run: Run) -> None:
    for verdict in (judge(run.truth(), DuckDatabase(run.duckdb)), judge(run.truth(), run.influx)):
        assert verdict.is_good, (verdict, verdict.examples)
        assert verdict.rows_true > 150
        assert verdict.rows_stored >= verdict.rows_true - verdict.rows_lost_declared


def test_every_stream_of_the_devices_is_judged(run: Run) -> None:
    stated = {(one.node, one.stream) for one in read_statements(run.folder / "statements.jsonl")}
    vans = {("van-001", stream) for stream in ("module", "cells", "vehicle", "position")}
    assert stated == vans | {("station-001", stream) for stream in ("module", "cells", "slot", "meter")}


class Victims:
    """Rows of a station's modules that can be spoiled: of readings that had to become a row, whose values are unique.

    On a busy machine a device answers late, and nobody misses the row of a reading that is in doubt.
    """

    def __init__(self, run: Run, database: Influx1Database | DuckDatabase) -> None:
        self.rows = database.rows("module", "station-001")
        said = [one for one in run.truth().statements if (one.node, one.stream) == ("station-001", "module")]
        self._found: list[tuple[Row, Statement]] = []
        for row in self.rows:
            found = [one for one in said if is_of(row, one)]
            if int(row["bay"]) == 1 and len(found) == 1 and not found[0].is_doubtful:
                self._found.append((row, found[0]))

    def row(self, place: int) -> Row:
        """Return a row of bay 1, counted from the middle."""
        return self._found[len(self._found) // 2 + place][0]

    def error_ms(self, place: int) -> int:
        """Return how far ahead of the truth a row stands, unspoiled: its clock is as good as the gateway's word."""
        row, said = self._found[len(self._found) // 2 + place]
        return int(row["time_utc_ms"]) - said.true_utc_ms

    @property
    def other_module(self) -> str:
        return str(next(row["module"] for row in self.rows if int(row["bay"]) == 2))


def is_of(row: Row, said: Statement) -> bool:
    is_owner = (int(row["bay"]), row["module"]) == (said.bay, said.module)
    return is_owner and all(row.get(name) == value for name, value in said.values.items())


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copy(run.duckdb, tmp_path / "copy.duckdb"))


def spoil(database: Path, statement: str) -> None:
    with duckdb.connect(str(database)) as connection:
        (count,) = connection.execute(statement).fetchone() or (0,)
    assert count > 0, statement


def where(victim: Row) -> str:
    return f"WHERE node = 'station-001' AND bay = 1 AND epoch_ms(time) = {victim['time_utc_ms']}"


WRONG = ("rows_lost_undeclared", "duplicates", "altered", "misowned", "mistimed")


def counts(verdict: Verdict) -> dict[str, int]:
    return {kind: getattr(verdict, kind) for kind in WRONG if getattr(verdict, kind)}


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ("DELETE FROM module {victim}", "rows_lost_undeclared", "has no row, and nobody declared it lost"),
        ("INSERT INTO module SELECT * FROM module {victim}", "duplicates", "says again what the row at"),
        (
            "INSERT INTO module SELECT * REPLACE (time + INTERVAL 90 MILLISECOND AS time) FROM module {victim}",
            "duplicates",
            "says again what the row at",
        ),
        ("UPDATE module SET bay = 2, module = '{other}' {victim}", "misowned", "is what station-001 bay 1 module"),
        ("UPDATE module SET node = 'van-001' {victim}", "misowned", "is what station-001 bay 1 module"),
        ("UPDATE module SET node = 'nobody' {victim}", "misowned", "row of nobody bay 1"),
        ("UPDATE module SET voltage_v = voltage_v + 0.01 {victim}", "altered", r"voltage_v 5\d.* instead of 5\d"),
        ("UPDATE module SET cycles = NULL {victim}", "altered", "cycles None instead of"),
        ("UPDATE module SET energy_in_kwh = 1 {victim}", "altered", "energy_in_kwh 1.0 instead of None"),
    ],
)
def test_what_is_spoiled_in_a_real_database_is_found(
    run: Run, copy: Path, change: str, kind: str, sentence: str
) -> None:
    victims = Victims(run, DuckDatabase(copy))
    spoil(copy, change.format(victim=where(victims.row(0)), other=victims.other_module))
    verdict = judge(run.truth(), DuckDatabase(copy))
    assert counts(verdict) == {kind: 1}, verdict.examples
    assert re.search(sentence, verdict.examples[kind][0])


@pytest.mark.parametrize("error_s", [86_400, -4])
def test_a_wrong_time_in_a_real_database_is_found(run: Run, copy: Path, error_s: int) -> None:
    victims = Victims(run, DuckDatabase(copy))
    spoil(copy, f"UPDATE module SET time = time + INTERVAL ({error_s}) SECOND {where(victims.row(0))}")  # noqa: S608
    verdict = judge(run.truth(), DuckDatabase(copy))
    assert counts(verdict) == {"mistimed": 1}, verdict.examples
    assert f"{(1000 * error_s + victims.error_ms(0)) / 1000:+.1f} s, time quality" in verdict.examples["mistimed"][0]


def van_rows_before_cut(cut: PowerCut, *, from_ms: int, to_ms: int) -> str:
    low_ms, high_ms = cut.utc_ms - from_ms, cut.utc_ms - to_ms
    return f"DELETE FROM module WHERE node = 'van-001' AND epoch_ms(time) BETWEEN {low_ms} AND {high_ms}"  # noqa: S608


def test_rows_that_a_power_cut_costs_are_excused_if_the_node_declares_it(run: Run, copy: Path) -> None:
    spoil(copy, van_rows_before_cut(run.cuts[0], from_ms=3500, to_ms=0))
    verdict = judge(run.truth(), DuckDatabase(copy))
    assert verdict.is_good, verdict.examples
    assert verdict.rows_lost_declared >= 3
    spoil(copy, "DELETE FROM event WHERE code = 5 AND reason = 3")
    undeclared = judge(run.truth(), DuckDatabase(copy))
    assert counts(undeclared) == {"rows_lost_undeclared": verdict.rows_lost_declared}


def test_rows_that_are_lost_too_long_before_a_power_cut_are_not_excused(run: Run, copy: Path) -> None:
    spoil(copy, van_rows_before_cut(run.cuts[0], from_ms=7500, to_ms=5500))
    assert judge(run.truth(), DuckDatabase(copy)).rows_lost_undeclared >= 2


def test_a_power_cut_that_nobody_knows_of_excuses_nothing(run: Run, copy: Path) -> None:
    spoil(copy, van_rows_before_cut(run.cuts[0], from_ms=3500, to_ms=0))
    assert judge(run.truth(cuts=[]), DuckDatabase(copy)).rows_lost_undeclared >= 3


def test_what_is_spoiled_in_influxdb_is_found(run: Run) -> None:
    victims = Victims(run, run.influx)
    point = Point(run.influx_url)
    lost, twice, strange, late, altered = (victims.row(place) for place in (-4, -2, 0, 2, 4))
    taken = {row["time_utc_ms"] for row in victims.rows}  # where a point would replace bay 2's own
    free_utc_ms = next(ms for ms in itertools.count(strange["time_utc_ms"]) if ms not in taken)
    point.delete(lost)
    point.write(twice, time_utc_ms=twice["time_utc_ms"] + 90)
    point.delete(strange)
    point.write(strange, bay="2", module=victims.other_module, time_utc_ms=free_utc_ms)
    point.delete(late)
    point.write(late, time_utc_ms=late["time_utc_ms"] + 86_400_000)
    point.write(altered, soc_pct=altered["soc_pct"] + 0.1)
    verdict = judge(run.truth(), run.influx)
    assert counts(verdict) == dict.fromkeys(WRONG, 1), verdict.examples


class Point:
    """Points of `module` in InfluxDB, rewritten one at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._integers = {"cell_count", "cycles", "switches", "protections", "balancing", "insulation_kohm"}

    def delete(self, row: Row) -> None:
        where = f"node = '{row['node']}' AND bay = '{row['bay']}' AND time = {row['time_utc_ms']}000000"
        statement = f"DELETE FROM module WHERE {where}"  # noqa: S608
        services.post(f"{self._url}/query?db=swapline&{urllib.parse.urlencode({'q': statement})}", b"")

    def write(self, row: Row, **changes: Any) -> None:
        """Write a row again; what is `changes` is changed."""
        changed = {**row, **changes}
        tags = "".join(f",{name}={changed.pop(name)}" for name in TAGS)
        time_ms = changed.pop("time_utc_ms")
        fields = ",".join(f"{name}={value}{self._suffix(name)}" for name, value in changed.items())
        services.post(f"{self._url}/write?db=swapline&precision=ms", f"module{tags} {fields} {time_ms}".encode())

    def _suffix(self, name: str) -> str:
        is_integer = name in self._integers or name.endswith(("_cell", "_sensor", "_quality"))
        return "i" if is_integer else ""
