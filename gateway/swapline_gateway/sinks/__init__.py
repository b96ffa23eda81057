"""Sinks: where frames end. Each takes batches whole or says who is to blame."""

from collections.abc import Callable

from swapline_gateway.books import Books
from swapline_gateway.config import DuckdbConfig, Influxdb1Config, SinkConfig

from .base import Sink


def make(config: SinkConfig, read_books: Callable[[], Books] | None = None) -> Sink:
    """Return the sink that the configuration names, not yet opened. Its libraries are only loaded here.

    `read_books` says what the sink ought to have, for one that can declare what it lost.
    """
    if isinstance(config, DuckdbConfig):
        from .duckdb_file import DuckdbSink  # noqa: PLC0415

        return DuckdbSink(config, read_books)
    if isinstance(config, Influxdb1Config):
        from .influxdb1 import Influxdb1Sink  # noqa: PLC0415

        return Influxdb1Sink(config)
    from .influxdb2 import Influxdb2Sink  # noqa: PLC0415

    return Influxdb2Sink(config)
