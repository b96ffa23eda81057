"""What a row is that no statement explains: a duplicate, somebody else's, of another time, or altered."""

from collections.abc import Mapping
from datetime import UTC, datetime

from swapline_bench.oracle_match import (
    TOLERANCE_MS,
    Keys,
    Place,
    Said,
    Series,
    Stored,
    is_free,
    join,
    nearest,
)

DIFFERENCES_SHOWN_MAX = 3


class Finding:
    """What is wrong with one row, in one word and in a sentence."""

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind = kind
        self.sentence = sentence


class Rest:
    """Names the rows that are left of one stream. `series` are all of that stream, of every node."""

    def __init__(self, stream: str, series: Mapping[Place, Series], keys: Keys) -> None:
        self._stream = stream
        self._series = series
        self._keys = keys

    def name(self, row: Stored, place: Place) -> Finding:
        """Say what is wrong with a row; a statement without a row that it stands for counts as stored, wrongly."""
        own = self._series.get(place)
        what = f"{self._stream} row of {describe(place)} at {moment(row.utc_ms)}"
        if own is not None:
            twin = own.nearest(row.key, row.utc_ms, row.tolerance_ms, lambda said: _is_twin(said, row))
            if twin is not None and twin.row is not None:
                return Finding("duplicates", f"{what} says again what the row at {moment(twin.row.utc_ms)} says")
        return (
            self._find_elsewhere(row, place, what, is_taken=False)
            or self._find_other_time(row, own, what, is_taken=False)
            or self._find_elsewhere(row, place, what, is_taken=True)
            or self._find_other_time(row, own, what, is_taken=True)
            or self._find_altered(row, own, what)
        )

    def _find_elsewhere(self, row: Stored, place: Place, what: str, *, is_taken: bool) -> Finding | None:
        want = _any if is_taken else is_free
        for other, series in self._series.items():
            said = None if other == place else series.nearest(row.key, row.utc_ms, row.tolerance_ms, want)
            if said is not None:
                _take(row, said)
                return Finding("misowned", f"{what} is what {describe(other)} said at {moment(said.utc_ms)}")
        return None

    def _find_other_time(self, row: Stored, own: Series | None, what: str, *, is_taken: bool) -> Finding | None:
        if own is None:
            return None
        said = own.nearest(row.key, row.utc_ms, float("inf"), _any if is_taken else is_free)
        if said is None:
            return None
        _take(row, said)
        error_s = (row.utc_ms - said.utc_ms) / 1000
        return Finding(
            "mistimed", f"{what} was said at {moment(said.utc_ms)}: {error_s:+.1f} s, time quality {row.quality}"
        )

    def _find_altered(self, row: Stored, own: Series | None, what: str) -> Finding:
        said = None if own is None else nearest(own.said, row.utc_ms, TOLERANCE_MS, is_free)
        if said is None:
            return Finding("altered", f"{what} is nothing that any device said")
        _take(row, said)
        return Finding(
            "altered", f"{what} differs from what was said at {moment(said.utc_ms)}: {self._compare(row, said)}"
        )

    def _compare(self, row: Stored, said: Said) -> str:
        found, true = self._keys.values(row.key), self._keys.values(said.key)
        differing = [
            f"{name} {found.get(name)} instead of {true.get(name)}"
            for name in sorted(found.keys() | true.keys())
            if found.get(name) != true.get(name)
        ]
        more = len(differing) - DIFFERENCES_SHOWN_MAX
        return ", ".join(differing[:DIFFERENCES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _any(said: Said) -> bool:
    del said
    return True


def _is_twin(said: Said, row: Stored) -> bool:
    return said.row is not None and abs(said.row.utc_ms - row.utc_ms) <= TOLERANCE_MS


def _take(row: Stored, said: Said) -> None:
    """Let a wrong row stand for a statement that has none, so that it is not counted as lost as well."""
    if said.row is None:
        join(row, said)


def describe(place: Place) -> str:
    """Return a place for people."""
    bay = f" bay {place.bay}" if place.bay else ""
    return f"{place.node}{bay}" + (f" module {place.module}" if place.module else "")


def moment(utc_ms: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
