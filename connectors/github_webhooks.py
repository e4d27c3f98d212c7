"""GitHub's webhooks: which things each type of event hints at, as a table, and why the others are left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from connectors.base import Ref
from connectors.webhooks import Heard, Hint, Unheard, Webhooks, ident, required

Extract = Callable[[Any], Iterator[Hint]]


def _thing(kind: str, where: str, called: str = "number") -> Extract:
    """The thing of this kind at `where`, which is `called` so."""

    def extract(body: Any) -> Iterator[Hint]:
        yield _hint(kind, body, "repository", f"{where}.{called}")

    return extract


def _issue(body: Any) -> Iterator[Hint]:
    """An issue; one that was transferred is gone from here, and new elsewhere. To GitHub, pull requests are issues, too."""
    kind = "change_request" if isinstance(required(body, "issue", dict).get("pull_request"), dict) else "work_item"
    yield _hint(kind, body, "repository", "issue.number")
    if body.get("action") == "transferred":
        yield _hint("work_item", required(body, "changes", dict), "new_repository", "new_issue.number")


def _run(body: Any) -> Iterator[Hint]:
    """A workflow run of the default branch, as far as can be seen here; of others, which are most, none is read."""
    branch = required(body, "repository", dict).get("default_branch")
    if branch is None or required(body, "workflow_run", dict).get("head_branch") in (branch, None):
        yield _hint("workflow_run", body, "repository", "workflow_run.id")


def _link(*ends: str) -> Extract:
    """The issues at both ends of a link, as far as they are shown; one of another repository comes with that."""

    def extract(body: Any) -> Iterator[Hint]:
        shown = [end for end in ends if body.get(end) is not None]
        for end in shown or ends:
            elsewhere = f"{end}_repo"
            yield _hint(
                "work_item", body, elsewhere if body.get(elsewhere) is not None else "repository", f"{end}.number"
            )

    return extract


def _hint(kind: str, body: Any, repository: str, number_at: str) -> Hint:
    number, home = ident(body, number_at), ident(body, f"{repository}.id")
    return Hint(Ref(kind, f"{home}/{number}"), required(body, f"{repository}.full_name", str))


HINTS: Mapping[str, Extract] = {
    "deployment": _thing("deployment", "deployment", "id"),
    "deployment_status": _thing("deployment", "deployment", "id"),
    "issue_dependencies": _link("blocked_issue", "blocking_issue"),
    "issues": _issue,
    "milestone": _thing("milestone", "milestone"),
    "pull_request": _thing("change_request", "pull_request"),
    "pull_request_review": _thing("change_request", "pull_request"),
    "release": _thing("release", "release", "id"),
    "sub_issues": _link("sub_issue", "parent_issue"),
    "workflow_run": _run,
}
NOT_DEFAULT = "it is of another branch than the default one"
NOT_READ = "pmsync does not read that yet"
NO_CHANGE = "nothing that pmsync reads of a thing changes by it"
OTHERS = "it is about nothing that pmsync reads"
IGNORED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "check_run", "check_suite", "deployment_protection_rule", "deployment_review",
            "merge_group", "projects_v2", "projects_v2_item", "projects_v2_status_update", "push", "status",
            "workflow_dispatch", "workflow_job",
        ),
        NOT_READ,
    ),
    **dict.fromkeys(
        (
            "commit_comment", "issue_comment", "pull_request_review_comment", "pull_request_review_thread",
        ),
        NO_CHANGE,
    ),
    "label": "a renamed label shows when its issues are read next",
    "repository": "a repository's new name belongs in the configuration",
    **dict.fromkeys(
        (
            "branch_protection_configuration", "branch_protection_rule", "code_scanning_alert", "create", "custom_property",
            "custom_property_values", "delete", "dependabot_alert", "deploy_key", "discussion", "discussion_comment", "fork",
            "github_app_authorization", "gollum", "installation", "installation_repositories", "installation_target",
            "marketplace_purchase", "member", "membership", "meta", "org_block", "organization", "package", "page_build",
            "ping", "project", "project_card", "project_column", "public", "registry_package", "repository_advisory",
            "repository_dispatch", "repository_import", "repository_ruleset", "repository_vulnerability_alert",
            "secret_scanning_alert", "secret_scanning_alert_location", "security_advisory", "security_and_analysis",
            "sponsorship", "star", "team", "team_add", "watch",
        ),
        OTHERS,
    ),
}  # fmt: skip
"""What is left alone, and why. A type that is in neither table is ignored, too, and counted as unknown."""


def read(headers: Mapping[str, str], body: Any) -> Heard:
    """What one webhook comes to; raises `Unheard`."""
    event = headers.get("x-github-event", "")
    if not event:
        raise Unheard("it has no header X-GitHub-Event")
    extract = HINTS.get(event)
    if extract is None:
        return Heard(event if event in IGNORED else "unknown", ignored=IGNORED.get(event, "its type is not known"))
    if not isinstance(body, dict):
        raise Unheard("it is no object")
    hints = tuple(extract(body))
    return Heard(event, hints, "" if hints else NOT_DEFAULT)


WEBHOOKS = Webhooks("x-hub-signature-256", read)
