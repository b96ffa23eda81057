"""`swapline custody`: derive who held what again, and list what does not fit together."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_answers, open_books
from swapline_gateway.battery.answers import LIMIT, LIMIT_MAX
from swapline_gateway.battery.record import KINDS
from swapline_gateway.error import EXIT_PROBLEM

from .listing import MOMENT, known_module, table, when, with_config

PROGRESS_S = 1.0


@click.group()
def custody() -> None:
    """Look after the ledger of who held which module."""


@custody.command()
@with_config
@click.option("--module", help="Only this module, and what its places say of others.")
@click.option("--check", "is_check", is_flag=True, help="Change nothing; exit with 1 if the ledger is not the same.")
@click.option("--json", "as_json", is_flag=True, help="The figures as one JSON object.")
@click.pass_context
def rebuild(context: click.Context, config_path: Path, module: str | None, *, is_check: bool, as_json: bool) -> None:
    """Derive the ledger again from the stored readings and events alone, and write what differs.

    Hours, passports and warnings are derived with it; --check compares the ledger only. Stopped half way, it may be run
    again. With a DuckDB file, stop the gateway meanwhile.
    """
    tell = _Progress()
    with open_books(configuration.load(config_path), is_writing=not is_check) as books:
        codes = books.store.modules()
        if module is not None:
            codes = [known_module(module, codes)]
        if not is_check:
            _for_each(codes, books.hours.rebuild, "hours of modules", tell)
        figures = books.custody.rebuild(tell, module=module, is_check=is_check)
        if not is_check:
            _for_each(codes, lambda code: books.passports.refresh([code]), "passports", tell)
            _for_each(codes, lambda code: books.warnings.refresh([code]), "warnings", tell)
    tell.end()
    if as_json:
        click.echo(json.dumps(figures._asdict()))
    else:
        found = f"{figures.modules} modules, {figures.stays} stays, {figures.swaps} swaps"
        verb = "differ" if is_check else "were written"
        click.echo(f"{found}, {figures.contradictions} contradictions; {figures.rows_changed} rows {verb}.")
    if is_check and figures.rows_changed:
        if not as_json:
            click.echo("`swapline custody rebuild` without --check writes them.")
        context.exit(EXIT_PROBLEM)


def _for_each(
    codes: list[str], derive: Callable[[str], object], what: str, tell: Callable[[str, int, int], None]
) -> None:
    for done, code in enumerate(codes, 1):
        derive(code)
        tell(what, done, len(codes))


@custody.command()
@with_config
@click.option(
    "--since",
    "since_ms",
    type=MOMENT,
    default="1970-01-01",
    help="Only those that began since then, as 2026-11-22 or 14d.",
)
@click.option("--kind", type=click.Choice(KINDS), metavar="KIND", help=f"Only this kind: {', '.join(KINDS)}.")
@click.option(
    "--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT, show_default=True, help="The newest so many."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def contradictions(config_path: Path, since_ms: int, kind: str | None, limit: int, *, as_json: bool) -> None:
    """List what the evidence says that cannot all be true, newest first."""
    with open_answers(configuration.load(config_path)) as answers:
        found = answers.contradictions(since_utc_ms=since_ms, limit=limit, kind=kind)["contradictions"]
    if as_json:
        for one in found:
            click.echo(json.dumps(one))
        return
    if not found:
        click.echo("Nothing contradicts.")
        return
    rows = [
        (when(one["time_utc_ms"]), when(one["until_utc_ms"], unknown="goes on"), one["kind"], one["text"])
        for one in found
    ]
    for line in table(("since (UTC)", "until", "kind", "what"), rows):
        click.echo(line)


class _Progress:
    """Tells on stderr how far long work is: on a terminal in one line, else now and then."""

    def __init__(self) -> None:
        self._told_s = 0.0
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, what: str, done: int, all_of_them: int) -> None:
        now_s = time.monotonic()
        if done < all_of_them and now_s - self._told_s < PROGRESS_S:
            return
        self._told_s = now_s
        click.echo(f"{what}: {done} of {all_of_them}", err=True, nl=not self._is_terminal)
        if self._is_terminal:
            click.echo("\x1b[K\r", err=True, nl=False)

    def end(self) -> None:
        """Leave a clean line."""
        if self._is_terminal:
            click.echo("\x1b[K", err=True, nl=False)
