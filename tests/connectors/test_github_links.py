"""GitHub's sub-issues and dependencies: what they become by tables, and how they are read, and noticed, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from connectors import github_bulk, github_things
from connectors.base import Read, Ref
from connectors.github import GitHubConnector
from connectors.github_things import Home, Parts, read_thing
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import KINDS, Link, Project, Snapshot, Synced, Thing, WorkItem
from pmsync.core.project import ProjectState, view
from pmsync.standins.github_links import Place
from tests.connectors import github_stage
from tests.connectors.github_stage import REPO, START, ZEUS, day, everything, staged, text

HOME = Home(7, REPO, REPO, {})
API = "https://api.github.com/repos"


# --- translation, by tables


def issue(blockers: int | None = None, **fields: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {} if blockers is None else {"issue_dependencies_summary": {"total_blocked_by": blockers}}
    return {
        "id": 70, "number": 5, "title": "Login fails", "html_url": "https://github.com/octo/apollo/issues/5",
        "repository_url": f"{API}/{REPO}", "state": "open", "state_reason": None, "created_at": text(day(0)),
        "updated_at": text(day(0)), "assignees": [], "labels": [], "milestone": None, **shown, **fields,
    }  # fmt: skip


def reference(key: str) -> dict[str, Any] | None:
    name, _, number = key.partition("#")
    return {"number": int(number), "repository": {"full_name": name}} if number else None


def events(*told: str) -> list[dict[str, Any]]:
    """`blocked_by_added octo/apollo#7`…: one a day; without a key GitHub names nobody."""
    lines = [(*each.partition(" ")[::2], number) for number, each in enumerate(told, 1)]
    return [
        {"id": 900 + number, "event": name, "created_at": text(day(number)), name.rpartition("_")[0]: reference(key)}
        for name, key, number in lines
    ]


def blockers(*keys: str) -> list[dict[str, Any]]:
    return [{"number": int(key.split("#")[1]), "repository_url": f"{API}/{key.split('#')[0]}"} for key in keys]


def line(link: Link) -> str:
    """`blocked_by octo/apollo#7 1-3`: the days from and until which it stood."""
    days = ["" if at is None else f"{(at - START) / timedelta(days=1):g}" for at in (link.since, link.until)]
    return f"{link.relation} {link.key} {'-'.join(days)}"


def item(parts: Parts, home: Home = HOME) -> WorkItem:
    content = read_thing(home, parts).content
    assert isinstance(content, WorkItem)
    return content


@pytest.mark.parametrize(
    ("told", "count", "listed", "expected"),
    [
        pytest.param([], None, None, [], id="a host that knows no dependencies"),
        pytest.param([], 1, ["octo/apollo#7"], ["blocked_by octo/apollo#7 -"], id="of which no event tells"),
        pytest.param(
            ["blocked_by_added octo/zeus#1", "blocked_by_added octo/apollo#7"],
            2,
            ["octo/zeus#1", "octo/apollo#7"],
            ["blocked_by octo/apollo#7 2-", "blocked_by octo/zeus#1 1-"],
            id="two, one in another repository",
        ),
        pytest.param(
            ["blocked_by_added octo/apollo#7", "blocked_by_removed octo/apollo#7", "blocked_by_added octo/apollo#7"],
            1,
            ["octo/apollo#7"],
            ["blocked_by octo/apollo#7 3-", "blocked_by octo/apollo#7 1-2"],
            id="removed, and made again",
        ),
        pytest.param(
            ["blocked_by_removed octo/apollo#7", "blocked_by_added octo/apollo#8", "blocked_by_removed octo/apollo#8"],
            0,
            None,
            ["blocked_by octo/apollo#8 2-3", "blocked_by octo/apollo#7 -1"],
            id="those that are gone, the last one first",
        ),
        pytest.param(
            ["blocked_by_added octo/apollo#7"], 0, None, [], id="one that is not there, and not told to be removed"
        ),
        pytest.param(
            ["blocked_by_added", "blocked_by_removed"], 0, None, [], id="one that this account may not see"
        ),
        pytest.param(
            ["blocked_by_added octo/apollo#7", "blocking_added octo/apollo#8", "sub_issue_added octo/apollo#9"],
            1,
            ["octo/apollo#7"],
            ["blocked_by octo/apollo#7 1-"],
            id="the other side of links is told there",
        ),
        pytest.param(
            ["blocked_by_added octo/apollo#7", "blocked_by_added octo/apollo#8", "blocked_by_removed octo/apollo#7"],
            1,
            None,
            ["blocked_by octo/apollo#8 2-", "blocked_by octo/apollo#7 1-3"],
            id="no list: the events come to as many as the issue counts",
        ),
        pytest.param(
            ["blocked_by_added octo/apollo#7"], 2, None, [], id="no list, and the events do not come to as many"
        ),
    ],
)  # fmt: skip
def test_what_blocks_an_issue(
    told: Sequence[str], count: int, listed: Sequence[str] | None, expected: list[str]
) -> None:
    parts = Parts(issue(count), events(*told), blockers=None if listed is None else blockers(*listed))
    found = item(parts)
    assert [line(link) for link in found.links] == expected
    assert (found.links_cut, found.blocked, found.history, found.untracked) == (False, False, (), ())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{API}/{REPO}/issues/7", "octo/apollo#7"),
        (f"{API}/Octo/Apollo/issues/7", "octo/apollo#7"),
        (f"https://github.example.com/api/v3/repos/{ZEUS}/issues/12", "octo/zeus#12"),
        (None, None),
    ],
)
def test_the_parent_of_an_issue(url: str | None, expected: str | None) -> None:
    assert item(Parts(issue(parent_issue_url=url))).parent == expected
    assert item(Parts(issue())).parent is None


def test_its_own_repository_goes_by_its_configured_name() -> None:
    parts = Parts(
        issue(1, parent_issue_url=f"{API}/octo/artemis/issues/7"),
        events("blocked_by_added octo/artemis#8"),
        blockers=blockers("octo/artemis#8"),
    )
    found = item(parts, Home(7, "octo/artemis", REPO, {}))
    assert (found.parent, [line(each) for each in found.links]) == (
        "octo/apollo#7",
        ["blocked_by octo/apollo#8 1-", "sub-issue of octo/apollo#7 -"],
    )


def test_the_parents_that_an_issue_had() -> None:
    told = ["parent_issue_added octo/apollo#7", "parent_issue_removed octo/apollo#7", "parent_issue_added octo/zeus#1"]
    found = item(Parts(issue(parent_issue_url=f"{API}/octo/zeus/issues/1"), events(*told)))
    assert [line(each) for each in found.links] == ["sub-issue of octo/zeus#1 3-", "sub-issue of octo/apollo#7 1-2"]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (Parts(issue(parent_issue_url=7)), "issue.parent_issue_url: Input should be a valid string"),
        (Parts(issue(parent_issue_url="https://example.com/7")), "issue.parent_issue_url: String should match"),
        (Parts(issue("two")), "issue.issue_dependencies_summary.total_blocked_by"),
        (Parts(issue(1), blockers=[{"number": 7}]), "blocker.repository_url: Field required"),
        (Parts(issue(), [{"event": "blocked_by_added", "created_at": "x"}]), "event.created_at"),
        (Parts(issue(), [{**events("blocked_by_added")[0], "blocked_by": {}}]), "event.blocked_by.number"),
    ],
)
def test_what_is_not_in_github_s_shape_is_a_problem(parts: Parts, problem: str) -> None:
    assert (read_thing(HOME, parts).problem or "").startswith(problem)


def test_many_links_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_things, "MAX_LINKS", 2)
    found = item(Parts(issue(3), blockers=blockers(*(f"octo/apollo#{n}" for n in (9, 8, 7)))))
    assert ([each.key for each in found.links], found.links_cut) == (["octo/apollo#7", "octo/apollo#8"], True)


# --- over HTTP


class World(github_stage.World):
    """There are two repositories."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.host.add_repository(ZEUS)

    def issues(self, many: int, repo: str = REPO) -> list[Place]:
        """So many, an hour apart."""
        return [(repo, self.host.open_issue(repo, day(n / 24), f"Number {n}")) for n in range(many)]

    def asked(self, what: str) -> int:
        return sum(request.path.endswith(what) for request in self.host.requests)


@pytest.fixture
def world() -> World:
    return World()


Connect = Callable[..., GitHubConnector]


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    with staged(tmp_path_factory.mktemp("secrets")) as stage:
        yield lambda app: stage.connect(app, lambda: day(30))


def by_itself(connector: GitHubConnector) -> dict[Ref, Read]:
    refs = [mark.ref for page in connector.sweep(REPO) for mark in page]
    return {read.ref: read for read in connector.fetch(refs)}


def told(reads: Mapping[Ref, Read]) -> dict[int, tuple[str | None, list[str]]]:
    """The parent and the links of all issues that have any, by number."""
    items = {ref: read.content for ref, read in reads.items() if isinstance(read.content, WorkItem)}
    return {
        int(ref.id.partition("/")[2]): (each.parent, [line(link) for link in each.links])
        for ref, each in items.items()
        if each.parent or each.links
    }


def link(world: World, places: Sequence[Place]) -> dict[int, tuple[str | None, list[str]]]:
    """Links among the first issues of both repositories; what is then to be told of them."""
    links, other = world.host.links, world.issues(2, ZEUS)[1]
    links.add(places[1], day(20), "parent_issue", places[0])
    links.add(places[1], day(21), "blocked_by", places[2])
    links.add(places[1], day(22), "blocked_by", other)
    links.remove(places[1], day(23), "blocked_by", places[2])
    links.add(places[3], day(24), "parent_issue", other)
    return {
        2: (
            "octo/apollo#1",
            ["blocked_by octo/zeus#2 22-", "sub-issue of octo/apollo#1 20-", "blocked_by octo/apollo#3 21-23"],
        ),
        4: ("octo/zeus#2", ["sub-issue of octo/zeus#2 24-"]),
    }


@pytest.mark.parametrize("many", [5, github_bulk.MANY + 20])
def test_listed_and_by_itself_in_bulk_or_not_it_is_the_same(connect: Connect, world: World, many: int) -> None:
    expected = link(world, world.issues(many))
    connector = connect(world.host.app)
    found = everything(connector)
    assert world.asked(f"/{world.id}/issues/events") == (many > github_bulk.MANY)
    assert told(found) == expected
    assert found == by_itself(connector)


def test_only_where_there_is_something_to_ask_it_is_asked(connect: Connect, world: World) -> None:
    link(world, world.issues(6))
    everything(connect(world.host.app))
    assert world.asked("/dependencies/blocked_by") == 1


def test_an_older_host_tells_of_no_links(connect: Connect, world: World) -> None:
    world.host.links.known = False
    link(world, world.issues(5))
    connector = connect(world.host.app)
    found = everything(connector)
    assert (told(found), len(found)) == ({}, 5)
    assert found == by_itself(connector)
    assert world.asked("/dependencies/blocked_by") == 0


def test_a_list_that_is_not_to_be_had_costs_nothing_else(connect: Connect, world: World) -> None:
    """Then the events are believed, and above all the issue is not gone."""
    expected = link(world, world.issues(5))

    async def without(scope: Scope, receive: Receive, send: Send) -> None:
        known = world.host.links.known
        world.host.links.known = known and not scope["path"].endswith("/blocked_by")
        await world.host.app(scope, receive, send)
        world.host.links.known = known

    connector = connect(without)
    found = everything(connector)
    assert told(found) == expected
    assert found == by_itself(connector)
    assert {request.status for request in world.host.requests if request.path.endswith("/blocked_by")} == {404}


# --- what changes


def pump_of(connector: GitHubConnector, world: World) -> tuple[Pump, MemoryBus]:
    bus = MemoryBus()
    return Pump(connector, MemoryLedger(), bus, lambda: world.now, "reader"), bus


def sync(pump: Pump, world: World, minutes: float = 1) -> int:
    """Some minutes pass and a round is made; the requests that it cost."""
    world.now += timedelta(minutes=minutes)
    before = len(world.host.requests)
    pump.sync({REPO: {"apollo": 1}}, timedelta(days=9))
    return len(world.host.requests) - before


def news(bus: MemoryBus, since: int) -> list[tuple[str, list[str]]]:
    snapshots = [event.content for event in bus.events[since:] if isinstance(event, Snapshot)]
    return [(each.key, [line(link) for link in each.links]) for each in snapshots if isinstance(each, WorkItem)]


@pytest.mark.parametrize("away", [1, 60 * 24 * 3])
def test_a_poll_sees_a_link_though_it_moves_no_time(connect: Connect, world: World, away: int) -> None:
    places = world.issues(40)
    pump, bus = pump_of(connect(world.host.app), world)
    for _ in range(3):
        sync(pump, world)
    at, known = world.now, len(bus.events)
    world.host.links.add(places[9], at + timedelta(seconds=10), "blocked_by", places[8])
    world.host.links.add(places[9], at + timedelta(seconds=20), "parent_issue", places[7])
    for n in range(10, 40):  # so that the links are on a later page of events, and older than what is listed
        world.host.label(*places[n], at + timedelta(seconds=30 + n / 10), "late")
    sync(pump, world, away)
    days = [(when - START) / timedelta(days=1) for when in (at + timedelta(seconds=10), at + timedelta(seconds=20))]
    expected = [f"blocked_by octo/apollo#9 {days[0]:g}-", f"sub-issue of octo/apollo#8 {days[1]:g}-"]
    assert [links for key, links in news(bus, known) if key == "octo/apollo#10"] == [expected]
    known = len(bus.events)
    world.host.links.remove(places[9], world.now + timedelta(seconds=30), "blocked_by", places[8])
    sync(pump, world)
    assert [key for key, _ in news(bus, known)] == ["octo/apollo#10"]
    for _ in range(3):
        sync(pump, world)
    used = world.host._used.total()
    sync(pump, world)
    assert world.host._used.total() == used, "what was read whole is not read again"
    assert len(bus.events) == known + 1


def test_no_link_is_lost_by_who_is_killed_between_two_pages(connect: Connect, world: World) -> None:
    """Each page tells of the links up to its newest change, and of nothing that changed after that: so the cursor passes
    nothing that was not handed on."""
    first, second, third, fourth = places = world.issues(4)
    for n in range(150):
        world.host.open_issue(REPO, day(10 + n / 24), f"Later {n}")
    world.host.links.add(first, day(10.5), "blocked_by", second)
    world.host.links.add(third, day(10.6), "blocked_by", second)
    world.host.links.add(second, day(16), "parent_issue", first)
    world.host.links.add(fourth, day(28), "parent_issue", first)
    for place in (third, fourth):
        world.host.comment(*place, day(29))
    _, *pages = connect(world.host.app).changed(REPO, day(9))
    given = [[int(read.ref.id.partition("/")[2]) for read in page] for page in pages]
    assert [[number for number in page if number <= len(places)] for page in given] == [[1], [2, 3, 4]]
    assert world.asked("/issues/4") == 0, "what is listed is read once"


def test_from_the_beginning_no_event_is_looked_at(connect: Connect, world: World) -> None:
    link(world, world.issues(5))
    everything(connect(world.host.app))
    assert world.asked(f"/{world.id}/issues/events") == 0


# --- what it comes to


def test_a_view_judges_the_blockers_of_both_repositories(connect: Connect, world: World) -> None:
    places, zeus = world.issues(4), world.issues(2, ZEUS)
    for blocker in (places[1], places[2], zeus[0]):
        world.host.links.add(places[0], day(10), "blocked_by", blocker)
    world.host.links.remove(places[0], day(12), "blocked_by", places[2])
    world.host.links.add(places[3], day(10), "blocked_by", zeus[1])
    world.host.close(*places[1], day(14))
    connector = connect(world.host.app)

    def judged(*containers: str) -> Callable[[float], dict[int, tuple[tuple[str, ...], ...]]]:
        reads = [read for name in containers for page in connector.changed(name, None) for read in page]
        items = [(Thing("github", *read.ref), read.content) for read in reads if isinstance(read.content, WorkItem)]
        mapping = {"github": dict.fromkeys(containers, 1)}
        project = Project.model_validate({"key": "apollo", "name": "Apollo", "time_zone": "UTC", "mapping": mapping})
        synced = [
            (
                Thing("github", "synced", name),
                Synced(container=name, mapped={"apollo": 1}, listed=0, published=0, dead=0),
            )
            for name in containers
        ]
        state = ProjectState(project, {**{kind: [] for kind in KINDS}, "work_item": items, "synced": synced})
        return lambda at: {
            int(i.key.partition("#")[2]): (i.blockers, i.unknown_blockers)
            for i in view(state, day(at)).items
            if i.blocked_by and not i.blocked
        }

    whole, alone = judged(REPO, ZEUS), judged(REPO)
    two, three, one, other = "octo/apollo#2", "octo/apollo#3", "octo/zeus#1", "octo/zeus#2"
    assert whole(9) == {}
    assert whole(11) == {1: ((two, three, one), ()), 4: ((other,), ())}
    assert whole(13) == {1: ((two, one), ()), 4: ((other,), ())}
    assert whole(15) == {1: ((one,), ()), 4: ((other,), ())}
    assert alone(15) == {1: ((), (one,)), 4: ((), (other,))}
