"""GitHub: who reviewed a pull request, and who was asked to. All of it is pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from connectors.github_shapes import Identified, Raw, Time
from pmsync.core.events import Review, ReviewRequest

ASKED, WITHDRAWN = "review_requested", "review_request_removed"
ASKING = frozenset({ASKED, WITHDRAWN})
"""The kinds of issue events that tell of requests for a review."""
TEAM = "team:"


class _Review(Raw):
    id: int
    state: str
    submitted_at: Time | None = None
    user: Identified | None


class _Event(Raw):
    event: str
    created_at: Time
    requested_reviewer: Identified | None = None
    requested_team: Identified | None = None

    @property
    def reviewer(self) -> str | None:
        if self.requested_reviewer:
            return str(self.requested_reviewer.id)
        return f"{TEAM}{self.requested_team.id}" if self.requested_team else None


def reviews_in(told: Sequence[Any]) -> Iterator[Review]:
    """The reviews that were handed in; raises `ValidationError` if one is not in GitHub's shape."""
    for review in map(_Review.model_validate, told):
        if review.submitted_at:  # one that is still being written has no time
            reviewer = str(review.user.id) if review.user else None
            yield Review(id=str(review.id), at=review.submitted_at, state=review.state.lower(), reviewer=reviewer)


def requests_in(events: Sequence[Any], reviews: Sequence[Review], author: str | None) -> tuple[ReviewRequest, ...]:
    """The requests for a review, oldest first; raises `ValidationError` if an event is not in GitHub's shape.

    GitHub tells when somebody was asked and when that was withdrawn; that a review ends its request is told by the review
    alone. What was asked of an account that is no more names nobody, and is left out.
    """
    asked: dict[str, list[ReviewRequest]] = {}
    told = [each for each in events if isinstance(each, dict) and str(each.get("event")) in ASKING]
    for event in map(_Event.model_validate, told):
        if (reviewer := event.reviewer) is None:
            continue
        past, at = asked.setdefault(reviewer, []), event.created_at
        ended_at = past[-1].until if past else None
        stands = bool(past) and (ended_at is None or ended_at > at)
        if event.event == WITHDRAWN and stands:
            past[-1] = past[-1].model_copy(update={"until": at})
        elif event.event == ASKED and not stands:
            answers = (each.at for each in reviews if _answers(each, reviewer, author))
            # Who is asked again in the second of the last answer has not answered again by it.
            until = min((each for each in answers if each >= at and each != ended_at), default=None)
            past.append(ReviewRequest(reviewer=reviewer, at=at, until=until))
    return tuple(sorted((each for past in asked.values() for each in past), key=lambda each: (each.at, each.reviewer)))


def _answers(review: Review, reviewer: str, author: str | None) -> bool:
    # Who is in a team GitHub does not tell here; it takes the team's request back when one of them reviews.
    return review.reviewer != author if reviewer.startswith(TEAM) else review.reviewer == reviewer
