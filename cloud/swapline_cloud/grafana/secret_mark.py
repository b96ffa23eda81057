"""A mark by which to see whether a secret is still the same one, where the secret itself cannot be read back.

Grafana never tells a data source's password or token. So beside it, where every viewer may look, stands a mark: salt
and scrypt of the secret. From a token of 32 random bytes nobody learns anything by it; a poor password costs whoever
guesses at it 16 MiB and some 40 ms for each guess.
"""

import hashlib
import hmac
import os

_KIND, _SALT_BYTES, _MARK_BYTES = "scrypt", 16, 16


def mark(secret: str, salt: bytes | None = None) -> str:
    """Return the mark of a secret, with a new salt unless one is given."""
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    made = hashlib.scrypt(secret.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=_MARK_BYTES)
    return f"{_KIND}:{salt.hex()}:{made.hex()}"


def is_marked(secret: str, known: str) -> bool:
    """Say whether a mark is this secret's."""
    kind, _, rest = known.partition(":")
    try:
        salt = bytes.fromhex(rest.partition(":")[0])
    except ValueError:
        return False
    return kind == _KIND and bool(salt) and hmac.compare_digest(mark(secret, salt), known)
