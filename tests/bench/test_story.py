"""The story is physics: the cell that leaked is empty before its van goes to a station, and alarms; no other does."""

import pytest

from swapline_bench import story
from swapline_bench.module import Module
from swapline_bench.past_schedule import Bay
from swapline_bench.story import CELL, LACKS_MAX, SWAPPED, Story, StoryState
from swapline_bench.world import World

SPREAD_ALARM_V = 0.3
DAYS_S = 14 * 86400.0


def spread_v(module: Module) -> float:
    return max(module.cell_voltages_v) - min(module.cell_voltages_v)


def test_the_module_is_in_a_van_that_can_go_on_without_it() -> None:
    for vans, wanted in ((1, "van-001"), (2, "van-001"), (3, "van-003"), (5, "van-003")):
        world = World(van_count=vans)
        bay = story.place(world)
        van = next(van for van in world.vans if van.name == bay.node)
        assert bay == Bay(wanted, 1)
        assert len(van.bays) > 1


def test_only_that_module_has_a_fault() -> None:
    world = World()
    assert story.faults(world, Bay("van-001", 1), 0.3, DAYS_S) == ()
    (fault,) = story.faults(world, story.place(world), 0.3, DAYS_S)
    module = world.vans[2].bays[0]
    assert module is not None
    before = list(module.cells.leak_a)
    fault.strike(module)
    assert [n for n in range(16) if module.cells.leak_a[n] != before[n]] == [CELL]
    assert 0.1 < module.cells.leak_a[CELL] < 2.0


@pytest.mark.parametrize(("vans", "seed", "minutes_max"), [(1, 1, 2.0), (3, 1, 5.0), (3, 4, 5.0)])
def test_it_alarms_within_minutes_while_its_siblings_do_not_and_is_taken_out(
    vans: int, seed: int, minutes_max: float
) -> None:
    world = World(van_count=vans, slot_count=4, seed=seed)
    module = story.plant(world, DAYS_S)
    others = [one for one in world.modules if one is not module]
    assert spread_v(module) < SPREAD_ALARM_V  # it does not begin with its end
    above_s, alarmed_s, taken_s = 0.0, 0.0, 0.0
    while world.time_s < 60.0 * 60.0 * 8 and not taken_s:
        world.step(6.0)
        above_s = above_s + 6.0 if spread_v(module) > SPREAD_ALARM_V else 0.0
        if above_s >= 10.0 * world.speed and not alarmed_s:  # the rule asks for 10 s of real time
            alarmed_s = world.time_s
        if not alarmed_s:
            assert max(map(spread_v, others)) < SPREAD_ALARM_V
        if any(swap.code_out == module.code for swap in world.swaps):
            taken_s = world.time_s
    assert 0.0 < alarmed_s <= minutes_max * 60.0 * world.speed
    assert alarmed_s < taken_s


def test_what_happens_is_told_once_and_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(van_count=1)
    said: list[str] = []
    told = Story(world, DAYS_S, say=said.append)
    told.begin()
    alarm = {"bay": 1, "node": "van-001", "code": 5, "raised_utc_ms": 7, "level_max": 1, "name": "cell spread"}
    alarm |= {"text": "cells 0.31 V apart"}
    answers = {
        "warnings": [
            {"module": told.module, "kind": "cell_falls_behind", "text": "Cell 7 falls behind."},
            {"module": "ANOTHER", "kind": "cell_falls_behind", "text": "Not of this story."},
        ],
        "alarms": [alarm],
    }
    monkeypatch.setattr(story, "_ask", lambda _, name: answers[name])
    told.watch("http://nowhere")
    told.watch("http://nowhere")
    answers["alarms"] = [alarm | {"level_max": 2, "text": "cells 0.52 V apart"}]
    told.watch("http://nowhere")
    assert said == told.told
    assert [sentence.split(": ", 1)[1][:12] for sentence in said] == [
        "cell 7 of mo",
        "early warnin",
        "ALARM in bay",
        "van-001 sets",
        "ALARM in bay",
    ]
    assert told.module in said[0]


def test_a_gateway_that_does_not_answer_is_no_news() -> None:
    told = Story(World(van_count=1), DAYS_S, say=lambda _: None)
    told.begin()
    told.watch("http://127.0.0.1:1")
    assert len(told.told) == 1


def test_the_cell_lacks_no_more_than_the_module_has() -> None:
    world = World(van_count=3)
    for module in world.modules:
        assert story.lacks(module) <= LACKS_MAX
        assert story.lacks(module) < module.soc_pct / 100


def test_its_van_waits_for_the_warning_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    warning = {"module": "", "kind": "cell_falls_behind", "text": "Cell 7 falls behind."}
    answers: dict[str, list[dict[str, str]]] = {"warnings": [], "alarms": []}
    monkeypatch.setattr(story, "_ask", lambda _, name: answers[name])
    for is_warned in (True, False):
        world, now_s = World(van_count=1), iter((100.0, 101.0, 102.0, 102.0 if is_warned else 999.0))
        told = Story(world, DAYS_S, say=lambda _: None, monotonic_s=now_s.__next__)
        answers["warnings"] = []
        told.begin()
        told.watch("http://nowhere")
        world.step(3600.0)
        assert (world.vans[0].task, world.vans[0].driven_j) == ("parked", 0.0)
        answers["warnings"] = [warning | {"module": told.module}] if is_warned else []
        told.watch("http://nowhere")
        told.watch("http://nowhere")
        world.step(3600.0)
        assert world.vans[0].driven_j > 0.0


def test_a_story_that_goes_on_tells_nothing_twice_and_its_van_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(van_count=1)
    before = Story(world, DAYS_S, say=lambda _: None)
    before.begin()
    warning = {"module": before.module, "kind": "cell_falls_behind", "text": "Cell 7 falls behind."}
    monkeypatch.setattr(story, "_ask", lambda _, name: [warning] if name == "warnings" else [])
    said: list[str] = []
    resumed = Story(world, DAYS_S, say=said.append)
    resumed.resume(before.state)
    assert (said.pop(), resumed.told) == (f"story: goes on with module {before.module}", [])
    assert world.vans[0].is_kept_waiting
    resumed.watch("http://nowhere")
    assert [sentence.split(": ", 1)[1][:13] for sentence in said] == ["early warning", "van-001 sets "]
    again = Story(world, DAYS_S, say=said.append)
    again.resume(resumed.state)
    again.watch("http://nowhere")
    assert again.told == []
    assert world.vans[0].is_kept_waiting is False


def test_a_story_that_has_ended_is_not_begun_again() -> None:
    said: list[str] = []
    Story(World(van_count=1), DAYS_S, say=said.append).resume(StoryState("CODE", ("begin", SWAPPED)))
    assert said == []


def test_its_van_waits_for_nothing_without_a_past_that_warns() -> None:
    world = World(van_count=1)
    Story(world, 2 * 86400.0, say=lambda _: None).begin()
    assert not world.vans[0].is_kept_waiting
