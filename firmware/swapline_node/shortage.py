"""Shortage: a node that again and again runs out of memory soon after its boot stays in safe mode, and says why.

The file `shortage` in the node's folder tells the next boot how many boots in a row ended that way, and which lines
found no memory. Whatever boots takes the file away: a restart by command, a power cycle or another configuration tries
again.
"""

import os

from micropython import const

_FILE = "shortage"
_CONFIGURATION_FILE = "config.json"
_BOOTS_MAX = const(2)


def note(boots: int, lines: "list[str]") -> None:
    """Write down that this was so many boots in a row, and which lines found no memory."""
    try:
        with open(_FILE, "w") as file:
            file.write("%d %s" % (boots, ", ".join(lines)))
    except OSError:
        pass  # a full flash: it tries on


def take() -> "tuple[int, str]":
    """Return how many boots in a row ended that way before this one, and the problem if there were too many."""
    try:
        with open(_FILE) as file:
            count, _, lines = file.read().partition(" ")
        os.remove(_FILE)
        boots = int(count)
    except (OSError, ValueError):
        return 0, ""
    if boots < _BOOTS_MAX:
        return boots, ""
    problem = "buses: memory ran out soon after %d starts, on %s; configure fewer devices, or take a board with more"
    return boots, problem % (boots, lines or "no line in particular")


def file_state() -> "tuple[int, ...] | None":
    """Return what changes when somebody writes another configuration file: its size and times."""
    try:
        return tuple(os.stat(_CONFIGURATION_FILE)[6:])
    except OSError:
        return None
