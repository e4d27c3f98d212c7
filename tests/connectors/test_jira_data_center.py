"""Jira Data Center: what differs from Cloud, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import jira_things
from connectors.base import Content, Fatal, Read, Ref
from connectors.jira import JiraConnector, JiraSettings
from pmsync.core.events import WorkItem
from pmsync.standins.jira import JiraSite
from pmsync.standins.server import serve
from tests.connectors.jira_data_center_standin import JiraServer

TOKEN = "a-token-that-nobody-may-see"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Stage:
    """A server of one's own and a Cloud site on one HTTP server; the site is the one that was put there last."""

    def __init__(self) -> None:
        self.now, self.url = T0 + timedelta(days=30), ""
        self.site: JiraSite = JiraServer(lambda: self.now, token=TOKEN)

    def put(self, kind: type[JiraSite], **options: Any) -> Any:
        self.now = T0 + timedelta(days=30)
        self.site = kind(lambda: self.now, token=TOKEN, **options)
        self.site.add_project("APO", "Apollo")
        return self.site

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.site.app(scope, receive, send)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with serve(stage) as url:
        stage.url = url
        yield stage


@pytest.fixture
def connect(stage: Stage, tmp_path: Path) -> Callable[..., JiraConnector]:
    (tmp_path / "token").write_text(TOKEN)
    token = {"file": tmp_path / "token"}

    def connect(deployment: str = "data_center", **extra: Any) -> JiraConnector:
        auth = {"token": token} if deployment == "data_center" else {"email": "pmsync@example.com", "token": token}
        raw = {"name": "j", "kind": "jira", "url": stage.url, "deployment": deployment, "auth": auth} | extra
        return JiraConnector.connect(JiraSettings.model_validate(raw), lambda: T0)

    return connect


def listed(connector: JiraConnector, since: datetime | None = None) -> dict[str, Read]:
    return {read.ref.id: read for page in connector.changed("APO", since) for read in page}


def told(site: JiraSite) -> None:
    """A little of everything that is read of an issue."""
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0)
    site.add_project("ZEU", "Zeus")
    epic = site.create_issue("APO", T0, "Search", "Epic")
    one = site.create_issue("APO", T0, "Add search", story_points=3, parent=epic, labels=("ui",), sprint=7)
    for day, changes in enumerate(
        (
            {"status": "In Progress", "assignee": "acc-1"},
            {"flagged": True, "fix_version": version},
            {"sprint": (7, 8), "due_date": date(2026, 3, 20)},
            {"status": "Done", "resolution": "Won't Do", "story_points": 5},
        ),
        1,
    ):
        site.change_issue(one, T0 + timedelta(days=day), **changes)
    other = site.create_issue("ZEU", T0, "Move me")
    site.move_issue(other, T0 + timedelta(days=3), "APO")


def test_what_it_tells_is_what_cloud_tells(stage: Stage, connect: Callable[..., JiraConnector]) -> None:
    found: list[dict[str, Content | None]] = []
    for kind, deployment in ((JiraSite, "cloud"), (JiraServer, "data_center")):
        told(stage.put(kind))
        found.append({ident: read.content for ident, read in listed(connect(deployment)).items()})
    assert found[0] == found[1]
    items = [content for content in found[1].values() if isinstance(content, WorkItem)]
    assert {change.field for item in items for change in item.history} == {
        "assignee", "blocked", "container", "due_date", "estimate", "key", "milestone", "sprint", "status", "status_category"
    }  # fmt: skip


def test_what_changes_between_pages_takes_nobody_else_away(stage: Stage, connect: Callable[..., JiraConnector]) -> None:
    site = stage.put(JiraServer)
    ids = [site.create_issue("APO", T0 + timedelta(minutes=n), f"Item {n}") for n in range(20)]
    moved = iter(ids[:6])

    def change_one() -> None:
        if (ident := next(moved, None)) is not None:
            stage.now += timedelta(minutes=1)
            site.change_issue(ident, stage.now, title=f"Changed {ident}")

    site.before_page = change_one
    assert set(listed(connect(page_size=4))) == set(ids)
    assert all("updated >=" in query for query in site.queries[2:]), "it begins anew, and not where it was"


def test_what_is_deleted_between_pages_takes_nobody_else_away(
    stage: Stage, connect: Callable[..., JiraConnector]
) -> None:
    site = stage.put(JiraServer)
    ids = [site.create_issue("APO", T0, f"Item {n}") for n in range(12)]
    gone = iter(ids[:2])

    def delete_one() -> None:
        if (ident := next(gone, None)) is not None:
            site.delete_issue(ident, T0 + timedelta(days=1))

    site.before_page = delete_one
    assert set(listed(connect(page_size=3))) == set(ids)
    assert len({mark.ref.id for page in connect().sweep("APO") for mark in page}) == 10


def test_a_server_that_gives_one_at_a_time_does_not_keep_us_for_ever(
    stage: Stage, connect: Callable[..., JiraConnector]
) -> None:
    site = stage.put(JiraServer, max_page=1)
    for n in range(3):
        site.create_issue("APO", T0, f"Item {n}")
    with pytest.raises(Exception, match="do not come to an end"):
        listed(connect())
    assert len(site.requests) < 20


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_changelog_that_a_list_cuts_is_asked_for_by_itself(
    most: int, stage: Stage, connect: Callable[..., JiraConnector]
) -> None:
    found = []
    for shown in (most, 1000):
        told(stage.put(JiraServer, most_histories=shown))
        found.append({ident: read.content for ident, read in listed(connect()).items()})
    assert found[0] == found[1]


def test_by_id_it_gives_what_is_there(stage: Stage, connect: Callable[..., JiraConnector]) -> None:
    site = stage.put(JiraServer, max_page=2)
    ids = [site.create_issue("APO", T0, f"Item {n}") for n in range(5)]
    site.delete_issue(ids[0], T0 + timedelta(days=1))
    asked = [*ids, "99", '1) OR project = "ZEU', "²"]
    found = {read.ref.id: read.content for read in connect().fetch([Ref("work_item", ident) for ident in asked])}
    assert {ident for ident, content in found.items() if content} == set(ids[1:])
    assert set(found) == set(asked)


def test_it_counts_without_reading(stage: Stage, connect: Callable[..., JiraConnector]) -> None:
    site = stage.put(JiraServer)
    for n in range(7):
        site.create_issue("APO", T0 + timedelta(hours=n), f"Item {n}")
    assert connect().count("APO", None) == 7
    assert connect().count("APO", T0 + timedelta(hours=5)) == 2


@pytest.mark.parametrize(
    ("kind", "configured", "says"), [(JiraSite, "data_center", "401"), (JiraServer, "data_center", None)]
)
def test_the_doctor_says_what_is_wrong(
    kind: type[JiraSite], configured: str, says: str | None, stage: Stage, connect: Callable[..., JiraConnector]
) -> None:
    stage.put(kind)
    problems = list(connect(configured).check(["APO"]))
    assert problems == [] if says is None else says in problems[0]
    assert not any(TOKEN in problem for problem in problems)


def test_the_doctor_knows_a_cloud_that_is_called_a_server(
    stage: Stage, connect: Callable[..., JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JiraServer, "_server_info", JiraSite._server_info)
    monkeypatch.setattr(
        JiraServer, "routes", (*JiraServer.routes[:-1], (*JiraServer.routes[-1][:3], JiraSite._server_info))
    )
    stage.put(JiraServer)
    assert next(connect().check([])) == "this Jira calls itself Cloud; set deployment to cloud"


SPRINT = "com.atlassian.greenhopper.service.sprint.Sprint@5b[id={},rapidViewId=4,state={},name={},goal=,sequence=9]"


@pytest.mark.parametrize(
    ("value", "sprint"),
    [
        (None, None),
        ([], None),
        ([SPRINT.format(3, "CLOSED", "One"), SPRINT.format(4, "ACTIVE", "Two")], "4"),
        ([SPRINT.format(4, "ACTIVE", "Two"), SPRINT.format(5, "FUTURE", "Three")], "4"),
        ([SPRINT.format(3, "CLOSED", "One"), SPRINT.format(5, "FUTURE", "x,id=9,state=ACTIVE,")], "5"),
        (["Sprint@1[grid=9,id=3,substate=ACTIVE,state=CLOSED]", "Sprint@2[id=4,state=CLOSED]"], "4"),
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
        ("cloud", {"email": "a@example.com", "token": token, "cloud_id": "d"}, False),
        ("data_center", {"token": token}, True),
        ("data_center", {"email": "a@example.com", "token": token}, False),
        ("data_center", whole, False),
        ("cloud", {}, False),
    ):
        raw = {"name": "j", "kind": "jira", "url": "https://x.example.com", "deployment": deployment, "auth": auth}
        if is_right:
            assert JiraSettings.model_validate(raw).auth
            continue
        with pytest.raises(ValueError, match=r"auth is|give \{email, token\} or \{client_id"):
            JiraSettings.model_validate(raw)


def test_a_token_that_is_none_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words")
    raw = {"name": "j", "kind": "jira", "url": "http://127.0.0.1:9", "deployment": "data_center"}
    settings = JiraSettings.model_validate(raw | {"auth": {"token": {"file": tmp_path / "token"}}})
    with pytest.raises(Fatal, match=r"auth\.token") as caught:
        JiraConnector.connect(settings, lambda: T0).now()
    assert "two words" not in str(caught.value)
