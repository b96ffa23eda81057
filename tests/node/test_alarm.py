"""Alarms: raised, escalated and cleared, each once, by the catalogue's table."""

from typing import Any

import pytest

from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler
from swapline_wire import alarm_table, catalogue_text
from swapline_wire.catalogue import (
    ALARM,
    ALARM_STREAM,
    FORMATS,
    LOSS_JOURNAL_FULL,
    MODULE,
    SLOT,
    STREAMS,
    VEHICLE,
    Stream,
    stream_by_name,
)
from swapline_wire.decode import Decoded, decode

CODE = "0SLPB0451800161D80000007"
OTHER = "0SLPB0451800161D80000008"
CELL_HIGH, PACK_LOW, SPREAD, CHARGE, LOST = 1, 4, 5, 9, 14
PERIOD_MS = 1000


class Store:
    """Stands where the journal is."""

    def __init__(self) -> None:
        self.id = 7
        self.boot = 3
        self.next_seq = 1
        self.occupants: dict[int, tuple[str, Any]] = {}
        self.frames: list[Decoded] = []
        self.loss = 0
        self.commits = 0

    def append(self, frame: memoryview, seq: int, priority: int) -> int:
        if self.loss and priority == ALARM:
            return self.loss
        self.frames.append(decode(bytes(frame)))
        self.next_seq = seq + 1
        return 0

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def commit(self) -> bool:
        self.commits += 1
        return True


class Rig:
    """A sampler, a source of one stream, and what it told."""

    def __init__(self, stream: Stream = MODULE, bay: int = 1) -> None:
        self.now_ms = 0
        self.store = Store()
        clock = Clock(lambda: self.now_ms, lambda later, earlier: later - earlier, utc_ms_min=0)
        self.counters = Counters()
        self.sampler = Sampler(self.store, clock, self.counters)
        self.source = self.sampler.source(stream, bay)

    def set(self, **values: int) -> None:
        self.source.clear()
        for name, value in values.items():
            self.source.values[self.source.index(name)] = value

    def read(self, duration_ms: int = 0, owner: str = CODE, **values: int) -> None:
        """Commit these values now, and again at every second until `duration_ms` have passed."""
        for _ in range(duration_ms // PERIOD_MS + 1):
            self.set(**values)
            self.source.commit(owner=owner)
            self.now_ms += PERIOD_MS

    @property
    def told(self) -> list[tuple[int, int]]:
        """Return code and level of every alarm row."""
        return [(row["code"], row["level"]) for row in self.rows]

    @property
    def rows(self) -> list[dict[str, Any]]:
        names = [signal.name for signal in ALARM_STREAM.signals]
        return [
            {"owner": frame.header.owner, "bay": frame.header.bay, "time_ms": row[0]}
            | dict(zip(names, row[1:], strict=True))
            for frame in self.store.frames
            if frame.stream is ALARM_STREAM
            for row in frame.rows
        ]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_limit_is_raised_escalated_and_cleared_once_each(rig: Rig) -> None:
    rig.read(10_000, cell_voltage_max_v=3610, cell_voltage_max_cell=7)
    assert rig.told == [(CELL_HIGH, 1)]
    rig.read(10_000, cell_voltage_max_v=3660, cell_voltage_max_cell=8)
    rig.read(10_000, cell_voltage_max_v=3760, cell_voltage_max_cell=9)
    rig.read(10_000, cell_voltage_max_v=3610, cell_voltage_max_cell=9)  # less, but not back
    rig.read(10_000, cell_voltage_max_v=3550, cell_voltage_max_cell=9)
    assert rig.told == [(CELL_HIGH, level) for level in (1, 2, 3, 0)]
    first, *_, last = rig.rows
    assert first == {
        "owner": CODE,
        "bay": 1,
        "time_ms": 5000,
        "code": CELL_HIGH,
        "level": 1,
        "stream": MODULE.id,
        "signal": rig.source.index("cell_voltage_max_v"),
        "position": 7,
        "value": 3610,
        "threshold": 3600,
    }
    assert (last["position"], last["value"], last["threshold"]) == (7, 3550, 3550)  # of the cell that was raised


def test_every_reading_is_judged_whether_its_row_is_kept_or_not(rig: Rig) -> None:
    rig.read(20_000, cell_voltage_max_v=3600)
    rig.sampler.seal_all()
    kept = [row[0] for frame in rig.store.frames if frame.stream is MODULE for row in frame.rows]
    assert sorted(kept) == [PERIOD_MS * i for i in range(21)]  # for an alarm, those that were left out as well
    assert rig.told == [(CELL_HIGH, 1)]


def test_level_three_of_a_dangerous_figure_needs_no_duration(rig: Rig) -> None:
    rig.read(cell_voltage_max_v=3760)
    assert rig.told == [(CELL_HIGH, 3)]


def test_value_that_does_not_stay_beyond_its_limit_raises_nothing(rig: Rig) -> None:
    for _ in range(10):
        rig.read(4_000, cell_voltage_max_v=3610)
        rig.read(cell_voltage_max_v=3590)
    assert rig.told == []


def test_value_that_swings_around_its_limit_makes_one_alarm(rig: Rig) -> None:
    rig.read(10_000, cell_voltage_max_v=3610)
    for _ in range(20):
        rig.read(3_000, cell_voltage_max_v=3560)  # within the hysteresis
        rig.read(1_000, cell_voltage_max_v=3540)  # not for long enough
        rig.read(3_000, cell_voltage_max_v=3610)
    assert rig.told == [(CELL_HIGH, 1)]


def test_readings_far_apart_say_nothing_about_the_time_between(rig: Rig) -> None:
    for _ in range(10):
        rig.read(cell_voltage_max_v=3610)
        rig.now_ms += 20_000
    assert rig.told == []


@pytest.mark.parametrize("is_missing", [False, True], ids=["nothing is read", "the value is missing"])
def test_time_without_values_is_not_forgotten_when_the_counter_of_ticks_wraps(rig: Rig, is_missing: bool) -> None:
    rig.read(cell_voltage_max_v=3610)
    for _ in range(656):
        if is_missing:
            rig.read()
        else:
            rig.now_ms += PERIOD_MS
    rig.read(4_000, cell_voltage_max_v=3610)
    assert rig.told == []


def test_value_that_is_missing_or_abnormal_decides_nothing(rig: Rig) -> None:
    _, _, empty, abnormal = FORMATS["u16"]
    rig.read(10_000, cell_voltage_max_v=3610)
    rig.read(20_000, cell_voltage_max_v=empty)
    rig.read(20_000, cell_voltage_max_v=abnormal)
    rig.read(20_000, cell_voltage_max_v=0xFFF0)  # impossible, so it becomes abnormal
    assert rig.told == [(CELL_HIGH, 1)]
    rig.read(10_000, cell_voltage_max_v=3400)
    assert rig.told == [(CELL_HIGH, 1), (CELL_HIGH, 0)]


def test_limits_of_a_pack_are_those_of_its_cells(rig: Rig) -> None:
    rig.read(10_000, voltage_v=1330, cell_count=4)  # healthy: 3.3 V a cell
    rig.read(10_000, voltage_v=1330)  # nobody knows of how many cells
    assert rig.told == []
    rig.read(10_000, voltage_v=4400, cell_count=16)
    assert rig.told == [(PACK_LOW, 1)]
    assert rig.rows[0]["threshold"] == 4480


def test_current_is_judged_by_the_capacity(rig: Rig) -> None:
    rig.read(30_000, current_a=26000, capacity_full_ah=51800)
    assert rig.told == []
    rig.read(30_000, current_a=100000, capacity_full_ah=51800)  # what cells may bear for half a minute
    assert rig.told == []
    rig.read(20_000, current_a=56000, capacity_full_ah=51800)
    rig.read(40_000, current_a=-56000, capacity_full_ah=51800)
    assert rig.told == [(CHARGE, 1), (CHARGE, 0), (CHARGE + 1, 1)]


@pytest.mark.parametrize(("signal", "of"), [("current_a", "capacity_full_ah"), ("voltage_v", "cell_count")])
def test_limit_that_is_a_share_of_nothing_decides_nothing(rig: Rig, signal: str, of: str) -> None:
    """A BMS that does not know its capacity yet may say 0."""
    rig.read(60_000, CODE, **{signal: 0, of: 0})
    assert rig.told == []


def test_voltages_of_other_cells_are_not_judged_by_the_limits_of_lfp(rig: Rig) -> None:
    rig.source.is_lfp = False
    nmc = {"cell_voltage_max_v": 4180, "cell_voltage_min_v": 4170, "voltage_v": 6688, "cell_count": 16}
    rig.read(20_000, CODE, **nmc)
    rig.read(20_000, CODE, **(nmc | {"cell_voltage_min_v": 3600, "temperature_max_c": 610, "protections": 1}))
    assert rig.told == [(32, 2), (6, 2), (SPREAD, 2)]


def test_spread_is_a_difference(rig: Rig) -> None:
    rig.read(12_000, cell_voltage_max_v=3400, cell_voltage_min_v=3000, cell_voltage_min_cell=3)
    (row,) = rig.rows
    assert (row["code"], row["value"], row["threshold"], row["position"]) == (SPREAD, 400, 300, 3)


def test_protection_bits_are_alarms_of_their_own_and_each_has_its_own_time(rig: Rig) -> None:
    rig.read(protections=0)
    rig.read(protections=1 << 0 | 1 << 10)
    rig.read(3_000, protections=1 << 10)
    rig.read(protections=0)
    assert rig.told == [(32, 2), (42, 3), (32, 0), (42, 0)]
    times_ms = [row["time_ms"] for row in rig.rows]
    assert len(set(times_ms)) == len(times_ms)


@pytest.mark.parametrize(("stream", "base"), [(SLOT, 64), (VEHICLE, 96)], ids=["slot", "vehicle"])
def test_faults_of_charger_and_vehicle_are_alarms_of_the_node(stream: Stream, base: int) -> None:
    rig = Rig(stream)
    rig.read(owner="", faults=1 << 3)
    rig.read(owner="", faults=0)
    assert [code for code, _ in rig.told] == [base + 3, base + 3]
    assert {row["owner"] for row in rig.rows} == {""}


def test_look_tells_nothing_before_the_owner_is_known(rig: Rig) -> None:
    rig.read(protections=0)
    rig.set(protections=1)
    assert rig.source.judge(None)
    assert rig.told == []
    assert rig.source.judge(CODE)
    assert rig.told == [(32, 2)]
    assert not rig.source.judge(None)


def test_module_that_leaves_takes_its_alarms_with_it(rig: Rig) -> None:
    presence = rig.sampler.presence(1)
    presence.seen(CODE)
    rig.read(protections=1)
    presence.seen(OTHER)
    assert rig.told == [(32, 2), (32, 0)]
    assert [row["owner"] for row in rig.rows] == [CODE, CODE]
    assert rig.rows[1]["value"] == FORMATS["i32"][2]  # nobody measured that it is gone
    rig.read(owner=OTHER, protections=1)
    assert rig.rows[2]["owner"] == OTHER


def test_alarm_that_finds_no_room_is_told_by_the_next_reading(rig: Rig) -> None:
    rig.store.loss = LOSS_JOURNAL_FULL
    rig.read(protections=1)
    rig.store.loss = 0
    rig.read(3_000, protections=1)
    assert rig.told == [(32, 2)]
    assert rig.counters.take_rows_lost() == {LOSS_JOURNAL_FULL: 1}


def test_alarm_without_room_is_lost_once_however_often_it_is_tried(rig: Rig) -> None:
    rig.store.loss = LOSS_JOURNAL_FULL
    rig.read(20_000, protections=1)
    rig.read(5_000, protections=3)
    lost = rig.counters.take_rows_lost()
    assert lost == {LOSS_JOURNAL_FULL: 2}
    rig.store.loss = 0
    rig.read(protections=3)
    rig.store.loss = LOSS_JOURNAL_FULL
    rig.read(5_000, protections=0)
    assert rig.told == [(32, 2), (33, 2)]
    assert rig.counters.take_rows_lost() == {LOSS_JOURNAL_FULL: 2}


def test_alarm_is_durable_before_the_row_that_showed_it(rig: Rig) -> None:
    rig.read(protections=1)
    assert [frame.stream for frame in rig.store.frames] == [ALARM_STREAM]
    assert rig.store.commits == 1


def test_module_that_falls_silent_in_an_occupied_slot_is_lost_until_it_is_taken_out() -> None:
    rig = Rig(SLOT)
    presence = rig.sampler.presence(1)
    presence.seen(CODE)
    rig.read(owner="", occupied=1)
    presence.silent()
    rig.sampler.look_for_lost()
    assert (rig.told, rig.rows[0]["owner"]) == ([(LOST, 2)], CODE)
    rig.now_ms += 6000  # nobody says anything of the slot any more
    rig.sampler.look_for_lost()
    assert rig.told == [(LOST, 2)]
    rig.read(owner="", occupied=0)
    rig.sampler.look_for_lost()
    rig.sampler.look_for_lost()
    assert rig.told == [(LOST, 2), (LOST, 0)]


def test_module_that_answers_again_is_no_longer_lost() -> None:
    rig = Rig(SLOT)
    presence = rig.sampler.presence(1)
    presence.seen(CODE)
    rig.read(owner="", occupied=1)
    presence.silent()
    presence.seen(CODE)
    assert rig.told == [(LOST, 2), (LOST, 0)]


def test_module_that_was_taken_out_is_not_lost() -> None:
    rig = Rig(SLOT)
    presence = rig.sampler.presence(1)
    presence.seen(CODE)
    rig.read(owner="", occupied=0)
    presence.silent()
    assert rig.told == []


@pytest.mark.parametrize(("speed", "count"), [(0, 0), (1200, 1)])
def test_module_of_a_moving_van_cannot_have_left(rig: Rig, speed: int, count: int) -> None:
    vehicle = rig.sampler.source(VEHICLE)
    presence = rig.sampler.presence(1)
    presence.seen(CODE)
    vehicle.values[vehicle.index("speed_kmh")] = speed
    vehicle.commit()
    presence.silent()
    assert rig.told == [(LOST, 2)] * count


def rules() -> list[tuple[Stream, list[str]]]:
    return [(stream, row) for stream in STREAMS for row in alarm_table.rules_of(stream.name)]


def test_rules_are_worse_from_level_to_level_and_have_texts() -> None:
    texts = catalogue_text.VALUES["alarm", "code"]
    codes: set[tuple[str, int]] = set()
    for stream, row in rules():
        how, limits = row[5], [int(word, 0) for word in row[6:9]]
        code = int(row[0])
        if how == "bits":
            names = catalogue_text.BITS[stream.name, row[1]]
            assert sum(limits) == limits[0] | limits[1] | limits[2], "a bit has one level"
            told = [bit for bit in range(32) if sum(limits) >> bit & 1]
            assert set(names) <= set(told)
            codes |= {(stream.name, code + bit) for bit in told}
            assert all(code + bit in texts for bit in names)
            continue
        if how != "runaway":  # which has one level
            assert limits == sorted(limits, reverse=how == "below")
            assert len(set(limits)) == 3
        assert (stream.name, code) not in codes
        codes.add((stream.name, code))
        assert code in texts
    assert stream_by_name("module") is MODULE
    assert len(codes) > 50
