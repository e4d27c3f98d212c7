"""From a webhook to a figure: many hints cost few reads, and a change is seen long before the next round."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from click.testing import CliRunner

from pmsync.app import App
from pmsync.cli import cli
from pmsync.config import Config
from pmsync.core.project import load
from pmsync.standins.github import Delivery, GitHubHost, Hook
from pmsync.standins.jira import JiraSite
from pmsync.standins.server import serve as serve_standin
from pmsync.web.app import create_app
from pmsync.web.intake import hooks, intake_routes
from pmsync.web.reader import StoreReader
from pmsync.web.serve import serve

pytestmark = pytest.mark.acceptance

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = START + timedelta(days=7)
REPO, SECRET, TOKEN = "acme/apollo", "a secret", "a-token"
ITEMS, HINTS = 50, 1000
PATIENCE = 30.0


class World:
    """Two sources with as many items each, which can all be given another title; `pages` is where webhooks are taken."""

    pages = ""

    def __init__(self) -> None:
        self.now = NOW
        self.github = GitHubHost(lambda: self.now)
        self.jira = JiraSite(lambda: self.now)
        self.repository = self.github.add_repository(REPO)
        self.numbers = [self.github.open_issue(REPO, START, f"old {n}") for n in range(ITEMS)]
        self.jira.add_project("APO", "Apollo")
        self.issues = [self.jira.create_issue("APO", START, f"old {n}") for n in range(ITEMS)]

    def rename(self, title: str) -> None:
        self.now += timedelta(hours=1)
        for n in range(ITEMS):
            self.github.rename(REPO, self.numbers[n], self.now, f"{title} {n}")
            self.jira.change_issue(self.issues[n], self.now, title=f"{title} {n}")
        self.now += timedelta(minutes=1)

    def bodies(self, count: int) -> Iterator[tuple[str, Mapping[str, str], bytes]]:
        """So many webhooks of each source: path, headers, body."""
        repository = {"id": self.repository, "full_name": REPO}
        for n in range(count):
            body = {"action": "edited", "repository": repository, "issue": {"number": self.numbers[n % ITEMS]}}
            raw = json.dumps(body).encode()
            signed = f"sha256={hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()}"
            yield "gh", {"X-GitHub-Event": "issues", "X-Hub-Signature-256": signed}, raw
            about = {"id": self.issues[n % ITEMS], "key": f"APO-{n % ITEMS + 1}"}
            yield f"jira/{TOKEN}", {}, json.dumps({"webhookEvent": "jira:issue_updated", "issue": about}).encode()


@contextmanager
def installed(world: World, folder: Path, poll: int) -> Iterator[tuple[App, Callable[[int], None]]]:
    """An installation that reads this world, and a way to send it webhooks."""
    with ExitStack() as stack:
        github, jira = (stack.enter_context(serve_standin(each.app)) for each in (world.github, world.jira))
        for name, secret in {"gh": "token", "jira": "standin-token", "secret": SECRET, "token": TOKEN}.items():
            (folder / name).write_text(secret)
        file = lambda name: {"file": str(folder / name)}  # noqa: E731
        values: dict[str, Any] = {
            "bus": {"path": str(folder / "log.db")},
            "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"},
            "notify": {"console": False},
            "poll": {"every_seconds": poll},
            "sources": [
                {"name": "gh", "kind": "github", "url": github, "auth": {"token": file("gh")}, "webhook_secret": file("secret"), "webhook_redeliver": True},
                {
                    "name": "jira", "kind": "jira", "url": jira, "webhook_token": file("token"),
                    "auth": {"email": "pmsync@example.com", "token": file("jira")},
                },
            ],
            "projects": [{"key": "apollo", "from": {"gh": [REPO], "jira": ["APO"]}}],
        }  # fmt: skip
        app = stack.enter_context(closing(App(Config.model_validate(values), lambda: world.now, write=lambda _: None)))
        intake = intake_routes(hooks(app.config.sources), app.ledger.hint, app.health)
        pages = create_app(
            StoreReader(app.state, app.bus.partitions, app.freshness, app.people),
            lambda: world.now,
            app.health,
            intake=intake,
        )
        url = world.pages = stack.enter_context(serve(pages))

        def send(count: int) -> None:
            with requests.Session() as session:
                for path, headers, raw in world.bodies(count):
                    sent = {"Content-Type": "application/json", **headers}
                    assert session.post(f"{url}/webhooks/{path}", data=raw, headers=sent, timeout=30).status_code == 202

        yield app, send


def _titles(app: App) -> set[str]:
    state = load(app.state.rows("apollo"))
    return {content.title for _, content in state.things["work_item"]} if state else set()


def test_a_burst_of_hints_costs_a_read_of_each_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    with installed(world, tmp_path, poll=60) as (app, send):
        app.once()
        world.rename("new")
        world.github.requests.clear()
        world.jira.requests.clear()
        send(HINTS)
        assert (world.github.requests, world.jira.requests) == ([], []), "nobody is asked while webhooks come in"
        counts = {source: app.hear(source) for source in ("gh", "jira")}
        app.aggregator.catch_up()
        assert _titles(app) == {f"new {n}" for n in range(ITEMS)}
        assert {source: (each.read, each.published) for source, each in counts.items()} == {
            "gh": (ITEMS, ITEMS),
            "jira": (ITEMS, ITEMS),
        }
        asked = {"gh": len(world.github.requests), "jira": len(world.jira.requests)}
        with capsys.disabled():
            print(f"\n{HINTS} hints for {ITEMS} items of each source: {ITEMS} reads; requests: {asked}")
        assert asked["gh"] <= 2 * ITEMS + 10
        assert asked["jira"] <= 10


def test_what_nobody_took_is_sent_again(tmp_path: Path) -> None:
    """A deletion, which no listing tells: without it the next sweep would be the first to see it."""
    world = World()
    with installed(world, tmp_path, poll=60) as (app, _):
        app.once()
        hook = world.github.add_hook(REPO, f"{world.pages}/webhooks/gh")
        world.now += timedelta(hours=1)
        world.github.delete(REPO, world.numbers[0], world.now)
        repository = {"id": world.repository, "full_name": REPO}
        guid = world.github.send(
            hook, "issues", {"action": "deleted", "repository": repository, "issue": {"number": world.numbers[0]}}
        )
        app.read("gh", timedelta(days=1))
        app.aggregator.catch_up()
        assert "old 0" in _titles(app)
        world.github.receive = deliver
        app._see_to_webhooks("gh")
        assert world.github.attempts(hook, guid) == [502, 202]
        assert app.hear("gh").gone == 1
        app.aggregator.catch_up()
        assert len(app.containers("gh")) == 1
        assert app.containers("gh")[REPO] == ITEMS - 1


def deliver(hook: Hook, delivery: Delivery) -> int:
    """As GitHub does."""
    raw = json.dumps(delivery.body).encode()
    signed = f"sha256={hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()}"
    headers = {"Content-Type": "application/json", "X-GitHub-Event": delivery.event, "X-Hub-Signature-256": signed}
    return requests.post(hook.url, data=raw, headers=headers, timeout=30).status_code


def test_a_change_is_seen_before_the_next_round(tmp_path: Path) -> None:
    """The next round would be in an hour."""
    world = World()
    with installed(world, tmp_path, poll=3600) as (app, send):
        app.once()
        before = app.freshness.known()
        with app.running(app.workers()):
            _until(lambda: all(app.freshness.known()[source] > before[source] for source in ("gh", "jira")))
            world.rename("new")
            send(ITEMS)
            _until(lambda: _titles(app) == {f"new {n}" for n in range(ITEMS)})


def written(app: App, folder: Path) -> Path:
    """The configuration file of this installation."""
    path = folder / "pmsync.yaml"
    path.write_text(yaml.safe_dump(json.loads(app.config.model_dump_json(by_alias=True, exclude_none=True))))
    return path


def command(path: Path, *words: str) -> tuple[int, str, str]:
    said = CliRunner().invoke(cli, ["-c", str(path), *words])
    return said.exit_code, said.stdout, said.stderr


@pytest.mark.parametrize("source", ["gh", "jira"])
def test_what_differs_is_named_and_mended_on_demand(tmp_path: Path, source: str) -> None:
    """New, changed, deleted and moved away since it was read; a listing that lags is no difference."""
    world = World()
    with installed(world, tmp_path, poll=60) as (app, _):
        app.once()
        path = written(app, tmp_path)
        container = {"gh": REPO, "jira": "APO"}[source]
        reconcile = partial(command, path, "reconcile", source)
        assert reconcile() == (0, f"{container}: {ITEMS} at the source, {ITEMS} here, equal\n", "")
        world.now += timedelta(hours=1)
        if source == "gh":
            world.github.add_repository("acme/other")
            world.github.open_issue(REPO, world.now, "brand new")
            world.github.rename(REPO, world.numbers[1], world.now, "renamed")
            world.github.delete(REPO, world.numbers[2], world.now)
            world.github.transfer(REPO, world.numbers[3], world.now, "acme/other")
        else:
            world.jira.add_project("OTH", "Other")
            world.jira.create_issue("APO", world.now, "brand new")
            world.jira.change_issue(world.issues[1], world.now, title="renamed")
            world.jira.delete_issue(world.issues[2], world.now)
            world.jira.move_issue(world.issues[3], world.now, "OTH")
        world.now += timedelta(minutes=5)
        code, out, err = reconcile()
        lines = out.splitlines()
        assert (code, lines[0]) == (1, f"{container}: {ITEMS - 1} at the source, {ITEMS} here, 4 differences")
        assert sorted(line.split(":")[0].strip() for line in lines[1:]) == [
            "gone at the source", "gone at the source", "missing here", "older here",
        ]  # fmt: skip
        assert [line for line in lines if "missing here" in line and "brand new" in line]
        assert [line for line in lines if "older here" in line and "renamed" in line]
        assert "--repair has it mended now" in err
        assert not app.ledger.hints(source, 9), "it only looks"
        report = json.loads(reconcile("--json", "--repair")[1])
        assert (report["schema_version"], report["source"], len(report["containers"][0]["differences"])) == (
            1,
            source,
            4,
        )
        assert app.hear(source).published == 4
        assert reconcile()[:2] == (0, f"{container}: {ITEMS - 1} at the source, {ITEMS - 1} here, equal\n")
        world.github.index_lag = world.jira.index_lag = 1800  # it shows the time before all that
        assert reconcile()[:2] == (0, f"{container}: {ITEMS} at the source, {ITEMS - 1} here, equal\n")


def test_a_source_is_read_again_on_demand(tmp_path: Path) -> None:
    """A thing that became otherwise without a new time, as after a change of its translation, is in no poll."""
    world = World()
    with installed(world, tmp_path, poll=60) as (app, _):
        app.once()
        app.read("gh")
        path = written(app, tmp_path)
        reread = partial(command, path, "reread")
        assert reread("gh", "--dry-run") == (
            0,
            f"{REPO}: {ITEMS} things known\n",
            "1 of 1 containers would be read again\n",
        )
        assert not app.ledger.again("gh")
        code, _, said = reread("gh", "--container", "none")
        assert code == 2
        assert f"gh has no container 'none'; known: {REPO}" in said
        assert "there is no source 'none'; known: gh, jira" in reread("none")[2]
        assert reread("gh", "--container", REPO)[0] == 0
        polled = app.read("gh", timedelta(hours=1))
        assert (polled.read, polled.published) == (ITEMS + 1, 0), "all of it was read, and nothing published"
        assert app.read("gh", timedelta(hours=1)).read < ITEMS


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
