from typing import Any

import pytest

from swapline_node.clock import Clock
from swapline_node.counter import Counters
from swapline_node.sampler import Sampler
from swapline_wire.catalogue import (
    BATTERY_IN,
    BATTERY_OUT,
    CELLS,
    EVENT_STREAM,
    FORMATS,
    LOSS_JOURNAL_FULL,
    LOSS_NO_MEMORY,
    MODULE,
    NODE,
    POSITION,
    STREAMS,
    TIME_GNSS,
    TIME_NTP,
    TOTAL,
    VEHICLE,
)
from swapline_wire.decode import Decoded, decode

UTC = 1_800_000_000_000


class Store:
    """Stands where the journal is: keeps decoded frames."""

    def __init__(self) -> None:
        self.id = 7
        self.boot = 3
        self.next_seq = 1
        self.occupants: dict[int, tuple[str, Any]] = {}
        self.frames: list[Decoded] = []
        self.loss = 0

    def append(self, frame: memoryview, seq: int, _priority: int) -> int:
        if self.loss:
            return self.loss
        self.frames.append(decode(bytes(frame)))
        self.next_seq = seq + 1
        return 0

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def commit(self) -> bool:
        return True


class Rig:
    def __init__(self) -> None:
        self.now_ms = 0
        self.store = Store()
        self.counters = Counters()
        # The clock of a node that plays recordings takes its first time from any source at once.
        self.clock = Clock(lambda: self.now_ms, lambda later, earlier: later - earlier, utc_ms_min=0)
        self.sampler = Sampler(self.store, self.clock, self.counters)
        self.now_ms = 1000

    def rows(self, stream: str) -> list[dict[str, Any]]:
        self.sampler.seal_all()
        return [
            {
                "time_ms": row[0],
                "owner": frame.header.owner,
                **dict(zip([s.name for s in frame.signals], row[1:], strict=True)),
            }
            for frame in self.store.frames
            if frame.stream.name == stream
            for row in frame.rows
        ]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_rows_are_open_until_they_are_sealed(rig: Rig) -> None:
    for stream, bay in ((VEHICLE, 0), (MODULE, 1), (MODULE, 2)):
        rig.sampler.source(stream, bay).commit()
    assert rig.sampler.row_count() == 3
    rig.sampler.seal_all()
    assert rig.sampler.row_count() == 0


def test_row_is_kept_only_when_a_signal_moved_by_its_deadband(rig: Rig) -> None:
    source = rig.sampler.source(VEHICLE)
    speed = source.index("speed_kmh")
    deadband = VEHICLE.signals[speed].deadband
    for value in (1000, 1000 + deadband - 1, 1000 + deadband, 1000 + deadband + 1):
        rig.now_ms += 1000
        source.values[speed] = value
        source.commit()
    assert [row["speed_kmh"] for row in rig.rows("vehicle")] == [1000, 1000 + deadband]
    assert (rig.counters.rows_kept, rig.counters.rows_unchanged) == (2, 2)


def test_row_is_kept_when_the_longest_silence_is_over(rig: Rig) -> None:
    source = rig.sampler.source(VEHICLE)
    for _ in range(130):
        source.values[0] = 5
        source.commit()
        rig.now_ms += 1000
    assert [row["time_ms"] for row in rig.rows("vehicle")] == [1000, 61000, 121000]


def test_every_row_is_kept_where_the_configuration_says_all(rig: Rig) -> None:
    rig.sampler.overrides = {"vehicle": {"report": "all"}}
    source = rig.sampler.source(VEHICLE)
    for _ in range(20):
        rig.now_ms += 1000
        source.commit()
    assert len(rig.rows("vehicle")) == 20


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_value_outside_its_limits_becomes_abnormal_and_is_counted(rig: Rig, stream: Any) -> None:
    for i, signal in enumerate(stream.signals):
        source = rig.sampler.source(stream)
        codes = FORMATS[signal.format]
        for wrong in (signal.minimum - 1, signal.maximum + 1):
            before = rig.counters.values_abnormal
            source.clear()
            source.values[i] = wrong
            source.commit()
            is_empty = wrong == codes[2]
            assert source.values[i] == codes[2 if is_empty else 3]
            assert rig.counters.values_abnormal == before + (not is_empty)


def test_value_that_becomes_unavailable_is_a_change(rig: Rig) -> None:
    source = rig.sampler.source(VEHICLE)
    source.values[0] = 0xFFFD
    source.commit()
    source.clear()
    source.values[0] = 100
    source.commit()
    source.clear()
    assert source.commit()
    assert source.values == [FORMATS[s.format][2] for s in VEHICLE.signals]


def test_owner_change_closes_the_frame_so_that_no_row_is_credited_to_the_other_module(rig: Rig) -> None:
    source = rig.sampler.source(MODULE, bay=2)
    for owner in ("A" * 24, "A" * 24, "B1", "A" * 24):
        rig.now_ms += 1000
        source.commit(owner=owner)
    rig.sampler.seal_all()
    assert [(f.header.owner, f.header.bay, len(f.rows)) for f in rig.store.frames] == [
        ("A" * 24, 2, 1),
        ("B1", 2, 1),
        ("A" * 24, 2, 1),
    ]


def test_stated_time_is_the_rows_time_exactly_and_a_repeated_epoch_is_dropped(rig: Rig) -> None:
    rig.clock.offer(TIME_GNSS, UTC, 1000)
    source = rig.sampler.source(POSITION)
    for epoch in (0, 0, 1000, 2000, 2000):
        rig.now_ms += 17
        source.values[0] = 450000000 + epoch
        source.commit(utc_ms=UTC + epoch)
    assert [row["time_ms"] + rig.clock.anchor_utc_ms for row in rig.rows("position")] == [UTC, UTC + 1000, UTC + 2000]
    assert rig.counters.rows_unchanged == 2


def test_a_reading_that_was_held_back_keeps_the_time_at_which_it_was_made(rig: Rig) -> None:
    source = rig.sampler.source(POSITION)
    for read_ms in (1500, 2500):
        rig.now_ms = read_ms + 700
        source.values[0] = read_ms
        source.commit(read_ms=read_ms)
    assert [row["time_ms"] for row in rig.rows("position")] == [1500, 2500]


def test_polled_rows_of_one_key_never_share_a_millisecond(rig: Rig) -> None:
    rig.sampler.overrides = {"node": {"report": "all"}}
    source = rig.sampler.source(NODE)
    for _ in range(5):
        source.commit()
    assert [row["time_ms"] for row in rig.rows("node")] == [1000, 1001, 1002, 1003, 1004]


def test_rows_behind_a_backward_step_of_the_clock_never_meet_older_ones(rig: Rig) -> None:
    rig.clock.before_step = rig.sampler.seal_all
    rig.clock.after_anchor = lambda: rig.sampler.shift(rig.clock.step_ms)
    rig.sampler.overrides = {"node": {"report": "all"}}
    source = rig.sampler.source(NODE)
    rig.clock.offer(TIME_NTP, UTC, 1000)
    for second in range(1, 9):
        rig.now_ms = second * 1000
        if second >= 4:
            rig.clock.offer(TIME_GNSS, UTC + rig.now_ms - 1000 - 3000, rig.now_ms)
        source.commit()
        rig.sampler.event(BATTERY_IN, owner="X", bay=1)
    rig.sampler.seal_all()
    for stream in ("node", "event"):
        frames = [frame for frame in rig.store.frames if frame.stream.name == stream]
        times = [frame.header.anchor_utc_ms + row[0] for frame in frames for row in frame.rows]
        assert len(set(times)) == 8
        assert times == sorted(times)


def test_memory_error_while_sealing_is_counted_as_lost_rows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = rig.sampler.source(VEHICLE)
    source.commit()

    def fail(*_: object) -> int:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "append", fail)
        rig.sampler.seal_all()
    assert rig.counters.take_rows_lost() == {LOSS_NO_MEMORY: 1}
    rig.sampler.seal_all()
    assert rig.store.frames == []


def test_segments_of_cells_are_reported_apart_from_each_other(rig: Rig) -> None:
    source = rig.sampler.source(CELLS, bay=1)
    for _ in range(3):
        rig.now_ms += 10000
        for segment in (0, 1):
            source.clear()
            source.values[0] = segment
            source.values[1] = 3300 + segment
            source.commit(owner="M")
    assert [(row["segment"], row["cell_01_v"]) for row in rig.rows("cells")] == [(0, 3300), (1, 3301)]


def test_presence_tells_each_arrival_and_departure_once(rig: Rig) -> None:
    presence = rig.sampler.presence(3)
    for code in ("ONE", "ONE", "TWO"):
        rig.now_ms += 30000
        presence.seen(code, 815, 990)
    presence.absent()
    presence.absent()
    events = [(row["code"], row["owner"], row["soc_pct"], row["duration_s"]) for row in rig.rows("event")]
    empty = FORMATS["u32"][2]
    assert events == [
        (BATTERY_IN, "ONE", 815, empty),
        (BATTERY_OUT, "ONE", 815, 60),
        (BATTERY_IN, "TWO", 815, empty),
        (BATTERY_OUT, "TWO", 815, 0),
    ]


def test_events_at_one_instant_have_times_of_their_own(rig: Rig) -> None:
    for _ in range(4):
        rig.sampler.event(BATTERY_IN, owner="X", bay=1)
    assert len({row["time_ms"] for row in rig.rows("event")}) == 4
    assert {frame.header.priority for frame in rig.store.frames} == {EVENT_STREAM.priority}


def test_rows_without_a_place_in_the_journal_are_counted_as_lost_with_the_reason(rig: Rig) -> None:
    source = rig.sampler.source(VEHICLE)
    source.commit()
    rig.store.loss = LOSS_JOURNAL_FULL
    rig.sampler.seal_all()
    assert rig.counters.take_rows_lost() == {LOSS_JOURNAL_FULL: 1}
    assert rig.counters.take_rows_lost() == {}
    assert rig.counters.frames_sealed == 0


def test_frames_carry_the_anchor_under_which_their_rows_were_taken(rig: Rig) -> None:
    rig.clock.before_step = rig.sampler.seal_all
    rig.sampler.overrides = {"vehicle": {"report": "all"}}
    source = rig.sampler.source(VEHICLE)
    rig.clock.offer(TIME_NTP, UTC, 1000)
    source.commit()
    for offered_ms in (2000, 3000):
        rig.now_ms = offered_ms
        rig.clock.offer(TIME_GNSS, UTC + offered_ms - 1000 + 5000, offered_ms)
        source.commit()
    rig.sampler.seal_all()
    anchors = [(f.header.time_quality, f.header.anchor_utc_ms, len(f.rows)) for f in rig.store.frames]
    assert anchors == [(TIME_NTP, UTC - 1000, 2), (TIME_GNSS, UTC + 4000, 1)]


def test_full_frame_is_sealed_at_once(rig: Rig) -> None:
    rig.sampler.overrides = {"vehicle": {"report": "all"}}
    sealed: list[int] = []
    rig.sampler.on_sealed = lambda: sealed.append(rig.now_ms)
    source = rig.sampler.source(VEHICLE)
    while not sealed:
        rig.now_ms += 1000
        source.commit()
    assert 5 <= len(rig.store.frames[0].rows) <= 8


def test_counters_are_named_as_in_the_catalogue() -> None:
    totals = {s.name for s in NODE.signals if s.kind == TOTAL} - {"uptime_s"}
    assert {name for name, value in vars(Counters()).items() if isinstance(value, int)} == totals | {"memory_errors"}
