"""No alarm over what recorded battery packs say, each reading held for a minute, but those that their boards tell.

Cells are LFP but where the board (JK) or its voltages (the JBD boards of four cells) say that they are others.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.pack_recording import PackRecordings
from swapline_bench.replay import Exchange
from tests.node.test_alarm import CODE, Rig

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
RUNAWAY = 15
BITS = 32
HELD_MS = 60_000
PERIODS_MS = (150, 1000, 3000)  # looks, polls, and so slow that most degrees in a rise count


def job(driver: str, exchanges: Iterable[Exchange], **config: Any) -> dict[str, Any]:
    answers: dict[str, list[str | None]] = {}
    for exchange in exchanges:
        answers.setdefault(exchange.request.hex(), []).append(exchange.response.hex() if exchange.response else None)
    polls = 2 + max(len(of_one) for of_one in answers.values())
    return {"driver": driver, "answers": answers, "polls": polls, "config": config}


def told_of(row: dict[str, Any], *, is_lfp: bool) -> set[int]:
    """Return the codes of the alarms that a reading raises when it stays as it is."""
    rig = Rig()
    rig.source.is_lfp = is_lfp
    names = {signal.name for signal in rig.source.stream.signals}
    values = {name: value for name, value in row.items() if name in names and isinstance(value, int)}
    rig.read(HELD_MS, CODE, **values)
    return {code for code, _ in rig.told}


def codes_of(bits: int) -> set[int]:
    return {BITS + bit for bit in range(32) if bits >> bit & 1}


def jobs(vectors: PackRecordings) -> dict[str, dict[str, Any]]:
    lines = {
        "jbd": job("jbd", vectors.jbd_capture(), chemistry="other"),  # 3.9 V a cell: not LFP
        "jbd-variants": job("jbd", vectors.jbd_variants(), chemistry="other"),
        "seplos": job("seplos_v3", vectors.seplos()),
        "jbd-up16s": job("jbd_up16s", vectors.two_packs()),
    }
    for i, exchange in enumerate(vectors.jk()):
        lines[f"jk-{i}"] = job("jk", [exchange])
    return lines


@pytest.mark.parametrize("name", ["jbd", "jbd-variants", "seplos", "jbd-up16s", "jk-0", "jk-1", "jk-2"])
def test_recorded_packs_raise_what_their_boards_tell_and_nothing_else(
    run_driver: RunDriver, recordings: Path, name: str
) -> None:
    result = run_driver(jobs(PackRecordings(recordings))[name])
    rows = result["rows"]["module"]
    for row in rows:
        told = told_of(row, is_lfp=result["is_lfp"])
        assert told == codes_of(row["protections"] or 0), row


@pytest.mark.parametrize("name", ["jbd", "jbd-variants", "seplos", "jbd-up16s"])
def test_recorded_readings_one_after_the_other_are_no_thermal_runaway(
    run_driver: RunDriver, recordings: Path, name: str
) -> None:
    rows = run_driver(jobs(PackRecordings(recordings))[name])["rows"]["module"]
    assert len(rows) >= 2
    for period_ms in PERIODS_MS:
        rig = Rig()
        for row in rows * 3:
            names = [signal.name for signal in rig.source.stream.signals]
            rig.set(**{name: row[name] for name in names if isinstance(row.get(name), int)})
            rig.source.commit(owner=row["owner"])
            rig.now_ms += period_ms
        assert RUNAWAY not in {code for code, _ in rig.told}


def test_jk_boards_say_themselves_which_cells_they_have(run_driver: RunDriver, recordings: Path) -> None:
    every = jobs(PackRecordings(recordings))
    assert [run_driver(every[f"jk-{i}"])["is_lfp"] for i in range(3)] == [False, False, False]
