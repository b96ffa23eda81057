"""`swapline sim replay`, `swapline sim gnss`: recordings answer as their devices did, and say what was missing."""

import asyncio
import json
import os
import select
from pathlib import Path
from typing import Any

import pynmeagps  # type: ignore[import-untyped]
import pytest
import serial
from click.testing import CliRunner

from swapline_bench.sim.command import sim as sim_command
from swapline_bench.sim.control import send
from swapline_bench.sim.recording import read_recording
from tests.bench.sim_process import PATIENCE_S, SimProcess, ask_driver, until_asked


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test's simulators a runtime folder of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def exchange(port: str, request: bytes, length: int) -> bytes:
    with serial.Serial(port, 9600, timeout=PATIENCE_S) as line:
        line.write(request)
        return line.read(length)


async def ask_in_vain(port: str, request: bytes, *, count: int) -> bytes:
    """Return what has come back when the device has taken the request, as its `count`-th."""
    with serial.Serial(port, 9600, timeout=0) as line:
        line.write(request)
        await until_asked(count, "replay")
        return line.read(1)


async def test_capture_answers_and_names_what_it_does_not_know(tmp_path: Path) -> None:
    capture = tmp_path / "capture.txt"
    capture.write_text(">>> 01 02 03 04 <<< 05 06\n>>> AA BB\n<<< 01\n>>> 01 02 03 04 <<< 07 08\n>>> CC DD <<< 00\n")
    async with SimProcess("replay", str(capture), "--json") as sim:
        answers = [await asyncio.to_thread(exchange, sim.port, bytes((1, 2, 3, 4)), 2) for _ in range(3)]
        assert answers == [b"\x05\x06", b"\x07\x08", b"\x05\x06"]
        assert await asyncio.to_thread(exchange, sim.port, b"\xaa\xbb", 1) == b"\x01"
        assert await ask_in_vain(sim.port, b"\x11\x22\x33", count=5) == b""
        end = await sim.end()
    assert end["unknown"] == {"11 22 33": 1}
    assert end["never_asked"] == ["cc dd"]
    assert end["requests"]["01 02 03 04"] == 3
    assert "asked and not in the recording:" in sim.stderr
    assert "11 22 33" in sim.stderr


async def test_recorded_silence_is_silence_and_noise_before_a_request_is_unknown(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript.json"
    entries = [{"request": "0102", "response": None}, {"request": "0304", "response": "ff", "latency_s": 0.3}]
    transcript.write_text(json.dumps({"transactions": entries}))
    async with SimProcess("replay", str(transcript), "--json") as sim:
        assert await ask_in_vain(sim.port, b"\x01\x02", count=1) == b""
        started_s = asyncio.get_running_loop().time()
        assert await asyncio.to_thread(exchange, sim.port, b"\x99\x03\x04", 1) == b"\xff"
        assert asyncio.get_running_loop().time() - started_s >= 0.3
        end = await sim.end()
    assert end["unknown"] == {"99": 1}
    assert (end["asked"], end["answered"]) == (3, 1)


@pytest.mark.parametrize(
    ("name", "driver", "baudrate", "expected"),
    [
        ("bms/captures/JBD-SP04S034-L4S-200A-B-U.txt", "jbd", 9600, {"module.voltage_v": 15.6}),
        ("bms/vectors/transcript_jbd_up16s_two_packs.json", "jbd_up16s", 9600, {"module.voltage_v": 53.17}),
        ("bms/captures/JBD-UP16S020-two-devices.txt", "jbd_up16s", 9600, {"module.voltage_v": 53.17}),
        ("bms/captures/JK-B2A24S20P-10.07-UART-TTL.txt", "jk", 115200, {"module.voltage_v": 53.13}),
    ],
)
async def test_recorded_packs_are_read_by_the_firmware(
    recordings: Path, name: str, driver: str, baudrate: int, expected: dict[str, float]
) -> None:
    async with SimProcess("replay", str(recordings / name), "--baudrate", str(baudrate), "--json") as sim:
        read = await ask_driver(driver, {"port": sim.port, "baudrate": baudrate, "parity": "none"})
        assert {name: read.get(name) for name in expected} == pytest.approx(expected, abs=0.011)
        end = await sim.end()
    assert end["answered"] > 0


def test_every_recording_of_requests_can_be_played(recordings: Path) -> None:
    found = {
        str(path.relative_to(recordings)): len(read_recording(path).exchanges)
        for path in [
            *sorted(recordings.glob("bms/captures/J*.txt")),
            *sorted(recordings.glob("bms/captures/SG*.txt")),
            *sorted(recordings.glob("bms/vectors/transcript_*.json")),
            *sorted(recordings.glob("modbus/*.json")),
        ]
    }
    assert len(found) >= 9
    assert min(found.values()) >= 1
    assert found["bms/captures/JBD-UP16S020-two-devices.txt"] == 128
    assert found["bms/vectors/transcript_jbd_up16s_two_packs.json"] == 128


@pytest.mark.parametrize(("text", "sentence"), [("hello", "has no question"), ("{", "is no JSON"), ("[]", "should be")])
def test_what_is_no_recording_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    done = CliRunner().invoke(sim_command, ["replay", str(path)])
    assert done.exit_code == 69
    assert sentence in done.stderr
    assert "An NMEA log will do as well" in done.stderr


def test_list_says_what_can_be_played(tmp_path: Path) -> None:
    capture = tmp_path / "capture.txt"
    capture.write_text(">>> 01 02 <<< 05\n>>> 01 02\n>>> 03 <<< XX\n")
    done = CliRunner().invoke(sim_command, ["replay", str(capture), "--list"])
    assert done.exit_code == 0
    assert done.stdout.split()[:6] == ["1", "answers", "1", "silences", "01", "02"]
    assert "left out: line 3" in done.stdout


def test_receiver_s_own_settings_do_not_go_with_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.nmea"
    log.write_text(">>> 01 <<< 02\n")
    refused = CliRunner().invoke(sim_command, ["gnss", "--replay", str(log), "--fix", "off"])
    assert refused.exit_code == 2
    assert "leave the settings of the synthetic receiver away" in refused.stderr
    refused = CliRunner().invoke(sim_command, ["gnss", "--replay", str(log)])
    assert refused.exit_code == 2
    assert "has no NMEA sentences" in refused.stderr


async def test_nmea_log_is_played_byte_for_byte_and_ends_by_itself(recordings: Path) -> None:
    log = recordings / "gnss/gpsd/bt451.log"
    sent = b"".join(line for line in log.read_bytes().splitlines(keepends=True) if not line.startswith(b"#"))
    async with SimProcess("gnss", "--replay", str(log), "--speed", "10", "--baudrate", "115200", "--json") as sim:
        read = await asyncio.to_thread(_read_log, sim.port, len(sent))
        end = await sim.end(None)
    assert read == sent
    assert end["bytes_out"] == len(sent)
    assert end["rounds"] == 1
    assert sim.returncode == 0


def _read_log(port: str, length: int) -> bytes:
    """Read from the first byte on: pyserial throws away what came before it opened the port."""
    end = os.open(port, os.O_RDONLY | os.O_NOCTTY)
    try:
        data = b""
        while len(data) < length and select.select([end], [], [], 5.0)[0]:
            data += os.read(end, length - len(data))
    finally:
        os.close(end)
    return data


def _read_epoch(port: str) -> dict[str, Any]:
    """Return the sentences of one whole epoch by their name."""
    with serial.Serial(port, 9600, timeout=5.0) as line:
        while not line.readline().startswith(b"$GNRMC"):
            pass
        sentences = [line.readline().decode()]
        while not sentences[-1].startswith("$GNRMC"):
            sentences.append(line.readline().decode())
    parsed = [pynmeagps.NMEAReader.parse(text) for text in sentences]
    return {message.msgID: message for message in parsed}


async def test_receiver_without_a_fix_says_so_and_finds_it_again() -> None:
    async with SimProcess("gnss", "--fix", "off", "--altitude", "77.5") as sim:
        parsed = await asyncio.to_thread(_read_epoch, sim.port)
        assert parsed["RMC"].status == "V"
        assert parsed["GGA"].quality == 0
        assert parsed["GSA"].navMode == 1
        send("gnss", {"do": "set", "values": {"fix": "on"}})
        parsed = await asyncio.to_thread(_read_epoch, sim.port)
        assert parsed["RMC"].status == "A"
        assert parsed["GGA"].alt == 77.5
