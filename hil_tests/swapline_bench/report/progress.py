"""Show on a terminal, or in a log, how far a run is."""

import shutil
import time
from collections.abc import Callable
from typing import TextIO

import click

from swapline_bench.report.page import format_seconds
from swapline_bench.report.result import DIED, FAILED, NOT_RUN, PASSED, SKIPPED, Result, Results

STILL_EVERY_S = 30.0  # in a log; a terminal's line is rewritten
_COLORS = {PASSED: "green", FAILED: "red", DIED: "red", SKIPPED: "yellow", NOT_RUN: "yellow"}
_MESSAGE_LINES_MAX = 3
_MESSAGE_CHARACTERS_MAX = 300


class Progress:
    """Lines on `stream`: one a finished test, and on a terminal a last one that tells of the running test."""

    def __init__(
        self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic, width: Callable[[], int] | None = None
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._width = width or _terminal_width
        self._is_terminal = stream.isatty()
        self._running: str | None = None
        self._began_s = 0.0
        self._told_s = 0.0
        self._done = 0
        self._promise = ""

    def begin(self, bench: str, results: Results) -> None:
        """Say how much there is to do."""
        tests, promises = len(results.tests), len({test.promise for test in results.tests.values()})
        self._write(f"bench {bench}: {_count(tests, 'test')} of {_count(promises, 'promise')}")

    def tick(self, results: Results) -> None:
        """Show the running test; call it some times a second."""
        test = results.running
        if test is None:
            return
        now_s = self._clock()
        if test.nodeid != self._running:
            self._head(test)
            self._running, self._began_s, self._told_s = test.nodeid, now_s, now_s
        took_s = now_s - self._began_s
        if self._is_terminal:
            head = f"{self._place(len(results.tests), 1)} running {took_s:6.1f} s  "
            self._stream.write("\r\033[K" + (head + test.sentence)[: self._width() - 1])
            self._stream.flush()
        elif now_s - self._told_s >= STILL_EVERY_S:
            self._told_s = now_s
            self._write(f"{self._place(len(results.tests), 1)} still running after {took_s:.0f} s: {test.sentence}")

    def ended(self, test: Result, results: Results) -> None:
        """Say how a test ended, and why if it did not pass."""
        self._done += 1
        self._head(test)
        outcome = click.style(f"{test.outcome:<7}", fg=_COLORS.get(test.outcome), bold=test.is_bad)
        self._write(f"{self._place(len(results.tests))} {outcome} {test.duration_s:6.1f} s  {test.sentence}")
        if test.outcome != PASSED:
            for line in test.message.splitlines()[:_MESSAGE_LINES_MAX]:
                self._write(f"            {line[:_MESSAGE_CHARACTERS_MAX]}")

    def say(self, text: str) -> None:
        """Write a line of another kind."""
        self._write(text)

    def _head(self, test: Result) -> None:
        """Name the promise, once for all its tests that come one after the other."""
        if test.promise != self._promise:
            self._promise = test.promise
            self._write(test.promise)

    def _place(self, count: int, ahead: int = 0) -> str:
        width = len(str(count))
        return f"  [{self._done + ahead:>{width}}/{count}]"

    def _write(self, line: str) -> None:
        start = "\r\033[K" if self._is_terminal else ""
        click.echo(start + line, file=self._stream)


def format_summary(results: Results, duration_s: float) -> str:
    """Return a run's result for people: what is not kept first."""
    promises = results.by_promise()
    kept = sum(promise.outcome == PASSED for promise in promises)
    lines = [f"{kept} of {len(promises)} promises kept in {format_seconds(duration_s)}"]
    for promise in promises:
        counts = {outcome: sum(test.outcome == outcome for test in promise.tests) for outcome in _COLORS}
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        lines.append(f"  {promise.outcome:<7}  {promise.text}  ({said})")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns
