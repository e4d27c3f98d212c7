"""The parts, put together for one configuration: what `run`, `apply` and the tests drive.

Next on the way of an event: `connectors/base.py`, the port through which a source is read.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

import structlog

from connectors.base import (
    Clock,
    ConnectorError,
    Fatal,
    Read,
    Reader,
    Redelivering,
    Registering,
    Retryable,
    Settings,
    Silent,
)
from connectors.pump import Counts, LeaseLost, Progress, Pump, Routes
from connectors.webhooks import Hint
from pmsync import people
from pmsync.aggregator import Aggregator, Batch, check_log
from pmsync.bus.port import EVENTS, Bus, BusUnavailable
from pmsync.bus.publisher import Publisher
from pmsync.buses import open_bus, outputs
from pmsync.config import Config, connector_kinds
from pmsync.configuration import ConfigurationReader, Plan, apply, configuration_routes, mails, plan, routes
from pmsync.core.events import CONFIGURATION, instant
from pmsync.folding import BATCH
from pmsync.health import STARTING, Health
from pmsync.notify.notifier import Delivery, Notifier
from pmsync.notify.senders import ConsoleSender, MailSender, Sender
from pmsync.notify.topics import TOPIC, TopicSender
from pmsync.outputs import Outputs
from pmsync.owners import owner
from pmsync.store.configuration import ConfigurationStore
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.freshness import Freshness
from pmsync.store.ledger import SqlLedger
from pmsync.store.outbox import Outbox
from pmsync.store.people import PeopleStore
from pmsync.store.state import Fenced, StateStore
from pmsync.tracing import trace

log = structlog.get_logger()

AGGREGATOR, ASSESSOR = "aggregator", "assessor"
TICK_SECONDS = 2.0
QUICK_SWITCH, SWITCH = 0.0005, 0.005
"""How long the thread that thinks may keep the interpreter from the one that folds, in seconds. Python's own 5 ms are too
long for a single event, since one batch gives it up several times; with a backlog to fold, to change hands that often would
cost a quarter of the rate."""
RESTS_BEHIND = 9
"""How long the one that thinks rests while there is a backlog, in times of what it has thought: it takes from folding what
it thinks, and what it finds with half of the log unread is of the past anyway."""
FOLLOW_SECONDS = 0.5
"""How long an aggregator waits for news at a time, before it looks whether it is to end."""
FIRST_LOOK_SECONDS, LOOKS_SLOWER = 0.05, 1.5
"""How soon an aggregator that has nothing yet looks again what is assigned to it, and how much longer it waits each time, up
to a tick: one that starts again is waited for, and one too many is not to keep the store busy."""
FENCED_SECONDS = 4.0
"""How soon one whose partitions others have taken asks what is assigned to it: by then its group has told it so."""
FATAL_SECONDS = 60.0
"""An authorisation fault is tried at most once a minute."""
BACKOFF_SECONDS = 5.0, 300.0
HINT_SECONDS = 1.0
"""How often it is looked whether a source's webhooks have hinted at something."""
WEBHOOKS_SECONDS = 900.0
"""How often, at the most, a source is asked to send webhooks again that it could not deliver, or to go on sending them."""
AWAY_SECONDS = 30.0
"""Store and log are missed by everyone, and asked for again soon."""
LONGEST_SECONDS = 3600.0
"""No source's limits last longer than an hour; one that asks for more is asked again after that."""
DRAIN_SECONDS, CLOSE_SECONDS = 14.0, 4.0
"""With the 5 s that a server gives its last answers these are less than the 25 s that a process has to end in."""
LOOK_SECONDS = 5.0
"""How often store and log are looked at for `/readyz` and `/metrics`."""


MAY_END = frozenset({"committed", "told"})
"""Steps of the aggregator after which it may end, however much there is still to do."""


class Worker(NamedTuple):
    """Something that goes on until the event is set, and its name."""

    name: str
    loop: Callable[[threading.Event], None]
    needs_log: bool = True


class Stopped(Exception):
    """It is time to end, between two steps."""


@dataclass(slots=True)
class Outcome:
    """What one pass over everything did, and what went wrong, by source."""

    published: int = 0
    dead: int = 0
    transitions: int = 0
    delivery: Delivery = field(default_factory=Delivery)
    problems: dict[str, str] = field(default_factory=dict)


class App:
    """A configured pmsync. `clock` says what time it is for events and alerts; leases and claims go by the database's.

    `step` is called between any two steps of the work, for tests that end it there; `write` prints a message.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        step: Callable[[str], None] = lambda _: None,
        progress: Progress | None = None,
        write: Callable[[str], None] = print,
        accept_missing: frozenset[str] = frozenset(),
        health: Health | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.config = config
        self.health = health or Health(clock)
        self.died = False
        self._clock = clock
        self._step, self._progress, self._accept_missing = step, progress, accept_missing
        self.store = Store(config.store.url, config.store.secret())
        try:
            self.store.migrate(step)
            self.bus = open_bus(config.bus, step)
        except Exception:
            self.store.close()
            raise
        self.state = StateStore(self.store)
        self.projects = ConfigurationStore(self.store)
        self.people = PeopleStore(self.store)
        self.outbox = Outbox(self.store)
        self.ledger = SqlLedger(self.store, self.store.now)
        self._is_checked = False
        senders = self._senders(write)
        told = Outputs(outputs(config))
        self.freshness = Freshness(self.store, self.sources, config.poll.allowed)
        self.aggregator = Aggregator(
            self.bus, self.state, owner(), tuple(senders), self._paced(step), told, self._folded
        )
        self.notifier = Notifier(self.outbox, senders, self.store.now, owner(), step)
        self._pumps: dict[str, Pump] = {}
        self._webhooks_at: dict[str, float] = {}
        self._stop = stop or threading.Event()
        self._began_at = self.store.now()
        self._batch_at, self._next_look, self._look_wait = 0.0, 0.0, FIRST_LOOK_SECONDS

    @property
    def sources(self) -> list[str]:
        """Those that are asked."""
        return self.config.live_sources

    @property
    def publisher(self) -> Publisher:
        """Publishes into the log; raises `BusUnavailable` if that is not the one that the store is built from."""
        return Publisher(self._checked_bus())

    def _checked_bus(self) -> Bus:
        """The bus, once it is known to be the one that the store is built from."""
        if not self._is_checked:
            self.check_log()
            self._is_checked = True
        return self.bus

    def check_log(self) -> None:
        """Before anything is published: what goes into another log is entered in the ledger, and lost."""
        check_log(self.bus, self.state)
        self.state.adopt_log(self.bus.identity())

    def close(self) -> None:
        with suppress(StoreUnavailable):  # then the leases run out by themselves
            for pump in self._pumps.values():
                pump.release()
        self.bus.close()
        self.store.close()

    # --- the steps ----------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What `apply` would do."""
        known = self.projects.known_person_ids(mails(self.config))
        ids = {mail: known.get(mail, f"new:{mail}") for mail in mails(self.config)}
        planned = plan(self.config, self.projects.projects(), ids, self._clock())
        return replace(planned, lines=(*planned.lines, *people.differences(self.config, self.people.people())))

    def apply(self) -> Plan:
        """Make this configuration the applied one, and publish it, unless another process is just about that."""
        self.check_log()
        changes = people.differences(self.config, self.people.people())
        planned = apply(self.config, self.projects, self._clock())
        if changes:
            ids = self.projects.person_ids(mails(self.config))
            people.apply(self.config, self.people, ids, self._clock())
        self._step("applied")
        try:
            self.read(CONFIGURATION)
        except LeaseLost:
            log.info(
                "configuration.left", to="the worker that is reading the configuration publishes it at its next round"
            )
        return replace(planned, lines=(*planned.lines, *changes))

    def read(self, source: str, sweep_every: timedelta = timedelta(0)) -> Counts:
        """One round over a source. Only now is it connected to: to look at what was read needs no secrets."""
        counts = self._drive(source, lambda pump, mapped: pump.sync(mapped, sweep_every))
        if source == CONFIGURATION:
            self._pumps[source].release()  # `pmsync apply` is a process of its own, and should not have to wait
        else:
            self.freshness.read(source, self.store.now())
        return counts

    def hint(self, source: str, heard: Sequence[Hint]) -> None:
        """Make durable what a webhook hinted at."""
        self._step("verified")
        self.ledger.hint(source, heard)
        self._step("kept")

    def take(self, source: str, reads: Sequence[Read], containers: Collection[str]) -> Counts:
        """Publish what files tell of these containers. What is not live will not tell more: it is then called read."""
        pump = self._pump(Silent(source, self._clock))
        try:
            whole = () if source in self.sources else containers
            return pump.take(reads, self._routes(source), whole)
        finally:
            pump.release()

    def hear(self, source: str) -> Counts:
        """Fetch what webhooks have hinted at; without any hints neither source nor log is asked anything."""
        if not self.ledger.hints(source, 1):
            return Counts()
        return self._drive(source, lambda pump, mapped: pump.hear(mapped))

    def _drive(self, source: str, act: Callable[[Pump, Routes], Counts]) -> Counts:
        if source not in self._pumps:
            self._pumps[source] = self._pump(self._connect(source))
        pump, mapped = self._pumps[source], self._routes(source)
        try:
            # For what is of no container's turn: what was under way, and containers that nobody maps any more.
            with trace():
                return act(pump, mapped)
        except (ConnectorError, LeaseLost, BusUnavailable, StoreUnavailable, Stopped):
            raise
        except Exception as error:
            # A connector promises two errors; a third one is its fault, and must not stop the others' work.
            log.exception("source.broken", source=source)
            raise Retryable(f"{source}: its connector failed ({type(error).__name__}); the log says where") from error
        finally:
            self.health.metrics.published.inc(pump.counts.published)
            self.health.metrics.dead.labels("translate").inc(pump.counts.dead)

    def containers(self, source: str) -> Mapping[str, int]:
        """The containers of a source that somebody maps, and how many things are known of each."""
        return {
            container: sum(ref.kind != "synced" for ref in self.ledger.in_container(source, container))
            for container in self._routes(source)
        }

    def once(self) -> Outcome:
        """Catch up with every source, assess, deliver. A source that fails is named; the others go on."""
        outcome = Outcome()
        self.apply()
        for source in self.sources:
            try:
                self.read(source)
            except (ConnectorError, LeaseLost) as error:
                outcome.problems[source] = str(error)
                self._fails(source, error)
            if pump := self._pumps.get(source):
                outcome.published += pump.counts.published
                outcome.dead += pump.counts.dead
        self.aggregator.take(range(self.bus.partitions))
        self.aggregator.catch_up()
        outcome.problems |= {f"log/{partition}": why for partition, why in self.aggregator.stopped.items()}
        outcome.transitions = self.aggregator.tick(self._clock(), patience=timedelta(0))
        outcome.delivery = self.notifier.drain()
        return outcome

    # --- for ever -----------------------------------------------------------------------------------------------------

    def connector_worker(self, source: str) -> Worker:
        """Reads one source, for ever; the configuration is one."""
        return Worker(source, self._reader_loop(source))

    def aggregator_workers(self) -> list[Worker]:
        """Fold and assess the partitions that the bus assigns to this process."""
        self.check_log()
        self.bus.join()
        return [Worker(AGGREGATOR, self._aggregate), Worker(ASSESSOR, self._assess)]

    def notifier_worker(self) -> Worker:
        """Delivers what the outbox holds."""
        return Worker("notifier", self._deliver, needs_log=False)

    def workers(self) -> list[Worker]:
        """Everything that there is to do, by the configuration of this process's own file."""
        self.apply()
        readers = [self.connector_worker(source) for source in (CONFIGURATION, *self.sources)]
        return [*self.aggregator_workers(), self.notifier_worker(), *readers]

    @contextmanager
    def running(self, workers: Sequence[Worker]) -> Iterator[threading.Event]:
        """Workers at it in threads while the block runs. The event is set when one died or it is time to stop."""
        stop = self._stop
        workers = [*workers, self._watcher(workers)]
        threads = [
            # Daemons: whoever has not ended by then is ended with the process, which may happen at any moment anyway.
            threading.Thread(target=self._guarded, args=(worker.name, worker.loop, stop), name=worker.name, daemon=True)
            for worker in workers
        ]
        for thread in threads:
            thread.start()
        try:
            yield stop
        finally:
            stop.set()
            deadline = time.monotonic() + DRAIN_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            if cut := [thread.name for thread in threads if thread.is_alive()]:
                log.warning("drain.cut", workers=cut, seconds=DRAIN_SECONDS)

    def _reader_loop(self, source: str) -> Callable[[threading.Event], None]:
        every = self.config.poll.every_seconds
        sweep_every = timedelta(seconds=self.config.poll.sweep_seconds)

        def loop(stop: threading.Event) -> None:
            failures, wait, next_round = 0, 0.0, 0.0
            while not stop.wait(wait):
                is_round = time.monotonic() >= next_round
                try:
                    counts = self._round(source, sweep_every, next_round > 0) if is_round else self.hear(source)
                except Stopped:
                    return
                except (BusUnavailable, StoreUnavailable) as error:
                    failures += 1
                    wait = _pause(error, failures)
                    next_round = 0.0
                    self._waits(f"source {source}", str(error))
                    continue
                except (ConnectorError, LeaseLost) as error:
                    failures += 1
                    wait = _pause(error, failures)
                    next_round = 0.0  # hints alone do not tell whether the source is well again
                    self._fails(source, error)
                    # One failure that another try mends (a connection that was kept too long, say) is daily life.
                    say = log.debug if failures == 1 and isinstance(error, Retryable) else log.warning
                    say("source.failed", source=source, error=str(error), tries=failures, again_in=wait)
                else:
                    if is_round:
                        next_round = time.monotonic() + every
                        if failures > 1:
                            log.info("source.recovered", source=source, tries=failures)
                        failures = 0
                    if is_round or counts.read:
                        log.debug("source.read", source=source, published=counts.published, hinted=not is_round)
                    left = max(0.0, next_round - time.monotonic())
                    wait = left if source == CONFIGURATION else min(HINT_SECONDS, left)
                # What is wrong with a source keeps neither this process from working nor its pages from being shown.
                self._works(f"source {source}")

        return loop

    def _round(self, source: str, sweep_every: timedelta, is_well: bool) -> Counts:
        """`is_well`: so was the round before. Then the source is ours to read, and by now there is who takes webhooks."""
        if is_well:
            self._see_to_webhooks(source)
        return self.read(source, sweep_every)

    def _see_to_webhooks(self, source: str) -> None:
        """Have a source send webhooks, or send again what they could not deliver. Nothing rests on it: what was missed is found
        by reading, so that a failure here is said and no more."""
        reader = self._pumps[source].connector
        if isinstance(reader, Redelivering):
            act, failed, done = reader.redeliver, "webhooks.missed", "webhooks.redelivered"
        elif isinstance(reader, Registering):
            act, failed, done = reader.register, "webhooks.unregistered", "webhooks.registered"
        else:
            return
        if time.monotonic() < self._webhooks_at.get(source, 0.0):
            return
        mapped = self._routes(source)
        self._webhooks_at[source] = time.monotonic() + WEBHOOKS_SECONDS
        try:
            count = act(mapped)
        except ConnectorError as error:
            log.warning(failed, source=source, error=str(error))
        except Exception:  # its connector's fault, as in a round
            log.exception("source.broken", source=source)
        else:
            log.debug(done, source=source, count=count)

    def _fails(self, source: str, error: ConnectorError | LeaseLost) -> None:
        """A round over a source failed; that another process reads it is no trouble of the source."""
        self.health.metrics.source_failures.labels(_kind(error)).inc()
        if source in self.sources and isinstance(error, ConnectorError):
            with suppress(StoreUnavailable):  # then that is what keeps it from working, and is said
                self.freshness.failed(source, self.store.now(), _kind(error), str(error))

    def _aggregate(self, stop: threading.Event) -> None:
        """Folds what comes as it comes, and keeps up with who has which partitions."""
        while not stop.is_set():
            with self._at_work(AGGREGATOR, stop):
                if time.monotonic() >= self._next_look:
                    self._next_look = time.monotonic() + self._look_wait
                    self._follow()
                    slower = TICK_SECONDS if self.aggregator.partitions else LOOKS_SLOWER * self._look_wait
                    self._look_wait = min(TICK_SECONDS, slower)
                if self.aggregator.following:
                    folded = self.aggregator.fold(min(FOLLOW_SECONDS, max(0.0, self._next_look - time.monotonic())))
                    sys.setswitchinterval(SWITCH if folded >= BATCH // 4 else QUICK_SWITCH)
                else:
                    stop.wait(min(FOLLOW_SECONDS, max(0.0, self._next_look - time.monotonic())))

    def _follow(self) -> None:
        taken, dropped = self.aggregator.follow()
        if taken or dropped:
            log.info("partitions.assigned", taken=sorted(taken), dropped=sorted(dropped))
            self.health.metrics.taken.inc(len(taken))
            self.health.metrics.dropped.inc(len(dropped))

    def _assess(self, stop: threading.Event) -> None:
        """Ticks, in a thread of its own, so that thinking keeps nothing from being folded; it thinks half of the time at
        the most, and a tenth of it while there is a backlog to fold. What it waits for (a broker that is gone, say) is no
        thinking, and no reason to rest."""
        metrics = self.health.metrics
        thought = rested = 0.0
        while not stop.wait(TICK_SECONDS):
            rested += TICK_SECONDS
            if rested < thought * (RESTS_BEHIND if self.aggregator.is_behind else 1):
                continue
            began = time.thread_time()
            with self._at_work(ASSESSOR, stop), metrics.ticks.time():
                metrics.transitions.inc(self.aggregator.tick(self._clock()))
            thought, rested = time.thread_time() - began, 0.0

    @contextmanager
    def _at_work(self, part: str, stop: threading.Event) -> Iterator[None]:
        """An aggregator's work, which waits where log or store are away and leaves what is another one's."""
        try:
            yield
        except Stopped:
            return
        except (BusUnavailable, StoreUnavailable) as error:
            self._waits(part, str(error))
            stop.wait(TICK_SECONDS)
        except Fenced as error:
            log.warning("partition.fenced", partition=error.partition)
            self.health.metrics.fenced.inc()
            # And taken again if it is still assigned, but not at once: one that slept long has partitions by its own book
            # that went to others, and would take them back. Only the thread that folds takes and drops.
            if part == AGGREGATOR:
                self.aggregator.drop(error.partition)
                self._next_look = time.monotonic() + FENCED_SECONDS
            else:
                self.aggregator.leave(error.partition, error.epoch)
        else:
            self._works(part)

    def _deliver(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_SECONDS):
            try:
                done = self.notifier.drain(stop.is_set)
            except StoreUnavailable as error:
                self._waits("notifier", str(error))
                continue
            self._works("notifier")
            self._delivered(done)
            if done.failed or done.dead:
                log.warning("messages.undelivered", failed=done.failed, dead=done.dead, error=done.problem)

    # --- how it is ----------------------------------------------------------------------------------------------------

    def _watcher(self, workers: Sequence[Worker]) -> Worker:
        """Looks at what these workers rest on, for `/readyz` and `/metrics`: while nothing changes, they would not notice
        that a broker is gone."""
        names = {worker.name for worker in workers}
        looks: dict[str, Callable[[], None]] = {"store": lambda: self._look_at_store(names)}
        if any(worker.needs_log for worker in workers):
            looks["log"] = self._look_at_log
        if AGGREGATOR in names:
            looks["partitions"] = self._look_at_partitions

        def watch(stop: threading.Event) -> None:
            while not stop.is_set():
                for part, look in looks.items():
                    try:
                        look()
                    except (StoreUnavailable, BusUnavailable) as error:
                        self._waits(part, str(error))
                    else:
                        self._works(part)
                self.health.heard()
                self.health.works(STARTING)
                stop.wait(LOOK_SECONDS)

        return Worker("watch", watch, needs_log=False)

    def _look_at_store(self, workers: Collection[str]) -> None:
        if problem := self.store.schema_problem(running=True):
            raise StoreUnavailable(problem)
        metrics, known = self.health.metrics, self.freshness.known()
        metrics.outbox = self.outbox.counts()
        metrics.failing = {source: trouble.since for source, trouble in self.freshness.troubles().items()}
        metrics.read_at = {source: known.get(source, self._began_at) for source in self.sources if source in workers}

    def _look_at_log(self) -> None:
        ahead = self.aggregator.offsets
        ends = {partition: self.bus.end_offset(EVENTS, partition) for partition in ahead or (0,)}
        self.health.metrics.lag = {partition: max(0, ends[partition] - offset) for partition, offset in ahead.items()}

    def _look_at_partitions(self) -> None:
        stopped = dict(self.aggregator.stopped)
        self.health.metrics.partitions, self.health.metrics.stopped = len(self.aggregator.partitions), len(stopped)
        for partition in range(self.bus.partitions):
            part = f"partition {partition}"
            if partition not in stopped:
                self.health.works(part)
            elif self.health.waits(part, stopped[partition]):
                log.error("partition.stopped", error=stopped[partition])
        if self.bus.joined():
            self.health.works("group")
        else:
            self.health.waits("group", "it has not joined the group of aggregators yet, or they are sharing out anew")

    def _waits(self, part: str, reason: str) -> None:
        """A part cannot work: once in the log for each reason, however often it is tried."""
        if self.health.waits(part, reason):
            log.warning("work.waiting", part=part, error=reason)

    def _works(self, part: str) -> None:
        if self.health.works(part):
            log.info("work.resumed", part=part)

    def _paced(self, step: Callable[[str], None]) -> Callable[[str], None]:
        def stepped(name: str) -> None:
            if name == "read":
                self._batch_at = time.monotonic()
            step(name)
            if name in MAY_END and self._stop.is_set():
                raise Stopped

        return stepped

    def _folded(self, batch: Batch) -> None:
        metrics = self.health.metrics
        metrics.batches.observe(time.monotonic() - self._batch_at)
        metrics.folded.inc(batch.records)
        metrics.dead.labels("fold").inc(batch.dead)
        if batch.newest:
            newest = instant(batch.newest)
            metrics.newest = max(newest, metrics.newest or newest)

    def _delivered(self, done: Delivery) -> None:
        metrics = self.health.metrics
        metrics.sent.inc(done.sent)
        metrics.failed.inc(done.failed)
        metrics.given_up.inc(done.dead)
        metrics.doubtful.inc(done.possible_duplicates)

    def _guarded(self, name: str, loop: Callable[[threading.Event], None], stop: threading.Event) -> None:
        """Run a worker; whatever it did not expect is logged and stops the process, for a supervisor to start it anew."""
        try:
            loop(stop)
        except Exception:
            log.exception("worker.died", worker=name)
            self.died = True
            stop.set()

    def _between(self, step: str) -> None:
        """Between two steps of a reader, where it may end."""
        self._step(step)
        if self._stop.is_set():
            raise Stopped

    # --- wiring -------------------------------------------------------------------------------------------------------

    def _routes(self, source: str) -> Routes:
        applied = self.projects.projects()
        return configuration_routes(applied) if source == CONFIGURATION else routes(applied).get(source, {})

    def reader(self, source: str) -> Reader:
        """A connection to a source, beside that of its worker."""
        return self._connect(source)

    def _connect(self, source: str) -> Reader:
        if source == CONFIGURATION:
            return ConfigurationReader(self.projects, self._clock)
        settings = self._settings(source)
        return connector_kinds()[settings.kind].connect(settings, self._clock)

    def _settings(self, source: str) -> Settings:
        found: Settings = next(settings for settings in self.config.sources if settings.name == source)
        return found

    def _pump(self, reader: Reader) -> Pump:
        return Pump(
            reader,
            self.ledger,
            self.publisher,
            self._clock,
            owner(),
            step=self._between,
            progress=self._progress if reader.name != CONFIGURATION else None,
            accept_missing=self._accept_missing,
            reading=lambda container: self._reading(reader.name, container),
            things_per_minute=self._settings(reader.name).things_per_minute if reader.name != CONFIGURATION else None,
            wait=self._stop.wait,
        )

    @contextmanager
    def _reading(self, source: str, container: str) -> Iterator[None]:
        with trace():
            log.debug("container.reading", source=source, container=container)
            yield

    def _senders(self, write: Callable[[str], None]) -> Mapping[str, Sender]:
        senders: dict[str, Sender] = {}
        if self.config.notify.console:
            senders["console"] = ConsoleSender(write)
        if self.config.notify.mail:
            senders["mail"] = MailSender(self.config.notify.mail, self.projects.mail)
        senders[TOPIC] = TopicSender(self._checked_bus)  # also for what was written before outputs were switched off
        return senders


def _pause(error: Exception, failures: int) -> float:
    """How long to wait after a failure, in seconds: what the source asked for, a minute if a person must act, or
    twice as long each time."""
    if isinstance(error, Fatal):
        return FATAL_SECONDS
    if isinstance(error, Retryable) and error.after is not None:
        return min(max(1.0, error.after), LONGEST_SECONDS)
    low, high = BACKOFF_SECONDS
    if isinstance(error, BusUnavailable | StoreUnavailable):
        high = AWAY_SECONDS
    return min(high, low * 2.0 ** min(failures - 1, 10))


def _kind(error: Exception) -> str:
    """What kind of failure of a source that is, as `/metrics` counts it."""
    if isinstance(error, LeaseLost):
        return "lease"
    return "fatal" if isinstance(error, Fatal) else "retryable"
