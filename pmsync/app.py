"""The parts, put together for one configuration: what `run`, `apply` and the tests drive.

Next on the way of an event: `connectors/base.py`, the port through which a source is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import structlog

from connectors.base import Clock, ConnectorError, Fatal, Reader, Retryable
from connectors.pump import Counts, LeaseLost, Progress, Pump, Routes
from pmsync.aggregator import Aggregator, check_log
from pmsync.bus.port import BusUnavailable
from pmsync.bus.publisher import Publisher
from pmsync.buses import open_bus
from pmsync.config import Config, connector_kinds
from pmsync.configuration import ConfigurationReader, Plan, apply, configuration_routes, mails, plan, routes
from pmsync.core.events import CONFIGURATION
from pmsync.notify.notifier import Delivery, Notifier
from pmsync.notify.senders import ConsoleSender, MailSender, Sender
from pmsync.store.configuration import ConfigurationStore
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.ledger import SqlLedger
from pmsync.store.outbox import Outbox
from pmsync.store.owners import owner
from pmsync.store.state import Fenced, StateStore

log = structlog.get_logger()

TICK_SECONDS = 2.0
FATAL_SECONDS = 60.0
"""An authorisation fault is tried at most once a minute."""
BACKOFF_SECONDS = 5.0, 300.0
LONGEST_SECONDS = 3600.0
"""No source's limits last longer than an hour; one that asks for more is asked again after that."""
DRAIN_SECONDS = 20.0


class Worker(NamedTuple):
    """Something that goes on until the event is set, and its name."""

    name: str
    loop: Callable[[threading.Event], None]


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
    """A configured pmsync. `clock` says what time it is for events and alerts; leases go by `wall`.

    `step` is called between any two steps of the work, for tests that end it there; `write` prints a message.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        wall: Clock | None = None,
        step: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda *_: None,
        write: Callable[[str], None] = print,
        accept_missing: frozenset[str] = frozenset(),
    ) -> None:
        self.config = config
        self.died = False
        self._clock, self._wall = clock, wall or clock
        self._step, self._progress, self._accept_missing = step, progress, accept_missing
        self.store = Store(config.store.url, config.store.secret())
        self.store.migrate()
        self.bus = open_bus(config.bus)
        self.state = StateStore(self.store)
        self.projects = ConfigurationStore(self.store)
        self.outbox = Outbox(self.store)
        self._publisher: Publisher | None = None
        senders = self._senders(write)
        self.aggregator = Aggregator(self.bus, self.state, owner(), tuple(senders), step)
        self.notifier = Notifier(self.outbox, senders, self._wall, owner(), step)
        self._pumps: dict[str, Pump] = {}
        self._stop = threading.Event()

    @property
    def sources(self) -> list[str]:
        return [source.name for source in self.config.sources]

    @property
    def publisher(self) -> Publisher:
        """Publishes into the log; raises `BusUnavailable` if that is not the one that the store is built from."""
        if self._publisher is None:
            self.check_log()
            self._publisher = Publisher(self.bus)
        return self._publisher

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
        people = {mail: known.get(mail, f"new:{mail}") for mail in mails(self.config)}
        return plan(self.config, self.projects.projects(), people, self._clock())

    def apply(self) -> Plan:
        """Make this configuration the applied one, and publish it, unless another process is just about that."""
        self.check_log()
        planned = apply(self.config, self.projects, self._clock())
        self._step("applied")
        try:
            self.read(CONFIGURATION)
        except LeaseLost:
            log.info(
                "configuration.left", to="the worker that is reading the configuration publishes it at its next round"
            )
        return planned

    def read(self, source: str, sweep_every: timedelta = timedelta(0)) -> Counts:
        """One round over a source. Only now is it connected to: to look at what was read needs no secrets."""
        if source not in self._pumps:
            self._pumps[source] = self._pump(self._connect(source))
        pump = self._pumps[source]
        try:
            counts = pump.sync(self._routes(source), sweep_every)
        except (ConnectorError, LeaseLost, BusUnavailable, StoreUnavailable, Stopped):
            raise
        except Exception as error:
            # A connector promises two errors; a third one is its fault, and must not stop the others' work.
            log.exception("source.broken", source=source)
            raise Retryable(f"{source}: its connector failed ({type(error).__name__}); the log says where") from error
        if source == CONFIGURATION:
            pump.release()  # `pmsync apply` is a process of its own, and should not have to wait
        return counts

    def once(self) -> Outcome:
        """Catch up with every source, assess, deliver. A source that fails is named; the others go on."""
        outcome = Outcome()
        self.apply()
        for source in self.sources:
            try:
                self.read(source)
            except (ConnectorError, LeaseLost) as error:
                outcome.problems[source] = str(error)
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

    def aggregator_worker(self) -> Worker:
        """Folds and assesses the partitions that the bus assigns to this process."""
        self.check_log()
        self.bus.join()
        return Worker("aggregator", self._aggregate)

    def notifier_worker(self) -> Worker:
        """Delivers what the outbox holds."""
        return Worker("notifier", self._deliver)

    def workers(self) -> list[Worker]:
        """Everything that there is to do, by the configuration of this process's own file."""
        self.apply()
        readers = [self.connector_worker(source) for source in (CONFIGURATION, *self.sources)]
        return [self.aggregator_worker(), self.notifier_worker(), *readers]

    @contextmanager
    def running(self, workers: Sequence[Worker]) -> Iterator[threading.Event]:
        """Workers at it in threads while the block runs. The event is set when one died or it is time to stop."""
        stop = self._stop
        threads = [
            # Daemons: whoever has not ended by then is ended with the process, which may happen at any moment anyway.
            threading.Thread(target=self._guarded, args=(*worker, stop), name=worker.name, daemon=True)
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
            failures = 0
            wait = 0.0
            while not stop.wait(wait):
                try:
                    counts = self.read(source, sweep_every)
                except Stopped:
                    return
                except (ConnectorError, LeaseLost, BusUnavailable, StoreUnavailable) as error:
                    failures += 1
                    wait = _pause(error, failures)
                    # One failure that another try mends (a connection that was kept too long, say) is daily life.
                    say = log.debug if failures == 1 and isinstance(error, Retryable) else log.warning
                    say("source.failed", source=source, error=str(error), tries=failures, again_in=wait)
                else:
                    if failures > 1:
                        log.info("source.recovered", source=source, tries=failures)
                    failures, wait = 0, every
                    log.debug("source.read", source=source, published=counts.published)

        return loop

    def _aggregate(self, stop: threading.Event) -> None:
        said: set[str] = set()
        while not stop.wait(TICK_SECONDS):
            for why in sorted(set(self.aggregator.stopped.values()) - said):
                log.error("partition.stopped", error=why)
                said.add(why)
            try:
                taken, dropped = self.aggregator.follow()
                if taken or dropped:
                    log.info("partitions.assigned", taken=sorted(taken), dropped=sorted(dropped))
                self.aggregator.catch_up()
                self.aggregator.tick(self._clock())
            except (BusUnavailable, StoreUnavailable) as error:
                log.warning("aggregator.waiting", error=str(error))
            except Fenced as error:
                log.warning("partition.fenced", partition=error.partition)
                self.aggregator.drop(error.partition)  # and taken again if it is still assigned

    def _deliver(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_SECONDS):
            try:
                done = self.notifier.drain(stop.is_set)
            except StoreUnavailable as error:
                log.warning("notifier.waiting", error=str(error))
                continue
            if done.failed or done.dead:
                log.warning("messages.undelivered", failed=done.failed, dead=done.dead)

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

    def _connect(self, source: str) -> Reader:
        if source == CONFIGURATION:
            return ConfigurationReader(self.projects, self._clock)
        settings = next(settings for settings in self.config.sources if settings.name == source)
        return connector_kinds()[settings.kind].connect(settings, self._clock)

    def _pump(self, reader: Reader) -> Pump:
        return Pump(
            reader,
            SqlLedger(self.store, self._wall),
            self.publisher,
            self._clock,
            owner(),
            step=self._between,
            progress=self._progress if reader.name != CONFIGURATION else lambda *_: None,
            accept_missing=self._accept_missing,
        )

    def _senders(self, write: Callable[[str], None]) -> Mapping[str, Sender]:
        senders: dict[str, Sender] = {}
        if self.config.notify.console:
            senders["console"] = ConsoleSender(write)
        if self.config.notify.mail:
            senders["mail"] = MailSender(self.config.notify.mail, self.projects.mail)
        return senders


def _pause(error: Exception, failures: int) -> float:
    """How long to wait after a failure, in seconds: what the source asked for, a minute if a person must act, or
    twice as long each time."""
    if isinstance(error, Fatal):
        return FATAL_SECONDS
    if isinstance(error, Retryable) and error.after is not None:
        return min(max(1.0, error.after), LONGEST_SECONDS)
    low, high = BACKOFF_SECONDS
    return min(high, low * 2.0 ** min(failures - 1, 10))
