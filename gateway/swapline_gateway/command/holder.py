"""`swapline holder`: which modules were in a van or station."""

import json
from pathlib import Path

import click

from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_answers
from swapline_gateway.spool import now_utc_ms

from .listing import parse_time, table, when


@click.command()
@click.argument("holder")
@click.option("--at", "at_text", metavar="TIME", help="When, as 2026-11-22T18:10 (UTC, or with a zone). Default: now.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The gateway's TOML file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a module.")
def holder(holder: str, at_text: str | None, config_path: Path, *, as_json: bool) -> None:
    """Say which modules were in a holder's bays at a time. HOLDER is FLEET/NODE, as demo/van-001."""
    fleet, slash, node = holder.partition("/")
    if not (fleet and slash and node):
        raise click.BadParameter(f"{holder!r} is no holder: write it as FLEET/NODE", param_hint="HOLDER")
    at_ms = now_utc_ms() if at_text is None else parse_time(at_text)
    with open_answers(configuration.load(config_path)) as answers:
        stays = answers.holder(fleet, node, at_ms)["stays"]
    if as_json:
        for stay in stays:
            click.echo(json.dumps(stay))
        return
    if not stays:
        click.echo(f"No module is known to have been in {holder} at {when(at_ms)}.")
        return
    head = ("bay", "module", "from", "until", "last reading")
    rows = [
        (
            stay["bay"],
            stay["module"],
            when(stay["from_utc_ms"]),
            when(stay["until_utc_ms"], unknown="still there"),
            when(stay["last_seen_utc_ms"]),
        )
        for stay in stays
    ]
    for line in table(head, rows):
        click.echo(line)
