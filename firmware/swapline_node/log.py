"""Log: lines `<uptime_s> <level> <part> <text>` on stdout, the last of them kept for the `log` command.

Level by novelty: the first failure of a cycle warns, its repeats are `debug` and are not kept unless asked for.
"""

import sys

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_BYTES = const(1536)  # some thirty lines
_LINE_CHARACTERS_MAX = const(120)
_END = const(10)  # of a line
DEBUG = "debug"
INFO = "info"
WARNING = "warning"
ERROR = "error"


class Log:
    """A ring of the last lines, which is also the way to stdout.

    They lie in a buffer that is allocated once: texts that are kept for hours would splinter a board's heap.
    """

    def __init__(self, uptime_ms: "Callable[[], int]", *, kept_bytes: int = _KEPT_BYTES, verbose: bool = False) -> None:
        self.verbose = verbose
        self._uptime_ms = uptime_ms
        self._kept = bytearray(kept_bytes)  # lines one behind the other, each with its end
        self._count = 0  # bytes of it that are in use

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
        return bytes(self._kept[: self._count]).decode().split("\n")[:-1]

    def _write(self, level: str, part: str, text: str) -> None:
        uptime_ms = self._uptime_ms()
        line = "%d.%03d %s %s %s" % (uptime_ms // 1000, uptime_ms % 1000, level, part, text)
        line = line[:_LINE_CHARACTERS_MAX].replace("\n", " ") + "\n"
        self._keep(line.encode())
        sys.stdout.write(line)

    def _keep(self, line: bytes) -> None:
        """Put a line behind the others; the oldest ones make room for it."""
        kept = memoryview(self._kept)
        first = 0
        while self._count - first + len(line) > len(kept):
            while kept[first] != _END:
                first += 1
            first += 1
        self._count -= first
        kept[: self._count] = kept[first : first + self._count]
        kept[self._count : self._count + len(line)] = line
        self._count += len(line)
