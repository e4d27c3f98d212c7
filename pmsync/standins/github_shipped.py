"""What was shipped from a repository of the GitHub stand-in: its deployments with their statuses, and its releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pmsync.standins.instants import second, text

if TYPE_CHECKING:
    from pmsync.standins.github import User, View

STATES = ("error", "failure", "inactive", "in_progress", "queued", "pending", "success")


@dataclass(frozen=True, slots=True)
class Status:
    """A status of a deployment."""

    id: int
    at: datetime
    state: str
    log_url: str
    environment_url: str


@dataclass(slots=True)
class Deployment:
    """A deployment with all its statuses, the oldest first."""

    id: int
    at: datetime
    environment: str
    ref: str
    creator: User
    production: bool
    transient: bool
    statuses: list[Status] = field(default_factory=list)
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """A release from `at` on."""

    at: datetime
    tag: str
    name: str
    draft: bool
    prerelease: bool
    published_at: datetime | None


@dataclass(slots=True)
class Release:
    """A release with all its states."""

    id: int
    author: User
    states: list[ReleaseState]
    gone_at: datetime | None = None


@dataclass(slots=True)
class Shipped:
    """The building side first (each change with its `at`, in order for each thing), then the answering side."""

    ids: Iterator[int]
    author: User
    deployments: dict[int, Deployment] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """The status by which it is refused to read `deployments` or `releases`."""

    def deploy(
        self,
        at: datetime,
        environment: str,
        ref: str = "main",
        *,
        production: bool | None = None,
        transient: bool = False,
        creator: User | None = None,
    ) -> int:
        """A new deployment, without a status; returns its id. GitHub takes an environment called `production` for such."""
        ident = next(self.ids)
        is_production = environment == "production" if production is None else production
        by = creator or self.author
        self.deployments[ident] = Deployment(ident, second(at), environment, ref, by, is_production, transient)
        return ident

    def set_status(self, ident: int, at: datetime, state: str, *, log_url: str = "", environment_url: str = "") -> None:
        """A new status. A success makes the earlier successes of the same environment inactive, as GitHub does by default:
        not those of production, nor of transient environments."""
        if state not in STATES:
            raise ValueError(f"{state} is no state of a deployment")
        deployment, at = self.deployments[ident], second(at)
        if deployment.statuses and at < deployment.statuses[-1].at:
            raise ValueError(f"statuses are told in order: {at} comes after {deployment.statuses[-1].at}")
        deployment.statuses.append(Status(next(self.ids), at, state, log_url, environment_url))
        for other in self.deployments.values() if state == "success" else ():
            is_prior = other.environment == deployment.environment and (other.at, other.id) < (deployment.at, ident)
            if is_prior and not other.production and not other.transient and _state(other.statuses) == "success":
                self.set_status(other.id, at, "inactive")

    def delete_deployment(self, ident: int, at: datetime) -> None:
        """GitHub answers 404 from then on."""
        self.deployments[ident].gone_at = second(at)

    def release(self, at: datetime, tag: str, name: str = "", *, draft: bool = False, prerelease: bool = False) -> int:
        """A new release, published unless it is a draft; returns its id."""
        ident, at = next(self.ids), second(at)
        state = ReleaseState(at, tag, name, draft, prerelease, None if draft else at)
        self.releases[ident] = Release(ident, self.author, [state])
        return ident

    def update_release(self, ident: int, at: datetime, **values: Any) -> None:
        """Set `tag`, `name` or `prerelease`, or publish it: `draft=False`."""
        states, at = self.releases[ident].states, second(at)
        changed = replace(states[-1], at=at, **values)
        if not changed.draft and changed.published_at is None:
            changed = replace(changed, published_at=at)
        states.append(changed)

    def delete_release(self, ident: int, at: datetime) -> None:
        """GitHub answers 404 from then on."""
        self.releases[ident].gone_at = second(at)

    # --- answering

    def deployments_at(self, now: datetime) -> list[Deployment]:
        """What is there, the newest first."""
        found = [each for each in self.deployments.values() if each.at <= now and _is_there(each.gone_at, now)]
        return sorted(found, key=lambda each: each.id, reverse=True)

    def releases_at(self, now: datetime) -> list[Release]:
        """What is there, the newest first."""
        found = [each for each in self.releases.values() if each.states[0].at <= now and _is_there(each.gone_at, now)]
        return sorted(found, key=lambda each: (each.states[0].at, each.id), reverse=True)


def statuses_at(deployment: Deployment, now: datetime) -> list[Status]:
    """Its statuses, the newest first."""
    return [status for status in reversed(deployment.statuses) if status.at <= now]


def show_deployment(view: View, deployment: Deployment) -> Mapping[str, Any]:
    """A deployment in GitHub's JSON."""
    url = f"{view.url}/deployments/{deployment.id}"
    statuses = statuses_at(deployment, view.now)
    return {
        "url": url,
        "id": deployment.id,
        "node_id": f"DE_{deployment.id}",
        "sha": f"{deployment.id:040x}",
        "ref": deployment.ref,
        "task": "deploy",
        "payload": {},
        "original_environment": deployment.environment,
        "environment": deployment.environment,
        "description": None,
        "creator": view.show_user(deployment.creator),
        "created_at": text(deployment.at),
        "updated_at": text(statuses[0].at if statuses else deployment.at),
        "statuses_url": f"{url}/statuses",
        "repository_url": view.url,
        "transient_environment": deployment.transient,
        "production_environment": deployment.production,
        "performed_via_github_app": None,
    }


def show_status(view: View, deployment: Deployment, status: Status) -> Mapping[str, Any]:
    """A status of a deployment in GitHub's JSON."""
    url = f"{view.url}/deployments/{deployment.id}"
    return {
        "url": f"{url}/statuses/{status.id}",
        "id": status.id,
        "node_id": f"DES_{status.id}",
        "state": status.state,
        "creator": view.show_user(deployment.creator),
        "description": "",
        "environment": deployment.environment,
        "target_url": status.log_url,
        "created_at": text(status.at),
        "updated_at": text(status.at),
        "deployment_url": url,
        "repository_url": view.url,
        "environment_url": status.environment_url,
        "log_url": status.log_url,
        "performed_via_github_app": None,
    }


def show_release(view: View, release: Release) -> Mapping[str, Any]:
    """A release in GitHub's JSON."""
    state = [state for state in release.states if state.at <= view.now][-1]
    url = f"{view.url}/releases/{release.id}"
    return {
        "url": url,
        "html_url": f"{view.html}/releases/tag/{state.tag}",
        "assets_url": f"{url}/assets",
        "upload_url": f"{url}/assets{{?name,label}}",
        "tarball_url": f"{view.url}/tarball/{state.tag}",
        "zipball_url": f"{view.url}/zipball/{state.tag}",
        "id": release.id,
        "node_id": f"RE_{release.id}",
        "tag_name": state.tag,
        "target_commitish": "main",
        "name": state.name,
        "body": "",
        "draft": state.draft,
        "prerelease": state.prerelease,
        "immutable": False,
        "created_at": text(release.states[0].at),
        "published_at": text(state.published_at),
        "author": view.show_user(release.author),
        "assets": [],
    }


def _state(statuses: list[Status]) -> str:
    return statuses[-1].state if statuses else "pending"


def _is_there(gone_at: datetime | None, now: datetime) -> bool:
    return gone_at is None or gone_at > now
