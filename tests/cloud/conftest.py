"""What the proofs of boards and alerts share."""

from collections.abc import Iterator

import pytest

from tests.cloud import year
from tests.cloud.filled import Filled, filled


@pytest.fixture(scope="module")
def fleet() -> Iterator[Filled]:
    """Return a database with a fleet's last days, and a year of one module of it."""
    with filled() as database:
        database.put_lines(year.roll_ups(database.now_utc_ms), "forever")
        database.put(year.books(database.now_utc_ms))
        yield database
