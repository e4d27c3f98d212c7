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
from pmsync.config import WEEKDAYS, Config, ProjectConfig
from pmsync.core.events import CONFIGURATION, Project, Promise, Thresholds, version_at
from pmsync.store.configuration import ConfigurationStore


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
    projects = {each.key: _project(each, applied.get(each.key), people, version) for each in config.projects}
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


def _project(config: ProjectConfig, applied: Project | None, people: Mapping[str, str], version: int) -> Project:
    before = applied.mapping if applied else {}
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
            for source, containers in config.sources.items()
        },
        thresholds=Thresholds.model_validate(config.thresholds.model_dump()),
        notify=tuple(people[mail] for mail in config.notify if mail in people),
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
            shown = " changes" if name in {"leader", "notify"} else f": {_spoken(old)} -> {_spoken(new)}"
            yield f"~ {key}: {name.replace('_', ' ')}{shown}"


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
