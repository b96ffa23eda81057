"""`swapline cloud migrate`: rows that a gateway stored before `swapline cloud apply`, to where they belong since."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swapline_cloud import config as configuration
from swapline_cloud.config import DatabaseConfig
from swapline_cloud.rollup import FOREVER, MINUTE, RAW
from swapline_gateway.command.listing import table, when
from swapline_gateway.error import ConfigurationError, GatewayError, StoppedError

if TYPE_CHECKING:
    from swapline_cloud.migration.copier import Copier
    from swapline_cloud.migration.holding import Holding

AUTOGEN = "autogen"
PLAN_HEAD = ("measurement", "rows", "from", "to", "goes to", "too old for it")
DONE_HEAD = ("measurement", "read", "written", "left out")
_NS_PER_MS = 1_000_000


def register(group: click.Group) -> None:
    """Hang the command on `swapline cloud`."""
    group.add_command(migrate)


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The cloud's TOML file.")
@click.option(
    "--from", "source", metavar="POLICY", help=f"Where the rows are.  [default: {AUTOGEN} in 1.x, {RAW} in 2.x]"
)
@click.option("--dry-run", is_flag=True, help="Say what would be copied; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each measurement, a line each.")
def migrate(config_path: Path, *, source: str | None, dry_run: bool, as_json: bool) -> None:
    """Copy what a gateway stored before `apply` to where it would go today, and make its roll-ups.

    Events, alarms and the battery's books go to the policy `forever`, readings to `raw` as far as that keeps them;
    older ones are in the roll-ups only. Nothing is moved or deleted. Run `apply` first.

    Stopped half way, it goes on with that day the next time; twice is harmless.
    """
    config = configuration.load(config_path).database
    named, source = source, _source(config, source)
    from swapline_cloud.migration.copier import Copier  # noqa: PLC0415 (loads Arrow)

    with closing(Copier(config, source)) as copier:
        try:
            found = copier.find()
        except ConfigurationError as error:
            if named:
                raise
            click.echo(f"Nothing to bring along: {error}", err=as_json)
            return
        if dry_run:
            _show(copier, found, as_json=as_json)
            return
        copier.check_targets()
        if not any(holding.place for holding in found):
            click.echo(f"Nothing to bring along: {source} holds nothing that a gateway wrote.", err=as_json)
            return
        _run(copier, found, source, as_json=as_json)


def _source(config: DatabaseConfig, named: str | None) -> str:
    if config.version == 3:
        raise ConfigurationError("An InfluxDB 3.x has a database for each policy: there is nothing to bring along.")
    if named in (MINUTE, FOREVER):
        raise click.UsageError(f"--from {named}: that is where rows are copied to.")
    return named or (AUTOGEN if config.version == 1 else RAW)


def _show(copier: "Copier", found: Sequence["Holding"], *, as_json: bool) -> None:
    from swapline_cloud.migration.copier import STRANGER  # noqa: PLC0415 (loads Arrow)

    lines = []
    for one in found:
        first_ms, last_ms = one.span[0] // _NS_PER_MS, one.span[1] // _NS_PER_MS
        old_rows = copier.old_rows(one)
        if as_json:
            said: dict[str, Any] = {"measurement": one.name, "to": one.place, "rows": one.rows, "rows_old": old_rows}
            click.echo(json.dumps(said | {"first_utc_ms": first_ms, "last_utc_ms": last_ms}))
        old = f"{old_rows:,}" if old_rows else ""
        lines.append((one.name, f"{one.rows:,}", when(first_ms), when(last_ms), one.place or STRANGER, old))
    if not as_json:
        for line in table(PLAN_HEAD, lines):
            click.echo(line)
        rows = sum(one.rows for one in found if one.place)
        click.echo(f"{rows:,} rows would be brought along.")


def _run(copier: "Copier", found: Sequence["Holding"], source: str, *, as_json: bool) -> None:
    from swapline_cloud.backup.progress import Progress  # noqa: PLC0415
    from swapline_cloud.migration.copier import days_of  # noqa: PLC0415

    mark = copier.mark()
    days = days_of(found, mark)
    if mark.until_utc_ms:
        click.echo(f"Goes on with {when(mark.until_utc_ms)[:10]}, where a run was stopped.", err=True)
    progress = Progress(sum(one.days.get(day, 0) for one in found if one.place for day in days))
    done = 0
    try:
        for done, _ in enumerate(copier.run(found, mark, progress), 1):  # noqa: B007 (told below)
            pass
    except (GatewayError, KeyboardInterrupt) as caught:
        progress.end()
        error = caught if isinstance(caught, GatewayError) else StoppedError("Stopped.")
        raise type(error)(
            f"{error}\n{done} of {len(days)} days are done. Migrating again is safe and goes on from there."
        ) from caught
    progress.end()
    _sum_up(copier, source, progress.took_s, as_json=as_json)


def _sum_up(copier: "Copier", source: str, took_s: float, *, as_json: bool) -> None:
    tallies, done = copier.tallies, copier.done
    if as_json:
        for name, tally in tallies.items():
            said = {"measurement": name, "rows_read": tally.read, "rows_written": tally.written}
            click.echo(json.dumps(said | {"rows_left": {why: rows for why, rows in tally.left.items() if rows}}))
        return
    lines = [
        (
            name,
            f"{one.read:,}",
            f"{one.written:,}",
            "; ".join(f"{rows:,} {why}" for why, rows in one.left.items() if rows),
        )
        for name, one in tallies.items()
    ]
    for line in table(DONE_HEAD, lines):
        click.echo(line)
    written, read = (sum(getattr(one, key) for one in tallies.values()) for key in ("written", "read"))
    click.echo(f"{written:,} of {read:,} rows copied, {done.points:,} points of roll-ups made, in {took_s:.1f} s.")
    click.echo(f"They still are in {source} too: docs/retention.md says when it may go.")
