"""Jira Cloud: reading by a person's consent (OAuth 2.0, 3LO), which `pmsync sign-in` asks for.

The refresh token rotates: each use gives a new one, and ten minutes later the one that was used opens nothing any more. So
there is one file, `auth.consent`, with the newest pair of tokens, for all processes that read the source: the next pair is
durable in it before its access token is used, room for it is taken before the old one is spent, and one process at a time
does so. A process that dies between Atlassian's answer and the file finds the old one, good for those ten minutes still.

Next: `connectors/jira_auth.py`, the ways of signing in.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from requests import PreparedRequest, Response
from requests.auth import AuthBase

from connectors import jira_tokens
from connectors.base import Clock, Fatal, Retryable, SecretRef
from connectors.grants import MARGIN
from connectors.jira_tokens import TOKEN, PersonalGrant, Site

READING = (
    "read:jira-work", "read:jira-user",
    "read:board-scope:jira-software", "read:project:jira", "read:sprint:jira-software",
)  # fmt: skip
"""What is asked for: issues, who is called by which id, and sprints."""
HOOKING = "manage:jira-webhook"
LASTING = "offline_access"
"""Without it there is no refresh token."""
LEEWAY = timedelta(minutes=10)
"""So long what was spent is good still."""
ROOM = 64 * 1024
"""Bytes that are taken on the disk before a token is spent: more than two tokens are."""
SOON = 2.0
"""Seconds after which another process is done with the file."""
MOST_SITES = 20
LOOKED_AT = 1000
"""Bytes of a refusal: one for want of a scope says so, and the next token would not have it either."""
PRIVATE = 0o600
UNSPENT = "nothing was spent"


class App(NamedTuple):
    """An OAuth 2.0 app, by which a person consents."""

    client_id: str
    secret: SecretRef


class Kept(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cloud_id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    refresh_token: str = Field(pattern=TOKEN, repr=False)
    access_token: str = Field(pattern=TOKEN, repr=False)
    issued_at: AwareDatetime
    until: AwareDatetime


class Busy(Retryable):
    """Another process is at the file."""


class ConsentFile:
    """Where a person's consent to read a source is kept: a file that is replaced whole or not at all."""

    def __init__(self, source: str, path: Path) -> None:
        self._source = source
        self._path = path

    def read(self) -> Kept:
        """Raises `Fatal` where nobody has signed in."""
        again = f"`pmsync sign-in {self._source}` writes it"
        try:
            return Kept.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            raise Fatal(f"nobody has signed in to {self._source}: there is no {self._path}; {again}") from None
        except OSError as error:
            raise Fatal(f"cannot read {self._path}: {error.strerror}; {again} anew") from None
        except ValidationError:
            raise Fatal(f"{self._path} is not what pmsync keeps of a consent; {again} anew") from None

    @contextmanager
    def replacing(self) -> Iterator[Callable[[Kept], None]]:
        """Alone with the file, and with room for what comes next; yields what writes it. Raises `Busy`, and `Fatal` where
        there is no writing: before anything is spent."""
        new = self._beside("new")
        with self._alone():
            with self._writable(UNSPENT):
                _write(new, bytes(ROOM))
            try:
                yield partial(self._replace, new)
            finally:
                new.unlink(missing_ok=True)

    def _replace(self, new: Path, kept: Kept) -> None:
        """Durable when this returns."""
        told = "the new token could not be kept, and for ten minutes the old one will do"
        with self._writable(told):
            _write(new, kept.model_dump_json().encode())
            new.replace(self._path)
            _sync(self._path.parent)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The lock is a file of its own, since the other one is another one each time. It goes with its process."""
        with self._writable(UNSPENT):
            lock = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
        try:
            with self._writable(UNSPENT):
                self._take(lock)
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another process renews {self._path} at this moment; try again", SOON) from None

    @contextmanager
    def _writable(self, told: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Fatal(
                f"{self._path} cannot be replaced: {error.strerror} ({told}); Atlassian's tokens are new with each use, so "
                "auth.consent has to be in a directory that pmsync may write in and that lasts, not in a mounted Secret"
            ) from None

    def _beside(self, kind: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{kind}")


def _write(path: Path, data: bytes) -> None:
    """For nobody else to read, and on the disk. What is there is overwritten in place, so that its room is kept."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
    try:
        os.fchmod(file, PRIVATE)
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.ftruncate(file, len(data))
        os.fsync(file)
    finally:
        os.close(file)


def _sync(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class Person(AuthBase):
    """Signs requests by the access token of a person, and renews it before it ends. Errors are a connector's: Retryable or
    Fatal."""

    def __init__(self, source: str, app: App, path: Path, clock: Clock) -> None:
        self._source = source
        self._app = app
        self._file = ConsentFile(source, path)
        self._clock = clock
        self._kept: Kept | None = None
        self._refused = ""
        self._lock = threading.Lock()
        self.cloud_id = self._file.read().cloud_id

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        token = self._valid()

        def forget_refused(response: Response, *_args: object, **_kwargs: object) -> None:
            if response.status_code == 401 and b"scope" not in response.content[:LOOKED_AT]:
                self._refused = token

        request.register_hook("response", forget_refused)  # type: ignore[no-untyped-call]
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def _valid(self) -> str:
        with self._lock:
            now = self._clock()
            if self._kept is None or not self._is_good(self._kept, now):
                self._kept = self._renewed(now)
            return self._kept.access_token

    def _is_good(self, kept: Kept, now: datetime) -> bool:
        """One that is refused is renewed, but not again and again: who is refused although it is new would be so with the
        next one, too."""
        is_refused = kept.access_token == self._refused and now - kept.issued_at >= LEEWAY
        return now < kept.until - MARGIN and not is_refused

    def _renewed(self, now: datetime) -> Kept:
        kept = self._read()
        if self._is_good(kept, now):
            return kept
        try:
            with self._file.replacing() as replace:
                kept = self._read()  # another process may have been faster
                if not self._is_good(kept, now):
                    kept = self._spent(kept, now)
                    replace(kept)
                return kept
        except Busy:
            if now < kept.until and kept.access_token != self._refused:
                return kept
            raise

    def _read(self) -> Kept:
        kept = self._file.read()
        if kept.cloud_id != self.cloud_id:
            raise Fatal(f"{self._source} was signed in to another site since this process began; start it again")
        return kept

    def _spent(self, kept: Kept, now: datetime) -> Kept:
        wanted = {
            "grant_type": "refresh_token",
            "client_id": self._app.client_id,
            "client_secret": self._app.secret.reveal(),
            "refresh_token": kept.refresh_token,
        }
        refused = (
            "what a person consented to (STATUS): the consent was withdrawn, or not used for 90 days, or its token was "
            f"spent by somebody else; run `pmsync sign-in {self._source}` again. If that is refused too, check "
            "auth.client_id and the secret that auth.client_secret names"
        )
        return _kept(jira_tokens.exchange(wanted, PersonalGrant, refused), kept.cloud_id, now, kept.refresh_token)


def _kept(grant: PersonalGrant, cloud_id: str, now: datetime, refresh_token: str) -> Kept:
    return Kept(
        cloud_id=cloud_id,
        refresh_token=grant.refresh_token or refresh_token,
        access_token=grant.access_token,
        issued_at=now,
        until=now + grant.life,
    )


class Asking:
    """One consent that is asked for; fills `Consent` of `connectors/base.py`. Raises `Fatal` where it could not be kept."""

    def __init__(
        self, source: str, app: App, path: Path, url: str, scopes: Sequence[str], callback: str, clock: Clock
    ) -> None:
        self._app = app
        self._file = ConsentFile(source, path)
        self._path = path
        self._url = url
        self._scopes = scopes
        self._callback = callback
        self._clock = clock
        self._secret = app.secret.reveal()
        with self._file.replacing():
            self.state = secrets.token_urlsafe(32)
        query = {
            "audience": "api.atlassian.com",
            "client_id": app.client_id,
            "scope": " ".join((*scopes, LASTING)),
            "redirect_uri": callback,
            "state": self.state,
            "response_type": "code",
            "prompt": "consent",
        }
        self.address = f"{jira_tokens.AUTHORIZE}?{urlencode(query)}"

    def accept(self, code: str) -> Sequence[str]:
        """Keep what the code is exchanged for; what there is to say of it."""
        wanted = {
            "grant_type": "authorization_code",
            "client_id": self._app.client_id,
            "client_secret": self._secret,
            "code": code,
            "redirect_uri": self._callback,
        }
        refused = (
            f"the code (STATUS): it is good once, for minutes, and for {self._callback} alone; sign in once more. If that is "
            "refused too, check auth.client_id, the secret that auth.client_secret names and the app's callback URL"
        )
        with self._file.replacing() as replace:
            grant = jira_tokens.exchange(wanted, PersonalGrant, refused)
            if grant.refresh_token is None:
                raise Fatal(f"Atlassian gave no refresh token; let the app have {LASTING}, and sign in once more")
            site = chosen(jira_tokens.sites(grant.access_token), self._url)
            replace(_kept(grant, site.id, self._clock(), grant.refresh_token))
        said = [f"signed in to {site.url}; the consent is kept in {self._path}, which only pmsync is to write"]
        if missing := lacking(grant.scope or " ".join(site.scopes), self._scopes):
            said.append(
                f"Atlassian gave no {', '.join(missing)}: add it to the app's permissions, and sign in once more"
            )
        return said


def lacking(given: str, wanted: Collection[str]) -> list[str]:
    """The scopes that are wanted and were not given."""
    return [scope for scope in wanted if scope not in given.split()]


def chosen(sites: Sequence[Site], url: str) -> Site:
    """The site at this address; raises `Fatal` with those that there are."""
    for site in sites:
        if _plain(site.url) == _plain(url) and any("jira" in scope for scope in site.scopes):
            return site
    seen = sorted({site.url for site in sites})
    others = ", ".join(seen[:MOST_SITES]) + " and others" * (len(seen) > MOST_SITES)
    raise Fatal(
        f"this consent opens {others or 'no site'}, and not {url}: set `url` to the site that is meant, or sign in once more "
        "as somebody who may see that Jira, and choose it"
    )


def _plain(url: str) -> str:
    return url.rstrip("/").casefold()
