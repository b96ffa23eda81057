"""The timeline keeps what came last, and survives the process that recorded it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from swapline_bench.report import timeline as module
from swapline_bench.report.timeline import FROM_NODE, TO_NODE, Entry, Timeline, TimelineError, tell_new


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timeline(clock: Clock) -> Iterator[Timeline]:
    with closing(Timeline(clock=clock)) as made:
        yield made


def _fill(timeline: Timeline, clock: Clock) -> None:
    timeline.power("on")
    for step in range(5):
        clock.now_s += 1
        timeline.serial("bus1", True, b"\xdd\xa5\x03\x00")
        clock.now_s += 0.01
        timeline.serial("bus1", False, bytes(range(step, step + 40)))
        timeline.message("swapline/v1/f/n/up", b"\x00\xff" * step)
        timeline.log(f"I bus: round {step} \N{DEGREE SIGN}C")
    timeline.fault("stuck bus1")
    timeline.mark("last")


def test_what_one_side_says_without_a_pause_is_one_telegram(timeline: Timeline, clock: Clock) -> None:
    for data in (b"ab", b"cd"):
        timeline.serial("bus1", True, data)
        clock.now_s += 0.02
    timeline.serial("bus1", False, b"answer")
    clock.now_s += 0.5
    timeline.serial("bus1", False, b"late")
    kinds = [(entry.kind, entry.content) for entry in timeline.entries]
    assert kinds == [(FROM_NODE, b"abcd"), (TO_NODE, b"answer"), (TO_NODE, b"late")]
    assert timeline.entries[0].end_s == pytest.approx(0.02)


def test_endless_babble_is_cut_into_telegrams(timeline: Timeline) -> None:
    for _ in range(100):
        timeline.serial("gnss", False, bytes(100))
    assert max(len(entry.content) for entry in timeline.entries) <= module.TELEGRAM_BYTES_MAX
    assert sum(len(entry.content) for entry in timeline.entries) == 10_000


def test_full_track_forgets_its_oldest_entries_and_counts_them_and_others_keep_theirs(clock: Clock) -> None:
    timeline = Timeline(entries_max=10, clock=clock)
    timeline.power("on")
    for number in range(25):
        timeline.log(f"line {number}")
    texts = [entry.content for entry in timeline.entries if entry.track == "log node"]
    assert texts == [f"line {number}" for number in range(15, 25)]
    assert timeline.discarded == {"log node": 15}
    assert any(entry.track == "power" for entry in timeline.entries)


def test_bytes_of_a_track_are_bounded(clock: Clock) -> None:
    timeline = Timeline(bytes_max=10_000, clock=clock)
    for _ in range(50):
        timeline.message("t", bytes(1000))
    assert 0 < len(timeline.entries) < 10
    assert timeline.discarded["messages"] == 50 - len(timeline.entries)


def test_loaded_is_what_was_saved(timeline: Timeline, clock: Clock, tmp_path: Path) -> None:
    _fill(timeline, clock)
    timeline.discarded["log node"] = 7
    timeline.save(tmp_path / "one.jsonl")
    loaded = Timeline.load(tmp_path / "one.jsonl")
    assert _rounded(loaded) == _rounded(timeline)
    assert loaded.discarded == timeline.discarded
    assert loaded.begin_utc_s == pytest.approx(timeline.begin_utc_s, abs=0.001)


def test_followed_is_what_was_saved(timeline: Timeline, clock: Clock, tmp_path: Path) -> None:
    timeline.mark("before the file")
    timeline.follow(tmp_path / "one.jsonl")
    _fill(timeline, clock)
    clock.now_s += 1
    for portion in (b"in ", b"three ", b"portions"):
        timeline.serial("bus1", False, portion)
    assert _rounded(Timeline.load(tmp_path / "one.jsonl")) == _rounded(timeline)


def test_followed_files_are_bounded_and_hold_the_newest(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLLOW_BYTES_MAX", 2000)
    timeline.follow(tmp_path / "one.jsonl")
    for number in range(500):
        timeline.log(f"line {number}")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5000
    loaded = Timeline.load(tmp_path / "one.jsonl").entries
    assert loaded[-1].content == "line 499"
    assert [entry.content for entry in loaded] == [f"line {n}" for n in range(500 - len(loaded), 500)]
    timeline.save(tmp_path / "one.jsonl")
    assert len(Timeline.load(tmp_path / "one.jsonl").entries) == 500


def test_process_that_dies_leaves_its_timeline(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    script = (
        "import os, pathlib; from swapline_bench.report.timeline import Timeline; t = Timeline();"
        f"t.follow(pathlib.Path({str(path)!r})); t.log('the last words'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, env=os.environ).returncode == 9
    assert [entry.content for entry in Timeline.load(path).entries] == ["the last words"]


def test_line_cut_short_is_counted_and_the_rest_is_read(timeline: Timeline, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    timeline.follow(path)
    _fill(timeline, clock)
    path.write_bytes(path.read_bytes()[:-10])
    loaded = Timeline.load(path)
    assert loaded.damaged_lines == 1
    assert _rounded(loaded) == _rounded(timeline)[:-1]


def test_another_file_is_no_timeline(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(TimelineError, match=r"one\.jsonl is not a timeline"):
        Timeline.load(tmp_path / "one.jsonl")


def test_full_disk_ends_following_and_not_the_test(timeline: Timeline) -> None:
    timeline.follow(Path("/dev/full"))
    timeline.log("a line")
    assert [entry.content for entry in timeline.entries] == ["a line"]
    assert timeline.follow_error is not None


def test_listener_hears_of_every_timeline_until_it_ends_that() -> None:
    heard: list[Timeline] = []
    end = tell_new(heard.append)
    first = Timeline()
    end()
    Timeline()
    assert heard == [first]


def _rounded(timeline: Timeline) -> list[Entry]:
    return [
        entry._replace(time_s=round(entry.time_s, 5), end_s=None if entry.end_s is None else round(entry.end_s, 5))
        for entry in timeline.entries
    ]
