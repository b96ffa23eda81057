"""What the gateway's alarm message says in words."""

import pytest

from swapline_gateway.alarm_meaning import meaning, sentence
from swapline_wire.catalogue import MODULE, find_signal


def test_alarm_is_named_and_its_numbers_are_in_the_signals_unit() -> None:
    place = find_signal(MODULE, "cell_voltage_max_v")
    values = {"level": 2, "stream": MODULE.id, "signal": place, "value": 3662, "threshold": 3650}
    assert meaning({"code": 1}, values) == {
        "alarm": "cell over-voltage",
        "stream": "module",
        "signal": "cell_voltage_max_v",
        "unit": "V",
        "value": 3.662,
        "threshold": 3.65,
    }


def test_alarm_of_a_newer_catalogue_keeps_its_numbers() -> None:
    values = {"level": 1, "stream": 77, "signal": 250, "value": 5, "threshold": None}
    assert meaning({"code": 999}, values) == {
        "alarm": "alarm 999",
        "stream": None,
        "signal": None,
        "unit": None,
        "value": 5.0,
        "threshold": None,
    }


def test_module_that_is_lost_has_no_signal() -> None:
    values = {"level": 2, "stream": MODULE.id, "signal": None, "value": None, "threshold": None}
    told = meaning({"code": 14}, values)
    assert (told["alarm"], told["stream"], told["signal"]) == ("module lost", "module", None)


@pytest.mark.parametrize(
    ("code", "signal", "values", "expected"),
    [
        (
            1,
            "cell_voltage_max_v",
            {"level": 2, "position": 7, "value": 3662, "threshold": 3650},
            "level 2 cell over-voltage (cell 7): cell_voltage_max_v 3.662 V, limit 3.65 V",
        ),
        (
            6,
            "temperature_max_c",
            {"level": 0, "position": 3, "value": 519, "threshold": 520},
            "cleared: over-temperature (sensor 3): temperature_max_c 51.9 degC, limit 52.0 degC",
        ),
        (
            5,
            "cell_voltage_max_v",
            {"level": 1, "position": 7, "value": 354, "threshold": 300},
            "level 1 cell spread (cell 7): 0.354 V apart, limit 0.3 V",
        ),
        (32, "protections", {"level": 2, "value": 1, "threshold": 1}, "level 2 BMS protection: cell over-voltage"),
    ],
)
def test_alarm_is_told_in_one_line(code: int, signal: str, values: dict[str, int], expected: str) -> None:
    place = {"stream": MODULE.id, "signal": find_signal(MODULE, signal)}
    assert sentence({"code": code}, values | place) == expected
