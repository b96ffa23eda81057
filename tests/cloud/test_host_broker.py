"""The broker of one host lets in whom it should: real mosquitto with the files of cloud/mosquitto."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import pytest
import yaml

from swapline_bench import services
from swapline_cloud.secret_folder import SecretFolder
from swapline_gateway.error import EXIT_PROBLEM
from tests.cloud.host import CLOUD, HEARD_S_MAX, HOSTS, OTHER, SECRETS, VAN, Broker, make_secrets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the secrets of a host with two nodes. Nobody may change them."""
    return make_secrets(tmp_path_factory.mktemp("host") / "secrets")


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


def test_check_says_which_file_or_certificate_is_wrong(broker: Broker, tmp_path: Path) -> None:
    SecretFolder(tmp_path / "other").make(HOSTS)
    ours, other = broker.secrets / "gateway", tmp_path / "other" / "gateway"
    (tmp_path / "file").write_text("no certificate")
    client = f'certificate = "{ours}/client.crt"\nkey = "{ours}/client.key"'
    for tls, sentence in (
        (f'ca = "{other}/ca.crt"\n{client}', "shows a certificate that we do not believe"),
        (f'ca = "{tmp_path}/none"\n{client}', f"mqtt.tls: {tmp_path}/none cannot be read: No such file"),
        (f'ca = "{tmp_path}/file"\n{client}', f"mqtt.tls: {tmp_path}/file cannot be used"),
        (
            f'ca = "{ours}/ca.crt"\ncertificate = "{ours}/client.crt"\nkey = "{other}/client.key"',
            f"mqtt.tls: {ours}/client.crt with the key {other}/client.key cannot be used",
        ),
    ):
        config = tmp_path / "gateway.toml"
        config.write_text(
            f'[mqtt]\nhost = "localhost"\nport = {broker.port}\n[mqtt.tls]\n{tls}\n'
            f'[spool]\npath = "{tmp_path}/file/spool.sqlite"\n[sink]\ntype = "duckdb"\npath = "{tmp_path}/x.duckdb"\n'
        )
        command = (sys.executable, "-m", "swapline_gateway", "check", "--config", config)
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == EXIT_PROBLEM
        assert sentence in result.stdout
        assert f"{tmp_path}/file is no folder" in result.stdout


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
        SecretFolder(own).renew(10_000, ())
        os.kill(server.pid, signal.SIGHUP)
        assert reloaded.wait(HEARD_S_MAX)
        after = shown(server.port)
    assert before != after
    assert after.strip() == (own / "broker" / "server.crt").read_text().strip()


async def test_stolen_node_is_locked_out_by_two_lines_of_the_access_list(
    made: Path, tmp_path: Path, require: Callable[[str], Path]
) -> None:
    page = (CLOUD.parent / "docs" / "deploy.md").read_text()
    lines = re.search(r"^user demo/van-013\ntopic deny \S+$", page, re.MULTILINE)
    assert lines, "docs/deploy.md says how"
    stolen = lines[0].replace("demo/van-013", VAN)
    program = require("mosquitto")
    async with (
        Broker(program, tmp_path, made, access=f"\n{stolen}\n") as broker,
        broker.client("gateway") as gateway,
        broker.client(f"node/{VAN}") as thief,
        broker.client(f"node/{OTHER}") as other,
    ):
        await gateway.subscribe("swapline/v1/#", qos=1)
        await thief.publish(f"swapline/v1/{VAN}/live", b"x", qos=1)
        await thief.subscribe(f"swapline/v1/{VAN}/#", qos=1)
        await gateway.publish(f"swapline/v1/{VAN}/down", b"x", qos=1)
        await other.publish(f"swapline/v1/{OTHER}/live", b"x", qos=1)
        heard = await hear(gateway, f"swapline/v1/{OTHER}/live")
        assert heard == [f"swapline/v1/{VAN}/down", f"swapline/v1/{OTHER}/live"]
        await thief.subscribe("nothing", qos=1)  # answered behind whatever the broker would have sent before
        assert not len(thief.messages)
