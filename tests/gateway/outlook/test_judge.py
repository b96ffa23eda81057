"""What the outlook says of readings: numbers against hand computation."""

import contextlib
import random
from typing import Any

import pytest

from swapline_gateway.config import OutlookConfig
from swapline_gateway.error import SinkBusyError
from swapline_gateway.outlook.consumption import HOURS_MAX, SETTLE_MS, Consumption
from swapline_gateway.outlook.judge import (
    ABSENT_MS,
    Nearest,
    distance_km,
    judge_stations,
    judge_vans,
    modules_there,
    place_stations,
)
from swapline_gateway.outlook.question import HOUR_MS, SLOT_MS, Use
from swapline_gateway.outlook.record import Blocked, ModuleReading, NodeKey, Position, Readings, SlotReading

NOW_MS = 1_800_000_000_000
VAN, STATION = ("f", "van-1"), ("f", "station-1")


def module(code: str, node: str = "van-1", bay: int = 1, *, ago_ms: int = 0, **fields: Any) -> ModuleReading:
    values = {"soc_pct": 50.0, "energy_full_kwh": 25.0} | fields
    return ModuleReading(NOW_MS - ago_ms, "f", node, bay, code, **values)


def outlook(readings: Readings, stations: dict[NodeKey, Position] | None = None, **config: Any) -> dict[str, Any]:
    found = judge_vans(OutlookConfig(**config), readings, stations or {}, lambda _van: 0.25, NOW_MS)
    return found[VAN]


def test_energy_of_modules_is_added_up_and_the_charge_weighted_by_it() -> None:
    modules = [module("a", soc_pct=80.0, energy_full_kwh=30.0), module("b", bay=2, soc_pct=20.0, energy_full_kwh=10.0)]
    found = outlook(Readings(modules=modules))
    assert found["energy_left_kwh"] == pytest.approx(26)  # 0.8 x 30 + 0.2 x 10
    assert found["soc_pct"] == pytest.approx(65)  # 26 of 40
    assert found["soc_min_pct"] == 20
    assert found["range_km"] == pytest.approx(104)  # 26 / 0.25
    assert found["modules"] == 2


def test_module_that_does_not_say_how_much_it_holds_is_a_rated_one() -> None:
    found = outlook(Readings(modules=[module("a", soc_pct=50.0, energy_full_kwh=None)]), rated_module_kwh=26.5)
    assert found["energy_left_kwh"] == pytest.approx(13.25)


def test_way_is_that_of_the_globe_times_the_detour() -> None:
    assert distance_km(Position(0, 0), Position(0, 1)) == pytest.approx(111.195, abs=0.001)
    assert distance_km(Position(31.2304, 121.4737), Position(39.9042, 116.4074)) == pytest.approx(1067.3, abs=0.5)
    readings = Readings(modules=[module("a")], positions={VAN: (NOW_MS, Position(31.0, 121.0))})
    stations = {
        STATION: Position(31.1, 121.0),
        ("f", "station-2"): Position(31.2, 121.0),
        ("g", "near"): Position(31, 121),
    }
    found = outlook(readings, stations, detour_factor=1.3)
    assert found["station"] == "station-1"  # that of another fleet does not count
    assert found["station_distance_km"] == pytest.approx(1.3 * 11.1195, abs=0.001)


@pytest.mark.parametrize(
    ("soc_pct", "latitude_deg", "is_low"),
    [
        (19.9, 31.0, 1),  # below 20 %
        (20.0, 31.0, 0),
        (40.0, 31.2, 0),  # 40 km of range; 28.9 km of way, times 1.3 are 37.6
        (37.0, 31.2, 1),  # 37 km
    ],
)
def test_van_is_low_with_little_charge_or_far_from_its_station(
    soc_pct: float, latitude_deg: float, is_low: int
) -> None:
    readings = Readings(
        modules=[module("a", soc_pct=soc_pct)], positions={VAN: (NOW_MS, Position(latitude_deg, 121.0))}
    )
    found = outlook(readings, {STATION: Position(31.0, 121.0)})
    assert found["range_km"] == pytest.approx(soc_pct)
    assert found["is_low"] == is_low


def test_van_without_a_station_or_a_position_is_judged_by_its_charge_alone() -> None:
    found = outlook(Readings(modules=[module("a", soc_pct=21.0)]))
    assert found["is_low"] == 0
    assert {"station", "station_distance_km", "latitude_deg"}.isdisjoint(found)


def test_van_of_which_no_module_is_known_has_no_charge_but_an_age() -> None:
    found = outlook(Readings(vans={VAN}, heard_utc_ms={VAN: NOW_MS - 90_000}))
    assert found == {"modules": 0, "consumption_kwh_per_km": 0.25, "age_s": 90.0}


def test_age_is_that_of_the_newest_of_all_readings() -> None:
    readings = Readings(
        modules=[module("a", ago_ms=30_000), module("b", bay=2, ago_ms=20_000)],
        positions={VAN: (NOW_MS - 25_000, Position(1, 1))},
        heard_utc_ms={VAN: NOW_MS - 40_000},
    )
    assert outlook(readings)["age_s"] == 20


def test_module_is_where_it_was_read_last_and_a_bay_has_the_one_read_last() -> None:
    swapped = [
        module("moved", ago_ms=60_000),
        module("moved", "station-1", 3),
        module("new", ago_ms=10_000),
        module("", ago_ms=70_000),  # in the same bay, before
    ]
    there = modules_there(Readings(modules=swapped))
    assert {key: [one.module for one in modules] for key, modules in there.items()} == {
        STATION: ["moved"],
        VAN: ["new"],
    }


def test_module_that_fell_silent_while_its_van_spoke_is_no_longer_in_it() -> None:
    out = Readings(modules=[module("out", ago_ms=ABSENT_MS + 1)], heard_utc_ms={VAN: NOW_MS})
    assert modules_there(out) == {}
    parked = Readings(modules=[module("in", ago_ms=5 * HOUR_MS)], heard_utc_ms={VAN: NOW_MS - 5 * HOUR_MS})
    assert [one.module for one in modules_there(parked)[VAN]] == ["in"]


def station(readings: Readings, blocked: Blocked | None = None) -> dict[str, Any]:
    return judge_stations(OutlookConfig(), readings, {}, blocked or Blocked())[STATION]


def slots(*states: tuple[bool, bool]) -> dict[NodeKey, list[SlotReading]]:
    return {STATION: [SlotReading(NOW_MS, bay, *state) for bay, state in enumerate(states, start=1)]}


def test_ready_modules_are_charged_known_in_their_slots_and_without_alarm() -> None:
    modules = [
        module("full", "station-1", 1, soc_pct=90.0),
        module("charging", "station-1", 2, soc_pct=89.9),
        module("", "station-1", 3, soc_pct=99.0),  # nobody knows which one it is
        module("gone", "station-1", 4, soc_pct=99.0),  # its slot says that it is empty
        module("hot", "station-1", 5, soc_pct=99.0),
        module("leaking", "station-1", 6, soc_pct=99.0),
    ]
    state = slots((True, False), (True, True), (True, False), (False, False), (True, False), (True, True))
    blocked = Blocked(frozenset({("f", "station-1", 5)}), frozenset({"leaking"}))
    found = station(Readings(modules=modules, slots=state, powers_kw={STATION: 12.5}, swaps_hour={STATION: 3}), blocked)
    assert found == {"slots": 6, "occupied": 5, "ready": 1, "charging": 2, "power_kw": 12.5, "swaps_hour": 3}


def test_stations_are_no_vans_and_vans_no_stations() -> None:
    readings = Readings(
        modules=[module("a"), module("b", "station-1")],
        vans={VAN},
        slots=slots((True, False)),
        positions={STATION: (NOW_MS, Position(1, 1))},
    )
    assert list(judge_vans(OutlookConfig(), readings, {}, lambda _van: 1.0, NOW_MS)) == [VAN]
    assert list(judge_stations(OutlookConfig(), readings, {}, Blocked())) == [STATION]


def test_station_is_where_it_is_configured_else_where_it_says_else_where_vans_swap() -> None:
    told = {("f", name): Position(1, 1) for name in ("a", "b", "c")} | {("g", "c"): Position(1, 1)}
    readings = Readings(
        positions={("f", "a"): (0, Position(2, 2)), ("f", "b"): (0, Position(2, 2)), VAN: (0, Position(2, 2))},
        slots={("f", "a"): [], ("f", "b"): [], ("f", "d"): []},
    )
    config = OutlookConfig(stations={"a": (3, 3), "g/c": (4, 4), "d": (5, 5), "f/e": (6, 6)})
    assert place_stations(config, readings, told) == {
        ("f", "a"): Position(3, 3),
        ("f", "b"): Position(2, 2),
        ("f", "c"): Position(1, 1),
        ("g", "c"): Position(4, 4),
        ("f", "d"): Position(5, 5),
        ("f", "e"): Position(6, 6),
    }


@pytest.mark.parametrize("count", [1, 2, 60])
def test_nearest_station_is_the_one_that_looking_at_all_finds(count: int) -> None:
    chance = random.Random(count)  # noqa: S311 (not for secrets)

    def anywhere() -> Position:
        return Position(chance.uniform(30.9, 31.5), chance.uniform(121.0, 122.0))

    stations = {("f", f"s{number:02d}"): anywhere() for number in range(count)}
    nearest = Nearest(stations)
    for _ in range(50):
        place = anywhere()
        expected = min((distance_km(place, position), name) for (_, name), position in stations.items())
        assert nearest.find("f", place) == expected
    assert nearest.find("other", anywhere()) is None


class Slots:
    """Answers what vans used, and remembers for which slots it was asked."""

    def __init__(self, used: dict[int, Use]) -> None:
        self.used = used
        self.asked: list[tuple[int, int]] = []
        self.is_away = False

    def use(self, begin_ms: int, end_ms: int) -> dict[NodeKey, Use]:
        if self.is_away:
            raise SinkBusyError("away")
        self.asked.append((begin_ms, end_ms))
        found = [use for slot, use in self.used.items() if begin_ms <= slot < end_ms]
        return {VAN: Use(*map(sum, zip(*found, strict=True)))} if found else {}


THIS_HOUR = NOW_MS - NOW_MS % HOUR_MS


def day(asked: Slots) -> Consumption:
    consumption = Consumption(asked, rated_kwh_per_km=0.2)
    for minute in range(13):
        consumption.refresh(NOW_MS + minute * 60_000)
    return consumption


@pytest.mark.parametrize(
    ("uses", "kwh_per_km"),
    [
        ([Use(3, 10), Use(6, 10)], 0.45),
        ([Use(3, 9.9), Use(6, 10)], 0.2),  # less than 20 km: the rated one
        ([Use(0, 100)], 0.2),  # modules that do not count their energy
        ([Use(1, 100)], 0.05),
        ([Use(90, 30)], 2.0),
        ([], 0.2),
    ],
)
def test_consumption_is_that_of_the_day_within_what_can_be(uses: list[Use], kwh_per_km: float) -> None:
    asked = Slots({THIS_HOUR - HOUR_MS - number * 20 * HOUR_MS: use for number, use in enumerate(uses)})
    assert day(asked).of(VAN) == pytest.approx(kwh_per_km)


def test_hours_leave_the_day_when_it_is_over() -> None:
    asked = Slots({THIS_HOUR - 20 * HOUR_MS: Use(10, 40), THIS_HOUR - HOUR_MS: Use(20, 40)})
    consumption = day(asked)
    assert consumption.of(VAN) == pytest.approx(30 / 80)
    for hour in range(1, 10):
        consumption.refresh(NOW_MS + hour * HOUR_MS)
    assert consumption.of(VAN) == pytest.approx(20 / 40)
    for hour in range(10, 30):
        consumption.refresh(NOW_MS + hour * HOUR_MS)
    assert consumption.of(VAN) == 0.2


def test_day_is_asked_for_by_and_by_then_each_slot_once_when_it_has_settled() -> None:
    asked = Slots({})
    consumption = Consumption(asked, rated_kwh_per_km=0.2)
    counts = []
    for minute in range(180):
        before, now_ms = len(asked.asked), THIS_HOUR + minute * 60_000
        consumption.refresh(now_ms)
        counts.append(len(asked.asked) - before)
        assert all(begin < end <= now_ms - SETTLE_MS for begin, end in asked.asked)
    assert max(counts) == HOURS_MAX
    assert not any(count > 1 for count in counts[14:])
    assert sum(counts[60:120]) == HOUR_MS // SLOT_MS
    slots = sorted(slot for begin, end in asked.asked for slot in range(begin, end, SLOT_MS))
    assert slots == list(range(slots[0], slots[-1] + 1, SLOT_MS))


def test_database_that_is_away_leaves_what_is_known_and_is_asked_for_the_rest() -> None:
    asked = Slots({THIS_HOUR - HOUR_MS: Use(20, 40), THIS_HOUR - 8 * HOUR_MS: Use(20, 40)})
    consumption = Consumption(asked, rated_kwh_per_km=0.2)
    for minute in range(2):
        consumption.refresh(NOW_MS + minute * 60_000)
    asked.is_away = True
    with pytest.raises(SinkBusyError):
        consumption.refresh(NOW_MS + 600_000)
    assert consumption.of(VAN) == pytest.approx(0.5)
    asked.is_away, asked.used[THIS_HOUR - 8 * HOUR_MS] = False, Use(60, 40)
    for minute in range(2, 15):
        consumption.refresh(NOW_MS + minute * 60_000)
    assert consumption.of(VAN) == pytest.approx(1.0)


def test_question_that_takes_too_long_is_asked_in_smaller_parts() -> None:
    class Slow(Slots):
        """Answers for twenty minutes at most."""

        def use(self, begin_ms: int, end_ms: int) -> dict[NodeKey, Use]:
            self.is_away = end_ms - begin_ms > 4 * SLOT_MS
            return super().use(begin_ms, end_ms)

    asked = Slow({THIS_HOUR - 5 * HOUR_MS + SLOT_MS * slot: Use(1, 4) for slot in range(12)})
    consumption = Consumption(asked, rated_kwh_per_km=0.2)
    for minute in range(150):
        with contextlib.suppress(SinkBusyError):
            consumption.refresh(NOW_MS + minute * 60_000)
    assert consumption.of(VAN) == pytest.approx(0.25)
