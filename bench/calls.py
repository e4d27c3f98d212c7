"""`python -m bench.calls`: what it costs to read a thousand issues with their history from Jira and from GitHub.

Beside pmsync stands what one writes first with the libraries' own objects (`jira`, PyGithub): list, then ask for the
history of each. Both read the same stand-ins, which run in this process and count calls and the bytes of their answers;
each client is a process of its own, and the rounds alternate. Here an answer, once worked out, comes within a millisecond,
so that the rates are those of the clients; a real service takes a tenth of a second and more for each, so that there the
calls tell how long it takes.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import click
from github import Auth, Github
from jira import JIRA
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.memory import peak_mb
from bench.report import machine
from connectors.base import Connector, Read, SecretRef
from connectors.github import GitHubAuth, GitHubConnector, GitHubSettings
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_auth import JiraAuth
from pmsync.standins.github import GitHubHost, User
from pmsync.standins.jira import JiraSite
from pmsync.standins.server import serve

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
REPO, PROJECT, EMAIL, TOKEN = "acme/apollo", "APO", "pm@example.com", "standin-token"
PEOPLE = tuple(User(f"user-{n}", 100 + n) for n in range(9))
PULLS = 0.3
"""The share of pull requests among the issues of the repository."""
CALLS_AIM, RATE_AIM = 1 / 5, 4
TIME_LIMIT = 900


class Cost(NamedTuple):
    """What a reading cost the source and the client."""

    issues: int
    calls: int
    not_modified: int
    bytes: int
    seconds: float
    cpu: float
    peak_mb: float


# --- the worlds -------------------------------------------------------------------------------------------------------


def hub(issues: int) -> GitHubHost:
    """A repository of so many issues and pull requests, some six events each, the last of them a day ago."""
    host, chance = GitHubHost(lambda: NOW, token=TOKEN, rate_limit=10**9), random.Random(1)
    host.add_repository(REPO)
    milestones = [host.add_milestone(REPO, f"2.{n}", NOW - timedelta(days=900)) for n in range(5)]
    for n in range(issues):
        at = NOW - timedelta(days=1, hours=8 * (issues - n))
        pull = chance.random() < PULLS
        number = (host.open_pull if pull else host.open_issue)(REPO, at, f"Thing {n}", author=chance.choice(PEOPLE))
        hours = (at + timedelta(minutes=30 * step) for step in range(1, 16))
        host.assign(REPO, number, next(hours), chance.choice(PEOPLE))
        for name in chance.sample(("bug", "ui", "docs", "blocked", "p1"), 2):
            host.label(REPO, number, next(hours), name)
        host.set_milestone(REPO, number, next(hours), chance.choice(milestones))
        host.unlabel(REPO, number, next(hours), "blocked")
        if pull:
            for _ in range(chance.randrange(3)):
                host.push(REPO, number, next(hours), f"APO-{n}: a step")
                host.review(REPO, number, next(hours), "approved", chance.choice(PEOPLE))
            host.merge(REPO, number, next(hours))
        elif chance.random() < 0.8:
            host.close(REPO, number, next(hours))
    return host


def site(issues: int) -> JiraSite:
    """A project of so many issues, some six changes each, the last of them a day ago."""
    jira, chance = JiraSite(lambda: NOW, email=EMAIL, token=TOKEN, max_page=1000), random.Random(1)
    jira.add_project(PROJECT, "Apollo")
    versions = [jira.add_version(PROJECT, f"2.{n}", at=NOW - timedelta(days=900)) for n in range(5)]
    for n in range(issues):
        at = NOW - timedelta(days=1, hours=8 * (issues - n))
        ident = jira.create_issue(PROJECT, at, f"Thing {n}", story_points=3.0)
        hours = (at + timedelta(minutes=30 * step) for step in range(1, 16))
        jira.change_issue(ident, next(hours), assignee=f"acc-{chance.randrange(9)}")
        jira.change_issue(ident, next(hours), fix_version=chance.choice(versions))
        jira.change_issue(ident, next(hours), status="In Progress")
        jira.change_issue(ident, next(hours), story_points=float(chance.randrange(4, 9)))
        if chance.random() < 0.8:
            jira.change_issue(ident, next(hours), status="Done", resolution="Done")
    return jira


class Meter:
    """Counts what an app answers, compressed as both services do, and remembers it, so that what is timed is the client: a
    first, untimed round has the stand-in work everything out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = GZipMiddleware(app, compresslevel=6)
        self.calls = self.not_modified = self.bytes = 0
        self._known: dict[Any, list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        asked = scope["method"], scope["path"], scope["query_string"], body, request.headers.get("if-none-match")
        if asked not in self._known:
            self._known[asked] = await self._answer(scope, body)
        for message in self._known[asked]:
            self._count(message)
            await send(message)

    async def _answer(self, scope: Scope, body: bytes) -> list[Message]:
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def hear(message: Message) -> None:
            told.append(message)

        await self.app(scope, receive, hear)
        return told

    def _count(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.calls += 1
            self.not_modified += message["status"] == 304
        self.bytes += len(message.get("body", b""))

    def taken(self) -> tuple[int, int, int]:
        """calls, those answered 304, bytes; and begin anew."""
        found = self.calls, self.not_modified, self.bytes
        self.calls = self.not_modified = self.bytes = 0
        return found


# --- the clients, each in a process of its own ------------------------------------------------------------------------


def connector(name: str, url: str, folder: Path) -> Connector:
    """pmsync's own; `name` is that of the source."""
    (folder / "token").write_text(TOKEN)
    token = SecretRef(file=folder / "token")
    if name == "github":
        hub = GitHubSettings(name=name, url=url, auth=GitHubAuth(token=token))
        return GitHubConnector.connect(hub, lambda: NOW)
    jira = JiraSettings(name=name, kind="jira", url=url, auth=JiraAuth(email=EMAIL, token=token))
    return JiraConnector.connect(jira, lambda: NOW)


def first_and_second(name: str, url: str, folder: Path, between: Callable[[int], None]) -> None:
    """All of it, and then the last two days twice, as polls do: the second time nothing is new."""
    reader = connector(name, url, folder)
    container = REPO if name == "github" else PROJECT
    between(_read(reader.changed(container, None)))
    _read(reader.changed(container, NOW - timedelta(days=2)))
    between(0)
    _read(reader.changed(container, NOW - timedelta(days=2)))


def _read(pages: Iterator[Sequence[Read]]) -> int:
    kinds = [read.ref.kind for page in pages for read in page if read.content]
    return len(kinds) - kinds.count("milestone")


def pygithub(url: str) -> int:
    """Each issue's events, and of a pull request itself, its reviews and its commits, as PyGithub's objects."""
    client = Github(auth=Auth.Token(TOKEN), base_url=url, per_page=100, retry=0, seconds_between_requests=0)
    count = 0
    for issue in client.get_repo(REPO).get_issues(state="all", sort="updated", direction="asc"):
        told: list[Any] = [issue.number, issue.title, issue.state, issue.assignees, issue.labels, issue.milestone]
        told += [(event.id, event.event, event.created_at) for event in issue.get_events()]
        # Not `issue.pull_request`: of an issue that is none, it is fetched once more to be sure.
        if "/pull/" in issue.html_url:
            pull = issue.as_pull_request()
            told += [pull.draft, pull.merged_at, pull.head.ref]
            told += [(review.id, review.state, review.submitted_at) for review in pull.get_reviews()]
            told += [commit.commit.message for commit in pull.get_commits()]
        count += bool(told)
    return count


def jira(url: str) -> int:
    """Each issue with its changelog, as objects of `jira`."""
    client: Any = JIRA(url, basic_auth=(EMAIL, TOKEN), options={"rest_api_version": "3"}, get_server_info=False)
    client.deploymentType = "Cloud"  # which it would have learned from the server's information
    count = 0
    query = f'project = "{PROJECT}" ORDER BY updated ASC, key ASC'
    for each in client.enhanced_search_issues(query, maxResults=0, fields="updated"):
        issue = client.issue(each.id, expand="changelog")
        told = [issue.key, issue.fields.summary, issue.fields.status.name, issue.fields.updated]
        told += [(entry.id, entry.created, entry.items) for entry in issue.changelog.histories]
        count += bool(told)
    return count


NAIVE: Mapping[str, Callable[[str], int]] = {"github": pygithub, "jira": jira}
LIBRARIES = {"github": "PyGithub", "jira": "jira"}


def client(name: str, source: str, url: str) -> None:
    """Read, and print what it took; pmsync says between two polls that it waits."""
    wall, cpu = perf_counter(), process_time()

    def say(issues: int) -> None:
        figures = {
            "issues": issues,
            "seconds": perf_counter() - wall,
            "cpu": process_time() - cpu,
            "peak_mb": peak_mb(),
        }
        print(json.dumps(figures), flush=True)
        sys.stdin.readline()

    if name == "naive":
        say(NAIVE[source](url))
        return
    with tempfile.TemporaryDirectory(prefix="pmsync-bench-") as folder:
        first_and_second(source, url, Path(folder), say)
    say(0)


# --- measuring --------------------------------------------------------------------------------------------------------


class Client:
    """A client at work: each line that it prints ends a part of its work, and it waits to be told to go on."""

    def __init__(self, process: subprocess.Popen[str], meter: Meter) -> None:
        self._process, self._meter = process, meter

    def part(self) -> Cost:
        """What it did since."""
        assert self._process.stdout
        figures = json.loads(self._process.stdout.readline() or "{}")
        if not figures:
            raise click.ClickException("the client ended early; see above")
        calls, not_modified, size = self._meter.taken()
        self._go_on()
        return Cost(calls=calls, not_modified=not_modified, bytes=size, **figures)

    def _go_on(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def started(name: str, source: str, url: str, meter: Meter) -> Iterator[Client]:
    """A client in a process of its own."""
    command = [sys.executable, "-m", "bench.calls", "--client", name, source, url]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            meter.taken()
            yield Client(process, meter)
            process.wait(TIME_LIMIT)
        finally:
            process.kill()


def measure(source: str, issues: int, rounds: int) -> dict[str, list[Cost]]:
    """First reading by both, and pmsync's poll with nothing new."""
    meter = Meter((hub(issues) if source == "github" else site(issues)).app)
    found: dict[str, list[Cost]] = {"pmsync": [], "again": [], "naive": []}
    with serve(meter) as url:
        for n in range(rounds + 1):
            if n == 1:  # the first has only worked out the answers
                found = {name: [] for name in found}
            with started("pmsync", source, url, meter) as ours:
                found["pmsync"].append(ours.part())
                ours.part()
                found["again"].append(ours.part())
            with started("naive", source, url, meter) as theirs:
                found["naive"].append(theirs.part())
    for name in ("pmsync", "naive"):
        counts = {cost.issues for cost in found[name]}
        if counts != {issues}:
            raise click.ClickException(f"{name} read {counts} issues of {issues} from {source}")
    return found


def table(source: str, issues: int, found: Mapping[str, Sequence[Cost]]) -> Iterator[str]:
    """Rows of Markdown, and below them what the aims are about."""
    yield f"| {source}, {issues:,} issues | pmsync | {LIBRARIES[source]}, one by one |"
    yield "| --- | ---: | ---: |"
    each = [found["pmsync"], found["naive"]]
    thousands = issues / 1000
    for label, show in (
        ("calls per 1,000 issues", lambda cost: f"{cost.calls / thousands:,.0f}"),
        ("kB of answers per 1,000 issues", lambda cost: f"{cost.bytes / 1000 / thousands:,.0f}"),
        ("issues a second", lambda cost: f"{cost.issues / cost.seconds:,.0f}"),
        ("CPU of the client per issue, ms", lambda cost: f"{1000 * cost.cpu / cost.issues:.2f}"),
        ("peak memory, MB", lambda cost: f"{cost.peak_mb:.0f}"),
    ):
        yield f"| {label} | {' | '.join(_spread([show(cost) for cost in costs]) for costs in each)} |"
    calls = median(ours.calls / theirs.calls for ours, theirs in zip(*each, strict=True))
    rate = median(theirs.seconds / ours.seconds for ours, theirs in zip(*each, strict=True))
    again = found["again"][0]
    yield ""
    yield f"- calls: 1/{1 / calls:.1f} of one by one (aim: at most 1/{1 / CALLS_AIM:.0f})"
    yield f"- issues a second: {rate:.1f} × (aim: at least {RATE_AIM} ×)"
    yield f"- a poll with nothing new: {again.calls} calls, {again.not_modified} of them answered 304, {again.bytes} bytes"


def _spread(values: Sequence[str]) -> str:
    """The one in the middle, with the range where they differ."""
    found = sorted(values, key=lambda value: float(value.replace(",", "")))
    middle = found[len(found) // 2]
    return middle if found[0] == found[-1] else f"{middle} ({found[0]} to {found[-1]})"


@click.command()
@click.option("--issues", default=1000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--client", "role", nargs=3, hidden=True)
def main(issues: int, rounds: int, role: tuple[str, str, str] | None) -> None:
    """Measure, and print the tables."""
    if role:
        client(*role)
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("pmsync", "PyGithub", "jira"))
    click.echo(f"- date: {datetime.now(UTC):%Y-%m-%d}\n- machine: {machine()}\n- {versions}")
    click.echo(f"- command: python -m bench.calls --issues {issues} --rounds {rounds}")
    for source in ("github", "jira"):
        click.echo("")
        for line in table(source, issues, measure(source, issues, rounds)):
            click.echo(line)


if __name__ == "__main__":
    main()
