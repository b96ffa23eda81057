"""`swapline export`: rows of any days as Parquet files."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swapline_cloud import config as cloud_configuration
from swapline_cloud.rollup import rolled_streams
from swapline_gateway import config as configuration
from swapline_gateway.config import DuckdbConfig, Influxdb1Config, Influxdb2Config
from swapline_wire.catalogue import STREAM_NAMES, Stream, stream_by_name

if TYPE_CHECKING:
    from swapline_cloud.export.writing import Written

DAY = click.DateTime(["%Y-%m-%d"])


def _streams(_context: click.Context, _option: click.Parameter, said: str | None) -> list[Stream]:
    names = [name.strip() for name in said.split(",")] if said else list(STREAM_NAMES)
    found = [stream_by_name(name) for name in names]
    unknown = [name for name, stream in zip(names, found, strict=True) if stream is None]
    if unknown:
        raise click.BadParameter(f"no stream {unknown[0]!r}; there are {', '.join(STREAM_NAMES)}")
    return [stream for stream in found if stream is not None]


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The gateway's TOML file ...")
@click.option("--cloud", "cloud_path", type=click.Path(path_type=Path), help="... or the cloud's ...")
@click.option("--url", help="... or an InfluxDB 1.x without passwords, as `swapline cloud` sets it up ...")
@click.option("--file", "file_path", type=click.Path(path_type=Path), help="... or a DuckDB file, a backup's as well.")
@click.option("--from", "first", type=DAY, required=True, help="The first day (UTC).")
@click.option("--to", "end", type=DAY, help="The day after the last.  [default: tomorrow]")
@click.option("--stream", "streams", callback=_streams, help="Names, commas between.  [default: all]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to.")
@click.option("--fleet", help="Only of this fleet.")
@click.option("--node", help="Only of this van or station.")
@click.option("--module", help="Only of this module.")
@click.option("--rollup", type=click.Choice(("minute", "hour")), help="Roll-ups instead of rows as they came.")
@click.option("--again", is_flag=True, help="Also days whose files are there.")
def export(
    config_path: Path | None,
    cloud_path: Path | None,
    url: str | None,
    file_path: Path | None,
    *,
    first: datetime,
    end: datetime | None,
    streams: list[Stream],
    out: Path,
    fleet: str | None,
    node: str | None,
    module: str | None,
    rollup: str | None,
    again: bool,
) -> None:
    """Write rows as Parquet for analysts: one file a stream and day (of UTC), sorted by node and time.

    A day that was over when its file was written is not written again, except with --again: a node that had no link for
    long sends its rows later. A DuckDB file cannot be read while the gateway has it open.
    """
    from swapline_cloud.backup.progress import Progress  # noqa: PLC0415 (the next ones load Arrow)
    from swapline_cloud.export import source, table, writing  # noqa: PLC0415

    last = end or datetime.now(UTC) + timedelta(days=1)
    if last.date() <= first.date():
        raise click.UsageError("--to is the day after the last, so it is later than --from.")
    config = _find(config_path, cloud_path, url, file_path)
    if rollup and isinstance(config, DuckdbConfig):
        raise click.UsageError("A DuckDB file has no roll-ups: it keeps all rows as they came.")
    if rollup:
        streams = [stream for stream in streams if stream in rolled_streams()]
    selection = table.Selection(fleet, node, module, rollup)
    progress = Progress()
    with closing(source.make(config)) as opened:
        exporting = writing.Export(opened, out, selection, progress, is_again=again)
        for written in exporting.run(table.days(streams, first.date(), last.date())):
            _say(written)
    progress.end()
    rate = progress.rows / max(progress.took_s, 1e-9)
    click.echo(
        f"{progress.rows:,} rows  {progress.size_bytes / 1e6:,.1f} MB  {progress.took_s:.1f} s  {rate:,.0f} rows/s"
    )


def _find(
    config_path: Path | None, cloud_path: Path | None, url: str | None, file_path: Path | None
) -> DuckdbConfig | Influxdb1Config | Influxdb2Config:
    """Return the one database that the options name. Raises `ConfigurationError` and `UsageError`."""
    if sum(one is not None for one in (config_path, cloud_path, url, file_path)) != 1:
        raise click.UsageError("One of --config, --cloud, --url and --file says where the rows are.")
    if config_path is not None:
        return configuration.load(config_path).sink
    if file_path is not None:
        return DuckdbConfig(path=file_path)
    from swapline_cloud.database.rows import asking_forever  # noqa: PLC0415

    if cloud_path is not None:
        return asking_forever(cloud_configuration.load(cloud_path).database)
    raw = {"database": {"version": 1, "url": url}}
    return asking_forever(cloud_configuration.parse(raw, source="--url", folder=Path()).database)


def _say(written: "Written") -> None:
    if written.rows is None:
        click.echo(f"{written.path}: is there")
    elif written.rows:
        click.echo(f"{written.path}: {written.rows:,} rows, {written.size_bytes / 1e6:,.1f} MB")
