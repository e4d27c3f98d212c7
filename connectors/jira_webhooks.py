"""Jira's webhooks, of Cloud and Data Center: which things each type of event hints at, as a table, and why the others
are left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from connectors.base import Ref
from connectors.webhooks import Heard, Hint, Webhooks, ident, required

Extract = Callable[[Any], Iterator[Hint]]


def _issue(body: Any) -> Iterator[Hint]:
    yield Hint(Ref("work_item", ident(body, "issue.id")), required(body, "issue.key", str).rpartition("-")[0])


def _version(body: Any) -> Iterator[Hint]:
    """A version; one that was merged lives on in another one. It names its project by number alone."""
    yield Hint(Ref("milestone", ident(body, "version.id")))
    if body.get("mergedTo") is not None:
        merged = "mergedTo.id" if isinstance(body["mergedTo"], dict) else "mergedTo"
        yield Hint(Ref("milestone", ident(body, merged)))


def _worklog(body: Any) -> Iterator[Hint]:
    yield Hint(Ref("work_item", ident(body, "worklog.issueId")))


def _link(body: Any) -> Iterator[Hint]:
    """A link is read with the issues at both of its ends."""
    for end in ("issueLink.sourceIssueId", "issueLink.destinationIssueId"):
        yield Hint(Ref("work_item", ident(body, end)))


HINTS: Mapping[str, Extract] = {
    **dict.fromkeys(("jira:issue_created", "jira:issue_updated", "jira:issue_deleted"), _issue),
    **dict.fromkeys(
        (
            "jira:version_created", "jira:version_deleted", "jira:version_merged", "jira:version_moved",
            "jira:version_released", "jira:version_unreleased", "jira:version_updated",
        ),
        _version,
    ),
    **dict.fromkeys(("worklog_created", "worklog_deleted", "worklog_updated"), _worklog),
    **dict.fromkeys(("issuelink_created", "issuelink_deleted"), _link),
}  # fmt: skip
EACH_POLL = "boards and their sprints are read whole with every poll"
OTHERS = "it is about nothing that pmsync reads"
IGNORED: Mapping[str, str] = {
    "comment_": "nothing that pmsync reads of an issue changes by a comment",
    "attachment_": "nothing that pmsync reads of an issue changes by an attachment",
    "jira:worklog_": "jira:issue_updated tells of it, too",
    "board_": EACH_POLL,
    "sprint_": EACH_POLL,
    "project_": "a project's new key belongs in the configuration",
    "user_": OTHERS,
    "option_": OTHERS,
    "issue_property_": OTHERS,
    "issuetype_": OTHERS,
    "filter_": OTHERS,
    "jira_expression_": OTHERS,
}
"""What is left alone, by the beginning of its type, and why."""


def read(_: Mapping[str, str], body: Any) -> Heard:
    """What one webhook comes to; raises `Unheard`."""
    event = required(body, "webhookEvent", str)
    if extract := HINTS.get(event):
        return Heard(event, tuple(extract(body)))
    why = next((why for begins, why in IGNORED.items() if event.startswith(begins)), "")
    return Heard(event if why else "unknown", ignored=why or "its type is not known")


WEBHOOKS = Webhooks("x-hub-signature", read)
