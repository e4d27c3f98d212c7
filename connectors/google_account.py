"""Google: signing in, as a service account by its key, or by the consent of a person, and with the right to read events only.

A service account sees the calendars that are shared with its address; with `subject` it reads as a person of its Workspace,
which an administrator there has to allow (domain-wide delegation).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Self

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connectors.base import Clock, Fatal, SecretRef, problem
from connectors.grants import Grant, Renewed, exchange

SCOPE = "https://www.googleapis.com/auth/calendar.events.readonly"
WHO = "Google"
TOKENS = "https://oauth2.googleapis.com/token"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = timedelta(minutes=5)
"""For how long the assertion is good that is exchanged for a token; Google takes an hour at the most."""
PERSON = frozenset({"client_id", "client_secret", "refresh_token"})


class GoogleAuth(BaseModel):
    """`service_account`: its key, the JSON file that Google gave, and maybe the `subject` that it reads as. Or `client_id`,
    `client_secret` and `refresh_token`, of a person's consent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service_account: SecretRef | None = None
    subject: str | None = Field(default=None, pattern=r"^[^\s@]{1,64}@[^\s@]{1,255}$")
    client_id: str | None = Field(default=None, pattern=r"^[\x21-\x7e]{1,200}$")
    client_secret: SecretRef | None = None
    refresh_token: SecretRef | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        keys = frozenset(self.model_dump(exclude_none=True))
        if keys not in ({"service_account"}, {"service_account", "subject"}, PERSON):
            raise ValueError(
                "give {service_account}, with a subject or without, or {client_id, client_secret, refresh_token}"
            )
        return self


class Key(BaseModel):
    """What is in the key file of a service account."""

    model_config = ConfigDict(extra="ignore")

    client_email: str = Field(pattern=r"^[\x21-\x7e]{3,320}$")
    private_key: str = Field(repr=False)
    token_uri: str = Field(default=TOKENS, pattern=r"^https?://[\x21-\x7e]+$")


def signed_in(auth: GoogleAuth, clock: Clock) -> Renewed:
    """How each request is signed. No request is sent yet."""
    granted: Callable[[], Grant] = (
        (lambda: _as_service(auth, clock)) if auth.service_account else lambda: _as_person(auth)
    )
    return Renewed(granted, "auth of this source", clock)


def _as_service(auth: GoogleAuth, clock: Clock) -> Grant:
    assert auth.service_account
    try:
        key = Key.model_validate_json(auth.service_account.reveal())
    except ValidationError as error:
        raise Fatal(f"auth.service_account names no key of a service account in JSON: {problem(error)}") from None
    advice = (
        f"is the service account's key still good, and this machine's clock right? Its token is asked for at {key.token_uri}"
        if auth.subject is None
        else "an administrator of the Workspace must let the service account's client id read for its people "
        f"(domain-wide delegation, scope {SCOPE}), and auth.subject be one of them"
    )
    wanted = {"grant_type": BEARER, "assertion": assertion(key, auth.subject, clock)}
    return exchange(WHO, key.token_uri, wanted, Grant, f"the service account (STATUSREASON); {advice}", as_form=True)


def assertion(key: Key, subject: str | None, clock: Clock) -> str:
    """What the service account claims to be, signed with its key (RFC 7523)."""
    now = clock()
    claims = {"iss": key.client_email, "scope": SCOPE, "aud": key.token_uri, "iat": now, "exp": now + LIFETIME}
    try:
        return jwt.encode(claims | ({"sub": subject} if subject else {}), key.private_key, algorithm="RS256")
    except Exception:  # whatever the library says, it may show the key
        raise Fatal(
            "the private_key in the file of auth.service_account is no RSA key in PEM; have a new key made"
        ) from None


def _as_person(auth: GoogleAuth) -> Grant:
    assert auth.client_id
    assert auth.client_secret
    assert auth.refresh_token
    wanted = {
        "grant_type": "refresh_token",
        "client_id": auth.client_id,
        "client_secret": auth.client_secret.reveal(),
        "refresh_token": auth.refresh_token.reveal(),
    }
    refused = (
        "what a person consented to (STATUSREASON): the consent may have been revoked, or have expired; have it given again "
        "(auth.refresh_token)"
    )
    return exchange(WHO, TOKENS, wanted, Grant, refused, as_form=True)
