"""Every simulator as a process, asked by the firmware's own drivers and by pymodbus: what was set is what is read."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import serial
from click.testing import CliRunner

from swapline_bench.replay import SerialEnd
from swapline_bench.sim.command import sim as sim_command
from swapline_bench.sim.device import VcuDevice
from swapline_bench.sim.error import SimError
from tests.bench.sim_process import SILENCE_S, SimProcess, ask_driver, modbus_client, until_asked

CODE = "0SLPB0451800161360000042"
MODULE = ("--code", CODE, "--soc", "62", "--temp", "21", "--current", "-35.5", "--cycles", "321", "--frozen")
MODULE_READ = {
    "module.owner": CODE,
    "module.soc_pct": 62.0,
    "module.current_a": -35.5,
    "module.cycles": 321,
    "module.protections": 0,
}
JBD_BASIC = bytes.fromhex("dda50300fffd77")


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test's simulators a runtime folder of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


DEVICES: dict[str, tuple[str, int, str, tuple[str, ...], dict[str, Any]]] = {
    "jbd": ("jbd", 9600, "none", MODULE, MODULE_READ | {"cells.temperature_1_c": 21.0}),
    "jbd-up16s": ("jbd_up16s", 9600, "none", MODULE, MODULE_READ | {"module.soh_pct": 97.0}),
    "seplos": ("seplos_v3", 19200, "none", (*MODULE, "--soh", "91"), MODULE_READ | {"module.soh_pct": 91.0}),
    "jk": ("jk", 115200, "none", MODULE, MODULE_READ),
    "sdm630": (
        "sdm630",
        9600,
        "none",
        ("--load", "9", "--voltage-l2-v", "231.5", "--frozen"),
        {"meter.power_l1_kw": 3.0, "meter.power_kw": 9.0, "meter.voltage_l2_v": 231.5},
    ),
    "charger": (
        "slot_charger",
        19200,
        "even",
        ("--charger-state", "2", "--charger-current-a", "201.25", "--charger-temperature-c", "none", "--frozen"),
        {"slot.charger_state": 2, "slot.charger_current_a": 201.25, "slot.charger_temperature_c": None},
    ),
    "vcu": (
        "vcu",
        19200,
        "even",
        ("--speed-kmh", "31.5", "--cargo-temperature-c", "none", "--faults", "5", "--frozen"),
        {"vehicle.speed_kmh": 31.5, "vehicle.cargo_temperature_c": None, "vehicle.faults": 5},
    ),
    "gnss": (
        "gnss",
        9600,
        "none",
        ("--latitude", "31.5", "--longitude", "-117.25", "--speed-kmh", "42", "--satellites", "7", "--frozen"),
        {"position.latitude_deg": 31.5, "position.longitude_deg": -117.25, "position.satellites_used": 7},
    ),
}


@pytest.mark.parametrize("kind", DEVICES)
async def test_firmware_reads_what_was_set(kind: str) -> None:
    driver, baudrate, parity, arguments, expected = DEVICES[kind]
    async with SimProcess(kind, *arguments, "--json") as sim:
        line = {"port": sim.port, "baudrate": baudrate, "parity": parity}
        read = await ask_driver(driver, line, polls=2, timeout_ms=10_000)  # it answers, however late the machine is
        assert read["errors"] == []
        assert {name: read.get(name) for name in expected} == pytest.approx(expected)
        end = await sim.end()
        assert end["asked"] == end["answered"]
        assert (end["asked"] > 0) == (kind != "gnss")
        assert end["bytes_out"] > 50
    assert sim.returncode == 0


REGISTERS = {  # what is set; baud rate, address and count asked; which of the registers holds what
    "seplos": (("--soc", "40.5"), 19200, 0x1000, 18, 5, 405),
    "charger": (("--charger-current-a", "123.45"), 19200, 0, 17, 8, 12345),
    "sdm630": (("--set", "frequency_hz=50"), 9600, 0x46, 2, 0, 0x4248),
}


@pytest.mark.parametrize("kind", REGISTERS)
async def test_pymodbus_reads_the_unit_that_the_command_line_names(kind: str) -> None:
    values, baudrate, address, count, place, word = REGISTERS[kind]
    async with SimProcess(kind, "--address", "9", "--frozen", "--parity", "none", *values) as sim:
        async with modbus_client(sim.port, baudrate) as client:
            answer = await client.read_input_registers(address, count=count, device_id=9)
            assert answer.registers[place] == word
        async with modbus_client(sim.port, baudrate, SILENCE_S) as client:
            with pytest.raises(Exception, match="No response"):
                await client.read_input_registers(address, count=count, device_id=1)


async def test_a_real_port_is_spoken_on_and_is_nobody_elses() -> None:
    with SerialEnd() as adapter:  # our end of the cable, and the port's name
        port = adapter.path
        async with SimProcess("jbd", "--port", port, "--soc", "55") as sim:
            assert sim.port == port
            await adapter.write(JBD_BASIC)
            answer = b""
            async with asyncio.timeout(10):
                while len(answer) < 38:
                    answer += await adapter.read()
            assert answer[:3] == b"\xdd\x03\x00"
            assert answer[23] == 55
            async with SimProcess("jbd", "--port", port) as second:
                await second.end(None)
                assert second.returncode == 69
                assert f"{port} is in use: end the program" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--port", "/dev/ttyUSB77"), 69, "/dev/ttyUSB77 is not there: plug the adapter in"),
        (("--socc", "5"), 2, "--soc"),
        (("--soc", "101"), 2, "soc=101: soc is a number from 0 to 100."),
        (("--set", "currant=5"), 2, "There is no setting currant; did you mean current?"),
        (("--set", "soc"), 2, "'soc' is not a setting: write NAME=VALUE"),
        (("--fault", "bit-erors=1"), 2, "did you mean bit-errors?"),
        (("--code", "x" * 25), 2, "code is 1 to 24 printable ASCII characters"),
        (("--name", "status"), 2, "no command of `sim ctl`"),
        (("--link", "/proc/link"), 69, "choose a name in a folder of yours"),
        (("--port", "/dev/ttyUSB77", "--link", "here"), 2, "leave one of --port and --link away"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    done = CliRunner().invoke(sim_command, ["jbd", *arguments])
    assert done.exit_code == code
    assert sentence in done.stderr.replace("\n", " ")
    assert done.stdout == ""


async def test_link_names_the_pty_while_it_runs(tmp_path: Path) -> None:
    link = tmp_path / "bms"
    async with SimProcess("jbd", "--link", str(link)) as sim:
        assert sim.port == str(link)
        with serial.Serial(str(link), 9600, timeout=5.0) as port:
            port.write(JBD_BASIC)
            assert (await asyncio.to_thread(port.read, 2)) == b"\xdd\x03"
        await sim.end()
    assert not link.is_symlink()


async def test_link_that_a_simulator_has_is_not_taken_from_it(tmp_path: Path) -> None:
    link = tmp_path / "bms"
    async with SimProcess("jbd", "--link", str(link)) as first, SimProcess("jk", "--link", str(link)) as second:
        await second.end(None)
        assert second.returncode == 69
        assert f"--link {link}: the simulator jbd has it" in second.stderr
        assert link.is_symlink()
        await first.end()
    assert not link.is_symlink()


def test_link_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    done = CliRunner().invoke(sim_command, ["jbd", "--link", str(tmp_path / "kept")])
    assert done.exit_code == 69
    assert (tmp_path / "kept").read_text() == "mine"


def test_link_does_not_take_the_place_of_one_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    done = CliRunner().invoke(sim_command, ["jbd", "--link", str(tmp_path / "link")])
    assert done.exit_code == 69
    assert (tmp_path / "link").read_text() == "mine"


async def test_link_that_leads_nowhere_is_laid_anew_and_sentences_are_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "stale").symlink_to(tmp_path / "gone")
    async with SimProcess("gnss", "-v", "--link", str(tmp_path / "stale")) as sim:
        assert sim.port == str(tmp_path / "stale")
        with serial.Serial(sim.port, 9600, timeout=5.0) as port:
            assert await asyncio.to_thread(port.readline)
        await sim.end()
    assert "'$GNRMC" in sim.stderr


async def test_faults_of_the_command_line_are_done_and_counted() -> None:
    async with SimProcess("jbd", "--fault", "silent=1", "--json") as sim:
        with serial.Serial(sim.port, 9600, timeout=0) as port:
            port.write(JBD_BASIC)
            await until_asked(1)
            assert port.read(1) == b""
        end = await sim.end()
    assert end["faults_done"] == {"silent": 1}
    assert end["asked"] == 1


async def test_verbose_shows_bytes_with_direction_and_time() -> None:
    async with SimProcess("jbd", "-v") as sim:
        with serial.Serial(sim.port, 9600, timeout=5.0) as port:
            port.write(JBD_BASIC)
            await asyncio.to_thread(port.read, 38)
        await sim.end()
    assert "ms  DD A5 03 00 FF FD 77" in sim.stderr
    assert "<- +" in sim.stderr
    assert "asked: read register 0x03" in sim.stderr
    assert "asked 1 times, answered 1" in sim.stderr


def test_help_groups_options_and_says_what_numbers_mean() -> None:
    text = CliRunner().invoke(sim_command, ["vcu", "--help"], terminal_width=200).stdout
    line, values = text.index("\nLine:"), text.index("\nValues (")
    assert line < text.index("--port") < text.index("\nTime:") < values < text.index("--gear") < text.index("\nOthers:")
    assert "Gear: 0 park, 1 reverse, 2 neutral, 3 drive; or none." in text
    assert "Open doors: 0x1 cargo left + 0x2 cargo right" in text
    assert "Options:" not in text


def test_bits_are_set_in_hex() -> None:
    device = VcuDevice()
    device.set({"doors": "0x6", "gear": "none"})
    assert (device.view.doors, device.view.gear) == (6, None)
    with pytest.raises(SimError, match="doors=0xZ: doors is a number from 0"):
        device.set({"doors": "0xZ"})
