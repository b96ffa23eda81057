"""The node under test as tests see it: the same verbs, whatever board it is and however it is reached.

A driver is a class with these verbs. Its constructor takes `(name, resource, folder, *, on_line, on_power)`: the node's
name, the `[node]` table of the bench file, a folder for its files, and where to report each log line and each change of
its power (`POWER_STATES`). It opens nothing: `flash` is the first that does.
"""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from swapline_bench.desk.feature import FEATURES
from swapline_bench.node_process import NodeError

__all__ = ["FEATURES", "POWER_STATES", "NodeError", "NodeUnderTest", "OnLine", "OnPower"]

LOG_LINES_MAX = 400
POWER_STATES = {
    "on": "the node has power and boots",
    "off": "its power went after it had stopped in order",
    "warning": "its power-good input fell; `cut` follows",
    "cut": "its power went at once",
    "reset": "it starts anew, its power stays",
}
OnLine = Callable[[str], None]
OnPower = Callable[[str], None]


class NodeUnderTest(Protocol):
    """One node. What goes wrong is a `NodeError` whose message says what was expected, what came and what to do."""

    name: str
    features: frozenset[str]  # what this driver can do, of `FEATURES`

    @property
    def lines(self) -> collections.deque[str]:
        """Return the last lines of its log, newest last, at most `LOG_LINES_MAX`."""

    @property
    def is_running(self) -> bool:
        """Say whether the firmware runs, as far as the driver knows."""

    async def flash(self, bundle: Path) -> None:
        """Put the firmware in the folder `bundle` on the node, which is off or idle."""

    async def configure(self, config: dict[str, Any]) -> None:
        """Write `config.json`, which the next start reads."""

    async def start(self, *, snippet: str | None = None) -> None:
        """Switch it on and let `main.py` run; `snippet` is MicroPython that runs before it in the same interpreter."""

    async def stop(self) -> None:
        """Stop the firmware in order where the board can, else take its power away."""

    async def cut_power(self) -> None:
        """Take its power away at once. Does nothing to a node that is off."""

    async def brown_out(self, warning_ms: int) -> None:
        """Let power-good fall, take the power away `warning_ms` later, and return then."""

    async def reset(self) -> None:
        """Start it anew as its reset button does."""

    async def run(self, snippet: str) -> str:
        """Run code in the idle interpreter, firmware stopped, and return what it printed."""

    async def wait_for_line(self, text: str, *, timeout_s: float = 10.0) -> str:
        """Return the first log line that contains `text`, among those kept and those to come."""

    async def close(self) -> None:
        """Cut its power and let go of its ports. May be called at any time, and twice."""
