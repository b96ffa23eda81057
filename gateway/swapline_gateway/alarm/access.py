"""How a running gateway, and the command line, reach what the alarm book is made of."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

from swapline_gateway.access import open_file
from swapline_gateway.battery.access import make_store
from swapline_gateway.battery.store import BatteryStore
from swapline_gateway.battery.store_duckdb import DuckdbStore
from swapline_gateway.battery.table import ACKNOWLEDGEMENT
from swapline_gateway.config import DuckdbConfig, GatewayConfig, SinkConfig
from swapline_gateway.influxql import InfluxqlClient
from swapline_gateway.sinks.base import Sink
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.state import FleetState

from .acknowledge import from_row
from .book import Alarm, acknowledge
from .shelf import KEPT_MS
from .source import AlarmSource, Span
from .source_duckdb import DuckdbAlarms
from .source_influxql import InfluxqlAlarms
from .watch import AlarmWatch, Uplink, Wanted, read_alarms


def make_watch(config: SinkConfig, sink: Sink, state: FleetState, uplink: Uplink) -> AlarmWatch:
    """Return the alarm book of a gateway that writes to `sink`."""
    source: AlarmSource
    if isinstance(config, DuckdbConfig):
        source = DuckdbAlarms(cast("DuckdbSink", sink).cursor)
    else:
        source = InfluxqlAlarms(InfluxqlClient(config))
    return AlarmWatch(state, uplink, source=source, store=make_store(config, sink))


def read_past(config: GatewayConfig, wanted: Wanted) -> list[Alarm]:
    """Return the newest alarms that are asked for, the newest first, out of the database.

    Raises `SinkBusyError` when it does not answer, `StorageError` for a file that cannot be opened.
    """
    since = now_utc_ms() if wanted.since_utc_ms is None else wanted.since_utc_ms
    span = Span(max(0, since - KEPT_MS), fleet=wanted.fleet, node=wanted.node, module=wanted.module)
    with _open(config.sink) as (source, store):
        said = [from_row(row) for row in store.read(ACKNOWLEDGEMENT, start_utc_ms=span.start_utc_ms)]
        alarms = acknowledge(read_alarms(source, span), said)
    chosen = [alarm for alarm in alarms if wanted.has(alarm)]
    return sorted(chosen, key=lambda alarm: (alarm.raised_utc_ms, alarm.key), reverse=True)[: wanted.limit]


@contextmanager
def _open(config: SinkConfig) -> Iterator[tuple[AlarmSource, BatteryStore]]:
    if isinstance(config, DuckdbConfig):
        with open_file(config) as connection:
            yield DuckdbAlarms(connection.cursor), DuckdbStore(connection.cursor)
        return
    from swapline_gateway.battery.store_influxql import InfluxqlStore  # noqa: PLC0415

    with closing(InfluxqlAlarms(InfluxqlClient(config))) as source, closing(InfluxqlStore(config)) as store:
        yield source, store
