"""Jira Cloud: registering dynamic webhooks, and keeping them alive.

Which, and what is to be done, is `connectors/jira_dynamic.py`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors import jira_dynamic
from connectors.base import Clock, Fatal, Retryable, SecretRef, usable_token
from connectors.jira_client import Client, Refused
from connectors.jira_consent import HOOKING
from connectors.jira_dynamic import Hook, Wanted
from connectors.jira_values import instant, maybe, take
from connectors.webhooks import leads_to

PAGE = 100
MOST_PAGES = 20
"""Of an app's webhooks, of which Jira lets it have a few."""
KEPT = timedelta(hours=72)
"""So long Jira lists what it could not deliver."""


class Registration:
    """The webhook of one source. `base` is the public address of the intake."""

    def __init__(self, source: str, client: Client, base: str, token: SecretRef, clock: Clock) -> None:
        self._source = source
        self._client = client
        self._base = base
        self._token = token
        self._clock = clock
        self._life: timedelta | None = None
        self._made: tuple[Wanted | None, int] | None = None

    def keep(self, containers: Collection[str]) -> int:
        """Have the webhook of these containers there, alone and for long enough; returns how many were made, renewed or
        removed."""
        wanted, now = self._wanted(containers), self._clock()
        made = {self._made[1]} if self._made and self._made[0] == wanted else set[int]()
        plan = jira_dynamic.plan(self._hooks(), wanted, self._source, now, self._life, made)
        self._remove(plan.before)
        if plan.register:
            self._register(plan.register)
        self._remove(plan.after)
        if plan.renew:
            self._renew(plan.renew, now)
        return len(plan.before) + bool(plan.register) + len(plan.after) + len(plan.renew)

    def check(self, containers: Collection[str]) -> Iterator[str]:
        """What `doctor` should say of it."""
        wanted, now = self._wanted(containers), self._clock()
        right = jira_dynamic.right_ones(self._hooks(), wanted, now)
        if wanted and not right:
            yield (
                f"Jira has no webhook of {', '.join(sorted(containers))} that leads here: the worker that reads "
                f"{self._source} registers it within a quarter of an hour, and its log says why where it cannot"
            )
        until = right[-1].until if right else None
        if until and until - now < jira_dynamic.SOON:
            yield f"Jira's webhook ends at {until:%Y-%m-%d %H:%M} UTC and was not renewed: does the worker run?"
        if failed := self._failed(now):
            yield f"Jira could not deliver {failed} webhooks here in three days: is {self._base} reached from the internet?"

    def _wanted(self, containers: Collection[str]) -> Wanted | None:
        token = usable_token(self._token.reveal(), "webhook_token")
        url = jira_dynamic.address(self._base, self._source, token)
        return Wanted(url, frozenset(containers)) if containers else None

    def _hooks(self) -> Sequence[Hook]:
        found: list[Hook] = []
        for _ in range(MOST_PAGES):
            answer = self._asked("GET", "webhook", startAt=str(len(found)), maxResults=str(PAGE))
            values = self._client.read(take, answer, "values", list)
            found += [self._client.read(jira_dynamic.hook, raw) for raw in values]
            if not values or self._client.read(maybe, answer, "isLast", bool):
                return found
        raise Retryable("Jira's pages of webhooks do not come to an end")

    def _register(self, wanted: Wanted) -> None:
        details = {"jqlFilter": wanted.jql, "events": list(jira_dynamic.EVENTS)}
        answer = self._asked("POST", "webhook", {"url": wanted.url, "webhooks": [details]})
        results = self._client.read(take, answer, "webhookRegistrationResult", list)
        made = self._client.read(maybe, results[0], "createdWebhookId", int) if len(results) == 1 else None
        if made is None:  # Jira's words may hold the address, and so the token
            raise Fatal(
                f"Jira did not register the webhook of {', '.join(sorted(wanted.projects))}: an app has one address and five "
                "webhooks for a person; let pmsync have an OAuth app of its own"
            )
        self._made, self._life = (wanted, made), None

    def _renew(self, ids: Sequence[int], now: datetime) -> None:
        answer = self._asked("PUT", "webhook/refresh", {"webhookIds": list(ids)})
        until = self._client.read(lambda: instant(take(answer, "expirationDate", object), "expirationDate"))
        self._life = until - now

    def _remove(self, ids: Sequence[int]) -> None:
        if ids:
            self._asked("DELETE", "webhook", {"webhookIds": list(ids)})

    def _failed(self, now: datetime) -> int:
        """How many Jira could not deliver. Its document lets apps of another kind ask for that alone, so that a refusal is no
        news."""
        since = str(int((now - KEPT).timestamp() * 1000))
        try:
            answer = self._client.get("webhook/failed", after=since, maxResults=str(PAGE))
        except Refused:
            return 0
        values = self._client.read(take, answer, "values", list)
        return sum(leads_to(self._client.read(maybe, raw, "url", str), self._source) for raw in values)

    def _asked(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        try:
            return self._client.get(path, **query) if method == "GET" else self._client.send(method, path, body)
        except Refused as error:
            if error.status not in (401, 403):
                raise
            raise Fatal(
                f"Jira does not let pmsync register webhooks ({error.status}): let the OAuth app have {HOOKING}, and run "
                f"`pmsync sign-in {self._source}` again"
            ) from None
