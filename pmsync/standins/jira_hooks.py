"""The dynamic webhooks of the stand-in for Jira: what apps register by themselves, and what it sends to whom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pmsync.standins.timeline import Refusal

EVENTS = frozenset(
    (
        "jira:issue_created", "jira:issue_updated", "jira:issue_deleted",
        "comment_created", "comment_updated", "comment_deleted", "issue_property_set", "issue_property_deleted",
        "sprint_created", "sprint_updated", "sprint_closed", "sprint_deleted", "sprint_started",
        "jira:version_released", "jira:version_unreleased", "jira:version_created", "jira:version_moved",
        "jira:version_updated", "jira:version_merged", "jira:version_deleted",
    )
)  # fmt: skip
MOST = 5
"""An app may have so many for a person."""
QUOTED = r'"((?:[^"\\]|\\.)*)"'
JQL = rf"project (?:= {QUOTED}|in \({QUOTED}(?:, ?{QUOTED})*\))"


@dataclass(frozen=True, slots=True)
class DynamicHook:
    """What one app registered."""

    id: int
    app: str
    url: str
    jql: str
    events: frozenset[str]
    until: datetime

    @property
    def projects(self) -> frozenset[str]:
        return frozenset(re.sub(r"\\(.)", r"\1", name) for name in re.findall(QUOTED, self.jql))


class DynamicHooks:
    """All of a site. `life` is how long one lasts from its registration or renewal on; `failed` is what could not be
    delivered, which only an app of another kind (Connect) may ask for unless `tells_failed`."""

    def __init__(self) -> None:
        self.life = timedelta(days=30)
        self.shows_url = True
        self.tells_failed = False
        self.known: dict[int, DynamicHook] = {}
        self.failed: list[Mapping[str, Any]] = []
        self._made = 0

    def sent(self, event: str, project: str, moment: datetime) -> Sequence[str]:
        """The addresses that are told of an event of a project. What is over is silent."""
        return [
            each.url
            for each in self.known.values()
            if event in each.events and project in each.projects and moment < each.until
        ]

    def page(self, app: str, start: str, most: str) -> Any:
        if not (start.isdigit() and most.isdigit() and int(most)):
            raise Refusal(400, "startAt and maxResults must be positive numbers.")
        mine = [each for each in self.known.values() if each.app == app]
        first, size = int(start), min(int(most), 100)
        return {
            "startAt": first, "maxResults": size, "total": len(mine), "isLast": first + size >= len(mine),
            "values": [self._shown(each) for each in mine[first : first + size]],
        }  # fmt: skip

    def register(self, app: str, url: Any, details: Any, projects: frozenset[str], moment: datetime) -> Any:
        if not isinstance(url, str) or not url.startswith("https://") or not isinstance(details, list) or not details:
            raise Refusal(400, "Give an https url and webhooks.")
        results = [self._registered(app, url, each, projects, moment) for each in details]
        return {"webhookRegistrationResult": results}

    def _registered(self, app: str, url: str, details: Any, projects: frozenset[str], moment: datetime) -> Any:
        mine = [each for each in self.known.values() if each.app == app]
        if set(details) != {"jqlFilter", "events"}:
            raise Refusal(400, "Unknown parameter of a webhook.")
        made = DynamicHook(
            self._made + 1, app, url, details["jqlFilter"], frozenset(details["events"]), moment + self.life
        )
        error = None
        if not re.fullmatch(JQL, made.jql) or not made.projects <= projects:
            error = "The filter is not supported."
        elif not made.events or not made.events <= EVENTS:
            error = "An event is not supported."
        elif any(each.url != url for each in mine):
            error = f"Only a single URL per app is allowed to be registered, and {url} is another one."
        elif len(mine) >= MOST:
            error = f"Only {MOST} webhooks are allowed."
        if error:
            return {"errors": [error]}
        self._made += 1
        self.known[made.id] = made
        return {"createdWebhookId": made.id}

    def refresh(self, app: str, idents: Any, moment: datetime) -> Any:
        """Those of other apps, and what is over, are ignored."""
        for each in self._mine(app, idents):
            if moment < each.until:
                self.known[each.id] = replace(each, until=moment + self.life)
        return {"expirationDate": _milliseconds(moment + self.life)}

    def remove(self, app: str, idents: Any) -> None:
        for each in self._mine(app, idents):
            del self.known[each.id]

    def failures(self, after: str, most: str) -> Any:
        if not self.tells_failed:
            raise Refusal(403, "This operation is only available to Connect apps.")
        since = int(after) if after.isdigit() else 0
        return {"values": [each for each in self.failed if each["failureTime"] > since], "maxResults": int(most)}

    def _mine(self, app: str, idents: Any) -> Sequence[DynamicHook]:
        if not isinstance(idents, list) or not all(isinstance(each, int) for each in idents):
            raise Refusal(400, "The list of webhook IDs is missing.")
        return [self.known[each] for each in idents if each in self.known and self.known[each].app == app]

    def _shown(self, hook: DynamicHook) -> Any:
        return {
            "id": hook.id, "jqlFilter": hook.jql, "events": sorted(hook.events),
            "expirationDate": _milliseconds(hook.until),
        } | ({"url": hook.url} if self.shows_url else {})  # fmt: skip


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
