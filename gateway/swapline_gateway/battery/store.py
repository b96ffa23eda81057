"""What the battery's books ask of a database: rows of streams in, rows of our own tables in and out.

`store_duckdb.py` and `store_influxql.py` answer. Calls block; the keeper makes them in a thread of its own. A store may
be used by several threads at once. Signals that the database has no column of yet come back as columns of None.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from .record import Place, SwapHalf
from .table import Row, Table

# What a swap event says, in the order of `SwapHalf`'s fields after `is_in`; what a firmware does not tell is None.
HALF_SIGNALS = (
    "request_id",
    "soc_pct",
    "soh_pct",
    "duration_s",
    "odometer_km",
    "latitude_deg",
    "longitude_deg",
    "reason",
    "time_quality",
)

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = frozenset(_COMPARE)


def is_met(row: Row, name: str, how: str, value: Any) -> bool:
    """Say whether a row meets a condition on one of its fields or tags; one that it does not have meets none."""
    own = row.tags[name] if name in row.tags else row.fields.get(name)
    return own is not None and _COMPARE[how](own, value)


class ModuleRows(NamedTuple):
    """Readings of one module, ascending in time: columns of scaled values, None where there is no value.

    `columns` has the signals that were asked for. `places` has one entry a row.
    """

    time_utc_ms: Sequence[int]
    places: Sequence[Place]
    columns: dict[str, Sequence[float | None]]


class BatteryStore(Protocol):
    """See the module's header. Every call raises `SinkBusyError` when the database does not answer."""

    def known_as(self, module: str) -> str:
        """Return the code under which a module is stored here: not every database keeps every character."""

    def modules(self, *, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[str]:
        """Return the codes of all modules that have readings or swap events in that time, in their order.

        A frame of rows that only reaches into the time may count as well.
        """

    def span(self, module: str) -> tuple[int, int] | None:
        """Return the times of a module's first and last reading or swap event."""

    def readings(
        self, module: str, signals: Sequence[str], *, stream: str = "module", start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        """Return a module's rows of `stream` in [start, end)."""

    def holder_readings(
        self, fleet: str, node: str, signals: Sequence[str], *, stream: str, start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        """Return a holder's own rows (`vehicle`, `position`, `slot`, `meter`) in [start, end)."""

    def halves(
        self,
        *,
        module: str | None = None,
        fleet: str | None = None,
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
    ) -> list[SwapHalf]:
        """Return BatteryIn and BatteryOut events, ascending in time."""

    def alarms(
        self, *, module: str | None = None, start_utc_ms: int = 0, end_utc_ms: int | None = None, limit: int = 10_000
    ) -> list[dict[str, Any]]:
        """Return rows of the alarm stream, newest first: `time_utc_ms`, fleet, node, bay, module and its signals."""

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows of our tables, replacing those with the same tags and time. Of repeats the last one counts.

        All of them are written or none (InfluxDB: those of one request). A row that is there already costs nothing.
        """

    def read(
        self,
        table: Table,
        *,
        tags: dict[str, str] | None = None,
        where: Sequence[tuple[str, str, Any]] = (),
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Row]:
        """Return rows that are not void. `where`: conditions (field, one of = != < <= > >=, value), all of them."""

    def count(self, table: Table) -> int:
        """Return how many rows of a table are not void."""

    def repair_count(self) -> int:
        """Return how often the database was damaged and replaced, so that rows of our tables may be gone."""

    def gone_before_utc_ms(self) -> int:
        """Return before when rows are gone that books stood on, 0 if none are."""

    def is_understood(self) -> bool:
        """Say whether the database can be asked at all: some that take rows cannot. Raises `SinkBusyError`."""

    def close(self) -> None:
        """Let go of connections of its own."""
