"""Around an alarm every reading is kept, and those of the half minute before it are told after all."""

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_node.ring import Ring
from swapline_wire.catalogue import LOSS_NO_MEMORY, MODULE, SLOT, VEHICLE, columns
from swapline_wire.frame import FrameBuilder
from tests.node.node_rig import MICROPYTHON
from tests.node.test_alarm import CODE, OTHER, Rig

HOT = 660  # raises level 3 at once
SIGNALS = len(columns(MODULE.signals).codes)
READING = st.tuples(
    st.integers(1, 2500),
    st.booleans(),
    st.lists(st.sampled_from([0, 0, 0, 1, -1, 63, -64, 64, 0xFFFFFFFF, -0x80000000]), min_size=9, max_size=9),
)


@given(st.lists(READING, max_size=60), st.integers(30, 400), st.integers(0, 40_000))
def test_ring_tells_the_newest_readings_that_were_left_out_exactly(
    readings: list[tuple[int, bool, list[int]]], buffer_bytes: int, age_ms: int
) -> None:
    ring = Ring(9, buffer_bytes)
    kept = [0] * 9
    now_ms = 0
    left_out: list[tuple[int, list[int]]] = []
    for step_ms, is_kept, differences in readings:
        now_ms += step_ms
        values = [one + difference for one, difference in zip(kept, differences, strict=True)]
        ring.take(kept, values, now_ms, is_kept=is_kept)
        if is_kept:
            kept = values
        else:
            left_out.append((now_ms, values))
    told: list[tuple[int, list[int]]] = []
    ring.tell(kept, now_ms - age_ms, lambda time_ms, values: told.append((time_ms, list(values))))
    young = [one for one in left_out if one[0] >= now_ms - age_ms]
    assert told == young[len(young) - len(told) :]
    assert len(told) == ring.count(now_ms - age_ms)
    assert len(told) == len(young) or buffer_bytes < 60 * len(readings)


def test_ring_of_a_module_holds_half_a_minute_of_busy_readings() -> None:
    ring = Ring(SIGNALS)
    kept = [1000] * SIGNALS
    for second in range(100):
        values = list(kept)
        for i in range(9):  # voltage, current, charge, three cells, which cells, warmth
            values[i * 3] += second % 4 - 2
        ring.take(kept, values, second * 1000, is_kept=False)
    told: list[int] = []
    ring.tell(kept, 69_000, lambda time_ms, _: told.append(time_ms))
    assert told == list(range(69_000, 100_000, 1000))


def test_deadbands_keep_a_difference_in_two_bytes() -> None:
    for stream in (MODULE, SLOT, VEHICLE):
        assert max(columns(stream.signals).deadbands) < 1 << 13


# ---- as rows


@pytest.fixture
def rig() -> Rig:
    return Rig()


def steady(second: int) -> dict[str, int]:
    """Return a reading that moves by less than its deadbands."""
    return {"voltage_v": 5300 + second % 7, "current_a": -1000 + second % 50, "temperature_max_c": 300 + second % 3}


def live(rig: Rig, seconds: int, owner: str = CODE, **more: int) -> None:
    for _ in range(seconds):
        rig.read(owner=owner, **{**steady(rig.now_ms // 1000), **more})


def rows(rig: Rig, owner: str | None = None) -> list[tuple[int, int]]:
    """Return time and voltage of every module row, by its time."""
    rig.sampler.seal_all()
    voltage = 1 + rig.source.index("voltage_v")
    return sorted(
        (row[0], row[voltage])
        for frame in rig.store.frames
        if frame.stream is MODULE and owner in (None, frame.header.owner)
        for row in frame.rows
    )


def true_rows(first_s: int, last_s: int) -> list[tuple[int, int]]:
    return [(second * 1000, steady(second)["voltage_v"]) for second in range(first_s, last_s + 1)]


def test_alarm_has_every_reading_of_the_half_minutes_before_and_after_it(rig: Rig) -> None:
    live(rig, 100)
    before = rows(rig)
    assert len(before) < 5
    rig.read(owner=CODE, **{**steady(100), "temperature_max_c": HOT})
    live(rig, 99, temperature_max_c=HOT)
    told = rows(rig)
    assert [row for row in told if 70_000 <= row[0] <= 129_000] == true_rows(70, 129)
    assert len([row for row in told if row[0] > 130_000]) < 5
    assert len(told) == len(set(told)), "a row came twice"


def test_rows_before_an_alarm_are_sealed_with_it_and_behind_it(rig: Rig) -> None:
    live(rig, 40)
    rig.read(owner=CODE, **{**steady(40), "temperature_max_c": HOT})
    streams = [frame.stream.name for frame in rig.store.frames]
    assert "alarm" in streams
    behind = rig.store.frames[streams.index("alarm") :]
    told = {row[0] for frame in behind if frame.stream is MODULE for row in frame.rows}
    assert set(range(10_000, 40_000, 1000)) <= told


def test_module_rows_before_and_after_have_the_modules_own_values_in_every_signal(rig: Rig) -> None:
    live(rig, 100)
    rig.read(owner=CODE, **{**steady(100), "temperature_max_c": HOT})
    rig.sampler.seal_all()
    places = {name: 1 + rig.source.index(name) for name in steady(0)}
    for frame in rig.store.frames:
        for row in frame.rows if frame.stream is MODULE else []:
            if row[0] < 100_000:
                assert {name: row[place] for name, place in places.items()} == steady(row[0] // 1000)
                assert frame.header.owner == CODE
                assert frame.header.bay == 1


def test_alarm_that_a_look_raises_has_them_too(rig: Rig) -> None:
    live(rig, 40)
    rig.set(temperature_max_c=HOT)
    rig.source.judge(CODE)
    assert [row for row in rows(rig) if row[0] >= 10_000] == true_rows(10, 39)


def test_alarms_that_follow_each_other_tell_no_reading_twice(rig: Rig) -> None:
    live(rig, 100)
    for _ in range(3):
        live(rig, 5, temperature_max_c=HOT)
        live(rig, 5, temperature_max_c=HOT, protections=1 << rig.now_ms // 10_000 % 4)
    told = rows(rig)
    assert len(told) == len(set(told))
    assert [row for row in told if row[0] >= 70_000] == true_rows(70, 129)


def test_escalation_makes_the_time_at_full_rate_longer_up_to_a_minute(rig: Rig) -> None:
    live(rig, 100)
    for second in range(80):
        live(rig, 1, protections=1 << second % 2)  # a flapping bit: an alarm every second
    live(rig, 100)
    told = [row for row in rows(rig) if row[0] >= 100_000]
    kept_s = [time_ms // 1000 for time_ms, _ in told]
    assert kept_s[:60] == list(range(100, 160))


def test_storm_of_alarms_does_not_fill_the_journal(rig: Rig) -> None:
    for _ in range(360):  # an alarm each ten seconds, for an hour
        live(rig, 1, temperature_max_c=HOT)
        live(rig, 9)
    assert len(rig.told) == 720
    changes = 2 * 360 + 3600 // 60
    assert changes < len(rows(rig)) <= changes + (3 + 3600 // 900) * 90


def test_windows_are_limited_and_come_again() -> None:
    ring = Ring(SIGNALS)
    opened = [second for second in range(0, 7200, 120) if ring.open(second * 1000)]
    assert len([second for second in opened if second < 900]) == 3
    assert len(opened) == 3 + 7200 // 900 - 1
    assert not ring.is_open(7200_000)


def test_row_of_another_module_is_never_attached(rig: Rig) -> None:
    live(rig, 40)
    live(rig, 3, owner=OTHER)
    rig.read(owner=OTHER, **{**steady(43), "temperature_max_c": HOT})
    assert [time_ms for time_ms, _ in rows(rig, OTHER)] == [40_000, 41_000, 42_000, 43_000]
    assert len(rows(rig, CODE)) == 1


def test_first_reading_of_a_module_that_alarms_attaches_nothing_of_the_one_before(rig: Rig) -> None:
    live(rig, 40)
    rig.read(owner=OTHER, **{**steady(40), "temperature_max_c": HOT})
    live(rig, 5, owner=OTHER, temperature_max_c=HOT)
    assert len(rows(rig, CODE)) == 1
    assert [time_ms for time_ms, _ in rows(rig, OTHER)] == [second * 1000 for second in range(40, 46)]


def test_module_without_a_code_and_the_one_that_tells_it_later_share_no_row(rig: Rig) -> None:
    live(rig, 40, owner="")
    rig.read(owner=CODE, **{**steady(40), "temperature_max_c": HOT})
    assert [time_ms for time_ms, _ in rows(rig, CODE)] == [40_000]


def test_reading_from_before_a_step_of_the_clock_is_not_attached(rig: Rig) -> None:
    live(rig, 40)
    rig.sampler.seal_all()
    rig.sampler.shift(60_000)
    live(rig, 10)
    rig.read(owner=CODE, **{**steady(50), "temperature_max_c": HOT})
    times = [time_ms for time_ms, _ in rows(rig)]
    assert times[-11:] == [second * 1000 for second in range(40, 51)]
    assert all(not 10_000 < time_ms < 40_000 for time_ms in times)


def test_clock_that_is_set_for_the_first_time_takes_nothing_away(rig: Rig) -> None:
    live(rig, 20)
    rig.sampler.shift(0)
    live(rig, 10)
    rig.read(owner=CODE, **{**steady(30), "temperature_max_c": HOT})
    assert rows(rig) == true_rows(0, 30)


@pytest.mark.parametrize("step_ms", [-900, -40, 40, 900])
def test_readings_from_before_a_small_step_of_the_clock_keep_their_utc(rig: Rig, step_ms: int) -> None:
    live(rig, 20)
    rig.sampler.seal_all()
    rig.sampler.shift(step_ms)  # the anchor is later by that, so the same UTC is earlier since boot
    live(rig, 9)
    rig.read(owner=CODE, **{**steady(29), "temperature_max_c": HOT})
    told = rows(rig)
    before = [(time_ms - step_ms, voltage) for time_ms, voltage in true_rows(1, 19)]
    assert told == sorted([(0, steady(0)["voltage_v"]), *before, *true_rows(20, 29)])


@pytest.mark.parametrize("step_ms", [-200, -3000, -9000, 200, 3000])
def test_no_two_rows_have_one_utc_around_a_step_of_the_clock(rig: Rig, step_ms: int) -> None:
    live(rig, 40)
    early = {time_ms - step_ms for time_ms, _ in rows(rig)}
    rig.store.frames.clear()
    rig.sampler.shift(step_ms)
    live(rig, 20)
    rig.read(owner=CODE, **{**steady(60), "temperature_max_c": HOT})
    live(rig, 20)
    late = [time_ms for time_ms, _ in rows(rig)]
    assert len(late) == len(set(late))
    assert not early & set(late)


def test_times_of_readings_left_out_stay_apart_where_rows_follow_a_clock_that_went_back(rig: Rig) -> None:
    live(rig, 40)
    rig.sampler.shift(-9000)  # the last row lies 9 s ahead now
    live(rig, 8)
    rig.read(owner=CODE, **{**steady(48), "temperature_max_c": HOT})
    times = [time_ms for time_ms, _ in rows(rig)]
    assert len(times) == len(set(times))
    assert all(later > earlier for earlier, later in pairwise(times))


def test_reading_that_is_too_old_is_not_attached(rig: Rig) -> None:
    live(rig, 20)
    rig.now_ms += 25_000
    live(rig, 3)
    rig.read(owner=CODE, **{**steady(48), "temperature_max_c": HOT})
    assert [time_ms for time_ms, _ in rows(rig) if 0 < time_ms < 45_000] == [18_000, 19_000]


def test_lack_of_memory_is_counted_row_by_row(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    live(rig, 40)
    add = FrameBuilder.add
    room = [10]

    def add_while_there_is_room(builder: FrameBuilder, time_ms: int, values: list[int]) -> None:
        if builder.stream is MODULE and time_ms < 40_000:
            if not room[0]:
                raise MemoryError
            room[0] -= 1
        add(builder, time_ms, values)

    monkeypatch.setattr(FrameBuilder, "add", add_while_there_is_room)
    rig.read(owner=CODE, **{**steady(40), "temperature_max_c": HOT})
    live(rig, 5, temperature_max_c=HOT)
    assert rig.counters.take_rows_lost() == {LOSS_NO_MEMORY: 20}
    assert rig.counters.memory_errors == 1
    assert [row for row in rows(rig) if 10_000 <= row[0] < 46_000] == [
        row for row in true_rows(10, 45) if not 20_000 <= row[0] < 40_000
    ]


def test_row_that_found_no_memory_leaves_no_wrong_base_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    live(rig, 20)
    with monkeypatch.context() as patch:
        patch.setattr(rig.source, "_moved", lambda _: True)
        patch.setattr(rig.source, "_add", lambda *_: (_ for _ in ()).throw(MemoryError))
        live(rig, 1)
    live(rig, 10)
    rig.read(owner=CODE, **{**steady(31), "temperature_max_c": HOT})
    assert [row for row in rows(rig) if row[0] > 21_000] == true_rows(22, 31)


def test_source_that_keeps_every_row_has_no_ring_and_tells_nothing_twice(rig: Rig) -> None:
    rig.sampler.overrides = {"module": {"report": "all"}}
    rig.source = rig.sampler.source(MODULE, 1)
    live(rig, 40)
    live(rig, 5, temperature_max_c=HOT)
    assert rows(rig) == true_rows(0, 44)


@pytest.mark.parametrize(("stream", "signal"), [(VEHICLE, "faults"), (SLOT, "faults")])
def test_alarms_of_vehicle_and_charger_have_theirs(stream: Any, signal: str) -> None:
    rig = Rig(stream)
    rig.read(60_000, owner="")
    rig.read(10_000, owner="", **{signal: 1 << 11})
    rig.sampler.seal_all()
    times = sorted(row[0] for frame in rig.store.frames if frame.stream is stream for row in frame.rows)
    assert [time_ms for time_ms in times if time_ms > 60_000] == list(range(61_000, 72_000, 1000))
    assert len([time_ms for time_ms in times if 31_000 <= time_ms <= 60_000]) == 30


def test_ring_takes_no_heap_for_a_reading(compiled: Path) -> None:
    script = (
        "import gc\n"
        "from swapline_node.ring import Ring\n"
        f"ring = Ring({SIGNALS})\nkept = [1000] * {SIGNALS}\nvalues = [1003] * {SIGNALS}\n"
        "def read():\n"
        "    for second in range(500):\n"
        "        values[second % 20] = 1000 + second % 90\n"
        "        ring.take(kept, values, second * 1000, is_kept=second % 9 == 0)\n"
        "read()\ngc.collect()\ngc.disable()\nbefore = gc.mem_alloc()\nread()\nprint(gc.mem_alloc() - before)\n"
    )
    done = subprocess.run(
        [MICROPYTHON, "-X", "heapsize=512K", "-c", script],
        env={"MICROPYPATH": f"{compiled}:.frozen"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert int(done.stdout) < 2000  # of a thousand calls: their keyword argument, no record
