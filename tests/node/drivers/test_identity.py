"""Rows carry no owner guess: whose reading a reading is while a module's code is not, or not any more, told.

`test_bms.py` and `test_jk.py` show the code being read before and after the data, and modules that are exchanged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_node.drivers.bms import module_code
from swapline_node.drivers.jbd import JbdQuery
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, MODULE
from swapline_wire.catalogue_text import CAME, FOUND, LEFT
from tests.node.drivers.test_bms import Answers, frames_of_jbd, jbd
from tests.node.drivers.test_jk import framed, published_14s
from tests.node.drivers.test_jk import run as run_jk

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
SERIAL, NAME = JbdQuery(0xA2).request.hex(), JbdQuery(5).request.hex()
REFUSAL = "dda28000ff8077"
UNPROGRAMMED = "000000000000"


def nameless(recordings: Path) -> Answers:
    """Return the answers of a board that refuses its serial number and has an empty name."""
    frames = frames_of_jbd(recordings)
    return jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], hardware="")


def named(recordings: Path, **parts: str) -> Answers:
    frames = frames_of_jbd(recordings)
    return jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], **parts)


def test_until_a_code_is_read_there_are_no_rows_and_then_they_are_of_an_unknown_module(
    run_driver: RunDriver, recordings: Path
) -> None:
    result = run_driver({"driver": "jbd", "config": {"bay": 2}, "answers": nameless(recordings), "polls": 6})
    assert result["errors"] == ["BusProtocolError"] * 3 + [None] * 3
    for stream in ("module", "cells"):
        assert {(row["owner"], row["bay"]) for row in result["rows"][stream]} == {("", 2)}
    assert len(result["rows"]["module"]) == 3
    assert "event" not in result["rows"]


def test_rows_of_an_unknown_module_are_not_credited_to_the_code_that_is_read_later(
    run_driver: RunDriver, recordings: Path
) -> None:
    answers = nameless(recordings)
    later = named(recordings, hardware=b"LATER".hex())[NAME]
    answers[NAME] = [*answers[NAME] * 9, *later]
    result = run_driver({"driver": "jbd", "config": {"bay": 2}, "answers": answers, "polls": 12})
    owners = [row["owner"] for row in result["rows"]["module"]]
    assert owners == [""] * owners.count("") + ["LATER"] * owners.count("LATER")
    assert owners.count("") >= 2
    assert owners.count("LATER") >= 2
    assert [(row["code"], row["owner"], row["reason"]) for row in result["rows"]["event"]] == [
        (BATTERY_IN, "LATER", FOUND)
    ]


def test_alarm_of_a_module_without_a_code_is_told_with_its_bay(run_driver: RunDriver, recordings: Path) -> None:
    answers = nameless(recordings)
    basic = bytearray.fromhex(frames_of_jbd(recordings)["BASICINFO_FRAME"])
    basic[16:18] = b"\x00\x01"  # cell over-voltage
    request = JbdQuery(3).request.hex()
    answers[request] = jbd(basic.hex(), "")[request]
    result = run_driver({"driver": "jbd", "config": {"bay": 2}, "answers": answers, "polls": 6})
    alarms = result["rows"][MODULE.id]  # a row of `alarm` is filed under its signal `stream`
    assert (32, "") in [(row["code"], row["owner"]) for row in alarms]
    assert {(row["owner"], row["bay"]) for row in alarms} == {("", 2)}


def test_unknown_module_is_asked_for_its_serial_number_again(run_driver: RunDriver, recordings: Path) -> None:
    answers = nameless(recordings)
    told = named(recordings, barcode="TOLD-LATE")[SERIAL]
    answers[SERIAL] = [*[REFUSAL] * 3, *told]
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 80})
    assert result["errors"] == ["BusProtocolError"] * 3 + [None] * 77
    owners = [row["owner"] for row in result["rows"]["module"]]
    assert owners == [""] * owners.count("") + ["TOLD-LATE"] * owners.count("TOLD-LATE")
    assert owners.count("TOLD-LATE") >= 3
    assert result["requests"].count(SERIAL) >= 10  # refused three times, and told before and after each reading


def test_module_that_does_not_tell_its_number_any_more_is_unknown_and_never_known_by_its_name(
    run_driver: RunDriver, recordings: Path
) -> None:
    answers = named(recordings, hardware=b"MODEL".hex(), barcode="MODULE-A")
    answers[SERIAL] = [*answers[SERIAL] * 4, *[REFUSAL] * 40, *answers[SERIAL]]
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 50})
    failed = result["errors"].count("BusRefused")
    assert 28 <= failed <= 30
    owners = [row["owner"] for row in result["rows"]["module"]]
    assert owners == ["MODULE-A"] * 3 + [""] * owners.count("") + ["MODULE-A"] * (50 - 3 - failed - owners.count(""))
    assert owners.count("") >= 4
    events = [(row["code"], row["owner"], row["reason"]) for row in result["rows"]["event"]]
    assert events == [(BATTERY_IN, "MODULE-A", FOUND), (BATTERY_OUT, "MODULE-A", LEFT), (BATTERY_IN, "MODULE-A", CAME)]


def test_jk_board_without_any_code_is_unknown(run_driver: RunDriver, recordings: Path) -> None:
    registers = published_14s(recordings).replace(b"BT3072020120000200521001", bytes(24))
    answer = framed(registers.replace(b"Input Us", UNPROGRAMMED[:8].encode()))
    result = run_jk(run_driver, answer, polls=6)
    assert result["errors"][:2] == ["BusProtocolError"] * 2
    assert result["errors"][3:] == [None] * 3
    assert {(row["owner"], row["bay"]) for row in result["rows"]["module"]} == {("", 1)}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"0SLPB0451800161360000042", "0SLPB0451800161360000042"),
        (b"A", "A"),
        (b"0", ""),
        (b"000000000000", ""),
        (b"FFFFFFFF", ""),
        (b"ffffffff", ""),
        (b"0F0F", "0F0F"),
        (b"00000001", "00000001"),
        (b"PREFIX-0SLPB0451800161360000042", "0SLPB0451800161360000042"),
        (b"SERIAL 12 / 34", "SERIAL12/34"),
        ("Größe7".encode(), "Gre7"),
        (b"", ""),
        (b" \t\r\n", ""),
    ],
)
def test_odd_codes_are_taken_as_they_are_and_what_nobody_wrote_is_none(text: bytes, code: str) -> None:
    assert module_code(text) == code
