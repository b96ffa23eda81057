"""Switch the supply of the node under test: a relay on a serial line, commands of the user's, or nobody.

A switch is one verb, `set`. Before it switches on again it waits as long as the file says, for a supply's capacitors
hold a board up for a while: what is switched on again too early has never been off.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import time
from typing import Protocol

import serial

from swapline_bench.desk import bench_file
from swapline_bench.desk.node import NodeError

_LCUS_START = 0xA0
_OUTPUT_CHARACTERS_MAX = 300
_WRITE_S_MAX = 2.0


class PowerSwitch(Protocol):
    """What can take the supply away and give it back."""

    can_switch: bool

    async def set(self, *, is_on: bool) -> None:
        """Switch, and return when it is done. Raises `NodeError`."""

    async def close(self) -> None:
        """Let go of what it has open; the supply stays as it is."""


def lcus_frame(channel: int, *, is_closed: bool) -> bytes:
    """Return the command of the common USB relay modules (LCUS-1 and its kin): start, channel, state, sum."""
    frame = bytes((_LCUS_START, channel, int(is_closed)))
    return frame + bytes((sum(frame) & 0xFF,))


class RelaySwitch:
    """A relay on a serial port, whose contact is in the supply.

    With `normally_closed` the supply goes through the contact that is closed at rest: a bench computer that is off
    leaves the node on.
    """

    can_switch = True

    def __init__(self, resource: bench_file.RelayPower) -> None:
        self._resource = resource
        self._port: serial.Serial | None = None
        self._off_since_s: float | None = None

    async def set(self, *, is_on: bool) -> None:
        """Let the relay switch."""
        if is_on:
            await _wait_off(self._off_since_s, self._resource.off_s)
        await asyncio.to_thread(self._send, self._command(is_on))
        self._off_since_s = None if is_on else time.monotonic()

    async def close(self) -> None:
        """Close the port."""
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):
                port.close()

    def _command(self, is_on: bool) -> bytes:
        if self._resource.protocol == "text":
            return (self._resource.on if is_on else self._resource.off).encode()
        return lcus_frame(self._resource.channel, is_closed=is_on != self._resource.normally_closed)

    def _send(self, command: bytes) -> None:
        name = self._resource.port
        try:
            if self._port is None:
                self._port = serial.Serial(name, self._resource.baudrate, exclusive=True, write_timeout=_WRITE_S_MAX)
            self._port.write(command)
            self._port.flush()
        except (OSError, ValueError) as error:  # pyserial's own are OSErrors
            self._port = None
            raise NodeError(
                f"The relay on {name} cannot be switched: {_reason(error)}. Is it plugged in, and does no other "
                "program use its port ([node.power])?"
            ) from error


class CommandSwitch:
    """Commands of the user's: a smart plug, a laboratory supply, a USB hub that switches its ports."""

    can_switch = True

    def __init__(self, resource: bench_file.CommandPower) -> None:
        self._resource = resource
        self._off_since_s: float | None = None

    async def set(self, *, is_on: bool) -> None:
        """Run the command and wait for its end."""
        if is_on:
            await _wait_off(self._off_since_s, self._resource.off_s)
        await run_command(
            self._resource.on if is_on else self._resource.off,
            what="switches the node's power " + ("on" if is_on else "off"),
            timeout_s=self._resource.timeout_s,
        )
        self._off_since_s = None if is_on else time.monotonic()

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class NoSwitch:
    """The supply is always there."""

    can_switch = False

    async def set(self, *, is_on: bool) -> None:
        """Accept to switch on what is on; raise `NodeError` where power is to go."""
        if not is_on:
            raise NodeError(
                "Nobody can switch the node's supply on this bench: put a relay or a command into [node.power] of its "
                "file, or pull the plug by hand."
            )

    async def close(self) -> None:
        """Do nothing."""


def make_switch(resource: bench_file.Power) -> PowerSwitch:
    """Return the switch that the bench file describes."""
    if isinstance(resource, bench_file.RelayPower):
        return RelaySwitch(resource)
    if isinstance(resource, bench_file.CommandPower):
        return CommandSwitch(resource)
    return NoSwitch()


async def run_command(command: list[str], *, what: str, timeout_s: float) -> str:
    """Run a command of the bench file and return what it printed. Raises `NodeError` with the end of it.

    It gets a process group of its own, so that all of it ends when time is up.
    """
    line = shlex.join(command)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
        )
    except OSError as error:
        raise NodeError(f"The command that {what} cannot be run: {line}: {error.strerror}.") from error
    try:
        async with asyncio.timeout(timeout_s):
            output = (await process.communicate())[0].decode(errors="replace").strip()
    except TimeoutError:
        raise NodeError(f"The command that {what} did not end within {timeout_s:g} s: {line}.") from None
    finally:
        await _end_group(process)
    if process.returncode != 0:
        said = f" and said: {output[-_OUTPUT_CHARACTERS_MAX:]}" if output else " and said nothing"
        raise NodeError(f"The command that {what} ended with {process.returncode}{said} ({line}).")
    return output


async def _end_group(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _wait_off(off_since_s: float | None, off_s: float) -> None:
    if off_since_s is not None:
        await asyncio.sleep(max(0.0, off_since_s + off_s - time.monotonic()))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
