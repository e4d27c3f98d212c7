"""GitHub: which deliveries of webhooks are to be sent again.

GitHub sends a webhook once. It lists what came of it for three days, and sends it again when asked to. Nothing rests on
that: a round or a sweep finds what was missed. It only comes sooner.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

KEPT = timedelta(days=3)
"""So long GitHub keeps deliveries."""
MOST_PAGES = 50
"""Of the deliveries of one webhook, the newest first."""
MOST_ASKED = 75
"""Deliveries that are asked for at a time. Of requests that make something GitHub takes 80 a minute and 500 an hour, and
those that read are not to wait for these."""
MOST_ATTEMPTS = 3
"""What has failed so often, GitHub's own attempt included, is left alone."""
LATE = timedelta(minutes=10)
"""So long a delivery may take to be listed: it is noted with the time at which it was sent."""


class Delivery(BaseModel):
    """One attempt to deliver a webhook. `guid` is the same for all attempts; without a `status_code` nobody answered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    guid: str
    delivered_at: AwareDatetime
    redelivery: bool
    status_code: int | None = None
    event: str
    repository_id: int | None = None

    @property
    def is_taken(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


class Due(NamedTuple):
    """First attempts whose webhook is to be sent again, the oldest first; and since when deliveries are to be looked at
    the next time: all before is settled."""

    deliveries: tuple[Delivery, ...]
    since: datetime


def listed(page: Iterable[Any]) -> Iterator[Delivery]:
    """The deliveries of a page; what is none costs only itself."""
    for each in page:
        with suppress(ValidationError):
            yield Delivery.model_validate(each)


def due(
    deliveries: Iterable[Delivery], since: datetime, events: Container[str], homes: Container[int] | None = None
) -> Due:
    """What nobody took, of these events, and of these repositories where a webhook is of many.

    Where the first attempt is not among the deliveries, how often it was tried cannot be known, so it is left alone.
    """
    attempts: dict[str, list[Delivery]] = {}
    for each in sorted(deliveries, key=lambda each: (each.delivered_at, each.redelivery)):
        if each.delivered_at >= since:
            attempts.setdefault(each.guid, []).append(each)
    missed = tuple(
        tries[0]
        for tries in attempts.values()
        if not tries[0].redelivery
        and tries[0].event in events
        and (homes is None or tries[0].repository_id in homes)
        and len(tries) < MOST_ATTEMPTS
        and not any(each.is_taken for each in tries)
    )
    newest = max((each.delivered_at for tries in attempts.values() for each in tries), default=since)
    return Due(missed, missed[0].delivered_at if missed else max(since, newest - LATE))
