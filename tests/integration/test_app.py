"""The parts put together: what one source does must not stop the others, nor hold up the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from connectors import pump
from connectors.base import Fatal, Mark, Read, Reader, Ref, Retryable
from pmsync import app as application
from pmsync.app import LONGEST_SECONDS, App
from pmsync.bus.port import EVENTS, BusUnavailable, Record
from pmsync.config import Config
from pmsync.core.cloudevents import Context, unwrap
from pmsync.core.events import CONFIGURATION, Milestone
from pmsync.store.engine import StoreUnavailable

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
SECONDS = 20.0


class Source:
    """A source of milestones; `pages` are how many it has, `error` what it ends with."""

    def __init__(self, name: str, pages: int = 1, error: Exception | None = None) -> None:
        self.name, self.pages, self.error = name, pages, error
        self.read = threading.Event()
        self.listed = 0

    def now(self) -> datetime:
        return NOW

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        for n in range(1, self.pages + 1):
            self.listed = n
            self.read.set()
            title = f"Release {n}"
            ref = Ref("milestone", str(n))
            yield [Read(ref, NOW, Milestone(key=ref.id, container=container, title=title))]
        if self.error:
            raise self.error

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(Ref("milestone", str(n)), NOW) for n in range(1, self.pages + 1)]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        return (Read(ref) for ref in refs)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An app whose sources are these readers, each mapped to a project of its own."""

    def make(*sources: Source, **settings: Any) -> App:
        known: dict[str, Reader] = {source.name: source for source in sources}
        values = {
            "bus": {"path": str(tmp_path / "log.db")},
            "store": {"url": f"sqlite:///{tmp_path / 'pmsync.db'}"},
            "notify": {"console": False},
            "sources": [{"name": name, "kind": "calendar", "ics": "unused.ics", **settings} for name in known],
            "projects": [{"key": f"p-{name}", "from": {name: ["team"]}} for name in known],
        }
        connect = App._connect
        monkeypatch.setattr(App, "_connect", lambda self, name: known.get(name) or connect(self, name))
        return App(Config.model_validate(values), lambda: NOW)

    return make


def test_a_connector_that_breaks_its_promise_stops_nobody_else(install: Any) -> None:
    """It may raise two errors; whatever else comes of it is said, with its trace in the log, and the rest goes on."""
    with closing(install(Source("odd", error=OverflowError("date value out of range")), Source("sound"))) as app:
        with capture_logs() as logged:
            outcome = app.once()
        assert outcome.problems == {"odd": "odd: its connector failed (OverflowError); the log says where"}
        assert [line["event"] for line in logged if line["log_level"] != "debug"] == ["source.broken"]
        (row,) = [row for key, row in app.state.rows("p-sound").items() if (key.kind, key.at) == ("milestone", 0)]
        assert "Release 1" in row.body


def test_the_end_does_not_wait_for_a_long_read(install: Any) -> None:
    source = Source("long", pages=10**9)
    with closing(install(source)) as app:
        with app.running(app.workers()):
            assert source.read.wait(SECONDS)
        assert not [thread for thread in threading.enumerate() if thread.name == "long"]
    assert source.listed < 10**9


def test_a_capped_source_is_rested_and_the_end_does_not_wait_for_that(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, rests = Source("slow", pages=10**9), threading.Event()
    monkeypatch.setattr(pump, "REST_PIECE", 0.01)
    with closing(install(source, things_per_minute=1)) as app:
        app._step = lambda name: rests.set() if name == "resting" else None
        with app.running(app.workers()):
            assert rests.wait(SECONDS)
        assert not [thread for thread in threading.enumerate() if thread.name == "slow"]
        began = time.monotonic()
        app._pumps["slow"].wait(SECONDS)
        assert time.monotonic() - began < SECONDS / 2
        assert app._pumps[CONFIGURATION].things_per_minute is None
    assert source.listed == 1


def test_nothing_is_published_into_another_log(install: Any, tmp_path: Path) -> None:
    """A mistaken bus.path: it would be entered in the ledger, and missing for ever once the path is mended."""
    source = Source("team")
    with closing(install(source)) as app:
        app.once()
        right = app.config
    wrong = right.model_copy(update={"bus": right.bus.model_copy(update={"path": tmp_path / "other.db"})})
    for longer in (False, True):
        with closing(App(wrong, lambda: NOW)) as app:
            if longer:
                app.bus.publish(EVENTS, [Record(f"p-{n}", b"") for n in range(200)])
            for act in (app.apply, app.once, lambda: app.publisher, app.check_log):
                with pytest.raises(BusUnavailable, match="is not the one that the store is built from"):
                    act()
    source.pages = 2
    with closing(App(right, lambda: NOW)) as app:
        assert app.once().published == 2  # the new thing, and the container's count
        assert {key.id for key in app.state.rows("p-team") if key.kind == "milestone"} == {"1", "2"}


def test_a_store_that_was_lost_is_built_from_its_log(install: Any, tmp_path: Path) -> None:
    with closing(install(Source("team"))) as app:
        app.once()
        config = app.config
    for path in tmp_path.glob("pmsync.db*"):
        path.unlink()
    with closing(App(config, lambda: NOW)) as app:
        app.check_log()
        app.aggregator.take(range(8))
        assert app.aggregator.catch_up()
        assert app.state.rows("p-team")


@pytest.mark.parametrize("asked", [1e10, 7200.0])
def test_no_source_is_left_alone_for_years(asked: float) -> None:
    assert application._pause(Retryable("busy", asked), 1) == LONGEST_SECONDS


class Hours:
    """A clock that moves by waiting, and the signal to stop once it is late enough."""

    def __init__(self, until: float) -> None:
        self.now, self._until = 0.0, until
        self.thought = 0.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.thought

    def think(self, seconds: float) -> None:
        self.now += seconds
        self.thought += seconds

    def is_set(self) -> bool:
        return self.now >= self._until

    def wait(self, seconds: float) -> bool:
        assert seconds > 0, "it would go round without a rest"
        self.now += seconds
        return self.is_set()


def test_who_has_nothing_looks_soon_and_then_less_often(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hours, looks = Hours(60), list[float]()
    with closing(install()) as app:
        monkeypatch.setattr(application, "time", hours)
        monkeypatch.setattr(app.bus, "assigned", lambda: looks.append(hours.now) or frozenset())
        app._aggregate(hours)
    assert len([at for at in looks if at < 1]) >= 5, "one that starts again is waited for"
    waits = [after - before for before, after in pairwise(looks)]
    assert waits == sorted(waits)
    assert waits[-5:] == pytest.approx([application.TICK_SECONDS] * 5)


class Assessing:
    """An aggregator of which only the ticks are of interest: each takes `seconds` of thinking, or waits as long for a broker
    that does not answer. It has a backlog to fold until `folded_at`."""

    def __init__(self, hours: Hours, seconds: float, folded_at: float = 0.0, broker: bool = True) -> None:
        self._hours, self._seconds, self._folded_at, self._broker = hours, seconds, folded_at, broker
        self.ticks: list[tuple[float, float]] = []

    @property
    def is_behind(self) -> bool:
        return self._hours.now < self._folded_at

    def tick(self, _: datetime) -> int:
        began = self._hours.now
        if self._broker:
            self._hours.think(self._seconds)
        else:
            self._hours.now += self._seconds
        self.ticks.append((began, self._hours.now))
        if not self._broker:
            raise BusUnavailable("no answer")
        return 0


@pytest.mark.parametrize(
    ("rests", "how"),
    [
        ((10, 12), {}),
        ((90, 92), {"folded_at": 1000.0}),
        ((28, 30), {"folded_at": 40.0}),
        ((2, 4), {"folded_at": 1000.0, "broker": False}),
    ],
    ids=["as long as it thought", "longer behind a backlog", "no longer than the backlog lasts", "not from waiting"],
)
def test_who_thought_rests(
    install: Any, monkeypatch: pytest.MonkeyPatch, rests: tuple[float, float], how: dict[str, Any]
) -> None:
    hours = Hours(110)
    with closing(install()) as app:
        assessing = Assessing(hours, 10, **how)
        monkeypatch.setattr(application, "time", hours)
        monkeypatch.setattr(app, "aggregator", assessing)
        app._assess(hours)
    (_, ended), (began, _) = assessing.ticks[:2]
    least, most = rests
    assert least <= began - ended <= most


# --- webhooks that were missed ------------------------------------------------------------------------------------------


class Slow(Hours):
    """Hours that begin with no wait at all, as the readers do."""

    def wait(self, seconds: float) -> bool:
        return super().wait(seconds or 1)


class Keeping(Source):
    """A source that keeps what its webhooks could not deliver; `asked` are the moments at which it was asked for it."""

    def __init__(self, hours: Hours, trouble: Exception | None = None, error: Exception | None = None) -> None:
        super().__init__("team", error=error)
        self._hours, self._trouble = hours, trouble
        self.asked: list[float] = []
        self.rounds = 0

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        self.rounds += 1
        return super().changed(container, since)

    def redeliver(self, containers: Iterable[str]) -> int:
        assert list(containers) == ["team"]
        self.asked.append(self._hours.now)
        if self._trouble:
            raise self._trouble
        return 1


class Renewing(Source):
    """A source that sends webhooks for as long as it is asked to."""

    def __init__(self, hours: Hours) -> None:
        super().__init__("team")
        self._hours = hours
        self.asked: list[float] = []

    def register(self, containers: Iterable[str]) -> int:
        assert list(containers) == ["team"]
        self.asked.append(self._hours.now)
        raise Retryable("busy")


def read_for(install: Any, monkeypatch: pytest.MonkeyPatch, source: Keeping | Renewing, hours: Hours) -> list[Any]:
    """What is logged while the source is read until the hours are over, a round each minute."""
    monkeypatch.setattr(application, "time", hours)
    monkeypatch.setattr(application, "HINT_SECONDS", 60.0)
    with closing(install(source)) as app, capture_logs() as logged:
        app.apply()
        app._reader_loop("team")(hours)
    return logged


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(None, []), (Retryable("busy"), ["webhooks.missed"]), (OverflowError("odd"), ["source.broken"])],
    ids=["well", "busy", "broken"],
)
def test_what_was_missed_is_asked_for_now_and_then(
    install: Any, monkeypatch: pytest.MonkeyPatch, trouble: Exception | None, said: list[str]
) -> None:
    """Not before a round has gone well, and rounds go on whatever comes of it."""
    hours = Slow(1900)
    source = Keeping(hours, trouble)
    logged = read_for(install, monkeypatch, source, hours)
    assert source.asked == [61, 961, 1861]
    assert source.rounds == 32
    assert [line["event"] for line in logged if line["log_level"] != "debug"] == 3 * said


def test_webhooks_that_a_source_forgets_are_asked_for_now_and_then(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = Slow(1900)
    source = Renewing(hours)
    logged = read_for(install, monkeypatch, source, hours)
    assert source.asked == [61, 961, 1861]
    assert [line["event"] for line in logged if line["log_level"] != "debug"] == 3 * ["webhooks.unregistered"]


def test_a_source_that_is_not_well_is_not_asked_for_more(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Slow(1900)
    source = Keeping(hours, error=Retryable("busy", 60))
    read_for(install, monkeypatch, source, hours)
    assert source.rounds > 10
    assert source.asked == []


# --- how it says that it is -------------------------------------------------------------------------------------------


def figures(app: App) -> dict[str, float]:
    lines = generate_latest(app.health.registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def lag(app: App) -> float:
    found = [value for name, value in figures(app).items() if name.startswith("pmsync_consumer_lag_records{")]
    assert found
    return sum(found)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(application, name, 0.02)


@pytest.mark.usefixtures("quick")
def test_what_was_done_is_counted(install: Any) -> None:
    sources = Source("team", pages=3), Source("locked", error=Fatal("who are you?"))
    with closing(install(*sources)) as app:
        assert app.health.reasons() == ["it is starting"]
        with app.running(app.workers()):
            until(lambda: not app.health.reasons())
            names = "pmsync_things_published_total", "pmsync_records_folded_total"
            until(lambda: [figures(app)[name] for name in names] == [9, 9])
            until(lambda: figures(app).get('pmsync_source_read_age_seconds{source="team"}') is not None)
            until(lambda: lag(app) == 0)  # the watcher looks now and then
            found = figures(app)
    # Two projects and that each was read, three releases and that they were; of the locked one what came before it said no.
    assert found['pmsync_source_failures_total{kind="fatal"}'] == 1
    assert found["pmsync_partitions"] == found["pmsync_partitions_taken_total"] == 8
    assert found["pmsync_batch_seconds_count"] >= 2
    assert set(app.freshness.known()) == {"team"}, "a round that failed has not read it to its end"


def test_since_when_a_source_fails_is_measured(install: Any) -> None:
    name = 'pmsync_source_failing_seconds{source="%s"}'
    with closing(install(Source("team"), Source("locked"))) as app:
        app.freshness.failed("locked", NOW - timedelta(minutes=3), "fatal", "who are you?")
        app.freshness.failed("locked", NOW, "fatal", "who are you?")
        app._look_at_store({"team", "locked"})
        assert [figures(app)[name % source] for source in ("team", "locked")] == [0, 180]


def test_a_source_that_works_again_is_no_trouble_any_more(install: Any) -> None:
    source = Source("team", error=Retryable("it is busy"))
    with closing(install(source)) as app:
        for tries in (1, 2):
            app.once()
            assert app.freshness.troubles()["team"][1:] == (tries, "retryable", "it is busy")
        source.error = None
        assert app.once().problems == {}
        assert app.freshness.troubles() == {}


def test_a_round_that_never_began_is_not_counted_as_the_one_before(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(install(Source("team"))) as app:
        app.once()
        before = figures(app)["pmsync_things_published_total"]
        monkeypatch.setattr(app.projects, "projects", refuse)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                app.read("team")
        assert figures(app)["pmsync_things_published_total"] == before > 0


def refuse() -> None:
    raise StoreUnavailable("it is gone")


@pytest.mark.usefixtures("quick")
def test_a_partition_that_stands_still_makes_it_unready(install: Any) -> None:
    with closing(install()) as app:
        app.bus.publish(EVENTS, [Record("apollo", b"nothing that can be read")] * 100)
        with capture_logs() as logged, app.running(app.aggregator_workers()):
            until(lambda: any("stands still" in reason for reason in app.health.reasons()))
            until(lambda: figures(app)["pmsync_partitions_stopped"] == 1)
            assert figures(app)['pmsync_dead_letters_total{stage="fold"}'] == 100
    assert [line["event"] for line in logged].count("partition.stopped") == 1


@pytest.mark.usefixtures("quick")
def test_a_database_that_is_away_is_said_once_and_gone_on_with(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    away = threading.Event()
    tries = 0
    with closing(install()) as app:
        read, write = app.store.read, app.store.write

        def cut(real: Any) -> Any:
            def attempt() -> Any:
                nonlocal tries
                if away.is_set():
                    tries += 1
                    raise StoreUnavailable("it is gone")
                return real()

            return attempt

        monkeypatch.setattr(app.store, "read", cut(read))
        monkeypatch.setattr(app.store, "write", cut(write))
        with capture_logs() as logged, app.running([*app.aggregator_workers(), app.notifier_worker()]):
            until(lambda: not app.health.reasons())
            away.set()
            until(lambda: "it is gone" in app.health.reasons() and tries > 20)
            assert figures(app)["pmsync_ready"] == 0, "a scrape is answered all the same"
            away.clear()
            until(lambda: not app.health.reasons())
    assert [line["error"] for line in logged if line["event"] == "work.waiting"] == ["it is gone"]
    assert [line["event"] for line in logged].count("work.resumed") >= 1


def test_store_and_log_are_asked_for_again_sooner_than_a_source() -> None:
    assert [
        application._pause(error, 20) for error in (Retryable("x"), BusUnavailable("x"), StoreUnavailable("x"))
    ] == [
        300.0,
        30.0,
        30.0,
    ]


# --- traces -----------------------------------------------------------------------------------------------------------


def traces(app: App) -> list[tuple[str, str | None]]:
    """(title or kind, trace) of everything that the source jira published, in the order of the log."""
    found = [
        unwrap(record.value, record.headers)
        for partition in range(app.bus.partitions)
        for record in app.bus.read(EVENTS, partition, 0, 1000)
    ]
    return [
        (data.get("content", {}).get("title", data["thing"][1]), context.traceparent)
        for context, data in found
        if context.source == "/sources/jira"
    ]


def test_each_read_of_a_container_is_a_trace(install: Any) -> None:
    with closing(install(Source("jira", pages=2))) as app:
        app.once()
        first = traces(app)
        assert [what for what, _ in first] == ["Release 1", "Release 2", "synced"]
        (trace,) = {found for _, found in first}
        assert Context(specversion="1.0", id="1", source="s", type="t", traceparent=trace).traceparent == trace
        app._pumps["jira"].sync({})
        assert {found for _, found in traces(app)[3:]} == {None}, "outside of any read nothing is under way"
        assert app.read("jira").published > 0
        (later,) = {found for _, found in traces(app)[6:]}
    assert later != trace


def test_a_trace_makes_no_news(install: Any) -> None:
    """The same content read twice is published once, though each read is a trace of its own."""
    with closing(install(Source("jira", pages=2))) as app:
        app.once()
        known = traces(app)
        app.read("jira")
        assert traces(app) == known
