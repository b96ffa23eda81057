"""`swapline alarms`: which alarms there are and were, and `swapline alarms acknowledge`: somebody has seen one.

Listing asks the running gateway where its pages have a port, else the database itself. Acknowledging needs the gateway,
for every other gateway and screen is to learn of it at once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from swapline_gateway import config as configuration
from swapline_gateway.access import FileInUseError, NoGatewayError, RefusedError, ask_gateway, gateway_url
from swapline_gateway.config import GatewayConfig
from swapline_gateway.error import ConfigurationError, SinkBusyError, UnavailableError
from swapline_gateway.spool import now_utc_ms

from .listing import MOMENT, split_holder, table, when, with_config

DAYS = 7
LIMIT = 100
Found = dict[str, Any]  # an alarm, as `/api/alarms` describes it


@click.group(invoke_without_command=True)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The gateway's TOML file.")
@click.option("--standing", is_flag=True, help="Only those that have not ended.")
@click.option("--since", type=MOMENT, help=f"That stood since then, as 2026-11-22T17:30 or 36h.  [default: {DAYS}d]")
@click.option("--fleet", help="Only this fleet.")
@click.option("--node", help="Only this node.")
@click.option("--module", help="Only this module.")
@click.option("--limit", default=LIMIT, show_default=True, type=click.IntRange(1, 10_000), help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def alarms(
    context: click.Context,
    *,
    config_path: Path | None,
    standing: bool,
    since: int | None,
    fleet: str | None,
    node: str | None,
    module: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List alarms, the newest first: raised, how high, cleared, and who has seen them."""
    if context.invoked_subcommand is not None:
        return
    if config_path is None:
        raise click.UsageError("Missing option '--config'.")
    if since is None and not standing:
        since = now_utc_ms() - DAYS * 86_400_000
    question = {"standing": 1 if standing else None, "since": since, "fleet": fleet, "node": node, "module": module}
    found, problem = _ask(configuration.load(config_path), {**question, "limit": limit})
    if problem:
        click.echo(f"swapline: {problem}", err=True)
    for line in [json.dumps(one) for one in found] if as_json else alarm_table(found):
        click.echo(line)


@alarms.command()
@click.argument("holder", metavar="FLEET/NODE")
@click.argument("bay", type=click.IntRange(0, 255))
@click.argument("code", type=click.IntRange(0, 65535))
@with_config
@click.option("--by", required=True, help="Who has seen it: a name that others know.")
@click.option("--note", default="", help="What you know of it, or what is done about it.")
@click.option("--raised", type=MOMENT, help="When it was raised.  [default: the one that stands]")
@click.option("--json", "as_json", is_flag=True, help="The acknowledgement as one JSON object.")
def acknowledge(
    holder: str, bay: int, code: int, *, config_path: Path, by: str, note: str, raised: int | None, as_json: bool
) -> None:
    """Say that you have seen an alarm: of FLEET/NODE, in BAY (0: the holder's own), with CODE. Twice is harmless."""
    fleet, node = split_holder(holder)
    config = configuration.load(config_path)
    if config.http is None or not config.http.port:
        raise ConfigurationError("Acknowledging needs the running gateway, and that needs [http] with a port.")
    statement = {"fleet": fleet, "node": node, "bay": bay, "code": code, "by": by, "note": note}
    statement["raised_utc_ms"] = _raised(config, raised, fleet=fleet, node=node, bay=bay, code=code)
    answer = ask_gateway(gateway_url(config), "api/alarms/acknowledge", statement, method="POST")
    if answer.get("problem"):
        click.echo(f"swapline: {answer['problem']}.", err=True)
    said = answer["acknowledgement"]
    if as_json:
        click.echo(json.dumps(said))
        return
    whose = "" if (said["by"], said["note"]) == (by.strip(), note.strip()) else ", before you"
    click.echo(f"acknowledged by {said['by']} at {when(said['time_utc_ms'])}{whose}")


def _raised(config: GatewayConfig, about_ms: int | None, *, fleet: str, node: str, bay: int, code: int) -> int:
    """Return when the alarm that stands, or stood about then, was raised. Raises `RefusedError` if there is none."""
    question = {"standing": 1 if about_ms is None else None, "since": about_ms, "fleet": fleet, "node": node}
    found = ask_gateway(gateway_url(config), "api/alarms", {**question, "limit": 10_000})
    times = [one["raised_utc_ms"] for one in found["alarms"] if (one["bay"], one["code"]) == (bay, code)]
    if about_ms is not None:
        times = [time_ms for time_ms in times if time_ms < about_ms + 1000]  # people write whole seconds
        if not times:
            raise RefusedError(f"No alarm {code} of {fleet}/{node}, bay {bay}, stood at {when(about_ms)} UTC.")
    if not times:
        raise RefusedError(
            f"No alarm {code} of {fleet}/{node}, bay {bay}, stands; one that has ended needs --raised with its time."
        )
    return int(max(times))


def _ask(config: GatewayConfig, question: dict[str, Any]) -> tuple[list[Found], str]:
    """Return the alarms and what is wrong, if anything. The gateway knows best, for it also hears what comes."""
    if config.http is not None and config.http.port:
        try:
            answer = ask_gateway(gateway_url(config), "api/alarms", question)
            return answer["alarms"], answer["problem"] or ""
        except NoGatewayError:
            pass  # it does not run: the database is free
    from swapline_gateway.alarm.access import read_past  # noqa: PLC0415 (loads the database's library)
    from swapline_gateway.alarm.watch import Wanted  # noqa: PLC0415

    wanted = Wanted(
        is_standing_only=bool(question["standing"]),
        since_utc_ms=question["since"],
        **{name: question[name] for name in ("fleet", "node", "module", "limit")},
    )
    try:
        return [alarm.as_json() for alarm in read_past(config, wanted)], ""
    except FileInUseError:
        gateway_url(config)  # where there is no port to ask it by, that is what to mend
        raise
    except SinkBusyError as error:
        raise UnavailableError(f"{error}.") from error


def alarm_table(found: Sequence[Found]) -> list[str]:
    """Return the lines that people read."""
    if not found:
        return ["No alarms."]
    head = ("raised (UTC)", "cleared", "node", "bay", "code", "module", "seen by", "alarm")
    rows = [
        (
            when(one["raised_utc_ms"]),
            when(one["cleared_utc_ms"]) or "stands",
            f"{one['fleet']}/{one['node']}",
            str(one["bay"]),
            str(one["code"]),
            one["module"],
            (one["acknowledgement"] or {}).get("by", ""),
            one["text"],
        )
        for one in found
    ]
    standing = sum(one["cleared_utc_ms"] is None for one in found)
    return [*table(head, rows), f"{len(found)} alarms, {standing} of them stand."]
