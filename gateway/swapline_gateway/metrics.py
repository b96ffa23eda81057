"""The gateway's figures in Prometheus' words. Nodes are not labels there: a fleet has too many of them."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from .battery.keeper import KeeperFigures
from .pipeline import PipelineFigures
from .spool import now_utc_ms

_COUNTERS = (
    ("messages_received", "up messages from nodes"),
    ("bytes_received", "bytes of up messages"),
    ("frames_received", "frames in up messages, repeats included"),
    ("frames_taken", "frames made durable and acknowledged for the first time"),
    ("frames_stored", "frames that the sink took"),
    ("rows_stored", "rows that the sink took"),
    ("values_stored", "values that the sink took"),
    ("duplicates", "frames that had been taken before: acknowledged again, not stored again"),
    ("duplicates_in_sink", "frames that the sink had already, after a kill or a retry"),
    ("acks_sent", "acknowledgements published"),
    ("time_offers", "times offered to nodes without a clock"),
    ("state_messages", "retained states published"),
    ("link_failures", "failed or lost connections to the broker"),
    ("sink_failures", "batches that the sink did not take"),
)
_BY_REASON = (
    ("refused", "frames not acknowledged (the node still has them)", "refused"),
    ("quarantined", "frames or messages set aside", "quarantined_by_reason"),
    ("lost", "frames that nodes declared as lost", "lost"),
)


class FiguresCollector(Collector):
    """Reads the figures when it is asked."""

    def __init__(self, figures: PipelineFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        figures = self._figures
        for name, text in _COUNTERS:
            yield CounterMetricFamily(f"swapline_{name}", text, value=getattr(figures, name))
        for name, text, attribute in _BY_REASON:
            family = CounterMetricFamily(f"swapline_{name}", text, labels=["reason"])
            for reason, count in getattr(figures, attribute).items():
                family.add_metric([reason], count)
            yield family
        took = figures.sink_write
        text = "how long the sink took for a batch"
        yield SummaryMetricFamily("swapline_sink_write_seconds", text, count_value=took.count, sum_value=took.sum_s)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        figures, backlog = self._figures, self._figures.backlog
        oldest_s = 0.0 if backlog.oldest_utc_ms is None else max(0, now_utc_ms() - backlog.oldest_utc_ms) / 1000
        for name, text, value in (
            ("broker_connected", "1 while connected to the broker", figures.is_connected),
            ("sink_working", "0 while the sink takes nothing", not figures.sink_error),
            ("spool_full", "1 while the spool is at its limit and nothing is acknowledged", figures.is_spool_full),
            ("spool_frames", "frames that wait for the sink", backlog.frame_count),
            ("spool_bytes", "bytes of frames that wait for the sink", backlog.size_bytes),
            ("spool_limit_bytes", "limit of the spool", figures.spool_limit_bytes),
            ("spool_oldest_seconds", "age of the oldest frame that waits", oldest_s),
            ("quarantine_items", "entries in quarantine", backlog.quarantine_count),
            ("nodes", "nodes heard of since the start", len(figures.nodes)),
        ):
            yield GaugeMetricFamily(f"swapline_{name}", text, value=float(value))


class KeeperCollector(Collector):
    """Reads the figures of the battery's books when it is asked."""

    def __init__(self, figures: KeeperFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        figures = self._figures
        for name, text, count in (
            ("hours_derived", "hours of modules derived", figures.hours_derived),
            ("passports_derived", "passports and warnings of a module derived", figures.figures_derived),
            ("changes", "modules whose books changed, each time", figures.changes),
            ("failures", "modules whose books could not be derived, each time", figures.failures),
            ("errors", "times that the books waited for database or spool", figures.errors),
            ("due_dropped", "modules that were left out because too much was due", figures.due.dropped),
            ("busy_seconds", "processor time of the books' thread", figures.busy_s),
        ):
            yield CounterMetricFamily(f"swapline_battery_{name}", text, value=float(count))
        for name, text, value in (
            ("keeping", "1 while battery books are kept", not figures.off),
            ("working", "0 while the books wait for database or spool", not figures.error),
            ("due", "hours and modules that are to be derived, the running hours included", figures.due.entry_count),
            ("due_ready", "of those, what could be derived now", figures.due.ready_count),
            ("behind_seconds", "for how long the oldest of those waits", figures.behind_s),
            ("contradictions", "contradictions in the books", figures.counts.contradictions),
            ("warnings", "early warnings in the books", figures.counts.warnings),
        ):
            yield GaugeMetricFamily(f"swapline_battery_{name}", text, value=float(value))
