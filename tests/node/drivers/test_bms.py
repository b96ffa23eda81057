"""The BMS drivers against recorded packs, and whose reading a reading is when modules are swapped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_node.drivers.bms import module_code
from swapline_node.drivers.jbd import JbdQuery
from swapline_node.drivers.modbus import crc16, with_crc
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
Answers = dict[str, list[str | None]]


def vectors(recordings: Path, name: str) -> Any:
    return json.loads((recordings / "bms" / "vectors" / name).read_text())


def readdress(frame: str, address: int) -> str:
    """Return a Modbus frame as it would be from another address."""
    return with_crc(bytes((address,)) + bytes.fromhex(frame)[1:-2]).hex()


def transcript(recordings: Path, name: str) -> Answers:
    """Return the recorded answers by their request, in order, for ever repeating the last."""
    answers: Answers = {}
    for exchange in vectors(recordings, name)["transactions"]:
        answers.setdefault(exchange["request"], []).append(exchange["response"] or None)
    return answers


@pytest.fixture
def seplos(recordings: Path) -> Answers:
    """Answers of the recorded Seplos pack at address 1; its version block was recorded at address 0."""
    answers = transcript(recordings, "transcript_seplos_v3_sg16s200a.json")
    version = readdress("000417000033b47a", 1)
    answers[version] = [readdress(str(answers["000417000033b47a"][0]), 1)]
    answers[with_crc(bytes.fromhex("010112000090")).hex()] = ["018102c191"]
    return answers


def test_seplos_pack_gives_the_recorded_values(run_driver: RunDriver, seplos: Answers) -> None:
    result = run_driver({"driver": "seplos_v3", "config": {"address": 1, "bay": 2}, "answers": seplos, "polls": 1})
    assert result["errors"] == [None]
    (row,) = result["rows"]["module"]
    expected = {
        "owner": "SP57B-A2506120022",
        "bay": 2,
        "voltage_v": 5325,
        "current_a": -137,
        "capacity_remaining_ah": 27456,
        "capacity_full_ah": 33000,
        "charge_out_ah": 290 * 1000,
        "soc_pct": 832,
        "soh_pct": 999,
        "cycles": 10,
        "cell_voltage_min_v": 3327,
        "cell_voltage_max_v": 3328,
        "cell_voltage_mean_v": 3328,
        "cell_voltage_min_cell": 1,
        "cell_voltage_max_cell": 3,
        "temperature_min_c": 211,
        "temperature_max_c": 215,
        "temperature_min_sensor": 4,
        "temperature_max_sensor": 1,
        "temperature_ambient_c": 225,
        "temperature_mosfet_c": 212,
        "cell_count": 16,
        "protections": None,
        "switches": None,
    }
    assert {name: row[name] for name in expected} == expected
    (cells,) = result["rows"]["cells"]
    assert [cells[f"cell_{i:02d}_v"] for i in (1, 3, 14, 16)] == [3327, 3328, 3327, 3328]
    assert [cells[f"temperature_{i}_c"] for i in range(1, 6)] == [215, 212, 214, 211, None]


def test_seplos_state_gives_switches_protections_and_balancing(run_driver: RunDriver, seplos: Answers) -> None:
    state = bytearray(18)
    state[6:8] = b"\x05\x80"  # cells 1, 3 and 16 balance
    state[9] = 0b00000011  # cell high: alarm and protection
    state[12] = 0b01010000  # discharge over-current, short circuit
    state[15] = 0b00001010  # charge FET and heater on, discharge FET off
    state[17] = 0b00000001  # a sensor is broken
    seplos[with_crc(bytes.fromhex("010112000090")).hex()] = [with_crc(b"\x01\x01\x12" + bytes(state)).hex()]
    result = run_driver({"driver": "seplos_v3", "config": {"address": 1}, "answers": seplos, "polls": 1})
    (row,) = result["rows"]["module"]
    assert row["protections"] == 1 << 0 | 1 << 9 | 1 << 10 | 1 << 16
    assert row["switches"] == 0b1001
    assert row["balancing"] == 0x8005


def test_seplos_state_that_is_lost_once_fails_its_poll_and_is_asked_again_at_the_next(
    run_driver: RunDriver, seplos: Answers
) -> None:
    state = with_crc(b"\x01\x01\x12" + bytes(9) + b"\x02" + bytes(8)).hex()
    seplos[with_crc(bytes.fromhex("010112000090")).hex()] = [state, None, state]
    result = run_driver({"driver": "seplos_v3", "config": {"address": 1}, "answers": seplos, "polls": 4})
    assert result["errors"] == [None, "BusTimeout", None, None]
    assert [row["protections"] for row in result["rows"]["module"]] == [1, 1, 1]


def test_seplos_pack_that_never_gives_its_state_is_read_without_it(run_driver: RunDriver, seplos: Answers) -> None:
    seplos[with_crc(bytes.fromhex("010112000090")).hex()] = [None]
    result = run_driver({"driver": "seplos_v3", "config": {"address": 1}, "answers": seplos, "polls": 40})
    assert result["errors"] == ["BusTimeout", "BusTimeout", *[None] * 38]
    assert {row["protections"] for row in result["rows"]["module"]} == {None}


def test_damaged_seplos_recording_makes_counted_errors_and_no_row(
    run_driver: RunDriver, recordings: Path, seplos: Answers
) -> None:
    """Every recorded line, good or not, as the answer to the pack block: none of them is one."""
    lines = [
        bytes(int(byte, 16) for byte in line.split())
        for line in (recordings / "bms" / "captures" / "SP05B2312190075-all-frames.txt").read_text().splitlines()
        if line.startswith("0x")
    ]
    good = [line for line in lines if crc16(line, len(line) - 2) == int.from_bytes(line[-2:], "little")]
    assert (len(lines), len(good)) == (207, 39)
    seplos["01041000001134c6"] = [line.hex() for line in lines]
    result = run_driver(
        {"driver": "seplos_v3", "config": {"address": 1, "timeout_ms": 5}, "answers": seplos, "polls": len(lines)}
    )
    assert all(result["errors"])
    assert "module" not in result["rows"]
    assert "cells" not in result["rows"]
    counters = result["counters"]
    counted = counters["bus_timeouts"] + counters["bus_checksum_errors"] + counters["bus_protocol_errors"]
    assert counted == len(lines)


def jbd(basic: str, cells: str, *, hardware: str = "4a4244", barcode: str | None = None) -> Answers:
    """Return the answers of a JBD board from their data."""

    def frame(register: int, data: str) -> str:
        body = bytes((0, len(data) // 2)) + bytes.fromhex(data)
        return (bytes((0xDD, register)) + body + (-sum(body) & 0xFFFF).to_bytes(2, "big") + b"\x77").hex()

    answers: Answers = {
        JbdQuery(3).request.hex(): [frame(3, basic)],
        JbdQuery(4).request.hex(): [frame(4, cells)],
        JbdQuery(5).request.hex(): [frame(5, hardware)],
        JbdQuery(0xA2).request.hex(): ["dda28000ff8077"],
    }
    if barcode is not None:
        text = barcode.encode()
        answers[JbdQuery(0xA2).request.hex()] = [frame(0xA2, (bytes((len(text),)) + text).hex())]
    return answers


def frames_of_jbd(recordings: Path) -> dict[str, str]:
    return {f["name"]: f["hex"] for f in vectors(recordings, "esphome-jbd-bms__jbd_bms__frames.json")["frames"]}


def test_jbd_board_gives_the_published_values(run_driver: RunDriver, recordings: Path) -> None:
    frames = frames_of_jbd(recordings)
    answers = jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], hardware=frames["HWVER_FRAME"])
    result = run_driver({"driver": "jbd", "config": {"bay": 1}, "answers": answers, "polls": 1})
    (row,) = result["rows"]["module"]
    expected = {
        "owner": "BD-SP04S034-L4S-200A-B-U",
        "voltage_v": 1560,
        "current_a": 0,
        "capacity_remaining_ah": 498,
        "capacity_full_ah": 500,
        "soc_pct": 1000,
        "soh_pct": None,
        "cycles": 0,
        "cell_voltage_min_v": 3895,
        "cell_voltage_max_v": 3909,
        "cell_voltage_min_cell": 3,
        "cell_voltage_max_cell": 1,
        "cell_voltage_mean_v": 3902,
        "temperature_max_c": 224,
        "temperature_min_c": 217,
        "cell_count": 4,
        "switches": 3,
        "protections": 0,
        "balancing": 0,
    }
    assert {name: row[name] for name in expected} == expected
    (cells,) = result["rows"]["cells"]
    assert [cells[f"cell_{i:02d}_v"] for i in range(1, 6)] == [3909, 3901, 3895, 3901, None]
    assert [cells[f"temperature_{i}_c"] for i in range(1, 5)] == [224, 223, 217, None]


@pytest.mark.parametrize(
    ("name", "protections", "switches"),
    [
        ("BASICINFO_FRAME_CELL_OVERVOLTAGE", 0x0001, 2),
        ("BASICINFO_FRAME_ALL_PROTECTIONS", 0x1FFF, 3),
        ("BASICINFO_FRAME_MOSFET_SOFTWARE_LOCK", 0x1000, 2),
    ],
)
def test_jbd_protections(run_driver: RunDriver, recordings: Path, name: str, protections: int, switches: int) -> None:
    frames = frames_of_jbd(recordings)
    answers = jbd(frames[name], frames["CELLINFO_FRAME"], barcode="M1")
    (row,) = run_driver({"driver": "jbd", "answers": answers, "polls": 1})["rows"]["module"]
    assert (row["protections"], row["switches"]) == (protections, switches)


@pytest.mark.parametrize("name", ["SYSSI_3CELL", "DUMMY_7CELL"])
def test_jbd_frames_of_batmon_give_the_published_values(run_driver: RunDriver, recordings: Path, name: str) -> None:
    fixture = vectors(recordings, "batmon-ha__jbd_fixtures.json")["data"][name]
    answers = jbd("", "0d480d48", barcode="M1")
    answers[JbdQuery(3).request.hex()] = [fixture["raw"].removeprefix("hex:")]
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 1})
    (row,) = result["rows"]["module"]
    expected = fixture["expected"]
    assert row["voltage_v"] == round(expected["voltage"] * 100)
    assert row["current_a"] == -round(expected["current"] * 100), "batmon counts discharging positive"
    assert row["capacity_remaining_ah"] == round(expected["charge"] * 100)
    assert row["capacity_full_ah"] == round(expected["capacity"] * 100)
    (cells,) = result["rows"]["cells"]
    for i, temperature in enumerate(expected["temperatures"]):
        assert cells[f"temperature_{i + 1}_c"] == round(temperature * 10)


def test_recorded_jbd_frames_with_any_changed_byte_make_no_row(run_driver: RunDriver, recordings: Path) -> None:
    frames = frames_of_jbd(recordings)
    answers = jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], barcode="M1")
    request = JbdQuery(3).request.hex()
    good = bytes.fromhex(str(answers[request][0]))
    damaged = [good[:i] + bytes((good[i] ^ 0x10,)) + good[i + 1 :] for i in range(len(good))]
    answers[request] = [frame.hex() for frame in damaged]
    result = run_driver({"driver": "jbd", "config": {"timeout_ms": 5}, "answers": answers, "polls": len(damaged)})
    assert all(result["errors"])
    assert "module" not in result["rows"]


def test_jbd_board_that_never_tells_its_barcode_is_known_by_its_hardware(
    run_driver: RunDriver, recordings: Path
) -> None:
    frames = frames_of_jbd(recordings)
    answers = jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], hardware=b"SP04S034".hex())
    answers[JbdQuery(0xA2).request.hex()] = [None]
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 6})
    assert result["errors"] == ["BusProtocolError", "BusProtocolError", None, None, None, None]
    assert {row["owner"] for row in result["rows"]["module"]} == {"SP04S034"}


def test_up16s_bus_gives_the_recorded_values_of_both_packs(run_driver: RunDriver, recordings: Path) -> None:
    answers = transcript(recordings, "transcript_jbd_up16s_two_packs.json")
    first = run_driver({"driver": "jbd_up16s", "config": {"address": 1, "bay": 1}, "answers": answers, "polls": 7})
    assert first["errors"] == [None] * 7
    row = first["rows"]["module"][0]
    expected = {
        "owner": "16S019000123525032200332",
        "voltage_v": 5317,
        "current_a": 0,
        "soc_pct": 610,
        "capacity_remaining_ah": 6095,
        "capacity_full_ah": 10000,
        "temperature_mosfet_c": 210,
        "temperature_ambient_c": 226,
        "soh_pct": 1000,
        "cycles": 12,
        "cell_voltage_max_v": 0x0D03,
        "cell_voltage_max_cell": 3,
        "cell_voltage_min_v": 0x0CF5,
        "cell_voltage_min_cell": 8,
        "cell_voltage_mean_v": 0x0CFB,
        "temperature_max_c": 212,
        "temperature_max_sensor": 4,
        "temperature_min_c": 204,
        "temperature_min_sensor": 2,
        "cell_count": 16,
        "protections": 0,
        "switches": 3,
    }
    assert {name: row[name] for name in expected} == expected
    second = run_driver({"driver": "jbd_up16s", "config": {"address": 2, "bay": 2}, "answers": answers, "polls": 5})
    assert second["errors"] == ["BusProtocolError", "BusProtocolError", None, None, None]
    row = second["rows"]["module"][0]
    assert (row["owner"], row["voltage_v"], row["cell_count"]) == ("JBD48100000", 5321, 16)


def test_a_module_swapped_during_a_poll_gets_no_row_of_the_other_and_its_own_at_once(
    run_driver: RunDriver, recordings: Path
) -> None:
    frames = frames_of_jbd(recordings)
    answers = jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], barcode="MODULE-A")
    other = jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], barcode="MODULE-B")
    code = JbdQuery(0xA2).request.hex()
    # before, after 1, after 2 are A; the third poll's data are followed by B's code
    answers[code] = [*answers[code] * 3, *other[code]]
    result = run_driver({"driver": "jbd", "config": {"bay": 3}, "answers": answers, "polls": 5, "then_silent": True})
    assert result["errors"] == [None] * 5
    assert result["counters"]["bus_protocol_errors"] == 1
    assert [row["owner"] for row in result["rows"]["module"]] == ["MODULE-A"] * 2 + ["MODULE-B"] * 3
    basic = JbdQuery(0x03).request.hex()
    assert result["requests"].count(basic) == 6, "what was read while the module changed is read again"
    events = [(row["code"], row["owner"], row["bay"], row["soc_pct"]) for row in result["rows"]["event"]]
    assert events == [
        (BATTERY_IN, "MODULE-A", 3, 1000),
        (BATTERY_OUT, "MODULE-A", 3, 1000),
        (BATTERY_IN, "MODULE-B", 3, 1000),
        (BATTERY_OUT, "MODULE-B", 3, 1000),
    ]


def test_a_module_that_refuses_its_serial_number_once_is_not_taken_for_its_model(
    run_driver: RunDriver, recordings: Path
) -> None:
    frames = frames_of_jbd(recordings)
    answers = jbd(frames["BASICINFO_FRAME"], frames["CELLINFO_FRAME"], barcode="MODULE-A")
    code = JbdQuery(0xA2).request.hex()
    answers[code] = ["dda28000ff8077", *answers[code]]
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 3})
    assert result["errors"] == [None] * 3
    assert result["counters"]["bus_protocol_errors"] == 1
    assert {row["owner"] for row in result["rows"]["module"]} == {"MODULE-A"}


def test_a_module_whose_serial_number_comes_with_its_name_is_never_known_by_the_name(
    run_driver: RunDriver, seplos: Answers
) -> None:
    version = readdress("000417000033b47a", 1)
    good = seplos[version][0]
    seplos[version] = [None, good] * 3 + [good]
    result = run_driver(
        {"driver": "seplos_v3", "config": {"address": 1, "timeout_ms": 20}, "answers": seplos, "polls": 8}
    )
    assert {row["owner"] for row in result["rows"]["module"]} == {"SP57B-A2506120022"}


def test_a_module_with_more_cells_than_a_segment_makes_more_segments(run_driver: RunDriver, recordings: Path) -> None:
    frames = frames_of_jbd(recordings)
    cells = b"".join((3000 + i).to_bytes(2, "big") for i in range(20)).hex()
    answers = jbd(frames["BASICINFO_FRAME"], cells, barcode="M1")
    result = run_driver({"driver": "jbd", "answers": answers, "polls": 1})
    first, second = result["rows"]["cells"]
    assert (first["segment"], first["cell_16_v"]) == (0, 3015)
    assert (second["segment"], second["cell_01_v"], second["cell_04_v"], second["cell_05_v"]) == (1, 3016, 3019, None)
    assert result["rows"]["module"][0]["cell_voltage_max_cell"] == 20


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"  04QPE48 A7 \0\xff", "04QPE48A7"),
        (b"\0ABC", ""),
        (b"UP16S019000123525032200332", "16S019000123525032200332"),
        (b"\xff\xff\xff", ""),
    ],
)
def test_module_code_is_printable_and_keeps_the_end(text: bytes, code: str) -> None:
    assert module_code(text) == code
