"""GitHub's boards (Projects): what cards become by tables, and how boards are read, and their changes noticed, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from connectors import github, github_boards
from connectors.base import Fatal, Read, Ref, Retryable, Withheld
from connectors.github import GitHubConnector, GitHubSettings
from connectors.github_boards import PERIOD, STALE
from connectors.github_cards import BoardFields, BoardPage, Card, Plan, plan, planned, read_sprint
from connectors.github_things import Home, Parts, read_thing, unsettled
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import Change, Snapshot, Sprint, StatusCategory, Tombstone, WorkItem
from pmsync.standins.github import User
from pmsync.standins.github_boards import Board
from pmsync.standins.github_links import Place
from tests.connectors import github_stage
from tests.connectors.github_stage import REPO, START, ZEUS, Stage, asked, day, everything, staged, text

BOARD, NAME = "PVT_7", "octo/1"
HOME = Home(7, REPO, REPO, {})
USUAL = plan(BoardFields(), {})
MINUTE = timedelta(minutes=1)
ANA = User("ana", 11)


# --- translation, by tables


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Todo", "todo"),
        ("To do", "todo"),
        ("📋 Backlog", "todo"),
        ("In Progress", "in_progress"),
        ("🏗 In progress", "in_progress"),
        ("in-review", "in_progress"),
        ("Done", "done"),
        ("✅ Done", "done"),
        ("Won't do", "dropped"),
        ("Won’t fix", "dropped"),
        ("Cooking", None),
        ("🎉", None),
    ],
)
def test_where_a_status_usually_stands(status: str, expected: str | None) -> None:
    assert USUAL.category(status) == (StatusCategory(expected) if expected else None)


def test_the_configuration_is_asked_first() -> None:
    ours = plan(BoardFields(), {"Cooking": StatusCategory.in_progress, "🎉 DONE": StatusCategory.in_progress})
    assert [ours.category(each) for each in ("cooking", "Done", "Todo")] == ["in_progress", "in_progress", "todo"]


def item(moves: Sequence[str] | None = (), project: str = BOARD, **shown: Any) -> dict[str, Any]:
    """An issue's item; `moves` are `Todo>Done`…, one a day, at noon."""
    told = [each.partition(">")[::2] for each in moves or ()]
    nodes = [
        {
            "id": f"MOVE_{number}", "createdAt": text(day(number + 0.125)), "previousStatus": old, "status": new,
            "project": {"id": project},
        }
        for number, (old, new) in enumerate(told, 1)
    ]  # fmt: skip
    content: dict[str, Any] = {"number": 5, "repository": {"databaseId": 7}}
    if moves is not None:
        content["timelineItems"] = {"pageInfo": {"hasNextPage": False}, "nodes": nodes}
    values = dict.fromkeys(("status", "sprint", "due_date", "estimate")) | shown
    return {"id": "PVTI_1", "updatedAt": text(day(9)), "content": content, **values}


def card(node: Mapping[str, Any], plan: Plan = USUAL) -> Card:
    return Card(BOARD, day(9), node, plan)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({}, (None, None, None, None)),
        ({"status": {"name": "Todo"}}, ("Todo", None, None, None)),
        ({"status": {"name": None}}, (None, None, None, None)),
        ({"sprint": {"iterationId": "381c7c80"}}, (None, "PVT_7/381c7c80", None, None)),
        ({"due_date": {"date": "2026-03-31"}}, (None, None, date(2026, 3, 31), None)),
        ({"estimate": {"number": 3}}, (None, None, None, 3000)),
        ({"estimate": {"number": 0.5}}, (None, None, None, 500)),
        ({"estimate": {"number": 0.0005}}, (None, None, None, 0)),
        ({"estimate": {"number": 0.1}}, (None, None, None, 100)),
        ({"estimate": {"number": 0}}, (None, None, None, 0)),
        # Fields of another type than the one that is asked for.
        ({"status": {}, "sprint": {}, "due_date": {}, "estimate": {}}, (None, None, None, None)),
    ],
)
def test_what_a_card_says(shown: Mapping[str, Any], expected: tuple[Any, ...]) -> None:
    found = planned(card(item(**shown)))
    assert (found.status, found.sprint, found.due_date, found.estimate) == expected


def test_what_is_not_wanted_is_not_read() -> None:
    none = plan(BoardFields(status=None, sprint=None, due_date=None, estimate=None), {})
    shown = item(
        [">Todo"],
        status={"name": "Todo"}, sprint={"iterationId": "a"}, due_date={"date": "2026-03-31"}, estimate={"number": 3},
    )  # fmt: skip
    found = planned(card(shown, none))
    assert (found.status, found.sprint, found.due_date, found.estimate, found.moves) == (None, None, None, None, ())


@pytest.mark.parametrize(
    ("shown", "problem"),
    [
        ({"due_date": {"date": "31.3.2026"}}, "card.due_date.date: "),
        ({"estimate": {"number": "3"}}, "card.estimate.number: "),
        ({"estimate": {"number": 1e300}}, "card.estimate.number: "),
        ({"status": "Todo"}, "card.status: "),
        ({"updatedAt": None}, "card.updatedAt: "),
        ({"content": {"timelineItems": {}}}, "card.content.timelineItems.pageInfo: "),
    ],
)
def test_what_is_not_in_github_s_shape_is_a_problem(shown: Mapping[str, Any], problem: str) -> None:
    read = read_thing(HOME, Parts(issue(), card=card({**item(), **shown})))
    assert (read.problem or "").startswith(problem)
    assert b"PVTI_1" in read.raw


def issue(**fields: Any) -> dict[str, Any]:
    return {
        "id": 70, "number": 5, "title": "Login fails", "html_url": "https://github.com/octo/apollo/issues/5",
        "state": "open", "state_reason": None, "created_at": text(day(0)), "updated_at": text(day(8)),
        "assignees": [], "labels": [], "milestone": None, **fields,
    }  # fmt: skip


CLOSED: dict[str, Any] = {"state": "closed", "state_reason": "completed"}
ASSIGNED: dict[str, Any] = {"assignees": [{"id": 11}]}


def events(*told: str) -> list[dict[str, Any]]:
    """`closed 3`…: what happened, and on which day, at noon."""
    lines = [each.split() for each in told]
    return [
        {
            "id": 900 + number, "event": name, "created_at": text(day(float(at) + 0.125)),
            **({"assignee": {"id": 11}} if name == "assigned" else {"state_reason": None}),
        }
        for number, (name, at) in enumerate(lines)
    ]  # fmt: skip


def line(change: Change) -> str:
    return f"{(change.at - START) // timedelta(days=1)} {change.field}: {change.old} > {change.new}"


@pytest.mark.parametrize(
    ("shown", "told", "column", "moves", "now", "expected", "untracked"),
    [
        pytest.param({}, [], None, [], ("open", "todo"), [], (), id="without a status"),
        pytest.param(
            {}, [], "In Progress", [">Todo", "Todo>In Progress"], ("In Progress", "in_progress"),
            ["1 status: open > Todo", "2 status: Todo > In Progress", "2 status_category: todo > in_progress"], (),
            id="moved on",
        ),
        pytest.param(
            CLOSED, ["closed 3"], "Done", [">Todo", "Todo>In Progress", "In Progress>Done"], ("closed", "done"),
            ["1 status: open > Todo", "2 status: Todo > In Progress", "2 status_category: todo > in_progress",
             "3 status: In Progress > closed", "3 status_category: in_progress > done"], (),
            id="closed, and moved by that",
        ),
        pytest.param(
            CLOSED, ["closed 3"], "In Progress", [">Todo", "Todo>In Progress"], ("closed", "done"),
            ["1 status: open > Todo", "2 status: Todo > In Progress", "2 status_category: todo > in_progress",
             "3 status: In Progress > closed", "3 status_category: in_progress > done"], (),
            id="closed, and left where it was",
        ),
        pytest.param(
            {"state": "closed", "state_reason": "not_planned"}, [], "Done", None, ("closed (not planned)", "dropped"), [],
            ("status", "status_category"), id="dropped, whatever the board says",
        ),
        pytest.param(
            {}, [], "Done", [">Done"], ("Done", "done"), ["1 status: open > Done", "1 status_category: todo > done"], (),
            id="done and open",
        ),
        pytest.param(
            ASSIGNED, ["assigned 2"], "Cooking", [">Cooking"], ("Cooking", "in_progress"),
            ["1 status: open > Cooking", "2 status_category: todo > in_progress", "2 assignee: None > 11"], (),
            id="of a status that nobody knows its own category counts",
        ),
        pytest.param(
            {}, [], "In Progress", ["Todo>In Progress"], ("In Progress", "in_progress"), [], ("status", "status_category"),
            id="the first events are missing",
        ),
        pytest.param(
            {}, [], "In Progress", [">Todo"], ("In Progress", "in_progress"), [], ("status", "status_category"),
            id="the last events are missing",
        ),
        pytest.param(
            {}, [], "Todo", None, ("Todo", "todo"), [], ("status",), id="none are known: its own category agrees",
        ),
        pytest.param(
            CLOSED | ASSIGNED, ["assigned 1", "closed 3"], "Done", [], ("closed", "done"),
            ["1 status_category: todo > in_progress", "1 assignee: None > 11", "3 status: open > closed",
             "3 status_category: in_progress > done"], (),
            id="events are missing: of what is closed its own history leads to the present",
        ),
        pytest.param(
            {}, [], None, [">Todo", "Todo>"], ("open", "todo"), ["1 status: open > Todo", "2 status: Todo > open"], (),
            id="taken away again",
        ),
    ],
)  # fmt: skip
def test_the_history_of_a_status(
    shown: Mapping[str, Any], told: Sequence[str], column: str | None, moves: Sequence[str] | None,
    now: tuple[str, str], expected: list[str], untracked: tuple[str, ...],
) -> None:  # fmt: skip
    node = item(moves, status=column and {"name": column})
    read = read_thing(HOME, Parts(issue(**shown), events(*told), card=card(node)))
    assert isinstance(read.content, WorkItem), read.problem
    found = read.content
    assert (found.status, found.status_category) == now
    assert [line(change) for change in found.history] == expected
    assert found.untracked == (*untracked, "due_date", "estimate", "sprint")
    assert len({change.id for change in found.history}) == len(found.history)
    assert not unsettled(read)
    assert read.time == day(9)


def test_moves_on_other_boards_are_not_its_own() -> None:
    read = read_thing(HOME, Parts(issue(), card=card(item([">Todo"], "PVT_8", status={"name": "Todo"}))))
    assert isinstance(read.content, WorkItem)
    assert read.content.history == ()


def test_more_moves_than_were_told_are_no_history() -> None:
    node = item([">Todo"], status={"name": "Todo"})
    node["content"]["timelineItems"]["pageInfo"]["hasNextPage"] = True
    assert planned(card(node)).moves is None


def test_without_a_board_nothing_is_said_of_it() -> None:
    read = read_thing(HOME, Parts(issue()))
    assert isinstance(read.content, WorkItem)
    assert (read.content.untracked, read.time) == ((), day(8))


@pytest.mark.parametrize(
    ("now", "state", "is_over"),
    [
        (datetime(2026, 2, 1, 23, 59, tzinfo=UTC), "future", False),
        (datetime(2026, 2, 2, tzinfo=UTC), "active", False),
        (datetime(2026, 2, 15, 23, 59, tzinfo=UTC), "active", False),
        (datetime(2026, 2, 16, tzinfo=UTC), "closed", True),
    ],
)
def test_the_days_of_an_iteration_say_where_it_stands(now: datetime, state: str, is_over: bool) -> None:
    page = {
        "id": BOARD,
        "url": "u",
        "fields": {"nodes": []},
        "items": {"pageInfo": {"hasNextPage": False}, "nodes": []},
    }
    raw = {"id": "381c", "title": "Sprint 1", "startDate": "2026-02-02", "duration": 14}
    read = read_sprint(7, REPO, BoardPage.model_validate(page), raw, now)
    assert read.ref == Ref("sprint", "7/PVT_7/381c")
    assert isinstance(read.content, Sprint)
    assert (read.content.sprint, read.content.title, read.content.container) == ("PVT_7/381c", "Sprint 1", REPO)
    assert read.content.state == state
    assert (read.content.starts_at, read.content.ends_at) == (
        datetime(2026, 2, 2, tzinfo=UTC), datetime(2026, 2, 16, tzinfo=UTC),
    )  # fmt: skip
    assert (read.content.closed_at is not None) == is_over


@pytest.mark.parametrize(
    "wrong", [{"boards": ["7"]}, {"boards": ["octo/0"]}, {"boards": ["octo/x"]}, {"board_statuses": {"Todo": "later"}}]
)
def test_settings_that_make_no_sense_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GitHubSettings.model_validate({"name": "github", "auth": {"token": {"env": "T"}}, **wrong})


# --- over HTTP


@dataclass
class World(github_stage.World):
    """There are two repositories, whose issues are planned on a board."""

    board: Board = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.other = self.host.add_repository(ZEUS)
        self.board = self.host.boards.add("octo", day(0))

    def issues(self, many: int, repo: str = REPO) -> list[Place]:
        """So many, an hour apart."""
        return [(repo, self.host.open_issue(repo, day(n / 24), f"Number {n}")) for n in range(many)]

    def put(self, place: Place | None, at: datetime, **values: Any) -> None:
        self.host.boards.put(self.board, place, at, **values)

    def ref(self, number: int) -> Ref:
        return Ref("work_item", f"{self.id}/{number}")


@pytest.fixture
def world() -> World:
    return World()


Connect = Callable[..., GitHubConnector]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("secrets")) as found:
        yield found


@pytest.fixture
def connect(stage: Stage, world: World) -> Connect:
    return lambda **settings: stage.connect(world.host.app, lambda: world.now, **{"boards": [NAME], **settings})


def work(reads: Mapping[Ref, Read], number: int, world: World) -> WorkItem:
    content = reads[world.ref(number)].content
    assert isinstance(content, WorkItem), reads[world.ref(number)]
    return content


def plan_some(world: World) -> tuple[list[Place], str]:
    """Four issues, of which three are planned; the fields of the second change after all issues."""
    places, sprint = world.issues(4), world.host.boards.iterate(world.board, "Sprint 1", date(2026, 2, 2))
    world.put(places[0], day(1), status="Todo", target_date=date(2026, 3, 31), estimate=3)
    world.put(places[1], day(2), status="In Progress", iteration=sprint)
    world.put(places[2], day(0.01), estimate=0.5)
    return places, sprint


def test_what_is_on_a_board_is_read_with_the_issues(connect: Connect, world: World) -> None:
    _, sprint = plan_some(world)
    reads = everything(connect())
    found = [work(reads, number, world) for number in (1, 2, 3, 4)]
    shown = [(each.status, each.status_category, each.sprint, each.due_date, each.estimate) for each in found]
    assert shown == [
        ("Todo", "todo", None, date(2026, 3, 31), 3000),
        ("In Progress", "in_progress", f"{world.board.id}/{sprint}", None, None),
        ("open", "todo", None, None, 500),
        ("open", "todo", None, None, None),
    ]
    assert [len(each.untracked) for each in found] == [3, 3, 3, 0]
    (iteration,) = (read.content for ref, read in reads.items() if ref.kind == "sprint")
    assert isinstance(iteration, Sprint)
    assert (iteration.title, iteration.sprint, iteration.state) == ("Sprint 1", found[1].sprint, "active")


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_listed_swept_and_by_itself_it_is_the_same(connect: Connect, world: World, page_size: int) -> None:
    plan_some(world)
    reads = everything(connect(page_size=page_size))
    marks = {mark.ref: mark.time for page in connect().sweep(REPO) for mark in page}
    assert marks == {ref: read.time for ref, read in reads.items()}
    assert {read.ref: read for read in connect().fetch(list(marks))} == reads
    assert reads[world.ref(2)].time == day(2)


def test_what_changed_on_the_board_after_all_issues_comes_last(connect: Connect, world: World) -> None:
    """Or the cursor would move beyond issues that no page has shown yet."""
    plan_some(world)
    pages = [[read.time for read in page if read.time] for page in connect(page_size=1).changed(REPO, None)]
    times = [time for page in pages for time in page]
    assert times == sorted(times)
    assert times == [day(2 / 24), day(3 / 24), day(1), day(2)]


def test_issues_of_others_drafts_and_pull_requests_are_left_alone(connect: Connect, world: World) -> None:
    (place,), (elsewhere,) = world.issues(1), world.issues(1, ZEUS)
    pull = world.host.open_pull(REPO, day(1), "Mend it")
    for each, estimate in ((place, 1), (elsewhere, 2), ((REPO, pull), 3), (None, 4)):
        world.put(each, day(2), estimate=estimate)
    connector = connect()
    reads = {**everything(connector), **everything(connector, repo=ZEUS)}
    items = {ref.id: read.content for ref, read in reads.items() if isinstance(read.content, WorkItem)}
    assert {ident: each.estimate for ident, each in items.items()} == {f"{world.id}/1": 1000, f"{world.other}/1": 2000}
    assert all(read.content is not None for read in reads.values())
    assert world.host.boards.asked == 1


def test_an_iteration_is_a_thing_of_each_repository_that_has_an_issue_there(connect: Connect, world: World) -> None:
    plan_some(world)
    connector = connect()
    assert [ref for ref in everything(connector, repo=ZEUS) if ref.kind == "sprint"] == []
    (place,) = world.issues(1, ZEUS)
    world.put(place, world.now, estimate=1)
    world.now += PERIOD
    iteration = world.board.iterations[0].id
    for repo, ident in ((REPO, world.id), (ZEUS, world.other)):
        refs = [ref for ref in everything(connector, repo=repo) if ref.kind == "sprint"]
        assert refs == [Ref("sprint", f"{ident}/{world.board.id}/{iteration}")]
        assert [read.content is not None for read in connector.fetch(refs)] == [True]
    gone = Ref("sprint", f"{world.id}/{world.board.id}/ffffffff")
    assert list(connector.fetch([gone])) == [Read(gone)]


def test_without_a_board_nothing_is_asked(connect: Connect, world: World) -> None:
    plan_some(world)
    reads = everything(connect(boards=[]))
    assert work(reads, 1, world).due_date is None
    assert world.host.boards.asked == 0


def test_a_board_is_asked_for_now_and_then_only(connect: Connect, world: World) -> None:
    plan_some(world)
    connector = connect()
    for _ in range(5):
        everything(connector, world.now)
        world.now += MINUTE
    assert world.host.boards.asked == 1
    everything(connector, world.now)
    assert world.host.boards.asked == 2


CHANGES: Sequence[tuple[str, Any, Callable[[WorkItem], Any], Any]] = [
    ("status", "Done", lambda found: (found.status, found.status_category), ("Done", "done")),
    ("target_date", date(2026, 4, 1), lambda found: found.due_date, date(2026, 4, 1)),
    ("target_date", None, lambda found: found.due_date, None),
    ("estimate", 8, lambda found: found.estimate, 8000),
    ("iteration", "2a", lambda found: (found.sprint or "").partition("/")[2], "2a"),
]


@pytest.mark.parametrize(("name", "value", "look", "expected"), CHANGES, ids=lambda each: str(each)[:20])
@pytest.mark.parametrize("restarted", [False, True])
def test_the_next_look_sees_a_change_on_the_board(
    connect: Connect,
    world: World,
    name: str,
    value: Any,
    look: Callable[[WorkItem], Any],
    expected: Any,
    restarted: bool,
) -> None:
    places, _ = plan_some(world)
    pump, bus = Pump(connect(), MemoryLedger(), MemoryBus(), lambda: world.now, "reader"), MemoryBus()
    pump.bus = bus
    routes = {REPO: {"apollo": 1}}
    pump.sync(routes)
    world.now += timedelta(hours=1)
    pump.sync(routes, timedelta(days=9))
    before = len(bus.events)
    world.put(places[0], world.now, **{name: value})
    world.now += PERIOD
    if restarted:
        pump.connector = connect()
    pump.sync(routes, timedelta(days=9))
    (event,) = bus.events[before:]
    assert isinstance(event, Snapshot)
    assert isinstance(event.content, WorkItem)
    assert (event.content.key, look(event.content)) == ("octo/apollo#1", expected)
    world.now += PERIOD
    pump.sync(routes, timedelta(0))
    assert len(bus.events) == before + 1


@pytest.mark.parametrize("at_once", [1, 2, 200])
def test_who_renames_a_status_changes_every_card_and_the_time_of_none(
    connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(github_boards, "AT_ONCE", at_once)
    for number, place in enumerate(world.issues(5)):
        world.put(place, day(1 + number / 1440), status="Todo")
    bus = MemoryBus()
    pump = Pump(connect(), MemoryLedger(), bus, lambda: world.now, "reader")

    def told() -> list[str]:
        """The issues that a round told of, and what their status is."""
        before = len(bus.events)
        world.now += PERIOD
        pump.sync({REPO: {"apollo": 1}}, timedelta(days=9))
        found = [each.content for each in bus.events[before:] if isinstance(each, Snapshot)]
        return [f"{each.key[-1]} {each.status}" for each in found if isinstance(each, WorkItem)]

    assert sorted(told()) == [f"{n} Todo" for n in range(1, 6)]
    assert [told(), told()] == [[], []]
    world.host.boards.rename_option(world.board, "Todo", "Planned")
    rounds = [told() for _ in range(6)]
    assert sorted(each for found in rounds for each in found) == [f"{n} Planned" for n in range(1, 6)]
    assert max(map(len, rounds)) == min(at_once, 5)


def test_what_left_the_board_is_seen_too(connect: Connect, world: World) -> None:
    places, _ = plan_some(world)
    connector = connect()
    everything(connector)
    world.host.boards.remove(world.board, places[0], world.now)
    world.now += PERIOD
    found = everything(connector, world.now - MINUTE)
    assert (work(found, 1, world).due_date, work(found, 1, world).untracked) == (None, ())
    assert world.ref(1) not in everything(connector, world.now - MINUTE)


def test_while_nobody_was_there_a_sweep_sees_what_left(connect: Connect, world: World) -> None:
    places, _ = plan_some(world)
    pump, bus = Pump(connect(), MemoryLedger(), MemoryBus(), lambda: world.now, "reader"), MemoryBus()
    pump.bus = bus
    pump.sync({REPO: {"apollo": 1}})
    world.host.boards.remove(world.board, places[0], world.now)
    world.now += timedelta(days=1)
    pump.connector = connect()
    before = len(bus.events)
    pump.sync({REPO: {"apollo": 1}})
    found = [each.content for each in bus.events[before:] if isinstance(each, Snapshot)]
    assert [(each.key, each.due_date) for each in found if isinstance(each, WorkItem)] == [("octo/apollo#1", None)]


def test_archived_items_keep_their_fields(connect: Connect, world: World) -> None:
    plan_some(world)
    world.board.items[0].archived = True
    assert work(everything(connect()), 1, world).estimate == 3000


def test_a_card_that_cannot_be_read_costs_only_its_issue(connect: Connect, world: World) -> None:
    places, _ = plan_some(world)
    world.put(places[0], day(3), estimate="three")
    reads = everything(connect())
    assert (reads[world.ref(1)].problem or "").startswith("card.estimate.number: ")
    assert work(reads, 2, world).status == "In Progress"


def test_of_several_boards_the_first_counts(connect: Connect, world: World) -> None:
    places, _ = plan_some(world)
    second = world.host.boards.add("octo", day(0))
    for place in (places[0], places[3]):
        world.host.boards.put(second, place, day(3), estimate=13)
    reads = everything(connect(boards=[NAME, "octo/2"]))
    assert [work(reads, number, world).estimate for number in (1, 4)] == [3000, 13000]
    reads = everything(connect(boards=["octo/2", NAME]))
    assert [work(reads, number, world).estimate for number in (1, 4)] == [13000, 13000]


def test_a_card_that_changes_while_its_page_is_handed_on_is_read_again(connect: Connect, world: World) -> None:
    places, _ = plan_some(world)
    connector = connect()
    everything(connector)
    boards = world.host.boards
    boards.rename_option(world.board, "Todo", "Planned")
    world.now += PERIOD
    told = list[str]()
    for page in connector.changed(REPO, world.now - MINUTE):
        told += [read.content.status for read in page if isinstance(read.content, WorkItem)]
        if told and world.board.options[0] == "Planned":
            boards.rename_option(world.board, "Planned", "Ready")
            boards.remove(world.board, places[2], world.now)
            world.now += PERIOD
            list(connector.fetch([world.ref(4)]))
    assert told == ["Planned"]
    found = everything(connector, world.now - MINUTE)
    assert (work(found, 1, world).status, work(found, 3, world).estimate) == ("Ready", None)
    assert world.ref(1) not in everything(connector, world.now - MINUTE)


# --- many items


@pytest.mark.parametrize("tied", [False, True])
def test_cards_that_changed_after_all_issues_are_handed_on_some_at_a_time(
    connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    monkeypatch.setattr(github, "AT_ONCE", 2)
    for number, place in enumerate(world.issues(7)):
        world.put(place, day(20 if tied else 20 + number), estimate=number)
    world.host.shipped(REPO).deploy(day(22.5), "qa")
    connector = connect()
    pages = [[read for read in page if read.time] for page in connector.changed(REPO, None)]
    assert max(map(len, pages)) == 2
    times = [read.time for page in pages for read in page if read.time]
    assert (len(times), times) == (8, sorted(times))


@pytest.mark.parametrize("tied", [False, True])
def test_after_a_start_they_are_read_some_at_a_time_too(
    connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    """Or a quota that ends with the first half of them would be spent for nothing, hour after hour."""
    monkeypatch.setattr(github, "AT_ONCE", 2)
    for number, place in enumerate(world.issues(5)):
        world.put(place, day(20 if tied else 20 + number), estimate=number)
    connector, before = connect(), len(world.host.requests)
    listing = connector.changed(REPO, day(10))
    assert [read.ref for read in next(filter(None, listing))] == [world.ref(1), world.ref(2)]
    assert "/issues/2/events" in asked(world, before)
    assert "/issues/3/events" not in asked(world, before)
    next(listing)
    listing.close()
    assert set(everything(connector, day(10))) == {world.ref(3), world.ref(4), world.ref(5)}, "those are taken"


def test_a_board_of_several_pages_is_read_whole(connect: Connect, world: World) -> None:
    places = world.issues(120)
    for number, place in enumerate(places):
        world.put(place, day(20), estimate=number)
    reads = everything(connect())
    assert [work(reads, number + 1, world).estimate for number in range(120)] == [1000 * n for n in range(120)]


def test_an_item_that_slips_from_page_to_page_while_they_are_read_is_not_lost(
    connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in world.issues(60):
        world.put(place, day(20), estimate=1)
    connector = connect()
    assert work(everything(connector), 55, world).estimate == 1000
    world.now += PERIOD
    answer, asked = world.host.boards.answer, iter(range(99))

    def slip(*given: Any) -> Any:
        if next(asked) == 1:  # the item behind the first page is dragged to its front
            world.board.items.insert(0, world.board.items.pop(54))
        return answer(*given)

    monkeypatch.setattr(type(world.host.boards), "answer", lambda _, *given: slip(*given))
    assert world.ref(55) not in everything(connector, world.now - MINUTE)
    assert next(asked) == 4
    assert [work({read.ref: read}, 55, world).estimate for read in connector.fetch([world.ref(55)])] == [1000]


def test_a_board_is_bounded(connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_boards, "MOST_PAGES", 1)
    for place in world.issues(51):
        world.put(place, day(20), estimate=1)
    with pytest.raises(Withheld, match="board octo/1 has more than 50 items; delete those"):
        everything(connect())


# --- what goes wrong


@pytest.mark.parametrize("refused", ["NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"])
def test_a_right_that_is_lost_leaves_what_was_known_and_is_said(connect: Connect, world: World, refused: Any) -> None:
    places, _ = plan_some(world)
    connector = connect()
    everything(connector)
    world.host.boards.refused = refused
    world.now += PERIOD
    world.host.rename(REPO, 1, world.now, "Login")
    said = "octo/1 cannot be read, so that what was known of it at 2026-02-04 09:00 UTC stands: "
    seen = everything(connector, world.now - MINUTE)
    (line,) = connector.complaints()
    assert line.startswith(said)
    found = work(seen, 1, world)
    assert (found.title, found.due_date, found.estimate) == ("Login", date(2026, 3, 31), 3000)
    assert len([ref for ref in seen if ref.kind == "sprint"]) == 1
    world.host.boards.refused = ""
    world.put(places[0], world.now, estimate=5)
    world.now += PERIOD
    assert work(everything(connector, world.now - 2 * PERIOD), 1, world).estimate == 5000
    assert list(connector.complaints()) == []


def test_while_a_board_cannot_be_read_its_source_is_swept_and_that_is_said(connect: Connect, world: World) -> None:
    plan_some(world)
    pump = Pump(connect(), MemoryLedger(), bus := MemoryBus(), lambda: world.now, "reader")
    pump.sync({REPO: {"apollo": 1}})
    world.host.boards.refused = "FORBIDDEN"
    world.now += PERIOD
    world.host.delete(REPO, 4, world.now)
    before = len(bus.events)
    with pytest.raises(Withheld, match=r"octo/1 cannot be read, so that what was known of it at .* stands: "):
        pump.sync({REPO: {"apollo": 1}})
    assert [(type(event), event.thing.id) for event in bus.events[before:] if event.thing.kind == "work_item"] == [
        (Tombstone, f"{world.id}/4")
    ]


@pytest.mark.parametrize("new", ["Deadline", None])
def test_a_field_that_is_renamed_or_deleted_blanks_nothing_and_is_said(
    connect: Connect, world: World, new: str | None
) -> None:
    places, _ = plan_some(world)
    connector = connect()
    everything(connector)
    world.host.boards.rename_field(world.board, "Target date", new)
    world.put(places[1], world.now, estimate=5)
    world.now += PERIOD
    assert world.ref(1) not in everything(connector, world.now - MINUTE)
    (line,) = connector.complaints()
    assert "stands: it has no field 'Target date', but " in line
    assert "write the right one, or null, under board_fields.due_date" in line
    (read,) = connector.fetch([world.ref(1)])
    assert work({read.ref: read}, 1, world).due_date == date(2026, 3, 31)
    for named, due_date in ((new, date(2026, 3, 31) if new else None), (None, None)):
        found = everything(connect(board_fields={"due_date": named}))
        assert (work(found, 1, world).due_date, work(found, 2, world).estimate) == (due_date, 5000)
    if new:
        world.host.boards.rename_field(world.board, new, "Target date")
        world.now += PERIOD
        assert work(everything(connector, world.now - 2 * PERIOD), 2, world).estimate == 5000
        assert list(connector.complaints()) == []


def test_a_field_that_was_never_there_is_no_loss(connect: Connect, world: World) -> None:
    places, _ = plan_some(world)
    connector = connect(board_fields={"due_date": "Deadline"})
    everything(connector)
    world.put(places[0], world.now, estimate=5)
    world.now += PERIOD
    assert work(everything(connector, world.now - 2 * PERIOD), 1, world).estimate == 5000
    assert list(connector.complaints()) == []


def test_a_board_that_is_unknown_is_not_asked_for_again_for_each_thing(connect: Connect, world: World) -> None:
    world.issues(4)
    connector = connect(boards=["octo/9"])

    def ask() -> int:
        before = len(world.host.requests)
        for number in range(1, 5):
            with pytest.raises(Withheld, match="correct the name under boards"):
                list(connector.fetch([world.ref(number)]))
        return asked(world, before).count("/graphql")

    assert [ask(), ask()] == [1, 0]
    assert list(connector.complaints()) == []
    world.now += PERIOD
    assert ask() == 1


@pytest.mark.parametrize("refused", ["NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"])
def test_where_nothing_was_known_before_nothing_loses_its_dates(connect: Connect, world: World, refused: Any) -> None:
    plan_some(world)
    world.host.boards.refused = refused
    said = "let the token read Projects"
    for act in (
        everything,
        lambda connector: list(connector.sweep(REPO)),
        lambda connector: list(connector.fetch([world.ref(1)])),
    ):
        with pytest.raises(Withheld, match=said):
            act(connect())
    (line,) = connect().check([REPO])
    assert line.startswith("board octo/1: there is no such project, or the token may not see it;")
    assert said in line


@pytest.mark.parametrize("trouble", ["RATE_LIMITED", "SOMETHING"])
def test_trouble_at_first_is_worth_another_try(connect: Connect, world: World, trouble: Any) -> None:
    plan_some(world)
    world.host.boards.refused = trouble
    with pytest.raises(Retryable, match=f"GitHub did not tell of board octo/1: {trouble}") as caught:
        everything(connect())
    assert caught.value.after is None


def test_trouble_later_is_said_once_it_lasts(connect: Connect, world: World) -> None:
    plan_some(world)
    connector = connect()
    everything(connector)
    world.host.boards.refused = "SOMETHING"
    world.now += PERIOD
    everything(connector, world.now)
    assert list(connector.complaints()) == []
    world.now += STALE
    everything(connector, world.now)
    (line,) = connector.complaints()
    assert line.endswith("GitHub did not tell of board octo/1: SOMETHING")


def test_github_may_want_to_be_left_alone(connect: Connect, world: World) -> None:
    plan_some(world)
    connector = connect()
    everything(connector)
    world.now += PERIOD
    world.host.fail("too_many", after=2)  # the repository and its milestones are asked for before
    with pytest.raises(Retryable) as caught:
        everything(connector, world.now)
    assert caught.value.after == 7


def test_wrong_credentials_are_fatal(connect: Connect, world: World) -> None:
    plan_some(world)
    world.host.token = "another"
    with pytest.raises(Fatal):
        everything(connect())


def test_an_older_host_keeps_no_history(connect: Connect, world: World) -> None:
    plan_some(world)
    world.host.boards.known = False
    reads = everything(connect())
    found = work(reads, 2, world)
    assert (found.status, found.untracked[:2]) == ("In Progress", ("status", "status_category"))


def test_a_host_that_forgets_events_costs_the_history_of_a_status_only(connect: Connect, world: World) -> None:
    world.host.boards.telling = False
    places, _ = plan_some(world)
    world.host.assign(REPO, 2, day(3), ANA)
    world.host.close(REPO, 2, day(4))
    world.put(places[1], day(4), status="Done")
    found = work(everything(connect()), 2, world)
    assert (found.status, found.status_category, found.untracked) == (
        "closed", "done", ("due_date", "estimate", "sprint"),
    )  # fmt: skip
    assert [line(each) for each in found.history if each.field == "status_category"] == [
        "3 status_category: todo > in_progress", "4 status_category: in_progress > done",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        (
            {"board_fields": {"due_date": "Deadline"}},
            [
                (
                    "board octo/1: it has no field 'Deadline', but Estimate, Iteration, Status, Target date, Title; "
                    "write the right one, or null, under board_fields.due_date"
                )
            ],
        ),
        (
            {"board_fields": {"estimate": "Target date"}},
            ["board octo/1: its field 'Target date' is no number; write another one, or null, under board_fields.estimate"],
        ),
        ({"board_fields": {"status": None, "sprint": None, "due_date": None, "estimate": None}}, []),
        (
            {"boards": ["octo/2"]},
            [
                (
                    "board octo/2: there is no such project, or the token may not see it; correct the name under boards, "
                    "or let the token read Projects (of the organisation; read:project of a classic one)"
                )
            ],
        ),
    ],
)  # fmt: skip
def test_doctor_says_what_does_not_fit(
    connect: Connect, world: World, settings: Mapping[str, Any], expected: list[str]
) -> None:
    assert list(connect(**settings).check([REPO])) == expected


def test_doctor_says_which_status_nobody_knows(connect: Connect, world: World) -> None:
    world.board.options += ["Cooking", "Eating"]
    (said,) = connect().check([REPO])
    assert "whether 'Cooking', 'Eating' is todo, in_progress, done or dropped; write it under board_statuses" in said
    ours = {"cooking": "in_progress", "Eating": "done"}
    assert list(connect(board_statuses=ours).check([REPO])) == []
