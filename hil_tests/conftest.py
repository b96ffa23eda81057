"""What the tests of the whole path share: the servers, and the databases that the gateways of a rig write to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swapline_bench import services


@pytest.fixture(scope="session")
def mosquitto(require: Callable[[str], Path]) -> None:
    """Every rig starts its own broker: say at once if there is none."""
    require("mosquitto")


@pytest.fixture(scope="session")
def influxd(require: Callable[[str], Path]) -> Iterator[services.InfluxServer]:
    """Run an InfluxDB 1.x for the whole session."""
    require("influxd")
    with services.influxd() as server:
        yield server


@pytest.fixture(scope="session")
def victoria_metrics(require: Callable[[str], Path]) -> Iterator[services.Server]:
    """Run a VictoriaMetrics for the whole session."""
    require("victoria-metrics")
    with services.victoria_metrics() as server:
        yield server


@pytest.fixture(scope="session")
def database_urls(mosquitto: None, influxd: services.InfluxServer, victoria_metrics: services.Server) -> dict[str, str]:
    """Return where the rigs' gateways find their databases, by sink; DuckDB needs no server."""
    del mosquitto  # only: it is installed
    return {"influxdb1": influxd.url, "influxdb2": victoria_metrics.url}
