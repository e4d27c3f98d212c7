"""Jira Cloud: what is asked another way than of Data Center: pages by token, and issues and changelogs in bulk.

Search finds issues by an index that lags; the changelogs are read after it, by id, and hence are newer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from connectors.base import Profile, Read, Retryable
from connectors.jira_client import MAX_PAGES, Client
from connectors.jira_query import Query
from connectors.jira_things import Issue, failures
from connectors.jira_values import Unreadable, identity, maybe, take

IDS_PER_PAGE = 5000
HISTORIES_PER_PAGE = 1000
MAX_EMPTY_PAGES = 5
PROFILES_PER_PAGE = 50
"""So many account ids, of 128 characters at the most, an address can hold."""


class Cloud:
    """A Jira Cloud site."""

    type: ClassVar[str] = "Cloud"
    """How it calls itself."""

    def __init__(self, client: Client) -> None:
        client.library.deploymentType = "Cloud"
        self._client = client

    def count(self, query: Query) -> int:
        answer = self._client.post("search/approximate-count", {"jql": query.bare})
        return self._client.read(take, answer, "count", int)

    def search(self, query: Query, fields: Sequence[str], size: int) -> Iterator[list[Issue]]:
        """Pages of issues with their changelogs, the one first that changed first."""
        for issues in self._search(query, fields, size):
            yield self._with_changelogs(issues)

    def names(self, query: Query) -> Iterator[list[Any]]:
        """Pages of the ids of issues, and when each was changed."""
        return self._search(query, ["updated"], IDS_PER_PAGE)

    def issues(self, ids: Sequence[str], fields: Sequence[str]) -> tuple[list[Issue], Mapping[str, Read]]:
        """Those of these that are there, and, by id, those that Jira has but could not give."""
        read = self._client.read
        answer = self._client.post("issue/bulkfetch", {"issueIdsOrKeys": list(ids), "fields": list(fields)})
        issues, failed = read(lambda: (take(answer, "issues", list), failures(answer)))
        return self._with_changelogs(issues), failed

    def profiles(self, ids: Sequence[str]) -> Iterator[Profile]:
        """What these accounts' people let be seen; an account that Jira does not answer with has its id alone."""
        for start in range(0, len(ids), PROFILES_PER_PAGE):
            wanted = ids[start : start + PROFILES_PER_PAGE]
            found = {profile.account: profile for profile in map(profile_of, self._users(wanted)) if profile}
            yield from (found.get(ident, Profile(ident)) for ident in wanted)

    def _users(self, ids: Sequence[str]) -> Iterator[Any]:
        start = 0
        for _ in ids:  # each page has one at least
            page = {"startAt": str(start), "maxResults": str(PROFILES_PER_PAGE)}
            answer = self._client.get("user/bulk", accountId=ids, **page)
            users = self._client.read(take, answer, "values", list)
            yield from users
            start += len(users)
            if not users or self._client.read(maybe, answer, "isLast", bool) is not False:
                return

    def _with_changelogs(self, issues: Sequence[Any]) -> list[Issue]:
        changelogs = self._changelogs([ident for issue in issues if (ident := identity(issue))])
        return [Issue(issue, changelogs.get(identity(issue), [])) for issue in issues]

    def _changelogs(self, ids: Sequence[str]) -> Mapping[str, list[Any]]:
        found: defaultdict[str, list[Any]] = defaultdict(list)
        if not ids:
            return found
        read = self._client.read
        body = {"issueIdsOrKeys": list(ids), "maxResults": HISTORIES_PER_PAGE}
        for page in self._pages(
            lambda token: self._client.post("changelog/bulkfetch", body | ({"nextPageToken": token} if token else {})),
            "issueChangeLogs",
        ):
            for log in page:
                found[read(take, log, "issueId", str)] += read(take, log, "changeHistories", list)
        return found

    def _search(self, query: Query, fields: Sequence[str], size: int) -> Iterator[list[Any]]:
        def page(token: str | None) -> Any:
            search = self._client.library.enhanced_search_issues
            return self._client.read(search, query.jql, token, size, list(fields), json_result=True)

        return self._pages(page, "issues")

    def _pages(self, page: Callable[[str | None], Any], items: str) -> Iterator[list[Any]]:
        """Follow page tokens to the end; a chain that goes round or nowhere is broken off, never taken for the end."""
        token: str | None = None
        seen: set[str] = set()
        empty = 0
        while len(seen) < MAX_PAGES:
            answer = page(token)
            found, token = self._client.read(take, answer, items, list), self._client.read(next_token, answer)
            yield found
            empty = 0 if found else empty + 1
            if token is None:
                return
            if token in seen or empty > MAX_EMPTY_PAGES:
                break
            seen.add(token)
        raise Retryable(f"Jira's pages of {items} do not come to an end")


def profile_of(user: Any) -> Profile | None:
    """A user of Cloud; None where it cannot be read. An Atlassian account has to answer a mail before its address changes
    ("Changing Atlassian account email addresses"); of customers of a help desk, and of who is no more, that is not known."""
    try:
        ident, name = take(user, "accountId", str), maybe(user, "displayName", str)
        kind, is_active = maybe(user, "accountType", str), maybe(user, "active", bool)
        mail = maybe(user, "emailAddress", str) or None
    except Unreadable:
        return None
    return Profile(ident, name or "", mail, verified=bool(mail and kind == "atlassian" and is_active))


def next_token(answer: Any) -> str | None:
    """The token of the next page; None at the end, which Jira says in two ways."""
    return None if maybe(answer, "isLast", bool) else maybe(answer, "nextPageToken", str) or None
