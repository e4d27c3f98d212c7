"""Logging: for people on a terminal, as JSON elsewhere. Events are `noun.verb` in the past tense; never payloads.

Where something broke, the trace says in which lines, and never what the variables held there: tokens, and names of people.
"""

from __future__ import annotations

import logging
from typing import TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer


def configure(stream: TextIO, *, verbose: bool) -> None:
    """Send structlog's events to `stream`."""
    human = stream.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if human
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not human:
        processors.append(structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)))
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
