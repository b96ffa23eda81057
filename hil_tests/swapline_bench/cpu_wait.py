"""How long processes of this computer waited for a processor, which a machine that is busy with others lets them do.

Linux counts it for each thread (`schedstat`: running, waiting, turns). Where it does not, nobody waited.
"""

from collections.abc import Iterable
from pathlib import Path


def main_thread_waited_s(pid: int) -> float:
    """Return for how long a process's first thread was ready to run and did not."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def waited_s(pids: Iterable[int]) -> float:
    """Return for how long, since they began, all threads of these processes were ready to run and did not."""
    total_ns = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total_ns += int(file.read_text().split()[1])
            except (OSError, IndexError):  # it ended meanwhile
                continue
    return total_ns / 1e9
