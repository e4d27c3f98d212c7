"""Dynamic webhooks of Jira: registered, renewed by the date that Jira tells, mended, and removed when they are not wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from starlette.applications import Starlette

from connectors.base import ConnectorError, Fatal, Ref, Registering, Retryable
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_dynamic import EVENTS, Hook, Plan, Wanted, plan, projects
from connectors.webhooks import Hint
from pmsync.health import Health
from pmsync.standins.atlassian import CLIENT_ID, CLIENT_SECRET, Atlassian
from pmsync.standins.jira import Fault, JiraSite
from pmsync.standins.jira_hooks import DynamicHook
from pmsync.standins.server import serve
from pmsync.web.intake import hooks, intake_routes
from tests.connectors.jira_stage import T0, keep_consent, lead_to

BASE = "https://pmsync.example.com"
TOKEN = "a-token-that-nobody-may-see"
HERE = f"{BASE}/webhooks/j/{TOKEN}"
AUTH = {"client_id": "c", "client_secret": {"env": "S"}, "consent": "jira.json"}

# --- what is to be done -----------------------------------------------------------------------------------------------

NOW = T0
MONTH = timedelta(days=30)
WANTED = Wanted(HERE, frozenset({"APO", "ZEU"}))


def hook(ident: int, days: float | None = 20, **changes: Any) -> Hook:
    until = None if days is None else NOW + timedelta(days=days)
    return Hook(ident, HERE, WANTED.jql, frozenset(EVENTS), until)._replace(**changes)


@pytest.mark.parametrize(
    ("found", "done"),
    [
        ([], Plan(register=WANTED)),
        ([hook(1)], Plan()),
        ([hook(1, 15)], Plan()),
        ([hook(1, 14.9)], Plan(renew=(1,))),
        ([hook(1, None)], Plan(renew=(1,))),
        ([hook(1, 0)], Plan(register=WANTED, after=(1,))),
        ([hook(1), hook(2, 25), hook(3, 3)], Plan(after=(1, 3))),
        ([hook(1, jql='project in ("APO")')], Plan(register=WANTED, after=(1,))),
        ([hook(1, jql="project in (ZEU, 'APO')")], Plan()),
        ([hook(1, jql=WANTED.jql + " AND status = Done")], Plan(register=WANTED, after=(1,))),
        ([hook(1, events=frozenset({"jira:issue_created"}))], Plan(register=WANTED, after=(1,))),
        ([hook(1, url=f"{BASE}/webhooks/j/old-token")], Plan(before=(1,), register=WANTED)),
        ([hook(1, url="https://old.example.com/webhooks/j/x"), hook(2)], Plan(after=(1,))),
        (
            [hook(1, url=f"{BASE}/webhooks/another/x"), hook(2, url="https://others.example.com/")],
            Plan(register=WANTED),
        ),
        ([hook(1, url="")], Plan()),
        ([hook(1, url="", jql="project = X")], Plan(register=WANTED)),
    ],
)
def test_what_is_to_be_done(found: list[Hook], done: Plan) -> None:
    assert plan(found, WANTED, "j", NOW, MONTH, ()) == done


def test_how_long_one_lasts_is_never_guessed() -> None:
    assert plan([hook(1, 20)], WANTED, "j", NOW, None, ()).renew == (1,)
    assert plan([hook(1, 20)], WANTED, "j", NOW, timedelta(days=41), ()).renew == (1,)
    assert plan([hook(1, 2)], WANTED, "j", NOW, timedelta(days=4), ()).renew == ()


def test_what_was_registered_is_right_however_it_is_written_since() -> None:
    odd = hook(7, jql="project IN (10000, 10001)", events=frozenset({"jira:issue_created"}))
    assert plan([odd], WANTED, "j", NOW, MONTH, {7}) == Plan()


def test_where_no_project_is_left_none_is_wanted() -> None:
    assert plan([hook(1), hook(2, url="https://others.example.com/")], None, "j", NOW, MONTH, ()) == Plan(before=(1,))


@pytest.mark.parametrize(
    ("jql", "named"),
    [
        (WANTED.jql, {"APO", "ZEU"}),
        (Wanted("", frozenset({'A"\\'})).jql, {'A"\\'}),
        ("PROJECT IN (APO)", {"APO"}),
        ("project = APO", {"APO"}),
        ("project != APO", None),
        ("issuetype = Bug", None),
    ],
)
def test_which_projects_a_filter_names(jql: str, named: set[str] | None) -> None:
    assert projects(jql) == named


# --- over HTTP --------------------------------------------------------------------------------------------------------


class World:
    """Atlassian, a site, and a connector that reads it by consent."""

    def __init__(self, folder: Path) -> None:
        self.days = 0.0
        self.folder = folder
        self.site = JiraSite(self.now)
        self.atlassian = Atlassian(self.now, self.site)
        for key in ("APO", "ZEU"):
            self.site.add_project(key, key)
        (folder / "token").write_text(TOKEN)
        (folder / "secret").write_text(CLIENT_SECRET)
        keep_consent(folder / "consent", self.atlassian, self.now())

    def now(self) -> datetime:
        return T0 + timedelta(days=self.days)

    def settings(self, **changes: Any) -> JiraSettings:
        auth = {
            "client_id": CLIENT_ID, "client_secret": {"file": self.folder / "secret"}, "consent": self.folder / "consent",
        }  # fmt: skip
        raw = {
            "name": "j", "kind": "jira", "url": "https://acme.atlassian.net", "auth": auth,
            "webhook_token": {"file": self.folder / "token"}, "webhook_register": BASE,
        }  # fmt: skip
        return JiraSettings.model_validate(raw | changes)

    def connect(self, *expected: str, **changes: Any) -> JiraConnector:
        connector = JiraConnector.connect(self.settings(**changes), self.now)
        connector.expect(expected or ("APO", "ZEU"))
        return connector

    @property
    def known(self) -> list[DynamicHook]:
        return list(self.site.hooks.known.values())

    def requests(self) -> list[str]:
        asked = [
            f"{method} {path.rpartition('/api/3/')[2]}" for method, path in self.site.requests if "webhook" in path
        ]
        self.site.requests.clear()
        return asked


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    with serve(world.atlassian.app) as url:
        lead_to(monkeypatch, url)
        yield world


def refused(act: Callable[[], Any], kind: type[ConnectorError] = Fatal) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def test_one_webhook_is_registered_and_then_left_alone(world: World) -> None:
    jira = world.connect()
    assert isinstance(jira, Registering)
    assert [jira.register(["APO", "ZEU"]) for _ in range(4)] == [1, 1, 0, 0]  # made; renewed, to know how long it lasts
    (made,) = world.known
    assert (made.url, made.projects, made.events) == (HERE, {"APO", "ZEU"}, frozenset(EVENTS))
    assert world.requests() == [
        "GET webhook",
        "POST webhook",
        "GET webhook",
        "PUT webhook/refresh",
        *2 * ["GET webhook"],
    ]


@pytest.mark.parametrize("life", [10, 30])
def test_it_is_renewed_when_less_than_half_is_left(world: World, life: int) -> None:
    world.site.hooks.life = timedelta(days=life)
    jira = world.connect()
    renewed = []
    for quarter in range(13):
        world.days = quarter * life / 4
        if jira.register(["APO", "ZEU"]):
            renewed.append(quarter)
        (kept,) = world.known
        assert kept.until - world.now() >= timedelta(days=life / 2)
        assert world.site.hooks.sent("jira:issue_updated", "APO", world.now()) == [HERE]
    assert renewed == [0, 1, 4, 7, 10]


def test_a_restart_neither_loses_nor_doubles_it(world: World) -> None:
    world.connect().register(["APO", "ZEU"])
    assert [world.connect().register(["APO", "ZEU"]) for _ in range(3)] == [1, 1, 1]  # renewed each time
    assert len(world.known) == 1


def test_what_was_not_renewed_in_time_is_registered_again(world: World) -> None:
    world.connect().register(["APO", "ZEU"])
    world.days = 31
    assert world.site.hooks.sent("jira:issue_updated", "APO", world.now()) == []
    world.connect().register(["APO", "ZEU"])
    assert [each.id for each in world.known] == [2]
    assert world.site.hooks.sent("jira:issue_updated", "APO", world.now()) == [HERE]


@pytest.mark.parametrize("shows_url", [True, False])
def test_other_projects_are_another_webhook(world: World, shows_url: bool) -> None:
    """Where Jira does not show to where one leads, one of other projects may be anybody's, and is left to end by itself."""
    world.site.hooks.shows_url = shows_url
    jira = world.connect()
    jira.register(["APO", "ZEU"])
    jira.register(["APO"])
    assert [each.projects for each in world.known][-1] == {"APO"}
    assert len(world.known) == (1 if shows_url else 2)
    jira.register(["APO", "GONE"])  # which this account may not see
    assert len(world.known) == (1 if shows_url else 2)


@pytest.mark.parametrize("changes", [{"webhook_register": "https://new.example.com/in/"}, {}])
def test_another_address_or_token_is_another_webhook(world: World, changes: dict[str, Any]) -> None:
    world.connect().register(["APO", "ZEU"])
    if not changes:
        (world.folder / "token").write_text("another")
    world.connect(**changes).register(["APO", "ZEU"])
    (made,) = world.known
    assert made.url == (f"https://new.example.com/in/webhooks/j/{TOKEN}" if changes else f"{BASE}/webhooks/j/another")


def test_those_of_others_are_left_alone_and_said(world: World) -> None:
    """An app has one address: where somebody else has it, nothing is registered, and their webhooks stay."""
    other = "https://others.example.com/hook"
    world.site.hooks.register(CLIENT_ID, other, [{"jqlFilter": 'project = "APO"', "events": ["jira:issue_created"]}],
                              frozenset({"APO"}), world.now())  # fmt: skip
    assert "an OAuth app of its own" in refused(lambda: world.connect().register(["APO", "ZEU"]))
    assert [each.url for each in world.known] == [other]


def test_who_does_not_ask_for_it_sends_no_request(world: World) -> None:
    assert world.connect(webhook_register=None).register(["APO"]) == 0
    assert world.site.requests == []


def test_a_consent_without_the_scope_says_what_to_do(world: World) -> None:
    keep_consent(world.folder / "consent", world.atlassian, world.now(), "read:jira-work", "read:jira-user")
    said = refused(lambda: world.connect().register(["APO"]))
    assert "let the OAuth app have manage:jira-webhook, and run `pmsync sign-in j` again" in said


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(429, {"Retry-After": "7", "RateLimit-Reason": "jira-burst-based"}, path="webhook"), Retryable),
        (Fault(200, body=b'{"values": [{"id": "x"}]}', path="webhook"), Retryable),
        (Fault(200, body=b'{"values": [7]}', path="webhook"), Retryable),
        (Fault(200, body=b"{}", path="webhook"), Retryable),
        (
            Fault(200, body=b'{"values": [{"id": 1, "jqlFilter": "x", "events": []}]}', path="webhook", times=99),
            Retryable,
        ),
    ],
)
def test_odd_answers_end_in_an_error_of_ours(world: World, fault: Fault, kind: type[ConnectorError]) -> None:
    world.site.faults.append(fault)
    refused(lambda: world.connect().register(["APO"]), kind)
    assert world.known == []


# --- what doctor says -------------------------------------------------------------------------------------------------


def said(world: World) -> list[str]:
    lines = list(world.connect().check(["APO", "ZEU"]))
    assert not [line for line in lines if TOKEN in line]
    return lines


def test_doctor_tells_of_a_webhook_that_is_missing_or_ends_soon(world: World) -> None:
    (missing,) = said(world)
    assert "Jira has no webhook of APO, ZEU that leads here" in missing
    world.connect().register(["APO", "ZEU"])
    assert said(world) == []
    world.days = 28
    (soon,) = said(world)
    assert "ends at 2026-04-01 09:00 UTC and was not renewed" in soon
    world.days = 31
    (over,) = said(world)
    assert over == missing


def test_doctor_tells_what_could_not_be_delivered_where_jira_does(world: World) -> None:
    world.connect().register(["APO", "ZEU"])
    failed = {"id": "1", "failureTime": int(world.now().timestamp() * 1000)}
    world.site.hooks.failed = [failed | {"url": HERE}, failed | {"url": "https://others.example.com/"}]
    assert said(world) == []  # an OAuth app may not ask for that
    world.site.hooks.tells_failed = True
    assert [line for line in said(world) if "could not deliver 1 webhooks" in line] == said(world) != []
    world.days = 4
    assert said(world) == []


def test_doctor_tells_of_a_scope_that_is_missing(world: World) -> None:
    keep_consent(
        world.folder / "consent", world.atlassian, world.now(), "read:jira-work", "read:board-scope:jira-software"
    )
    assert [line for line in said(world) if "manage:jira-webhook" in line] == said(world) != []


# --- from Jira to a hint ----------------------------------------------------------------------------------------------


def test_what_is_registered_is_heard(world: World) -> None:
    """The address that Jira is given is one that the intake takes, without a signature."""
    world.connect().register(["APO", "ZEU"])
    kept: list[Hint] = []
    known = hooks([world.settings()])
    routes = intake_routes(known, lambda source, hints: kept.extend(hints), Health(world.now))
    body = {"webhookEvent": "jira:issue_updated", "issue": {"id": "30001", "key": "APO-1"}}
    with serve(Starlette(routes=routes)) as intake:
        for url in world.site.hooks.sent("jira:issue_updated", "APO", world.now()):
            assert requests.post(intake + urlsplit(url).path, json=body, timeout=10).status_code == 202
    assert kept == [Hint(Ref("work_item", "30001"), "APO")]


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"webhook_register": "http://pmsync.example.com"}, "public address of the intake"),
        ({"webhook_register": "https://a:b@pmsync.example.com"}, "public address of the intake"),
        ({"webhook_register": BASE, "webhook_token": None}, "takes unsigned webhooks"),
        (
            {"webhook_register": BASE, "auth": {"email": "a@example.com", "token": {"env": "T"}}},
            "reads by a person's consent",
        ),
    ],
)
def test_what_registering_needs(changes: dict[str, Any], says: str) -> None:
    raw = {
        "name": "j",
        "kind": "jira",
        "url": "https://acme.atlassian.net",
        "auth": AUTH,
        "webhook_token": {"env": "T"},
    }
    with pytest.raises(ValueError, match=says):
        JiraSettings.model_validate(raw | changes)
