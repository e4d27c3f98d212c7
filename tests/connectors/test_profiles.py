"""What sources tell of their accounts: to who asks, and no more than they vouch for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Accounts, Connector, Fatal, Profile, Retryable
from connectors.github import GitHubConnector, GitHubSettings
from connectors.github_things import read_profile
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_cloud import PROFILES_PER_PAGE, profile_of
from pmsync.config import connector_kinds
from pmsync.standins.github import GitHubHost, Shown, User
from pmsync.standins.jira import HTML, Fault, JiraSite, Person
from tests.connectors.jira_data_center_standin import JiraServer
from tests.connectors.served import Stage

TOKEN = "a-token-that-nobody-may-see"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
WORLD = {
    "ada": Person("Ada Lovelace", "ada@example.com"),
    "shy": Person("Shy"),
    "left": Person("Left", "left@example.com", active=False),
    "help": Person("Help seeker", "help@example.com", type="customer"),
    "bot": Person("Robot", type="app"),
}


@pytest.fixture
def jira(served: Stage, tmp_path: Path) -> Callable[..., tuple[Any, JiraConnector]]:
    (tmp_path / "token").write_text(TOKEN)

    def connect(kind: type[JiraSite] = JiraSite, **options: Any) -> tuple[Any, JiraConnector]:
        site = kind(lambda: T0, token=TOKEN, **options)
        site.people |= WORLD
        served.app = site.app
        token = {"file": tmp_path / "token"}
        own = {"deployment": "data_center", "auth": {"token": token}}
        auth = own if kind is JiraServer else {"auth": {"email": "pmsync@example.com", "token": token}}
        raw = {"name": "j", "kind": "jira", "url": served.url, **auth}
        return site, JiraConnector.connect(JiraSettings.model_validate(raw), lambda: T0)

    return connect


def told(reader: Accounts, ids: Sequence[str]) -> list[Profile]:
    return list(reader.accounts(ids))


def test_cloud_vouches_for_the_addresses_of_who_is_there(jira: Callable[..., tuple[Any, JiraConnector]]) -> None:
    site, connector = jira()
    assert told(connector, ["ada", "shy", "nobody", "left", "help", "bot"]) == [
        Profile("ada", "Ada Lovelace", "ada@example.com", verified=True),
        Profile("shy", "Shy"),
        Profile("nobody"),
        Profile("left", "Left", "left@example.com"),
        Profile("help", "Help seeker", "help@example.com"),
        Profile("bot", "Robot"),
    ]
    assert len(site.requests) == 1
    assert told(connector, []) == []


def test_cloud_is_asked_for_many_at_once_and_every_page_is_read(
    jira: Callable[..., tuple[Any, JiraConnector]],
) -> None:
    site, connector = jira(max_page=20)
    site.people |= {f"p{n:03}": Person(f"Person {n}", f"p{n}@example.com") for n in range(120)}
    ids = [f"p{n:03}" for n in range(120)]
    found = told(connector, ids)
    assert [profile.account for profile in found] == ids
    assert all(profile.verified for profile in found)
    assert len(site.requests) == 7, f"120 in requests for {PROFILES_PER_PAGE}, of which each page has 20"


def test_a_server_of_ones_own_vouches_for_nothing(jira: Callable[..., tuple[Any, JiraConnector]]) -> None:
    _, connector = jira(JiraServer)
    assert told(connector, ["ada", "nobody", "shy"]) == [
        Profile("ada", "Ada Lovelace", "ada@example.com"),
        Profile("nobody"),
        Profile("shy", "Shy"),
    ]


@pytest.mark.parametrize("kind", [JiraSite, JiraServer])
def test_a_jira_that_does_not_answer_is_no_answer(
    jira: Callable[..., tuple[Any, JiraConnector]], kind: type[JiraSite]
) -> None:
    site, connector = jira(kind)
    site.faults += [Fault(503, path="/user"), HTML]
    for _ in range(2):
        with pytest.raises(Retryable):
            told(connector, ["ada"])
    site.faults.append(Fault(403, path="/user"))
    with pytest.raises(Fatal):
        told(connector, ["ada"])


@pytest.mark.parametrize("user", [{}, [], None, "ada", {"accountId": 7}, {"accountId": "a", "displayName": "a\0"}, {"accountId": "a", "active": "yes"}])  # fmt: skip
def test_a_user_that_cannot_be_read_is_nobody(user: Any) -> None:
    assert profile_of(user) is None


@pytest.fixture
def github(served: Stage, tmp_path: Path) -> tuple[GitHubHost, GitHubConnector]:
    host = GitHubHost(lambda: T0, token=TOKEN)
    served.app = host.app
    (tmp_path / "token").write_text(TOKEN)
    raw = {"name": "gh", "url": served.url, "auth": {"token": {"file": tmp_path / "token"}}}
    return host, GitHubConnector.connect(GitHubSettings.model_validate(raw), lambda: T0)


def test_github_shows_what_is_public_and_vouches_for_nothing(github: tuple[GitHubHost, GitHubConnector]) -> None:
    host, connector = github
    host.profiles |= {
        11: Shown(User("ann", 11), "Ann Other", "ann@example.com"),
        12: Shown(User("ben", 12)),
    }
    assert told(connector, ["11", "99", "12", "../user", "team:7"]) == [
        Profile("11", "Ann Other", "ann@example.com"),
        Profile("99"),
        Profile("12", "ben"),
        Profile("../user"),
        Profile("team:7"),
    ]
    assert [each.path for each in host.requests] == ["/user/11", "/user/99", "/user/12"]
    host.fail("500")
    with pytest.raises(Retryable):
        told(connector, ["11"])


@pytest.mark.parametrize("body", [None, [], {}, {"id": "11", "login": "ann"}, {"id": 11, "login": None}])
def test_a_profile_that_cannot_be_read_is_none(body: Any) -> None:
    assert read_profile(body) is None


def test_which_connectors_can_be_asked() -> None:
    kinds: dict[str, type[Connector]] = dict(connector_kinds())
    assert {kind for kind, found in kinds.items() if hasattr(found, "accounts")} == {"jira", "github"}
