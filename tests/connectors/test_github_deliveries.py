"""What GitHub could not deliver is asked for again: which of it, by a table; and over HTTP, from the stand-in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors import github_deliveries
from connectors.base import Fatal, Redelivering, Retryable, SecretRef
from connectors.calendar import CalendarSettings
from connectors.github import GitHubAuth, GitHubConnector, GitHubSettings
from connectors.github_deliveries import Delivery, due, listed
from connectors.github_webhooks import HINTS
from connectors.jira import JiraSettings
from connectors.webhooks import leads_to
from pmsync.standins.github import GitHubHost
from tests.connectors.served import Stage

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=3)
REPO, OTHER = "acme/apollo", "acme/beacon"


# --- which -------------------------------------------------------------------------------------------------------------


def told(*lines: str) -> list[Delivery]:
    """`GUID HOURS STATUS …`: so many hours ago, GUID was delivered with this status; `again`, an event or a repository's
    id may follow. The id is the place in the list, from 1 on."""
    found = []
    for number, line in enumerate(lines, 1):
        guid, hours, status, *more = line.split()
        shown = {
            "id": number,
            "guid": guid,
            "delivered_at": (NOW - timedelta(hours=float(hours))).isoformat(),
            "redelivery": "again" in more,
            "status": "OK" if status == "200" else "it is not there",
            "status_code": None if status == "-" else int(status),
            "event": next((each for each in more if each.isalpha() and each != "again"), "issues"),
            "repository_id": next((int(each) for each in more if each.isdigit()), None),
        }
        found += listed([shown])
    return found


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], []),
        (["a 1 200"], []),
        (["a 1 202"], []),
        (["a 1 502"], [1]),
        (["a 1 301"], [1]),
        (["a 1 -"], [1]),
        (["a 1 0"], [1]),
        (["a 1 200 again", "a 2 502"], []),
        (["a 1 502 again", "a 2 200"], []),
        (["a 1 502 again", "a 2 502"], [2]),
        (["a 1 502 again", "a 2 502 again", "a 3 502"], []),
        (["a 1 502 again"], []),
        (["a 0 502 again", "a 0 502"], [2]),
        (["a 1 502", "b 3 502", "c 2 502"], [2, 3, 1]),
        (["a 71 502", "b 73 502"], [1]),
        (["a 71 502 again", "a 73 502"], []),
        (["a 1 502 push", "b 1 502 milestone", "c 1 502 ping"], [2]),
        (["a 1 502 7", "b 1 502 8", "c 1 502"], [1, 2, 3]),
    ],
    ids=[
        "none", "taken", "accepted", "refused", "sent elsewhere", "no answer", "no status", "taken at the second attempt",
        "sent again by hand", "tried twice", "tried thrice", "the first is not known", "both in one second",
        "the oldest first", "for three days", "the first is too old", "what is not read", "of any repository",
    ],
)  # fmt: skip
def test_which_are_due(lines: list[str], wanted: list[int]) -> None:
    assert [each.id for each in due(told(*lines), SINCE, HINTS).deliveries] == wanted


def test_of_these_repositories_alone() -> None:
    deliveries = told("a 1 502 7", "b 1 502 8", "c 1 502")
    assert [each.guid for each in due(deliveries, SINCE, HINTS, {7}).deliveries] == ["a"]


@pytest.mark.parametrize(
    ("lines", "hours"),
    [
        ([], 72),
        (["a 1 200", "b 5 200"], 1 + 1 / 6),
        (["a 1 200", "b 5 502"], 5),
        (["a 1 502", "b 5 502", "c 9 200"], 5),
        (["a 72 200"], 72),
        (["a 1 200 again", "a 5 502"], 1 + 1 / 6),
    ],
    ids=["nothing was sent", "all is settled", "one is not", "the oldest of two", "it never goes back", "now it is"],
)
def test_from_when_on_there_may_be_news(lines: list[str], hours: float) -> None:
    assert due(told(*lines), SINCE, HINTS).since == NOW - timedelta(hours=hours)


@pytest.mark.parametrize("spoilt", [None, [], "x", {}, {"id": "../x"}, {"guid": None}, {"delivered_at": "soon"}])
def test_what_is_no_delivery_costs_only_itself(spoilt: Any) -> None:
    good = told("a 1 502")[0].model_dump(mode="json")
    spoilt = {**good, **spoilt} if isinstance(spoilt, dict) and spoilt else spoilt
    assert [each.guid for each in listed([spoilt, good])] == ["a"]


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("https://pm.example.com/webhooks/gh", True),
        ("https://pm.example.com/behind/webhooks/gh", True),
        ("https://pm.example.com/webhooks/gh/a-token", True),
        ("https://pm.example.com/webhooks/g%68?x=1", True),
        ("https://pm.example.com/webhooks/gh/", False),
        ("https://pm.example.com/webhooks/gh2", False),
        ("https://pm.example.com/webhooks/g", False),
        ("https://pm.example.com/otherwebhooks/gh", False),
        ("https://ci.example.com/?to=/webhooks/gh", False),
        ("https://ci.example.com/hook", False),
        ("https://[", False),
        (None, False),
        (7, False),
    ],
)
def test_whose_webhook_it_is(url: Any, is_ours: bool) -> None:
    assert leads_to(url, "gh") is is_ours


# --- whether ------------------------------------------------------------------------------------------------------------


def test_it_is_off_and_only_for_who_takes_webhooks_of_github() -> None:
    secret = {"webhook_secret": {"env": "SECRET"}}
    github = {"name": "gh", "auth": {"token": {"env": "TOKEN"}}}
    assert GitHubSettings.model_validate({**github, **secret}).webhook_redeliver is False
    assert GitHubSettings.model_validate({**github, **secret, "webhook_redeliver": True}).webhook_redeliver
    assert GitHubSettings.model_validate({**github, "webhook_token": {"env": "T"}, "webhook_redeliver": True})
    with pytest.raises(ValidationError, match="give webhook_secret or webhook_token"):
        GitHubSettings.model_validate({**github, "webhook_redeliver": True})
    jira = {"name": "j", "kind": "jira", "url": "https://example.atlassian.net", "live": False}
    calendar = {"name": "c", "kind": "calendar", "ics": "team.ics"}
    for kind, values in ((JiraSettings, {**jira, **secret}), (CalendarSettings, calendar)):
        kind.model_validate(values)
        with pytest.raises(ValidationError, match="webhook_redeliver"):
            kind.model_validate({**values, "webhook_redeliver": True})


# --- over HTTP ----------------------------------------------------------------------------------------------------------


class World:
    """Two repositories, each with a webhook that leads to us; nobody takes what these send, until `open`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.now, self.url, self.folder = NOW, url, folder
        self.host = GitHubHost(lambda: self.now)
        self.ids = {repo: self.host.add_repository(repo) for repo in (REPO, OTHER)}
        self.hooks = {repo: self.host.add_hook(repo, "https://pm.example.com/webhooks/gh") for repo in (REPO, OTHER)}
        self.taken: list[tuple[str, bool]] = []
        (folder / "token").write_text("token")

    def open(self) -> None:
        def receive(_: Any, delivery: Any) -> int:
            self.taken.append((delivery.guid, delivery.redelivery))
            return 202

        self.host.receive = receive

    def send(self, repo: str = REPO, event: str = "issues", hours: float = 1, hook: int | None = None) -> str:
        body = {"action": "edited", "repository": {"id": self.ids[repo]}, "issue": {"number": 1}}
        return self.host.send(hook or self.hooks[repo], event, body, self.now - timedelta(hours=hours))

    def connect(self, **values: Any) -> GitHubConnector:
        secret = SecretRef(file=self.folder / "token")
        values = {"webhook_secret": secret, "webhook_redeliver": True, **values}
        settings = GitHubSettings(name="gh", url=self.url, auth=GitHubAuth(token=secret), **values)
        return GitHubConnector.connect(settings, lambda: self.now)

    def asked(self, part: str) -> int:
        return sum(part in each.path for each in self.host.requests)


@pytest.fixture
def world(served: Stage, tmp_path: Path) -> World:
    found = World(served.url, tmp_path)
    served.app = found.host.app
    return found


def test_what_nobody_took_is_sent_again_once(world: World) -> None:
    missed = [world.send(hours=5), world.send(OTHER, "pull_request", hours=2)]
    world.send(event="push")
    world.send(hours=73)
    world.open()
    world.send()
    world.taken.clear()
    connector = world.connect()
    assert isinstance(connector, Redelivering)
    assert connector.redeliver([REPO, OTHER]) == 2
    assert world.taken == [(guid, True) for guid in missed]
    assert connector.redeliver([REPO, OTHER]) == 0
    assert world.host.attempts(world.hooks[REPO], missed[0]) == [502, 202]


def test_only_of_repositories_that_are_configured(world: World) -> None:
    world.send()
    world.send(OTHER)
    assert world.connect().redeliver([OTHER, "acme/none"]) == 1
    assert not [each for each in world.host.requests if f"/{world.ids[REPO]}/" in each.path]


def test_only_webhooks_that_lead_here(world: World) -> None:
    for hook in (
        world.host.add_hook(REPO, "https://ci.example.com/webhooks/others"),
        world.host.add_hook(REPO, "https://pm.example.com/webhooks/gh", active=False),
    ):
        world.send(hook=hook)
    assert world.connect().redeliver([REPO]) == 0
    assert world.asked("/deliveries") == 1


def test_nothing_is_asked_unless_it_is_configured(world: World) -> None:
    world.send()
    connector = world.connect(webhook_redeliver=False)
    assert connector.redeliver([REPO]) == 0
    assert list(connector.check([REPO])) == []
    assert not world.asked("/hooks")


def test_what_fails_again_and_again_is_left(world: World) -> None:
    guid = world.send()
    connector = world.connect()
    asked = []
    for _ in range(5):
        asked.append(connector.redeliver([REPO]))
        world.now += timedelta(minutes=15)
    assert asked == [1, 1, 0, 0, 0]
    # Nor is it by who knows no more of it than what is listed.
    assert world.connect().redeliver([REPO]) == 0
    assert world.host.attempts(world.hooks[REPO], guid) == [502, 502, 502]


def test_all_pages_are_looked_at_and_the_second_time_only_what_is_new(world: World) -> None:
    missed = world.send(hours=9)
    world.open()
    for n in range(250):
        world.send(hours=8 - n / 100)
    world.taken.clear()
    connector = world.connect()
    assert connector.redeliver([REPO]) == 1
    assert world.taken == [(missed, True)]
    assert world.asked("/deliveries") - world.asked("/attempts") == 3
    for pages in (3, 1):  # it is settled once its second attempt was seen
        world.host.requests.clear()
        assert connector.redeliver([REPO]) == 0
        assert world.asked("/deliveries") == pages


def test_pages_and_requests_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_deliveries, "MOST_PAGES", 2)
    monkeypatch.setattr(github_deliveries, "MOST_ASKED", 5)
    sent = [world.send(hours=70 - n / 10) for n in range(203)]
    world.send(OTHER)
    world.open()
    assert world.connect().redeliver([REPO, OTHER]) == 5
    assert world.asked("/deliveries") - world.asked("/attempts") == 2
    assert world.taken == [(guid, True) for guid in sent[3:8]], "the oldest of the two hundred newest"


@pytest.mark.parametrize("status", [403, 404])
def test_webhooks_that_may_not_be_read_are_said_by_doctor_alone(world: World, status: int) -> None:
    world.send()
    world.host.hooks_refused = status
    connector = world.connect()
    assert connector.redeliver([REPO, OTHER]) == 0
    (said,) = connector.check([REPO, OTHER])
    assert said.startswith(f"no webhook of {REPO}, {OTHER} that leads to /webhooks/gh can be read")
    assert "Webhooks, read and write" in said
    assert list(world.connect(webhook_redeliver=False).check([REPO])) == []
    world.host.hooks_refused = 0
    assert list(connector.check([REPO, OTHER])) == []


def test_a_token_that_may_only_read_them(world: World) -> None:
    world.send()
    world.host.attempts_refused = 403
    with pytest.raises(Fatal, match="let it write Webhooks"):
        world.connect().redeliver([REPO])


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_what_cannot_be_sent_again_keeps_nothing_else(world: World, status: int) -> None:
    world.send()
    world.send()
    world.host.attempts_refused = status
    assert world.connect().redeliver([REPO]) == 0
    assert world.asked("/attempts") == 2


@pytest.mark.parametrize("after", range(5))
def test_a_busy_github_is_another_try(world: World, after: int) -> None:
    """At each request: the repository, its webhooks, two pages of deliveries, the attempt."""
    missed = world.send(hours=9)
    world.open()
    for _ in range(100):
        world.send()
    connector = world.connect()
    world.host.fail("secondary", after=after)
    with pytest.raises(Retryable, match="rate limit"):
        connector.redeliver([REPO])
    assert connector.redeliver([REPO]) == 1
    assert world.host.attempts(world.hooks[REPO], missed) == [502, 202]


# --- of organisations ---------------------------------------------------------------------------------------------------


@pytest.fixture
def owned(world: World) -> int:
    """The webhook of the organisation that owns both repositories, which have none of their own."""
    for hook in world.hooks.values():
        world.host._hooks[hook].active = False
    return world.host.add_hook("acme", "https://pm.example.com/webhooks/gh")


def test_what_an_organisation_s_webhook_could_not_deliver_is_sent_again(world: World, owned: int) -> None:
    missed = [world.send(hours=5, hook=owned), world.send(OTHER, "pull_request", hours=2, hook=owned)]
    world.open()
    connector = world.connect()
    assert connector.redeliver([REPO, OTHER]) == 2
    assert world.taken == [(guid, True) for guid in missed]
    assert connector.redeliver([REPO, OTHER]) == 0
    assert world.host.attempts(owned, missed[0]) == [502, 202]
    assert list(connector.check([REPO, OTHER])) == []
    assert sum(each.path == "/orgs/acme/hooks" for each in world.host.requests[:9]) == 1, "asked once, for both"


def test_of_an_organisation_only_what_is_of_repositories_that_are_configured(world: World, owned: int) -> None:
    world.send(hook=owned)
    mine = world.send(OTHER, hook=owned)
    world.open()
    assert world.connect().redeliver([OTHER]) == 1
    assert world.taken == [(mine, True)]


def test_an_organisation_s_webhooks_are_looked_at_beside_a_repository_s_own(world: World) -> None:
    org = world.host.add_hook("acme", "https://pm.example.com/webhooks/gh")
    missed = {world.send(), world.send(OTHER, hook=org)}
    world.open()
    assert world.connect().redeliver([REPO, OTHER]) == 2
    assert {guid for guid, _ in world.taken} == missed


def test_an_organisation_s_webhooks_that_lead_elsewhere_are_left_alone(world: World, owned: int) -> None:
    world.host._hooks[owned].url = "https://ci.example.com/webhooks/others"
    world.send(hook=owned)
    connector = world.connect()
    assert connector.redeliver([REPO]) == 0
    assert not world.asked("/deliveries")
    (said,) = connector.check([REPO])
    assert said.startswith(f"no webhook of {REPO} that leads to /webhooks/gh can be read")


@pytest.mark.parametrize("status", [403, 404])
def test_an_organisation_s_webhooks_that_may_not_be_read_keep_nothing_else(
    world: World, owned: int, status: int
) -> None:
    world.host.org_hooks_refused = status
    world.send(hook=owned)
    world.host._hooks[world.hooks[REPO]].active = True
    world.send()
    connector = world.connect()
    assert connector.redeliver([REPO, OTHER]) == 1
    (said,) = connector.check([REPO, OTHER])
    assert said.startswith(f"no webhook of {OTHER} that leads to /webhooks/gh can be read")


def test_a_busy_github_is_another_try_for_an_organisation_s_webhooks_too(world: World, owned: int) -> None:
    world.send(hook=owned)
    connector = world.connect()
    world.host.fail("secondary", after=2)
    with pytest.raises(Retryable, match="rate limit"):
        connector.redeliver([REPO])
    assert world.host.requests[-1].path == "/orgs/acme/hooks"
    assert connector.redeliver([REPO]) == 1
