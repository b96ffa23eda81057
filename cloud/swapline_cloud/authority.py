"""A certificate authority of one's own, for the broker, Grafana, the gateways and every node.

It is a folder with a key and a certificate, and OpenSSL's program works with them: Debian has it wherever it has TLS,
Python's own `ssl` cannot sign. Keys are EC P-256, which an ESP32 manages. What is signed again keeps its key, so that a
renewal replaces one file, at once.
"""

import ipaddress
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from swapline_gateway.durable import put
from swapline_gateway.error import ConfigurationError, StorageError

# A van's computer gets its certificate at the desk and keeps it for the van's life; the authority outlives every node.
AUTHORITY_DAYS = 7300
NODE_DAYS = 3650
SERVER_DAYS = 730  # of what stands on the host itself and is renewed there
SERVER, CLIENT = "server", "client"
PRIVATE, PUBLIC = 0o600, 0o644
_NAME_CHARACTERS_MAX = 64  # of a common name, by X.520
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")
_HOST = re.compile(r"[A-Za-z0-9.-]+")
_TIMEOUT_S = 60
_CONFIG = """
[req]
prompt = no
distinguished_name = subject
string_mask = utf8only
[subject]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
{hosts}
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Authority:
    """The key and the certificate that sign all others. Whoever has the key can pretend to be any node."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "ca.key"
        self.certificate = folder / "ca.crt"

    def make(self, name: str) -> list[Path]:
        """Make what is missing; return the new files. Raises `StorageError`."""
        made = _make_key(self.key)
        if not self.certificate.exists():
            extra = ("-x509", "-days", str(AUTHORITY_DAYS), "-extensions", "authority")
            _sign(self.key, self.certificate, _CONFIG.format(name=_checked(name), hosts=""), extra)
            made.append(self.certificate)
        return made

    def certify(self, folder: Path, name: str, use: str, days: int, hosts: Sequence[str] = ()) -> list[Path]:
        """Make `<use>.key` and `<use>.crt` in `folder` where they are missing; return the new files.

        `name` is the common name: what the broker takes for the user's name. `hosts` are the names and addresses that
        a server is reached by. Raises `ConfigurationError` for a name that cannot be one, and `StorageError`.
        """
        made = _make_key(folder / f"{use}.key")
        if not (folder / f"{use}.crt").exists():
            made += self.sign(folder, name, use, days, hosts)
        return made

    def sign(self, folder: Path, name: str, use: str, days: int, hosts: Sequence[str] = ()) -> list[Path]:
        """Put a new certificate of the folder's key in the place of the old one; return it. Raises as `certify`."""
        lines = f"subjectAltName = {', '.join(map(_alternative, hosts))}" if hosts else ""
        config = _CONFIG.format(name=_checked(name), hosts=lines)
        signer = ("-x509", "-CA", str(self.certificate), "-CAkey", str(self.key))
        certificate = folder / f"{use}.crt"
        _sign(folder / f"{use}.key", certificate, config, (*signer, "-days", str(days), "-extensions", use))
        return [certificate]


def days_left(certificate: Path, now: datetime | None = None) -> float:
    """Return for how many days a certificate is still valid. Raises `StorageError`."""
    text = openssl("x509", "-in", str(certificate), "-noout", "-enddate").decode()
    end = datetime.strptime(text.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    return (end - (now or datetime.now(UTC))).total_seconds() / 86400


def hosts_of(certificate: Path) -> list[str]:
    """Return the names and addresses that a server's certificate is for, as `same_host` says them.

    Raises `StorageError`.
    """
    text = openssl("x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName").decode()
    return [same_host(host) for host in re.findall(r"(?:DNS|IP Address):([^,\s]+)", text)]


def same_host(host: str) -> str:
    """Return the one way to write a name or an address. Raises `ConfigurationError` for what is neither."""
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ConfigurationError(f"{host!r} is no name or address of a server.") from None
        return host.lower()


def write_der(folder: Path, use: str, authority: Path) -> list[Path]:
    """Write key, certificate and authority as DER beside the others: MicroPython reads nothing else."""
    key, certificate, ca = folder / f"{use}.key.der", folder / f"{use}.der", folder / "ca.der"
    put(key, openssl("pkey", "-in", str(folder / f"{use}.key"), "-outform", "DER"), PRIVATE)
    put(certificate, openssl("x509", "-in", str(folder / f"{use}.crt"), "-outform", "DER"), PUBLIC)
    put(ca, openssl("x509", "-in", str(authority), "-outform", "DER"), PUBLIC)
    return [key, certificate, ca]


def openssl(*arguments: str) -> bytes:
    """Run OpenSSL's program and return what it wrote. Raises `StorageError` with its first words."""
    program = shutil.which("openssl")
    if program is None:
        raise ConfigurationError("OpenSSL's program `openssl` is not installed; on Debian: apt-get install openssl")
    done = subprocess.run((program, *arguments), capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise StorageError(f"openssl {arguments[0]} failed: {words[0]}.")
    return done.stdout


def _make_key(path: Path) -> list[Path]:
    if path.exists():
        return []
    put(path, openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), PRIVATE)
    return [path]


def _sign(key: Path, certificate: Path, config: str, extra: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as file:
        file.write(config)
        file.flush()
        put(certificate, openssl("req", "-new", "-config", file.name, "-key", str(key), *extra), PUBLIC)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > _NAME_CHARACTERS_MAX:
        raise ConfigurationError(
            f"{name!r} cannot be a certificate's name; allowed: up to {_NAME_CHARACTERS_MAX} letters, digits, '_', '-' "
            "and '.', with one '/' between fleet and node."
        )
    return name


def _alternative(host: str) -> str:
    name = same_host(host)
    is_address = ":" in name or name.replace(".", "").isdigit()
    return f"IP:{name}" if is_address else f"DNS:{name}"
