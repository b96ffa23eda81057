"""How the command line reaches the books: the DuckDB file, the running gateway that has it open, or InfluxQL.

`open_answers` is for questions and always finds a way. `open_books` gives the books themselves, for what needs all of
them (a rebuild); with a DuckDB file no gateway may run then.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from swapline_gateway.config import DuckdbConfig, GatewayConfig, SinkConfig
from swapline_gateway.error import GatewayError, SinkBusyError, StorageError, UnavailableError
from swapline_gateway.sinks.base import Sink

from .answers import LIMIT, Answer, Answers, BookAnswers
from .books import Books
from .store import BatteryStore

if TYPE_CHECKING:
    from swapline_gateway.sinks.duckdb_file import DuckdbSink

HTTP_TIMEOUT_S = 60.0


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


class FileInUseError(StorageError):
    """The DuckDB file is open in another process."""


@contextmanager
def open_store(config: GatewayConfig, *, is_writing: bool = False) -> Iterator[BatteryStore]:
    """Lend the store. Raises `FileInUseError`, other `GatewayError`, and `SinkBusyError` in between."""
    if isinstance(config.sink, DuckdbConfig):
        with _open_file(config.sink, is_writing=is_writing) as store:
            yield store
        return
    from .store_influxql import InfluxqlStore  # noqa: PLC0415

    with closing(InfluxqlStore(config.sink)) as remote:
        yield remote


@contextmanager
def _open_file(config: DuckdbConfig, *, is_writing: bool) -> Iterator[BatteryStore]:
    import duckdb  # noqa: PLC0415 (takes a moment to load)

    from swapline_gateway.sinks.duckdb_schema import make_tables  # noqa: PLC0415

    from .store_duckdb import DuckdbStore  # noqa: PLC0415

    if not config.path.exists():
        raise StorageError(f"There is no database at {config.path}: check sink.path of the configuration.")
    settings: dict[str, Any] = {"memory_limit": f"{config.memory_bytes_max}B", "threads": str(config.thread_count)}
    try:
        connection = duckdb.connect(str(config.path), read_only=not is_writing, config=settings)
        if is_writing:
            make_tables(connection)
    except duckdb.Error as error:
        raise _sort_error(config.path, error) from error
    with closing(connection):
        yield DuckdbStore(connection.cursor, query_s_max=None)


def _sort_error(path: Path, error: Exception) -> GatewayError:
    text = str(error).splitlines()[0].rstrip(".")
    if "set lock" in text:
        return FileInUseError(f"{path} is open in the running gateway: stop it for as long as this takes.")
    return StorageError(f"{path} cannot be asked: {text}; the gateway mends it at its next start.")


def gateway_url(config: GatewayConfig) -> str:
    """Return the address of the running gateway's pages. Raises `StorageError` if it has none that can be known."""
    if config.http is None or not config.http.port:
        raise StorageError(
            "The database is open in the running gateway, which has no [http] with a port to ask it by: stop it, or "
            "set http.port."
        )
    host = "127.0.0.1" if config.http.host in ("0.0.0.0", "::") else config.http.host  # noqa: S104 (compared only)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.http.port}"


def ask_gateway(url: str, path: str, **fields: Any) -> Answer:
    """Return what a running gateway answers. Raises `UnavailableError`."""
    import urllib3  # noqa: PLC0415

    address = f"{url}/{path}"
    given = {name: str(value) for name, value in fields.items() if value is not None}
    try:
        response = urllib3.request("GET", address, fields=given, timeout=HTTP_TIMEOUT_S, retries=False)
        body = response.json()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise UnavailableError(
            f"The database is open in another process, and {address} does not answer: {error}."
        ) from error
    if not isinstance(body, dict) or response.status != 200:
        said = body.get("error", "") if isinstance(body, dict) else ""
        raise UnavailableError(f"{address} answers {response.status}: {said}.")
    return body


class HttpAnswers:
    """Asks a running gateway."""

    def __init__(self, url: str, *, ask: Callable[..., Answer] = ask_gateway) -> None:
        self._url = url
        self._ask = ask

    def codes(self) -> Answer:
        """See `Answers.codes`."""
        return self._ask(self._url, "api/battery/codes")

    def module(self, code: str) -> Answer:
        """See `Answers.module`."""
        return self._ask(self._url, "api/battery/module", code=code)

    def holder(self, fleet: str, node: str, at_utc_ms: int | None = None) -> Answer:
        """See `Answers.holder`."""
        return self._ask(self._url, "api/battery/holder", fleet=fleet, node=node, at=at_utc_ms)

    def contradictions(self, *, since_utc_ms: int = 0, limit: int = LIMIT) -> Answer:
        """See `Answers.contradictions`."""
        return self._ask(self._url, "api/battery/contradictions", since=since_utc_ms, limit=limit)

    def warnings(self) -> Answer:
        """See `Answers.warnings`."""
        return self._ask(self._url, "api/battery/warnings")

    def swaps(self, *, since_utc_ms: int = 0, limit: int = LIMIT, fleet: str | None = None) -> Answer:
        """See `Answers.swaps`."""
        return self._ask(self._url, "api/battery/swaps", since=since_utc_ms, limit=limit, fleet=fleet)
