"""Questions about `frames`, the gateway's point for each frame, and about losses that nodes declared.

A journal numbers its frames from 1. Of the numbers in a range, those between the smallest and the largest that are not
there are missing. Numbers of frames and times of their first rows are not in one order, so at both ends of a range some
frames seem to be missing that are only outside: at most one for each stream and bay of the node.
"""

from collections.abc import Sequence

from swapline_cloud.query import CHOICES, IN_RANGE, Query, ending, of, select, tag_is
from swapline_cloud.rollup import FOREVER, RAW
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


def holes() -> list[Query]:
    """Return the queries of how many frames are missing in the range, of all journals."""
    return [Query(of(inner, 'sum("n") AS "missing"'), is_table=True) for inner in frames(HOLES, "n", by=JOURNAL)]


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
