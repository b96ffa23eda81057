"""One simulator that runs: its line, its face, its time, its control socket, until somebody ends it."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from swapline_bench.fault.model import FaultError, FaultModel, Faults
from swapline_bench.serial_line import Face, SerialLine
from swapline_bench.sim.control import ControlServer, Request, running, send
from swapline_bench.sim.device import Device
from swapline_bench.sim.error import SimError, UnavailableError
from swapline_bench.sim.screen import Screen
from swapline_bench.sim.traffic import Traffic

TICK_S = 0.2  # of the physics; faces of register maps refresh as often
STATUS_S = 1.0
PSEUDO_TERMINALS = "/dev/pts/"


@dataclass
class LineOptions:
    """Where a simulator speaks. `port` None: a fresh pty; `link`: a stable name for it."""

    baudrate: int
    parity: str = "none"
    port: str | None = None
    link: Path | None = None
    gap_s: float = 0.0
    faults: Sequence[str] = ()
    seed: int = 1


@dataclass
class Session:
    """What runs. `device` None: a recording, which has nothing to set. `finished` ends the session by itself."""

    asked_name: str | None
    kind: str
    face: Face
    options: LineOptions
    traffic: Traffic
    screen: Screen
    device: Device | None = None
    world_speed: float = 1.0  # 0: frozen
    finished: asyncio.Event | None = None
    extra_status: Callable[[], dict[str, Any]] = dict
    is_verbose: bool = False
    name: str = field(init=False, default="")  # the asked one, or `kind`, with a number if that is taken
    final_status: Request = field(init=False, default_factory=dict)
    _is_unplugged: bool = field(init=False, default=False)  # by its user, who will plug it in again
    _line: SerialLine = field(init=False)
    _fault: FaultModel = field(init=False)
    _stop: asyncio.Event = field(init=False)
    _started_s: float = field(init=False)

    async def run(self) -> None:
        """Run until SIGINT, SIGTERM, `sim ctl stop` or the end of what is played. Raises `SimError`."""
        self._stop = asyncio.Event() if self.finished is None else self.finished
        self._started_s = time.monotonic()
        faults = parse_faults(self.options.faults)
        async with AsyncExitStack() as stack:
            self._line = await stack.enter_async_context(open_line(self.kind, self.options))
            self._line.on_bytes = self.traffic.on_bytes
            self._fault = FaultModel(seed=self.options.seed, on_fault=self._say_fault)
            self._line.fault = self._fault
            if faults != self._fault.faults:
                self._fault.faults = faults
            port = stack.enter_context(link(self._line, self.options))
            server = await stack.enter_async_context(ControlServer(self.asked_name, self.kind, self.handle))
            self.name = server.name
            stack.enter_context(signals(self._stop))
            self._line.attach(self.face)  # first: whoever reads the port's name may ask at once
            self._announce(port)
            await self._pass_time()
            self.traffic.flush()
            self.final_status = self.status()

    def _announce(self, port: str) -> None:
        click.echo(port)
        rate = f"{self.options.baudrate} baud, 8 data bits, parity {self.options.parity}, 1 stop bit"
        if self.options.port is None and self.options.parity != "none":
            rate += " (a pty has no parity: open it without)"
        self.screen.say(f"{self.name}: {rate}. Control it: swapline sim ctl {self.name} status   (Ctrl-C ends it)")

    def _say_fault(self, text: str) -> None:
        if self.is_verbose or text.startswith(("faults:", "adapter")):
            self.screen.say(text)

    async def _pass_time(self) -> None:
        """Let the device's world go on until the session ends."""
        before_s = shown_s = time.monotonic()
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._stop.wait()
            now_s = time.monotonic()
            if self.device is not None and self.world_speed:
                self.device.advance((now_s - before_s) * self.world_speed)
            before_s = now_s
            self.traffic.flush_if_quiet()
            if now_s - shown_s >= STATUS_S:
                shown_s = now_s
                self._find_adapter()
                self.screen.show(self._status_line())

    def _find_adapter(self) -> None:
        """Open a real port again that went away by itself, as soon as it is back."""
        if self.options.port is not None and not self._line.is_plugged_in and not self._is_unplugged:
            with contextlib.suppress(OSError):
                self._line.plug_in()

    def _status_line(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started_s), 60)
        asked = sum(self.traffic.asked.values())
        faults = f"  faults done {self._fault.total}" if self._fault.total else ""
        return f"{self.name} {minutes}:{seconds:02d}  asked {asked}, answered {self.traffic.answered}{faults}"

    async def handle(self, request: Request) -> Request:
        """Do what `sim ctl` asks. Raises `SimError`."""
        deed = request.get("do")
        if deed == "set":
            self._device("set").set({str(name): str(text) for name, text in request["values"].items()})
        elif deed == "fault":
            self._fault.faults = parse_faults([str(text) for text in request["faults"]])
        elif deed == "pull":
            self._device("pull").pull()
        elif deed == "insert":
            self._device("insert").insert(request.get("code"))
        elif deed == "unplug":
            self._is_unplugged = True
            self._line.unplug()
        elif deed == "plug-in":
            self._plug_in()
        elif deed == "stop":
            self._stop.set()
        elif deed != "status":
            raise SimError(f"There is nothing called {deed!r} that a simulator could do.")
        if deed not in {"status", "fault"}:  # the model says its faults itself
            self.screen.say(f"control: {_worded(request)}")
        return self.status()

    def _device(self, deed: str) -> Device:
        if self.device is None:
            raise SimError(f"{self.name} plays a recording: there is nothing to {deed}; faults can be set.")
        return self.device

    def _plug_in(self) -> None:
        self._is_unplugged = False
        try:
            self._line.plug_in()
        except OSError as error:
            raise UnavailableError(f"{error}.") from None

    def status(self) -> Request:
        """Return everything that is known of the simulator now."""
        return {
            "name": self.name,
            "kind": self.kind,
            "pid": os.getpid(),
            "port": os.path.realpath(self._line.path),
            "link": None if self.options.link is None else str(self.options.link.absolute()),
            "baudrate": self.options.baudrate,
            "parity": self.options.parity,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "is_plugged_in": self._line.is_plugged_in,
            "faults": self._fault.faults.spoken(),
            "faults_done": dict(self._fault.injected),
            "values": {} if self.device is None else self.device.values(),
            **self.traffic.as_dict(),
            **self.extra_status(),
        }


def _worded(request: Request) -> str:
    values = [f"{name}={text}" for name, text in request.get("values", {}).items()]
    return " ".join([str(request["do"]), *values, request.get("code") or ""]).strip()


def parse_faults(texts: Sequence[str]) -> Faults:
    """Return the faults of a command line. Raises `SimError`."""
    try:
        return Faults.parse(texts)
    except FaultError as error:
        raise SimError(f"fault: {error}") from None


def open_line(kind: str, options: LineOptions) -> SerialLine:
    """Open the port, or a pty. Raises `UnavailableError`."""
    try:
        return SerialLine(
            kind, baudrate=options.baudrate, parity=options.parity, port=options.port, gap_s=options.gap_s
        )
    except ValueError as error:
        raise SimError(f"--baudrate {options.baudrate}: {error}.") from None
    except OSError as error:
        raise UnavailableError(f"{error}.") from None


def _holder(path: Path) -> str | None:
    """Return the running simulator that has laid the link `path`."""
    for name in running():
        with contextlib.suppress(SimError):  # it may end while we ask
            if send(name, {"do": "status"})["link"] == str(path.absolute()):
                return name
    return None


@contextmanager
def link(line: SerialLine, options: LineOptions) -> Iterator[str]:
    """Lay the stable name, and yield what to open: it, the port, or the pty. Raises `UnavailableError`."""
    if options.link is None:
        yield options.port or os.path.realpath(line.path)
        return
    path = options.link
    if (holder := _holder(path)) is not None:
        raise UnavailableError(f"--link {path}: the simulator {holder} has it; choose another name, or end that one.")
    if path.exists() and not os.path.realpath(path).startswith(PSEUDO_TERMINALS):  # a left-over link leads nowhere
        raise UnavailableError(f"--link {path}: that name is taken; choose another one, or remove what is there.")
    try:
        path.unlink(missing_ok=True)
        path.symlink_to(line.path)
    except OSError as error:
        raise UnavailableError(f"--link {path}: {error.strerror}; choose a name in a folder of yours.") from None
    try:
        yield str(path)
    finally:
        with contextlib.suppress(OSError):
            if str(path.readlink()) == line.path:  # else somebody has laid another one since
                path.unlink()


@contextmanager
def signals(stop: asyncio.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the session in order."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
