"""What tests of the cloud share: a database that is empty, and one with a fleet in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swapline_bench import services
from tests.cloud import year
from tests.cloud.filled import Filled, filled


@pytest.fixture(scope="module")
def server(require: Callable[[str], Path]) -> Iterator[services.InfluxServer]:
    """Return an InfluxDB 1.x for the tests of a file."""
    require("influxd")
    with services.influxd() as running:
        yield running


@pytest.fixture(scope="module")
def fleet() -> Iterator[Filled]:
    """Return a database with a fleet's last days, and a year of one module of it."""
    with filled() as database:
        database.put_lines(year.roll_ups(database.now_utc_ms), "forever")
        database.put(year.books(database.now_utc_ms))
        yield database
