"""The commands of `swapline cloud`. Each file here has a `register(group)` and is found by being here."""

import importlib
import pkgutil

import click


def register(group: click.Group) -> None:
    """Hang the commands on the group."""
    for found in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{found.name}").register(group)
