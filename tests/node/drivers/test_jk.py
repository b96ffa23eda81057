"""The JK driver against recorded boards: published values, both encodings of the current, damage, whose reading."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_node.drivers.jk import JkQuery
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
READ_ALL = JkQuery.request.hex()
GOOD_13S = "JK-B2A24S20P-10.07-UART-TTL.txt"
TYPING_ERROR_16S = "JK-BD6A17S6P-7.1.0H-UART-TTL.txt"


def captured(recordings: Path, name: str) -> tuple[bytes, bytes]:
    """Return a capture's request and answer, byte by byte as typed: one has `0` where `A0` was."""
    lines = (recordings / "bms" / "captures" / name).read_text().splitlines()
    frames = [bytes(int(byte, 16) for byte in line[4:].split(":")) for line in lines if line[:3] in (">>>", "<<<")]
    request, answer = frames
    return request, answer


def framed(registers: bytes) -> bytes:
    """Return an answer around registers."""
    frame = b"\x4e\x57" + (len(registers) + 18).to_bytes(2, "big") + bytes(4) + b"\x06\x00\x01" + registers
    frame += bytes(4) + b"\x68"
    return frame + (sum(frame) & 0xFFFF).to_bytes(4, "big")


def vectors(recordings: Path, name: str) -> Any:
    return json.loads((recordings / "bms" / "vectors" / name).read_text())


def published_14s(recordings: Path) -> bytes:
    (frame,) = vectors(recordings, "esphome-jk-bms__jk_bms__common.json")["frames"]
    assert len(frame["hex"]) == 2 * frame["len"]
    return bytes.fromhex(frame["hex"])


def expected_14s(recordings: Path) -> dict[str, float]:
    """Return what the publishers' tests expect of their frame, by their names."""
    tests = vectors(recordings, "esphome-jk-bms__jk_bms__jk_bms_test.expected.json")["tests"]
    lines = [line for test in tests for line in test["expect"]]
    matches = [re.match(r"([\w\[\]]+)\.state, (-?[\d.]+)f", line) for line in lines]
    return {match[1]: float(match[2]) for match in matches if match}


def run(run_driver: RunDriver, *answers: bytes | None, polls: int = 1, **job: Any) -> dict[str, Any]:
    said = [answer if answer is None else answer.hex() for answer in answers]
    return run_driver({"driver": "jk", "config": {"bay": 1}, "answers": {READ_ALL: said}, "polls": polls, **job})


def test_request_is_the_recorded_one(recordings: Path) -> None:
    assert {captured(recordings, name)[0] for name in (GOOD_13S, TYPING_ERROR_16S)} == {JkQuery.request}


def test_14s_frame_gives_the_published_values(run_driver: RunDriver, recordings: Path) -> None:
    result = run(run_driver, framed(published_14s(recordings)))
    assert result["errors"] == [None]
    (row,) = result["rows"]["module"]
    (cells,) = result["rows"]["cells"]
    expected = expected_14s(recordings)
    ours = {
        "total": row["voltage_v"] / 100,
        "current": row["current_a"] / 100,
        "tube": row["temperature_mosfet_c"] / 10,
        "t1": cells["temperature_1_c"] / 10,
        "t2": cells["temperature_2_c"] / 10,
        "soc": row["soc_pct"] / 10,
        "full_charge_capacity": row["capacity_full_ah"] / 100,
        "cycles": row["cycles"],
        "errors_bitmask": row["protections"],
        "modes_bitmask": row["switches"] | 1 << 2,  # balancing: the board does not say of which cells
        "cell_count": row["cell_count"],
        "min_v": row["cell_voltage_min_v"] / 1000,
        "max_v": row["cell_voltage_max_v"] / 1000,
        "min_cell": row["cell_voltage_min_cell"],
        "max_cell": row["cell_voltage_max_cell"],
        "avg": row["cell_voltage_mean_v"] / 1000,
        **{f"cells[{i}]": cells[f"cell_{i + 1:02d}_v"] / 1000 for i in (0, 1, 2, 3, 8, 11)},
    }
    assert ours == {name: expected[name] for name in ours}
    # Products, a difference, a count of sensors and settings are the publishers' own business. That the remaining
    # capacity is a product of SoC and capacity, and no reading, is why it is none here either.
    assert expected["capacity_remaining"] == pytest.approx(expected["soc"] * expected["full_charge_capacity"] / 100)
    assert row["capacity_remaining_ah"] is None
    assert expected.keys() - ours.keys() == {
        "delta",
        "power",
        "charging_power",
        "discharging_power",
        "count",
        "capacity_remaining",
        "starting_voltage",
        "delta_voltage",
        "low_soc_alarm_threshold",
        "runtime",
    }
    assert (row["switches"], row["balancing"], row["owner"]) == (3, None, "BT3072020120000200521001")
    assert [cells["cell_14_v"], cells["cell_15_v"], cells["temperature_3_c"]] == [3826, None, None]


def test_recorded_13s_board_is_read(run_driver: RunDriver, recordings: Path) -> None:
    _, answer = captured(recordings, GOOD_13S)
    result = run(run_driver, answer, polls=2)
    assert result["errors"] == [None, None]
    assert result["requests"] == [READ_ALL] * 3, "a new code must come twice; then each answer tells whose it is"
    row = result["rows"]["module"][0]
    expected = {
        "owner": "JK-B2A24S15P",
        "voltage_v": 5313,
        "current_a": 0,
        "soc_pct": 940,
        "soh_pct": None,
        "cycles": 0,
        "capacity_full_ah": 500,
        "cell_voltage_min_v": 4047,
        "cell_voltage_min_cell": 2,
        "cell_voltage_max_v": 4094,
        "cell_voltage_max_cell": 8,
        "temperature_min_c": 190,
        "temperature_max_c": 190,
        "temperature_mosfet_c": 220,
        "cell_count": 13,
        "protections": 0,
        "switches": 0,
    }
    assert {name: row[name] for name in expected} == expected


def test_recorded_16s_board_has_a_typing_error_that_its_sum_shows(run_driver: RunDriver, recordings: Path) -> None:
    _, answer = captured(recordings, TYPING_ERROR_16S)
    result = run(run_driver, answer, polls=3, then_silent=True)
    assert result["errors"] == ["BusChecksumError"] * 3
    assert result["counters"]["bus_checksum_errors"] == 3
    assert result["rows"] == {}
    mended = answer.replace(b"\x9f\x00\x46\x00\x00\x64", b"\x9f\x00\x46\xa0\x00\x64")
    (row,) = run(run_driver, mended)["rows"]["module"]
    expected = {
        "owner": "BT3072020120000200521001",
        "voltage_v": 5121,
        "current_a": -69,
        "soc_pct": 150,
        "cycles": 17,
        "capacity_full_ah": 8100,
        "cell_voltage_min_v": 3185,
        "cell_voltage_min_cell": 7,
        "cell_voltage_max_v": 3203,
        "cell_voltage_max_cell": 5,
        "temperature_mosfet_c": 180,
        "cell_count": 16,
        "switches": 3,
    }
    assert {name: row[name] for name in expected} == expected


def test_mpp_solar_frame_of_batmon_gives_the_published_values(run_driver: RunDriver, recordings: Path) -> None:
    fixture = vectors(recordings, "batmon-ha__jk_uart_fixtures.json")["data"]["MPP_SOLAR_14S"]
    expected = fixture["expected"]
    result = run(run_driver, bytes.fromhex(fixture["raw"].removeprefix("hex:")))
    (row,) = result["rows"]["module"]
    (cells,) = result["rows"]["cells"]
    assert row["voltage_v"] == round(expected["voltage"] * 100)
    assert row["current_a"] == round(expected["current"] * 100)
    assert row["soc_pct"] == expected["soc"] * 10
    assert row["cycles"] == expected["num_cycles"]
    assert row["capacity_full_ah"] == expected["capacity"] * 100
    assert row["temperature_mosfet_c"] == expected["mos_temperature"] * 10
    assert [cells[f"temperature_{i}_c"] for i in (1, 2)] == [t * 10 for t in expected["temperatures"]]
    assert [cells[f"cell_{i + 1:02d}_v"] for i in range(14)] == expected["cell_voltages_mv"]
    assert row["cell_count"] == 14
    assert row["switches"] == expected["switches"]["charge"] | expected["switches"]["discharge"] << 1
    assert row["owner"] == fixture["device_info"]["manufacturer"].removeprefix("Input Userda")


@pytest.mark.parametrize(
    ("version", "word", "current_ca"),
    [
        (0, 10000, 0),
        (0, 11000, -1000),
        (0, 9500, 500),
        (1, 0, 0),
        (1, 2000, -2000),
        (1, 34768, 2000),
        (1, 0x7FFF, -32767),
        (1, 0xFFFF, 32767),
        (1, 0x8000, 0),
    ],
)
def test_current_is_positive_into_the_module_in_both_protocol_versions(
    run_driver: RunDriver, recordings: Path, version: int, word: int, current_ca: int
) -> None:
    """The examples are the maker's: 11000 is -10 A, 9500 is 5 A; 2000 is 20 A of discharge, 34768 of charge."""
    registers = published_14s(recordings).replace(b"\x84\x80\xd0", b"\x84" + word.to_bytes(2, "big"))
    (row,) = run(run_driver, framed(registers[:-1] + bytes((version,))))["rows"]["module"]
    assert row["current_a"] == current_ca


@pytest.mark.parametrize(("word", "temperature_dc"), [(0, 0), (100, 1000), (101, -10), (140, -400)])
def test_temperatures_above_100_are_below_zero(
    run_driver: RunDriver, recordings: Path, word: int, temperature_dc: int
) -> None:
    registers = published_14s(recordings).replace(b"\x81\x00\x1e", bytes((0x81, 0, word)))
    (cells,) = run(run_driver, framed(registers))["rows"]["cells"]
    assert cells["temperature_1_c"] == temperature_dc


# Warning bits of the maker's document -> our protections.
@pytest.mark.parametrize(
    ("bit", "protections"),
    [
        (0, [17]),
        (1, [14]),
        (2, [2]),
        (3, [3]),
        (4, [4, 6]),
        (5, [8]),
        (6, [9]),
        (7, [13]),
        (8, [17]),
        (9, [5, 7]),
        (10, [0]),
        (11, [1]),
        (12, [11]),
        (13, [11]),
        (14, []),
        (15, []),
    ],
)
def test_warnings_are_the_common_protections(
    run_driver: RunDriver, recordings: Path, bit: int, protections: list[int]
) -> None:
    registers = published_14s(recordings).replace(b"\x8b\x00\x00", b"\x8b" + (1 << bit).to_bytes(2, "big"))
    (row,) = run(run_driver, framed(registers))["rows"]["module"]
    assert row["protections"] == sum(1 << ours for ours in protections)


def test_board_of_24_cells_makes_two_segments(run_driver: RunDriver, recordings: Path) -> None:
    groups = b"".join(bytes((i + 1,)) + (3300 + i).to_bytes(2, "big") for i in range(24))
    rest = published_14s(recordings)[2 + 42 :]
    answer = framed(bytes((0x79, len(groups))) + groups + rest)
    result = run(run_driver, answer)
    assert result["errors"] == [None]
    first, second = result["rows"]["cells"]
    assert (first["cell_01_v"], first["cell_16_v"]) == (3300, 3315)
    assert (second["segment"], second["cell_01_v"], second["cell_08_v"], second["cell_09_v"]) == (1, 3316, 3323, None)
    assert result["rows"]["module"][0]["cell_count"] == 24


def test_recorded_frame_with_any_changed_byte_makes_no_row(run_driver: RunDriver, recordings: Path) -> None:
    """Bytes -4 and -3 say nothing: the sum has two bytes, and of all that the other bytes say."""
    _, good = captured(recordings, GOOD_13S)
    damaged = [good[:i] + bytes((good[i] ^ 0x10,)) + good[i + 1 :] for i in range(len(good))]
    del damaged[-4:-2]
    config = {"bay": 1, "timeout_ms": 5}
    result = run(run_driver, *damaged, polls=len(damaged), config=config)
    assert all(result["errors"])
    assert result["rows"] == {}
    counters = result["counters"]
    counted = counters["bus_timeouts"] + counters["bus_checksum_errors"] + counters["bus_protocol_errors"]
    assert counted == counters["bus_requests"] == len(damaged)


@pytest.mark.parametrize(
    "registers",
    [
        b"",
        b"\x79",
        b"\x79\x03\x01\x0e",
        b"\x88\x00\x00",
        b"\x83\x14",
        b"\xc1\x00",
        b"\x00\x00",
    ],
)
def test_registers_that_do_not_fit_their_frame_are_an_error(run_driver: RunDriver, registers: bytes) -> None:
    result = run(run_driver, framed(registers))
    assert result["errors"] == ["BusProtocolError"]
    assert result["rows"] == {}


def test_register_that_the_board_does_not_have_makes_no_value(run_driver: RunDriver) -> None:
    result = run(run_driver, framed(b"\x83\x14\xef\xba" + b"MODULE-A".ljust(24, b"\0")))
    (row,) = result["rows"]["module"]
    values = {name: value for name, value in row.items() if value is not None}
    assert values.keys() - {"stream", "time_ms"} == {"owner", "bay", "voltage_v"}


def test_frames_of_the_other_jk_protocol_are_counted_errors(run_driver: RunDriver, recordings: Path) -> None:
    """The frames of a Bluetooth bridge (`55 AA EB 90`), whole, spliced and damaged: none of them is an answer here."""
    data = vectors(recordings, "batmon-ha__jk_issue377.json")["data"]
    frames = [bytes.fromhex(value.removeprefix("hex:")) for value in data.values()]
    assert len(frames) == 6
    result = run(run_driver, *frames, polls=len(frames), config={"timeout_ms": 5})
    assert all(result["errors"])
    assert result["rows"] == {}


def test_answer_with_what_a_bridge_spliced_into_it_makes_no_row(run_driver: RunDriver, recordings: Path) -> None:
    data = vectors(recordings, "batmon-ha__jk_issue377.json")["data"]
    _, good = captured(recordings, GOOD_13S)
    splices = [bytes.fromhex(data[name].removeprefix("hex:")) for name in ("JUNK_AFTER_02", "JUNK_AFTER_03")]
    damaged = [splice + good for splice in splices]
    damaged += [good[:cut] + splice + good[cut:] for splice in splices for cut in (1, 3, 40, 200, len(good) - 2)]
    damaged += [good[:cut] for cut in (1, 4, 100, len(good) - 1)]
    result = run(run_driver, *damaged, polls=len(damaged), config={"timeout_ms": 5})
    assert all(result["errors"])
    assert result["rows"] == {}


def test_a_module_that_is_swapped_between_two_polls_gets_its_own_rows_only(
    run_driver: RunDriver, recordings: Path
) -> None:
    registers = published_14s(recordings)
    names = [b"MODULE-A".ljust(24, b"\0"), b"MODULE-B".ljust(24, b"\0")]
    first, other = (framed(registers.replace(b"BT3072020120000200521001", name)) for name in names)
    result = run(run_driver, first, first, first, other, polls=4, then_silent=True)
    assert result["errors"] == [None] * 4
    assert [row["owner"] for row in result["rows"]["module"]] == ["MODULE-A"] * 2 + ["MODULE-B"] * 2
    events = [(row["code"], row["owner"], row["soc_pct"]) for row in result["rows"]["event"]]
    assert events == [
        (BATTERY_IN, "MODULE-A", 150),
        (BATTERY_OUT, "MODULE-A", 150),
        (BATTERY_IN, "MODULE-B", 150),
        (BATTERY_OUT, "MODULE-B", 150),
    ]


def test_code_that_was_damaged_and_passed_the_sum_owns_no_row(run_driver: RunDriver, recordings: Path) -> None:
    """Two bits that flip in opposite ways leave a sum as it was."""
    registers = published_14s(recordings)
    damaged = registers.replace(b"BT30720201", b"BT30730200")
    assert sum(damaged) == sum(registers)
    good, bad = framed(registers), framed(damaged)
    result = run(run_driver, good, good, bad, good, polls=5, then_silent=True)
    assert result["errors"] == [None, "BusProtocolError", None, None, None]
    assert {row["owner"] for row in result["rows"]["module"]} == {"BT3072020120000200521001"}
    assert [row["code"] for row in result["rows"]["event"]] == [BATTERY_IN, BATTERY_OUT]


def test_board_without_a_name_is_known_by_its_device_number(run_driver: RunDriver, recordings: Path) -> None:
    registers = published_14s(recordings).replace(b"BT3072020120000200521001", bytes(24))
    result = run(run_driver, framed(registers.replace(b"Input Us", b"60300001")), polls=2)
    assert result["errors"] == [None, None]
    assert {row["owner"] for row in result["rows"]["module"]} == {"60300001"}
