"""What the battery's books ask of a database: rows of streams in, rows of our own tables in and out.

`store_duckdb.py` and `store_influxql.py` answer. Calls block; the keeper makes them in a thread of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from .record import Place, SwapHalf
from .table import Row, Table


class ModuleRows(NamedTuple):
    """Readings of one module, ascending in time: columns of scaled values, None where there is no value.

    `columns` has the signals that were asked for. `places` has one entry a row.
    """

    time_utc_ms: Sequence[int]
    places: Sequence[Place]
    columns: dict[str, Sequence[float | None]]


class BatteryStore(Protocol):
    """See the module's header. Every call raises `SinkBusyError` when the database does not answer."""

    def modules(self, *, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[str]:
        """Return the codes of all modules that have readings or swap events in that time."""

    def span(self, module: str) -> tuple[int, int] | None:
        """Return the times of a module's first and last reading or swap event."""

    def readings(
        self, module: str, signals: Sequence[str], *, stream: str = "module", start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        """Return a module's rows of `stream` in [start, end)."""

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
        """Write rows of our tables, replacing those with the same tags and time."""

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
