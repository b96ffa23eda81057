"""Fixtures for driver tests: recordings, and a run of one driver under CPython and under MicroPython."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swapline_wire.decode import decode

REPOSITORY = Path(__file__).parents[3]
FIRMWARE = REPOSITORY / "firmware"
RIG = Path(__file__).with_name("driver_rig.py")
CODES = {"u8": (0xFF, 0xFE), "u16": (0xFFFF, 0xFFFE), "u32": (0xFFFFFFFF, 0xFFFFFFFE)}
CODES |= {"i8": (-0x80, -0x7F), "i16": (-0x8000, -0x7FFF), "i32": (-0x80000000, -0x7FFFFFFF)}


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Return the folder of recordings; skip where there is none."""
    folder = os.environ.get("SWAPLINE_RECORDINGS")
    if not folder:
        pytest.skip("SWAPLINE_RECORDINGS does not name the folder of recorded devices")
    return Path(folder).resolve()


@pytest.fixture(params=["cpython", "micropython"])
def interpreter(request: pytest.FixtureRequest) -> list[str]:
    """Return the command that runs a script: under the test's own Python, and under the real MicroPython."""
    if request.param == "cpython":
        return [sys.executable]
    return [str(Path(sys.executable).with_name("micropython")), "-X", "heapsize=4M"]


def _rows(frame: str) -> list[dict[str, Any]]:
    """Decode one frame into rows; numbers stay raw, what is not available is None, abnormal is "abnormal"."""
    decoded = decode(bytes.fromhex(frame))
    header = decoded.header
    rows = []
    for fields in decoded.rows:
        row: dict[str, Any] = {"stream": decoded.stream.name, "owner": header.owner, "bay": header.bay}
        row["time_ms"] = fields[0] + header.anchor_utc_ms
        for signal, value in zip(decoded.signals, fields[1:], strict=True):
            empty, abnormal = CODES[signal.format]
            row[signal.name] = None if value == empty else "abnormal" if value == abnormal else value
        rows.append(row)
    return rows


@pytest.fixture
def run_driver(interpreter: list[str], tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that runs a job of `driver_rig.py` and returns its result with `rows` decoded, by stream."""

    def run(job: dict[str, Any]) -> dict[str, Any]:
        path = tmp_path / "job.json"
        path.write_text(json.dumps(job))
        done = subprocess.run(
            [*interpreter, str(RIG), str(path)],
            env={**os.environ, "MICROPYPATH": f".frozen:{FIRMWARE}", "PYTHONPATH": str(FIRMWARE)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        *lines, last = done.stdout.splitlines()
        result: dict[str, Any] = json.loads(last)
        rows: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            for row in _rows(line.removeprefix("frame ")):
                rows.setdefault(row["stream"], []).append(row)
        result["rows"] = rows
        return result

    return run
