"""`swapline missing`: what is missing, from whom, and why. A running gateway need not be stopped."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import click

from swapline_gateway import config as configuration
from swapline_gateway.access import FileInUseError, ask_gateway, gateway_url, open_file, unreadable
from swapline_gateway.config import DuckdbConfig, GatewayConfig
from swapline_gateway.error import SinkBusyError, UnavailableError
from swapline_gateway.missing import Missing, count_missing

from .listing import table, when, with_config


@click.command()
@with_config
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
            return _ask_file(config.sink, fleet, node)
        except FileInUseError:
            answer = ask_gateway(gateway_url(config), "api/missing", {"fleet": fleet, "node": node})
            return [Missing(**one) for one in answer["missing"]]
    from swapline_gateway.history_influxql import InfluxqlHistory  # noqa: PLC0415

    with closing(InfluxqlHistory(config.sink)) as history:
        try:
            return asyncio.run(history.missing(fleet=fleet, node=node))
        except SinkBusyError as error:
            raise UnavailableError(f"{error}.") from error


def _ask_file(sink: DuckdbConfig, fleet: str | None, node: str | None) -> list[Missing]:
    """Ask the file itself. Raises `FileInUseError` when a gateway has it open."""
    import duckdb  # noqa: PLC0415 (takes a moment to load)

    from swapline_gateway.history_duckdb import missing_statement  # noqa: PLC0415

    with open_file(sink) as connection:
        try:
            return [Missing(*row) for row in connection.execute(*missing_statement(fleet, node)).fetchall()]
        except duckdb.Error as error:
            raise unreadable(sink.path, error) from error


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
            when(one.after_utc_ms, unknown="?"),
            when(one.before_utc_ms, unknown="?"),
        )
        for one in found
    ]
    return [*table(head, rows), f"{count_missing(found)} frames are missing."]
