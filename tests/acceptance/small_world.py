"""A world small enough to be read hundreds of times: two Jira projects, a repository, a calendar, in three chapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pmsync.standins.calendar import CalendarHost
from pmsync.standins.github import GitHubHost, User
from pmsync.standins.jira import JiraSite
from pmsync.standins.portfolio import TOKENS
from pmsync.standins.server import serve

CHAPTERS = tuple(datetime(2026, 3, day, 12, tzinfo=UTC) for day in (10, 11, 12))
"""Three instants at which the world is read; between them things are made, changed, moved and deleted."""
REPO = "acme/apollo"


class SmallWorld:
    """The stand-ins; `time` says which chapter is being shown."""

    def __init__(self) -> None:
        self.time = CHAPTERS[0]
        clock: Callable[[], datetime] = lambda: self.time  # noqa: E731
        self.jira = JiraSite(clock, token=TOKENS["PMSYNC_DEMO_JIRA_TOKEN"])
        # Hundreds of runs read it within the same hour of its clock, which is more than one account may.
        self.github = GitHubHost(clock, token=TOKENS["PMSYNC_DEMO_GITHUB_TOKEN"], rate_limit=1_000_000)
        self.calendar = CalendarHost(clock)
        self._write()

    @contextmanager
    def served(self) -> Iterator[dict[str, Any]]:
        """Serve the stand-ins; yields the configuration that reads them."""
        with ExitStack() as stack:
            apps = (self.jira.app, self.github.app, self.calendar.app)
            jira, github, calendar = (stack.enter_context(serve(app)) for app in apps)
            token = {name: {"env": name} for name in TOKENS}
            yield {
                "sources": [
                    {
                        "name": "jira", "kind": "jira", "url": jira,
                        "auth": {"email": "pmsync@example.com", "token": token["PMSYNC_DEMO_JIRA_TOKEN"]},
                    },
                    {"name": "gh", "kind": "github", "url": github, "auth": {"token": token["PMSYNC_DEMO_GITHUB_TOKEN"]}},
                    {"name": "team", "kind": "calendar", "ics": f"{calendar}/deadlines.ics"},
                ],
                "people": [{"mail": "ada@example.com", "projects": {"apollo": {}}}],
                "projects": [
                    {
                        "key": "apollo", "from": {"jira": ["APO"], "gh": [REPO], "team": ["deadlines"]},
                        "deadline": "2026-03-20",
                    },
                    {"key": "beacon", "from": {"jira": ["BEA"]}},
                ],
            }  # fmt: skip

    def _write(self) -> None:
        start, middle, end = (chapter - timedelta(hours=1) for chapter in CHAPTERS)
        self._write_jira(start, middle, end)
        self._write_github(start, middle, end)
        due = date(2026, 3, 13)
        self.calendar.add_entry("deadlines", start, "fair@example.com", "Fair", due, due + timedelta(days=1))
        self.calendar.add_entry("deadlines", middle, "demo@example.com", "Demo", due, due + timedelta(days=1))
        self.calendar.delete_entry("deadlines", end, "fair@example.com")

    def _write_jira(self, start: datetime, middle: datetime, end: datetime) -> None:
        site, week = self.jira, timedelta(days=7)
        for key in ("APO", "BEA"):
            site.add_project(key, key, at=start - 5 * week)
        version = site.add_version("APO", "1.0", date(2026, 3, 16), at=start - 4 * week)
        issues = [
            site.create_issue("APO" if n < 9 else "BEA", start - 4 * week + timedelta(days=n), f"Issue {n}",
                              fix_version=version if n < 9 else (), due_date=date(2026, 3, 11 + n % 5))
            for n in range(12)
        ]  # fmt: skip
        sprint = site.boards.plan(site.boards.add("Team", ["APO", "BEA"], start - 4 * week), "One", start - 2 * week)
        site.boards.start(sprint, start - 2 * week)
        for n in (0, 1, 2):
            site.change_issue(issues[n], start - 2 * week + timedelta(days=n), status="In Progress", assignee="acc-ada")
            site.change_issue(issues[n], start - week + timedelta(days=n), status="Done")
        site.change_issue(issues[3], start - week, status="In Progress", flagged=True, sprint=sprint)
        site.log_work(issues[3], start - week / 2, 3600)
        site.change_issue(issues[4], middle, status="In Progress", sprint=sprint)
        site.log_work(issues[4], middle + timedelta(minutes=1), 1800)
        site.move_issue(issues[5], middle, "BEA")
        site.delete_issue(issues[6], middle)
        site.create_issue("APO", middle, "New in the middle", fix_version=version)
        passing = site.create_issue("APO", middle, "There in the middle alone")
        site.change_issue(issues[3], end, flagged=False, status="Done")
        site.move_issue(issues[5], end, "APO")
        site.delete_issue(issues[10], end)
        site.delete_issue(passing, end)
        site.boards.complete(sprint, end)
        site.update_version(version, end, release_date=date(2026, 3, 23))

    def _write_github(self, start: datetime, middle: datetime, end: datetime) -> None:
        host, day, ada = self.github, timedelta(days=1), User("ada", 901)
        host.add_repository(REPO)
        milestone = host.add_milestone(REPO, "Beta", start - 20 * day, date(2026, 3, 18))
        numbers = [host.open_issue(REPO, start - (15 - n) * day, f"Bug {n}") for n in range(4)]
        host.set_milestone(REPO, numbers[0], start - 10 * day, milestone)
        host.assign(REPO, numbers[0], start - 9 * day, ada)
        pull = host.open_pull(REPO, start - 5 * day, "Mend", body=f"Fixes #{numbers[0]}", author=ada)
        host.ask_review(REPO, pull, start - 4 * day, User("bo", 902))
        host.review(REPO, pull, middle, "approved", User("bo", 902))
        host.merge(REPO, pull, end)
        host.close(REPO, numbers[0], end + timedelta(minutes=1))
        host.delete(REPO, numbers[3], end)
        shipped = host.shipped(REPO)
        staged = [shipped.deploy(at, "staging", creator=ada) for at in (start - day, middle)]
        shipped.set_status(staged[0], start - day, "success")
        shipped.set_status(staged[1], middle, "in_progress")
        shipped.set_status(staged[1], end, "success")  # which makes the first one inactive
        shipped.delete_deployment(shipped.deploy(start, "production"), end)
        release = shipped.release(start, "v1.0", draft=True)
        shipped.update_release(release, middle, draft=False)
        shipped.update_release(release, end, name="One")
        shipped.delete_release(shipped.release(middle, "v1.1"), end)
        runs = host.runs(REPO)
        tried = runs.ran(start - day, start - day / 2, "failure")
        runs.try_again(tried, middle)
        runs.finish(tried, end)
        runs.ran(start - 2 * day, start - day, branch="topic")
        runs.step(runs.start(middle, "Nightly", event="schedule"), middle, "in_progress")
        runs.delete(runs.ran(start - day, start), end)
