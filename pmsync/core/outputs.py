"""What the log tells other programs: what a project is measured at, and each transition of an alert; pure.

Figures have the names, units and roundings of the export tables `projects` and `milestones`, so that a message and a
file never disagree. Within a type's `v1` fields are only added; what changes or takes away a field is a `v2`.

Next, on the way out: the outbox (`pmsync/store/outbox.py`), from which `pmsync/notify/topics.py` publishes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pmsync.core.alerts import Alert, AlertState, Transition
from pmsync.core.events import Instant, cloud_event, version_at
from pmsync.core.exports import Sight, rows_of
from pmsync.core.rules.episode import Severity
from pmsync.core.summary import SEVERITIES, unread_containers

LONGEST = 1000
"""Characters of a title or a sentence. Whoever can open an issue writes titles, and a message that no log takes would
hold up all behind it."""


class _Said(BaseModel):
    # Unknown fields pass: a newer minor version may add some.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ContainerName(_Said):
    """A container of a source, as the configuration names both."""

    source: str
    container: str


class OpenAlerts(_Said):
    """How many alerts of one severity are open: `firing` ones are nobody's yet, `acknowledged` ones somebody took on."""

    firing: int
    acknowledged: int


class DeadlineMetrics(_Said):
    """A deadline with its work and its forecast.

    `p50`, `p85` and `p95` are the days by which the work is done in so many of 100 simulations, `on_time` is the
    probability of being done by `due_date` (0 to 1). Where they are null, `forecast_reason` says why, or the day is
    beyond two years.
    """

    source: str
    kind: str
    id: str
    title: str
    url: str
    due_date: date | None
    state: Literal["open", "closed"]
    scope: int
    open: int
    done: int
    done_share: float | None
    p50: date | None
    p85: date | None
    p95: date | None
    on_time: float | None
    forecast_reason: str | None


class ProjectMetrics(_Said):
    """What a project was measured at when it was assessed: the latest of a project stands for all before it.

    Work is counted in items; `estimate` and `estimate_done` are in the team's unit. Of what `unread` names nothing is
    counted. `assessed_at` is the first tick that found it so: it is not said again while it stays the same.
    """

    project: str
    name: str
    assessed_at: Instant
    unread: tuple[ContainerName, ...]
    scope: int
    todo: int
    in_progress: int
    done: int
    dropped: int
    done_share: float | None
    estimate: float
    estimate_done: float
    unestimated: int
    alerts: Mapping[Severity, OpenAlerts]
    deadlines: tuple[DeadlineMetrics, ...]

    def digest(self) -> str:
        """What tells one picture from the next one: all of it but its instant (sha256, 32 hex digits)."""
        picture = self.model_dump_json(exclude={"assessed_at"})
        return hashlib.sha256(picture.encode()).hexdigest()[:32]


class AlertTransition(_Said):
    """The `n`-th transition of an alert of a project, from the alert log.

    `at` is the tick that decided it, `since` when the present episode began by the source's own records, `until` when
    it ended. From `rule` on all is null where nothing is left of what was wrong: the thing is gone, moved away, has
    another due date, or its forecast is well again. Then `fingerprint` alone says which alert is resolved.
    """

    project: str
    fingerprint: str
    n: int
    state: AlertState
    at: Instant
    since: Instant
    until: Instant | None = None
    rule: str | None = None
    subject: str | None = None
    key: str | None = None
    title: str | None = None
    url: str | None = None
    due_date: date | None = None
    severity: Severity | None = None
    summary: str | None = None
    evidence: Mapping[str, Any] | None = None


def metrics(sight: Sight, alerts: Iterable[Alert]) -> ProjectMetrics:
    """What is to be told of a project at the instant of the sight."""
    (figures,) = rows_of("projects", sight)
    return ProjectMetrics.model_validate(
        {
            **figures,
            "name": _short(sight.view.project.name),
            "assessed_at": sight.view.at,
            "unread": [ContainerName(source=s, container=c) for s, c in unread_containers(sight.state)],
            "alerts": _open(alerts),
            "deadlines": [{**row, "title": _short(row["title"])} for row in rows_of("milestones", sight)],
        }
    )


def transition(project: str, move: Transition) -> AlertTransition:
    """What is to be told of a transition."""
    episode = move.alert.episode if move.alert else None
    told: dict[str, Any] = {}
    if episode:
        told = {
            "until": episode.until,
            "rule": episode.rule,
            "subject": "/".join(episode.subject),
            "key": episode.key,
            "title": _short(episode.title),
            "url": episode.url,
            "due_date": episode.due,
            "severity": episode.severity,
            "summary": _short(episode.summary),
            "evidence": episode.evidence,
        }
    return AlertTransition(
        project=project,
        fingerprint=move.fingerprint,
        n=move.n,
        state=move.state,
        at=move.at,
        since=move.since,
        **told,
    )


def encode_metrics(said: ProjectMetrics) -> tuple[str, bytes]:
    """The id and the CloudEvents document; what says the same of the same instant has the same id."""
    ident = f"{said.project}/{said.digest()}@{version_at(said.assessed_at)}"
    return ident, cloud_event(
        ident=ident,
        source=_source(said.project),
        subject=said.project,
        kind="pmsync.metrics.v1",
        time=said.assessed_at,
        project=said.project,
        data=said,
    )


def encode_transition(said: AlertTransition) -> tuple[str, bytes]:
    """The id and the CloudEvents document; a line of an alert log has one id for ever."""
    ident = f"{said.project}/{said.fingerprint}/{said.n}@{version_at(said.at)}"
    return ident, cloud_event(
        ident=ident,
        source=_source(said.project),
        subject=said.fingerprint,
        kind="pmsync.alert.v1",
        time=said.at,
        project=said.project,
        data=said,
    )


def _source(project: str) -> str:
    return f"/projects/{project}"


def _open(alerts: Iterable[Alert]) -> Mapping[Severity, OpenAlerts]:
    found = Counter((alert.episode.severity, alert.state) for alert in alerts)
    return {
        severity: OpenAlerts(
            firing=found[severity, AlertState.firing], acknowledged=found[severity, AlertState.acknowledged]
        )
        for severity in SEVERITIES
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
