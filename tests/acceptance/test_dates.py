"""One milestone of four sources, from what they serve over HTTP to what people are told: once, while its dates differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pmsync.app import App
from pmsync.core.summary import series, summary
from pmsync.export import states
from pmsync.standins.calendar import CalendarHost
from pmsync.standins.github import GitHubHost
from pmsync.standins.jira import JiraSite
from pmsync.standins.portfolio import TOKENS
from pmsync.standins.server import serve
from pmsync.status import show_status
from pmsync.web import api
from tests.acceptance.installation import configure, exports, run_once

pytestmark = pytest.mark.acceptance

DIFFER, STILL, AGREE = (datetime(2026, 5, day, 9, tzinfo=UTC) for day in (4, 5, 6))
REPO, DAY = "acme/apollo", timedelta(days=1)
PROMISED = date(2026, 6, 30)


class World:
    """A version, a milestone and an entry that mean one release; on the third day all have the promised date."""

    def __init__(self) -> None:
        self.time = DIFFER
        begin, mended = DIFFER - 30 * DAY, AGREE - timedelta(hours=1)
        self.jira = JiraSite(lambda: self.time, token=TOKENS["PMSYNC_DEMO_JIRA_TOKEN"])
        self.jira.add_project("APO", "Apollo", at=begin)
        version = self.jira.add_version("APO", "2.0", date(2026, 7, 7), at=begin)
        self.jira.create_issue("APO", begin, "In Jira", fix_version=version)
        self.jira.update_version(version, mended, release_date=PROMISED)
        self.github = GitHubHost(lambda: self.time, token=TOKENS["PMSYNC_DEMO_GITHUB_TOKEN"])
        self.github.add_repository(REPO)
        milestone = self.github.add_milestone(REPO, "v2.0", begin, date(2026, 6, 28))
        self.github.set_milestone(REPO, self.github.open_issue(REPO, begin, "At GitHub"), begin + DAY, milestone)
        self.github.update_milestone(REPO, milestone, mended, due_on=PROMISED)
        self.calendar = CalendarHost(lambda: self.time)
        start = date(2026, 7, 1)
        self.calendar.add_entry("milestones", begin, "r@example.com", "[milestone] 2.0", start, start + DAY)
        self.calendar.change_entry("milestones", mended, "r@example.com", start=PROMISED, end=PROMISED + DAY)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Mapping[str, Any]]:
    with ExitStack() as stack:
        apps = (world.jira.app, world.github.app, world.calendar.app)
        jira, github, calendar = (stack.enter_context(serve(app)) for app in apps)
        mail, ics = {"email": "pmsync@example.com"}, {"milestones": f"{calendar}/milestones.ics"}
        token = {name: {"token": {"env": name}} for name in TOKENS}
        yield {
            "sources": [
                {"name": "jira", "kind": "jira", "url": jira, "auth": mail | token["PMSYNC_DEMO_JIRA_TOKEN"]},
                {"name": "gh", "kind": "github", "url": github, "auth": token["PMSYNC_DEMO_GITHUB_TOKEN"]},
                {"name": "team", "kind": "calendar", "ics": ics, "titles": True},
            ],
            "projects": [
                {
                    "key": "apollo", "name": "Apollo", "from": {"jira": ["APO"], "gh": [REPO], "team": ["milestones"]},
                    "milestones": [
                        {
                            "title": "Release 2.0", "due": PROMISED,
                            "also": {"jira": ["2.0"], "gh": ["v2.0"], "team": ["[milestone] 2.0"]},
                        }
                    ],
                }
            ],
        }  # fmt: skip


def test_dates_that_differ_are_told_once_and_it_goes_when_they_agree(
    world: World, served: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []
    with closing(App(configure(tmp_path / "one", served), lambda: world.time, write=told.append)) as app:
        for world.time in (DIFFER, STILL):
            assert not app.once().problems
            (row,) = _rows(app, "milestones", world.time)
            assert (row["title"], row["due_date"], row["open"]) == ("Release 2.0", "2026-06-30", 2)
            assert row["dates_differ"]
            (alert,) = _rows(app, "alerts", world.time)
            assert (alert["rule"], alert["state"], alert["severity"]) == ("dates_differ", "firing", "info")
            assert alert["summary"] == (
                "dated differently: Tue 30 Jun 2026 (configuration, used), Sun 28 Jun 2026 (gh), "
                "Tue 7 Jul 2026 (jira), Wed 1 Jul 2026 (team)"
            )
        assert "".join(told).count("Apollo · Release 2.0, dated differently: ") == 1, "two days, one message"
        assert "but Tue 7 Jul 2026 in jira" in _status(app, STILL)
        assert [each["due"] for each in _api(app, STILL)["deadlines"][0]["dates"]] == [
            "2026-06-30", "2026-06-28", "2026-07-07", "2026-07-01",
        ]  # fmt: skip
        world.time = AGREE
        assert not app.once().problems
        assert not _rows(app, "alerts", AGREE)
        assert [(line.state, line.n) for line in app.state.alert_log("apollo")] == [("firing", 1), ("resolved", 2)]
        assert "Apollo: 1 resolved" in "".join(told)
        assert "but " not in _status(app, AGREE)
        grown = exports(app, AGREE)
    assert grown == run_once(tmp_path / "fresh", served, AGREE), "a fresh installation says the same"


def test_another_order_makes_another_day_count(
    world: World, served: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    world.time = DIFFER
    (project,) = served["projects"]
    for order, day in (([], "2026-06-30"), (["team", "configuration"], "2026-07-01")):
        values = {**served, "projects": [{**project, "dates": order}]}
        (row,) = map(json.loads, run_once(tmp_path, values, DIFFER)["milestones"].splitlines())
        assert row["due_date"] == day


def _rows(app: App, table: str, now: datetime) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exports(app, now, tables=[table])[table].splitlines()]


def _status(app: App, now: datetime) -> str:
    shown = StringIO()
    show_status(Console(file=shown, width=200), states(app.state, None, past=False), now)
    return shown.getvalue()


def _api(app: App, now: datetime) -> Any:
    (state,) = states(app.state, None, past=False)
    return api.project(summary(state, now), series(state, now))
