"""Write the report of a run: `index.html`, a page a test, `report.json`, and a JUnit file where pytest left none."""

import datetime as dt
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from swapline_bench.report.plugin import TESTS_FOLDER
from swapline_bench.report.result import DIED, FAILED, NOT_RUN, PASSED, SKIPPED, Result, Results
from swapline_bench.report.story import Lane, Story, load_story

JUNIT_FILE = "junit.xml"
LOG_FILE = "pytest.log"
REPORT_FILE = "report.json"
INDEX_FILE = "index.html"
_STATIC = resources.files("swapline_bench.report") / "static"


@dataclass(slots=True)
class Run:
    """A run that is over."""

    results: Results
    provenance: dict[str, Any]
    command: str
    begin_utc_s: float
    duration_s: float
    problem: str = ""  # why the run ended early
    is_interrupted: bool = False  # by the user
    is_written: bool = True  # the report
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the object that is printed as the last line."""
        count = self.results.count
        return {
            "bench": self.provenance["bench"]["name"],
            "passed": count(PASSED),
            "failed": count(FAILED, DIED),
            "skipped": count(SKIPPED),
            "not_run": count(NOT_RUN),
            "duration_s": round(self.duration_s, 1),
        }


@dataclass(slots=True)
class _Gathered:
    """What the index shows of the tests' stories, which are too large to be kept all at once."""

    lasts: dict[str, list[Lane]] = field(default_factory=dict)
    sparks: dict[str, Markup] = field(default_factory=dict)
    births: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, test: Result, story: Story) -> None:
        self.sparks[test.nodeid] = Markup(story.spark())  # noqa: S704 - made of numbers alone
        if test.is_bad and story.entries:
            self.lasts[test.nodeid] = story.last_second()
        for birth in story.births():
            said = {key: birth.get(key) for key in ("firmware", "board", "protocol")}
            self.births[json.dumps(said, sort_keys=True)] = said


def write_report(folder: Path, run: Run, on_page: Callable[[int, int], None] = lambda _done, _all: None) -> None:
    """Write all pages into the folder that the plug-in wrote to; `on_page` hears how many of all pages are done."""
    environment = _environment()
    tests = run.results.worst_first()
    gathered = _Gathered()
    for number, test in enumerate(tests):
        _find_timelines(folder, test)
        story, problems = load_story(folder / TESTS_FOLDER, test.timelines)
        run.warnings += problems
        gathered.take(test, story)
        text = environment.get_template("test.html").render(
            **_test_page(run, test, story),
            before=tests[number - 1] if number else None,
            after=tests[number + 1] if number + 1 < len(tests) else None,
        )
        (folder / TESTS_FOLDER / f"{test.page}.html").write_text(text, encoding="utf-8")
        on_page(number + 1, len(tests))
    index = environment.get_template("index.html").render(**_index_page(run, gathered))
    (folder / INDEX_FILE).write_text(index, encoding="utf-8")
    (folder / REPORT_FILE).write_text(json.dumps(_as_json(run, gathered), indent=2) + "\n", encoding="utf-8")
    if not (folder / JUNIT_FILE).is_file():
        _write_junit(folder / JUNIT_FILE, run)


def _find_timelines(folder: Path, test: Result) -> None:
    """Find what a test left that could not report it: pytest died in it."""
    if not test.timelines:
        test.timelines = sorted(path.name for path in (folder / TESTS_FOLDER).glob(f"{test.page}*.jsonl"))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_static), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.globals["asset"] = lambda name: Markup(_read_static(name))  # noqa: S704 - our own files
    environment.filters["seconds"] = format_seconds
    environment.filters["figure"] = format_figure
    return environment


def _read_static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _test_page(run: Run, test: Result, story: Story) -> dict[str, Any]:
    return {
        "test": test,
        "bench": run.provenance["bench"],
        "begin": format_time(test.begin_utc_s or run.begin_utc_s),
        "last": story.last_second() if test.is_bad and story.entries else [],
        "data": story.pack() if story.entries else "",
    }


def _index_page(run: Run, gathered: _Gathered) -> dict[str, Any]:
    results = run.results
    promises = results.by_promise()
    return {
        "results": results,
        "promises": promises,
        "kept": sum(promise.outcome == PASSED for promise in promises),
        "failures": [test for test in results.worst_first() if test.outcome in (DIED, FAILED)],
        "slowest": max([test.duration_s for test in results.tests.values()], default=0) or 1,
        "lasts": gathered.lasts,
        "sparks": gathered.sparks,
        "births": list(gathered.births.values()),
        "seeds": _seeds(results.tests.values()),
        "provenance": run.provenance,
        "bench": run.provenance["bench"],
        "begin": format_time(run.begin_utc_s),
        "duration": format_seconds(run.duration_s),
        "command": run.command,
        "problem": run.problem,
    }


def _seeds(tests: Iterable[Result]) -> list[tuple[str, Any, str]]:
    """Return each seed with the tests that drew from it."""
    users: dict[tuple[str, str], list[str]] = {}
    for test in tests:
        for name, value in test.figures:
            if name.startswith("seed"):
                users.setdefault((name, str(value)), []).append(test.sentence)
    return [(*seed, names[0] if len(names) == 1 else f"{len(names)} tests") for seed, names in users.items()]


def _as_json(run: Run, gathered: _Gathered) -> dict[str, Any]:
    return {
        **run.summary(),
        "begin_utc": format_time(run.begin_utc_s),
        "command": run.command,
        "problem": run.problem,
        "warnings": run.warnings,
        "promises": [
            {"text": promise.text, "outcome": promise.outcome, "tests": [test.nodeid for test in promise.tests]}
            for promise in run.results.by_promise()
        ],
        "tests": [_test_as_json(test) for test in run.results.worst_first()],
        "births": list(gathered.births.values()),
        "provenance": run.provenance,
    }


def _test_as_json(test: Result) -> dict[str, Any]:
    line = {key: value for key, value in test.as_json().items() if key not in ("sections", "figures", "page")}
    page = f"{TESTS_FOLDER}/{test.page}.html"
    return {**line, "duration_s": round(test.duration_s, 3), "figures": dict(test.figures), "page": page}


def _write_junit(path: Path, run: Run) -> None:
    """Write what pytest would have written, had it lived."""
    count = run.results.count
    suites = ET.Element("testsuites")
    numbers = {"tests": len(run.results.tests), "failures": count(FAILED), "errors": count(DIED, NOT_RUN)}
    numbers["skipped"] = count(SKIPPED)
    texts = {name: str(number) for name, number in numbers.items()}
    suite = ET.SubElement(suites, "testsuite", {"name": "pytest", "time": f"{run.duration_s:.3f}", **texts})
    for test in run.results.tests.values():
        place = test.nodeid.rpartition("::")[0].replace("/", ".").removesuffix(".py")
        case = ET.SubElement(suite, "testcase", classname=place, name=test.name, time=f"{test.duration_s:.3f}")
        kinds = {FAILED: "failure", DIED: "error", NOT_RUN: "error", SKIPPED: "skipped"}
        if test.outcome in kinds:
            why = ET.SubElement(case, kinds[test.outcome], message=_xml_text(test.message))
            why.text = _xml_text(test.details)
    ET.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def _xml_text(text: str) -> str:
    """Return text without what XML cannot hold."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def format_time(utc_s: float) -> str:
    """Return a time as people and programs read it."""
    return dt.datetime.fromtimestamp(utc_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def format_seconds(seconds: float) -> str:
    """Return a duration: 0.12 s, 12.3 s, 4 min 05 s."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def format_figure(value: object) -> str:
    """Return a measured value for people."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
