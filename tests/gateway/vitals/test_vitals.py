"""A gateway writes about itself into a real InfluxDB: its figures, disks, certificates, and what mosquitto tells."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource
from swapline_gateway import config as configuration
from swapline_gateway.battery.table import Table
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.gateway import Gateway
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.vitals import vitals as measuring
from swapline_gateway.vitals.table import BROKER, CERTIFICATE, DISK, GATEWAY
from tests.gateway.conftest import MakeGateway
from tests.gateway.test_gateway import fetch, until
from tests.gateway.vitals.certificates import make_certificate

DATABASE = "swapline"
INTERVAL_S = 0.2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder, "authority", days=90)
    make_certificate(folder, "localhost", ca="authority", days=10)
    make_certificate(folder, "gateway", ca="authority", days=30)
    return folder


@pytest.fixture(scope="module")
def tls_port() -> int:
    return services.free_port()


@pytest.fixture(scope="module")
def broker(certificates: Path, tls_port: int) -> Iterator[services.Server]:
    settings = [
        "sys_interval 1",
        f"listener {tls_port} 127.0.0.1",
        f"cafile {certificates / 'authority.pem'}",
        f"certfile {certificates / 'localhost.pem'}",
        f"keyfile {certificates / 'localhost.key'}",
        "require_certificate true",
    ]
    with services.mosquitto(settings=settings) as server:
        yield server


@pytest.fixture
def secure(certificates: Path, tls_port: int) -> dict[str, Any]:
    """Return how a gateway reaches the broker with a certificate of its own."""
    files = {"ca": "authority.pem", "certificate": "gateway.pem", "key": "gateway.key"}
    return {
        "host": "localhost",
        "port": tls_port,
        "tls": {name: str(certificates / file) for name, file in files.items()},
    }


def sink(influx: services.InfluxServer) -> dict[str, Any]:
    return {"type": "influxdb1", "url": influx.url, "database": DATABASE, "timeout_s": 2.0}


def ask(influx: services.InfluxServer, statement: str) -> list[dict[str, Any]]:
    """Return the rows of an answer, each with its tags and columns."""
    client = InfluxqlClient(Influxdb1Config(type="influxdb1", url=influx.url, database=DATABASE))
    found = [
        series.get("tags", {}) | dict(zip(series["columns"], values, strict=True))
        for series in client.query(statement)
        for values in series["values"]
    ]
    client.close()
    return found


async def wait_for(influx: services.InfluxServer, statement: str, count: int = 1) -> list[dict[str, Any]]:
    """Ask until there are so many rows."""
    async with asyncio.timeout(30):
        while True:
            found = await asyncio.to_thread(ask, influx, statement)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


def newest(table: Table, name: str, where: str = "") -> str:
    columns = ", ".join(f'"{column}"' for column in [*table.fields, *table.tags])
    condition = f"\"gateway\" = '{name}'{where}"
    return f'SELECT {columns} FROM "{table.name}" WHERE {condition} ORDER BY time DESC LIMIT 1'  # noqa: S608


async def test_every_measurement_arrives_with_every_field(
    make_gateway: MakeGateway,
    broker: services.Server,
    influx: services.InfluxServer,
    secure: dict[str, Any],
    tmp_path: Path,
) -> None:
    other = tmp_path / "other disk"
    other.mkdir()
    vitals = {"name": "yard 1", "interval_s": INTERVAL_S, "disks": [str(other)]}
    async with (
        make_gateway(mqtt=secure, sink=sink(influx), vitals=vitals, http={"port": 0}) as gateway,
        aiomqtt.Client(broker.host, broker.port) as client,
    ):
        source = FrameSource()
        acks = await AckListener(client, source).begin()
        await source.publish(client, source.frame(), source.frame())
        await acks.wait_for({1, 2})
        await source.publish(client, source.frame(seq=1))
        stored = ' AND "frames_stored" = 2 AND "duplicates" = 1 AND "spool_frames" = 0'  # looked at twice a second
        (own,) = await wait_for(influx, newest(GATEWAY, "yard 1", stored))
        (written,) = await wait_for(influx, newest(GATEWAY, "yard 1", ' AND "sink_write_ms_max" > 0'))
        certificate = {row["name"]: row for row in await wait_for(influx, 'SELECT * FROM "certificate"', 3)}
        disks = {row["path"]: row for row in await wait_for(influx, 'SELECT * FROM "disk"', 2)}
        heard = ' AND "messages_received" > 5 AND "clients_connected" >= 3'  # it tells once a second
        (told,) = await wait_for(influx, newest(BROKER, "yard 1", heard))
        metrics = (await fetch(gateway, "/metrics"))[1]
    for table, row in ((GATEWAY, own | written), (DISK, disks[str(tmp_path)]), (BROKER, told)):
        assert [name for name in table.fields if row[name] is None] == [], table.name
    assert (own["frames_received"], own["frames_taken"], own["rows_stored"]) == (3, 2, 2)
    assert (own["broker_connected"], own["sink_working"], own["spool_frames"]) == (1, 1, 0)
    assert 10e6 < own["memory_bytes"] < 10e9
    assert 0 < written["sink_write_ms_mean"] <= written["sink_write_ms_max"] < 20_000
    days = {name: row["days_left"] for name, row in certificate.items()}
    assert days == pytest.approx({"broker": 10, "client": 30, "ca": 90}, abs=0.01)
    assert set(certificate["broker"]) >= {"gateway", "name", *CERTIFICATE.fields}
    assert set(disks) == {str(tmp_path), str(other)}
    assert disks[str(other)]["free_share"] == pytest.approx(
        disks[str(other)]["free_bytes"] / disks[str(other)]["total_bytes"]
    )
    assert told["broker"] == f"localhost:{secure['port']}"
    for name in (
        "disk_free_bytes{",
        'certificate_days_left{name="broker"}',
        "broker_messages_sent_total ",
        "vitals_lost",
    ):
        assert f"swapline_{name}" in metrics
    assert "swapline_sink_write_seconds_count " in metrics
    (goodbye,) = ask(influx, newest(GATEWAY, "yard 1"))
    assert (own["ended"], goodbye["ended"]) == (0, 1)
    assert [name for name in GATEWAY.fields if goodbye[name] is not None] == ["ended"], "its figures are the last ones"


async def test_gateway_that_does_not_end_by_itself_says_no_goodbye(
    influx: services.InfluxServer, broker: services.Server, tmp_path: Path
) -> None:
    raw = {"mqtt": {"port": broker.port}, "sink": sink(influx), "vitals": {"name": "killed", "interval_s": INTERVAL_S}}
    gateway = Gateway(configuration.parse(raw, source="test", folder=tmp_path))
    running = asyncio.create_task(gateway.run())
    await wait_for(influx, newest(GATEWAY, "killed"))
    running.cancel()
    await asyncio.wait([running])
    assert [row["ended"] for row in ask(influx, newest(GATEWAY, "killed"))] == [0]


async def test_short_absence_of_the_database_leaves_no_hole(
    make_gateway: MakeGateway,
) -> None:
    with services.influxd() as influx:
        vitals = {"name": "patient", "interval_s": INTERVAL_S}
        async with make_gateway(sink=sink(influx), vitals=vitals) as gateway:
            await wait_for(influx, newest(GATEWAY, "patient"))
            sender = gateway._vitals.sender  # noqa: SLF001
            assert sender is not None
            await asyncio.to_thread(influx.stop)
            await until(lambda: sender.waiting > 8)
            waited = sum(point.table in (GATEWAY, BROKER) for point in sender._waiting)  # noqa: SLF001
            gone_ms = sender._waiting[0].time_utc_ms  # noqa: SLF001 (measured, but not taken, before it had stopped)
            assert gateway.figures.is_connected
            await asyncio.to_thread(influx.start)
            back_ms = time.time_ns() // 1_000_000
            await until(lambda: sender.waiting <= 1)
            await wait_for(influx, newest(GATEWAY, "patient", f" AND time > {back_ms}ms"))
            absence = f"\"gateway\" = 'patient' AND time >= {gone_ms}ms AND time < {back_ms}ms"
            rows = await asyncio.to_thread(ask, influx, f'SELECT * FROM "gateway", "broker" WHERE {absence}')  # noqa: S608
            assert (len(rows) >= waited, sender.lost) == (True, 0)


def refusing(folder: Path) -> services.Server:
    """Return a broker whose access list hides what it tells about itself."""
    access = folder / "access"
    access.write_text("topic readwrite swapline/#\n")
    return services.mosquitto(settings=["sys_interval 1", f"acl_file {access}"])


async def test_broker_that_tells_nothing_of_itself_is_one_like_any_other(
    make_gateway: MakeGateway, influx: services.InfluxServer, tmp_path: Path
) -> None:
    with refusing(tmp_path) as silent:
        vitals = {"name": "unheard", "interval_s": INTERVAL_S}
        async with (
            make_gateway(mqtt={"port": silent.port}, sink=sink(influx), vitals=vitals) as gateway,
            aiomqtt.Client(silent.host, silent.port) as client,
        ):
            source = FrameSource(node="van-of-silence")
            acks = await AckListener(client, source).begin()
            await source.publish(client, source.frame())
            await acks.wait_for({1})
            await wait_for(influx, newest(GATEWAY, "unheard", ' AND "frames_stored" = 1'))
            assert gateway.figures.link_failures == 0
            assert not gateway.figures.refused
    assert ask(influx, newest(BROKER, "unheard")) == []


async def hang_up_on(topic_begin: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass everything on to a broker, but end the connection that asks for such a topic."""
    there, here = await asyncio.open_connection("127.0.0.1", port)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if topic_begin in data:
                break
            target.write(data)
            await target.drain()

    ways = [asyncio.create_task(pass_on(*way)) for way in ((reader, here), (there, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, here):
            end.close()


async def test_broker_that_hangs_up_on_who_asks_for_its_figures_is_not_asked_for_ever(
    make_gateway: MakeGateway, broker: services.Server
) -> None:
    asked: Callable[[Any, Any], Any] = lambda reader, writer: hang_up_on(b"$SYS", reader, writer, broker.port)  # noqa: E731
    server = await asyncio.start_server(asked, "127.0.0.1", 0)
    mqtt = {"port": server.sockets[0].getsockname()[1], "backoff_s_max": 0.1}
    async with server, make_gateway(mqtt=mqtt) as gateway:
        await until(lambda: gateway.figures.link_failures == 2 and gateway.figures.is_connected)
        async with aiomqtt.Client(broker.host, broker.port) as client:
            source = FrameSource(node="van-of-patience")
            acks = await AckListener(client, source).begin()
            await source.publish(client, source.frame())
            await acks.wait_for({1})
        assert gateway.figures.link_failures == 2


async def test_gateway_of_a_file_measures_for_its_pages_only(make_gateway: MakeGateway, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    async with make_gateway(http={"port": 0}, vitals={"disks": [str(gone)]}) as gateway:
        await until(lambda: gateway._vitals.disks)  # noqa: SLF001
        _, metrics = await fetch(gateway, "/metrics")
    assert f'swapline_disk_total_bytes{{path="{tmp_path}"}}' in metrics
    assert str(gone) not in metrics
    assert "swapline_vitals_lost" not in metrics


def test_memory_is_that_of_this_process() -> None:
    before = measuring.memory_bytes()
    kept = b"x" * (64 << 20)
    after = measuring.memory_bytes()
    assert before is not None
    assert after is not None
    assert after - before > len(kept) // 2
