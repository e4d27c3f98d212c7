"""Answers of Jira and GitHub in files: what is recognised, what is made of it, and what is said to be missing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.files import OTHER, Found
from connectors.github import GitHubSettings
from connectors.github_files import FILES as GITHUB
from connectors.jira import JiraSettings
from connectors.jira_files import FILES as JIRA
from pmsync.core.events import ChangeRequest, Deployment, Link, Milestone, Release, StatusCategory, WorkItem
from pmsync.importing import documents, files

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SETTINGS = JiraSettings.model_validate({"name": "j", "url": "https://jira.example.com", "live": False})
HUB = GitHubSettings.model_validate({"name": "gh", "live": False})
STATUS = {"id": "3", "name": "Doing", "statusCategory": {"key": "indeterminate"}}
TODO = {"id": "1", "name": "Open", "statusCategory": {"key": "new"}}


def issue(**changes: Any) -> dict[str, Any]:
    fields = {
        "summary": "Sign in", "issuetype": {"name": "Task"}, "project": {"id": "7", "key": "APO"}, "status": STATUS,
        "created": "2026-03-01T10:00:00.000+0000", "updated": "2026-03-04T10:00:00.000+0000",
        "customfield_10016": 3, "fixVersions": [{"id": "70", "name": "1.0", "releaseDate": "2026-04-01"}],
    }  # fmt: skip
    return {"id": "1001", "key": "APO-1", "fields": fields, **changes}


def history(ident: str, day: int) -> dict[str, Any]:
    item = {"field": "status", "fieldId": "status", "from": "1", "fromString": "Open", "to": "3", "toString": "Doing"}
    return {"id": ident, "created": f"2026-03-0{day}T10:00:00.000+0000", "items": [item]}


def jira(*documents: Any) -> Found:
    return JIRA.read(SETTINGS, JIRA.shelve(documents), ["APO"])


def hub(*documents: Any, containers: tuple[str, ...] = ("octo/apollo",)) -> Found:
    return GITHUB.read(HUB, GITHUB.shelve(documents), containers)


def items(found: Found) -> list[WorkItem]:
    return [read.content for read in found.reads if isinstance(read.content, WorkItem)]


# --- Jira -------------------------------------------------------------------------------------------------------------


def test_a_search_with_everything_needs_nothing_besides() -> None:
    search = {
        "issues": [issue(changelog={"total": 1, "histories": [history("9", 2)]})],
        "names": {"customfield_10016": "Story Points", "summary": "Summary"},
    }
    found = jira(search, [TODO])
    assert found.lacks == []
    assert [(i.key, i.estimate, i.status_category, i.milestone, i.untracked) for i in items(found)] == [
        ("APO-1", 3000, StatusCategory.in_progress, "70", ())
    ]
    assert [(c.field, c.old, c.new) for c in items(found)[0].history] == [
        ("status", "Open", "Doing"),
        ("status_category", "todo", "in_progress"),
    ]
    assert [read.content.due_date for read in found.reads if isinstance(read.content, Milestone)] == [date(2026, 4, 1)]


def test_without_a_changelog_nothing_of_the_past_is_claimed() -> None:
    found = jira(issue())
    assert [(each.history, each.untracked) for each in items(found)] == [((), WorkItem.TRACKED)]
    assert "changelogs of 1 issues" in "\n".join(found.lacks)


def test_links_are_read_with_or_without_their_past() -> None:
    kind = {"name": "Dependency", "inward": "depends on", "outward": "is needed by"}
    known = issue()
    known["fields"] |= {"timespent": 60, "issuelinks": [{"id": "5", "type": kind, "inwardIssue": {"key": "APO-2"}}]}
    made = {"field": "Link", "from": None, "to": "APO-2", "toString": "This issue depends on APO-2"}
    past = {"total": 1, "histories": [{"id": "9", "created": "2026-03-02T10:00:00.000+0000", "items": [made]}]}
    settings = SETTINGS.model_copy(update={"blocking_links": ("Depends on",)})
    found = [JIRA.read(settings, JIRA.shelve([each]), ["APO"]) for each in (known, known | {"changelog": past})]
    assert [(i.time_spent, i.links) for each in found for i in items(each)] == [
        (60, (Link(relation="blocked_by", key="APO-2", since=since),))
        for since in (None, datetime(2026, 3, 2, 10, tzinfo=UTC))
    ]


def test_a_changelog_that_was_cut_says_so_until_the_rest_is_there() -> None:
    cut = issue(changelog={"total": 2, "histories": [history("9", 3)]})
    found = jira(cut, STATUS, TODO)
    assert [each.history_cut for each in items(found)] == [True]
    assert "older part" in "\n".join(found.lacks)
    bulk = [
        {"issueChangeLogs": [{"issueId": "1001", "changeHistories": [history("8", 2)]}]},
        {"issueChangeLogs": [{"issueId": "1001", "changeHistories": [history("9", 3)]}]},
    ]
    whole = items(jira(cut, bulk, STATUS, TODO))
    assert [(each.history_cut, len(each.history)) for each in whole] == [(False, 4)]


def test_names_of_custom_fields_are_asked_for_where_none_are_known() -> None:
    assert any("expand=names" in each for each in jira(issue()).lacks)
    listed = [{"id": "customfield_10016", "name": "Story Points", "custom": True}]
    found = jira(issue(), listed)
    assert [each.estimate for each in items(found)] == [3000]
    assert not any("expand=names" in each for each in found.lacks)


def test_a_listed_version_knows_more_than_an_issue_does() -> None:
    listed = {
        "id": "70",
        "name": "1.0",
        "projectId": 7,
        "released": False,
        "releaseDate": "2026-05-01",
        "startDate": "2026-01-01",
    }
    found = jira(issue(), {"values": [listed]})
    assert [read.content.due_date for read in found.reads if isinstance(read.content, Milestone)] == [date(2026, 5, 1)]


def test_a_version_of_a_project_that_nothing_names_is_asked_about() -> None:
    listed = {"id": "70", "name": "1.0", "projectId": 8, "released": False}
    assert jira(listed).reads == []
    assert jira(listed).lacks == [
        "the keys of the projects of 1 versions: add the answer of GET /rest/api/3/project/ID"
    ]
    assert len(jira(listed, {"id": "8", "key": "APO", "name": "Apollo"}).reads) == 1


def test_what_cannot_be_read_stays_by_itself() -> None:
    broken = issue(id="1002", key="APO-2")
    broken["fields"]["created"] = "yesterday"
    found = jira([issue(), broken])
    assert [read.problem for read in found.reads if read.content is None] == ["fields.created is no instant"]
    assert len(items(found)) == 1


@pytest.mark.parametrize(
    "odd",
    [
        None, 3, "text", [], {}, [[[]]], {"issues": 3}, {"issues": [3, None, "x"]}, {"key": 1, "fields": 2}, {"names": {"customfield_1": 2}},
        {"issueId": 3, "changeHistories": 4}, {"id": None, "name": None, "projectId": None, "released": 1}, {"id": 1, "key": 2, "name": 3},
        {"id": [], "name": {}, "statusCategory": 3}, {"id": 7, "name": 8, "custom": True}, {"key": "A-1", "fields": {"project": 3, "fixVersions": 4, "status": []}},
        {"key": "A-1", "fields": {"fixVersions": [{"id": {}}]}, "changelog": {"histories": {}}},
        {"key": "A-1", "fields": {}, "changelog": {"histories": [1], "total": "x"}},
    ],
)  # fmt: skip
def test_odd_documents_break_nothing_of_jira(odd: Any) -> None:
    assert len(items(jira(odd, issue()))) == 1


# --- GitHub -----------------------------------------------------------------------------------------------------------

API = "https://api.github.com/repos/octo/apollo"
REPOSITORY = {"id": 5, "full_name": "octo/apollo", "has_issues": True}


def hub_issue(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "url": f"{API}/issues/{number}", "repository_url": API, "html_url": f"https://github.com/octo/apollo/issues/{number}",
        "number": number, "title": "Login fails", "user": {"id": 1}, "state": "open", "labels": [], "assignees": [],
        "milestone": None, "created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-02T10:00:00Z", "closed_at": None,
    } | changes  # fmt: skip


def pull(number: int = 2, **changes: Any) -> dict[str, Any]:
    return {
        "url": f"{API}/pulls/{number}", "html_url": f"https://github.com/octo/apollo/pull/{number}", "number": number,
        "title": "Mend APO-7", "user": {"id": 1}, "state": "closed", "body": None, "milestone": None, "draft": False,
        "created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-02T10:00:00Z", "merged_at": "2026-03-02T10:00:00Z",
        "closed_at": "2026-03-02T10:00:00Z", "head": {"ref": "fix"}, "base": {"repo": {"id": 5, "full_name": "octo/apollo"}},
    } | changes  # fmt: skip


def event(ident: int, number: int, name: str, **changes: Any) -> dict[str, Any]:
    about = {"number": number, "repository_url": API, "url": f"{API}/issues/{number}"}
    return {
        "id": ident,
        "url": f"{API}/issues/events/{ident}",
        "event": name,
        "created_at": f"2026-03-01T1{ident}:00:00Z",
        "issue": about,
    } | changes


def test_a_repository_tells_its_issues_ids() -> None:
    found = hub([hub_issue()], REPOSITORY, [event(1, 1, "closed"), event(2, 1, "reopened")])
    assert [read.ref for read in found.reads] == [("work_item", "5/1")]
    assert [(i.container, i.key, len(i.history), i.untracked) for i in items(found)] == [
        ("octo/apollo", "octo/apollo#1", 4, ())
    ]
    assert found.lacks == []
    assert hub([hub_issue()]).lacks == ["the id of octo/apollo: add the answer of GET /repos/octo/apollo"]


def test_links_are_told_as_far_as_the_documents_go() -> None:
    """Of the list of what blocks an issue nothing says of which issue it is: the issue counts, the events name them."""

    def other(number: int) -> dict[str, Any]:
        return {"number": number, "repository": {"full_name": "octo/zeus"}}

    def told(blockers: int) -> list[tuple[str, str, bool]]:
        shown = {"parent_issue_url": f"{API}/issues/7", "issue_dependencies_summary": {"total_blocked_by": blockers}}
        events = [
            event(1, 1, "blocked_by_added", blocked_by=other(3)),
            event(2, 1, "blocked_by_added", blocked_by=other(4)),
            event(3, 1, "blocked_by_removed", blocked_by=other(4)),
        ]
        (found,) = items(hub([hub_issue(**shown)], REPOSITORY, events))
        assert found.parent == "octo/apollo#7"
        return [(each.relation, each.key, each.until is None) for each in found.links if each.relation == "blocked_by"]

    assert told(1) == [("blocked_by", "octo/zeus#3", True), ("blocked_by", "octo/zeus#4", False)]
    assert told(2) == [("blocked_by", "octo/zeus#4", False)], "another one is not told of, so none is believed"


def test_events_may_come_twice_and_in_any_order() -> None:
    events = [event(1, 1, "closed"), event(2, 1, "reopened")]
    once, often = hub(hub_issue(), REPOSITORY, events), hub([*events[::-1], *events], hub_issue(), REPOSITORY)
    assert items(often) == items(once)


def test_a_pull_request_knows_its_repository_and_needs_no_issue() -> None:
    review = {"id": 4, "state": "APPROVED", "body": "", "user": {"id": 9}, "submitted_at": "2026-03-02T09:00:00Z"}
    found = hub(pull(), [{**review, "pull_request_url": f"{API}/pulls/2"}], event(3, 2, "merged"))
    assert [read.ref for read in found.reads] == [("change_request", "5/2")]
    content = found.reads[0].content
    assert isinstance(content, ChangeRequest)
    assert (content.state, content.work_items, [r.state for r in content.reviews]) == (
        "merged",
        ("APO-7",),
        ["approved"],
    )


def test_a_pull_request_of_which_only_its_issue_is_there_is_asked_for() -> None:
    found = hub([hub_issue(2, pull_request={"url": f"{API}/pulls/2"})], REPOSITORY)
    assert found.reads == []
    assert found.lacks == [
        "what an issue does not tell of 1 pull requests: add the answers of GET /repos/OWNER/REPO/pulls/NUMBER"
    ]
    assert len(hub([hub_issue(2, pull_request={})], pull()).reads) == 1


def test_what_has_no_events_has_no_past_and_says_so() -> None:
    found = hub([hub_issue(state="closed", assignees=[{"id": 3}])], REPOSITORY)
    assert [set(i.untracked) for i in items(found)] == [{"status", "status_category", "assignee"}]
    assert any("events of 1" in each for each in found.lacks)


def test_a_milestone_is_known_from_its_issues_and_better_from_a_list() -> None:
    milestone = {
        "url": f"{API}/milestones/3", "html_url": "https://github.com/octo/apollo/milestone/3", "number": 3, "title": "2.0", "state": "open",
        "created_at": "2026-01-01T10:00:00Z", "due_on": "2026-04-01T07:00:00Z", "closed_at": None,
    }  # fmt: skip
    of_issue = hub([hub_issue(milestone=milestone)], REPOSITORY)
    listed = hub([hub_issue(milestone=milestone)], REPOSITORY, [{**milestone, "title": "2.1"}])
    for found, title in ((of_issue, "2.0"), (listed, "2.1")):
        assert [read.content.title for read in found.reads if isinstance(read.content, Milestone)] == [title]
        assert [i.milestone for i in items(found)] == ["5/3"]


def shipped() -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """A deployment, its statuses as they are listed, and a release."""
    own = f"{API}/deployments/70"
    times = {"created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-01T12:00:00Z"}
    deployment = {
        "id": 70, "url": own, "repository_url": API, "statuses_url": f"{own}/statuses", "sha": "5ca1ab1e", "ref": "v1",
        "environment": "production", "production_environment": True, "creator": {"id": 3}, **times,
    }  # fmt: skip
    statuses = [
        {
            "id": ident, "url": f"{own}/statuses/{ident}", "deployment_url": own, "repository_url": API, "state": state,
            "created_at": f"2026-03-01T1{ident}:00:00Z",
        }
        for ident, state in ((2, "success"), (1, "in_progress"))
    ]  # fmt: skip
    release = {
        "id": 80, "url": f"{API}/releases/80", "html_url": "https://github.com/octo/apollo/releases/tag/v1", "tag_name": "v1",
        "name": None, "draft": False, "prerelease": False, "published_at": "2026-03-01T13:00:00Z", **times,
    }  # fmt: skip
    return deployment, statuses, release


def test_what_was_shipped() -> None:
    deployment, statuses, release = shipped()
    found = hub([deployment], statuses, [statuses[0]], [release], REPOSITORY)
    assert [read.ref for read in found.reads] == [("deployment", "5/70"), ("release", "5/80")]
    ran, out = (read.content for read in found.reads)
    assert isinstance(ran, Deployment)
    assert (ran.state, [change.new for change in ran.history]) == ("success", ["in_progress", "success"])
    assert isinstance(out, Release)
    assert (out.key, out.title) == ("v1", "v1")
    assert (found.lacks, found.left.total()) == ([], 0)
    assert hub([deployment], REPOSITORY).lacks == [
        "the statuses of 1 deployments: add the answers of GET /repos/OWNER/REPO/deployments/ID/statuses"
    ]
    assert hub([release]).lacks == ["the id of octo/apollo: add the answer of GET /repos/octo/apollo"]
    old = {**deployment, "environment": "old", "updated_at": "2026-03-01T11:00:00Z"}
    for order in ([old, deployment], [deployment, old]):
        (read,) = hub(order, statuses, REPOSITORY).reads
        assert isinstance(read.content, Deployment)
        assert read.content.environment == "production"


def test_of_two_states_of_one_thing_the_later_counts() -> None:
    old, new = hub_issue(title="old"), hub_issue(title="new", updated_at="2026-03-05T10:00:00Z")
    for order in ([old, new], [new, old]):
        assert [i.title for i in items(hub(order, REPOSITORY))] == ["new"]


def test_the_configured_name_is_kept_whatever_its_case() -> None:
    found = hub([hub_issue()], REPOSITORY, containers=("Octo/Apollo",))
    assert [i.container for i in items(found)] == ["Octo/Apollo"]


def test_events_that_belong_to_no_issue_are_counted() -> None:
    found = hub([hub_issue()], REPOSITORY, event(1, 1, "closed", issue=None))
    assert found.left["events that do not say of which issue"] == 1


@pytest.mark.parametrize(
    "odd",
    [
        None, 3, "text", [], {}, {"items": [1]}, {"full_name": 3, "id": 4}, {"number": "x", "head": 1, "base": 2},
        {"number": 1, "state": 2, "title": 3, "user": 4}, {"number": 1, "title": 2, "due_on": 3}, {"id": 1, "event": 2, "created_at": 3},
        {"id": 1, "state": 2, "pull_request_url": 3, "body": 4}, {**hub_issue(9), "events": 3, "reviews": "x", "milestone": []},
        {**hub_issue(9), "events": [3, {"id": "x"}]}, {**pull(9), "base": {"repo": 3}}, {**hub_issue(9), "milestone": {"number": "x"}},
        {"id": "x", "sha": 1, "environment": 2, "statuses_url": 3, "url": f"{API}/deployments/7"}, {"id": 1, "state": 2, "deployment_url": 3},
        {"id": 1, "tag_name": 2, "prerelease": 3, "url": f"{API}/releases/8"},
        {**hub_issue(9), "parent_issue_url": 3, "issue_dependencies_summary": []}, event(1, 9, "blocked_by_added", blocked_by=3),
    ],
)  # fmt: skip
def test_odd_documents_break_nothing_of_github(odd: Any) -> None:
    assert [i.key for i in items(hub(odd, hub_issue(), REPOSITORY)) if i.key == "octo/apollo#1"] == ["octo/apollo#1"]


# --- files that nobody here wrote -------------------------------------------------------------------------------------


def samples(*folders: str) -> list[Any]:
    for folder in folders:
        if not (DATA / folder).exists():
            pytest.skip(f"the samples {folder} are not here")
    return list(documents(files(DATA / folder for folder in folders)))


def by_shape(shelves: Any) -> dict[str, int]:
    return {shape: len(each) for shape, each in sorted(shelves.items())}


def test_every_whole_thing_of_the_jira_samples_is_translated() -> None:
    told = samples("go-jira-mocks", "jira-samples")
    shelves = JIRA.shelve(told)
    print("jira:", by_shape(shelves))
    assert (len(shelves["issue"]), len(shelves["version"])) == (1, 11)
    # The issue is from 2015, and somebody has taken its summary out, which Jira never does.
    shelves["issue"][0]["fields"]["summary"] = "A summary"
    project = {"id": "1", "key": "PR", "name": "the project of the listed versions, as their address calls it"}
    found = JIRA.read(SETTINGS, JIRA.shelve([*told, project]), ["AR", "PR"])
    assert [read.problem for read in found.reads if read.problem] == []
    kinds = Counter(read.ref.kind for read in found.reads)
    print("jira:", dict(kinds), "left:", dict(found.left), "lacks:", found.lacks)
    assert kinds == {"work_item": 1, "milestone": 11}


def test_every_whole_thing_of_the_github_fixtures_is_translated() -> None:
    exchanges = [each for one in samples("octokit-fixtures") for each in one]
    told = [each["response"] for each in exchanges]
    shelves = GITHUB.shelve(told)
    print("github:", by_shape(shelves))
    names = {each["repository_url"].partition("/repos/")[2] for each in shelves["issue"]}
    # Recorded answers about repositories have one made-up id in common; each needs one of its own.
    repositories = [{"id": n, "full_name": name} for n, name in enumerate(sorted(names), 1)]
    found = GITHUB.read(HUB, GITHUB.shelve([*told, *repositories]), sorted(names))
    assert [read.problem for read in found.reads if read.problem] == []
    assert {i.key for i in items(found)} == {
        f"{each['repository_url'].partition('/repos/')[2]}#{each['number']}" for each in shelves["issue"]
    }
    print("github:", dict(Counter(read.ref.kind for read in found.reads)), "left:", dict(found.left))


def test_one_sources_documents_are_not_anothers() -> None:
    assert GITHUB.shelve([issue()]).keys() == {OTHER}
    assert JIRA.shelve([hub_issue(), pull(), event(1, 1, "closed")]).keys() == {OTHER}
