"""`swapline demo` as a user runs it, and the sentences that it ends with when something is missing."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import namedtuple
from pathlib import Path
from subprocess import PIPE
from typing import Any

import aiomqtt
import duckdb
import pytest
from click.testing import CliRunner

from swapline_bench import broker as broker_module
from swapline_bench import demo as demo_module
from swapline_bench import services
from swapline_bench.cli import format_status
from swapline_bench.demo import Demo, Status
from swapline_bench.demo_report import Report
from swapline_gateway.cli import main

COMMAND = (sys.executable, "-c", "from swapline_gateway.cli import main; main()", "demo")
PROMISED = {
    "runtime",
    "nodes",
    "frames_sealed",
    "frames_stored",
    "frames_lost",
    "frames_in_flight",
    "duplicates",
    "rows_stored",
    "values_stored",
    "swaps",
    "first_row_s",
    "heap_peak_bytes_max",
}


NO_PAST = ("--past-days", "0", "--no-story")


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 90) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the demo did not end:\n{out}\n{err}")
    return process.returncode, out, err


def assert_good(summary: dict[str, Any], *, nodes: int) -> None:
    assert set(summary) >= PROMISED
    assert summary["runtime"] == "micropython"
    assert summary["nodes"] == nodes
    assert summary["frames_lost"] == {}
    assert summary["duplicates"] == 0
    assert summary["frames_sealed"] == summary["frames_stored"] + summary["frames_in_flight"]
    assert summary["frames_stored"] > 10 * nodes
    assert summary["values_stored"] > summary["rows_stored"] > 0
    assert 0 < summary["first_row_s"] < 10
    assert 0 < summary["heap_peak_bytes_max"] <= 256 * 1024
    assert summary["node_restarts"] == 0


def test_a_short_demo_delivers_every_stream_and_balances(tmp_path: Path) -> None:
    arguments = ("--vans", "1", "--stations", "1", "--duration", "20", "--json", "--console-port", "0", *NO_PAST)
    code, out, err = finish(start_demo(*arguments, "--data-dir", str(tmp_path)))
    summary = json.loads(out.splitlines()[-1])
    assert code == 0, (summary, err, logs(tmp_path))
    assert_good(summary, nodes=2)
    assert re.search(r"console: http://127\.0\.0\.1:\d+/", err)
    assert "every sealed frame is accounted for" in err
    with duckdb.connect(str(tmp_path / "gateway" / "swapline.duckdb"), read_only=True) as connection:
        streams = {name for (name,) in connection.execute("SELECT DISTINCT stream FROM frames").fetchall()}
        assert streams >= {"vehicle", "position", "module", "cells", "slot", "meter", "node", "event"}
        years = connection.execute("SELECT DISTINCT year(time) FROM module").fetchall()
        assert years == [(time.gmtime().tm_year,)]


def logs(folder: Path) -> str:
    return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in sorted(folder.rglob("*.log")))


def test_ctrl_c_stops_everything_in_order_and_a_second_run_goes_on(tmp_path: Path) -> None:
    sealed, said = [], []
    for _ in range(2):
        port = services.free_port()
        arguments = ("--vans", "1", "--stations", "1", "--json", "--console-port", str(port), "--broker", "amqtt")
        process = start_demo(*arguments, *NO_PAST, "--data-dir", str(tmp_path))
        try:
            wait_for_rows(port)
            process.send_signal(signal.SIGINT)
        except AssertionError:
            process.kill()
            raise
        code, out, err = finish(process)
        summary = json.loads(out.splitlines()[-1])
        assert code == 0, (summary, err, logs(tmp_path))
        assert summary["broker"] == "amqtt"
        sealed.append(summary["frames_sealed"])
        assert [line for line in err.splitlines() if line.startswith("stopping")] == [
            "stopping: nodes seal what is open",
            "stopping: gateway",
            "stopping: broker",
        ]
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        said.append([line for line in err.splitlines() if line.startswith("world")])
    assert sealed[1] > sealed[0]
    assert said == [[], ["world: goes on where it stopped"]]
    assert_nothing_ran_backwards(tmp_path / "gateway" / "swapline.duckdb")


def assert_nothing_ran_backwards(database: Path) -> None:
    """Check counters that rise in every world, and so fall where another one begins."""
    with duckdb.connect(str(database), read_only=True) as connection:
        for stream, counter in (("vehicle", "odometer_km"), ("meter", "energy_import_kwh")):
            rows = connection.execute(
                f"SELECT {counter} FROM {stream} WHERE {counter} IS NOT NULL ORDER BY time"  # noqa: S608
            ).fetchall()
            assert rows == sorted(rows)
            assert rows[0] < rows[-1]


def wait_for_rows(port: int, timeout_s: float = 40) -> None:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/pipeline", timeout=2) as answer:
                if json.load(answer)["rows_stored"] > 20:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"no rows within {timeout_s} s")


def run_cli(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["demo", *arguments])
    return result.exit_code, result.output


def last_line(output: str) -> str:
    return output.strip().splitlines()[-1]


def test_an_occupied_port_gives_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        code, output = run_cli("--console-port", str(port), "--data-dir", str(tmp_path))
    assert code == 69
    assert last_line(output) == (
        f"swapline: Port {port} is used by another program: choose another --console-port (0: any)."
    )


def test_a_data_dir_that_cannot_be_written_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = run_cli("--data-dir", str(tmp_path / "file" / "data"))
    assert code == 73
    assert "cannot be written: Not a directory" in last_line(output)


def test_a_full_disk_gives_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 30, 1 << 30, 3 << 20))
    code, output = run_cli("--data-dir", str(tmp_path))
    assert code == 73
    assert last_line(output).startswith("swapline: Only 3 MiB are free in")


def test_a_missing_extra_gives_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo_module._EXTRAS, "no_such_module", "some-package")  # noqa: SLF001
    code, output = run_cli("--data-dir", str(tmp_path))
    assert code == 69
    assert last_line(output) == "swapline: The demo needs some-package: pip install 'swapline[bench]'."


def test_a_missing_mosquitto_gives_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "has_mosquitto", lambda: False)
    code, output = run_cli("--broker", "mosquitto", "--console-port", "0", "--data-dir", str(tmp_path))
    assert code == 69
    assert "mosquitto is not installed: apt-get install mosquitto" in last_line(output)
    assert broker_module.choose("auto") == "amqtt"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (Report(frames_sealed=5, frames_stored=3, frames_in_flight=1, frames_lost={"journal_full": 1}), 0),
        (Report(frames_sealed=5, frames_stored=4), 1),
        (Report(frames_sealed=5, frames_stored=5, duplicates=1), 1),
        (Report(frames_sealed=5, frames_stored=5, frames_incomplete=1), 1),
        (Report(frames_sealed=5, frames_stored=5, frames_unaccounted=1), 1),
        (Report(custody_errors=["module A is reported, but was never there"]), 1),
        (Report(problems=["the gateway ended with exit code 1"]), 1),
    ],
)
def test_the_exit_code_tells_whether_the_books_close(
    report: Report, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Demo) -> Report:
        return report

    monkeypatch.setattr(Demo, "run", run)
    code, output = run_cli("--json", "--data-dir", str(tmp_path))
    assert code == expected
    assert json.loads(last_line(output))["frames_sealed"] == report.frames_sealed


@pytest.mark.parametrize("option", ["--vans", "--stations"])
def test_a_world_without_vans_or_stations_is_wrong_usage(option: str) -> None:
    code, output = run_cli(option, "0")
    assert code == 2
    assert "0 is not in the range" in output


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
async def test_a_broker_takes_a_message_and_stops(tmp_path: Path, kind: str) -> None:
    async with broker_module.make(tmp_path, kind) as broker, aiomqtt.Client(broker.host, broker.port) as client:
        await client.subscribe("a/+", qos=1)
        await client.publish("a/b", b"x" * 4096, qos=1)
        message = await anext(aiter(client.messages))
        assert message.payload == b"x" * 4096
    with socket.socket() as probe:
        assert probe.connect_ex((broker.host, broker.port)) != 0


def test_a_broker_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "lasting", lambda *_, **__: ["no_such_option true"])
    code, output = run_cli("--broker", "mosquitto", "--console-port", "0", "--data-dir", str(tmp_path))
    assert code == 69
    assert re.match(r"swapline: mosquitto did not start: .*no_such_option", last_line(output))


def test_a_gateway_that_does_not_start_says_why_and_its_exit_code_is_ours(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "spool.sqlite").mkdir()
    code, output = run_cli("--console-port", "0", "--data-dir", str(tmp_path))
    assert code == 73
    assert re.match(r"swapline: The gateway did not start: .*spool\.sqlite", last_line(output))


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_a_broker_on_a_taken_port_is_not_mistaken_for_ours(tmp_path: Path, kind: str) -> None:
    broker = broker_module.make(tmp_path, kind)
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        broker.port = occupant.getsockname()[1]
        with pytest.raises(services.PortTakenError):
            broker.start()


def test_a_fleet_with_a_past_and_a_story_tells_it_and_balances_both(tmp_path: Path) -> None:
    arguments = ("--vans", "1", "--json", "--console-port", "0", "--past-days", "2", "--data-dir", str(tmp_path))
    said = tmp_path / "said"
    with said.open("w") as file, subprocess.Popen([*COMMAND, *arguments], stdout=PIPE, stderr=file, text=True) as demo:
        try:
            wait_until_told(demo, said)
            demo.send_signal(signal.SIGINT)
            out, _ = demo.communicate(timeout=90)
        finally:
            demo.kill()
    summary = json.loads(out.splitlines()[-1])
    assert demo.returncode == 0, (summary, said.read_text(), logs(tmp_path))
    past = summary["past"]
    assert past["frames_stored"] == past["frames_sealed"] > 100
    assert past["frames_in_flight"] == past["frames_unaccounted"] == 0
    assert past["rows_stored"] > 10_000
    assert summary["rows_stored"] < 10_000  # the past counts apart
    assert any("ALARM" in sentence and "cell spread" in sentence for sentence in summary["story"])
    with duckdb.connect(str(tmp_path / "gateway" / "swapline.duckdb"), read_only=True) as connection:
        (spread,) = (
            connection.execute("SELECT max(level) FROM alarm WHERE code = 5 AND node = 'van-001'").fetchone() or ()
        )
        assert spread >= 1
        journals = connection.execute("SELECT count(DISTINCT journal) FROM frames GROUP BY node").fetchall()
        assert journals == [(2,), (2,)]


def wait_until_told(demo: "subprocess.Popen[str]", said: Path, timeout_s: float = 150) -> None:
    """Wait until the story has come to its alarm and the past is sent, as the demo's own lines say."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        lines = said.read_text().splitlines()
        statuses = [line for line in lines if re.match(r"\d+:\d\d  nodes", line)]
        if any(line.startswith("story: ALARM") for line in lines) and statuses and "past" not in statuses[-1]:
            return
        assert demo.poll() is None, lines
        assert time.monotonic() < deadline_s, lines
        time.sleep(0.2)


def test_the_status_line_is_compact() -> None:
    status = Status(
        elapsed_s=83.4, nodes_online=3, nodes=4, rows_stored=12345, frames_waiting=7, swaps=2, lost=0, problems=[]
    )
    assert format_status(status) == "1:23  nodes 3/4  rows 12,345  swaps 2  waiting 7"
    status.lost, status.problems = 5, ["no connection to the broker: refused"]
    assert format_status(status).endswith("LOST 5  no connection to the broker: refused")
    status.problems, status.past = [], "past: sent 40 %"
    assert format_status(status).endswith("LOST 5  past: sent 40 %")
