"""What a chaos run found: the verdict of the oracle, the nodes' own books, and how long things took to recover."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from swapline_bench.database import Database, DuckDatabase
from swapline_bench.journal_reader import JournalContents
from swapline_bench.verdict import Verdict
from swapline_wire import catalogue

EXAMPLES_SHOWN_MAX = 5  # of one kind
DOUBT_SHARE_MAX = 0.25  # of readings that may hide a loss; a run of two minutes has about 0.02
# What must not be. Rows that were lost without a power cut are declared, but no journal of a run is ever full.
WRONG = (
    "rows_lost_undeclared",
    "rows_lost_without_cut",
    "duplicates",
    "altered",
    "misowned",
    "mistimed",
    "frames_unaccounted",
    "silences",
    "gateway_ends",
)


class StoredFrame(NamedTuple):
    """One frame in the database."""

    journal: int
    seq: int
    first_utc_ms: int  # of its rows
    last_utc_ms: int
    stored_utc_ms: int


class Disturbance(NamedTuple):
    """A time in which something stood between some nodes and the database."""

    kind: str
    name: str
    nodes: tuple[str, ...]
    begin_utc_ms: int
    end_utc_ms: int


@dataclass(slots=True)
class Recovery:
    """Seconds from the end of a disturbance until the first row sealed after it was stored, a sample a node."""

    samples_s: list[float] = field(default_factory=list)
    interrupted: int = 0  # the next disturbance of the same node came first
    never: list[str] = field(default_factory=list)  # nothing came any more

    def percentile(self, share: float) -> float | None:
        """Return the smallest sample that at least `share` of all do not exceed."""
        if not self.samples_s:
            return None
        ordered = sorted(self.samples_s)
        return round(ordered[min(len(ordered), math.ceil(share * len(ordered))) - 1], 3)


@dataclass(slots=True)
class ChaosReport:
    """The result of a run."""

    seed: int
    duration_s: float = 0.0
    nodes: int = 0
    database: str = ""
    gateways: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    faults_felt: dict[str, int] = field(default_factory=dict)  # of those of links: they did something to a connection
    swaps: int = 0
    power_cuts_by_swaps: int = 0
    node_ends: int = 0  # of nodes that nobody had killed
    gateway_ends: int = 0
    frames_by_gateway: dict[str, int] = field(default_factory=dict)  # who wrote them, as the gateways themselves say
    frames_held_at_kills: int = 0  # in the spools of gateways that were killed: nobody else had them
    silences: int = 0  # a device was there, its node on, and nobody asked it
    rows_true: int = 0
    rows_stored: int = 0
    rows_doubtful: int = 0
    rows_doubtful_stored: int = 0
    rows_by_chance: int = 0
    rows_estimated: int = 0
    estimated_error_ms_max: int = 0
    error_ms_max: int = 0
    rows_lost_declared: int = 0
    lost_before_cut_ms_max: int = 0
    rows_lost_without_cut: int = 0
    rows_lost_undeclared: int = 0
    duplicates: int = 0
    altered: int = 0
    misowned: int = 0
    mistimed: int = 0
    frames_sealed: int = 0
    frames_stored: int = 0
    frames_declared_lost: int = 0
    frames_unaccounted: int = 0
    recovery_s_p50: float | None = None
    recovery_s_p99: float | None = None
    recovery_s_max: float | None = None
    recoveries: int = 0
    recoveries_interrupted: int = 0
    settle_s: float = 0.0
    heap_peak_bytes_max: int | None = None
    bench_lag_s_max: float = 0.0
    is_settled: bool = False
    was_interrupted: bool = False
    examples: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    data_dir: str = ""

    @property
    def failures(self) -> list[str]:
        """Return why the run is not good, in words; empty if it is."""
        found = [f"{name.replace('_', ' ')}: {count}" for name in WRONG if (count := getattr(self, name))]
        if not self.rows_true or not self.rows_stored:
            found.append("nothing was measured")
        if self.rows_doubtful - self.rows_doubtful_stored > self.rows_true * DOUBT_SHARE_MAX:
            found.append("too much was in doubt: the machine is too busy")
        if not sum(self.kills.values()):
            found.append("nothing was killed")
        if not self.is_settled:
            found.append("it did not settle")
        return found

    @property
    def is_good(self) -> bool:
        """Say whether nothing was lost, doubled or credited wrongly, and something was put to the test."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {"is_good": self.is_good, "failures": self.failures, **asdict(self)}


def read_frames(database: Database, node: str) -> list[StoredFrame]:
    """Return a node's frames as the database holds them."""
    if isinstance(database, DuckDatabase):
        found = database.query(
            "SELECT journal, seq, epoch_ms(first_time) AS first, epoch_ms(last_time) AS last, "
            "epoch_ms(stored_time) AS stored FROM frames WHERE node = ?",
            node,
        )
        frames = [StoredFrame(row["journal"], row["seq"], row["first"], row["last"], row["stored"]) for row in found]
    else:
        frames = []
        for row in database.rows("frames", node):
            last_utc_ms = row["time_utc_ms"] + row["span_ms"]
            stored_utc_ms = last_utc_ms + row["delay_ms"]
            key = (int(row["journal"]), row["seq"])
            frames.append(StoredFrame(*key, row["time_utc_ms"], last_utc_ms, stored_utc_ms))
    return sorted(frames, key=lambda frame: frame.stored_utc_ms)


def count_frames(
    report: ChaosReport,
    journals: Mapping[str, JournalContents],
    stored: Mapping[str, Sequence[StoredFrame]],
    database: Database,
) -> None:
    """Hold the numbers that the nodes' journals have given out against those in the database and those declared."""
    for node, contents in journals.items():
        present = {frame.seq for frame in stored[node] if frame.journal == contents.journal}
        strangers = [frame for frame in stored[node] if frame.journal != contents.journal]
        declared = _declared(database, node) - present
        missing = set(range(1, contents.next_seq)) - present - contents.frames.keys() - declared
        report.frames_sealed += contents.frames_sealed
        report.frames_stored += len(present)
        report.frames_declared_lost += len(declared)
        report.frames_unaccounted += len(missing) + len(strangers)
        if missing:
            shown = ", ".join(str(seq) for seq in sorted(missing)[:EXAMPLES_SHOWN_MAX])
            report.problems.append(f"{node}: {len(missing)} frames are unaccounted for: {shown} ...")
        if strangers:
            report.problems.append(f"{node}: {len(strangers)} frames are of a journal that it does not have")


def _declared(database: Database, node: str) -> set[int]:
    numbers: set[int] = set()
    for row in database.rows("event", node):
        if int(row["code"]) == catalogue.FRAMES_DROPPED:
            numbers.update(range(row["first_seq"], row["last_seq"] + 1))
    return numbers


def measure_recovery(disturbances: Iterable[Disturbance], stored: Mapping[str, Sequence[StoredFrame]]) -> Recovery:
    """Measure each disturbance's end at each node that it concerned.

    Left out are ends at which something else still stood in the node's way: its own end counts. Where the next
    disturbance came before the first row, the time says nothing about the first one: counted as interrupted.
    """
    found = Recovery()
    by_node: dict[str, list[Disturbance]] = {}
    for disturbance in disturbances:
        for node in disturbance.nodes:
            by_node.setdefault(node, []).append(disturbance)
    for node, all_of_node in by_node.items():
        frames = stored.get(node, [])
        for one in all_of_node:
            end = one.end_utc_ms
            if any(other.begin_utc_ms <= end < other.end_utc_ms for other in all_of_node):
                continue
            first = next(
                (frame.stored_utc_ms for frame in frames if frame.last_utc_ms >= end <= frame.stored_utc_ms), None
            )
            following = min((other.begin_utc_ms for other in all_of_node if other.begin_utc_ms > end), default=None)
            if following is not None and (first is None or following < first):
                found.interrupted += 1
            elif first is None:
                found.never.append(f"{node}: no row was stored after {one.name} ({one.kind})")
            else:
                found.samples_s.append((first - end) / 1000)
    return found


def add_verdict(report: ChaosReport, verdict: Verdict) -> None:
    """Write what the oracle says into the report."""
    report.examples |= verdict.examples
    for name in Verdict.__dataclass_fields__.keys() - {"examples"}:
        setattr(report, name, getattr(verdict, name))


def add_recovery(report: ChaosReport, recovery: Recovery) -> None:
    """Write the figures of `recovery` into the report."""
    report.recoveries = len(recovery.samples_s)
    report.recoveries_interrupted = recovery.interrupted
    report.recovery_s_p50 = recovery.percentile(0.5)
    report.recovery_s_p99 = recovery.percentile(0.99)
    report.recovery_s_max = recovery.percentile(1.0)
    report.problems += recovery.never


def format_report(report: ChaosReport) -> str:
    """Return the report for people."""
    kills = ", ".join(f"{count} {part}" for part, count in sorted(report.kills.items())) or "none"
    faults = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(report.faults.items())) or "none"
    heap = "unknown" if report.heap_peak_bytes_max is None else f"{report.heap_peak_bytes_max / 1024:.0f} KiB"
    lines = [
        f"seed {report.seed}: {report.nodes} nodes, {report.gateways} gateways, {report.database}; "
        f"{report.duration_s:.0f} s, settled after {report.settle_s:.0f} s more",
        f"  kills                  {sum(report.kills.values()):>9,}   {kills}",
        f"  faults                 {sum(report.faults.values()):>9,}   {faults}",
        f"  swaps                  {report.swaps:>9,}   {report.power_cuts_by_swaps} of them cut a van's power",
        f"  rows true              {report.rows_true:>9,}   {report.rows_doubtful} doubtful ones not counted",
        f"  rows stored            {report.rows_stored:>9,}   frames "
        + ", ".join(f"{count:,} by {name}" for name, count in report.frames_by_gateway.items()),
        f"  lost, declared         {report.rows_lost_declared:>9,}   not yet sealed when the power was cut, "
        f"{report.lost_before_cut_ms_max / 1000:.1f} s old at most, but for {report.rows_lost_without_cut}",
        f"  lost, not declared     {report.rows_lost_undeclared:>9,}",
        f"  stored twice           {report.duplicates:>9,}",
        f"  altered                {report.altered:>9,}",
        f"  of the wrong owner     {report.misowned:>9,}",
        f"  at the wrong time      {report.mistimed:>9,}",
        f"  frames sealed          {report.frames_sealed:>9,}   {report.frames_unaccounted} unaccounted for",
        f"  held by gateways       {report.frames_held_at_kills:>9,}   and by nobody else, when they were killed",
        f"  recovery p50, p99, max {report.recovery_s_p50} s, {report.recovery_s_p99} s, {report.recovery_s_max} s "
        f"of {report.recoveries}; {report.recoveries_interrupted} were interrupted",
        f"  highest heap {heap}; ended by themselves: {report.node_ends} nodes, {report.gateway_ends} gateways; "
        f"devices not asked {report.silences}; "
        f"the bench was late by {report.bench_lag_s_max:.2f} s at most",
    ]
    for kind, examples in report.examples.items():
        lines += [f"  ? {kind}: {example}" for example in examples[:EXAMPLES_SHOWN_MAX]]
    lines += [f"  ! {problem}" for problem in report.problems]
    verdict = (
        "NOT GOOD: " + "; ".join(report.failures) if report.failures else "nothing lost, nothing twice, no one else's"
    )
    return "\n".join([*lines, f"  {verdict}; data in {report.data_dir}"])
