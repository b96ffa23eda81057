"""What the tests of the gateway share: servers, a gateway in this process, and a database to write and ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any, cast

import pytest

from swapline_bench import services
from swapline_gateway import config as configuration
from swapline_gateway.config import DuckdbConfig, Influxdb1Config, SinkConfig
from swapline_gateway.gateway import Gateway
from swapline_gateway.history import History
from swapline_gateway.history import make as make_history
from swapline_gateway.sinks import make as make_sink
from swapline_gateway.sinks.base import Sink
from tests.gateway.policies import with_policies

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(scope="module")
def broker() -> Iterator[services.Server]:
    with services.mosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def influx() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        yield server


@pytest.fixture(params=["duckdb", "influxdb1", "influxdb1-forever"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, History]]:
    config: SinkConfig
    if request.param == "duckdb":
        config = DuckdbConfig(path=tmp_path / "swapline.duckdb")
    else:
        server = cast("services.InfluxServer", request.getfixturevalue("influx"))
        config = Influxdb1Config(type="influxdb1", url=server.url, database=request.node.name)
        if request.param == "influxdb1-forever":
            config = with_policies(server, config)
    with closing(make_sink(config)) as sink:
        sink.open()
        with closing(make_history(config, sink)) as history:
            yield sink, history


@pytest.fixture
def make_gateway(broker: services.Server, tmp_path: Path) -> MakeGateway:
    """Return what runs a gateway in this process, with its files in the test's folder, until the block ends."""

    @contextlib.asynccontextmanager
    async def run(**tables: dict[str, Any]) -> AsyncIterator[Gateway]:
        raw = {
            "mqtt": {"port": broker.port, **tables.pop("mqtt", {})},
            "sink": {"type": "duckdb"},
            "state": {"interval_s": 0.05},
            **tables,
        }
        gateway = Gateway(configuration.parse(raw, source="test", folder=tmp_path))
        running = asyncio.create_task(gateway.run())
        ready = asyncio.create_task(gateway.ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            ready.cancel()
            running.result()
        try:
            yield gateway
        finally:
            gateway.stop()
            await running

    return run
