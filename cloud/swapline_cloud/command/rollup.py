"""`swapline cloud rollup`: make roll-ups of rows that came late, once or for ever."""

import json
import signal
import sys
import threading
import time
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from swapline_cloud import config as configuration
from swapline_gateway.command.listing import MOMENT, when
from swapline_gateway.error import EXIT_PROBLEM, SinkError, UnavailableError
from swapline_gateway.retry import Backoff

if TYPE_CHECKING:
    from swapline_cloud.late import Done, LateRows, Work

EVERY_S = 1800  # as often as the database makes its own minutes
PROGRESS_S = 1.0


class Span(click.ParamType[float]):
    """A length of time: `90s`, `15m`, `2h`."""

    name = "span"
    _units = {"s": 1, "m": 60, "h": 3600}  # noqa: RUF012 (click's own style)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        text = str(value).strip()
        try:
            seconds = float(text[:-1]) * self._units[text[-1:]]
        except (ValueError, KeyError):
            self.fail(f"{text!r} is no length of time: write 90s, 15m or 2h", param, ctx)
        if not 1 <= seconds <= timedelta(days=1).total_seconds():
            self.fail(f"{text!r} is not between a second and a day", param, ctx)
        return seconds


def register(group: click.Group) -> None:
    """Hang the command on `swapline cloud`."""
    group.add_command(rollup)


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The cloud's TOML file.")
@click.option(
    "--since", "since_ms", type=MOMENT, help="Of rows stored since then (2h, 2026-11-22).  [default: last run]"
)
@click.option("--from", "from_ms", type=MOMENT, help="Instead: of all hours from then, late or not ...")
@click.option("--to", "to_ms", type=MOMENT, help="... up to then.  [default: now]")
@click.option("--follow", is_flag=True, help="Go on for ever.")
@click.option("--every", "every_s", type=Span(), default=f"{EVERY_S // 60}m", show_default=True, help="With --follow.")
@click.option("--dry-run", is_flag=True, help="Say which hours would be made again; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run, a line each.")
def rollup(
    config_path: Path,
    *,
    since_ms: int | None,
    from_ms: int | None,
    to_ms: int | None,
    follow: bool,
    every_s: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make roll-ups of rows that came late, which the database's own have missed: minutes and hours of single nodes.

    Without --since it goes on where the last run ended; the first one takes what was stored in the last two hours.
    Twice is harmless, stopped half way it begins again there the next time, and two may run at once. In InfluxDB 3.x it
    makes all roll-ups: there it has to run with --follow.
    """
    if from_ms is None and to_ms is not None:
        raise click.UsageError("--to goes with --from.")
    if from_ms is not None and (since_ms is not None or follow):
        raise click.UsageError("--from names all hours itself: it goes with neither --since nor --follow.")
    if follow and dry_run:
        raise click.UsageError("--follow changes things: it does not go with --dry-run.")
    from swapline_cloud.late import LateRows  # noqa: PLC0415 (loads the databases' libraries)

    with _Stop() as stop, closing(LateRows(configuration.load(config_path).database)) as late:
        runner = _Runner(late, stop, as_json=as_json)
        try:
            if from_ms is not None:
                end_ms = time.time_ns() // 1_000_000 if to_ms is None else to_ms
                runner.run(late.find_all(from_ms, end_ms), dry_run=dry_run)
            else:
                runner.run(late.find(since_ms), dry_run=dry_run)
        except SinkError as error:
            if not follow:
                raise UnavailableError(f"{error}. Running it again is safe and begins where this run began.") from error
            _say_wait(error)
        if follow:
            _follow(late, runner, stop, every_s)
        elif stop:
            click.get_current_context().exit(EXIT_PROBLEM)


class _Stop:
    """Set by SIGTERM and Ctrl-C: end after the piece that is being made."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def __enter__(self) -> Self:
        for number in self._before:
            signal.signal(number, lambda *_: self._event.set())
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is set."""
        self._event.wait(seconds)


def _follow(late: "LateRows", runner: "_Runner", stop: _Stop, every_s: float) -> None:
    backoff = Backoff(delay_s_min=5.0, delay_s_max=every_s)
    stop.wait(every_s)
    while not stop:
        try:
            runner.run(late.find())
        except SinkError as error:
            delay_s = backoff.fail()
            if backoff.is_first():
                _say_wait(error)
            stop.wait(delay_s)
        else:
            backoff.succeed()
            stop.wait(every_s)


def _say_wait(error: SinkError) -> None:
    click.echo(f"swapline: {error}; trying again", err=True)


class _Runner:
    """Does what was found, and tells how far it is."""

    def __init__(self, late: "LateRows", stop: _Stop, *, as_json: bool) -> None:
        self._late = late
        self._stop = stop
        self._as_json = as_json
        self._is_terminal = sys.stderr.isatty()
        self._told_s = 0.0

    def run(self, work: "Work", *, dry_run: bool = False) -> None:
        """Make all pieces again, then note how far that was."""
        from swapline_cloud.late import Done  # noqa: PLC0415 (loads the databases' libraries)

        if dry_run:
            self._show(work)
            return
        done = Done()
        for number, piece in enumerate(work.pieces):
            if self._stop:
                click.echo(
                    f"Stopped after {number} of {len(work.pieces)} pieces; the next run makes them again.", err=True
                )
                return
            self._tell(number, len(work.pieces), f"{piece.fleet}/{piece.node} {piece.rollup.measurement}")
            self._late.roll(piece, done)
        self._late.note(work)
        if self._is_terminal:
            click.echo("\x1b[K", err=True, nl=False)
        self._sum_up(work, done)

    def _tell(self, done: int, all_of_them: int, what: str) -> None:
        now_s = time.monotonic()
        if not self._is_terminal or now_s - self._told_s < PROGRESS_S:
            return
        self._told_s = now_s
        click.echo(f"{100 * done // all_of_them} % ({done} of {all_of_them}): {what}\x1b[K\r", err=True, nl=False)

    def _sum_up(self, work: "Work", done: "Done") -> None:
        if self._as_json:
            found = {"nodes": work.node_count, "hours_gone": work.gone, "hours_unhealed": work.unhealed_ms // 3_600_000}
            click.echo(json.dumps(found | asdict(done)))
            return
        click.echo(
            f"{done.hours} hours of {work.node_count} nodes made again: {done.points} points, {done.values} values,"
            f" {done.took_s:.1f} s."
        )
        self._warn(work)

    def _show(self, work: "Work") -> None:
        for piece in work.pieces:
            hours = f"{when(piece.start_utc_ms)} .. {when(piece.end_utc_ms)}"
            if self._as_json:
                said = {"fleet": piece.fleet, "node": piece.node, "measurement": piece.rollup.measurement}
                times = {"start_utc_ms": piece.start_utc_ms, "end_utc_ms": piece.end_utc_ms}
                click.echo(json.dumps(said | times))
            else:
                click.echo(f"{piece.fleet}/{piece.node}  {piece.rollup.measurement:<10} {hours}")
        if not self._as_json:
            click.echo(f"{work.hour_count} hours of {work.node_count} nodes would be made again.")
            self._warn(work)

    def _warn(self, work: "Work") -> None:
        from swapline_cloud.rollup import RAW_DAYS  # noqa: PLC0415

        if work.gone:
            click.echo(
                f"{work.gone} hours are {RAW_DAYS} days old: too late for the policy raw, so their roll-ups stay as"
                " they are. Rows that the database refused are in quarantine (`swapline quarantine list`).",
                err=True,
            )
        if work.unhealed_ms:
            click.echo(
                f"The last run was long ago: all roll-ups of the last day are made again, not those of the"
                f" {work.unhealed_ms // 3_600_000} hours before it; if the database was away then, see --from.",
                err=True,
            )
