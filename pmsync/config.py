"""The settings: one file, `pmsync.yaml`, each error with its line and key, each setting with its reason.

`PMSYNC_A__B=value` overrides the key `a.b`. Secrets are only ever references (`{env: NAME}` or `{file: PATH}`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from string import ascii_letters, digits
from typing import Annotated, Any, Literal, NamedTuple, Self, Union
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from connectors.base import Connector, SecretRef, Settings
from connectors.files import Files
from pmsync.core.dates import title_key
from pmsync.core.events import CONFIGURATION, Thresholds

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GROUP, FILES_GROUP = "pmsync.connectors", "pmsync.files"
STALE_ROUNDS = 10
"""A source is called stale after so many rounds that should have been."""
_PASSWORD = re.compile(r"[\w+]+://[^/@]*:[^@]*@|.*[?&]password=")
"""An address with a password in it."""


class ConfigError(Exception):
    """The configuration cannot be used; the message has a line for each fault."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone; use a name such as Europe/Berlin")
    ZoneInfo(name)
    return name


def mail_address(address: str) -> str:
    local, at, domain = address.partition("@")
    if not (local and at and domain) or any(c.isspace() or c in ",;<>" for c in address):
        raise ValueError(f"{address!r} is no mail address")
    return address


def _account(given: Any) -> Any:
    """YAML takes the id of an account for a number where it looks like one, and might write that another way."""
    if isinstance(given, int | float):
        raise ValueError("the id of an account is text; put quotes around it")
    if given == "":
        raise ValueError("the id of an account is empty; take it out")
    return given


def _one_line(name: str) -> str:
    if not name.isprintable():
        raise ValueError("should be one line of text")
    return name.strip()


def _title(given: Any) -> Any:
    """YAML takes 2.0 for a number, and might write that another way."""
    if isinstance(given, int | float):
        raise ValueError("a title is text; put quotes around it")
    if isinstance(given, str) and not given.strip():
        raise ValueError("a title is empty; take it out")
    return given


Zone = Annotated[str, AfterValidator(_zone)]
Mail = Annotated[str, AfterValidator(mail_address)]
Title = Annotated[str, BeforeValidator(_title, json_schema_input_type=str)]
AccountId = Annotated[str, BeforeValidator(_account, json_schema_input_type=str)]
Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)", re.ASCII)
Shifts = tuple[tuple[int, int], ...]
"""Minutes of a day, `[start, end)`; of a night they end beyond 1440."""


def shifts(hours: Mapping[str, str]) -> tuple[Shifts, ...]:
    """The working hours of each weekday, Monday first; raises `ValueError`, with what to write."""
    found: list[Shifts | None] = [None] * len(WEEKDAYS)
    for days, text in hours.items():
        for day in _weekdays(days):
            if found[day] is not None:
                raise ValueError(f"{WEEKDAYS[day]} is there twice")
            found[day] = tuple(sorted(_shift(part) for part in text.split(",") if part.strip()))
    week = tuple(day or () for day in found)
    for n, worked in enumerate(week):
        after = [start + 1440 for start, _ in week[(n + 1) % len(week)][:1]]
        starts, ends = [*(start for start, _ in worked), *after], [end for _, end in worked]
        if any(start < end for end, start in zip(ends, starts[1:], strict=False)):
            raise ValueError(f"hours of {WEEKDAYS[n]} overlap each other, or those of the day after")
    return week


def _weekdays(text: str) -> range:
    first, dash, last = (part.strip().lower() for part in text.partition("-"))
    known: tuple[str, ...] = WEEKDAYS
    if first in known and (last in known if dash else not last):
        found = range(known.index(first), known.index(last if dash else first) + 1)
        if found:
            return found
    raise ValueError(f"{text!r} are no weekdays; write mon, or mon-fri")


def _shift(text: str) -> tuple[int, int]:
    first, _, last = (part.strip() for part in text.partition("-"))
    times = [_CLOCK.fullmatch(part) for part in (first, last)]
    start, end = (int(time[1]) * 60 + int(time[2]) if time else -1 for time in times)
    if min(start, end) < 0 or start >= 1440 or end > 1440 or start == end:
        raise ValueError(
            f"{text.strip()!r} are no hours; write 09:00-12:30, several with commas between, a night 22:00-06:00"
        )
    return start, end if end > start else end + 1440


def _hours(hours: Mapping[str, str]) -> Mapping[str, str]:
    shifts(hours)
    return hours


class EmbeddedBusConfig(_Section):
    """Where events go. The embedded log serves one machine and needs nothing else."""

    kind: Literal["embedded"] = "embedded"
    path: Path = Path("pmsync-log.db")


class KafkaSecurityConfig(_Section):
    """How Kafka is signed in to, in Kafka's own words. Secrets are references, read anew with each connection."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    user: str | None = None
    password: SecretRef | None = None
    token: SecretRef | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: SecretRef | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if words := _misfit(self):
            raise ValueError(words)
        return self


def _misfit(security: KafkaSecurityConfig) -> str | None:
    """What does not go together under `bus.security`."""
    sasl, tls = security.protocol.startswith("SASL"), security.protocol.endswith("SSL")
    named = security.mechanism in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
    rules = (
        (
            sasl != (security.mechanism is not None),
            "mechanism goes with SASL_PLAINTEXT and SASL_SSL, and they need one",
        ),
        (
            named != (security.user is not None and security.password is not None),
            "PLAIN and SCRAM need user and password",
        ),
        ((security.mechanism == "OAUTHBEARER") != (security.token is not None), "OAUTHBEARER needs a token"),
        ((security.certificate is None) != (security.key is None), "certificate and key go together"),
        (not tls and bool(security.ca or security.certificate), "ca, certificate and key go with SSL and SASL_SSL"),
    )
    return next((words for wrong, words in rules if wrong), None)


def _servers(given: Any) -> Any:
    """`a:9092,b:9092` is as good as a list: it is how Kafka writes it, and what fits into a variable."""
    return [each.strip() for each in given.split(",") if each.strip()] if isinstance(given, str) else given


def _server(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(f"{address!r} is no broker; write HOST:PORT, as in kafka.example.com:9092")
    return address


def _kafka_name(name: str) -> str:
    if len(name) > 100 or not set(name) <= set(ascii_letters + digits + "._-"):
        raise ValueError("should be letters, digits, '.', '_' and '-', at most 100 of them")
    return name


def _some(servers: tuple[str, ...]) -> tuple[str, ...]:
    if not servers:
        raise ValueError("should name at least one broker")
    return servers


Servers = Annotated[
    tuple[Annotated[str, AfterValidator(_server)], ...],
    BeforeValidator(_servers, json_schema_input_type=str | list[str]),
    AfterValidator(_some),
]


class KafkaBusConfig(_Section):
    """A log on Apache Kafka, shared by as many processes as there are partitions."""

    kind: Literal["kafka"]
    bootstrap_servers: Servers
    partitions: int = Field(default=8, ge=1, le=1000)
    replication: int = Field(default=3, ge=1, le=10)
    retention_days: int | None = Field(default=None, ge=1, le=36500)
    compression: Literal["zstd", "gzip", "none"] = "zstd"
    prefix: Annotated[str, AfterValidator(_kafka_name)] = ""
    member: Annotated[str, AfterValidator(_kafka_name)] | None = None
    session_seconds: int = Field(default=30, ge=1, le=1800)
    security: KafkaSecurityConfig = KafkaSecurityConfig()


BusConfig = Annotated[EmbeddedBusConfig | KafkaBusConfig, Field(discriminator="kind")]


class StoreConfig(_Section):
    """Where state is kept. The password of a PostgreSQL is a reference; only a variable may carry it in the address."""

    url: str = "sqlite:///pmsync.db"
    password: SecretRef | None = None

    def secret(self) -> str | None:
        """The password, if one is referred to; raises `connectors.base.Fatal` where it is not to be had."""
        return self.password.reveal() if self.password else None


class MailConfig(_Section):
    """How mail is sent. With `user`, the password is a reference; `tls` is off only for a relay on this machine."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    sender: Mail
    user: str | None = None
    password: SecretRef | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"


class NotifyConfig(_Section):
    """Ways to people. The console is on so that a newcomer sees what would be sent."""

    console: bool = True
    mail: MailConfig | None = None


class OutputsConfig(_Section):
    """What other programs are told by topics of the log. Unless said, it goes with Kafka: an embedded log has no other
    readers."""

    metrics: bool | None = None
    alerts: bool | None = None


class PollConfig(_Section):
    """How often sources are read: changes every minute, a sweep for what a listing misses every hour."""

    every_seconds: int = Field(default=60, ge=1)
    sweep_seconds: int = Field(default=3600, ge=0)

    @property
    def allowed(self) -> timedelta:
        """How long a source may go unread before that is said."""
        return STALE_ROUNDS * timedelta(seconds=self.every_seconds)


class WebConfig(_Section):
    """Where the pages are served. Loopback only by default: there is no login yet."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)


class HealthConfig(_Section):
    """Where a process says how it is (`/healthz`, `/readyz`, `/metrics`) beside the pages, which say it too."""

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)


class PromiseConfig(_Section):
    """A milestone with its promised day, and what the sources call it, where that is something else."""

    title: Title
    due: date
    also: Mapping[str, tuple[Title, ...]] = {}


class ThresholdsConfig(Thresholds):
    """When the rules speak; a misspelt key is refused here."""

    model_config = ConfigDict(extra="forbid")

    ladder: tuple[Annotated[int, Field(ge=0)], ...] = Thresholds().ladder
    blocked_days: int = Field(default=Thresholds().blocked_days, ge=0)
    stale_days: int = Field(default=Thresholds().stale_days, ge=0)
    on_time: int = Field(default=Thresholds().on_time, ge=0, le=1000)


class CapacityConfig(_Section):
    """What the capacity of the team counts and shows; figures are the team's, unless a project wants more."""

    meetings: bool = False
    per_person: bool = False


class ProjectConfig(_Section):
    """One project: who leads it, which containers of which sources belong to it, what is promised."""

    key: Key
    name: str = ""
    leader: Mail | None = None
    time_zone: Zone = "UTC"
    working_days: tuple[Weekday, ...] = WEEKDAYS[:5]
    deadline: date | None = None
    milestones: tuple[PromiseConfig, ...] = ()
    dates: tuple[str, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = Field(default={}, alias="from")
    thresholds: ThresholdsConfig = ThresholdsConfig()
    notify: tuple[Mail, ...] = ()
    capacity: CapacityConfig = CapacityConfig()

    @field_validator("working_days")
    @classmethod
    def _some_day(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        if not days:
            raise ValueError("a project needs at least one working day")
        return days


class StepConfig(_Section):
    """For so many calendar days only such a share of what is allocated counts."""

    days: int = Field(ge=1, le=3660)
    share: Annotated[float, Field(ge=0, le=1)]


class MembershipConfig(_Section):
    """What of a person's hours is one project's, from when to when (both days included); `ramp` begins on the day `from`."""

    allocation: Annotated[float, Field(ge=0, le=1)] = 1.0
    joins: date | None = Field(default=None, alias="from")
    leaves: date | None = Field(default=None, alias="until")
    ramp: tuple[StepConfig, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.joins and self.leaves and self.leaves < self.joins:
            raise ValueError("until is before from")
        if self.ramp and self.joins is None:
            raise ValueError("a ramp begins on the day from, which is missing")
        return self


class PersonConfig(_Section):
    """Somebody whom the projects or the sources know: a name, which accounts of which sources are theirs, when they work and for
    which projects."""

    mail: Mail
    name: Annotated[str, Field(max_length=200), AfterValidator(_one_line)] = ""
    accounts: Mapping[str, tuple[AccountId, ...]] = {}
    time_zone: Zone | None = None
    hours: Annotated[Mapping[str, str], AfterValidator(_hours)] = {}
    calendars: Mapping[str, tuple[str, ...]] = {}
    holidays: Mapping[str, tuple[str, ...]] | None = None
    projects: Mapping[Key, MembershipConfig] = {}

    @property
    def personal(self) -> set[tuple[str, str]]:
        """The (source, container) pairs that say when they are there."""
        named = (*self.calendars.items(), *(self.holidays or {}).items())
        return {(source, container) for source, containers in named for container in containers}


class Config(_Section):
    """All of `pmsync.yaml`. `sources` holds each source's own settings, checked by its connector."""

    bus: BusConfig = EmbeddedBusConfig()
    store: StoreConfig = StoreConfig()
    sources: tuple[Any, ...] = ()
    projects: tuple[ProjectConfig, ...] = ()
    people: tuple[PersonConfig, ...] = ()
    notify: NotifyConfig = NotifyConfig()
    outputs: OutputsConfig = OutputsConfig()
    poll: PollConfig = PollConfig()
    web: WebConfig = WebConfig()
    health: HealthConfig = HealthConfig()

    def mapped(self, source: str) -> set[str]:
        """The containers of a source that are read for any project, or for the sake of somebody who works on one."""
        found = {container for project in self.projects for container in project.sources.get(source, ())}
        theirs = {place for person in self.people if person.projects for place in person.personal}
        return found | {container for name, container in theirs if name == source}

    @property
    def source_names(self) -> list[str]:
        return [source.name for source in self.sources]

    @property
    def live_sources(self) -> list[str]:
        """The names of those that are asked; what is known of the others came with `pmsync import`."""
        return [source.name for source in self.sources if source.live]

    @field_validator("bus", mode="before")
    @classmethod
    def _embedded_unless_said(cls, bus: Any) -> Any:
        return {"kind": "embedded", **bus} if isinstance(bus, Mapping) else bus

    @field_validator("sources", mode="before")
    @classmethod
    def _known_kinds(cls, sources: Any) -> Any:
        if not isinstance(sources, list | tuple):
            raise ValueError("sources is a list of entries, each with name and kind")
        return tuple(_settings(source) for source in sources)

    @model_validator(mode="after")
    def _references(self) -> Config:
        for place, words in _faults(self):
            raise PydanticCustomError("reference", "{words}", {"words": words, "place": place})
        return self


def _faults(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong between the parts: where, and what."""
    names = config.source_names
    yield from _twice("source", names, "sources", "name")
    yield from _twice("project", [project.key for project in config.projects], "projects", "key")
    if CONFIGURATION in names:
        place = ("sources", names.index(CONFIGURATION), "name")
        yield place, f"a source cannot be named {CONFIGURATION!r}; pmsync uses that name itself"
    for n, project in enumerate(config.projects):
        yield from _faults_of_dates(n, project, names)
        for source in (source for source in project.sources if source not in names):
            yield ("projects", n, "from", source), f"project {project.key}: {_unknown(source, names)}"
    yield from _faults_of_people(config, names)


def _faults_of_dates(n: int, project: ProjectConfig, names: list[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """A title at a source is one milestone's, and a source has one place in the order of dates."""
    titles = [title_key(promise.title) for promise in project.milestones]
    yield from _twice("milestone", titles, "projects", n, "milestones")
    yield from _twice("source", list(project.dates), "projects", n, "dates")
    for i, source in enumerate(project.dates):
        if source not in (CONFIGURATION, *names):
            yield ("projects", n, "dates", i), _unknown(source, [CONFIGURATION, *names])
    owners = {title: i for i, title in enumerate(titles)}
    meant: dict[tuple[str, str], int] = {}
    for i, promise in enumerate(project.milestones):
        for source, also in promise.also.items():
            place: tuple[str | int, ...] = ("projects", n, "milestones", i, "also", source)
            if source not in project.sources:
                yield place, f"project {project.key} reads nothing of {source!r}; it reads {_listed(project.sources)}"
            for j, title in enumerate(also):
                key = title_key(title)
                owner = meant.setdefault((source, key), owners.get(key, i))
                if owner != i:
                    words = f"the title {title!r} is that of milestones.{owner}, too; take it out here or there"
                    yield (*place, j), words


def _faults_of_people(config: Config, names: list[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """An address and an account are one person's. Neither is repeated: what is said here ends in logs."""
    written = [
        (n, mail) for n, project in enumerate(config.projects) for mail in (project.leader, *project.notify) if mail
    ]
    mails: dict[str, int] = {}
    owners: dict[tuple[str, str], int] = {}
    for n, person in enumerate(config.people):
        first = mails.setdefault(person.mail.casefold(), n)
        if first != n:
            yield ("people", n, "mail"), f"this address is that of people.{first}, too; make one person of the two"
        for project, mail in written:
            if mail != person.mail and mail.casefold() == person.mail.casefold():
                words = (
                    f"projects.{project} writes this address in letters of another case; write it alike in both places"
                )
                yield ("people", n, "mail"), words
        for source, accounts in person.accounts.items():
            if source not in names:
                yield ("people", n, "accounts", source), _unknown(source, names)
            for i, account in enumerate(accounts):
                place = ("people", n, "accounts", source, i)
                if (source, account) in owners:
                    whose = owners[source, account]
                    other = "is there twice" if whose == n else f"is that of people.{whose}, too"
                    yield place, f"this account {other}; an account is one person's: take it out here or there"
                owners.setdefault((source, account), n)
    yield from _faults_of_teams(config, names)


def _faults_of_teams(config: Config, names: list[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """A calendar is one person's, and nobody has more than their hours to give."""
    keys = [project.key for project in config.projects]
    owners: dict[tuple[str, str], int] = {}
    for n, person in enumerate(config.people):
        for key in ("calendars", "holidays"):
            for source in (source for source in getattr(person, key) or {} if source not in names):
                yield ("people", n, key, source), _unknown(source, names)
        for source, containers in person.calendars.items():
            for container in containers:
                first = owners.setdefault((source, container), n)
                if first != n:
                    words = (
                        f"this calendar is that of people.{first}, too; one of several goes under `whose` of its source"
                    )
                    yield ("people", n, "calendars", source), words
        for key, membership in person.projects.items():
            if key not in keys:
                words = f"there is no project {key!r}; known: {', '.join(keys) or 'none'}"
                yield ("people", n, "projects", key), words
            if over := _over(person, membership.joins or date.min):
                day = f" from {membership.joins}" if membership.joins else ""
                words = (
                    f"more is allocated than there is:{day} {over} of 1 over all projects; make the allocations smaller"
                )
                yield ("people", n, "projects", key), words


def _over(person: PersonConfig, day: date) -> str | None:
    """What is allocated of somebody on a day, if it is more than all."""
    there = (each for each in person.projects.values() if (each.joins or date.min) <= day <= (each.leaves or date.max))
    allocated = sum(thousandths(each.allocation) for each in there)
    return f"{allocated / 1000:g}" if allocated > 1000 else None


def thousandths(share: float) -> int:
    return round(share * 1000)


def _unknown(source: str, names: list[str]) -> str:
    return f"there is no source {source!r}; known: {_listed(names)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _twice(what: str, names: list[str], *place: str | int) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for n, name in enumerate(names):
        if name in names[:n]:
            at = (place[0], n, place[1]) if len(place) == 2 else (*place, n)
            yield at, f"the {what} {name!r} is there twice"


@cache
def connector_kinds() -> Mapping[str, type[Connector]]:
    """kind -> connector class, as installed packages offer them."""
    return {point.name: point.load() for point in entry_points(group=GROUP)}


@cache
def file_kinds() -> Mapping[str, Files]:
    """kind -> how files of such a source are read, of those kinds that can be imported."""
    return {point.name: point.load() for point in entry_points(group=FILES_GROUP)}


def _settings(source: Any) -> Settings:
    if isinstance(source, Settings):
        return source
    kind = str(source.get("kind", "")) if isinstance(source, Mapping) else ""
    if kind not in connector_kinds():
        raise ValueError(f"kind {kind!r} is not known; installed: {', '.join(sorted(connector_kinds()))}")
    return connector_kinds()[kind].Settings.model_validate(source)


# --- reading the file -------------------------------------------------------------------------------------------------


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file; raises `ConfigError` with `file:line: key: what is wrong` for every fault."""
    try:
        raw = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: cannot be read ({reason}); `pmsync demo` needs no file") from error
    try:
        node = yaml.compose(raw, Loader=yaml.SafeLoader)
        values = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected keys such as sources and projects")
    if node is not None and (repeated := "\n".join(f"{path}:{each}" for each in _repeated(node))):
        raise ConfigError(repeated)
    values = {name: value for name, value in values.items() if value is not None}  # an empty section: its defaults
    places = _Places(path, node, override(values, os.environ if environment is None else environment))
    config = _checked(values, places)
    if "store.url" not in places.variables and _PASSWORD.match(config.store.url):
        words = "a password does not belong into the file; take it out and give store.password, as {env: NAME} or {file: PATH}"
        raise ConfigError(f"{places.of(('store', 'url'))}: store.url: {words}")
    return config


def _repeated(node: yaml.Node) -> Iterator[str]:
    """Keys that stand twice in one section: YAML would quietly forget the first."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for n, (key, value) in enumerate(node.value):
            if key.value in keys[:n]:
                yield f"{key.start_mark.line + 1}: {key.value}: the key is there twice"
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)


class _Places(NamedTuple):
    """Where values stand: in the file, or (by dotted key) in a variable of the environment."""

    path: Path
    node: yaml.Node | None
    variables: Mapping[str, str]

    def of(self, loc: tuple[Any, ...]) -> str:
        dotted = _dotted(loc)
        for key, variable in self.variables.items():
            if f"{dotted}.".startswith(f"{key}."):
                return variable
        return f"{self.path}:{_line(self.node, loc)}"


def _checked(values: dict[str, Any], places: _Places) -> Config:
    sources = values.get("sources")
    try:
        # Sources one by one first: the error of the third source should point at its line.
        for n, source in enumerate(sources if isinstance(sources, list) else ()):
            try:
                _settings(source)
            except (ValidationError, ValueError) as error:
                raise ConfigError("\n".join(_lines(places, error, ("sources", n)))) from error
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(places, error, ()))) from error


def _lines(places: _Places, error: ValueError, prefix: tuple[Any, ...]) -> list[str]:
    if not isinstance(error, ValidationError):
        return [f"{places.of(prefix)}: {_dotted(prefix)}: {error}"]
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        context = fault.get("ctx", {})
        loc = _without_tag((*prefix, *context.get("place", fault["loc"])))
        lines.append(
            f"{places.of(loc)}: {_dotted(loc) or 'configuration'}: {_words(fault['type'], fault['msg'], context)}"
        )
    return lines


def _without_tag(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """A place within `bus`: pydantic puts the kind into it, which is no key of the file."""
    return (loc[0], *loc[2:]) if loc[:1] == ("bus",) and len(loc) > 1 else loc


_PLAIN = {
    "model_attributes_type": "should be a section of keys",
    "union_tag_invalid": "kind is not known; there are embedded and kafka",
    "extra_forbidden": "there is no such key",
    "missing": "is missing",
    "tuple_type": "should be a list",
    "mapping_type": "should be a section of keys",
    "string_pattern_mismatch": "should be lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit",
}
"""Words for people where pydantic's are for programmers, by its type of error."""


def _words(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind == "model_type":
        secret = context.get("class_name") == SecretRef.__name__
        return "a secret is given as {env: NAME} or as {file: PATH}" if secret else "should be a section of keys"
    return _PLAIN.get(kind, message.removeprefix("Value error, "))


def _dotted(loc: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _line(node: yaml.Node | None, loc: tuple[Any, ...]) -> int:
    """The line of the deepest part of a location that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for part in loc:
        below = _child(node, part)
        if below is None:
            return line
        key, node = below
        line = key.start_mark.line + 1
    return line


def _child(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def override(values: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Put `PMSYNC_A__B=value` in place of the key `a.b`; returns which variable each key is from."""
    places: dict[str, str] = {}
    for name, value in sorted(environment.items()):
        path = name.removeprefix("PMSYNC_").lower().split("__")
        if not name.startswith("PMSYNC_") or path[0] not in Config.model_fields or len(path) < 2:
            continue
        section: Any = values
        for part in path[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{name}: {'.'.join(path[:-1])} is no section; set it in the file")
        try:
            section[path[-1]] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{name}: not YAML; put quotes around it") from error
        places[".".join(path)] = name
    return places


def json_schema() -> str:
    """The JSON Schema of `pmsync.yaml`, each kind of source included."""
    schema = Config.model_json_schema(by_alias=True)
    kinds = [kind.Settings for _, kind in sorted(connector_kinds().items())]
    sources = TypeAdapter(list[Union[*kinds]]).json_schema(ref_template="#/$defs/{model}")  # type: ignore[valid-type]
    schema["$defs"] |= sources.pop("$defs")
    schema["properties"]["sources"] = sources
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
