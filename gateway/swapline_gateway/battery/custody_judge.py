"""Swaps and contradictions of one module, out of the stays in the store and of what else its holders told.

Everything here is a function of stored rows, but one thing: a departure without arrival becomes one by waiting.

Silence is no contradiction. A van of one module has no power when its module is out, so its node tells nothing, and
nobody else there could; and whose data are still on the way cannot have failed to tell. So a departure that was not
told counts only against a holder of which something else was heard at that time (`ARRIVAL_WITHOUT_DEPARTURE`) or went
silent with others still in it (`MOVED_WHILE_OFFLINE`), and half a swap only against one that was heard after it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise, zip_longest
from typing import NamedTuple, Protocol

from swapline_wire.catalogue_text import FOUND_GONE

from . import code
from .custody import SKEW_MS, SLACK_MS
from .custody_rows import contradiction_of, place_tags, read_lasting, stay_of
from .record import (
    ARRIVAL_WITHOUT_DEPARTURE,
    BY_DISPLACEMENT,
    BY_OTHER_PLACE,
    CODE_UNUSUAL,
    DEPARTURE_WITHOUT_ARRIVAL,
    HOUR_MS,
    MOVED_WHILE_OFFLINE,
    SWAP_HALF_TOLD,
    TWO_PLACES,
    Contradiction,
    Place,
    Sighting,
    Stay,
    Swap,
)
from .store import BatteryStore, ModuleRows
from .swap import EXCHANGE_MS, Move, Whereabouts, holder, is_one_exchange, make_swap
from .table import CONTRADICTION, STAY

OFFLINE_MS = 180_000  # three of the longest silences of a node that runs
LOST_AFTER_MS = 24 * HOUR_MS  # modules travel in vans, not in lorries; ours
HEARD_AFTER_MS = 300_000  # who speaks so long after a swap has told all that he had to tell of it: events go first
NEAR_MS = 120_000  # rows of a van that still say where a swap was
KIND_MS = HOUR_MS  # around a stay's end, to tell a station from a van
# Overlaps of places and of modules are found with the claims; these kinds here.
KINDS = (
    ARRIVAL_WITHOUT_DEPARTURE,
    CODE_UNUSUAL,
    DEPARTURE_WITHOUT_ARRIVAL,
    MOVED_WHILE_OFFLINE,
    SWAP_HALF_TOLD,
)


class Hours(Protocol):
    """What is asked of the book of hours."""

    def sightings(self, module: str, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[Sighting]:
        """Return where a module answered."""


class Verdict:
    """What was found about one module."""

    def __init__(self) -> None:
        self.swaps: list[Swap] = []
        self.contradictions: list[Contradiction] = []


class Judge:
    """See the module's header. For one round: what it asked once it does not ask again."""

    def __init__(self, store: BatteryStore, hours: Hours, *, now_utc_ms: int) -> None:
        self._store = store
        self._hours = hours
        self._now_utc_ms = now_utc_ms
        self._is_station: dict[tuple[str, str], bool | None] = {}

    def judge(self, module: str, since_utc_ms: int) -> Verdict:
        """Return swaps and contradictions that had not ended at that time."""
        verdict = Verdict()
        stays = self._stays(module, since_utc_ms - EXCHANGE_MS)
        moves = [Move(a, b) for a, b in pairwise(stays) if holder(a.place) != holder(b.place)]
        for move in moves:
            found = self._swap(move)
            if found is not None and module == (found.swap.module_out or found.swap.module_in):
                verdict.swaps.append(found.swap)
                verdict.contradictions += self._half_told(found)
            is_covered = found is not None and self._is_untold_by(found.swap, move.before.place)
            untold = self._untold_departure(move)
            verdict.contradictions += [one for one in untold if one.kind == MOVED_WHILE_OFFLINE or not is_covered]
        verdict.contradictions += self._gaps(stays)
        verdict.contradictions += self._unusual(module)
        verdict.swaps = [swap for swap in verdict.swaps if swap.end_utc_ms >= since_utc_ms]
        verdict.contradictions = [
            one for one in verdict.contradictions if one.until_utc_ms is None or one.until_utc_ms >= since_utc_ms
        ]
        return verdict

    def _stays(self, module: str, since_utc_ms: int) -> list[Stay]:
        """Return a module's stays from the first one on that had not ended at that time, and the one before it."""
        tags = {"module": module}
        rows = read_lasting(self._store, STAY, tags, since_utc_ms)
        first_ms = rows[0].time_utc_ms if rows else since_utc_ms
        rows = self._store.read(STAY, tags=tags, start_utc_ms=first_ms)
        before = self._store.read(STAY, tags=tags, end_utc_ms=first_ms, limit=1, newest_first=True)
        return [stay_of(row) for row in [*before, *rows]]

    # ---- swaps

    def _swap(self, move: Move) -> "_Found | None":
        """Return the swap that a module's move was part of."""
        if move.after is None or self._is_in_both(move.before, move.after):
            return None
        from_station, to_station = self._kind(move.before), self._kind(move.after)
        if from_station and to_station is False:
            removed = self._removed(move)
            where = self._whereabouts(move.after.place, move.after.from_utc_ms)
            return _Found(make_swap(move, removed, where), move, removed)
        if to_station and from_station is False:
            delivered = self._delivered(move) or self._handed_out(move)
            at_ms = move.before.until_utc_ms or move.after.from_utc_ms
            where = self._whereabouts(move.before.place, at_ms)
            return _Found(make_swap(delivered, move, where), delivered, move)
        return None

    def _is_in_both(self, before: Stay, after: Stay) -> bool:
        """Say whether a module answered in both places at one time and nobody told that it left: it did not move."""
        last_ms = _left_ms(before)
        if before.went is not None or after.from_utc_ms >= last_ms - SKEW_MS:
            return False
        tags = {"kind": TWO_PLACES, "module": before.module}
        met = [("until_utc_ms", ">=", after.from_utc_ms)]
        rows = self._store.read(CONTRADICTION, tags=tags, where=met, end_utc_ms=last_ms + 1)
        pairs = [{one.place, one.other_place} for one in map(contradiction_of, rows)]
        return {before.place, after.place} in pairs

    def _removed(self, delivered: Move) -> Move | None:
        """Return the move of the module that had to leave the van's bay for a delivered one."""
        assert delivered.after is not None
        before = self._neighbour(delivered.after, -1)
        if before is None:
            return None
        move = Move(before, self._next_holder(before))
        return move if is_one_exchange(delivered, move) else None

    def _delivered(self, removed: Move) -> Move | None:
        """Return the move of the module that came into the van's bay instead of a removed one."""
        after = self._neighbour(removed.before, +1)
        if after is None:
            return None
        source = self._store.read(
            STAY, tags={"module": after.module}, end_utc_ms=after.from_utc_ms, limit=1, newest_first=True
        )
        move = Move(stay_of(source[0]), after) if source else None
        return move if move is not None and is_one_exchange(move, removed) else None

    def _handed_out(self, removed: Move) -> Move | None:
        """Return the move of a module that the station gave out for this request, and the van does not tell of."""
        arrived = removed.after
        if arrived is None or arrived.came is None or not arrived.came.request_id:
            return None
        at_ms = arrived.from_utc_ms
        tags = {"fleet": arrived.place.fleet, "node": arrived.place.node}
        ended = [("until_utc_ms", ">=", at_ms - EXCHANGE_MS), ("until_utc_ms", "<=", at_ms + EXCHANGE_MS)]
        for row in self._store.read(STAY, tags=tags, where=ended):
            stay = stay_of(row)
            if stay.module != arrived.module and stay.went is not None:
                seen_again = self._next_holder(stay)
                is_same = stay.went.request_id == arrived.came.request_id
                if is_same and (seen_again is None or holder(seen_again.place) != holder(removed.before.place)):
                    return Move(stay, None)
        return None

    def _neighbour(self, stay: Stay, direction: int) -> Stay | None:
        """Return the stay in the same bay before or after this one."""
        read = partial(self._store.read, STAY, tags=place_tags(stay.place), limit=1)
        if direction > 0:
            rows = read(start_utc_ms=stay.from_utc_ms + 1)
        else:
            rows = read(end_utc_ms=stay.from_utc_ms, newest_first=True)
        return stay_of(rows[0]) if rows else None

    def _next_holder(self, stay: Stay) -> Stay | None:
        """Return where a module was next, if that is another holder."""
        rows = self._store.read(STAY, tags={"module": stay.module}, start_utc_ms=stay.from_utc_ms + 1, limit=1)
        found = stay_of(rows[0]) if rows else None
        return found if found is not None and holder(found.place) != holder(stay.place) else None

    def _kind(self, stay: Stay) -> bool | None:
        """Say whether a stay was in a station: it has slots, a van is a vehicle, and only stations charge modules."""
        key = holder(stay.place)
        if key not in self._is_station:
            at_ms = stay.until_utc_ms or stay.last_seen_utc_ms or stay.from_utc_ms
            if self._rows(stay.place, "slot", ["occupied"], at_ms - KIND_MS, at_ms + KIND_MS).time_utc_ms:
                self._is_station[key] = True
            elif self._rows(stay.place, "vehicle", ["odometer_km"], at_ms - KIND_MS, at_ms + KIND_MS).time_utc_ms:
                self._is_station[key] = False
        known = self._is_station.get(key)
        if known is None and stay.came is not None and stay.went is not None:
            came, went = stay.came.soc_pct, stay.went.soc_pct
            known = None if came is None or went is None or came == went else went > came
        return known

    def _rows(self, place: Place, stream: str, signals: list[str], start_ms: int, end_ms: int) -> ModuleRows:
        return self._store.holder_readings(
            place.fleet, place.node, signals, stream=stream, start_utc_ms=start_ms, end_utc_ms=end_ms
        )

    def _whereabouts(self, van: Place, at_ms: int) -> Whereabouts:
        """Return where a van's own rows say that it was, by the row nearest in time."""
        span = (at_ms - NEAR_MS, at_ms + NEAR_MS)
        odometer = _nearest(self._rows(van, "vehicle", ["odometer_km"], *span), at_ms)
        position = _nearest(self._rows(van, "position", ["latitude_deg", "longitude_deg"], *span), at_ms)
        return Whereabouts(odometer.get("odometer_km"), position.get("latitude_deg"), position.get("longitude_deg"))

    # ---- contradictions

    def _half_told(self, found: "_Found") -> Iterator[Contradiction]:
        """Yield a swap that one side tells, and the other, which was heard at its time and after it, does not."""
        swap = found.swap
        if swap.told_by_van and swap.told_by_station:
            return
        left = found.delivered if swap.told_by_van else found.removed
        if left is not None and self._is_heard_at(left.before, _left_ms(left.before)) is False:
            return  # `MOVED_WHILE_OFFLINE` says more
        van = Place(swap.fleet, swap.van or "", swap.bay or 0)
        station = Place(swap.fleet, swap.station or "", swap.slot_in or swap.slot_out or 0)
        silent, telling = (station, van) if swap.told_by_van else (van, station)
        if swap.told_by_van == swap.told_by_station or not self._is_heard_after(silent, swap.end_utc_ms):
            return
        module = swap.module_out or swap.module_in or ""
        other = swap.module_in if swap.module_out else None
        words = f"{describe(telling)} tells the swap of {_both(module, other)}, {describe(silent)} tells nothing of it"
        yield Contradiction(SWAP_HALF_TOLD, module, swap.start_utc_ms, swap.end_utc_ms, telling, silent, other, words)

    def _is_untold_by(self, swap: Swap, place: Place) -> bool:
        """Say whether this holder tells nothing of a swap that the other side tells: that is the contradiction then."""
        if place.node == swap.van:
            return swap.told_by_van == 0 and swap.told_by_station > 0
        return swap.told_by_station == 0 and swap.told_by_van > 0

    def _is_heard_after(self, place: Place, time_ms: int) -> bool:
        tags = {"fleet": place.fleet, "node": place.node}
        heard_ms = time_ms + HEARD_AFTER_MS
        if self._store.read(STAY, tags=tags, start_utc_ms=heard_ms, limit=1):
            return True
        rows = read_lasting(self._store, STAY, tags, heard_ms)
        return any(row.fields.get("last_seen_utc_ms", 0) >= heard_ms for row in rows)

    def _untold_departure(self, move: Move) -> Iterator[Contradiction]:
        """Yield that a module turned up in another place, and nobody saw it leave the place before."""
        before, after = move
        assert after is not None
        is_late = before.went is not None and before.went.reason == FOUND_GONE
        left_ms = _left_ms(before)
        if before.until_evidence not in (BY_OTHER_PLACE, BY_DISPLACEMENT) and not is_late:
            return
        if after.from_utc_ms < left_ms - SKEW_MS:
            return  # it was in two places, which is another contradiction
        heard = self._is_heard_at(before, left_ms)
        if heard is None:
            return
        place = describe(before.place)
        if not heard:
            if not self._is_heard_after(before.place, left_ms):
                return  # its data may be on their way
            kind = MOVED_WHILE_OFFLINE
            words = f"{before.module} was last known in {place} at {_time(left_ms)}, when that fell silent; it was"
        elif before.until_evidence == BY_OTHER_PLACE:
            kind = ARRIVAL_WITHOUT_DEPARTURE
            words = f"{before.module} was last known in {place} at {_time(left_ms)}; no departure was told, and it was"
        else:
            return
        words += f" in {describe(after.place)} from {_time(after.from_utc_ms)} on"
        arrived = after.from_utc_ms
        yield Contradiction(kind, before.module, arrived, arrived, after.place, before.place, None, words)

    def _is_heard_at(self, stay: Stay, left_ms: int) -> bool | None:
        """Say whether others in the same holder were heard just after a module left; None if nobody else was there."""
        tags = {"fleet": stay.place.fleet, "node": stay.place.node}
        rows = read_lasting(self._store, STAY, tags, left_ms - OFFLINE_MS)
        rows = [row for row in rows if row.time_utc_ms < left_ms + SLACK_MS]
        others = [other for other in map(stay_of, rows) if other.place != stay.place]
        was_there = False
        for other in others:
            for sighting in self._hours.sightings(other.module, _hour(left_ms - OFFLINE_MS), left_ms + HOUR_MS):
                is_here = sighting.place == other.place and sighting.first_utc_ms <= left_ms + SLACK_MS
                if is_here and sighting.last_utc_ms > left_ms + SLACK_MS:
                    return True
                was_there = was_there or (is_here and sighting.last_utc_ms >= left_ms - OFFLINE_MS)
        if was_there:
            return False
        # A station runs from the grid: it hears even where it held one module only.
        span = (left_ms + SLACK_MS, left_ms + OFFLINE_MS)
        return True if self._kind(stay) and self._rows(stay.place, "slot", ["occupied"], *span).time_utc_ms else None

    def _gaps(self, stays: list[Stay]) -> Iterator[Contradiction]:
        """Yield departures after which the module was nowhere for too long."""
        ends = [stay.from_utc_ms for stay in stays[1:]]
        for stay, end_ms in zip_longest(stays, ends):
            left_ms = stay.until_utc_ms
            if stay.until_evidence in (None, BY_OTHER_PLACE, BY_DISPLACEMENT) or left_ms is None:
                continue
            if (self._now_utc_ms if end_ms is None else end_ms) - left_ms <= LOST_AFTER_MS:
                continue
            then = "and has turned up nowhere since" if end_ms is None else f"and turned up only at {_time(end_ms)}"
            words = f"{stay.module} left {describe(stay.place)} at {_time(left_ms)}, {then}"
            yield Contradiction(DEPARTURE_WITHOUT_ARRIVAL, stay.module, left_ms, end_ms, stay.place, None, None, words)

    def _unusual(self, module: str) -> Iterator[Contradiction]:
        problems = code.parse(module).problems
        if not problems:
            return
        for row in self._store.read(STAY, tags={"module": module}, limit=1):
            first = stay_of(row)
            words = f"{module!r} is no code of GB/T 34014: {'; '.join(problems)}"
            yield Contradiction(CODE_UNUSUAL, module, first.from_utc_ms, None, first.place, None, None, words)


class _Found(NamedTuple):
    """A swap and the moves that it consists of."""

    swap: Swap
    delivered: Move | None
    removed: Move | None


def _left_ms(stay: Stay) -> int:
    """Return when a module left, or was last known to be there."""
    return stay.went.time_utc_ms if stay.went else stay.last_seen_utc_ms or stay.from_utc_ms


def describe(place: Place) -> str:
    """Return a place in words."""
    return f"{place.node} bay {place.bay}" if place.bay else place.node


def _both(module: str, other: str | None) -> str:
    return module if other is None else f"{module} for {other}"


def _time(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _hour(utc_ms: int) -> int:
    return utc_ms // HOUR_MS * HOUR_MS


def _nearest(rows: ModuleRows, at_ms: int) -> dict[str, float]:
    """Return each signal's value that is nearest in time."""
    found: dict[str, tuple[int, float]] = {}
    for name, column in rows.columns.items():
        for time_ms, value in zip(rows.time_utc_ms, column, strict=True):
            distance = abs(time_ms - at_ms)
            if value is not None and (name not in found or distance < found[name][0]):
                found[name] = (distance, value)
    return {name: value for name, (_, value) in found.items()}
