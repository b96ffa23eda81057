"""A chaos run's schedule is a pure function of its arguments, and gives every part and every kind its turn."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from click.testing import CliRunner

from swapline_bench.chaos_cli import chaos
from swapline_bench.chaos_schedule import (
    BROKER_NAME,
    DATABASE_NAME,
    FAULTS,
    GATEWAY,
    GNSS_FAULTS,
    KILL_AND_FORGET,
    REST_S,
    WARM_UP_S,
    Action,
    Setting,
    plan,
)

TWO_MINUTES = Setting(seed=1, duration_s=120.0, vans=3, stations=1)
HALF_AN_HOUR = replace(TWO_MINUTES, duration_s=1800.0)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_same_seed_gives_same_schedule_in_every_process(hash_seed: str) -> None:
    program = "import sys; from swapline_bench.chaos_cli import chaos; chaos(sys.argv[1:])"
    arguments = ["--plan", "--json", "--seed", "1", "--duration", "120", "--vans", "3", "--stations", "1"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == [action.as_json() for action in plan(TWO_MINUTES)]


def test_another_seed_gives_another_schedule() -> None:
    assert plan(TWO_MINUTES) != plan(replace(TWO_MINUTES, seed=2))


def test_faults_do_not_depend_on_how_much_is_killed() -> None:
    calm = plan(replace(TWO_MINUTES, kills_per_min=0))
    assert calm == [action for action in plan(TWO_MINUTES) if not action.is_kill]


@pytest.mark.parametrize("seed", range(20))
def test_two_minutes_see_every_kind_and_every_part(seed: int) -> None:
    actions = plan(replace(TWO_MINUTES, seed=seed))
    assert {action.kind for action in actions if not action.is_kill} == set(FAULTS)
    victims = {action.name for action in actions if action.is_kill}
    assert victims == {*TWO_MINUTES.node_names, *TWO_MINUTES.gateway_names, BROKER_NAME, DATABASE_NAME}
    assert any(action.kind == KILL_AND_FORGET for action in actions)


@pytest.mark.parametrize("seed", range(20))
def test_everything_begins_after_the_warm_up_and_ends_in_time(seed: int) -> None:
    actions = plan(replace(TWO_MINUTES, seed=seed))
    assert min(action.at_s for action in actions) >= WARM_UP_S
    assert max(action.end_s for action in actions) <= TWO_MINUTES.duration_s
    assert [action.at_s for action in actions] == sorted(action.at_s for action in actions)


def test_half_an_hour_kills_five_hundred_times_and_every_part_about_as_often() -> None:
    kills = Counter(action.name for action in plan(HALF_AN_HOUR) if action.is_kill)
    assert kills.total() >= 500
    assert max(kills.values()) <= 1.2 * min(kills.values())


def test_whenever_the_database_is_away_a_gateway_is_killed() -> None:
    actions = plan(HALF_AN_HOUR)
    away = [action for action in actions if action.name == DATABASE_NAME]
    struck = [
        database
        for database in away
        if any(one.part == GATEWAY and database.at_s + 1 < one.at_s < database.end_s for one in actions)
    ]
    assert len(away) > 50
    assert len(struck) > 0.9 * len(away)


def _overlapping(actions: list[Action]) -> list[tuple[Action, Action]]:
    by_victim: dict[tuple[str, str], list[Action]] = defaultdict(list)
    for action in actions:
        by_victim[action.name, "kill" if action.is_kill else action.kind.split("_")[0]].append(action)
    pairs = [pair for of_one in by_victim.values() for pair in itertools.pairwise(of_one)]
    return [(first, second) for first, second in pairs if second.at_s < first.end_s + REST_S]


def test_a_part_is_back_before_it_is_killed_or_disturbed_alike_again() -> None:
    assert _overlapping(plan(replace(HALF_AN_HOUR, kills_per_min=40, faults_per_min=30))) == []


def test_a_kill_may_strike_a_node_whose_link_or_clock_is_disturbed() -> None:
    actions = plan(HALF_AN_HOUR)
    disturbed = [action for action in actions if action.part == "node" and action.duration_s and not action.is_kill]
    assert any(
        kill.is_kill and kill.name == one.name and one.at_s < kill.at_s < one.end_s
        for one in disturbed
        for kill in actions
    )


def test_stations_alone_have_no_receiver_to_disturb() -> None:
    actions = plan(replace(TWO_MINUTES, vans=0, stations=2))
    assert not {action.kind for action in actions} & set(GNSS_FAULTS)
    assert len(actions) > 20


def test_a_database_without_a_process_of_its_own_is_not_killed() -> None:
    assert all(action.name != DATABASE_NAME for action in plan(replace(HALF_AN_HOUR, has_database=False)))


def test_nothing_happens_at_rate_zero() -> None:
    assert plan(replace(HALF_AN_HOUR, kills_per_min=0, faults_per_min=0)) == []


def test_plan_prints_the_schedule_and_starts_nothing() -> None:
    arguments = ["--plan", "--seed", "7", "--duration", "120", "--vans", "3", "--stations", "1"]
    found = CliRunner().invoke(chaos, [*arguments, "--json"])
    assert found.exit_code == 0
    expected = plan(replace(TWO_MINUTES, seed=7))
    assert json.loads(found.stdout) == [action.as_json() for action in expected]
    text = CliRunner().invoke(chaos, arguments).stdout
    assert len(text.splitlines()) == len(expected)
