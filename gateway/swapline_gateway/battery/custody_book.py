"""The book of custody: claims, stays, swaps and contradictions, kept in tables and derived again where evidence came.

A refresh goes through three levels, each a function of what is stored below it:
1. claims of each module, from its own hours and swap events (`custody.find_claims`);
2. stays in each bay that they claim (`custody.settle_bay`);
3. swaps and contradictions of each module that was in a holder that was touched (`custody_judge.Judge`).

Each reads a window only: back to where nothing that is open then reaches further. What ended before it stays as it is.
A module that stood still for a year costs no year of hours: its claim is taken up where it was last known to be true.
Rows that are no longer true are written again as void, but those that stood on readings which the database has dropped
since: nobody can say any more that they are not true. So any order of evidence, any cuts, and several gateways at
once come to the rows that one derivation of everything comes to, as soon as each change has been refreshed once more.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import NamedTuple, Protocol, cast

from swapline_gateway.spool import now_utc_ms
from swapline_wire.catalogue import TIME_GATEWAY

from .custody import EPISODE_GAP_MS, Overlap, RunsOf, find_claims, find_two_places, runs_by_place, settle_bay
from .custody_judge import KINDS, LOST_AFTER_MS, Judge, describe
from .custody_ledger import CustodyLedgers
from .custody_rows import (
    YEAR_MS,
    Bygone,
    changes,
    contradiction_row,
    place_of,
    place_tags,
    read_lasting,
    stay_of,
    stay_row,
    swap_row,
)
from .draft import Draft
from .hour import ModuleHour
from .record import (
    BY_EVENT,
    BY_OTHER_PLACE,
    HOUR_MS,
    SWAP_HALF_TOLD,
    TWO_MODULES,
    TWO_PLACES,
    Contradiction,
    Place,
    Sighting,
    Stay,
    SwapHalf,
)
from .run import join_sightings
from .store import BatteryStore
from .swap import EXCHANGE_MS
from .table import CLAIM, CONTRADICTION, STAY, SWAP, Row, Table

MARGIN_MS = HOUR_MS  # evidence may change what is so much older: runs that go on, clocks that differ
LOOK_BACK_MS = 3 * HOUR_MS  # for the last proof of a claim; twice as far each time there is none
DOUBT_MS = 6 * HOUR_MS  # of two places or modules at one time, whose rows' clocks are looked at
SILENCE_MS_MAX = 30 * 24 * HOUR_MS  # a holder that speaks again after longer is judged by a rebuild only
SWEEP_MS = HOUR_MS

Progress = Callable[[str, int, int], None]


class HourBookLike(Protocol):
    """What is asked of the book of hours."""

    def hours(self, module: str, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[ModuleHour]:
        """See `HourBook.hours`."""


class Figures(NamedTuple):
    """What a rebuild came to. `rows_changed`: written, or with `is_check` what would have been."""

    modules: int
    stays: int
    swaps: int
    contradictions: int
    rows_changed: int


class _Claimed(NamedTuple):
    """Level 1 of one module: bays that it claims, and since when; holders; since when it was derived again.

    `is_changed`: two places at one time were found, or taken back.
    """

    places: dict[Place, int]
    nodes: set[tuple[str, str]]
    start_ms: int
    is_changed: bool


class CustodyBook(CustodyLedgers):
    """See the module's header. `now_utc_ms` decides only for how long a module has been nowhere."""

    def __init__(self, store: BatteryStore, hours: HourBookLike, *, now_utc_ms: Callable[[], int] = now_utc_ms) -> None:
        super().__init__(store, now_utc_ms=now_utc_ms)
        self._sightings = Sightings(hours)
        self._swept_utc_ms: int | None = None
        self._bygone = Bygone(store, now_utc_ms)

    def refresh(self, modules: Collection[str], *, since_utc_ms: int) -> set[str]:
        """Derive what evidence of these modules since then may have changed. Returns modules whose custody changed."""
        codes = [module for module in modules if module]  # a module without a code is in nobody's custody
        window_ms = max(0, _hour(since_utc_ms) - MARGIN_MS)
        claimed = {module: self._claim(module, window_ms) for module in codes}
        changed = {module for module, found in claimed.items() if found.is_changed}
        for place in {place for found in claimed.values() for place in found.places}:
            changed |= self._settle(place, min(f.places[place] for f in claimed.values() if place in f.places))
        nodes = {node for found in claimed.values() for node in found.nodes}
        judged = self._touched({module: found.start_ms for module, found in claimed.items()}, nodes, window_ms)
        return changed | {module for module, since_ms in judged.items() if self._judge(module, since_ms)}

    def rebuild(
        self,
        progress: Progress = lambda _what, _done, _all: None,
        *,
        module: str | None = None,
        is_check: bool = False,
    ) -> Figures:
        """Derive everything again from the stored hours and events, and write what differs; `is_check`: only count it.

        With `module` only this one's claims, and what they touch.
        """
        draft = Draft(self._store, is_writing=not is_check)
        store = cast("BatteryStore", draft)
        book = CustodyBook(store, self._sightings.hours, now_utc_ms=self._now_utc_ms)
        codes = self._store.modules() if module is None else [module]
        book.derive_all(codes, progress)
        swaps, contradictions = self._count(store, SWAP, module), self._count(store, CONTRADICTION, module)
        return Figures(len(codes), self._count(store, STAY, module), swaps, contradictions, draft.change_count)

    def derive_all(self, codes: Iterable[str], progress: Progress) -> None:
        """Derive all levels of these modules from their beginning."""
        modules = sorted(set(codes))
        places: dict[Place, int] = {}
        touched = set(modules)
        for done, module in enumerate(modules, 1):
            self._claim(module, 0)
            places |= {place_of(row.tags): 0 for row in self._store.read(CLAIM, tags={"module": module})}
            places |= {place_of(row.tags): 0 for row in self._store.read(STAY, tags={"module": module})}
            progress("claims", done, len(modules))
        for done, place in enumerate(sorted(places), 1):
            touched |= self._settle(place, 0)
            progress("bays", done, len(places))
        for done, module in enumerate(sorted(touched), 1):
            self._judge(module, 0)
            progress("swaps", done, len(touched))

    @staticmethod
    def _count(store: BatteryStore, table: Table, module: str | None) -> int:
        return store.count(table) if module is None else len(store.read(table, tags={"module": module}))

    def _changes(self, stored: list[Row], derived: list[Row]) -> list[Row]:
        """Return the rows of swaps or contradictions to write."""
        return changes(stored, derived, kept_before_ms=self._bygone.utc_ms())

    # ---- level 1: claims

    def _claim(self, module: str, window_ms: int) -> _Claimed:
        start_ms, stored = self._window(module, window_ms)
        stays = [stay_of(row) for row in stored]
        carried = next((stay for stay in stays if stay.from_utc_ms < start_ms), None)
        sightings = self._sightings.of(module, start_ms)
        halves = self._store.halves(module=module, start_utc_ms=start_ms)
        known_ms = 0
        if carried is not None:
            carried, known_ms = self._take_up(carried, start_ms)
        claims = find_claims(module, sightings, halves, carried=carried, carried_proof_ms=known_ms)
        rows = changes(stored, [stay_row(CLAIM, claim) for claim in claims])
        self._store.put(rows)
        runs = runs_by_place(sightings, halves)
        is_changed = self._keep_overlaps(module, find_two_places(runs), start_ms)
        # Also bays whose claims are as they were: another gateway may have settled them before it knew of these.
        places = {stay.place: start_ms for stay in [*stays, *claims]}
        for row in rows:
            place = place_of(row.tags)
            places[place] = min(places.get(place, start_ms), row.time_utc_ms)
        nodes = {(stay.place.fleet, stay.place.node) for stay in [*stays, *claims]}
        return _Claimed(places, nodes, start_ms, is_changed)

    def _window(self, module: str, window_ms: int) -> tuple[int, list[Row]]:
        """Return from when on a module's claims are derived again, and the stored ones that had not ended by then.

        At most one of them may have begun before, and no two places at one time.
        """
        tags = {"module": module}
        while True:
            rows = read_lasting(self._store, CLAIM, tags, window_ms)
            earlier = [row.time_utc_ms for row in rows if row.time_utc_ms < window_ms]
            overlaps = self._store.read(
                CONTRADICTION,
                tags={"kind": TWO_PLACES, **tags},
                where=[("until_utc_ms", ">=", window_ms - EPISODE_GAP_MS)],
                end_utc_ms=window_ms,
            )
            limits = [row.time_utc_ms for row in overlaps] + ([max(earlier)] if len(earlier) > 1 else [])
            if not limits:
                return window_ms, rows
            window_ms = _hour(min(limits))

    def _take_up(self, stay: Stay, start_ms: int) -> tuple[Stay, int]:
        """Return a claim as it was known before a time, still open, and when it was last known to be true by then."""
        seen_ms: int | None = None
        told_ms = stay.from_utc_ms
        back_ms, end_ms = LOOK_BACK_MS, start_ms
        while seen_ms is None and end_ms > stay.from_utc_ms:
            from_ms = max(_hour(stay.from_utc_ms), start_ms - back_ms)
            sightings = [one for one in self._sightings.of(stay.module, from_ms, end_ms) if one.place == stay.place]
            seen_ms = max((s.last_utc_ms for s in sightings if s.last_utc_ms >= stay.from_utc_ms), default=None)
            halves = self._store.halves(module=stay.module, start_utc_ms=from_ms, end_utc_ms=end_ms)
            arrivals = [half.time_utc_ms for half in halves if half.is_in and half.place == stay.place]
            told_ms = max([told_ms, *arrivals])
            end_ms, back_ms = from_ms, 2 * back_ms
        first_ms = stay.first_seen_utc_ms
        if first_ms is not None and first_ms >= start_ms:
            first_ms = None
        open_stay = replace(
            stay,
            until_utc_ms=None,
            until_evidence=None,
            went=None,
            first_seen_utc_ms=first_ms,
            last_seen_utc_ms=None if first_ms is None else max(seen_ms or 0, first_ms),
        )
        return open_stay, max(seen_ms or 0, told_ms)

    def _keep_overlaps(self, module: str, overlaps: Iterable[Overlap], start_ms: int) -> bool:
        """Keep where a module was in two places at once."""
        found = []
        for first, second, begin_ms, end_ms in overlaps:
            if self._has_good_clocks([(module, first), (module, second)], begin_ms, end_ms):
                words = f"{module} answered in {describe(first)} and in {describe(second)} at one time"
                found.append(Contradiction(TWO_PLACES, module, begin_ms, end_ms, first, second, None, words))
        ended = [("until_utc_ms", ">=", start_ms)]
        tags = {"kind": TWO_PLACES, "module": module}
        stored = self._store.read(CONTRADICTION, tags=tags, where=ended)
        rows = self._changes(stored, [contradiction_row(one) for one in found])
        self._store.put(rows)
        return bool(rows)

    def _has_good_clocks(self, claims: Iterable[tuple[str, Place]], start_ms: int, end_ms: int) -> bool:
        """Say whether each of two has rows in that time that are not of a clock in doubt."""
        until_ms = min(end_ms, start_ms + DOUBT_MS) + 1
        for module, place in claims:
            rows = self._store.readings(module, ["time_quality"], start_utc_ms=start_ms, end_utc_ms=until_ms)
            qualities = zip(rows.places, rows.columns["time_quality"], strict=True)
            if not any(where == place and (quality or 0) >= TIME_GATEWAY for where, quality in qualities):
                return False
        return True

    # ---- level 2: stays

    def _settle(self, place: Place, start_ms: int) -> set[str]:
        """Derive who was in a bay. Returns the modules whose stays changed."""
        tags = place_tags(place)
        start_ms, stored, claims = self._claims_of_bay(tags, start_ms)
        settled = settle_bay(claims, self._runs_of(place))
        rows = changes(stored, [stay_row(STAY, stay) for stay in settled.stays if _ends_at(stay) >= start_ms])
        rows += self._two_modules(place, settled.overlaps, start_ms)
        self._store.put(rows)
        return {row.tags["module"] for row in rows}

    def _claims_of_bay(self, tags: dict[str, str], start_ms: int) -> tuple[int, list[Row], list[Stay]]:
        """Return from when on a bay is derived again, its stored stays, and its claims since then."""
        while True:
            stored = read_lasting(self._store, STAY, tags, start_ms)
            claims = [stay_of(row) for row in read_lasting(self._store, CLAIM, tags, start_ms)]
            # A claim without an end that was told may have lost the bay long ago; then its stay has ended.
            open_keys = {(row.tags["module"], row.time_utc_ms) for row in stored}
            live = [c for c in claims if c.from_utc_ms >= start_ms or _is_open(c, open_keys)]
            first_ms = min([start_ms, *(c.from_utc_ms for c in live), *(row.time_utc_ms for row in stored)])
            if first_ms >= start_ms:
                return start_ms, stored, live
            start_ms = first_ms

    def _runs_of(self, place: Place) -> RunsOf:
        def runs_of(claim: Stay) -> list[tuple[int, int]]:
            end_ms = max(claim.from_utc_ms, claim.last_seen_utc_ms or 0) + 1
            sightings = self._sightings.of(claim.module, _hour(claim.from_utc_ms), end_ms)
            start_ms = claim.from_utc_ms
            halves: list[SwapHalf] = self._store.halves(module=claim.module, start_utc_ms=start_ms, end_utc_ms=end_ms)
            return runs_by_place(sightings, halves).get(place, [])

        return runs_of

    def _two_modules(self, place: Place, overlaps: Iterable[Overlap], start_ms: int) -> list[Row]:
        found = []
        for first, second, begin_ms, end_ms in overlaps:
            if self._has_good_clocks([(first.module, place), (second.module, place)], begin_ms, end_ms):
                words = f"{first.module} and {second.module} both answered in {describe(place)} at one time"
                one = Contradiction(TWO_MODULES, first.module, begin_ms, end_ms, place, None, second.module, words)
                found.append(contradiction_row(one))
        tags = {"kind": TWO_MODULES, **place_tags(place)}
        stored = self._store.read(CONTRADICTION, tags=tags, where=[("until_utc_ms", ">=", start_ms)])
        return self._changes(stored, [row for row in found if row.fields["until_utc_ms"] >= start_ms])

    # ---- level 3: swaps and contradictions

    def _touched(self, modules: dict[str, int], nodes: Iterable[tuple[str, str]], start_ms: int) -> dict[str, int]:
        """Return the modules to judge, and since when: what one holder tells may decide about all that it held."""
        touched = dict(modules)
        since = start_ms - EXCHANGE_MS
        for fleet, node in sorted(nodes):
            tags = {"fleet": fleet, "node": node}
            for row in read_lasting(self._store, STAY, tags, since):
                touched.setdefault(row.tags["module"], start_ms)
            silent = [(row.tags["module"], row.time_utc_ms) for row in self._half_told_swaps(fleet, node, since)]
            for module, time_ms in silent + self._left_untold(tags, since):
                touched[module] = min(touched.get(module, start_ms), time_ms)
        for module, left_ms in self._overdue():
            touched[module] = min(touched.get(module, start_ms), left_ms)
        return touched

    def _half_told_swaps(self, fleet: str, node: str, before_ms: int) -> list[Row]:
        """Return swaps of which this holder has told nothing, and of which that is not held against it yet."""
        since_ms = max(0, before_ms - SILENCE_MS_MAX)
        roles = (("van", "told_by_van", "told_by_station"), ("station", "told_by_station", "told_by_van"))
        silent = [
            row
            for role, told, told_by_other in roles
            for row in self._store.read(
                SWAP,
                tags={"fleet": fleet, role: node},
                where=[(told, "=", 0), (told_by_other, ">", 0)],
                start_utc_ms=since_ms,
            )
        ]
        if not silent:
            return []
        known = {
            (row.tags["module"], row.time_utc_ms)
            for row in self._store.read(CONTRADICTION, tags={"kind": SWAP_HALF_TOLD}, start_utc_ms=since_ms)
        }
        return [row for row in silent if (row.tags["module"], row.time_utc_ms) not in known]

    def _left_untold(self, tags: dict[str, str], before_ms: int) -> list[tuple[str, int]]:
        """Return modules that turned up elsewhere before this holder spoke again: now it can be asked about them."""
        since_ms = before_ms - SILENCE_MS_MAX
        ends = [("until_utc_ms", ">=", since_ms), ("until_utc_ms", "<", before_ms)]
        away = [("until_evidence", "=", BY_OTHER_PLACE), *ends]
        rows = self._store.read(STAY, tags=tags, where=away, start_utc_ms=max(0, since_ms - YEAR_MS))
        return [(row.tags["module"], row.fields["until_utc_ms"]) for row in rows]

    def _overdue(self) -> list[tuple[str, int]]:
        """Return modules that have left and were nowhere for too long since the last time that this was asked."""
        now_ms = self._now_utc_ms()
        last_ms = self._swept_utc_ms
        if last_ms is not None and now_ms - last_ms < SWEEP_MS:
            return []
        self._swept_utc_ms = now_ms
        before_ms = now_ms - LOST_AFTER_MS
        since_ms = before_ms - YEAR_MS if last_ms is None else last_ms - LOST_AFTER_MS - SWEEP_MS
        left = [("until_evidence", "=", BY_EVENT), ("until_utc_ms", ">=", since_ms), ("until_utc_ms", "<", before_ms)]
        rows = self._store.read(STAY, where=left, start_utc_ms=max(0, since_ms - YEAR_MS))
        latest: dict[str, int] = {}
        for row in rows:
            latest[row.tags["module"]] = max(latest.get(row.tags["module"], 0), row.fields["until_utc_ms"])
        return [
            (module, left_ms)
            for module, left_ms in latest.items()
            if not self._store.read(STAY, tags={"module": module}, start_utc_ms=left_ms, limit=1)
        ]

    def _judge(self, module: str, since_ms: int) -> bool:
        """Keep a module's swaps and contradictions. Returns whether they changed."""
        verdict = Judge(self._store, self._sightings, now_utc_ms=self._now_utc_ms()).judge(module, since_ms)
        tags = {"module": module}
        swaps = self._store.read(SWAP, tags=tags, where=[("end_utc_ms", ">=", since_ms)])
        rows = self._changes(swaps, [swap_row(swap) for swap in verdict.swaps])
        ended = [("until_utc_ms", ">=", since_ms)]
        stored = self._store.read(CONTRADICTION, tags=tags, where=ended)
        found = [contradiction_row(one) for one in verdict.contradictions]
        rows += self._changes([row for row in stored if row.tags["kind"] in KINDS], found)
        self._store.put(rows)
        return bool(rows)


class Sightings:
    """Where modules answered, out of the book of hours."""

    def __init__(self, hours: HourBookLike) -> None:
        self.hours = hours

    def sightings(self, module: str, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[Sighting]:
        """Return where a module answered in the hours that begin in that time."""
        return self.of(module, start_utc_ms, end_utc_ms)

    def of(self, module: str, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[Sighting]:
        """See `sightings`."""
        hours = self.hours.hours(module, start_utc_ms, end_utc_ms)
        return join_sightings(sighting for hour in hours for sighting in hour.sightings)


def _is_open(claim: Stay, open_keys: Collection[tuple[str, int]]) -> bool:
    """Say whether a stay out of this claim has not ended."""
    ends_ms = _ends_at(claim)
    return any(module == claim.module and claim.from_utc_ms <= time <= ends_ms for module, time in open_keys)


def _ends_at(stay: Stay) -> float:
    return float("inf") if stay.until_utc_ms is None else stay.until_utc_ms


def _hour(utc_ms: int) -> int:
    return utc_ms // HOUR_MS * HOUR_MS
