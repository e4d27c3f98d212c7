"""Summaries kept for a while: forecasts and alerts of a whole portfolio are too dear to compute for every look at it."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from threading import Lock

from pmsync.core.project import ProjectState
from pmsync.web.reader import PortfolioReader
from pmsync.web.summary import Summary, summary

FRESH = timedelta(minutes=5)
"""For this long time alone is not reckoned to change anything."""


class Summaries:
    """Computes a project's summary again when its state has changed, or the last is not fresh any more."""

    def __init__(self, read: PortfolioReader) -> None:
        self._read = read
        self._known: dict[str, tuple[Hashable, Summary]] = {}
        # One at a time: the work is all computing, and whoever waits mostly waits for the same.
        self._lock = Lock()

    def get(self, project: str, now: datetime, state: ProjectState | None = None) -> Summary | None:
        """The summary of a project by now, from its `state` where the caller has it; None if there is no such project."""
        with self._lock:
            revision = self._read.revision(project)
            seen, known = self._known.get(project, (None, None))
            if known and seen == revision and timedelta() <= now - known.at < FRESH:
                return known
            state = state or self._read.state(project)
            if state is None:
                self._known.pop(project, None)
                return None
            fresh = summary(state, now)
            self._known[project] = (revision, fresh)
            return fresh
