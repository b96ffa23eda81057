"""Thermal runaway is suspected by the criterion of GB 38031-2025, C.5.3.7: a and c, or b and c, and nothing else.

a: the lowest cell's voltage has dropped by more than 25 %; b: the highest temperature allowed is reached;
c: the temperature rises by 1 degC/s for 3 s.
"""

import random
from collections.abc import Callable, Iterable

import pytest

from swapline_wire.catalogue import LOSS_JOURNAL_FULL, MODULE
from tests.node.test_alarm import CODE, OTHER, Rig

RUNAWAY = 15
HOT = 600
CELL_MV = 3300
LOW_MV = CELL_MV * 3 // 4 - 1
LONG_AGO_S = 60  # until the first voltage is the initial one, and the module is known


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    for _ in range(LONG_AGO_S):
        take(rig, 250)
    return rig


def take(rig: Rig, temperature: int | None, voltage: int | None = CELL_MV, period_ms: int = 1000) -> None:
    """Commit one reading: tenths of a degree, and the lowest cell's voltage."""
    rig.set(temperature_max_sensor=3, cell_voltage_min_cell=11)
    if temperature is not None:
        rig.source.values[rig.source.index("temperature_max_c")] = temperature
    if voltage is not None:
        rig.source.values[rig.source.index("cell_voltage_min_v")] = voltage
    rig.source.commit(owner=CODE)
    rig.now_ms += period_ms


def warm(rig: Rig, temperatures: Iterable[int], voltage: int | None = CELL_MV, period_ms: int = 1000) -> None:
    for temperature in temperatures:
        take(rig, temperature, voltage, period_ms)


def suspicions(rig: Rig) -> list[int]:
    return [level for code, level in rig.told if code == RUNAWAY]


def test_rise_to_the_highest_temperature_is_suspected_once_with_its_sensor(rig: Rig) -> None:
    warm(rig, range(500, 900, 20))
    assert suspicions(rig) == [3]
    (row,) = [row for row in rig.rows if row["code"] == RUNAWAY]
    assert row["value"] == HOT
    assert row["threshold"] == HOT
    assert row["position"] == 3
    assert row["signal"] == rig.source.index("temperature_max_c")
    assert row["owner"] == CODE


def test_rise_with_a_drop_of_voltage_is_suspected_below_the_highest_temperature_with_its_cell(rig: Rig) -> None:
    take(rig, 250, LOW_MV)
    warm(rig, range(270, 350, 20), LOW_MV)
    assert suspicions(rig) == [3]
    (row,) = [row for row in rig.rows if row["code"] == RUNAWAY]
    assert (row["value"], row["threshold"], row["position"]) == (LOW_MV, CELL_MV * 75 // 100, 11)
    assert row["signal"] == rig.source.index("cell_voltage_min_v")


def test_it_is_suspected_three_seconds_after_the_rise_began_and_not_sooner(rig: Rig) -> None:
    warm(rig, [600, 612, 624])
    assert suspicions(rig) == []
    warm(rig, [636])
    assert suspicions(rig) == [3]


@pytest.mark.parametrize(
    ("temperatures", "voltage"),
    [
        (range(250, 590, 15), CELL_MV),  # c alone
        ([610] * 60, CELL_MV),  # b alone
        ([250] * 60, LOW_MV),  # a alone
        ([610] * 60, LOW_MV),  # a and b
        (range(500, 700, 9), CELL_MV),  # 0.9 degC/s: not c
        (range(250, 300, 9), LOW_MV),
        (range(250, 500, 15), CELL_MV * 3 // 4 + 1),  # not more than 25 %
    ],
    ids=["c", "b", "a", "a and b", "b and a slow rise", "a and a slow rise", "c and a small drop"],
)
def test_other_combinations_are_not_suspected(rig: Rig, temperatures: Iterable[int], voltage: int) -> None:
    warm(rig, temperatures, voltage)
    assert suspicions(rig) == []


@pytest.mark.parametrize("period_ms", [250, 500, 1000, 2000])
@pytest.mark.parametrize("refresh_ms", [250, 1000, 2000, 4000])
@pytest.mark.parametrize("resolution", [1, 10])
def test_real_rise_is_found_as_often_as_the_bms_is_read_and_says_something_new(
    rig: Rig, period_ms: int, refresh_ms: int, resolution: int
) -> None:
    def shown(time_ms: int) -> int:
        true = 250 + 30 * (time_ms // refresh_ms * refresh_ms) // 1000  # 3 degC/s
        return true // resolution * resolution

    began_ms = rig.now_ms
    while not suspicions(rig) and rig.now_ms - began_ms < 40_000:
        take(rig, shown(rig.now_ms - began_ms), period_ms=period_ms)
    assert suspicions(rig) == [3]
    hot_ms = (HOT - 250) * 1000 // 30
    assert rig.now_ms - began_ms < hot_ms + 2 * max(period_ms, refresh_ms) + 2000


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate_c_per_s", [1.5, 3.0])
def test_real_rise_is_found_through_the_noise_of_its_sensor(rig: Rig, rate_c_per_s: float, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    began_ms = rig.now_ms
    while not suspicions(rig) and rig.now_ms - began_ms < 60_000:
        true = 500 + rate_c_per_s * (rig.now_ms - began_ms) / 100
        take(rig, round(chance.gauss(true, 2)), period_ms=250)
    assert suspicions(rig) == [3]
    hot_ms = (HOT - 500) * 100 / rate_c_per_s
    assert hot_ms - 1000 < rig.now_ms - began_ms < hot_ms + 10_000


@pytest.mark.parametrize(
    "temperatures",
    [
        [250] * 5 + [900] * 60,
        [250, 900] * 30,
        [250, 400, 900] + [900] * 60,
        [250, 700, 1200, 300] * 20,
        [None, 900] * 30,
        [250] * 5 + [None] * 20 + [900] * 20,
    ],
    ids=["one jump", "back and forth", "two jumps", "saw", "now and then", "away and hot"],
)
@pytest.mark.parametrize("voltage", [CELL_MV, LOW_MV, None])
def test_sensor_that_jumps_is_not_suspected(rig: Rig, temperatures: list[int | None], voltage: int | None) -> None:
    for temperature in temperatures:
        take(rig, temperature, voltage)
    assert suspicions(rig) == []


def test_hot_module_that_replaces_a_cold_one_is_not_suspected(rig: Rig) -> None:
    for owner, temperature in [(CODE, 250), (OTHER, 450), (CODE, 650), (OTHER, 900)] * 3:
        rig.read(owner=owner, temperature_max_c=temperature, cell_voltage_min_v=CELL_MV)
    assert suspicions(rig) == []


def test_rise_that_one_module_began_is_not_another_ones(rig: Rig) -> None:
    warm(rig, [600, 620, 640])
    rig.read(owner=OTHER, temperature_max_c=660, cell_voltage_min_v=LOW_MV)
    rig.read(owner=OTHER, temperature_max_c=680, cell_voltage_min_v=LOW_MV)
    assert suspicions(rig) == []


def test_values_on_both_sides_of_a_gap_are_no_rise(rig: Rig) -> None:
    for temperature in range(400, 900, 60):
        take(rig, temperature)
        rig.now_ms += 5001
    assert suspicions(rig) == []


def test_voltage_before_a_gap_is_not_the_initial_one(rig: Rig) -> None:
    rig.now_ms += 6000
    warm(rig, range(250, 500, 20), LOW_MV)
    assert suspicions(rig) == []


def test_step_of_the_clock_is_no_rise_and_ends_none(rig: Rig) -> None:
    warm(rig, [600, 612])
    rig.source.shift(-3_600_000)
    warm(rig, [624])
    assert suspicions(rig) == []
    warm(rig, [636])
    assert suspicions(rig) == [3]


def test_looks_see_the_rise_and_tell_it_when_they_know_whose_it_is(rig: Rig) -> None:
    temperature = 500.0
    while not suspicions(rig) and temperature < 900:
        rig.set(temperature_max_c=round(temperature))
        if rig.source.judge(None):
            before = list(rig.told)
            assert rig.source.judge(CODE)
            assert len(rig.told) > len(before)
        rig.now_ms += 150
        temperature += 4.5  # 3 degC/s
    assert suspicions(rig) == [3]
    assert HOT <= temperature < HOT + 2 * 30


def test_modules_of_any_cells_are_judged(rig: Rig) -> None:
    rig.source.is_lfp = False
    warm(rig, range(500, 700, 20), 3900)
    assert suspicions(rig) == [3]


def test_it_is_cleared_when_a_minute_has_shown_no_sign_of_it(rig: Rig) -> None:
    warm(rig, range(500, 700, 20))
    warm(rig, [551] * 120)
    assert suspicions(rig) == [3]
    warm(rig, [550] * 60)
    assert suspicions(rig) == [3]
    warm(rig, [550] * 2)
    assert suspicions(rig) == [3, 0]


def test_dropped_voltage_keeps_it_standing(rig: Rig) -> None:
    take(rig, 250, LOW_MV)
    warm(rig, range(270, 350, 20), LOW_MV)
    warm(rig, [300] * 200, LOW_MV)
    assert suspicions(rig) == [3]


def test_module_that_leaves_takes_it_along(rig: Rig) -> None:
    warm(rig, range(500, 700, 20))
    rig.sampler.leave_bay(1)
    assert suspicions(rig) == [3, 0]


def test_full_journal_is_asked_again_until_it_has_room(rig: Rig) -> None:
    rig.store.loss = LOSS_JOURNAL_FULL
    warm(rig, range(500, 700, 20))
    assert suspicions(rig) == []
    rig.store.loss = 0
    warm(rig, range(700, 800, 20))
    assert suspicions(rig) == [3]


def drifting(seed: int) -> Callable[[], int]:
    """Return a sensor of a healthy module: noise of a degree, a load's warmth, whole or tenths of degrees."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    state = {"mean": chance.choice((300.0, 600.0)), "slope": 0.0}
    resolution = chance.choice((1, 5, 10))

    def read() -> int:
        if chance.random() < 0.01:
            state["slope"] = chance.uniform(-0.5, 0.5)  # 3 degC a minute at most
        state["mean"] = min(max(state["mean"] + state["slope"], 50), 640)
        return round((state["mean"] + chance.gauss(0, 5)) / resolution) * resolution

    return read


@pytest.mark.parametrize("seed", range(8))
def test_noise_and_load_never_look_like_it(seed: int) -> None:
    rig = Rig()
    read = drifting(seed)
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    for _ in range(3600):
        take(rig, read(), chance.randint(2900, 3400))
    assert suspicions(rig) == []


def test_it_has_a_row_in_the_table_of_modules() -> None:
    assert RUNAWAY in Rig(MODULE).source.rules[::13]
