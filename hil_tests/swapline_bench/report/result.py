"""What became of a run's tests, as the plug-in tells it event by event and the report shows it."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

PASSED, FAILED, SKIPPED, DIED, NOT_RUN = "passed", "failed", "skipped", "died", "not run"
COLLECTED, STARTED, FINISHED, COLLECT_ERROR = "collected", "started", "finished", "collect_error"
WORST_FIRST = (DIED, FAILED, NOT_RUN, SKIPPED, PASSED)
EVENTS_FILE = "events.jsonl"


@dataclass(slots=True)
class Result:
    """One test: what it is, how it ended and why."""

    nodeid: str
    page: str  # file name of its page and its timeline, without suffix
    promise: str = ""
    summary: str = ""  # first paragraph of the test's docstring, if it has one
    needs: list[str] = field(default_factory=list)
    outcome: str = NOT_RUN
    phase: str = ""  # of a failure: setup, call or teardown
    message: str = ""
    details: str = ""  # the traceback
    sections: list[tuple[str, str]] = field(default_factory=list)  # captured output by name
    figures: list[tuple[str, Any]] = field(default_factory=list)  # what the test measured: record_property
    begin_utc_s: float = 0.0
    duration_s: float = 0.0
    timelines: list[str] = field(default_factory=list)  # file names

    @property
    def name(self) -> str:
        """Return the test's function with its parameters."""
        return self.nodeid.rpartition("::")[2] or self.nodeid

    @property
    def sentence(self) -> str:
        """Return the test's name as a sentence: tests are named so."""
        function, bracket, parameters = self.name.partition("[")
        text = function.removeprefix("test_").replace("_", " ")
        return text + (f" [{parameters}" if bracket else "")

    @property
    def is_bad(self) -> bool:
        """Say whether the run failed because of this test."""
        return self.outcome in (FAILED, DIED, NOT_RUN)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Self:
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in line.items() if key in known})


class EventReader:
    """The events that another process has written to a file so far. A line that is not yet whole is left for later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what is new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


class Results:
    """All tests of a run in the order in which they run, and which one is running."""

    def __init__(self) -> None:
        self.tests: dict[str, Result] = {}
        self.running: Result | None = None

    def take(self, event: dict[str, Any]) -> Result | None:
        """Take one event; return the test that it ended, if it ended one."""
        kind = event["event"]
        if kind == COLLECTED:
            for line in event["tests"]:
                self.tests.setdefault(line["nodeid"], Result.from_json(line))
        elif kind == STARTED:
            self.running = Result.from_json(event["test"])
            self.tests[self.running.nodeid] = self.running
        elif kind in (FINISHED, COLLECT_ERROR):
            ended = Result.from_json(event["test"])
            self.tests[ended.nodeid] = ended
            self.running = None
            return ended
        return None

    def close(self, why: str) -> Result | None:
        """End the run: a test that was still running died, `why` says of what. Return it."""
        died, self.running = self.running, None
        if died is not None:
            died.outcome = DIED
            died.message = why
            died.duration_s = died.duration_s or max(0.0, time.time() - died.begin_utc_s)
        for test in self.tests.values():
            if test.outcome == NOT_RUN and not test.message:
                test.message = "The run ended before this test."
        return died

    def count(self, *outcomes: str) -> int:
        return sum(test.outcome in outcomes for test in self.tests.values())

    @property
    def is_good(self) -> bool:
        """Say whether something was tested and nothing failed."""
        return bool(self.tests) and not any(test.is_bad for test in self.tests.values())

    def worst_first(self) -> list[Result]:
        return sorted(self.tests.values(), key=lambda test: WORST_FIRST.index(test.outcome))

    def by_promise(self) -> list["Promise"]:
        """Return the promises, those first that are not kept."""
        groups: dict[str, list[Result]] = {}
        for test in self.tests.values():
            groups.setdefault(test.promise or "no promise", []).append(test)
        promises = [Promise(text, sorted(tests, key=_rank)) for text, tests in groups.items()]
        return sorted(promises, key=lambda promise: WORST_FIRST.index(promise.outcome))


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise with the tests that hold it."""

    text: str
    tests: list[Result]

    @property
    def outcome(self) -> str:
        """Return the worst outcome of its tests; skipped only where all are: what ran was kept."""
        outcomes = {test.outcome for test in self.tests}
        bad = next((outcome for outcome in (DIED, FAILED, NOT_RUN) if outcome in outcomes), None)
        return bad or (PASSED if PASSED in outcomes else SKIPPED)

    @property
    def duration_s(self) -> float:
        return sum(test.duration_s for test in self.tests)


def _rank(test: Result) -> int:
    return WORST_FIRST.index(test.outcome)


def read_results(path: Path) -> Results:
    """Read a whole file of events."""
    return replay_events(EventReader(path).read())


def replay_events(events: Iterable[dict[str, Any]]) -> Results:
    """Return what a series of events leads to."""
    results = Results()
    for event in events:
        results.take(event)
    return results
