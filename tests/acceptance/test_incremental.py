"""Incremental equals full: a world that is read fifty times on its way ends in the exports of one fresh sync."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from pmsync.app import Outcome
from pmsync.core.exports import TABLES
from pmsync.standins import calendar, github, jira
from pmsync.standins.portfolio import Portfolio
from tests.acceptance.installation import difference, exports, installed, run_once

END = datetime(2026, 6, 17, 15, 30, tzinfo=UTC)
STEPS = 50
STEP = timedelta(days=3, hours=5, minutes=11)


def later_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Another configuration: Beacon takes over what Delta read, and Apollo no longer reads its repository."""
    projects = {project["key"]: dict(project) for project in values["projects"]}
    projects["apollo"]["from"] = {"company-jira": ["APO"], "team": ["deadlines", "holidays"]}
    projects["beacon"]["from"] = {"company-jira": ["BEA", "DEL"], "team": ["holidays"]}
    del projects["delta"]
    return {**values, "projects": list(projects.values())}


@pytest.mark.acceptance
def test_fifty_small_syncs_equal_one_fresh_sync(tmp_path: Path) -> None:
    time = END - STEPS * STEP
    portfolio = Portfolio(END, lambda: time)
    _upheavals(portfolio)
    dice = random.Random(7)
    failed = 0
    with portfolio.served() as values:
        for step in range(STEPS + 1):
            time = END - (STEPS - step) * STEP
            portfolio.jira.index_lag = dice.choice((0, 0, 40, 200)) if step < STEPS else 0
            if step % 5 == 2:
                _faults(portfolio, dice)
            used = later_mapping(values) if 20 <= step < 30 or step >= 40 else values
            outcome = _step(tmp_path / "incremental", used, time)
            failed += bool(outcome.problems)
        assert failed >= 5, "faults that nobody meets prove nothing"
        with installed(tmp_path / "incremental", later_mapping(values), lambda: END) as app:
            assert not app.once().problems
            incremental = exports(app, END)
        fresh = run_once(tmp_path / "fresh", later_mapping(values), END)
    assert difference(incremental, fresh) == ""
    assert incremental == fresh
    assert all(fresh[table] for table in TABLES), "an empty table proves nothing"


def _step(folder: Path, values: Mapping[str, Any], now: datetime) -> Outcome:
    with installed(folder, values, lambda: now) as app:
        return app.once()


def _upheavals(portfolio: Portfolio) -> None:
    """Deletions, moves between projects there and back, a renamed milestone, a deleted entry."""
    site, hub = portfolio.jira, portfolio.github
    ours = [site.create_issue("APO", END - timedelta(days=150, minutes=n), f"Restless {n}") for n in range(6)]
    site.delete_issue(ours[0], END - timedelta(days=90))
    site.move_issue(ours[1], END - timedelta(days=80), "BEA")
    site.move_issue(ours[2], END - timedelta(days=85), "BEA")
    site.move_issue(ours[2], END - timedelta(days=20), "APO")
    site.move_issue(ours[3], END - timedelta(days=60), "DEL")
    site.delete_issue(ours[3], END - timedelta(days=15))
    site.add_project("OUT", "Elsewhere", at=END - timedelta(days=200))
    site.move_issue(ours[4], END - timedelta(days=50), "OUT")
    site.move_issue(ours[5], END - timedelta(days=52), "OUT")
    site.move_issue(ours[5], END - timedelta(days=12), "BEA")
    hub.delete("acme/comet", 2, END - timedelta(days=33))
    hub.update_milestone("acme/comet", 2, END - timedelta(days=25), title="Summer festival")
    portfolio.calendar.delete_entry("deadlines", END - timedelta(days=40), "audit@example.com")


def _faults(portfolio: Portfolio, dice: random.Random) -> None:
    """Something goes wrong with each source, somewhere in the middle of its reading."""
    portfolio.jira.faults.append(
        jira.Fault(status=dice.choice((429, 500, 503)), path=dice.choice(("jql", "bulkfetch")))
    )
    portfolio.github.fail(dice.choice(get_args(github.Fault)), after=dice.randint(0, 12))
    portfolio.calendar.faults.append(calendar.Fault(dice.choice(("error", "busy", "page", "cut"))))
