"""The commands beside `swapline gateway`, one file each."""

import click


def register(main: click.Group) -> None:
    """Hang the commands on the main group."""
    del main
