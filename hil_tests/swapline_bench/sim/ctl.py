"""`swapline sim ctl`: change what running simulators say, and see what they are asked."""

import json
from typing import Any

import click

from swapline_bench.sim.control import VERBS, Request, running, send
from swapline_bench.sim.error import SimError, UnavailableError
from swapline_bench.sim.setting import nearest, split_assignments

_HELP = """Control running simulators: swapline sim ctl [NAME] COMMAND [ARGUMENTS]

NAME may be left away while one simulator runs. Without a command, all that run are listed.

\b
set soc=40 current=-80   change settings; NAME=free gives one back to the physics
fault noise=2 late=0.1   these faults and no others; `fault none`: none
stuck                    the same as `fault stuck`
pull                     take the module out (or, where there is none, the cable)
insert [CODE]            put the module in again, or another one
unplug, plug-in          the serial adapter itself vanishes and comes back
status                   everything that is known of it
stop                     end it
"""


@click.command("ctl", help=_HELP, short_help="Control simulators that run.")
@click.argument("words", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
def ctl(words: tuple[str, ...], *, as_json: bool) -> None:
    """Do what `words` say."""
    if not words:
        _list(as_json=as_json)
        return
    name, rest = _choose(list(words))
    answer = send(name, _request(rest))
    if as_json:
        click.echo(json.dumps(answer))
    elif rest[0] == "status":
        click.echo(format_status(answer))
    else:
        click.echo(f"{name}: done")


def _list(*, as_json: bool) -> None:
    answers = []
    for name in running():
        try:
            answers.append(send(name, {"do": "status"}))
        except UnavailableError as error:  # the others are listed all the same
            click.echo(f"Error: {error.message}", err=True)
    if as_json:
        click.echo(json.dumps(answers))
        return
    for answer in answers:
        click.echo(f"{answer['name']:20} {answer['kind']:10} {answer['port']:20} asked {answer['asked']}")
    if not answers and not running():
        click.echo("no simulator runs", err=True)


def _choose(words: list[str]) -> tuple[str, list[str]]:
    """Return the name of the simulator that is meant, and the command. Raises `SimError`."""
    if words[0] not in VERBS:
        return words[0], words[1:] or ["status"]
    names = running()
    if not names:
        raise UnavailableError("No simulator runs: start one, for example `swapline sim jbd`.")
    if len(names) > 1:
        example = " ".join(["swapline sim ctl", names[0], *words])
        raise SimError(f"Say which one: {', '.join(names)}. For example: {example}")
    return names[0], words


def _request(words: list[str]) -> Request:
    verb, arguments = words[0], words[1:]
    if verb not in VERBS:
        raise SimError(f"There is no command {verb}; {nearest(verb, VERBS)}")
    if verb == "set":
        if not arguments:
            raise SimError("set needs settings: write NAME=VALUE, for example soc=40.")
        return {"do": "set", "values": split_assignments(arguments)}
    if verb == "fault":
        if not arguments:
            raise SimError("fault needs faults, for example noise=2, or none.")
        return {"do": "fault", "faults": arguments}
    if verb == "stuck":
        return {"do": "fault", "faults": ["stuck"]}
    if verb == "insert" and len(arguments) <= 1:
        return {"do": "insert", "code": arguments[0] if arguments else None}
    if arguments:
        raise SimError(f"{verb} takes no {arguments[0]}.")
    return {"do": verb}


def format_status(answer: Request) -> str:
    """Return a status as lines of text."""
    lines = [
        f"{answer['name']} ({answer['kind']}) on {answer['port']}, {answer['baudrate']} baud, parity "
        f"{answer['parity']}, for {answer['uptime_s']} s" + ("" if answer["is_plugged_in"] else ", adapter unplugged"),
        f"faults: {' '.join(answer['faults']) or 'none'}" + _counted(answer["faults_done"]),
        f"asked {answer['asked']}, answered {answer['answered']}",
        *(f"{count:8}  {what}" for what, count in answer["requests"].items()),
        *(f"{name} = {_text(value)}" for name, value in answer["values"].items()),
    ]
    return "\n".join(lines)


def _counted(done: dict[str, int]) -> str:
    return "; done: " + ", ".join(f"{kind} {count}" for kind, count in done.items()) if done else ""


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(f"{item:g}" for item in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
