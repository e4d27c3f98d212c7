"""The projects' configuration as a source: `apply` writes it to the store, its reader publishes it from there.

So there is one writer, and every other role takes projects and routing from the store: a pod with an old file reverts
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connectors.base import Clock, Mark, Read, Ref
from connectors.pump import Routes
from pmsync.config import WEEKDAYS, Config, MembershipConfig, PersonConfig, ProjectConfig, shifts, thousandths
from pmsync.core.events import CONFIGURATION, Member, Project, Promise, Shift, Step, Thresholds, version_at
from pmsync.store.configuration import ConfigurationStore

PRIVATE = {"leader", "notify", "team", "personal"}
SPOKEN = {"personal": "what is read for its team"}
USUAL = "09:00-17:00"
"""Eight hours, on the working days of the project, of whom nothing says when they work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a configuration would do: a line for each difference, and the projects as they would stand."""

    lines: tuple[str, ...]
    projects: Mapping[str, Project]
    version: int


def plan(config: Config, applied: Mapping[str, Project], people: Mapping[str, str], now: datetime) -> Plan:
    """Compare a configuration with what is applied. A mapping that was there keeps the version that began it."""
    begun = [since for each in applied.values() for cs in each.mapping.values() for since in cs.values()]
    version = max([version_at(now), *(since + 1 for since in begun)])
    teams = _teams(config, people)
    projects = {
        each.key: _project(each, teams.get(each.key, ()), applied.get(each.key), people, version)
        for each in config.projects
    }
    lines = [f"- {key}: removed" for key in sorted(applied.keys() - projects.keys())]
    for key, project in sorted(projects.items()):
        lines += _differences(key, applied.get(key), project)
    return Plan(tuple(lines), projects, version)


def mails(config: Config) -> set[str]:
    """Every mail address that the projects name, and those of the people."""
    named = {mail for each in config.projects for mail in (each.leader, *each.notify) if mail}
    return named | {person.mail for person in config.people}


def apply(config: Config, store: ConfigurationStore, now: datetime) -> Plan:
    """Make a configuration the applied one. Publishing it is its reader's business, as for any source."""
    planned = plan(config, store.projects(), store.person_ids(mails(config)), now)
    if planned.lines:
        store.save(planned.projects, planned.version)
    return planned


def routes(projects: Mapping[str, Project]) -> dict[str, dict[str, dict[str, int]]]:
    """source -> container -> project -> since: where what is read of each source goes."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for key, project in projects.items():
        for source, containers in project.mapping.items():
            for container, since in containers.items():
                table.setdefault(source, {}).setdefault(container, {})[key] = since
    return table


def configuration_routes(projects: Mapping[str, Project]) -> Routes:
    """A project is its own container."""
    return {key: {key: 1} for key in projects}


class ConfigurationReader:
    """Reads the applied projects as any `Reader` reads a source."""

    name = CONFIGURATION

    def __init__(self, store: ConfigurationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def now(self) -> datetime:
        return self._clock()

    def changed(self, container: str, _since: datetime | None) -> Iterator[Sequence[Read]]:
        yield list(self.fetch([Ref("project", container)]))

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(Ref("project", container), None)] if container in self._store.projects() else []

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        projects = self._store.projects()
        return (Read(ref, content=projects.get(ref.id)) for ref in refs)


def _teams(config: Config, people: Mapping[str, str]) -> Mapping[str, tuple[Member, ...]]:
    """project -> who works on it, in the order of their ids."""
    found: dict[str, list[Member]] = {}
    shared = [source.name for source in config.sources if getattr(source, "whose", None)]
    projects = {project.key: project for project in config.projects}
    for person in config.people:
        for key, membership in person.projects.items():
            if person.mail in people:
                member = _member(person, membership, projects[key], people[person.mail], shared)
                found.setdefault(key, []).append(member)
    return {key: tuple(sorted(team, key=lambda member: member.person)) for key, team in found.items()}


def _member(
    person: PersonConfig, membership: MembershipConfig, project: ProjectConfig, ident: str, shared: Sequence[str]
) -> Member:
    """Of the accounts only those go into events that tell whose an entry of a shared calendar is."""
    usual = {str(day): USUAL for day in project.working_days}
    return Member(
        person=ident,
        time_zone=person.time_zone or project.time_zone,
        hours=tuple(tuple(Shift(start=a, end=b) for a, b in day) for day in shifts(person.hours or usual)),
        allocation=thousandths(membership.allocation),
        joins=membership.joins,
        leaves=membership.leaves,
        ramp=tuple(Step(days=each.days, share=thousandths(each.share)) for each in membership.ramp),
        calendars=_ordered(person.calendars),
        accounts=_ordered({source: idents for source, idents in person.accounts.items() if source in shared}),
        holidays=None if person.holidays is None else _ordered(person.holidays),
    )


def _ordered(named: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {source: tuple(sorted(set(each))) for source, each in named.items()}


def _personal(config: ProjectConfig, team: Sequence[Member]) -> dict[str, tuple[str, ...]]:
    """source -> the containers that are read for the sake of the team alone."""
    found: dict[str, set[str]] = {}
    for member in team:
        for source, containers in (*member.calendars.items(), *(member.holidays or {}).items()):
            found.setdefault(source, set()).update(set(containers) - set(config.sources.get(source, ())))
    return {source: tuple(sorted(containers)) for source, containers in sorted(found.items()) if containers}


def _project(
    config: ProjectConfig,
    team: tuple[Member, ...],
    applied: Project | None,
    people: Mapping[str, str],
    version: int,
) -> Project:
    before = applied.mapping if applied else {}
    personal = _personal(config, team)
    read = {
        source: (*config.sources.get(source, ()), *personal.get(source, ()))
        for source in (*config.sources, *(source for source in personal if source not in config.sources))
    }
    return Project(
        key=config.key,
        name=config.name or config.key,
        leader=people.get(config.leader) if config.leader else None,
        time_zone=config.time_zone,
        working_days=tuple(sorted(WEEKDAYS.index(day) for day in config.working_days)),
        deadline=config.deadline,
        milestones=tuple(
            Promise(key=each.title, title=each.title, due_date=each.due, also=each.also) for each in config.milestones
        ),
        dates=config.dates,
        mapping={
            source: {container: before.get(source, {}).get(container, version) for container in containers}
            for source, containers in read.items()
        },
        thresholds=Thresholds.model_validate(config.thresholds.model_dump()),
        notify=tuple(people[mail] for mail in config.notify if mail in people),
        team=team,
        personal=personal,
        count_meetings=config.capacity.meetings,
        per_person=config.capacity.per_person,
    )


def _differences(key: str, before: Project | None, after: Project) -> Iterator[str]:
    if before is None:
        yield f"+ {key}: new project {after.name!r}"
        return
    for name in Project.model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if name == "mapping":
            was, now = _pairs(before), _pairs(after)
            yield from (f"~ {key}: no longer reads {pair}" for pair in sorted(was - now))
            yield from (f"~ {key}: reads {pair} from the beginning" for pair in sorted(now - was))
        elif old != new:
            # People are ids here, which say nothing to anyone.
            shown = " changes" if name in PRIVATE else f": {_spoken(old)} -> {_spoken(new)}"
            yield f"~ {key}: {SPOKEN.get(name) or name.replace('_', ' ')}{shown}"


def _spoken(value: object) -> str:
    """A value of a project as people write it."""
    match value:
        case None | ():
            return "none"
        case Promise():
            names = (f"{source}: {title}" for source, titles in value.also.items() for title in titles)
            also = "; ".join(names)
            return f"{value.title} due {value.due_date}" + (f" (also {also})" if also else "")
        case Thresholds():
            return ", ".join(f"{name} {_spoken(each)}" for name, each in value)
        case tuple():
            return ", ".join(map(_spoken, value))
        case _:
            return str(value)


def _pairs(project: Project) -> set[str]:
    return {f"{source}/{container}" for source, containers in project.mapping.items() for container in containers}
