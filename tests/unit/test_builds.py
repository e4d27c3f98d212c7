"""Whether the default branch builds, and since when: by tables of runs, with the instants at which it turns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import StringIO
from typing import Any

import pytest
from builders import NOW, at, state, workflow_run
from rich.console import Console

from pmsync.core.measures.builds import Build, builds
from pmsync.core.project import ProjectState, view
from pmsync.core.summary import series
from pmsync.status import show_status
from pmsync.web import api


def run(ident: str, *told: str, **values: Any) -> Any:
    """A run whose attempts are told as `DAY STATE` of March 2026: each begins at 10:00 and ends at 11:00, or with `…` after
    its state goes on."""
    attempts = []
    for each in told:
        day, came_to, *goes_on = each.split()
        when = f"2026-03-{int(day):02}"
        attempts.append((at(when, 10), None if goes_on else at(when, 11), came_to))
    return workflow_run(ident, *attempts, **values)


def built(runs: Sequence[Any], when: datetime = NOW) -> Build:
    (build,) = builds(view(state(runs=runs), when))
    return build


def printed(known: ProjectState) -> str:
    out = StringIO()
    show_status(Console(file=out, width=200), [known], NOW)
    return out.getvalue()


@pytest.mark.parametrize(
    ("runs", "standing", "since", "at_least"),
    [
        pytest.param([run("1", "2 success")], "passing", 2, True, id="one passed"),
        pytest.param([run("1", "2 failure")], "broken", 2, True, id="one failed, and nothing is known before it"),
        pytest.param([run("1", "2 success"), run("2", "3 failure")], "broken", 3, False, id="it broke"),
        pytest.param(
            [run("1", "2 success"), run("2", "3 failure"), run("3", "4 timed_out"), run("4", "5 startup_failure")],
            "broken", 3, False, id="broken since the first",
        ),
        pytest.param(
            [run("1", "2 failure"), run("2", "3 success"), run("3", "4 success")], "passing", 3, False, id="mended"
        ),
        pytest.param(
            [run("1", "2 failure"), run("2", "3 cancelled"), run("3", "4 skipped"), run("4", "5 neutral")],
            "broken", 2, True, id="what says nothing mends nothing",
        ),
        pytest.param([run("1", "2 failure"), run("2", "3 queued …")], "broken", 2, True, id="a new one waits"),
        pytest.param([run("1", "2 queued …")], None, None, False, id="the only one waits"),
        pytest.param([run("1", "2 cancelled")], None, None, False, id="the only one was cancelled"),
        pytest.param([run("1", "2 failure", "3 success")], "passing", 3, True, id="passed when tried again"),
        pytest.param([run("1", "2 failure", "3 failure")], "broken", 2, True, id="failed when tried again, too"),
        pytest.param([run("1", "2 success", "3 failure")], "broken", 3, True, id="failed when tried again"),
        pytest.param([run("1", "2 failure", "3 in_progress …")], "broken", 2, True, id="is being tried again"),
        pytest.param([run("1", "2 failure", "3 cancelled")], "broken", 2, True, id="trying again was cancelled"),
        pytest.param(
            [run("2", "4 failure"), run("1", "2 failure", "5 success")], "broken", 4, False,
            id="an older one that is mended is not the newest",
        ),
        pytest.param(
            [run("1", "2 success"), run("2", "3 failure", "6 failure"), run("3", "4 failure")], "broken", 3, False,
            id="tried again after a newer one failed",
        ),
    ],
)  # fmt: skip
def test_how_a_build_stands(runs: Sequence[Any], standing: str | None, since: int | None, at_least: bool) -> None:
    found = built(runs)
    assert (found.standing, found.at_least) == (standing, at_least)
    assert found.since == (at(f"2026-03-{since:02}", 11) if since else None)


def test_as_of_any_instant() -> None:
    """In its past a build stands as it stood then, whatever came later."""
    runs = [run("1", "2 success"), run("2", "4 failure", "6 success"), run("3", "8 failure")]

    def seen(day: int, hour: int = 12) -> tuple[str | None, datetime | None, int, bool]:
        found = built(runs, at(f"2026-03-{day:02}", hour))
        return found.standing, found.since, found.runs, found.newest.finished_at is None

    first, failed, mended, broke = (at(f"2026-03-{day:02}", 11) for day in (2, 4, 6, 8))
    assert builds(view(state(runs=runs), at("2026-03-02", 9))) == ()
    assert seen(2, 10) == (None, None, 0, True)
    assert seen(2, 11) == ("passing", first, 1, False)
    assert seen(4, 10) == ("passing", first, 1, True)
    assert seen(4, 11) == ("broken", failed, 2, False)
    assert seen(6, 10) == ("broken", failed, 2, True)
    assert seen(6, 11) == ("passing", first, 2, False), "of this commit it is known now that it passes"
    assert seen(8, 11) == ("broken", broke, 3, False)
    assert mended < broke


def test_how_often_runs_fail_and_are_tried_again() -> None:
    runs = [
        run("1", "1 success"),
        run("2", "2 failure", "3 success"),
        run("3", "4 failure"),
        run("4", "5 cancelled", "6 success"),
        run("5", "7 cancelled"),
        run("6", "8 failure", "9 failure"),
    ]
    found = built(runs)
    assert (found.runs, found.failed, found.retried) == (5, 3, 3)
    later = built(runs, at("2026-04-03", 9))
    assert (later.runs, later.failed, later.retried) == (3, 2, 2), "of the last thirty days"
    assert later.standing == "broken"


def test_each_workflow_by_itself_and_what_is_broken_first() -> None:
    runs = [
        run("1", "2 success"),
        run("2", "3 failure", workflow="8", name="Nightly"),
        run("3", "2 failure", workflow="9", name="Docs"),
        run("4", "1 success", container="ELSE"),
    ]
    found = builds(view(state(runs=runs), NOW))
    assert [(each.name, each.standing) for each in found] == [
        ("Docs", "broken"), ("Nightly", "broken"), ("CI", "passing"),
    ]  # fmt: skip
    assert builds(view(state(runs=runs[::-1]), NOW)) == found


def test_a_workflow_is_called_as_it_was_called_last() -> None:
    assert built([run("1", "2 success", name="Build"), run("2", "3 success")]).name == "CI"


def test_the_api_and_the_terminal_say_it_with_its_evidence() -> None:
    runs = [
        run("1", "2 success"),
        run("2", "3 failure", url="https://github.com/acme/apollo/actions/runs/2"),
        run("3", "4 skipped", workflow="8", name="Nightly"),
        run("4", "4 success", workflow="9", name="Docs"),
    ]
    known = state(runs=runs, time_zone="Europe/Berlin")
    broken, passing, unknown = map(api._build, series(known, NOW).builds)
    assert broken | {
        "container": "APO", "workflow": "7", "name": "CI", "standing": "broken", "since": "2026-03-03T11:00:00Z",
        "since_at_least": False, "running": False, "runs": 2, "failed": 1, "retried": 0,
        "evidence": {
            "run": "2", "state": "failure", "sha": "5ca1ab1e", "url": "https://github.com/acme/apollo/actions/runs/2",
        },
    } == broken  # fmt: skip
    assert "newest run" in broken["formula"]
    assert (passing["name"], passing["standing"]) == ("Docs", "passing")
    assert (unknown["standing"], unknown["evidence"]) == (None, {"reason": "no run has come to success or failure"})
    lines = [line.strip() for line in printed(known).splitlines() if "broken" in line]
    assert lines == ["broken: CI of APO, since Tue 3 Mar 2026, 12:00 CET"]
    (line,) = [line for line in printed(state(runs=runs[1:2])).splitlines() if "broken" in line]
    assert line.endswith("or earlier")
