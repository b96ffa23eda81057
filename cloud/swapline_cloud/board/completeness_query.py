"""Questions about `frames`, the gateway's point for each frame, and about losses that nodes declared.

A journal numbers its frames when it seals them, some seconds after their first rows: numbers and times are not in one
order. So of the numbers between the smallest and the largest of a range some belong to frames that began before it or
end after it, and seem to be missing. The figure of missing frames counts none of these: it looks beyond both ends.
Numbers between the last one that began before the range and the first one that began after it can only be the range's
own; what all frames of the range together leave of them is missing for certain. It is too small by the frames of the
range that were sealed in those seconds, so `with_ends` says what it is when they are all counted: the truth is between.
"""

from collections.abc import Sequence

from swapline_cloud.query import CHOICES, IN_RANGE, Query, ending, of, select, tag_is
from swapline_cloud.rollup import FOREVER, MINUTE, RAW
from swapline_gateway.sinks.line_protocol import FRAMES
from swapline_wire.catalogue import FRAMES_DROPPED, ROWS_DROPPED

HERE = [tag_is("fleet", "fleet"), tag_is("node", "node")]
JOURNAL = ["fleet", "node", "journal"]
DECLARED = f"(\"code\" = '{FRAMES_DROPPED}' OR \"code\" = '{ROWS_DROPPED}')"
# What is older than this when it is stored came late: it was a backlog.
LATE_MS = 60_000
LATE = (f'"delay_ms" > {LATE_MS}', f'"delay_ms_mean" > {LATE_MS}')
IN_TIME = (f'"delay_ms" <= {LATE_MS}', f'"delay_ms_mean" <= {LATE_MS}')
# Of raw points, and of roll-ups.
COUNT = ('count("seq")', 'sum("frames")')
FIRST = ('min("seq")', 'min("seq_min")')
LAST = ('max("seq")', 'max("seq_max")')
# How far beyond the range's ends is looked, at points of each policy. Frames are sealed 5 s after their first row.
_BEYOND = {RAW: "10m", MINUTE: "15m", FOREVER: "4h"}
_NO_END = 1 << 62  # no number of a frame
HOLES = ('max("seq") - min("seq") + 1 - count("seq")', 'max("seq_max") - min("seq_min") + 1 - sum("frames")')


def frames(
    what: tuple[str, str], name: str, *, by: Sequence[str] = (), where: tuple[str, str] | None = None
) -> list[str]:
    """Return statements about frames, one for each roll-up. `what` and `where` are of raw points and of roll-ups."""
    found = []
    for policy, condition in CHOICES:
        place = 0 if policy == RAW else 1
        conditions = [*HERE, condition, *([where[place]] if where else [])]
        found.append(select(f'{what[place]} AS "{name}"', FRAMES, policy=policy, where=conditions, by=by))
    return found


def figure(what: tuple[str, str], name: str, *, where: tuple[str, str] | None = None) -> list[Query]:
    """Return the queries of one number about all frames of the range."""
    return [Query(statement, is_table=True) for statement in frames(what, name, where=where)]


def missing() -> list[Query]:
    """Return the queries of how many frames are missing in the range, of all journals: surely, and with its ends."""
    certain = [of(inner, '"missing"', where=['"missing" > 0'], by=JOURNAL) for inner in _holes()]
    none = frames((f"{LAST[0]} * 0", f"{LAST[1]} * 0"), "missing")
    sums = [
        *(of(f"{one}), ({other}", 'sum("missing") AS "missing"') for one, other in zip(certain, none, strict=True)),
        *(of(inner, 'sum("n") AS "with_ends"') for inner in frames(HOLES, "n", by=JOURNAL)),
    ]
    return [Query(statement, is_table=True) for statement in sums]


def missing_by_journal() -> list[Query]:
    """Return the queries of the journals of which frames are missing, with how many."""
    what = '"missing", "with_ends"'
    return [Query(of(inner, what, where=['"missing" > 0'], by=JOURNAL), is_table=True) for inner in _holes()]


def _holes() -> list[str]:
    """Return the statements of what is missing for certain of each journal, below zero for nothing.

    All three sources have all columns: InfluxDB 1.x reckons with no column that only one source has.
    """
    found = []
    for policy, condition in CHOICES:
        beyond = _BEYOND[policy]
        first, last, count, both = (one[policy != RAW] for one in (FIRST, LAST, COUNT, HOLES))
        # Within which time: above which number, below which, how many frames, how many holes with the ends.
        parts = {
            f"time >= ${{__from}}ms - {beyond} AND time < ${{__from}}ms": (
                last,
                f"{last} * 0 + {_NO_END}",
                *_none(last),
            ),
            IN_RANGE: (f"{first} - 1", f"{last} + 1", count, both),
            f"time > ${{__to}}ms AND time <= ${{__to}}ms + {beyond}": (f"{first} * 0 - 1", first, *_none(first)),
        }
        sources = [
            select(_named(columns), FRAMES, policy=policy, where=[*HERE, condition], by=JOURNAL, within=within)
            for within, columns in parts.items()
        ]
        what = 'min("below") - max("above") - 1 - sum("n") AS "missing", sum("with_ends") AS "with_ends"'
        ends = 'max("above") AS "above", min("below") AS "below"'
        joined = of("), (".join(sources), f"{what}, {ends}", by=JOURNAL)
        known = of(joined, '"missing", "with_ends"', where=[f'"above" >= 0 AND "below" < {_NO_END}'], by=JOURNAL)
        found.append(known)
    return found


def _none(what: str) -> tuple[str, str]:
    return f"{what} * 0", f"{what} * 0"


def _named(columns: tuple[str, ...]) -> str:
    names = ("above", "below", "n", "with_ends")
    return ", ".join(f'{what} AS "{name}"' for what, name in zip(columns, names, strict=True))


def course(what: tuple[str, str], name: str, *, alias: str, where: tuple[str, str] | None = None) -> list[Query]:
    """Return the queries of a figure over time, a series for each node."""
    by = ["time($__interval)", "node"]
    return [Query(f"{statement} fill(none)", alias) for statement in frames(what, name, by=by, where=where)]


def holes_over_time() -> list[Query]:
    """Return the queries of how many numbers each point of the chart lacks, a series for each node."""
    by = ["time($__interval)"]
    return [
        Query(of(inner, 'sum("n") AS "missing"', where=[IN_RANGE], by=[*by, "node"], tail="fill(none)"), "$tag_node")
        for inner in frames(HOLES, "n", by=[*by, *JOURNAL])
    ]


def late_share(*, over_time: bool) -> list[Query]:
    """Return the queries of which share of frames came late.

    Both counts are in both sources, one of them as zero: InfluxDB 1.x divides no column that only one source has.
    """
    by = ["time($__interval)", "node"] if over_time else []
    late = frames(_counts(zero="total"), "late", by=by, where=LATE)
    total = frames(_counts(zero="late"), "total", by=by)
    what, tail = 'sum("late") / sum("total") AS "late_share"', "fill(none)" if over_time else ""
    return [
        Query(of(f"{one}), ({other}", what, where=[IN_RANGE], by=by, tail=tail), "$tag_node", is_table=not over_time)
        for one, other in zip(late, total, strict=True)
    ]


def _counts(*, zero: str) -> tuple[str, str]:
    raw, rolled = (f'{what} * 0 AS "{zero}", {what}' for what in COUNT)
    return raw, rolled


def losses(what: str, *where: str) -> Query:
    """Return the query of what nodes declared as lost in the range."""
    return Query(select(what, "event", policy=FOREVER, where=[*HERE, *where]), is_table=True)


def silent() -> Query:
    """Return the query of how many nodes heard on the range's last day said nothing in its last ten minutes."""
    rows = select('count("uptime_s") AS "n"', "node", where=HERE, by=["fleet", "node"], within=ending("10m"))
    known = select('last("uptime_s") * 0 AS "n"', "node", where=HERE, by=["fleet", "node"], within=ending("1d"))
    each = of(f"{rows}), ({known}", 'sum("n") AS "n"', where=[ending("1d")], by=["fleet", "node"])
    return Query(of(each, 'count("n") AS "silent"', where=['"n" = 0']), is_table=True)
