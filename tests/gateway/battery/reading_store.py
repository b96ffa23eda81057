"""A store of readings, swaps and alarms in memory, for books whose arithmetic is tested without a database."""

from collections.abc import Iterable, Sequence
from typing import Any

from swapline_gateway.battery.record import Place, SwapHalf
from swapline_gateway.battery.store import ModuleRows

from .memory_tables import MemoryTables

Reading = tuple[int, Place, dict[str, float | None]]


class ReadingStore(MemoryTables):
    """Readings by module and stream, and our tables."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, str], dict[tuple[int, Place, float], Reading]] = {}
        self.swap_halves: list[SwapHalf] = []
        self.alarm_rows: list[dict[str, Any]] = []

    def add(self, module: str, readings: Iterable[Reading], stream: str = "module") -> None:
        """Take readings in; one that is there already stays."""
        rows = self.rows.setdefault((module, stream), {})
        for reading in readings:
            rows[reading[0], reading[1], reading[2].get("segment") or 0] = reading

    def known_as(self, module: str) -> str:
        return module

    def modules(self, *, start_utc_ms: int = 0, end_utc_ms: int | None = None) -> list[str]:
        def lies_inside(key: tuple[str, str]) -> bool:
            return any(start_utc_ms <= t and (end_utc_ms is None or t < end_utc_ms) for t, _, _ in self.rows[key])

        return sorted({key[0] for key in self.rows if lies_inside(key)})

    def span(self, module: str) -> tuple[int, int] | None:
        times = [key[0] for key in self.rows.get((module, "module"), {})]
        return (min(times), max(times)) if times else None

    def readings(
        self, module: str, signals: Sequence[str], *, stream: str = "module", start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        rows = self.rows.get((module, stream), {})
        keys = sorted(key for key in rows if start_utc_ms <= key[0] < end_utc_ms)
        found = [rows[key] for key in keys]
        columns: dict[str, Sequence[float | None]] = {
            name: [values.get(name) for _, _, values in found] for name in signals
        }
        return ModuleRows([time for time, _, _ in found], [place for _, place, _ in found], columns)

    def holder_readings(
        self, fleet: str, node: str, signals: Sequence[str], *, stream: str, start_utc_ms: int, end_utc_ms: int
    ) -> ModuleRows:
        del fleet, node, stream, start_utc_ms, end_utc_ms
        return ModuleRows([], [], {name: [] for name in signals})

    def halves(
        self,
        *,
        module: str | None = None,
        fleet: str | None = None,
        start_utc_ms: int = 0,
        end_utc_ms: int | None = None,
    ) -> list[SwapHalf]:
        return sorted(
            (
                half
                for half in self.swap_halves
                if module in {None, half.module}
                and fleet in {None, half.place.fleet}
                and start_utc_ms <= half.time_utc_ms
                and (end_utc_ms is None or half.time_utc_ms < end_utc_ms)
            ),
            key=lambda half: half.time_utc_ms,
        )

    def alarms(
        self, *, module: str | None = None, start_utc_ms: int = 0, end_utc_ms: int | None = None, limit: int = 10_000
    ) -> list[dict[str, Any]]:
        chosen = [
            row
            for row in self.alarm_rows
            if module in {None, row["module"]}
            and start_utc_ms <= row["time_utc_ms"]
            and (end_utc_ms is None or row["time_utc_ms"] < end_utc_ms)
        ]
        return sorted(chosen, key=lambda row: -row["time_utc_ms"])[:limit]

    def repair_count(self) -> int:
        return 0

    def gone_before_utc_ms(self) -> int:
        return 0

    def is_understood(self) -> bool:
        return True

    def close(self) -> None:
        pass
