"""`swapline missing`: what is missing, from whom, and why. A running gateway need not be stopped."""

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from swapline_gateway import config as configuration
from swapline_gateway.config import DuckdbConfig, GatewayConfig
from swapline_gateway.error import SinkBusyError, StorageError, UnavailableError
from swapline_gateway.missing import Missing, count_missing


@click.command()
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The gateway's TOML file."
)
@click.option("--fleet", help="Only this fleet.")
@click.option("--node", help="Only this node.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def missing(config_path: Path, fleet: str | None, node: str | None, *, as_json: bool) -> None:
    """Say which frames and rows are not in the database, and why."""
    found = _ask(configuration.load(config_path), fleet, node)
    if as_json:
        for one in found:
            click.echo(json.dumps(one.as_json()))
        return
    for line in _table(found):
        click.echo(line)


def _ask(config: GatewayConfig, fleet: str | None, node: str | None) -> list[Missing]:
    if isinstance(config.sink, DuckdbConfig):
        try:
            return _ask_file(config.sink.path, fleet, node)
        except BlockingIOError:
            return _ask_gateway(config, fleet, node)
    from swapline_gateway.history_influxql import InfluxqlHistory  # noqa: PLC0415

    with closing(InfluxqlHistory(config.sink)) as history:
        try:
            return asyncio.run(history.missing(fleet=fleet, node=node))
        except SinkBusyError as error:
            raise UnavailableError(f"{error}.") from error


def _ask_file(path: Path, fleet: str | None, node: str | None) -> list[Missing]:
    """Ask the file itself. Raises `BlockingIOError` when a gateway has it open."""
    import duckdb  # noqa: PLC0415 (takes a moment to load)

    from swapline_gateway.history_duckdb import missing_statement  # noqa: PLC0415

    if not path.exists():
        raise StorageError(f"There is no database at {path}: check sink.path of the configuration.")
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            statement, parameters = missing_statement(fleet, node)
            return [Missing(*row) for row in connection.execute(statement, parameters).fetchall()]
    except duckdb.Error as error:
        if "set lock" in str(error):
            raise BlockingIOError from error
        text = str(error).splitlines()[0].rstrip(".")
        raise StorageError(f"{path} cannot be asked: {text}; the gateway mends it at its next start.") from error


def _ask_gateway(config: GatewayConfig, fleet: str | None, node: str | None) -> list[Missing]:
    import urllib3  # noqa: PLC0415

    if config.http is None or not config.http.port:
        raise StorageError(
            "The database is open in the running gateway, which has no [http] with a port to ask it by: stop it, or "
            "set http.port."
        )
    host = "127.0.0.1" if config.http.host in ("0.0.0.0", "::") else config.http.host  # noqa: S104 (compared only)
    url = f"http://{f'[{host}]' if ':' in host else host}:{config.http.port}/api/missing"
    fields = {name: value for name, value in (("fleet", fleet), ("node", node)) if value is not None}
    try:
        answer = urllib3.request("GET", url, fields=fields, timeout=30, retries=False)
        body = answer.json()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise UnavailableError(
            f"The database is open in another process, and {url} does not answer: {error}."
        ) from error
    if answer.status != 200:
        raise UnavailableError(f"{url} answers {answer.status}: {body.get('error', '')}.")
    return [Missing(**one) for one in body["missing"]]


def _time(utc_ms: int | None) -> str:
    return "?" if utc_ms is None else datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _table(found: list[Missing]) -> list[str]:
    if not found:
        return ["Nothing is missing."]
    head = ("node", "journal", "numbers", "frames", "rows", "why", "after", "before")
    rows = [
        (
            f"{one.fleet}/{one.node}",
            "" if one.journal is None else f"{one.journal:08x}",
            "" if one.first_seq is None else f"{one.first_seq}..{one.last_seq}",
            str(one.frame_count or ""),
            ("" if one.frame_count else "?") if one.row_count is None else str(one.row_count),
            one.reason.replace("_", " "),
            _time(one.after_utc_ms),
            _time(one.before_utc_ms),
        )
        for one in found
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    return [*lines, f"{count_missing(found)} frames are missing."]
