"""Everything that can be wrong before a worker runs, checked one by one, each with what to do."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connectors.base import ConnectorError
from pmsync.aggregator import check_log
from pmsync.bus.letters import Letter, open_letters
from pmsync.bus.port import BusUnavailable
from pmsync.buses import layout, open_bus, place
from pmsync.config import BusConfig, Config, ConfigError, KafkaBusConfig, connector_kinds, load
from pmsync.core.dates import unmet
from pmsync.core.events import Project
from pmsync.core.project import view
from pmsync.export import states
from pmsync.notify.notifier import Unreachable
from pmsync.notify.senders import MailSender
from pmsync.store.configuration import ConfigurationStore
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.freshness import Freshness
from pmsync.store.moves import check_moved
from pmsync.store.outbox import Outbox
from pmsync.store.state import StateStore
from pmsync.web.words import duration, last_read

TOPICS_ADVICE = "; run `pmsync topics apply`"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, and what there is to say of it."""

    what: str
    ok: bool
    words: str = "in order"


def findings(path: Path, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """Check the configuration, then all that it names; nothing is written but the files of an embedded installation."""
    try:
        config = load(path)
    except ConfigError as error:
        yield Finding("configuration", False, str(error))
        return
    yield Finding("configuration", True, f"{len(config.sources)} sources, {len(config.projects)} projects")
    yield from _log(config)
    yield from _store(config, clock)
    for source in config.sources:
        yield from _source(config, source.name, clock)
    yield from _mail(config)
    yield from _web(config)


def _log(config: Config) -> Iterator[Finding]:
    what = place(config.bus)
    try:
        wrong = [each for topics in layout(config.bus) for each in topics.differences()]
        yield from (
            Finding("log", False, f"the topic {each.topic} {each.words}{TOPICS_ADVICE if each.is_mendable else ''}")
            for each in wrong
        )
        if any(each.new for each in wrong):
            return
        with (
            closing(open_bus(config.bus)) as bus,
            closing(Store(config.store.url, config.store.secret())) as store,
        ):
            if store.schema_problem() is None:
                check_log(bus, StateStore(store))
            if not wrong:
                yield Finding("log", True, what)
            yield from _retention(config.bus)
            yield from _letters(open_letters(bus))
    except BusUnavailable as error:
        yield Finding("log", False, str(error))
    except (StoreUnavailable, ConnectorError):
        yield Finding("log", True, what)  # what is wrong with the store is said there


def _retention(bus: BusConfig) -> Iterator[Finding]:
    if isinstance(bus, KafkaBusConfig) and bus.retention_days:
        words = (
            f"events are kept for {bus.retention_days} days only (bus.retention_days): to build state from the log again "
            "then needs all sources read again, and loses what people answered before"
        )
        yield Finding("retention", True, words)


def _letters(letters: Sequence[Letter]) -> Iterator[Finding]:
    if letters:
        of = ", ".join(sorted({letter.key for letter in letters}))
        words = f"{len(letters)} of {of} cannot be read; `pmsync dead-letters list` says why"
        yield Finding("dead letters", False, words)


def _store(config: Config, clock: Callable[[], datetime]) -> Iterator[Finding]:
    try:
        with closing(Store(config.store.url, config.store.secret())) as store:
            if problem := store.schema_problem():
                yield Finding("store", False, problem)
                return
            check_moved(store)
            yield Finding("store", True)
            applied = ConfigurationStore(store).projects()
            missing = sorted({project.key for project in config.projects} - applied.keys())
            if missing:
                yield Finding("projects", False, f"not applied yet: {', '.join(missing)}; run `pmsync apply`")
            yield from _titles(StateStore(store), applied, clock())
            for project, recipient, error in Outbox(store).dead():
                yield Finding("delivery", False, f"a message of {project} to {recipient} was given up: {error}")
            now = clock()
            freshness = Freshness(store, config.live_sources, config.poll.allowed)
            for source, trouble in freshness.troubles().items():
                since = duration(max(0, int((now - trouble.since).total_seconds())))
                words = f"for {since} and {trouble.tries} tries: {trouble.reason}"
                yield Finding(f"reading {source}", False, words)
            for line in last_read(freshness.stale(now), now):
                yield Finding(
                    "freshness", False, f"{line}; is its connector running? Its log says why it reads nothing"
                )
    except (StoreUnavailable, ConnectorError) as error:  # the latter: the secret is not where it should be
        yield Finding("store", False, str(error))


def _titles(store: StateStore, applied: Mapping[str, Project], now: datetime) -> Iterator[Finding]:
    """Names of milestones that nothing bears: maybe not yet, maybe by a slip of the pen, and then no dates are compared."""
    named = {key for key, project in applied.items() if any(promise.also for promise in project.milestones)}
    for state in (state for key in sorted(named.intersection(store.projects())) for state in states(store, key)):
        dates = [each for deadline in view(state, now).deadlines for each in deadline.dates]
        for promise, source, title in unmet(state.project, dates):
            words = (
                f"no milestone or deadline in {source} is called {title!r} (`also` of {promise.title}); if it is a "
                "calendar, are its titles read (`titles: true`)?"
            )
            yield Finding(f"milestones of {state.project.key}", True, words)


def _source(config: Config, name: str, clock: Callable[[], datetime]) -> Iterator[Finding]:
    settings = next(source for source in config.sources if source.name == name)
    containers = sorted(config.mapped(name))
    what = f"source {name}"
    if not containers:
        yield Finding(what, False, "no project reads it; name its containers under projects: … from:")
        return
    if not settings.live:
        yield Finding(what, True, "is not asked (live: false); what is known of it came with `pmsync import`")
        return
    try:
        connector = connector_kinds()[settings.kind].connect(settings, clock)
        problems = list(connector.check(containers))
    except ConnectorError as error:
        problems = [str(error)]
    yield from (Finding(what, False, problem) for problem in problems)
    if not problems:
        yield Finding(what, True, f"{', '.join(containers)} can be read")


def _mail(config: Config) -> Iterator[Finding]:
    mail = config.notify.mail
    if mail is None:
        wanted = any(project.leader or project.notify for project in config.projects)
        if wanted:
            yield Finding("mail", False, "projects name people, but there is no notify.mail to reach them by")
        return
    try:
        MailSender(mail, lambda _: None).check()
        yield Finding("mail", True, f"{mail.host}:{mail.port} answers")
    except Unreachable as error:
        yield Finding("mail", False, str(error))


def _web(config: Config) -> Iterator[Finding]:
    host = config.web.host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        yield Finding(
            "web", False, f"web.host is {host}: the pages have no login yet; put a proxy that has one before them"
        )
