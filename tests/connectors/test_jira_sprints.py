"""Jira's sprints: what an answer comes to, by table, and the reading of boards against the stand-in over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator

from connectors import jira_sprints
from connectors.base import Mark, Read, Ref, Retryable, Withheld
from connectors.jira import JiraConnector, JiraSettings
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import Snapshot, Sprint, Thing, Tombstone
from pmsync.standins import jira as standin
from pmsync.standins.jira import HTML, Fault, JiraSite
from pmsync.standins.server import serve
from tests.connectors.jira_data_center_standin import JiraServer
from tests.connectors.jira_stage import T0, TOKEN, Stage

DATA = Path(__file__).parents[2].parent / "shared" / "data"
DAY = timedelta(days=1)
AGILE = "/rest/agile/1.0"


@pytest.fixture(scope="module")
def served() -> Iterator[Stage]:
    stage = Stage()
    with serve(stage) as url:
        stage.url = url
        yield stage


@pytest.fixture
def stage(served: Stage) -> Stage:
    served.fresh()
    return served


@pytest.fixture
def connect(stage: Stage, tmp_path: Path) -> Callable[[], JiraConnector]:
    def connected() -> JiraConnector:
        (tmp_path / "token").write_text(TOKEN)
        secret: dict[str, Any] = {"token": {"file": tmp_path / "token"}}
        own = isinstance(stage.site, JiraServer)
        how = {"deployment": "data_center"} if own else {}
        auth = secret if own else secret | {"email": "pmsync@example.com"}
        configured = {"name": "j", "kind": "jira", "url": stage.url, "auth": auth, **how}
        return JiraConnector.connect(JiraSettings.model_validate(configured), lambda: stage.now)

    return connected


def sprints(connector: JiraConnector, container: str = "APO") -> dict[str, Read]:
    first = next(iter(connector.changed(container, None)))
    return {read.ref.id: read for read in first if read.ref.kind == "sprint"}


def content(read: Read) -> Sprint:
    assert isinstance(read.content, Sprint), read.problem
    return read.content


# What an answer comes to

PLAIN = {
    "id": 37, "state": "closed", "name": "Sprint 1", "startDate": "2015-04-11T15:22:00.000+10:00", "originBoardId": 5,
    "endDate": "2015-04-20T01:22:00.000+10:00", "completeDate": "2015-04-20T11:04:00.000+10:00", "goal": "Sell",
}  # fmt: skip


def test_a_whole_sprint() -> None:
    assert jira_sprints.read_sprint(PLAIN, "10001", "APO", "https://jira.example.com") == Read(
        Ref("sprint", "10001/37"),
        content=Sprint(
            key="Sprint 1",
            container="APO",
            sprint="37",
            title="Sprint 1",
            url="https://jira.example.com/secure/RapidBoard.jspa?rapidView=5",
            goal="Sell",
            state="closed",
            starts_at=datetime(2015, 4, 11, 5, 22, tzinfo=UTC),
            ends_at=datetime(2015, 4, 19, 15, 22, tzinfo=UTC),
            closed_at=datetime(2015, 4, 20, 1, 4, tzinfo=UTC),
        ),
    )


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"state": "FUTURE"}, "state", "future"),
        ({"state": "active"}, "state", "active"),
        ({"startDate": None}, "starts_at", None),
        ({"endDate": None}, "ends_at", None),
        ({"completeDate": None}, "closed_at", None),
        ({"activatedDate": "2015-04-12T00:00:00Z"}, "starts_at", datetime(2015, 4, 12, tzinfo=UTC)),
        ({"goal": None}, "goal", ""),
        ({"originBoardId": None}, "url", ""),
    ],
)
def test_what_may_be_missing_or_differ(change: dict[str, Any], field: str, value: Any) -> None:
    found = content(jira_sprints.read_sprint(PLAIN | change, "10001", "APO", "https://jira.example.com"))
    assert getattr(found, field) == value


@pytest.mark.parametrize(
    ("raw", "ident", "says"),
    [
        (PLAIN | {"state": "paused"}, "37", "state"),
        (PLAIN | {"state": None}, "37", "state is missing"),
        (PLAIN | {"name": 7}, "37", "name is int"),
        (PLAIN | {"startDate": "soon"}, "37", "startDate is no instant"),
        (PLAIN | {"endDate": "2015-04-20T01:22:00"}, "37", "endDate is no instant"),
        (PLAIN | {"goal": []}, "37", "goal is list"),
        (PLAIN | {"id": "37"}, "unreadable", "id is str"),
        ([], "unreadable", "id is missing"),
        (None, "unreadable", "id is missing"),
    ],
)
def test_what_cannot_be_read_says_why(raw: Any, ident: str, says: str) -> None:
    read = jira_sprints.read_sprint(raw, "10001", "APO", "https://jira.example.com")
    assert (read.ref, read.content) == (Ref("sprint", f"10001/{ident}"), None)
    assert says in (read.problem or "")
    assert json.loads(read.raw) == raw


def test_real_sprints() -> None:
    path = DATA / "go-jira-mocks" / "sprints.json"
    if not path.exists():
        pytest.skip("the recorded sprints are not here")
    found = [content(jira_sprints.read_sprint(raw, "1", "AR", "u")) for raw in json.loads(path.read_text())["values"]]
    assert [(each.sprint, each.state, each.closed_at is not None, each.goal) for each in found] == [
        ("740", "closed", True, ""),
        ("776", "closed", True, ""),
        ("807", "closed", True, ""),
        ("832", "active", False, ""),
        ("845", "future", False, ""),
        ("846", "future", False, "My Goal"),
    ]


# Reading boards


@pytest.mark.parametrize("kind", [JiraSite, JiraServer])
def test_the_sprints_of_all_boards_each_once(
    kind: type[JiraSite], stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    site = stage.fresh(kind)
    first = site.boards.add("Team", ["APO"], T0)
    site.boards.add("Team again", ["APO"], T0, "simple")
    site.boards.add("Support", ["APO"], T0, "kanban")
    made = [site.boards.plan(first, f"Sprint {n}", T0, T0 + n * DAY, T0 + (n + 7) * DAY) for n in range(3)]
    site.boards.start(made[0], T0 + DAY)
    site.boards.complete(made[0], T0 + 8 * DAY)
    site.boards.start(made[1], T0 + 9 * DAY)
    found = sprints(connect())
    assert {ident: content(read).state for ident, read in found.items()} == {
        "10001/1": "closed", "10001/2": "active", "10001/3": "future",
    }  # fmt: skip
    assert content(found["10001/1"]).closed_at == T0 + 8 * DAY
    assert content(found["10001/2"]).starts_at == T0 + 9 * DAY
    assert not [path for _, path in site.requests if path == f"{AGILE}/board/3/sprint"], "a kanban board has no sprints"


def test_many_boards_and_sprints_come_in_pages(stage: Stage, connect: Callable[[], JiraConnector]) -> None:
    boards = [stage.site.boards.add(f"Board {n}", ["APO"], T0) for n in range(60)]
    made = [stage.site.boards.plan(boards[0], f"Sprint {n}", T0) for n in range(120)]
    assert {content(read).sprint for read in sprints(connect()).values()} == {str(ident) for ident in made}


def test_a_sprint_of_a_board_of_two_projects_is_a_thing_of_each(
    stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    board = stage.site.boards.add("Both", ["APO", "ZEU"], T0)
    stage.site.boards.plan(board, "Together", T0)
    pump, bus = pumped(stage, connect())
    pump.sync({"APO": {"apollo": 1}, "ZEU": {"zeus": 1}})
    told = [event for event in bus.events if isinstance(event, Snapshot) and isinstance(event.content, Sprint)]
    assert [(e.project, e.thing.id, e.content.container) for e in told] == [
        ("apollo", "10001/1", "APO"), ("zeus", "10002/1", "ZEU"),
    ]  # fmt: skip


DENIALS = [(f"{AGILE}/board", status) for status in (400, 401, 403, 404)] + [
    (f"{AGILE}/board/1/sprint", status) for status in (401, 403)
]


@pytest.mark.parametrize(("path", "status"), DENIALS)
def test_whoever_may_not_see_boards_has_no_sprints_and_all_the_rest(
    status: int, path: str, stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    board = stage.site.boards.add("Team", ["APO"], T0)
    stage.site.boards.plan(board, "Sprint 1", T0)
    issue = stage.site.create_issue("APO", T0, "An issue")
    stage.site.faults.append(Fault(status, path=path, times=9))
    connector = connect()
    reads = [read for page in connector.changed("APO", None) for read in page]
    assert [read.ref for read in reads] == [Ref("work_item", issue)]
    assert [mark.ref for page in connector.sweep("APO") for mark in page] == [Ref("work_item", issue)]
    assert set(connector.unseen("APO")) == {"sprint"}
    with pytest.raises(Withheld, match=str(status)):
        list(connector.fetch([Ref("sprint", "10001/1")]))
    (line,) = connector.check(["APO"])
    assert line.startswith("the sprints of project APO are not read, the rest is: ")
    stage.site.faults.clear()
    assert len(next(iter(connector.sweep("APO")))) == 1
    assert set(connector.unseen("APO")) == set()
    assert list(connector.check(["APO"])) == []


def test_a_jira_without_sprints_is_not_reproached_with_it(
    stage: Stage, connect: Callable[[], JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [each for each in standin.CUSTOM_FIELDS if each[1] != "Sprint"]
    monkeypatch.setattr(standin, "CUSTOM_FIELDS", others)
    stage.site.faults.append(Fault(404, path=f"{AGILE}/board", times=9))
    assert list(connect().check(["APO"])) == []


@pytest.mark.parametrize("status", [400, 404])
def test_a_board_without_sprints_or_that_went_away_hides_no_other(
    status: int, stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    boards = stage.site.boards
    boards.plan(boards.add("Team", ["APO"], T0), "Sprint 1", T0)
    boards.plan(boards.add("Other", ["APO"], T0), "Sprint 2", T0)
    stage.site.faults.append(Fault(status, path=f"{AGILE}/board/1/sprint"))
    connector = connect()
    assert set(sprints(connector)) == {"10001/1", "10001/2"}, "both boards show both"
    assert set(connector.unseen("APO")) == set()


@pytest.mark.parametrize(("path", "status"), DENIALS)
def test_a_right_that_is_lost_is_no_deletion(
    status: int, path: str, stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    boards = stage.site.boards
    for n in range(3):
        boards.plan(boards.add("Team", ["APO"], T0), f"Sprint {n}", T0)
    stage.site.create_issue("APO", T0, "An issue")
    pump, bus = pumped(stage, connect())
    pump.sync({"APO": {"apollo": 1}})
    told = [event for event in bus.events if event.thing.kind != "synced"]  # type: ignore[union-attr]
    stage.site.faults.append(Fault(status, path=path, times=99))
    for _ in range(2):
        pump.sync({"APO": {"apollo": 1}})
    assert [event for event in bus.events if event.thing.kind != "synced"] == told  # type: ignore[union-attr]
    stage.site.faults.clear()
    boards.delete(1, T0 + DAY)
    pump.sync({"APO": {"apollo": 1}})
    news = [event for event in bus.events if event.thing.kind != "synced"][len(told) :]  # type: ignore[union-attr]
    assert [(type(event), event.thing.id) for event in news] == [(Tombstone, "10001/1")]  # type: ignore[union-attr]


FAULTS = (Fault(500), Fault(405), Fault(410), Fault(429), HTML, Fault(200, body=b'{"values": 3}'))
TROUBLE = [(f"{AGILE}/{path}", fault) for path in ("board", "board/1/sprint") for fault in FAULTS] + [
    (f"{AGILE}/board", Fault(200, body=b'{"values": [{"id": "x"}], "isLast": true}'))
]


@pytest.mark.parametrize(("path", "fault"), TROUBLE)
def test_trouble_with_boards_keeps_no_issue(
    path: str, fault: Fault, stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    boards = stage.site.boards
    boards.plan(boards.add("Team", ["APO"], T0), "Sprint 1", T0)
    pump, bus = pumped(stage, connect())
    pump.sync({"APO": {"apollo": 1}})
    issue = stage.site.create_issue("APO", T0, "An issue")
    stage.site.faults.append(Fault(fault.status, fault.headers, fault.body, 99, path, fault.content_type))
    before = len(bus.events)
    pump.sync({"APO": {"apollo": 1}})
    news = [event for event in bus.events[before:] if event.thing.kind != "synced"]  # type: ignore[union-attr]
    assert [(type(event), event.thing.id) for event in news] == [(Snapshot, issue)]  # type: ignore[union-attr]
    (line,) = pump.connector.check(["APO"])  # type: ignore[attr-defined]
    assert line.startswith("the sprints of project APO are not read, the rest is: ")


def test_a_jira_that_wants_to_be_left_alone_is(stage: Stage, connect: Callable[[], JiraConnector]) -> None:
    stage.site.faults.append(Fault(429, {"Retry-After": "7"}, path=AGILE))
    with pytest.raises(Retryable) as caught:
        sprints(connect())
    assert caught.value.after == 7


def test_pages_without_an_end_are_broken_off(
    stage: Stage, connect: Callable[[], JiraConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jira_sprints, "MOST_PAGES", 5)
    body = b'{"values": [{"id": 1, "type": "scrum"}], "isLast": false}'
    stage.site.faults.append(Fault(200, body=body, times=99, path=AGILE))
    connector = connect()
    assert sprints(connector) == {}
    assert connector.unseen("APO") == {"sprint"}
    assert len(stage.site.requests) < 20


def test_a_poll_asks_for_closed_sprints_only_where_there_is_news_of_them(
    stage: Stage, connect: Callable[[], JiraConnector]
) -> None:
    boards = stage.site.boards
    board = boards.add("Team", ["APO"], T0)
    made = [boards.plan(board, f"Sprint {n}", T0) for n in range(120)]
    for each in made[:110]:
        boards.start(each, T0)
        boards.complete(each, T0)
    connector = connect()

    def polled(*, taken: bool = True) -> tuple[int, int]:
        """How many sprints a poll shows, and how many pages of sprints it asks for."""
        stage.site.requests.clear()
        pages = connector.changed("APO", T0)
        found = [read for read in next(pages) if read.ref.kind == "sprint"]
        if taken:
            list(pages)
        return len(found), sum(path.startswith(f"{AGILE}/board/1/sprint") for _, path in stage.site.requests)

    assert polled() == (120, 3), "it does not know yet what was open"
    assert polled() == (10, 1)
    boards.start(made[110], T0)
    assert polled() == (10, 1)
    boards.complete(made[110], T0)
    assert polled(taken=False) == (120, 4)
    assert polled() == (120, 3), "what was not published is shown again"
    assert polled() == (9, 1)
    boards.delete(made[111], T0)
    assert polled() == (119, 4)
    assert polled() == (8, 1)
    boards.change(made[0], T0, name="Renamed long after its end")
    list(connector.sweep("APO"))
    assert polled() == (119, 3), "a sweep is followed by all of them"
    stage.site.faults.append(Fault(500, path=f"{AGILE}/board/1/sprint"))
    assert polled() == (0, 1)
    boards.complete(made[112], T0)
    assert polled() == (119, 3), "nobody knows what happened meanwhile"


def test_a_sweep_and_a_fetch_say_what_the_list_says(stage: Stage, connect: Callable[[], JiraConnector]) -> None:
    board = stage.site.boards.add("Team", ["APO"], T0)
    stage.site.boards.plan(board, "Sprint 1", T0)
    gone = stage.site.boards.plan(board, "Sprint 2", T0)
    stage.site.boards.delete(gone, T0 + DAY)
    connector = connect()
    connector.expect(["APO"])
    assert [mark for page in connector.sweep("APO") for mark in page] == [Mark(Ref("sprint", "10001/1"), None)]
    refs = [Ref("sprint", ident) for ident in ("10001/1", "10001/2", "10002/1", "10001/x")]
    found = {read.ref: read for read in connector.fetch(refs)}
    assert found == {ref: Read(ref) for ref in refs} | {refs[0]: sprints(connector)["10001/1"]}
    with pytest.raises(Withheld):
        list(connector.fetch([Ref("sprint", "nonsense")]))


def pumped(stage: Stage, connector: JiraConnector) -> tuple[Pump, MemoryBus]:
    bus = MemoryBus()
    return Pump(connector, MemoryLedger(), bus, lambda: stage.now, "me"), bus


def test_each_change_of_a_sprint_is_told_once(stage: Stage, connect: Callable[[], JiraConnector]) -> None:
    boards = stage.site.boards
    sprint = boards.plan(boards.add("Team", ["APO"], T0), "Sprint 1", T0, T0 + DAY, T0 + 8 * DAY)
    boards.start(sprint, T0 + 31 * DAY)
    boards.complete(sprint, T0 + 38 * DAY)
    boards.delete(sprint, T0 + 40 * DAY)
    pump, bus = pumped(stage, connect())
    for day in (30, 30, 31, 31, 38, 38, 40, 40):
        stage.now = T0 + day * DAY
        pump.sync({"APO": {"apollo": 1}})
    told = [event for event in bus.events if event.thing == Thing("j", "sprint", "10001/1")]  # type: ignore[union-attr]
    assert [event.content.state for event in told[:-1] if isinstance(event, Snapshot)] == ["future", "active", "closed"]  # type: ignore[union-attr]
    assert isinstance(told[-1], Tombstone)
    assert len(told) == 4


# The stand-in


def test_the_stand_in_answers_in_the_shapes_of_the_vendors_document(stage: Stage) -> None:
    path = DATA / "jira-openapi" / "software-swagger.v3.json"
    if not path.exists():
        pytest.skip("the vendor's OpenAPI document is not here")
    document = json.loads(path.read_text())
    board = stage.site.boards.add("Team", ["APO"], T0)
    sprint = stage.site.boards.plan(board, "Sprint 1", T0, T0, T0 + 7 * DAY, "Sell")
    stage.site.boards.start(sprint, T0)
    stage.site.boards.complete(sprint, T0 + 7 * DAY)
    auth = ("pmsync@example.com", TOKEN)
    listed = requests.get(f"{stage.url}{AGILE}/board", {"projectKeyOrId": "APO"}, auth=auth, timeout=10).json()
    good = document["paths"]["/rest/agile/1.0/board"]["get"]["responses"]["200"]["content"]["application/json"]
    Draft202012Validator(good["schema"] | {"components": document["components"]}).validate(listed)
    # Of sprints the document has examples alone: the same names, of the same types.
    shown = requests.get(f"{stage.url}{AGILE}/board/{board}/sprint", auth=auth, timeout=10).json()
    answer = document["paths"]["/rest/agile/1.0/board/{boardId}/sprint"]["get"]["responses"]["200"]
    example = json.loads(answer["content"]["application/json"]["example"])
    assert {name: type(value) for name, value in shown.items()} == {n: type(v) for n, v in example.items()}
    types = {name: type(value) for name, value in shown["values"][0].items() if name != "activatedDate"}
    assert types == {name: type(value) for name, value in example["values"][0].items()}


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("board", {"projectKeyOrId": "NOPE"}, 404),
        ("board", {}, 404),
        ("board", {"projectKeyOrId": "APO", "orderBy": "name"}, 400),
        ("board", {"projectKeyOrId": "APO", "startAt": "x"}, 400),
        ("board/1/sprint", {"maxResults": "0"}, 400),
        ("board/2/sprint", {}, 400),
        ("board/7/sprint", {}, 404),
        ("board/1/sprint", {"state": "active,paused"}, 400),
        ("sprint/1", {}, 404),
    ],
)
def test_the_stand_in_refuses_what_it_does_not_understand(
    path: str, sent: dict[str, str], status: int, stage: Stage
) -> None:
    stage.site.boards.add("Team", ["APO"], T0)
    stage.site.boards.add("Support", ["APO"], T0, "kanban")
    answer = requests.get(f"{stage.url}{AGILE}/{path}", sent, auth=("pmsync@example.com", TOKEN), timeout=10)
    assert (answer.status_code, bool(answer.json()["errorMessages"])) == (status, True)
