"""How a running gateway, and the command line, reach what the alarm book is made of."""

from typing import TYPE_CHECKING, cast

from swapline_gateway.config import DuckdbConfig, SinkConfig
from swapline_gateway.sinks.base import Sink
from swapline_gateway.state import FleetState

from .watch import AlarmWatch, Uplink

if TYPE_CHECKING:
    from swapline_gateway.sinks.duckdb_file import DuckdbSink


def make_watch(config: SinkConfig, sink: Sink, state: FleetState, uplink: Uplink) -> AlarmWatch:
    """Return the alarm book of a gateway that writes to `sink`."""
    if isinstance(config, DuckdbConfig):
        from swapline_gateway.battery.store_duckdb import DuckdbStore  # noqa: PLC0415

        from .source_duckdb import DuckdbAlarms  # noqa: PLC0415

        open_cursor = cast("DuckdbSink", sink).cursor
        return AlarmWatch(state, uplink, source=DuckdbAlarms(open_cursor), store=DuckdbStore(open_cursor))
    from swapline_gateway.battery.store_influxql import InfluxqlStore  # noqa: PLC0415
    from swapline_gateway.influxql import InfluxqlClient  # noqa: PLC0415

    from .source_influxql import InfluxqlAlarms  # noqa: PLC0415

    return AlarmWatch(state, uplink, source=InfluxqlAlarms(InfluxqlClient(config)), store=InfluxqlStore(config))
