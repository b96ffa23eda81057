"""`swapline cloud backup`: database, spool and boards into one folder that is complete or not there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from swapline_cloud import config as configuration
from swapline_cloud.config import CloudConfig
from swapline_cloud.rollup import FOREVER, MINUTE, RAW
from swapline_gateway import config as gateway_configuration
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import GatewayError

if TYPE_CHECKING:
    from swapline_cloud.backup.folder import Unfinished

DATABASE, SPOOL, BOARDS = "database", "spool", "boards"
PARTS = (DATABASE, SPOOL, BOARDS)
POLICIES = (RAW, MINUTE, FOREVER)


def register(group: click.Group) -> None:
    """Hang the command on `swapline cloud`."""
    group.add_command(backup)


class Sources(NamedTuple):
    """What there is to copy, or where to restore to. `cloud` also names the InfluxDB, `duckdb` stands in for one."""

    cloud: CloudConfig | None
    spool: Path | None
    duckdb: DuckdbConfig | None


def find_sources(config_path: Path | None, gateway_path: Path | None, spool_path: Path | None) -> Sources:
    """Return what the options name. Raises `ConfigurationError`, and `UsageError` if they name nothing."""
    if config_path is None and gateway_path is None and spool_path is None:
        raise click.UsageError("Nothing is named: give --config, --gateway or --spool.")
    cloud = None if config_path is None else configuration.load(config_path)
    gateway = None if gateway_path is None else gateway_configuration.load(gateway_path)
    spool = spool_path if gateway is None or spool_path is not None else gateway.spool.path
    return Sources(cloud, spool, gateway.sink if gateway and isinstance(gateway.sink, DuckdbConfig) else None)


with_cloud = click.option("--config", "config_path", type=click.Path(path_type=Path), help="The cloud's TOML file.")
with_gateway = click.option(
    "--gateway", "gateway_path", type=click.Path(path_type=Path), help="The gateway's TOML file: spool, DuckDB file."
)
with_spool = click.option(
    "--spool", "spool_path", type=click.Path(path_type=Path), help="The spool, where its TOML file is not ours to read."
)


@click.command()
@with_cloud
@with_gateway
@with_spool
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where backups lie.")
@click.option("--keep", type=click.IntRange(min=1), help="Remove complete ones but the newest so many.")
@click.option("--policy", "policies", type=click.Choice(POLICIES), multiple=True, help="Only of these.  [default: all]")
def backup(
    config_path: Path | None,
    gateway_path: Path | None,
    spool_path: Path | None,
    *,
    out: Path,
    keep: int | None,
    policies: tuple[str, ...],
) -> None:
    """Copy database, spool and boards into a new folder below --out, named after the time.

    InfluxDB (of --config) and spool are copied while everything runs; a DuckDB file only while no gateway has it open.
    Whatever interrupts it, no folder is left that looks complete. If only Grafana does not answer, the backup is
    complete without its boards, and the exit code says so.
    """
    from swapline_cloud.backup import folder  # noqa: PLC0415

    sources = find_sources(config_path, gateway_path, spool_path)
    with folder.making(out) as unfinished:
        _copy_spool(sources, unfinished)
        _copy_database(sources, unfinished, policies or POLICIES)
        problem = _copy_boards(sources, unfinished)
        target = unfinished.finish()
    size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    click.echo(f"complete  {target}  {size_bytes / 1e6:,.1f} MB")
    for gone in folder.prune(out, keep) if keep else ():
        click.echo(f"removed   {gone}")
    if problem is not None:
        raise type(problem)(f"The backup is complete but for Grafana's boards: {problem}")


def _copy_spool(sources: Sources, unfinished: "Unfinished") -> None:
    """Copy the spool, first of all: see the package's header."""
    if sources.spool is None:
        return
    from swapline_cloud.backup import spool  # noqa: PLC0415

    said = unfinished.parts[SPOOL] = spool.dump(sources.spool, unfinished.folder(SPOOL))
    click.echo(f"spool     {said['frame']:,} frames, {said['quarantine']:,} in quarantine")


def _copy_database(sources: Sources, unfinished: "Unfinished", policies: Sequence[str]) -> None:
    if sources.duckdb is not None:
        from swapline_cloud.backup import duckdb_file  # noqa: PLC0415

        tables = duckdb_file.dump(sources.duckdb, unfinished.folder(DATABASE))
        unfinished.parts[DATABASE] = {"kind": "duckdb", "tables": tables}
    elif sources.cloud is not None:
        from swapline_cloud.backup import database  # noqa: PLC0415 (loads Arrow)

        config, place = sources.cloud.database, unfinished.folder(DATABASE)
        tables = []
        for table in database.dump(config, place, policies):
            tables.append(table)
            click.echo(f"database  {table['policy']}.{table['measurement']}: {table['rows']:,} rows")
            if "mixed_types" in table:
                mixed = ", ".join(table["mixed_types"])
                click.echo(f"swapline: fields of several types, kept as one of them: {mixed}", err=True)
        said = {"kind": "influxdb", "version": config.version, "database": config.database, "policies": list(policies)}
        unfinished.parts[DATABASE] = said | {"tables": tables}
    else:
        return
    rows = sum(table["rows"] for table in unfinished.parts[DATABASE]["tables"])
    click.echo(f"database  {rows:,} rows in all")


def _copy_boards(sources: Sources, unfinished: "Unfinished") -> GatewayError | None:
    """Copy the boards. A Grafana that does not answer costs its boards, not the backup of the database."""
    if sources.cloud is None:
        return None
    from swapline_cloud.backup import board  # noqa: PLC0415 (loads Grafana's libraries)

    said, problem = board.dump(sources.cloud, unfinished.folder(BOARDS))
    unfinished.parts[BOARDS] = said
    there = f", {len(said['boards'])} boards that Grafana has" if "boards" in said else ""
    click.echo(f"boards    {said['files']} files of apply{there}")
    return problem
