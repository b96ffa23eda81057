"""Who sits in a bay: every arrival and departure is told once, over restarts too, and says on what ground."""

from typing import Any

from swapline_node.journal_state import MOMENT, Record
from swapline_wire.catalogue import (
    BATTERY_IN,
    BATTERY_OUT,
    FORMATS,
    MODULE,
    POSITION,
    SLOT,
    TIME_NTP,
    VEHICLE,
)
from swapline_wire.catalogue_text import CAME, FOUND, FOUND_GONE, LEFT, SILENT, STILL_THERE
from tests.node.test_sampler import UTC, Rig

GONE_MS = 30_000
NOTHING = FORMATS["u32"][2]


class Bay:
    """A bay of a node that is started again and again with one memory, and what it tells."""

    def __init__(self, *streams: Any) -> None:
        self.occupants: dict[int, tuple[str, Any]] = {}
        self.streams = streams
        self.boot = 0
        self.start()

    def start(self) -> None:
        """Start the node: who was seen in the boot before is remembered with the last moment of that."""
        moment = Record(MOMENT, TIME_NTP, 7, self.boot, UTC, 99_000, 0)
        self.boot += 1
        self.rig = Rig()
        self.rig.store.boot = self.boot
        self.rig.store.occupants.update(
            {bay: (code, seen or moment) for bay, (code, seen) in self.occupants.items() if code}
        )
        self.occupants = self.rig.store.occupants
        source = self.rig.sampler.source
        self.sources = [source(stream, 1 if stream in (SLOT, MODULE) else 0) for stream in self.streams]
        self.presence = self.rig.sampler.presence(1)

    def say(self, stream: Any, **values: int) -> None:
        (source,) = [source for source in self.sources if source.stream is stream]
        for name, value in values.items():
            source.values[source.index(name)] = value
        source.commit()

    def pass_time(self, ms: int) -> None:
        self.rig.now_ms += ms
        self.rig.sampler.look_for_lost()

    @property
    def told(self) -> list[tuple[int, str, int]]:
        return [(row["code"], row["owner"], row["reason"]) for row in self.rig.rows("event")]


def test_module_that_sat_here_before_the_restart_has_not_arrived() -> None:
    bay = Bay()
    bay.presence.seen("ONE")
    assert bay.told == [(BATTERY_IN, "ONE", FOUND)]
    bay.start()
    bay.presence.seen("ONE")
    bay.presence.seen("ONE")
    assert bay.told == [(BATTERY_IN, "ONE", STILL_THERE)]


def test_module_that_left_with_the_nodes_power_is_told_late_at_the_time_at_which_it_was_last_known() -> None:
    bay = Bay()
    bay.presence.seen("ONE", 150, 990)
    bay.start()
    bay.presence.seen("TWO", 990, 980)
    assert bay.told == [(BATTERY_OUT, "ONE", FOUND_GONE), (BATTERY_IN, "TWO", FOUND)]
    late, arrival = bay.rig.store.frames
    assert (late.header.boot, late.header.time_quality, late.header.anchor_utc_ms) == (1, TIME_NTP, UTC)
    assert late.rows[0][0] == 99_001
    assert (arrival.header.boot, arrival.header.time_quality) == (2, 0)
    row = bay.rig.rows("event")[0]
    assert (row["soc_pct"], row["duration_s"], row["request_id"]) == (0xFFFF, NOTHING, NOTHING)


def test_boot_that_never_read_the_bay_does_not_move_the_time_of_the_departure() -> None:
    bay = Bay()
    bay.presence.seen("ONE")
    bay.start()  # contacts bounce
    bay.start()
    bay.presence.seen("TWO")
    assert bay.told[0] == (BATTERY_OUT, "ONE", FOUND_GONE)
    assert bay.rig.store.frames[0].header.boot == 1


def test_bay_that_stays_silent_after_a_restart_is_told_as_left_when_a_slow_module_would_have_answered() -> None:
    bay = Bay()
    bay.presence.seen("ONE")
    bay.start()
    bay.presence.silent()
    bay.pass_time(GONE_MS - 2000)
    assert bay.told == []
    bay.pass_time(2000)
    bay.pass_time(2000)
    assert bay.told == [(BATTERY_OUT, "ONE", FOUND_GONE)]
    bay.presence.seen("TWO")
    assert bay.told[1:] == [(BATTERY_IN, "TWO", CAME)]


def test_module_that_was_slow_to_answer_after_a_restart_never_left() -> None:
    bay = Bay()
    bay.presence.seen("ONE")
    bay.start()
    bay.presence.silent()
    bay.pass_time(5000)
    bay.presence.seen("ONE")
    bay.pass_time(2 * GONE_MS)
    assert bay.told == [(BATTERY_IN, "ONE", STILL_THERE)]


def test_silent_module_of_an_occupied_slot_is_not_told_as_left_after_a_restart() -> None:
    bay = Bay(SLOT)
    bay.say(SLOT, occupied=1)
    bay.presence.seen("ONE")
    bay.start()
    bay.presence.silent()
    for _ in range(2 * GONE_MS // 1000):
        bay.say(SLOT, occupied=1)
        bay.pass_time(1000)
    assert bay.told == []
    bay.say(SLOT, occupied=0)
    bay.rig.sampler.look_for_lost()
    assert bay.told == [(BATTERY_OUT, "ONE", FOUND_GONE)]


def test_module_that_is_lost_has_not_left_until_its_slot_says_so() -> None:
    bay = Bay(SLOT)
    bay.say(SLOT, occupied=1)
    bay.presence.seen("ONE")
    bay.presence.silent()
    bay.presence.seen("ONE")
    bay.presence.silent()
    bay.say(SLOT, occupied=0)
    bay.rig.sampler.look_for_lost()
    assert bay.told == [
        (BATTERY_IN, "ONE", FOUND),
        (BATTERY_OUT, "ONE", SILENT),
        (BATTERY_IN, "ONE", STILL_THERE),
        (BATTERY_OUT, "ONE", SILENT),
        (BATTERY_OUT, "ONE", LEFT),
    ]
    assert bay.occupants == {1: ("", None)}


def test_other_module_in_the_place_of_a_lost_one_says_that_the_lost_one_has_left() -> None:
    bay = Bay(SLOT)
    bay.say(SLOT, occupied=1)
    bay.presence.seen("ONE")
    bay.presence.silent()
    bay.presence.seen("TWO")
    assert bay.told[2:] == [(BATTERY_OUT, "ONE", LEFT), (BATTERY_IN, "TWO", CAME)]


def test_both_halves_of_a_swap_carry_the_request_and_where_the_van_is() -> None:
    bay = Bay(VEHICLE, POSITION)
    bay.say(VEHICLE, request_id=71, odometer_km=45_678_123)
    bay.say(POSITION, latitude_deg=-338567844, longitude_deg=1510000000)
    bay.presence.seen("ONE")
    bay.pass_time(1000)
    bay.presence.absent()
    for row in bay.rig.rows("event"):
        assert (row["request_id"], row["odometer_km"]) == (71, 45_678_123)
        assert (row["latitude_deg"], row["longitude_deg"]) == (-338567844, 1510000000)


def test_swap_events_carry_nothing_that_is_not_fresh() -> None:
    bay = Bay(VEHICLE, POSITION)
    bay.say(VEHICLE, request_id=71, odometer_km=45_678_123)
    bay.say(POSITION, latitude_deg=-338567844, longitude_deg=1510000000)
    bay.pass_time(5000)
    bay.presence.seen("ONE")
    (row,) = bay.rig.rows("event")
    assert (row["request_id"], row["odometer_km"], row["latitude_deg"]) == (NOTHING, NOTHING, -0x80000000)


def test_slot_tells_the_request_of_its_own_bay_only() -> None:
    bay = Bay(SLOT)
    other = bay.rig.sampler.source(SLOT, 2)
    other.values[other.index("request_id")] = 5
    other.commit()
    bay.say(SLOT, request_id=6)
    bay.presence.seen("ONE")
    assert [row["request_id"] for row in bay.rig.rows("event")] == [6]


def test_first_arrival_waits_for_the_vehicle_but_not_for_long_and_not_for_ever() -> None:
    bay = Bay(VEHICLE)
    bay.presence.seen("ONE")
    assert bay.told == []
    bay.say(VEHICLE, request_id=71)
    bay.presence.seen("ONE")
    assert [row["request_id"] for row in bay.rig.rows("event")] == [71]
    bay.start()
    bay.presence.seen("ONE")
    bay.rig.now_ms = 5000  # a vehicle that does not answer
    bay.presence.seen("ONE")
    assert bay.told == [(BATTERY_IN, "ONE", STILL_THERE)]


def test_arrival_that_waited_is_told_when_the_module_leaves_or_another_one_comes() -> None:
    bay = Bay(VEHICLE)
    bay.presence.seen("ONE")
    bay.presence.seen("TWO")
    assert bay.told == [(BATTERY_IN, "ONE", FOUND), (BATTERY_OUT, "ONE", LEFT), (BATTERY_IN, "TWO", CAME)]
    bay.start()
    bay.presence.seen("TWO")
    bay.presence.silent()
    assert bay.told == [(BATTERY_IN, "TWO", STILL_THERE), (BATTERY_OUT, "TWO", LEFT)]


def test_alarm_is_told_once_while_the_arrival_of_its_module_waits_for_the_vehicle() -> None:
    bay = Bay(VEHICLE, MODULE)
    module = bay.sources[1]
    for second in range(3):
        bay.rig.now_ms = 1000 * second
        if second == 2:
            bay.say(VEHICLE, request_id=71)
        bay.presence.seen("ONE")
        module.values[module.index("protections")] = 1
        module.commit(owner="ONE")
    assert bay.told == [(BATTERY_IN, "ONE", FOUND)]
    assert [(row["owner"], row["level"]) for row in bay.rig.rows("alarm")] == [("ONE", 2)]
    bay.presence.silent()
    assert [row["level"] for row in bay.rig.rows("alarm")] == [2, 0]


def test_unknown_module_makes_no_arrival_and_the_one_before_it_has_left() -> None:
    bay = Bay()
    bay.presence.seen("ONE")
    bay.presence.seen("")
    bay.presence.seen("")
    assert bay.told == [(BATTERY_IN, "ONE", FOUND), (BATTERY_OUT, "ONE", LEFT)]
    bay.presence.seen("TWO")
    assert bay.told[2:] == [(BATTERY_IN, "TWO", CAME)]


def test_unknown_module_after_a_restart_may_be_the_one_that_sat_here() -> None:
    bay = Bay()
    bay.presence.seen("ONE")
    bay.start()
    bay.presence.seen("")
    bay.pass_time(2 * GONE_MS)
    assert bay.told == []
    bay.presence.seen("ONE")
    assert bay.told == [(BATTERY_IN, "ONE", STILL_THERE)]


def test_alarms_and_rows_of_an_unknown_module_go_on_from_reading_to_reading() -> None:
    bay = Bay(MODULE)
    for second in range(4):
        bay.rig.now_ms = 1000 * (second + 1)
        bay.presence.seen("")
        bay.say(MODULE, protections=1, soc_pct=500 + 10 * second)
    rows = bay.rig.rows("module")
    assert [row["owner"] for row in rows] == [""] * 4
    assert len([frame for frame in bay.rig.store.frames if frame.stream is MODULE]) == 1
    assert [(row["owner"], row["level"]) for row in bay.rig.rows("alarm")] == [("", 2)]
    bay.presence.silent()
    assert [row["level"] for row in bay.rig.rows("alarm")] == [2, 0]
