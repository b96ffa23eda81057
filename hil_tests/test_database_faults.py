"""A real InfluxDB that dies, refuses, forgets who we are, and has several gateways: nothing lost, nothing twice.

Gateways are real processes behind a real broker. The nodes behave as the firmware does: they keep a frame until it is
acknowledged, and send it again after a while.
"""

import asyncio
import contextlib
import json
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.database import Influx1Database
from swapline_bench.frame_source import MODULE_CODE, FrameSource, KeepingNode, module_row, row_of
from swapline_bench.gateway_process import GatewayProcess
from swapline_gateway.quarantine import Quarantine
from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import MODULE
from tests.gateway.fake_influx import Answer, FakeInflux

DATABASE = "swapline"
ROWS_PER_FRAME = 3
HOUR_MS = 3_600_000
Point = tuple[int, str, float]  # time, module, voltage


class Node(KeepingNode):
    """Seals frames of rows that it remembers."""

    def __init__(self, client: aiomqtt.Client, name: str, *, frames: int) -> None:
        super().__init__(client, FrameSource(node=name, anchor_utc_ms=now_utc_ms() - HOUR_MS))
        self.points: list[Point] = []
        for _ in range(frames):
            self.seal()

    def seal(self) -> None:
        """Seal one more frame."""
        first = len(self.points)
        rows = [(1000 * (first + i), module_row(4000 + (first + i) % 2000)) for i in range(ROWS_PER_FRAME)]
        frame = self.source.frame(rows)
        self.frames[self.source.seq] = frame
        anchor = self.source.anchor_utc_ms
        self.points += [(anchor + time_ms, MODULE_CODE, values[0] / 100) for time_ms, values in rows]


@pytest.fixture
def influx(require: Any, tmp_path: Path) -> Iterator[services.InfluxServer]:
    """Run a database of the test's own that keeps its data when it is killed."""
    require("influxd")
    folder = tmp_path / "influxdb"
    folder.mkdir()
    with services.influxd(folder) as server:
        yield server


@pytest.fixture
def broker(mosquitto: None) -> Iterator[services.Server]:
    del mosquitto  # only: it is installed
    with services.mosquitto() as server:
        yield server


def gateway_on(
    folder: Path, broker: services.Server, influx: services.InfluxServer, *, share_group: str | None = None, **sink: Any
) -> GatewayProcess:
    settings: dict[str, Any] = {"sink": {"type": "influxdb1", "url": influx.url, "timeout_s": 2, **sink}}
    if share_group is not None:
        settings["mqtt"] = {"share_group": share_group}
    folder.mkdir(exist_ok=True)
    return GatewayProcess.unlimited(folder, broker_port=broker.port, settings=settings)


def stored(influx: services.InfluxServer, node: str, *, database: str = DATABASE) -> list[Point]:
    rows = Influx1Database(influx.url, database).rows("module", node)
    return [(row["time_utc_ms"], row["module"], row["voltage_v"]) for row in rows]


def numbers(influx: services.InfluxServer, node: str, *, database: str = DATABASE) -> Counter[int]:
    return Counter(row["seq"] for row in Influx1Database(influx.url, database).rows("frames", node))


def assert_stored_once(influx: services.InfluxServer, nodes: Sequence[Node]) -> None:
    for node in nodes:
        assert stored(influx, node.source.node) == node.points
        assert numbers(influx, node.source.node) == Counter(list(node.frames))


@contextlib.asynccontextmanager
async def connected(broker: services.Server, *names: str, frames: int) -> Any:
    """Yield nodes, each with a client of its own, that hear their acknowledgements."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name in names:
            client = await stack.enter_async_context(aiomqtt.Client(broker.host, broker.port))
            node = Node(client, name, frames=frames)
            await node.acks.begin()
            nodes.append(node)
        yield nodes


async def test_killed_database_costs_no_frame_and_no_acknowledgement(
    tmp_path: Path, broker: services.Server, influx: services.InfluxServer
) -> None:
    gateway = gateway_on(tmp_path / "gateway", broker, influx)
    async with connected(broker, "van-001", "van-002", frames=200) as nodes:
        await asyncio.to_thread(gateway.start)
        try:
            await asyncio.gather(*(node.send_until_acknowledged() for node in nodes))
            for _ in range(3):
                influx.kill()
                for node in nodes:
                    for _ in range(100):
                        node.seal()
                await asyncio.gather(*(node.send_until_acknowledged() for node in nodes))
                await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["sink"]["error"] and f["spool"]["frames"])
                await asyncio.to_thread(influx.start)
                sending = [asyncio.create_task(node.send_until_acknowledged()) for node in nodes]
                await asyncio.gather(*sending)
            await asyncio.to_thread(gateway.wait_for_figures, lambda f: not f["spool"]["frames"])
        finally:
            assert await asyncio.to_thread(gateway.stop) == 0
        assert_stored_once(influx, nodes)


async def test_gateway_behind_a_database_that_fails_slowly_acknowledges_and_ends_in_order(
    tmp_path: Path, broker: services.Server
) -> None:
    failing = Answer(503, "<html>later</html>", delay_s=1.5)
    with FakeInflux(2, always=failing) as fake:
        settings = {"sink": {"type": "influxdb2", "url": fake.url, "timeout_s": 2}}
        gateway = GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings)
        async with connected(broker, "van-001", frames=100) as (node,):
            await asyncio.to_thread(gateway.start)
            await node.send_until_acknowledged()
            await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["sink"]["failures"] >= 2)
            assert await asyncio.to_thread(gateway.stop) == 0
            assert not fake.points
            fake.always = None
            with gateway:  # the frames waited in the spool; ending it empties that
                await asyncio.to_thread(fake.wait_for, 100)
        assert len(fake.measurement("module")) == 100 * ROWS_PER_FRAME


@pytest.mark.parametrize("count", [2, 3])
async def test_gateways_on_one_shared_subscription_survive_the_kill_of_each_and_of_the_database(
    tmp_path: Path, broker: services.Server, influx: services.InfluxServer, count: int
) -> None:
    """What the killed gateway has acknowledged while the database was down is in its spool and nowhere else."""
    gateways = [gateway_on(tmp_path / f"gateway{i}", broker, influx, share_group="all") for i in range(count)]
    async with connected(broker, "van-001", "van-002", frames=300) as nodes:
        await asyncio.gather(*(asyncio.to_thread(gateway.start) for gateway in gateways))
        try:
            for gateway in gateways:
                influx.kill()
                sending = [asyncio.create_task(node.send()) for node in nodes]
                await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["spool"]["frames"])
                await asyncio.to_thread(gateway.kill)
                await asyncio.gather(*sending)
                await asyncio.gather(*(node.send_until_acknowledged() for node in nodes))  # the others do its work
                await asyncio.to_thread(gateway.start)
                await asyncio.to_thread(influx.start)
                for node in nodes:
                    for _ in range(200):
                        node.seal()
            await asyncio.gather(*(node.send_until_acknowledged() for node in nodes))
        finally:
            codes = await asyncio.gather(*(asyncio.to_thread(gateway.stop) for gateway in gateways))
        assert codes == [0] * count
        assert_stored_once(influx, nodes)


async def test_field_of_another_type_costs_only_its_rows_until_it_is_mended(
    tmp_path: Path, broker: services.Server, influx: services.InfluxServer
) -> None:
    gateway = gateway_on(tmp_path / "gateway", broker, influx)
    async with connected(broker, "van-001", frames=0) as (node,):
        source = node.source
        influx.execute(f"CREATE DATABASE {DATABASE}")
        line = f'module,node=stranger soc_pct="full" {source.anchor_utc_ms}'
        services.post(f"{influx.url}/write?db={DATABASE}&precision=ms", line.encode())
        without = row_of(MODULE, voltage_v=5100)
        node.frames = {1: source.frame([(1000, without), (2000, module_row(5200)), (3000, without)])}
        node.frames[2] = source.frame([(4000, without)])
        await asyncio.to_thread(gateway.start)
        try:
            await node.send_until_acknowledged()
            await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["quarantined"] and f["frames_stored"])
            with Quarantine(gateway.folder / "spool.sqlite") as quarantine:
                (entry,) = quarantine.entries(limit=10)
                assert (entry.seq, entry.detail.split(": ")[0]) == (1, "1 of 3 rows refused (2)")
                assert "field type conflict" in entry.detail
                times = [time_ms - source.anchor_utc_ms for time_ms, _, _ in stored(influx, "van-001")]
                assert times == [1000, 3000, 4000]
                own = Influx1Database(influx.url, DATABASE).rows("frames", "van-001")
                assert [(row["seq"], row["row_count"], row["rows_refused"]) for row in own] == [(1, 2, 1), (2, 1, 0)]
                services.post(f"{influx.url}/query?db={DATABASE}", _drop("module"))
                assert quarantine.replay(entry) == ""
            await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["frames_stored"] == 2)
        finally:
            assert await asyncio.to_thread(gateway.stop) == 0
    times = [time_ms - source.anchor_utc_ms for time_ms, _, _ in stored(influx, "van-001")]
    assert times == [1000, 2000, 3000]  # the measurement was dropped; the replay brought its whole frame
    assert numbers(influx, "van-001") == Counter([1, 2])


def _drop(measurement: str) -> bytes:
    return urllib.parse.urlencode({"q": f'DROP MEASUREMENT "{measurement}"'}).encode()


async def test_rows_beyond_the_retention_are_set_aside_and_the_others_of_their_frame_are_stored(
    tmp_path: Path, broker: services.Server, influx: services.InfluxServer
) -> None:
    influx.execute('CREATE DATABASE "short" WITH DURATION 1h')
    gateway = gateway_on(tmp_path / "gateway", broker, influx, database="short")
    async with connected(broker, "van-001", frames=0) as (node,):
        node.source.anchor_utc_ms = now_utc_ms() - 2 * HOUR_MS
        minutes = (0, 10, 90, 100)
        node.frames = {1: node.source.frame([(60_000 * minute, module_row(5000 + minute)) for minute in minutes])}
        node.frames[2] = node.source.frame([(60_000 * 110, module_row(5110))])
        with gateway:
            await node.send_until_acknowledged()
            await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["rows_stored"] == 3)
    assert [voltage for _, _, voltage in stored(influx, "van-001", database="short")] == [50.9, 51.0, 51.1]
    own = Influx1Database(influx.url, "short").rows("frames", "van-001")
    assert [(row["seq"], row["row_count"], row["rows_refused"]) for row in own] == [(2, 1, 0)]
    with Quarantine(gateway.folder / "spool.sqlite") as quarantine:
        (entry,) = quarantine.entries(limit=10)
    assert entry.detail.startswith("2 of 4 rows refused (1-2): 400: partial write: points beyond retention policy")


async def test_user_who_is_dropped_and_made_again_costs_nothing(
    tmp_path: Path, broker: services.Server, require: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("influxd")
    monkeypatch.setenv("INFLUXDB_HTTP_AUTH_ENABLED", "true")
    with services.influxd() as influx:
        influx.execute("CREATE USER admin WITH PASSWORD 'admin' WITH ALL PRIVILEGES")
        _ask(
            influx,
            f"CREATE DATABASE {DATABASE}; CREATE USER gate WITH PASSWORD 'one'; GRANT WRITE ON {DATABASE} TO gate",
        )
        gateway = gateway_on(tmp_path / "gateway", broker, influx, username="gate", password="one")  # noqa: S106
        async with connected(broker, "van-001", frames=50) as (node,):
            with gateway:
                await node.send_until_acknowledged()
                figures = await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["frames_stored"] == 50)
                failures = figures["sink"]["failures"]
                _ask(influx, "DROP USER gate")
                for _ in range(50):
                    node.seal()
                await node.send_until_acknowledged()
                figures = await asyncio.to_thread(
                    gateway.wait_for_figures,  # its spool is counted now and then
                    lambda f: f["sink"]["failures"] >= failures + 2 and f["spool"]["frames"] == 50,
                )
                assert "credentials or token refused" in figures["problems"][0]
                _ask(influx, f"CREATE USER gate WITH PASSWORD 'one'; GRANT WRITE ON {DATABASE} TO gate")
                figures = await asyncio.to_thread(gateway.wait_for_figures, lambda f: f["frames_stored"] == 100)
                assert figures["quarantined"] == {}
        found = _ask(influx, f'SELECT count("voltage_v") FROM "{DATABASE}".."module"')  # noqa: S608
        assert found["results"][0]["series"][0]["values"][0][1] == 100 * ROWS_PER_FRAME


def _ask(influx: services.InfluxServer, statement: str) -> Any:
    login = urllib.parse.urlencode({"u": "admin", "p": "admin"})
    return json.loads(services.post(f"{influx.url}/query?{login}", urllib.parse.urlencode({"q": statement}).encode()))
