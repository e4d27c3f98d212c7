"""A service account of Atlassian: its secret is exchanged for a token, and Jira is spoken to through the gateway."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.base import ConnectorError, Fatal, Retryable
from connectors.jira import JiraConnector, JiraSettings
from pmsync.standins.server import serve
from tests.connectors.jira_stage import lead_to

SECRET = "a-secret-that-nobody-may-see"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Atlassian:
    """The token endpoint and the gateway with one Jira behind it, whose tokens are good for an hour of `now`."""

    def __init__(self) -> None:
        self.now = T0
        self.given = 0
        self.revoked: set[str] = set()
        self.answer: Response | None = None
        self.signed: list[str | None] = []
        self.asked: list[dict[str, Any]] = []
        self.app = Starlette(
            routes=[
                Route("/oauth/token", self._token, methods=["POST"]),
                Route("/ex/jira/cloud-1/rest/api/3/serverInfo", self._info),
            ]
        )

    async def _token(self, request: Request) -> Response:
        self.signed.append(request.headers.get("Authorization"))
        self.asked.append(json.loads(await request.body()))
        if self.answer:
            return self.answer
        self.given += 1
        return JSONResponse({"access_token": f"token-{self.given}", "expires_in": 3600, "token_type": "Bearer"})

    async def _info(self, request: Request) -> Response:
        sent = request.headers.get("Authorization", "")
        if sent == f"Basic {b64encode(f'me@example.com:{SECRET}'.encode()).decode()}":
            return JSONResponse({"serverTime": self.now.isoformat()})
        token = sent.removeprefix("Bearer ")
        known = {f"token-{n + 1}" for n in range(self.given)} - self.revoked
        if token not in known:
            return JSONResponse({"code": 401, "message": "Unauthorized"}, 401)
        return JSONResponse({"serverTime": self.now.isoformat(), "token": token})


@pytest.fixture
def atlassian(monkeypatch: pytest.MonkeyPatch) -> Iterator[Atlassian]:
    host = Atlassian()
    with serve(host.app) as url:
        lead_to(monkeypatch, url)
        yield host


@pytest.fixture
def jira(atlassian: Atlassian, tmp_path: Path) -> JiraConnector:
    (tmp_path / "secret").write_text(SECRET)
    auth = {"client_id": "client-1", "client_secret": {"file": tmp_path / "secret"}, "cloud_id": "cloud-1"}
    raw = {"name": "j", "kind": "jira", "url": "https://acme.example.com", "auth": auth}
    return JiraConnector.connect(JiraSettings.model_validate(raw), lambda: atlassian.now)


def test_a_token_is_asked_for_once_and_anew_before_it_ends(atlassian: Atlassian, jira: JiraConnector) -> None:
    for minutes, given in ((0, 1), (30, 1), (54, 1), (56, 2), (80, 2), (200, 3)):
        atlassian.now = T0 + timedelta(minutes=minutes)
        assert jira.now() == atlassian.now
        assert atlassian.given == given, minutes
    wanted = {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": SECRET}
    assert atlassian.asked == [wanted] * 3


def test_an_api_token_with_scopes_goes_through_the_gateway(atlassian: Atlassian, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    auth = {"email": "me@example.com", "token": {"file": tmp_path / "secret"}, "cloud_id": "cloud-1"}
    raw = {"name": "j", "kind": "jira", "url": "https://acme.example.com", "auth": auth}
    assert JiraConnector.connect(JiraSettings.model_validate(raw), lambda: T0).now() == T0
    assert atlassian.asked == []


def test_nobody_else_signs_the_exchange(
    atlassian: Atlassian, jira: JiraConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    jira.now()
    assert atlassian.signed == [None]


def test_nothing_is_asked_before_it_is_needed(atlassian: Atlassian, jira: JiraConnector) -> None:
    assert (jira.name, atlassian.asked) == ("j", [])


def test_a_token_that_is_refused_is_not_used_again(atlassian: Atlassian, jira: JiraConnector) -> None:
    jira.now()
    atlassian.revoked.add("token-1")
    with pytest.raises(Fatal, match="401"):
        jira.now()
    assert jira.now() == T0
    assert atlassian.given == 2


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Response(b'{"error":"access_denied"}', 401), Fatal, "auth.client_secret"),
        (Response(b"", 403), Fatal, "auth.client_secret"),
        (Response(b"", 429, {"Retry-After": "7"}), Retryable, "429"),
        (Response(b"", 503), Retryable, "503"),
        (Response(b"", 302, {"Location": "https://elsewhere.example.com/"}), Retryable, "302"),
        (Response(b'{"access_tok', 200), Retryable, "not as documented"),
        (JSONResponse({"access_token": "t", "expires_in": -1}), Retryable, "expires_in"),
        (JSONResponse({"access_token": "two\nlines", "expires_in": 3600}), Fatal, "holds characters"),
    ],
)
def test_what_goes_wrong_is_told_without_the_secret(
    answer: Response, kind: type[ConnectorError], says: str, atlassian: Atlassian, jira: JiraConnector
) -> None:
    atlassian.answer = answer
    with pytest.raises(kind) as caught:
        jira.now()
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    if isinstance(caught.value, Retryable):
        assert caught.value.after == (7.0 if answer.status_code == 429 else None)
