"""Whether the default branch builds: how each workflow stands there, and since when; by its runs, as of any instant.

A run that was cancelled or skipped, or that waits, says nothing of that. One that is tried again says what its last attempt
that ended came to, so that a build is broken until it is shown that it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pmsync.core.project import Ran, View

Standing = Literal["passing", "broken"]
SAYS: dict[str, Standing] = {
    "success": "passing",
    "failure": "broken",
    "timed_out": "broken",
    "startup_failure": "broken",
}
"""What the states in which an attempt may end say of a build; all others say nothing."""
LATELY = timedelta(days=30)
"""Runs created within it are counted."""
FORMULA = (
    "by the newest run that came to success, failure, timed_out or startup_failure; since the end of the first in a row of runs "
    "that came to the same"
)


@dataclass(frozen=True, slots=True)
class Build:
    """How a workflow stands on the default branch of a repository; None until a run of it has said something.

    `since` is when it began to stand so, which may have been earlier (`at_least`) where no run is known that said otherwise.
    `last` is the run that says so, `newest` the newest one at all. Of the runs of the last thirty days `runs` said something;
    of these an attempt of `failed` did not pass, and `retried` were tried more than once.
    """

    source: str
    container: str
    workflow: str
    name: str
    standing: Standing | None
    since: datetime | None
    at_least: bool
    last: Ran | None
    newest: Ran
    runs: int
    failed: int
    retried: int

    @property
    def formula(self) -> str:
        return FORMULA


def builds(view: View) -> tuple[Build, ...]:
    """One for each workflow of which a run is known, those that are broken first, the one first that was so first."""
    found: dict[tuple[str, str, str], list[Ran]] = {}
    for ran in view.runs:
        found.setdefault((ran.thing.source, ran.content.container, ran.content.workflow), []).append(ran)
    made = (_build(where, runs, view.at) for where, runs in sorted(found.items()))
    return tuple(sorted(made, key=lambda build: (build.standing != "broken", build.since or view.at)))


class _Said(NamedTuple):
    """What a run says of its build, and since when it has."""

    ran: Ran
    standing: Standing
    since: datetime


def _build(where: tuple[str, str, str], runs: Iterable[Ran], at: datetime) -> Build:
    ordered = sorted(runs, key=lambda ran: (ran.content.created_at, ran.content.number, ran.thing))
    said = [verdict for ran in ordered if (verdict := _said(ran))]
    last = said[-1] if said else None
    row = _last_row(said)
    lately = [verdict.ran for verdict in said if verdict.ran.content.created_at > at - LATELY]
    source, container, workflow = where
    return Build(
        source=source,
        container=container,
        workflow=workflow,
        name=ordered[-1].content.name,
        standing=last.standing if last else None,
        since=min((each.since for each in row), default=None),
        at_least=bool(said) and len(row) == len(said),
        last=last.ran if last else None,
        newest=ordered[-1],
        runs=len(lately),
        failed=sum(any(SAYS.get(attempt.state) == "broken" for attempt in ran.attempts) for ran in lately),
        retried=sum(ran.attempts[-1].number > 1 for ran in lately),
    )


def _said(ran: Ran) -> _Said | None:
    """By the last attempt that ended and said something; since the end of the first in a row that said the same."""
    told = [
        (SAYS[attempt.state], attempt.ended_at)
        for attempt in ran.attempts
        if attempt.ended_at and attempt.state in SAYS
    ]
    if not told:
        return None
    standing, since = told[-1]
    for earlier, ended in reversed(told):
        if earlier != standing:
            break
        since = ended
    return _Said(ran, standing, since)


def _last_row(said: Sequence[_Said]) -> list[_Said]:
    """The last of these, as far back as they say the same."""
    row: list[_Said] = []
    for each in reversed(said):
        if each.standing != said[-1].standing:
            break
        row.append(each)
    return row
