"""Which row is which statement: one to one, with equal values, as near in time as can be.

Values are compared exactly: a statement holds what stood on the line, and both sides of the comparison are the double
that is nearest to the same decimal. Where values stand still (a parked van says the same each second), only time tells
neighbours apart, so the node's own clock error is taken out first: it shows in the rows whose values are unique.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

TIGHT_MS = 450  # less than half a second apart is the same poll: nodes ask once a second
TOLERANCE_MS = 1500
# What the honest quality of a time may hide: the gateway's (2) is as late as a bad link, an estimate (1) is a guess.
QUALITY_TOLERANCE_MS = {1: 600_000, 2: 10_000}
SAMPLES = 4  # looked at on either side
OFFSET_AGE_MS = 60_000  # a clock error is not known from rows that are older than this
SELF_TIMED = "position"  # rows of this stream stand at the receiver's own time
EXACT_MS = 5  # to the millisecond, but for rows that make way for each other
BURST_MS = 140  # or, if the node does not believe it, at the end of the first sentence that says when it is
_NOT_SIGNALS = frozenset(
    {"time", "time_utc_ms", "fleet", "node", "bay", "module", "time_quality", "journal", "seq", "boot"}
)


class Place(NamedTuple):
    """Who said something, or whom a row is credited to."""

    node: str
    bay: int
    module: str


class Said:
    """One statement, and the row that it became."""

    __slots__ = ("damaged", "is_doubtful", "key", "row", "utc_ms")

    def __init__(self, utc_ms: int, key: bytes, is_doubtful: bool, damaged: Sequence[str] = ()) -> None:
        self.utc_ms = utc_ms
        self.key = key
        self.is_doubtful = is_doubtful
        self.damaged = damaged  # signals about which a row may say anything
        self.row: Stored | None = None


class Stored:
    """One row of the database, and the statement that it was."""

    __slots__ = ("key", "quality", "said", "utc_ms")

    def __init__(self, utc_ms: int, key: bytes, quality: int) -> None:
        self.utc_ms = utc_ms
        self.key = key
        self.quality = quality
        self.said: Said | None = None

    @property
    def tolerance_ms(self) -> int:
        """Return how far from the truth this row's time may be."""
        return QUALITY_TOLERANCE_MS.get(self.quality, TOLERANCE_MS)


class _Layout:
    def __init__(self, number: int, names: tuple[str, ...]) -> None:
        self.names = names
        self.values: Callable[[Mapping[str, Any]], Any] = itemgetter(*names) if len(names) > 1 else _one(names[0])
        self._struct = struct.Struct(f"<H{len(names)}d")
        self._number = number

    def pack(self, values: Mapping[str, Any]) -> bytes:
        return self._struct.pack(self._number, *map(float, self.values(values)))

    def unpack(self, key: bytes) -> dict[str, float]:
        return dict(zip(self.names, self._struct.unpack(key)[1:], strict=True))


def _one(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: (values[name],)


class Keys:
    """Turns values into short keys that are equal if, and only if, the same signals have the same values."""

    def __init__(self) -> None:
        self._by_columns: dict[tuple[str, ...], _Layout] = {}
        self._by_names: dict[tuple[str, ...], _Layout] = {}
        self._layouts: list[_Layout] = []

    def of(self, values: Mapping[str, Any]) -> bytes:
        """Return the key of a statement's values or of a row."""
        columns = tuple(values)
        layout = self._by_columns.get(columns)
        if layout is None:
            layout = self._by_columns[columns] = self._layout(tuple(sorted(set(columns) - _NOT_SIGNALS)))
        return layout.pack(values)

    def values(self, key: bytes) -> dict[str, float]:
        """Return the values again."""
        return self._layouts[int.from_bytes(key[:2], "little")].unpack(key)

    def _layout(self, names: tuple[str, ...]) -> _Layout:
        layout = self._by_names.get(names)
        if layout is None:
            layout = self._by_names[names] = _Layout(len(self._layouts), names)
            self._layouts.append(layout)
        return layout


class Series:
    """Statements and rows of one owner in one stream, both in the order of time."""

    def __init__(self, stream: str, place: Place, said: list[Said], stored: list[Stored]) -> None:
        self.stream = stream
        self.place = place
        self.said = said
        self.stored = stored
        self._by_key: dict[bytes, list[Said]] = {}

    def equal(self, key: bytes) -> list[Said]:
        """Return all statements with these values."""
        if not self._by_key:
            for one in self.said:
                self._by_key.setdefault(one.key, []).append(one)
        return self._by_key.get(key, [])

    def let_go(self) -> None:
        """Forget the rows: a long run's do not fit into memory next to each other."""
        self.stored = []
        self._by_key = {}

    def nearest(self, key: bytes, utc_ms: float, within_ms: float, want: Callable[[Said], bool]) -> Said | None:
        """Return the nearest statement with these values that `want` accepts."""
        return nearest(self.equal(key), utc_ms, within_ms, want)


def nearest(said: list[Said], utc_ms: float, within_ms: float, want: Callable[[Said], bool]) -> Said | None:
    """Return the nearest of statements in the order of time that `want` accepts, or None if it is too far away."""
    best: Said | None = None
    best_ms = within_ms
    start = bisect_left(said, utc_ms, key=_utc_ms)
    for places in (range(start, len(said)), range(start - 1, -1, -1)):
        for i in places:
            distance_ms = abs(said[i].utc_ms - utc_ms)
            if distance_ms > best_ms:
                break
            if want(said[i]):
                best, best_ms = said[i], distance_ms
                break
    return best


def is_free(said: Said) -> bool:
    """Say whether a statement has no row yet."""
    return said.row is None


def is_free_and_certain(said: Said) -> bool:
    """Say whether a statement that must become a row has none yet."""
    return said.row is None and not said.is_doubtful


def _utc_ms(item: Said | Stored) -> int:
    return item.utc_ms


class Offsets:
    """The error of a node's clock over time, from rows whose values were said only once."""

    def __init__(self, series: Iterable[Series]) -> None:
        samples = sorted(sample for one in series if one.stream != SELF_TIMED for sample in self._samples(one))
        self._times = [utc_ms for utc_ms, _ in samples]
        self._errors = [error_ms for _, error_ms in samples]

    def _samples(self, series: Series) -> Iterable[tuple[int, int]]:
        for row in series.stored:
            equal = series.equal(row.key)
            if len(equal) == 1 and abs(row.utc_ms - equal[0].utc_ms) <= row.tolerance_ms:
                yield row.utc_ms, row.utc_ms - equal[0].utc_ms

    def errors_ms(self, row: Stored) -> list[int]:
        """Return how far ahead of the truth the node's clock may have been when it took a row, likeliest first.

        Where boots meet, two clocks are near. A row cannot vouch for its own time: a second one must agree.
        """
        i = bisect_left(self._times, row.utc_ms)
        low, high = max(i - SAMPLES, 0), i + SAMPLES
        near = sorted(
            (abs(time_ms - row.utc_ms), error_ms)
            for time_ms, error_ms in zip(self._times[low:high], self._errors[low:high], strict=True)
            if abs(time_ms - row.utc_ms) <= OFFSET_AGE_MS and abs(error_ms) <= row.tolerance_ms
        )
        found: list[int] = []
        for place, (_, error_ms) in enumerate(near):
            is_new = all(abs(error_ms - known) > TIGHT_MS for known in found)
            if is_new and any(abs(error_ms - other) <= TIGHT_MS for _, other in near[place + 1 :]):
                found.append(error_ms)
        return found


Aims = Iterable[tuple[int, int]]  # where a row's statement may be, and how far around


def match(series: Series, offsets: Offsets, keys: Keys) -> list[Stored]:
    """Give every row its statement and every statement its row, as far as there are; return the rows that are left."""
    rows = _pair_unique(series, series.stored)
    if series.stream == SELF_TIMED:
        rows = _pair(series, rows, lambda row: [(row.utc_ms, EXACT_MS)])
    late_ms = BURST_MS if series.stream == SELF_TIMED else 0
    rows = _pair(series, rows, lambda row: _aim(row, offsets.errors_ms(row) or [0], late_ms))
    rows = _pair(series, rows, lambda row: _reach(row, offsets))
    return _pair_partly(series, rows, keys)


def _pair_unique(series: Series, rows: list[Stored]) -> list[Stored]:
    """Pair rows whose values were said once, at that time: most rows of a long run, without looking any further."""
    left = []
    for row in rows:
        equal = series.equal(row.key)
        if len(equal) == 1 and equal[0].row is None and abs(equal[0].utc_ms - row.utc_ms) <= TOLERANCE_MS:
            join(row, equal[0])
        else:
            left.append(row)
    return left


def _aim(row: Stored, errors_ms: list[int], late_ms: int) -> Aims:
    return [(row.utc_ms - late_ms - error_ms, TIGHT_MS) for error_ms in errors_ms]


def _reach(row: Stored, offsets: Offsets) -> Aims:
    """Return where a row's statement is at the farthest: a poor clock may be wrong, but is so for all rows alike."""
    errors_ms = offsets.errors_ms(row) if row.tolerance_ms > TOLERANCE_MS else []
    if not errors_ms:
        return [(row.utc_ms, row.tolerance_ms)]
    return [(row.utc_ms - error_ms, TOLERANCE_MS) for error_ms in errors_ms]


def _pair(series: Series, rows: list[Stored], aims: Callable[[Stored], Aims]) -> list[Stored]:
    """Pair rows with equal statements, certain ones first; `aims` says where to look."""
    for want in (is_free_and_certain, is_free):
        left = []
        for row in rows:
            equal = series.equal(row.key)
            found = (nearest(equal, *aim, want) for aim in aims(row)) if equal else iter(())
            said = next((one for one in found if one is not None), None)
            if said is None:
                left.append(row)
            else:
                join(row, said)
        rows = left
    return rows


def _pair_partly(series: Series, rows: list[Stored], keys: Keys) -> list[Stored]:
    """Pair what is left with doubtful statements of which the node has heard only a part, or a damaged answer."""
    left = []
    for row in rows:
        found = keys.values(row.key)
        said = nearest(
            series.said,
            row.utc_ms,
            row.tolerance_ms,
            lambda one: one.row is None and one.is_doubtful and _is_part(found, one, keys),  # noqa: B023
        )
        if said is None:
            left.append(row)
        else:
            join(row, said)
    return left


def _is_part(found: Mapping[str, float], said: Said, keys: Keys) -> bool:
    """Say whether a row holds nothing but what was said, and what came of damage that no check finds."""
    true = keys.values(said.key)
    return all(name in said.damaged or true.get(name) == value for name, value in found.items())


def join(row: Stored, said: Said) -> None:
    """Make a row and a statement each other's."""
    row.said = said
    said.row = row
