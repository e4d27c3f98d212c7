"""What the tick writes into the outbox for other programs: the topics `pmsync.metrics` and `pmsync.alerts`.

Next, on the way out: `pmsync/core/outputs.py`, which says what is in a message.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from pmsync.bus.port import ALERTS, METRICS
from pmsync.core.alerts import Alert, Transition
from pmsync.core.events import version_at
from pmsync.core.exports import sight
from pmsync.core.outputs import encode_metrics, encode_transition, metrics, transition
from pmsync.core.project import ProjectState
from pmsync.notify.topics import TOPIC
from pmsync.store.state import Letter


class Measured(NamedTuple):
    """What a project is measured at, as a message that stands for all earlier ones, and its digest."""

    letter: Letter
    digest: str


class Outputs:
    """Writes for those `topics` that are wanted."""

    def __init__(self, topics: Collection[str] = ()) -> None:
        self._topics = topics

    def letters(self, project: str, moves: Sequence[Transition]) -> list[Letter]:
        """The transitions of a tick as messages."""
        if ALERTS not in self._topics:
            return []
        return [_letter(ALERTS, project, *encode_transition(transition(project, move))) for move in moves]

    def measured(self, state: ProjectState, alerts: Collection[Alert], now: datetime, last: str) -> Measured | None:
        """What the project is measured at, if that differs from what was told `last` (a digest)."""
        if METRICS not in self._topics:
            return None
        said = metrics(sight(state, now), alerts)
        if said.digest() == last:
            return None
        return Measured(_letter(METRICS, said.project, *encode_metrics(said)), said.digest())

    def removed(self, project: str, now: datetime, last: str) -> Measured | None:
        """That there is nothing to be measured any more, if there was."""
        if not last:
            return None
        return Measured(_letter(METRICS, project, f"{project}/removed@{version_at(now)}", b""), "")


def _letter(topic: str, project: str, ident: str, document: bytes) -> Letter:
    return Letter(f"{topic}/{ident}", project, TOPIC, topic, "", document.decode())
