"""Jira Cloud: which dynamic webhooks a source needs, and what is to be done with those that there are. All of it is pure.

An app registers them by itself. Jira sends them to one address for each app, unsigned, and forgets them unless they are
renewed by the date that it tells. Nothing rests on them: rounds and sweeps find the same, later.

Next: `connectors/jira_registration.py`, which does what is to be done.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from connectors import webhooks
from connectors.jira_values import instant, maybe, take, typed
from connectors.jira_webhooks import HINTS

EVENTS = tuple(event for event in HINTS if event.startswith("jira:"))
"""Those that hint at something and that dynamic webhooks know: of issues and versions. Of worklogs and links alone they tell
nothing."""
SOON = timedelta(days=3)
"""A webhook that ends so soon has not been renewed when it should have been."""
PROJECTS = re.compile(r"\s*project\s+in\s*\((?P<names>.*)\)\s*|\s*project\s*=(?P<name>.*)", re.IGNORECASE | re.DOTALL)


class Wanted(NamedTuple):
    """The one webhook that a source needs."""

    url: str
    projects: frozenset[str]

    @property
    def jql(self) -> str:
        """Dynamic webhooks know a part of JQL, `project in` among it."""
        return f"project in ({', '.join(map(_quoted, sorted(self.projects)))})"


class Hook(NamedTuple):
    """A webhook as Jira lists it. Without a `url` it is of a Jira that does not show it; without `until` it ends at nobody
    knows when."""

    id: int
    url: str
    jql: str
    events: frozenset[str]
    until: datetime | None


class Plan(NamedTuple):
    """What is to be done: remove, then register, then remove what that stands in for, or renew."""

    before: tuple[int, ...] = ()
    register: Wanted | None = None
    after: tuple[int, ...] = ()
    renew: tuple[int, ...] = ()


def address(base: str, source: str, token: str) -> str:
    """Where the intake takes what nobody signs."""
    return f"{base}/webhooks/{quote(source, safe='')}/{quote(token, safe='')}"


def hook(raw: Any) -> Hook:
    """Raises `Unreadable`."""
    until = maybe(raw, "expirationDate", object)
    events = (typed(event, str, "events") for event in take(raw, "events", list))
    return Hook(
        take(raw, "id", int),
        maybe(raw, "url", str) or "",
        take(raw, "jqlFilter", str),
        frozenset(events),
        None if until is None else instant(until, "expirationDate"),
    )


def plan(
    found: Iterable[Hook],
    wanted: Wanted | None,
    source: str,
    now: datetime,
    life: timedelta | None,
    made: Collection[int],
) -> Plan:
    """`life` is how long one lasts, None where that is not known yet: then it is renewed, to know. `made` are those that were
    registered as they are wanted, however Jira may write them since."""
    hooks = list(found)
    right = right_ones(hooks, wanted, now, made)
    kept = right[-1:]
    left = [each for each in hooks if each not in kept and is_ours(each, wanted, source)]
    if kept:
        return Plan(after=_ids(left), renew=_ids(each for each in kept if is_due(each, now, life)))
    # An app has one address: where another one stands nothing is registered.
    moved = [each for each in left if wanted is None or (each.url and each.url != wanted.url)]
    return Plan(before=_ids(moved), register=wanted, after=_ids(each for each in left if each not in moved))


def right_ones(
    hooks: Iterable[Hook], wanted: Wanted | None, now: datetime, made: Collection[int] = ()
) -> Sequence[Hook]:
    """Those that do what is wanted, the one last that lasts longest."""
    right = [
        each for each in hooks if wanted and (each.id in made or is_right(each, wanted)) and not is_over(each, now)
    ]
    return sorted(right, key=lambda each: (each.until is None, each.until or now, each.id))


def is_right(hook: Hook, wanted: Wanted) -> bool:
    is_there = not hook.url or hook.url == wanted.url
    return is_there and hook.events == frozenset(EVENTS) and projects(hook.jql) == wanted.projects


def is_ours(hook: Hook, wanted: Wanted | None, source: str) -> bool:
    """Whether it leads to where this source's are taken, or did so before a token or an address was changed."""
    return webhooks.leads_to(hook.url, source) if hook.url else bool(wanted and is_right(hook, wanted))


def is_over(hook: Hook, now: datetime) -> bool:
    return hook.until is not None and hook.until <= now


def is_due(hook: Hook, now: datetime, life: timedelta | None) -> bool:
    """Less than half of its life is left."""
    return hook.until is None or life is None or hook.until - now < life / 2


def projects(jql: str) -> frozenset[str] | None:
    """The projects that a filter names and nothing else, however it is written; None where it says something else."""
    match = PROJECTS.fullmatch(jql)
    if match is None:
        return None
    names = match["names"] if match["names"] is not None else match["name"]
    return frozenset(_bare(name) for name in names.split(","))


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _bare(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name.strip().strip("\"'"))


def _ids(hooks: Iterable[Hook]) -> tuple[int, ...]:
    return tuple(sorted(each.id for each in hooks))
