"""GitHub: the parts of many issues and pull requests in few requests.

A listing names the things that changed; their histories, branches and reviews take one to three more requests each.
Where many are listed, two aids tell the same of many at once: the repository's list of issue events, newest first, and
one GraphQL query for the branches and reviews of up to 50 pull requests. What they do not tell for certain is asked
for by itself, as always: an aid saves requests and is never needed. `docs/adr/0022-github-in-bulk.md` says why so.

All of it is pure; `connectors/github.py` does the asking.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

MANY = 100
"""From how many listed things on the repository's list of events is looked at."""
MOST_PAGES = 300
"""How far back the list is read: GitHub shows no more than 30,000 events, which are of some four thousand things."""
PAGES_AT_ONCE = 20
MOST_FAILURES = 3
"""After so many the list is left, that nothing may wait for ever for what only saves requests."""
MOST_BYTES = 64 << 20
"""How much of the lists of events is kept, of all repositories of a source together, as JSON."""
AT_ONCE = 50
"""Pull requests in one query: 1 point of 5,000 an hour, far from its ten seconds and 500,000 nodes."""
PULLS = """
query($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on PullRequest {
      id
      headRefName
      reviews(first: 100) {
        pageInfo { hasNextPage }
        nodes {
          fullDatabaseId
          state
          submittedAt
          author { ... on User { databaseId } ... on Bot { databaseId } ... on Mannequin { databaseId } }
        }
      }
      commits(first: 100) { pageInfo { hasNextPage } nodes { commit { message } } }
    }
  }
}
"""


TOTAL = """
query($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) { issues { totalCount } pullRequests { totalCount } }
}
"""


class Pull(NamedTuple):
    """A pull request, its reviews and its commits, in the shapes of the REST API as far as they are read."""

    pull: Any
    reviews: Sequence[Any] = ()
    commits: Sequence[Any] = ()


class Told:
    """What the list of a repository's issue events has told: newest first, so all of the things younger than its end.

    `kinds` are the events that make a history; the others are not kept. So many pages are `worth` reading. The reading may be interrupted and go on at
    `following`: what happened meanwhile only pushes events on to where they are read again.
    """

    def __init__(self, first: tuple[str, Mapping[str, Any]], kinds: Collection[str]) -> None:
        self.following: tuple[str, Mapping[str, Any]] | None = first
        self.pages = self.worth = 0
        self.size = 0
        self._kinds = kinds
        self._failed = 0
        self._since: datetime | None = None
        self._back_to: datetime | None = None
        self._events: dict[int, dict[int, bytes]] = {}
        self._unfit: set[int] = set()

    def add(self, events: Sequence[Any], at: datetime | None, following: str | None) -> None:
        """One more page, answered at `at` (GitHub's clock), behind which `following` lies.

        A page that cannot be read for certain ends the list before it; so does one that is out of order, as what was
        brought from elsewhere, with times of its own, may be.
        """
        self.pages += 1
        self.following = (following, {}) if following else None
        try:
            told = [_Told.model_validate(event) for event in events]
        except ValidationError:
            at = None
        newest = max((event.created_at for event in told), default=_BEGINNING) if at else _END
        if at is None or (self._back_to and newest > self._back_to):
            self.end()
            return
        if self._since is None:
            self._since, newest = at, newest if following else _BEGINNING
        # Not to its oldest event: that may have an older time than when it came here.
        self._back_to = newest
        for event, whole in zip(told, events, strict=True):
            if event.issue is not None:  # of a deleted one nobody will ask
                self._keep(event.issue.number, event, whole)

    def _keep(self, number: int, event: _Told, whole: Any) -> None:
        # Of another repository's time there is nothing here; and this list is not said to tell why a thing was closed.
        if event.event == "transferred" or (event.event == "closed" and "state_reason" not in whole):
            self._unfit.add(number)
        if event.event in self._kinds:
            kept = json.dumps(_reduced(whole, _KEPT), separators=(",", ":")).encode()
            self.size += len(kept)
            self._events.setdefault(number, {})[event.id] = kept

    def fails(self) -> bool:
        """A try to read on was in vain; whether these were enough."""
        self._failed += 1
        return self._failed >= MOST_FAILURES

    def end(self) -> None:
        """It is not read any further."""
        self.following = None

    def of(
        self, number: int, created_at: datetime | None, updated_at: datetime | None, margin: timedelta
    ) -> list[Any] | None:
        """The events of a thing, oldest first; None where they are not told for certain.

        They are where all of the thing's life lies within the list: it was created after all events of the last page, and
        did not change since the list was read, nor `margin` before.
        """
        if created_at is None or updated_at is None or self._since is None or self._back_to is None:
            return None
        if number in self._unfit or created_at <= self._back_to or updated_at >= self._since - margin:
            return None
        return [json.loads(event) for _, event in sorted(self._events.get(number, {}).items())]


def total(answer: Any) -> int | None:
    """What the answer to `TOTAL` says: issues and pull requests together."""
    try:
        found = _Answer.model_validate(answer).data.repository
    except ValidationError:
        return None
    return found.issues.count + found.pulls.count


def batches(issues: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """The pull requests among the issues of a listing, as node id -> issue, so many as one query takes."""
    pulls = {issue["node_id"]: issue for issue in issues if _is_pull(issue)}
    names = list(pulls)
    for start in range(0, len(names), AT_ONCE):
        yield {name: pulls[name] for name in names[start : start + AT_ONCE]}


def pulls(asked: Mapping[str, Any], answer: Any) -> Mapping[int, Pull]:
    """What the answer to `PULLS` tells for certain, by number; the rest of a pull request is what its issue shows."""
    data = answer.get("data") if isinstance(answer, dict) else None
    nodes = data.get("nodes") if isinstance(data, dict) else None
    found: dict[int, Pull] = {}
    for node in nodes if isinstance(nodes, list) else ():
        try:
            pull = _Pull.model_validate(node)
        except ValidationError:
            continue
        issue = asked.get(pull.id)
        if issue is not None and not pull.reviews.page.has_next and not pull.commits.page.has_next:
            shown = {**issue, "merged_at": issue["pull_request"]["merged_at"], "head": {"ref": pull.head}}
            reviews = [review.rest() for review in pull.reviews.nodes]
            found[issue["number"]] = Pull(shown, reviews, pull.commits.nodes)
    return found


def _is_pull(issue: Any) -> bool:
    pull = issue.get("pull_request") if isinstance(issue, dict) else None
    return (
        isinstance(pull, dict)
        and "merged_at" in pull
        and isinstance(issue.get("node_id"), str)
        and isinstance(issue.get("number"), int)
    )


# --- GitHub's shapes --------------------------------------------------------------------------------------------------

_BEGINNING, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_REFERENCE = {"number": None, "repository": {"full_name": None}}
_KEPT: Mapping[str, Any] = {
    **dict.fromkeys(("id", "event", "created_at", "state_reason")),
    "assignee": {"id": None},
    "label": {"name": None},
    "milestone": {"title": None},
    "requested_reviewer": {"id": None},
    "requested_team": {"id": None},
    **dict.fromkeys(("parent_issue", "blocked_by"), _REFERENCE),
}
"""What is kept of an event; of what is an object, these parts of it."""


def _reduced(value: Any, kept: Mapping[str, Any] | None) -> Any:
    if kept is None or not isinstance(value, dict):
        return value
    return {name: _reduced(value[name], parts) for name, parts in kept.items() if name in value}


class _Raw(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Numbered(_Raw):
    number: int


class _Count(_Raw):
    count: int = Field(alias="totalCount")


class _Repository(_Raw):
    issues: _Count
    pulls: _Count = Field(alias="pullRequests")


class _Data(_Raw):
    repository: _Repository


class _Answer(_Raw):
    data: _Data


class _Told(_Raw):
    id: int
    event: str
    created_at: AwareDatetime = Field(strict=False)
    issue: _Numbered | None


class _PageInfo(_Raw):
    has_next: bool = Field(alias="hasNextPage")


class _Author(_Raw):
    id: int = Field(alias="databaseId")


class _Review(_Raw):
    id: str = Field(alias="fullDatabaseId", pattern=r"^[0-9]{1,18}$")
    state: str
    submitted_at: str | None = Field(alias="submittedAt")
    author: _Author  # where GitHub names none, the REST API may still name its ghost

    def rest(self) -> Any:
        return {
            "id": int(self.id),
            "state": self.state,
            "submitted_at": self.submitted_at,
            "user": {"id": self.author.id},
        }


class _Reviews(_Raw):
    page: _PageInfo = Field(alias="pageInfo")
    nodes: list[_Review]


class _Commits(_Raw):
    page: _PageInfo = Field(alias="pageInfo")
    nodes: list[Any]  # in the shape of the REST API, as it happens


class _Pull(_Raw):
    id: str
    head: str = Field(alias="headRefName")
    reviews: _Reviews
    commits: _Commits
