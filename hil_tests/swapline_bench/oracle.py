"""The oracle: what the devices said against what the database holds, row by row.

It shares no code with what it judges. The devices' statements come from the bench's own ledger (`statement.py`), the
rows from the database's own answers (`database.py`), and what the codes of a declared loss mean is written down here a
second time. How a row finds its statement is in `oracle_match.py`, what is left over is named in `oracle_rest.py`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import inf

from swapline_bench.oracle_loss import POLL_MS, Losses
from swapline_bench.oracle_match import SELF_TIMED, TOLERANCE_MS, Keys, Offsets, Place, Said, Series, Stored, match
from swapline_bench.oracle_rest import Rest, describe, moment
from swapline_bench.statement import Statement
from swapline_bench.verdict import ClockFault, FrameRecord, PowerCut, RowSource, Truth, Verdict

__all__ = ["ClockFault", "FrameRecord", "PowerCut", "RowSource", "Truth", "Verdict", "judge"]

STREAMS = ("vehicle", "position", "module", "cells", "slot", "meter")
PACE_MS = {"cells": 10_000}  # streams of which a node keeps a row only so often, docs/catalogue.md
PAUSE_MS = 5000  # after so long without a reading the pace begins anew
LISTENING_MS = 5000  # how long after a power cut a node's first epochs may be missing or heard in part
EPOCH_MS = 2000  # how long an epoch is on the line, and held until the next one tells whether it is true
EXAMPLES_MAX = 5  # of one kind


def judge(truth: Truth, database: RowSource) -> Verdict:
    """Compare a run that has settled with what its database holds."""
    return Judge(truth, database).run()


class Ledger:
    """All statements by stream and place."""

    def __init__(self, statements: Iterable[Statement], keys: Keys) -> None:
        self.streams: dict[str, dict[Place, list[Said]]] = {}
        for one in statements:
            places = self.streams.setdefault(one.stream, {})
            said = Said(one.true_utc_ms, keys.of(one.values), one.is_doubtful, one.damaged)
            places.setdefault(Place(one.node, one.bay, one.module), []).append(said)
        for places in self.streams.values():
            for said_there in places.values():
                said_there.sort(key=lambda said: said.utc_ms)

    def of(self, stream: str, node: str) -> dict[Place, list[Said]]:
        """Return what a node's devices said in a stream."""
        return {place: said for place, said in self.streams.get(stream, {}).items() if place.node == node}

    def nodes(self) -> set[str]:
        """Return all nodes whose devices said anything."""
        return {place.node for places in self.streams.values() for place in places}


class Judge:
    """One comparison. `run` once."""

    def __init__(self, truth: Truth, database: RowSource) -> None:
        self._truth = truth
        self._database = database
        self._keys = Keys()
        self._ledger = Ledger(truth.statements, self._keys)
        self._series: dict[str, dict[Place, Series]] = {stream: {} for stream in STREAMS}
        self._left: list[tuple[str, Place, Stored]] = []
        self._losses: dict[str, Losses] = {}
        self._verdict = Verdict()

    def run(self) -> Verdict:
        """Match everything, name what is left, and count."""
        database = self._database
        nodes = self._ledger.nodes().union(*(database.nodes(stream) for stream in STREAMS))
        for node in sorted(nodes):
            self._match_node(node)
        rests = {stream: Rest(stream, series, self._keys) for stream, series in self._series.items()}
        for stream, place, row in sorted(self._left, key=lambda left: left[2].utc_ms):
            finding = rests[stream].name(row, place)
            setattr(self._verdict, finding.kind, getattr(self._verdict, finding.kind) + 1)
            self._show(finding.kind, finding.sentence + self._fault_at(place.node, row.utc_ms))
        for series in self._series.values():
            for one in series.values():
                self._count(one)
        return self._verdict

    def _match_node(self, node: str) -> None:
        losses = self._losses[node] = Losses(node, self._truth, self._database)
        series = [one for stream in STREAMS for one in self._load(stream, node)]
        for one in series:
            self._series[one.stream][one.place] = one
            if one.stream == SELF_TIMED:
                _doubt_first_epochs(one, losses)
        offsets = Offsets(series)
        for one in series:
            self._left += [(one.stream, one.place, row) for row in match(one, offsets, self._keys)]
            for row in one.stored:
                self._measure(row)
            one.let_go()

    def _load(self, stream: str, node: str) -> Iterable[Series]:
        """Yield the series of one node in one stream, with statements, rows or both."""
        said = self._ledger.of(stream, node)
        stored: dict[Place, list[Stored]] = {}
        for row in self._database.rows(stream, node):
            place = Place(node, int(row.get("bay") or 0), row.get("module") or "")
            item = Stored(row["time_utc_ms"], self._keys.of(row), int(row.get("time_quality") or 0))
            stored.setdefault(place, []).append(item)
            self._verdict.rows_stored += 1
        for place in said.keys() | stored.keys():
            yield Series(stream, place, said.get(place, []), stored.get(place, []))

    def _measure(self, row: Stored) -> None:
        """Note how wrong the time of a right row is."""
        if row.said is None:
            return
        verdict = self._verdict
        error_ms = abs(row.utc_ms - row.said.utc_ms)
        if error_ms > TOLERANCE_MS:
            verdict.rows_estimated += 1
            verdict.estimated_error_ms_max = max(verdict.estimated_error_ms_max, error_ms)
        else:
            verdict.error_ms_max = max(verdict.error_ms_max, error_ms)

    def _count(self, series: Series) -> None:
        """Count a series' statements, and those of them that have no row."""
        verdict = self._verdict
        certain = [said for said in series.said if not said.is_doubtful]
        doubtful = [said for said in series.said if said.is_doubtful]
        verdict.rows_doubtful += len(doubtful)
        verdict.rows_doubtful_stored += sum(said.row is not None for said in doubtful)
        verdict.rows_by_chance += sum(
            said.row is not None and said.row.key != said.key for said in doubtful if said.damaged
        )
        if series.stream in PACE_MS:
            lost = _lost_at_pace(series.said, PACE_MS[series.stream])
        else:
            lost = [said for said in certain if said.row is None]
        verdict.rows_true += sum(said.row is not None for said in certain) + len(lost)
        kept_ms = [said.utc_ms for said in series.said if said.row and said.row.tolerance_ms <= TOLERANCE_MS]
        for said in lost:
            place = bisect_right(kept_ms, said.utc_ms)
            self._count_lost(series, said, kept_ms[place] if place < len(kept_ms) else inf)

    def _count_lost(self, series: Series, said: Said, next_kept_ms: float) -> None:
        node = series.place.node
        losses = self._losses[node]
        what = f"{series.stream} reading of {describe(series.place)} at {moment(said.utc_ms)}"
        before_cut_ms = losses.before_cut_ms(said.utc_ms, next_kept_ms)
        if before_cut_ms is not None:
            self._verdict.rows_lost_declared += 1
            self._verdict.lost_before_cut_ms_max = max(self._verdict.lost_before_cut_ms_max, before_cut_ms)
            self._show("rows_lost_declared", f"{what} is lost, as the node declared")
        elif losses.is_declared(said.utc_ms):
            self._verdict.rows_lost_declared += 1
            self._verdict.rows_lost_without_cut += 1
            self._show("rows_lost_without_cut", f"{what} is lost, as the node declared, and no power cut is the reason")
        else:
            self._verdict.rows_lost_undeclared += 1
            self._show(
                "rows_lost_undeclared",
                f"{what} has no row, and nobody declared it lost" + self._fault_at(node, said.utc_ms),
            )

    def _fault_at(self, node: str, utc_ms: int) -> str:
        faults = [
            fault.what
            for fault in self._truth.clock_faults
            if fault.node == node and fault.begin_utc_ms <= utc_ms <= fault.end_utc_ms
        ]
        return f" (while {', '.join(faults)})" if faults else ""

    def _show(self, kind: str, sentence: str) -> None:
        examples = self._verdict.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(sentence)


def _doubt_first_epochs(series: Series, losses: Losses) -> None:
    """Excuse a node that had no power: a receiver talks whether somebody listens or not."""
    for said in series.said:
        if losses.is_near_cut(said.utc_ms, before_ms=LISTENING_MS, after_ms=EPOCH_MS):
            said.is_doubtful = True


def _lost_at_pace(said: Sequence[Said], pace_ms: int) -> list[Said]:
    """Return a statement for each time that the pace, and one poll more, passed without a row."""
    lost = []
    last_ms = seen_ms = float("-inf")
    for one in said:
        if one.utc_ms - seen_ms > PAUSE_MS:
            last_ms = one.utc_ms
        seen_ms = one.utc_ms
        if one.row is not None:
            last_ms = one.utc_ms
        elif not one.is_doubtful and one.utc_ms - last_ms > pace_ms + POLL_MS:
            lost.append(one)
            last_ms = one.utc_ms
    return lost
