"""The secrets of one host, made at the first start and never again: certificates, passwords, tokens.

One folder for each who reads them, so that nobody sees another's (decision 0038). Folders and files belong to who ran
the command (root) and are read by a group, where one is given: a reader that was broken into cannot change them.

    authority/   ca.key, ca.crt                                   nobody but this command
    broker/      ca.crt, server.key, server.crt,                  mosquitto; `monitor` is the user of its health check
                 client.key, client.crt
    database/    admin_password, admin_token                      InfluxDB at its set-up, and `swapline cloud apply`
    gateway/     ca.crt, client.key, client.crt                   the gateway; `gateway` is its user at the broker
    grafana/     ca.crt, server.key, server.crt,                  Grafana, and `swapline cloud apply`
                 admin_password, secret_key
    node/F/N/    ca.crt, client.key, client.crt, and as DER       the node N of fleet F; its user is `F/N`
    apply/       what `swapline cloud apply` makes: the scoped users and tokens of the gateway (one writes, one
                 reads) and of Grafana; its reader may write there

What is there is never written again, so `make` may run at every start. `renew` is the only exception: it signs again
what is about to end, with the same key.
"""

import grp
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swapline_gateway.durable import put
from swapline_gateway.error import ConfigurationError, StorageError
from swapline_wire.topic import is_name

from .authority import (
    CLIENT,
    NODE_DAYS,
    PRIVATE,
    PUBLIC,
    SERVER,
    SERVER_DAYS,
    Authority,
    days_left,
    hosts_of,
    same_host,
    write_der,
)

AUTHORITY, APPLY, NODE = "authority", "apply", "node"
AUTHORITY_NAME = "swapline-authority"
PASSWORD_BYTES = 24  # 48 hexadecimal digits: InfluxDB takes 72 characters at most, and digits need no quotes anywhere
_FOLDER_MODE, _READ_FOLDER_MODE, _WRITTEN_FOLDER_MODE = 0o700, 0o750, 0o770
_READ_MODE = 0o040


class Part(NamedTuple):
    """What one reader gets. `client` is the user name of its certificate at the broker."""

    name: str
    words: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # of its server certificate; empty: it is no server
    client: str = ""


PARTS = (
    Part("broker", hosts=("localhost", "127.0.0.1", "mosquitto"), client="monitor"),
    Part("database", words=("admin_password", "admin_token")),
    Part("gateway", client="gateway"),
    Part("grafana", words=("admin_password", "secret_key"), hosts=("localhost", "127.0.0.1", "grafana")),
)


class SecretFolder:
    """See the module's header. `readers` says which group, by name or number, reads a part; else only we do."""

    def __init__(self, folder: Path, readers: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._authority = Authority(folder / AUTHORITY)
        self._readers = {part: _group(name) for part, name in (readers or {}).items()}
        known = {APPLY, *(part.name for part in PARTS)}
        if strangers := set(self._readers) - known:
            raise ConfigurationError(f"{min(strangers)!r} is none of {', '.join(sorted(known))}.")

    def make(self, hosts: Sequence[str]) -> list[Path]:
        """Make what is missing and return it. `hosts`: how people and nodes reach this host. Raises `GatewayError`."""
        made = self._make_authority()
        self._make_folder(APPLY)
        for part in PARTS:
            made += self._make_part(part, hosts)
        for name in (APPLY, *(part.name for part in PARTS)):
            self._share(name)
        return made

    def renew(self, days: float, hosts: Sequence[str]) -> list[Path]:
        """Sign again what ends within `days`, or lacks one of `hosts`; return it. Raises `GatewayError`.

        Names that the old certificate was for stay in the new one.
        """
        renewed: list[Path] = []
        for part in PARTS:
            folder = self.folder / part.name
            for use, name in _certificates(part):
                current = hosts_of(folder / f"{use}.crt") if use == SERVER else []
                added = [host for host in hosts if use == SERVER and same_host(host) not in current]
                if added or days_left(folder / f"{use}.crt") < days:
                    renewed += self._authority.sign(folder, name, use, SERVER_DAYS, [*current, *added])
        return renewed

    def make_node(self, name: str) -> Path:
        """Make the certificate of a node, named `fleet/node`, and return its folder. Raises `GatewayError`."""
        parts = name.split("/")
        if len(parts) != 2 or not all(is_name(part) for part in parts):
            raise ConfigurationError(f"{name!r} is not a fleet and a node: allowed is fleet/node, as in demo/van-001.")
        self._need_authority()
        folder = self._make_folder(f"{NODE}/{name}")
        self._authority.certify(folder, name, CLIENT, NODE_DAYS)
        self._copy_authority(folder)
        write_der(folder, CLIENT, self._authority.certificate)
        return folder

    def certificates(self) -> Iterable[tuple[Path, float]]:
        """Yield the certificates of this host, without the nodes', and for how many days they are valid."""
        yield self._authority.certificate, days_left(self._authority.certificate)
        for part in PARTS:
            for use, _ in _certificates(part):
                path = self.folder / part.name / f"{use}.crt"
                yield path, days_left(path)

    def _make_authority(self) -> list[Path]:
        if not self._authority.key.exists() and self._authority.certificate.exists():
            raise StorageError(f"{self._authority.key} is missing: put it back from its backup.")
        if not self._authority.key.exists() and any(self.folder.glob("*/ca.crt")):
            raise StorageError(
                f"{self._authority.key} is missing, but certificates of it are there: put {AUTHORITY}/ back from its "
                f"backup, or empty {self.folder} to begin anew with new certificates for every node."
            )
        self._make_folder(AUTHORITY)
        return self._authority.make(AUTHORITY_NAME)

    def _make_part(self, part: Part, hosts: Sequence[str]) -> list[Path]:
        folder = self._make_folder(part.name)
        made: list[Path] = []
        for word in part.words:
            if not (folder / word).exists():
                put(folder / word, secrets.token_hex(PASSWORD_BYTES).encode(), PRIVATE)
                made.append(folder / word)
        for use, name in _certificates(part):
            names = list(dict.fromkeys([*part.hosts, *hosts])) if use == SERVER else []
            made += self._authority.certify(folder, name, use, SERVER_DAYS, names)
        if part.hosts or part.client:
            made += self._copy_authority(folder)
        return made

    def _copy_authority(self, folder: Path) -> list[Path]:
        copy = folder / "ca.crt"
        content = self._authority.certificate.read_bytes()
        if copy.exists() and copy.read_bytes() == content:
            return []
        put(copy, content, PUBLIC)
        return [copy]

    def _need_authority(self) -> None:
        if not self._authority.certificate.exists():
            raise ConfigurationError(f"{self.folder} has no authority yet: `swapline cloud secrets` makes it.")
        if not self._authority.key.exists():
            raise StorageError(f"{self._authority.key} is missing: put it back from its backup.")

    def _make_folder(self, name: str) -> Path:
        folder = self.folder / name
        try:
            folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not folder.is_dir():
                folder.mkdir(_FOLDER_MODE)
        except OSError as error:
            raise StorageError(f"{folder} cannot be made: {error.strerror}.") from error
        return folder

    def _share(self, part: str) -> None:
        """Let a part's reader into its folder and at its files."""
        if part not in self._readers:
            return
        folder, group = self.folder / part, self._readers[part]
        is_written = part == APPLY
        try:
            for path in () if is_written else folder.iterdir():
                os.chown(path, -1, group, follow_symlinks=False)
                path.chmod(path.stat().st_mode | _READ_MODE)
            os.chown(folder, -1, group)
            folder.chmod(_WRITTEN_FOLDER_MODE if is_written else _READ_FOLDER_MODE)
        except OSError as error:
            raise StorageError(f"{folder} cannot be given to group {group}: {error.strerror}.") from error


def _certificates(part: Part) -> Iterable[tuple[str, str]]:
    if part.hosts:
        yield SERVER, part.name
    if part.client:
        yield CLIENT, part.client


def _group(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ConfigurationError(f"There is no group {name!r}: install what reads the part first.") from error
