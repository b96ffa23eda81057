"""What the alarm book asks of a database: rows of alarms with the run that told them, and what became of runs.

`source_duckdb.py` and `source_influxql.py` answer. Calls block; whoever has an event loop makes them in a thread.
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from swapline_gateway.fleet_record import NodeKey

from .book import AlarmKey, AlarmRow, Boot

LAST_UTC_MS = 1 << 43  # the year 2248: later than any row may be
FRAME_MS_MAX = 86_400_000  # a frame's first row is no older than this before any of its others
ANSWER_MS_MAX = 30 * 86_400_000  # after a restart, a bay that nobody answered in for so long stays "lost"


class Span(NamedTuple):
    """Which rows: of [start, end), and of these only, where they are named. Times are UTC in milliseconds."""

    start_utc_ms: int
    end_utc_ms: int = LAST_UTC_MS
    fleet: str | None = None
    node: str | None = None
    module: str | None = None


class AlarmSource(Protocol):
    """See the module's header. Every call raises `SinkBusyError` when the database does not answer."""

    def is_understood(self) -> bool:
        """Say whether the database can be asked at all; some only take what is written."""

    def rows(self, span: Span, limit: int) -> list[AlarmRow]:
        """Return the newest `limit` rows of alarms."""

    def boots(self, span: Span, nodes: Collection[NodeKey] | None = None) -> list[Boot]:
        """Return the starts of these nodes, or of all."""

    def has_run(self, boot: Boot, end_utc_ms: int | None) -> bool:
        """Say whether the node told of more than `RAISED_AGAIN_S` of this run, which was over at `end_utc_ms`."""

    def answered(self, key: AlarmKey, after_utc_ms: int) -> int | None:
        """Return when, after that, a module first answered in this bay or its slot first said "empty"."""
