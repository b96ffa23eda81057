"""What a policy holds: each measurement with its rows of each day, and where they belong."""

from typing import NamedTuple

from swapline_cloud.backup import reading
from swapline_cloud.backup.measurement import Measurement, find_of
from swapline_cloud.place import place_of
from swapline_gateway.error import ConfigurationError, SinkBusyError
from swapline_gateway.influxql import InfluxqlClient

DAY_MS = 86_400_000
_NS_PER_MS = 1_000_000


class Holding(NamedTuple):
    """A measurement. `place` None: it is not the gateway's. `days`: rows by the day's first ms."""

    measurement: Measurement
    place: str | None
    span: reading.Span
    days: dict[int, int]

    @property
    def name(self) -> str:
        """Return the measurement's name."""
        return self.measurement.name

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return sum(self.days.values())


def find(client: InfluxqlClient, policy: str) -> list[Holding]:
    """Return what a policy holds. Raises `GatewayError`."""
    try:
        found = find_of(client, policy)
    except SinkBusyError as error:
        if "not found" in str(error):
            raise ConfigurationError(f"The database has no policy {policy}: --from names another one.") from error
        raise reading.sort_error(error) from error
    return [holding for one in found if (holding := _holding(client, one)) is not None]


def _holding(client: InfluxqlClient, measurement: Measurement) -> Holding | None:
    span = reading.span_of(client, measurement)
    if span is None:
        return None
    days = reading.counts(client, measurement, span, each="1d")
    return Holding(measurement, place_of(measurement.name), span, days)


def rows_between(client: InfluxqlClient, holding: Holding, start_utc_ms: int, end_utc_ms: int) -> int:
    """Return how many rows there are in a part of a day, or in all of it."""
    if start_utc_ms >= end_utc_ms or not any(start_utc_ms - DAY_MS < day < end_utc_ms for day in holding.days):
        return 0
    span = (start_utc_ms * _NS_PER_MS, end_utc_ms * _NS_PER_MS)
    return sum(reading.counts(client, holding.measurement, span, each="1h").values())
