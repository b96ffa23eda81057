"""What the tests of the whole path share: where the recordings are, and servers that must not be missing in the CI."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from swapline_bench import services

RECORDINGS = "SWAPLINE_RECORDINGS"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Return the folder of recorded input; it is not part of the repository."""
    if RECORDINGS not in os.environ:
        pytest.skip(f"{RECORDINGS} is not set: it names the folder of the recordings that this test plays")
    folder = Path(os.environ[RECORDINGS])
    assert folder.is_dir(), f"{RECORDINGS}={folder} is no folder"
    return folder


@pytest.fixture(scope="session", autouse=True)
def _mosquitto() -> None:
    _require("mosquitto", "mosquitto")


@pytest.fixture(scope="session")
def influxd() -> Iterator[services.InfluxServer]:
    """Run an InfluxDB 1.x for the whole session."""
    _require("influxd", "influxdb")
    with services.influxd() as server:
        yield server


@pytest.fixture(scope="session")
def victoria_metrics() -> Iterator[services.Server]:
    """Run a VictoriaMetrics for the whole session."""
    _require("victoria-metrics", "victoria-metrics")
    with services.victoria_metrics() as server:
        yield server


def _require(program: str, package: str) -> None:
    """Skip where the program is missing; in the CI a missing part is a failure."""
    try:
        services.find_binary(program, package)
    except services.MissingBinaryError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
