"""`swapline cloud render`: everything that `apply` would make, as files to look at, to keep, or to set up by hand."""

from pathlib import Path

import click

from swapline_cloud import config as configuration
from swapline_cloud.config import CloudConfig, DatabaseConfig
from swapline_cloud.text import ENGLISH, LANGUAGES
from swapline_gateway.error import StorageError

LIST = "FILES"  # what the last render wrote, so that the next knows whose a file is
LIKELY = CloudConfig(database=DatabaseConfig(url="http://influxdb:8086"))


def register(group: click.Group) -> None:
    """Hang the command on `swapline cloud`."""
    group.add_command(render)


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The cloud's TOML file.")
@click.option("--out", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to.")
@click.option("--lang", type=click.Choice(LANGUAGES), help="Of boards and alerts.  [default: grafana.language, or en]")
@click.option("--force", is_flag=True, help="Write though there are files in --out that render did not write.")
def render(config_path: Path | None, folder: Path, *, lang: str | None, force: bool) -> None:
    """Write every file below --out: Grafana's provisioning folder, the databases' scripts, and a README about them.

    The same configuration gives the same bytes. No secret is in the files: Grafana takes them from its environment.
    Without --config everything has its default, to be looked at.
    """
    config = LIKELY if config_path is None else configuration.load(config_path)
    files = _files(config, lang or (config.grafana.language if config.grafana else ENGLISH))
    try:
        _write(folder, files, is_forced=force)
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: cannot be written: {error.strerror}.") from error
    click.echo(f"{len(files)} files in {folder}; {folder / 'README.md'} says where each goes")


def _files(config: CloudConfig, language: str) -> dict[str, str]:
    from swapline_cloud.database.access import render_files  # noqa: PLC0415 (loads the databases' libraries)
    from swapline_cloud.grafana import provisioning, readme  # noqa: PLC0415 (loads Grafana's libraries)

    files = {**render_files(config), **provisioning.files(config, language)}
    files["README.md"] = readme.text(config, [*files, "README.md"])
    return dict(sorted(files.items()))


def _write(folder: Path, files: dict[str, str], *, is_forced: bool) -> None:
    known = _listed(folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    foreign = sorted(there - known - {LIST})
    if foreign and not is_forced:
        raise StorageError(f"{folder} has {foreign[0]}, which render did not write: take another --out, or --force.")
    for name in (there & known) - set(files):
        (folder / name).unlink()
    folder.mkdir(parents=True, exist_ok=True)
    # First what will be ours: if the power fails now, the next render knows what this one wrote.
    (folder / LIST).write_text("\n".join([*files, ""]), encoding="utf-8")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _listed(folder: Path) -> set[str]:
    try:
        return set((folder / LIST).read_text(encoding="utf-8").split("\n")) - {""}
    except FileNotFoundError:
        return set()
