"""Workflow runs of a repository of the GitHub stand-in, with their attempts.

GitHub's documents do not say in which order runs are listed, and people saw that it is that of their creation, the newest
first: one that is tried again keeps its place. So here it does, which is the harsher.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pmsync.standins.instants import second, text

if TYPE_CHECKING:
    from pmsync.standins.github import User, View

STATUSES = ("queued", "in_progress", "completed", "waiting", "requested", "pending")
CONCLUSIONS = (
    "success", "failure", "neutral", "cancelled", "timed_out", "action_required", "stale", "skipped", "startup_failure",
)  # fmt: skip
MOST_FOUND = 1000
"""No more is shown of what is asked for by branch, by event, by status or by day."""


@dataclass(frozen=True, slots=True)
class Step:
    """An attempt from `at` on."""

    at: datetime
    status: str
    conclusion: str | None = None


@dataclass(slots=True)
class Run:
    """A run with the steps of each of its attempts, the oldest first."""

    id: int
    number: int
    at: datetime
    workflow: str
    branch: str
    event: str
    title: str
    is_forked: bool
    attempts: list[list[Step]]
    gone_at: datetime | None = None


@dataclass(slots=True)
class Runs:
    """The building side first (each change with its `at`, in order for each run), then the answering side."""

    ids: Iterator[int]
    author: User
    runs: dict[int, Run] = field(default_factory=dict)
    workflows: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    """The status by which it is refused to read them; 0: it is not."""
    kept_attempts: int = 100
    """So many attempts of a run, the newest, can be asked for."""

    def start(
        self,
        at: datetime,
        workflow: str = "CI",
        *,
        branch: str = "main",
        event: str = "push",
        title: str = "Mend it",
        is_forked: bool = False,
    ) -> int:
        """A new run, which is queued; returns its id. With `is_forked` its branch is one of a fork."""
        ident, at = next(self.ids), second(at)
        if workflow not in self.workflows:
            self.workflows[workflow] = next(self.ids)
        number = sum(each.workflow == workflow for each in self.runs.values()) + 1
        attempts = [[Step(at, "queued")]]
        self.runs[ident] = Run(ident, number, at, workflow, branch, event, title, is_forked, attempts)
        return ident

    def step(self, ident: int, at: datetime, status: str, conclusion: str | None = None) -> None:
        """Its present attempt comes to another status; `completed` has a conclusion."""
        last, at = self.runs[ident].attempts[-1][-1], second(at)
        if status not in STATUSES or (conclusion is not None) != (status == "completed"):
            raise ValueError(f"{status} with {conclusion} is no state of a run")
        if conclusion not in (None, *CONCLUSIONS) or at < last.at or last.status == "completed":
            raise ValueError(f"{status} with {conclusion} at {at} cannot follow {last}")
        self.runs[ident].attempts[-1].append(Step(at, status, conclusion))

    def finish(self, ident: int, at: datetime, conclusion: str = "success") -> None:
        """It ends."""
        self.step(ident, at, "completed", conclusion)

    def ran(self, at: datetime, end: datetime, conclusion: str = "success", workflow: str = "CI", **values: Any) -> int:
        """A new run that begins at once and ends; returns its id."""
        ident = self.start(at, workflow, **values)
        self.step(ident, at, "in_progress")
        self.finish(ident, end, conclusion)
        return ident

    def try_again(self, ident: int, at: datetime) -> None:
        """A new attempt of a run that has ended."""
        attempts, at = self.runs[ident].attempts, second(at)
        if attempts[-1][-1].status != "completed" or at < attempts[-1][-1].at:
            raise ValueError("what has not ended is not tried again")
        attempts.append([Step(at, "queued")])

    def delete(self, ident: int, at: datetime) -> None:
        """GitHub answers 404 from then on."""
        self.runs[ident].gone_at = second(at)

    # --- answering

    def runs_at(self, now: datetime) -> list[Run]:
        """What is there, the newest first."""
        found = [run for run in self.runs.values() if run.at <= now and (run.gone_at is None or run.gone_at > now)]
        return sorted(found, key=lambda run: (run.at, run.id), reverse=True)

    def search(self, now: datetime, query: Mapping[str, str]) -> list[Run] | None:
        """What is there of what was asked for; None where that makes no sense."""
        within = _within(query["created"]) if "created" in query else (None, None)
        if within is None or query.get("exclude_pull_requests", "false") not in ("true", "false"):
            return None
        first, last = within
        found = [
            run
            for run in self.runs_at(now)
            if query.get("branch", run.branch) == run.branch
            and (first is None or first <= run.at)
            and (last is None or run.at <= last)
        ]
        return found[:MOST_FOUND] if {"branch", "created"} & set(query) else found


def attempts_at(run: Run, now: datetime) -> list[list[Step]]:
    """The attempts begun by then, with their steps by then."""
    told = [[step for step in attempt if step.at <= now] for attempt in run.attempts]
    return [attempt for attempt in told if attempt]


def show_run(view: View, run: Run, number: int | None = None) -> Mapping[str, Any]:
    """A run in GitHub's JSON, as its last attempt is, or as attempt `number` was."""
    attempts = attempts_at(run, view.now)
    number = number or len(attempts)
    attempt, runs = attempts[number - 1], view.repository.runs
    url = f"{view.url}/actions/runs/{run.id}"
    workflow = runs.workflows[run.workflow]
    path = f".github/workflows/{run.workflow.lower().replace(' ', '-')}.yml"
    sha = f"{run.id:040x}"
    there = view.show_repository() if not run.is_forked else {**view.show_repository(), "id": 1, "fork": True}
    urls = {f"{each}_url": f"{url}/{each}" for each in ("jobs", "logs", "artifacts", "cancel", "rerun")}
    return {
        "id": run.id,
        "name": run.workflow,
        "node_id": f"WFR_{run.id}",
        "head_branch": run.branch,
        "head_sha": sha,
        "path": path,
        "display_title": run.title,
        "run_number": run.number,
        "event": run.event,
        "status": attempt[-1].status,
        "conclusion": attempt[-1].conclusion,
        "workflow_id": workflow,
        "check_suite_id": run.id,
        "check_suite_node_id": f"CS_{run.id}",
        "url": url,
        "html_url": f"{view.html}/actions/runs/{run.id}",
        "pull_requests": [],
        "created_at": text(run.at),
        "updated_at": text(attempt[-1].at),
        "actor": view.show_user(runs.author),
        "run_attempt": number,
        "referenced_workflows": [],
        "run_started_at": text(attempt[0].at),
        "triggering_actor": view.show_user(runs.author),
        **urls,
        "check_suite_url": f"{view.url}/check-suites/{run.id}",
        "previous_attempt_url": f"{url}/attempts/{number - 1}" if number > 1 else None,
        "workflow_url": f"{view.url}/actions/workflows/{workflow}",
        "head_commit": {
            "id": sha,
            "tree_id": sha,
            "message": run.title,
            "timestamp": text(run.at),
            "author": {"name": "ghost", "email": "ghost@example.com"},
            "committer": {"name": "ghost", "email": "ghost@example.com"},
        },
        "repository": view.show_repository(),
        "head_repository": there,
    }


def _within(created: str) -> tuple[datetime | None, datetime | None] | None:
    """The instants, both included, that `>=A` or `A..B` names."""
    match = re.fullmatch(rf">=({_INSTANT})|({_INSTANT})\.\.({_INSTANT})", created)
    if match is None:
        return None
    since, first, last = (datetime.fromisoformat(each) if each else None for each in match.groups())
    return (since, None) if since else (first, last)


_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
