"""Jira Data Center: what is asked another way than of Cloud: pages by number, of issues that bring their changelogs along.

A list that is cut into pages by number loses an issue when another one, of an earlier page, changes meanwhile and goes to
the end: all after it move up by one. So each page begins with the last issue of the one before, and where it does not,
the list is asked for anew, from the oldest time of change on that the page before showed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from connectors.base import Profile, Read, Retryable
from connectors.jira_client import MAX_PAGES, Client
from connectors.jira_query import Query
from connectors.jira_things import Issue, updated_at
from connectors.jira_values import Unreadable, identity, maybe, take

ISSUES_PER_PAGE = 1000
"""What a server gives at the most, unless it is set otherwise; it may give less."""
MAX_STUCK = 20
"""So often a list is asked for anew from one and the same time."""
WITH_CHANGELOG = ("changelog",)


class DataCenter:
    """A Jira Data Center."""

    type: ClassVar[str] = "Server"
    """How it calls itself."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def count(self, query: Query) -> int:
        return self._client.read(take, self._page(query, ["updated"], 0, 0), "total", int)

    def search(self, query: Query, fields: Sequence[str], size: int) -> Iterator[list[Issue]]:
        """Pages of issues with their changelogs, the one first that changed first; some may come again."""
        for issues in self._pages(query, fields, size, WITH_CHANGELOG):
            yield [self._whole(issue) for issue in issues]

    def names(self, query: Query) -> Iterator[list[Any]]:
        """Pages of the ids of issues, and when each was changed; some may come again."""
        return self._pages(query, ["updated"], ISSUES_PER_PAGE)

    def issues(self, ids: Sequence[str], fields: Sequence[str]) -> tuple[list[Issue], Mapping[str, Read]]:
        """Those of these that are there. What is no number is none of Jira's ids, and would be read as JQL."""
        found, left = list[Any](), [ident for ident in ids if re.fullmatch("[0-9]{1,18}", ident)]
        while left:
            answer = self._page(Query.of_ids(left), fields, 0, len(left), WITH_CHANGELOG)
            page = self._client.read(take, answer, "issues", list)
            found += page
            if len(page) >= self._client.read(take, answer, "total", int):
                break
            there = {identity(issue) for issue in page}
            if there.isdisjoint(left):
                raise Retryable("Jira did not give all of the issues that it has")
            left = [ident for ident in left if ident not in there]
        return [self._whole(issue) for issue in found], {}

    def profiles(self, ids: Sequence[str]) -> Iterator[Profile]:
        """Addresses are what an administrator, a directory or the user wrote down; the server has sent nothing there to see
        whether it arrives."""
        for ident in ids:
            user = self._client.find("user", key=ident)
            yield (profile_of(ident, user) if user else None) or Profile(ident)

    def _pages(self, query: Query, fields: Sequence[str], size: int, expand: Sequence[str] = ()) -> Iterator[list[Any]]:
        start, stuck = 0, 0
        last: str | None = None
        since: datetime | None = None
        for _ in range(MAX_PAGES):
            answer = self._page(query, fields, start, size, expand)
            found = self._client.read(take, answer, "issues", list)
            total = self._client.read(take, answer, "total", int)
            if last is not None and (not found or identity(found[0]) != last):
                again = query.again_from(since)
                stuck = stuck + 1 if again.jql == query.jql else 0
                if stuck > MAX_STUCK:
                    break
                query, start, last = again, 0, None
                continue
            yield found if last is None else found[1:]
            if start + len(found) >= total:
                return
            if not found or (last is not None and len(found) == 1):
                break  # nothing but what was seen, and yet it is not the end
            # One more than what was seen is asked for, or a page of one issue would never come to the next one.
            start, size = start + len(found) - 1, max(size, 2)
            # Not from the last one's time: an index that is behind may show issues with younger times than it sorts them by.
            last, since = identity(found[-1]), min(filter(None, map(updated_at, found)), default=since)
        raise Retryable("Jira's pages of issues do not come to an end")

    def _page(self, query: Query, fields: Sequence[str], start: int, size: int, expand: Sequence[str] = ()) -> Any:
        # Not validated by id: one that is gone would make an error of all the others' answer.
        body = {
            "jql": query.jql,
            "startAt": start,
            "maxResults": size,
            "fields": list(fields),
            "expand": list(expand),
        }
        return self._client.post("search", body | {"validateQuery": not query.ids})

    def _whole(self, issue: Any) -> Issue:
        """An issue with all of its changelog. A list brings it whole, but not for ever, if it goes Cloud's way."""
        histories, is_cut = _changelog(issue)
        if is_cut and (ident := identity(issue)):
            alone = self._client.find(f"issue/{quote(ident, safe='')}", expand="changelog", fields="updated")
            if alone is not None:  # else it was deleted since
                histories, is_cut = _changelog(alone)
        return Issue(issue, histories, is_cut)


def profile_of(ident: str, user: Any) -> Profile | None:
    """A user of a server; None where it cannot be read."""
    try:
        return Profile(ident, maybe(user, "displayName", str) or "", maybe(user, "emailAddress", str) or None)
    except Unreadable:
        return None


def _changelog(issue: Any) -> tuple[list[Any], bool]:
    """The histories that are there, and whether some are missing."""
    try:
        histories, total = take(issue, "changelog.histories", list), maybe(issue, "changelog.total", int)
    except Unreadable:
        return [], True
    return histories, (total or 0) > len(histories)
