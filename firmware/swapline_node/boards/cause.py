"""Why the node restarted itself: kept in a file, because hardware only tells that it was reset."""

import os

_FILE = "reset_cause"


def note_cause(cause: int) -> None:
    """Write down the reset cause that the next boot shall report."""
    try:
        with open(_FILE, "w") as file:
            file.write("%d" % cause)
    except OSError:
        pass  # then the next boot reports what the hardware says


def take_cause(hardware_cause: int) -> int:
    """Return and forget what was written down, or what the hardware says."""
    try:
        with open(_FILE) as file:
            cause = int(file.read())
        os.remove(_FILE)
    except (OSError, ValueError):
        return hardware_cause
    return cause
