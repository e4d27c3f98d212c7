"""GitHub: runs of Actions workflows on the default branch, with all their attempts.

A repository may have hundreds of thousands. They are read because they tell whether the main branch builds, since when it
does not, and how often a run has to be tried again. So those of other branches and of pull requests are left out, and so is
what was created before a window of days (docs/adr/0025). The window begins with a day of GitHub's clock, so that many polls
ask the same. What has just left it is said to be gone, by the listing: a sweep, to which suddenly much is missing after a
while without pmsync, would not believe it.

The list cannot be asked for what changed since, and a run that is tried again keeps its place in it, which is that of its
creation. So a poll looks at the newest page, which mostly has not changed and then costs no quota, and at some that had not
ended when they left that page; an older one that is tried again, a webhook or the next sweep finds.

A token need not be let read them. Then they are left out, which `check` says; and what is known already stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError

from connectors.base import Clock, Mark, Read, Ref, Retryable, Withheld, http_date, problem
from connectors.github_beside import Listed, Refused
from connectors.github_client import MAX_PAGES, Client, Missing, Page, Query
from connectors.github_shapes import Raw, Time, raw
from connectors.github_taken import Taken, still_listed
from connectors.github_things import Home, created_at, stamp, updated_at
from pmsync.core.events import MAX_ATTEMPTS, Attempt, WorkflowRun

KIND = "workflow_run"
NEWEST, PAGE = 20, 100
"""So many runs a poll looks at, and so many there are on a page of all. Each comes with two whole repositories, some 13 kB,
and what polls are answered is kept (`connectors/conditional.py`)."""
MOST_FOUND = 1000
"""GitHub shows no more of what it was asked for by branch or by day; the rest is asked for by days before these."""
MOST_SEARCHES = 100
MOST_NEW_PAGES = 50
"""Pages of a poll, where so many runs began since the last one."""
MOST_WATCHED = 5
"""Runs of a repository that have not ended and are not among the newest any more; each costs a request."""
LEFT = timedelta(days=14)
"""How long before the window runs are said to be gone for having left it. It is what pmsync may stand still for."""
SECOND = timedelta(seconds=1)
EARLIEST = datetime(2018, 1, 1, tzinfo=UTC)
"""No run is older: an earlier clock is a mistake, and there might be no days before it to count."""


# --- what they mean ---------------------------------------------------------------------------------------------------


class _Run(Raw):
    id: int
    name: str | None = None
    path: str = ""
    workflow_id: int
    run_number: int
    run_attempt: int = 1
    display_title: str = ""
    html_url: str
    head_branch: str | None
    head_sha: str
    event: str
    status: str | None
    conclusion: str | None
    created_at: Time
    updated_at: Time
    run_started_at: Time | None = None


def reference(home: Home, run: Any) -> Ref:
    """The reference of a listed run; one without an id shares `?`."""
    ident = _ident(run)
    return Ref(KIND, f"{home.id}/?" if ident is None else home.thing(ident))


def _ident(run: Any) -> int | None:
    ident = run.get("id") if isinstance(run, dict) else None
    return ident if isinstance(ident, int) else None


def kept(run: Any) -> Any:
    """What is read of a run: the rest, with two whole repositories, is not held while thousands are listed."""
    if not isinstance(run, dict):
        return run
    found = {name: run[name] for name in (*_Run.model_fields, "head_repository") if name in run}
    there = found.get("head_repository")
    return {**found, "head_repository": {"id": there.get("id")}} if isinstance(there, dict) else found


def is_ours(home: Home, run: Any, edge: datetime) -> bool:
    """Whether a run is of the default branch and not older than the window. That of a pull request is not, though the branch
    of a fork may have the same name; what does not say so is, and its translation will find out."""
    if not isinstance(run, dict):
        return True
    there, created = run.get("head_repository"), created_at(run)
    elsewhere = isinstance(there, dict) and there.get("id") not in (home.id, None)
    event = run.get("event")
    asked = isinstance(event, str) and event.startswith("pull_request")
    is_here = run.get("head_branch", home.branch) == home.branch and not elsewhere
    return is_here and not asked and (created is None or created >= edge)


def read_run(home: Home, run: Any, earlier: Sequence[Any]) -> Read:
    """A run as read, with the attempts before its last one; what cannot be translated says so and keeps what came."""
    ref, time = reference(home, run), updated_at(run)
    try:
        return Read(ref, time, translate_run(home, run, earlier))
    except ValidationError as error:
        return Read(ref, time, problem=problem(error), raw=raw({"run": run, "earlier": earlier}))


def translate_run(home: Home, run: Any, earlier: Sequence[Any]) -> WorkflowRun:
    """A run with its attempts; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Run.model_validate(run)
    tries = sorted([*map(_Run.model_validate, earlier), found], key=lambda each: each.run_attempt)
    following = [*(_started_at(each) for each in tries[1:]), None]
    attempts = [_attempt(each, until) for each, until in zip(tries, following, strict=True)]
    return WorkflowRun(
        container=home.container,
        workflow=str(found.workflow_id),
        name=found.name or found.path,
        number=found.run_number,
        title=found.display_title,
        url=found.html_url,
        branch=found.head_branch or "",
        event=found.event,
        sha=found.head_sha,
        created_at=found.created_at,
        state=attempts[-1].state,
        attempts=tuple(attempts[-MAX_ATTEMPTS:]),
        attempts_cut=attempts[-MAX_ATTEMPTS:][0].number > 1,
    )


def _started_at(run: _Run) -> datetime:
    return run.run_started_at or run.created_at


def _attempt(run: _Run, until: datetime | None) -> Attempt:
    """One attempt. GitHub has no word of its end: it is when it changed last, and not after the next one began."""
    started = _started_at(run)
    ended = run.updated_at if run.status == "completed" else None
    if until is not None:
        ended = min(ended or until, until)
    return Attempt(
        number=run.run_attempt,
        started_at=started,
        ended_at=max(ended, started) if ended else None,
        state=run.conclusion or run.status or UNKNOWN,
    )


UNKNOWN = "unknown"
"""The state of a run of which GitHub tells neither a status nor a conclusion."""


# --- how they are asked for -------------------------------------------------------------------------------------------


class Runs:
    """The runs of the repositories of one source that were created within so many days."""

    def __init__(self, client: Client, days: int, clock: Clock) -> None:
        self._client = client
        self._days = timedelta(days=days)
        self._clock = clock
        self._refused = Refused()
        self._taken: dict[str, Taken] = {}
        self._running: dict[str, set[int]] = {}
        self._left_by: dict[str, datetime] = {}

    def refused(self, container: str) -> frozenset[str]:
        """The kind, if the token was not let read it when it was last asked for."""
        return self._refused.of(container)

    def check(self, home: Home) -> Iterator[str]:
        """A line if the token may not read them."""
        try:
            self.assure(home)
        except Withheld:
            yield (
                f"{home.container}: its workflow runs cannot be read, and all else can; let the token read Actions, or do "
                "without them"
            )

    def assure(self, home: Home) -> None:
        """Raises `Withheld` where no run may be read: that one of them is not to be had means nothing then."""
        self._newest(home)

    def changed(self, home: Home, since: datetime | None) -> list[Listed]:
        """Those of the newest runs, or of all in the window, that changed at or after `since`, but for what was read as a
        whole."""
        if since is not None and KIND in self.refused(home.container):
            return []
        known = self._taken[home.container] = still_listed(self._taken.get(home.container, {}), since)
        found: dict[str, Listed] = {}
        for page in self._window(home) if since is None else self._lately(home, since):
            for each in self._ours(home, page):
                self._watch(home, each)
                time = updated_at(each)
                if stamp(each) not in known and (since is None or time is None or time >= since.replace(microsecond=0)):
                    found[stamp(each)] = Listed(each, page.at, partial(self._read, home), known)
        return list(found.values())

    def left(self, home: Home) -> list[Read]:
        """Those that have become too old since they were last told here, or of a fortnight before, as gone."""
        edge, told = self._edge(home), self._left_by.get(home.container)
        if told == edge or KIND in self.refused(home.container):
            return []
        since = told if told is not None and told < edge else edge - LEFT
        found = self._search(home, f"{_text(since)}..{_text(edge - SECOND)}")
        return [Read(reference(home, each)) for page in found for each in page.items]

    def note_left(self, home: Home) -> None:
        """They were told; another day has others."""
        if KIND not in self.refused(home.container):
            self._left_by[home.container] = self._edge(home)

    def sweep(self, home: Home) -> Iterator[list[Mark]]:
        """Names all in the window, from the list alone."""
        for page in self._window(home):
            yield [Mark(reference(home, each), updated_at(each)) for each in self._ours(home, page)]

    def fetch(self, home: Home, ident: int) -> Read:
        """One of them by id, empty if it is none of ours; raises `Missing`."""
        found = kept(self._client.get(f"{home.path}/actions/runs/{ident}").body)
        ours = is_ours(home, found, self._edge(home))
        return self._read(home, found) if ours else Read(reference(home, found))

    def _edge(self, home: Home) -> datetime:
        """Where the window begins."""
        now = max(home.at or self._clock(), EARLIEST)
        return (now - self._days).replace(hour=0, minute=0, second=0, microsecond=0)

    def _ours(self, home: Home, page: Page) -> list[Any]:
        edge = self._edge(home)
        return [each for each in map(kept, page.items) if is_ours(home, each, edge)]

    def _read(self, home: Home, run: Any) -> Read:
        return read_run(home, run, self._earlier(home, run))

    def _earlier(self, home: Home, run: Any) -> list[Any]:
        """The attempts before the last one, as far as GitHub keeps them. They cannot be listed, nor do they change."""
        ident, found = _ident(run), list[Any]()
        last = run.get("run_attempt") if ident is not None else None
        if isinstance(last, int):
            for number in range(max(1, last - MAX_ATTEMPTS + 1), last):
                with suppress(Missing):
                    path = f"{home.path}/actions/runs/{ident}/attempts/{number}"
                    found.append(kept(self._client.get(path).body))
        return found

    def _lately(self, home: Home, since: datetime) -> Iterator[Page]:
        """The newest page, those after it as long as all on them began since, and what had not ended when it left them."""
        seen = set[int]()
        for page in self._pages(home, lambda: self._newest(home), MOST_NEW_PAGES, again=True):
            seen |= {ident for ident in map(_ident, page.items) if ident is not None}
            yield page
            if any((created_at(each) or since) <= since for each in page.items):
                break
        running = self._running.setdefault(home.container, set())
        watched = sorted(running - seen, reverse=True)[:MOST_WATCHED]
        running &= seen.union(watched)
        for ident in watched:
            with suppress(Missing):
                answer = self._client.get(f"{home.path}/actions/runs/{ident}", again=True)
                yield Page([answer.body], None, None, http_date(answer.headers.get("date")))

    def _watch(self, home: Home, run: Any) -> None:
        """Note whether it has ended."""
        running, ident = self._running.setdefault(home.container, set()), _ident(run)
        if ident is not None:
            (running.discard if run.get("status") == "completed" else running.add)(ident)

    def _window(self, home: Home) -> Iterator[Page]:
        """All pages of the window, the newest run first. GitHub breaks off after the first thousand: the rest is asked for
        anew, from the oldest of these on."""
        edge = _text(self._edge(home))
        wanted = f">={edge}"
        for _ in range(MOST_SEARCHES):
            count, oldest = 0, None
            for page in self._search(home, wanted):
                count += len(page.items)
                oldest = min((time for time in map(created_at, page.items) if time), default=oldest)
                yield page
            following = f"{edge}..{_text(oldest)}" if oldest else wanted
            if count < MOST_FOUND or following == wanted:
                return
            wanted = following
        raise Retryable(
            f"the workflow runs of {home.container} do not end after {MOST_SEARCHES * MOST_FOUND}; read those of fewer "
            "days (workflow_run_days)"
        )

    def _search(self, home: Home, created: str) -> Iterator[Page]:
        """What was created then, and no more of it than GitHub shows."""
        yield from self._pages(home, lambda: self._listed(home, {"created": created, "per_page": PAGE}), MAX_PAGES)

    def _pages(self, home: Home, first: Callable[[], Page], most: int, *, again: bool = False) -> Iterator[Page]:
        """A page, and at most so many in all with those after it; none where the token may not read them."""
        page, asked = self._refused.let(home.container, KIND, first) if home.branch else None, set[str]()
        for _ in range(most):
            if page is None:
                return
            yield page
            following = page.next
            page = self._client.page(following, {}, asked, again=again, under="workflow_runs") if following else None

    def _newest(self, home: Home) -> Page:
        # What a poll asks for is kept; what a sweep asks for would only take its room.
        return self._listed(home, {"per_page": NEWEST}, again=True)

    def _listed(self, home: Home, query: Query, *, again: bool = False) -> Page:
        query = {**query, "branch": home.branch, "exclude_pull_requests": "true"}
        return self._client.page(f"{home.path}/actions/runs", query, set(), again=again, under="workflow_runs")


def _text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
