"""What is wrong in a project, and since when: `episodes`, over the table `RULES`.

All is computed from the sources' own histories and the present versions of what has none (milestones, calendars,
configuration), never from what a worker happened to see: a fresh installation finds the same episodes.

Next on the way of an event: `pmsync/core/alerts.py`, which decides what of it is to be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import NamedTuple

from pmsync.core.events import CONFIGURATION, Thing
from pmsync.core.project import Item, ProjectState, View, shown_containers, view
from pmsync.core.rules.conflicts import FORMULA as CONFLICT
from pmsync.core.rules.conflicts import LABEL as DIFFERENTLY
from pmsync.core.rules.conflicts import conflict_episodes
from pmsync.core.rules.deadlines import DEADLINE_RULES, Span, deadline_episodes
from pmsync.core.rules.episode import Context, Episode, Severity, fingerprint
from pmsync.core.rules.items import ITEM_RULES, Life, item_episodes, lives
from pmsync.core.rules.outlook import FORMULA, LABEL, outlook_episodes
from pmsync.core.workdays import Workdays


class Rule(NamedTuple):
    """A rule as people read it: «3 items overdue» is a count, its subject and its label; `formula` says when it is true."""

    name: str
    subject: str
    label: str
    formula: str


RULES = (
    *(Rule(rule.name, "deadline", rule.label, rule.formula) for rule in DEADLINE_RULES),
    Rule("forecast_late", "deadline", LABEL, FORMULA),
    Rule("dates_differ", "deadline", DIFFERENTLY, CONFLICT),
    *(Rule(rule.name, "item", rule.label, rule.formula) for rule in ITEM_RULES),
)


_RANKS = {rule.name: rank for rank, rule in enumerate(RULES)}
_SEVERITIES: Sequence[Severity] = ("critical", "warning", "info")
TAKES_OVER: Mapping[str, frozenset[str]] = {
    "deadline_near": frozenset({"deadline_near", "overdue"}),
    "milestone_near": frozenset({"milestone_near", "milestone_overdue"}),
    "dates_differ": frozenset({"dates_differ"}),
}
"""A rung that ends where one of these begins did not end well."""


def urgency(episode: Episode) -> tuple[int, int, date, datetime, str, str]:
    """The order in which people should look: severity, rule, the earliest due date, then what has been wrong longest."""
    return (
        _SEVERITIES.index(episode.severity),
        _RANKS[episode.rule],
        episode.due or date.max,
        episode.since,
        episode.key,
        episode.fingerprint,
    )


def episodes(state: ProjectState, now: datetime) -> tuple[Episode, ...]:
    """All episodes up to `now`, the resolved ones too, in a fixed order.

    A late forecast has an episode only while it is late: what it said in the past is not told again.
    """
    state = replace(state, kept={})
    shown = view(state, now)
    context = _context(state, shown)
    histories = [lives(thing, content, context) for thing, content in state.things["work_item"]]
    work = _work(state, histories, context)
    keys = {thing: milestone.key for thing, milestone in state.things["milestone"]}
    found = [episode for history in histories for episode in item_episodes(history, context)]
    for deadline in shown.deadlines:
        key = keys.get(deadline.thing, deadline.thing.id)
        found += deadline_episodes(deadline, key, work.get(deadline.thing, ()), context)
        found += conflict_episodes(deadline, key, context)
    found += outlook_episodes(state, shown, keys, context)
    return tuple(sorted(found, key=lambda e: (e.subject, e.rule, e.since, e.fingerprint)))


def _context(state: ProjectState, shown: View) -> Context:
    mapped, _ = shown_containers(state)
    milestones = {each.thing: deadline for deadline in shown.deadlines for each in deadline.dates if each.has_items}
    blockers = {i.thing: keys for i in shown.items if (keys := (*i.blockers, *i.unknown_blockers))}
    return Context(
        state.project.key,
        shown.at,
        state.project.thresholds,
        Workdays.of(shown),
        frozenset(mapped),
        milestones,
        blockers,
    )


def _work(state: ProjectState, histories: Iterable[Iterable[Life]], context: Context) -> Mapping[Thing, list[Span]]:
    """When each deadline had open work: a milestone while it had an open item, the project's deadline with any."""
    spans: dict[Thing, list[Span]] = {}
    for history in histories:
        for life in history:
            for thing in _deadlines_of(life.segment.item, state, context):
                spans.setdefault(thing, []).append((life.segment.start, life.stop))
    return spans


def _deadlines_of(item: Item, state: ProjectState, context: Context) -> Iterator[Thing]:
    yield Thing(CONFIGURATION, "project", state.project.key)
    if item.milestone:
        milestone = context.milestones.get(Thing(item.thing.source, "milestone", item.milestone))
        yield from (milestone.thing,) if milestone else ()


__all__ = ["RULES", "TAKES_OVER", "Episode", "Rule", "Severity", "episodes", "fingerprint", "urgency"]
