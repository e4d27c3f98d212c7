"""`pmsync import`: what comes from files is the same as what comes from the source itself, and never puts it back."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from connectors import github_bulk
from pmsync import export
from pmsync.app import App
from pmsync.config import load
from pmsync.core.exports import TABLES
from pmsync.importing import documents, read
from pmsync.standins.portfolio import Portfolio
from tests.connectors.test_files import REPOSITORY, event, hub_issue, issue
from tests.integration.commands import Folder

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
EVENTS = re.compile(r"/repositories/[0-9]+/issues/([0-9]+)/events")
REVIEWS = re.compile(r"/repositories/[0-9]+/pulls/[0-9]+/reviews")


class Recorder:
    """What two sources answered, as files of theirs would hold it."""

    def __init__(self) -> None:
        self.jira: list[Any] = []
        self.github: list[Any] = []

    def heard(self, answer: requests.Response) -> None:
        if "json" not in answer.headers.get("Content-Type", ""):
            return
        body, path = answer.json(), answer.request.path_url
        if "/rest/api/" in path:
            self.jira.append(body)
        elif about := EVENTS.match(path):
            # As the events of the whole repository are listed: each with its issue.
            repository = path.partition("/issues")[0]
            self.github += [{**each, "issue": {"number": int(about[1]), "of": repository}} for each in body]
        elif "/actions/" not in path:
            self.github.append(body)

    def files(self, folder: Path) -> list[Path]:
        """Search pages and bulk answers one after the other in one file, GitHub's in a compressed one."""
        names = {
            each["id"]: each["full_name"] for each in self.github if isinstance(each, dict) and "full_name" in each
        }
        for each in self.github:
            if isinstance(each, dict) and "event" in each:
                ident = int(each["issue"].pop("of").rpartition("/")[2])
                each["issue"]["repository_url"] = f"https://api.github.com/repos/{names[ident]}"
        (folder / "jira.json").write_text("\n".join(map(json.dumps, self.jira)))
        with gzip.open(folder / "github.ndjson.gz", "wt") as file:
            file.write("\n\n".join(map(json.dumps, self.github)))
        return [folder / "jira.json", folder / "github.ndjson.gz"]


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder, send = Recorder(), requests.Session.send

    def sent(self: requests.Session, request: Any, **options: Any) -> requests.Response:
        answer = send(self, request, **options)
        recorder.heard(answer)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "send", sent)
        # Files hold what the REST API says of each thing, so each is asked for by itself.
        patch.setattr(github_bulk, "MANY", 10**9)
        patch.setattr(github_bulk, "batches", lambda _: ())
        yield recorder


def opened(values: dict[str, Any], folder: Path) -> App:
    folder.mkdir(exist_ok=True)
    places = {"bus": {"path": str(folder / "log.db")}, "store": {"url": f"sqlite:///{folder / 'pmsync.db'}"}}
    path = folder / "pmsync.yaml"
    path.write_text(yaml.safe_dump({**values, **places, "notify": {"console": False}}))
    return App(load(path, {}), lambda: NOW)


def exports(app: App) -> dict[str, str]:
    """All tables, as text; but for the versions, which are of each log."""
    return {
        table: "\n".join(export.lines(table, "ndjson", export.states(app.state, None), NOW, NOW)) for table in TABLES
    }


def test_an_installation_from_files_shows_what_a_live_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portfolio = Portfolio(NOW, lambda: NOW)
    with portfolio.served() as values, recording(monkeypatch) as recorder:
        with closing(opened(values, tmp_path / "live")) as live:
            assert live.once().problems == {}
            wanted = exports(live)
        files = recorder.files(tmp_path)
        for source in values["sources"][:2]:
            source |= {"live": False}
            del source["auth"]
        with closing(opened(values, tmp_path / "imported")) as app:
            app.apply()
            found = list(documents(files))
            for project in app.config.projects:
                for source in set(project.sources) - {"team", "absences"}:  # calendars are read live
                    each = read(app.config, project.key, source, found)
                    assert each.problems == ()
                    app.take(source, each.reads, each.containers)
            assert app.once().problems == {}
            got = exports(app)
    assert wanted["work_items"].count("\n") > 200
    # Of sprints only those are in files that some issue is or was in.
    rows = [row for row in wanted["sprints"].splitlines() if row and json.loads(row)["scope"]]
    assert len(rows) > 10
    wanted["sprints"] = "\n\n".join(rows)
    # Saved runs of workflows are not read yet.
    assert (wanted["workflow_runs"].count("\n") > 5, got["workflow_runs"]) == (True, "")
    for table in set(TABLES) - {"workflow_runs"}:
        assert got[table].splitlines() == wanted[table].splitlines(), table


# --- as people meet it ------------------------------------------------------------------------------------------------


@pytest.fixture
def here(folder: Folder) -> Folder:
    """An installation that reads no site, with a file of one issue beside it."""
    folder.values |= {
        "sources": [
            {"name": "old-jira", "kind": "jira", "url": "https://jira.example.com", "live": False},
            {"name": "gh", "kind": "github", "live": False},
            {"name": "team", "kind": "calendar", "ics": str(folder.path / "team.ics")},
        ],
        "projects": [
            {"key": "apollo", "from": {"old-jira": ["APO"], "gh": ["octo/apollo"]}},
            {"key": "bare", "from": {"team": ["holidays"]}},
        ],
    }
    put(folder, "jira.json", {"issues": [issue(changelog={"total": 0, "histories": []})], "names": {}})
    return folder


def put(folder: Folder, name: str, document: Any) -> None:
    (folder.path / name).write_text(document if isinstance(document, str) else json.dumps(document))


def run(folder: Folder, *words: str, project: str = "apollo") -> Any:
    paths = [str(folder.path / word) if "." in word else word for word in words]
    return folder.run("import", *paths, "--project", project)


def test_what_was_imported_is_shown(here: Folder) -> None:
    said = run(here, "jira.json")
    assert (said.code, said.out.splitlines()[:2]) == (
        0,
        [
            "old-jira: 1 milestones, 1 work items of APO",
            "published 2; the others were known like that, or newer",
        ],
    )
    again = run(here, "jira.json")
    assert "published 0;" in again.out
    put(here, "github.json", [[hub_issue()], REPOSITORY, event(1, 1, "closed"), event(2, 1, "reopened")])
    assert "published 1;" in run(here, "github.json").out
    put(here, "team.ics", "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n")
    assert here.run("run", "--once").code == 0
    rows = here.run("export", "work_items").out.splitlines()
    assert [json.loads(row)["key"] for row in rows] == ["octo/apollo#1", "APO-1"]


def test_a_dry_run_writes_nothing(here: Folder) -> None:
    said = run(here, "jira.json", "--dry-run")
    assert (said.code, "published" in said.out) == (0, False)
    assert not (here.path / "log.db").exists()


def test_as_json_it_is_all_there(here: Folder) -> None:
    put(here, "more.ndjson", f"{json.dumps(issue(id='7', key='BEA-1'))}\n{json.dumps({'unknown': 1})}")
    elsewhere = json.loads((here.path / "more.ndjson").read_text().splitlines()[0])
    elsewhere["fields"]["project"] = {"id": "9", "key": "BEA"}
    broken = issue(id="8", key="APO-8")
    broken["fields"]["status"] = None
    put(here, "more.ndjson", "\n".join(map(json.dumps, [elsewhere, broken, {"unknown": 1}])))
    said = run(here, "jira.json", "more.ndjson", "--json")
    assert said.code == 1
    assert json.loads(said.out) == {
        "schema_version": 1,
        "source": "old-jira",
        "containers": ["APO"],
        "things": {"work_item": 1, "milestone": 1},
        "published": 2,
        "elsewhere": {"BEA": 1},
        "left": {"not read by pmsync": 1},
        "missing": ["the changelogs of 2 issues: add expand=changelog to the search; without them they have no past"],
        "unreadable": ["work_item 8: fields.status.id is missing"],
    }
    assert "work_item 8: fields.status.id is missing" in said.err


def test_a_directory_stands_for_its_files(here: Folder) -> None:
    (here.path / "dump").mkdir()
    put(here, "dump/a.json", [issue()])
    with gzip.open(here.path / "dump" / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps(issue(id="2", key="APO-2")))
    put(here, "dump/notes.txt", "no JSON")
    said = here.run("import", str(here.path / "dump"), "--project", "apollo", "--dry-run")
    assert "2 work items" in said.out


def test_nobody_reads_what_is_not_live(here: Folder) -> None:
    run(here, "jira.json")
    for command in ("connector", "reconcile", "reread"):
        said = here.run(command, "old-jira")
        assert (said.code, "not asked (live: false)" in said.err) == (2, True)
    put(here, "team.ics", "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n")
    assert "old-jira" in here.run("doctor").out
    assert here.run("run", "--once").code == 0


REFUSED: tuple[tuple[Any, str], ...] = (
    ('{"issues": [}', ":1: is no JSON"),
    ('[]\n\n{"issues": [1,}', ":3: is no JSON"),
    ("[" * 100_000, "nested too deep"),
    ("BEGIN:VCALENDAR\r\nEND:VCALENDAR", "a calendar needs no import"),
    ({"unknown": 1}, "nothing in these files is of the kind github or jira"),
    ("", "nothing in these files is of the kind github or jira"),
    ([issue(), hub_issue()], "say --source with one of old-jira, gh"),
)


@pytest.mark.parametrize(("document", "words"), REFUSED, ids=[words[:30] for _, words in REFUSED])
def test_what_cannot_be_imported_is_refused_in_words(here: Folder, document: Any, words: str) -> None:
    put(here, "x.json", document)
    said = run(here, "x.json")
    assert (said.code, words in said.err, said.out) == (1, True, ""), said.err


def test_files_that_are_no_text_or_too_long_are_refused(here: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.path / "x.json").write_bytes(b'["\xff"]')
    assert "is no UTF-8 text (byte 2)" in run(here, "x.json").err
    (here.path / "x.gz").write_bytes(gzip.compress(b"[]")[:-4])
    assert "cannot be read" in run(here, "x.gz").err
    (here.path / "bomb.gz").write_bytes(gzip.compress(b" " * 10_000_000))
    monkeypatch.setattr("pmsync.importing.MAX_BYTES", 1 << 20)
    assert "more than 1 MiB; import in several goes" in run(here, "bomb.gz").err
    (here.path / "empty").mkdir()
    said = here.run("import", str(here.path / "empty"), "--project", "apollo")
    assert "there is no file with the ending .json" in said.err


def test_a_project_and_a_source_must_be_there(here: Folder) -> None:
    assert "there is no project 'zeus'; known: apollo, bare" in run(here, "jira.json", project="zeus").err
    assert "files of the kind calendar cannot be imported" in run(here, "jira.json", project="bare").err
    assert "apollo reads nothing from team" in run(here, "jira.json", "--source", "team").err


def test_a_source_that_is_being_read_is_not_imported_over(here: Folder) -> None:
    with closing(here.app()) as app:
        app.ledger.lease("old-jira", "somebody else")
        said = run(here, "jira.json")
    assert (said.code, "old-jira is being read by somebody else; stop it" in said.err) == (1, True)
