"""Quotas: a node may use so much of the gateway and no more, so that one broken node costs the others nothing.

Three token buckets a node: frames and bytes over seconds, which keep it from taking the others' turn, and bytes over a
day, which keep it from filling the disk at a rate that is just allowed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from .config import QuotaConfig
from .ingest import Sender

DAY_S = 86_400.0
OVER_RATE = "over_rate"
OVER_DAY = "over_day"
TOO_MANY_NODES = "too_many_nodes"


class _Bucket:
    """What is left of one node's allowances, when it was last charged."""

    __slots__ = ("bytes_left", "day_bytes_left", "filled_s", "frames_left")

    def __init__(self, config: QuotaConfig, now_s: float) -> None:
        self.filled_s = now_s
        self.frames_left = config.frames_per_s * config.burst_s
        self.bytes_left = config.bytes_per_s * config.burst_s
        self.day_bytes_left = float(config.bytes_per_day)

    def fill(self, config: QuotaConfig, now_s: float) -> None:
        """Add what the time since the last call allows."""
        elapsed_s = now_s - self.filled_s
        self.filled_s = now_s
        self.frames_left = min(config.frames_per_s * config.burst_s, self.frames_left + elapsed_s * config.frames_per_s)
        self.bytes_left = min(config.bytes_per_s * config.burst_s, self.bytes_left + elapsed_s * config.bytes_per_s)
        per_s = config.bytes_per_day / DAY_S
        self.day_bytes_left = min(float(config.bytes_per_day), self.day_bytes_left + elapsed_s * per_s)


class Quota:
    """The buckets of all nodes heard of; the one that was silent longest is forgotten when there are too many."""

    def __init__(self, config: QuotaConfig, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._monotonic_s = monotonic_s
        self._buckets: OrderedDict[Sender, _Bucket] = OrderedDict()

    def allow(self, sender: Sender, *, frame_count: int, size_bytes: int) -> str:
        """Charge a message to its node; return why it must be refused, or nothing. What is refused costs nothing."""
        now_s = self._monotonic_s()
        bucket = self._buckets.get(sender)
        if bucket is None:
            if len(self._buckets) >= self._config.nodes_max and not self._forget_idle(now_s):
                return TOO_MANY_NODES
            bucket = self._buckets[sender] = _Bucket(self._config, now_s)
        self._buckets.move_to_end(sender)
        bucket.fill(self._config, now_s)
        if bucket.frames_left < frame_count or bucket.bytes_left < size_bytes:
            return OVER_RATE
        if bucket.day_bytes_left < size_bytes:
            return OVER_DAY
        bucket.frames_left -= frame_count
        bucket.bytes_left -= size_bytes
        bucket.day_bytes_left -= size_bytes
        return ""

    def _forget_idle(self, now_s: float) -> bool:
        """Make room by forgetting the node that was silent longest, if its buckets are full again by now."""
        sender, bucket = next(iter(self._buckets.items()))
        if now_s - bucket.filled_s < self._config.burst_s:
            return False
        del self._buckets[sender]
        return True
