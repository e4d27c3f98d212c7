"""The settings: one file, `pmsync.yaml`, each error with its line and key, each setting with its reason.

`PMSYNC_A__B=value` overrides the key `a.b`. Secrets are only ever references (`{env: NAME}` or `{file: PATH}`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, Union
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from connectors.base import Connector, SecretRef, Settings
from pmsync.core.events import CONFIGURATION, Thresholds

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GROUP = "pmsync.connectors"


class ConfigError(Exception):
    """The configuration cannot be used; the message has a line for each fault."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone; use a name such as Europe/Berlin")
    ZoneInfo(name)
    return name


def _mail(address: str) -> str:
    local, at, domain = address.partition("@")
    if not (local and at and domain) or any(c.isspace() or c in ",;<>" for c in address):
        raise ValueError(f"{address!r} is no mail address")
    return address


Zone = Annotated[str, AfterValidator(_zone)]
Mail = Annotated[str, AfterValidator(_mail)]
Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class BusConfig(_Section):
    """Where events go. The embedded log serves one machine and needs nothing else."""

    kind: Literal["embedded"] = "embedded"
    path: Path = Path("pmsync-log.db")


class StoreConfig(_Section):
    """Where state is kept."""

    url: str = "sqlite:///pmsync.db"


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


class PollConfig(_Section):
    """How often sources are read: changes every minute, a sweep for what a listing misses every hour."""

    every_seconds: int = Field(default=60, ge=1)
    sweep_seconds: int = Field(default=3600, ge=0)


class WebConfig(_Section):
    """Where the pages are served. Loopback only by default: there is no login yet."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)


class PromiseConfig(_Section):
    """A milestone with its promised day."""

    title: str = Field(min_length=1)
    due: date


class ProjectConfig(_Section):
    """One project: who leads it, which containers of which sources belong to it, what is promised."""

    key: Key
    name: str = ""
    leader: Mail | None = None
    time_zone: Zone = "UTC"
    working_days: tuple[Weekday, ...] = WEEKDAYS[:5]
    deadline: date | None = None
    milestones: tuple[PromiseConfig, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = Field(default={}, alias="from")
    thresholds: Thresholds = Thresholds()
    notify: tuple[Mail, ...] = ()

    @field_validator("working_days")
    @classmethod
    def _some_day(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        if not days:
            raise ValueError("a project needs at least one working day")
        return days


class Config(_Section):
    """All of `pmsync.yaml`. `sources` holds each source's own settings, checked by its connector."""

    bus: BusConfig = BusConfig()
    store: StoreConfig = StoreConfig()
    sources: tuple[Any, ...] = ()
    projects: tuple[ProjectConfig, ...] = ()
    notify: NotifyConfig = NotifyConfig()
    poll: PollConfig = PollConfig()
    web: WebConfig = WebConfig()

    @field_validator("sources", mode="before")
    @classmethod
    def _known_kinds(cls, sources: Any) -> Any:
        if not isinstance(sources, list | tuple):
            raise ValueError("sources is a list of entries, each with name and kind")
        return tuple(_settings(source) for source in sources)

    @model_validator(mode="after")
    def _references(self) -> Config:
        names = [source.name for source in self.sources]
        _unique("source", names)
        _unique("project", [project.key for project in self.projects])
        if CONFIGURATION in names:
            raise ValueError(f"a source cannot be named {CONFIGURATION!r}; pmsync uses that name itself")
        for project in self.projects:
            for source in project.sources:
                if source not in names:
                    raise ValueError(
                        f"project {project.key}: there is no source {source!r}; known: {', '.join(names) or 'none'}"
                    )
        return self


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the {what} {twice[0]!r} is there twice")


@cache
def connector_kinds() -> Mapping[str, type[Connector]]:
    """kind -> connector class, as installed packages offer them."""
    return {point.name: point.load() for point in entry_points(group=GROUP)}


def _settings(source: Any) -> Settings:
    if isinstance(source, Settings):
        return source
    kind = str(source.get("kind")) if isinstance(source, Mapping) else ""
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
    override(values, os.environ if environment is None else environment)
    return _checked(path, values, node)


def _checked(path: Path, values: dict[str, Any], node: yaml.Node | None) -> Config:
    try:
        # Sources one by one first: the error of the third source should point at its line.
        for n, source in enumerate(values.get("sources") or ()):
            try:
                _settings(source)
            except (ValidationError, ValueError) as error:
                raise ConfigError("\n".join(_lines(path, node, error, ("sources", n)))) from error
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(path, node, error, ()))) from error


def _lines(path: Path, node: yaml.Node | None, error: ValueError, prefix: tuple[Any, ...]) -> list[str]:
    if not isinstance(error, ValidationError):
        return [f"{path}:{_line(node, prefix)}: {_dotted(prefix)}: {error}"]
    return [
        f"{path}:{_line(node, (*prefix, *fault['loc']))}: {_dotted((*prefix, *fault['loc'])) or 'configuration'}: "
        + fault["msg"].removeprefix("Value error, ")
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]


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


def override(values: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Put `PMSYNC_A__B=value` in place of the key `a.b`."""
    for name, value in sorted(environment.items()):
        path = name.removeprefix("PMSYNC_").lower().split("__")
        if not name.startswith("PMSYNC_") or path[0] not in Config.model_fields or len(path) < 2:
            continue
        section: Any = values
        for part in path[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{name}: {'.'.join(path[:-1])} is no section")
        section[path[-1]] = yaml.safe_load(value)


def json_schema() -> str:
    """The JSON Schema of `pmsync.yaml`, each kind of source included."""
    schema = Config.model_json_schema(by_alias=True)
    kinds = [kind.Settings for _, kind in sorted(connector_kinds().items())]
    sources = TypeAdapter(list[Union[*kinds]]).json_schema(ref_template="#/$defs/{model}")  # type: ignore[valid-type]
    schema["$defs"] |= sources.pop("$defs")
    schema["properties"]["sources"] = sources
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
