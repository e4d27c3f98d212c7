"""Summaries kept for a while: forecasts and alerts of a whole portfolio are too dear to compute for every look at it.

Nobody waits for all of a cold portfolio: whoever looks gets what is known and what could be computed in their patience,
and the next look gets further.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import datetime, timedelta
from threading import Lock
from typing import NamedTuple

from pmsync.core.project import ProjectState
from pmsync.core.summary import Summary, summary
from pmsync.web.reader import PortfolioReader

FRESH = timedelta(minutes=5)
"""For this long time alone is not reckoned to change anything."""
MOST = 5000


class Look(NamedTuple):
    """What a portfolio shows; `missing` counts the projects that nothing is known of yet."""

    rows: Sequence[Summary]
    missing: int


class Summaries:
    """Computes a project's summary again when its state has changed, or the last is not fresh any more."""

    def __init__(self, read: PortfolioReader) -> None:
        self._read = read
        self._known: dict[tuple[str, datetime | None], tuple[Hashable, Summary]] = {}
        # One at a time: the work is all computing, and whoever waits mostly waits for the same.
        self._lock = Lock()

    def get(self, project: str, at: datetime, *, past: bool, state: ProjectState | None = None) -> Summary | None:
        """The summary of a project at an instant, from its `state` where the caller has it; None if there is none."""
        with self._lock:
            revision = self._read.revision(project)
            known = self._fresh(project, at, revision, past=past)
            if known:
                return known
            state = state or self._read.state(project, past=past)
            if state is None:
                return None
            found = summary(state, at)
            self._keep((project, at if past else None), (revision, found))
            return found

    def look(self, at: datetime, *, past: bool, patient: Callable[[], bool]) -> Look:
        """The summaries of all projects: fresh while `patient`, and at least one more than before; then as last known."""
        rows: list[Summary] = []
        missing, computed = 0, False
        for project in self._read.projects():
            found = self._fresh(project, at, self._read.revision(project), past=past)
            if not found and (not computed or patient()):
                found, computed = self.get(project, at, past=past), True
                if found is None:
                    continue
            _, last = self._known.get((project, at if past else None), (None, None))
            row = found or last
            missing += row is None
            rows += [row] if row else []
        return Look(rows, missing)

    def _fresh(self, project: str, at: datetime, revision: Hashable, *, past: bool) -> Summary | None:
        seen, known = self._known.get((project, at if past else None), (None, None))
        return known if known and seen == revision and timedelta() <= at - known.at < FRESH else None

    def _keep(self, key: tuple[str, datetime | None], value: tuple[Hashable, Summary]) -> None:
        self._known.pop(key, None)
        self._known[key] = value
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
