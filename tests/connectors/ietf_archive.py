"""A real project's life on GitHub (the working group behind RFC 9420), loaded into the GitHub stand-in.

Real: numbers, states, labels, assignees, branches, who wrote and reviewed, and the instants of creation, comments,
reviews, merging, closing and the last update. The archive keeps only final states and neither titles nor bodies, so the
rest is invented, and marked so below.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from pmsync.standins.github import GitHubHost, User

Archive = Mapping[str, Any]


def load(path: Path) -> Archive:
    """The archive as it is (GraphQL's shape)."""
    with gzip.open(path) as stream:
        archive: Archive = json.load(stream)
    return archive


def instant(text: str) -> datetime:
    """An instant of the archive."""
    return datetime.fromisoformat(text)


def replay(archive: Archive, host: GitHubHost) -> str:
    """Build the archive's repository in `host`; returns its full name."""
    repo = str(archive["repo"])
    host.add_repository(repo)  # INVENTED: its numeric id, and those of all that follows
    people = _People()
    for item in sorted([*archive["issues"], *archive["pulls"]], key=lambda item: int(item["number"])):
        _open(host, repo, item, people)
        for _, tell in sorted(_life(host, repo, item, people), key=lambda step: step[0]):
            tell()
        host.touch(repo, item["number"], instant(item["updatedAt"]))
    return repo


class _People(dict[str, User]):
    def __missing__(self, login: str) -> User:
        self[login] = User(login, 1000 + len(self))  # INVENTED: the numeric id; the login is a hash of the real one
        return self[login]


def _open(host: GitHubHost, repo: str, item: Mapping[str, Any], people: _People) -> None:
    number, at, author = item["number"], instant(item["createdAt"]), people[item["author"]]
    title = f"Item {number}"  # INVENTED: the titles, and that there are no bodies and no drafts
    if "headRefName" in item:
        host.open_pull(repo, at, title, head=item["headRefName"], author=author, number=number)
    else:
        host.open_issue(repo, at, title, author=author, number=number)
    # INVENTED: that labels and assignees were there from the start; the archive knows only the last ones
    for label in item["labels"]:
        host.label(repo, number, at, label)
    for login in item["assignees"]:
        host.assign(repo, number, at, people[login])


def _life(
    host: GitHubHost, repo: str, item: Mapping[str, Any], people: _People
) -> Iterator[tuple[datetime, Callable[[], None]]]:
    number = item["number"]
    for comment in item["comments"]:
        at, who = instant(comment["createdAt"]), people[comment["author"]]
        yield at, partial(host.comment, repo, number, at, who)
    for review in item.get("reviews", ()):
        at, who, state = instant(review["createdAt"]), people[review["author"]], review["state"].lower()
        yield at, partial(host.review, repo, number, at, state, who)
    closed_at = instant(item["closedAt"])  # everything in this archive is closed
    if item.get("mergedAt"):
        at, by = instant(item["mergedAt"]), people[item["mergedBy"]]
        yield at, partial(host.merge, repo, number, at, by, closed_at=closed_at)
    else:
        # INVENTED: the reason, who closed it, and that it was never reopened
        yield closed_at, partial(host.close, repo, number, closed_at)
