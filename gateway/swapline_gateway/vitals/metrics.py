"""What `/metrics` says of disks, certificates and the broker."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from swapline_gateway.spool import now_utc_ms

from .table import BROKER
from .vitals import Vitals

_TOTALS = ("messages_received", "messages_sent", "messages_dropped", "bytes_received", "bytes_sent")


class VitalsCollector(Collector):
    """Reads what was measured last when it is asked."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        vitals = self._vitals
        for name, text in (("free_bytes", "free bytes of the disk"), ("total_bytes", "bytes of the disk")):
            family = GaugeMetricFamily(f"swapline_disk_{name}", text, labels=["path"])
            for path, disk in vitals.disks.items():
                family.add_metric([path], getattr(disk, name))
            yield family
        days = GaugeMetricFamily("swapline_certificate_days_left", "days until the certificate ends", labels=["name"])
        for name, value in vitals.days_left(now_utc_ms()).items():
            days.add_metric([name], value)
        yield days
        yield from self._broker()
        if vitals.sender is not None:
            yield CounterMetricFamily(
                "swapline_vitals_lost", "points about the gateway that the database never got", value=vitals.sender.lost
            )

    def _broker(self) -> Iterator[Metric]:
        for name in BROKER.fields:
            value = self._vitals.broker.values.get(name)
            if value is None:
                continue
            family = CounterMetricFamily if name in _TOTALS else GaugeMetricFamily
            yield family(f"swapline_broker_{name}", f"what the broker says of its {name}", value=value)
