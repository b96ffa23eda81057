"""`swapline try-driver`: the real driver in MicroPython against a capture, and what it says of both."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from swapline_bench.faces.gnss import sentence
from swapline_bench.faces.jk import READ_ALL, JkFace, frame
from swapline_bench.faces.modbus import crc16
from swapline_bench.try_driver import command
from tests.bench.test_statement import make_module

ASK = frame(READ_ALL, b"\0", source=3, kind=0)
OWN_DRIVER = """
from swapline_node.driver import Driver
from swapline_node.drivers.modbus import READ_INPUT_REGISTERS, read
from swapline_wire.catalogue import METER


class OwnMeter(Driver):
    STREAMS = (METER,)

    def __init__(self, sampler, clock, counters, device_config):
        super().__init__(clock, counters, device_config)
        self._source = sampler.source(METER, self.bay)
        self._query = read(self.address, READ_INPUT_REGISTERS, 0, 1)

    async def poll(self, bus):
        answer = await bus.ask(self._query, self.timeout_ms)
        self._source.clear()
        self._source.values[self._source.index("voltage_l1_v")] = {VALUE}
        self._source.commit()
"""


def with_crc(body: str) -> str:
    return (bytes.fromhex(body) + crc16(bytes.fromhex(body))).hex()


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def jk_capture(tmp_path: Path) -> tuple[str, Any]:
    module = make_module()
    answer = JkFace(lambda: module).answer(ASK)
    assert answer is not None
    return write(tmp_path / "jk.txt", f">>> {ASK.hex()}", f"<<< {answer.hex(':')}"), module


def test_readings_are_shown_with_their_units(tmp_path: Path) -> None:
    path, module = jk_capture(tmp_path)
    result = run("jk", path)
    assert result.exit_code == 0, result.output
    assert f"module of {module.code}, bay 1 (the last of 4 readings)" in result.output
    assert re.search(r"^  temperature_mosfet_c +25.0 degC$", result.output, re.MULTILINE)
    assert f"  cell_01_v        {module.cell_voltages_v[0]:.3f} V\n" in result.output
    assert "4 polls, bus_requests 5, bus_timeouts 0" in result.output


def test_json_has_every_reading_and_the_counters(tmp_path: Path) -> None:
    path, module = jk_capture(tmp_path)
    result = json.loads(run("jk", path, "--json", "--polls", "2", "--bay", "3").output)
    assert [row["values"]["voltage_v"] for row in result["streams"]["module"]] == [module.voltage_v] * 2
    assert {row["bay"] for row in result["streams"]["module"]} == {3}
    assert (result["polls"], result["counters"]["bus_requests"], result["never_asked"]) == (2, 3, [])


def test_what_the_capture_lacks_and_what_the_driver_never_asks_is_named(tmp_path: Path) -> None:
    other = with_crc("010300000001")
    path = write(tmp_path / "other.txt", f">>> {other}", f"<<< {with_crc('0103020001')}")
    result = run("jk", path)
    assert result.exit_code == 1
    assert "No reading." in result.output
    assert f"Asked, but not in the capture: {ASK.hex()} (x 4)" in result.output
    assert f"In the capture, but never asked: {other}" in result.output


def test_damaged_answers_are_counted_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "damaged.txt", f">>> {ASK.hex()}", f"<<< {frame(READ_ALL, b'')[:-1].hex()}00")
    result = json.loads(run("jk", path, "--json").output)
    assert result["counters"]["bus_checksum_errors"] == result["polls"] == 4
    assert result["errors"] == {"BusChecksumError: sum": 4}
    assert result["streams"] == {}


def test_receiver_that_talks_by_itself_is_heard(tmp_path: Path) -> None:
    log = "".join(sentence(f"GNRMC,12000{i}.00,A,4807.0380,N,01131.0000,E,0.0,0.0,010126,,,A") for i in range(3))
    path = tmp_path / "log.nmea"
    path.write_bytes(log.encode())
    result = json.loads(run("gnss", str(path), "--json").output)
    assert result["streams"]["position"][0]["values"]["latitude_deg"] == pytest.approx(48.1173)


def test_driver_of_the_users_own_is_named_by_its_file(tmp_path: Path) -> None:
    capture = write(tmp_path / "meter.txt", f">>> {with_crc('010400000001')} <<< {with_crc('0104020001')}")
    driver = write(tmp_path / "own_meter.py", OWN_DRIVER.replace("{VALUE}", "answer[0] << 8 | answer[1]"))
    result = run(driver, capture)
    assert result.exit_code == 0, result.output
    assert "  voltage_l1_v  0.01 V" in result.output
    broken = write(tmp_path / "own_meter.py", OWN_DRIVER.replace("{VALUE}", "answer[99]"))
    result = run(broken, capture)
    assert result.exit_code == 1
    assert "The driver failed:" in result.output
    assert "IndexError" in result.output
    assert "own_meter.py" in result.output
    assert "asyncio" not in result.output
    nameless = write(tmp_path / "another.py", OWN_DRIVER)
    assert "drivers/another.py has no class Another" in run(nameless, capture).output


def test_stream_that_the_driver_does_not_declare_is_named(tmp_path: Path) -> None:
    capture = write(tmp_path / "meter.txt", f">>> {with_crc('010400000001')} <<< {with_crc('0104020001')}")
    text = OWN_DRIVER.replace("{VALUE}", "1")
    assert "STREAMS" not in run(write(tmp_path / "own_meter.py", text), capture).output
    forgetful = write(tmp_path / "own_meter.py", text.replace("STREAMS = (METER,)", "STREAMS = ()"))
    assert "It fills meter, and its STREAMS does not say so" in run(forgetful, capture).output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jkk", "There is no driver jkk; did you mean jk?"),
        ("nowhere.py", "There is no file nowhere.py."),
    ],
)
def test_driver_that_is_not_there_is_told_so(tmp_path: Path, name: str, words: str) -> None:
    path, _ = jk_capture(tmp_path)
    result = run(name, path)
    assert result.exit_code == 1
    assert words in result.output
