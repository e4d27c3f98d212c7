"""GitHub: asking it to send again the webhooks that it could not deliver.

Which they are, is `connectors/github_deliveries.py`'s. Nothing rests on it: rounds and sweeps find the same, later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from connectors import github_deliveries, github_webhooks, webhooks
from connectors.base import Clock, Fatal, Retryable, Withheld
from connectors.github_client import Client, failure
from connectors.github_deliveries import Delivery
from connectors.github_things import Home

NOT_TO_BE_HAD = (400, 404, 410, 422)
"""Answers to who asks for a delivery that GitHub does not keep any more, or cannot send again."""


class Hook(NamedTuple):
    """A webhook that leads to us, who may ask about it, and of which repositories it is, if of several."""

    client: Client
    path: str
    homes: frozenset[int] | None = None


class Redelivery:
    """What the webhooks of one source did not take. `app` signs in as the App itself, which alone may ask for its
    deliveries; None for a token."""

    def __init__(self, source: str, client: Client, app: Callable[[], Client] | None, clock: Clock) -> None:
        self._source = source
        self._client = client
        self._app = app
        self._clock = clock
        self._unsettled: dict[str, datetime] = {}

    def ask(self, homes: Sequence[Home]) -> int:
        """Have it sent again, of these repositories and within bounds; returns how much."""
        missed = ((hook, delivery) for hook in self._hooks(homes) for delivery in self._missed(hook))
        return sum(self._is_sent_again(*each) for each in islice(missed, github_deliveries.MOST_ASKED))

    def without_hook(self, homes: Sequence[Home]) -> str:
        """Whose webhooks cannot be had, for people; empty if all can."""
        if self._app:
            return "" if any(self._hooks(homes)) else "the App"
        return ", ".join(home.container for home in homes if not any(self._hooks([home])))

    def _hooks(self, homes: Sequence[Home]) -> Iterator[Hook]:
        """The webhooks that lead to us: of the repositories, then of the organisations that own them; an App has one for all
        of its repositories."""
        if self._app is None:
            for home in homes:
                yield from self._own_hooks(f"{home.path}/hooks")
            for owner in sorted({_owner(home) for home in homes}):
                owned = frozenset(home.id for home in homes if _owner(home) == owner)
                yield from self._own_hooks(f"/orgs/{owner}/hooks", owned)
            return
        app = self._app()
        with suppress(Withheld):  # it has none
            if webhooks.leads_to(_value(app.get("/app/hook/config").body, "url"), self._source):
                yield Hook(app, "/app/hook", frozenset(home.id for home in homes))

    def _own_hooks(self, path: str, homes: frozenset[int] | None = None) -> Iterator[Hook]:
        """Those of a repository, or of an organisation, and then of `homes`; none where they may not be read, or where the
        owner is no organisation, which only `check` says: it is no failure of the source."""
        with suppress(Withheld):
            for page in self._client.pages(path, {"per_page": 100}, again=True):
                for hook in page:
                    ident, url = _value(hook, "id"), _value(_value(hook, "config"), "url")
                    if isinstance(ident, int) and _value(hook, "active") and webhooks.leads_to(url, self._source):
                        yield Hook(self._client, f"{path}/{ident}", homes)

    def _missed(self, hook: Hook) -> Sequence[Delivery]:
        """What is to be sent again. It is looked for no further back than there may be news, since each page costs quota."""
        since = self._clock() - github_deliveries.KEPT
        since = max(since, self._unsettled.get(hook.path, since))
        found: list[Delivery] = []
        for page in islice(
            hook.client.pages(f"{hook.path}/deliveries", {"per_page": 100}), github_deliveries.MOST_PAGES
        ):
            found += github_deliveries.listed(page)
            if found and found[-1].delivered_at < since:
                break
        missed = github_deliveries.due(found, since, github_webhooks.HINTS, hook.homes)
        self._unsettled[hook.path] = missed.since
        return missed.deliveries

    def _is_sent_again(self, hook: Hook, delivery: Delivery) -> bool:
        path = f"{hook.path}/deliveries/{delivery.id}/attempts"
        status, headers, text = hook.client.post(path, {})
        if status == 202 or status in NOT_TO_BE_HAD:
            return status == 202
        error = failure(status, headers, text, path, self._clock())
        if status == 403 and not isinstance(error, Retryable):
            raise Fatal("the token may not have webhooks sent again (403); let it write Webhooks")
        raise error


def _owner(home: Home) -> str:
    return home.full_name.partition("/")[0].casefold()


def _value(body: Any, key: str) -> Any:
    return body.get(key) if isinstance(body, dict) else None
