"""Which read caused what: each read of a container begins a trace (W3C trace context), whose `traceparent` the events
and dead letters that it publishes carry, and the log lines on the way, up to the alerts that it turned.

pmsync keeps no spans of its own. A trace is under way in a block of one thread; its ids come from chance, and nothing
that is folded, exported or remembered of a source ever depends on them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_NAME = "traceparent"


@contextmanager
def trace() -> Iterator[str]:
    """Begin a trace: what is published and logged in this block carries it."""
    # The flag says "sampled", so that whoever reads the log and records its own part of a trace does so.
    begun = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    with structlog.contextvars.bound_contextvars(**{_NAME: begun}):
        yield begun


def current() -> str | None:
    """The trace that is under way."""
    found = structlog.contextvars.get_contextvars().get(_NAME)
    return found if isinstance(found, str) else None
