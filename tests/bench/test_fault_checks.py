"""Whether faces know what passes their protocol's check, and what witnesses state of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swapline_bench.faces import gnss, jbd, jbd_up16s, jk
from swapline_bench.faces.modbus import ModbusFace, with_crc
from swapline_bench.faces.seplos_v3 import SeplosV3
from swapline_bench.faces.witness import Scribe
from swapline_bench.faces.witness_bms import bms_witness
from swapline_bench.faces.witness_device import GnssWitness
from swapline_bench.module import Module
from swapline_bench.request_face import RequestFace
from swapline_bench.rig import bms_face
from swapline_bench.statement import StatementLog, read_statements
from swapline_bench.world import World
from tests.bench.test_statement import FIX

DRIVERS = ("jbd", "jbd_up16s", "jk", "seplos_v3")
REQUESTS = {
    "jbd": bytes.fromhex("dda50300fffd77"),
    "jbd_up16s": with_crc(bytes.fromhex("0178100010a00000")),
    "jk": bytes.fromhex("4e5700130000000006030000000000006800000129"),
    "seplos_v3": with_crc(bytes.fromhex("010410000011")),
}


@pytest.fixture(scope="module")
def module() -> Module:
    found = World(van_count=1, seed=1).vans[0].bays[0]
    assert found is not None
    return found


def face_of(driver: str, module: Module) -> RequestFace:
    return bms_face(driver, lambda: module)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_whole_answer_passes_and_any_single_flipped_bit_does_not(driver: str, module: Module) -> None:
    face, request = face_of(driver, module), REQUESTS[driver]
    reply = face.answer(request)
    assert reply is not None
    assert face.is_accepted(request, reply)
    assert face.is_accepted(request, reply + b"noise behind it")
    assert not face.is_accepted(request, b"")
    for place in range(len(reply)):
        assert not face.is_accepted(request, reply[:place])
        for bit in range(8):
            spoiled = bytearray(reply)
            spoiled[place] ^= 1 << bit
            assert not face.is_accepted(request, bytes(spoiled)), (place, bit)


@pytest.mark.parametrize("driver", ["jbd", "jbd_up16s", "seplos_v3"])
def test_refusals_and_answers_of_others_are_no_data(driver: str, module: Module) -> None:
    face, request = face_of(driver, module), REQUESTS[driver]
    reply = face.answer(request)
    assert reply is not None
    for other in (face.refusal(request), face.from_another(request, reply)):
        assert other is not None
        assert not face.is_accepted(request, other)


def swapped(reply: bytes, first: int, second: int) -> bytes:
    """Return `reply` with two bytes exchanged, which no sum finds."""
    spoiled = bytearray(reply)
    spoiled[first], spoiled[second] = spoiled[second], spoiled[first]
    assert bytes(spoiled) != reply
    return bytes(spoiled)


@pytest.mark.parametrize("driver", ["jbd", "jk"])
def test_a_sum_does_not_find_two_bytes_that_changed_places(driver: str, module: Module) -> None:
    face, request = face_of(driver, module), REQUESTS[driver]
    reply = face.answer(request)
    assert reply is not None
    assert face.is_accepted(request, swapped(reply, 4, 5) if driver == "jbd" else swapped(reply, 14, 15))


def test_a_poll_with_an_answer_that_was_damaged_by_chance_says_which_signals_it_carried(
    module: Module, tmp_path: Path
) -> None:
    face = jbd.JbdFace(lambda: module)
    with StatementLog(tmp_path / "said.jsonl") as log:
        witness = bms_witness("jbd", Scribe(log, "van-001", 1), lambda: module)
        for register in (jbd.BARCODE, jbd.CELLS, jbd.BASIC, jbd.BARCODE):
            total = 0x10000 - register
            request = bytes((jbd.START, jbd.READ, register, 0, total >> 8, total & 0xFF, jbd.END))
            reply = face.answer(request)
            assert reply is not None
            witness.look(request, reply)
            if register == jbd.BASIC:
                witness.spoiled(is_accepted=True)
            else:
                witness.said(0.0)
    of_module, of_cells = read_statements(tmp_path / "said.jsonl")
    assert of_module.is_doubtful
    assert {"voltage_v", "current_a", "temperature_max_c"} <= set(of_module.damaged)
    assert "cell_voltage_max_v" not in of_module.damaged
    assert "cell_01_v" not in of_cells.damaged


def test_data_that_a_node_asks_for_to_see_whether_anybody_is_there_are_no_reading(
    module: Module, tmp_path: Path
) -> None:
    face = face_of("jbd_up16s", module)
    status, code = REQUESTS["jbd_up16s"], with_crc(bytes.fromhex("01781c001ca00000"))
    with StatementLog(tmp_path / "said.jsonl") as log:
        witness = bms_witness("jbd_up16s", Scribe(log, "van-001", 1), lambda: module)
        for request in (code, status, code, status):
            reply = face.answer(request)
            assert reply is not None
            witness.look(request, reply)
            witness.said(0.0)
        witness.look(status, face.answer(status))
        witness.spoiled(is_accepted=False)
        for request in (status, code):  # who is there? and who are you?
            witness.look(request, face.answer(request))
            witness.said(0.0)
        assert log.count == 2  # of the first poll: module and cells
        for request in (status, code):
            witness.look(request, face.answer(request))
            witness.said(0.0)
        assert log.count == 4


def heard_of(data: bytes, folder: Path) -> tuple[int, Any]:
    """Return what passed by chance, and the statement, of a burst that was heard as `data`."""
    with StatementLog(folder / "said.jsonl") as log:
        witness = GnssWitness(Scribe(log, "van-001"))
        by_chance = witness.said(FIX, gnss.SKY, FIX.utc, data)
        witness.settle(is_heard=True)
    return by_chance, next(read_statements(folder / "said.jsonl"))


def test_a_sentence_that_is_damaged_is_left_out_of_what_a_receiver_said(tmp_path: Path) -> None:
    by_chance, statement = heard_of(gnss.burst(FIX).replace(b"VTG", b"VTx"), tmp_path)
    assert by_chance == 0
    assert statement.is_doubtful
    assert statement.damaged == ()
    assert statement.values["speed_kmh"] == 4.97  # RMC's knots say the same


def test_a_sentence_whose_damage_its_sum_does_not_find_is_counted_with_its_signals(tmp_path: Path) -> None:
    burst = gnss.burst(FIX)
    altitude = b"33.9,M"
    assert altitude in burst
    by_chance, statement = heard_of(burst.replace(altitude, b"39.3,M"), tmp_path)
    assert by_chance == 1
    assert "altitude_m" in statement.damaged
    assert "speed_kmh" not in statement.damaged
    assert "altitude_m" not in statement.values


def test_faces_name_who_speaks() -> None:
    holder = SimpleNamespace(module=cast(Module, object()))
    faces = (
        (jbd.JbdFace(lambda: holder.module), "jbd"),
        (jk.JkFace(lambda: holder.module), "jk"),
        (jbd_up16s.Up16sFace({1: jbd_up16s.Up16s(lambda: holder.module)}), "jbd_up16s"),
        (ModbusFace({1: SeplosV3(lambda: holder.module)}), "seplos_v3"),
    )
    for face, driver in faces:
        before = face.speaker(REQUESTS[driver])
        holder.module = cast(Module, object())
        assert face.speaker(REQUESTS[driver]) is not before
