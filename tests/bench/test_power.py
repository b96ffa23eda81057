"""Switches of the supply: a relay on a pseudo terminal, and commands."""

import os
import pty
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from swapline_bench.desk.bench_file import CommandPower, NoPower, RelayPower
from swapline_bench.desk.node import NodeError
from swapline_bench.desk.power import lcus_frame, make_switch


@pytest.fixture
def relay() -> Iterator[tuple[int, str]]:
    """The relay's end of a serial line, and the path of the other one."""
    relay_end, bench_end = pty.openpty()
    tty.setraw(bench_end)
    yield relay_end, os.ttyname(bench_end)
    os.close(relay_end)
    os.close(bench_end)


def test_lcus_frames_are_those_of_the_modules_description() -> None:
    assert lcus_frame(1, is_closed=True) == bytes.fromhex("A0 01 01 A2")
    assert lcus_frame(1, is_closed=False) == bytes.fromhex("A0 01 00 A1")
    assert lcus_frame(2, is_closed=True) == bytes.fromhex("A0 02 01 A3")


async def test_relay_gets_its_commands(relay: tuple[int, str]) -> None:
    switch = make_switch(RelayPower(kind="relay", port=relay[1], channel=2, off_s=0.0))
    await switch.set(is_on=True)
    assert os.read(relay[0], 64) == bytes.fromhex("A0 02 01 A3")
    await switch.set(is_on=False)
    assert os.read(relay[0], 64) == bytes.fromhex("A0 02 00 A2")
    await switch.close()


async def test_relay_at_rest_leaves_a_normally_closed_supply_on(relay: tuple[int, str]) -> None:
    switch = make_switch(RelayPower(kind="relay", port=relay[1], normally_closed=True, off_s=0.0))
    await switch.set(is_on=True)
    assert os.read(relay[0], 64) == lcus_frame(1, is_closed=False)
    await switch.close()


async def test_relay_that_takes_texts_gets_them(relay: tuple[int, str]) -> None:
    switch = make_switch(RelayPower(kind="relay", port=relay[1], protocol="text", on="R1=1\r\n", off="R1=0\r\n"))
    await switch.set(is_on=False)
    assert os.read(relay[0], 64) == b"R1=0\r\n"
    await switch.close()


async def test_supply_stays_off_as_long_as_the_file_says(relay: tuple[int, str]) -> None:
    switch = make_switch(RelayPower(kind="relay", port=relay[1], off_s=0.3))
    await switch.set(is_on=False)
    off_s = time.monotonic()
    await switch.set(is_on=True)
    assert time.monotonic() - off_s >= 0.3
    await switch.close()


async def test_relay_that_is_not_there_is_a_sentence() -> None:
    switch = make_switch(RelayPower(kind="relay", port="/dev/serial/by-id/no-relay"))
    with pytest.raises(NodeError, match=r"relay on /dev/serial/by-id/no-relay .* Is it plugged in"):
        await switch.set(is_on=True)


async def test_relay_whose_port_is_used_is_a_sentence(relay: tuple[int, str]) -> None:
    resource = RelayPower(kind="relay", port=relay[1])
    first, second = make_switch(resource), make_switch(resource)
    await first.set(is_on=True)
    with pytest.raises(NodeError, match="does no other program use its port"):
        await second.set(is_on=True)
    await first.close()


def command(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


async def test_commands_switch(tmp_path: Path) -> None:
    state = tmp_path / "state"
    write = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    resource = CommandPower(
        kind="command", on=command(write, str(state), "on"), off=command(write, str(state), "off"), off_s=0.0
    )
    switch = make_switch(resource)
    await switch.set(is_on=True)
    assert state.read_text() == "on"
    await switch.set(is_on=False)
    assert state.read_text() == "off"


async def test_command_that_fails_says_what_it_said() -> None:
    fails = command("import sys; print('no such plug'); sys.exit(3)")
    switch = make_switch(CommandPower(kind="command", on=fails, off=fails))
    with pytest.raises(NodeError, match=r"switches the node's power on ended with 3 and said: no such plug"):
        await switch.set(is_on=True)


async def test_command_that_is_not_there_is_a_sentence() -> None:
    switch = make_switch(CommandPower(kind="command", on=["no-such-program"], off=["no-such-program"]))
    with pytest.raises(NodeError, match=r"cannot be run: no-such-program: No such file"):
        await switch.set(is_on=False)


async def test_command_that_hangs_is_ended(tmp_path: Path) -> None:
    started = tmp_path / "started"
    hangs = command("import sys, os, pathlib, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
                    "time.sleep(100)", str(started))  # fmt: skip
    switch = make_switch(CommandPower(kind="command", on=hangs, off=hangs, timeout_s=3.0))
    with pytest.raises(NodeError, match=r"did not end within 3 s"):
        await switch.set(is_on=True)
    assert not (Path("/proc") / started.read_text()).is_dir()


async def test_bench_without_a_switch_can_only_leave_it_on() -> None:
    switch = make_switch(NoPower(kind="none"))
    await switch.set(is_on=True)
    with pytest.raises(NodeError, match=r"Nobody can switch .* \[node.power\]"):
        await switch.set(is_on=False)
