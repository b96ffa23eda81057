"""Who held what, and what cannot be true: planted contradictions found once each, clean lives without any."""

from dataclasses import replace

import pytest

from swapline_gateway.battery.record import (
    ARRIVAL_WITHOUT_DEPARTURE,
    BY_DISPLACEMENT,
    BY_EVENT,
    BY_OTHER_PLACE,
    BY_SIGHTING,
    CODE_UNUSUAL,
    DEPARTURE_WITHOUT_ARRIVAL,
    MOVED_WHILE_OFFLINE,
    SWAP_HALF_TOLD,
    TWO_MODULES,
    TWO_PLACES,
    SwapHalf,
)
from swapline_wire.catalogue import TIME_ESTIMATED
from swapline_wire.catalogue_text import CAME, FOUND, LEFT, SILENT, STILL_THERE
from tests.gateway.battery.life import FAR, HUB, SMALL, START_MS, VAN, Life, code, place, swap_life

BAY, OTHER_BAY, SLOT = place(VAN, 1), place(VAN, 2), place(HUB, 3)
DAY = 24 * 60


def utc_ms(minute: float) -> int:
    return START_MS + int(minute * 60_000)


# ---- clean lives


@pytest.mark.parametrize("van", [VAN, SMALL])
@pytest.mark.parametrize("request_id", [7, 0])
def test_clean_swap_has_no_contradiction(van: str, request_id: int) -> None:
    derived = swap_life(van=van, request=request_id).derive()
    assert derived.kinds == []
    stays = derived.book.ledger(code(1)).stays
    assert [stay.place for stay in stays] == [place(van, 1), SLOT]
    assert [stay.from_evidence for stay in stays] == [BY_EVENT, BY_EVENT]
    assert (stays[0].until_evidence, stays[1].until_utc_ms) == (BY_EVENT, None)


def test_van_of_one_module_whose_old_firmware_tells_no_departure_is_no_contradiction() -> None:
    derived = swap_life(van=SMALL, drop=("van_out",)).derive()
    assert derived.kinds == []
    first, second = derived.book.ledger(code(1)).stays
    assert (first.until_evidence, first.until_utc_ms) == (BY_DISPLACEMENT, utc_ms(121.2))
    assert second.place == SLOT


def test_arrival_told_again_after_each_boot_is_one_stay() -> None:
    life = Life()
    life.stay(code(1), BAY, 0, 100, goes=None)
    for minute, reason in ((130, STILL_THERE), (131, FOUND), (400, STILL_THERE), (401, CAME)):
        life.tell(code(1), BAY, minute, 50, is_in=True, reason=reason)
    life.sit(code(1), BAY, 130, 500)
    derived = life.derive()
    (stay,) = derived.book.ledger(code(1)).stays
    assert (stay.from_utc_ms, stay.from_evidence, stay.last_seen_utc_ms) == (utc_ms(0), BY_EVENT, utc_ms(500) - 2000)
    assert derived.kinds == []


def test_silent_bay_whose_module_cannot_have_left_ends_no_stay() -> None:
    life = Life()
    life.stay(code(1), SLOT, 0, 100, goes=None)
    life.tell(code(1), SLOT, 100, 50, is_in=False, reason=SILENT)
    life.tell(code(1), SLOT, 110, 50, is_in=True, reason=CAME)
    life.sit(code(1), SLOT, 110, 200)
    derived = life.derive()
    assert len(derived.book.ledger(code(1)).stays) == 1
    assert derived.kinds == []


def test_departure_told_twice_is_one() -> None:
    life = swap_life(van=SMALL)
    told = [one for one in life.evidence if not hasattr(one, "quality") and not one.is_in and one.place.node == SMALL]
    life.tell(code(1), place(SMALL, 1), 120.68, 21, is_in=False, reason=1)
    derived = life.derive()
    assert len(told) == 1
    assert len(derived.book.ledger(code(1)).stays) == 2
    assert derived.kinds == []


@pytest.mark.parametrize("skew_s", [-18, 18])
def test_clocks_of_two_nodes_that_differ_make_no_contradiction(skew_s: int) -> None:
    life = Life()
    life.skew_ms = {VAN: skew_s * 1000}
    life.stay(code(8), OTHER_BAY, 0, 300, goes=None)
    life.stay(code(9), place(HUB, 1), 0, 300, goes=None)
    life.stay(code(1), BAY, 0, 120, goes=7)
    life.stay(code(1), SLOT, 120.1, 300, goes=None)
    life.stay(code(2), place(HUB, 4), 0, 119.9, goes=7)
    life.stay(code(2), BAY, 120.05, 300, goes=None)
    assert life.derive().kinds == []


def test_rows_of_a_clock_in_doubt_are_no_proof_of_two_places() -> None:
    life = swap_life()
    life.sit(code(1), BAY, 130, 160, quality=TIME_ESTIMATED)
    assert TWO_PLACES not in life.derive().kinds


def test_gap_of_days_is_one_stay() -> None:
    life = Life()
    life.stay(code(1), BAY, 0, 60, goes=None)
    life.sit(code(1), BAY, 5 * DAY, 5 * DAY + 60)
    derived = life.derive()
    assert len(derived.book.ledger(code(1)).stays) == 1
    assert derived.kinds == []


def test_van_whose_data_are_still_on_the_way_is_not_blamed() -> None:
    life = swap_life(drop=("van_in", "van_out"))
    life.evidence = [one for one in life.evidence if one.place.node != VAN or one.time_utc_ms < utc_ms(119)]
    assert life.derive().kinds == []


# ---- planted contradictions, each found once


def test_the_same_code_in_two_places_is_found() -> None:
    life = swap_life()
    life.sit(code(9), place(FAR, 2), 100, 200)
    derived = life.derive()
    assert derived.kinds == [TWO_PLACES]
    (found,) = derived.contradictions
    assert (found.module, found.place, found.other_place) == (code(9), place(HUB, 1), place(FAR, 2))
    assert found.time_utc_ms == utc_ms(100) + 500
    assert found.until_utc_ms is not None
    assert abs(found.until_utc_ms - utc_ms(200)) <= 2000


def test_the_same_code_in_a_van_and_in_a_station_is_no_swap() -> None:
    life = swap_life()
    (true,) = life.derive().book.swaps()
    life.sit(code(50), place(VAN, 3), 0, 100)
    life.sit(code(50), place(HUB, 5), 50, 200)
    derived = life.derive()
    assert derived.kinds == [TWO_PLACES]
    assert derived.book.swaps() == [true]
    life.tell(code(50), place(VAN, 3), 100.2, 20.0, is_in=False, reason=LEFT)
    out = {swap.module_out for swap in life.derive().book.swaps()}
    assert out == {code(1), code(50)}, "the van tells that one of the two was taken out"


def test_two_codes_in_one_bay_are_found() -> None:
    life = swap_life()
    life.sit(code(5), SLOT, 40, 80)
    derived = life.derive()
    assert derived.kinds == [TWO_MODULES]
    (found,) = derived.contradictions
    assert ({found.module, found.other_module}, found.place) == ({code(2), code(5)}, SLOT)
    assert found.time_utc_ms == utc_ms(40) + 500


def test_arrival_without_departure_is_found() -> None:
    derived = swap_life(drop=("slot_out",)).derive()
    assert derived.kinds == [ARRIVAL_WITHOUT_DEPARTURE]
    (found,) = derived.contradictions
    assert (found.module, found.place, found.other_place) == (code(2), BAY, SLOT)
    assert derived.book.ledger(code(2)).stays[0].until_evidence == BY_OTHER_PLACE


def test_departure_without_arrival_is_found_after_a_day_and_ends_with_the_arrival() -> None:
    life = Life()
    life.stay(code(8), OTHER_BAY, 0, 300, goes=None)
    life.stay(code(1), BAY, 0, 120)
    assert life.derive(now_minute=119 + DAY).kinds == []
    (found,) = life.derive(now_minute=121 + DAY).contradictions
    assert (found.kind, found.place, found.until_utc_ms) == (DEPARTURE_WITHOUT_ARRIVAL, BAY, None)
    life.stay(code(1), SLOT, 150 + DAY, 160 + DAY, goes=None)
    (found,) = life.derive().contradictions
    assert (found.kind, found.time_utc_ms, found.until_utc_ms) == (
        DEPARTURE_WITHOUT_ARRIVAL,
        utc_ms(120),
        utc_ms(150 + DAY),
    )


@pytest.mark.parametrize(
    ("drop", "silent", "telling"),
    [(("van_in", "van_out"), VAN, HUB), (("slot_in", "slot_out"), HUB, VAN)],
)
def test_swap_that_only_one_side_tells_is_found(drop: tuple[str, ...], silent: str, telling: str) -> None:
    derived = swap_life(drop=drop).derive()
    assert derived.kinds == [SWAP_HALF_TOLD]
    (found,) = derived.contradictions
    assert found.place is not None
    assert found.other_place is not None
    assert (found.place.node, found.other_place.node) == (telling, silent)
    assert {found.module, found.other_module} == {code(1), code(2)}


def test_swap_whose_charged_module_the_van_never_shows_is_found() -> None:
    life = swap_life(drop=("van_in", "van_out"))
    is_shown = [one.module == code(2) and one.place == BAY for one in life.evidence]
    life.evidence = [one for one, shown in zip(life.evidence, is_shown, strict=True) if not shown]
    derived = life.derive()
    assert derived.kinds == [SWAP_HALF_TOLD]
    (swap,) = derived.book.swaps()
    assert (swap.module_out, swap.module_in, swap.request_id) == (code(1), code(2), 7)
    assert (swap.told_by_van, swap.told_by_station) == (0, 2)


def test_module_that_moved_while_its_holder_was_offline_is_found() -> None:
    life = Life()
    life.stay(code(1), BAY, 0, 100, goes=None)
    life.stay(code(8), OTHER_BAY, 0, 100, goes=None)
    life.sit(code(8), OTHER_BAY, 200, 300)
    life.stay(code(1), SLOT, 150, 300, goes=None)
    derived = life.derive()
    assert derived.kinds == [MOVED_WHILE_OFFLINE]
    (found,) = derived.contradictions
    assert (found.module, found.place, found.other_place) == (code(1), SLOT, BAY)


def test_code_of_another_shape_is_found_once_however_often_it_moves() -> None:
    life = Life()
    for hour in range(4):
        life.stay("PACK-1", BAY, hour * 60, hour * 60 + 20)
        life.stay("PACK-1", SLOT, hour * 60 + 25, hour * 60 + 50)
    derived = life.derive()
    assert derived.kinds == [CODE_UNUSUAL]
    assert "it has 6 characters instead of 24" in derived.contradictions[0].text


# ---- stays


def test_module_that_another_one_displaced_in_between_has_two_stays() -> None:
    life = Life()
    life.sit(code(1), BAY, 0, 60)
    life.sit(code(2), BAY, 70, 90)
    life.sit(code(1), BAY, 100, 160)
    derived = life.derive()
    stays = derived.book.ledger(code(1)).stays
    assert [stay.until_evidence for stay in stays] == [BY_DISPLACEMENT, None]
    assert [stay.from_evidence for stay in stays] == [BY_SIGHTING, BY_SIGHTING]
    assert derived.kinds == []


def test_run_of_readings_is_cut_where_its_node_told_that_the_module_left_and_came_again() -> None:
    life = Life()
    life.stay(code(1), BAY, 0, 60)
    life.stay(code(1), BAY, 61, 120)
    stays = life.derive().book.ledger(code(1)).stays
    assert [(stay.from_utc_ms, stay.until_utc_ms) for stay in stays] == [
        (utc_ms(0), utc_ms(60)),
        (utc_ms(61), utc_ms(120)),
    ]


def test_departure_of_a_module_that_nobody_saw_come_begins_as_long_ago_as_its_node_knows() -> None:
    life = Life()
    life.stay(code(8), OTHER_BAY, 0, 100, goes=None)
    life.tell(code(1), BAY, 90, 50, is_in=False)
    half = life.evidence.pop()
    assert isinstance(half, SwapHalf)
    life.evidence.append(replace(half, duration_s=1800))
    (stay,) = life.derive().book.ledger(code(1)).stays
    assert (stay.from_utc_ms, stay.until_utc_ms, stay.last_seen_utc_ms) == (utc_ms(60), utc_ms(90), None)
