"""`swapline sim`: a command for every simulator, one that plays recordings, and live control of those that run."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from swapline_bench.faces.turnaround import Turnaround
from swapline_bench.fault.model import SPOKEN_NAMES
from swapline_bench.randomness import make_random
from swapline_bench.serial_line import RequestFace
from swapline_bench.sim.ctl import ctl
from swapline_bench.sim.device import Device
from swapline_bench.sim.error import SimError
from swapline_bench.sim.receiver import LogFace
from swapline_bench.sim.recording import Recording, read_recording
from swapline_bench.sim.screen import Screen
from swapline_bench.sim.session import LineOptions, Session
from swapline_bench.sim.setting import split_assignments
from swapline_bench.sim.table import SIMULATORS, Simulator
from swapline_bench.sim.traffic import Traffic
from swapline_bench.sim.transcript import TranscriptFace

SKIPPED_SHOWN_MAX = 10
PARITIES = ("none", "even", "odd")
Arguments = dict[str, Any]
_LINE, _TIME, _VALUES, _OTHERS = "Line", "Time", "Values (`sim ctl NAME set` changes them)", "Others"
_GROUPS = dict.fromkeys(("port", "baudrate", "parity", "link", "address", "faults"), _LINE)
_GROUPS |= dict.fromkeys(("turnaround_ms", "gap_ms", "frozen", "world_speed", "replay", "speed", "loop"), _TIME)
_GROUPS |= {"assignments": _VALUES}


class _Command(click.Command):
    """A command whose help has its options in groups: most of them are values of the device."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(_group_of(parameter), []).append(record)
        for group in (_LINE, _TIME, _VALUES, _OTHERS):
            if group in groups:
                with formatter.section(group):
                    formatter.write_dl(groups[group])


def _group_of(parameter: click.Parameter) -> str:
    name = parameter.name or ""
    return _VALUES if name.startswith("setting_") else _GROUPS.get(name, _OTHERS)


def _common(baudrate: int, parity: str) -> list[click.Parameter]:
    """Return the options that every simulator has."""
    return [
        click.Option(["--port"], help="Serial port to speak on, for example /dev/ttyUSB0.  [default: a fresh pty]"),
        click.Option(["--baudrate"], type=click.IntRange(300, 3_000_000), default=baudrate, show_default=True),
        click.Option(["--parity"], type=click.Choice(PARITIES), default=parity, show_default=True),
        click.Option(["--link"], type=click.Path(path_type=Path), help="Lay a symbolic link to the pty here."),
        click.Option(["--name"], help="Name for `sim ctl`.  [default: the command's, with a number if it is taken]"),
        click.Option(
            ["--fault", "faults"],
            multiple=True,
            metavar="NAME[=VALUE]",
            help="What is wrong with the line, for example bit-errors=0.001,noise=2; can be given often "
            f"(docs/bus-faults.md). Known: {', '.join(SPOKEN_NAMES)}.",
        ),
        click.Option(["--seed"], type=int, default=1, show_default=True, help="Of faults, cells, cities."),
        click.Option(
            ["--gap-ms"], type=click.FloatRange(0, 1000), default=0.0, show_default=True, help="Between characters."
        ),
        click.Option(["--verbose", "-v"], is_flag=True, help="Show every byte with direction and time."),
        click.Option(["--json", "as_json"], is_flag=True, help="End with one JSON object on stdout."),
    ]


def _device_options(simulator: Simulator) -> list[click.Parameter]:
    """Return what one kind of simulator has besides: how it behaves, and its settings."""
    options: list[click.Parameter] = [
        click.Option(["--frozen"], is_flag=True, help="Values stay as they are set: no physics."),
        click.Option(
            ["--world-speed"],
            type=click.FloatRange(0.001, 3600),
            default=1.0,
            show_default=True,
            help="How many times faster than real the physics run.",
        ),
        click.Option(
            ["--set", "assignments"], multiple=True, metavar="NAME=VALUE", help="The settings below, in another way."
        ),
    ]
    if simulator.address is not None:
        options.append(
            click.Option(["--address"], type=click.IntRange(0, 247), default=simulator.address, show_default=True)
        )
    if simulator.turnaround is not None:
        typical = f"{simulator.turnaround.min_s * 1000:g} to {simulator.turnaround.max_s * 1000:g} ms by chance"
        options.append(
            click.Option(
                ["--turnaround-ms"], type=click.FloatRange(0, 10000), help=f"Thinking time.  [default: {typical}]"
            )
        )
    for setting in simulator.settings.values():
        option = f"--{setting.name.replace('_', '-')}"
        options.append(click.Option([option, f"setting_{setting.name}"], metavar="VALUE", help=setting.help))
    return options


def _replay_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--speed"], type=click.FloatRange(0.01, 1000), default=1.0, show_default=True, help="Of a recording."
        ),
        click.Option(["--loop"], is_flag=True, help="Play an NMEA log over and over."),
    ]


def _line_options(arguments: Arguments) -> LineOptions:
    if arguments["port"] and arguments["link"]:
        raise SimError("--link names a pty: a real port has its own name; leave one of --port and --link away.")
    return LineOptions(
        baudrate=arguments["baudrate"],
        parity=arguments["parity"],
        port=arguments["port"],
        link=arguments["link"],
        gap_s=arguments["gap_ms"] / 1000.0,
        faults=arguments["faults"],
        seed=arguments["seed"],
    )


def _settings(simulator: Simulator, arguments: Arguments) -> dict[str, str]:
    named = {name: arguments[f"setting_{name}"] for name in simulator.settings}
    given = {name: text for name, text in named.items() if text is not None}
    return given | split_assignments(arguments["assignments"])


def _make_device(simulator: Simulator, arguments: Arguments, traffic: Traffic) -> tuple[Device, Any]:
    """Return device and face as the command line describes them. Raises `SimError`."""
    device, face = simulator.make(arguments.get("address") or 0, arguments["seed"])
    device.set(_settings(simulator, arguments))
    if isinstance(face, RequestFace) and simulator.describe is not None and simulator.turnaround is not None:
        turnaround = simulator.turnaround
        if arguments["turnaround_ms"] is not None:
            turnaround = Turnaround(*[arguments["turnaround_ms"] / 1000.0] * 3)
        traffic.watch(face, simulator.describe, turnaround, make_random(arguments["seed"], "turnaround"))
    return device, face


def _end(session: Session, arguments: Arguments, more: str = "") -> None:
    session.screen.end("\n".join([session.traffic.summary(), *([more] if more else [])]))
    if arguments["as_json"]:
        click.echo(json.dumps(session.final_status))


def _run_device(kind: str, simulator: Simulator, arguments: Arguments) -> None:
    """Run one simulated device until it is ended."""
    screen = Screen()
    traffic = Traffic(screen.say, is_verbose=arguments["verbose"])
    device, face = _make_device(simulator, arguments, traffic)
    session = Session(
        arguments["name"],
        kind,
        face,
        _line_options(arguments),
        traffic,
        screen,
        device=device,
        world_speed=0.0 if arguments["frozen"] else arguments["world_speed"],
        is_verbose=arguments["verbose"],
    )
    asyncio.run(session.run())
    _end(session, arguments)


def _run_log(kind: str, recording: Recording, arguments: Arguments) -> None:
    """Play a receiver's log until it ends, or for ever."""
    screen = Screen()
    traffic = Traffic(screen.say, is_verbose=arguments["verbose"])
    face = LogFace(recording.chunks, speed=arguments["speed"], is_endless=arguments["loop"])
    session = Session(
        arguments["name"],
        kind,
        face,
        _line_options(arguments),
        traffic,
        screen,
        finished=face.is_done,
        extra_status=lambda: {"rounds": face.rounds},
        is_verbose=arguments["verbose"],
    )
    asyncio.run(session.run())
    sent_bytes = traffic.bytes_out
    _end(session, arguments, f"played {sent_bytes} bytes of the log, {face.rounds} times to its end")


def _run_transcript(recording: Recording, arguments: Arguments) -> None:
    """Answer as a recorded device did until the session is ended."""
    screen = Screen()
    traffic = Traffic(screen.say, is_verbose=arguments["verbose"])
    face = TranscriptFace(recording.exchanges, speed=arguments["speed"], note=traffic.note)
    session = Session(
        arguments["name"],
        "replay",
        face,
        _line_options(arguments),
        traffic,
        screen,
        extra_status=face.as_dict,
        is_verbose=arguments["verbose"],
    )
    asyncio.run(session.run())
    _end(session, arguments, face.summary())


def _command(kind: str, simulator: Simulator) -> click.Command:
    """Return the command of one simulator."""

    def run(**arguments: Any) -> None:
        _run_device(kind, simulator, arguments)

    def run_receiver(**arguments: Any) -> None:
        path = arguments["replay"]
        if path is None:
            _run_device(kind, simulator, arguments)
            return
        if _settings(simulator, arguments):
            raise SimError("--replay plays the log as it is: leave the settings of the synthetic receiver away.")
        recording = read_recording(path)
        if not recording.chunks:
            raise SimError(f"{path} has no NMEA sentences: `swapline sim replay` plays questions and answers.")
        _run_log(kind, recording, arguments)

    params = [*_common(simulator.baudrate, simulator.parity), *_device_options(simulator)]
    callback: Callable[..., None] = run
    if kind == "gnss":
        log = click.Option(["--replay"], type=click.Path(path_type=Path), help="Play this NMEA log instead.")
        params = [log, *_replay_options(), *params]
        callback = run_receiver
    text = f"Simulate a {simulator.title} on a serial port or a pty, whose name is the first line on stdout."
    return _Command(kind, params=params, callback=callback, help=text, short_help=simulator.title)


def _play(**arguments: Any) -> None:
    recording = read_recording(arguments["file"])
    if arguments["list_only"]:
        click.echo(_contents(recording))
    elif recording.chunks:
        _run_log("replay", recording, arguments)
    else:
        for skipped in recording.skipped[:SKIPPED_SHOWN_MAX]:
            click.echo(f"left out: {skipped}", err=True)
        _run_transcript(recording, arguments)


def _contents(recording: Recording) -> str:
    """Return what can be played, request by request."""
    if recording.chunks:
        return f"{len(recording.chunks)} NMEA lines, {sum(c.pause_s for c in recording.chunks):.0f} s"
    counts: dict[bytes, list[int]] = {}
    for exchange in recording.exchanges:
        count = counts.setdefault(exchange.request, [0, 0])
        count[exchange.response is None] += 1
    lines = [f"{good:6} answers {silent:6} silences  {req.hex(' ').upper()}" for req, (good, silent) in counts.items()]
    return "\n".join([*lines, *(f"left out: {skipped}" for skipped in recording.skipped)])


_REPLAY_HELP = """Answer as the device did that FILE records, or play the NMEA log FILE.

FILE is a JSON transcript, a log with `>>>` before requests and `<<<` before answers, or an NMEA log:
docs/simulators.md describes them. At the end, what was asked and is not in the recording is listed."""


def _replay_command() -> click.Command:
    params = [
        click.Argument(["file"], type=click.Path(path_type=Path)),
        click.Option(["--list", "list_only"], is_flag=True, help="Only say what can be played."),
        *_replay_options(),
        *_common(9600, "none"),
    ]
    return _Command("replay", params=params, callback=_play, help=_REPLAY_HELP, short_help="Play a recording.")


def make_group(simulators: Mapping[str, Simulator]) -> click.Group:
    """Return `swapline sim` with a command for each simulator."""
    group = click.Group(
        "sim",
        help="Simulate one device on a serial port or a pty, for a node or for any product on the market.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    for kind, simulator in simulators.items():
        group.add_command(_command(kind, simulator))
    group.add_command(_replay_command())
    group.add_command(ctl)
    return group


sim = make_group(SIMULATORS)
