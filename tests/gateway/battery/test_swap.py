"""Swaps out of stays: found whatever part of them was told, with what was told of them."""

from dataclasses import replace

import pytest

from swapline_gateway.battery.record import SwapHalf
from tests.gateway.battery.life import CHARGED, DRAINED, HUB, SMALL, START_MS, VAN, Life, code, place, swap_life

HALVES = ("slot_out", "van_out", "van_in", "slot_in")


def test_swap_has_what_both_sides_tell() -> None:
    (swap,) = swap_life().derive().book.swaps()
    assert (swap.fleet, swap.van, swap.bay, swap.station) == ("fleet", VAN, 1, HUB)
    assert (swap.module_out, swap.module_in, swap.slot_out, swap.slot_in) == (code(1), code(2), 3, 3)
    assert (swap.request_id, swap.basis, swap.told_by_van, swap.told_by_station) == (7, "request", 2, 2)
    assert (swap.soc_out_pct, swap.soc_in_pct) == (DRAINED, CHARGED)
    assert (swap.start_utc_ms, swap.duration_s) == (START_MS + 120 * 60_000, 108.0)


@pytest.mark.parametrize("dropped", HALVES)
@pytest.mark.parametrize("van", [VAN, SMALL])
def test_swap_is_found_with_any_half_missing(dropped: str, van: str) -> None:
    (swap,) = swap_life(van=van, drop=(dropped,)).derive().book.swaps()
    assert (swap.module_out, swap.module_in, swap.van, swap.station) == (code(1), code(2), van, HUB)
    assert swap.told_by_van + swap.told_by_station == 3
    assert swap.soc_in_pct == CHARGED


def test_swap_that_nobody_told_is_found_by_readings_and_says_so() -> None:
    (swap,) = swap_life(drop=HALVES).derive().book.swaps()
    assert (swap.module_out, swap.module_in, swap.basis, swap.request_id) == (code(1), code(2), "matched", None)
    assert (swap.told_by_van, swap.told_by_station) == (0, 0)


def test_swap_without_a_request_is_matched() -> None:
    (swap,) = swap_life(request=0).derive().book.swaps()
    assert (swap.basis, swap.request_id, swap.told_by_van, swap.told_by_station) == ("matched", None, 2, 2)


def test_position_is_the_events_own_else_the_nearest_rows_and_marked() -> None:
    life = swap_life()
    assert life.derive().book.swaps()[0].where_from == "nearest"
    assert life.derive().book.swaps()[0].odometer_km == 12.5
    life.evidence = [
        replace(one, odometer_km=4711.5, latitude_deg=31.5, longitude_deg=117.25)
        if isinstance(one, SwapHalf) and one.place.node == VAN and one.request_id
        else one
        for one in life.evidence
    ]
    (swap,) = life.derive().book.swaps()
    assert (swap.odometer_km, swap.latitude_deg, swap.longitude_deg, swap.where_from) == (4711.5, 31.5, 117.25, "event")


def test_swap_is_in_the_ledgers_of_both_modules() -> None:
    book = swap_life().derive().book
    assert book.ledger(code(1)).swaps == book.ledger(code(2)).swaps
    assert len(book.ledger(code(1)).swaps) == 1


def test_module_put_into_an_empty_bay_is_a_swap_of_one() -> None:
    life = Life()
    life.stay(code(9), place(HUB, 1), 0, 300, goes=None)
    life.stay(code(2), place(HUB, 3), 0, 120, goes=3)
    life.stay(code(2), place(VAN, 1), 121, 300, goes=None)
    (swap,) = life.derive().book.swaps()
    assert (swap.module_out, swap.module_in, swap.slot_out, swap.slot_in) == (None, code(2), 3, None)


def test_station_without_chargers_that_tell_is_known_by_charging() -> None:
    life = swap_life()
    derived = life.derive()
    derived.store.holders.clear()
    derived.store.tables.clear()
    derived.book.rebuild()
    assert [swap.station for swap in derived.book.swaps()] in ([HUB], [])
    life.tell(code(1), place(HUB, 3), 299, CHARGED, is_in=False)
    again = life.derive()
    again.store.holders.clear()
    again.store.tables.clear()
    again.book.rebuild()
    assert [swap.station for swap in again.book.swaps()] == [HUB]


def test_three_modules_of_a_van_are_three_swaps() -> None:
    life = Life()
    life.stay(code(9), place(HUB, 9), 0, 300, goes=None)
    for n in (1, 2, 3):
        at = 100 + 4 * n
        life.stay(code(n), place(VAN, n), 0, at + 0.7, goes=n)
        life.stay(code(10 + n), place(HUB, n), 0, at, goes=n)
        life.stay(code(10 + n), place(VAN, n), at + 1.2, 300, goes=None)
        life.stay(code(n), place(HUB, n), at + 1.8, 300, goes=None)
    derived = life.derive()
    swaps = derived.book.swaps()
    assert sorted((swap.bay, swap.module_out, swap.module_in, swap.slot_in) for swap in swaps) == [
        (n, code(n), code(10 + n), n) for n in (1, 2, 3)
    ]
    assert derived.kinds == []
