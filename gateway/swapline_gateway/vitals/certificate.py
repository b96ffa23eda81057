"""When certificates end. Read from their DER form: Python shows that of the other side of a connection only.

X.509 (RFC 5280, 4.1): a certificate is a sequence of which the first element is a sequence of version (optional, tag
0xA0), serial number, signature algorithm, issuer, validity, ...; validity is a sequence of two times.
"""

import ssl
from datetime import UTC, datetime
from pathlib import Path

DAY_S = 86_400
_END = "-----END CERTIFICATE-----"
_BEGIN = "-----BEGIN CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def end_s(certificate: bytes) -> float:
    """Return when a certificate in DER form ends, in seconds of UTC. Raises `ValueError` for what is none."""
    body = _read(_read(certificate, 0, _SEQUENCE)[0], 0, _SEQUENCE)[0]
    at = 0
    if body[:1] == bytes([_VERSION]):
        at = _read(body, at, _VERSION)[1]
    for _ in range(3):  # serial number, signature algorithm, issuer
        at = _read(body, at)[1]
    validity = _read(body, at, _SEQUENCE)[0]
    _, at = _read(validity, 0)
    is_long = validity[at : at + 1] == bytes([_GENERALIZED_TIME])
    text, _ = _read(validity, at, _GENERALIZED_TIME if is_long else _UTC_TIME)
    return _time_s(text.decode("ascii"))


def _time_s(text: str) -> float:
    """Read a time: the year has four digits, or two that stand for 1950 to 2049 (RFC 5280, 4.1.2.5.1)."""
    if len(text) == len("yymmddhhmmssZ"):
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _read(data: bytes, at: int, tag: int | None = None) -> tuple[bytes, int]:
    """Return the content of the element at a place, and where the next one begins. Raises `ValueError`."""
    head = data[at : at + 2]
    if len(head) < 2 or (tag is not None and head[0] != tag):
        raise ValueError("no certificate")
    begin, size = at + 2, head[1]
    if size & 0x80:
        count = size & 0x7F
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if begin + size > len(data):
        raise ValueError("a certificate that is cut off")
    return data[begin : begin + size], begin + size


def own_end_s(path: Path) -> float:
    """Return when the first certificate of a PEM file ends: its own, before those that vouch for it.

    Raises `OSError`, and `ValueError` for a file without a certificate.
    """
    return _ends(path)[0]


def first_end_s(path: Path) -> float:
    """Return when the first to end of all certificates of a PEM file ends. Raises like `own_end_s`."""
    return min(_ends(path))


def _ends(path: Path) -> list[float]:
    parts = path.read_text(encoding="ascii", errors="replace").split(_BEGIN)[1:]
    found = [end_s(ssl.PEM_cert_to_DER_cert(_BEGIN + part.split(_END)[0] + _END)) for part in parts]
    if not found:
        raise ValueError("no certificate in it")
    return found
