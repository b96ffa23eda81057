"""How the command line reaches what the gateway stores: the DuckDB file, or the running gateway that has it open."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import DuckdbConfig, GatewayConfig
from .error import GatewayError, StorageError, UnavailableError

if TYPE_CHECKING:
    import duckdb

HTTP_TIMEOUT_S = 60.0


class FileInUseError(StorageError):
    """The DuckDB file is open in another process."""


class NoGatewayError(UnavailableError):
    """Nobody answers where the running gateway should."""


class RefusedError(GatewayError):
    """The gateway did not do what was asked; the message says why."""


@contextmanager
def open_file(config: DuckdbConfig, *, is_writing: bool = False) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Lend a connection to the file. Raises `FileInUseError`, and `StorageError` for one that cannot be opened."""
    import duckdb  # noqa: PLC0415 (takes a moment to load)

    from .sinks.duckdb_schema import make_tables  # noqa: PLC0415

    if not config.path.exists():
        raise StorageError(f"There is no database at {config.path}: check sink.path of the configuration.")
    settings: dict[str, Any] = {"memory_limit": f"{config.memory_bytes_max}B", "threads": str(config.thread_count)}
    try:
        connection = duckdb.connect(str(config.path), read_only=not is_writing, config=settings)
    except duckdb.Error as error:
        raise _sort_error(config.path, error) from error
    with closing(connection):
        try:
            if is_writing:
                make_tables(connection)
        except duckdb.Error as error:
            raise _sort_error(config.path, error) from error
        yield connection


def _sort_error(path: Path, error: Exception) -> GatewayError:
    if "set lock" in str(error):
        return FileInUseError(
            f"{path} is open in another process, perhaps the running gateway: stop it for as long as this takes."
        )
    return unreadable(path, error)


def unreadable(path: Path, error: Exception) -> StorageError:
    """Return what is wrong with a file that DuckDB cannot read."""
    text = str(error).splitlines()[0].rstrip(".")
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


def ask_gateway(url: str, path: str, fields: Mapping[str, Any], *, method: str = "GET") -> dict[str, Any]:
    """Return what the running gateway answers; fields that are None are left out.

    Raises `NoGatewayError` if nobody does, `UnavailableError` if it cannot now, `RefusedError` if it does not want to.
    """
    import urllib3  # noqa: PLC0415

    address = f"{url}/{path}"
    given = {name: value for name, value in fields.items() if value is not None}
    options: dict[str, Any] = {"json": given} if method == "POST" else {"fields": {k: str(v) for k, v in given.items()}}
    try:
        response = urllib3.request(method, address, timeout=HTTP_TIMEOUT_S, retries=False, **options)
        body = response.json()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise NoGatewayError(f"{address} does not answer: {error}. Is the gateway running?") from error
    if isinstance(body, dict) and response.status in (200, 202):
        return body
    said = str(body.get("error", "")) if isinstance(body, dict) else ""
    problem = f"{said[:1].upper()}{said[1:] or f'{address} answers {response.status}'}."
    raise UnavailableError(problem) if response.status >= 500 else RefusedError(problem)
