"""What `/metrics` says of alarms."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .watch import AlarmWatch

CLEARED, LEVELS = 0, (1, 2, 3)


class AlarmCollector(Collector):
    """Reads the alarm book when it is asked. Every replica has the whole book, but counts only what came to itself."""

    def __init__(self, watch: AlarmWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, each level also where there is nothing of it."""
        watch = self._watch
        standing = watch.standing()
        unseen = [alarm for alarm in standing if alarm.acknowledgement is None]
        for name, text, alarms in (
            ("standing", "alarms that stand, by their level now", standing),
            ("unacknowledged", "alarms that stand and that nobody has acknowledged, by their level now", unseen),
        ):
            gauge = GaugeMetricFamily(f"swapline_alarms_{name}", text, labels=["level"])
            counts = Counter(alarm.level for alarm in alarms)
            for level in sorted({*LEVELS, *counts}):
                gauge.add_metric([str(level)], counts[level])
            yield gauge
        text = "rows of alarms that nodes told this gateway: raised or escalated to a level, 0 cleared"
        received = CounterMetricFamily("swapline_alarms_received", text, labels=["level"])
        for level in sorted({CLEARED, *LEVELS, *watch.received}):
            received.add_metric([str(level)], watch.received[level])
        yield received
        text = "alarms that people acknowledged at this gateway"
        yield CounterMetricFamily("swapline_alarms_acknowledged", text, value=float(watch.acknowledged))
