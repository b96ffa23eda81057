"""What the gateway's alarm message says in words."""

from swapline_gateway.alarm_meaning import meaning
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
