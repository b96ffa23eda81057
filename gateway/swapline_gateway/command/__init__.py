"""The commands beside `swapline gateway`, one file each."""

import click

from .check import check
from .missing import missing
from .quarantine import quarantine
from .tap import tap


def register(main: click.Group) -> None:
    """Hang the commands on the main group."""
    for command in (check, missing, quarantine, tap):
        main.add_command(command)
