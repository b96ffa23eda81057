"""The Modbus master against known answers, good and wrong; floats scaled without floats."""

import json
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_node.bus import BusChecksumError, BusProtocolError
from swapline_node.drivers import modbus, modbus_write

RunDriver = Callable[[dict[str, Any]], dict[str, Any]]


def transactions(recordings: Path, name: str) -> list[tuple[bytes, bytes]]:
    vectors = json.loads((recordings / "modbus" / "minimalmodbus_rtu_vectors.json").read_text())
    return [(bytes.fromhex(t["request_hex"]), bytes.fromhex(t["response_hex"])) for t in vectors["transactions"][name]]


def test_crc_of_the_specification(recordings: Path) -> None:
    vectors = json.loads((recordings / "modbus" / "minimalmodbus_rtu_vectors.json").read_text())
    for answer in vectors["crc_known_answers"]:
        body = bytes.fromhex(answer["input_hex"])
        assert modbus.with_crc(body)[-2:].hex() == answer["crc_bytes_on_wire_hex"]


def test_good_transactions_are_asked_and_read_as_recorded(run_driver: RunDriver, recordings: Path) -> None:
    good = transactions(recordings, "GOOD_RTU_RESPONSES")
    # One is listed as good although its answer comes from unit 2: minimalmodbus has a switch that lets it pass.
    good = [(q, a) for q, a in good if q[0] == a[0]]
    assert len(good) == 96
    queries = [{"body": q[:-2].hex(), "answer": a.hex()} for q, a in good]
    result = run_driver({"queries": queries})
    expected = [a[3:-2].hex() for _, a in good]
    assert result["results"] == expected
    assert result["requests"] == [q.hex() for q, _ in good]


def test_wrong_transactions_give_an_error_and_no_value(run_driver: RunDriver, recordings: Path) -> None:
    wrong = transactions(recordings, "WRONG_RTU_RESPONSES")
    assert len(wrong) == 25
    queries = [{"body": q[:-2].hex(), "answer": a.hex()} for q, a in wrong]
    result = run_driver({"queries": queries})
    assert all(name.startswith("Bus") for name in result["results"]), result["results"]
    counters = result["counters"]
    counted = counters["bus_timeouts"] + counters["bus_checksum_errors"] + counters["bus_protocol_errors"]
    assert counted == 25


def test_a_line_that_echoes_gives_the_answer_behind_the_echo(run_driver: RunDriver) -> None:
    query = {"body": "140301210001", "answer": "140302030234b6"}
    silent = {"body": "140301210002", "answer": ""}
    result = run_driver({"queries": [query, silent, query], "echo": True})
    assert result["results"] == ["0302", "BusTimeout", "0302"]


def test_exchanges_of_energy_meters_are_read(run_driver: RunDriver, recordings: Path) -> None:
    exchanges = json.loads((recordings / "modbus" / "energy_meter_frames.json").read_text())
    exchanges = [e for e in exchanges if e["response"] and "float32_be" in e["decoded"]]
    queries = []
    for exchange in exchanges:
        answer = bytes.fromhex(exchange["response"])
        request = exchange["request"] or "01 04 00 00 00 02 71 CB"
        body = bytes.fromhex(request)[:-2].hex()
        queries.append({"body": body, "answer": answer.hex()})
    results = run_driver({"queries": queries})["results"]
    assert len(results) == 4
    for exchange, payload in zip(exchanges, results, strict=True):
        words = [int(payload[i : i + 8], 16) for i in range(0, len(payload), 8)]
        got = [modbus.scaled_float32(word, 3) for word in words]
        assert got == pytest.approx([v * 1000 for v in exchange["decoded"]["float32_be"]], rel=5e-5)


@pytest.mark.parametrize(
    "query",
    [
        modbus.read(7, 1, 19, 19),
        modbus.read(7, 2, 196, 22),
        modbus.read(7, 3, 107, 3),
        modbus.read(7, 4, 8, 1),
        modbus_write.write_coil(7, 172, on=True),
        modbus_write.write_register(7, 1, 3),
        modbus_write.write_registers(7, 1, [10, 258]),
        modbus_write.write_coils(7, 19, [True, False, True, True, False, False, True, True, True, False]),
    ],
)
def test_queries_are_those_of_the_specification(query: modbus.ModbusQuery) -> None:
    """MODBUS Application Protocol V1.1b3, the examples of sections 6.1 to 6.6, 6.11 and 6.12."""
    examples = {
        "0100130013",
        "0200c40016",
        "03006b0003",
        "0400080001",
        "0500acff00",
        "0600010003",
        "100001000204000a0102",
        "0f0013000a02cd01",
    }
    assert query.request[1:-2].hex() in examples


@given(bits=st.integers(0, 0xFFFFFFFF), power=st.integers(0, 3))
def test_scaled_float32_equals_exact_arithmetic(bits: int, power: int) -> None:
    (number,) = struct.unpack(">f", struct.pack(">I", bits))
    got = modbus.scaled_float32(bits, power)
    if math.isnan(number) or abs(number) >= 2.0**41:
        assert got == modbus.NOT_A_NUMBER
        return
    exact = abs(Fraction(number)) * 10**power
    rounded = math.floor(exact + Fraction(1, 2))
    assert got == (rounded if number > 0 else -rounded)


@given(answer=st.binary(max_size=40), count=st.integers(1, 8))
def test_any_bytes_are_a_payload_or_a_bus_error(answer: bytes, count: int) -> None:
    query = modbus.read(1, 4, 0, count)
    view = memoryview(bytearray(answer))
    needed = query.measure(view, 0)
    while needed <= len(view):
        more = query.measure(view[:needed], needed)
        if more <= needed:
            break
        needed = more
    else:
        return
    try:
        payload = query.check(view[:needed])
    except (BusChecksumError, BusProtocolError):
        return
    assert len(payload) == 2 * count
