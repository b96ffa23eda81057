"""Simulators think as long as the recorded devices and leave the gaps that those left: the figures, and the deeds."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import serial

from swapline_bench.faces.jbd import JbdFace
from swapline_bench.faces.jbd_up16s import BAUDRATE, Up16sFace
from swapline_bench.faces.jk import JkFace
from swapline_bench.faces.turnaround import TURNAROUNDS, Turnaround
from swapline_bench.randomness import make_random
from swapline_bench.sim.table import SIMULATORS
from tests.bench.sim_process import REPOSITORY, SimProcess

REQUEST_S = 10 * 10 / BAUDRATE  # a UP16S request: ten characters of ten bits
CHARACTER_S = 10 / BAUDRATE
# The recorder (ESPHome's UART debugger) notes what it has collected when the direction changes, when the line was
# quiet for its timeout, or when it has 150 bytes. Its loop looks every 16 ms.
COLLECTED_BYTES_MAX = 150
LOOP_S = 0.016
PAUSE_S_MAX = 3.0  # between two requests of one round: they follow each other every 2 s


def transactions(recordings: Path) -> list[dict[str, Any]]:
    path = recordings / "bms/vectors/transcript_jbd_up16s_two_packs.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["transactions"]
    return found


def fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and intercept of the straight line through `points`."""
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return slope, mean_y - slope * mean_x


def short_answers(recordings: Path) -> list[tuple[float, float]]:
    """Return length and recorded latency of the answers that ended with the recorder's timeout."""
    answered = [entry for entry in transactions(recordings) if entry["response"]]
    lengths = [(len(entry["response"]) // 2, entry["latency_s"]) for entry in answered]
    return [(length, latency_s) for length, latency_s in lengths if length < COLLECTED_BYTES_MAX]


def test_recorded_answers_have_no_gaps_between_their_characters(recordings: Path) -> None:
    character_s, _ = fit(short_answers(recordings))
    assert character_s == pytest.approx(CHARACTER_S, rel=0.05)


def delays_of_first_characters(recordings: Path) -> Iterator[float]:
    """Yield how long after a request was sent its answer's first character came.

    An answered request is noted when that comes, an unanswered one after the recorder's timeout. So where an answered
    one is followed by an unanswered one, the time between the notes exceeds the rhythm by the difference.
    """
    _, timeout_s = fit(short_answers(recordings))
    pairs = [(a, b, b["t_s"] - a["t_s"]) for a, b in pairwise(transactions(recordings))]
    rhythm_s = fmean(t for a, b, t in pairs if not a["response"] and not b["response"] and t < PAUSE_S_MAX)
    for a, b, apart_s in pairs:
        if a["response"] and not b["response"] and apart_s < PAUSE_S_MAX:
            yield timeout_s - (apart_s - rhythm_s)


def test_up16s_turnaround_is_the_recorded_one(recordings: Path) -> None:
    found = [delay_s - REQUEST_S - CHARACTER_S for delay_s in delays_of_first_characters(recordings)]
    assert len(found) == 8
    stated = TURNAROUNDS["jbd_up16s"]
    assert stated.is_measured
    # The recorder's loop saw the first character up to 16 ms late, 8 ms on average.
    assert stated.min_s <= min(found)
    assert max(found) - LOOP_S <= stated.max_s
    assert fmean(found) - LOOP_S <= stated.typical_s <= fmean(found)


def test_faces_think_for_as_long_as_is_typical() -> None:
    assert Up16sFace({}).turnaround_s == TURNAROUNDS["jbd_up16s"].typical_s
    assert JbdFace(lambda: None).turnaround_s == TURNAROUNDS["jbd"].typical_s
    assert JkFace(lambda: None).turnaround_s == TURNAROUNDS["jk"].typical_s


@pytest.mark.parametrize("kind", TURNAROUNDS)
def test_drawn_turnarounds_stay_inside_and_use_their_range(kind: str) -> None:
    turnaround = TURNAROUNDS[kind]
    assert 0 < turnaround.min_s < turnaround.typical_s < turnaround.max_s <= 0.1  # our register maps' limit
    random = make_random(1, kind)
    drawn = [turnaround.draw(random) for _ in range(2000)]
    assert turnaround.min_s <= min(drawn) < turnaround.min_s + 0.1 * (turnaround.max_s - turnaround.min_s)
    assert turnaround.max_s >= max(drawn) > turnaround.max_s - 0.1 * (turnaround.max_s - turnaround.min_s)


def test_every_simulator_that_is_asked_has_a_turnaround() -> None:
    asked = {kind for kind, simulator in SIMULATORS.items() if simulator.turnaround is not None}
    assert asked == set(SIMULATORS) - {"gnss"}
    assert Turnaround(0.02, 0.02, 0.02).draw(make_random(1)) == 0.02


def rows_of_table(page: str, beside: str) -> list[list[str]]:
    """Return the cells of the table whose head contains `beside`."""
    table = page.split(beside, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_page_states_these_turnarounds_and_lines() -> None:
    page = (REPOSITORY / "docs" / "simulators.md").read_text(encoding="utf-8")
    stated = {row[0]: row[1:4] for row in rows_of_table(page, "| device | shortest |")}
    names = {"JBD UP16S": "jbd_up16s", "JBD classic": "jbd", "JK": "jk", "Seplos V3": "seplos_v3", "SDM630": "sdm630"}
    for device, kind in (names | {"slot charger, VCU": "vcu"}).items():
        assert stated[device] == [f"{seconds * 1000:g} ms" for seconds in TURNAROUNDS[kind][:3]]
    assert TURNAROUNDS["vcu"] == TURNAROUNDS["slot_charger"]
    lines = {row[0].strip("`"): row[2] for row in rows_of_table(page, "| command | device |")}
    del lines["replay FILE"]
    assert lines == {
        kind: f"{simulator.baudrate} 8{simulator.parity[0].upper()}1" for kind, simulator in SIMULATORS.items()
    }


def times_s(port: str, request: bytes, answer_bytes: int, count: int) -> list[float]:
    """Return how long each of `count` answers took, from the request's first character to the answer's last."""
    took = []
    with serial.Serial(port, 9600, timeout=5.0) as line:
        for _ in range(count):
            started_s = time.monotonic()
            line.write(request)
            assert len(line.read(answer_bytes)) == answer_bytes
            took.append(time.monotonic() - started_s)
    return took


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test's simulators a runtime folder of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


async def test_answers_take_turnaround_and_line_time_and_no_less() -> None:
    request, length = bytes.fromhex("dda50300fffd77"), 38
    line_s = (len(request) + length) * CHARACTER_S
    async with SimProcess("jbd") as usual, SimProcess("jbd", "--turnaround-ms", "150", "--gap-ms", "2") as slow:
        took = await asyncio.to_thread(times_s, usual.port, request, length, 12)
        assert min(took) >= line_s + TURNAROUNDS["jbd"].min_s
        # A test machine may be late, but not every time: the shortest shows what the simulator means.
        assert min(took) <= line_s + TURNAROUNDS["jbd"].max_s + 0.1
        assert len({round(t, 3) for t in took}) > 1
        took = await asyncio.to_thread(times_s, slow.port, request, length, 3)
        assert min(took) >= line_s + 0.150 + length * 0.002
