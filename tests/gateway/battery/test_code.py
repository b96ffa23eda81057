"""Codes of GB/T 34014-2017 taken apart; unusual ones accepted, with the reason."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_bench.module import format_code
from swapline_gateway.battery.code import parse, suggest

USUAL = "0SLPB0451800161380000012"


def test_code_is_taken_apart() -> None:
    code = parse(USUAL)
    parts = (code.maker, code.product_type, code.battery_type, code.specification, code.traceability, code.serial)
    assert parts == ("0SL", "P", "B", "04", "5180016", "0000012")
    assert code.production_date == date(2011, 3, 8)
    assert code.is_usual
    assert (code.product, code.chemistry, code.family) == ("battery pack", "lithium iron phosphate", "0SLPB04")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        # Printed on real cells and read by their dealers: EVE 280 Ah, CATL 302 Ah, Higee 120 Ah (docs/modules.md).
        ("04QCB76836300JBC40000903", date(2021, 12, 4)),
        ("001CB240000003B3C0221953", date(2021, 3, 12)),
        ("07HCBC1P22G06AC700002596", date(2022, 7, 31)),
    ],
)
def test_codes_of_real_cells_have_their_dates_and_are_flagged_as_cells(text: str, made: date) -> None:
    code = parse(text)
    assert code.production_date == made
    assert code.chemistry == "lithium iron phosphate"
    assert code.problems == ("it is the code of a cell, not of a module",)


def test_codes_of_the_bench_are_usual() -> None:
    for day in range(1, 32):
        code = parse(format_code(serial=7, day=day, month=12, year=2026))
        assert code.is_usual
        assert code.production_date == date(2026, 12, day)


@pytest.mark.parametrize(("digits", "day"), [("Y", 30), ("0", 31), ("X", 29), ("H", 17), ("J", 18)])
def test_days_are_counted_without_letters_that_look_like_digits(digits: str, day: int) -> None:
    assert parse(f"0SLPB0451800161{'1'}{digits}0000012").production_date == date(2011, 1, day)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (USUAL[:23], "it has 23 characters instead of 24"),
        (USUAL[:19], "it has 19 characters instead of 24 (as of a battery coded anew for a second use)"),
        ("", "it has 0 characters instead of 24"),
        (USUAL.lower(), "it has small letters"),
        (USUAL.replace("518", "5-8"), "it has characters that are neither digits nor capital letters: '-'"),
        (USUAL.replace("PB", "XB"), "its product type 'X' is none of P, M, C"),
        (USUAL.replace("PB", "PI"), "its battery type 'I' is none of A, B, C, D, E, F, G, Z"),
        (USUAL.replace("138", "12Y"), "its production date '12Y' is no date"),
        (USUAL.replace("138", "I38"), "its production date 'I38' is no date"),
        (USUAL.replace("138", "1D8"), "its production date '1D8' is no date"),
        (USUAL.replace("0000012", "0000000"), "its serial number '0000000' is a placeholder"),
    ],
)
def test_unusual_codes_are_accepted_and_say_why(text: str, reason: str) -> None:
    code = parse(text)
    assert reason in code.problems
    assert not code.is_usual
    assert code.text == text


@given(st.text(max_size=30))
def test_no_text_whatever_is_refused(text: str) -> None:
    code = parse(text)
    assert code.text == text
    assert code.as_json()["is_usual"] == (not code.problems)


def test_typo_suggests_the_nearest_known_codes() -> None:
    known = [format_code(serial=serial) for serial in (10001, 10002, 20417)]
    assert suggest(known[2].replace("20417", "20471"), known)[0] == known[2]
    assert suggest(known[0].lower(), known)[0] == known[0]
    assert suggest("20417", known) == [known[2]]
    assert suggest("zzzz", known) == []
