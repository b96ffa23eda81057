"""Statements: what the simulated devices really said, written down when they say it.

A statement is one reading that a device has given away whole: true time, owner, and the values with the resolution that
they had on the line, in the units of the catalogue. It is what the database must hold in the end, whatever happens in
between, so this file knows nothing of the wire format, the firmware or the gateway: a test holds that.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from swapline_bench.lag_watch import LagWatch


class Statement(NamedTuple):
    """One reading as a device gave it.

    `bay` 0 and `module` "" stand for none. A doubtful one may have become a row, and need not: the bench answered late,
    the poll was cut short, the line was disturbed, or nobody was listening. `damaged` are signals of an answer that was
    damaged on the line and passes its protocol's check by chance: a row may say anything about those.
    """

    true_utc_ms: int
    node: str
    stream: str
    bay: int
    module: str
    values: Mapping[str, float]
    is_doubtful: bool = False
    damaged: Sequence[str] = ()


class StatementLog:
    """Statements as lines of JSON, in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lag = LagWatch()
        self.count = 0  # of the statements written by this process
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, statement: Statement) -> None:
        """Append one statement; after `close` it is left out, because the run it would belong to has ended."""
        if not self._file.closed:
            entries = statement if statement.damaged else statement[:-1]
            self._file.write(json.dumps(entries, separators=(",", ":")) + "\n")
            self.count += 1

    def close(self) -> None:
        """Make everything readable."""
        self.lag.stop()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_statements(path: Path) -> Iterator[Statement]:
    """Yield the statements of a log that was closed, one after the other: a long run's do not fit twice into memory."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Statement(*json.loads(line))
