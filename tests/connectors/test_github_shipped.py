"""GitHub: what was shipped: translation by tables, reading over HTTP from the stand-in, and what may not be read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from connectors import github_beside, github_shipped
from connectors.base import Mark, Partial, Ref, Retryable, Withheld
from connectors.github import GitHubConnector
from connectors.github_shipped import kept, read_deployment, read_release, translate_deployment, translate_release
from connectors.github_things import Home
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import Deployment, Release, Snapshot, Tombstone
from pmsync.reconcile import reconcile
from pmsync.standins.github import User
from pmsync.standins.github_shipped import Shipped
from tests.connectors import github_stage
from tests.connectors.github_stage import REPO, asked, day, everything, staged, sync, text

HOME = Home(7, REPO, REPO, {})
ANN = User("ann", 11)


# --- translation, by tables


def deployment(**values: Any) -> dict[str, Any]:
    return {
        "id": 70, "environment": "production", "ref": "v1", "sha": "5ca1ab1e", "created_at": text(day(0)),
        "updated_at": text(day(9)), "creator": {"id": 11}, "production_environment": True,
    } | values  # fmt: skip


def status(ident: int, state: str, **values: Any) -> dict[str, Any]:
    return {"id": ident, "state": state, "created_at": text(day(ident)), "log_url": "", "environment_url": ""} | values


@pytest.mark.parametrize(
    ("statuses", "expected", "state"),
    [
        pytest.param([], [], "pending", id="none yet"),
        pytest.param([status(1, "success")], ["1: pending > success"], "success", id="at once"),
        pytest.param(
            [status(3, "inactive"), status(2, "success"), status(1, "in_progress")],
            ["1: pending > in_progress", "2: in_progress > success", "3: success > inactive"],
            "inactive",
            id="the newest first, as GitHub lists them",
        ),
        pytest.param(
            [status(1, "pending"), status(2, "queued"), status(3, "queued")],
            ["2: pending > queued"],
            "queued",
            id="what changes nothing is no change",
        ),
        pytest.param([status(1, "waiting")], ["1: pending > waiting"], "waiting", id="a state of a later GitHub"),
    ],
)
def test_the_history_of_a_deployment(
    statuses: Sequence[Mapping[str, Any]], expected: Sequence[str], state: str
) -> None:
    found = translate_deployment(HOME, deployment(), statuses)
    assert [f"{each.id}: {each.old} > {each.new}" for each in found.history] == expected
    assert [each.at for each in found.history] == [day(int(each.id)) for each in found.history]
    assert (found.state, found.history_cut) == (state, False)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({}, {"container": REPO, "environment": "production", "ref": "v1", "sha": "5ca1ab1e", "created_at": day(0)}),
        ({}, {"production": True, "creator": "11", "url": ""}),
        ({"production_environment": False}, {"production": False}),
        ({"production_environment": None}, {"production": False}),
        ({"creator": None}, {"creator": None}),
    ],
)
def test_a_deployment_s_fields(shown: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    found = translate_deployment(HOME, deployment(**shown), [])
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ([{}], ""),
        ([{"log_url": "https://ci/1"}, {}], "https://ci/1"),
        ([{"log_url": "https://ci/1"}, {"log_url": "https://ci/2"}], "https://ci/2"),
        ([{"environment_url": "https://app"}], "https://app"),
        ([{"log_url": "https://ci/1", "environment_url": "https://app"}], "https://ci/1"),
        ([{"log_url": None, "environment_url": None}], ""),
    ],
)
def test_where_a_deployment_leads(urls: Sequence[Mapping[str, Any]], expected: str) -> None:
    statuses = [status(n, "success", **each) for n, each in enumerate(urls, 1)]
    assert translate_deployment(HOME, deployment(), statuses).url == expected


def test_a_long_history_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_shipped, "MAX_CHANGES", 2)
    found = translate_deployment(HOME, deployment(), [status(n, "queued" if n % 2 else "success") for n in range(1, 6)])
    assert ([each.id for each in found.history], found.history_cut) == (["4", "5"], True)


def release(**values: Any) -> dict[str, Any]:
    return {
        "id": 80, "tag_name": "v1", "name": "One", "html_url": "https://github.com/octo/apollo/releases/tag/v1",
        "created_at": text(day(0)), "published_at": text(day(1)), "draft": False, "prerelease": False,
    } | values  # fmt: skip


def test_a_release_s_fields() -> None:
    assert translate_release(HOME, release()) == Release(
        key="v1", container=REPO, title="One", url="https://github.com/octo/apollo/releases/tag/v1", created_at=day(0),
        published_at=day(1),
    )  # fmt: skip
    assert [translate_release(HOME, release(name=name)).title for name in (None, "", "Two")] == ["v1", "v1", "Two"]
    draft = translate_release(HOME, release(draft=True, published_at=None, prerelease=True))
    assert (draft.draft, draft.published_at, draft.prerelease) == (True, None, True)


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ({"ref": None}, "deployment.ref: "),
        ({"created_at": 5}, "deployment.created_at: "),
        ({"updated_at": "yesterday"}, "deployment.updated_at: "),
        ({"id": "70"}, "deployment.id: "),
        ({"creator": {"id": "11"}}, "deployment.creator.id: "),
        ({"production_environment": "yes"}, "deployment.production_environment: "),
    ],
)
def test_what_is_not_in_github_s_shape_is_a_problem(broken: Mapping[str, Any], line: str) -> None:
    read = read_deployment(HOME, deployment(**broken), [])
    assert read.content is None
    assert (read.problem or "").startswith(line)
    assert "70" in read.raw.decode()


def test_what_is_held_of_a_deployment_is_what_is_read() -> None:
    whole = deployment(payload={"x": "y" * 9999}, creator={"id": 11, "login": "ann"}, statuses_url="https://x")
    assert kept(whole) == deployment()
    assert [kept(each) for each in (None, [7], {"id": 7, "creator": None})] == [None, [7], {"id": 7, "creator": None}]
    assert read_deployment(HOME, kept(whole), []) == read_deployment(HOME, whole, [])


@pytest.mark.parametrize("thing", [None, 7, "x", [], {}, {"id": None}, {"id": [1]}])
def test_no_answer_is_too_strange_to_read(thing: Any) -> None:
    for read in (read_deployment(HOME, thing, [thing]), read_release(HOME, thing)):
        assert read.problem
        assert read.ref.id == "7/?"
    assert read_deployment(HOME, deployment(), [thing]).problem


# --- over HTTP


class World(github_stage.World):
    """Its repository ships."""

    @property
    def shipped(self) -> Shipped:
        return self.host.shipped(REPO)

    def ref(self, ident: int, kind: str = "deployment") -> Ref:
        return Ref(kind, f"{self.id}/{ident}")

    def deploy(self, at: float, *states: str, environment: str = "staging", **values: Any) -> int:
        """A deployment with a status each tenth of a day."""
        ident = self.shipped.deploy(day(at), environment, **values)
        for n, state in enumerate(states, 1):
            self.shipped.set_status(ident, day(at + n / 10), state)
        return ident


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., GitHubConnector]]:
    with staged(tmp_path_factory.mktemp("secrets")) as stage:

        def connect(world: World, page_size: int = 100) -> GitHubConnector:
            return stage.connect(world.host.app, lambda: world.now, page_size=page_size)

        yield connect


Connect = Callable[..., GitHubConnector]


def pages(connector: GitHubConnector, since: datetime | None = None) -> list[list[str]]:
    """The pages of a listing, each thing by its kind and number."""
    return [[_short(read.ref) for read in page] for page in connector.changed(REPO, since)]


def _short(ref: Ref) -> str:
    return f"{ref.kind[0]}{ref.id.partition('/')[2]}"


def pump_of(connector: GitHubConnector, world: World) -> tuple[Pump, MemoryBus]:
    bus = MemoryBus()
    return Pump(connector, MemoryLedger(), bus, lambda: world.now, "reader"), bus


def state_of(pump: Pump, ref: Ref) -> str:
    assert isinstance(pump.bus, MemoryBus)
    told = [event.content for event in pump.bus.events if isinstance(event, Snapshot) and event.thing[1:] == ref]
    assert isinstance(told[-1], Deployment)
    return told[-1].state


def test_a_full_read(connect: Connect, world: World) -> None:
    first = world.deploy(1, "in_progress", "success", ref="v1", creator=ANN)
    world.deploy(2, "success", ref="v2")
    out = world.shipped.release(day(3), "v2", "Two")
    found = everything(connect(world))
    read = found[world.ref(first)]
    assert read.time == day(2.1), "when the other one took its place"
    assert isinstance(read.content, Deployment)
    assert (read.content.state, read.content.creator) == ("inactive", "11")
    assert [each.new for each in read.content.history] == ["in_progress", "success", "inactive"]
    there = found[world.ref(out, "release")]
    assert there.time is None
    assert isinstance(there.content, Release)
    assert (there.content.key, there.content.title, there.content.published_at) == ("v2", "Two", day(3))


def test_they_come_among_the_issues_the_oldest_change_first(connect: Connect, world: World) -> None:
    for at in (2, 4, 6, 8):
        world.host.open_issue(REPO, day(at), f"At {at}")
    first, second, third, fourth, fifth = (f"d{world.deploy(at)}" for at in (1, 3, 4, 5, 9))
    found = [page for page in pages(connect(world, page_size=2)) if page]
    assert found == [[first, "w1", second, third, "w2"], [fourth], ["w3"], ["w4", fifth]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_any_listing_is_whole_and_in_order(
    connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch, seed: int, page_size: int
) -> None:
    monkeypatch.setattr(github_beside, "AT_ONCE", 2)
    chance = random.Random(seed)
    for at in sorted(chance.uniform(0, 29) for _ in range(20)):
        if chance.random() < 0.5:
            world.host.open_issue(REPO, day(at), "New")
        else:
            world.deploy(
                at, *chance.choices(("in_progress", "success"), k=chance.randrange(3)), environment="production"
            )
    connector = connect(world, page_size=page_size)
    listed = list(connector.changed(REPO, None))
    reads = [read for page in listed for read in page]
    times = [read.time for read in reads if read.time]
    assert times == sorted(times)
    assert len(reads) == 20
    assert max(map(len, listed)) <= page_size + 2
    marks = {mark.ref: mark.time for page in connector.sweep(REPO) for mark in page}
    assert marks == {read.ref: read.time for read in reads}
    assert sorted(connector.fetch(sorted(marks)), key=str) == sorted(reads, key=str)


def test_a_poll_reads_what_changed_and_costs_nothing_where_nothing_did(connect: Connect, world: World) -> None:
    old, new = world.deploy(1, "success"), world.deploy(20, environment="production")
    world.shipped.release(day(2), "v1")
    pump, _ = pump_of(connect(world), world)
    assert len(sync(pump, world)) == 3
    assert sync(pump, world) == []
    used, before = world.host._used.total(), len(world.host.requests)
    assert [sync(pump, world) for _ in range(3)] == [[], [], []]
    assert world.host._used.total() == used
    assert "/deployments" in asked(world, before)
    assert not any("statuses" in path for path in asked(world, before))
    world.shipped.set_status(new, world.now + timedelta(seconds=2), "in_progress")
    world.shipped.set_status(old, world.now + timedelta(seconds=1), "failure")
    before = len(world.host.requests)
    assert sync(pump, world) == [(Snapshot, world.ref(old)), (Snapshot, world.ref(new))]
    assert sum("statuses" in path for path in asked(world, before)) == 2
    for _ in range(3):
        assert sync(pump, world) == []
    before = len(world.host.requests)
    sync(pump, world)
    assert not any("statuses" in path for path in asked(world, before)), "a minute after its change it is settled"


def test_a_new_release_and_a_changed_one_are_seen_by_a_poll(connect: Connect, world: World) -> None:
    out = world.shipped.release(day(2), "v1", draft=True)
    pump, _ = pump_of(connect(world), world)
    sync(pump, world)
    world.shipped.update_release(out, world.now, draft=False)
    another = world.shipped.release(world.now, "v2")
    assert sync(pump, world) == [(Snapshot, world.ref(another, "release")), (Snapshot, world.ref(out, "release"))]


def test_a_sweep_finds_the_old_one_that_became_inactive(connect: Connect, world: World) -> None:
    old = world.deploy(1, "success", environment="qa")
    for n in range(100):
        world.deploy(2 + n / 10, environment="production")
    pump, _ = pump_of(connect(world), world)
    assert len(sync(pump, world)) == 101, "a first reading reads all pages"
    world.shipped.set_status(world.shipped.deploy(world.now, "qa"), world.now, "success")
    assert world.ref(old) not in {ref for _, ref in sync(pump, world)}, "it is not among the newest"
    assert state_of(pump, world.ref(old)) == "success"
    assert sync(pump, world, sweep=True) == [(Snapshot, world.ref(old))]
    assert state_of(pump, world.ref(old)) == "inactive"


def test_what_is_deleted_becomes_a_tombstone(connect: Connect, world: World) -> None:
    gone, stays = world.deploy(1), world.deploy(2)
    out = world.shipped.release(day(2), "v1")
    connector = connect(world)
    pump, _ = pump_of(connector, world)
    sync(pump, world)
    world.shipped.delete_deployment(gone, world.now)
    world.shipped.delete_release(out, world.now)
    assert sync(pump, world) == []
    told = [(Tombstone, world.ref(gone)), (Tombstone, world.ref(out, "release"))]
    assert sync(pump, world, sweep=True) == told
    refs = [world.ref(gone), world.ref(stays), world.ref(out, "release")]
    assert [read.content is None for read in connector.fetch(refs)] == [True, False, True]


def test_many_pages_of_statuses_are_read_to_the_end(connect: Connect, world: World) -> None:
    ident = world.shipped.deploy(day(1), "qa")
    for n in range(130):
        world.shipped.set_status(ident, day(1) + timedelta(minutes=n), "queued" if n % 2 else "in_progress")
    found = everything(connect(world))[world.ref(ident)].content
    assert isinstance(found, Deployment)
    assert len(found.history) == 130


def test_a_spoilt_one_costs_only_itself(connect: Connect, world: World) -> None:
    spoilt, good = world.deploy(1, ref=None), world.deploy(2)  # type: ignore[arg-type]
    bad = world.shipped.release(day(1), None)  # type: ignore[arg-type]
    pump, bus = pump_of(connect(world), world)
    assert sync(pump, world) == [(Snapshot, world.ref(good))]
    assert {letter.thing[1:] for letter in bus.letters} == {world.ref(spoilt), world.ref(bad, "release")}
    assert sync(pump, world, sweep=True) == []


def test_one_that_goes_away_while_we_read_is_left_out(connect: Connect, world: World) -> None:
    gone, stays = world.deploy(1), world.deploy(2)
    listing = connect(world).changed(REPO, None)
    next(listing)
    world.shipped.delete_deployment(gone, day(29))
    assert [read.ref for page in listing for read in page] == [world.ref(stays)]


# --- what may not be read


@pytest.mark.parametrize("status", [403, 404, 451])
@pytest.mark.parametrize(
    ("what", "kind", "right"), [("deployments", "deployment", "Deployments"), ("releases", "release", "Contents")]
)
def test_what_may_not_be_read_costs_nothing_else(
    connect: Connect, world: World, what: str, kind: str, right: str, status: int
) -> None:
    world.host.open_issue(REPO, day(1), "Login fails")
    world.deploy(1)
    world.shipped.release(day(1), "v1")
    world.shipped.refused[what] = status
    connector = connect(world)
    assert list(connector.check([REPO])) == [
        f"{REPO}: its {what} cannot be read, and all else can; let the token read {right}, or do without them"
    ]
    pump, bus = pump_of(connector, world)
    kinds = {"work_item", "deployment", "release"}
    assert {ref.kind for _, ref in sync(pump, world)} == kinds - {kind}
    assert bus.letters == []
    before = len(world.host.requests)
    assert sync(pump, world) == []
    assert f"/{what}" not in asked(world, before), "a refusal costs quota: it is asked again with the next sweep only"
    del world.shipped.refused[what]
    assert {ref.kind for _, ref in sync(pump, world, sweep=True)} == {kind}
    assert list(connector.check([REPO])) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_right_that_is_taken_away_is_no_deletion(connect: Connect, world: World, status: int) -> None:
    idents = [world.deploy(n / 10) for n in range(40)]
    world.host.open_issue(REPO, day(1), "Login fails")
    connector = connect(world)
    pump, bus = pump_of(connector, world)
    sync(pump, world)
    world.shipped.refused["deployments"] = status
    assert sync(pump, world, sweep=True) == []
    assert isinstance(connector, Partial)
    assert connector.unseen(REPO) == {"deployment"}
    (found,) = reconcile(connector, pump.ledger, [REPO])
    assert (found.listed, found.here, found.is_equal) == (1, 1, True)
    with pytest.raises(Withheld):
        list(connector.fetch([world.ref(idents[0])]))
    world.shipped.refused.clear()
    world.shipped.delete_deployment(idents[0], world.now)
    assert sync(pump, world, sweep=True) == [(Tombstone, world.ref(idents[0]))]
    assert connector.unseen(REPO) == set()
    assert not bus.letters


def test_trouble_is_no_refusal(connect: Connect, world: World) -> None:
    world.deploy(1)
    for fault in ("too_many", "500", "secondary"):
        connector = connect(world)
        world.host.fail(fault, after=2)  # type: ignore[arg-type]
        with pytest.raises(Retryable):
            list(connector.changed(REPO, None))
        assert world.host.requests[-1].path.endswith("/deployments")
        assert connector.unseen(REPO) == set()


def test_marks_name_them_with_their_time(connect: Connect, world: World) -> None:
    ident = world.deploy(1, "success")
    out = world.shipped.release(day(2), "v1")
    marks = [mark for page in connect(world).sweep(REPO) for mark in page]
    assert marks == [Mark(world.ref(ident), day(1.1)), Mark(world.ref(out, "release"), None)]


def test_a_poll_looks_at_the_newest_alone(connect: Connect, world: World) -> None:
    for n in range(100):
        world.deploy(n / 10, environment="production")
        world.shipped.release(day(n / 10), f"v{n}")
    assert len(everything(connect(world))) == 200
    before = len(world.host.requests)
    found = everything(connect(world), day(0))
    assert {kind: sum(ref.kind == kind for ref in found) for kind in ("deployment", "release")} == {
        "deployment": 30,
        "release": 30,
    }
    later = [request.query for request in world.host.requests[before:]]
    assert {"per_page": "30"} in later
    assert not any("page" in query for query in later)
