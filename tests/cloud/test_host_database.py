"""InfluxDB 1.x of one host with users, and the whole host: node, broker, gateway, database with the files of cloud/."""

import functools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import urllib3
from click.testing import CliRunner

from swapline_bench import bundle, services
from swapline_bench.node_process import NodeProcess
from swapline_cloud.cli import cloud
from swapline_gateway import config as gateway_configuration
from swapline_gateway.cli import main
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from tests.cloud.host import CLOUD, SECRETS, VAN, Broker, Influx, make_secrets

STORED_S_MAX = 60.0
# What libraries try and do without: here they are refused as the unit's filter refuses them. SQLite gives its files to
# their owner where it runs as root, Arrow's allocator asks for memory near the processor.
REFUSED = {"fchown", "mbind"}
VITALS = "\n[vitals]\ninterval_s = 0.5\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the secrets of a host with two nodes. Nobody may change them."""
    return make_secrets(tmp_path_factory.mktemp("host") / "secrets")


@pytest.fixture(scope="module")
def database(
    made: Path, tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], Path]
) -> Iterator[tuple[Influx, Path]]:
    """Return an InfluxDB that `swapline cloud apply` set up, and the folder of the configurations."""
    etc = tmp_path_factory.mktemp("etc")
    shutil.copytree(made, etc / "secrets")
    program = require("influxd")
    with Influx(program, tmp_path_factory.mktemp("influxdb")) as server:
        for name in ("cloud.toml", "gateway.toml"):
            text = (CLOUD / "systemd" / name).read_text().replace(SECRETS, str(etc / "secrets"))
            text = text.replace("http://127.0.0.1:8086", server.url)
            text = text.replace("/run/credentials/swapline-gateway.service/database-password", str(etc / "password"))
            (etc / name).write_text(text)
        done = CliRunner().invoke(cloud, ["apply", "--only", "database", "--config", str(etc / "cloud.toml")])
        assert done.exit_code == 0, done.output + str(done.exception)
        shutil.copy(etc / "secrets" / "apply" / "gateway.password", etc / "password")
        yield server, etc


def ask(server: Influx, path: str, user: str, password: str, body: str) -> int:
    """Return the status of a POST in a user's name."""
    headers = urllib3.make_headers(basic_auth=f"{user}:{password}") if user else {}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = urllib3.request("POST", f"{server.url}{path}", headers={**headers, **kind}, body=body, retries=False)
    return answer.status


def test_apply_makes_the_administrator_with_the_hosts_password_and_finds_nothing_the_second_time(
    database: tuple[Influx, Path],
) -> None:
    server, etc = database
    admin = (etc / "secrets" / "database" / "admin_password").read_text()
    assert ask(server, "/query", "admin", admin, "q=SHOW+USERS") == 200
    arguments = ["apply", "--only", "database", "--check", "--config", str(etc / "cloud.toml")]
    assert CliRunner().invoke(cloud, arguments).exit_code == 0


def test_gateway_stores_rows_with_its_own_configuration(database: tuple[Influx, Path]) -> None:
    server, etc = database
    sink = gateway_configuration.load(etc / "gateway.toml").sink
    assert isinstance(sink, Influxdb1Config)
    assert sink.password is not None
    writer = Influxdb1Sink(sink)
    writer.open()
    writer.send(b"module,fleet=demo,node=van-001 voltage_v=51.2 1800000000000000000")
    writer.close()
    admin = (etc / "secrets" / "database" / "admin_password").read_text()
    assert ask(server, "/query?db=swapline", "admin", admin, "q=SELECT+*+FROM+module") == 200


def test_grafana_reads_and_cannot_write_and_strangers_do_neither(database: tuple[Influx, Path]) -> None:
    server, etc = database
    password = (etc / "secrets" / "apply" / "grafana.password").read_text().strip()
    write, read, drop = "/write?db=swapline", "q=SELECT+*+FROM+module&db=swapline", "q=DROP+DATABASE+swapline"
    point = "module,fleet=demo,node=van-001 voltage_v=1"
    assert ask(server, "/query", "swapline_grafana", password, read) == 200
    assert ask(server, write, "swapline_grafana", password, point) == 403
    assert ask(server, "/query", "swapline_grafana", password, drop) == 403
    for user, word in (("", ""), ("swapline_grafana", "guess"), ("admin", "admin")):
        assert ask(server, write, user, word, point) == 401
        assert ask(server, "/query", user, word, read) == 401


def test_gateway_cannot_drop_the_database(database: tuple[Influx, Path]) -> None:
    server, etc = database
    password = (etc / "password").read_text().strip()
    assert ask(server, "/query", "swapline_gateway", password, "q=DROP+DATABASE+swapline") == 403
    assert ask(server, "/query", "swapline_gateway", password, "q=SHOW+USERS") == 403


# --- the whole host ---


class Gateway(services.Server):
    """The gateway with the configuration that Debian's service gets; `calls` lists its system calls at its end."""

    def __init__(self, folder: Path, etc: Path, broker: Broker, strace: Path) -> None:
        self._etc, self._broker, self._strace = etc, broker, strace
        self.calls = folder / "calls"
        ready = r'(?=.*"event": "ready").*http://[^\s"]+:(?P<port>\d+)'
        super().__init__("gateway", folder, self._write, ready, chooses_port=True)

    def _write(self, folder: Path, port: int) -> Sequence[str]:
        text = (self._etc / "gateway.toml").read_text()
        text = text.replace("/var/lib/swapline", str(folder)).replace("port = 8883", f"port = {self._broker.port}")
        text = text.replace("/run/credentials/swapline-gateway.service", str(self._broker.secrets / "gateway"))
        self.config_path = folder / "gateway.toml"
        self.config_path.write_text(text.replace("port = 8080", f"port = {port}") + VITALS)
        refuse = f"inject={','.join(sorted(REFUSED))}:error=EPERM"
        traced = (str(self._strace), "-D", "-f", "-qq", "-c", "-U", "name", "-o", str(self.calls), "-e", refuse)
        return (*traced, sys.executable, "-m", "swapline_gateway", "gateway", "--config", str(self.config_path))

    def wait_for_calls(self) -> set[str]:
        """Return the system calls of a gateway that has ended; strace writes them a moment later."""
        end = time.monotonic() + STORED_S_MAX
        while not self.calls.exists() or "total" not in (text := self.calls.read_text()):
            assert time.monotonic() < end
            time.sleep(0.05)
        names = {line.strip() for line in text.splitlines()}
        return {name for name in names if re.fullmatch(r"[a-z]\w*", name)} - {"syscall", "total"}


async def test_node_with_the_hosts_certificate_is_stored_by_the_hosts_gateway_and_read_by_grafanas_user(
    database: tuple[Influx, Path], made: Path, tmp_path: Path, require: Callable[[str], Path]
) -> None:
    server, etc = database
    program = require("mosquitto")
    files = {"ca": "ca.der", "certificate": "client.der", "key": "client.key.der"}
    tls = {key: str(made / "node" / VAN / name) for key, name in files.items()} | {"server_hostname": "fleet.example"}
    allowed = allowed_calls(require("systemd-analyze"), "swapline-gateway.service")
    (tmp_path / "broker").mkdir()
    (tmp_path / "gateway").mkdir()
    firmware = bundle.build(tmp_path / "firmware")
    async with (
        Broker(program, tmp_path / "broker", made) as broker,
        Gateway(tmp_path / "gateway", etc, broker, require("strace")) as gateway,
    ):
        fleet, node = VAN.split("/")
        link = {"host": services.HOST, "port": broker.port, "tls": tls}
        config = {"fleet": fleet, "node": node, "link": link, "seal_interval_ms": 200}
        async with NodeProcess(node, tmp_path / "node", bundle=firmware, config=config) as process:
            await process.wait_for_line("connected")
            for measurement in ("node", "gateway", "certificate", "broker", "disk"):
                await services.whole(functools.partial(wait_for_rows, server, etc, measurement))
            assert await process.stop() == 0
        checked = await services.whole(
            lambda: CliRunner().invoke(main, ["check", "--config", str(gateway.config_path)])
        )
        assert checked.exit_code == 0, checked.output
    calls = await services.whole(gateway.wait_for_calls)
    assert any(call.startswith("epoll") for call in calls)
    assert calls - allowed <= REFUSED, "the unit's SystemCallFilter is too narrow"


def allowed_calls(analyze: Path, unit: str) -> set[str]:
    """Return the system calls that a unit's filters let through, as this systemd knows its groups."""
    listed = subprocess.run([str(analyze), "--no-pager", "syscall-filter"], capture_output=True, text=True, check=True)
    groups: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = groups.setdefault(word, [])
        elif word and not word.startswith("#") and groups:
            members.append(word)

    def expand(word: str) -> set[str]:
        return set().union(*map(expand, groups[word])) if word.startswith("@") else {word}

    allowed: set[str] = set()
    for line in (CLOUD / "systemd" / unit).read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            named = set().union(*map(expand, words.removeprefix("~").split()))
            allowed = allowed - named if words.startswith("~") else allowed | named
    return allowed


def wait_for_rows(server: Influx, etc: Path, measurement: str) -> None:
    """Ask as Grafana does until rows of a measurement are there: the van's own, or what the gateway says."""
    password = (etc / "secrets" / "apply" / "grafana.password").read_text().strip()
    query = f'SELECT * FROM "raw"."{measurement}" LIMIT 1'  # noqa: S608 (a name from above)
    headers = urllib3.make_headers(basic_auth=f"swapline_grafana:{password}")
    fields = {"db": "swapline", "q": query}
    end = time.monotonic() + STORED_S_MAX
    while True:
        answer = urllib3.request("GET", f"{server.url}/query", fields=fields, headers=headers, retries=False).json()
        if "series" in answer["results"][0]:
            return
        assert time.monotonic() < end, answer
        time.sleep(0.1)
