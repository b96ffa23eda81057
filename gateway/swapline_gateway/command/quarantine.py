"""`swapline quarantine`: look at what was set aside; put it back after an upgrade or a repair, or give it up."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from swapline_gateway import config as configuration
from swapline_gateway.error import EXIT_PROBLEM, StorageError
from swapline_gateway.quarantine import Entry, Quarantine

_BYTES_PER_LINE = 16


def _open(config_path: Path) -> Quarantine:
    return Quarantine(configuration.load(config_path).spool.path)


def _time(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The gateway's TOML file."
)
reason_option = click.option("--reason", help="All entries of this reason.")
all_option = click.option("--all", "is_all", is_flag=True, help="All entries.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group()
def quarantine() -> None:
    """Look at what could not be read or stored, replay or delete it. A running gateway need not be stopped."""


@quarantine.command("list")
@config_option
@json_option
@click.option("--reason", help="Only entries of this reason.")
@click.option("--limit", default=100, show_default=True, help="The newest so many.")
def list_entries(config_path: Path, reason: str | None, limit: int, *, as_json: bool) -> None:
    """List entries, the newest first."""
    with _open(config_path) as opened:
        entries = opened.entries(limit=limit, reason=reason)
    for entry in entries:
        if as_json:
            click.echo(json.dumps(entry.as_json(with_data=False)))
            continue
        click.echo(
            f"{entry.id:>6}  {_time(entry.last_utc_ms)}  {entry.fleet}/{entry.node:<16} {entry.reason:<16}"
            f" {len(entry.data):>6} B  x{entry.times:<4} {entry.detail}"
        )
    if not entries and not as_json:
        click.echo("Nothing is in quarantine.")


@quarantine.command()
@config_option
@json_option
@click.argument("entry_id", type=int)
def show(config_path: Path, entry_id: int, *, as_json: bool) -> None:
    """Show one entry with its bytes."""
    with _open(config_path) as opened:
        entries = opened.entries(limit=1, ids=(entry_id,))
    if not entries:
        raise StorageError(f"There is no entry {entry_id} in quarantine.")
    if as_json:
        click.echo(json.dumps(entries[0].as_json(with_data=True)))
        return
    for name, value in entries[0].as_json(with_data=False).items():
        click.echo(f"{name:<14} {_time(value) if name in ('first_utc_ms', 'last_utc_ms') else value}")
    for line in _hex_dump(entries[0].data):
        click.echo(line)


def _hex_dump(data: bytes) -> list[str]:
    lines = []
    for start in range(0, len(data), _BYTES_PER_LINE):
        part = data[start : start + _BYTES_PER_LINE]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{3 * _BYTES_PER_LINE}} {text}")
    return lines


@quarantine.command()
@config_option
@reason_option
@all_option
@click.argument("entry_ids", type=int, nargs=-1)
@click.pass_context
def replay(
    context: click.Context, config_path: Path, reason: str | None, entry_ids: tuple[int, ...], *, is_all: bool
) -> None:
    """Put entries back on their way to the database; what still cannot be read stays, and says why."""
    _ensure_choice(reason, entry_ids, is_all=is_all)
    with _open(config_path) as opened:
        entries = opened.entries(limit=-1, reason=reason, ids=entry_ids)
        refusals = [(entry, why) for entry in reversed(entries) if (why := opened.replay(entry))]
    _report(entries, refusals)
    if refusals:
        context.exit(EXIT_PROBLEM)


@quarantine.command()
@config_option
@reason_option
@all_option
@click.argument("entry_ids", type=int, nargs=-1)
def delete(config_path: Path, reason: str | None, entry_ids: tuple[int, ...], *, is_all: bool) -> None:
    """Give entries up for ever, so that their nodes have room in quarantine again."""
    _ensure_choice(reason, entry_ids, is_all=is_all)
    with _open(config_path) as opened:
        count = opened.delete(reason=reason, ids=entry_ids)
    click.echo(f"{count} deleted.")


def _ensure_choice(reason: str | None, entry_ids: tuple[int, ...], *, is_all: bool) -> None:
    if not (reason or is_all or entry_ids):
        raise click.UsageError("Name entries by their numbers, or use --reason or --all.")


def _report(entries: list[Entry], refusals: list[tuple[Entry, str]]) -> None:
    for entry, why in refusals:
        click.echo(f"{entry.id:>6}  stays: {why}")
    click.echo(f"{len(entries) - len(refusals)} replayed, {len(refusals)} stay.")
