"""What tests of the GitHub connector have in common: a server, and a host with a repository that stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.base import Clock, Read, Ref
from connectors.github import GitHubConnector, GitHubSettings
from connectors.pump import Pump
from connectors.testing import MemoryBus
from pmsync.core.events import Snapshot, Tombstone
from pmsync.standins.github import GitHubHost
from pmsync.standins.server import serve

REPO, ZEUS = "octo/apollo", "octo/zeus"
TOKEN = "ghp_very_secret"
START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class World:
    """A host with a repository, whose clock the test moves."""

    now: datetime = field(default_factory=lambda: day(30))
    host: GitHubHost = field(init=False)
    id: int = field(init=False)

    def __post_init__(self) -> None:
        self.host = GitHubHost(lambda: self.now, token=TOKEN)
        self.id = self.host.add_repository(REPO)


@dataclass
class Stage:
    """One server for all tests of a room; each puts its own host on it."""

    url: str
    secret: Path
    apps: list[ASGIApp]

    def connect(self, app: ASGIApp, clock: Clock, **settings: Any) -> GitHubConnector:
        self.apps.append(app)
        given = {"name": "github", "url": self.url, "auth": {"token": {"file": self.secret}}, **settings}
        return GitHubConnector.connect(GitHubSettings.model_validate(given), clock)


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A stage whose secret is kept in this folder."""
    secret = folder / "token"
    secret.write_text(TOKEN)
    apps: list[ASGIApp] = []

    async def switch(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[-1](scope, receive, send)

    with serve(switch) as url:
        yield Stage(url, secret, apps)


def everything(connector: GitHubConnector, since: datetime | None = None, repo: str = REPO) -> dict[Ref, Read]:
    return {read.ref: read for page in connector.changed(repo, since) for read in page}


def asked(world: World, since: int = 0) -> list[str]:
    return [request.path.removeprefix(f"/repositories/{world.id}") for request in world.host.requests[since:]]


def sync(
    pump: Pump, world: World, *, sweep: bool = False, after: timedelta = timedelta(minutes=1)
) -> list[tuple[type[Snapshot | Tombstone], Ref]]:
    """Some time passes and a round is made; what it published but for *synced*."""
    assert isinstance(pump.bus, MemoryBus)
    world.now += after
    before = len(pump.bus.events)
    pump.sync({REPO: {"apollo": 1}}, timedelta(0) if sweep else timedelta(days=900))
    told = [event for event in pump.bus.events[before:] if isinstance(event, Snapshot | Tombstone)]
    return [(type(event), Ref(*event.thing[1:])) for event in told if event.thing.kind != "synced"]
