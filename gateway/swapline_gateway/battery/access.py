"""How the command line reaches the books: the DuckDB file, the running gateway that has it open, or InfluxQL.

`open_answers` is for questions and always finds a way. `open_books` gives the books themselves, for what needs all of
them (a rebuild); with a DuckDB file no gateway may run then.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, cast

from swapline_gateway.access import FileInUseError, NoGatewayError, ask_gateway, gateway_url, open_file
from swapline_gateway.config import DuckdbConfig, GatewayConfig, SinkConfig
from swapline_gateway.error import SinkBusyError, UnavailableError
from swapline_gateway.sinks.base import Sink

from .answers import LIMIT, Answer, Answers, BookAnswers
from .books import Books
from .store import BatteryStore

if TYPE_CHECKING:
    from swapline_gateway.sinks.duckdb_file import DuckdbSink


def make_store(config: SinkConfig, sink: Sink) -> BatteryStore:
    """Return the store of a gateway that writes to `sink`."""
    if isinstance(config, DuckdbConfig):
        from .store_duckdb import DuckdbStore  # noqa: PLC0415

        return DuckdbStore(cast("DuckdbSink", sink).cursor)
    from .store_influxql import InfluxqlStore  # noqa: PLC0415

    return InfluxqlStore(config)


@contextmanager
def open_answers(config: GatewayConfig) -> Iterator[Answers]:
    """Lend what answers questions. Raises `GatewayError` with what to do, also for a database that stops answering."""
    try:
        try:
            with open_store(config) as store:
                yield BookAnswers(Books(store))
        except FileInUseError:
            yield HttpAnswers(gateway_url(config))
    except NoGatewayError as error:
        raise UnavailableError(f"The database is open in another process, and {error}") from error
    except SinkBusyError as error:
        raise UnavailableError(f"{error}.") from error


@contextmanager
def open_books(config: GatewayConfig, *, is_writing: bool = False) -> Iterator[Books]:
    """Lend the books. Raises `GatewayError` with what to do, also while a running gateway has the DuckDB file."""
    try:
        with open_store(config, is_writing=is_writing) as store:
            yield Books(store)
    except SinkBusyError as error:
        raise UnavailableError(f"{error}.") from error


@contextmanager
def open_store(config: GatewayConfig, *, is_writing: bool = False) -> Iterator[BatteryStore]:
    """Lend the store. Raises `FileInUseError`, other `GatewayError`, and `SinkBusyError` in between."""
    if isinstance(config.sink, DuckdbConfig):
        from .store_duckdb import DuckdbStore  # noqa: PLC0415

        with open_file(config.sink, is_writing=is_writing) as connection:
            yield DuckdbStore(connection.cursor, query_s_max=None)
        return
    from .store_influxql import InfluxqlStore  # noqa: PLC0415

    with closing(InfluxqlStore(config.sink)) as remote:
        yield remote


class HttpAnswers:
    """Asks a running gateway."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _ask(self, name: str, **fields: Any) -> Answer:
        return ask_gateway(self._url, f"api/battery/{name}", fields)

    def codes(self) -> Answer:
        """See `Answers.codes`."""
        return self._ask("codes")

    def module(
        self, code: str, *, since_utc_ms: int = 0, before_utc_ms: int | None = None, limit: int = LIMIT
    ) -> Answer:
        """See `Answers.module`."""
        return self._ask("module", code=code, since=since_utc_ms, before=before_utc_ms, limit=limit)

    def holder(self, fleet: str, node: str, at_utc_ms: int | None = None) -> Answer:
        """See `Answers.holder`."""
        return self._ask("holder", fleet=fleet, node=node, at=at_utc_ms)

    def contradictions(self, *, since_utc_ms: int = 0, limit: int = LIMIT, kind: str | None = None) -> Answer:
        """See `Answers.contradictions`."""
        return self._ask("contradictions", since=since_utc_ms, limit=limit, kind=kind)

    def warnings(self) -> Answer:
        """See `Answers.warnings`."""
        return self._ask("warnings")

    def swaps(self, *, since_utc_ms: int = 0, limit: int = LIMIT, fleet: str | None = None) -> Answer:
        """See `Answers.swaps`."""
        return self._ask("swaps", since=since_utc_ms, limit=limit, fleet=fleet)
