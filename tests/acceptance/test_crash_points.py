"""Killed at each crash point by name (`pmsync/crash.py`), started again, run to the end, and judged: no violation.

The aggregator's points are on a log that a plain producer wrote (`bench/events.py`: 2 % repeats, 5 % out of order, and
some records that nobody can read); the connector's and the notifier's on the small world. What was told must also be
what an unbroken run tells. Each point takes its count from the seed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.events import NOW, records
from connectors.base import Ref
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import EVENTS, Record
from pmsync.crash import POINTS
from pmsync.standins.portfolio import TOKENS
from pmsync.store.engine import Store
from pmsync.store.ledger import SqlLedger
from tests.acceptance.forker import BATCH, Process
from tests.acceptance.reading import Homes, Job, KafkaHomes, Unbroken, compare, look, runner
from tests.acceptance.site import DRAIN_SECONDS, PARTITIONS, SESSION_SECONDS, Parts, RealParts, Site, until
from tests.acceptance.small_world import CHAPTERS, SmallWorld
from tests.acceptance.tally import Tally
from tests.cutting_proxy import cutting_proxy
from tests.judge import evidence
from tests.judge.checks import judge, stale
from tests.judge.evidence import Evidence, Key, connect, digest, embedded_log

pytestmark = pytest.mark.acceptance

SEEDS: Mapping[str, int] = {
    "embedded": int(os.environ.get("CRASH_SEEDS", "1")),
    "real": int(os.environ.get("CRASH_SEEDS_REAL", "1")),
}
SOAK_SEEDS: Mapping[str, int] = {
    "embedded": int(os.environ.get("CRASH_SEEDS", "20")),
    "real": int(os.environ.get("CRASH_SEEDS_REAL", "5")),
}
EVENTS_COUNT = int(os.environ.get("CRASH_EVENTS", "240"))
VARIANTS = 3
"""So many logs, each a little longer than the one before."""
DEAD = 6
AGGREGATOR = ("C10", "C11", "C12", "C13", "C14", "C15", "C16", "C17", "C18", "C23")
READER = ("C1", "C2", "C3", "C4", "C5", "C9", "C21", "C22")
INTAKE = ("C6", "C7", "C8")
WEBHOOKS = 12
"""So many webhooks are sent to an intake that is killed."""
SECRET = "a secret"
TRIES = 4
SECONDS = 60.0


@pytest.fixture(scope="module", params=["embedded", "real"])
def parts(request: pytest.FixtureRequest) -> Parts:
    return request.getfixturevalue(request.param)


def name_of(parts: Parts) -> str:
    return "real" if isinstance(parts, RealParts) else "embedded"


# --- the log that is folded -------------------------------------------------------------------------------------------


@dataclass
class Story:
    """A log, and what an unbroken run makes of it."""

    records: Sequence[Record]
    alert_log: Sequence[Any] = ()
    outbox: Sequence[Any] = ()
    state: Mapping[Key, Any] = field(default_factory=dict)
    steps: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return len(self.records)


@pytest.fixture(scope="module")
def stories(embedded: Parts) -> Callable[[int], Story]:
    """The story of a variant, told once."""
    known: dict[int, Story] = {}

    def tell(variant: int) -> Story:
        if variant not in known:
            known[variant] = _unbroken(embedded, _records(variant))
        return known[variant]

    return tell


def _records(variant: int) -> list[Record]:
    dice = random.Random(variant)
    found = list(records(EVENTS_COUNT + 40 * variant))
    for n in range(DEAD):
        found.insert(dice.randrange(len(found)), Record(f"project-{n % 4:03}", b"\xffno event %d" % n))
    return found


def _unbroken(parts: Parts, log: list[Record]) -> Story:
    with parts.site(NOW) as site:
        site.publish(log)
        worker = site.start("aggregator", counting=True)
        _await(site, len(log), worker)
        site.end(worker)
        seen = site.evidence()
        verdict = judge(seen)
        assert not verdict.violations, str(verdict)
        assert verdict.counts["unreadable"] == DEAD
        return Story(log, seen.store.alert_log, seen.store.outbox, seen.store.state, site.steps())


def _await(site: Site, count: int, *workers: Process) -> float:
    """Until all is folded and assessed."""

    def holds() -> bool:
        for worker in workers:
            assert worker.ended() is None, f"ended with {worker.code}; {site.said(worker)}"
        return site.is_done(count) and all(map(site.is_up, workers))

    return until(
        holds,
        lambda: f"{count} records are folded and assessed, but {site.progress()}; {', '.join(map(site.said, workers))}",
    )


def _found(seen: Evidence, story: Story) -> str:
    """What is wrong with a run, in words: the judge's violations, and what was told otherwise than without a kill."""
    verdict = judge(seen)
    said = [str(verdict)] if verdict.violations else []
    for name, mine, theirs in (
        ("alert log", seen.store.alert_log, story.alert_log),
        ("outbox", seen.store.outbox, story.outbox),
        ("state", seen.store.state.items(), story.state.items()),
    ):
        if sorted(mine) != sorted(theirs):
            said.append(f"another {name} than without a kill: {len(mine)} lines, not {len(theirs)}")
    return "; ".join(said)


def sweep(tally: Tally, cell: str, parts: str, seeds: int, run: Callable[[int], tuple[str, Mapping[str, int]]]) -> None:
    """Run a cell with each seed, and fail with every seed that found something."""
    for seed in range(seeds):
        begun = time.monotonic()
        try:
            said, counts = run(seed)
        except AssertionError as error:  # the other seeds are wanted all the same
            said, counts = f"{error}", {}
        tally.add(cell, parts, seed, said, time.monotonic() - begun, dict(counts))
    assert not (failures := tally.failures(cell, parts)), "\n\n".join(failures)


# --- the aggregator is killed -----------------------------------------------------------------------------------------


def kill_aggregator(
    parts: Parts, stories: Callable[[int], Story], point: str, seed: int
) -> tuple[str, Mapping[str, int]]:
    dice = random.Random(f"{point}/{seed}")
    story = stories(seed % VARIANTS)
    hits = sum(story.steps[step] for step in POINTS[point].steps)
    assert hits, f"an unbroken run passes none of the steps of {point}"
    for attempt in range(TRIES):
        # On Kafka a run may pass a step less often; the first time it always does.
        crash = f"{point}:{dice.randint(1, hits) if attempt < TRIES - 1 else 1}"
        with parts.site(NOW) as site:
            site.publish(story.records)
            first = site.start("aggregator", crash=crash)
            until(lambda w=first, s=site: w.ended() is not None or s.is_done(story.count), lambda at=crash: at)
            if first.ended(0.5) != -signal.SIGKILL:
                continue
            verdict = judge(site.evidence(finished=False))
            assert not verdict.violations, f"{crash}, before the restart: {verdict}"
            second = site.start("aggregator")
            _await(site, story.count, second)
            site.end(second)
            seen = site.evidence()
            said = _found(seen, story)
            return (f"{crash}: {said}" if said else ""), judge(seen).counts
    raise AssertionError(f"{point} was not reached in {TRIES} runs")


@pytest.mark.parametrize("point", AGGREGATOR)
def test_killed_aggregator(parts: Parts, stories: Callable[[int], Story], tally: Tally, point: str) -> None:
    name = name_of(parts)
    sweep(tally, point, name, SEEDS[name], partial(kill_aggregator, parts, stories, point))


@pytest.mark.soak
@pytest.mark.parametrize("point", AGGREGATOR)
def test_killed_aggregator_many_times(parts: Parts, stories: Callable[[int], Story], tally: Tally, point: str) -> None:
    name = name_of(parts)
    sweep(tally, point, name, SOAK_SEEDS[name], partial(kill_aggregator, parts, stories, point))


def lose_answer(real: RealParts, stories: Callable[[int], Story], seed: int) -> tuple[str, Mapping[str, int]]:
    """C16 on PostgreSQL: the connection breaks at a COMMIT, before or after the server has it; nobody is killed."""
    dice = random.Random(seed)
    story = stories(seed % VARIANTS)
    with real.site(NOW) as site, cutting_proxy(site.url) as proxy:
        site.publish(story.records)
        commit, side = dice.randint(3, 30), ("after", "before")[seed % 2]
        proxy.cut(side, commit)
        worker = site.start("aggregator", url=proxy.url)
        _await(site, story.count, worker)
        site.end(worker)
        seen = site.evidence()
        said = _found(seen, story) + ("" if proxy.has_cut else "no connection was cut")
        return (f"cut {side} commit {commit}: {said}" if said else ""), judge(seen).counts


def test_commit_without_an_answer(real: RealParts, stories: Callable[[int], Story], tally: Tally) -> None:
    sweep(tally, "C16, answer lost", "real", 2 * SEEDS["real"], partial(lose_answer, real, stories))


@pytest.mark.soak
def test_commit_without_an_answer_many_times(real: RealParts, stories: Callable[[int], Story], tally: Tally) -> None:
    sweep(tally, "C16, answer lost", "real", 2 * SOAK_SEEDS["real"], partial(lose_answer, real, stories))


# --- the aggregator is stopped, and another one takes over ------------------------------------------------------------

ZOMBIES = ("C19", "C20")
IDLE = "options=-c%20idle_in_transaction_session_timeout%3D{seconds}s"


def stop_aggregator(
    parts: Parts, stories: Callable[[int], Story], point: str, seed: int
) -> tuple[str, Mapping[str, int]]:
    """Stopped at the point past its session, and (C20) past what PostgreSQL lets a transaction idle; woken when another
    one has done its work."""
    dice = random.Random(f"{point}/{seed}")
    story = stories(seed % VARIANTS)
    hits = max(1, story.steps[POINTS[point].steps[0]] // 2)
    with parts.site(NOW) as site:
        site.publish(story.records)
        url = f"{site.url}?{IDLE.format(seconds=SESSION_SECONDS)}" if isinstance(parts, RealParts) else site.url
        zombie = site.start("aggregator", member="a", crash=f"{point}:{dice.randint(1, hits)}", url=url)
        until(zombie.is_stopped, lambda: point)
        other = site.start("aggregator", member="b")
        _await(site, story.count, other)
        if site.is_embedded:
            site.end(other)
        zombie.send(signal.SIGCONT)
        # In the middle of a transaction it finds that PostgreSQL has ended that, else that it is fenced.
        lines = ("partition.fenced", "work.waiting")[: 1 + (point == "C20")]

        def has_gone_on() -> bool:
            written = any(stale(Evidence([], [], PARTITIONS, evidence.look(site.url))))
            return written or any(line in site.said(zombie) for line in lines)

        until(has_gone_on, lambda: f"it is refused; {site.said(zombie)}")
        _await(site, story.count, zombie)
        site.end(*(each for each in (zombie, other) if each.code is None))
        seen = site.evidence()
        return _found(seen, story), judge(seen).counts


@pytest.mark.parametrize("point", ZOMBIES)
def test_zombie_aggregator(parts: Parts, stories: Callable[[int], Story], tally: Tally, point: str) -> None:
    name = name_of(parts)
    if name == "embedded" and point == "C20":
        pytest.skip("on SQLite a writer that is stopped holds all others up: it is reported, not survived")
    sweep(tally, point, name, SEEDS[name], partial(stop_aggregator, parts, stories, point))


@pytest.mark.soak
@pytest.mark.parametrize("point", ZOMBIES)
def test_zombie_aggregator_many_times(parts: Parts, stories: Callable[[int], Story], tally: Tally, point: str) -> None:
    name = name_of(parts)
    if name == "embedded" and point == "C20":
        pytest.skip("on SQLite a writer that is stopped holds all others up: it is reported, not survived")
    sweep(tally, point, name, SOAK_SEEDS[name], partial(stop_aggregator, parts, stories, point))


# --- asked to end -----------------------------------------------------------------------------------------------------


def drain_aggregator(parts: Parts, stories: Callable[[int], Story], seed: int) -> tuple[str, Mapping[str, int]]:
    """C25: it ends by itself with 0, and what the next one reads again is at most a batch of each partition."""
    dice = random.Random(seed)
    story = stories(seed % VARIANTS)
    with parts.site(NOW) as site:
        site.publish(story.records)
        begun = time.monotonic()
        crash = f"C25:{dice.randint(1, sum(story.steps.values()) // 2)}"
        first = site.start("aggregator", crash=crash)
        assert first.wait(DRAIN_SECONDS) == 0, f"{crash}: {site.said(first)}"
        lasted = time.monotonic() - begun
        second = site.start("aggregator")
        _await(site, story.count, second)
        site.end(second)
        seen = site.evidence()
        had = Counter(
            (read.partition, n) for read in seen.reads.get(first.writer, ()) for n in range(read.first, read.last + 1)
        )
        again = Counter(
            read.partition
            for read in seen.reads.get(second.writer, ())
            for n in range(read.first, read.last + 1)
            if had[read.partition, n]
        )
        said = _found(seen, story)
        said += "".join(f"; {n} records of partition {each} twice" for each, n in again.items() if n > BATCH)
        return (f"{crash}: {said}" if said else ""), {**judge(seen).counts, "milliseconds": int(lasted * 1000)}


def test_drained_aggregator(parts: Parts, stories: Callable[[int], Story], tally: Tally) -> None:
    name = name_of(parts)
    sweep(tally, "C25", name, SEEDS[name], partial(drain_aggregator, parts, stories))


@pytest.mark.soak
def test_drained_aggregator_many_times(parts: Parts, stories: Callable[[int], Story], tally: Tally) -> None:
    name = name_of(parts)
    sweep(tally, "C25", name, SOAK_SEEDS[name], partial(drain_aggregator, parts, stories))


# --- killed while it migrates -----------------------------------------------------------------------------------------


def kill_migration(parts: Parts, stories: Callable[[int], Story], seed: int) -> tuple[str, Mapping[str, int]]:
    """C24: none of the tables or all of them; the next start does the rest."""
    story = stories(seed % VARIANTS)
    with parts.site(NOW, parts.empty_database()) as site:
        crash = f"C24:{random.Random(seed).randint(1, story.steps['migrating'] or MIGRATION_STEPS)}"
        first = site.start("aggregator", crash=crash)
        assert first.wait(SECONDS) == -signal.SIGKILL, site.said(first)
        left = _tables(site.url)
        site.publish(story.records)
        second = site.start("aggregator")
        until(lambda: "due" in _tables(site.url), lambda: "the tables are there")
        _await(site, story.count, second)
        site.end(second)
        seen = site.evidence()
        said = _found(seen, story)
        said += f"; half of the tables: {sorted(left)}" if left and left != _tables(site.url) else ""
        return (f"{crash}: {said}" if said else ""), judge(seen).counts


MIGRATION_STEPS = 15
"""Statements of a whole migration, or somewhat fewer."""


def _tables(url: str) -> set[str]:
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return set()
    catalogue = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if url.startswith("sqlite")
        else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    )
    with closing(connect(url)) as db:
        return {name for (name,) in db.execute(catalogue).fetchall() if not name.startswith("sqlite_")}


def test_killed_migration(parts: Parts, stories: Callable[[int], Story], tally: Tally) -> None:
    name = name_of(parts)
    sweep(tally, "C24", name, SEEDS[name], partial(kill_migration, parts, stories))


@pytest.mark.soak
def test_killed_migration_many_times(parts: Parts, stories: Callable[[int], Story], tally: Tally) -> None:
    name = name_of(parts)
    sweep(tally, "C24", name, SOAK_SEEDS[name], partial(kill_migration, parts, stories))


# --- the embedded log loses its power ---------------------------------------------------------------------------------


def tear_log(folder: Path, seed: int) -> tuple[str, Mapping[str, int]]:
    """C26: what was acknowledged had been synced; of the publication after it any part may have reached the disk. The
    log's files are copied as they are then, and the write-ahead log is cut within that publication, or filled with
    anything from there on."""
    dice = random.Random(seed)
    place, torn = folder / f"{seed}.db", folder / f"{seed}-torn.db"
    log = list(records(200))
    sizes, acknowledged = [0], []
    with closing(EmbeddedBus(place, PARTITIONS)) as bus:
        wal = Path(f"{place}-wal")
        sizes = [wal.stat().st_size]
        last = dice.randrange(1, 20)
        for n in range(last + 1):
            chunk = log[10 * n : 10 * n + 10]
            bus.publish(EVENTS, chunk)
            sizes.append(wal.stat().st_size)
            acknowledged.append([digest(EVENTS, each.key, each.value) for each in chunk])
        for ending in ("", "-wal"):  # the shared memory is gone with the power
            shutil.copy(f"{place}{ending}", f"{torn}{ending}")
    synced, whole = sizes[last], sizes[last + 1]
    cut = dice.randrange(synced, whole)
    with open(f"{torn}-wal", "r+b") as tail:
        tail.truncate(cut)
        if seed % 2:
            tail.seek(cut)
            tail.write(dice.randbytes(whole - cut))
    had = [each for chunk in acknowledged[:last] for each in chunk]
    with closing(EmbeddedBus(torn, PARTITIONS)) as bus:
        before = sum(bus.end_offset(EVENTS, n) for n in range(PARTITIONS))
        bus.publish(EVENTS, log[10 * last : 10 * last + 10])
    seen = Evidence(
        embedded_log(torn, EVENTS),
        [],
        PARTITIONS,
        evidence.Store({}, {}, {}),
        [*had, *acknowledged[last]],
        finished=False,
    )
    verdict = judge(seen)
    said = str(verdict) if verdict.violations else ""
    said += f"; {before} records were left of {len(had)}" if before != len(had) else ""
    said += f"; {verdict.counts['repeated']} are there twice" if verdict.counts["repeated"] else ""
    return (f"cut at {cut} of {synced} to {whole}: {said}" if said else ""), verdict.counts


def test_torn_log(tmp_path: Path, tally: Tally) -> None:
    sweep(tally, "C26", "embedded", 10 * SEEDS["embedded"], partial(tear_log, tmp_path))


@pytest.mark.soak
def test_torn_log_many_times(tmp_path: Path, tally: Tally) -> None:
    sweep(tally, "C26", "embedded", 10 * SOAK_SEEDS["embedded"], partial(tear_log, tmp_path))


# --- a reader or a notifier is killed ---------------------------------------------------------------------------------


class World:
    """The small world, read by runs of one process each, on the parts of the day."""

    def __init__(self, world: SmallWorld, values: dict[str, Any], homes: Homes, run: Job, unbroken: Unbroken) -> None:
        self.world, self.values, self.homes, self.run, self.unbroken = world, values, homes, run, unbroken

    @property
    def name(self) -> str:
        return "real" if isinstance(self.homes, KafkaHomes) else "embedded"

    def begin(self, folder: Path) -> None:
        """An installation that has read the first chapter."""
        if isinstance(self.homes, KafkaHomes):
            assert self.run(folder, CHAPTERS[0]) == 0
        else:
            self.homes.copy(self.unbroken.base, folder)

    def url(self, folder: Path) -> str:
        return str(self.homes.values(folder, {"store": {"url": f"sqlite:///{folder / 'pmsync.db'}"}})["store"]["url"])

    def evidence(self, folder: Path) -> Evidence:
        if isinstance(self.homes, KafkaHomes):
            bus = self.homes.bus(folder)
            logs = [evidence.kafka_log(bus["bootstrap_servers"], bus["prefix"] + each, PARTITIONS) for each in TOPICS]
        else:
            logs = [embedded_log(folder / "log.db", each) for each in TOPICS]
        acknowledged, reads, _ = evidence.noted(folder / "notes")
        store = evidence.look(self.url(folder))
        return Evidence(*logs, PARTITIONS, store, acknowledged, reads, delivered=True)


TOPICS = (evidence.EVENTS, evidence.DEAD_LETTERS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Homes], World]]:
    """The world as it is read on the given homes; what an unbroken run makes of it was found on the embedded parts."""
    world = SmallWorld()
    with pytest.MonkeyPatch.context() as patch, world.served() as values:
        for name, token in TOKENS.items():
            patch.setenv(name, token)
        with runner(world, values, Homes()) as run:
            unbroken = Unbroken(tmp_path_factory.mktemp("unbroken"), run, values, Homes(), counting=True)
        evidence.watch(f"sqlite:///{unbroken.base / 'pmsync.db'}")
        yield lambda homes, job: World(world, values, homes, job, unbroken)


@pytest.fixture(scope="module", params=["embedded", "real"])
def reading(request: pytest.FixtureRequest, small: Callable[..., World]) -> Iterator[World]:
    homes = Homes() if request.param == "embedded" else KafkaHomes(request.getfixturevalue("real"))
    probe = small(homes, None)
    with runner(probe.world, probe.values, homes) as run:
        yield small(homes, run)


def kill_reader(reading: World, folder: Path, point: str, seed: int) -> tuple[str, Mapping[str, int]]:
    """Killed while it reads the second chapter; with odd seeds the world is in its third when it starts again, so that
    what was under way has changed, moved or gone."""
    dice = random.Random(f"{point}/{seed}")
    hits = max(1, sum(reading.unbroken.steps[step] for step in POINTS[point].steps))
    counts = [*(dice.randint(1, hits) for _ in range(TRIES - 1)), 1]
    return _kill_reader(reading, folder / f"{point}-{seed}", point, counts, CHAPTERS[1 + seed % 2], dice)


def kill_reader_of_what_goes(reading: World, folder: Path, seed: int) -> tuple[str, Mapping[str, int]]:
    """C4 at one publication after the other; then the world is in its third chapter."""
    return _kill_reader(reading, folder / f"C4-{seed}", "C4", [seed + 1], CHAPTERS[2], random.Random(seed))


def _kill_reader(
    reading: World, folder: Path, point: str, counts: Sequence[int], then: datetime, dice: random.Random
) -> tuple[str, Mapping[str, int]]:
    """The first of these counts at which it is really killed is judged."""
    for count in counts:
        here = folder.with_name(f"{folder.name}-{count}")
        reading.begin(here)
        if point == "C9":
            _ask(reading, here, dice)
        crash = f"{point}:{count}"
        ended = reading.run(here, CHAPTERS[1], crash)
        if ended == -signal.SIGKILL:
            assert reading.run(here, then) == 0, f"{crash}: it did not end well"
            seen = reading.evidence(here)
            verdict = judge(seen)
            said = str(verdict) if verdict.violations else ""
            try:
                shown = look(here, reading.homes.values(here, reading.values), then)
                compare(shown, reading.unbroken, then, f"{crash}, then {then}")
            except AssertionError as error:
                said += f"; not as without a kill: {error}"
            reading.homes.remove(here)
            return (f"{crash}, then {then:%d %b}: {said}" if said else ""), verdict.counts
        assert ended == 0
        reading.homes.remove(here)
    raise AssertionError(f"{point} was not reached, at {counts}")


def _ask(reading: World, folder: Path, dice: random.Random) -> None:
    """What `pmsync dead-letters replay` does: some things are to be fetched by id."""
    url = reading.url(folder)
    known = [row for row in evidence.look(url).ledger if row[0] == "jira" and row[1] == "work_item"]
    with closing(Store(url)) as store:
        ledger = SqlLedger(store, lambda: datetime.now(UTC) - timedelta(days=1))
        ledger.ask("jira", [Ref(kind, ident) for _, kind, ident, *_ in dice.sample(known, 3)])


@pytest.mark.parametrize("point", READER)
def test_killed_reader(reading: World, tally: Tally, tmp_path: Path, point: str) -> None:
    sweep(tally, point, reading.name, SEEDS[reading.name], partial(kill_reader, reading, tmp_path, point))


def test_killed_reader_of_what_goes(reading: World, tally: Tally, tmp_path: Path) -> None:
    """Whatever was published and not entered when it was killed, and is gone when it is back, is not shown for ever."""
    if reading.name == "real":
        pytest.skip("the same reader on another log: the embedded one is enough")
    hits = reading.unbroken.steps["published"]
    sweep(tally, "C4, then gone", reading.name, hits, partial(kill_reader_of_what_goes, reading, tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("point", READER)
def test_killed_reader_many_times(reading: World, tally: Tally, tmp_path: Path, point: str) -> None:
    sweep(tally, point, reading.name, SOAK_SEEDS[reading.name], partial(kill_reader, reading, tmp_path, point))


# --- webhooks are taken -----------------------------------------------------------------------------------------------


def kill_intake(parts: Parts, point: str, seed: int) -> tuple[str, Mapping[str, int]]:
    """A sender repeats each webhook until it is answered with 202, as sources do; nothing of it may be lost."""
    count = random.Random(f"{point}/{seed}").randint(1, WEBHOOKS)
    with parts.site(NOW) as site:
        (site.folder / "secret").write_text(SECRET)
        secret = {"file": str(site.folder / "secret")}
        source = {"name": "gh", "kind": "github", "auth": {"token": secret}, "webhook_secret": secret}

        def serve(crash: str = "") -> tuple[Process, str]:
            web = site.start("web", "--port", "0", crash=crash, sources=[source])
            until(lambda: bool(site.address(web)), lambda: site.said(web))
            return web, site.address(web)

        web, url = serve("" if point == "C8" else f"{point}:{count}")
        kills = 0
        for number in range(1, WEBHOOKS + 1):
            while not _answered(url, number):
                assert web.wait(SECONDS) == -signal.SIGKILL, site.said(web)
                kills += 1
                assert kills == 1, "it was to be killed once"
                web, url = serve()
            if point == "C8" and number == count:
                web.send(signal.SIGKILL)
                web.wait(SECONDS)
                kills += 1
                web, url = serve()
        site.end(web)
        with closing(connect(site.url)) as db:
            kept = sorted(str(row[0]) for row in db.execute("SELECT id FROM hints WHERE source = 'gh'").fetchall())
    wanted = sorted(f"7/{number}" for number in range(1, WEBHOOKS + 1))
    said = "" if (kept, kills) == (wanted, 1) else f"{kills} kills; kept are {kept}"
    return (f"{point}:{count}: {said}" if said else ""), {"records": len(kept)}


def _answered(url: str, number: int) -> bool:
    raw = json.dumps({"repository": {"id": 7, "full_name": "acme/apollo"}, "issue": {"number": number}}).encode()
    headers = {
        "Content-Type": "application/json", "X-GitHub-Event": "issues",
        "X-Hub-Signature-256": f"sha256={hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()}",
    }  # fmt: skip
    try:
        answer = requests.post(f"{url}/webhooks/gh", data=raw, headers=headers, timeout=SECONDS)
    except requests.ConnectionError:
        return False
    assert answer.status_code == 202, answer.text
    return True


@pytest.mark.parametrize("point", INTAKE)
def test_killed_intake(parts: Parts, tally: Tally, point: str) -> None:
    sweep(tally, point, name_of(parts), SEEDS[name_of(parts)], partial(kill_intake, parts, point))


@pytest.mark.soak
@pytest.mark.parametrize("point", INTAKE)
def test_killed_intake_many_times(parts: Parts, tally: Tally, point: str) -> None:
    sweep(tally, point, name_of(parts), SOAK_SEEDS[name_of(parts)], partial(kill_intake, parts, point))
