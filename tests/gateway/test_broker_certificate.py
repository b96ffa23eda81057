"""A broker that refuses our certificate says so behind the handshake, and the operator gets a sentence of it."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from swapline_bench import services
from swapline_gateway.broker_client import HungUpError, explain_alert
from swapline_gateway.config import MqttConfig
from swapline_gateway.uplink import explain, make_client
from tests.gateway.vitals.certificates import make_certificate


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("authority", "stranger"):
        make_certificate(folder, name)
    make_certificate(folder, "localhost", ca="authority")
    make_certificate(folder, "good", ca="authority")
    make_certificate(folder, "ended", ca="authority", days=0)
    make_certificate(folder, "foreign", ca="stranger")
    return folder


@pytest.fixture(scope="module")
def port(certificates: Path) -> Iterator[int]:
    port = services.free_port()
    settings = [
        f"listener {port} 127.0.0.1",
        f"cafile {certificates / 'authority.pem'}",
        f"certfile {certificates / 'localhost.pem'}",
        f"keyfile {certificates / 'localhost.key'}",
        "require_certificate true",
    ]
    with services.mosquitto(settings=settings):
        yield port


async def say(port: int, folder: Path, name: str | None) -> str:
    """Connect with TLS 1.3, and return what the operator is told; nothing where the broker takes us."""
    tls = {"ca": str(folder / "authority.pem")}
    if name is not None:
        tls |= {"certificate": str(folder / f"{name}.pem"), "key": str(folder / f"{name}.key")}
    config = MqttConfig.model_validate({"host": "localhost", "port": port, "tls": tls})
    client = make_client(config)
    try:
        async with client:
            return ""
    except aiomqtt.MqttError as error:
        return str(explain(config, error))


async def test_broker_that_believes_our_certificate_takes_us(port: int, certificates: Path) -> None:
    assert await say(port, certificates, "good") == ""


@pytest.mark.parametrize("name", ["ended", "foreign"])
async def test_broker_that_refuses_our_certificate_is_quoted(port: int, certificates: Path, name: str) -> None:
    begun_s = time.monotonic()
    told = await say(port, certificates, name)
    assert time.monotonic() - begun_s < 9, "it need not wait until aiomqtt gives up"
    assert f"The broker at localhost:{port} refuses our certificate {certificates / name}.pem (" in told
    assert {"ended": "expired", "foreign": "unknown ca"}[name] in told
    assert "cafile" in told


async def test_broker_that_wants_a_certificate_is_quoted(port: int, certificates: Path) -> None:
    told = await say(port, certificates, None)
    assert f"The broker at localhost:{port} wants a certificate of ours (" in told
    assert "set mqtt.tls.certificate" in told


def test_a_broker_that_hangs_up_without_an_alert_may_mean_our_certificate() -> None:
    hung_up = HungUpError(ConnectionResetError(104, "Connection reset by peer"))
    assert "if it refuses our certificate own.pem" in str(explain_alert(hung_up, "own.pem"))
    assert explain_alert(hung_up, None) is None
    # Of TLS 1.2, within the handshake.
    refused = ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:1006)")
    assert "refuses our certificate own.pem (sslv3 alert certificate expired)" in str(
        explain_alert(aiomqtt.MqttError(str(refused)), "own.pem")
    )
    assert explain_alert(HungUpError(OSError(113, "No route to host")), "own.pem") is None
