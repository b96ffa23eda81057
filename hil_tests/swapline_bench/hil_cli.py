"""`swapline hil`: run the promise tests on a bench, and see which benches there are."""

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from swapline_bench.desk import bench_file
from swapline_bench.desk.bench_file import BENCHES, VIRTUAL, BenchFile, DeskError
from swapline_bench.desk.driver import features_of, find_lacks
from swapline_bench.desk.feature import FEATURES
from swapline_bench.desk.lock import LockError, Locks
from swapline_bench.desk.resource_check import check_resources
from swapline_bench.report.progress import Progress, format_summary
from swapline_bench.report.result import Results

UNUSABLE = 2
INTERRUPTED = 130
REPORT_DEFAULT = Path("reports/hil")


class BenchType(click.ParamType[Path]):
    """A bench file by its path, or by name if it comes along."""

    name = "bench"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        del param, ctx
        path = Path(value)
        by_name = BENCHES / f"{value}.toml"
        return by_name if not path.exists() and by_name.is_file() else path


class UnusableBench(click.ClickException):
    """The bench cannot be used; the message says why and what to do."""

    exit_code = UNUSABLE


def _find_obstacles(file: BenchFile) -> list[str]:
    """Return a sentence for each thing that keeps us from using the bench now."""
    obstacles = check_resources(file)
    names = [f"Port {os.path.realpath(port)}" for port, _ in file.ports()]  # as a desk names its locks
    if file.bench.exclusive:
        names.append(f"Bench {file.bench.name}")
    try:
        locks = Locks(names)
        locks.acquire()
        locks.release()
    except LockError as error:
        obstacles.append(str(error))
    return obstacles


def _require_no_obstacles(file: BenchFile) -> None:
    if obstacles := _find_obstacles(file):
        raise UnusableBench(_spoken(file, obstacles))


def _spoken(file: BenchFile, obstacles: Sequence[str]) -> str:
    """Return a line for each obstacle, each with the bench's name."""
    name = f"Bench {file.bench.name}"
    return "\n".join(text if text.startswith(name) else f"{name}: {text}" for text in obstacles)


@click.group()
def hil() -> None:
    """Hardware in the loop: the same tests on a desk with real boards and on pseudo terminals."""


@hil.command()
@click.option(
    "--bench",
    default=str(VIRTUAL),
    type=BenchType(),
    metavar="FILE",
    help="Bench file, or the name of one that comes along. [default: virtual]",
)
@click.option(
    "--report",
    default=REPORT_DEFAULT,
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report; an earlier report in it is replaced.",
)
@click.option("-k", "keyword", default="", metavar="EXPR", help="Only tests whose names match, as pytest's -k.")
@click.option("-x", "stops_early", is_flag=True, help="Stop at the first failure.")
@click.option("--list", "lists", is_flag=True, help="List the tests and what the bench lacks for them; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is one JSON object.")
def run(bench: Path, report: Path, keyword: str, *, stops_early: bool, lists: bool, as_json: bool) -> None:
    """Run the promise tests on a bench and write the report: index.html, report.json, junit.xml.

    Exit code: 0 all passed or skipped, 1 something failed, 2 the bench could not be used, 130 interrupted.
    """
    from swapline_bench.report.run import Choice, prepare, run_tests, shown_command  # noqa: PLC0415 - needs the extras

    try:
        file = bench_file.load(bench)
        choice = Choice(file, keyword, stops_early)
        if lists:
            _list(choice, as_json=as_json)
            return
        _require_no_obstacles(file)
        with Locks([f"Report folder {report.resolve()}"]), ends_as_ctrl_c():
            prepare(report)
            done = run_tests(choice, report, Progress(sys.stderr), command=shown_command(sys.argv[1:]))
    except DeskError as error:
        raise UnusableBench(str(error)) from error
    click.echo(format_summary(done.results, done.duration_s))
    if done.problem:
        click.echo(done.problem)
    if done.is_written:
        click.echo(f"report: {report / 'index.html'}")
    if as_json:
        click.echo(json.dumps(done.summary()))
    if done.is_interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(0 if done.results.is_good and done.is_written else 1)


@contextlib.contextmanager
def ends_as_ctrl_c() -> Iterator[None]:
    """Let whatever else asks a program to end do what Ctrl-C does: end the running test, write the report."""
    asked = (
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGINT,
    )  # a shell starts what runs in its background without the last
    before = [signal.signal(number, signal.default_int_handler) for number in asked]
    try:
        yield
    finally:
        for number, handler in zip(asked, before, strict=True):
            signal.signal(number, handler)


def _list(choice: Any, *, as_json: bool) -> None:
    from swapline_bench.report.run import list_tests  # noqa: PLC0415 - needs the extras

    with tempfile.TemporaryDirectory() as folder:
        results = list_tests(choice, Path(folder))
    if as_json:
        click.echo(json.dumps({"bench": choice.file.bench.name, "tests": _listed(choice.file, results)}))
        return
    for promise in results.by_promise():
        click.echo(promise.text)
        for test in promise.tests:
            lacks = find_lacks(choice.file, test.needs)
            click.echo(f"  {test.sentence}" + (f"\n    skipped: {'; '.join(lacks)}" if lacks else ""))
    runnable = sum(not find_lacks(choice.file, test.needs) for test in results.tests.values())
    click.echo(f"{len(results.tests)} tests, {runnable} of them can run on bench {choice.file.bench.name}")


def _listed(file: BenchFile, results: Results) -> list[dict[str, Any]]:
    return [
        {"test": test.nodeid, "promise": test.promise, "needs": test.needs, "lacks": find_lacks(file, test.needs)}
        for test in results.tests.values()
    ]


@hil.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def benches(*, as_json: bool) -> None:
    """List the bench files that come along, and whether what they name is there."""
    found = []
    for path in sorted(BENCHES.glob("*.toml")):
        try:
            file = bench_file.load(path)
            line = {"name": path.stem, "description": file.bench.description, "obstacles": _find_obstacles(file)}
        except DeskError as error:
            line = {"name": path.stem, "description": "", "obstacles": str(error).splitlines()}
        found.append(line)
    if as_json:
        click.echo(json.dumps({"folder": str(BENCHES), "benches": found}))
        return
    width = max((len(str(line["name"])) for line in found), default=0)
    for line in found:
        obstacles = list(line["obstacles"])
        state = "ready" if not obstacles else f"{len(obstacles)} in the way"
        click.echo(f"{line['name']:<{width}}  {state:<12}  {line['description']}")
    click.echo(f"`swapline hil check NAME` says what is in the way. The files are in {BENCHES}.")


@hil.command()
@click.argument("bench", type=BenchType(), metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(bench: Path, *, as_json: bool) -> None:
    """Check a bench file, or the name of one that comes along: is it right, and is all that it names there?

    Exit code: 0 it can be used, 2 it cannot. Nothing on the desk is touched.
    """
    try:
        file = bench_file.load(bench)
        obstacles = _find_obstacles(file)
        features = features_of(file)
    except DeskError as error:
        raise UnusableBench(str(error)) from error
    if as_json:
        lacks = sorted(set(FEATURES) - features)
        line = {"bench": file.bench.name, "obstacles": obstacles, "features": sorted(features), "lacks": lacks}
        click.echo(json.dumps(line))
    else:
        _show_check(file, features)
    if obstacles:
        raise UnusableBench(_spoken(file, obstacles))
    if not as_json:
        click.echo("All that it names is there, and nobody uses it.")


def _show_check(file: BenchFile, features: frozenset[str]) -> None:
    click.echo(f"bench {file.bench.name}: {file.bench.description}")
    node = file.node
    click.echo(f"  node      {node.board}, driver {node.driver}, flash {node.flash.kind}, power {node.power.kind}")
    lines = [f"{line.name} on {line.adapter}" for line in file.lines]
    click.echo(f"  lines     {', '.join(lines) or 'none'}")
    click.echo(f"  broker    {file.broker.kind} at {file.broker.host}")
    click.echo(f"  features  {', '.join(sorted(features)) or 'none'}")
    for name in sorted(set(FEATURES) - features):
        click.echo(f"  lacks     {name}: {FEATURES[name]}")
