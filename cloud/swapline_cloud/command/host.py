"""`swapline cloud secrets` and `swapline cloud node`: what one host needs before anything on it can start."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from swapline_cloud.secret_folder import SecretFolder
from swapline_gateway.error import ConfigurationError, StorageError

WARN_DAYS = 60  # below it `secrets` says so: the alert comes at 21 days


def register(group: click.Group) -> None:
    """Hang the commands on `swapline cloud`."""
    group.add_command(make_secrets)
    group.add_command(make_node)


_folder = click.option(
    "--out", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to."
)


@click.command("secrets")
@_folder
@click.option("--host", "hosts", multiple=True, help="A name or address that this host is reached by; may be repeated.")
@click.option("--reader", "readers", multiple=True, metavar="PART=GROUP", help="Let a group read a part; else we only.")
@click.option("--renew", "renew_days", type=click.FloatRange(min=0), help="Sign again what ends within so many days.")
def make_secrets(folder: Path, hosts: tuple[str, ...], readers: tuple[str, ...], renew_days: float | None) -> None:
    """Make certificates, passwords and keys that are missing below --out; never touch what is there.

    Without --host the machine's own name is taken. With --renew, certificates that end soon or lack a --host are signed
    again with the same keys.
    """
    with _folder_of(folder):
        _make_secrets(SecretFolder(folder, dict(map(_parse_reader, readers))), hosts, renew_days)


def _make_secrets(secret_folder: SecretFolder, hosts: tuple[str, ...], renew_days: float | None) -> None:
    made = secret_folder.make(hosts or (socket.gethostname(),))
    for path in made:
        click.echo(f"made     {path}")
    renewed = [] if renew_days is None else secret_folder.renew(renew_days, hosts)
    for path in renewed:
        click.echo(f"renewed  {path}: restart what uses it")
    for path, days in secret_folder.certificates():
        if days < WARN_DAYS:
            said = f"ends     {path} in {days:.0f} days" if days > 0 else f"ended    {path} {-days:.0f} days ago"
            click.echo(f"{said}: --renew {WARN_DAYS} signs it again", err=True)
    if not made and not renewed:
        click.echo(f"complete {secret_folder.folder}")


@click.command("node")
@click.argument("name", metavar="FLEET/NODE")
@_folder
def make_node(name: str, folder: Path) -> None:
    """Make the key and certificate of a node below --out, as PEM and as DER; the same again for a node that has them.

    The node's user name at the broker is FLEET/NODE; it may write to its own topics and to no others.
    """
    with _folder_of(folder):
        made = SecretFolder(folder).make_node(name)
    click.echo(f"{made}: ca.der, client.der and client.key.der are for the node's link.tls")


@contextmanager
def _folder_of(folder: Path) -> Iterator[None]:
    """Say of a file that may not even be looked at whose it is."""
    try:
        yield
    except PermissionError as error:
        raise StorageError(f"{error.filename} is not for us to see: run this as the owner of {folder}.") from error
    except OSError as error:
        raise StorageError(f"{error.filename or folder} cannot be used: {error.strerror}.") from error


def _parse_reader(text: str) -> tuple[str, str]:
    part, _, group = text.partition("=")
    if not (part and group):
        raise ConfigurationError(f"--reader {text!r}: allowed is PART=GROUP, the group by name or number.")
    return part, group
