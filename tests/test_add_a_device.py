"""docs/add-a-device.md, followed step by step: its files, its commands, their output."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swapline_bench import bundle
from swapline_bench.try_driver import Trial
from swapline_node.config import check

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "add-a-device.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^```console\n\$ swapline (.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent
DRIVER = "pzem004t"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a folder with the page's files."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_page_has_its_files_and_commands() -> None:
    assert FILES.keys() == {f"{DRIVER}.txt", f"{DRIVER}.py"}
    assert len(COMMANDS) == 2


@pytest.mark.parametrize(("arguments", "output"), COMMANDS)
def test_commands_print_what_the_page_shows(desk: Path, arguments: str, output: str) -> None:
    done = subprocess.run(
        [BIN / "swapline", *arguments.split()], cwd=desk, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == output, done.stderr
    assert done.returncode == ("No reading." in output)


def test_the_drivers_style_and_types_are_those_of_the_house() -> None:
    source = FILES[f"{DRIVER}.py"]
    inside = str(REPOSITORY / "firmware" / "swapline_node" / "drivers" / f"{DRIVER}.py")
    for command in (["check"], ["format", "--check"]):
        ruff = [str(BIN / "ruff"), *command, "--stdin-filename", inside, "-"]
        done = subprocess.run(ruff, input=source, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(source.splitlines()) < 80


@pytest.fixture
def firmware_with_the_driver(desk: Path) -> Path:
    """Return a source root that has the page's driver beside the others."""
    root = desk / "firmware"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("swapline_wire", "swapline_node"):
        shutil.copytree(REPOSITORY / "firmware" / package, root / package, ignore=ignored)
    for name in bundle.START_FILES:
        shutil.copyfile(REPOSITORY / "firmware" / name, root / name)
    shutil.copyfile(desk / f"{DRIVER}.py", root / "swapline_node" / "drivers" / f"{DRIVER}.py")
    return root


async def test_the_driver_reads_the_same_from_a_bundle(desk: Path, firmware_with_the_driver: Path) -> None:
    compiled = bundle.build(desk / "bundle", source=firmware_with_the_driver)
    outcome = await Trial(DRIVER, [desk / f"{DRIVER}.txt"], firmware=compiled).run()
    first, second = outcome.readings
    assert first.values == {
        "voltage_l1_v": 233.1,
        "current_l1_a": 5.123,
        "power_kw": 1.179,  # 1178.5 W, half up
        "power_factor": 0.99,
        "frequency_hz": 50.0,
        "energy_import_kwh": 123.46,
    }
    assert (second.values["current_l1_a"], second.values["power_kw"]) == (70.321, 16.384)
    assert outcome.counters["bus_checksum_errors"] == outcome.counters["bus_timeouts"] == 1


async def test_a_plain_file_beside_a_bundle_is_read_too(desk: Path) -> None:
    compiled = bundle.build(desk / "bundle")
    shutil.copyfile(desk / f"{DRIVER}.py", compiled / "swapline_node" / "drivers" / f"{DRIVER}.py")
    outcome = await Trial(DRIVER, [desk / f"{DRIVER}.txt"], firmware=compiled).run()
    assert len(outcome.readings) == 2


def test_the_configuration_knows_the_driver_by_its_file(desk: Path, firmware_with_the_driver: Path) -> None:
    bus = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    config = f'{{"fleet": "f", "node": "n", "link": {{"host": "h"}}, "buses": [{bus}]}}'
    script = desk / "check.py"
    script.write_text(
        f"import json\nfrom swapline_node.config import check\nprint(check(json.loads({config!r})).problems)"
    )
    done = subprocess.run(
        [BIN / "micropython", script],
        env={**os.environ, "MICROPYPATH": f".frozen:{firmware_with_the_driver}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "[]\n"
    assert "is not allowed" in check({"buses": [{"devices": [{"driver": DRIVER}]}]}).problems[-1], "it is not shipped"
