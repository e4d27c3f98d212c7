"""The worked example of a third party's connector, installed as the package that it is: found, and held to the contract."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from connectors.base import Connector, Fatal, Read, Ref, Withheld
from pmsync.core.events import WorkItem
from pmsync.standins.server import serve
from tests.connectors.gitlab_standin import PAUSE, GitLab, Issue
from tests.connectors.served import IMPATIENT, TOKEN, Served, Stage

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "pmsync-gitlab"
MODULE = "pmsync_gitlab"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own into which the example is installed; it is built from a copy, since building writes there."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("target")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    offline = ("--isolated", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def module(target: Path) -> Iterator[Any]:
    """The module that the entry point of the installed package leads to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        (point,) = entry_points(group="pmsync.connectors", name="gitlab")
        assert point.value == f"{MODULE}:GitLabConnector"
        point.load()
        found = sys.modules.pop(MODULE)
        assert Path(str(found.__file__)).parent == target
        yield found


def test_the_example_is_short() -> None:
    assert len((EXAMPLE / f"{MODULE}.py").read_text().splitlines()) < 150


# --- found by those who run pmsync ------------------------------------------------------------------------------------


def pmsync(folder: Path, *words: str, path: tuple[Path, ...]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "GITLAB_TOKEN": TOKEN}
    command = [sys.executable, "-m", "pmsync", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Path]:
    """A folder with a configuration of one GitLab project, in which an issue was closed."""
    gitlab = GitLab(lambda: START + timedelta(days=3), TOKEN)
    project = gitlab.add_project("acme/apollo")
    gitlab.turn(gitlab.open_issue(project, START), START + timedelta(days=1), "closed")
    with serve(gitlab) as url:
        source = {"name": "gl", "kind": "gitlab", "url": url, "token": {"env": "GITLAB_TOKEN"}}
        mapped = {"key": "apollo", "name": "Apollo", "from": {"gl": [project.path]}}
        (tmp_path / "pmsync.yaml").write_text(json.dumps({"sources": [source], "projects": [mapped]}))
        yield tmp_path


def test_pmsync_knows_its_kind_once_it_is_installed(target: Path, configured: Path) -> None:
    without = pmsync(configured, "apply", path=(ROOT,))
    assert without.returncode
    assert (
        "kind 'gitlab' is not known; installed: caldav, calendar, github, google_calendar, holidays, jira, microsoft_calendar"
        in without.stderr
    )
    for words in (("apply",), ("doctor",), ("run", "--once")):
        done = pmsync(configured, *words, path=(target, ROOT))
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        assert TOKEN not in done.stdout + done.stderr
    done = pmsync(configured, "export", "work_items", "--format", "ndjson", path=(target, ROOT))
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["key"] == "acme/apollo#1"
    assert (row["status"], row["resolved_at"]) == ("closed", "2026-03-03T09:00:00Z")


def test_doctor_says_what_is_wrong_with_a_container(target: Path, configured: Path) -> None:
    text = (configured / "pmsync.yaml").read_text()
    (configured / "pmsync.yaml").write_text(text.replace("acme/apollo", "acme/gemini"))
    done = pmsync(configured, "doctor", path=(target, ROOT))
    assert done.returncode
    assert re.search("acme/gemini: GitLab answered 404 .*there is no such project", done.stdout + done.stderr)


# --- the contract -----------------------------------------------------------------------------------------------------


class World(Served):
    """A GitLab with one project, in a group within a group."""

    name = "gl"
    container = "acme/space/apollo"
    secrets = (TOKEN,)
    granularity = MILLISECOND
    pause = float(PAUSE)

    @pytest.fixture(autouse=True)
    def _module(self, module: Any) -> None:
        self.module = module

    def build(self) -> ASGIApp:
        self.gitlab = GitLab(lambda: self.time, TOKEN)
        self.project = self.gitlab.add_project(self.container)
        return self.gitlab

    def open(self, secret: dict[str, Path]) -> Connector:
        configured = self.module.GitLabSettings.model_validate(
            {"name": self.name, "url": f"{self.stage.url}/", "token": secret, "page_size": self.page_size}
        )
        return self.module.GitLabConnector.connect(configured, lambda: self.time)

    def ref(self, issue: Issue) -> Ref:
        return Ref("work_item", f"{self.project.id}/{issue.iid}")

    def issue(self, ref: Ref) -> Issue:
        return self.project.issues[int(ref.id.partition("/")[2])]


class TestContract(World):
    def create(self, at: datetime) -> Ref:
        issue = self.gitlab.open_issue(self.project, at)
        issue.created_at -= timedelta(days=1)
        return self.ref(issue)

    def change(self, ref: Ref, at: datetime) -> None:
        self.gitlab.turn(self.issue(ref), at, "closed")

    def delete(self, ref: Ref, at: datetime) -> None:
        del self.project.issues[self.issue(ref).iid]

    def spoil_one(self, at: datetime) -> Ref:
        return self.ref(self.gitlab.open_issue(self.project, at, title=None))

    def break_next(self, kind: str) -> None:
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(self.module, "TIMEOUT", IMPATIENT)
            return
        self.gitlab.faults.append(kind)


# --- what the contract does not ask -----------------------------------------------------------------------------------


@pytest.fixture
def world(served: Stage, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestContract:
    world = TestContract()
    world.stage, world.folder, world.monkeypatch, world.module, world.time = (
        served,
        tmp_path,
        monkeypatch,
        module,
        START,
    )
    served.silent, served.seen, served.app = False, 0, world.build()
    return world


def read(world: TestContract, since: datetime | None = None) -> list[Read]:
    return [read for page in world.connect().changed(world.container, since) for read in page]


def item(world: TestContract) -> WorkItem:
    (one,) = read(world)
    assert isinstance(one.content, WorkItem), one.problem
    return one.content


def test_an_issue_is_translated_with_the_history_of_its_state(world: TestContract) -> None:
    issue = world.gitlab.open_issue(
        world.project, START, labels=["Blocked", "ux"], assignees=[{"id": 9}, {"id": 10}], due_date="2026-04-01"
    )
    for day, state in enumerate(("closed", "reopened", "closed"), start=1):
        world.gitlab.turn(issue, START + timedelta(days=day), state)
    found = item(world)
    assert (found.key, found.container, found.type) == ("acme/space/apollo#1", "acme/space/apollo", "issue")
    assert (found.assignee, found.blocked, found.labels) == ("9", True, ("Blocked", "ux"))
    assert (str(found.due_date), found.url) == ("2026-04-01", "https://gitlab.example.com/acme/space/apollo/-/issues/1")
    assert [(c.field, c.old, c.new, (c.at - START).days) for c in found.history] == [
        ("status", "opened", "closed", 1),
        ("status_category", "todo", "done", 1),
        ("status", "closed", "opened", 2),
        ("status_category", "done", "todo", 2),
        ("status", "opened", "closed", 3),
        ("status_category", "todo", "done", 3),
    ]
    assert len({c.id for c in found.history}) == 6
    assert found.untracked == ("assignee", "due_date", "blocked")


def test_an_issue_that_was_moved_away_was_not_done(world: TestContract) -> None:
    issue = world.gitlab.open_issue(world.project, START, moved_to_id=77)
    world.gitlab.turn(issue, START, "closed")
    assert (item(world).status_category, item(world).history[-1].new) == ("dropped", "dropped")


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "closed"),
        (["closed", "closed"], "closed"),
        (["closed", "reopened"], "closed"),
        (["closed"], "opened"),
        (["closed", "reopened"] * 51, "opened"),
    ],
    ids=["of before GitLab kept it", "with a gap", "behind", "ahead", "longer than a page"],
)
def test_a_history_that_is_not_whole_is_not_told(world: TestContract, events: list[str], state: str) -> None:
    issue = world.gitlab.open_issue(world.project, START)
    for each in events:
        world.gitlab.turn(issue, START, each)
    issue.state = state
    assert (item(world).status, item(world).history) == (state, ())
    assert {"status", "status_category"} <= set(item(world).untracked)


def test_more_issues_of_one_time_than_a_page_holds_are_all_read_once(world: TestContract) -> None:
    for n in range(7):
        world.gitlab.open_issue(world.project, START + n * timedelta(microseconds=1))
    world.gitlab.open_issue(world.project, START + MILLISECOND)
    assert sorted(one.ref.id for one in read(world)) == [f"{world.project.id}/{n}" for n in range(1, 9)]
    assert len(read(world, START)) == 8


@pytest.mark.parametrize("kind", ["gone", "off"])
def test_where_a_project_is_out_of_reach_none_of_its_issues_is_called_gone(world: TestContract, kind: str) -> None:
    ref = world.create(START)
    if kind == "gone":
        world.gitlab.projects.clear()
    world.project.access = "disabled"
    for act in (world.connect().fetch([ref]), world.connect().sweep(world.container)):
        with pytest.raises(Withheld):
            list(act)


def test_a_renamed_project_is_told_and_its_redirect_not_followed(world: TestContract) -> None:
    world.create(START)
    world.project.former.add(world.container)
    world.project.path = "acme/gemini"
    with pytest.raises(Withheld, match="another path"):
        read(world)
    assert len(world.gitlab.journal) == 1
    ident = str(world.project.id)
    assert list(world.connect().check([ident])) == [
        f"{ident}: GitLab calls {ident} acme/gemini; write that into the configuration"
    ]


@pytest.mark.parametrize("token", ["glpat-\u201cquoted\u201d", "glpat-two\nlines", "two words"])
def test_what_cannot_be_a_token_is_refused_and_not_shown(world: TestContract, token: str) -> None:
    with pytest.raises(Fatal, match="look at token") as caught:
        world.open(world.secret("odd", token))
    assert token not in str(caught.value)


def test_its_clock_is_the_source_s(world: TestContract) -> None:
    assert world.connect().now() == START
