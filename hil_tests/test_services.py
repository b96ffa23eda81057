"""The servers that tests start: ready when started, gone when left or when the bench dies, on the same
data when started again."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from swapline_bench import end_to_end, services
from swapline_bench.tap import Tap


def accepts(server: services.Server) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("make", [services.mosquitto, services.influxd, services.victoria_metrics])
def test_server_is_ready_when_started_and_gone_when_left(
    make: Callable[[], services.Server], require: Callable[[str], Path]
) -> None:
    require({"mosquitto": "mosquitto", "influxd": "influxd"}.get(make.__name__, "victoria-metrics"))
    with make() as server:
        assert accepts(server)
        folder = server.folder
    assert not accepts(server)
    assert not folder.exists()


def test_killed_database_comes_back_on_its_port_with_its_data(influxd: services.InfluxServer, tmp_path: Path) -> None:
    del influxd  # only: it is installed
    with services.influxd(tmp_path) as server:
        server.execute('CREATE DATABASE "kept"')
        port = server.port
        server.kill()
        assert not accepts(server)
        server.start()
        assert server.port == port
        query = urllib.parse.urlencode({"q": "SHOW DATABASES"})
        with urllib.request.urlopen(f"{server.url}/query?{query}", timeout=5) as answer:  # noqa: S310
            assert b"kept" in answer.read()


def test_server_that_cannot_start_says_why(require: Callable[[str], Path]) -> None:
    require("mosquitto")
    broken = services.mosquitto(settings=["no_such_option true"])
    with pytest.raises(services.ServiceError, match=r"(?s)ended before it was ready.*no_such_option"), broken:
        pass
    assert not broken.folder.exists()


def test_missing_program_names_its_package() -> None:
    with pytest.raises(services.MissingBinaryError, match="apt-get install no-such-package"):
        services.find_binary("no-such-program", "no-such-package")


def test_server_tells_how_it_ended(require: Callable[[str], Path]) -> None:
    require("mosquitto")
    server = services.mosquitto()
    assert (server.stop(), server.returncode, server.is_running) == (0, None, False)  # it was never started
    with server:
        assert (server.is_running, server.returncode) == (True, None)
        assert server.kill() == server.kill() == server.returncode == -signal.SIGKILL
        server.start()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert not server.is_running


def test_every_line_of_the_log_is_told_and_the_last_are_kept(require: Callable[[str], Path], tmp_path: Path) -> None:
    require("mosquitto")
    path = tmp_path / "broker.log"
    with services.mosquitto(on_line=services.log_file(path)) as server:
        server.stop()
        assert path.read_text() == server.log_tail(200) + "\n"
        assert server.log_tail(1).endswith("terminating")


def test_server_that_does_not_end_is_killed_and_named(
    require: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mosquitto")
    with services.mosquitto() as server:
        os.kill(server.pid, signal.SIGSTOP)
        monkeypatch.setattr(services, "STOP_S_MAX", 0.1)
        with pytest.raises(services.ServiceError, match=r"(?s)mosquitto did not end within 0 s:.*running"):
            server.stop()
        assert server.returncode == -signal.SIGKILL


HOLD = """
import signal
from swapline_bench import end_to_end, services
from swapline_bench.tap import Tap
server = services.mosquitto().start()
print(server.pid, server.folder, flush=True)
signal.pause()
"""


def test_killed_bench_takes_its_servers_along(require: Callable[[str], Path]) -> None:
    require("mosquitto")
    require("setpriv")
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        pid, folder = bench.stdout.readline().split()
        try:
            assert "mosquitto" in command_of(int(pid))
        finally:
            bench.kill()
    wait_until_gone(int(pid))
    shutil.rmtree(folder)


def test_server_outlives_the_loop_whose_thread_started_it(require: Callable[[str], Path]) -> None:
    require("mosquitto")
    server = services.mosquitto()
    try:
        asyncio.run(services.whole(server.start))
        assert accepts(server)
    finally:
        server.close()


@pytest.mark.parametrize("after_ms", [0, 1, 5, 20])
async def test_cancelled_start_leaves_no_server(require: Callable[[str], Path], after_ms: int) -> None:
    require("mosquitto")
    server = services.mosquitto()
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.wait([starting], timeout=after_ms / 1000)
    starting.cancel()
    if not starting.done():
        with pytest.raises(asyncio.CancelledError):
            await starting
    await server.__aexit__(None, None, None)
    assert not server.is_running
    assert not server.folder.exists()


async def test_path_whose_set_up_fails_leaves_no_broker(
    require: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mosquitto")
    monkeypatch.setattr(end_to_end, "START_S_MAX", 0.05)
    monkeypatch.setattr(Tap, "run", lambda _: asyncio.Event().wait())  # it never has what it subscribed to
    path = end_to_end.EndToEnd(tmp_path)
    with pytest.raises(TimeoutError):
        await path.__aenter__()
    assert path.broker.returncode == 0
    assert not path.broker.folder.exists()


async def test_path_whose_gateway_does_not_start_says_why_and_leaves_nothing(
    require: Callable[[str], Path], tmp_path: Path
) -> None:
    require("mosquitto")
    with pytest.raises(services.ServiceError, match=r"(?s)duckdb ended before it was ready.*unknown key"):
        async with end_to_end.EndToEnd(tmp_path) as path:
            await path.start_gateway("duckdb", no_such_key=1)
    assert path.gateways["duckdb"].returncode == 78
    assert path.broker.returncode == 0


def command_of(pid: int) -> str:
    """Return a process's command line; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until_gone(pid: int, timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while command_of(pid):
        assert time.monotonic() < deadline_s, f"{pid} is still there"
        time.sleep(0.01)
