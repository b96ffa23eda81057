"""`swapline demo`: the bench's command, plugged into the gateway's command line."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import click

from swapline_bench.broker import KINDS
from swapline_bench.demo import Demo, DemoConfig, Status
from swapline_bench.demo_report import Report, format_report

STATUS_LINES_S = 10  # where the output is no terminal


class StatusLine:
    """One line that is rewritten on a terminal, and a line every ten seconds elsewhere. Writes to stderr."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next_s = 0.0

    def show(self, status: Status) -> None:
        """Show the present state."""
        text = format_status(status)
        if self._is_terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        elif status.elapsed_s >= self._next_s:
            self._next_s = status.elapsed_s + STATUS_LINES_S
            click.echo(text, err=True)

    def say(self, text: str) -> None:
        """Write a line of its own."""
        click.echo(("\r\x1b[K" if self._is_terminal else "") + text, err=True)


def format_status(status: Status) -> str:
    """Return the state as one line."""
    minutes, seconds = divmod(int(status.elapsed_s), 60)
    parts = [
        f"{minutes:d}:{seconds:02d}",
        f"nodes {status.nodes_online}/{status.nodes}",
        f"rows {status.rows_stored:,}",
        f"swaps {status.swaps}",
        f"waiting {status.frames_waiting}",
    ]
    if status.lost:
        parts.append(f"LOST {status.lost}")
    if status.past:
        parts.append(status.past)
    return "  ".join([*parts, *status.problems])


@click.command()
@click.option("--vans", default=3, show_default=True, type=click.IntRange(1, 50), help="Vans, of one to three modules.")
@click.option("--stations", default=1, show_default=True, type=click.IntRange(1, 20), help="Swap stations.")
@click.option("--speed", default=60.0, show_default=True, type=click.FloatRange(0.1, 600), help="Times real life.")
@click.option("--duration", type=click.FloatRange(1), help="Seconds to run.  [default: until Ctrl-C]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Journals, spool, database and world; a later run goes on with them.  [default: a new temporary folder]",
)
@click.option(
    "--broker", default="auto", show_default=True, type=click.Choice(KINDS), help="Which MQTT broker to start."
)
@click.option("--console/--no-console", default=True, show_default=True, help="Serve the web console.")
@click.option("--console-port", type=click.IntRange(0, 65535), help="Its port, 0: any.  [default: 8080 if free]")
@click.option("--seed", default=1, show_default=True, help="Of the simulated world.")
@click.option(
    "--past-days",
    type=click.IntRange(0, 60),
    help="Days that the fleet has been at work before, sent late.  [default: 14, fewer for many modules; 0: none]",
)
@click.option("--story/--no-story", default=True, show_default=True, help="Let one module fail.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def demo(
    *,
    vans: int,
    stations: int,
    speed: float,
    duration: float | None,
    data_dir: Path | None,
    broker: str,
    console: bool,
    console_port: int | None,
    seed: int,
    past_days: int | None,
    story: bool,
    as_json: bool,
) -> None:
    """Run vans and swap stations on this machine: real firmware, real broker, real database, simulated batteries.

    Exit code 0 means that every frame that was sealed is stored, on its way, or counted as lost with its reason.
    """
    folder = (data_dir or Path(tempfile.mkdtemp(prefix="swapline-demo-"))).resolve()
    config = DemoConfig(
        vans=vans,
        stations=stations,
        speed=speed,
        duration_s=duration,
        data_dir=folder,
        broker=broker,
        console=console,
        console_port=console_port,
        seed=seed,
        past_days=past_days,
        has_story=story,
    )
    line = StatusLine()
    line.say(f"data: {folder}")
    report = asyncio.run(_run(config, line))
    click.echo(("\r\x1b[K" if sys.stderr.isatty() else "") + format_report(report), err=as_json)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    sys.exit(0 if report.is_good else 1)


async def _run(config: DemoConfig, line: StatusLine) -> Report:
    return await Demo(
        config,
        on_console=lambda url: line.say(f"console: {url}   (Ctrl-C stops everything)"),
        on_status=line.show,
        on_step=line.say,
    ).run()
