"""What is to be done so that a server is as it should be: found by comparing, shown as a diff, done one by one.

Every part of `apply` (the database, Grafana) compares what is there with what should be and returns `Change`s. Applying
twice finds nothing the second time: that is what makes it safe. Nothing is deleted that swapline did not make.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from swapline_gateway.error import ConfigurationError

CREATE, UPDATE, DELETE = "create", "update", "delete"


class LostSecretError(ConfigurationError):
    """A server knows a reader of ours whose password or token is not in its file any more. `role`: the reader."""

    def __init__(self, message: str, role: str) -> None:
        super().__init__(message)
        self.role = role


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it should be. `do` makes it so; `diff` shows both sides, without secrets.

    `waits`: why it is not to be done yet, and what has to be done first; the changes after it go on.
    """

    action: str
    kind: str  # "retention policy", "board"
    name: str
    diff: str
    do: Callable[[], None]
    waits: str = ""


class Part(Protocol):
    """A server that can be compared with what it should be."""

    name: str

    def changes(self) -> Sequence[Change]:
        """Return what is to be done, in the order in which it is to be done. Raises `GatewayError`."""

    def warnings(self) -> Sequence[str]:
        """Return what is not as it should be and cannot be changed from here."""

    def close(self) -> None:
        """Close the connections; changes that were returned cannot be made any more."""


def diff_of(actual: str, wanted: str) -> str:
    """Return the lines in which two texts differ, three of each side around them."""
    lines = difflib.unified_diff(actual.splitlines(), wanted.splitlines(), "now", "wanted", lineterm="", n=3)
    return "\n".join(lines)
