"""InfluxDB 1.x of one host with users, and the whole host: node, broker, gateway, database with the files of cloud/."""

import functools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from click.testing import CliRunner

from swapline_bench import bundle, services
from swapline_bench.frame_source import MODULE_CODE, AckListener, FrameSource, module_row, row_of
from swapline_bench.node_process import NodeProcess
from swapline_cloud.cli import cloud
from swapline_gateway import config as gateway_configuration
from swapline_gateway.cli import main
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.error import EXIT_PROBLEM, EXIT_UNAVAILABLE
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import ALARM_STREAM, VEHICLE
from tests.cloud.host import CLOUD, OTHER, SECRETS, VAN, Broker, Influx, make_secrets

STORED_S_MAX = 60.0
# What libraries try and do without: here they are refused as the unit's filter refuses them. SQLite gives its files to
# their owner where it runs as root, Arrow's allocator asks for memory near the processor.
REFUSED = {"fchown", "mbind"}
IMPATIENT = "\n[vitals]\ninterval_s = 0.5\n[outlook]\ninterval_s = 1\n[battery]\nsettle_s = 1\n"
ALARM = 3


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
            for file in ("database-password", "reader-password"):
                text = text.replace(f"/run/credentials/swapline-gateway.service/{file}", str(etc / file))
            (etc / name).write_text(text)
        done = CliRunner().invoke(cloud, ["apply", "--only", "database", "--config", str(etc / "cloud.toml")])
        assert done.exit_code == 0, done.output + str(done.exception)
        for role, file in (("gateway", "database-password"), ("reader", "reader-password")):
            shutil.copy(etc / "secrets" / "apply" / f"{role}.password", etc / file)
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


def test_who_reads_cannot_write_the_gateway_cannot_read_and_strangers_do_neither(
    database: tuple[Influx, Path],
) -> None:
    server, etc = database
    write, read, drop = "/write?db=swapline", "q=SELECT+*+FROM+module&db=swapline", "q=DROP+DATABASE+swapline"
    point = "module,fleet=demo,node=van-001 voltage_v=1"
    for role, may_read, may_write in (("grafana", 200, 403), ("reader", 200, 403), ("gateway", 403, 204)):
        password = (etc / "secrets" / "apply" / f"{role}.password").read_text().strip()
        assert ask(server, "/query", f"swapline_{role}", password, read) == may_read
        assert ask(server, write, f"swapline_{role}", password, point) == may_write
        assert ask(server, "/query", f"swapline_{role}", password, drop) == 403
    for user, word in (("", ""), ("swapline_grafana", "guess"), ("admin", "admin")):
        assert ask(server, write, user, word, point) == 401
        assert ask(server, "/query", user, word, read) == 401


def test_gateway_cannot_drop_the_database(database: tuple[Influx, Path]) -> None:
    server, etc = database
    password = (etc / "database-password").read_text().strip()
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
        self.config_path.write_text(text.replace("port = 8080", f"port = {port}") + IMPATIENT)
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
                await services.whole(functools.partial(wait_for_rows, server, etc, f"raw.{measurement}"))
            assert await process.stop() == 0
        fleet, node = OTHER.split("/")
        source = FrameSource(fleet, node)
        async with broker.client(f"node/{OTHER}") as client:
            acks = await AckListener(client, source).begin()
            frames = van_of_an_hour(source)
            await source.publish(client, *frames)
            await acks.wait_for(set(range(1, len(frames) + 1)))
        await services.whole(functools.partial(use, gateway, server, etc, tmp_path / "parquet"))
    calls = await services.whole(gateway.wait_for_calls)
    assert any(call.startswith("epoll") for call in calls)
    assert calls - allowed <= REFUSED, "the unit's SystemCallFilter is too narrow"


def van_of_an_hour(source: FrameSource) -> list[bytes]:
    """Return what a van with a module tells of the last hour, with an alarm that stands."""
    minutes = [minute * 60_000 for minute in range(60)]
    return [
        *(
            source.frame([(ms, module_row(5300 + ms // 60_000)) for ms in half])
            for half in (minutes[:30], minutes[30:])
        ),
        source.frame([(ms, row_of(VEHICLE, soc_pct=500)) for ms in minutes[-5:]], stream=VEHICLE, bay=0, owner=""),
        source.frame([(minutes[-1], row_of(ALARM_STREAM, code=ALARM, level=2))], stream=ALARM_STREAM),
    ]


def use(gateway: Gateway, server: Influx, etc: Path, out: Path) -> None:
    """Use everything that asks for stored rows: of a gateway that may only write all of it is the reader's."""
    path = gateway.config_path.with_name("told.toml")
    path.write_text(gateway.config_path.read_text().replace("port = 0", f"port = {gateway.port}"))
    config = ("--config", str(path))
    for measurement in ("forever.module_hour", "raw.outlook"):
        wait_for_rows(server, etc, measurement, OTHER.split("/")[0] if measurement == "raw.outlook" else None)
    checked = run("check", *config)
    for sentence in ("writer         ", "lets us write", "reader         ", "answers questions", "ok      for ever"):
        assert sentence in checked
    end_ms = now_utc_ms()
    start_ms = end_ms - 7_200_000
    question = {"stream": "module", "fleet": "other", "node": "van-001", "signals": "voltage_v"}
    question |= {"start": str(start_ms), "end": str(end_ms)}
    series = urllib3.request("GET", f"http://{services.HOST}:{gateway.port}/api/series", fields=question).json()
    assert len(series["values"]["voltage_v"]) == 60
    assert "acknowledged by ann" in run("alarms", "acknowledge", OTHER, "1", str(ALARM), "--by", "ann", *config)
    wait_for_rows(server, etc, "forever.acknowledgement")
    assert "ann" in run("alarms", *config)
    assert run("missing", *config) == "Nothing is missing.\n"
    assert "1 modules, 1 stays" in run("custody", "rebuild", *config)
    assert "0 rows differ" in run("custody", "rebuild", "--check", *config)
    assert "van-001" in run("module", MODULE_CODE, *config)
    first = datetime.fromtimestamp(start_ms / 1000, UTC).date()
    exported = run("export", "--from", str(first), "--stream", "module", "--out", str(out), *config)
    assert exported.splitlines()[-1].startswith("60 rows")


def run(*arguments: str) -> str:
    """Return what `swapline` says, all being well."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{arguments}: {done.output}{done.exception}"
    return done.output


def test_gateway_without_its_reader_is_told_which_right_is_missing(database: tuple[Influx, Path]) -> None:
    _, etc = database
    text = (etc / "gateway.toml").read_text()
    alone = etc / "alone.toml"
    alone.write_text(re.sub(r"\[sink\.reader\].*?(?=\n\[)", "", text, flags=re.DOTALL))
    done = CliRunner().invoke(main, ["missing", "--config", str(alone)])
    assert done.exit_code == EXIT_UNAVAILABLE
    assert "requires READ on swapline" in done.output


def test_check_tells_users_who_were_mistaken_for_each_other(database: tuple[Influx, Path]) -> None:
    _, etc = database
    text, swapped = (etc / "gateway.toml").read_text(), etc / "swapped.toml"
    for one, other in (("swapline_gateway", "swapline_reader"), ("database-password", "reader-password")):
        text = text.replace(one, "?").replace(other, one).replace("?", other)
    swapped.write_text(text)
    done = CliRunner().invoke(main, ["check", "--config", str(swapped)])
    assert done.exit_code == EXIT_PROBLEM
    said = {line.split()[1]: line for line in done.output.splitlines() if line.startswith(("ok", "problem"))}
    assert "does not let us write (403)" in said["writer"]
    assert "requires READ on swapline" in said["reader"]
    assert said["database"].startswith("ok")


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


def wait_for_rows(server: Influx, etc: Path, measurement: str, fleet: str | None = None) -> None:
    """Ask as Grafana does until rows of `policy.measurement` are there: of nodes, or what the gateway makes."""
    password = (etc / "secrets" / "apply" / "grafana.password").read_text().strip()
    source = ".".join(f'"{name}"' for name in measurement.split("."))
    where = "" if fleet is None else f"WHERE \"fleet\" = '{fleet}'"
    query = f"SELECT * FROM {source} {where} LIMIT 1"  # noqa: S608 (a name from above)
    headers = urllib3.make_headers(basic_auth=f"swapline_grafana:{password}")
    fields = {"db": "swapline", "q": query}
    end = time.monotonic() + STORED_S_MAX
    while True:
        answer = urllib3.request("GET", f"{server.url}/query", fields=fields, headers=headers, retries=False).json()
        if "series" in answer["results"][0]:
            return
        assert time.monotonic() < end, answer
        time.sleep(0.1)
