"""`swapline cloud apply`: compare the servers with what they should be, and make them so, one thing after the other."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from swapline_cloud import config as configuration
from swapline_cloud.config import CloudConfig
from swapline_cloud.database.secret import ROLES
from swapline_cloud.plan import CREATE, Change, LostSecretError, Part
from swapline_cloud.text import LANGUAGES
from swapline_gateway.error import EXIT_PROBLEM, ConfigurationError, GatewayError, StoppedError

DATABASE, GRAFANA = "database", "grafana"
PLANNED, DONE, WAITS, FAILED, NOT_DONE = "planned", "done", "waits", "failed", "not done"


@dataclass(frozen=True, slots=True)
class Step:
    """A change and whose it is."""

    part: str
    change: Change

    def __str__(self) -> str:
        return f"{self.change.action} {self.change.kind} {self.change.name}"

    def as_json(self, state: str, problem: str = "") -> str:
        """Return the step as one line of JSON."""
        change = self.change
        said: dict[str, Any] = {"part": self.part, "action": change.action, "kind": change.kind, "name": change.name}
        said |= {"state": state, "diff": change.diff}
        return json.dumps(said | ({"problem": problem} if problem else {}), ensure_ascii=False)


def register(group: click.Group) -> None:
    """Hang the command on `swapline cloud`."""
    group.add_command(apply)


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The cloud's TOML file.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, with diffs of what changes; change nothing.")
@click.option("--check", is_flag=True, help="As --dry-run, and exit with 1 if anything would be done.")
@click.option("--lang", type=click.Choice(LANGUAGES), help="Of boards and alerts.  [default: grafana.language]")
@click.option("--only", type=click.Choice((DATABASE, GRAFANA)), help="Leave the other one alone.")
@click.option("--rotate", type=click.Choice(ROLES), help="First make a new password or token for this one.")
@click.option("--verbose", is_flag=True, help="Show the whole text of what is new, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each change, a line each.")
def apply(
    config_path: Path,
    *,
    dry_run: bool,
    check: bool,
    lang: str | None,
    only: str | None,
    rotate: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Make InfluxDB and Grafana as they should be. Twice is harmless: the second time there is nothing to do.

    Databases, policies, roll-ups, users and tokens; data source, boards, alert rules, contact points and teams. What
    swapline did not make stays as it is. An edit of what it made is shown and put right.

    Stopped half way, it goes on from there the next time. Exit codes beside the common ones: 1 with --check if
    something is not as it should be.
    """
    is_look = dry_run or check
    if rotate and is_look:
        raise click.UsageError("--rotate changes a password: it goes with neither --dry-run nor --check.")
    config = configuration.load(config_path)
    with ExitStack() as open_parts:
        parts = [open_parts.enter_context(closing(part)) for part in _parts(config, lang, only)]
        steps = list(_plan(parts, lost=rotate))
        if rotate:  # now that all servers have answered: between the new secret and its use nobody can read
            _rotate(config, rotate)
            steps = list(_plan(parts))
        for warning in (warning for part in parts for warning in part.warnings()):
            click.echo(f"swapline: {warning}", err=True)
        if is_look:
            _show(steps, verbose=verbose, as_json=as_json)
        else:
            _run(steps, as_json=as_json)
    if check and steps:
        click.get_current_context().exit(EXIT_PROBLEM)


def _rotate(config: CloudConfig, role: str) -> None:
    from swapline_cloud.database.access import rotate  # noqa: PLC0415 (loads the databases' libraries)

    file = rotate(config, role)
    click.echo(f"{file} has a new secret: start what uses it again", err=True)


def _plan(parts: Sequence[Part], *, lost: str | None = None) -> Iterator[Step]:
    """Yield what is to be done. `lost`: whose secret may be missing, for it is about to be made."""
    for part in parts:
        try:
            for change in part.changes():
                yield Step(part.name, change)
        except LostSecretError as error:
            if error.role != lost:
                raise


def _parts(config: CloudConfig, language: str | None, only: str | None) -> Iterator[Part]:
    if only != GRAFANA:
        from swapline_cloud.database.access import make_part  # noqa: PLC0415 (loads the databases' libraries)

        yield make_part(config)
    if only == GRAFANA and config.grafana is None:
        raise ConfigurationError("[grafana] is missing: there is no Grafana to apply anything to.")
    if only != DATABASE and config.grafana is not None:
        from swapline_cloud.grafana.part import GrafanaPart  # noqa: PLC0415 (loads Grafana's libraries)

        yield GrafanaPart(config, config.grafana, language or config.grafana.language)


def _show(steps: Sequence[Step], *, verbose: bool, as_json: bool) -> None:
    for step in steps:
        if as_json:
            click.echo(step.as_json(WAITS if step.change.waits else PLANNED, step.change.waits))
            continue
        click.echo(click.style(str(step), bold=True))
        for line in _lines(step.change, verbose=verbose):
            click.echo(f"    {click.style(line, fg=_color(line))}")
    if not as_json:
        click.echo(_count(steps))


def _count(steps: Sequence[Step]) -> str:
    if not steps:
        return "Nothing to do: all is as it should be."
    return "1 change to make." if len(steps) == 1 else f"{len(steps)} changes to make."


def _lines(change: Change, *, verbose: bool) -> list[str]:
    """Return a diff's lines; of what is new only with `verbose`, for a first time has thousands, and without heads."""
    lines = change.diff.splitlines() + ([f"! waits: {change.waits}"] if change.waits else [])
    if change.action != CREATE:
        return lines
    heads = ("---", "+++", "@@")
    return [line for line in lines if not line.startswith(heads)] if verbose else []


def _color(line: str) -> str | None:
    return {"+": "green", "-": "red", "!": "yellow"}.get(line[:1])


def _run(steps: Sequence[Step], *, as_json: bool) -> None:
    """Do one thing after the other. At the first that fails, or at Ctrl-C, say what was done and what was not."""
    if not steps and not as_json:
        click.echo("Nothing to do: all is as it should be.")
    done = 0
    try:
        for done, step in enumerate(steps):
            waits = step.change.waits
            if not waits:
                step.change.do()
            said = f"[{done + 1}/{len(steps)}] {step}" + (f" waits: {waits}" if waits else "")
            click.echo(step.as_json(WAITS if waits else DONE, waits) if as_json else said)
    except (GatewayError, KeyboardInterrupt) as caught:
        error = caught if isinstance(caught, GatewayError) else StoppedError("Stopped.")
        if as_json:
            click.echo(steps[done].as_json(FAILED, str(error)))
            for later in steps[done + 1 :]:
                click.echo(later.as_json(NOT_DONE))
        raise type(error)(_explain(steps, done, error)) from caught


def _explain(steps: Sequence[Step], done: int, error: GatewayError) -> str:
    left = len(steps) - done - 1
    rest = f", nor the {left} changes after it (the next: {steps[done + 1]})" if left else ""
    return (
        f"{error}\n{done} of {len(steps)} changes are done. Not done: {steps[done]}{rest}."
        " Applying again is safe and goes on from there."
    )
