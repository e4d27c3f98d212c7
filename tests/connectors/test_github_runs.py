"""GitHub: workflow runs: translation by tables, reading over HTTP from the stand-in, the window, and what may not be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import github_runs
from connectors.base import Mark, Read, Ref, Retryable, Withheld
from connectors.github import GitHubConnector
from connectors.github_runs import EARLIEST, is_ours, kept, read_run, translate_run
from connectors.github_things import Home
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import Snapshot, Tombstone, WorkflowRun
from pmsync.reconcile import reconcile
from pmsync.standins.github_runs import Runs
from tests.connectors import github_stage
from tests.connectors.github_stage import REPO, START, asked, day, everything, staged, sync, text

REAL = Path(__file__).parents[2].parent / "shared/data/octokit-webhooks/payload-examples/workflow_run"
HOME = Home(7, REPO, REPO, {}, "main")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


# --- translation, by tables


def run(**values: Any) -> dict[str, Any]:
    return {
        "id": 70, "name": "CI", "path": ".github/workflows/ci.yml", "workflow_id": 9, "run_number": 12, "run_attempt": 1,
        "display_title": "Mend login", "html_url": "https://github.com/octo/apollo/actions/runs/70", "head_branch": "main",
        "head_sha": "5ca1ab1e", "event": "push", "status": "completed", "conclusion": "success", "created_at": text(day(0)),
        "updated_at": text(day(1)), "run_started_at": text(day(0)), "head_repository": {"id": 7},
    } | values  # fmt: skip


def attempt(number: int, conclusion: str | None, began: float, ended: float, **values: Any) -> dict[str, Any]:
    times = {"run_started_at": text(day(began)), "updated_at": text(day(ended))}
    return run(run_attempt=number, conclusion=conclusion, **times, **values)


def test_a_run_s_fields() -> None:
    found = translate_run(HOME, run(), [])
    assert found.model_dump(exclude={"attempts"}) == {
        "kind": "workflow_run", "container": REPO, "workflow": "9", "name": "CI", "number": 12, "title": "Mend login",
        "url": "https://github.com/octo/apollo/actions/runs/70", "branch": "main", "event": "push", "sha": "5ca1ab1e",
        "created_at": day(0), "state": "success", "attempts_cut": False,
    }  # fmt: skip
    assert translate_run(HOME, run(name=None), []).name == ".github/workflows/ci.yml"


@pytest.mark.parametrize(
    ("shown", "earlier", "expected"),
    [
        pytest.param({}, [], [(1, day(0), day(1), "success")], id="ended"),
        pytest.param(
            {"status": "queued", "conclusion": None}, [], [(1, day(0), None, "queued")], id="what has not begun"
        ),
        pytest.param({"run_started_at": None}, [], [(1, day(0), day(1), "success")], id="no word of its beginning"),
        pytest.param(
            {"status": None, "conclusion": None}, [], [(1, day(0), None, "unknown")], id="neither status nor conclusion"
        ),
        pytest.param({"conclusion": None}, [], [(1, day(0), day(1), "completed")], id="completed, and no more is said"),
        pytest.param(
            attempt(3, None, 3, 4, status="in_progress"),
            [attempt(2, "cancelled", 2, 2.5), attempt(1, "failure", 0, 1)],
            [(1, day(0), day(1), "failure"), (2, day(2), day(2.5), "cancelled"), (3, day(3), None, "in_progress")],
            id="tried again twice",
        ),
        pytest.param(
            attempt(2, "success", 2, 3),
            [attempt(1, "failure", 0, 2.9)],
            [(1, day(0), day(2), "failure"), (2, day(2), day(3), "success")],
            id="changed after the next one began",
        ),
        pytest.param(
            attempt(2, "success", 2, 1), [], [(2, day(2), day(2), "success")], id="ended before it began; one is lost"
        ),
    ],
)
def test_the_attempts_of_a_run(
    shown: Mapping[str, Any], earlier: Sequence[Any], expected: Sequence[tuple[Any, ...]]
) -> None:
    found = translate_run(HOME, run(**shown), earlier)
    assert [(each.number, each.started_at, each.ended_at, each.state) for each in found.attempts] == expected
    assert (found.state, found.attempts_cut) == (expected[-1][3], expected[0][0] > 1)


def test_many_attempts_keep_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_runs, "MAX_ATTEMPTS", 2)
    found = translate_run(HOME, attempt(3, "success", 3, 4), [attempt(n, "failure", n, n + 0.5) for n in (1, 2)])
    assert ([each.number for each in found.attempts], found.attempts_cut) == ([2, 3], True)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({}, True),
        ({"head_branch": "topic"}, False),
        ({"head_branch": None}, False),
        ({"event": "pull_request"}, False),
        ({"event": "pull_request_target"}, False),
        ({"event": "schedule"}, True),
        ({"head_repository": {"id": 8}}, False),
        ({"head_repository": None}, True),
        ({"created_at": text(day(-1))}, True),
        ({"created_at": text(day(-1) - timedelta(seconds=1))}, False),
        ({"created_at": "then"}, True),
    ],
)
def test_what_is_read_is_of_the_default_branch_and_in_the_window(shown: Mapping[str, Any], expected: bool) -> None:
    assert is_ours(HOME, run(**shown), day(-1)) is expected


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ({"html_url": None}, "run.html_url: "),
        ({"created_at": 5}, "run.created_at: "),
        ({"id": "70"}, "run.id: "),
        ({"workflow_id": "9"}, "run.workflow_id: "),
        ({"conclusion": 1}, "run.conclusion: "),
    ],
)
def test_what_is_not_in_github_s_shape_is_a_problem(broken: Mapping[str, Any], line: str) -> None:
    read = read_run(HOME, run(**broken), [])
    assert read.content is None
    assert (read.problem or "").startswith(line)
    assert "70" in read.raw.decode()


def test_what_is_held_of_a_run_is_what_is_read() -> None:
    whole = run(repository={"id": 7, "x": "y" * 9999}, head_repository={"id": 7, "x": "y" * 9999}, actor={"id": 11})
    assert kept(whole) == run()
    assert [kept(each) for each in (None, [7], {"id": 7})] == [None, [7], {"id": 7}]
    assert read_run(HOME, kept(whole), []) == read_run(HOME, whole, [])


@pytest.mark.parametrize("thing", [None, 7, "x", [], {}, {"id": None}, {"id": [1]}])
def test_no_answer_is_too_strange_to_read(thing: Any) -> None:
    read = read_run(HOME, kept(thing), [thing])
    assert read.problem
    assert read.ref.id == "7/?"
    assert is_ours(HOME, thing, START)
    assert read_run(HOME, run(), [thing]).problem


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
def test_real_runs_are_read() -> None:
    """Those that GitHub shows as examples of its webhooks, which have the shape of its answers."""
    for file in sorted(REAL.glob("*.json")):
        body = json.loads(file.read_bytes())
        home = Home(
            body["repository"]["id"], body["repository"]["full_name"], REPO, {}, body["repository"]["default_branch"]
        )
        whole = body["workflow_run"]
        read = read_run(home, kept(whole), [])
        assert isinstance(read.content, WorkflowRun), read.problem
        assert is_ours(home, kept(whole), EARLIEST)
        assert read.content.state == (whole["conclusion"] or whole["status"])
        assert read.content.url == whole["html_url"]


# --- over HTTP


class World(github_stage.World):
    """Its repository has runs of workflows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.now = day(20)

    @property
    def runs(self) -> Runs:
        return self.host.runs(REPO)

    def ref(self, ident: int) -> Ref:
        return Ref("workflow_run", f"{self.id}/{ident}")

    def ran(self, at: float, conclusion: str = "success", **values: Any) -> int:
        """A run that took ten minutes."""
        return self.runs.ran(day(at), day(at) + 10 * MINUTE, conclusion, **values)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., GitHubConnector]]:
    with staged(tmp_path_factory.mktemp("secrets")) as stage:

        def connect(world: World, **values: Any) -> GitHubConnector:
            # A clock of our own that is wrong: the window is that of GitHub's.
            return stage.connect(world.host.app, lambda: world.now + timedelta(days=900), **values)

        yield connect


Connect = Callable[..., GitHubConnector]


def marks(connector: GitHubConnector) -> list[Mark]:
    return [mark for page in connector.sweep(REPO) for mark in page]


def pump_of(connector: GitHubConnector, world: World) -> Pump:
    return Pump(connector, MemoryLedger(), MemoryBus(), lambda: world.now, "reader")


def told(pump: Pump, ref: Ref) -> WorkflowRun:
    """What was last published of a run."""
    assert isinstance(pump.bus, MemoryBus)
    found = [event.content for event in pump.bus.events if isinstance(event, Snapshot) and event.thing[1:] == ref]
    assert isinstance(found[-1], WorkflowRun)
    return found[-1]


def test_a_full_read(connect: Connect, world: World) -> None:
    failed = world.ran(1, "failure", title="Break it")
    world.runs.try_again(failed, day(2))
    world.runs.finish(failed, day(2.5), "success")
    running = world.runs.start(day(19), "Nightly", event="schedule")
    for other in ({"branch": "topic"}, {"event": "pull_request", "is_forked": True}, {"event": "pull_request"}):
        world.ran(3, **other)
    connector = connect(world)
    found = everything(connector)
    assert set(found) == {world.ref(failed), world.ref(running)}
    read = found[world.ref(failed)]
    assert isinstance(read.content, WorkflowRun)
    assert (read.time, read.content.state, read.content.title) == (day(2.5), "success", "Break it")
    assert [(each.number, each.started_at, each.ended_at, each.state) for each in read.content.attempts] == [
        (1, day(1), day(1) + 10 * MINUTE, "failure"), (2, day(2), day(2.5), "success"),
    ]  # fmt: skip
    assert marks(connector) == [Mark(world.ref(running), day(19)), Mark(world.ref(failed), day(2.5))]
    assert sorted(connector.fetch(sorted(found)), key=str) == sorted(found.values(), key=str)


def test_they_come_among_issues_and_deployments_the_oldest_change_first(connect: Connect, world: World) -> None:
    for at in (2, 4):
        world.host.open_issue(REPO, day(at), f"At {at}")
    world.host.shipped(REPO).deploy(day(3), "qa")
    for at in (1, 3.5, 5):
        world.ran(at)
    reads = [read for page in connect(world, page_size=1).changed(REPO, None) for read in page]
    assert [read.ref.kind[:4] for read in reads] == ["work", "work", "depl", "work", "work", "work"]
    assert [read.ref.kind for read in reads].count("workflow_run") == 3
    times = [read.time for read in reads if read.time]
    assert times == sorted(times)


def test_a_poll_reads_what_changed_and_costs_nothing_where_nothing_did(connect: Connect, world: World) -> None:
    for n in range(40):
        world.ran(n / 10)
    pump = pump_of(connect(world), world)
    assert len(sync(pump, world)) == 40
    assert sync(pump, world) == []
    used, before = world.host._used.total(), len(world.host.requests)
    assert sync(pump, world) == []
    assert asked(world, before).count("/actions/runs") == 1
    assert world.host._used.total() == used
    new = world.runs.start(world.now)
    assert sync(pump, world) == [(Snapshot, world.ref(new))]
    assert told(pump, world.ref(new)).state == "queued"
    world.runs.step(new, world.now, "in_progress")
    assert sync(pump, world) == [(Snapshot, world.ref(new))]
    world.runs.finish(new, world.now, "failure")
    assert sync(pump, world) == [(Snapshot, world.ref(new))]
    assert told(pump, world.ref(new)).state == "failure"
    for _ in range(3):
        assert sync(pump, world) == []


def test_a_poll_sees_that_a_run_is_tried_again(connect: Connect, world: World) -> None:
    old = world.ran(1, "failure")
    for n in range(5):
        world.ran(2 + n)
    pump = pump_of(connect(world), world)
    sync(pump, world)
    world.runs.try_again(old, world.now)
    assert sync(pump, world) == [(Snapshot, world.ref(old))]
    assert [each.state for each in told(pump, world.ref(old)).attempts] == ["failure", "queued"]
    world.runs.finish(old, world.now, "success")
    before = len(world.host.requests)
    assert sync(pump, world) == [(Snapshot, world.ref(old))]
    assert asked(world, before).count(f"/actions/runs/{old}/attempts/1") == 1
    for _ in range(3):
        sync(pump, world)
    before = len(world.host.requests)
    sync(pump, world)
    assert not any("attempts" in path for path in asked(world, before)), "a minute after its change it is settled"


def test_a_sweep_finds_an_old_one_that_is_tried_again(connect: Connect, world: World) -> None:
    old = world.ran(1, "failure")
    for n in range(30):
        world.ran(2 + n / 10)
    pump = pump_of(connect(world), world)
    assert len(sync(pump, world)) == 31
    world.runs.try_again(old, world.now)
    assert sync(pump, world) == [], "it is not among the newest"
    assert sync(pump, world, sweep=True) == [(Snapshot, world.ref(old))]


def test_a_poll_waits_for_what_had_not_ended_when_it_left_the_newest(connect: Connect, world: World) -> None:
    slow = world.runs.start(day(18))
    pump = pump_of(connect(world), world)
    sync(pump, world)
    for n in range(30):
        world.ran(19 + n / 100)
    world.now = day(21)
    assert len(sync(pump, world)) == 30
    assert sync(pump, world) == []
    world.runs.finish(slow, world.now, "timed_out")
    assert sync(pump, world) == [(Snapshot, world.ref(slow))]
    assert told(pump, world.ref(slow)).state == "timed_out"
    sync(pump, world, after=10 * MINUTE)
    before = len(world.host.requests)
    sync(pump, world)
    assert f"/actions/runs/{slow}" not in asked(world, before), "it has ended"


def test_a_poll_reads_on_while_all_of_a_page_is_new(connect: Connect, world: World) -> None:
    world.ran(1)
    pump = pump_of(connect(world), world)
    sync(pump, world)
    for _ in range(50):
        world.runs.start(world.now)
    assert len(sync(pump, world)) == 50
    sync(pump, world)
    used = world.host._used.total()
    assert sync(pump, world) == []
    assert world.host._used.total() == used, "nor do the pages after the first cost anything where nothing changed"


def test_what_is_deleted_becomes_a_tombstone(connect: Connect, world: World) -> None:
    gone, stays = world.ran(1), world.ran(2)
    connector = connect(world)
    pump = pump_of(connector, world)
    sync(pump, world)
    world.runs.delete(gone, world.now)
    assert sync(pump, world) == []
    assert sync(pump, world, sweep=True) == [(Tombstone, world.ref(gone))]
    assert [read.content is None for read in connector.fetch([world.ref(gone), world.ref(stays)])] == [True, False]


def test_what_is_not_of_the_default_branch_is_not_had_by_id_either(connect: Connect, world: World) -> None:
    idents = [world.ran(1, branch="topic"), world.ran(1, event="pull_request", is_forked=True)]
    assert [read.content for read in connect(world).fetch([world.ref(ident) for ident in idents])] == [None, None]


def test_attempts_that_github_keeps_no_more_are_left_out(connect: Connect, world: World) -> None:
    ident = world.ran(1, "failure")
    for n in range(3):
        world.runs.try_again(ident, day(2 + n))
        world.runs.finish(ident, day(2.5 + n), "failure")
    world.runs.kept_attempts = 2
    content = everything(connect(world))[world.ref(ident)].content
    assert isinstance(content, WorkflowRun)
    assert ([each.number for each in content.attempts], content.attempts_cut) == ([3, 4], True)


def test_a_spoilt_one_costs_only_itself(connect: Connect, world: World) -> None:
    spoilt, good = world.ran(1, title=7), world.ran(2)
    pump = pump_of(connect(world), world)
    assert sync(pump, world) == [(Snapshot, world.ref(good))]
    assert isinstance(pump.bus, MemoryBus)
    assert {letter.thing[1:] for letter in pump.bus.letters} == {world.ref(spoilt)}
    assert sync(pump, world, sweep=True) == []


def test_more_than_github_shows_at_once_is_asked_for_by_days(connect: Connect, world: World) -> None:
    idents = {world.ran(n / 100) for n in range(1_250)}
    connector = connect(world)
    assert set(everything(connector)) == {world.ref(ident) for ident in idents}
    assert {mark.ref for mark in marks(connector)} == {world.ref(ident) for ident in idents}


def test_a_list_without_end_is_broken_off(connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_runs, "MOST_FOUND", 1)
    monkeypatch.setattr(github_runs, "MOST_SEARCHES", 2)
    for n in range(3):
        world.ran(n)
        world.ran(n + 0.5)
    monkeypatch.setattr("pmsync.standins.github_runs.MOST_FOUND", 2)
    with pytest.raises(Retryable, match="workflow_run_days"):
        everything(connect(world))


# --- the window


def test_what_is_older_than_the_window_is_not_read(connect: Connect, world: World) -> None:
    old, new = world.ran(9), world.ran(15)
    connector = connect(world, workflow_run_days=10)
    assert {ref for ref, read in everything(connector).items() if read.content} == {world.ref(new)}
    assert [mark.ref for mark in marks(connector)] == [world.ref(new)]
    (read,) = connector.fetch([world.ref(old)])
    assert read == Read(world.ref(old)), "by id neither, so that a webhook and a poll agree"


def test_what_leaves_the_window_is_gone_whatever_finds_out(connect: Connect, world: World) -> None:
    old, new = world.ran(15), world.ran(16)
    pump = pump_of(connect(world, workflow_run_days=5), world)
    assert {ref for _, ref in sync(pump, world)} == {world.ref(old), world.ref(new)}
    assert sync(pump, world) == []
    assert sync(pump, world, after=DAY) == [(Tombstone, world.ref(old))]
    assert sync(pump, world, sweep=True) == []
    assert sync(pump, world, sweep=True, after=DAY) == [(Tombstone, world.ref(new))]


def test_many_may_leave_it_while_pmsync_stands_still(connect: Connect, world: World) -> None:
    """A sweep alone, to which more than a twentieth is missing, would say that something is wrong, and remove nothing."""
    world.host.open_issue(REPO, day(1), "Login fails")
    everyone = {world.ref(world.ran(n / 3)): day(n / 3) for n in range(3, 60)}
    pump = pump_of(connect(world, workflow_run_days=20), world)
    assert len(sync(pump, world)) == len(everyone) + 1
    world.now += 12 * DAY
    # Another process, which remembers nothing.
    again = Pump(connect(world, workflow_run_days=20), pump.ledger, pump.bus, lambda: world.now, "reader")
    edge = (world.now - 20 * DAY).replace(hour=0, minute=0, second=0)
    gone = {ref for ref, at in everyone.items() if at < edge}
    assert len(gone) > 20
    assert {*sync(again, world, sweep=True)} == {(Tombstone, ref) for ref in gone}
    (found,) = reconcile(again.connector, again.ledger, [REPO])
    assert (found.listed, found.is_equal) == (len(everyone) + 1 - len(gone), True)


def test_what_stood_still_for_longer_says_so_and_removes_nothing(connect: Connect, world: World) -> None:
    for n in range(40):
        world.ran(1 + n / 100)
    world.now = day(5)
    pump = pump_of(connect(world, workflow_run_days=5), world)
    sync(pump, world)
    world.now += 60 * DAY
    again = Pump(connect(world, workflow_run_days=5), pump.ledger, pump.bus, lambda: world.now, "reader")
    with pytest.raises(Withheld, match="40 of 40 workflow runs"):
        sync(again, world, sweep=True)
    again.accept_missing = frozenset({REPO})
    assert len(sync(again, world, sweep=True)) == 40


def test_what_has_left_is_asked_for_once_a_day(connect: Connect, world: World) -> None:
    world.ran(15)
    pump = pump_of(connect(world, workflow_run_days=10), world)
    sync(pump, world)

    def ranges() -> int:
        return sum(".." in request.query.get("created", "") for request in world.host.requests)

    assert ranges() == 1
    for _ in range(3):
        sync(pump, world)
    assert ranges() == 1
    sync(pump, world, after=DAY)
    assert ranges() == 2


def test_what_could_not_be_published_as_gone_is_told_again(connect: Connect, world: World) -> None:
    old = world.ran(15)
    connector = connect(world, workflow_run_days=5)
    everything(connector)
    world.now += DAY
    listing = connector.changed(REPO, day(14))
    assert Read(world.ref(old)) in next(listing)
    listing.close()  # type: ignore[attr-defined]
    assert Read(world.ref(old)) in next(connector.changed(REPO, day(14)))


def test_many_small_rounds_end_where_one_fresh_one_does(connect: Connect, world: World) -> None:
    idents = [world.ran(n, ("success", "failure")[n % 2]) for n in range(30)]
    for ident in idents[1::4]:
        world.runs.try_again(ident, day(idents.index(ident) + 0.5))
        world.runs.finish(ident, day(idents.index(ident) + 0.6))
    world.now = day(3)
    small = pump_of(connect(world, workflow_run_days=10), world)
    for hours in range(0, 24 * 22, 7):
        world.now = day(3 + hours / 24)
        sync(small, world, sweep=hours % 5 == 0)
    world.now = day(25)
    sync(small, world, sweep=True)
    fresh = pump_of(connect(world, workflow_run_days=10), world)
    sync(fresh, world, sweep=True)

    def shown(pump: Pump) -> dict[Ref, Any]:
        assert isinstance(pump.bus, MemoryBus)
        last: dict[Ref, Any] = {}
        for event in pump.bus.events:
            if isinstance(event, Snapshot | Tombstone) and event.thing.kind == "workflow_run":
                last[Ref(*event.thing[1:])] = event.content if isinstance(event, Snapshot) else None
        return {ref: content for ref, content in last.items() if content}

    assert shown(small) == shown(fresh)
    assert len(shown(fresh)) == 11


# --- what may not be read


@pytest.mark.parametrize("status", [403, 404, 451])
def test_what_may_not_be_read_costs_nothing_else(connect: Connect, world: World, status: int) -> None:
    world.host.open_issue(REPO, day(1), "Login fails")
    world.host.shipped(REPO).deploy(day(1), "qa")
    world.ran(1)
    world.runs.refused = status
    connector = connect(world)
    assert list(connector.check([REPO])) == [
        f"{REPO}: its workflow runs cannot be read, and all else can; let the token read Actions, or do without them"
    ]
    pump = pump_of(connector, world)
    assert {ref.kind for _, ref in sync(pump, world)} == {"work_item", "deployment"}
    assert isinstance(pump.bus, MemoryBus)
    assert pump.bus.letters == []
    before = len(world.host.requests)
    assert sync(pump, world) == []
    assert "/actions/runs" not in asked(world, before), (
        "a refusal costs quota: it is asked again with the next sweep only"
    )
    world.runs.refused = 0
    assert {ref.kind for _, ref in sync(pump, world, sweep=True)} == {"workflow_run"}
    assert list(connector.check([REPO])) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_right_that_is_taken_away_is_no_deletion(connect: Connect, world: World, status: int) -> None:
    idents = [world.ran(n / 10) for n in range(40)]
    connector = connect(world)
    pump = pump_of(connector, world)
    sync(pump, world)
    world.runs.refused = status
    assert sync(pump, world, sweep=True) == []
    assert connector.unseen(REPO) == {"workflow_run"}
    with pytest.raises(Withheld):
        list(connector.fetch([world.ref(idents[0])]))
    world.runs.refused = 0
    world.runs.delete(idents[0], world.now)
    assert sync(pump, world, sweep=True) == [(Tombstone, world.ref(idents[0]))]
    assert connector.unseen(REPO) == set()


def test_trouble_is_no_refusal(connect: Connect, world: World) -> None:
    world.ran(1)
    for fault in ("too_many", "500", "secondary"):
        connector = connect(world)
        world.host.fail(fault, after=3)  # type: ignore[arg-type]
        with pytest.raises(Retryable):
            list(connector.changed(REPO, None))
        assert world.host.requests[-1].path.endswith("/actions/runs")
        assert connector.unseen(REPO) == set()
