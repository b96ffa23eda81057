"""Documents and patches: a viewer that applies every patch sees what a new viewer sees."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from swapline_gateway.console import document, projection
from swapline_gateway.console.joined import JoinedDocument
from swapline_gateway.state import FleetState

from .fleet_feed import ANCHOR_UTC_MS, Unit, module_values, position_values, slot_values, vehicle_values

LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=3)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), DOCUMENTS, max_size=4)
NOW_UTC_MS = ANCHOR_UTC_MS + 60_000
CODE = "08YPB1B0001A0C5D8F000001"


def merge(target: dict[str, Any], changes: dict[str, Any]) -> None:
    """As `merge` of static/js/live.js."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


def patched(content: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merge(content, copy.deepcopy(patch.get("set", {})))
    for path in patch.get("gone", []):
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
    return content


@given(OBJECTS, OBJECTS)
def test_patch_makes_the_new_document_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = document.diff(old, new)
    assert patched(copy.deepcopy(old), patch) == new
    assert (patch == {}) == (old == new)


def test_every_view_stays_equal_to_a_fresh_one_while_patched() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    van, station = Unit(state, "van-001", journal=1), Unit(state, "station-1", journal=2)
    builders: list[Callable[[], document.Document]] = [
        lambda: document.FleetDocument(state),
        lambda: document.ModulesDocument(state),
        lambda: document.node_document(state, fleet_name="demo", node_name="van-001"),
        lambda: document.node_document(state, fleet_name="demo", node_name="station-1"),
        lambda: document.module_document(state, CODE),
        lambda: JoinedDocument(
            document.node_document(state, fleet_name="demo", node_name="van-001"),
            {"modules": document.ModulesDocument(state), "module": document.module_document(state, CODE)},
        ),
    ]
    watched = [(build, build()) for build in builders]
    shown = [copy.deepcopy(view.content) for _, view in watched]
    steps: list[Callable[[], object]] = [
        lambda: van.say_birth("van", [1, 2]),
        lambda: van.send("module", [(1_000, module_values(18))], bay=1, owner=CODE),
        lambda: van.send("vehicle", [(2_000, vehicle_values(18))]),
        lambda: van.send("position", [(2_500, position_values(1, 0.3))]),
        lambda: station.send("slot", [(3_000, slot_values(occupied=True, charger_state=2, power_kw=3))], bay=5),
        lambda: station.send("module", [(4_000, module_values(18, current_a=55))], bay=5, owner=CODE),
        lambda: van.send("module", [(5_000, module_values(98))], bay=1, owner="OTHER"),
        lambda: state.apply_status("demo", "van-001", {"online": False}),
        lambda: state.forget("demo", "van-001"),
    ]
    with state.subscribe() as changes:
        for step in steps:
            step()
            batch = changes.drain()
            for index, (build, view) in enumerate(watched):
                shown[index] = patched(shown[index], json.loads(json.dumps(view.refresh(batch))))
                assert shown[index] == json.loads(json.dumps(build().content))


def test_one_changed_value_in_a_fleet_of_500_costs_little() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    units = [Unit(state, f"van-{number:03d}", journal=number + 1) for number in range(500)]
    for number, unit in enumerate(units):
        unit.say_birth("van", [1, 2, 3])
        unit.send("vehicle", [(1_000, vehicle_values(60))])
        unit.send("position", [(1_000, position_values(number, 0))])
        for bay in (1, 2, 3):
            unit.send("module", [(1_000, module_values(60))], bay=bay, owner=f"M{number:05d}{bay}")
    view = document.FleetDocument(state)
    assert len(json.dumps(view.content)) / 500 < 1_000
    with state.subscribe() as changes:
        units[7].send("vehicle", [(2_000, vehicle_values(60, speed_kmh=43.5))])
        patch = view.refresh(changes.drain())
    assert list(patch["set"]["nodes"]) == ["demo/van-007"]
    assert len(json.dumps(patch)) < 200


def test_a_birth_of_strange_shape_shows_only_what_is_sound() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    birth = {"online": True, "holder": "boat", "bays": [2, -1, "3", 1e9, True, None, 300], "board": {"a": 1}}
    state.apply_status("demo", "van-001", birth | {"firmware": "x" * 500, "boot": 1e400, "journal": [1]})
    node = state.nodes["demo", "van-001"]
    detail = projection.node_detail(state, node)
    json.dumps(detail, allow_nan=False)
    assert projection.bays_of(node) == [2]
    assert detail["birth"] == {"firmware": "x" * 80, "safe_mode": False}


def test_a_slot_is_ready_when_full_or_nearly_and_without_fault() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    station = Unit(state, "station-1")
    cases = {1: (95, 2, 0), 2: (89.9, 2, 0), 3: (50, 3, 0), 4: (99, 3, 4), 5: (None, 3, 0)}
    for bay, (soc, charger_state, faults) in cases.items():
        slot = slot_values(occupied=True, charger_state=charger_state) | {"faults": faults}
        station.send("slot", [(1_000, slot)], bay=bay)
        if soc is not None:
            station.send("module", [(1_000, module_values(soc))], bay=bay, owner=f"M{bay}")
    bays = projection.node_summary(state, state.nodes["demo", "station-1"])["bays"]
    assert [bays[str(bay)]["ready"] for bay in cases] == [True, False, True, False, False]


def test_what_stands_beside_a_page_is_refreshed_at_its_own_pace() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    counted = {"revision": 1}
    beside = document.BuiltDocument(lambda: dict(counted), concerns=lambda _batch: False, interval_s=1.0)
    view = JoinedDocument(document.module_document(state, CODE), {"battery": beside})
    assert view.content == {"known": False, "books": {"battery": {"revision": 1}}}
    counted["revision"] = 2
    with state.subscribe() as changes:
        Unit(state, "van-001").send("module", [(1_000, module_values(50))], bay=1, owner=CODE)
        assert "books" not in view.refresh(changes.drain())["set"]
        assert view.refresh(changes.drain()) == {"set": {"books": {"battery": {"revision": 2}}}}


def test_stations_are_told_from_vans_for_books_that_only_name_them() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    Unit(state, "van-001").say_birth("van", [1])
    view = document.stations_document(state)
    Unit(state, "station-1").say_birth("station", [1, 2])
    with state.subscribe() as changes:
        assert view.refresh(changes.drain()) == {"set": {"demo/station-1": True}}


def test_bay_shows_the_reading_of_a_module_without_a_code_until_its_slot_is_empty_or_a_known_one_is_there() -> None:
    state = FleetState(now_utc_ms=lambda: NOW_UTC_MS)
    station = Unit(state, "station-1", journal=2)

    def bay() -> dict[str, Any]:
        summary = projection.node_summary(state, state.nodes["demo", "station-1"])
        found: dict[str, Any] = summary["bays"]["4"]
        return found

    station.send("module", [(1_000, module_values(80))], bay=4)
    assert (bay()["module"], bay()["unknown"], bay()["soc_pct"]) == (None, True, 80)
    station.send("slot", [(2_000, slot_values(occupied=False, charger_state=0))], bay=4)
    assert (bay()["unknown"], bay()["soc_pct"]) == (False, None)
    station.send("module", [(3_000, module_values(81))], bay=4)
    station.send("module", [(4_000, module_values(60))], bay=4, owner=CODE)
    assert (bay()["module"], bay()["unknown"], bay()["soc_pct"]) == (CODE, False, 60)
