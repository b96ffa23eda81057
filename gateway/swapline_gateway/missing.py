"""What is missing, from whom, and why: the answer to one question, and how it is found without SQL.

`sinks/duckdb_schema.py` says what counts; there it is the view `missing`. InfluxQL knows no gaps between rows, so for
an InfluxDB the same is worked out here, from the numbers in `frames` and the declarations in `event`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from .ranges import merge

NOT_ARRIVED = "not_arrived"
SEQ_MAX = 0xFFFFFFFF
MISSING_MAX = 10_000  # ranges in one answer


@dataclass(frozen=True, slots=True)
class Missing:
    """Frames first_seq..last_seq of a journal; without numbers, rows that are in no frame (`row_count`, if known)."""

    fleet: str
    node: str
    journal: int | None
    first_seq: int | None
    last_seq: int | None
    frame_count: int
    row_count: int | None
    reason: str
    after_utc_ms: int | None
    before_utc_ms: int | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


class Origin(NamedTuple):
    """Whose frames."""

    fleet: str
    node: str
    journal: int


class Stored(NamedTuple):
    """A frame that is there: the times of its first and last row."""

    seq: int
    first_utc_ms: int
    last_utc_ms: int


class Declared(NamedTuple):
    """A range that somebody gave up."""

    first: int
    last: int
    reason: str


def find_missing(
    stored: Mapping[Origin, Sequence[Stored]], declared: Mapping[Origin, Sequence[Declared]]
) -> list[Missing]:
    """Return the ranges that are not stored, in the order of journals and numbers."""
    return [
        found
        for origin in sorted({*stored, *declared})
        for found in _of_journal(origin, sorted(stored.get(origin, ())), declared.get(origin, ()))
    ]


def _of_journal(origin: Origin, stored: Sequence[Stored], declared: Sequence[Declared]) -> Iterator[Missing]:
    edges: list[Stored | None] = [None, *stored, None]
    for before, after in pairwise(edges):
        first, last = before.seq + 1 if before else 1, after.seq - 1 if after else SEQ_MAX
        if first > last:
            continue
        known = first - 1
        times = (before.last_utc_ms if before else None, after.first_utc_ms if after else None)
        is_between = before is not None and after is not None
        for low, high, reason in sorted((max(low, first), min(high, last), reason) for low, high, reason in declared):
            if low > high or high <= known:
                continue
            low = max(low, known + 1)  # noqa: PLW2901 (what no range before it has)
            if is_between and low > known + 1:
                yield Missing(*origin, known + 1, low - 1, low - known - 1, None, NOT_ARRIVED, *times)
            yield Missing(*origin, low, high, high - low + 1, None, reason, *times)
            known = high
        if is_between and known < last:
            yield Missing(*origin, known + 1, last, last - known, None, NOT_ARRIVED, *times)


def count_missing(found: Sequence[Missing]) -> int:
    """Return how many frames are missing, each once."""
    ranges: dict[tuple[str, str, int | None], list[tuple[int, int]]] = {}
    for one in found:
        if one.first_seq is not None and one.last_seq is not None:
            ranges.setdefault((one.fleet, one.node, one.journal), []).append((one.first_seq, one.last_seq))
    return sum(last - first + 1 for part in ranges.values() for first, last in merge(part, ()))
