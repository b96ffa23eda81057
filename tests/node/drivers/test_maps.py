"""Our own register maps: document, driver and catalogue agree, a recorded trip passes exactly; and a meter's floats."""

import csv
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.trip_recording import TRIP_SIGNALS, TRIPS
from swapline_node.drivers.modbus import with_crc
from swapline_node.drivers.refreshed import Refreshed
from swapline_node.drivers.sdm630 import PHASES_TABLE, TOTALS_TABLE
from swapline_node.drivers.slot_charger import SlotCharger
from swapline_node.drivers.vcu import Vcu
from swapline_node.register_table import rows_of

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]
DOCUMENTS = Path(__file__).parents[3] / "docs"
ROW = re.compile(r"\| 0x([0-9A-F]{4}) \| (\d) \| `(\w+)` \| (\w+) \| (\d) \| (\S+) \| (-?\d+)\.\.(\d+) \|")
MAPS = [("vehicle-controller.md", Vcu), ("slot-charger.md", SlotCharger)]


def document(name: str) -> str:
    return (DOCUMENTS / name).read_text()


def answer_of(
    driver: type[Refreshed],
    address: int,
    alive: int,
    values: Mapping[str, int | None],
    *,
    version: int = 2,
    asked: int = 2,
) -> str:
    """Return what a device of map `version` answers to the request of version `asked`; others are not available."""
    empty = {"u16": 0xFFFF, "i16": 0x8000, "u32": 0xFFFFFFFF, "i32": 0x80000000}
    data = struct.pack(">HHHH", driver.MAP_ID, version, alive, 0)
    for _, kind, signal, _, _ in rows_of(driver.TABLE)[: None if asked == 2 else -1]:
        value = values.get(signal)
        bits = 32 if kind.endswith("32") else 16
        raw = empty[kind] if value is None else value
        data += (raw & (1 << bits) - 1).to_bytes(bits // 8, "big")
    return with_crc(bytes((address, 4, len(data))) + data).hex()


def request_of(driver: type[Refreshed], address: int, *, version: int = 2) -> str:
    count = rows_of(driver.TABLE)[-1][0] + (2 if version == 2 else 0)
    return with_crc(struct.pack(">BBHH", address, 4, 0, count)).hex()


def answers_of(driver: type[Refreshed], address: int, readings: Sequence[Mapping[str, int | None]]) -> dict[str, Any]:
    """Return the answers of a device of version 2 that is polled once a reading: first it is asked for version 1."""
    first = answer_of(driver, address, 0, readings[0], asked=1)
    whole = [answer_of(driver, address, alive, values) for alive, values in enumerate(readings)]
    return {request_of(driver, address, version=1): [first], request_of(driver, address): whole}


@pytest.mark.parametrize(("name", "driver"), MAPS)
def test_document_driver_and_catalogue_agree(name: str, driver: type[Refreshed]) -> None:
    rows = ROW.findall(document(name))
    told = [(int(a, 16), kind, signal) for a, _, signal, kind, _, _, _, _ in rows]
    assert told == [row[:3] for row in rows_of(driver.TABLE)]
    signals = [(s.name, str(s.decimals), s.unit or "-", str(s.minimum), str(s.maximum)) for s in driver.STREAM.signals]
    assert [(signal, d, unit, low, high) for _, _, signal, _, d, unit, low, high in rows] == signals
    next_address = 4
    for address, registers, *_ in rows:
        assert int(address, 16) == next_address
        next_address += int(registers)
    assert f"address 0x0000, {next_address} registers" in document(name)


@pytest.mark.parametrize(
    ("name", "driver", "expected"),
    [
        (
            "vehicle-controller.md",
            "vcu",
            {
                "speed_kmh": 1425,
                "traction_current_a": -1880,
                "motor_torque_nm": 3700,
                "cargo_temperature_c": None,
                "request_id": 99,
            },
        ),
        (
            "slot-charger.md",
            "slot_charger",
            {"charger_power_kw": 10944, "session_duration_s": 754, "request_id": 99, "bay": 2},
        ),
    ],
)
def test_example_of_the_document_is_read(
    run_driver: RunDriver, name: str, driver: str, expected: dict[str, int | None]
) -> None:
    example = document(name).split("```")[1]
    request, answer = (re.sub(r"\s", "", part) for part in example.replace("->", "").split("<-"))
    address = int(request[:2], 16)
    first = answer_of(Vcu if driver == "vcu" else SlotCharger, address, 7, {}, asked=1)
    asked_first = request_of(Vcu if driver == "vcu" else SlotCharger, address, version=1)
    config = {"address": address, "bay": 2 if driver == "slot_charger" else 0}
    result = run_driver(
        {"driver": driver, "config": config, "answers": {asked_first: [first], request: [answer]}, "polls": 1}
    )
    (rows,) = result["rows"].values()
    assert {key: rows[0][key] for key in expected} == expected
    assert "abnormal" not in rows[0].values()


def test_one_refresh_is_one_row_and_a_dead_controller_is_an_error(run_driver: RunDriver) -> None:
    answers = [answer_of(Vcu, 1, alive, {"speed_kmh": alive}) for alive in (65534, 65535, 65535, 0)]
    wrong_map = with_crc(bytes.fromhex(answers[0])[:3] + b"XX" + bytes.fromhex(answers[0])[5:-2]).hex()
    first = {request_of(Vcu, 1, version=1): [answer_of(Vcu, 1, 65534, {}, asked=1)]}
    job = {"driver": "vcu", "answers": first | {request_of(Vcu, 1): [*answers, wrong_map]}, "polls": 5}
    result = run_driver(job)
    assert result["errors"] == [None, None, None, None, "BusProtocolError"]
    assert [row["speed_kmh"] for row in result["rows"]["vehicle"]] == ["abnormal", None, 0]


@pytest.mark.parametrize(("driver", "name"), [(Vcu, "vcu"), (SlotCharger, "slot_charger")])
def test_device_of_map_version_1_has_no_request_id_and_is_never_asked_for_it(
    run_driver: RunDriver, driver: type[Refreshed], name: str
) -> None:
    answers = [answer_of(driver, 1, alive, {"faults": alive}, version=1, asked=1) for alive in (1, 2)]
    result = run_driver({"driver": name, "answers": {request_of(driver, 1, version=1): answers}, "polls": 2})
    assert result["errors"] == [None, None]
    rows = result["rows"][driver.STREAM.name]
    assert [(row["faults"], row["request_id"]) for row in rows] == [(1, None), (2, None)]


def test_controller_that_was_replaced_by_one_of_version_1_is_read_again_after_one_refusal(
    run_driver: RunDriver,
) -> None:
    short, whole = request_of(Vcu, 1, version=1), request_of(Vcu, 1)
    refusal = with_crc(bytes((1, 0x84, 2))).hex()
    older = answer_of(Vcu, 1, 9, {"speed_kmh": 300}, version=1, asked=1)
    answers = answers_of(Vcu, 1, [{"speed_kmh": 100, "request_id": 5}])
    answers[short].append(older)
    answers[whole].append(refusal)
    result = run_driver({"driver": "vcu", "answers": answers, "polls": 3})
    assert result["errors"] == [None, "BusRefused", None]
    assert [(row["speed_kmh"], row["request_id"]) for row in result["rows"]["vehicle"]] == [(100, 5), (300, None)]


def test_values_outside_their_limits_and_codes_never_become_numbers(run_driver: RunDriver) -> None:
    values = {
        "speed_kmh": 25001,
        "drive_mode": 255,  # would be the catalogue's "not available" if it were cut to a byte
        "gear": 0xFFFE,
        "traction_current_a": -0x7FFFFFFF,
        "ambient_temperature_c": -0x7FFF,
        "soc_pct": 1000,
    }
    (row,) = run_driver({"driver": "vcu", "answers": answers_of(Vcu, 1, [values]), "polls": 1})["rows"]["vehicle"]
    assert all(row[name] == "abnormal" for name in values if name != "soc_pct")
    assert row["soc_pct"] == 1000
    assert row["cabin_temperature_c"] is None


@pytest.mark.parametrize("trip", TRIPS)
def test_recorded_trip_passes_through_the_registers_exactly(run_driver: RunDriver, recordings: Path, trip: str) -> None:
    decimals = {signal.name: signal.decimals for signal in Vcu.STREAM.signals}
    with (recordings / "ev_field" / f"{trip}_1Hz.csv").open(newline="") as file:
        expected = [
            {
                signal: int((Decimal(row[column]) * 10 ** decimals[signal]).quantize(Decimal(1), ROUND_HALF_UP))
                for column, signal in TRIP_SIGNALS.items()
            }
            for row in csv.DictReader(file)
        ][:600]
    result = run_driver({"driver": "vcu", "answers": answers_of(Vcu, 1, expected), "polls": len(expected)})
    rows = result["rows"]["vehicle"]
    assert [{signal: row[signal] for signal in TRIP_SIGNALS.values()} for row in rows] == expected


def test_meter_floats_arrive_as_the_catalogues_integers(run_driver: RunDriver) -> None:
    quantities = {
        0x0000: 230.2,
        0x0002: 224.14661,
        0x0004: float("nan"),
        0x0006: -12.3456,
        0x0008: 0.0004,
        0x000A: 99.9996,
        0x000C: -2841.49,
        0x000E: 2841.5,
        0x0010: 0.0,
        0x0034: 123456.5,
        0x003C: -17.2,
        0x003E: -0.987,
        0x0046: 49.985,
        0x0048: 1234567.9,
        0x004A: 5e9,
    }

    def block(start: int, count: int) -> dict[str, list[str]]:
        data = b"".join(struct.pack(">f", quantities.get(a, 0.0)) for a in range(start, start + count, 2))
        request = with_crc(struct.pack(">BBHH", 1, 4, start, count)).hex()
        return {request: [with_crc(bytes((1, 4, len(data))) + data).hex()]}

    answers = block(0, 18) | block(0x34, 24)
    (row,) = run_driver({"driver": "sdm630", "answers": answers, "polls": 1})["rows"]["meter"]
    expected = {
        "voltage_l1_v": 23020,
        "voltage_l2_v": 22415,
        "voltage_l3_v": "abnormal",
        "current_l1_a": -12346,
        "current_l2_a": 0,
        "current_l3_a": 100000,
        "power_l1_kw": -2841,
        "power_l2_kw": 2842,
        "power_l3_kw": 0,
        "power_kw": 123457,
        "reactive_power_kvar": -17,
        "power_factor": -987,
        "energy_import_kwh": 123456788,  # the nearest single to 1234567.9 is 1234567.875
        "energy_export_kwh": "abnormal",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["frequency_hz"] in (4998, 4999)
    mapped = {row[2] for row in rows_of(PHASES_TABLE) + rows_of(TOTALS_TABLE)}
    assert mapped == {name for name in row if name not in ("stream", "owner", "bay", "time_ms")}
