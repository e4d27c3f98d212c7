"""Atlassian's tokens: what is exchanged for them, and where; how is `connectors/grants.py`'s.

Next: `connectors/jira_auth.py`, the ways of signing in, and `connectors/jira_consent.py`, that by a person's consent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter

from connectors import grants
from connectors.base import Fatal
from connectors.grants import Grant

T = TypeVar("T")

GATEWAY = "https://api.atlassian.com"
AUTHORIZE = "https://auth.atlassian.com/authorize"
WHO = "Atlassian"
TOKENS = "https://auth.atlassian.com/oauth/token"
TOKEN = r"^[\x21-\x7e]{1,16384}$"  # noqa: S105  its form


class PersonalGrant(Grant):
    """The answer to a person's code or refresh token: the next refresh token is with it."""

    access_token: str = Field(pattern=TOKEN, repr=False)
    refresh_token: str | None = Field(default=None, pattern=TOKEN, repr=False)
    scope: str = ""


class Site(BaseModel):
    """A site that a person lets pmsync see."""

    id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    url: str = Field(max_length=300)
    scopes: tuple[str, ...] = ()


def exchange(wanted: Mapping[str, str], shape: type[T], refused: str) -> T:
    """What a secret is exchanged for; `refused` says what to do where Atlassian does not. Raises `Fatal` and `Retryable`."""
    return grants.exchange(WHO, TOKENS, wanted, shape, refused)


def sites(access_token: str) -> list[Site]:
    """All that this token opens. Raises `Fatal` and `Retryable`."""
    url = f"{GATEWAY}/oauth/token/accessible-resources"
    signed = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
    with grants.session() as asking:
        get = partial(asking.get, url, headers=signed, timeout=grants.TIMEOUT, allow_redirects=False)
        answer = grants.sent(WHO, url, get)
    if answer.status_code in (401, 403):
        raise Fatal(f"Atlassian does not say which sites it may be ({answer.status_code}); sign in once more")
    return grants.read(WHO, answer, TypeAdapter(list[Site]), "the question which sites it may be")
