"""Run as a script: a gateway that is killed with SIGKILL at a chosen point, the n-th time it gets there.

    kill_at.py POINT N gateway --config FILE

The points lie around the two commits that exactly-once depends on, and around those of the battery's books. Nothing of
the gateway is replaced: each call does what it always does, and before or after it the process is gone.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from swapline_gateway.battery.store_duckdb import DuckdbStore
from swapline_gateway.cli import main
from swapline_gateway.intake import Intake
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import Spool

# point -> class, method, whether the process is killed after the method did its work
POINTS: dict[str, tuple[type[Any], str, bool]] = {
    "before_spool_commit": (Spool, "_insert", True),
    "after_spool_commit_before_ack": (Intake, "_acknowledge", False),
    "after_ack_before_sink": (DuckdbSink, "write", False),
    "inside_sink_transaction": (DuckdbSink, "_insert", True),
    "after_sink_commit_before_spool_delete": (DuckdbSink, "write", True),
    "after_spool_delete": (Spool, "remove", True),
    "before_books_write": (DuckdbStore, "put", False),
    "after_books_write": (DuckdbStore, "put", True),
    "after_step_before_done": (Spool, "finish_due", False),
    "after_done": (Spool, "finish_due", True),
    "after_influxdb_write_before_spool_delete": (Influxdb1Sink, "write", True),
}


def arm(point: str, count: int) -> None:
    """Make the process kill itself at `point`, the `count`-th time."""
    owner, name, is_after = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(*args, **kwargs) if is_after or calls < count else None
        if calls >= count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    main(sys.argv[3:], prog_name="swapline")
