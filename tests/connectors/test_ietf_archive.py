"""A real repository's whole history, read through the connector over HTTP, against figures taken from the archive itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from connectors.base import Mark, Read, SecretRef
from connectors.github import GitHubAuth, GitHubConnector, GitHubSettings
from pmsync.core.events import ChangeRequest, WorkItem, rfc3339
from pmsync.standins.github import GitHubHost
from pmsync.standins.server import serve
from tests.connectors.ietf_archive import Archive, instant, load, replay

ARCHIVE = Path(__file__).parents[2] / "../shared/data/ietf-github-archive/mlswg+mls-protocol.json.gz"


class Reading(NamedTuple):
    issues: Mapping[int, WorkItem]
    pulls: Mapping[int, ChangeRequest]
    reads: list[Read]
    marks: list[Mark]
    requests: int


@pytest.fixture(scope="module")
def archive() -> Archive:
    if not ARCHIVE.exists():
        pytest.skip("the archive is not here (shared/data/ietf-github-archive)")
    return load(ARCHIVE)


@pytest.fixture(scope="module")
def reading(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    secret = tmp_path_factory.mktemp("secrets") / "token"
    secret.write_text("secret\n")
    taken_at = instant(archive["timestamp"])
    host = GitHubHost(lambda: taken_at, token="secret")
    repo = replay(archive, host)
    with serve(host.app) as url:
        settings = GitHubSettings(name="github", url=url, auth=GitHubAuth(token=SecretRef(file=secret)))
        connector = GitHubConnector.connect(settings, lambda: taken_at)
        reads = [read for page in connector.changed(repo, None) for read in page]
        marks = [mark for page in connector.sweep(repo) for mark in page]
    contents = [read.content for read in reads]
    issues = {int(each.key.partition("#")[2]): each for each in contents if isinstance(each, WorkItem)}
    pulls = {int(each.key.partition("#")[2]): each for each in contents if isinstance(each, ChangeRequest)}
    return Reading(issues, pulls, reads, marks, len(host.requests))


def by_number(items: list[dict[str, Any]], key: str) -> dict[int, datetime | None]:
    return {item["number"]: instant(item[key]) if item[key] else None for item in items}


def closed_at(issue: WorkItem) -> datetime | None:
    return next((change.at for change in issue.history if (change.field, change.new) == ("status", "closed")), None)


def per_year(instants: list[datetime | None]) -> Counter[int]:
    return Counter(each.year for each in instants if each)


def test_everything_is_there_once_and_reads_cleanly(archive: Archive, reading: Reading) -> None:
    pulls = Counter(each.state for each in reading.pulls.values())
    print(
        f"\n{len(reading.issues)} issues, {len(reading.pulls)} pull requests {dict(pulls)}, {reading.requests} requests"
    )
    assert len(reading.reads) == len(reading.issues) + len(reading.pulls) == 303 + 582
    assert reading.issues.keys() == {issue["number"] for issue in archive["issues"]}
    assert reading.pulls.keys() == {pull["number"] for pull in archive["pulls"]}
    assert {each.status for each in reading.issues.values()} == {"closed"}
    assert pulls == Counter(pull["state"].lower() for pull in archive["pulls"])
    assert {mark.ref for mark in reading.marks} == {read.ref for read in reading.reads}


def test_every_history_adds_up(reading: Reading) -> None:
    contents: list[WorkItem | ChangeRequest] = [*reading.issues.values(), *reading.pulls.values()]
    print(f"\n{sum(len(each.history) for each in contents)} changes in {len(contents)} histories")
    assert [each.key for each in contents if each.untracked or each.history_cut] == []


def test_every_instant_is_the_archive_s(archive: Archive, reading: Reading) -> None:
    issues, pulls = archive["issues"], archive["pulls"]
    assert {number: each.created_at for number, each in reading.issues.items()} == by_number(issues, "createdAt")
    assert {number: closed_at(each) for number, each in reading.issues.items()} == by_number(issues, "closedAt")
    assert {number: each.created_at for number, each in reading.pulls.items()} == by_number(pulls, "createdAt")
    assert {number: each.merged_at for number, each in reading.pulls.items()} == by_number(pulls, "mergedAt")
    assert {number: each.closed_at for number, each in reading.pulls.items()} == by_number(pulls, "closedAt")
    assert [read.time for read in reading.reads] == sorted(instant(item["updatedAt"]) for item in [*issues, *pulls])


def test_every_review_is_the_archive_s(archive: Archive, reading: Reading) -> None:
    expected = {
        pull["number"]: sorted((review["createdAt"], review["state"].lower()) for review in pull["reviews"])
        for pull in archive["pulls"]
    }
    found = {
        number: sorted((rfc3339(review.at), review.state) for review in pull.reviews)
        for number, pull in reading.pulls.items()
    }
    firsts = [times[0][0] for times in expected.values() if times]
    print(f"\n{sum(map(len, found.values()))} reviews of {len(firsts)} pull requests, first {min(firsts)}")
    assert found == expected


def test_throughput_per_year_is_the_archive_s(archive: Archive, reading: Reading) -> None:
    closed = per_year([closed_at(each) for each in reading.issues.values()])
    merged = per_year([each.merged_at for each in reading.pulls.values()])
    print("\nyear  issues closed  pull requests merged")
    for year in sorted(closed | merged):
        print(f"{year}  {closed[year]:13}  {merged[year]:20}")
    assert closed == Counter(int(issue["closedAt"][:4]) for issue in archive["issues"])
    assert merged == Counter(int(pull["mergedAt"][:4]) for pull in archive["pulls"] if pull["mergedAt"])
    assert (closed.total(), merged.total()) == (303, 505)
