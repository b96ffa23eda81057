"""`swapline holder`: which modules were in a van or station."""

import json
from pathlib import Path

import click

from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_answers
from swapline_gateway.spool import now_utc_ms

from .listing import MOMENT, not_known, split_holder, table, when, with_config


@click.command()
@click.argument("holder", metavar="FLEET/NODE")
@click.option(
    "--at", "at_ms", type=MOMENT, help="When: 2026-11-22T18:10 (UTC, or with a zone), or 36h ago.  [default: now]"
)
@with_config
@click.option("--json", "as_json", is_flag=True, help="One JSON object a module.")
def holder(holder: str, at_ms: int | None, config_path: Path, *, as_json: bool) -> None:
    """Say which modules were in a holder's bays at a time, as of demo/van-001."""
    fleet, node = split_holder(holder)
    at_ms = now_utc_ms() if at_ms is None else at_ms
    with open_answers(configuration.load(config_path)) as answers:
        answer = answers.holder(fleet, node, at_ms)
    if not answer["is_known"]:
        raise not_known("holder", holder, answer["holders"])
    stays = answer["stays"]
    if as_json:
        for stay in stays:
            click.echo(json.dumps(stay))
        return
    if not stays:
        click.echo(f"No module is known to have been in {holder} at {when(at_ms)} UTC.")
        return
    head = ("bay", "module", "from (UTC)", "until", "last reading")
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
