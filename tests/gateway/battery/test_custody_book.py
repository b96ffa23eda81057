"""The book of custody, kept piece by piece, in any order, by two gateways: what deriving everything comes to."""

import contextlib
import copy
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swapline_gateway.battery.custody_book import CustodyBook
from swapline_gateway.battery.record import CODE_UNUSUAL, HOUR_MS, TWO_PLACES, Place, SwapHalf
from swapline_gateway.battery.table import CLAIM, CONTRADICTION, FOREVER_UTC_MS, STAY, SWAP, Row
from swapline_wire.catalogue import TIME_ESTIMATED, TIME_NTP
from swapline_wire.catalogue_text import FOUND_GONE, SILENT, STILL_THERE
from tests.gateway.battery import life
from tests.gateway.battery.custody_store import CustodyStore, MemoryHours, Reading, as_hours

START_MS = 1_800_000_000_000 // HOUR_MS * HOUR_MS
MINUTE_MS = 60_000
NOW_MS = START_MS + 100 * HOUR_MS
TABLES = (CLAIM, STAY, SWAP, CONTRADICTION)
PLACES = [Place("fleet", node, bay) for node, bay in (("van-1", 1), ("van-1", 2), ("van-2", 1), ("hub", 1), ("hub", 2))]
MODULES = ["0SLPB0451800161380000001", "0SLPB0451800161380000002", "0SLPB0451800161380000003", "odd"]

Evidence = Sequence[Reading | SwapHalf]


def make_book(store: CustodyStore, *, now_utc_ms: int = NOW_MS) -> CustodyBook:
    store.holders = {("fleet", "van-1"): "vehicle", ("fleet", "van-2"): "vehicle", ("fleet", "hub"): "slot"}
    return CustodyBook(store.as_store(), as_hours(MemoryHours(store)), now_utc_ms=lambda: now_utc_ms)


def derive_at_once(evidence: Iterable[Reading | SwapHalf]) -> dict[Any, dict[str, Any]]:
    store = CustodyStore()
    store.add(*evidence)
    make_book(store).rebuild()
    return store.rows(*TABLES)


def refresh(book: CustodyBook, evidence: Evidence) -> set[str]:
    return book.refresh({one.module for one in evidence}, since_utc_ms=min(one.time_utc_ms for one in evidence))


def run_of(module: str, place: Place, minute: int, minutes: int, quality: int = TIME_NTP) -> list[Reading]:
    times = range(minute, minute + minutes, 2)
    return [Reading(module, place, START_MS + at * MINUTE_MS, quality) for at in times]


minutes = st.integers(0, 30 * 60)
halves = st.builds(
    lambda module, place, minute, is_in, request_id, reason: SwapHalf(
        START_MS + minute * MINUTE_MS + 7, place, module, is_in, request_id, 50.0, reason=reason
    ),
    st.sampled_from(MODULES),
    st.sampled_from(PLACES),
    minutes,
    st.booleans(),
    st.sampled_from([None, 0, 5]),
    st.sampled_from([None, 0, 0, 0, FOUND_GONE, SILENT, STILL_THERE]),
)
runs = st.builds(
    run_of,
    st.sampled_from(MODULES),
    st.sampled_from(PLACES),
    minutes,
    st.integers(1, 300),
    st.sampled_from([TIME_NTP, TIME_NTP, TIME_ESTIMATED]),
)
# Nothing that could happen, but anything that could be stored.
anything = st.lists(st.one_of(runs, halves.map(lambda half: [half])), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(anything, st.randoms(use_true_random=False), st.integers(1, 8))
def test_evidence_in_any_order_and_any_cuts_gives_the_same_book(pieces: list[Evidence], random: Any, cuts: int) -> None:
    evidence = [one for piece in pieces for one in piece]
    random.shuffle(evidence)
    step = max(1, len(evidence) // cuts)
    parts = [evidence[n : n + step] for n in range(0, len(evidence), step)]
    store = CustodyStore()
    book = make_book(store)
    for part in parts:
        store.add(*part)
        refresh(book, part)
    assert store.rows(*TABLES) == derive_at_once(evidence)


class StaleStore(CustodyStore):
    """What a gateway sees that began before the other one ended: what was stored then. Its writes come at the end."""

    def __init__(self, store: CustodyStore) -> None:
        super().__init__()
        self.evidence, self.holders = set(store.evidence), store.holders
        self.tables = copy.copy(store.tables)
        self.written: list[Row] = []

    def put(self, rows: Iterable[Row]) -> None:
        found = list(rows)
        self.written += found
        super().put(found)


@settings(max_examples=40, deadline=None)
@given(anything, st.randoms(use_true_random=False))
def test_two_gateways_that_work_at_once_leave_the_same_book_after_settling(pieces: list[Evidence], random: Any) -> None:
    evidence = [one for piece in pieces for one in piece]
    random.shuffle(evidence)
    parts = [evidence[n::4] for n in range(4) if evidence[n::4]]
    store = CustodyStore()
    book = make_book(store)
    for n, part in enumerate(parts):
        if n % 2:
            store.add(*part)
            refresh(book, part)
            continue
        stale = StaleStore(store)  # it sees its own part, but not what the other one writes meanwhile
        stale.add(*part)
        store.add(*part)
        refresh(make_book(stale), part)
        if n + 1 < len(parts):
            store.add(*parts[n + 1])
            refresh(book, parts[n + 1])
        store.put(stale.written)
    for part in random.sample(parts, len(parts)):  # the keeper comes back to everything after `settle_s`
        refresh(book, part)
    assert store.rows(*TABLES) == derive_at_once(evidence)


class StoppedError(Exception):
    pass


class StoppingStore(CustodyStore):
    """Stops at one of its writes."""

    writes_left = 1 << 30

    def put(self, rows: Iterable[Row]) -> None:
        found = list(rows)
        if found and self.writes_left == 0:
            raise StoppedError
        self.writes_left -= bool(found)
        super().put(found)


@settings(max_examples=40, deadline=None)
@given(anything, st.integers(0, 12))
def test_refresh_that_was_stopped_at_any_write_is_made_good_by_the_next_one(
    pieces: list[Evidence], writes: int
) -> None:
    evidence = [one for piece in pieces for one in piece]
    store = StoppingStore()
    store.add(*evidence[: len(evidence) // 2])
    if len(evidence) > 1:
        refresh(make_book(store), evidence[: len(evidence) // 2])
    store.add(*evidence)
    store.writes_left = writes
    with contextlib.suppress(StoppedError):
        refresh(make_book(store), evidence)
    store.writes_left = 1 << 30
    refresh(make_book(store), evidence)
    assert store.rows(*TABLES) == derive_at_once(evidence)


@settings(max_examples=30, deadline=None)
@given(anything)
def test_rebuild_of_a_right_book_changes_nothing_and_a_check_writes_nothing(pieces: list[Evidence]) -> None:
    store = CustodyStore()
    store.add(*(one for piece in pieces for one in piece))
    book = make_book(store)
    checked = book.rebuild(is_check=True)
    assert store.tables == {}
    figures = book.rebuild()
    assert figures.rows_changed == checked.rows_changed
    assert (figures.stays, figures.swaps, figures.contradictions) == checked[1:4]
    assert book.rebuild(is_check=True).rows_changed == 0


def test_check_finds_a_row_that_is_gone_one_that_is_wrong_and_one_too_many() -> None:
    store = CustodyStore()
    store.add(*run_of(MODULES[0], PLACES[0], 0, 100), *run_of(MODULES[1], PLACES[1], 0, 100))
    book = make_book(store)
    book.rebuild()
    first, second = store.read(STAY)
    store.put([first.void(), second._replace(fields={**second.fields, "from_evidence": "event"})])
    store.put([second._replace(time_utc_ms=second.time_utc_ms + 1)])
    assert book.rebuild(is_check=True).rows_changed == 3
    assert book.rebuild().rows_changed == 3
    assert book.rebuild(is_check=True).rows_changed == 0


def test_refresh_of_a_module_that_stood_still_for_a_year_reads_few_hours() -> None:
    store = CustodyStore()
    place, module = PLACES[3], MODULES[0]
    year = [Reading(module, place, START_MS - days * 24 * HOUR_MS) for days in range(365, 0, -1)]
    store.add(*year, *run_of(module, place, 0, 300))
    book = make_book(store)
    book.rebuild()
    hours = MemoryHours(store)
    later = run_of(module, place, 300, 60)
    store.add(*later)
    kept = CustodyBook(store.as_store(), as_hours(hours), now_utc_ms=lambda: NOW_MS)
    assert refresh(kept, later) == {module}
    assert hours.hours_read < 24
    (stay,) = kept.ledger(module).stays
    assert (stay.from_utc_ms, stay.last_seen_utc_ms) == (year[0].time_utc_ms, later[-1].time_utc_ms)


def test_one_condition_on_time_answers_who_was_in_a_holder() -> None:
    store = CustodyStore()
    out = SwapHalf(START_MS + 50 * MINUTE_MS, PLACES[0], MODULES[0], is_in=False)
    came = SwapHalf(START_MS + 55 * MINUTE_MS, PLACES[0], MODULES[1], is_in=True)
    store.add(*run_of(MODULES[0], PLACES[0], 0, 50), out, came, *run_of(MODULES[1], PLACES[0], 56, 10))
    book = make_book(store)
    refresh(book, [out, came, *run_of(MODULES[0], PLACES[0], 0, 1)])
    asked = [book.at("fleet", "van-1", START_MS + at * MINUTE_MS) for at in (-1, 0, 49, 52, 55, 5000)]
    assert [[stay.module for stay in stays] for stays in asked] == [
        [],
        MODULES[:1],
        MODULES[:1],
        [],
        *[MODULES[1:2]] * 2,
    ]
    assert [row.fields["until_utc_ms"] for row in store.read(STAY)] == [out.time_utc_ms, FOREVER_UTC_MS]


def test_of_a_long_life_the_newest_stays_are_told_and_what_belongs_to_them() -> None:
    store = CustodyStore()
    evidence = [reading for n in range(6) for reading in run_of(MODULES[0], PLACES[n % 2], n * 60, 20)]
    store.add(*evidence)
    book = make_book(store)
    refresh(book, evidence)
    whole, part = book.ledger(MODULES[0]), book.ledger(MODULES[0], limit=2)
    assert len(whole.stays) == 6
    assert (whole.is_complete, part.is_complete) == (True, False)
    assert part.stays == whole.stays[-2:]
    since_ms = whole.stays[3].from_utc_ms
    late = book.ledger(MODULES[0], since_utc_ms=since_ms)
    assert (late.stays, late.is_complete) == (whole.stays[3:], False)


@pytest.mark.parametrize("limit", [1, 2, 4, 7])
def test_a_long_life_is_told_page_by_page_and_nothing_falls_between_two(limit: int) -> None:
    store = CustodyStore()
    evidence = [reading for n in range(6) for reading in run_of(MODULES[0], PLACES[n % 2], n * 60, 20)]
    evidence += run_of(MODULES[0], PLACES[2], 60, 20)  # two stays begin at one time, and contradict each other
    store.add(*evidence)
    book = make_book(store)
    refresh(book, evidence)
    whole = book.ledger(MODULES[0])
    assert len(whole.stays) == 7
    assert whole.contradictions
    pages = [book.ledger(MODULES[0], limit=limit)]
    while (older_ms := pages[-1].older_utc_ms) is not None:
        assert not pages[-1].is_complete
        pages.append(book.ledger(MODULES[0], before_utc_ms=older_ms, limit=limit))
    assert [stay for page in reversed(pages) for stay in page.stays] == list(whole.stays)
    assert {one for page in pages for one in page.contradictions} == set(whole.contradictions)
    assert {one for page in pages for one in page.swaps} == set(whole.swaps)
    assert len(pages) == {1: 6, 2: 4, 4: 2, 7: 1}[limit]


def test_codes_that_are_unusual_are_listed_behind_what_has_happened() -> None:
    store = CustodyStore()
    evidence = [
        *run_of("odd-1", PLACES[0], 0, 30),
        *run_of("odd-1", PLACES[1], 5, 10),
        *run_of("odd-2", PLACES[2], 40, 9),
    ]
    store.add(*evidence)
    book = make_book(store)
    refresh(book, evidence)
    kinds = [one.kind for one in book.contradictions()]
    assert kinds == [TWO_PLACES, CODE_UNUSUAL, CODE_UNUSUAL]
    assert [one.kind for one in book.contradictions(limit=1)] == [TWO_PLACES]
    assert {one.kind for one in book.contradictions(kind=CODE_UNUSUAL)} == {CODE_UNUSUAL}


def test_module_without_a_code_is_in_nobodys_custody() -> None:
    store = CustodyStore()
    unknown = run_of("", PLACES[0], 0, 10)
    store.add(*unknown)
    book = make_book(store)
    assert refresh(book, unknown) == set()
    assert store.tables == {}


def hours_of(evidence: Iterable[Reading | SwapHalf]) -> list[list[Reading | SwapHalf]]:
    """Return evidence by hour, as the keeper refreshes it."""
    by_hour: dict[int, list[Reading | SwapHalf]] = {}
    for one in sorted(evidence, key=lambda e: (e.time_utc_ms, e.module, e.place)):
        by_hour.setdefault(one.time_utc_ms // HOUR_MS, []).append(one)
    return [by_hour[hour] for hour in sorted(by_hour)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([life.VAN, life.SMALL]),
    st.sets(st.sampled_from(("slot_out", "van_out", "van_in", "slot_in"))),
    st.sampled_from([life.VAN, life.SMALL, life.HUB]),
    st.integers(0, 300),
    st.sampled_from([0, 7]),
)
def test_life_of_which_one_node_tells_a_part_late_gives_the_same_book(
    van: str, dropped: set[str], late: str, since_minute: int, request_id: int
) -> None:
    told = life.swap_life(van=van, drop=tuple(dropped), request=request_id)
    for hour in range(5, 11):  # life goes on, so that what is late comes after the windows of what was told
        told.sit(life.code(9), life.place(life.HUB, 1), 60 * hour, 60 * hour + 60)
    evidence = told.evidence
    since_ms = life.START_MS + since_minute * MINUTE_MS
    held_back = [one for one in evidence if one.place.node == late and one.time_utc_ms >= since_ms]
    store = CustodyStore()
    book = make_book(store)
    for part in hours_of(set(evidence).difference(held_back)) + hours_of(held_back):
        store.add(*part)
        refresh(book, part)
    assert store.rows(*TABLES) == derive_at_once(evidence)
