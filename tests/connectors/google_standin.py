"""A stand-in for Google Calendar: lists of events with tokens and pages, and the server of tokens.

Written from the discovery document of version 3 and from RFC 7523 and 6749. It refuses what it does not understand.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

API = "/calendar/v3"
SCOPE = "https://www.googleapis.com/auth/calendar.events.readonly"
ROBOT = "robot@project.iam.gserviceaccount.com"
KNOWN = {"maxResults", "singleEvents", "fields", "syncToken", "pageToken"}
"""The parameters that it understands."""
MINIMAL = {"id", "status", "recurringEventId", "originalStartTime"}
"""What is left of an event that was cancelled."""


def new_key() -> tuple[str, str]:
    """A private key in PEM, and the public one to it."""
    key = generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, public


@dataclass
class Calendar:
    """Events with the numbers of their last changes; tokens below `oldest` are forgotten."""

    events: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    number: int = 0
    oldest: int = 0

    def put(self, event: dict[str, Any]) -> None:
        self.number += 1
        self.events[event["id"]] = event, self.number

    def cancel(self, ident: str) -> None:
        kept, _ = self.events[ident]
        self.put({name: value for name, value in kept.items() if name in MINIMAL} | {"status": "cancelled"})


@dataclass
class GoogleHost:
    """Calendars that are shared with one account. `instead` are answers given in place of the next lists, `untold` those given
    in place of the next tokens."""

    clock: Callable[[], datetime]
    public: str = ""
    subject: str | None = None
    consent: Mapping[str, str] = field(default_factory=dict)
    page: int = 2500
    calendars: dict[str, Calendar] = field(default_factory=dict)
    instead: deque[Callable[[], Response]] = field(default_factory=deque)
    untold: deque[Callable[[], Response]] = field(default_factory=deque)
    lifetime: int = 3600
    asked: list[dict[str, str]] = field(default_factory=list)
    """The parameters of each list that was asked for."""
    answered: list[Any] = field(default_factory=list)
    tokens: dict[str, datetime] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        lists = Route(API + "/calendars/{place:path}/events", self._list)
        return Starlette(routes=[Route("/token", self._token, methods=["POST"]), lists])

    def add(self, ident: str) -> Calendar:
        return self.calendars.setdefault(ident, Calendar())

    # ---- tokens ----

    async def _token(self, request: Request) -> Response:
        if self.untold:
            return self.untold.popleft()()
        form = {name: value for name, (value,) in parse_qs((await request.body()).decode()).items()}
        wanted = {
            "urn:ietf:params:oauth:grant-type:jwt-bearer": lambda: self._vouches(form, str(request.url)),
            "refresh_token": lambda: bool(self.consent) and form == {"grant_type": "refresh_token", **self.consent},
        }
        if not wanted.get(form.get("grant_type", ""), lambda: False)():
            return JSONResponse({"error": "invalid_grant", "error_description": "no"}, 400)
        token = f"canary-token-{len(self.tokens) + 1}"
        self.tokens[token] = self.clock() + timedelta(seconds=self.lifetime)
        return JSONResponse({"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"})

    def _vouches(self, form: Mapping[str, str], here: str) -> bool:
        """Whether this is signed by the service account, for this server, for now, and for nothing but reading events."""
        if form.keys() != {"grant_type", "assertion"}:
            return False
        lenient = {"verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(form["assertion"], self.public, ["RS256"], audience=here, issuer=ROBOT, options=lenient)
        except jwt.InvalidTokenError:
            return False
        now = self.clock().timestamp()
        timely = claims["iat"] <= now < claims["exp"] <= claims["iat"] + 3600
        return timely and claims["scope"] == SCOPE and claims.get("sub") == self.subject

    # ---- lists ----

    async def _list(self, request: Request) -> Response:
        signed = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(signed, self.clock()) <= self.clock():
            return refusal(401, "authError")
        asked = dict(request.query_params)
        self.asked.append(asked)
        if self.instead:
            return self.instead.popleft()()
        place = unquote(request.scope["raw_path"].decode().removeprefix(f"{API}/calendars/").removesuffix("/events"))
        if place not in self.calendars:
            return refusal(404, "notFound")
        if (
            asked.keys() - KNOWN
            or len(request.query_params.multi_items()) > len(asked)
            or asked.get("singleEvents") != "false"
        ):
            return refusal(400, "badRequest")
        if not 1 <= int(asked.get("maxResults", "250")) <= 2500:
            return refusal(400, "badRequest")
        return self._listed(self.calendars[place], asked)

    def _listed(self, calendar: Calendar, asked: Mapping[str, str]) -> Response:
        since = asked.get("syncToken")
        if since is not None and not since.startswith("since-"):
            return refusal(400, "invalid")
        number = int(since.removeprefix("since-")) if since else 0
        if since is not None and number < calendar.oldest:
            return refusal(410, "fullSyncRequired")
        found = [
            event
            for event, changed in sorted(calendar.events.values(), key=lambda each: each[1])
            if changed > number
            and (since is not None or event.get("status") != "cancelled" or "recurringEventId" in event)
        ]
        start = int(asked.get("pageToken", "0"))
        whole: dict[str, Any] = {
            "kind": "calendar#events",
            "summary": "SECRET name",
            "items": found[start : start + self.page],
        }
        more = start + self.page < len(found)
        whole |= {"nextPageToken": str(start + self.page)} if more else {"nextSyncToken": f"since-{calendar.number}"}
        answer = chosen(whole, asked["fields"]) if "fields" in asked else whole
        self.answered.append(answer)
        return Response(json.dumps(answer), media_type="application/json")


def chosen(value: Any, fields: str) -> Any:
    """The part of an answer that `fields` asks for: `a,b(c,d)`."""
    if isinstance(value, list):
        return [chosen(each, fields) for each in value]
    return {
        name: chosen(value[name], below) if below else value[name] for name, below in _parts(fields) if name in value
    }


def _parts(fields: str) -> Iterator[tuple[str, str]]:
    depth, name, below = 0, "", ""
    for sign in fields + ",":
        if sign == "," and depth == 0:
            yield name, below
            name, below = "", ""
            continue
        depth -= sign == ")"
        if depth:
            below += sign
        elif sign not in "()":
            name += sign
        depth += sign == "("


def refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as Google says it."""
    error = {"errors": [{"domain": "global", "reason": reason, "message": "no"}], "code": status, "message": "no"}
    return JSONResponse({"error": error}, status, dict(headers or {}))
