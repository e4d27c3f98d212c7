"""A stand-in for Atlassian's authorization server and its gateway, in one server, with a Jira site behind it.

It is strict: it gives a code to a consent that is asked for as documented, tokens for that code once, and rotating refresh
tokens. One that was used opens nothing ten minutes later, nor does the access token that came with it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from pmsync.standins.jira import JiraSite

CLIENT_ID, CLIENT_SECRET = "standin-client", "standin-client-secret"
CALLBACK = "http://localhost:8765/callback"
LEEWAY = timedelta(minutes=10)
INACTIVITY = timedelta(days=90)
CODE_LIFE = timedelta(minutes=5)
ACCESS_SECONDS = 3600
LASTING = "offline_access"
ASKED = frozenset({"audience", "client_id", "scope", "redirect_uri", "state", "response_type", "prompt"})
NEEDED = (
    ("/rest/api/3/webhook", "manage:jira-webhook"),
    ("/rest/agile/1.0/", "read:board-scope:jira-software"),
    ("/rest/", "read:jira-work"),
)
"""What a path needs to be among a token's scopes; the first that fits."""
SCOPES = frozenset(
    {
        "read:jira-work", "read:jira-user", "read:board-scope:jira-software", "read:project:jira",
        "read:sprint:jira-software", "manage:jira-webhook",
    }
)  # fmt: skip


@dataclass(slots=True)
class Issued:
    """A pair of tokens."""

    refresh: str
    access: str
    scopes: tuple[str, ...]
    at: datetime
    spent: datetime | None = None

    def is_revoked(self, moment: datetime) -> bool:
        return self.spent is not None and moment >= self.spent + LEEWAY


class Refused(Exception):
    """An answer in OAuth's form."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status, self.error, self.description = status, error, description


class Atlassian:
    """`scopes` are those that the app was given in the developer console; `sites` what the person may see, by address."""

    def __init__(
        self, clock: Callable[[], datetime], site: JiraSite, cloud_id: str = "cloud-1", secret: str = CLIENT_SECRET
    ) -> None:
        self.clock = clock
        self.site = site
        self.secret = secret
        self.callback = CALLBACK
        self.cloud_id = cloud_id
        self.scopes = SCOPES
        self.sites: dict[str, str] = {"https://acme.atlassian.net": cloud_id}
        self.denies = False
        self.answer: Response | None = None
        """Given instead of the next one of the token endpoint; what was asked for is done all the same."""
        self.exchanges: list[str] = []
        self._codes: dict[str, tuple[datetime, tuple[str, ...]]] = {}
        self._issued: list[Issued] = []
        self._numbers = count(1)
        self.app = Starlette(
            routes=[
                Route("/authorize", self._authorize),
                Route("/oauth/token", self._token, methods=["POST"]),
                Route("/oauth/token/accessible-resources", self._resources),
                Mount("/ex/jira/{cloud}", self._gateway),
            ]
        )

    def consented(self, *scopes: str) -> Issued:
        """A person's consent to these scopes, by whatever way it was given."""
        return self._issue((*(scopes or sorted(self.scopes)), LASTING))

    def withdraw(self) -> None:
        """The person takes it back."""
        self._issued.clear()

    # The authorization server

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        wanted = asked.get("scope", "").split()
        problem = (
            "unknown or missing parameters" if asked.keys() != ASKED
            else "client_id" if asked["client_id"] != CLIENT_ID
            else "redirect_uri" if asked["redirect_uri"] != self.callback
            else "audience" if asked["audience"] != "api.atlassian.com"
            else "response_type" if asked["response_type"] != "code"
            else "prompt" if asked["prompt"] != "consent"
            else "state" if len(asked["state"]) < 20
            else "scopes that have not been added to the app" if not set(wanted) - {LASTING} <= self.scopes
            else ""
        )  # fmt: skip
        if problem:
            return JSONResponse({"error": "invalid_request", "error_description": problem}, 400)
        if self.denies:
            answer = {"error": "access_denied", "state": asked["state"]}
        else:
            code = f"standin-code-{next(self._numbers)}"
            self._codes[code] = (self.clock(), tuple(wanted))
            answer = {"code": code, "state": asked["state"]}
        return RedirectResponse(f"{self.callback}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        try:
            wanted = json.loads(await request.body())
            answer: Response = JSONResponse(self._granted(wanted))
        except Refused as refused:
            error = {"error": refused.error, "error_description": refused.description}
            answer = JSONResponse(error, refused.status)
        instead, self.answer = self.answer, None
        return instead or answer

    def _granted(self, wanted: Mapping[str, Any]) -> Any:
        kind = wanted.get("grant_type", "")
        self.exchanges.append(kind)
        forms = {
            "authorization_code": {"code", "redirect_uri"},
            "refresh_token": {"refresh_token"},
        }
        if kind not in forms or wanted.keys() != {"grant_type", "client_id", "client_secret"} | forms[kind]:
            raise Refused(400, "invalid_request", "unknown or missing parameters")
        if wanted["client_id"] != CLIENT_ID or not hmac.compare_digest(wanted["client_secret"], self.secret):
            raise Refused(401, "access_denied", "Unauthorized")
        scopes = self._of_code(wanted) if kind == "authorization_code" else self._of_refresh(wanted["refresh_token"])
        pair = self._issue(scopes)
        lasting = {"refresh_token": pair.refresh} if LASTING in scopes else {}
        return {
            "access_token": pair.access, "expires_in": ACCESS_SECONDS, "token_type": "Bearer",
            "scope": " ".join(scopes),
        } | lasting  # fmt: skip

    def _of_code(self, wanted: Mapping[str, str]) -> tuple[str, ...]:
        given, scopes = self._codes.pop(wanted["code"], (None, ()))
        if given is None or self.clock() - given > CODE_LIFE or wanted["redirect_uri"] != self.callback:
            raise Refused(403, "invalid_grant", "Invalid authorization code")
        return scopes

    def _of_refresh(self, token: str) -> tuple[str, ...]:
        now = self.clock()
        found = next((pair for pair in self._issued if pair.refresh == token), None)
        if found is None or found.is_revoked(now) or now - found.at > INACTIVITY:
            raise Refused(403, "invalid_grant", "Unknown or invalid refresh token.")
        found.spent = found.spent or now
        return found.scopes

    def _issue(self, scopes: Sequence[str]) -> Issued:
        number = next(self._numbers)
        pair = Issued(f"standin-refresh-{number}", f"standin-access-{number}", tuple(scopes), self.clock())
        self._issued.append(pair)
        return pair

    # The gateway

    def _opened(self, request: Request) -> Issued | None:
        """What a request's token stands for, if it is good."""
        token, now = request.headers.get("Authorization", "").removeprefix("Bearer "), self.clock()
        found = next((pair for pair in self._issued if pair.access == token), None)
        is_good = found and not found.is_revoked(now) and now - found.at < timedelta(seconds=ACCESS_SECONDS)
        return found if is_good else None

    async def _resources(self, request: Request) -> Response:
        pair = self._opened(request)
        if pair is None:
            return JSONResponse({"code": 401, "message": "Unauthorized"}, 401)
        scopes = [scope for scope in pair.scopes if scope != LASTING]
        return JSONResponse(
            [
                {
                    "id": ident,
                    "url": url,
                    "name": url.partition("//")[2],
                    "scopes": scopes,
                    "avatarUrl": f"{url}/flag.png",
                }
                for url, ident in self.sites.items()
            ]
        )

    async def _gateway(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path.removeprefix(f"/ex/jira/{scope['path_params']['cloud']}")
        pair = self._opened(request)
        needed = next((needed for begins, needed in NEEDED if path.startswith(begins)), "")
        if pair is None:
            await JSONResponse({"code": 401, "message": "Unauthorized"}, 401)(scope, receive, send)
        elif scope["path_params"]["cloud"] != self.cloud_id:
            await JSONResponse({"code": 404, "message": "Not Found"}, 404)(scope, receive, send)
        elif needed not in pair.scopes:
            await JSONResponse({"code": 401, "message": "Unauthorized; scope does not match"}, 401)(
                scope, receive, send
            )
        else:
            await self.site.app(self._passed_on(scope, path), receive, send)

    def _passed_on(self, scope: Scope, path: str) -> Scope:
        """The request as the site gets it: signed for the person, with the name of the app."""
        headers = [each for each in scope["headers"] if each[0] != b"authorization"]
        signed = [
            (b"authorization", f"Basic {self.site.credentials}".encode()),
            (b"x-standin-app", CLIENT_ID.encode()),
        ]
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": "", "headers": [*headers, *signed]}
        inner.pop("app_root_path", None)
        return inner
