"""How far a long command is: one line on a terminal that is written over, nothing elsewhere."""

import sys
import time

import click

INTERVAL_S = 0.5
_MB = 1_000_000


class Progress:
    """Counts rows and bytes. `row_count` is how many are expected, as far as anybody knows."""

    def __init__(self, row_count: int | None = None) -> None:
        self.rows = 0
        self.share: float | None = None  # of all, where the rows are not known before
        self.size_bytes = 0
        self._row_count = row_count
        self._is_terminal = sys.stderr.isatty()
        self._begun_s = time.monotonic()
        self._told_s = 0.0

    @property
    def took_s(self) -> float:
        """Return how long it has taken so far."""
        return time.monotonic() - self._begun_s

    def add(self, what: str, *, rows: int = 0, size_bytes: int = 0) -> None:
        """Count what was done of `what`."""
        self.rows += rows
        self.size_bytes += size_bytes
        now_s = time.monotonic()
        if self._is_terminal and now_s - self._told_s >= INTERVAL_S:
            self._told_s = now_s
            click.echo(f"{self.line()}  {what}\x1b[K\r", err=True, nl=False)

    def line(self) -> str:
        """Return rows, bytes, and how long it may still take."""
        said = f"{self.rows:,} rows  {self.size_bytes / _MB:,.1f} MB"
        share = min(1.0, self.rows / self._row_count) if self._row_count else self.share
        if not share:
            return said
        return f"{said}  {share:.0%}  {_duration(self.took_s * (1 / share - 1))} left"

    def end(self) -> None:
        """Take the line away."""
        if self._is_terminal:
            click.echo("\x1b[K", err=True, nl=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
