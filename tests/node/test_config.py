import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from swapline_node.config import check, driver_names, load, mask, nearest
from swapline_node.driver import Driver, class_name

GOOD: dict[str, Any] = {
    "fleet": "demo",
    "node": "van-001",
    "link": {"host": "broker.example", "password": "secret"},
    "buses": [{"name": "bay1", "port": "/dev/ttyUSB0", "devices": [{"driver": "seplos_v3", "bay": 1}]}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good configuration with one value changed (or added)."""
    raw: Any = copy.deepcopy(GOOD)
    place = raw
    *parents, last = path.split("/")
    for part in parents:
        place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
    place[last] = value
    assert isinstance(raw, dict)
    return raw


def test_missing_optional_keys_have_defaults() -> None:
    settings = check(GOOD)
    assert settings.problems == []
    assert settings.can_connect
    assert (settings.link["port"], settings.link["window"], settings.link["backlog_frames_per_s"]) == (1883, 16, 200)
    assert settings.journal == {"path": "journal", "limit_bytes": 1500000}
    assert settings.time["ntp_host"] is None
    assert settings.bays() == [1]
    assert settings.buses[0]["devices"][0]["period_ms"] == 1000


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("nod", "x", ["nod: unknown key", "did you mean node?"]),
        ("link/keepalive", 30, ["link.keepalive: unknown key", "keepalive_s"]),
        ("buses/0/devices/0/perod_ms", 5, ["buses[0].devices[0].perod_ms", "period_ms"]),
        ("streams/modul", {}, ["streams.modul", "module"]),
        ("fleet", "", ["fleet", '""', "not empty"]),
        ("link/host", "", ["link.host", "not empty"]),
        ("link/port", 70000, ["link.port", "70000", "1 to 65535"]),
        ("link/port", "1883", ["link.port", '"1883"', "a whole number"]),
        ("link/window", True, ["link.window", "true"]),
        ("node", "van 1", ["node", '"van 1"', "letters"]),
        ("holder", "boat", ["holder", '"boat"', "van, station"]),
        ("buses/0/devices/0/driver", "seplos", ["driver", '"seplos"', "seplos_v3"]),
        ("buses/0/parity", "odd ", ["parity", "none, even, odd"]),
        ("buses/0/devices", [], ["buses[0].devices", "at least one device"]),
        ("buses", {}, ["buses", "a list"]),
        ("network", [], ["network", "an object"]),
        ("link/backoff_ms_max", 20, ["link.backoff_ms_max", "backoff_ms_min"]),
        ("journal/limit_bytes", 100, ["journal.limit_bytes", "65536"]),
        ("streams/vehicle", {"report": "some"}, ["streams.vehicle.report", "change, all"]),
        ("time/ntp_hst", "x", ["time.ntp_hst", "ntp_host"]),
        ("seal_interval_ms", 0, ["seal_interval_ms", "100 to 600000"]),
    ],
)
def test_mistake_names_key_value_and_what_is_allowed(path: str, value: Any, words: list[str]) -> None:
    problems = check(changed(path, value)).problems
    assert len(problems) == 1
    assert all(word in problems[0] for word in words), problems


def test_two_buses_cannot_share_a_port() -> None:
    raw = changed("buses", [GOOD["buses"][0], {**GOOD["buses"][0], "name": "other"}])
    assert "a port of its own" in check(raw).problems[0]


@pytest.mark.parametrize("missing", ["fleet", "node", "link"])
def test_missing_required_key_is_named(missing: str) -> None:
    settings = check({key: value for key, value in GOOD.items() if key != missing})
    assert settings.problems[0] == f"{missing}: missing; it is required"
    assert not settings.can_connect


@pytest.mark.parametrize(
    ("path", "value", "can_connect"),
    [
        ("buses/0/devices/0/driver", "seplos", True),
        ("link/keepalive", 30, True),
        ("watchdog_ms", 1, True),
        ("link/tsl", {"ca": "ca.der"}, False),
        ("link/host", 5, False),
        ("link/tls", {"caa": "ca.der"}, False),
        ("fleet", "a/b", False),
    ],
)
def test_node_with_mistakes_stays_reachable_unless_they_concern_the_link(
    path: str, value: Any, *, can_connect: bool
) -> None:
    settings = check(changed(path, value))
    assert settings.problems
    assert settings.can_connect is can_connect


def test_password_is_never_shown() -> None:
    assert "secret" not in json.dumps(mask(GOOD))
    assert "secret" not in str(check(changed("link/password", ["secret"])).problems)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "{}", "\x00\xff", '{"fleet": 1e999}'])
def test_any_file_content_leads_to_problems_and_never_to_an_exception(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="latin-1")
    settings = load(str(path))
    assert settings.problems
    assert not settings.can_connect


def test_missing_file_is_a_problem_that_names_it(tmp_path: Path) -> None:
    assert "nowhere.json: cannot be read" in load(str(tmp_path / "nowhere.json")).problems[0]


def test_nearest_word() -> None:
    assert nearest("hots", ["port", "host", "window"]) == "host"


def test_every_file_in_drivers_is_a_driver_but_for_what_drivers_share() -> None:
    shipped = ["gnss", "jbd", "jbd_up16s", "jk", "sdm630", "seplos_v3", "slot_charger", "vcu"]
    assert driver_names() == shipped
    for name in shipped:
        module = importlib.import_module("swapline_node.drivers." + name)
        assert issubclass(getattr(module, class_name(name)), Driver)


def bus_of(name: str, *drivers: str) -> dict[str, Any]:
    return {"name": name, "port": "/dev/" + name, "devices": [{"driver": driver, "bay": 1} for driver in drivers]}


@pytest.mark.parametrize(
    ("buses", "words"),
    [
        ([bus_of("a", "gnss", "vcu")], "alone on its bus"),
        ([bus_of("a", "gnss"), bus_of("b", "gnss")], "one of a node"),
        ([bus_of("a", "slot_charger", "slot_charger")], "one of a node"),
    ],
)
def test_devices_whose_rows_nothing_tells_apart_are_refused(buses: list[Any], words: str) -> None:
    assert any(words in problem for problem in check(changed("buses", buses)).problems)


@pytest.mark.parametrize("key", ["window", "keepalive_s", "backlog_frames_per_s"])
def test_mistake_that_a_default_replaces_does_not_keep_the_node_from_connecting(key: str) -> None:
    settings = check(changed("link/" + key, -1))
    assert settings.problems
    assert settings.can_connect
