"""Health: the node's own figures as a stream like any other, and the watch over the event loop's punctuality."""

import asyncio
import gc

from micropython import const

from swapline_wire.catalogue import NODE, columns

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .app import App

_LAG_PERIOD_MS = const(100)
_LAG_SHARE = const(8)  # of one waking in the mean: a flash write or a collection alone is not too much
_LAG_ONE_MS_MAX = const(1000)  # no single waking counts for more
_BUSY_LAG_MS = const(20)  # mean lateness from which on the node has too much to do; a desk's is 1 ms
GC_THRESHOLD_BYTES = 16384  # collect after so much garbage, so that the peak says what the node needs, not what it had


def heap_allocated_bytes() -> int:
    """Return the allocated heap, garbage included; 0 where the interpreter cannot say (CPython)."""
    allocated = getattr(gc, "mem_alloc", None)
    return int(allocated()) if allocated else 0


class Health:
    """Fill and commit the `node` stream."""

    def __init__(self, app: "App") -> None:
        self.heap_peak_bytes = 0
        self._app = app
        self._source = app.sampler.source(NODE)
        self._lag_ms_max = 0
        self._lag: int = 0  # its mean, in eighths of a millisecond

    def has_time(self) -> bool:
        """Say whether the node has time for what can be left out; False while it cannot keep up with what there is."""
        return self._lag <= _BUSY_LAG_MS * _LAG_SHARE

    async def watch_lag(self) -> None:
        """Measure how late the event loop wakes a sleeper: the cost of whatever does not give way."""
        app = self._app
        while True:
            due_ms = app.clock.uptime_ms() + _LAG_PERIOD_MS
            await asyncio.sleep(_LAG_PERIOD_MS / 1000)
            late_ms = app.clock.uptime_ms() - due_ms
            self._lag_ms_max = max(self._lag_ms_max, late_ms)
            self._lag += min(max(late_ms, 0), _LAG_ONE_MS_MAX) - self._lag // _LAG_SHARE
            self.heap_peak_bytes = max(self.heap_peak_bytes, heap_allocated_bytes())

    async def run(self) -> None:
        """Commit a row every period."""
        while True:
            self.measure()
            self._app.supervisor.alive("health")
            await asyncio.sleep(NODE.period_ms / 1000)

    def measure(self) -> None:
        """Take the figures now and commit them as a row."""
        source = self._source
        source.clear()
        i = 0
        for name in columns(NODE.signals).names.split():
            total = getattr(self._app.counters, name, None)
            if total is not None:
                source.values[i] = total
            i += 1
        for name, value in self._figures():
            if value is not None:
                source.values[source.index(name)] = value
        source.commit()
        self._lag_ms_max = 0

    def _figures(self) -> "list[tuple[str, Any]]":
        app = self._app
        self.heap_peak_bytes = max(self.heap_peak_bytes, heap_allocated_bytes())
        gc.collect()
        used = heap_allocated_bytes()
        figures = [
            ("uptime_s", app.clock.uptime_ms() // 1000),
            ("reset_cause", app.reset_cause),
            ("journal_used_bytes", app.journal.used_bytes()),
            ("journal_limit_bytes", app.journal.limit_bytes),
            ("backlog_frames", app.publisher.backlog_frames()),
            ("link_rtt_ms", min(app.link.rtt_ms, 0xFFFD) if app.link.is_connected else None),
            ("rssi_dbm", app.board.rssi_dbm()),
            ("clock_quality", app.clock.quality),
            ("clock_step_ms", max(-0x7FFFFFFE, min(app.clock.step_ms, 0x7FFFFFFE))),
            ("loop_lag_ms_max", min(self._lag_ms_max, 0xFFFD)),
            ("safe_mode", 1 if app.is_safe_mode else 0),
        ]
        if used:
            figures.append(("heap_used_bytes", used))
            figures.append(("heap_free_bytes", gc.mem_free()))  # type: ignore[attr-defined,unused-ignore]
            figures.append(("heap_peak_bytes", self.heap_peak_bytes))
        return figures
