"""What boards get of a driver's register tables is what the driver's text says."""

import ast
from pathlib import Path

import pytest

import swapline_node.drivers
from swapline_bench.register_maps import pack_tables
from swapline_node.drivers.modbus import RegisterMap
from swapline_node.register_table import pack_rows, rows_of
from swapline_wire.catalogue import MODULE, SLOT

FOLDER = Path(swapline_node.drivers.__file__).parent
TABLE = "0x10 u16 voltage_v 0 0 0x11 i16 current_a 1 -5 "
SOURCES = [
    f'MAP = RegisterMap(MODULE, 16, "{TABLE}")\nx = 1\n',
    f'TABLE = (\n    "{TABLE[:23]}"  # its unit\n    "{TABLE[23:]}"\n)\nMAP = RegisterMap(MODULE, 16, TABLE)\nx = 1\n',
    f'class A:\n    TABLE = "é"\n    TEXT = "{TABLE}"\n    MAP = RegisterMap(MODULE, 16, TEXT)\n',
]


@pytest.mark.parametrize("source", SOURCES, ids=["in its place", "by its name", "in a class"])
def test_text_becomes_bytes_and_no_line_moves(source: str) -> None:
    packed = pack_tables(source)
    constants = [node.value for node in ast.walk(ast.parse(packed)) if isinstance(node, ast.Constant)]
    assert pack_rows(MODULE, TABLE) in constants
    assert TABLE not in constants
    assert [line[:4] for line in packed.splitlines()][-1] == source.splitlines()[-1][:4]
    assert packed.count("\n") == source.count("\n")


@pytest.mark.parametrize("name", ["jbd", "jbd_up16s", "sdm630", "seplos_v3", "slot_charger", "vcu"])
def test_every_driver_s_tables_are_packed(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text()
    packed = pack_tables(source)
    assert packed.count("\n") == source.count("\n")
    assert source.count("RegisterMap(") == sum(
        isinstance(node, ast.Constant) and isinstance(node.value, bytes) and node.value not in _bytes_of(source)
        for node in ast.walk(ast.parse(packed))
    )


def _bytes_of(source: str) -> set[bytes]:
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, bytes)}


def test_a_map_of_bytes_reads_what_a_map_of_text_reads() -> None:
    table = "0x0004 u16 occupied 0 0 0x0006 i16 charger_temperature_c 0 0 0x000B u32 energy_kwh 0 0"
    answer = memoryview(bytes(range(1, 19)))
    rows = []
    for form in (table, pack_rows(SLOT, table)):
        values = [0] * len(SLOT.signals)
        made = RegisterMap(SLOT, 4, form, has_codes=True)
        made.fill(answer, values)
        rows.append((made.registers, values))
    assert rows[0] == rows[1]
    assert rows[0][0] == 9
    assert rows_of(table)[1] == (6, "i16", "charger_temperature_c", 0, 0)
