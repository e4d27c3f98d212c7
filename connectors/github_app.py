"""GitHub: signing in as an installation of a GitHub App.

The App signs a token (a JWT, good for some minutes) with its private key, and with that asks for one of the installation,
good for an hour, by which all else is read. An App has a quota of its own, belongs to an organisation instead of a person,
and may be given these repositories and reading only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from github import Auth
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from connectors.base import Clock, Fatal, Retryable, SecretRef

MARGIN = timedelta(minutes=5)
"""So long before it ends a token is exchanged: a clock may be wrong, and an answer slow."""


NEW = timedelta(seconds=30)
"""So long GitHub may take to know a token that it gave."""


class GitHubApp(BaseModel):
    """A GitHub App, by its id or client id, where it is installed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9.]{1,64}$", coerce_numbers_to_str=True)
    installation: int = Field(gt=0)
    private_key: SecretRef


class Minted(NamedTuple):
    """The answer to a request for a token of an installation."""

    status: int
    text: str


Mint = Callable[[Auth.AppAuthToken, str], Minted]
"""Asks, signed in by the App's own token, for one of the installation, at this path."""


class Installation(Auth.Auth):
    """The token of an installation, made anew before it ends. Errors are a connector's: Retryable or Fatal."""

    def __init__(self, app: GitHubApp, mint: Mint, clock: Clock) -> None:
        self._app = app
        self._mint = mint
        self._clock = clock
        self._token = ""
        self._until: datetime | None = None
        self._since: datetime | None = None

    @property
    def token_type(self) -> str:
        return "token"

    @property
    def token(self) -> str:
        """One that is good for some minutes more."""
        if self._until is None or self._clock() >= self._until - MARGIN:
            self._renew()
        return self._token

    def forget(self) -> None:
        """It was refused: the next request begins with a new one, unless it is so new that GitHub may not know it yet."""
        if self._since and self._clock() - self._since > NEW:
            self._until = None

    def _renew(self) -> None:
        app = self._app
        path = f"/app/installations/{app.installation}/access_tokens"
        answer = self._mint(Auth.AppAuthToken(signed(app)), path)
        if answer.status == 401:
            raise Fatal(
                f"GitHub does not believe that this is App {app.id} (401): is auth.app.private_key one of its keys, "
                "and is this machine's clock right?"
            )
        if answer.status == 404:
            raise Fatal(f"App {app.id} has no installation {app.installation}; correct auth.app.installation")
        if answer.status == 403:
            raise Fatal(
                f"the installation {app.installation} of App {app.id} is suspended, or may not have a token (403)"
            )
        try:
            found = _Token.model_validate_json(answer.text)
        except ValidationError:
            raise Retryable(f"GitHub answered {answer.status} to {path}, without a token") from None
        self._token, self._until, self._since = found.token, found.expires_at, self._clock()


def signed(app: GitHubApp) -> str:
    """The App's own token: a JWT signed with RS256, issued a minute ago, for clocks that differ, and good for five more."""
    key = app.private_key.reveal()
    try:
        return Auth.AppAuth(app.id, key).token
    except Exception:  # whatever the library says, it may show the key
        raise Fatal("auth.app.private_key is no RSA private key in PEM; download one from the App's settings") from None


class _Token(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str = Field(pattern=r"^[!-~]+$")
    expires_at: AwareDatetime
