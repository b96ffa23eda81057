"""What the oracle is told, what it asks of a database, and what it answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from swapline_bench.statement import Statement


class PowerCut(NamedTuple):
    """A node's power went without warning (kill -9)."""

    node: str
    utc_ms: int


class ClockFault(NamedTuple):
    """A time source of a node lied: `what` says which and how, for the examples."""

    node: str
    begin_utc_ms: int
    end_utc_ms: int
    what: str


class FrameRecord(NamedTuple):
    """One frame in the database's table of frames."""

    journal: int
    seq: int
    first_utc_ms: int
    last_utc_ms: int


class RowSource(Protocol):
    """What the oracle asks of a database."""

    def nodes(self, stream: str) -> list[str]:
        """Return the names of all nodes that have rows of a stream."""

    def rows(self, stream: str, node: str) -> Sequence[dict[str, Any]]:
        """Return the rows in the order of their time, each with `time_utc_ms`, `bay`, `module`, `time_quality`."""

    def frames(self, node: str) -> list[FrameRecord]:
        """Return the frames of a node in the order of journal and number."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What really happened: what devices said, and what was done to the nodes."""

    statements: Iterable[Statement]
    power_cuts: Sequence[PowerCut] = ()
    seal_interval_ms: int = 5000
    clock_faults: Sequence[ClockFault] = ()


@dataclass(slots=True)
class Verdict:
    """How many rows are what they should be, and how many are not.

    `rows_true`: readings that had to become a row. `rows_stored`: rows of the devices' streams in the database.
    """

    rows_true: int = 0
    rows_stored: int = 0
    rows_lost_declared: int = 0
    lost_before_cut_ms_max: int = 0  # how long before its power cut the oldest row was made that is lost
    rows_lost_without_cut: int = 0  # of the declared ones those that no power cut explains: a full journal, no memory
    rows_lost_undeclared: int = 0
    duplicates: int = 0
    altered: int = 0
    misowned: int = 0
    mistimed: int = 0
    rows_doubtful: int = 0  # readings of which nobody can say whether they had to become a row
    rows_doubtful_stored: int = 0  # those of them that did
    rows_by_chance: int = 0  # of those, wrong ones of an answer whose damage its protocol cannot find
    rows_estimated: int = 0  # right rows at a time of poorer quality, farther from the truth than good clocks may be
    estimated_error_ms_max: int = 0
    error_ms_max: int = 0  # of all other right rows
    examples: dict[str, list[str]] = field(default_factory=dict)  # kind -> the first sentences

    @property
    def is_good(self) -> bool:
        """Say whether every row is true and everything that is missing was declared."""
        wrong = self.rows_lost_undeclared, self.duplicates, self.altered, self.misowned, self.mistimed
        return self.rows_true > 0 and not any(wrong)
