"""Quotas: a node may use so much of the gateway and no more, so that one broken node costs the others nothing."""

import time
from collections import OrderedDict
from collections.abc import Callable

from .config import QuotaConfig
from .ingest import Sender


class _Bucket:
    __slots__ = ("bytes_left", "filled_s", "frames_left")

    def __init__(self, config: QuotaConfig, now_s: float) -> None:
        self.filled_s = now_s
        self.frames_left = config.frames_per_s * config.burst_s
        self.bytes_left = config.bytes_per_s * config.burst_s


class Quota:
    """Token buckets for frames and bytes, one pair a node."""

    def __init__(self, config: QuotaConfig, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._monotonic_s = monotonic_s
        self._buckets: OrderedDict[Sender, _Bucket] = OrderedDict()

    def allow(self, sender: Sender, *, frame_count: int, size_bytes: int) -> str:
        """Charge a message to its node; return why it must be refused, or nothing."""
        config = self._config
        now_s = self._monotonic_s()
        bucket = self._buckets.get(sender)
        if bucket is None:
            if len(self._buckets) >= config.nodes_max and not self._forget_idle(now_s):
                return "too_many_nodes"
            bucket = self._buckets[sender] = _Bucket(config, now_s)
        self._buckets.move_to_end(sender)
        elapsed_s = now_s - bucket.filled_s
        bucket.filled_s = now_s
        limit_frames, limit_bytes = config.frames_per_s * config.burst_s, config.bytes_per_s * config.burst_s
        bucket.frames_left = min(limit_frames, bucket.frames_left + elapsed_s * config.frames_per_s)
        bucket.bytes_left = min(limit_bytes, bucket.bytes_left + elapsed_s * config.bytes_per_s)
        if bucket.frames_left < frame_count or bucket.bytes_left < size_bytes:
            return "over_rate"
        bucket.frames_left -= frame_count
        bucket.bytes_left -= size_bytes
        return ""

    def _forget_idle(self, now_s: float) -> bool:
        """Make room by forgetting the node that was silent longest, if its buckets are full again by now."""
        sender, bucket = next(iter(self._buckets.items()))
        if now_s - bucket.filled_s < self._config.burst_s:
            return False
        del self._buckets[sender]
        return True
