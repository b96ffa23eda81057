"""The JK face against a frame that a real board sent, and the witness of what it says."""

import asyncio
from pathlib import Path

import pytest

from swapline_bench.capture import read_capture_file
from swapline_bench.faces.jk import READ_ALL, JkFace, current_word, frame, temperature_word, warning_word
from swapline_bench.faces.witness import GAP_S_MAX, Scribe
from swapline_bench.faces.witness_bms import JkWitness
from swapline_bench.module import Module
from swapline_bench.statement import Statement, StatementLog, read_statements
from tests.bench.test_faces_bms import module_of

ASK = frame(READ_ALL, b"\0", source=3, kind=0)
HEAD_BYTES = 11


def board_13s() -> Module:
    cells = [4092, 4047, 4093, 4092, 4092, 4090, 4087, 4094, 4094, 4092, 4087, 4087, 4093]
    return module_of(
        cell_voltages_v=[mv / 1000 for mv in cells],
        cell_temperatures_c=[19.0, 19.0],
        temperature_mosfet_c=22.0,
        voltage_v=53.13,
        soc_pct=94.0,
        capacity_full_ah=5.0,
        charge_switch=False,
        discharge_switch=False,
        balancing_mask=1 << 7,
    )


def test_face_says_what_a_recorded_board_said(recordings: Path) -> None:
    """All but its settings, and its actual capacity, which the board says it does not know."""
    ((request, recorded, _),) = read_capture_file(recordings / "bms/captures/JK-B2A24S20P-10.07-UART-TTL.txt").exchanges
    assert recorded is not None
    assert request == ASK
    face = JkFace(board_13s)
    face.name = "Input UserdaJK-B2A24S15P"
    said = face.answer(request)
    assert said is not None
    assert len(said) == len(recorded)
    settings = said.index(b"\x8e")
    assert said[:settings] == recorded[:settings]
    names, capacity = said.index(b"\xb2123456"), said.index(b"\xb8\x00\xb9") + 3
    assert said[names:capacity] == recorded[names:capacity]
    assert said[capacity + 4 : -4] == recorded[capacity + 4 : -4]
    assert said == frame(READ_ALL, said[HEAD_BYTES:-9])


@pytest.mark.parametrize(
    "request_bytes",
    [
        ASK[:-1] + bytes((ASK[-1] ^ 1,)),
        ASK[:16] + b"\x69" + ASK[17:],
        frame(0x02, b"\xab\x01", source=3, kind=0),
    ],
)
def test_damaged_questions_and_writes_get_no_answer(request_bytes: bytes) -> None:
    assert JkFace(board_13s).answer(request_bytes) is None


def test_empty_bay_is_silent_and_noise_before_a_question_is_skipped() -> None:
    assert JkFace(lambda: None).answer(ASK) is None
    received = bytearray(b"\x00\x4e\x4e\x57\xff\xff" + ASK + b"\x4e")
    face = JkFace(board_13s)
    assert face.take_request(received) == ASK
    assert received == b"\x4e"
    assert face.take_request(received) is None


def test_damage_that_the_sum_does_not_show_is_accepted() -> None:
    face = JkFace(board_13s)
    said = face.answer(ASK)
    assert said is not None
    assert face.is_accepted(ASK, said)
    one = said[:40] + bytes((said[40] ^ 1,)) + said[41:]
    assert not face.is_accepted(ASK, one)
    swapped = said[:12] + bytes((said[12] + 1, said[13] - 1)) + said[14:]
    assert face.is_accepted(ASK, swapped)


@pytest.mark.parametrize(
    ("current_a", "version", "word"),
    [(-10.0, 0, 11000), (5.0, 0, 9500), (-20.0, 1, 2000), (20.0, 1, 34768), (0.0, 1, 0), (-999.0, 1, 0x7FFF)],
)
def test_current_is_written_as_the_maker_says(current_a: float, version: int, word: int) -> None:
    assert current_word(current_a, version) == word


def test_temperatures_and_warnings_are_written_as_the_maker_says() -> None:
    assert [temperature_word(t) for t in (-50.0, -40.0, -1.0, 0.0, 24.6, 100.0, 120.0)] == [
        140,
        140,
        101,
        0,
        25,
        100,
        100,
    ]
    assert warning_word(1 << 0 | 1 << 4 | 1 << 6 | 1 << 13) == 1 << 10 | 1 << 4 | 1 << 7


async def state(tmp_path: Path, *pauses_s: float) -> list[Statement]:
    """Return what a witness states of answers that follow each other after these pauses."""
    log = StatementLog(tmp_path / "statements.jsonl")
    witness = JkWitness(Scribe(log, "van-001", 1), board_13s)
    reply = JkFace(board_13s).answer(ASK)
    assert reply is not None
    for pause_s in pauses_s:
        witness.look(ASK, reply)
        witness.said(0.0)
        await asyncio.sleep(pause_s)
    log.close()
    return [one for one in read_statements(log.path) if one.stream == "module"]


async def test_answer_that_is_followed_by_a_question_at_once_is_doubtful(tmp_path: Path) -> None:
    """It may have been the first of two that a new code needs. The times are the witness's subject here."""
    first, second = await state(tmp_path, 0.0, GAP_S_MAX + 0.1)
    assert (first.is_doubtful, second.is_doubtful) == (True, False)
    assert second.values == first.values
    assert second.values["temperature_mosfet_c"] == 22
    assert second.values["cell_count"] == 13
    assert "balancing" not in second.values
