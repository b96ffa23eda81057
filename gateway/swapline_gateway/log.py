"""Logs: structlog, for people on a terminal and one JSON object a line elsewhere."""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import structlog

from .config import LogConfig

REPEAT_S = 60.0
KEYS_MAX = 10_000


def configure(config: LogConfig) -> None:
    """Set up logging of the whole process to stderr."""
    is_console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if is_console else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not is_console:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get(part: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one part of the gateway."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=part)
    return logger


class Novelty:
    """Decides what of a stream of like messages is worth a line: the first of its kind, then one a minute.

    A node that sends a thousand unreadable messages a second would fill the disk with what is said about them.
    """

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._said: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # key -> when last said, unsaid since

    def take(self, key: Hashable, count: int = 1) -> int:
        """Note `count` messages of one kind; return how many a line written now would stand for, 0: write none."""
        now_s = self._monotonic_s()
        said_s, unsaid = self._said.pop(key, (-REPEAT_S, 0))
        is_due = now_s - said_s >= REPEAT_S
        self._said[key] = (now_s, 0) if is_due else (said_s, unsaid + count)
        if len(self._said) > KEYS_MAX:
            self._said.popitem(last=False)
        return unsaid + count if is_due else 0
