"""Compare who the database says held which module, and when, with what happened in the world."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb

from swapline_bench.custody import CustodyEvent
from swapline_wire import catalogue

CLOCK_SLACK_S = 2.0  # a node's clock may be wrong by its quality; a swap leaves a bay empty for 8 s
SETTLE_S = 15.0  # a node has seen, sealed and sent a swap at the latest by then; younger ones are not judged

Place = tuple[str, int, str]  # holder, bay, module


@dataclass(frozen=True, slots=True)
class Truth:
    """What happened in the world. `stopped_s` is when the nodes stopped, on the clock of `custody`.

    `clock_utc_s` is UTC of that clock's zero. The database may hold earlier runs of other worlds; `began_utc_s` tells
    this one's rows and events from theirs.
    """

    custody: Sequence[CustodyEvent]
    began_utc_s: float
    stopped_s: float
    clock_utc_s: float


@dataclass(slots=True)
class Arrivals:
    """Swaps that nodes reported and the world confirms, swaps that happened, and what does not agree."""

    swaps: int = 0
    swaps_in_world: int = 0
    errors: list[str] = field(default_factory=list)


def check_arrivals(connection: duckdb.DuckDBPyConnection, truth: Truth) -> Arrivals:
    """Compare the modules' arrivals that the nodes reported with those that happened."""
    found = Arrivals()
    seen: Counter[Place] = Counter()
    reported = connection.execute(
        "SELECT node, bay, module FROM event WHERE code = ? AND time >= make_timestamp(?)",
        [catalogue.BATTERY_IN, int((truth.began_utc_s - CLOCK_SLACK_S) * 1_000_000)],
    ).fetchall()
    for node, bay, module in reported:
        seen[node, int(bay), module] += 1
    arrivals = [event for event in truth.custody if event.kind == "in"]
    expected = Counter((event.holder, event.bay, event.code) for event in arrivals)
    exchanged = Counter((event.holder, event.bay, event.code) for event in arrivals if event.request_id)
    settled = Counter(
        (event.holder, event.bay, event.code) for event in arrivals if event.real_time_s <= truth.stopped_s - SETTLE_S
    )
    for place, count in sorted(settled.items()):
        if seen[place] < count:
            found.errors.append(f"{_describe(place)} arrived {count} times, {seen[place]} reported")
    found.errors += [
        f"{_describe(place)} is reported, but was never there" for place in sorted(seen.keys() - expected.keys())
    ]
    found.swaps = sum(min(seen[place], count) for place, count in exchanged.items() if place[0].startswith("van"))
    found.swaps_in_world = sum(count for place, count in exchanged.items() if place[0].startswith("van"))
    return found


def check_owners(connection: duckdb.DuckDBPyConnection, truth: Truth) -> list[str]:
    """Return one sentence for each place whose rows are credited to a module that was not there at their time.

    Rows whose time is only estimated are not judged.
    """
    stays = _find_stays(truth)
    strangers: Counter[Place] = Counter()
    for stream in (catalogue.MODULE, catalogue.CELLS):
        rows = connection.execute(
            f"SELECT node, bay, module, epoch_ms(time) / 1000 FROM {stream.name} "  # noqa: S608 - from the catalogue
            "WHERE time >= make_timestamp(?) AND time_quality > ?",
            [int(truth.began_utc_s * 1_000_000), catalogue.TIME_ESTIMATED],
        ).fetchall()
        for node, bay, module, utc_s in rows:
            place = (node, int(bay), module)
            if not any(first_s <= utc_s <= last_s for first_s, last_s in stays[place]):
                strangers[place] += 1
    return [
        f"{count} rows are credited to {_describe(place)}, which was not there then"
        for place, count in sorted(strangers.items())
    ]


def _find_stays(truth: Truth) -> defaultdict[Place, list[tuple[float, float]]]:
    """Return for each module in each bay from when to when it was there, in seconds of UTC with slack."""
    stays: defaultdict[Place, list[tuple[float, float]]] = defaultdict(list)
    for event in truth.custody:
        utc_s = event.real_time_s + truth.clock_utc_s
        intervals = stays[event.holder, event.bay, event.code]
        if event.kind == "in":
            intervals.append((utc_s - CLOCK_SLACK_S, float("inf")))
        else:
            intervals[-1] = (intervals[-1][0], utc_s + CLOCK_SLACK_S)
    return stays


def _describe(place: Place) -> str:
    return f"module {place[2]} in bay {place[1]} of {place[0]}"
