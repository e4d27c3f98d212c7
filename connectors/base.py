"""The port that every connector fills, and the errors that it may raise.

A connector only reads: it lists what changed, lists what is there, and fetches by id, and translates what it read by
pure functions. When to read, what was published already, versions, routing and restarts are the pump's business.

Next on the way of an event: `connectors/pump.py`, which drives a connector and publishes what it reads.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pmsync.core.events import Content

Clock = Callable[[], datetime]


class ConnectorError(Exception):
    """Something went wrong between pmsync and a source."""


class Retryable(ConnectorError):
    """The source is busy or out of reach; it is worth another try, after `after` seconds if the source said so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Fatal(ConnectorError):
    """Trying again will not help: bad credentials, no such container. The message says what to do."""


class Withheld(Fatal):
    """One container, or one thing of it, is not to be had: gone, renamed or not for this account. The others of its
    source go on."""


class Apart(Withheld, Retryable):
    """One container is not to be had for now, which says nothing of the others: those go on, and it is worth another try."""


def unreached(url: str, error: BaseException) -> str:
    """Which host was not reached, why, and what to try. The error's own text may hold a password (of a proxy, of a
    private feed's address), so only its kind is told."""
    causes = " ".join(type(cause).__name__ for cause in _causes(error))
    why = next((words for kind, words in _UNREACHED if kind in causes), f"no whole answer ({type(error).__name__})")
    return f"{urlsplit(url).hostname} cannot be read: {why}; check the address, the network and any proxy"


_UNREACHED = (
    ("NameResolution", "there is no host of that name"),
    ("gaierror", "there is no host of that name"),
    ("ConnectionRefused", "it refuses connections"),
    ("Proxy", "the proxy does not let it through"),
    ("SSL", "its TLS certificate does not hold"),
    ("Timeout", "it did not answer in time"),
    ("timeout", "it did not answer in time"),
    ("RemoteDisconnected", "it broke the connection off"),
    ("ConnectionReset", "it broke the connection off"),
)
"""What the errors of requests, urllib3 and sockets mean, by the names of their classes; the first that fits."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of. requests and urllib3 keep that in arguments and reasons, not in causes alone."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < MOST_CAUSES:
        cause = waiting.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            of = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
            waiting += [each for each in of if isinstance(each, BaseException)]


MOST_CAUSES = 20

LONGEST_WAIT = 3600.0
"""Seconds. The quotas of our sources begin anew every hour, so no honest source asks for more."""


def retry_after(value: str | None, now: datetime | None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3); a date is counted from the source's `now`."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return bounded_wait(float(text))
    when = http_date(text)
    return bounded_wait((when - now).total_seconds()) if when and now else None


def bounded_wait(seconds: float) -> float:
    """At least a second, at most an hour."""
    return min(max(seconds, 1.0), LONGEST_WAIT)


def http_date(value: str | None) -> datetime | None:
    """The instant in a header such as `Date`; None where there is none."""
    try:
        when = parsedate_to_datetime(value or "")
        return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def problem(error: ValidationError) -> str:
    """What is wrong with a thing, in one line and without its content: the shape, the field, and what it should be."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{error.title.lstrip('_').lower()}{'.' if where else ''}{where}: {first['msg']}"


def usable_token(token: str, key: str) -> str:
    """The token, if it can stand in a header at all: an error of the HTTP library would print it. `key` is its place in
    the configuration. Raises `Fatal`."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Fatal(f"the token is empty or holds characters that no token has; look at {key}")
    return token


class Ref(NamedTuple):
    """A thing within one source."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a sweep: a thing is there, last changed at `time` (None where the source keeps no such time)."""

    ref: Ref
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Read:
    """What one thing was found to be.

    Exactly one holds: `content` (translated), `problem` (it is there but cannot be translated; `raw` is what came), or
    neither (a fetch by id did not find it). `time` is the source's own time of the thing's last change.
    """

    ref: Ref
    time: datetime | None = None
    content: Content | None = None
    problem: str | None = None
    raw: bytes = b""


class Settings(BaseModel):
    """What every source's entry in `pmsync.yaml` has; a connector adds its own keys. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    live: bool = True
    """Whether the source is asked at all; what is known of another one came with `pmsync import`."""
    things_per_minute: int | None = Field(default=None, ge=1)
    """How fast much is read at the most, so that the quota serves people and other tools too; None: as fast as it answers."""


class SecretRef(BaseModel):
    """Where a secret is to be had: `{env: NAME}` or `{file: PATH}`. The secret itself is never in the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is given as {env: NAME} or as {file: PATH}")
        return self

    def reveal(self) -> str:
        """The secret; raises `Fatal` where it is not to be had."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise Fatal(f"the environment variable {self.env} is not set; export it, or use {{file: PATH}}")
            return value
        assert self.file is not None
        try:
            return self.file.read_text().strip()
        except OSError as error:
            raise Fatal(f"cannot read the secret file {self.file}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise Fatal(f"the secret file {self.file} is no text") from None


@dataclass(slots=True)
class Names:
    """Under which name the configuration knows each container, by the id that it keeps when it is renamed.

    A source says how it calls a container now, which may differ from what is configured. So a connector learns the
    configured name with each listing (`learn`), and before any listing from the names that it was told to expect.
    """

    _by_id: dict[str, str] = field(default_factory=dict)
    _expected: frozenset[str] = frozenset()
    _unmet: set[str] = field(default_factory=set)

    def expect(self, containers: Iterable[str]) -> None:
        """These are configured now, and no others."""
        self._expected = frozenset(containers)
        self._by_id = {ident: name for ident, name in self._by_id.items() if name in self._expected}
        self._unmet = set(self._expected.difference(self._by_id.values()))

    def unmet(self) -> Iterator[str]:
        """Those that are expected but were never looked up; each is given until looking it up raises nothing."""
        while self._unmet:
            container = min(self._unmet)
            yield container
            self._unmet.discard(container)

    def learn(self, ident: str, container: str) -> None:
        """Raises `Withheld` where it is configured under another name too: its things can only be in one of them."""
        known = self._by_id.get(ident, container)
        if known != container and known in self._expected:
            raise Withheld(f"{container} and {known} are the same; take one of them out of the configuration")
        self._by_id[ident] = container
        self._unmet.discard(container)

    def known(self) -> Mapping[str, str]:
        """id -> configured name; a container that is missing here is not configured."""
        return dict(self._by_id)


class Reader(Protocol):
    """What the pump drives: the single reader of one source. All times are the source's own.

    Each method may raise `Retryable` or `Fatal`. Waiting is the pump's business: no method sleeps or tries again by
    itself.
    """

    name: str

    def now(self) -> datetime:
        """The source's own clock, which may differ from ours."""

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        """Pages of the things of a container that changed at or after `since` (None: all of them), oldest change first.

        The listing may lag or repeat itself; what it shows is a whole thing as of some moment. Things without a time
        of change are in the first page, always all of them.
        """

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        """Pages that name everything that is in the container now, as cheaply as the source can say it."""

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        """Each thing by id, as it is now, in any order; one that the source no longer has comes back empty."""


@dataclass(slots=True)
class Silent:
    """A reader of a source that is not asked: of what comes from it another way."""

    name: str
    now: Clock

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:  # noqa: ARG002
        raise self._refusal()

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:  # noqa: ARG002
        raise self._refusal()

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:  # noqa: ARG002
        raise self._refusal()

    def _refusal(self) -> Fatal:
        return Fatal(f"{self.name} is not asked here; what is known of it comes with `pmsync import`")


@runtime_checkable
class Naming(Protocol):
    """A reader that must know which containers are configured before it is asked for a thing by id: its source calls
    them by names of its own. See `Names`."""

    def expect(self, containers: Iterable[str]) -> None:
        """These are configured, until it is told again. No request is sent."""


@runtime_checkable
class Counting(Protocol):
    """A reader that can say beforehand how much a listing will show, for who waits for it."""

    def count(self, container: str, since: datetime | None) -> int | None:
        """About how many things changed at or after `since`; None where the source does not say."""


@runtime_checkable
class Partial(Protocol):
    """A reader whose account may be let see a container, but not all kinds of things in it."""

    def unseen(self, container: str) -> Collection[str]:
        """The kinds that the last sweep was not let see. That it does not name such a thing does not mean that it is gone."""


@runtime_checkable
class Complaining(Protocol):
    """A reader that goes on by what it knew of a part of its source that it cannot read now."""

    def complaints(self) -> Iterable[str]:
        """What stands as it was known, why, and what to do: a line each. No request is sent."""


@runtime_checkable
class Redelivering(Protocol):
    """A reader whose source keeps the webhooks that it could not deliver, and sends them again when it is asked to."""

    def redeliver(self, containers: Iterable[str]) -> int:
        """Ask for those of these containers; returns for how many. None, and no request, where that is not configured."""


@runtime_checkable
class Registering(Protocol):
    """A reader that has its source send webhooks, which the source forgets after some time."""

    def register(self, containers: Iterable[str]) -> int:
        """Have them sent for these containers, for long enough; returns how many were made, renewed or removed. None, and
        no request, where that is not configured."""


class Consent(Protocol):
    """One consent that a person is asked for."""

    address: str
    """Where the person is asked."""
    state: str
    """What has to come back with the answer. Nobody can guess it, so nobody else's answer is taken for it."""

    def accept(self, code: str) -> Iterable[str]:
        """Keep what this code is exchanged for; what there is to say of it, a line each. Raises `Fatal` and `Retryable`."""


@runtime_checkable
class Consenting(Protocol):
    """A connector, as a class, that can read by a person's consent (OAuth 2.0), which `pmsync sign-in` asks for."""

    def consent(self, settings: Any, callback: str, clock: Clock) -> Consent:
        """A consent for these settings; whoever gave it is sent to `callback`. No request is sent yet. Raises `Fatal`."""


@runtime_checkable
class Calendars(Protocol):
    """A reader whose containers are calendars: each is read whole, so that it can be looked at beforehand."""

    def entries(self, container: str) -> Iterable[Read]:
        """All entries of a calendar as they are now."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a source tells of one of its accounts to who asks for it; nothing of it goes into an event, and only the id is
    there where the source knows no such account, or tells nothing of it.

    `verified`: the source has made sure that whoever has the account reads what is sent to `mail`. It is true only where
    the source's documents say so, for by such an address an account is taken for a person's without anybody's say.
    """

    account: str
    name: str = ""
    mail: str | None = None
    verified: bool = False


@runtime_checkable
class Accounts(Protocol):
    """A reader whose source tells whose its accounts are. Only a person's command asks it (`pmsync people suggest`)."""

    def accounts(self, ids: Sequence[str]) -> Iterator[Profile]:
        """A profile for each of these accounts, as they are now, in any order."""


class ReadWhole(ABC):
    """What the readers of calendars have in common: a container is read whole, always, for nothing in it has a time of change
    that could be trusted. Its name is the beginning of the ids of all that is in it."""

    @abstractmethod
    def _read(self, container: str) -> Mapping[Ref, Read]:
        """All entries of a calendar as they are now."""

    def entries(self, container: str) -> Iterable[Read]:
        return self._read(container).values()

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        """What keeps a calendar, or some of its entries, from being read."""
        for container in containers:
            try:
                reads = self._read(container).values()
            except (Fatal, Retryable) as error:
                yield str(error)
                continue
            problems = sorted(read.problem for read in reads if read.problem)
            for reason, same in groupby(problems):
                yield f"{container}: {len(list(same))} of {len(reads)} entries cannot be read: {reason}"

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:  # noqa: ARG002
        """One page of everything."""
        yield list(self.entries(container))

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(ref, None) for ref in self._read(container)]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        for container, wanted in groupby(sorted(refs, key=_container), key=_container):
            reads = self._read(container)
            for ref in wanted:
                yield reads.get(ref, Read(ref))


def _container(ref: Ref) -> str:
    return ref.id.partition("/")[0]


class Connector(Reader, Protocol):
    """A reader that `pmsync.yaml` can configure. Its class is found by the entry-point group `pmsync.connectors`, under
    the `kind` that the configuration names."""

    Settings: ClassVar[type[Settings]]

    @classmethod
    def connect(cls, settings: Any, clock: Clock) -> Self:
        """A connector for these settings (an instance of `Settings`). No request is sent yet."""

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        """What `doctor` should say is wrong with the account or these containers, one line each; none if all is well."""
