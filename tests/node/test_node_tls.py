"""The node's link over TLS: both sides show certificates, a broker with another one is refused."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import services
from swapline_bench.link_proxy import Impairment, LinkProxy
from swapline_bench.node_process import NodeProcess
from tests.node.node_rig import gateway_end


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificate(folder: Path, name: str, *, ca: str = "", days: int = 30) -> None:
    """Make a P-256 key and a certificate for `name` (signed by `ca`, else by itself), as PEM and as DER."""
    subject = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key.pem"]
    subject += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    if ca:
        openssl("req", *subject, "-out", f"{name}.csr", folder=folder)
        (folder / "extensions").write_text(f"subjectAltName=DNS:{name}\n")
        signing = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key.pem", "-CAcreateserial", "-extfile", "extensions"]
        command = ["x509", "-req", "-in", f"{name}.csr", *signing, "-days", str(days), "-out", f"{name}.pem"]
        openssl(*command, folder=folder)
    else:
        openssl("req", "-x509", *subject, "-days", str(days), "-out", f"{name}.pem", folder=folder)
    openssl("x509", "-in", f"{name}.pem", "-outform", "DER", "-out", f"{name}.der", folder=folder)
    openssl("pkey", "-in", f"{name}.key.pem", "-outform", "DER", "-out", f"{name}.key.der", folder=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder, "authority")
    make_certificate(folder, "stranger")
    for name in ("broker.test", "tls1"):
        make_certificate(folder, name, ca="authority")
    return folder


@pytest.fixture(scope="module")
def tls_port() -> int:
    return services.free_port()


@pytest.fixture(scope="module")
def tls_broker(certificates: Path, tls_port: int) -> Iterator[services.Server]:
    settings = [
        f"listener {tls_port} 127.0.0.1",
        f"cafile {certificates / 'authority.pem'}",
        f"certfile {certificates / 'broker.test.pem'}",
        f"keyfile {certificates / 'broker.test.key.pem'}",
        "require_certificate true",
        "use_identity_as_username true",
    ]
    with services.mosquitto(settings=settings) as server:
        yield server


def make_node(compiled: Path, folder: Path, port: int, tls: dict[str, Any]) -> NodeProcess:
    link = {"host": "127.0.0.1", "port": port, "backoff_ms_min": 50, "backoff_ms_max": 200, "tls": tls}
    config = {"fleet": "test", "node": "tls1", "link": link, "seal_interval_ms": 200}
    return NodeProcess("tls1", folder, bundle=compiled, config=config)


async def test_node_and_broker_know_each_other_by_certificate(
    compiled: Path, tls_broker: services.Server, tls_port: int, certificates: Path, tmp_path: Path
) -> None:
    tls = {
        "ca": str(certificates / "authority.der"),
        "certificate": str(certificates / "tls1.der"),
        "key": str(certificates / "tls1.key.der"),
        "server_hostname": "broker.test",
    }
    node = make_node(compiled, tmp_path / "node", tls_port, tls)
    async with gateway_end(tls_broker.port, "test", "tls1") as end, node:
        await end.until(lambda: end.status.get("clock_quality") == 2 and len(end.rows("node")) > 0)
        assert await node.stop() == 0


@pytest.mark.parametrize(
    "wrong", [{"ca": "stranger.der"}, {"server_hostname": "other.test"}, {"certificate": None, "key": None}], ids=str
)
@pytest.mark.usefixtures("tls_broker")
async def test_link_is_refused_where_a_certificate_is_wrong(
    compiled: Path, tls_port: int, certificates: Path, tmp_path: Path, wrong: dict[str, str | None]
) -> None:
    tls = {"ca": "authority.der", "certificate": "tls1.der", "key": "tls1.key.der"} | wrong
    files = {key: value and str(certificates / value) for key, value in tls.items() if key != "server_hostname"}
    name = {"server_hostname": wrong.get("server_hostname", "broker.test")}
    async with make_node(compiled, tmp_path / "node", tls_port, files | name) as node:
        await node.wait_for_line("warning link")
        assert not any("connected" in line for line in node.lines)
        assert await node.stop() == 0


async def test_node_connects_over_a_link_of_two_seconds_delay(
    compiled: Path, tls_broker: services.Server, tls_port: int, certificates: Path, tmp_path: Path
) -> None:
    """TCP, TLS and MQTT shake hands in four round trips of four seconds."""
    files = {"ca": "authority.der", "certificate": "tls1.der", "key": "tls1.key.der"}
    tls = {key: str(certificates / value) for key, value in files.items()} | {"server_hostname": "broker.test"}
    async with LinkProxy(tls_broker.host, tls_port) as link, make_node(compiled, tmp_path, link.port, tls) as node:
        link.impair(Impairment(delay_s=2.0))
        await node.wait_for_line("connected", timeout_s=90)
        assert await node.stop() == 0
