"""Recorded battery packs answer a node: what reaches the database equals what the recordings' publishers decoded.

The packs answer with their recorded latencies and silences; each node has one serial line and polls it in MicroPython.
"""

import asyncio
import itertools
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from swapline_bench.capture import read_capture_file
from swapline_bench.database import Database, Row
from swapline_bench.end_to_end import DATABASES, EndToEnd, bus, open_database
from swapline_bench.pack_recording import (
    JBD_BASIC,
    JBD_CODE,
    JK_14S_CODE,
    JK_ALL,
    SEPLOS_CELLS,
    SEPLOS_CODE,
    SEPLOS_PACK,
    SEPLOS_TRANSCRIPT,
    PackRecordings,
)
from swapline_bench.replay import Exchange
from swapline_bench.serial_line import SerialLine
from swapline_bench.sim.transcript import TranscriptFace
from swapline_wire.catalogue import CELLS, MODULE

PACE_ROWS = 20
UP16S_CODE = "16S019000123525032200332"  # the last 24 characters of the recorded UP16S0190001235250322003 32
PERIOD_MS = 1000
BAUDRATE = 115200  # so that recorded latencies, which end with the answer, are what counts
DECIMALS = {signal.name: signal.decimals for stream in (MODULE, CELLS) for signal in stream.signals}


class Line(NamedTuple):
    """One node's line: what answers on it, and the devices that the node asks there."""

    exchanges: Sequence[Exchange]
    devices: Sequence[Mapping[str, Any]]
    damaged: bytes = b""  # the request whose every answer is damaged, or makes no row for another reason

    def damaged_count(self) -> int:
        return sum(exchange.request == self.damaged for exchange in self.exchanges)


def make_lines(vectors: PackRecordings) -> dict[str, Line]:
    def device(driver: str, **options: int) -> dict[str, Any]:
        polled = {"period_ms": PERIOD_MS, "look_ms": 0, "timeout_ms": 500}  # a look would take a poll's recorded answer
        return {"driver": driver, "address": 1, "bay": 1, **polled, **options}

    up16s = device("jbd_up16s")
    patient = {"period_ms": 200, "timeout_ms": 10_000}  # it answers, however late the machine is
    hasty = {"period_ms": 50, "timeout_ms": 200}
    return {
        "jbd": Line(vectors.jbd_capture(), [device("jbd", **patient)]),
        "jbd-variants": Line(vectors.jbd_variants(), [device("jbd", **patient)]),
        "jbd-spliced": Line(vectors.jbd_spliced(), [device("jbd", **hasty)], JBD_BASIC),
        "jk": Line(vectors.jk_published()[:1], [device("jk", **patient)]),
        "jk-in-turn": Line(vectors.jk(), [device("jk", **hasty)], JK_ALL),
        "jk-damaged": Line(vectors.jk_damaged(), [device("jk", **hasty)], JK_ALL),
        "seplos": Line(vectors.seplos(), [device("seplos_v3", **patient)]),
        "seplos-damaged": Line(vectors.seplos_damaged(), [device("seplos_v3", **hasty)], SEPLOS_PACK),
        "one-pack": Line(vectors.two_packs(), [up16s]),
        "two-packs": Line(vectors.two_packs(), [up16s, {**up16s, "address": 2, "bay": 2}]),
    }


class Played(NamedTuple):
    """What was answered, and what became of it."""

    vectors: PackRecordings
    lines: dict[str, Line]
    counters: dict[str, dict[str, int]]
    databases: dict[str, Database]
    module: dict[str, list[Row]]
    cells: dict[str, list[Row]]


async def play_all(folder: Path, lines: Mapping[str, Line], urls: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Let every node poll its line until each has polled enough, and return their counters."""
    async with EndToEnd(folder) as path:
        for database in DATABASES:
            await path.start_gateway(database, urls)

        async def play(name: str, line: Line) -> None:
            wire = await path.stack.enter_async_context(SerialLine(name, baudrate=BAUDRATE))
            pack = TranscriptFace(line.exchanges)
            wire.attach(pack)
            everything = {"report": "all"}
            await path.start_node(
                name,
                [bus("line", wire.path, *line.devices)],
                streams={"module": everything, "cells": everything, "node": everything},
            )
            if line.damaged:
                await pack.wait_asked(line.damaged, line.damaged_count() + 1)
            else:
                await path.tap.wait_rows(name, "module", PACE_ROWS)

        await asyncio.gather(*(play(name, line) for name, line in lines.items()))
        await asyncio.gather(*(path.wait_health(name) for name in lines))
        counters = {name: path.tap[name].last("node") for name in lines}
        await path.stop()
    return counters


@pytest.fixture(scope="module")
def played(
    recordings: Path,
    database_urls: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Played:
    folder = tmp_path_factory.mktemp("bms")
    vectors = PackRecordings(recordings)
    lines = make_lines(vectors)
    counters = asyncio.run(play_all(folder, lines, database_urls))
    databases = {name: open_database(name, folder, database_urls) for name in DATABASES}
    module = {name: databases["duckdb"].rows("module", name) for name in lines}
    cells = {name: databases["duckdb"].rows("cells", name) for name in lines}
    return Played(vectors, lines, counters, databases, module, cells)


def assert_values(row: Row, expected: Mapping[str, float]) -> None:
    """Compare to half the last digit of each signal."""
    for name, value in expected.items():
        half_step = 0.5 / 10 ** DECIMALS[name] + 1e-9
        assert row.get(name) == pytest.approx(value, rel=0, abs=half_step), name


def test_jbd_capture_is_stored_as_its_publishers_decoded_it(played: Played) -> None:
    published = played.vectors.jbd_published("BASICINFO_FRAME")
    assert len(published) == 13
    temperatures = {name: published.pop(name) for name in list(published) if name.startswith("temperature")}
    rows = played.module["jbd"]
    assert len(rows) >= PACE_ROWS
    of_cells = played.vectors.jbd_published("CELLINFO_FRAME")
    statistics = {name: value for name, value in of_cells.items() if name.startswith("cell_voltage")}
    # The board was asked twice, its second cell moved by a millivolt, and the publishers took the first answer.
    first = [row for row in rows if row["cell_voltage_mean_v"] == rows[0]["cell_voltage_mean_v"]]
    for row in first:
        assert_values(row, {**published, **statistics})
    assert {row["module"] for row in rows} == {JBD_CODE}
    cells = played.cells["jbd"][0]
    assert_values(cells, {name: value for name, value in of_cells.items() if name not in statistics})
    assert_values(cells, temperatures)


def test_every_published_jbd_frame_is_stored_with_its_values(played: Played) -> None:
    """Each frame's notes say `total_voltage: 15.60 V`, `errors_bitmask: 0x0001` and so on."""
    vectors = played.vectors
    names = [name for name in vectors.jbd if name.startswith("BASICINFO")]
    rows = played.module["jbd-variants"]
    assert len(rows) >= len(names)
    for row, name in zip(rows, itertools.cycle(names), strict=False):
        notes, payload = vectors.jbd_notes[name], vectors.jbd[name]
        errors = struct.unpack_from(">H", payload, 16)[0]
        if stated := re.search(r"errors_bitmask[:=\s]+(0x[0-9A-F]+)", notes):
            assert int(stated[1], 16) == errors
        assert row["protections"] == errors
        for pattern, signal in (
            (r"total_voltage: ([\d.]+) V", "voltage_v"),
            (r"current: ([\d.]+) A", "current_a"),
            (r"capacity_remaining: ([\d.]+) Ah", "capacity_remaining_ah"),
            (r"nominal_capacity: ([\d.]+) Ah", "capacity_full_ah"),
            (r"charging_cycles: (\d+)", "cycles"),
            (r"soc: (\d+) %", "soc_pct"),
        ):
            if found := re.search(pattern, notes):
                assert_values(row, {signal: float(found[1])})


def test_jk_frame_is_stored_as_its_publishers_decoded_it(played: Played) -> None:
    expected = {
        "voltage_v": 53.59,
        "current_a": 2.08,
        "temperature_mosfet_c": 29,
        "soc_pct": 15,
        "cycles": 4,
        "capacity_full_ah": 14,
        "cell_voltage_min_v": 3.811,
        "cell_voltage_min_cell": 9,
        "cell_voltage_max_v": 3.835,
        "cell_voltage_max_cell": 12,
        "cell_voltage_mean_v": 3.828,
        "cell_count": 14,
        "protections": 0,
        "switches": 3,
    }
    rows = played.module["jk"]
    assert len(rows) >= PACE_ROWS
    for row in rows:
        assert_values(row, expected)
    assert {row["module"] for row in rows} == {JK_14S_CODE}
    assert_values(played.cells["jk"][0], {"cell_01_v": 3.821, "temperature_1_c": 30, "temperature_2_c": 28})


def test_jk_boards_that_change_places_at_every_question_own_no_row(played: Played) -> None:
    """A code must come twice before it owns a row, and here it never does."""
    assert played.module["jk-in-turn"] == []
    assert played.counters["jk-in-turn"]["bus_protocol_errors"] > 0


def test_seplos_capture_is_stored_with_its_values(played: Played) -> None:
    """Layout of the pack's block: XZH-ElecTech, BMS3.0 Modbus-RTU Protocol; each of its answers in turn."""
    transcript = read_capture_file(played.vectors.vectors / SEPLOS_TRANSCRIPT).exchanges
    packs = [e.response for e in transcript if e.request == SEPLOS_PACK]
    blocks = [e.response for e in transcript if e.request == SEPLOS_CELLS]
    rows = played.module["seplos"]
    assert len(rows) >= PACE_ROWS
    assert {row["module"] for row in rows} == {SEPLOS_CODE}
    for row, pack, block in zip(rows, itertools.cycle(packs), itertools.cycle(blocks), strict=False):
        assert pack is not None
        assert block is not None
        voltage, current, remaining, full, out, soc, soh, cycles, mean = struct.unpack_from(">HhHHHHHHH", pack, 3)
        cells_mv = struct.unpack_from(">16H", block, 3)
        assert_values(
            row,
            {
                "voltage_v": voltage / 100,
                "current_a": current / 100,
                "capacity_remaining_ah": remaining / 100,
                "capacity_full_ah": full / 100,
                "charge_out_ah": out * 10,
                "soc_pct": soc / 10,
                "soh_pct": soh / 10,
                "cycles": cycles,
                "cell_voltage_min_v": min(cells_mv) / 1000,
                "cell_voltage_max_v": max(cells_mv) / 1000,
                "cell_count": 16,
            },
        )
        assert row["cell_voltage_mean_v"] == pytest.approx(mean / 1000, abs=0.001), "the pack's own mean"
        assert "protections" not in row, "the pack refused its state block"


def test_seplos_cells_are_stored_one_by_one(played: Played) -> None:
    transcript = read_capture_file(played.vectors.vectors / SEPLOS_TRANSCRIPT).exchanges
    blocks = [struct.unpack_from(">26H", e.response or b"", 3) for e in transcript if e.request == SEPLOS_CELLS]
    row = played.cells["seplos"][0]
    assert_values(row, {f"cell_{i + 1:02d}_v": blocks[0][i] / 1000 for i in range(16)})
    assert_values(row, {f"temperature_{i + 1}_c": blocks[0][16 + i] / 10 - 273.1 for i in range(4)})
    assert "temperature_5_c" not in row


def test_living_pack_keeps_its_pace_beside_a_mostly_silent_one(played: Played) -> None:
    alone, beside = played.module["one-pack"], [row for row in played.module["two-packs"] if row["bay"] == 1]
    start = max(alone[0]["time_utc_ms"], beside[0]["time_utc_ms"])
    end = min(alone[-1]["time_utc_ms"], beside[-1]["time_utc_ms"])
    counts = [sum(start <= row["time_utc_ms"] <= end for row in rows) for rows in (alone, beside)]
    assert counts[1] / counts[0] >= 0.9, f"{counts[1]} rows beside it, {counts[0]} alone"
    assert counts[0] >= 0.8 * (end - start) / PERIOD_MS
    assert played.counters["two-packs"]["bus_timeouts"] > played.counters["one-pack"]["bus_timeouts"]


def test_pack_of_the_two_equals_what_its_other_protocol_says(played: Played) -> None:
    """The same pack was asked with function 0x45 as well, a simpler view of the same figures, some seconds later."""
    recorded = read_capture_file(played.vectors.vectors / "transcript_jbd_up16s_two_packs.json").exchanges
    simple = next(e.response for e in recorded if e.request[:2] == b"\x01\x45")
    assert simple is not None
    cells_mv = struct.unpack_from(">16H", simple, 10)
    highest, lowest, voltage = struct.unpack_from(">3H", simple, 42)
    (remaining,) = struct.unpack_from(">H", simple, 58)
    for row in (row for row in played.module["two-packs"] if row["bay"] == 1):
        assert_values(row, {"voltage_v": voltage / 100, "capacity_remaining_ah": remaining / 100})
        assert_values(row, {"cell_voltage_max_v": highest / 1000, "cell_voltage_min_v": lowest / 1000})
        assert_values(row, {"current_a": 0, "capacity_full_ah": 100, "cell_count": 16})
        assert row["module"] == UP16S_CODE
    row = played.cells["two-packs"][0]
    for i, cell_mv in enumerate(cells_mv):
        assert row[f"cell_{i + 1:02d}_v"] == pytest.approx(cell_mv / 1000, abs=0.0011)


@pytest.mark.parametrize("name", ["jbd-spliced", "jk-damaged", "seplos-damaged"])
def test_damaged_answers_are_counted_and_make_no_value(played: Played, name: str) -> None:
    assert played.module[name] == []
    assert played.cells[name] == []
    counters = played.counters[name]
    errors = sum(counters[kind] for kind in ("bus_timeouts", "bus_checksum_errors", "bus_protocol_errors"))
    assert errors >= played.lines[name].damaged_count(), "each damaged answer is an error"
    assert errors >= counters["bus_requests"] // 3, "every poll fails, after one or two questions that the names answer"
    assert counters["bus_checksum_errors"] > 0


def identify(row: Row) -> dict[str, Any]:
    """Return whose row it is and what it says, in what all databases share: InfluxDB's tags are texts."""
    values = {name: float(row[name]) for name in DECIMALS if name in row}
    return {"time": row["time_utc_ms"], "module": row["module"], "bay": str(row["bay"]), **values}


@pytest.mark.parametrize("database", DATABASES[1:])
@pytest.mark.parametrize("stream", ["module", "cells"])
@pytest.mark.parametrize("name", ["jbd", "jbd-variants", "jk", "seplos", "one-pack", "two-packs"])
def test_other_databases_hold_the_same_rows_of_the_same_modules(
    played: Played, name: str, stream: str, database: str
) -> None:
    expected = played.module[name] if stream == "module" else played.cells[name]
    stored = played.databases[database].rows(stream, name)
    assert expected
    assert [identify(row) for row in stored] == [identify(row) for row in expected]
