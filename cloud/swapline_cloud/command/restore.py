"""`swapline cloud restore`: a backup back to where it belongs, checked before anything is written."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swapline_cloud.config import CloudConfig
from swapline_gateway.command.listing import table
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import EXIT_PROBLEM, ConfigurationError, StorageError

from .backup import BOARDS, DATABASE, PARTS, SPOOL, Sources, find_sources, with_cloud, with_gateway, with_spool

if TYPE_CHECKING:
    from swapline_cloud.backup.database import Loader

HEAD = ("policy", "measurement", "in the backup", "written", "too old")


def register(group: click.Group) -> None:
    """Hang the command on `swapline cloud`."""
    group.add_command(restore)


@click.command()
@with_cloud
@with_gateway
@with_spool
@click.option("--from", "source", type=click.Path(path_type=Path, file_okay=False), required=True, help="The backup.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only this part; may be repeated.")
@click.option("--into", metavar="DATABASE", help="Another database than the configuration's: a drill beside the fleet.")
@click.option("--dry-run", is_flag=True, help="Check the backup and say what would be done; change nothing.")
@click.option("--verify", is_flag=True, help="Read the database afterwards, and compare its rows with the backup's.")
@click.option("--force", is_flag=True, help="Also into a database that has rows, and in the place of files.")
def restore(
    config_path: Path | None,
    gateway_path: Path | None,
    spool_path: Path | None,
    *,
    source: Path,
    only: tuple[str, ...],
    into: str | None,
    dry_run: bool,
    verify: bool,
    force: bool,
) -> None:
    """Write a backup back: rows into the database, spool and DuckDB file in their places, people's boards to Grafana.

    First all files are compared with their checksums. Rows that the database is told to keep no longer are counted. A
    file that is in the way is put aside, never overwritten. Stopped half way, it may be run again with --force.

    With --force, readings that are there already are written over with themselves, but roll-ups and the battery's books
    with those of the backup's time: it says how to derive them again. Exit code 1: --verify found less than the backup
    has.
    """
    from swapline_cloud.backup import folder  # noqa: PLC0415

    manifest = folder.read(source)
    there: dict[str, Any] = {name: said for name, said in manifest["parts"].items() if not only or name in only}
    if missing := sorted(set(only) - set(there)):
        raise StorageError(f"{source} has no {' and no '.join(missing)}.")
    sources = _with_database(find_sources(config_path, gateway_path, spool_path), into)
    parts = [name for name in PARTS if name in there and _is_named(name, there[name], sources, is_told=name in only)]
    size_bytes = folder.verify(source, manifest, parts)
    click.echo(f"backup of {manifest['begun_utc']}: {size_bytes / 1e6:,.1f} MB, all as it was written")
    restoring = _Restore(sources, source, there, begun=manifest["begun_utc"], is_forced=force, is_dry=dry_run)
    restoring.check(parts)
    is_whole = restoring.run(parts, verify=verify and not dry_run)
    if not is_whole:
        click.get_current_context().exit(EXIT_PROBLEM)


def _with_database(sources: Sources, into: str | None) -> Sources:
    if into is None:
        return sources
    if sources.duckdb is not None or sources.cloud is None:
        raise click.UsageError("--into goes with the InfluxDB of --config.")
    database = sources.cloud.database.model_copy(update={"database": into})
    return sources._replace(cloud=sources.cloud.model_copy(update={"database": database}))


def _is_named(part: str, said: dict[str, Any], sources: Sources, *, is_told: bool) -> bool:
    """Say whether the options name where a part goes; what they do not name is left out, and that is said."""
    option, target = {
        DATABASE: _database_target(said, sources),
        SPOOL: ("--gateway or --spool", sources.spool),
        BOARDS: ("--config with [grafana]", sources.cloud and sources.cloud.grafana),
    }[part]
    if target is None and is_told:
        raise ConfigurationError(f"Where the {part} goes is not named: {option} does.")
    if target is None:
        click.echo(f"{part} left out: {option} names where it goes", err=True)
    return target is not None


def _database_target(said: dict[str, Any], sources: Sources) -> tuple[str, object]:
    if said.get("kind") == "duckdb":
        return "--gateway of a gateway with DuckDB", sources.duckdb
    return "--config", sources.cloud


class _Restore:
    """Checks all parts, then writes them."""

    def __init__(
        self,
        sources: Sources,
        source: Path,
        there: dict[str, Any],
        *,
        begun: str,
        is_forced: bool,
        is_dry: bool,
    ) -> None:
        self._sources = sources
        self._source = source
        self._there = there
        self._begun = begun
        self._is_forced = is_forced
        self._is_dry = is_dry

    @property
    def _is_influx(self) -> bool:
        return bool(self._there[DATABASE]["kind"] == "influxdb")

    @property
    def _cloud(self) -> CloudConfig:
        assert self._sources.cloud is not None
        return self._sources.cloud

    @property
    def _duckdb(self) -> DuckdbConfig:
        assert self._sources.duckdb is not None
        return self._sources.duckdb

    @property
    def _spool(self) -> Path:
        assert self._sources.spool is not None
        return self._sources.spool

    def check(self, parts: Sequence[str]) -> None:
        """Find what is in the way before anything is written. Raises `GatewayError`."""
        files = [self._spool] if SPOOL in parts else []
        if DATABASE in parts and not self._is_influx:
            files.append(self._duckdb.path)
        in_the_way = [str(path) for path in files if path.exists()]
        if DATABASE in parts and self._is_influx:
            from swapline_cloud.backup.database import Loader  # noqa: PLC0415 (loads Arrow)

            with closing(Loader(self._cloud.database)) as loader:
                held = loader.measurements()
            if held:
                name = self._cloud.database.database
                in_the_way.append(f"the database {name}, which has rows of {held[0]} and {len(held) - 1} others")
        if in_the_way and not self._is_forced:
            raise StorageError(
                f"In the way: {'; '.join(in_the_way)}. With --force rows are written over, and files are put aside;"
                " --into writes into another database."
            )

    def run(self, parts: Sequence[str], *, verify: bool) -> bool:
        """Write the parts. Return whether all is there, as far as that was asked."""
        is_whole = True
        if DATABASE in parts:
            is_whole = self._influx(verify=verify) if self._is_influx else self._put_duckdb()
        if SPOOL in parts:
            self._put_spool()
        if BOARDS in parts:
            self._boards()
        return is_whole

    def _influx(self, *, verify: bool) -> bool:
        from swapline_cloud.backup.database import NAMES, Loader  # noqa: PLC0415

        # Raw rows first: roll-ups that the database makes meanwhile are then of all rows.
        tables = sorted(
            self._there[DATABASE]["tables"], key=lambda one: (NAMES.index(one["policy"]), one["measurement"])
        )
        name = self._cloud.database.database
        if self._is_dry:
            for one in tables:
                click.echo(f"would write {one['rows']:,} rows of {one['policy']}.{one['measurement']} into {name}")
            return True
        with closing(Loader(self._cloud.database)) as loader:
            loader.prepare()
            refused = self._load(loader, tables)
            if self._is_forced:
                click.echo(
                    "database  roll-ups and books are those of the backup now. Where the database had gone on, derive"
                    f" them again: swapline cloud rollup --from {self._begun[:10]} ..., swapline custody rebuild ..."
                )
            return not verify or self._verify(loader, tables, refused)

    def _load(self, loader: "Loader", tables: Sequence[dict[str, Any]]) -> list[int]:
        from swapline_cloud.backup.progress import Progress  # noqa: PLC0415

        progress = Progress(sum(one["rows"] for one in tables))
        refused = [loader.load(self._source / DATABASE / one["file"], one, progress) for one in tables]
        progress.end()
        rows = [
            (
                one["policy"],
                one["measurement"],
                f"{one['rows']:,}",
                f"{one['rows'] - gone:,}",
                f"{gone:,}" if gone else "",
            )
            for one, gone in zip(tables, refused, strict=True)
        ]
        for line in table(HEAD, rows):
            click.echo(line)
        written, gone = progress.rows - sum(refused), sum(refused)
        click.echo(f"database  {written:,} of {progress.rows:,} rows written in {progress.took_s:.1f} s", nl=not gone)
        if gone:
            click.echo(f"; {gone:,} are older than their policy keeps rows")
        return refused

    def _verify(self, loader: "Loader", tables: Sequence[dict[str, Any]], refused: Sequence[int]) -> bool:
        is_whole = True
        for one, gone in zip(tables, refused, strict=True):
            wanted, found = one["rows"] - gone, loader.count(one)
            if found < wanted:
                is_whole = False
                click.echo(
                    f"swapline: {one['policy']}.{one['measurement']}: {found:,} rows are there, {wanted:,} should be",
                    err=True,
                )
        if is_whole:
            click.echo("database  read back: every row is there")
        return is_whole

    def _put_duckdb(self) -> bool:
        from swapline_cloud.backup import duckdb_file  # noqa: PLC0415

        target, source = self._duckdb.path, self._source / DATABASE / duckdb_file.FILE
        tables = self._there[DATABASE]["tables"]
        wanted = {one["measurement"]: one["rows"] for one in tables}
        if self._is_dry:
            click.echo(f"would put {sum(wanted.values()):,} rows at {target}")
            return True
        aside = duckdb_file.load(source, target, is_forced=self._is_forced)
        self._say_put("database", target, aside)
        is_whole = duckdb_file.rows(target, tables) == wanted
        said = f"{sum(wanted.values()):,} rows, as in the backup" if is_whole else "not the rows that the backup names"
        click.echo(f"database  {said}")
        return is_whole

    def _put_spool(self) -> None:
        from swapline_cloud.backup import spool  # noqa: PLC0415

        target, frames = self._spool, self._there[SPOOL]["frame"]
        if self._is_dry:
            click.echo(f"would put a spool of {frames:,} frames at {target}")
            return
        aside = spool.load(self._source / SPOOL / spool.FILE, target, is_forced=self._is_forced)
        self._say_put("spool", target, aside)
        click.echo(f"spool     {frames:,} frames go to the database when the gateway starts")

    def _say_put(self, what: str, target: Path, aside: Path | None) -> None:
        click.echo(f"{what:<9} {target}" + (f"; what was there is {aside.name}" if aside else ""))

    def _boards(self) -> None:
        from swapline_cloud.backup import board  # noqa: PLC0415 (loads Grafana's libraries)

        assert self._cloud.grafana is not None
        folder = self._source / BOARDS
        for one in board.load(self._cloud.grafana, folder, is_forced=self._is_forced, is_dry=self._is_dry):
            state = f"would be {one.state}" if self._is_dry and one.state == board.RESTORED else one.state
            click.echo(f"boards    {one.title} ({one.uid}): {state}")
