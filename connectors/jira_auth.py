"""Jira: the ways of signing in.

Cloud: an account with its API token; a service account, which exchanges its secret for a token that is good for an hour; or
a person's consent, which is `connectors/jira_consent.py`'s. Whoever has scopes (the latter two, and API tokens that were made
with some) is let in by Atlassian's gateway alone. Data Center: a personal access token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from connectors import jira_tokens
from connectors.base import Clock, SecretRef, usable_token
from connectors.grants import Grant, Renewed
from connectors.jira_consent import App, Person

WAYS: dict[str, tuple[frozenset[str], ...]] = {
    "cloud": (
        frozenset({"email", "token"}),
        frozenset({"email", "token", "cloud_id"}),
        frozenset({"client_id", "client_secret", "cloud_id"}),
        frozenset({"client_id", "client_secret", "consent"}),
    ),
    "data_center": (frozenset({"token"}),),
}
"""Which keys of `auth` belong together, by deployment."""


class JiraAuth(BaseModel):
    """`email` and `token`: an Atlassian account and its API token; one with scopes needs `cloud_id`, the site's, too.
    `client_id`, `client_secret` and `cloud_id`: a service account's OAuth 2.0 credential; with `consent` instead of
    `cloud_id`: an OAuth 2.0 app, and the file that keeps a person's consent. `token` alone: a personal access token of Data
    Center."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str | None = Field(default=None, min_length=1)
    token: SecretRef | None = None
    client_id: str | None = Field(default=None, pattern=r"^[\x21-\x7e]{1,200}$")
    client_secret: SecretRef | None = None
    cloud_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,64}$")
    consent: Path | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if not any(self.keys in ways for ways in WAYS.values()):
            raise ValueError(f"give {expected('cloud')}, or of Data Center {expected('data_center')}")
        return self

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self.model_dump(exclude_none=True))

    @property
    def app(self) -> App | None:
        """The app by which a person consents; None for who signs in another way."""
        return (
            App(self.client_id, self.client_secret) if self.consent and self.client_id and self.client_secret else None
        )


def expected(deployment: str) -> str:
    """The ways to sign in to a deployment, for people."""
    order = list(JiraAuth.model_fields)
    return " or ".join(f"{{{', '.join(sorted(way, key=order.index))}}}" for way in WAYS[deployment])


def signed_in(auth: JiraAuth, url: str, clock: Clock, source: str) -> tuple[str, AuthBase]:
    """Where Jira is spoken to, and how each request is signed. No request is sent yet. Raises `Fatal`."""
    if auth.app and auth.consent:
        person = Person(source, auth.app, auth.consent, clock)
        return at_gateway(person.cloud_id), person
    server = at_gateway(auth.cloud_id) if auth.cloud_id else url
    if auth.client_id and auth.client_secret:
        granted = partial(_as_service, auth.client_id, auth.client_secret)
        return server, Renewed(granted, "the service account, in Atlassian's administration", clock)
    token = auth.token.reveal() if auth.token else ""
    return server, HTTPBasicAuth(auth.email, token) if auth.email else Bearer(lambda: usable_token(token, "auth.token"))


def at_gateway(cloud_id: str) -> str:
    return f"{jira_tokens.GATEWAY}/ex/jira/{cloud_id}"


class Bearer(AuthBase):
    """A token in the header of each request."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request


def _as_service(client_id: str, secret: SecretRef) -> Grant:
    """The token of a service account."""
    wanted = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret.reveal()}
    refused = (
        "the service account (STATUS); check auth.client_id and the secret that auth.client_secret names: it may have "
        "been revoked, or have expired"
    )
    return jira_tokens.exchange(wanted, Grant, refused)
