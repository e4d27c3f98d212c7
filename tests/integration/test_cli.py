"""The commands as people meet them: exit codes, and words that say what is wrong and what to do."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.progress import Progress

from connectors.base import LONGEST_WAIT
from connectors.pump import DeadLetter
from pmsync import cli as commands
from pmsync.bus.letters import MOST_BYTES, open_letters
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Record, partition_of
from pmsync.cli import LATER, cli
from pmsync.core.events import CONFIGURATION, Fact, Thing, decode
from pmsync.core.exports import TABLES
from pmsync.store.ledger import SqlLedger
from pmsync.store.outbox import Queue
from pmsync.store.state import Letter
from tests.integration.commands import EARLIER, Folder, Said
from tests.unit.builders import JIRA, Item, item, sprint

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NOW = "2026-03-16T12:00:00Z"
NOW_AT = datetime(2026, 3, 16, 12, tzinfo=UTC)


def nowhere() -> str:
    """The address of a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def late() -> list[Item]:
    """Three items that are overdue."""
    return [item(str(n), due_date="2026-03-02") for n in range(3)]


# --- help and exit codes ----------------------------------------------------------------------------------------------


def every_command(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from every_command(command, *before, name)


@pytest.mark.parametrize("words", [(), *every_command(cli)], ids=" ".join)
def test_every_command_has_help(folder: Folder, words: tuple[str, ...]) -> None:
    said = folder.run(*words, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage: ")
    assert len(said.out.splitlines()) > 3


@pytest.mark.parametrize("name", LATER)
def test_what_comes_later_says_so(folder: Folder, name: str) -> None:
    said = folder.run(name, "whatever", "--project", "apollo")
    assert (said.code, said.err) == (2, f"pmsync: `pmsync {name}` is not there yet: it will {LATER[name]}\n")


def test_an_assessment_does_not_go_back(folder: Folder) -> None:
    folder.values["projects"] = [{"key": "apollo"}]
    assert folder.run("run", "--once", "--now", NOW).code == 0
    said = folder.run("run", "--once", "--now", "2026-03-16T11:59:59Z")
    assert said.code == 2
    assert (
        f"2026-03-16T11:59:59Z lies before the last assessment, at {NOW}; to look at the past, use --as-of" in said.err
    )
    assert folder.run("run", "--once", "--now", NOW).code == 0


def test_output_that_cannot_be_written_is_said(folder: Folder) -> None:
    folder.holds(item("1"))
    said = folder.run("export", "work_items", "-o", "/dev/full")
    assert said.code == 1
    assert said.err.startswith("pmsync: ")
    assert "cannot be written or read: No space left on device" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("run", "--now", NOW), "--now goes with --once"),
        (("web", "--port", "99999"), "99999 is not in the range 0<=x<=65535"),
        (("status", "--as-of", "2999-01-01T00:00:00Z"), "--as-of 2999-01-01T00:00:00Z lies in the future"),
        (("export", "alerts", "--now", NOW, "--as-of", "2026-03-17T00:00:00Z"), "lies in the future"),
        (("run", "--once", "--now", "yesterday"), "'yesterday' is no instant; write it like 2026-03-31T17:00:00Z"),
        (("status", "apolo"), "there is no project 'apolo'; known: none yet, try `pmsync run --once`"),
        (("export", "nothing"), "'nothing' is not one of 'alerts'"),
        (("export", "work_items", "--format", "xlsx"), "'xlsx' is not one of 'csv', 'ndjson'"),
        (("export", "work_items", "--project", "x"), "there is no project 'x'"),
        (("export", "work_items", "--format", "csv", "-o", "/no/such/folder/f"), "No such file or directory"),
        (("alerts", "ack", "abc"), "Missing option '--by'"),
        (("alerts", "ack", "abc", "--by", "a@example.com"), "no alert that is wrong now has a fingerprint that begins with 'abc'"),
        (("status", "--as-of", "2026-13-01"), "is no instant"),
        (("rebuild", "--partition", "8"), "there is no partition 8; they are 0 to 7"),
        (("move",), "say either --to FILE or --undo"),
        (("move", "--undo"), "this installation was not moved away: there is nothing to undo"),
        (("move", "--to", "/no/such/file"), "File '/no/such/file' does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_ends_with_two(folder: Folder, words: tuple[str, ...], says: str) -> None:
    said = folder.run(*words)
    assert (said.code, said.out) == (2, "")
    assert says in said.err


def test_a_faulty_configuration_ends_with_two(folder: Folder) -> None:
    folder.values["web"] = {"prt": 1}
    said = folder.run("status")
    assert said.code == 2
    assert said.err == f"pmsync: {folder.file}:8: web.prt: there is no such key\n"


def test_a_database_or_log_out_of_reach_ends_with_one(folder: Folder) -> None:
    folder.values["store"] = {"url": "sqlite:////no/such/folder/pmsync.db"}
    said = folder.run("status")
    assert (said.code, said.out) == (1, "")
    assert "sqlite:////no/such/folder/pmsync.db answered: unable to open database file; is store.url right" in said.err
    folder.values |= {"store": {"url": f"sqlite:///{folder.path / 'p.db'}"}, "bus": {"path": "/no/such/folder/log.db"}}
    said = folder.run("run", "--once")
    assert said.code == 1
    assert "cannot open the embedded log /no/such/folder/log.db" in said.err


def test_the_process_ends_with_the_same_codes(tmp_path: Path) -> None:
    """Through a real process once: what a shell, a cron job or a pod sees."""
    ends = {}
    for words in (
        ["--version"],
        ["-c", str(tmp_path / "none.yaml"), "doctor"],
        ["-c", str(tmp_path / "none.yaml"), "run"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pmsync", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        ends[words[-1]] = done.returncode
        assert "Traceback" not in done.stderr
    assert ends == {"--version": 0, "doctor": 1, "run": 2}


# --- an empty installation --------------------------------------------------------------------------------------------


def test_an_empty_installation_says_what_to_do(folder: Folder) -> None:
    said = folder.run("status")
    assert (said.code, said.out) == (0, "no projects yet; `pmsync run --once` reads those that pmsync.yaml names\n")
    assert json.loads(folder.run("status", "--json").out)["projects"] == []
    assert folder.run("alerts", "list").out == "no alerts\n"
    assert folder.run("export", "work_items").out == ""
    said = folder.run("export", "work_items", "--format", "csv")
    assert (said.code, said.out.count("\n")) == (0, 1)
    assert folder.run("run", "--once").code == 0


def test_apply_says_what_it_does_and_does_it_once(folder: Folder) -> None:
    folder.values["projects"] = [{"key": "apollo"}]
    said = folder.run("apply", "--dry-run")
    assert (said.code, said.out) == (0, "+ apollo: new project 'apollo'\nwould change: 1\n")
    assert folder.run("apply").out == "+ apollo: new project 'apollo'\nchanged: 1\n"
    assert folder.run("apply").out == "changed: 0\n"
    folder.values["projects"] = []
    assert folder.run("apply").out == "- apollo: removed\nchanged: 1\n"


# --- sources that fail ------------------------------------------------------------------------------------------------


def test_a_source_out_of_reach_is_named_and_the_others_go_on(folder: Folder, tmp_path: Path) -> None:
    url = nowhere()
    calendar = tmp_path / "team.ics"
    calendar.write_text("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n")
    folder.values["sources"] = [
        folder.source("company-jira", url),
        {"name": "team", "kind": "calendar", "ics": str(calendar)},
    ]
    folder.values["projects"] = [{"key": "apollo", "from": {"company-jira": ["APO"], "team": ["team"]}}]
    said = folder.run("run", "--once", "--now", NOW)
    assert said.code == 1
    lines = said.err.splitlines()
    assert lines[0].startswith("published 1, ")
    assert lines[1].startswith("pmsync: company-jira: ")
    assert "all else was done; `pmsync doctor` checks each source" in lines[2]
    assert "hunter2" not in said.err
    with closing(folder.app()) as app:
        kinds = {(key.source, key.kind) for key in app.state.rows("apollo")}
    assert ("team", "synced") in kinds, "the calendar was read whole"


def test_the_time_that_is_left_is_known_though_a_source_is_rested_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], io.StringIO()
    monkeypatch.setattr(commands, "Console", lambda **_: Console(file=said, force_terminal=True, width=120))
    monkeypatch.setattr(commands, "Progress", partial(Progress, get_time=lambda: now[0], auto_refresh=False))
    with commands._progress() as progress:
        assert progress
        for read in (100, 200, 300):
            now[0] += LONGEST_WAIT
            progress("jira", "APO", read, 1000)
    assert "300 read" in said.getvalue()
    assert "7:00:00" in said.getvalue()


def test_a_secret_that_is_not_there_is_named(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JIRA_TOKEN")
    folder.values["sources"] = [folder.source("company-jira", nowhere())]
    folder.values["projects"] = [{"key": "apollo", "from": {"company-jira": ["APO"]}}]
    said = folder.run("run", "--once")
    assert said.code == 1
    assert (
        "pmsync: company-jira: the environment variable JIRA_TOKEN is not set; export it, or use {file: PATH}"
        in said.err
    )


def test_what_another_worker_is_about_to_publish_is_left_to_it(folder: Folder) -> None:
    with closing(folder.app()) as app:
        SqlLedger(app.store, lambda: datetime.now(UTC)).lease(CONFIGURATION, "elsewhere/1/1")
    folder.values["projects"] = [{"key": "apollo"}]
    said = folder.run("apply")
    assert (said.code, said.out) == (0, "+ apollo: new project 'apollo'\nchanged: 1\n")
    assert "the worker that is reading the configuration publishes it at its next round" in said.err
    with closing(folder.app()) as app:
        assert app.projects.projects().keys() == {"apollo"}
        assert not any(app.bus.end_offset(EVENTS, n) for n in range(8))


def test_a_worker_does_not_hold_up_those_who_apply(folder: Folder) -> None:
    """Two processes at once: neither has to wait for the other's lease."""
    folder.values["projects"] = [{"key": "apollo"}]
    with closing(folder.app()) as app:
        app.apply()
        app.aggregator.take(range(8))
        ledger = SqlLedger(app.store, lambda: datetime.now(UTC))
        assert ledger.lease(CONFIGURATION, "elsewhere/1/1")
        ledger.release(CONFIGURATION, ledger.lease(CONFIGURATION, "elsewhere/1/1"))
        app.read(CONFIGURATION)


def test_a_port_that_is_taken_is_said(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = folder.run("web", "--port", str(port))
    assert said.code == 1
    assert f"cannot serve at 127.0.0.1:{port}" in said.err


# --- one project ------------------------------------------------------------------------------------------------------


def test_the_status_of_a_project_tells_how_its_sprint_goes(folder: Folder) -> None:
    began = NOW_AT - timedelta(days=5)
    folder.holds(
        item("1", [(began + timedelta(days=1), "status_category", "done")], sprint="7"),
        item("2", [(began + timedelta(days=2), "sprint", "7")]),
        sprint("7", "active", began, began + timedelta(days=14), title="[red]Seven"),
        sprint("8", "future", title="Eight"),
    )
    shown = folder.run("status", "apollo", "--as-of", NOW).out.splitlines()
    (row,) = [re.split("  +", line.strip()) for line in shown if "Seven" in line]
    assert row == ["[red]Seven", str((began + timedelta(days=14)).date()), "1 of 2", "1", "1", "0"]
    assert not any("Eight" in line for line in shown)


# --- calendars --------------------------------------------------------------------------------------------------------

OFFICE = """BEGIN:VCALENDAR
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20260320
SUMMARY:[red]Release 2.1
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART:20260317T223000Z
DTEND:20260317T233000Z
RRULE:FREQ=WEEKLY;COUNT=2
SUMMARY:Jour fixe
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART;VALUE=DATE:20260323
DTEND;VALUE=DATE:20260327
SUMMARY:Ada away
END:VEVENT
BEGIN:VEVENT
UID:4
DTSTART;TZID=Nowhere/Land:20260318T090000
END:VEVENT
BEGIN:VEVENT
UID:5
DTSTART;VALUE=DATE:20260301
SUMMARY:Over
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture
def office(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(commands, "_now", lambda: NOW_AT)
    (folder.path / "office.ics").write_text(OFFICE)
    meaning = [{"title": "*release *", "means": "deadline"}, {"title": "* away", "means": "time_off"}]
    folder.values["sources"] = [
        {"name": "team", "kind": "calendar", "ics": str(folder.path / "office.ics"), "meaning": {"office": meaning}},
        {"name": "public", "kind": "holidays"},
        {"name": "gh", "kind": "github", "auth": {"token": {"env": "GITHUB_TOKEN"}}},
    ]
    containers = {"team": ["office"], "public": ["DE-BE"], "gh": ["acme/apollo"]}
    folder.values["projects"] = [{"key": "apollo", "time_zone": "Europe/Berlin", "from": containers}]
    monkeypatch.setenv("GITHUB_TOKEN", "x")
    return folder


def test_a_preview_shows_what_a_calendar_would_be_read_as(office: Folder) -> None:
    said = office.run("calendar", "preview", "team", "--titles")
    assert said.code == 0
    assert [re.split("  +", line.strip()) for line in said.out.splitlines()] == [
        ["day", "from", "to", "read as", "calendar", "title"],
        ["Tue 17 Mar 2026", "23:30", "Wed 18 Mar 2026, 00:30", "meeting, recurring", "office", "Jour fixe"],
        ["Fri 20 Mar 2026", "deadline", "office", "[red]Release 2.1"],
        ["Mon 23 Mar 2026", "Thu 26 Mar 2026", "time_off", "office", "Ada away"],
        ["Tue 24 Mar 2026", "23:30", "Wed 25 Mar 2026, 00:30", "meeting, recurring", "office", "Jour fixe"],
        ["entries in all, past ones too: 1 deadline, 2 meeting, 1 time_off"],
        ["1 cannot be read: office: DTSTART: the time zone Nowhere/Land is unknown"],
    ]
    assert list(office.path.glob("*.db")) == [], "nothing is kept"


def test_a_preview_shows_titles_only_where_they_are_asked_for(office: Folder) -> None:
    assert "away" not in office.run("calendar", "preview", "team").out
    office.values["sources"][0]["titles"] = True
    assert "away" in office.run("calendar", "preview", "team").out


def test_a_preview_shows_what_goes_on_already_and_feeds_of_no_project(
    office: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ada is away from the 23rd to the 26th."""
    source = office.values["sources"][0]
    source["ics"] = {"away": source["ics"]}
    source["meaning"] = {"away": source["meaning"]["office"]}
    office.values["projects"][0]["from"].pop("team")
    monkeypatch.setattr(commands, "_now", lambda: NOW_AT + timedelta(days=10))
    found = json.loads(office.run("calendar", "preview", "team", "--json", "--days", "1").out)["days"]
    assert [(each["day"], each["means"]) for each in found] == [("2026-03-23", "time_off")]
    monkeypatch.setattr(commands, "_now", lambda: NOW_AT + timedelta(days=11))
    assert json.loads(office.run("calendar", "preview", "team", "--json", "--days", "1").out)["days"] == []


def test_a_preview_for_programs(office: Folder) -> None:
    found = json.loads(office.run("calendar", "preview", "team", "--json", "--days", "3").out)
    first = {"container": "office", "day": "2026-03-17", "start": "2026-03-17T22:30:00Z", "end": "2026-03-17T23:30:00Z"}
    assert found["days"] == [first | {"means": "meeting", "recurring": True, "title": None}]
    assert found["entries"] == {"deadline": 1, "meeting": 2, "time_off": 1}
    days = json.loads(office.run("calendar", "preview", "public", "--json", "--days", "60").out)["days"]
    assert [each["day"] for each in days] == ["2026-04-03", "2026-04-06", "2026-05-01", "2026-05-14"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("gh",), 2, "gh is no calendar"),
        (("nowhere",), 2, "there is no source 'nowhere'"),
        (("team", "--container", "home"), 2, "team has no container 'home'; known: office"),
        (("team", "--days", "0"), 2, "--days"),
    ],
)
def test_what_cannot_be_previewed_says_why(office: Folder, words: tuple[str, ...], code: int, says: str) -> None:
    said = office.run("calendar", "preview", *words)
    assert (said.code, said.out) == (code, "")
    assert says in said.err


def test_a_preview_of_a_calendar_that_is_not_there_says_so(office: Folder) -> None:
    (office.path / "office.ics").unlink()
    said = office.run("calendar", "preview", "team")
    assert (said.code, said.out) == (1, "")
    assert "office.ics: No such file or directory" in said.err


# --- exports ----------------------------------------------------------------------------------------------------------

HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", '"=1', "＝1", "'=1"]


def test_csv_runs_nothing_in_a_spreadsheet(folder: Folder) -> None:
    folder.holds(*(item(str(n), title=title) for n, title in enumerate([*HOSTILE, 'a, "b"\nc = d'])))
    said = folder.run("export", "work_items", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said.out, newline="")))
    assert {row["title"] for row in rows} == {*(f"'{title}" for title in HOSTILE), 'a, "b"\nc = d'}


def test_numbers_stay_numbers(folder: Folder) -> None:
    done = [(NOW_AT, "status_category", "done")]
    folder.holds(item("1", done, due_date="2026-03-20", estimate=2500))
    said = folder.run("export", "work_items", "--format", "csv", "--now", "2026-03-17T00:00:00Z")
    (row,) = csv.DictReader(io.StringIO(said.out, newline=""))
    assert (row["delay_days"], row["estimate"], row["blocked"]) == ("-4", "2.5", "false")


def test_ndjson_and_csv_say_the_same(folder: Folder, late: list[Item], tmp_path: Path) -> None:
    folder.holds(*late, name="Apollo é")
    for table in TABLES:
        plain = [json.loads(line) for line in folder.run("export", table, "--now", NOW).out.splitlines()]
        target = tmp_path / f"{table}.csv"
        assert folder.run("export", table, "--now", NOW, "--format", "csv", "-o", str(target)).code == 0
        with target.open(encoding="utf-8", newline="") as file:
            sheet = list(csv.DictReader(file))
        assert len(plain) == len(sheet)
        assert all(tuple(row) == TABLES[table] for row in sheet)
        assert all(set(row) == set(TABLES[table]) for row in plain)
    assert folder.run("export", "alerts", "--now", NOW).out == folder.run("export", "alerts", "--now", NOW).out


# --- dead letters -----------------------------------------------------------------------------------------------------


DEAD = DeadLetter("a" * 32, Thing(JIRA, "work_item", "10/7"), "fields.status is [missing]", b"\xffraw")


@pytest.fixture
def letters(folder: Folder) -> list[str]:
    """Two letters, one of each stage; returns the beginnings of their ids."""
    folder.holds()
    with closing(folder.app()) as app:
        app.publisher.bury([DEAD, DEAD])
        app.bus.publish(EVENTS, [Record("apollo", b"garbage")])
        app.aggregator.take(range(8))
        app.aggregator.catch_up()
        return [letter.id[:8] for letter in open_letters(app.bus)]


def test_dead_letters_are_listed_and_shown(folder: Folder, letters: list[str]) -> None:
    said = folder.run("dead-letters", "list")
    assert said.code == 0
    assert len(letters) == 2
    assert all(letter in said.out for letter in letters)
    assert "jira/work_item/10/7" in said.out
    assert "fields.status is [missing]" in said.out
    shown = folder.run("dead-letters", "show", "aaaa").out
    assert "reason: fields.status is [missing]" in shown
    assert "bytes: 4\n\n\\xffraw" in shown


def test_the_doctor_counts_dead_letters(folder: Folder, letters: list[str]) -> None:
    said = folder.run("doctor")
    assert said.code == 1
    assert "BAD  dead letters: 2 of apollo, jira cannot be read; `pmsync dead-letters list` says why" in said.out


def test_a_huge_dead_letter_is_cut(folder: Folder) -> None:
    """A record that no log takes would be tried for ever."""
    folder.holds()
    with closing(folder.app()) as app:
        app.publisher.bury([replace(DEAD, raw=b"x" * (MOST_BYTES + 1))])
        (letter,) = open_letters(app.bus)
    assert len(letter.raw) == MOST_BYTES
    assert letter.reason.endswith(f"(of {MOST_BYTES + 1} bytes the first {MOST_BYTES} are kept)")


def test_dead_letters_are_tried_again(folder: Folder, letters: list[str]) -> None:
    said = folder.run("dead-letters", "replay", "--all")
    assert said.code == 0
    assert said.out.startswith("1 will be fetched from their sources and 1 folded again")
    assert "no dead letters" in folder.run("dead-letters", "list").out
    with closing(folder.app()) as app:
        assert SqlLedger(app.store, lambda: NOW_AT).pending(JIRA).keys() == {("work_item", "10/7")}
        app.aggregator.take(range(8))
        assert app.aggregator.catch_up() == 1
        (again,) = open_letters(app.bus)
    assert again.id[:8] in letters, "still no event, and so the same letter again"


def test_dead_letters_are_discarded_with_a_reason(folder: Folder, letters: list[str]) -> None:
    assert folder.run("dead-letters", "discard", "aaaa").code == 2
    assert folder.run("dead-letters", "discard", "aaaa", "--reason", "a test issue").code == 0
    assert "10/7" not in folder.run("dead-letters", "list").out
    with closing(folder.app()) as app:
        kept = [each.value for n in range(8) for each in app.bus.read(DEAD_LETTERS, n, 0, 100)]
    assert sum(b"a test issue" in value for value in kept) == 1, "the reason is kept"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("replay",), "name the letters by the beginning of their ids, or say --all"),
        (("replay", "zz"), "no dead letter has an id that begins with 'zz'; see `pmsync dead-letters list`"),
        (("show", ""), "2 dead letters have an id that begins with ''"),
    ],
)
def test_what_is_no_letter_is_said(folder: Folder, letters: list[str], words: tuple[str, ...], problem: str) -> None:
    said = folder.run("dead-letters", *words)
    assert said.code == 2
    assert problem in said.err


# --- alerts -----------------------------------------------------------------------------------------------------------


def fingerprints(folder: Folder) -> list[str]:
    found = [json.loads(line) for line in folder.run("export", "alerts").out.splitlines()]
    return [alert["fingerprint"] for alert in found if alert["state"] == "firing"]


def test_alerts_are_listed_and_acknowledged(folder: Folder, late: list[Item]) -> None:
    folder.holds(late[0])
    (fingerprint,) = fingerprints(folder)
    said = folder.run("alerts", "list")
    assert said.code == 0
    assert fingerprint[:8] in said.out
    assert "apollo" in said.out
    assert late[0][1].key in said.out
    said = folder.run("alerts", "ack", fingerprint[:6], "--by", "ada@example.com", "--note", "on it")
    assert said.code == 0
    assert said.out.startswith(f"acknowledged {fingerprint[:8]} in apollo; it shows once the worker has read it")
    with closing(folder.app()) as app:
        where = partition_of("apollo", 8)
        fact = decode(app.bus.read(EVENTS, where, app.bus.end_offset(EVENTS, where) - 1, 1)[0].value)
        assert isinstance(fact, Fact)
        assert (fact.content.fingerprint, fact.content.note) == (fingerprint, "on it")
        assert app.projects.mail(fact.content.by) == "ada@example.com"
        assert "ada@" not in fact.model_dump_json(), "who it was stands in the table of people alone"
        app.aggregator.take(range(8))
        app.aggregator.catch_up()
    assert "acknowledged" in folder.run("alerts", "list").out


def test_a_fingerprint_that_fits_several_is_refused(folder: Folder, late: list[Item]) -> None:
    folder.holds(*late)
    assert len(fingerprints(folder)) == 3
    said = folder.run("alerts", "ack", "", "--by", "ada@example.com")
    assert said.code == 2
    assert "3 alerts have a fingerprint that begins with ''; see `pmsync alerts list`" in said.err


def test_who_acknowledges_gives_an_address(folder: Folder, late: list[Item]) -> None:
    folder.holds(late[0])
    said = folder.run("alerts", "ack", fingerprints(folder)[0], "--by", "ada")
    assert said.code == 2
    assert "'ada' is no mail address" in said.err


def test_a_source_that_stopped_being_read_is_told_with_the_status(folder: Folder) -> None:
    stopped(folder)
    assert folder.run("status").out.splitlines()[0] == "team: last read 3 hours ago; `pmsync doctor` says what is wrong"
    assert list(json.loads(folder.run("status", "--json").out)["stale_sources"]) == ["team"]
    past = json.loads(folder.run("status", "--json", "--as-of", NOW).out)
    assert past["stale_sources"] == {}
    assert folder.run("run", "--once").code == 0
    assert json.loads(folder.run("status", "--json").out)["stale_sources"] == {}


# --- doctor -----------------------------------------------------------------------------------------------------------


def bad(said: Said) -> list[str]:
    return [line.removeprefix("BAD  ") for line in said.out.splitlines() if line.startswith("BAD")]


def test_doctor_finds_nothing_wrong(folder: Folder) -> None:
    folder.run("run", "--once")
    said = folder.run("doctor")
    assert (said.code, bad(said)) == (0, [])
    assert said.out.startswith("ok   configuration: 0 sources, 0 projects\n")


def test_doctor_names_a_title_that_nothing_bears(folder: Folder) -> None:
    (folder.path / "team.ics").write_text(OFFICE)
    feed = {"name": "team", "kind": "calendar", "ics": str(folder.path / "team.ics"), "meaning": {"office": "deadline"}}
    also = {"team": ["[RED]Release  2.1", "Jour fixe", "Release 2.1"]}
    milestones = [{"title": "Two", "due": "2026-03-20", "also": also}]
    folder.values["projects"] = [{"key": "apollo", "from": {"team": ["office"]}, "milestones": milestones}]
    for titles, missing in ((True, ["Release 2.1"]), (False, also["team"])):
        folder.values["sources"] = [{**feed, "titles": titles}]
        assert folder.run("run", "--once").code in {0, 1}, "an entry in a zone that nobody knows is a dead letter"
        said = [line for line in folder.run("doctor").out.splitlines() if "milestones of apollo" in line]
        assert [line.partition(" is called ")[2].partition(" (`also` of Two)")[0] for line in said] == [
            repr(title) for title in missing
        ]


def break_configuration(folder: Folder) -> None:
    folder.values["web"] = {"prt": 1}


def break_log(folder: Folder) -> None:
    folder.values["bus"] = {"path": "/no/such/folder/log.db"}


def replace_log(folder: Folder) -> None:
    folder.holds()
    folder.values["bus"] = {"path": str(folder.path / "new.db")}


def forget_run(folder: Folder) -> None:
    folder.values["store"] = {"url": f"sqlite:///{folder.path / 'new.db'}"}


def break_store(folder: Folder) -> None:
    folder.values["store"] = {"url": "sqlite:////no/such/folder/p.db"}


def forget_apply(folder: Folder) -> None:
    folder.values["projects"] = [{"key": "apollo"}]


def dead_message(folder: Folder) -> None:
    with closing(folder.app()) as app:
        with app.state.owned(0, app.state.take(0, "me")) as owned:
            owned.log("apollo", [], [Letter("l1", "apollo", "mail", "person-1", "S", "T")], EARLIER)
        claimed = app.outbox.claim(Queue("mail", "person-1"), "me", EARLIER, EARLIER)
        app.outbox.failed(claimed, "the mail server refused the recipient (550)", None)


def source_away(folder: Folder) -> None:
    folder.values["sources"] = [folder.source("company-jira", nowhere())]
    folder.values["projects"] = [{"key": "apollo", "from": {"company-jira": ["APO"]}}]
    folder.run("apply")


def source_unused(folder: Folder) -> None:
    folder.values["sources"] = [folder.source("company-jira", nowhere())]


def stopped(folder: Folder) -> None:
    """A source that can be read, and was not for three hours."""
    (folder.path / "team.ics").write_text("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n")
    folder.values["sources"] = [{"name": "team", "kind": "calendar", "ics": str(folder.path / "team.ics")}]
    folder.values["projects"] = [{"key": "apollo", "from": {"team": ["deadlines"]}}]
    assert folder.run("run", "--once").code == 0
    with closing(folder.app()) as app:
        app.freshness.read("team", datetime.now(UTC) - timedelta(hours=3, minutes=1))
        app.freshness.read("of-before", EARLIER)  # no longer configured


def failing(folder: Folder) -> None:
    """A source that answers now, and did not a while ago."""
    stopped(folder)
    with closing(folder.app()) as app:
        app.freshness.read("team", datetime.now(UTC))
        for hours in (2, 1):
            when = datetime.now(UTC) - timedelta(hours=hours, minutes=1)
            app.freshness.failed("team", when, "retryable", "the server answers 503")


def mail_missing(folder: Folder) -> None:
    folder.values["projects"] = [{"key": "apollo", "leader": "lead@example.com"}]
    folder.run("apply")


def mail_away(folder: Folder) -> None:
    port = int(nowhere().rpartition(":")[2])
    folder.values["notify"]["mail"] = {"host": "127.0.0.1", "port": port, "sender": "a@example.com", "tls": "none"}


def pages_open(folder: Folder) -> None:
    folder.values["web"] = {"host": "0.0.0.0"}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (break_configuration, "configuration: .*pmsync.yaml:8: web.prt: there is no such key"),
        (break_log, "log: cannot open the embedded log /no/such/folder/log.db: .*; bus.path must be"),
        (replace_log, "log: this log .* is not the one that the store is built from"),
        (forget_run, "store: the database is at revision none, .* start `pmsync run` once"),
        (break_store, "store: .* is store.url right"),
        (forget_apply, "projects: not applied yet: apollo; run `pmsync apply`"),
        (dead_message, r"delivery: a message of apollo to person-1 was given up: the mail server refused the recipient \(550\)"),
        (source_away, "source company-jira: "),
        (source_unused, "source company-jira: no project reads it; name its containers under projects: … from:"),
        (stopped, "freshness: team: last read 3 hours ago; is its connector running?"),
        (failing, "reading team: for 2 hours and 2 tries: the server answers 503"),
        (mail_missing, "mail: projects name people, but there is no notify.mail to reach them by"),
        (mail_away, "mail: no mail server at 127.0.0.1:.*; check notify.mail"),
        (pages_open, "web: web.host is 0.0.0.0: the pages have no login yet; put a proxy"),
    ],
)  # fmt: skip
def test_doctor_finds(folder: Folder, fault: Callable[[Folder], None], says: str) -> None:
    folder.run("run", "--once")
    fault(folder)
    said = folder.run("doctor")
    assert said.code == 1
    assert len(bad(said)) == 1, said.out
    assert re.match(says, bad(said)[0]), said.out
    assert "hunter2" not in said.out + said.err
