"""What was stored, asked back: charts, and what came from whom. One interface, answered by DuckDB or by InfluxQL.

InfluxQL is the one language that InfluxDB 1.x, 2.x and 3.x answer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from swapline_wire.catalogue import FRAMES_DROPPED, KEY, MEASUREMENT, Signal, stream_by_name

from .config import DuckdbConfig, SinkConfig
from .missing import Missing
from .pipeline import LOSS_NAMES
from .sinks.base import Sink

if TYPE_CHECKING:
    from .sinks.duckdb_file import DuckdbSink

Value = float | int | None

__all__ = ["FRAMES_DROPPED", "LOSS_NAMES", "History", "NodeFlow", "Series", "SeriesQuery", "Value", "make"]


@dataclass(frozen=True, slots=True)
class Series:
    """Columns: the times of rows or buckets, and as many values of every signal (None: no value)."""

    time_utc_ms: list[int]
    values: dict[str, list[Value]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesQuery:
    """A chart's question: rows of [start, end) of a node, of one of its bays, or of a module wherever it was.

    `bay` 0 asks for rows without a bay, None for those of all. More rows than `points_max` become as many buckets.
    Raises `ValueError` for a signal that the stream does not have: names of signals go into statements as they are.
    """

    stream: str
    fleet: str
    signals: tuple[str, ...]
    start_utc_ms: int
    end_utc_ms: int
    points_max: int
    node: str | None = None
    bay: int | None = None
    module: str | None = None

    def __post_init__(self) -> None:
        self.chosen()

    def chosen(self) -> list[Signal]:
        """Return the signals that are asked for."""
        found = stream_by_name(self.stream)
        known = {signal.name: signal for signal in (found.signals if found else ()) if signal.kind != KEY}
        unknown = [name for name in self.signals if name not in known]
        if found is None or unknown:
            raise ValueError(f"no such signals of {self.stream}: {', '.join(unknown)}")
        return [known[name] for name in self.signals]

    @property
    def bucket_ms(self) -> int:
        """Return the length of one of `points_max` buckets."""
        return max(1, -(-(self.end_utc_ms - self.start_utc_ms) // self.points_max))


@dataclass(frozen=True, slots=True)
class NodeFlow:
    """What a node's frames of a stretch of time say.

    `frames_missing`: numbers between its lowest and highest that are not stored (yet). `frames_lost`: by reason, what
    the node itself declared as dropped. Delays count from a frame's last row to its storing.
    """

    fleet: str
    node: str
    frame_count: int
    row_count: int
    value_count: int
    frames_missing: int
    frames_lost: dict[str, int]
    delay_ms_mean: float | None
    delay_ms_max: float | None


class History(Protocol):
    """Answers questions about what is stored. Raises `SinkBusyError` when the database does not answer."""

    async def series(self, query: SeriesQuery) -> Series:
        """Return the rows that are asked for, ascending; or buckets of them: means, or last values."""

    async def pipeline(self, *, start_utc_ms: int, end_utc_ms: int, fleet: str | None = None) -> list[NodeFlow]:
        """Return what came from each node, by the times of its rows."""

    async def missing(self, *, fleet: str | None = None, node: str | None = None) -> list[Missing]:
        """Return which frames and rows are not stored, and why: `missing.MISSING_MAX` ranges at most."""

    def close(self) -> None:
        """Let go of threads and connections."""


def is_averaged(signal: Signal) -> bool:
    """Say whether a bucket shows the mean of this signal; totals and states show their last value."""
    return bool(signal.kind == MEASUREMENT)


def make(config: SinkConfig, sink: Sink) -> History:
    """Return the history of the database that `sink` writes to."""
    if isinstance(config, DuckdbConfig):
        from .history_duckdb import DuckdbHistory  # noqa: PLC0415

        return DuckdbHistory(cast("DuckdbSink", sink))
    from .history_influxql import InfluxqlHistory  # noqa: PLC0415

    return InfluxqlHistory(config)
