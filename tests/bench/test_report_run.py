"""A run of pytest, followed and reported: whatever happens to a test, the report says so."""

import errno
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import hil_cli
from swapline_bench.desk import bench_file
from swapline_bench.desk.lock import Locks
from swapline_bench.report import provenance
from swapline_bench.report.page import Run
from swapline_bench.report.progress import Progress, format_summary
from swapline_bench.report.result import DIED, FAILED, NOT_RUN, PASSED, SKIPPED, Result, Results
from swapline_bench.report.run import Choice, RunError, list_tests, prepare, run_tests

ROOT = Path(__file__).parents[2]
COLLECT = provenance.collect
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--bench")

def pytest_configure(config):
    config.addinivalue_line("markers", "promise(sentence): x")
    config.addinivalue_line("markers", "needs(*words): x")
"""
SETTINGS = """
[tool.pytest.ini_options]
addopts = "--strict-markers"
asyncio_default_fixture_loop_scope = "function"
timeout = 60
filterwarnings = ["error"]
"""
HEAD = """
import os, signal, pytest
from swapline_bench.report.timeline import Timeline

pytestmark = [pytest.mark.promise("keeps its word"), pytest.mark.needs("power")]

@pytest.fixture
def timeline():
    made = Timeline()
    made.power("on")
    made.serial("bay1", True, bytes.fromhex("dda50300fffd77"))
    made.message("swapline/v1/bench/node-001/status", b'{"firmware": "9.9", "board": "virtual", "protocol": 1}')
    made.log("0.1 info node boot")
    return made
"""
MIXED = """
def test_that_passes(timeline, record_property):
    "Passes."
    record_property("p99_ms", 12.5)
    record_property("seed_of_faults", 7)
    print("said <b>boldly</b>")

def test_that_fails(timeline):
    timeline.fault("bay1: stuck")
    assert 1 == 2, "one is not two"

@pytest.mark.promise("another word")
@pytest.mark.parametrize("bms", ["jbd", "jk"])
def test_that_is_skipped(bms):
    pytest.skip("bench virtual lacks 'power': it does")

@pytest.fixture
def broken(timeline):
    yield
    timeline.mark("now")
    raise RuntimeError("the desk <fell> over")

def test_whose_teardown_fails(broken):
    pass

def test_that_is_not_of_the_run():
    pass
test_that_is_not_of_the_run.pytestmark = []
"""
DYING = """
def test_before(timeline):
    pass

def test_that_dies(timeline):
    timeline.log("0.2 error the last words")
    os.kill(os.getpid(), signal.SIGKILL)

def test_after(timeline):
    pass
"""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find out once what all runs here are made with: that compiles the firmware each time."""
    monkeypatch.setattr(provenance, "collect", _collect)


@functools.cache
def _collected() -> dict[str, Any]:
    return COLLECT(bench_file.load(bench_file.VIRTUAL))


def _collect(_: bench_file.BenchFile) -> dict[str, Any]:
    return _collected()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the tests' folder of a project that stands for the repository."""
    (tmp_path / "project" / "tests").mkdir(parents=True)
    (tmp_path / "project" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "project" / "pyproject.toml").write_text(SETTINGS)
    return tmp_path / "project" / "tests"


def _choice(project: Path, tests: str, **more: Any) -> Choice:
    (project / "test_word.py").write_text(HEAD + tests)
    return Choice(bench_file.load(bench_file.VIRTUAL), tests=project, **more)


def _run(choice: Choice, folder: Path) -> tuple[Run, str]:
    prepare(folder)
    stream = io.StringIO()
    return run_tests(choice, folder, Progress(stream), command="swapline hil run"), stream.getvalue()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, str, Path]]:
    """Run the tests that end in every way that leaves pytest alive, once."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "project" / "tests").mkdir(parents=True)
    (root / "project" / "conftest.py").write_text(CONFTEST)
    (root / "project" / "pyproject.toml").write_text(SETTINGS)
    run, progress = _run(_choice(root / "project" / "tests", MIXED), root / "report")
    yield run, progress, root / "report"
    shutil.rmtree(root)


def _by_name(run: Run) -> dict[str, Result]:
    return {test.name: test for test in run.results.tests.values()}


def test_every_test_is_reported_as_it_ended(mixed: tuple[Run, str, Path]) -> None:
    run, _, _ = mixed
    outcomes = {name: (test.outcome, test.phase) for name, test in _by_name(run).items()}
    assert outcomes == {
        "test_that_passes": (PASSED, ""),
        "test_that_fails": (FAILED, "call"),
        "test_that_is_skipped[jbd]": (SKIPPED, ""),
        "test_that_is_skipped[jk]": (SKIPPED, ""),
        "test_whose_teardown_fails": (FAILED, "teardown"),
        "test_that_is_not_of_the_run": (PASSED, ""),  # the module's mark is its own as well
    }
    assert not run.results.is_good
    summary = run.summary()
    assert 0 < summary.pop("duration_s") < 60
    assert summary == {"bench": "virtual", "passed": 2, "failed": 2, "skipped": 2, "not_run": 0}


def test_a_test_says_its_promise_needs_figures_and_reason(mixed: tuple[Run, str, Path]) -> None:
    tests = _by_name(mixed[0])
    passed, skipped, failed = tests["test_that_passes"], tests["test_that_is_skipped[jk]"], tests["test_that_fails"]
    assert passed.promise == "keeps its word"
    assert passed.needs == ["power"]
    assert dict(passed.figures) == {"p99_ms": 12.5, "seed_of_faults": 7}
    assert passed.sentence == "that passes"
    assert skipped.promise == "another word"
    assert skipped.message == "bench virtual lacks 'power': it does"
    assert skipped.sentence == "that is skipped [jk]"
    assert "one is not two" in failed.message
    assert "test_word.py" in failed.details


def test_progress_is_one_line_a_test_with_the_reason(mixed: tuple[Run, str, Path]) -> None:
    lines = mixed[1].splitlines()
    assert lines[0] == "bench virtual: 6 tests of 2 promises"
    assert lines[1] == "keeps its word"
    assert lines[2].startswith("  [1/6] passed ")
    assert lines[2].endswith(" s  that passes")
    place = next(number for number, line in enumerate(lines) if line.endswith("that fails"))
    assert lines[place].startswith("  [2/6] failed ")
    assert "one is not two" in lines[place + 1]


def test_pages_stand_alone_and_tell_of_failures_first(mixed: tuple[Run, str, Path]) -> None:
    run, _, folder = mixed
    index = (folder / "index.html").read_text()
    assert index.index("one is not two") < index.index("<h2>Promises</h2>")
    assert "the last second of each track" in index
    assert "0 of 2 promises kept" in index
    assert "firmware 9.9, board virtual" in index
    assert run.provenance["bench"]["sha256"] in index
    pages = [folder / "index.html", *(folder / "tests").glob("*.html")]
    assert len(pages) == 7
    for page in pages:
        text = page.read_text()
        assert "the desk <fell> over" not in text, f"{page} does not escape"
        assert "<b>boldly" not in text, f"{page} does not escape"
        assert "http://" not in text, f"{page} needs a network"
        assert "https://" not in text, f"{page} needs a network"


def test_report_is_also_json_and_junit(mixed: tuple[Run, str, Path]) -> None:
    run, _, folder = mixed
    report = json.loads((folder / "report.json").read_text())
    assert {key: report[key] for key in run.summary()} == run.summary()
    assert report["promises"][0] == {
        "text": "keeps its word",
        "outcome": FAILED,
        "tests": [test.nodeid for test in run.results.by_promise()[0].tests],
    }
    assert report["tests"][0]["outcome"] == FAILED
    assert next(t for t in report["tests"] if t["nodeid"].endswith("test_that_passes"))["figures"]["p99_ms"] == 12.5
    assert set(report["provenance"]) == {"bench", "firmware", "repository", "micropython", "host", "packages"}
    suite = ET.parse(folder / "junit.xml").getroot()[0]  # noqa: S314 - ours
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "2")


def test_second_run_replaces_the_first_report(mixed: tuple[Run, str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "report"
    shutil.copytree(mixed[2], folder)
    prepare(folder)
    assert list(folder.iterdir()) == []


def test_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(RunError, match="would be lost: name another folder with --report"):
        prepare(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_test_that_dies_leaves_its_timeline_and_the_rest_is_not_run(project: Path, tmp_path: Path) -> None:
    run, progress = _run(_choice(project, DYING), tmp_path / "report")
    tests = _by_name(run)
    outcomes = [tests[name].outcome for name in ("test_before", "test_that_dies", "test_after")]
    assert outcomes == [PASSED, DIED, NOT_RUN]
    assert "pytest ended early with signal SIGKILL" in tests["test_that_dies"].message
    assert "died" in progress
    assert run.summary()["failed"] == 1
    page = tmp_path / "report" / "index.html"
    assert "0.2 error the last words" in page.read_text()
    suite = ET.parse(tmp_path / "report" / "junit.xml").getroot()[0]  # noqa: S314 - ours
    assert (suite.get("tests"), suite.get("errors")) == ("3", "2")


def test_a_test_that_takes_too_long_leaves_its_timeline(project: Path, tmp_path: Path) -> None:
    hangs = "import threading\n@pytest.mark.timeout(0.5)\ndef test_hangs(timeline):\n    threading.Event().wait()\n"
    run, _ = _run(_choice(project, hangs), tmp_path / "report")
    (test,) = run.results.tests.values()
    assert test.outcome == FAILED
    assert "Timeout" in test.message
    assert test.timelines
    assert "0.1 info node boot" in (tmp_path / "report" / "index.html").read_text()


def test_interrupted_run_is_reported(project: Path, tmp_path: Path) -> None:
    waits = "import threading\ndef test_waits(timeline):\n    threading.Event().wait()\ndef test_after():\n    pass\n"
    choice = _choice(project, waits)
    events = tmp_path / "report" / "events.jsonl"

    def interrupt() -> None:
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s and not (events.exists() and b"started" in events.read_bytes()):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    run, _ = _run(choice, tmp_path / "report")
    thread.join()
    assert run.is_interrupted
    assert run.problem == "The run was interrupted."
    waiting, after = run.results.tests.values()
    assert (waiting.outcome, waiting.message) == (NOT_RUN, "Interrupted while it ran.")
    assert waiting.duration_s > 0
    assert (after.outcome, after.message) == (NOT_RUN, "The run ended before this test.")
    assert "Interrupted while it ran." in (tmp_path / "report" / "index.html").read_text()


RUN_UNTIL_KILLED = """
import signal
import sys
from pathlib import Path
from swapline_bench.desk import bench_file
from swapline_bench.report.progress import Progress
from swapline_bench.report.run import Choice, prepare, run_tests

signal.signal(signal.SIGINT, signal.SIG_IGN)
prepare(Path(sys.argv[2]))
choice = Choice(bench_file.load(bench_file.VIRTUAL), tests=Path(sys.argv[1]))
run_tests(choice, Path(sys.argv[2]), Progress(sys.stderr), command="killed")
"""
WAITS = """
import threading
from pathlib import Path

@pytest.fixture
def node():
    Path({mark!r} + ".on").write_text(str(os.getpid()))
    yield
    Path({mark!r} + ".off").write_text("")

def test_waits(node):
    threading.Event().wait()
"""


def test_run_that_is_killed_takes_its_tests_along_and_they_clean_up(project: Path, tmp_path: Path) -> None:
    """In a shell's background as well, where programs start with Ctrl-C ignored."""
    _choice(project, WAITS.format(mark=str(tmp_path / "node")))
    run = subprocess.Popen(
        [sys.executable, "-c", RUN_UNTIL_KILLED, str(project), str(tmp_path / "report")],
        stderr=subprocess.DEVNULL,
    )
    _until(lambda: (tmp_path / "node.on").exists() and (tmp_path / "node.on").read_text() != "")
    pid = int((tmp_path / "node.on").read_text())
    run.kill()
    run.wait()
    _until((tmp_path / "node.off").exists)
    _until(lambda: not _is_alive(pid))


def _until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_asks_a_run_to_end_is_heard_as_ctrl_c_is(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), hil_cli.ends_as_ctrl_c():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_wrong_expression_is_no_failure_of_the_tests(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^Wrong expression passed to '-k': and and: at column 1"):
        _run(_choice(project, MIXED, keyword="and and"), tmp_path / "report")


def test_report_that_cannot_be_written_is_said_after_the_results(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("swapline_bench.report.run.write_report", be_full)
    run, _ = _run(_choice(project, "def test_passes():\n    pass\n"), tmp_path / "report")
    assert run.results.is_good
    assert not run.is_written
    assert "could not be written" in run.problem
    assert "No space left on device" in run.problem


def test_file_that_does_not_import_is_a_failure(project: Path, tmp_path: Path) -> None:
    run, _ = _run(_choice(project, "import no_such_module\n"), tmp_path / "report")
    (test,) = run.results.tests.values()
    assert test.outcome == FAILED
    assert "no_such_module" in test.message


def test_keyword_that_matches_nothing_is_said(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No promise test matches -k 'nothing': `swapline hil run --list` lists them"):
        _run(_choice(project, MIXED, keyword="nothing"), tmp_path / "report")


def test_first_failure_ends_a_run_that_shall_stop_early(project: Path, tmp_path: Path) -> None:
    run, _ = _run(_choice(project, MIXED, stops_early=True), tmp_path / "report")
    assert run.results.count(PASSED, FAILED) == 2
    assert run.results.count(NOT_RUN) == 4


def test_tests_are_listed_without_being_run(project: Path, tmp_path: Path) -> None:
    results = list_tests(_choice(project, DYING), tmp_path)
    assert [test.name for test in results.tests.values()] == ["test_before", "test_that_dies", "test_after"]


def test_without_the_tests_the_reason_is_said(tmp_path: Path) -> None:
    choice = Choice(bench_file.load(bench_file.VIRTUAL), tests=tmp_path)
    with pytest.raises(RunError, match="run from a checkout of the repository"):
        list_tests(choice, tmp_path)


def _hil(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("swapline")
    return subprocess.run([program, "hil", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_bench_that_cannot_be_used_ends_with_2_and_a_sentence(tmp_path: Path) -> None:
    text = bench_file.VIRTUAL.read_text().replace('kind = "mosquitto"', 'kind = "external"\nport = 1')
    (tmp_path / "mine.toml").write_text(text)
    for arguments in (("run", "--bench"), ("check",)):
        done = _hil(*arguments, str(tmp_path / "mine.toml"))
        assert done.returncode == 2
        assert "The broker at 127.0.0.1:1 does not answer" in done.stderr
        assert "Traceback" not in done.stderr


def test_unknown_bench_names_those_that_come_along() -> None:
    done = _hil("run", "--bench", "no-such-bench")
    assert done.returncode == 2
    assert "no such bench file; those that come along are" in done.stderr


def test_benches_are_listed_with_their_state() -> None:
    done = _hil("benches", "--json")
    benches = {bench["name"]: bench for bench in json.loads(done.stdout)["benches"]}
    assert benches["virtual"]["obstacles"] == []
    assert _hil("benches").stdout.splitlines()[-1].startswith("`swapline hil check NAME`")


def test_check_says_what_a_bench_can_do() -> None:
    done = _hil("check", "virtual", "--json")
    assert done.returncode == 0
    assert "brown_out" in json.loads(done.stdout)["features"]


def test_folder_of_a_run_that_goes_on_is_not_emptied(tmp_path: Path) -> None:
    with Locks([f"Report folder {tmp_path / 'report'}"]):
        done = _hil("run", "--report", str(tmp_path / "report"), "-k", "boots")
    assert done.returncode == 2
    assert f"Report folder {tmp_path / 'report'} is in use by process {os.getpid()}" in done.stderr


def test_session_that_finds_its_bench_in_use_runs_nothing(tmp_path: Path) -> None:
    text = bench_file.VIRTUAL.read_text().replace("exclusive = false", "").replace('"virtual"', '"only-one"')
    (tmp_path / "mine.toml").write_text(text)
    with Locks(["Bench only-one"]):
        command = [sys.executable, "-m", "pytest", "hil_tests/test_boots_and_reports.py", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--bench={tmp_path / 'mine.toml'}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: Bench only-one is in use by process" in done.stderr


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_shows_the_running_test_in_one_line() -> None:
    results = Results()
    test = Result("t.py::test_one_thing", "001", promise="keeps its word")
    results.tests[test.nodeid] = results.running = test
    stream, now_s = _Terminal(), [0.0]
    progress = Progress(stream, clock=lambda: now_s[0], width=lambda: 40)
    progress.tick(results)
    now_s[0] = 2.5
    progress.tick(results)
    last = stream.getvalue().split("\r\033[K")[-1]
    assert last.startswith("  [1/1] running    2.5 s")
    assert len(last) < 40


def test_log_is_told_of_a_long_test_from_time_to_time() -> None:
    results = Results()
    test = Result("t.py::test_one_thing", "001")
    results.tests[test.nodeid] = results.running = test
    stream, now_s = io.StringIO(), [0.0]
    progress = Progress(stream, clock=lambda: now_s[0])
    for second in range(61):
        now_s[0] = float(second)
        progress.tick(results)
    assert stream.getvalue().splitlines() == [
        "  [1/1] still running after 30 s: one thing",
        "  [1/1] still running after 60 s: one thing",
    ]


def test_summary_names_broken_promises_first() -> None:
    results = Results()
    for number, (promise, outcome) in enumerate([("a", PASSED), ("b", FAILED), ("b", PASSED), ("c", SKIPPED)]):
        results.tests[str(number)] = Result(str(number), str(number), promise=promise, outcome=outcome)
    assert format_summary(results, 65).splitlines() == [
        "1 of 3 promises kept in 65.0 s",
        "  failed   b  (1 passed, 1 failed)",
        "  skipped  c  (1 skipped)",
        "  passed   a  (1 passed)",
    ]
