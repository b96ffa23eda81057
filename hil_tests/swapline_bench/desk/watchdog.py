"""What resets a node that hangs: systemd on Linux, a chip's watchdog elsewhere. The bench plays either.

A node feeds it over systemd's own protocol (sd_notify(3)): datagrams to the socket that NOTIFY_SOCKET names. `READY=1`
starts the watch, `WATCHDOG=1` feeds it, `WATCHDOG_USEC=` sets how long it waits.
"""

import asyncio
import configparser
import itertools
import os
import shlex
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_INDENT = "    "
_numbers = itertools.count(1)


class Watchdog:
    """Listen on `address` and call `on_bite` when a node that was ready is not heard of for `timeout_s`.

    Where `timeout_s` is None the node says how long, as firmware tells a chip's watchdog.
    """

    def __init__(self, *, timeout_s: float | None, on_bite: Callable[[], None]) -> None:
        # An abstract name: it needs no folder, and a long path does not fit into a socket's address.
        self.address = f"@swapline-watchdog-{os.getpid()}-{next(_numbers)}"
        self.timeout_s = timeout_s
        self.feedings = 0
        self.bites = 0
        self._on_bite = on_bite
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def is_armed(self) -> bool:
        """Say whether it bites unless it is fed."""
        return self._timer is not None

    async def open(self) -> None:
        """Listen. Does nothing if it does already."""
        if self._transport is None:
            name = "\0" + self.address[1:]
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Listener(self),
                local_addr=name,
                family=socket.AF_UNIX,
            )

    def close(self) -> None:
        """Stop listening."""
        self.disarm()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def disarm(self) -> None:
        """Expect nothing until the next `READY=1`: the node has no power."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self, message: str) -> None:
        """Take what the node says."""
        fields = dict(line.split("=", 1) for line in message.splitlines() if "=" in line)
        if "WATCHDOG_USEC" in fields:
            self.timeout_s = int(fields["WATCHDOG_USEC"]) / 1e6
        if "WATCHDOG" in fields:
            self.feedings += 1
        if "READY" in fields or self.is_armed:
            self._arm()

    def _arm(self) -> None:
        self.disarm()
        if self.timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self.timeout_s, self._bite)

    def _bite(self) -> None:
        self._timer = None
        self.bites += 1
        self._on_bite()


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr  # nobody else knows the name
        self._watchdog.take(data.decode("utf-8", "replace"))


class ServiceError(Exception):
    """A unit file cannot be played, or a command of it failed; the message says which."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a systemd unit says of a node: how long its watchdog waits, and what runs after the node has ended."""

    watchdog_s: float
    stop_post: str = ""  # a command line of ExecStopPost=

    @classmethod
    def parse(cls, unit: str) -> "Service":
        """Read the text of a unit file. Raises `ServiceError`."""
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(unit)
            section = parser["Service"]
            return cls(float(section["WatchdogSec"]), section.get("ExecStopPost", ""))
        except (configparser.Error, KeyError, ValueError) as error:
            raise ServiceError(f"The unit cannot be played: {error}.") from error

    @classmethod
    def parse_page(cls, page: str) -> "Service":
        """Read the unit that a page shows as an indented block. Raises `ServiceError`."""
        lines = page.splitlines()
        if f"{_INDENT}[Service]" not in lines:
            raise ServiceError("The page shows no unit: there is no indented line [Service].")
        unit = itertools.takewhile(
            lambda line: line.startswith(_INDENT) or not line, lines[lines.index(f"{_INDENT}[Service]") :]
        )
        return cls.parse("\n".join(line.removeprefix(_INDENT) for line in unit))

    async def run_stop_post(self, folder: Path, result: str, environment: Mapping[str, str]) -> None:
        """Run the command as systemd does after the node's end. Raises `ServiceError` where it fails."""
        if not self.stop_post:
            return
        process = await asyncio.create_subprocess_exec(
            *_split(self.stop_post),
            cwd=folder,
            env={**environment, "SERVICE_RESULT": result},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode(errors="replace").strip()
        if process.returncode != 0:
            raise ServiceError(
                f"ExecStopPost={self.stop_post} ended with {process.returncode}: {output or 'no output'}"
            )


# What a node in a folder is run with where the bench plays systemd: the unit of docs/node.md, which a test holds it to.
NODE_SERVICE = Service(
    watchdog_s=30,
    stop_post="""/bin/sh -c 'if [ "$$SERVICE_RESULT" = watchdog ]; then printf 3 > reset_cause; fi'""",
)


def _split(command: str) -> list[str]:
    """Split a command line as systemd does where nothing of it is special to systemd: `$$` is a dollar."""
    return [word.replace("$$", "$") for word in shlex.split(command)]
