"""Where a simulator's words go: the port on stdout, everything else on stderr, with a status line on a terminal."""

import sys

import click


class Screen:
    """Lines of text, and on a terminal one line below them that is rewritten."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Write a line of its own."""
        click.echo(("\r\x1b[K" if self._is_terminal else "") + text, err=True)

    def show(self, text: str) -> None:
        """Rewrite the status line."""
        if self._is_terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def end(self, text: str) -> None:
        """Take the status line away and write the summary."""
        self.say(text)
