"""`swapline sim ctl`: what running simulators say can be changed, and what they are asked can be seen."""

import asyncio
import json
import os
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import serial
from click.testing import CliRunner, Result

from swapline_bench.faces.jbd import JbdFace
from swapline_bench.faces.turnaround import Turnaround
from swapline_bench.randomness import make_random
from swapline_bench.replay import SerialEnd
from swapline_bench.sim import control
from swapline_bench.sim.command import sim as sim_command
from swapline_bench.sim.control import running, runtime_folder, send
from swapline_bench.sim.device import ModuleDevice
from swapline_bench.sim.error import UnavailableError
from swapline_bench.sim.protocol import describe_jbd
from swapline_bench.sim.traffic import Traffic
from tests.bench.sim_process import PATIENCE_S, SimProcess, until

BASIC = bytes.fromhex("dda50300fffd77")
NAME = bytes.fromhex("dda50500fffb77")
OVER_VOLTAGE = 1
UNDER_VOLTAGE = 0b1010  # of a cell, of the pack: four cells are no empty sixteen


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test's simulators a runtime folder of their own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def ctl(*words: str) -> Result:
    return CliRunner().invoke(sim_command, ["ctl", *words])


def answer_to(port: str, request: bytes, length: int) -> bytes:
    """Return so many bytes of what comes back."""
    with serial.Serial(port, 9600, timeout=PATIENCE_S) as line:
        line.write(request)
        return line.read(length)


async def ask(sim: SimProcess, request: bytes = BASIC, length: int = 38) -> bytes:
    return await asyncio.to_thread(answer_to, sim.port, request, length)


async def ask_in_vain(sim: SimProcess, request: bytes = BASIC, name: str = "jbd") -> bytes:
    """Return what has come back when the simulator has given no answer to a request, as it says itself."""
    missed = sum(status(name)["unanswered"].values())
    with serial.Serial(sim.port, 9600, timeout=0) as line:
        line.write(request)
        await until(lambda: sum(status(name)["unanswered"].values()) > missed)
        return line.read(200)


async def ask_a_faulty_one(sim: SimProcess, fault: str) -> bytes:
    """Return what has come back when a fault was done to a question or its answer."""
    with serial.Serial(sim.port, 9600, timeout=0) as line:
        line.write(BASIC)
        await until(lambda: status()["faults_done"].get(fault))
        return line.read(200)


def sockets() -> list[Path]:
    return list(runtime_folder().glob("*.sock"))


def status(name: str = "jbd") -> dict[str, Any]:
    return dict(send(name, {"do": "status"}))


def values(name: str = "jbd") -> dict[str, Any]:
    return dict(status(name)["values"])


async def test_settings_are_changed_while_it_runs_and_given_back() -> None:
    async with SimProcess("jbd", "--soc", "80", "--current", "10"):
        assert ctl("jbd", "set", "soc=40", "current=-80").exit_code == 0
        assert values()["soc"] == pytest.approx(40, abs=0.2)
        assert values()["current"] == -80.0
        assert ctl("set", "cycles=77", "voltage=51.2").exit_code == 0
        assert (values()["cycles"], values()["voltage"]) == (77, 51.2)
        assert ctl("set", "voltage=free").exit_code == 0
        assert values()["voltage"] == pytest.approx(sum(values()["cells"]), abs=0.1)


async def test_nothing_is_set_if_one_of_several_is_wrong() -> None:
    async with SimProcess("jbd", "--frozen"):
        refused = ctl("set", "soc=40", "temp=900")
        assert refused.exit_code == 2
        assert "temp=900: temp is a number from -40 to 120." in refused.stderr
        assert values()["soc"] == 80.0
        assert "did you mean current?" in ctl("set", "curent=1").stderr
        assert "cannot be freed" in ctl("set", "soc=free").stderr


async def test_physics_run_and_protect_and_frozen_ones_stand_still() -> None:
    async with SimProcess("jbd", "--current", "100", "--world-speed", "600") as moving, SimProcess("jbd", "--frozen"):
        before = values("jbd")["soc"]
        assert ctl("jbd-2", "set", "current=100").exit_code == 0
        await until(lambda: values("jbd")["soc"] > before + 0.5)
        assert values("jbd-2")["soc"] == 80.0
        cells = ",".join(["3.70"] * 4)
        assert ctl("jbd", "set", f"cells={cells}").exit_code == 0
        await until(lambda: values("jbd")["protections"] & OVER_VOLTAGE)
        assert values("jbd")["charge_switch"] is False
        answer = await ask(moving)
        assert int.from_bytes(answer[20:22]) == values("jbd")["protections"]
        assert not values("jbd")["protections"] & UNDER_VOLTAGE
        assert values("jbd")["current"] == 0.0


async def test_module_is_pulled_and_another_inserted() -> None:
    async with SimProcess("jbd", "--code", "FIRST") as sim:
        assert b"FIRST" in await ask(sim, NAME, 7 + len("FIRST"))
        assert ctl("pull").exit_code == 0
        assert await ask_in_vain(sim, NAME) == b""
        assert ctl("insert", "SECOND").exit_code == 0
        assert b"SECOND" in await ask(sim, NAME, 7 + len("SECOND"))
        assert ctl("pull").exit_code == 0
        assert ctl("insert").exit_code == 0
        assert b"SECOND" in await ask(sim, NAME, 7 + len("SECOND"))


@pytest.mark.parametrize("kind", ["sdm630", "vcu", "charger"])
async def test_devices_without_a_module_of_their_own_are_pulled_too(kind: str) -> None:
    request = bytes.fromhex("01040000000271cb")
    async with SimProcess(kind, "--baudrate", "9600", "--parity", "none") as sim:
        assert len(await ask(sim, request, 9)) == 9
        assert ctl("pull").exit_code == 0
        if kind == "charger":  # its slot is empty, and it says so
            assert len(await ask(sim, request, 9)) == 9
        else:
            assert await ask_in_vain(sim, request, kind) == b""
            assert "holds no module" in ctl("insert", "CODE").stderr
        assert ctl("insert").exit_code == 0
        assert len(await ask(sim, request, 9)) == 9


async def test_faults_come_and_go() -> None:
    async with SimProcess("jbd") as sim:
        assert ctl("fault", "silent=1").exit_code == 0
        assert await ask_a_faulty_one(sim, "silent") == b""
        assert ctl("fault", "none").exit_code == 0
        assert len(await ask(sim)) == 38
        asked = status()["asked"]
        assert ctl("stuck").exit_code == 0
        assert set(await ask_a_faulty_one(sim, "stuck")) <= {0}
        assert ctl("fault", "none").exit_code == 0
        said = status()
        assert said["faults"] == []
        assert said["asked"] == asked, "a wire that is held low carries no question"
        assert said["faults_done"]["silent"] == 1
        assert said["faults_done"]["stuck"] == 1
        assert "did you mean noise?" in ctl("fault", "nois=2").stderr


async def test_adapter_vanishes_and_comes_back_under_its_link(tmp_path: Path) -> None:
    async with SimProcess("jbd", "--link", str(tmp_path / "bms")) as sim:
        assert ctl("unplug").exit_code == 0
        with pytest.raises(serial.SerialException):
            serial.Serial(sim.port)
        assert ctl("plug-in").exit_code == 0
        assert len(await ask(sim)) == 38


async def test_status_says_what_was_asked_for_people_and_for_programs() -> None:
    async with SimProcess("jbd") as sim:
        await ask(sim)
        await ask(sim)
        text = ctl("jbd").stdout
        assert "asked 2, answered 2" in text
        assert "2  read register 0x03" in text
        said = json.loads(ctl("jbd", "status", "--json").stdout)
        assert said["port"] == sim.port
        assert said["requests"] == {"read register 0x03": 2}


async def test_several_are_listed_and_named() -> None:
    assert ctl("set", "soc=1").exit_code == 69
    assert "No simulator runs: start one" in ctl("status").stderr
    async with SimProcess("jbd") as first, SimProcess("jk", "--name", "left"):
        listed = json.loads(ctl("--json").stdout)
        assert {entry["name"]: entry["kind"] for entry in listed} == {"jbd": "jbd", "left": "jk"}
        assert first.port in ctl().stdout
        assert "Say which one: jbd, left." in ctl("set", "soc=5").stderr
        assert "running: jbd, left" in ctl("right", "status").stderr
        assert ctl("left", "stop").exit_code == 0
        async with SimProcess("jbd", "--name", "jbd") as second:
            await second.end(None)
        assert second.returncode == 69
        assert "runs already" in second.stderr


async def test_stop_ends_it_in_order_and_a_killed_one_leaves_no_name() -> None:
    async with SimProcess("jbd") as sim:
        assert ctl("stop").exit_code == 0
        await sim.end(None)
        assert sim.returncode == 0
        assert sockets() == []
    async with SimProcess("jbd"):
        pass  # leaving kills it
    assert len(sockets()) == 1
    assert running() == []
    async with SimProcess("jbd"):
        assert running() == ["jbd"]


async def test_one_that_is_stopped_is_told_from_one_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_S_MAX", 0.5)
    async with SimProcess("jbd") as sim:
        pid = send("jbd", {"do": "status"})["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            done = ctl("jbd", "status")
            assert done.exit_code == 69
            assert "jbd runs and has not answered for 0.5 s: is it stopped?" in done.stderr
            listed = ctl()
            assert listed.exit_code == 0
            assert "is it stopped?" in listed.stderr
            assert "no simulator runs" not in listed.stderr
        finally:
            os.kill(pid, signal.SIGCONT)
        await sim.end()


async def test_simulators_that_start_at_once_have_names_of_their_own() -> None:
    async with AsyncExitStack() as stack:
        starting = (stack.enter_async_context(SimProcess("jbd")) for _ in range(4))
        ports = {sim.port for sim in await asyncio.gather(*starting)}
        assert running() == ["jbd", "jbd-2", "jbd-3", "jbd-4"]
        assert {send(name, {"do": "status"})["port"] for name in running()} == ports


def refusal_of(request: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(runtime_folder() / "jbd.sock"))
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return dict(json.loads(client.makefile("rb").readline()))


async def test_what_is_no_request_is_refused_and_it_goes_on() -> None:
    async with SimProcess("jbd"):
        for request in (b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"do": "fly"}\n', b'{"do": "set"}\n', b"x" * 100_000):
            assert refusal_of(request)["ok"] is False
        assert send("jbd", {"do": "status"})["ok"] is True


def test_runtime_folder_that_others_can_write_to_is_not_used() -> None:
    runtime_folder().chmod(0o777)
    with pytest.raises(UnavailableError, match="not this user's alone"):
        runtime_folder()


async def test_module_that_runs_empty_at_once_is_protected_and_goes_on_answering() -> None:
    async with SimProcess("jbd", "--soc", "3", "--current", "-320", "--world-speed", "3600") as sim:
        await until(lambda: values()["protections"])
        assert values()["discharge_switch"] is False
        assert min(values()["cells"]) > 2.0
        assert len(await ask(sim)) == 38


def test_value_that_fits_into_no_register_is_said_and_not_answered() -> None:
    said: list[str] = []
    traffic = Traffic(said.append)
    device = ModuleDevice()
    face = JbdFace(device.plugged)
    traffic.watch(face, describe_jbd, Turnaround(0.01, 0.01, 0.01), make_random(1))
    device.view.fixed["voltage_v"] = 1e6
    assert face.answer(BASIC) is None
    assert said[0].startswith("a value does not fit into its register")
    assert traffic.unanswered == {"read register 0x03": 1}


async def test_adapter_that_went_away_by_itself_is_found_again(tmp_path: Path) -> None:
    port = tmp_path / "ttyUSB0"
    adapter = SerialEnd()
    port.symlink_to(adapter.path)
    async with SimProcess("jbd", "--port", str(port)) as sim:
        adapter.close()
        await until(lambda: not status()["is_plugged_in"])
        with SerialEnd() as again:
            port.unlink()
            port.symlink_to(again.path)
            await until(lambda: status()["is_plugged_in"])
            await again.write(BASIC)
            async with asyncio.timeout(PATIENCE_S):
                assert (await again.read()).startswith(b"\xdd\x03")
            await sim.end()
    assert "adapter is unplugged" in sim.stderr
    assert "adapter is plugged in" in sim.stderr
