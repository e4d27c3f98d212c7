"""Webhooks are read as hints: signatures by published vectors, every real body either heard or knowingly left alone."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors import github_webhooks, jira_webhooks
from connectors.base import Ref
from connectors.webhooks import Heard, Hint, Unheard, ident, is_signed, is_token, required

DATA = Path(__file__).parents[2].parent / "shared" / "data"
GITHUB = DATA / "octokit-webhooks" / "payload-examples"
JIRA = DATA / "mattermost-jira-webhooks"
SECRET = "It's a Secret to Everybody"

real = pytest.mark.skipif(not GITHUB.exists(), reason="the shared data is not here")


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b"Hello World!", "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"),
        (b"Hello, World!", "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
    ],
    ids=["Atlassian's", "GitHub's"],
)
def test_the_published_vectors(body: bytes, signature: str) -> None:
    assert is_signed(SECRET, body, f"sha256={signature}")
    assert not is_signed(SECRET, body + b" ", f"sha256={signature}")
    assert not is_signed(SECRET + " ", body, f"sha256={signature}")
    assert not is_signed("", body, f"sha256={hmac.new(b'', body, hashlib.sha256).hexdigest()}")


def test_which_methods_sign() -> None:
    def signed(method: str) -> bool:
        return is_signed(SECRET, b"{}", f"{method}={hmac.new(SECRET.encode(), b'{}', method).hexdigest()}")

    assert {method: signed(method) for method in ("sha256", "sha384", "sha512", "sha1", "md5")} == {
        "sha256": True, "sha384": True, "sha512": True, "sha1": False, "md5": False,
    }  # fmt: skip


@pytest.mark.parametrize("given", ["", "=", "sha256", "sha256=", "sha256=é", "none=x", "sha256=" + "0" * 64, "=" * 999])
def test_what_is_no_signature(given: str) -> None:
    assert not is_signed(SECRET, b"Hello World!", given)


def test_a_token_is_whole_or_none() -> None:
    assert is_token("abc", "abc")
    assert not [given for given in ("", "ab", "abcd", "ABC", "é") if is_token("abc", given)]
    assert not is_token("", "")


# --- bodies -----------------------------------------------------------------------------------------------------------


def github(event: str, body: Any) -> Heard:
    return github_webhooks.read({"x-github-event": event}, body)


def jira(body: Any) -> Heard:
    return jira_webhooks.read({}, body)


def _repository(n: int = 7, name: str = "acme/apollo") -> Mapping[str, Any]:
    return {"id": n, "full_name": name}


def test_an_issue_of_github() -> None:
    body = {"action": "edited", "repository": _repository(), "issue": {"number": 12}}
    assert github("issues", body).hints == (Hint(Ref("work_item", "7/12"), "acme/apollo"),)


def test_a_pull_request_that_github_calls_an_issue() -> None:
    body = {"action": "milestoned", "repository": _repository(), "issue": {"number": 12, "pull_request": {}}}
    assert github("issues", body).hints == (Hint(Ref("change_request", "7/12"), "acme/apollo"),)


def test_a_transferred_issue_is_two() -> None:
    there = {"new_repository": _repository(8, "acme/beacon"), "new_issue": {"number": 3}}
    body = {"action": "transferred", "repository": _repository(), "issue": {"number": 12}, "changes": there}
    assert github("issues", body).hints == (
        Hint(Ref("work_item", "7/12"), "acme/apollo"),
        Hint(Ref("work_item", "8/3"), "acme/beacon"),
    )


@pytest.mark.parametrize(
    ("event", "key", "kind"),
    [
        ("pull_request", "pull_request", "change_request"),
        ("pull_request_review", "pull_request", "change_request"),
        ("milestone", "milestone", "milestone"),
    ],
)
def test_other_things_of_github(event: str, key: str, kind: str) -> None:
    body = {"repository": _repository(), key: {"number": 12}}
    assert github(event, body).hints == (Hint(Ref(kind, "7/12"), "acme/apollo"),)


@pytest.mark.parametrize(
    ("event", "key", "kind"),
    [
        ("deployment", "deployment", "deployment"),
        ("deployment_status", "deployment", "deployment"),
        ("release", "release", "release"),
    ],
)
def test_what_github_ships_has_an_id_and_no_number(event: str, key: str, kind: str) -> None:
    body = {"repository": _repository(), key: {"id": 12}, "deployment_status": {"id": 13}}
    assert github(event, body).hints == (Hint(Ref(kind, "7/12"), "acme/apollo"),)


@pytest.mark.parametrize(
    ("branch", "default", "hinted"),
    [("main", "main", True), ("topic", "main", False), (None, "main", True), ("topic", None, True)],
)
def test_a_run_of_another_branch_is_none_that_is_read(branch: str | None, default: str | None, hinted: bool) -> None:
    body = {
        "repository": {**_repository(), "default_branch": default}, "workflow_run": {"id": 12, "head_branch": branch},
    }  # fmt: skip
    hints = (Hint(Ref("workflow_run", "7/12"), "acme/apollo"),) if hinted else ()
    heard = github("workflow_run", body)
    assert (heard.hints, bool(heard.ignored)) == (hints, not hinted)


def test_a_body_without_its_run_is_refused() -> None:
    with pytest.raises(Unheard, match="workflow_run"):
        github("workflow_run", {"repository": {**_repository(), "default_branch": "main"}})


@pytest.mark.parametrize(
    ("event", "ours", "other"),
    [
        ("sub_issues", "sub_issue", "parent_issue"),
        ("sub_issues", "parent_issue", "sub_issue"),
        ("issue_dependencies", "blocked_issue", "blocking_issue"),
        ("issue_dependencies", "blocking_issue", "blocked_issue"),
    ],
)
def test_a_link_of_github_has_two_ends(event: str, ours: str, other: str) -> None:
    """GitHub names the repository of the one that is not of the webhook's; in the fields that its documents name."""
    here, there = Hint(Ref("work_item", "7/12"), "acme/apollo"), Hint(Ref("work_item", "8/3"), "acme/beacon")
    body = {"repository": _repository(), ours: {"number": 12}, other: {"number": 3}}
    elsewhere = {**body, f"{other}_repo": _repository(8, "acme/beacon"), f"{ours}_repo": None}
    assert set(github(event, elsewhere).hints) == {here, there}
    assert set(github(event, body).hints) == {here, Hint(Ref("work_item", "7/3"), "acme/apollo")}
    assert github(event, {**body, other: None}).hints == (here,), "which is not for this webhook to see"
    with pytest.raises(Unheard, match="no usable"):
        github(event, {"repository": _repository()})


def test_an_issue_of_jira_names_its_project() -> None:
    body = {"webhookEvent": "jira:issue_updated", "issue": {"id": "10002", "key": "MY-PRO-7"}}
    assert jira(body).hints == (Hint(Ref("work_item", "10002"), "MY-PRO"),)


@pytest.mark.parametrize("merged", ["10010", 10010, {"id": "10010"}, None])
def test_a_merged_version_of_jira_is_two(merged: Any) -> None:
    body = {"webhookEvent": "jira:version_deleted", "version": {"id": "10001"}, "mergedTo": merged}
    wanted = ["10001"] if merged is None else ["10001", "10010"]
    assert jira(body).hints == tuple(Hint(Ref("milestone", each)) for each in wanted)


@pytest.mark.parametrize("what", ["created", "updated", "deleted"])
def test_time_that_is_logged_in_jira_is_an_issues(what: str) -> None:
    body = {"webhookEvent": f"worklog_{what}", "worklog": {"id": "10066", "issueId": "10014"}}
    assert jira(body).hints == (Hint(Ref("work_item", "10014")),)


@pytest.mark.parametrize("what", ["created", "deleted"])
def test_a_link_of_jira_has_two_ends(what: str) -> None:
    link = {"id": 10100, "sourceIssueId": 10001, "destinationIssueId": 10002, "sequence": 0}
    body = {"webhookEvent": f"issuelink_{what}", "issueLink": link}
    assert jira(body).hints == (Hint(Ref("work_item", "10001")), Hint(Ref("work_item", "10002")))
    with pytest.raises(Unheard, match="destinationIssueId"):
        jira(body | {"issueLink": {"sourceIssueId": 10001}})


@pytest.mark.parametrize(
    "body",
    [
        None, [], "x", {}, {"repository": None}, {"repository": _repository(), "issue": {}},
        {"repository": _repository(), "issue": {"number": True}}, {"repository": _repository(), "issue": {"number": "1/2"}},
        {"repository": {"id": 7, "full_name": 8}, "issue": {"number": 12}},
        {"repository": _repository(name="x" * 999), "issue": {"number": 12}},
        {"repository": _repository(), "issue": {"number": 10**99}},
        {"repository": _repository(), "issue": {"number": 12}, "action": "transferred", "changes": []},
    ],
)  # fmt: skip
def test_a_body_that_is_not_what_its_type_says(body: Any) -> None:
    with pytest.raises(Unheard):
        github("issues", body)
    with pytest.raises(Unheard):
        jira({"webhookEvent": "jira:issue_updated", "issue": body})


def test_what_is_not_known_is_left_alone_and_says_so() -> None:
    assert github("new_fashion", {}) == Heard("unknown", ignored="its type is not known")
    assert jira({"webhookEvent": "new:fashion"}) == Heard("unknown", ignored="its type is not known")
    with pytest.raises(Unheard, match="X-GitHub-Event"):
        github_webhooks.read({}, {})
    with pytest.raises(Unheard, match="webhookEvent"):
        jira({})


def test_values_of_a_body() -> None:
    assert required({"a": {"b": "c"}}, "a.b", str) == "c"
    assert [ident({"a": value}, "a") for value in (7, "7")] == ["7", "7"]
    for value in (None, True, "", "-7", "٧", 7.0, "7" * 65):
        with pytest.raises(Unheard):
            ident({"a": value}, "a")


# --- every real body --------------------------------------------------------------------------------------------------


def _heard(bodies: Iterator[tuple[str, Mapping[str, str], Any]], read: Any) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    unknown: list[str] = []
    for name, headers, body in bodies:
        heard: Heard = read(headers, body)
        assert bool(heard.hints) is not bool(heard.ignored), f"{name}: neither heard nor left alone"
        counts["hints" if heard.hints else heard.ignored] += 1
        if heard.kind == "unknown":
            unknown.append(name)
    return counts, unknown


@real
def test_every_published_body_of_github(capsys: pytest.CaptureFixture[str]) -> None:
    def bodies() -> Iterator[tuple[str, Mapping[str, str], Any]]:
        for path in sorted(GITHUB.rglob("*.json")):
            yield str(path.relative_to(GITHUB)), {"x-github-event": path.parent.name}, json.loads(path.read_bytes())

    counts, unknown = _heard(bodies(), github_webhooks.read)
    with capsys.disabled():
        print(f"\n{counts.total()} bodies of GitHub: {dict(counts)}")
    assert counts.total() == 150
    assert counts["hints"] >= 20
    assert not unknown, "a type that GitHub has must be in one of the tables"


@real
def test_every_published_body_of_jira(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [*sorted(JIRA.glob("*.json")), DATA / "jira-samples" / "zulip-worklog_created.json"]
    counts, unknown = _heard(((path.name, {}, json.loads(path.read_bytes())) for path in paths), jira_webhooks.read)
    with capsys.disabled():
        print(f"\n{counts.total()} bodies of Jira: {dict(counts)}")
    assert counts.total() == 29
    assert counts["hints"] >= 26
    assert not unknown


@real
def test_what_a_real_body_hints_at_is_what_it_is_about() -> None:
    """By its own address, which no code of ours reads."""
    for file in sorted((GITHUB / "issues").glob("*.json")):
        body = json.loads(file.read_bytes())
        if body["action"] == "transferred":
            continue  # its issue's address is of a third repository, neither of the two that it names
        hint = github("issues", body).hints[0]
        path = {"work_item": "issues", "change_request": "pull"}[hint.ref.kind]
        assert body["issue"]["html_url"].endswith(f"{hint.container}/{path}/{hint.ref.id.split('/')[1]}")
    for event, key in (("deployment", "deployment"), ("deployment_status", "deployment"), ("release", "release")):
        for file in sorted((GITHUB / event).glob("*.json")):
            body = json.loads(file.read_bytes())
            (hint,) = github(event, body).hints
            assert body[key]["url"].endswith(f"{hint.container}/{key}s/{hint.ref.id.split('/')[1]}")
    for file in sorted((GITHUB / "workflow_run").glob("*.json")):
        body = json.loads(file.read_bytes())
        (hint,) = github("workflow_run", body).hints
        assert body["workflow_run"]["url"].endswith(f"{hint.container}/actions/runs/{hint.ref.id.split('/')[1]}")
    for file in sorted((GITHUB / "deployment_status").glob("*.json")):
        body = json.loads(file.read_bytes())
        moved = body["deployment"]["updated_at"] == body["deployment_status"]["created_at"]
        assert moved, "that a status moves its deployment's time is what a poll and a sweep go by"
    for file in sorted(JIRA.glob("*issue*.json")):
        body = json.loads(file.read_bytes())
        for hint in jira(body).hints:
            assert body["issue"]["self"].rpartition("/")[2] == hint.ref.id
