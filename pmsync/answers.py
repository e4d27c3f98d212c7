"""What people see of alerts on the command line, and what they answer: each answer is a fact on the bus."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pmsync.bus.publisher import Publisher
from pmsync.config import mail_address
from pmsync.core.alerts import Alert, AlertState, alerts
from pmsync.core.events import Acknowledgement, Fact, rfc3339
from pmsync.core.messages import SHOWN
from pmsync.core.project import ProjectState
from pmsync.core.rules import episodes, urgency
from pmsync.store.configuration import ConfigurationStore


def show_alerts(console: Console, states: Sequence[ProjectState], now: datetime, *, everything: bool) -> None:
    """A table of the alerts of some projects."""
    table = Table("alert", "project", "state", "severity", "since", "about", "what", box=None)
    found = [(state, alert) for state in states for alert in _alerts(state, now)]
    for state, alert in sorted(found, key=lambda pair: urgency(pair[1].episode)):
        if everything or alert.state is not AlertState.resolved:
            episode = alert.episode
            day = rfc3339(alert.since)[:10]
            cells = (
                alert.fingerprint[:SHOWN],
                state.project.key,
                alert.state.value,
                episode.severity,
                day,
                episode.name,
                episode.summary,
            )
            table.add_row(*map(escape, cells))
    console.print(table if table.row_count else "no alerts")


def acknowledge(
    states: Sequence[ProjectState],
    publisher: Publisher,
    people: ConfigurationStore,
    fingerprint: str,
    by: str,
    note: str,
    now: datetime,
) -> str:
    """Publish that somebody takes an alert on, to every project that has it; returns what to tell them."""
    found = [(state, alert) for state in states for alert in _alerts(state, now) if _matches(alert, fingerprint)]
    names = sorted({alert.fingerprint for _, alert in found})
    if len(names) != 1:
        known = "no alert that is wrong now has" if not names else f"{len(names)} alerts have"
        raise click.UsageError(f"{known} a fingerprint that begins with {fingerprint!r}; see `pmsync alerts list`")
    try:
        person = people.person_ids([mail_address(by)])[by]
    except ValueError as error:
        raise click.UsageError(f"--by: {error}") from error
    ident = hashlib.sha256("\0".join([names[0], person, rfc3339(now)]).encode()).hexdigest()[:32]
    content = Acknowledgement(fingerprint=names[0], by=person, note=note)
    publisher.publish([Fact(project=state.project.key, id=ident, at=now, content=content) for state, _ in found])
    where = ", ".join(state.project.key for state, _ in found)
    return (
        f"acknowledged {names[0][:SHOWN]} in {where}; it shows once the worker has read it (at the next `pmsync run`)"
    )


def _alerts(state: ProjectState, now: datetime) -> Sequence[Alert]:
    return alerts(episodes(state, now), state.facts)


def _matches(alert: Alert, beginning: str) -> bool:
    return alert.state is not AlertState.resolved and alert.fingerprint.startswith(beginning)
