import subprocess
import sys
from pathlib import Path

import pytest

from swapline_bench import bundle
from swapline_bench.fold_constants import fold_constants

TABLE = "FIRST = 1\nSECOND = FIRST << 4 | 2\nLESS = -SECOND\nNAME = 'x'\n"


def test_imported_constants_become_numbers_and_no_line_moves() -> None:
    user = "from .table import (\n    LESS,\n    NAME,\n    SECOND,\n)\n\n\ndef f(x):\n    return x-LESS+SECOND, NAME\n"
    folded = fold_constants({"node.table": TABLE, "node.user": user})
    assert folded["node.user"] == "from .table import NAME\n\n\n\n\n\n\ndef f(x):\n    return x-(-18)+18, NAME\n"
    assert folded["node.table"] == "\n\n\nNAME = 'x'\n"


def test_import_of_constants_alone_goes_wherever_it_stands() -> None:
    user = "def f():\n    from node.table import FIRST\n\n    return FIRST\n"
    folded = fold_constants({"node.table": TABLE, "node.user": user})
    assert folded["node.user"] == "def f():\n    pass\n\n    return 1\n"


@pytest.mark.parametrize(
    "user",
    [
        "from node import table\nX = table.FIRST\n",
        "from node.table import FIRST as ONE\n",
        "from node.table import FIRST\n\n\ndef f():\n    FIRST = 2\n    return FIRST\n",
        "from node.table import FIRST\n\n\ndef f(FIRST):\n    return FIRST\n",
        "getattr(table, 'FIRST')\n",
    ],
)
def test_what_somebody_asks_for_by_name_stays_defined(user: str) -> None:
    folded = fold_constants({"node.table": TABLE, "node.user": user})
    assert folded["node.user"] == user
    assert folded["node.table"].splitlines()[0] == "FIRST = 1"


def test_what_a_file_that_stays_as_it_is_imports_stays_defined() -> None:
    folded = fold_constants({"node.table": TABLE}, ["from node.table import FIRST\n"])
    assert folded["node.table"].splitlines() == ["FIRST = 1", "", "", "NAME = 'x'"]


def test_constants_of_drivers_stay_for_drivers_that_are_copied_by_hand() -> None:
    assert fold_constants({"swapline_node.drivers.bms": "KELVIN = 2731\n"}) == {
        "swapline_node.drivers.bms": "KELVIN = 2731\n"
    }


def test_what_only_the_compiler_and_readers_need_is_left_out() -> None:
    source = (
        "from micropython import const\n\nTYPE_CHECKING = const(False)\nif TYPE_CHECKING:\n    from typing import Any\n"
        "_LIMIT = const(5)\n\n\ndef f():\n    return _LIMIT\n"
    )
    folded = fold_constants({"node.user": source})["node.user"]
    assert folded == source.replace("from micropython import const", "pass").replace(
        "TYPE_CHECKING = const(False)", ""
    ).replace("if TYPE_CHECKING", "if False")


@pytest.mark.parametrize("value", ["0x40000000", "'text'", "f()", "1.5", "1 if x else 2", "x"])
def test_what_is_no_small_number_keeps_its_name(value: str) -> None:
    sources = {"node.table": f"X = {value}\n", "node.user": "from .table import X\n\nY = [X]\n"}
    assert fold_constants(sources) == sources


def test_a_name_that_is_assigned_twice_is_no_constant() -> None:
    sources = {"node.table": "X = 1\nX = 2\n", "node.user": "from .table import X\n\nY = [X]\n"}
    assert fold_constants(sources) == sources


def test_every_module_of_the_bundle_loads_and_has_no_name_of_the_compilers(tmp_path: Path) -> None:
    firmware = bundle.build(tmp_path / "firmware")
    modules = [
        ".".join(path.relative_to(firmware).with_suffix("").parts)
        for path in sorted(firmware.rglob("*.mpy"))
        if path.stem not in ("esp32", "rp2", "microcontroller", "flash", "cpython")
    ]
    script = (
        f"for name in {modules!r}:\n"
        "    module = __import__(name, None, None, ('*',))\n"
        "    assert not hasattr(module, 'const') and not hasattr(module, 'TYPE_CHECKING'), name\n"
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("micropython"), "-c", script],
        env={"MICROPYPATH": f"{firmware}:.frozen"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
