"""The stand-in for Atlassian's authorization server and gateway, and for dynamic webhooks: strict, and in documented shapes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator

from pmsync.standins.atlassian import CALLBACK, CLIENT_ID, CLIENT_SECRET, SCOPES, Atlassian, Issued
from pmsync.standins.jira import JiraSite
from pmsync.standins.jira_hooks import EVENTS, MOST
from pmsync.standins.server import serve
from tests.connectors.jira_stage import T0
from tests.connectors.test_jira_standin import of, openapi

ASKED = {
    "audience": "api.atlassian.com", "client_id": CLIENT_ID, "scope": "read:jira-work offline_access",
    "redirect_uri": CALLBACK, "state": "s" * 20, "response_type": "code", "prompt": "consent",
}  # fmt: skip
APP = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
DETAILS = {"jqlFilter": 'project = "APO"', "events": ["jira:issue_created"]}


class World:
    def __init__(self) -> None:
        self.minutes, self.url = 0.0, ""
        self.site = JiraSite(self.now)
        self.site.add_project("APO", "Apollo")
        self.atlassian = Atlassian(self.now, self.site)

    def now(self) -> datetime:
        return T0 + timedelta(minutes=self.minutes)

    def authorize(self, **changes: Any) -> requests.Response:
        asked = {name: value for name, value in (ASKED | changes).items() if value is not None}
        return requests.get(f"{self.url}/authorize", params=asked, allow_redirects=False, timeout=10)

    def token(self, **wanted: Any) -> requests.Response:
        return requests.post(f"{self.url}/oauth/token", json=APP | wanted, timeout=10)

    def refresh(self, pair: Issued) -> requests.Response:
        return self.token(grant_type="refresh_token", refresh_token=pair.refresh)

    def jira(self, method: str, path: str, access: str, body: Any = None) -> requests.Response:
        url = f"{self.url}/ex/jira/cloud-1/rest/api/3/{path}"
        return requests.request(method, url, json=body, headers={"Authorization": f"Bearer {access}"}, timeout=10)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with serve(world.atlassian.app) as url:
        world.url = url
        yield world


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": None}, {"prompt": "none"}, {"state": "short"}, {"client_id": "another"}, {"response_type": "token"},
        {"redirect_uri": "http://localhost:1/"}, {"scope": "write:jira-work"}, {"code_challenge": "x"},
    ],
)  # fmt: skip
def test_a_consent_that_is_not_asked_for_as_documented_is_refused(world: World, changes: dict[str, Any]) -> None:
    assert world.authorize(**changes).status_code == 400
    assert world.authorize().status_code == 302


def test_a_code_is_good_once_and_not_for_long(world: World) -> None:
    def code() -> str:
        return str(
            requests.utils.unquote(world.authorize().headers["Location"].partition("code=")[2].partition("&")[0])
        )

    def grant(code: str, **changes: Any) -> int:
        wanted = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK} | changes
        return world.token(**wanted).status_code

    good, other, late = code(), code(), code()
    assert (grant(good), grant(good), grant(other, redirect_uri="http://localhost:1/")) == (200, 403, 403)
    assert grant(code(), client_secret="wrong") == 401
    assert grant(code(), extra="x") == 400
    world.minutes = 6
    assert grant(late) == 403


def test_refresh_tokens_rotate(world: World) -> None:
    """What was used opens nothing ten minutes later, nor does what came with it; what was not used is good for 90 days."""
    pair, idle = world.atlassian.consented(), world.atlassian.consented()
    first = world.refresh(pair).json()
    world.minutes = 9
    assert world.refresh(pair).status_code == 200
    assert world.jira("GET", "myself", pair.access).ok
    world.minutes = 10
    answer = world.refresh(pair)
    assert (answer.status_code, answer.json()["error"]) == (403, "invalid_grant")
    assert world.jira("GET", "myself", pair.access).status_code == 401
    assert world.jira("GET", "myself", first["access_token"]).ok
    assert world.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).ok
    world.minutes = 60 * 24 * 90 + 1
    assert world.refresh(idle).status_code == 403


def test_the_gateway_wants_a_good_token_its_site_and_a_scope(world: World) -> None:
    pair, poor = world.atlassian.consented(), world.atlassian.consented("read:jira-work")
    assert world.jira("GET", "project/APO", pair.access).json()["key"] == "APO"
    assert world.jira("GET", "webhook", poor.access).json() == {
        "code": 401,
        "message": "Unauthorized; scope does not match",
    }
    assert world.jira("GET", "myself", "x").status_code == 401
    elsewhere = requests.get(
        f"{world.url}/ex/jira/cloud-2/rest/api/3/myself", headers={"Authorization": f"Bearer {pair.access}"}, timeout=10
    )
    assert elsewhere.status_code == 404
    world.minutes = 60
    assert world.jira("GET", "myself", pair.access).status_code == 401


def test_what_a_consent_opens(world: World) -> None:
    pair = world.atlassian.consented()
    url = f"{world.url}/oauth/token/accessible-resources"
    (seen,) = requests.get(url, headers={"Authorization": f"Bearer {pair.access}"}, timeout=10).json()
    assert (seen["id"], seen["url"], set(seen["scopes"])) == ("cloud-1", "https://acme.atlassian.net", SCOPES)
    assert requests.get(url, timeout=10).status_code == 401


# Dynamic webhooks


def registered(world: World, access: str, *details: Any, url: str = "https://pmsync.example.com/x") -> Any:
    return world.jira("POST", "webhook", access, {"url": url, "webhooks": list(details)}).json()


def test_webhooks_of_apps_are_refused_to_others(world: World) -> None:
    with serve(world.site.app) as url:
        answer = requests.get(f"{url}/rest/api/3/webhook", auth=("pmsync@example.com", "standin-token"), timeout=10)
    assert answer.status_code == 403


def test_what_is_not_registered(world: World) -> None:
    access = world.atlassian.consented().access
    odd = [
        DETAILS | {"jqlFilter": 'project = "APO" OR 1'}, DETAILS | {"jqlFilter": 'project = "NONE"'},
        DETAILS | {"events": ["worklog_created"]}, DETAILS | {"events": []},
    ]  # fmt: skip
    answer = registered(world, access, *odd, *[DETAILS] * (MOST + 1))["webhookRegistrationResult"]
    assert ["errors" in each for each in answer] == [True] * 4 + [False] * MOST + [True]
    (other,) = registered(world, access, DETAILS, url="https://elsewhere.example.com")["webhookRegistrationResult"]
    assert "Only a single URL" in other["errors"][0]
    assert (
        world.jira("POST", "webhook", access, {"url": "http://x.example.com", "webhooks": [DETAILS]}).status_code == 400
    )


def test_what_is_over_is_silent_and_not_renewed(world: World) -> None:
    access = world.atlassian.consented().access
    registered(world, access, DETAILS)
    world.site.hooks.life = timedelta(minutes=20)
    world.jira("PUT", "webhook/refresh", access, {"webhookIds": [1, 99]})
    seen = []
    for world.minutes in (19, 20):
        seen.append(world.site.hooks.sent("jira:issue_created", "APO", world.now()))
        world.site.hooks.refresh(CLIENT_ID, [1] if world.minutes == 20 else [], world.now())
    assert [len(each) for each in seen] == [1, 0]
    assert world.site.hooks.sent("jira:issue_created", "APO", world.now()) == []
    assert world.site.hooks.sent("jira:issue_created", "ZEU", T0) == []
    assert world.jira("DELETE", "webhook", access, {"webhookIds": [1, 99]}).status_code == 202
    assert world.site.hooks.known == {}


def test_answers_about_webhooks_are_as_the_vendor_documents(world: World) -> None:
    """The document is of 2022: it has neither the address in a list, nor events but those of issues."""

    def problems(answer: Any, kind: str) -> list[str]:
        validator = Draft202012Validator(of(kind) | {"components": openapi()["components"]})
        return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(answer)]

    access = world.atlassian.consented().access
    made = registered(world, access, DETAILS, DETAILS | {"jqlFilter": "x"})
    assert problems(made, "ContainerForRegisteredWebhooks") == []
    listed = world.jira("GET", "webhook", access).json()
    (shown,) = listed["values"]
    assert shown.pop("url") == "https://pmsync.example.com/x"
    assert problems(listed, "PageBeanWebhook") == []
    renewed = world.jira("PUT", "webhook/refresh", access, {"webhookIds": [1]}).json()
    assert problems(renewed, "WebhooksExpirationDate") == []
    world.site.hooks.tells_failed = True
    world.site.hooks.failed = [{"id": "1", "url": "https://pmsync.example.com/x", "failureTime": 1}]
    assert problems(world.jira("GET", "webhook/failed", access).json(), "FailedWebhooks") == []
    documented = openapi()["components"]["schemas"]["Webhook"]["properties"]["events"]["items"]["enum"]
    assert set(documented) < EVENTS
