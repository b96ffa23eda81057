"""The command line as people meet it: real processes, real brokers, exit codes and sentences."""

import asyncio
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiomqtt
import pytest
import urllib3
from click.testing import CliRunner

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource, reseal, row_of
from swapline_bench.gateway_process import GatewayProcess
from swapline_gateway.cli import main
from swapline_gateway.error import (
    EXIT_ACCESS,
    EXIT_CONFIGURATION,
    EXIT_OK,
    EXIT_PROBLEM,
    EXIT_STORAGE,
    EXIT_UNAVAILABLE,
)
from swapline_gateway.ingest import Sender, Spoiled, examine_message
from swapline_gateway.spool import Spool
from swapline_wire.catalogue import POSITION


def write_config(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swapline_gateway", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )


def start(command: list[str], folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def sentences(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said to people: log lines are JSON."""
    return [line for line in result.stderr.splitlines() if not line.startswith("{")]


def test_help_lists_every_command_and_the_exit_codes() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for word in ("gateway", "tap", "check", "quarantine", "69", "73", "77", "78"):
        assert word in text


def test_wrong_configuration_ends_with_78_and_its_sentence(tmp_path: Path) -> None:
    result = run("gateway", "--config", write_config(tmp_path, "[mqtt]\nprot = 1"))
    assert result.returncode == EXIT_CONFIGURATION
    assert len(sentences(result)) == 1
    assert "gateway.toml: mqtt.prot: unknown key; did you mean 'port'?" in result.stderr


def test_occupied_port_ends_with_69_and_one_sentence(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = run("gateway", "--config", write_config(tmp_path, f"[http]\nport = {port}"))
    assert result.returncode == EXIT_UNAVAILABLE
    assert sentences(result) == [
        f"swapline: Port {port} of 127.0.0.1 is used by another program: stop it, or set http.port to another one "
        "(0 takes a free one)."
    ]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Server]:
    """Start a broker that wants a password."""
    passwords = tmp_path_factory.mktemp("broker") / "passwords"
    tool = services.find_binary("mosquitto_passwd", "mosquitto")
    subprocess.run([str(tool), "-b", "-c", str(passwords), "gateway", "sesame"], check=True)
    passwords.chmod(0o644)
    lines = ["allow_anonymous false", f"password_file {passwords}", "per_listener_settings false"]
    with services.mosquitto(settings=lines) as server:
        yield server


def test_broker_that_refuses_ends_with_77_and_one_sentence(tmp_path: Path, guarded: services.Server) -> None:
    text = f"[mqtt]\nport = {guarded.port}\nusername = 'gateway'\npassword = 'wrong'"
    result = run("gateway", "--config", write_config(tmp_path, text))
    assert result.returncode == EXIT_ACCESS
    (sentence,) = sentences(result)
    assert f"127.0.0.1:{guarded.port} refuses us" in sentence
    assert "check mqtt.username and mqtt.password" in sentence
    assert "wrong" not in sentence


def test_second_gateway_on_the_same_spool_ends_with_73(tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "spool.sqlite", limit_bytes=1 << 20)):
        result = run("gateway", "--config", write_config(tmp_path, ""))
    assert result.returncode == EXIT_STORAGE
    assert "used by another gateway" in sentences(result)[0]


def test_unwritable_folder_ends_with_73_and_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("gateway", "--config", write_config(tmp_path, "[spool]\npath = 'file/spool.sqlite'"))
    assert result.returncode == EXIT_STORAGE
    assert len(sentences(result)) == 1


def test_pages_without_their_library_say_what_to_install(tmp_path: Path) -> None:
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'aiohttp' else find(name, package)\n"
    )
    result = run("gateway", "--config", write_config(tmp_path, "[http]\nport = 0"), PYTHONPATH=str(tmp_path))
    assert result.returncode == EXIT_CONFIGURATION
    assert "pip install 'swapline[console]'" in sentences(result)[0]


def test_gateway_without_pages_runs_and_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    with services.mosquitto() as broker:
        process = GatewayProcess.unlimited(tmp_path, broker_port=broker.port)
        process.tables.pop("http")
        process.start()
        assert process.stop() == EXIT_OK
    assert all(json.loads(line) for line in process.log_tail().splitlines())


def test_check_of_a_sound_installation_is_all_ok(tmp_path: Path, guarded: services.Server) -> None:
    text = f"[mqtt]\nport = {guarded.port}\nusername = 'gateway'\npassword = 'sesame'\n[http]\nport = 0"
    result = run("check", "--json", "--config", write_config(tmp_path, text))
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert [finding["part"] for finding in findings] == ["configuration", "broker", "spool", "database", "pages"]
    assert all(finding["is_ok"] for finding in findings)
    assert result.returncode == EXIT_OK


def test_check_names_every_problem_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "swapline.duckdb").write_bytes(b"not a database " * 1000)
    (tmp_path / "spool.sqlite").write_bytes(b"not a spool " * 1000)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        config = write_config(tmp_path, f"[mqtt]\nport = 1\n[http]\nport = {port}")
        result = run("check", "--json", "--config", config)
    findings = {line["part"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert result.returncode == EXIT_PROBLEM
    for part in ("broker", "spool", "database", "pages"):
        assert not findings[part]["is_ok"], part
        assert findings[part]["advice"], part


def test_check_of_influxdb_that_is_away(tmp_path: Path) -> None:
    config = write_config(tmp_path, "[sink]\ntype = 'influxdb1'\nurl = 'http://127.0.0.1:1'")
    result = run("check", "--config", config)
    assert "http://127.0.0.1:1 does not answer" in result.stdout
    assert "start it, or see sink.url" in result.stdout


def test_check_asks_influxdb_for_the_database_with_our_credentials(tmp_path: Path) -> None:
    with services.influxd() as server:
        config = write_config(tmp_path, f"[sink]\ntype = 'influxdb1'\nurl = '{server.url}'\ndatabase = 'fleet'")
        assert "has no fleet" in run("check", "--config", config).stdout
        urllib3.request("POST", f"{server.url}/query?q=CREATE+DATABASE+fleet")
        assert "takes our credentials and has fleet" in run("check", "--config", config).stdout


def test_check_of_a_running_gateway_is_all_ok(tmp_path: Path) -> None:
    with services.mosquitto() as broker:
        port = services.free_port()
        settings = {"http": {"port": port, "console": False}}
        with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as process:
            result = run("check", "--config", process.config_path)
    assert f"a gateway runs at 127.0.0.1:{port} and is well" in result.stdout
    assert "is open in another process" in result.stdout
    assert result.returncode == EXIT_OK


async def test_tap_ends_quietly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    source = FrameSource(node="van-001")
    with services.mosquitto() as broker:
        command = [sys.executable, "-m", "swapline_gateway", "tap", "--port", str(broker.port)]
        with start(command, tmp_path) as process:
            assert process.stdout is not None
            process.stdout.close()
            async with aiomqtt.Client(broker.host, broker.port) as client:
                while process.poll() is None:
                    await source.publish(client, source.frame())
                    await asyncio.sleep(0.02)
            assert process.stderr is not None
            assert process.stderr.read() == ""


async def test_tap_shows_rows_of_the_chosen_node_and_stream_as_json(tmp_path: Path) -> None:
    wanted, other = FrameSource(node="van-001"), FrameSource(node="van-002")
    with services.mosquitto() as broker:
        command = [sys.executable, "-m", "swapline_gateway", "tap", "--port", str(broker.port), "--node", "van-001"]
        command += ["--stream", "position", "--json", "--count", "2"]
        with start(command, tmp_path) as process:
            async with aiomqtt.Client(broker.host, broker.port) as client:
                rows = [(1000, row_of(POSITION, latitude_deg=311234567)), (2000, row_of(POSITION, latitude_deg=-1))]
                while process.poll() is None:
                    await other.publish(client, other.frame(rows, stream=POSITION, bay=0, owner=""))
                    await wanted.publish(client, wanted.frame())
                    await wanted.publish(client, wanted.frame(rows, stream=POSITION, bay=0, owner=""))
            assert process.stdout is not None
            shown = [json.loads(line) for line in process.stdout]
    assert process.returncode == EXIT_OK
    assert [row["values"] for row in shown] == [{"latitude_deg": 31.1234567}, {"latitude_deg": -1e-07}]
    assert {(row["node"], row["stream"]) for row in shown} == {("van-001", "position")}
    assert shown[0]["time_utc_ms"] == wanted.anchor_utc_ms + 1000


def test_tap_without_a_broker_ends_with_69_and_one_sentence() -> None:
    result = run("tap", "--port", 1)
    assert result.returncode == EXIT_UNAVAILABLE
    assert "The broker at 127.0.0.1:1 cannot be reached" in sentences(result)[0]


def fill_quarantine(folder: Path, *spoiled: Spoiled) -> Path:
    with closing(Spool(folder / "spool.sqlite", limit_bytes=1 << 24)) as spool:
        spool.store([], list(spoiled), 1_800_000_000_000)
    return write_config(folder, "")


def test_quarantine_is_listed_and_shown_with_its_bytes(tmp_path: Path) -> None:
    config = fill_quarantine(tmp_path, Spoiled(Sender("test", "van-001"), "bad_magic", "frame: x", b"hello, gateway"))
    listed = json.loads(run("quarantine", "list", "--json", "--config", config).stdout)
    assert (listed["reason"], listed["node"], listed["size_bytes"]) == ("bad_magic", "van-001", 14)
    assert listed["first_utc_ms"] == 1_800_000_000_000
    shown = run("quarantine", "show", "--config", config, listed["id"]).stdout
    assert "68 65 6c 6c 6f" in shown
    assert "hello, gateway" in shown
    assert json.loads(run("quarantine", "show", "--json", "--config", config, listed["id"]).stdout)["data"] == (
        b"hello, gateway".hex()
    )


def test_missing_spool_and_entry_are_one_sentence(tmp_path: Path) -> None:
    assert run("quarantine", "list", "--config", write_config(tmp_path, "")).returncode == EXIT_STORAGE
    config = fill_quarantine(tmp_path)
    assert "There is no entry 7" in run("quarantine", "show", "--config", config, 7).stderr


def test_replay_says_what_still_cannot_be_read(tmp_path: Path) -> None:
    source = FrameSource()
    unknown = reseal(source.frame(), at_19=b"\xc8")
    found = examine_message(Sender("test", "van-001"), source.message(unknown))
    config = fill_quarantine(tmp_path, *found.spoiled)
    result = run("quarantine", "replay", "--all", "--config", config)
    assert result.returncode == EXIT_PROBLEM
    assert "stays: still unknown_stream" in result.stdout
    assert run("quarantine", "replay", "--config", config).returncode == 2


def test_entries_that_are_given_up_are_deleted_and_no_others(tmp_path: Path) -> None:
    sender = Sender("test", "van-001")
    kept, old = Spoiled(sender, "bad_magic", "", b"one"), Spoiled(sender, "sink_rejected", "", b"two")
    config = fill_quarantine(tmp_path, kept, old)
    assert run("quarantine", "delete", "--config", config).returncode == 2
    assert run("quarantine", "delete", "--reason", "sink_rejected", "--config", config).stdout == "1 deleted.\n"
    (listed,) = run("quarantine", "list", "--json", "--config", config).stdout.splitlines()
    assert json.loads(listed)["reason"] == "bad_magic"


async def test_frame_that_an_upgrade_can_read_is_replayed_into_the_running_gateway(tmp_path: Path) -> None:
    """A frame is set aside by a gateway that does not know its stream, and replayed beside one that does."""
    source = FrameSource()
    frame = source.frame()
    sender = Sender(source.fleet, source.node)
    set_aside = Spoiled(sender, "unknown_stream", "frame: 3", frame, (source.journal, 1))
    config = fill_quarantine(tmp_path, set_aside)
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            acks = await AckListener(client, source).begin()
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port) as gateway:
                result = run("quarantine", "replay", "--reason", "unknown_stream", "--config", config)
                assert result.stdout.strip() == "1 replayed, 0 stay."
                gateway.wait_for_figures(lambda figures: figures["frames_stored"] == 1)
                await source.publish(client, frame)  # the node had it acknowledged: at most a repeat
                await acks.wait_for({1})
                gateway.wait_for_figures(lambda figures: figures["duplicates"] == 1)
                assert gateway.figures()["frames_stored"] == 1


def test_help_leaves_out_commands_whose_package_is_not_installed_and_says_so_when_one_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = importlib.metadata.EntryPoint("demo", "swapline_absent.cli:demo", "swapline.commands")
    monkeypatch.setattr("swapline_gateway.cli._plugins", lambda: {"demo": absent})
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == EXIT_OK
    assert "gateway" in shown.output
    assert "demo" not in shown.output
    called = CliRunner().invoke(main, ["demo"])
    assert called.exit_code == EXIT_PROBLEM
    assert "`swapline demo` needs swapline_absent" in called.output
