"""Alerts: episodes joined with what people answered, and the transitions that are to be told.

Episodes say what is true; the alert log says what was told. Their difference is what the notifier hears of.

Next on the way of an event: `pmsync/core/messages.py`, which puts transitions into words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pmsync.core.events import Acknowledgement, Fact
from pmsync.core.rules import Episode


class AlertState(StrEnum):
    firing = "firing"
    acknowledged = "acknowledged"
    resolved = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """An episode, and who took it on (a person id)."""

    episode: Episode
    state: AlertState
    by: str | None = None
    note: str = ""

    @property
    def fingerprint(self) -> str:
        return self.episode.fingerprint

    @property
    def since(self) -> datetime:
        return self.episode.since


class Logged(NamedTuple):
    """The last line of the alert log for a fingerprint in this project."""

    n: int
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Transition:
    """The next line of the alert log. `alert` is None when nothing is left of what was logged as wrong: the thing is
    gone, moved away, has another due date, or its forecast is well again."""

    fingerprint: str
    n: int
    state: AlertState
    since: datetime
    at: datetime
    alert: Alert | None


def alerts(episodes: Iterable[Episode], facts: Iterable[Fact]) -> tuple[Alert, ...]:
    """An answer holds for the episode that contains its instant; the last one counts.

    Of an episode that began «then or earlier» only the known part holds answers: so one to a late forecast runs out when
    it is older than the rule looks back, rather than that an answer of long ago silences a new episode.
    """
    answers: dict[str, list[Fact]] = {}
    for fact in sorted(facts, key=lambda fact: (fact.at, fact.id)):
        answers.setdefault(fact.content.fingerprint, []).append(fact)
    return tuple(_alert(episode, answers) for episode in episodes)


def _alert(episode: Episode, answers: Mapping[str, list[Fact]]) -> Alert:
    if episode.until is not None:
        return Alert(episode, AlertState.resolved)
    given = [fact for fact in answers.get(episode.fingerprint, ()) if episode.since <= fact.at]
    if not given:
        return Alert(episode, AlertState.firing)
    answer: Acknowledgement = given[-1].content
    return Alert(episode, AlertState.acknowledged, answer.by, answer.note)


def transitions(logged: Mapping[str, Logged], alerts: Iterable[Alert], now: datetime) -> tuple[Transition, ...]:
    """What differs between the alert log's last lines and the alerts at `now`, by fingerprint."""
    latest: dict[str, Alert] = {}
    for alert in sorted(alerts, key=lambda alert: alert.since):
        latest[alert.fingerprint] = alert
    return tuple(
        transition
        for fingerprint in sorted({*logged, *latest})
        for transition in _transition(fingerprint, logged.get(fingerprint), latest.get(fingerprint), now)
    )


def _transition(fingerprint: str, last: Logged | None, alert: Alert | None, now: datetime) -> Iterator[Transition]:
    over = alert is None or alert.state is AlertState.resolved
    if over and (last is None or last.state == AlertState.resolved):
        return
    n = last.n + 1 if last else 1
    if alert is None:
        if last:
            yield Transition(fingerprint, n, AlertState.resolved, last.since, now, None)
    elif not _told(last, alert):
        yield Transition(fingerprint, n, alert.state, alert.since, now, alert)


def _told(last: Logged | None, alert: Alert) -> bool:
    """Whether the log's last line says so already. «Since then or earlier» agrees with any earlier instant."""
    if last is None or last.state != alert.state:
        return False
    return last.since == alert.since or (alert.episode.at_least and last.since <= alert.since)
