"""Every recorded file of battery packs and Modbus devices is used by a test, and what no other test reads is read here.

Which file is where: `USED_BY`. A file that is added, or no longer used, fails here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.capture import read_capture_file
from swapline_node.drivers.jbd import JbdQuery

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
REPOSITORY = Path(__file__).parents[3]
HERE = "tests/node/drivers/test_recordings.py"
DRIVERS = "tests/node/drivers"
USED_BY = {
    "bms/captures/JBD-DP04S007L4S100A-BLE.txt": [HERE],
    "bms/captures/JBD-SP04S034-L4S-200A-B-U.txt": [HERE, "tests/bench/test_faces_bms.py"],
    "bms/captures/JBD-SP04S034-L4S-200A-B-U_MOS.txt": [HERE],
    "bms/captures/JBD-UP16S020-two-devices.txt": [HERE],
    "bms/captures/JK-B2A24S20P-10.07-UART-TTL.txt": [
        f"{DRIVERS}/test_jk.py",
        "hil_tests/swapline_bench/pack_recording.py",
    ],
    "bms/captures/JK-BD6A17S6P-7.1.0H-UART-TTL.txt": [
        f"{DRIVERS}/test_jk.py",
        "hil_tests/swapline_bench/pack_recording.py",
    ],
    "bms/captures/SG16S200A-SP57B-A-all-frames.txt": [HERE],
    "bms/captures/SP05B2312190075-all-frames.txt": [f"{DRIVERS}/test_bms.py", "tests/bench/test_faces_bms.py"],
    "bms/vectors/batmon-ha__jbd_fixtures.json": [f"{DRIVERS}/test_bms.py", "tests/bench/test_faces_bms.py"],
    "bms/vectors/batmon-ha__jk_issue377.json": [f"{DRIVERS}/test_jk.py", "hil_tests/swapline_bench/pack_recording.py"],
    "bms/vectors/batmon-ha__jk_uart_fixtures.json": [
        f"{DRIVERS}/test_jk.py",
        "hil_tests/swapline_bench/pack_recording.py",
    ],
    "bms/vectors/esphome-jbd-bms__jbd_bms__frames.json": [f"{DRIVERS}/test_bms.py"],
    "bms/vectors/esphome-jbd-bms__jbd_bms__jbd_bms_test.expected.json": ["hil_tests/swapline_bench/pack_recording.py"],
    "bms/vectors/esphome-jk-bms__jk_bms__common.json": [
        f"{DRIVERS}/test_jk.py",
        "hil_tests/swapline_bench/pack_recording.py",
    ],
    "bms/vectors/esphome-jk-bms__jk_bms__jk_bms_test.expected.json": [f"{DRIVERS}/test_jk.py"],
    "bms/vectors/transcript_jbd_up16s_two_packs.json": [f"{DRIVERS}/test_bms.py", "hil_tests/test_bms_recordings.py"],
    "bms/vectors/transcript_seplos_v3_sg16s200a.json": [f"{DRIVERS}/test_bms.py", "tests/bench/test_faces_bms.py"],
    "modbus/energy_meter_frames.json": [HERE, f"{DRIVERS}/test_modbus.py", "tests/bench/test_faces_line.py"],
    "modbus/minimalmodbus_rtu_vectors.json": [HERE, f"{DRIVERS}/test_modbus.py"],
}


def test_every_recorded_file_is_used(recordings: Path) -> None:
    files = [path for folder in ("bms", "modbus") for path in (recordings / folder).rglob("*") if path.is_file()]
    assert {str(path.relative_to(recordings)) for path in files} == USED_BY.keys()
    for file, tests in USED_BY.items():
        for test in tests:
            assert Path(file).name in (REPOSITORY / test).read_text(encoding="utf-8"), f"{test} does not use {file}"


@pytest.mark.parametrize(
    ("capture", "transcript"),
    [
        ("JBD-UP16S020-two-devices.txt", "transcript_jbd_up16s_two_packs.json"),
        ("SG16S200A-SP57B-A-all-frames.txt", "transcript_seplos_v3_sg16s200a.json"),
    ],
)
def test_capture_as_text_says_what_its_transcript_says(recordings: Path, capture: str, transcript: str) -> None:
    """So that what the transcripts' tests hold is held of the captures too."""
    text = read_capture_file(recordings / "bms" / "captures" / capture).exchanges
    told = read_capture_file(recordings / "bms" / "vectors" / transcript).exchanges
    assert [exchange[:2] for exchange in text] == [exchange[:2] for exchange in told]
    assert [e.latency_s for e in text] == pytest.approx([e.latency_s for e in told], abs=0.0011)


def jbd_answers(recordings: Path, name: str) -> dict[str, list[str | None]]:
    """Return a capture's answers by their question."""
    answers: dict[str, list[str | None]] = {}
    for request, response, _ in read_capture_file(recordings / "bms" / "captures" / name).exchanges:
        answers.setdefault(request.hex(), []).append(None if response is None else response.hex())
    return answers


def jbd_frame(register: int, data: bytes) -> str:
    body = bytes((0, len(data))) + data
    return (bytes((0xDD, register)) + body + (-sum(body) & 0xFFFF).to_bytes(2, "big") + b"\x77").hex()


def test_dp04s007_gives_what_its_capture_says(run_driver: RunDriver, recordings: Path) -> None:
    """Recorded were its basic info and two cells of four; name and cells are added, or it would have no reading."""
    answers = jbd_answers(recordings, "JBD-DP04S007L4S100A-BLE.txt")
    answers[JbdQuery(4).request.hex()] = [jbd_frame(4, bytes.fromhex("0d520d560d570db4"))]
    answers[JbdQuery(5).request.hex()] = [jbd_frame(5, b"DP04S007")]
    answers[JbdQuery(0xA2).request.hex()] = ["dda28000ff8077"]
    (row,) = run_driver({"driver": "jbd", "answers": answers, "polls": 1})["rows"]["module"]
    expected = {
        "owner": "DP04S007",
        "voltage_v": 1375,
        "current_a": 0,
        "capacity_remaining_ah": 19167,
        "capacity_full_ah": 20000,
        "cycles": 2,
        "soc_pct": 960,
        "switches": 3,
        "protections": 0,
        "balancing": 0,
        "temperature_max_c": 262,
        "temperature_min_c": 262,
        "cell_count": 4,
        "cell_voltage_min_v": 3410,
        "cell_voltage_max_v": 3508,
    }
    assert {name: row[name] for name in expected} == expected


def test_recorded_sp04s034_gives_its_two_answers_in_turn(run_driver: RunDriver, recordings: Path) -> None:
    answers = jbd_answers(recordings, "JBD-SP04S034-L4S-200A-B-U.txt")
    answers[JbdQuery(0xA2).request.hex()] = ["dda28000ff8077"]
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 2})
    first, second = result["rows"]["module"]
    assert first["owner"] == second["owner"] == "BD-SP04S034-L4S-200A-B-U"
    assert (first["temperature_min_c"], second["temperature_min_c"]) == (217, 217)
    assert (first["cell_voltage_mean_v"], second["cell_voltage_mean_v"]) == (3902, 3902)
    assert (first["voltage_v"], second["voltage_v"]) == (1560, 1560)
    assert first["cell_voltage_max_v"] == second["cell_voltage_max_v"] == 3909


def test_answers_to_writes_are_no_readings(run_driver: RunDriver, recordings: Path) -> None:
    """A tool beside the node switches MOSFETs: what the board answers to it is an error of the question under way."""
    said = [
        answer for group in jbd_answers(recordings, "JBD-SP04S034-L4S-200A-B-U_MOS.txt").values() for answer in group
    ]
    answers = jbd_answers(recordings, "JBD-SP04S034-L4S-200A-B-U.txt")
    answers[JbdQuery(0xA2).request.hex()] = [answer for answer in said if answer]
    polls = len(answers[JbdQuery(0xA2).request.hex()])
    result = run_driver({"driver": "jbd", "answers": answers, "polls": polls, "config": {"timeout_ms": 5}})
    assert result["errors"] == ["BusProtocolError"] * polls
    assert result["rows"] == {}


def test_meter_that_is_asked_for_one_register_and_one_that_does_not_answer(
    run_driver: RunDriver, recordings: Path
) -> None:
    exchanges = json.loads((recordings / "modbus" / "energy_meter_frames.json").read_text())
    words = [e for e in exchanges if "u16" in e["decoded"]]
    silent = [e for e in exchanges if e["response"] is None and e["request"][3:5].lower() == "03"]
    assert (len(words), len(silent)) == (2, 2)
    queries = [
        {"body": bytes.fromhex(e["request"])[:-2].hex(), "answer": (e["response"] or "").replace(" ", "")}
        for e in [*words, *silent]
    ]
    result = run_driver({"queries": queries})
    assert result["results"] == [f"{e['decoded']['u16']:04x}" for e in words] + ["BusTimeout"] * 2
    requests = [e["request"].replace(" ", "").lower() for e in [*words, *silent]]
    assert result["requests"] == requests


def test_answer_from_another_unit_is_an_error_though_its_recorder_let_it_pass(
    run_driver: RunDriver, recordings: Path
) -> None:
    vectors = json.loads((recordings / "modbus" / "minimalmodbus_rtu_vectors.json").read_text())
    good = vectors["transactions"]["GOOD_RTU_RESPONSES"]
    (strange,) = [t for t in good if t["request_hex"][:2] != t["response_hex"][:2]]
    result = run_driver({"queries": [{"body": strange["request_hex"][:-4], "answer": strange["response_hex"]}]})
    assert result["results"] == ["BusProtocolError"]
