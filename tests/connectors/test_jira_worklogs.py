"""Jira's worklogs: when time was spent and by whom, whole however they are read, and nothing of what was written with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Ref
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_files import FILES
from connectors.jira_values import Unreadable
from connectors.jira_worklogs import Logged, lacking, with_all, wordless, worklogs
from pmsync.core.events import MAX_WORKLOGS, Snapshot, Thing, WorkItem, Worklog, digest, encode
from pmsync.standins.jira import WORDS, Fault, JiraSite
from tests.connectors.jira_data_center_standin import JiraServer
from tests.connectors.served import Stage

TOKEN = "a-token-that-nobody-may-see"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KINDS: Sequence[tuple[type[JiraSite], str]] = ((JiraSite, "cloud"), (JiraServer, "data_center"))


def entry(ident: int, **changes: Any) -> dict[str, Any]:
    """A worklog as Jira sends it, logged `ident` minutes after ten."""
    return {
        "id": str(ident), "created": f"2026-03-04T{10 + ident // 60}:{ident % 60:02}:00.000+0000",
        "started": "2026-03-03T09:00:00.000+0100", "timeSpentSeconds": 600, "author": {"accountId": "acc-1", "displayName": "Ada"},
        "comment": WORDS,
    } | changes  # fmt: skip


def issue(*entries: Any, total: int | None = None, **fields: Any) -> dict[str, Any]:
    worklog = {"startAt": 0, "maxResults": 20, "total": len(entries) if total is None else total}
    return {"id": "7", "fields": {"worklog": worklog | {"worklogs": list(entries)}, **fields}}


def known(ident: int, **changes: Any) -> Worklog:
    at = datetime(2026, 3, 4, 10, tzinfo=UTC) + timedelta(minutes=ident)
    return Worklog.model_validate(
        {"id": str(ident), "created_at": at, "started_at": datetime(2026, 3, 3, 8, tzinfo=UTC), "seconds": 600, "by": "acc-1"}
        | changes
    )  # fmt: skip


TOLD = [
    ("none", issue(), Logged((), is_cut=False)),
    ("in the order in which they were logged, whenever it was done",
     issue(entry(3, started="2026-03-01T09:00:00Z"), entry(1)),
     Logged((known(1), known(3, started_at=datetime(2026, 3, 1, 9, tzinfo=UTC))), is_cut=False)),
    ("each once", issue(entry(1), entry(1), total=1), Logged((known(1),), is_cut=False)),
    ("at one instant by number", issue(*(entry(n, created="2026-03-04T10:09:00Z") for n in (10, 9))),
     Logged((known(9), known(10, created_at=known(9).created_at)), is_cut=False)),
    ("a server of one's own has keys", issue(entry(1, author={"key": "JIRAUSER1", "name": "ada"})), Logged((known(1, by="JIRAUSER1"),), is_cut=False)),
    ("of an account that is no more", issue(entry(1, author=None)), Logged((known(1, by=None),), is_cut=False)),
    ("there are more", issue(entry(1), total=2), Logged((known(1),), is_cut=True)),
    ("a field that nobody asked for", {"id": "7", "fields": {"timespent": 60}}, Logged((), is_cut=True)),
    ("where time is not tracked", {"id": "7", "fields": {"worklog": None, "timespent": None}}, Logged((), is_cut=False)),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "told"), [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
def test_what_an_issue_tells(raw: Any, told: Logged) -> None:
    assert worklogs(raw) == told


def test_of_very_many_those_that_were_logged_last_are_kept() -> None:
    entries = [entry(n % 60, id=str(n), created=f"2026-03-04T10:00:00.{n % 1000:03}Z") for n in range(MAX_WORKLOGS)]
    late = entry(5, id="x", created="2026-03-05T10:00:00Z")
    assert not worklogs(issue(*entries)).is_cut
    found = worklogs(issue(late, *entries))
    assert (len(found.kept), found.is_cut, found.kept[0].id, found.kept[-1].id) == (MAX_WORKLOGS, True, "1", "x")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (issue(entry(1, timeSpentSeconds="1h")), "timeSpentSeconds is no number"),
        (issue(entry(1, timeSpentSeconds=None)), "timeSpentSeconds is missing"),
        (issue(entry(1, started="yesterday")), "started of a worklog is no instant"),
        (issue(entry(1, created=None)), "created is missing"),
        (issue(entry(1, author={"displayName": "Ada"})), "author.accountId is missing"),
        (issue("x"), "timeSpentSeconds is missing"),
        ({"fields": {"worklog": {"worklogs": {}}}}, "fields.worklog.worklogs is dict"),
        (issue(total="2"), "fields.worklog.total is str"),
    ],
)
def test_what_cannot_be_read_says_which_field(raw: Any, says: str) -> None:
    with pytest.raises(Unreadable, match=says) as raised:
        worklogs(raw)
    assert "Ada" not in str(raised.value)


def test_only_an_issue_that_shows_less_than_it_has_is_asked_for_more() -> None:
    shown: list[Any] = [
        issue(),
        issue(entry(1)),
        issue(entry(1), total=2),
        {"id": "7", "fields": {"timespent": 5}},
        None,
    ]
    assert [lacking(each) for each in shown] == ["", "", "7", "", ""]
    assert lacking({"id": "7", "fields": {"worklog": []}}) == ""


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_pages_are_followed_to_the_end(size: int) -> None:
    listed, asked = [entry(n) for n in range(5)], list[int]()

    def page(start: int) -> Any:
        asked.append(start)
        return {"total": len(listed), "worklogs": listed[start : start + size]}

    assert worklogs(with_all(issue(listed[0], total=5), page)) == Logged(tuple(map(known, range(5))), is_cut=False)
    assert asked == list(range(0, 5, size))


def test_pages_that_bring_nothing_new_are_the_end_and_something_is_missing() -> None:
    asked = list[int]()

    def page(start: int) -> Any:
        asked.append(start)
        return {"total": 3, "worklogs": [entry(1), entry(2)]}

    found = worklogs(with_all(issue(entry(1), total=3), page))
    assert (asked, len(found.kept), found.is_cut) == ([0, 2], 2, True)


def test_what_is_kept_of_an_unreadable_issue_has_no_words() -> None:
    raw = issue(entry(1), summary="A title")
    assert wordless(raw) == {"id": "7", "fields": {"summary": "A title"}}
    assert "worklog" in raw["fields"]
    assert [wordless(each) for each in (None, [], {}, {"fields": 5})] == [None, [], {}, {"fields": 5}]


@pytest.mark.parametrize(("count", "most"), [(0, 1_000), (300, 52_000), (MAX_WORKLOGS, 171_000)])
def test_an_event_stays_far_below_what_a_broker_takes(count: int, most: int) -> None:
    long = known(1, id="1234567", by="557058:27935d01-92a7-4687-8272-a9b8d3b2ae2e")
    logs = [
        long.model_copy(
            update={"created_at": T0 + timedelta(milliseconds=1), "started_at": T0 + timedelta(milliseconds=1)}
        )
    ] * count
    item = WorkItem(
        key="A-1", container="A", type="Task", title="t", created_at=T0, status="s", status_category="todo", worklogs=logs
    )  # fmt: skip
    assert len(encode(Snapshot(project="p", thing=Thing("j", "work_item", "1"), version=1, content=item))) <= most


# Over HTTP


class Place:
    """Where a site of either kind is served."""

    def __init__(self, stage: Stage, tmp: Path) -> None:
        self._stage, self._token = stage, tmp / "token"
        self._token.write_text(TOKEN)
        self.now = T0 + timedelta(days=30)

    def put(self, kind: type[JiraSite], deployment: str, **options: Any) -> tuple[Any, JiraConnector]:
        site = kind(lambda: self.now, token=TOKEN, **options)
        site.add_project("APO", "Apollo")
        self._stage.app = site.app
        token = {"file": self._token}
        auth = {"token": token} if deployment == "data_center" else {"email": "pmsync@example.com", "token": token}
        raw = {"name": "j", "kind": "jira", "url": self._stage.url, "deployment": deployment, "auth": auth}
        return site, JiraConnector.connect(JiraSettings.model_validate(raw), lambda: T0)


@pytest.fixture
def place(served: Stage, tmp_path: Path) -> Place:
    return Place(served, tmp_path)


def busy(site: JiraSite, *counts: int) -> list[str]:
    """An issue for each of these counts of worklogs, each entry logged an hour or more after the work was begun."""
    made = [site.create_issue("APO", T0, f"Issue {n}", remaining_estimate=90_000) for n in counts]
    for ident, count in zip(made, counts, strict=True):
        for n in range(count):
            site.log_work(ident, T0 + timedelta(hours=n + 1), 60 * (n + 1), T0 + timedelta(minutes=n), f"acc-{n % 3}")
    return made


def listed(connector: JiraConnector) -> dict[str, WorkItem]:
    reads = [read for page in connector.changed("APO", None) for read in page]
    assert all(read.problem is None for read in reads)
    return {read.ref.id: read.content for read in reads if isinstance(read.content, WorkItem)}


def asked(site: JiraSite) -> list[str]:
    return [path.rpartition("/issue/")[2] for _, path in site.requests if path.endswith("/worklog")]


@pytest.mark.parametrize(("kind", "deployment"), KINDS)
def test_a_request_is_spent_only_on_issues_with_more_than_they_show(
    kind: type[JiraSite], deployment: str, place: Place
) -> None:
    site, connector = place.put(kind, deployment, max_page=50)
    none, full, more = busy(site, 0, 20, 45)
    found = listed(connector)
    assert asked(site) == [f"{more}/worklog"]
    assert [len(found[ident].worklogs) for ident in (none, full, more)] == [0, 20, 45]
    assert not any(item.worklogs_cut for item in found.values())
    assert all(sum(log.seconds for log in item.worklogs) == (item.time_spent or 0) for item in found.values())
    first = found[full].worklogs[0]
    assert (first.started_at, first.created_at, first.seconds, first.by) == (T0, T0 + timedelta(hours=1), 60, "acc-0")


def test_one_content_however_it_is_read(place: Place) -> None:
    read = list[dict[str, str]]()
    for kind, deployment in KINDS:
        site, connector = place.put(kind, deployment, max_page=30)
        made = busy(site, 3, 45)
        fetched = {each.ref.id: each.content for each in connector.fetch([Ref("work_item", ident) for ident in made])}
        read += [
            {i: digest(content) for i, content in each.items() if content} for each in (listed(connector), fetched)
        ]
    assert len(read[0]) == 2
    assert all(each == read[0] for each in read)


def test_an_entry_that_changes_or_goes_changes_its_issue(place: Place) -> None:
    site, connector = place.put(JiraSite, "cloud")
    (made,) = busy(site, 2)
    one, other = listed(connector)[made].worklogs
    site.change_worklog(made, T0 + timedelta(days=1), one.id, started=T0 - timedelta(days=1))  # no figure changes by it
    site.delete_worklog(made, T0 + timedelta(days=2), other.id)
    reads = [read for page in connector.changed("APO", T0 + timedelta(days=1)) for read in page]
    assert [read.ref.id for read in reads] == [made]
    item = reads[0].content
    assert isinstance(item, WorkItem)
    assert item.worklogs == (one.model_copy(update={"started_at": T0 - timedelta(days=1)}),)
    assert item.time_spent == one.seconds


@pytest.mark.parametrize(("kind", "deployment"), KINDS)
def test_an_issue_that_goes_meanwhile_holds_nobody_up(kind: type[JiraSite], deployment: str, place: Place) -> None:
    site, connector = place.put(kind, deployment)
    made, other = busy(site, 25, 1)
    site.faults.append(Fault(404, {}, b"{}", 1, "/worklog"))
    found = listed(connector)
    assert [(len(found[i].worklogs), found[i].worklogs_cut) for i in (made, other)] == [(20, True), (1, False)]


@pytest.mark.parametrize(("kind", "deployment"), KINDS)
def test_what_was_written_with_a_worklog_is_nowhere(kind: type[JiraSite], deployment: str, place: Place) -> None:
    site, connector = place.put(kind, deployment)
    made, broken = busy(site, 25, 25)
    site.statuses["To Do"] = site.statuses["To Do"]._replace(id="99", category="odd")
    reads = [read for page in connector.changed("APO", None) for read in page]
    assert {read.ref.id for read in reads if read.problem} == {made, broken}
    assert all(read.raw for read in reads)
    site.statuses["To Do"] = site.statuses["To Do"]._replace(category="new")
    assert WORDS not in repr([reads, listed(connector)])


# From files


def test_files_tell_what_a_live_site_tells_and_say_what_they_lack(place: Place) -> None:
    site, connector = place.put(JiraSite, "cloud")
    few, many = busy(site, 3, 45)
    live = {ident: item.model_copy(update={"url": ""}) for ident, item in listed(connector).items()}
    settings = JiraSettings.model_validate({"name": "j", "url": "https://jira.example.com", "live": False})
    search = {"issues": [site._one_issue(ident, "changelog") for ident in (few, many)], "names": {}}

    def imported(*documents: Any) -> tuple[dict[str, WorkItem], str]:
        found = FILES.read(settings, FILES.shelve(json.loads(json.dumps(documents))), ["APO"])
        items = [(read.ref.id, read.content) for read in found.reads if isinstance(read.content, WorkItem)]
        told = "\n".join(each for each in found.lacks if "worklogs" in each)
        return {ident: item.model_copy(update={"url": ""}) for ident, item in items}, told

    part, lacks = imported(search)
    assert (part[few], part[many].worklogs_cut, len(part[many].worklogs)) == (live[few], True, 20)
    assert lacks.startswith(
        "the worklogs of 1 issues, in part or all: add the answers of GET /rest/api/3/issue/ID/worklog"
    )
    assert imported(search, site._worklogs(many)) == (live, "")
    assert imported(search, site._worklogs(many, "20", "25")) == (live, ""), "what the search shows counts, too"
    assert imported(search, *(site._worklogs(many, start, "25") for start in ("0", "20"))) == (live, "")
    bare = {
        "issues": [
            {**each, "fields": {k: v for k, v in each["fields"].items() if k != "worklog"}} for each in search["issues"]
        ]
    }
    assert imported(bare)[1].startswith("the worklogs of 2 issues")
    assert imported(bare | {"names": {}}, site._worklogs(few), site._worklogs(many)) == (live, "")
