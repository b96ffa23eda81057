"""Log: lines `<uptime_s> <level> <part> <text>` on stdout, the last of them kept for the `log` command.

Level by novelty: the first failure of a cycle warns, its repeats are `debug` and are not kept unless asked for.
"""

import sys

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

_LINES_MAX = const(32)
_LINE_CHARACTERS_MAX = const(120)
DEBUG = "debug"
INFO = "info"
WARNING = "warning"
ERROR = "error"


class Log:
    """A ring of the last lines, which is also the way to stdout."""

    def __init__(self, uptime_ms: "Callable[[], int]", *, lines_max: int = _LINES_MAX, verbose: bool = False) -> None:
        self.verbose = verbose
        self._uptime_ms = uptime_ms
        self._lines: "list[str]" = [""] * lines_max
        self._next = 0

    def debug(self, part: str, text: str) -> None:
        """Say what only a person in search of a fault wants to read."""
        if self.verbose:
            self._write(DEBUG, part, text)

    def info(self, part: str, text: str) -> None:
        """Say that something normal happened which happens rarely."""
        self._write(INFO, part, text)

    def warning(self, part: str, text: str) -> None:
        """Say that something failed that the node copes with."""
        self._write(WARNING, part, text)

    def error(self, part: str, text: str) -> None:
        """Say that something failed that costs data or needs a person."""
        self._write(ERROR, part, text)

    def lines(self) -> "list[str]":
        """Return the kept lines, oldest first."""
        ring = self._lines[self._next :] + self._lines[: self._next]
        return [line for line in ring if line]

    def _write(self, level: str, part: str, text: str) -> None:
        uptime_ms = self._uptime_ms()
        line = "%d.%03d %s %s %s" % (uptime_ms // 1000, uptime_ms % 1000, level, part, text)
        line = line[:_LINE_CHARACTERS_MAX]
        self._lines[self._next] = line
        self._next = (self._next + 1) % len(self._lines)
        sys.stdout.write(line + "\n")
