"""Databases with the battery's books: an empty one of each kind, written as the pump writes and asked by a store."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from swapline_bench import services
from swapline_gateway.battery.store import BatteryStore
from swapline_gateway.battery.store_duckdb import DuckdbStore
from swapline_gateway.config import DuckdbConfig, Influxdb1Config
from swapline_gateway.sinks.base import Sink
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from tests.gateway.policies import with_policies


class Database(NamedTuple):
    sink: Sink
    store: BatteryStore


@pytest.fixture
def duckdb_file(tmp_path: Path) -> Iterator[Database]:
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "swapline.duckdb"))) as sink:
        sink.open()
        yield Database(sink, DuckdbStore(sink.cursor))


@pytest.fixture(params=["duckdb", "influxdb1", "influxdb1-forever"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "duckdb":
        yield cast("Database", request.getfixturevalue("duckdb_file"))
        return
    from swapline_gateway.battery.store_influxql import InfluxqlStore  # noqa: PLC0415

    server = cast("services.InfluxServer", request.getfixturevalue("influx"))
    config = Influxdb1Config(type="influxdb1", url=server.url, database=request.node.name)
    if request.param == "influxdb1-forever":
        config = with_policies(server, config)
    with closing(Influxdb1Sink(config)) as sink, closing(InfluxqlStore(config)) as store:
        sink.open()
        yield Database(sink, store)
