"""`swapline module`, `holder` and `custody` over real databases: a ledger asked, and derived again from frames."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from click.testing import CliRunner, Result

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_bench.gateway_process import to_toml
from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_store
from swapline_gateway.battery.table import MODULE_HOUR, PASSPORT, WARNING
from swapline_gateway.cli import main
from swapline_gateway.error import EXIT_PROBLEM, EXIT_STORAGE, EXIT_USAGE
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.sinks import make as make_sink
from swapline_gateway.sinks.base import Sink
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, EVENT_STREAM, MODULE, VEHICLE
from swapline_wire.catalogue_station import SLOT
from tests.gateway.battery.custody_store import Reading
from tests.gateway.battery.life import FLEET, HUB, START_MS, VAN, Life, code, place, swap_life
from tests.gateway.written import write

ROWS_PER_FRAME = 40
PAGE = (Path(__file__).parents[3] / "docs" / "modules.md").read_text(encoding="utf-8")


def store(sink: Sink, life: Life) -> None:
    """Store a life as its nodes' frames."""
    sources = {node: FrameSource(fleet=FLEET, node=node, anchor_utc_ms=START_MS) for node in (VAN, HUB)}
    rows: dict[tuple[str, int, str], list[int]] = {}
    for one in life.evidence:
        if isinstance(one, Reading):
            at_ms = one.time_utc_ms - START_MS
            rows.setdefault((one.place.node, one.place.bay, one.module), []).append(at_ms)
            continue
        told = {"request_id": one.request_id or 0, "soc_pct": int(10 * (one.soc_pct or 0)), "reason": one.reason or 0}
        event = row_of(EVENT_STREAM, code=BATTERY_IN if one.is_in else BATTERY_OUT, **told)
        source, at = sources[one.place.node], one.time_utc_ms - START_MS
        write(sink, source, source.frame([(at, event)], stream=EVENT_STREAM, bay=one.place.bay, owner=one.module))
    for (node, bay, module), times in rows.items():
        source = sources[node]
        parts = [
            source.frame([(at_ms, module_row()) for at_ms in part], stream=MODULE, bay=bay, owner=module)
            for part in batches(sorted(times))
        ]
        write(sink, source, *parts)
    for node, stream, row in ((HUB, SLOT, row_of(SLOT, occupied=1)), (VAN, VEHICLE, row_of(VEHICLE, odometer_km=7000))):
        minutes = list(range(0, 300 * 60_000, 60_000))
        source, bay = sources[node], 1 if stream is SLOT else 0
        parts = [
            source.frame([(at_ms, row) for at_ms in part], stream=stream, bay=bay, owner="")
            for part in batches(minutes)
        ]
        write(sink, source, *parts)


def batches(times: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(times), ROWS_PER_FRAME):
        yield times[first : first + ROWS_PER_FRAME]


@pytest.fixture(params=["duckdb", "influxdb1"])
def config_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the configuration of a gateway whose database holds one swap; nobody has kept books of it."""
    sink: dict[str, Any] = {"type": request.param}
    if request.param == "influxdb1":
        server = cast("services.InfluxServer", request.getfixturevalue("influx"))
        sink |= {"url": server.url, "database": request.node.name}
    path = tmp_path / "gateway.toml"
    path.write_text(to_toml({"mqtt": {"host": "127.0.0.1"}, "sink": sink}))
    with closing(make_sink(configuration.load(path).sink)) as opened:
        opened.open()
        store(opened, swap_life(drop=("slot_out",)))
    return path


def run(config_path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--config", str(config_path)])


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_ledger_is_derived_from_stored_rows_alone_and_then_is_the_same(config_path: Path) -> None:
    missing = run(config_path, "custody", "rebuild", "--check", "--json")
    assert missing.exit_code == EXIT_PROBLEM
    (figures,) = lines(run(config_path, "custody", "rebuild", "--json"))
    assert (figures["modules"], figures["swaps"], figures["contradictions"]) == (4, 1, 1)
    assert figures["rows_changed"] == json.loads(missing.stdout)["rows_changed"]
    same = run(config_path, "custody", "rebuild", "--check")
    assert same.exit_code == 0
    assert same.stdout == "4 modules, 6 stays, 1 swaps, 1 contradictions; 0 rows differ.\n"
    (found,) = lines(run(config_path, "custody", "contradictions", "--json"))
    assert (found["kind"], found["module"], found["place"]) == (
        "arrival_without_departure",
        code(2),
        place(VAN, 1)._asdict(),
    )
    assert code(2) in run(config_path, "custody", "contradictions").stdout
    assert run(config_path, "custody", "contradictions", "--kind", "two_places").stdout == "Nothing contradicts.\n"


def test_module_is_told_with_its_code_its_holders_its_swaps_and_what_contradicts(config_path: Path) -> None:
    assert run(config_path, "custody", "rebuild").exit_code == 0
    (answer,) = lines(run(config_path, "module", code(1), "--json"))
    assert answer["parts"]["chemistry"] == "lithium iron phosphate"
    stays = answer["ledger"]["stays"]
    assert [(stay["node"], stay["bay"], stay["until_evidence"]) for stay in stays] == [
        (VAN, 1, "event"),
        (HUB, 3, None),
    ]
    (swap,) = answer["ledger"]["swaps"]
    assert (swap["module_in"], swap["request_id"], swap["told_by_station"]) == (code(2), 7, 1)
    assert (swap["odometer_km"], swap["where_from"]) == (7.0, "nearest")
    text = run(config_path, "module", code(2)).stdout
    for words in (code(2), "battery pack, lithium iron phosphate", f"{FLEET}/{HUB} bay 3", "still there", "Swaps (1)"):
        assert words in text
    assert "arrival without departure" in text


def test_passport_is_told_whole(config_path: Path) -> None:
    assert run(config_path, "custody", "rebuild").exit_code == 0
    (answer,) = lines(run(config_path, "module", code(2), "--json"))
    text = run(config_path, "module", code(2)).stdout
    told = [line.strip() for line in text.partition("Passport\n")[2].splitlines()]
    assert told[0].startswith("from 2027-01-15 08:00:00 to 2027-01-15 12:59:58 UTC, read for 5.0 h")
    for words in (
        "energy in, out: 0.0, 2.6 kWh (added up from readings",
        f"charge in, out: 0.0, {answer['passport']['charge_out_ah']:.1f} Ah",
        "equivalent full cycles: 0.0",
        "fast-charged: not yet known",
        "time at states of charge (%): 90-100: 100.0 %",
        "time at temperatures (degC): 25-35: 100.0 %",
        "capacity: not yet known: it was neither",
        "holders: 2, changes from one to another: 1",
        "alarms raised: 0 of level 1, 0 of level 2, 0 of level 3",
        "among its siblings (0SLPB04...):",
    ):
        assert any(line.startswith(words) for line in told), (words, told)
    (cycles,) = (line.split() for line in told if line.startswith("equivalent_full_cycles"))
    assert cycles[-4:] == ["50", "%", "of", "3"]


def test_rebuild_also_derives_hours_passports_and_warnings(config_path: Path) -> None:
    assert run(config_path, "custody", "rebuild").exit_code == 0
    with open_store(configuration.load(config_path)) as books:
        assert {row.tags["module"] for row in books.read(PASSPORT)} == set(books.modules())
        hours = books.read(MODULE_HOUR, tags={"module": code(1)})
        assert len(hours) >= 5, "from eight to one o'clock, but for the swap's own time"
        assert not books.read(WARNING)


def test_holder_is_told_at_a_time_and_now(config_path: Path) -> None:
    assert run(config_path, "custody", "rebuild").exit_code == 0
    before = lines(run(config_path, "holder", f"{FLEET}/{VAN}", "--at", "2027-01-15T09:30", "--json"))
    assert [(stay["bay"], stay["module"]) for stay in before] == [(1, code(1)), (2, code(8))]
    after = lines(run(config_path, "holder", f"{FLEET}/{VAN}", "--at", "2027-01-15T12:30+01:00", "--json"))
    assert [(stay["bay"], stay["module"]) for stay in after] == [(1, code(2)), (2, code(8))]
    text = run(config_path, "holder", f"{FLEET}/{VAN}", "--at", "2027-01-15T09:30").stdout
    assert code(1) in text
    assert code(8) in text
    nobody = run(config_path, "holder", f"{FLEET}/{VAN}", "--at", "2020-01-01")
    assert nobody.stdout == "No module is known to have been in fleet/van-1 at 2020-01-01 00:00:00 UTC.\n"
    meant = f"{FLEET}/{VAN} or {FLEET}/{HUB}"
    for words in (("--at", "2027-01-15T09:30"), ("--json",)):
        nowhere = run(config_path, "holder", f"{FLEET}/van-9", *words)
        assert nowhere.exit_code == EXIT_PROBLEM
        assert nowhere.stderr == f"swapline: No holder '{FLEET}/van-9' is known; did you mean {meant}?\n"


@pytest.mark.parametrize("config_path", ["influxdb1"], indirect=True)
def test_statements_of_the_page_answer_what_the_command_line_does(config_path: Path) -> None:
    assert run(config_path, "custody", "rebuild").exit_code == 0
    page = "".join(re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL))
    ((at_text, at_ms),) = re.findall(r"time <= '(.*?)'\s.*? > (\d+)", page)
    assert datetime.fromisoformat(at_text).timestamp() * 1000 == int(at_ms)
    then = datetime.fromisoformat("2027-01-15T11:30:00+00:00")
    ours = {"0SLPB045180016G380000001": code(1), "'demo'": f"'{FLEET}'", "van-001": VAN}
    ours |= {at_text: then.isoformat()[:19] + "Z", at_ms: str(round(then.timestamp() * 1000))}
    config = configuration.load(config_path).sink
    assert isinstance(config, configuration.Influxdb1Config)
    client = InfluxqlClient(config)
    for theirs, own in ours.items():
        page = page.replace(theirs, own)
    statements = [one.replace("\n", " ") for one in re.split(r"\n(?=S)", page)]
    stays, inside, swaps, energy, _passports = map(client.query, statements)
    assert column(stays, "node") == [VAN, HUB]
    assert sorted(column(inside, "module")) == [code(2), code(8)]
    assert column(swaps, "module_in") == [code(2)]
    assert {series["tags"]["module"] for series in energy} == {code(1), code(2), code(8), code(9)}
    assert min(column(energy, "sum")) > 1.0, "they drove for hours"


def column(answer: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[series["columns"].index(name)] for series in answer for row in series["values"]]


def test_typo_suggests_the_nearest_known_code(config_path: Path) -> None:
    result = run(config_path, "module", code(2)[:-2] + "20")
    assert result.exit_code == EXIT_PROBLEM
    assert code(2) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    rebuilt = run(config_path, "custody", "rebuild", "--module", code(2)[:-2] + "20")
    assert (rebuilt.exit_code, rebuilt.stderr) == (EXIT_PROBLEM, result.stderr)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("holder", "van-001"), "'van-001' is no holder: write it as FLEET/NODE"),
        (("holder", "fleet/van-1", "--at", "9999-12-31T23:59-10:00"), "is not between the years 1970 and 2248"),
        (("holder", "fleet/van-1", "--at", "1e999d"), "is no time"),
        (("custody", "contradictions", "--kind", "two_place"), "'two_places'"),
        (("holder", "fleet/van-1", "--at", "yesterday"), "'yesterday' is no time: write 2026-11-22T17:30 (UTC)"),
    ],
)
def test_wrong_words_say_what_to_write(tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(to_toml({"sink": {"type": "duckdb"}}))
    result = run(path, *words)
    assert result.exit_code == EXIT_USAGE
    assert complaint in result.stderr


def test_rebuild_while_the_gateway_has_the_file_says_to_stop_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(to_toml({"sink": {"type": "duckdb"}}))
    config = configuration.load(path)
    assert isinstance(config.sink, configuration.DuckdbConfig)
    assert run(path, "custody", "rebuild").exit_code == EXIT_STORAGE  # there is no file yet
    with closing(make_sink(config.sink)) as sink:
        sink.open()
        script = "import sys; from swapline_gateway.cli import main; main(sys.argv[1:])"

        command = [sys.executable, "-c", script, "custody", "rebuild", "--config", str(path)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == EXIT_STORAGE
    assert "stop it for as long as this takes" in result.stderr
    with duckdb.connect(str(config.sink.path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM stay").fetchone() == (0,)
