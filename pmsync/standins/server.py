"""Serve a stand-in on a free port of loopback, from a thread of this process."""

from __future__ import annotations

from contextlib import AbstractContextManager

from starlette.types import ASGIApp

from pmsync.web.serve import serve as serve_at


def serve(app: ASGIApp) -> AbstractContextManager[str]:
    """Serve `app` while the block runs; yields its base URL."""
    return serve_at(app, "127.0.0.1", 0)
