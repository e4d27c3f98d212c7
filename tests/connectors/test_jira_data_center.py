"""Jira Data Center: what differs from Cloud, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors import jira_things
from connectors.base import Content, Fatal, Read, Ref, Retryable
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_query import EARLIEST_ZONE, Query
from pmsync.core.events import WorkItem
from pmsync.standins.jira import Fault, JiraSite
from tests.connectors.jira_data_center_standin import JiraServer
from tests.connectors.served import Stage

SENT = ("jql", "startAt", "maxResults", "fields", "expand", "validateQuery")
TOKEN = "a-token-that-nobody-may-see"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Place:
    """Where a server of one's own or a Cloud site is served; the site is the one that was put there last."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.now, self.url = T0 + timedelta(days=30), stage.url

    def put(self, kind: type[JiraSite], **options: Any) -> Any:
        site = kind(lambda: self.now, token=TOKEN, **options)
        site.add_project("APO", "Apollo")
        self._stage.app = site.app
        return site


@pytest.fixture
def place(served: Stage) -> Place:
    return Place(served)


@pytest.fixture
def connect(place: Place, tmp_path: Path) -> Callable[..., JiraConnector]:
    (tmp_path / "token").write_text(TOKEN)
    token = {"file": tmp_path / "token"}

    def connect(deployment: str = "data_center", **extra: Any) -> JiraConnector:
        auth = {"token": token} if deployment == "data_center" else {"email": "pmsync@example.com", "token": token}
        raw = {"name": "j", "kind": "jira", "url": place.url, "deployment": deployment, "auth": auth} | extra
        return JiraConnector.connect(JiraSettings.model_validate(raw), lambda: T0)

    return connect


def listed(connector: JiraConnector, since: datetime | None = None) -> dict[str, Read]:
    return {read.ref.id: read for page in connector.changed("APO", since) for read in page}


def told(site: JiraSite) -> None:
    """A little of everything that is read of an issue."""
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0)
    site.add_project("ZEU", "Zeus")
    epic = site.create_issue("APO", T0, "Search", "Epic")
    one = site.create_issue(
        "APO", T0, "Add search", story_points=3, parent=epic, labels=("ui",), sprint=7, remaining_estimate=7200
    )
    site.create_issue("APO", T0, "Write a test", "Sub-task", parent=one)
    for day, changes in enumerate(
        (
            {"status": "In Progress", "assignee": "acc-1"},
            {"flagged": True, "fix_version": version},
            {"sprint": (7, 8), "due_date": date(2026, 3, 20)},
            {"status": "Done", "resolution": "Won't Do", "story_points": 5, "original_estimate": 7200},
        ),
        1,
    ):
        site.change_issue(one, T0 + timedelta(days=day), **changes)
    site.link_issue(epic, T0 + timedelta(days=4), one)
    site.log_work(one, T0 + timedelta(days=5), 3600)
    other = site.create_issue("ZEU", T0, "Move me")
    site.move_issue(other, T0 + timedelta(days=3), "APO")


def test_what_it_tells_is_what_cloud_tells(place: Place, connect: Callable[..., JiraConnector]) -> None:
    found: list[dict[str, Content | None]] = []
    for kind, deployment in ((JiraSite, "cloud"), (JiraServer, "data_center")):
        told(place.put(kind))
        found.append({ident: read.content for ident, read in listed(connect(deployment)).items()})
    assert found[0] == found[1]
    assert sorted(c.parent or "" for c in found[1].values() if isinstance(c, WorkItem)) == ["", "", "APO-1", "APO-2"]
    items = [content for content in found[1].values() if isinstance(content, WorkItem)]
    assert [(link.relation, link.key) for item in items for link in item.links if link.since] == [
        ("blocks", "APO-2"), ("blocked_by", "APO-1"),
    ]  # fmt: skip
    assert {change.field for item in items for change in item.history} == {
        "assignee", "blocked", "container", "due_date", "estimate", "key", "milestone", "sprint", "status", "status_category",
        "time_estimate", "time_left", "time_spent",
    }  # fmt: skip


ZONES = ["America/New_York", "Asia/Kolkata"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_changes_between_pages_takes_nobody_else_away(
    size: int, zone: str, place: Place, connect: Callable[..., JiraConnector]
) -> None:
    site = place.put(JiraServer, time_zone=zone)
    ids = [site.create_issue("APO", T0 + timedelta(minutes=n), f"Item {n}") for n in range(20)]
    moved = iter(ids[:6])

    def change_one() -> None:
        if (ident := next(moved, None)) is not None:
            place.now += timedelta(minutes=1)
            site.change_issue(ident, place.now, title=f"Changed {ident}")

    site.before_page = change_one
    assert set(listed(connect(page_size=size))) == set(ids)
    again = [query for query in site.queries if "updated >=" in query]
    assert again, "it begins anew, and not where it was"


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("most", [2, 3, 4])
def test_what_is_deleted_between_pages_takes_nobody_else_away(
    most: int, zone: str, place: Place, connect: Callable[..., JiraConnector]
) -> None:
    site = place.put(JiraServer, time_zone=zone, max_page=most)
    ids = [site.create_issue("APO", T0 + timedelta(minutes=n), f"Item {n}") for n in range(20)]
    gone = iter(ids[:2])

    def delete_one() -> None:
        if (ident := next(gone, None)) is not None:
            site.delete_issue(ident, T0 + timedelta(days=1))

    site.before_page = delete_one
    assert set(ids[2:]) <= {mark.ref.id for page in connect().sweep("APO") for mark in page}
    gone = iter(ids[2:4])
    assert set(ids[4:]) <= set(listed(connect()))


def test_an_index_that_is_behind_takes_nobody_away(place: Place, connect: Callable[..., JiraConnector]) -> None:
    """It sorts by times that are older than those that it shows."""
    site = place.put(JiraServer)
    ids = [site.create_issue("APO", T0 + timedelta(hours=n), f"Item {n}") for n in range(16)]
    gone = iter(ids[:1])

    def delete_one() -> None:
        if (ident := next(gone, None)) is not None:
            site.delete_issue(ident, T0 + timedelta(days=1))

    shown = site._fields

    def fields(ident: str, revision: Any, moment: datetime) -> dict[str, Any]:
        found = shown(ident, revision, moment)
        return found | ({"updated": "2026-03-20T09:00:00.000+0000"} if ident == ids[3] else {})

    site._fields, site.before_page = fields, delete_one
    assert set(ids[1:]) <= set(listed(connect(page_size=4)))


def test_a_server_that_gives_one_at_a_time_does_not_keep_us_for_ever(
    place: Place, connect: Callable[..., JiraConnector]
) -> None:
    site = place.put(JiraServer, max_page=1)
    for n in range(3):
        site.create_issue("APO", T0, f"Item {n}")
    with pytest.raises(Retryable, match="do not come to an end"):
        listed(connect())
    assert len(site.requests) < 20


@pytest.mark.parametrize(
    "answer",
    [
        {"issues": [], "total": 5},
        {"issues": [{"id": "1"}], "total": 5},
        {"issues": [{"id": None}], "total": 5},
        {"issues": [{"id": "1"}, {"id": "2"}], "total": 5},
    ],
)
def test_an_answer_that_lacks_what_it_counts_is_not_the_end(
    answer: Any, place: Place, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place.put(JiraServer)
    monkeypatch.setattr(
        JiraServer, "routes", (("POST", "/rest/api/2/search", {*SENT}, lambda *_, **__: answer), *JiraServer.routes)
    )
    connector = connect()
    for read in (
        lambda: list(connector.changed("APO", None)),
        lambda: list(connector.sweep("APO")),
        lambda: list(connector.fetch([Ref("work_item", "7"), Ref("work_item", "8")])),
    ):
        before = len(site.requests)
        with pytest.raises(Retryable):
            read()
        assert len(site.requests) < before + 200


def test_what_is_deleted_before_its_changelog_was_read_costs_nobody_else(
    place: Place, connect: Callable[..., JiraConnector]
) -> None:
    site = place.put(JiraServer, most_histories=1)
    one, other = (site.create_issue("APO", T0, f"Item {n}") for n in range(2))
    for ident in (one, other):
        site.change_issue(ident, T0 + timedelta(hours=1), assignee="acc-1")
        site.change_issue(ident, T0 + timedelta(hours=2), status="In Progress")
    real = site._single
    site._single = lambda ident, **sent: real("404" if ident == one else ident, **sent)
    site.routes = tuple(
        (method, path, names, lambda self, *a, **k: site._single(*a, **k))
        if "issue" in path
        else (method, path, names, way)
        for method, path, names, way in JiraServer.routes
    )
    found = {ident: read.content for ident, read in listed(connect()).items()}
    told = [item for i in (one, other) if isinstance(item := found[i], WorkItem)]
    assert [item.history_cut for item in told] == [True, False]
    assert [{change.field for change in item.history} for item in told] == [
        {"status", "status_category"},
        {"assignee", "status", "status_category"},
    ]
    assert {read.ref.id for read in connect().fetch([Ref("work_item", one)])} == {one}


@pytest.mark.parametrize("info", [[], 7, {"deploymentType": 5}, {"deploymentType": ["Server"]}])
def test_what_the_server_says_of_itself_may_be_anything(
    info: Any, place: Place, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = tuple((*way[:3], lambda _: info) if "serverInfo" in way[1] else way for way in JiraServer.routes)
    monkeypatch.setattr(JiraServer, "routes", ways)
    monkeypatch.setattr(JiraServer, "_charged", lambda _, answer: answer)
    place.put(JiraServer)
    assert any("not as documented" in problem for problem in connect().check(["APO"]))


@pytest.mark.parametrize("zone", ["America", "x" * 300, "../etc/passwd", "", None])
def test_a_zone_that_is_none_is_the_earliest(
    zone: Any, place: Place, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = tuple((*way[:3], lambda _: {"timeZone": zone}) if "myself" in way[1] else way for way in JiraServer.routes)
    monkeypatch.setattr(JiraServer, "routes", ways)
    place.put(JiraServer)
    assert connect()._zone() == EARLIEST_ZONE


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_at_the_ends_of_time_nothing_is_left_out(year: int, zone: str) -> None:
    since = datetime(year, 1, 1, tzinfo=UTC) if year == 1 else datetime(year, 12, 31, 23, 59, tzinfo=UTC)
    assert Query("APO", since, ZoneInfo(zone)).jql.startswith('project = "APO"')


def test_who_is_taken_for_nobody_reads_nothing(
    place: Place, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place.put(JiraServer)
    site.faults.append(Fault(200, {"X-AUSERNAME": "anonymous"}, b'{"id": "1", "key": "APO"}'))
    with pytest.raises(Fatal, match="for nobody"):
        list(connect().sweep("APO"))


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_changelog_that_a_list_cuts_is_asked_for_by_itself(
    most: int, place: Place, connect: Callable[..., JiraConnector]
) -> None:
    found = []
    for shown in (most, 1000):
        told(place.put(JiraServer, most_histories=shown))
        found.append({ident: read.content for ident, read in listed(connect()).items()})
    assert found[0] == found[1]


def test_a_time_of_change_in_whole_seconds_cuts_no_history(
    place: Place, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jira stamps the entry of the changelog some milliseconds after the issue, here across the end of a second."""
    shown = JiraServer._fields
    monkeypatch.setattr(
        JiraServer, "_fields", lambda *args: (found := shown(*args)) | {"updated": found["updated"][:20] + "000+0000"}
    )
    entry = JiraServer._history
    late = f"{T0 + timedelta(hours=1, milliseconds=1003):%Y-%m-%dT%H:%M:%S.003+0000}"
    monkeypatch.setattr(JiraServer, "_history", lambda *args: entry(*args) | {"created": late})
    site = place.put(JiraServer)
    ident = site.create_issue("APO", T0, "Add search")
    site.change_issue(ident, T0 + timedelta(hours=1, milliseconds=998), status="Done")
    found = listed(connect())[ident].content
    assert isinstance(found, WorkItem)
    assert {change.field for change in found.history} == {"status", "status_category"}


def test_by_id_it_gives_what_is_there(place: Place, connect: Callable[..., JiraConnector]) -> None:
    site = place.put(JiraServer, max_page=2)
    ids = [site.create_issue("APO", T0, f"Item {n}") for n in range(5)]
    site.delete_issue(ids[0], T0 + timedelta(days=1))
    asked = [*ids, "99", "9" * 30, '1) OR project = "ZEU', "²"]
    found = {read.ref.id: read.content for read in connect().fetch([Ref("work_item", ident) for ident in asked])}
    assert {ident for ident, content in found.items() if content} == set(ids[1:])
    assert set(found) == set(asked)
    assert not any("9" * 30 in query for query in site.queries)


def test_it_counts_without_reading(place: Place, connect: Callable[..., JiraConnector]) -> None:
    site = place.put(JiraServer)
    for n in range(7):
        site.create_issue("APO", T0 + timedelta(hours=n), f"Item {n}")
    assert connect().count("APO", None) == 7
    assert connect().count("APO", T0 + timedelta(hours=5)) == 2


@pytest.mark.parametrize(
    ("kind", "configured", "says"), [(JiraSite, "data_center", "401"), (JiraServer, "data_center", None)]
)
def test_the_doctor_says_what_is_wrong(
    kind: type[JiraSite], configured: str, says: str | None, place: Place, connect: Callable[..., JiraConnector]
) -> None:
    place.put(kind)
    problems = list(connect(configured).check(["APO"]))
    assert problems == [] if says is None else says in problems[0]
    assert not any(TOKEN in problem for problem in problems)


def test_the_doctor_knows_a_cloud_that_is_called_a_server(
    place: Place, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JiraServer, "_server_info", JiraSite._server_info)
    monkeypatch.setattr(
        JiraServer, "routes", (*JiraServer.routes[:-1], (*JiraServer.routes[-1][:3], JiraSite._server_info))
    )
    place.put(JiraServer)
    assert next(connect().check([])) == "this Jira calls itself Cloud; set deployment to cloud"


SORTED = "com.atlassian.greenhopper.service.sprint.Sprint@5b[completeDate=,goal={2},id={0},name=x,sequence=9,startDate=,state={1}]"
LATE = "com.atlassian.greenhopper.service.sprint.Sprint@5b[rapidViewId=1,state={1},name=x,startDate=,id={0}]"
SPRINT = "com.atlassian.greenhopper.service.sprint.Sprint@5b[id={},rapidViewId=4,state={},name={},goal=,sequence=9]"


@pytest.mark.parametrize(
    ("value", "sprint"),
    [
        (None, None),
        ([], None),
        ([SPRINT.format(3, "CLOSED", "One"), SPRINT.format(4, "ACTIVE", "Two")], "4"),
        ([SPRINT.format(4, "ACTIVE", "Two"), SPRINT.format(5, "FUTURE", "Three")], "4"),
        ([SPRINT.format(3, "CLOSED", "One"), SPRINT.format(5, "FUTURE", "x,id=9,state=ACTIVE,")], "5"),
        ([SPRINT.format(3, "CLOSED", "x,id=9,state=ACTIVE]"), SPRINT.format(5, "FUTURE", "x")], "5"),
        ([SORTED.format(3, "ACTIVE", "x,id=9,state=CLOSED,"), SORTED.format(4, "FUTURE", "")], "3"),
        ([LATE.format(3, "ACTIVE"), LATE.format(4, "FUTURE")], "3"),
        ([{"id": 7, "state": "ACTIVE"}, {"id": 8, "state": "future"}], "7"),
        ([{"id": 7, "state": "closed"}, {"id": 8, "state": "active"}], "8"),
    ],
)
def test_a_sprint_is_read_from_its_text(value: Any, sprint: str | None) -> None:
    assert jira_things._sprint(value) == sprint


def test_signing_in_is_as_the_deployment_wants(tmp_path: Path) -> None:
    token = {"file": tmp_path / "token"}
    whole = {"client_id": "c", "client_secret": token, "cloud_id": "d"}
    for deployment, auth, is_right in (
        ("cloud", {"email": "a@example.com", "token": token}, True),
        ("cloud", whole, True),
        ("cloud", {"token": token}, False),
        ("cloud", {"email": "a@example.com", "token": token, "cloud_id": "d"}, True),
        ("cloud", {"email": "a@example.com", "token": token, "cloud_id": "../d"}, False),
        ("cloud", {"email": "a@example.com", "client_secret": token, "cloud_id": "d"}, False),
        ("data_center", {"token": token}, True),
        ("data_center", {"email": "a@example.com", "token": token}, False),
        ("data_center", whole, False),
        ("cloud", {}, False),
        ("cloud", {"email": "", "token": token}, False),
    ):
        raw = {"name": "j", "kind": "jira", "url": "https://x.example.com", "deployment": deployment, "auth": auth}
        if is_right:
            assert JiraSettings.model_validate(raw).auth
            continue
        with pytest.raises(
            ValueError, match=r"auth is|give \{email, token\} or|at least 1 character|should match pattern"
        ):
            JiraSettings.model_validate(raw)


def test_a_token_that_is_none_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words")
    raw = {"name": "j", "kind": "jira", "url": "http://127.0.0.1:9", "deployment": "data_center"}
    settings = JiraSettings.model_validate(raw | {"auth": {"token": {"file": tmp_path / "token"}}})
    with pytest.raises(Fatal, match=r"auth\.token") as caught:
        JiraConnector.connect(settings, lambda: T0).now()
    assert "two words" not in str(caught.value)
