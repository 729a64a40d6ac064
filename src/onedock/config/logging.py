"""Structured logging, configured once per process: constant messages, facts as fields."""

import logging
import sys
from collections.abc import Iterable

import structlog

from onedock.config.settings import LogSettings


def configure_logging(settings: LogSettings, *, extra: Iterable[structlog.typing.Processor] = ()) -> None:
    """Send structlog to standard error. ``extra`` processors see every event with its bound fields."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *extra,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
