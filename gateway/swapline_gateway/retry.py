"""Retrying: the one place that decides how long to wait after a failure."""

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from `delay_s_min` to `delay_s_max`, each shortened by up to half at random.

    The jitter keeps a fleet of gateways from asking a restarted broker or database in step.
    """

    def __init__(
        self,
        *,
        delay_s_min: float = 0.2,
        delay_s_max: float = 30.0,
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        self.failures = 0  # in a row
        self.failures_total = 0
        self._delay_s_min = delay_s_min
        self._delay_s_max = delay_s_max
        self._uniform = uniform or random.uniform

    def fail(self) -> float:
        """Count a failure and return the seconds to wait before the next attempt."""
        self.failures += 1
        self.failures_total += 1
        delay_s: float = min(self._delay_s_min * 2 ** min(self.failures - 1, 30), self._delay_s_max)
        return delay_s * self._uniform(0.5, 1.0)

    def succeed(self) -> None:
        """Begin anew with the shortest delay."""
        self.failures = 0

    def is_first(self) -> bool:
        """Say whether the last failure began a series: the first one warns, the others are for debugging."""
        return self.failures == 1
