"""Custody of modules from evidence: claims of one module, and what a bay makes of all modules' claims. Pure functions.

Evidence is what nodes told: sightings (runs of readings), BatteryIn, BatteryOut. Two levels, so that nothing depends on
itself: `find_claims` looks at one module everywhere, `settle_bay` at one bay with the claims of all modules there.
Nothing is smoothed away: what cannot all be true is found (`Overlap`), and the claims stand as they were told.

Both work from left to right. What lies before a time, and ended before it, does not change with evidence after it, so
that a book can derive a window again (custody_book.py) and comes to what a derivation of everything comes to.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from swapline_wire.catalogue_text import SILENT, STILL_THERE

from .record import BY_DISPLACEMENT, BY_EVENT, BY_OTHER_PLACE, BY_SIGHTING, Place, Sighting, Stay, SwapHalf

# Two nodes' clocks may differ by so much: each is up to 10 s wrong at time quality "gateway" (docs/node.md).
SKEW_MS = 20_000
# One node tells an arrival and its first row, a departure and its last row, by one clock, but not in one instant.
SLACK_MS = 5_000
# Overlaps of the same two that are less apart are one.
EPISODE_GAP_MS = 3_600_000


class Overlap(NamedTuple):
    """Two places of one module, or two claims to one bay, that both answered in this time."""

    first: Any
    second: Any
    start_utc_ms: int
    end_utc_ms: int


class _Atom(NamedTuple):
    """Evidence that the module was in a place from `start` to `end`; `half` where it is a swap event."""

    start: int
    end: int
    place: Place
    half: SwapHalf | None


@dataclass(slots=True)
class _Open:
    """A claim that is being made. `proof_ms`: when the module was last known to be there."""

    stay: Stay
    proof_ms: int


def find_claims(
    module: str,
    sightings: Iterable[Sighting],
    halves: Iterable[SwapHalf],
    *,
    carried: Stay | None = None,
    carried_proof_ms: int = 0,
) -> list[Stay]:
    """Return where the module was by its own evidence, in the order of time.

    `carried` is a claim that began before this evidence and was last known to be true at `carried_proof_ms`.
    """
    atoms = _atoms(list(sightings), list(halves))
    presence = _Presence(atoms)
    open_claims: dict[Place, _Open] = {}
    if carried is not None:
        open_claims[carried.place] = _Open(carried, carried_proof_ms)
    done: list[Stay] = []
    for atom in atoms:
        found = open_claims.get(atom.place)
        if found is not None and presence.was_elsewhere(found, atom):
            done.append(presence.leave(open_claims.pop(atom.place)))
            found = None
        if atom.half is not None and not atom.half.is_in:
            _depart(module, open_claims, done, atom.half)
        elif found is None:
            open_claims[atom.place] = _Open(_begin(module, atom), atom.end)
        else:
            _extend(found, atom)
    return sorted([*done, *map(presence.leave, open_claims.values())], key=stay_order)


def stay_order(stay: Stay) -> tuple[int, str, Place]:
    """Return what stays are sorted by."""
    return stay.from_utc_ms, stay.module, stay.place


def proof_ms(stay: Stay) -> int:
    """Return when the module was last known to be there."""
    known = [stay.from_utc_ms, stay.last_seen_utc_ms or 0]
    if stay.went is not None:
        known.append(stay.went.time_utc_ms)
    return max(known)


def _atoms(sightings: list[Sighting], halves: list[SwapHalf]) -> list[_Atom]:
    """Return all evidence by time. A bay that fell silent although its module cannot have left tells no departure."""
    told = [half for half in halves if half.is_in or half.reason != SILENT]
    atoms = [_Atom(half.time_utc_ms, half.time_utc_ms, half.place, half) for half in told]
    for place, runs in runs_by_place(sightings, halves).items():
        atoms += [_Atom(start, end, place, None) for start, end in runs]
    # At one moment: a departure, then an arrival, then readings.
    return sorted(set(atoms), key=lambda a: (a.start, _rank(a.half), a.place, a.end))


def _rank(half: SwapHalf | None) -> int:
    return 2 if half is None else int(half.is_in)


def runs_by_place(sightings: Iterable[Sighting], halves: Iterable[SwapHalf]) -> dict[Place, list[tuple[int, int]]]:
    """Return when a module answered where. A run of readings is cut where its node told that the module left.

    A run has no gaps of more than three minutes, but a module can be taken out and put in again in less.
    """
    events: dict[Place, list[tuple[int, bool]]] = {}
    for half in halves:
        if half.is_in or half.reason != SILENT:
            events.setdefault(half.place, []).append((half.time_utc_ms, half.is_in))
    runs: dict[Place, list[tuple[int, int]]] = {}
    for told in events.values():
        told.sort()
    for sighting in sorted(sightings, key=lambda s: s.first_utc_ms):
        runs.setdefault(sighting.place, []).extend(_cut(sighting, events.get(sighting.place, [])))
    return runs


def _cut(sighting: Sighting, events: list[tuple[int, bool]]) -> Iterator[tuple[int, int]]:
    start, end = sighting.first_utc_ms, sighting.last_utc_ms
    inside = events[bisect_left(events, (start, False)) : bisect_left(events, (end, False))]
    for n, (time_ms, is_in) in enumerate(inside):
        if is_in or time_ms < start:
            continue
        yield start, time_ms
        if end - time_ms <= SLACK_MS:
            return
        start = next((later for later, is_arrival in inside[n:] if is_arrival), time_ms + 1)
    yield start, end


class _Presence:
    """All evidence of one module, by place: was it elsewhere after a time, and since when."""

    def __init__(self, atoms: Sequence[_Atom]) -> None:
        by_place: dict[Place, list[_Atom]] = {}
        for atom in atoms:
            if atom.half is None or atom.half.is_in:
                by_place.setdefault(atom.place, []).append(atom)
        self._starts = {place: [atom.start for atom in found] for place, found in by_place.items()}
        self._ends = {place: list(accumulate([atom.end for atom in found], max)) for place, found in by_place.items()}

    def was_elsewhere(self, claim: _Open, atom: _Atom) -> bool:
        """Say whether it was in another place between a claim's last proof and new evidence of the same place."""
        if atom.start - claim.proof_ms <= SKEW_MS:
            return False
        away_ms = self._away(claim.stay.place, claim.proof_ms)
        return away_ms is not None and away_ms < atom.start

    def leave(self, claim: _Open) -> Stay:
        """End a claim that nobody told the end of, if the module answered in another place after it."""
        away_ms = self._away(claim.stay.place, claim.proof_ms)
        if away_ms is None:
            return claim.stay
        return replace(claim.stay, until_utc_ms=away_ms, until_evidence=BY_OTHER_PLACE)

    def _away(self, place: Place, known_ms: int) -> int | None:
        """Return when it was first somewhere else after `known_ms`; that itself, if it already was there by then."""
        found = []
        for other, starts in self._starts.items():
            if other == place:
                continue
            count = bisect_right(starts, known_ms)
            if count and self._ends[other][count - 1] > known_ms + SKEW_MS:
                return known_ms
            found += starts[count : count + 1]
        return min(found, default=None)


def _begin(module: str, atom: _Atom) -> Stay:
    half = atom.half
    if half is not None and half.reason != STILL_THERE:
        return Stay(module, atom.place, atom.start, BY_EVENT, came=half)
    first, last = (atom.start, atom.end) if half is None else (None, None)
    return Stay(module, atom.place, atom.start, BY_SIGHTING, first_seen_utc_ms=first, last_seen_utc_ms=last)


def _extend(claim: _Open, atom: _Atom) -> None:
    stay, half = claim.stay, atom.half
    if half is None:
        first = atom.start if stay.first_seen_utc_ms is None else min(stay.first_seen_utc_ms, atom.start)
        last = max(stay.last_seen_utc_ms or 0, atom.end)
        claim.stay = replace(stay, first_seen_utc_ms=first, last_seen_utc_ms=last)
    elif stay.came is None and half.reason != STILL_THERE and half.time_utc_ms - stay.from_utc_ms <= SLACK_MS:
        claim.stay = replace(stay, from_evidence=BY_EVENT, came=half)  # its first row was a moment before it was told
    claim.proof_ms = max(claim.proof_ms, atom.end)


def _depart(module: str, open_claims: dict[Place, _Open], done: list[Stay], half: SwapHalf) -> None:
    time_ms = half.time_utc_ms
    found = open_claims.pop(half.place, None)
    if found is not None:
        until_ms = max(time_ms, found.stay.from_utc_ms)
        done.append(replace(found.stay, until_utc_ms=until_ms, until_evidence=BY_EVENT, went=half))
        return
    since_ms = time_ms - 1000 * (half.duration_s or 0)
    before = next((stay for stay in reversed(done) if stay.place == half.place), None)
    if before is not None and since_ms <= (before.until_utc_ms or proof_ms(before)) + SLACK_MS:
        return  # told twice: its node lost power before it could note that it had told it
    if any((stay.until_utc_ms or proof_ms(stay)) > since_ms for stay in done):
        since_ms = time_ms
    done.append(Stay(module, half.place, since_ms, BY_EVENT, time_ms, BY_EVENT, went=half))


def find_two_places(runs: dict[Place, list[tuple[int, int]]]) -> list[Overlap]:
    """Return when one module answered in two places at one time, beyond what two clocks may differ."""
    ordered = sorted((start, end, place) for place, found in runs.items() for start, end in found)
    meetings: dict[tuple[Place, Place], list[tuple[int, int]]] = {}
    active: list[tuple[int, int, Place]] = []
    for start, end, place in ordered:
        active = [one for one in active if one[1] > start + SKEW_MS]
        for _, other_end, other in active:
            if other != place and min(end, other_end) - start > SKEW_MS:
                meetings.setdefault((min(place, other), max(place, other)), []).append((start, min(end, other_end)))
        active.append((start, end, place))
    found = []
    for pair, times in meetings.items():
        for start, end in _episodes(times):
            before, after = sorted(pair, key=lambda place: (_begun(runs[place], start), place))
            found.append(Overlap(before, after, start, end))
    return sorted(found, key=lambda one: (one.start_utc_ms, one.first, one.second))


def _begun(runs: list[tuple[int, int]], at_ms: int) -> int:
    return max((start for start, _ in runs if start <= at_ms), default=at_ms)


def _episodes(times: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join times that are not far apart."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(times):
        if joined and start - joined[-1][1] <= EPISODE_GAP_MS:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


RunsOf = Callable[[Stay], Sequence[tuple[int, int]]]


class Settled(NamedTuple):
    """What a bay makes of the claims to it. `overlaps` are of two claims."""

    stays: list[Stay]
    overlaps: list[Overlap]


def settle_bay(claims: Sequence[Stay], runs_of: RunsOf) -> Settled:
    """Return who was in a bay: where one module's claim ends because another one answered there.

    `runs_of` returns the runs of readings of a claim; it is only asked where claims meet.
    """
    ordered = sorted(claims, key=stay_order)
    meeting = _find_meeting(ordered)
    parts = [_parts(claim, runs_of if n in meeting else None) for n, claim in enumerate(ordered)]
    starts = sorted((start, n) for n, found in enumerate(parts) for start, _ in found)
    stays = [stay for n, claim in enumerate(ordered) for stay in _settle_claim(claim, n, parts[n], starts)]
    overlaps = [
        Overlap(ordered[i], ordered[j], start, end)
        for i, j in _pairs(ordered, sorted(meeting))
        for start, end in _episodes(_common(parts[i], parts[j]))
    ]
    return Settled(sorted(stays, key=stay_order), overlaps)


def _find_meeting(ordered: Sequence[Stay]) -> set[int]:
    """Return which claims have another one that begins before their last proof."""
    found: set[int] = set()
    latest = 0
    for n in range(1, len(ordered)):
        if proof_ms(ordered[n - 1]) >= proof_ms(ordered[latest]):
            latest = n - 1
        if ordered[n].from_utc_ms < proof_ms(ordered[latest]) - SLACK_MS:
            found |= {latest, n}
    return found


def _pairs(ordered: Sequence[Stay], meeting: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield which two of those that meet are of two modules and meet each other."""
    for at, i in enumerate(meeting):
        end = proof_ms(ordered[i])
        for j in meeting[at + 1 :]:
            if ordered[j].from_utc_ms >= end:
                break
            if ordered[i].module != ordered[j].module:
                yield i, j


def _parts(claim: Stay, runs_of: RunsOf | None) -> list[tuple[int, int]]:
    """Return when a module was known to be in the bay."""
    start, end = claim.from_utc_ms, proof_ms(claim)
    if runs_of is None:
        return [(start, end)]
    found = [(max(first, start), min(last, end)) for first, last in runs_of(claim) if first <= end and last >= start]
    parts = sorted(found)
    if not parts or parts[0][0] > start:
        parts.insert(0, (start, start))
    if parts[-1][1] < end:
        parts.append((end, end))
    return parts


def _common(ones: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the times in which both are known to be there; by one clock, that is to the second."""
    i = j = 0
    while i < len(ones) and j < len(others):
        start, end = max(ones[i][0], others[j][0]), min(ones[i][1], others[j][1])
        if end - start > SLACK_MS:
            yield start, end
        if ones[i][1] <= others[j][1]:
            i += 1
        else:
            j += 1


def _settle_claim(
    claim: Stay, n: int, parts: list[tuple[int, int]], starts: Sequence[tuple[int, int]]
) -> Iterator[Stay]:
    """Yield a claim, in two or more stays where another module was there in between."""
    rest = claim
    for (_, end), (start, _) in pairwise(parts):
        between = _first_other(starts, n, end)
        if between is not None and between < start:
            last = None if rest.first_seen_utc_ms is None else end
            yield replace(rest, until_utc_ms=between, until_evidence=BY_DISPLACEMENT, last_seen_utc_ms=last, went=None)
            rest = replace(claim, from_utc_ms=start, from_evidence=BY_SIGHTING, came=None, first_seen_utc_ms=start)
    end = parts[-1][1]
    other = _first_other(starts, n, max(end - SLACK_MS, rest.from_utc_ms + 1))
    if other is not None and claim.went is None and _ends_after(claim, max(other, end)):
        yield replace(rest, until_utc_ms=max(other, end), until_evidence=BY_DISPLACEMENT)
    else:
        yield rest


def _ends_after(claim: Stay, time_ms: int) -> bool:
    return claim.until_utc_ms is None or claim.until_utc_ms > time_ms


def _first_other(starts: Sequence[tuple[int, int]], n: int, from_ms: int) -> int | None:
    """Return when another claim than `n` has its next beginning, from that time on."""
    place = bisect_left(starts, (from_ms, -1))
    while place < len(starts) and starts[place][1] == n:
        place += 1
    return starts[place][0] if place < len(starts) else None
