"""`swapline chaos`: the bench's command, plugged into the gateway's command line."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import click

from swapline_bench.chaos import HEAP_BYTES_DEFAULT, Chaos, ChaosConfig, Status, clear
from swapline_bench.chaos_report import ChaosReport, format_report
from swapline_bench.chaos_schedule import Setting, format_plan, plan


def _say(text: str) -> None:
    click.echo(text, err=True)


def _show(status: Status) -> None:
    minutes, seconds = divmod(int(status.elapsed_s), 60)
    _say(
        f"{minutes:d}:{seconds:02d}  kills {status.kills}  faults {status.faults}  "
        f"nodes {status.nodes_up}/{status.nodes}  swaps {status.swaps}  in spools {status.frames_waiting}"
    )


@click.command()
@click.option("--seed", default=1, show_default=True, help="Of the schedule and of the world.")
@click.option("--duration", default=120.0, show_default=True, type=click.FloatRange(20), help="Seconds of chaos.")
@click.option("--vans", default=3, show_default=True, type=click.IntRange(0, 50))
@click.option("--stations", default=1, show_default=True, type=click.IntRange(1, 20))
@click.option("--gateways", default=2, show_default=True, type=click.IntRange(1, 5), help="Replicas; DuckDB has one.")
@click.option("--database", default="influxdb1", show_default=True, type=click.Choice(["influxdb1", "duckdb"]))
@click.option("--kills-per-min", default=18.0, show_default=True, type=click.FloatRange(0, 60))
@click.option("--faults-per-min", default=8.0, show_default=True, type=click.FloatRange(0, 60))
@click.option(
    "--heap",
    "heap_kib",
    default=HEAP_BYTES_DEFAULT >> 10,
    show_default=True,
    type=click.IntRange(200),
    help="KiB of each node.",
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="A new folder, kept.  [default: temporary]"
)
@click.option("--keep", is_flag=True, help="Keep the temporary folder of a good run, too.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the schedule and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def chaos(
    *,
    seed: int,
    duration: float,
    vans: int,
    stations: int,
    gateways: int,
    database: str,
    kills_per_min: float,
    faults_per_min: float,
    heap_kib: int,
    data_dir: Path | None,
    keep: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Kill and disturb the whole stack by a seeded schedule, then compare the database with what really happened.

    Exit code 0 means: nothing undeclared is lost, nothing is there twice, altered, or credited to another owner or
    time, although things were killed.
    """
    setting = Setting(
        seed=seed,
        duration_s=duration,
        vans=vans,
        stations=stations,
        gateways=1 if database == "duckdb" else gateways,
        has_database=database != "duckdb",
        kills_per_min=kills_per_min,
        faults_per_min=faults_per_min,
    )
    if only_plan:
        actions = plan(setting)
        click.echo(json.dumps([action.as_json() for action in actions]) if as_json else format_plan(actions))
        return
    if data_dir is not None and data_dir.exists() and any(data_dir.iterdir()):
        raise click.BadParameter(f"{data_dir} is not empty.", param_hint="--data-dir")
    folder = (data_dir or Path(tempfile.mkdtemp(prefix="swapline-chaos-"))).resolve()
    report = asyncio.run(_run(ChaosConfig(setting, database, folder, heap_kib * 1024)))
    _say(format_report(report))
    if as_json:
        click.echo(json.dumps(report.as_json()))
    if report.is_good and data_dir is None and not keep:
        clear(folder)
    sys.exit(0 if report.is_good else 1)


async def _run(config: ChaosConfig) -> ChaosReport:
    _say(f"data: {config.data_dir}")
    return await Chaos(config, on_step=_say, on_status=_show).run()
