"""Logs: structlog, for people on a terminal and one JSON object a line elsewhere."""

import logging
import sys

import structlog

from .config import LogConfig


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
