"""The servers that tests start: ready when started, gone when left, on the same data when started again."""

import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from swapline_bench import services


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
