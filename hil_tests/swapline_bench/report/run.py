"""Run the promise tests in a pytest of its own, follow what they do, and write the report whatever becomes of it."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from swapline_bench.desk.bench_file import BenchFile, DeskError
from swapline_bench.desk.lock import HOLDER_VARIABLE, describe_holder
from swapline_bench.report import provenance
from swapline_bench.report.page import INDEX_FILE, JUNIT_FILE, LOG_FILE, REPORT_FILE, Run, write_report
from swapline_bench.report.plugin import TESTS_FOLDER
from swapline_bench.report.progress import Progress
from swapline_bench.report.result import COLLECTED, EVENTS_FILE, EventReader, Results, read_results

TESTS = Path(__file__).parents[2]  # hil_tests
_LOOK_S = 0.2
_STOP_S_MAX = 60.0
_LOG_LINES_SHOWN = 8
_PASSED, _FAILED, _USAGE, _NO_TESTS = 0, 1, 4, 5  # pytest's exit codes; the others are its own troubles
_ERROR = "ERROR: "  # begins what pytest says of its arguments, and our conftest.py of the bench


class RunError(DeskError):
    """The tests cannot be run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run, and how."""

    file: BenchFile
    keyword: str = ""  # pytest's -k
    stops_early: bool = False
    tests: Path = TESTS


def prepare(folder: Path) -> None:
    """Make the folder, and empty it of an earlier report. Raises `RunError` where it holds anything else."""
    ours = {INDEX_FILE, JUNIT_FILE, LOG_FILE, REPORT_FILE, EVENTS_FILE, TESTS_FOLDER}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names and (names - ours or EVENTS_FILE not in names):
            raise RunError(f"{folder} holds what is no report, and would be lost: name another folder with --report.")
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}; name another folder with --report.") from error


def list_tests(choice: Choice, folder: Path) -> Results:
    """Return the tests that would run. Raises `RunError` where there are none."""
    code = _wait(_start(choice, folder, "--collect-only"))
    results = read_results(folder / EVENTS_FILE)
    if code != _PASSED:
        raise RunError(_why_none(choice, folder, code))
    return results


def run_tests(choice: Choice, folder: Path, progress: Progress, *, command: str) -> Run:
    """Run the tests and write their report. Raises `RunError` where no test could be run."""
    began_utc_s, began_s = time.time(), time.monotonic()
    known = provenance.collect(choice.file)
    process = _start(choice, folder)
    results, is_interrupted = _follow(process, folder, choice, progress)
    code = process.wait()
    if not results.tests or code == _USAGE:
        raise RunError(_why_none(choice, folder, code))
    problem = _close(results, code, folder, progress, is_interrupted=is_interrupted)
    run = Run(results, known, command, began_utc_s, time.monotonic() - began_s, problem, is_interrupted)
    progress.say(f"writing the report to {folder}")
    try:
        write_report(folder, run)
    except OSError as error:
        run.is_written = False
        told = f"The report could not be written to {folder}: {error.strerror or error}; name another with --report."
        run.problem = "\n".join(filter(None, (run.problem, told)))
    for warning in run.warnings:
        progress.say(f"warning: {warning}")
    return run


def _start(choice: Choice, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    root = choice.tests.parent
    if not (root / "conftest.py").is_file() or not any(choice.tests.glob("test_*.py")):
        raise RunError(f"The promise tests are not in {choice.tests}: run from a checkout of the repository.")
    here = folder.resolve()
    arguments = [
        *(sys.executable, "-m", "pytest", str(choice.tests), "-c", str(root / "pyproject.toml")),
        *("-p", "swapline_bench.report.plugin", "--hil-report", str(here), f"--bench={choice.file.path.resolve()}"),
        *("-m", "promise", f"--junitxml={here / JUNIT_FILE}", "-q", "-p", "no:cacheprovider", *more),
        *("-o", "junit_family=xunit1"),  # xunit2 has no room for the figures that a test records
    ]
    if choice.keyword:
        arguments += ["-k", choice.keyword]
    if choice.stops_early:
        arguments.append("-x")
    with _open_log(folder) as log:
        log.write(f"$ {shlex.join(arguments)}\n".encode())
        return subprocess.Popen(
            [*_ended_with_us(), *arguments],
            cwd=root,
            env={**os.environ, HOLDER_VARIABLE: json.dumps(describe_holder())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


def _open_log(folder: Path) -> BinaryIO:
    try:
        return (folder / LOG_FILE).open("wb", buffering=0)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}; name another folder with --report.") from error


def _ended_with_us() -> list[str]:
    """Return what to write before a command so that our death, of whatever kind, is a Ctrl-C for it.

    It takes everything down in order then: a real node is switched off. Nothing where the machine lacks `setpriv`.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "INT"] if setpriv else []


def _follow(process: subprocess.Popen[bytes], folder: Path, choice: Choice, progress: Progress) -> tuple[Results, bool]:
    """Show what the tests do until pytest ends; say whether the user ended it."""
    results, reader = Results(), EventReader(folder / EVENTS_FILE)
    try:
        while True:
            has_ended = process.poll() is not None  # asked first: what it wrote last is read after it has ended
            for event in reader.read():
                ended = results.take(event)
                if event["event"] == COLLECTED and event["tests"]:
                    progress.begin(choice.file.bench.name, results)
                if ended is not None:
                    progress.ended(ended, results)
            if has_ended:
                return results, False
            progress.tick(results)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
    except KeyboardInterrupt:
        progress.say("interrupted: the running test is being ended, then the report is written")
        process.send_signal(signal.SIGINT)
        _wait(process)
        for event in reader.read():
            results.take(event)
        return results, True


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for pytest to end; one that does not is killed."""
    try:
        return process.wait(_STOP_S_MAX)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        return process.wait()


def _close(results: Results, code: int, folder: Path, progress: Progress, *, is_interrupted: bool) -> str:
    """Tell of tests that did not end; return why the run ended early, nothing if it did not."""
    if is_interrupted:
        results.close("interrupted")
        return "The run was interrupted."
    if code in (_PASSED, _FAILED):
        results.close("pytest ended without a word of this test")
        return ""
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    problem = f"pytest ended early with {how}; the end of {LOG_FILE}:\n{_log_tail(folder)}"
    if (died := results.close(problem)) is not None:
        progress.ended(died, results)
    return problem


def _why_none(choice: Choice, folder: Path, code: int) -> str:
    if code == _NO_TESTS:
        which = f" matches -k {choice.keyword!r}" if choice.keyword else " is there"
        return f"No promise test{which}: `swapline hil run --list` lists them."
    log = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    if code == _USAGE and _ERROR in log:
        return log.rpartition(_ERROR)[2].strip()
    return (
        f"pytest could not collect the tests (exit code {code}); the end of {folder / LOG_FILE}:\n{_log_tail(folder)}"
    )


def _log_tail(folder: Path) -> str:
    """Return what the log says last, or what the interpreter said as it crashed."""
    lines = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    crash = next((number for number, line in enumerate(lines) if "Fatal Python error" in line), None)
    shown = lines[-_LOG_LINES_SHOWN:] if crash is None else lines[crash : crash + _LOG_LINES_SHOWN]
    return "\n".join(line for line in shown if line.strip())


def shown_command(arguments: Sequence[str]) -> str:
    """Return the command as a person types it."""
    return shlex.join(["swapline", *arguments])
