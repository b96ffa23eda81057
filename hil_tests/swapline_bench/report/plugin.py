"""A pytest plug-in that tells what its tests do: `pytest -p swapline_bench.report.plugin --hil-report DIR`.

Each event is a line of `DIR/events.jsonl`, written at once, so that whoever started pytest can show progress and still
knows, when pytest is killed, which test it was in. The timelines that a test makes go to `DIR/tests` while it runs.
"""

import inspect
import io
import json
import re
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.report import result
from swapline_bench.report.result import EVENTS_FILE, Result
from swapline_bench.report.timeline import Timeline, tell_new

TESTS_FOLDER = "tests"
_SECTION_CHARACTERS_MAX = 200_000
_PAGE_CHARACTERS_MAX = 80


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("swapline").addoption(
        "--hil-report", metavar="DIR", type=Path, default=None, help="write what the tests do to this folder"
    )


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("--hil-report")
    if folder is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without
        config.pluginmanager.register(Recorder(folder), "swapline-report")


class Recorder:
    """Writes events and timelines of one pytest run into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / TESTS_FOLDER).mkdir(parents=True, exist_ok=True)
        self._events = io.FileIO(folder / EVENTS_FILE, "w")
        self._pages: dict[str, str] = {}
        self._test: Result | None = None
        self._timelines: list[tuple[Timeline, Path]] = []
        self._stop_listening: Callable[[], None] = tell_new(self._follow)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._tell({"event": result.COLLECTED, "tests": [self._describe(item).as_json() for item in session.items]})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            failed = Result(report.nodeid, self._page(report.nodeid), outcome=result.FAILED, phase="collection")
            failed.details = report.longreprtext
            failed.message = _last_line(failed.details)
            self._tell({"event": result.COLLECT_ERROR, "test": failed.as_json()})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        test = self._test = self._describe(item)
        test.begin_utc_s = time.time()
        self._tell({"event": result.STARTED, "test": test.as_json()})
        try:
            return (yield)
        except KeyboardInterrupt:
            test.message = "Interrupted while it ran."
            test.duration_s = time.time() - test.begin_utc_s
            raise
        finally:
            test.figures = [(name, _plain(value)) for name, value in item.user_properties]
            self._finish(test)

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Note the seed that the test's desk draws everything random from, if it has a desk."""
        seed = getattr(getattr(item, "funcargs", {}).get("desk"), "seed", None)
        if seed is not None:
            item.user_properties.append(("seed", seed))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self._test
        if test is None:
            return
        test.duration_s += report.duration
        _add_outcome(test, report)
        test.sections = [(name, text[-_SECTION_CHARACTERS_MAX:]) for name, text in report.sections]
        if report.failed:
            self._mark(f"{report.when} failed: {test.message}")
        elif report.when == "setup":
            self._mark("test begins")
        elif report.when == "call":
            self._mark(f"test {report.outcome}")

    def pytest_unconfigure(self) -> None:
        self._stop_listening()
        self._events.close()

    def _describe(self, item: pytest.Item) -> Result:
        promise = item.get_closest_marker("promise")
        needs = [str(need) for marker in item.iter_markers("needs") for need in marker.args]
        summary = inspect.getdoc(getattr(item, "obj", None)) or ""
        return Result(
            item.nodeid,
            self._page(item.nodeid),
            promise=str(promise.args[0]) if promise and promise.args else "",
            summary=summary.partition("\n\n")[0],
            needs=list(dict.fromkeys(needs)),
        )

    def _page(self, nodeid: str) -> str:
        if nodeid not in self._pages:
            words = re.sub(r"[^A-Za-z0-9]+", "-", nodeid.rpartition("/")[2]).strip("-")
            self._pages[nodeid] = f"{len(self._pages) + 1:03d}-{words[:_PAGE_CHARACTERS_MAX]}"
        return self._pages[nodeid]

    def _follow(self, timeline: Timeline) -> None:
        if self._test is None:
            return
        number = len(self._timelines) + 1
        name = f"{self._test.page}{'' if number == 1 else f'.{number}'}.jsonl"
        path = self._folder / TESTS_FOLDER / name
        timeline.follow(path)
        self._timelines.append((timeline, path))

    def _mark(self, text: str) -> None:
        for timeline, _ in self._timelines:
            timeline.mark(text)

    def _finish(self, test: Result) -> None:
        for timeline, path in self._timelines:
            timeline.save(path)
            test.timelines.append(path.name)
        self._timelines.clear()
        self._test = None
        self._tell({"event": result.FINISHED, "test": test.as_json()})

    def _tell(self, event: dict[str, Any]) -> None:
        self._events.write(json.dumps(event, default=str).encode() + b"\n")


def _add_outcome(test: Result, report: pytest.TestReport) -> None:
    if report.failed and test.outcome != result.FAILED:
        test.outcome, test.phase = result.FAILED, report.when or ""
        test.message, test.details = _message(report), report.longreprtext
    elif report.skipped and test.outcome == result.NOT_RUN:
        test.outcome = result.SKIPPED
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(getattr(report, "wasxfail", ""))
        test.message = reason.removeprefix("Skipped: ")
    elif report.when == "call" and report.passed and test.outcome == result.NOT_RUN:
        test.outcome = result.PASSED


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash is not None else _last_line(report.longreprtext)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("E").strip() if lines else "failed without a message"


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float, str, bool, list, dict)) or value is None else str(value)
