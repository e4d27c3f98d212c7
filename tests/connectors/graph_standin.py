"""A stand-in for Microsoft Graph: views of calendars, their lists of changes, events and their instances, and the server of tokens.

Written from Microsoft's reference and, for what that leaves out, from what others found: of a series a list of changes tells
occurrences by their times alone, says nothing of deleted ones, and tells as removed what lies outside of the view. It refuses
what it does not understand.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

API = "/v1.0"
TENANT = "6f2c7a1e-0000-4000-8000-3b9d51c0aa10"
CLIENT = "0d9be7d4-0000-4000-8000-5e8f1c7a2b33"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BARE = ("@odata.type", "id", "seriesMasterId", "type", "start", "end")
"""All that a list of changes tells of an occurrence."""
MOST_DAYS = 1825

Raw = dict[str, Any]


def new_certificate() -> tuple[str, str, str]:
    """A PEM with a certificate and its key, the public key to it, and the thumbprint of the certificate."""
    key = generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pmsync")])
    first = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, first, first + timedelta(days=999))
    certificate = made.sign(key, SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return (
        certificate.public_bytes(Encoding.PEM).decode() + private,
        public,
        urlsafe_b64encode(digest).decode().rstrip("="),
    )


@dataclass
class Calendar:
    """Events with the numbers of their last changes, None where they are deleted; places before `oldest` are forgotten."""

    events: dict[str, tuple[Raw | None, int]] = field(default_factory=dict)
    number: int = 0
    oldest: int = 0

    def put(self, event: Raw, instances: Sequence[Raw] = ()) -> None:
        """An event by itself; or a series with all its occurrences and exceptions, those that it had before are no more."""
        self.number += 1
        gone = [each["id"] for each in self.of(event["id"])] if event["id"] in self.events else []
        for ident in gone:
            del self.events[ident]
        for each in (event, *instances):
            self.events[each["id"]] = each, self.number

    def change(self, event: Raw) -> None:
        """This event alone."""
        self.number += 1
        self.events[event["id"]] = event, self.number

    def delete(self, ident: str) -> None:
        self.number += 1
        for each, (known, _) in list(self.events.items()):
            if known and known["seriesMasterId"] == ident:
                del self.events[each]
        self.events[ident] = None, self.number

    def of(self, series: str) -> list[Raw]:
        return [event for event, _ in self.events.values() if event and event["seriesMasterId"] == series]


@dataclass
class GraphHost:
    """Mailboxes with calendars that an application may read: `calendars` by mailbox, or mailbox and id. `instead` are answers
    given in place of the next ones (None: as ever), `untold` those given in place of the next tokens."""

    clock: Callable[[], datetime]
    url: str
    secret: str = ""
    public: str = ""
    thumbprint: str = ""
    page: int | None = None
    """Events of a page, whatever is asked for."""
    calendars: dict[str, Calendar] = field(default_factory=dict)
    instead: deque[Callable[[Request], Response] | None] = field(default_factory=deque)
    untold: deque[Callable[[], Response]] = field(default_factory=deque)
    lifetime: int = 3600
    masters_told: bool = True
    """Whether a whole list of changes tells the series too."""
    circles: bool = False
    """Whether a list of changes tells its first page for ever."""
    asked: list[str] = field(default_factory=list)
    """The path and parameters of each request but for tokens."""
    preferred: list[str] = field(default_factory=list)
    """What each of these preferred."""
    answered: list[Any] = field(default_factory=list)
    tokens: dict[str, datetime] = field(default_factory=dict)
    places: dict[str, tuple[int, str, int, int]] = field(default_factory=dict)
    """What the tokens in addresses stand for: where in a list, of which view, from which change to which."""

    @property
    def app(self) -> Starlette:
        users = f"{API}/users/{{rest:path}}"
        token = Route(f"/{TENANT}/oauth2/v2.0/token", self._token, methods=["POST"])
        return Starlette(routes=[token, Route(users, self._users)])

    def add(self, place: str) -> Calendar:
        return self.calendars.setdefault(place, Calendar())

    # ---- tokens ----

    async def _token(self, request: Request) -> Response:
        if self.untold:
            return self.untold.popleft()()
        form = {name: value for name, (value,) in parse_qs((await request.body()).decode()).items()}
        common = {"grant_type": "client_credentials", "client_id": CLIENT, "scope": f"{self.url}/.default"}
        proof = {name: value for name, value in form.items() if name not in common}
        known = self.secret and proof == {"client_secret": self.secret}
        if {name: form.get(name) for name in common} != common or not (known or self._vouches(proof)):
            return JSONResponse({"error": "invalid_client", "error_description": "AADSTS7000215: no"}, 401)
        token = f"canary-token-{len(self.tokens) + 1}"
        self.tokens[token] = self.clock() + timedelta(seconds=self.lifetime)
        return JSONResponse({"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"})

    def _vouches(self, proof: Mapping[str, str]) -> bool:
        """Whether this is signed with the key of the certificate, for this server and for now."""
        if not self.public or proof.keys() != {"client_assertion_type", "client_assertion"}:
            return False
        key, lenient = (
            load_pem_public_key(self.public.encode()),
            {"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        here = f"{self.url}/{TENANT}/oauth2/v2.0/token"
        try:
            signed = jwt.decode_complete(
                proof["client_assertion"],
                key,
                ["PS256"],
                audience=here,
                issuer=CLIENT,
                subject=CLIENT,
                options=lenient,  # type: ignore[arg-type]
            )
        except jwt.InvalidTokenError:
            return False
        claims, now = signed["payload"], self.clock().timestamp()
        timely = claims["nbf"] <= now < claims["exp"] <= claims["nbf"] + 600
        return bool(timely and claims["jti"] and signed["header"].get("x5t#S256") == self.thumbprint)

    # ---- requests ----

    async def _users(self, request: Request) -> Response:
        signed = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(signed, self.clock()) <= self.clock():
            return refusal(401, "InvalidAuthenticationToken")
        self.asked.append(unquote(str(request.url).removeprefix(self.url)))
        self.preferred.append(request.headers.get("Prefer", ""))
        if self.instead and (given := self.instead.popleft()) is not None:
            return given(request)
        steps = [unquote(step) for step in request.scope["raw_path"].decode().removeprefix(f"{API}/users/").split("/")]
        mailbox, others = steps[0], steps[1:2] == ["calendars"]
        if not any(place.partition("/")[0] == mailbox for place in self.calendars):
            return refusal(404, "ErrorInvalidUser")
        place, rest = (f"{mailbox}/{steps[2]}", steps[3:]) if others else (mailbox, steps[1:])
        if place not in self.calendars:
            return refusal(404, "ErrorItemNotFound")
        asked = dict(request.query_params)
        if len(asked) < len(request.query_params.multi_items()):
            return refusal(400, "BadRequest")
        return self._answer(self.calendars[place], rest, asked, request)

    def _answer(self, calendar: Calendar, rest: Sequence[str], asked: Raw, request: Request) -> Response:
        preferred = preferences(request.headers.get("Prefer", ""))
        if preferred is None or preferred.get("outlook.timezone") != "UTC":
            return refusal(400, "ErrorInvalidPrefer")
        here = f"{self.url}{request.scope['raw_path'].decode()}"
        match rest:
            case ["calendarView", "delta"]:
                return self._changes(calendar, here, asked, int(preferred.get("odata.maxpagesize", 10)))
            case ["calendarView"]:
                found = [event for event, _ in calendar.events.values() if event and event["type"] != "seriesMaster"]
            case ["events", ident]:
                event, _ = calendar.events.get(ident, (None, 0))
                if event is None:
                    return refusal(404, "ErrorItemNotFound")
                return (
                    self._told(chosen(event, asked["$select"]))
                    if asked.keys() == {"$select"}
                    else refusal(400, "BadRequest")
                )
            case ["events", ident, "instances"]:
                if calendar.events.get(ident, (None, 0))[0] is None:
                    return refusal(404, "ErrorItemNotFound")
                found = calendar.of(ident)
            case _:
                return refusal(404, "BadRequest")
        known = {"startDateTime", "endDateTime", "$select", "$top", "$skip"}
        if (
            asked.keys() - known
            or "odata.maxpagesize" in preferred
            or not is_view(asked)
            or not 1 <= int(asked["$top"]) <= 1000
        ):
            return refusal(400, "ErrorInvalidRequest")
        seen = sorted((each for each in found if within(each, asked)), key=lambda each: each["id"])
        start, size = int(asked.get("$skip", "0")), self.page or int(asked["$top"])
        value = [chosen(each, asked["$select"]) for each in seen[start : start + size]]
        more = {"@odata.nextLink": f"{here}?{urlencode(asked | {'$skip': str(start + size)})}"}
        return self._told({"value": value} | (more if start + size < len(seen) else {}))

    def _changes(self, calendar: Calendar, here: str, asked: Raw, size: int) -> Response:
        """A page of changes; what a token in an address stands for is known here alone."""
        if asked.keys() == {"startDateTime", "endDateTime"} and is_view(asked):
            view, since, start = json.dumps(asked), 0, 0
        elif len(asked) == 1 and asked.keys() <= {"$deltatoken", "$skiptoken"}:
            (token,) = asked.values()
            if token not in self.places:
                return refusal(400, "BadRequest")
            start, view, since, _ = self.places[token]
            if since and since < calendar.oldest:
                return refusal(410, "SyncStateNotFound")
        else:
            return refusal(400, "ErrorInvalidUrlQuery")
        window = json.loads(view)
        told = [
            self._as_told(ident, event, since, window)
            for ident, (event, changed) in sorted(calendar.events.items(), key=lambda each: each[1][1])
            if changed > since and self._is_told(calendar, event, since, window)
        ]
        count = self.page or size
        value = told[start : start + count]
        more = start + count < len(told) or self.circles
        onward = (
            (0 if self.circles else start + count, view, since, calendar.number)
            if more
            else (0, view, calendar.number, 0)
        )
        token = f"t{len(self.places) + 1}"
        self.places[token] = onward
        link = (
            {"@odata.nextLink": f"{here}?$skiptoken={token}"}
            if more
            else {"@odata.deltaLink": f"{here}?$deltatoken={token}"}
        )
        return self._told({"@odata.context": f"{self.url}{API}/$metadata#Collection(event)", **link, "value": value})

    def _is_told(self, calendar: Calendar, event: Raw | None, since: int, view: Raw) -> bool:
        """A list of changes tells all that changed, a whole one what is in the view, with the series of what recurs."""
        if since or event is None:
            return since > 0
        if event["type"] == "seriesMaster":
            return self.masters_told and any(within(each, view) for each in calendar.of(event["id"]))
        return within(event, view)

    def _as_told(self, ident: str, event: Raw | None, since: int, view: Raw) -> Raw:
        if event is None or (since and not within(event, view)):
            return {"@odata.type": "#microsoft.graph.event", "id": ident, "@removed": {"reason": "deleted"}}
        return {name: event[name] for name in BARE if name in event} if event["type"] == "occurrence" else event

    def _told(self, answer: Raw) -> Response:
        self.answered.append(answer)
        return Response(json.dumps(answer), media_type="application/json")


def preferences(header: str) -> Mapping[str, str] | None:
    """What a Prefer says (RFC 7240); None if it says what is not known here."""
    found = dict(each.strip().partition("=")[::2] for each in header.split(","))
    known = found.keys() <= {"outlook.timezone", "odata.maxpagesize"}
    return {name: value.strip('"') for name, value in found.items()} if known else None


def is_view(asked: Raw) -> bool:
    try:
        first, last = (datetime.fromisoformat(asked[name]) for name in ("startDateTime", "endDateTime"))
        return timedelta() < last - first <= timedelta(days=MOST_DAYS)
    except (KeyError, ValueError, TypeError):
        return False


def within(event: Raw, view: Raw) -> bool:
    """Whether an event is in a view; times of these tests are in UTC."""
    first, last = (datetime.fromisoformat(view[name]).replace(tzinfo=UTC) for name in ("startDateTime", "endDateTime"))
    try:
        start, end = (datetime.fromisoformat(event[name]["dateTime"]).replace(tzinfo=UTC) for name in ("start", "end"))
    except (KeyError, ValueError, TypeError):
        return True
    return start < last and (first < end or first <= start)


def chosen(event: Raw, select: str) -> Raw:
    names = select.split(",")
    return {"@odata.etag": 'W/"1"', **{name: event[name] for name in ("id", *names) if name in event}}


def refusal(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as Graph says it."""
    return JSONResponse(
        {"error": {"code": code, "message": "SECRET no", "innerError": {}}}, status, dict(headers or {})
    )
