"""Serve a stand-in on loopback, from a thread of this process. It tells the time of its own world."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from pmsync.web.serve import serve as serve_dated


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Serve `app` on a free port of 127.0.0.1 while the block runs; yields its base URL."""
    with serve_dated(app, dated=False) as url:
        yield url
