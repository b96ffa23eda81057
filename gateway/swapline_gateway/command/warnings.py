"""`swapline warnings`: modules that may fail, the likeliest first, with the reasons."""

import json
from pathlib import Path
from typing import Any

import click

from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_answers

from .listing import known_module, when, with_config


@click.command()
@with_config
@click.option("--module", "code", help="Only warnings of this module.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: `warnings`, with their evidence.")
def warnings(*, config_path: Path, code: str | None, as_json: bool) -> None:
    """List early warnings: slow signs that a module may fail, long before it alarms.

    \b
    cell_falls_behind     one cell loses charge against its string
    loses_charge          more charge goes in than comes out
    hotter_than_siblings  it gets hotter than others do at the same power
    spread_grows          its cells drift apart at rest
    sensor_stands_still   a temperature sensor stopped moving
    """  # noqa: D301 (click wants the character itself)
    with open_answers(configuration.load(config_path)) as answers:
        wanted = None if code is None else known_module(code, answers.codes()["codes"])
        found = [one for one in answers.warnings()["warnings"] if wanted in (None, one["module"])]
    click.echo(json.dumps({"warnings": found}) if as_json else format_warnings(found, wanted))


def format_warnings(found: list[dict[str, Any]], code: str | None = None) -> str:
    """Return warnings for people, of all modules or of one."""
    if not found:
        shows = "no module shows a" if code is None else f"{code} shows no"
        return f"No early warnings: {shows} slow sign of failure."
    lines = []
    for one in found:
        lines.append(f"{one['score']:.2f}  {one['module']}  {one['kind']}  since {when(one['since_utc_ms'])} UTC")
        lines.append(f"      {one['text']}")
    return "\n".join(lines)
