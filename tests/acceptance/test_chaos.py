"""An hour in which webhooks are lost, doubled and shuffled and polls fail: after a reconciliation nothing differs.

`make soak` has ten thousand changes in it, `make test` a thousand.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import requests

from connectors.base import ConnectorError
from pmsync.app import App
from pmsync.reconcile import Reconciliation, reconcile
from pmsync.standins import github, jira
from pmsync.standins.server import serve as serve_standin
from pmsync.web.app import create_app
from pmsync.web.intake import hooks, intake_routes
from pmsync.web.reader import Later
from pmsync.web.serve import serve
from tests.acceptance.installation import difference, exports, installed, run_once

pytestmark = pytest.mark.acceptance

BEGIN = datetime(2026, 3, 16, 9, tzinfo=UTC)
STEP, STEPS = timedelta(seconds=10), 360
ROUND = 6
"""Steps between two rounds: a minute."""
LOST, DOUBLED, LATEST = 0.05, 0.2, 12
"""Shares of the webhooks, and by how many steps one may be late."""
ITEMS = 60
REPOS, KEYS = ("acme/apollo", "acme/beacon"), ("APO", "BEA")
SECRET = "a secret"

Webhook = tuple[str, Mapping[str, str], bytes]


class World:
    """Two sources of two containers each, changed at random; each change has its webhooks."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = BEGIN - timedelta(days=30)
        self.github = github.GitHubHost(lambda: self.now, rate_limit=1_000_000)
        self.jira = jira.JiraSite(lambda: self.now)
        self.repositories = {repo: self.github.add_repository(repo) for repo in REPOS}
        self.numbers = {
            repo: [self.github.open_issue(repo, self.now, f"issue {n}") for n in range(ITEMS)] for repo in REPOS
        }
        for key in KEYS:
            self.jira.add_project(key, key.title())
        self.issues = {key: [self.jira.create_issue(key, self.now, f"issue {n}") for n in range(ITEMS)] for key in KEYS}
        self.now = BEGIN
        self.changes: Counter[str] = Counter()

    @contextmanager
    def served(self, folder: Path) -> Iterator[dict[str, Any]]:
        """The configuration that reads this world."""
        with ExitStack() as stack:
            hub, site = (stack.enter_context(serve_standin(each.app)) for each in (self.github, self.jira))
            for name, secret in {"gh": "token", "jira": "standin-token", "secret": SECRET}.items():
                (folder / name).write_text(secret)
            file = lambda name: {"file": str(folder / name)}  # noqa: E731
            yield {
                "notify": {"console": False},
                "sources": [
                    {"name": "gh", "kind": "github", "url": hub, "auth": {"token": file("gh")}, "webhook_secret": file("secret")},
                    {
                        "name": "jira", "kind": "jira", "url": site, "webhook_secret": file("secret"),
                        "auth": {"email": "pmsync@example.com", "token": file("jira")},
                    },
                ],
                "projects": [
                    {"key": "apollo", "from": {"gh": [REPOS[0]], "jira": [KEYS[0]]}, "deadline": "2026-04-10"},
                    {"key": "beacon", "from": {"gh": [REPOS[1]], "jira": [KEYS[1]]}},
                ],
            }  # fmt: skip

    def change(self) -> list[Webhook]:
        """One change somewhere; returns what its source sends."""
        what = self.dice.choices(("rename", "state", "new", "delete", "move"), (60, 22, 10, 4, 4))[0]
        self.changes[what] += 1
        return self._github(what) if self.dice.random() < 0.5 else self._jira(what)

    def _github(self, what: str) -> list[Webhook]:
        repo = self.dice.choice(REPOS)
        numbers, hub = self.numbers[repo], self.github
        if what == "new" or len(numbers) < 5:
            numbers.append(hub.open_issue(repo, self.now, f"new at {self.now:%H:%M:%S}"))
            return [self._github_webhook("opened", repo, numbers[-1])]
        number = self.dice.choice(numbers)
        if what == "rename":
            hub.rename(repo, number, self.now, f"renamed at {self.now:%H:%M:%S}")
            return [self._github_webhook("edited", repo, number)]
        if what == "state":
            is_open = hub._last(repo, number).state == "open"
            (hub.close if is_open else hub.reopen)(repo, number, self.now)
            return [self._github_webhook("closed" if is_open else "reopened", repo, number)]
        numbers.remove(number)
        if what == "delete":
            hub.delete(repo, number, self.now)
            return [self._github_webhook("deleted", repo, number)]
        other = next(each for each in REPOS if each != repo)
        there = hub.transfer(repo, number, self.now, other)
        self.numbers[other].append(there)
        changes = {
            "new_repository": {"id": self.repositories[other], "full_name": other}, "new_issue": {"number": there}
        }  # fmt: skip
        return [self._github_webhook("transferred", repo, number, changes=changes)]

    def _github_webhook(self, action: str, repo: str, number: int, **more: Any) -> Webhook:
        about = {"id": self.repositories[repo], "full_name": repo}
        return (
            "gh",
            {"X-GitHub-Event": "issues"},
            _raw(action=action, repository=about, issue={"number": number}, **more),
        )

    def _jira(self, what: str) -> list[Webhook]:
        key = self.dice.choice(KEYS)
        issues, site = self.issues[key], self.jira
        if what == "new" or len(issues) < 5:
            issues.append(site.create_issue(key, self.now, f"new at {self.now:%H:%M:%S}"))
            return [self._jira_webhook("created", key, issues[-1])]
        issue = self.dice.choice(issues)
        if what == "rename":
            site.change_issue(issue, self.now, title=f"renamed at {self.now:%H:%M:%S}")
        elif what == "state":
            site.change_issue(issue, self.now, status=self.dice.choice(sorted(site.statuses)))
        elif what == "delete":
            issues.remove(issue)
            site.delete_issue(issue, self.now)
            return [self._jira_webhook("deleted", key, issue)]
        else:
            issues.remove(issue)
            key = next(each for each in KEYS if each != key)
            self.issues[key].append(issue)
            site.move_issue(issue, self.now, key)
        return [self._jira_webhook("updated", key, issue)]

    def _jira_webhook(self, event: str, key: str, issue: str) -> Webhook:
        return "jira", {}, _raw(webhookEvent=f"jira:issue_{event}", issue={"id": issue, "key": f"{key}-1"})

    def disturb(self) -> None:
        """Something goes wrong with the next round, somewhere in its middle."""
        self.github.fail(self.dice.choice(get_args(github.Fault)), after=self.dice.randint(0, 12))
        status, path = self.dice.choice((429, 500, 503)), self.dice.choice(("jql", "bulkfetch", "project"))
        self.jira.faults.append(jira.Fault(status=status, path=path))

    def calm(self) -> None:
        """Nothing goes wrong any more, and nothing lags."""
        self.github._faults.clear()
        self.jira.faults.clear()
        self.jira.index_lag = self.github.index_lag = 0


def _raw(**body: Any) -> bytes:
    return json.dumps(body).encode()


class Post:
    """Brings webhooks: some never, some twice, none in order."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self._url, self._dice = url, dice
        self._waiting: dict[int, list[Webhook]] = {}
        self._session = requests.Session()
        self.counts: Counter[str] = Counter()

    def take(self, step: int, webhook: Webhook) -> None:
        copies = 0 if self._dice.random() < LOST else 1 + (self._dice.random() < DOUBLED)
        self.counts[("lost", "once", "twice")[copies]] += 1
        for _ in range(copies):
            self._waiting.setdefault(step + self._dice.randint(0, LATEST), []).append(webhook)

    def bring(self, step: int) -> None:
        due = self._waiting.pop(step, [])
        self._dice.shuffle(due)
        for source, headers, raw in due:
            signature = f"sha256={hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()}"
            name = {"gh": "X-Hub-Signature-256", "jira": "X-Hub-Signature"}[source]
            sent = {"Content-Type": "application/json", **headers, name: signature}
            answer = self._session.post(f"{self._url}/webhooks/{source}", data=raw, headers=sent, timeout=30)
            assert answer.status_code == 202, answer.text

    def close(self) -> None:
        self._session.close()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_after_an_hour_of_chaos_a_reconciliation_finds_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    world = World(seed=7)
    failures: Counter[str] = Counter()
    with world.served(tmp_path) as values:
        with installed(tmp_path / "chaos", values, lambda: world.now) as app:
            app.once()
            intake = intake_routes(hooks(app.config.sources), app.hint, app.health)
            with serve(create_app(Later(), lambda: world.now, app.health, intake=intake)) as url:
                post = Post(url, world.dice)
                before = _an_hour(world, app, post, count, failures)
                post.close()
            world.calm()
            outcome = app.once()
            assert not outcome.problems
            assert not outcome.dead
            after = _differences(app)
            found = exports(app, world.now)
        fresh = run_once(tmp_path / "fresh", values, world.now)
    with capsys.disabled():
        print(
            f"\n{count} changes {dict(world.changes)}; webhooks {dict(post.counts)}; failed rounds {dict(failures)}; "
            f"differences in the middle of it {before}, after the reconciliation {after}"
        )
    assert world.changes.total() == count
    assert min(post.counts.values()) > 0
    assert failures.total() >= 10, "faults that nobody meets prove nothing"
    assert before > 0, "a report that never finds anything proves nothing"
    assert after == 0
    assert difference(found, fresh) == ""
    assert found == fresh


def _an_hour(world: World, app: App, post: Post, count: int, failures: Counter[str]) -> int:
    """Returns how many differences there were in the middle of it."""
    before = 0
    for step in range(STEPS + LATEST + 1):
        world.now = BEGIN + step * STEP
        for _ in range(count * (step + 1) // STEPS - count * step // STEPS if step < STEPS else 0):
            for webhook in world.change():
                post.take(step, webhook)
        if step == STEPS // 2:
            world.calm()
            before = _differences(app)
        post.bring(step)
        is_round = step % ROUND == 0
        if is_round and world.dice.random() < 0.3:
            world.disturb()
            world.jira.index_lag = world.github.index_lag = world.dice.choice((0, 20, 50))
        for source in ("gh", "jira"):
            try:
                if is_round:
                    app.read(source, timedelta(minutes=20))
                else:
                    app.hear(source)
            except ConnectorError:
                failures[source] += 1
    return before


def _differences(app: App) -> int:
    """By the report that `pmsync reconcile` prints; each container has something in it."""
    found: list[Reconciliation] = []
    for source, containers in (("gh", REPOS), ("jira", KEYS)):
        found += reconcile(app.reader(source), app.ledger, containers)
    assert all(each.listed and each.here for each in found)
    return sum(len(each.differences) + each.unchecked for each in found)
