"""What one host needs before anything starts: its secrets, and servers that let in only whom they should.

Real mosquitto and real InfluxDB 1.x, with the very files of cloud/; only paths and ports are others.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import aiomqtt
import click
import pytest
import urllib3
import yaml
from click.testing import CliRunner

from swapline_bench import services
from swapline_cloud.authority import days_left, hosts_of, openssl
from swapline_cloud.cli import cloud as whole_cloud
from swapline_cloud.command import host
from swapline_cloud.secret_folder import SecretFolder
from swapline_gateway import config as gateway_configuration
from swapline_gateway.cli import Commands
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.error import EXIT_CONFIGURATION, EXIT_STORAGE
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink

CLOUD = Path(__file__).parents[2] / "cloud"
SECRETS = "/etc/swapline/secrets"
HOSTS = ("fleet.example", "10.1.2.3", "fd00::1")
HEARD_S_MAX = 10.0
VAN, OTHER = "demo/van-001", "other/van-001"


@click.group(cls=Commands)
def cloud() -> None:
    """Have the commands of `swapline cloud` that are tried here, with its way to end."""


host.register(cloud)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cloud, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return every file with mode, group, time of change and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (state.st_mode, state.st_gid, state.st_ctime_ns, content)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the secrets of a host with two nodes. Nobody may change them."""
    folder = tmp_path_factory.mktemp("host") / "secrets"
    SecretFolder(folder).make(HOSTS)
    for name in (VAN, OTHER):
        SecretFolder(folder).make_node(name)
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """Return secrets that a test may change."""
    return shutil.copytree(made, tmp_path / "secrets")


def test_first_start_makes_everything_and_the_second_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    code, output = run("secrets", "--out", folder, "--host", "fleet.example")
    assert code == 0
    assert "made     " in output
    before = snapshot(folder)
    assert run("secrets", "--out", folder, "--host", "fleet.example") == (0, f"complete {folder}\n")
    assert snapshot(folder) == before


def test_what_is_missing_is_made_and_the_rest_stays(own: Path) -> None:
    before = snapshot(own)
    (own / "grafana" / "admin_password").unlink()
    code, output = run("secrets", "--out", own)
    assert (code, output) == (0, f"made     {own}/grafana/admin_password\n")
    after = snapshot(own)
    changed = {path for path in after if after[path][3] != before[path][3]}
    assert changed == {"grafana/admin_password"}


def test_passwords_and_keys_are_random_long_and_of_no_use_to_others(made: Path) -> None:
    words = [made / "database/admin_password", made / "database/admin_token", made / "grafana/admin_password"]
    texts = {path.read_text() for path in words}
    assert len(texts) == 3
    assert all(len(text) == 48 for text in texts)
    private = [*words, *made.rglob("*.key"), *made.rglob("*.key.der")]
    assert len(private) == 3 + 5 + 2 * 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert {stat.S_IMODE((made / part).stat().st_mode) for part in ("authority", "broker", "apply")} == {0o700}


def test_reader_may_read_its_part_and_change_nothing(own: Path) -> None:
    group = os.getgroups()[-1] if os.getgroups() else os.getgid()  # any other one only root can give
    code, _ = run("secrets", "--out", own, "--reader", f"broker={group}", "--reader", f"apply={group}")
    assert code == 0
    for path in (own / "broker").iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), group)
        assert stat.S_IMODE(path.stat().st_mode) in (0o640, 0o644)
    assert stat.S_IMODE((own / "broker").stat().st_mode) == 0o750
    assert stat.S_IMODE((own / "apply").stat().st_mode) == 0o770
    assert stat.S_IMODE((own / "database" / "admin_token").stat().st_mode) == 0o600


def test_certificates_are_for_their_hosts_and_their_use_only(made: Path) -> None:
    assert set(HOSTS) < set(hosts_of(made / "broker" / "server.crt"))
    authority = str(made / "authority" / "ca.crt")
    for purpose, certificate in (
        ("sslserver", made / "broker/server.crt"),
        ("sslserver", made / "grafana/server.crt"),
        ("sslclient", made / "gateway/client.crt"),
        ("sslclient", made / "node" / VAN / "client.crt"),
    ):
        openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority, str(certificate))
    wrong = [
        "openssl",
        "verify",
        "-purpose",
        "sslserver",
        "-CAfile",
        authority,
        str(made / "node" / VAN / "client.crt"),
    ]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode != 0


def test_authority_outlives_its_nodes_and_those_what_is_renewed_on_the_host(made: Path) -> None:
    authority, node, server = (
        days_left(path)
        for path in (made / "authority/ca.crt", made / "node" / VAN / "client.crt", made / "broker/server.crt")
    )
    assert authority > node + 3000 > server + 5000


def test_renewal_signs_only_what_ends_and_keeps_keys_and_names(own: Path) -> None:
    SecretFolder(own)._authority.sign(own / "broker", "broker", "server", 20, ["localhost", "old.example"])  # noqa: SLF001
    before = snapshot(own)
    code, output = run("secrets", "--out", own)
    assert code == 0
    assert f"{own}/broker/server.crt in 20 days" in output
    assert snapshot(own) == before  # it only says so
    code, output = run("secrets", "--out", own, "--renew", "30")
    assert (code, output) == (0, f"renewed  {own}/broker/server.crt: restart what uses it\n")
    assert days_left(own / "broker" / "server.crt") > 700
    assert hosts_of(own / "broker" / "server.crt") == ["localhost", "old.example"]
    after = snapshot(own)
    assert {path for path in after if after[path][3] != before[path][3]} == {"broker/server.crt"}


def test_new_name_of_the_host_comes_into_the_servers_certificates_once(own: Path) -> None:
    code, output = run("secrets", "--out", own, "--renew", "30", "--host", "NEW.example", "--host", "fd00:0::1")
    assert code == 0
    assert output.count("renewed") == 2
    assert set(hosts_of(own / "grafana" / "server.crt")) > {*HOSTS, "new.example"}
    again = run("secrets", "--out", own, "--renew", "30", "--host", "new.example")
    assert again == (0, f"complete {own}\n")


def test_lost_key_of_the_authority_is_not_replaced_in_silence(own: Path) -> None:
    shutil.rmtree(own / "authority")
    code, output = run("secrets", "--out", own)
    assert code == EXIT_STORAGE
    assert "put authority/ back from its backup" in output
    assert not (own / "authority").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("secrets", "--host", "a b"), "'a b' is no name or address of a server."),
        (("secrets", "--host", "a,DNS:evil.example"), "is no name or address of a server."),
        (("secrets", "--reader", "broker"), "allowed is PART=GROUP"),
        (("secrets", "--reader", "broker=nobody-has-this"), "There is no group 'nobody-has-this'"),
        (("secrets", "--reader", "door=0"), "'door' is none of apply, broker, database, gateway, grafana."),
        (("node", "van-001"), "'van-001' is not a fleet and a node"),
        (("node", "demo/+"), "'demo/+' is not a fleet and a node"),
        (("node", "demo/../x"), "is not a fleet and a node"),
        (("node", "demo/van-001"), "has no authority yet: `swapline cloud secrets` makes it."),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(arguments: Sequence[str], sentence: str, tmp_path: Path) -> None:
    code, output = run(*arguments, "--out", tmp_path / "secrets")
    assert code == EXIT_CONFIGURATION
    assert sentence in output


def test_node_gets_the_same_certificate_again_and_as_a_board_reads_it(own: Path) -> None:
    before = snapshot(own)
    code, output = run("node", VAN, "--out", own)
    assert code == 0
    assert str(own / "node" / VAN) in output
    after = snapshot(own)
    assert {path for path in after if after[path][3] != before[path][3]} == set()
    der = openssl("x509", "-inform", "DER", "-in", str(own / "node" / VAN / "client.der"), "-noout", "-subject")
    assert der.decode().strip() == f"subject=CN = {VAN}"


# --- the broker ---


class Broker(services.Server):
    """Mosquitto with the files that the container and Debian's service get, on a port of its own."""

    def __init__(
        self, program: Path, folder: Path, secrets: Path, on_line: Callable[[str], None] | None = None
    ) -> None:
        self._program, self.secrets = program, secrets
        running = r"mosquitto version \S+ running"
        super().__init__("mosquitto", folder, self._write, running, chooses_port=False, on_line=on_line)

    def _write(self, folder: Path, port: int) -> Sequence[str]:
        parts = folder / "conf.d"
        parts.mkdir(exist_ok=True)
        data = folder / "data"
        data.mkdir(exist_ok=True)
        shutil.copy(CLOUD / "mosquitto" / "swapline.acl", folder)
        text = (CLOUD / "mosquitto" / "swapline.conf").read_text()
        text = text.replace("listener 8883", f"listener {port} {services.HOST}").replace(SECRETS, str(self.secrets))
        (parts / "swapline.conf").write_text(text.replace("/etc/mosquitto/", f"{folder}/"))
        text = (CLOUD / "docker" / "mosquitto.conf").read_text()
        text = text.replace("/etc/mosquitto/", f"{folder}/").replace("/mosquitto/data/", f"{data}/")
        config = folder / "mosquitto.conf"
        config.write_text("user root\n" + text)  # of a root's test; else it could not read the temporary folder
        return (str(self._program), "-c", str(config))

    def client(self, part: str) -> aiomqtt.Client:
        """Return a client that shows the certificate in a folder of the secrets."""
        folder = self.secrets / part
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
        return aiomqtt.Client(services.HOST, self.port, tls_context=context, timeout=HEARD_S_MAX)


@pytest.fixture(scope="module")
def broker(made: Path, tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], Path]) -> Iterator[Broker]:
    program = require("mosquitto")
    folder = tmp_path_factory.mktemp("mosquitto")
    with Broker(program, folder, made) as server:
        yield server


async def hear(client: aiomqtt.Client, until: str) -> list[str]:
    """Return the topics that come, up to one."""
    heard = []
    async with asyncio.timeout(HEARD_S_MAX):
        async for message in client.messages:
            heard.append(str(message.topic))
            if heard[-1] == until:
                return heard
    raise AssertionError(heard)


async def test_node_writes_its_own_topics_and_no_others(broker: Broker) -> None:
    last = f"swapline/v1/{VAN}/status"
    async with broker.client("gateway") as gateway, broker.client(f"node/{VAN}") as van:
        await gateway.subscribe("swapline/v1/#", qos=1)
        for topic in (
            "swapline/v1/demo/van-002/live",
            f"swapline/v1/{OTHER}/live",
            f"swapline/v1/{VAN}/ack",
            f"swapline/v1/{VAN}/state/module/1",
            "swapline/v1/demo/alarm",
        ):
            await van.publish(topic, b"x", qos=1)
        for channel in ("live", "up", "reply", "status"):
            await van.publish(f"swapline/v1/{VAN}/{channel}", b"x", qos=1)
        heard = await hear(gateway, last)
    assert heard == [f"swapline/v1/{VAN}/{channel}" for channel in ("live", "up", "reply", "status")]


async def test_node_of_the_same_name_in_another_fleet_is_somebody_else(broker: Broker) -> None:
    async with broker.client("gateway") as gateway, broker.client(f"node/{OTHER}") as other:
        await gateway.subscribe("swapline/v1/+/+/live", qos=1)
        await other.publish(f"swapline/v1/{VAN}/live", b"x", qos=1)
        await other.publish(f"swapline/v1/{OTHER}/live", b"x", qos=1)
        assert await hear(gateway, f"swapline/v1/{OTHER}/live") == [f"swapline/v1/{OTHER}/live"]


async def test_node_hears_its_own_answers_and_no_others(broker: Broker) -> None:
    async with broker.client("gateway") as gateway, broker.client(f"node/{VAN}") as van:
        await van.subscribe("swapline/v1/#", qos=1)
        for topic in (f"swapline/v1/{OTHER}/ack", f"swapline/v1/{VAN}/live", f"swapline/v1/{VAN}/ack"):
            await gateway.publish(topic, b"x", qos=1)
        assert await hear(van, f"swapline/v1/{VAN}/ack") == [f"swapline/v1/{VAN}/ack"]


async def test_health_check_sees_the_brokers_uptime_and_nothing_of_the_fleet(broker: Broker) -> None:
    async with broker.client("gateway") as gateway, broker.client("broker") as monitor:
        await monitor.subscribe("#", qos=1)
        await monitor.subscribe("$SYS/#", qos=1)
        await gateway.publish(f"swapline/v1/{VAN}/state/module", b"x", qos=1)
        assert await hear(monitor, "$SYS/broker/uptime") == ["$SYS/broker/uptime"]


def test_health_check_of_the_compose_file_passes_and_fails_with_the_broker(
    broker: Broker, require: Callable[[str], Path]
) -> None:
    require("mosquitto_sub")
    compose = yaml.safe_load((CLOUD / "compose.yaml").read_text())
    command = [part.replace("$$", "$") for part in compose["services"]["mosquitto"]["healthcheck"]["test"][1:]]

    def check(port: int) -> int:
        arguments = [part.replace("8883", str(port)).replace(SECRETS, str(broker.secrets)) for part in command]
        return subprocess.run(arguments, capture_output=True, check=False).returncode

    assert check(broker.port) == 0
    assert check(services.free_port()) != 0


async def test_gateway_reads_the_brokers_own_figures(broker: Broker) -> None:
    async with broker.client("gateway") as gateway:
        await gateway.subscribe("$SYS/broker/clients/connected")
        assert await hear(gateway, "$SYS/broker/clients/connected")


ACCEPTED, NOTHING = b"\x20\x02\x00\x00", b""


def connect(port: int, context: ssl.SSLContext) -> bytes:
    """Return the first bytes of the broker's answer to CONNECT; nothing if it ends the connection.

    Raises `SSLCertVerificationError` where we do not believe the broker.
    """
    with (
        socket.create_connection((services.HOST, port), timeout=HEARD_S_MAX) as plain,
        context.wrap_socket(plain, server_hostname=services.HOST) as secure,
    ):
        try:
            secure.sendall(services.MQTT_CONNECT)
            return secure.recv(4)
        except (ssl.SSLError, ConnectionError):  # by which of them depends on who is faster
            return NOTHING


def test_nobody_gets_in_without_a_certificate_of_this_host(broker: Broker, tmp_path: Path) -> None:
    SecretFolder(tmp_path).make(HOSTS)
    ours, another = broker.secrets / "gateway", tmp_path / "gateway"
    server = broker.secrets / "grafana"
    for certificate, key, answer in (
        (ours / "client.crt", ours / "client.key", ACCEPTED),
        (another / "client.crt", another / "client.key", NOTHING),
        (server / "server.crt", server / "server.key", NOTHING),  # of this host, but no user's
        (None, None, NOTHING),
    ):
        context = ssl.create_default_context(cafile=ours / "ca.crt")
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        assert connect(broker.port, context) == answer


def test_connection_without_tls_is_not_answered(broker: Broker) -> None:
    with (
        socket.create_connection((services.HOST, broker.port), timeout=HEARD_S_MAX) as plain,
        contextlib.suppress(ConnectionError),
    ):
        plain.sendall(services.MQTT_CONNECT)
        assert plain.recv(4) != ACCEPTED


def test_broker_in_anothers_name_is_not_believed(broker: Broker, tmp_path: Path) -> None:
    SecretFolder(tmp_path).make(HOSTS)
    context = ssl.create_default_context(cafile=tmp_path / "gateway" / "ca.crt")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(broker.port, context)


def test_broker_listens_on_the_tls_port_only() -> None:
    lines = (CLOUD / "mosquitto" / "swapline.conf").read_text().splitlines()
    assert [line for line in lines if line.startswith(("listener", "port"))] == ["listener 8883"]
    assert "listener" not in (CLOUD / "docker" / "mosquitto.conf").read_text()


def test_renewed_certificate_is_shown_after_a_reload(
    made: Path, tmp_path: Path, require: Callable[[str], Path]
) -> None:
    own = shutil.copytree(made, tmp_path / "secrets")
    (tmp_path / "mosquitto").mkdir()

    def shown(port: int) -> str:
        with (
            socket.create_connection((services.HOST, port), timeout=HEARD_S_MAX) as plain,
            ssl._create_unverified_context().wrap_socket(plain) as secure,  # noqa: S323, SLF001 (only to look)
        ):
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")

    reloaded = threading.Event()

    def watch(line: str) -> None:
        if "Reloading config" in line:
            reloaded.set()

    with Broker(require("mosquitto"), tmp_path / "mosquitto", own, watch) as server:
        before = shown(server.port)
        run("secrets", "--out", own, "--renew", "10000")
        os.kill(server.pid, signal.SIGHUP)
        assert reloaded.wait(HEARD_S_MAX)
        after = shown(server.port)
    assert before != after
    assert after.strip() == (own / "broker" / "server.crt").read_text().strip()


# --- InfluxDB 1.x with users ---


class Influx(services.InfluxServer):
    """InfluxDB with the configuration that Debian's service gets, on ports and folders of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        ready = rf"Listening on HTTP.*{services.HOST}:(?P<port>\d+)"
        self._program = program
        super().__init__("influxd", folder, self._write, ready, chooses_port=True)

    def _write(self, folder: Path, port: int) -> Sequence[str]:
        text = (CLOUD / "systemd" / "influxdb.conf").read_text().replace("/var/lib/influxdb", str(folder))
        text = text.replace(f"{services.HOST}:8086", f"{services.HOST}:{port}").replace(":8088", ":0")
        config = folder / "influxdb.conf"
        config.write_text(text)
        return (str(self._program), "-config", str(config))


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
            text = text.replace("/run/credentials/swapline-gateway.service/database-password", "password")
            (etc / name).write_text(text)
        done = CliRunner().invoke(whole_cloud, ["apply", "--only", "database", "--config", str(etc / "cloud.toml")])
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
    assert CliRunner().invoke(whole_cloud, arguments).exit_code == 0


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
