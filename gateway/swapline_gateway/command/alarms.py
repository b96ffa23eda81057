"""`swapline alarms`: which alarms there are and were, and `swapline alarms acknowledge`: somebody has seen one.

Listing asks the running gateway where its pages have a port, else the database itself. Acknowledging needs the gateway,
for every other gateway and screen is to learn of it at once.
"""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from swapline_gateway import config as configuration
from swapline_gateway.config import GatewayConfig
from swapline_gateway.error import ConfigurationError, GatewayError, SinkBusyError, UnavailableError

DAYS = 7
LIMIT = 100
HTTP_TIMEOUT_S = 30.0
_CONFIG = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The gateway's TOML file."
)
Found = dict[str, Any]  # an alarm, as `/api/alarms` describes it


class RefusedError(GatewayError):
    """The gateway did not do what was asked; the message says why."""


class Moment(click.ParamType[int]):
    """A time in UTC: `2026-11-22`, `2026-11-22T17:30`, or so long ago: `90m`, `36h`, `14d`."""

    name = "time"
    _units = {"m": 60, "h": 3600, "d": 86400}  # noqa: RUF012 (click's own style)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in milliseconds."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            if text[-1:] in self._units:
                return round((time.time() - float(text[:-1]) * self._units[text[-1]]) * 1000)
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail("write a time of UTC like 2026-11-22T17:30, or how long ago: 90m, 36h, 14d", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


@click.group(invoke_without_command=True)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The gateway's TOML file.")
@click.option("--standing", is_flag=True, help="Only those that have not ended.")
@click.option("--since", type=Moment(), help=f"That stood since then, as 2026-11-22T17:30 or 36h.  [default: {DAYS}d]")
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
        since = round((datetime.now(UTC) - timedelta(days=DAYS)).timestamp() * 1000)
    question = {"standing": 1 if standing else None, "since": since, "fleet": fleet, "node": node, "module": module}
    found, problem = _ask(configuration.load(config_path), {**question, "limit": limit})
    if problem:
        click.echo(f"swapline: {problem}", err=True)
    for line in [json.dumps(one) for one in found] if as_json else table(found):
        click.echo(line)


@alarms.command()
@click.argument("holder", metavar="FLEET/NODE")
@click.argument("bay", type=click.IntRange(0, 255))
@click.argument("code", type=click.IntRange(0, 65535))
@_CONFIG
@click.option("--by", required=True, help="Who has seen it: a name that others know.")
@click.option("--note", default="", help="What you know of it, or what is done about it.")
@click.option("--raised", type=Moment(), help="When it was raised.  [default: the one that stands]")
@click.option("--json", "as_json", is_flag=True, help="The acknowledgement as one JSON object.")
def acknowledge(
    holder: str, bay: int, code: int, *, config_path: Path, by: str, note: str, raised: int | None, as_json: bool
) -> None:
    """Say that you have seen an alarm: of FLEET/NODE, in BAY (0: the holder's own), with CODE. Twice is harmless."""
    fleet, slash, node = holder.partition("/")
    if not (fleet and slash and node):
        raise click.BadParameter("write it as FLEET/NODE, as `swapline alarms` does", param_hint="FLEET/NODE")
    config = configuration.load(config_path)
    if config.http is None or not config.http.port:
        raise ConfigurationError("Acknowledging needs the running gateway, and that needs [http] with a port.")
    if raised is None:
        raised = _raised(config, fleet=fleet, node=node, bay=bay, code=code)
    statement = {"fleet": fleet, "node": node, "bay": bay, "code": code, "raised_utc_ms": raised, "by": by}
    answer = _http(config, "POST", "api/alarms/acknowledge", {**statement, "note": note})
    if answer.get("problem"):
        click.echo(f"swapline: {answer['problem']}.", err=True)
    said = answer["acknowledgement"]
    if as_json:
        click.echo(json.dumps(said))
        return
    whose = "" if (said["by"], said["note"]) == (by.strip(), note.strip()) else ", before you"
    click.echo(f"acknowledged by {said['by']} at {show_time(said['time_utc_ms'])}{whose}")


def _raised(config: GatewayConfig, *, fleet: str, node: str, bay: int, code: int) -> int:
    """Return when the alarm that stands was raised. Raises `RefusedError` if there is none."""
    found = _http(config, "GET", "api/alarms", {"standing": 1, "fleet": fleet, "node": node, "limit": 10_000})
    times = [one["raised_utc_ms"] for one in found["alarms"] if (one["bay"], one["code"]) == (bay, code)]
    if not times:
        raise RefusedError(
            f"No alarm {code} of {fleet}/{node}, bay {bay}, stands; one that has ended needs --raised with its time."
        )
    return int(max(times))


def _ask(config: GatewayConfig, question: dict[str, Any]) -> tuple[list[Found], str]:
    """Return the alarms and what is wrong, if anything. The gateway knows best, for it also hears what comes."""
    if config.http is not None and config.http.port:
        try:
            answer = _http(config, "GET", "api/alarms", question)
            return answer["alarms"], answer["problem"] or ""
        except UnavailableError:
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
    except SinkBusyError as error:
        raise UnavailableError(f"{error}.") from error


def _http(config: GatewayConfig, method: str, path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Ask the running gateway. Raises `UnavailableError` if there is none, `RefusedError` with what it says."""
    import urllib3  # noqa: PLC0415

    from swapline_gateway.battery.access import gateway_url  # noqa: PLC0415

    url = f"{gateway_url(config)}/{path}"
    given = {name: value for name, value in fields.items() if value is not None}
    options: dict[str, Any] = {"json": given} if method == "POST" else {"fields": {k: str(v) for k, v in given.items()}}
    try:
        response = urllib3.request(method, url, timeout=HTTP_TIMEOUT_S, retries=False, **options)
        body = response.json()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise UnavailableError(f"{url} does not answer: {error}. Is the gateway running?") from error
    if not isinstance(body, dict) or response.status not in (200, 202):
        said = body.get("error", "") if isinstance(body, dict) else ""
        raise RefusedError(f"{said[:1].upper()}{said[1:] or f'{url} answers {response.status}'}.")
    return body


def show_time(utc_ms: int | None) -> str:
    """Return a time for people."""
    return "" if utc_ms is None else datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def table(found: Sequence[Found]) -> list[str]:
    """Return the lines that people read."""
    if not found:
        return ["No alarms."]
    head = ("raised (UTC)", "cleared", "node", "bay", "code", "module", "seen by", "alarm")
    rows = [
        (
            show_time(one["raised_utc_ms"]),
            show_time(one["cleared_utc_ms"]) or "stands",
            f"{one['fleet']}/{one['node']}",
            str(one["bay"]),
            str(one["code"]),
            one["module"],
            (one["acknowledgement"] or {}).get("by", ""),
            one["text"],
        )
        for one in found
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    standing = sum(one["cleared_utc_ms"] is None for one in found)
    return [*(line.rstrip() for line in lines), f"{len(found)} alarms, {standing} of them stand."]
