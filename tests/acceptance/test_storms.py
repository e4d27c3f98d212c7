"""Storms on Kafka and PostgreSQL: brokers, databases and aggregators go and come while events arrive. No violation, and
after the last event nothing lags behind for long.

In the suite each storm is short; `make soak` has the long ones. Each takes its chance from a seed. To change a size:
STORM_EVENTS, STORM_SECONDS, STORM_PAUSE, STORM_SEEDS.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

import pytest

from bench.events import NOW, records
from pmsync.bus.port import Record
from tests.acceptance.forker import Process
from tests.acceptance.site import DONE_SECONDS, SESSION_SECONDS, RealParts, Site, until
from tests.acceptance.tally import Tally
from tests.cutting_proxy import cutting_proxy
from tests.judge.checks import judge
from tests.kafka_broker import Broker

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True)
class Size:
    """How large a storm is: events for those that count by them, seconds for those that go by the clock, how long a
    broker is paused, how many seeds."""

    events: int
    seconds: float
    pause: float
    seeds: int
    batch: int = 100


def _size(events: int, seconds: float, pause: float, seeds: int) -> Size:
    given = os.environ.get
    return Size(
        int(given("STORM_EVENTS", events)),
        float(given("STORM_SECONDS", seconds)),
        float(given("STORM_PAUSE", pause)),
        int(given("STORM_SEEDS", seeds)),
    )


SHORT = _size(3_000, 6, 3, 1)
LONG = _size(100_000, 60, 20, 3)
RATE = 500
"""Events a second in the storms that go by the clock."""
MEMBERS, EVERY = 8, 0.5
IDLE = f"options=-c%20idle_in_transaction_session_timeout%3D{SESSION_SECONDS}s"
ASSESS_SECONDS = 2.0
"""Added to the minute for each project that is still to be assessed: that is work, and no lag."""
RECORDS = 20_000
"""So many different records; a longer log has them again."""


def events(count: int) -> Iterator[Record]:
    return islice(cycle(records(min(count, RECORDS))), count)


@contextmanager
def producing(site: Site, count: int, rate: float) -> Iterator[Callable[[], int]]:
    """Events arrive while the block runs; it is left when all have. Gives how many have been acknowledged so far."""
    failed: list[BaseException] = []

    def produce() -> None:
        try:
            site.publish(events(count), rate)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield lambda: len(site.acknowledged) if not failed else count
    finally:
        thread.join()
    if failed:
        raise failed[0]


def settle(site: Site, *workers: Process) -> dict[str, int]:
    """All is folded and assessed in time, by whoever is left; then they are ended, and judged. Returns what was counted,
    and how long that took."""
    begun = time.monotonic()
    length = site.length()

    def folded() -> bool:
        for worker in workers:
            assert worker.ended() is None, f"ended with {worker.code}; {site.said(worker)}"
        return site.progress()[0] == length

    def words() -> str:
        return f"{site.progress()} of {length}; {'; '.join(map(site.said, workers))}"

    # A worker that is assessing folds nothing meanwhile, so that either may have to wait for the other.
    patience = DONE_SECONDS + ASSESS_SECONDS * site.progress()[1]
    until(folded, words, patience)
    at = time.monotonic()
    until(lambda: folded() and site.is_done(length) and all(map(site.is_up, workers)), words, patience)
    times = {"folded after ms": int((at - begun) * 1000), "assessed after ms": int((time.monotonic() - begun) * 1000)}
    site.end(*workers)
    verdict = judge(site.evidence())
    assert not verdict.violations, str(verdict)
    return {**verdict.counts, **times}


Storm = Callable[[int, Size], Mapping[str, int]]


def weather(tally: Tally, name: str, size: Size, storm: Storm) -> None:
    """A storm with each seed; fails with all that went wrong."""
    for seed in range(size.seeds):
        begun = time.monotonic()
        try:
            said, counts = "", dict(storm(seed, size))
        except AssertionError as error:
            said, counts = f"{error}", {}
        tally.add(name, "real", seed, said, time.monotonic() - begun, counts)
    assert not (failures := tally.failures(name, "real")), "\n\n".join(failures)


# --- the broker -------------------------------------------------------------------------------------------------------


def _killed(broker: Broker, _: Size) -> None:
    broker.kill()
    broker.start()


def _stopped(broker: Broker, _: Size) -> None:
    broker.stop()
    broker.start()


def _paused(broker: Broker, size: Size) -> None:
    broker.pause()
    time.sleep(size.pause)
    broker.resume()


FAULTS: Mapping[str, Callable[[Broker, Size], None]] = {"kill -9": _killed, "stop": _stopped, "pause": _paused}


def broker_storm(
    own_broker: Broker, real_on: Callable[[str], RealParts], fault: str, seed: int, size: Size
) -> Mapping[str, int]:
    """The broker goes three times, at places of chance, while two aggregators fold what arrives."""
    dice = random.Random(f"{fault}/{seed}")
    with real_on(own_broker.address).site(NOW) as site:
        site.batch = size.batch
        workers = [site.start("aggregator", member=name) for name in "ab"]
        until(lambda: all(map(site.is_up, workers)), lambda: "; ".join(map(site.said, workers)))
        with producing(site, size.events, size.events / 4) as acknowledged:
            for share in sorted(dice.uniform(0.05, 0.9) for _ in range(3)):
                until(lambda s=share: acknowledged() >= s * size.events, lambda: f"{acknowledged()} arrived", 600)
                FAULTS[fault](own_broker, size)
        return settle(site, *workers)


@pytest.mark.parametrize("fault", FAULTS)
def test_broker_goes(tally: Tally, own_broker: Broker, real_on: Callable[[str], RealParts], fault: str) -> None:
    weather(tally, f"broker: {fault}", SHORT, lambda seed, size: broker_storm(own_broker, real_on, fault, seed, size))


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_broker_goes_for_long(
    tally: Tally, own_broker: Broker, real_on: Callable[[str], RealParts], fault: str
) -> None:
    weather(tally, f"broker: {fault}", LONG, lambda seed, size: broker_storm(own_broker, real_on, fault, seed, size))


# --- the group --------------------------------------------------------------------------------------------------------


def rebalance_storm(real: RealParts, seed: int, size: Size) -> Mapping[str, int]:
    """Up to eight members; every half second one joins or leaves, by itself or killed."""
    dice = random.Random(seed)
    with real.site(NOW) as site:
        site.batch = size.batch
        there: dict[str, Process] = {}
        leaving: list[Process] = []
        with producing(site, int(RATE * size.seconds), RATE):
            end = time.monotonic() + size.seconds
            while time.monotonic() < end:
                gone = [name for name in map(str, range(MEMBERS)) if name not in there]
                busy = {each.writer.partition("-")[0] for each in leaving if each.ended() is None}
                free = [name for name in gone if f"m{name}" not in busy]
                if free and (len(there) < 2 or dice.random() < 0.55):
                    name = dice.choice(free)
                    there[name] = site.start("aggregator", member=f"m{name}")
                elif len(there) > 1:
                    process = there.pop(dice.choice(sorted(there)))
                    # Before it is at work, a request to end kills it as well.
                    process.send(dice.choice((signal.SIGTERM, signal.SIGKILL)))
                    leaving.append(process)
                time.sleep(EVERY)
        for process in leaving:
            assert process.wait(30) in {0, -signal.SIGTERM, -signal.SIGKILL}, site.said(process)
        return settle(site, *there.values())


def test_members_come_and_go(tally: Tally, real: RealParts) -> None:
    weather(tally, "rebalance storm", SHORT, lambda seed, size: rebalance_storm(real, seed, size))


@pytest.mark.soak
def test_members_come_and_go_for_long(tally: Tally, real: RealParts) -> None:
    weather(tally, "rebalance storm", LONG, lambda seed, size: rebalance_storm(real, seed, size))


def zombie_storm(real: RealParts, seed: int, size: Size) -> Mapping[str, int]:
    """Again and again one of three is stopped at a moment of chance, past its session and past what PostgreSQL lets a
    transaction idle, and woken."""
    dice = random.Random(seed)
    with real.site(NOW) as site:
        site.batch = size.batch
        workers = [site.start("aggregator", member=name, url=f"{site.url}?{IDLE}") for name in "abc"]
        until(lambda: all(map(site.is_up, workers)), lambda: "; ".join(map(site.said, workers)))
        with producing(site, int(RATE * size.seconds), RATE):
            end = time.monotonic() + size.seconds
            while time.monotonic() < end:
                zombie = dice.choice(workers)
                zombie.send(signal.SIGSTOP)
                time.sleep(2 * SESSION_SECONDS)
                zombie.send(signal.SIGCONT)
                time.sleep(dice.uniform(0, SESSION_SECONDS))
        return settle(site, *workers)


def test_zombies(tally: Tally, real: RealParts) -> None:
    weather(tally, "zombies", SHORT, lambda seed, size: zombie_storm(real, seed, size))


@pytest.mark.soak
def test_zombies_for_long(tally: Tally, real: RealParts) -> None:
    weather(tally, "zombies", LONG, lambda seed, size: zombie_storm(real, seed, size))


# --- the database -----------------------------------------------------------------------------------------------------


def database_storm(real: RealParts, seed: int, size: Size) -> Mapping[str, int]:
    """The server is killed and started again, its connections are cut, and cut at a COMMIT, before or after the server
    has it."""
    dice = random.Random(seed)
    if not real.server.ours:
        pytest.skip("the PostgreSQL that is here is not ours to restart; with Debian's package there would be one")
    with real.site(NOW) as site, ExitStack() as stack:
        site.batch = size.batch
        proxies = [stack.enter_context(cutting_proxy(site.url)) for _ in "ab"]
        workers = [
            site.start("aggregator", member=name, url=proxy.url) for name, proxy in zip("ab", proxies, strict=True)
        ]
        until(lambda: all(map(site.is_up, workers)), lambda: "; ".join(map(site.said, workers)))
        with producing(site, size.events, size.events / 5) as acknowledged:
            for share in sorted(dice.uniform(0.05, 0.95) for _ in range(6)):
                until(lambda s=share: acknowledged() >= s * size.events, lambda: f"{acknowledged()} arrived", 600)
                match dice.choice(("restart", "cut", "commit", "commit")):
                    case "restart":
                        real.server.stop()
                        real.server.start()
                    case "cut":
                        real.server.cut(site.url.rpartition("/")[2])
                    case _:
                        for proxy in proxies:
                            proxy.cut(dice.choice(("before", "after")), dice.randint(1, 20))
        return settle(site, *workers)


def test_database_goes(tally: Tally, real: RealParts) -> None:
    weather(tally, "database", SHORT, lambda seed, size: database_storm(real, seed, size))


@pytest.mark.soak
def test_database_goes_for_long(tally: Tally, real: RealParts) -> None:
    weather(tally, "database", LONG, lambda seed, size: database_storm(real, seed, size))
