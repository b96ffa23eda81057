"""The commands beside `swapline gateway`, one file each."""

import click

from .alarms import alarms
from .check import check
from .custody import custody
from .holder import holder
from .missing import missing
from .module import module
from .quarantine import quarantine
from .tap import tap
from .warnings import warnings


def register(main: click.Group) -> None:
    """Hang the commands on the main group."""
    for command in (alarms, check, custody, holder, missing, module, quarantine, tap, warnings):
        main.add_command(command)
