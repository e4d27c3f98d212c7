"""From calendars and people in the configuration to what a team can do: by commands, exports and the API's words.

Ada works in Berlin; her calendar has two days off, half a day, and one that is tentative. Bo gives half of his time, in Dublin,
where the 17th of March is a holiday; his day off is in a calendar of several people, by a pattern of its titles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import Folder

pytestmark = pytest.mark.integration

NOW = "2026-03-16T07:00:00Z"
HOUR = 3600
ADA = """\
BEGIN:VCALENDAR
BEGIN:VEVENT
UID:leave
DTSTART;VALUE=DATE:20260318
DTEND;VALUE=DATE:20260320
SUMMARY:Canary islands
END:VEVENT
BEGIN:VEVENT
UID:half
DTSTART;TZID=Europe/Berlin:20260320T130000
DTEND;TZID=Europe/Berlin:20260320T180000
SUMMARY:Canary doctor
END:VEVENT
BEGIN:VEVENT
UID:perhaps
DTSTART;VALUE=DATE:20260316
STATUS:TENTATIVE
END:VEVENT
END:VCALENDAR
"""
TEAM = """\
BEGIN:VCALENDAR
BEGIN:VEVENT
UID:bo
DTSTART;VALUE=DATE:20260319
SUMMARY:Bo away
END:VEVENT
BEGIN:VEVENT
UID:who
DTSTART;VALUE=DATE:20260320
SUMMARY:Canary away
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture
def team(folder: Folder) -> Folder:
    (folder.path / "ada.ics").write_text(ADA)
    (folder.path / "team.ics").write_text(TEAM)
    ics = {name: str(folder.path / f"{name}.ics") for name in ("ada", "team")}
    meaning = {"ada": "time_off", "team": "time_off"}
    owners = {"team": [{"title": "bo *", "account": "b1"}]}
    folder.values["sources"] = [
        {"name": "cal", "kind": "calendar", "ics": ics, "meaning": meaning, "whose": owners},
        {"name": "public", "kind": "holidays"},
    ]
    folder.values["projects"] = [
        {"key": "apollo", "time_zone": "Europe/Berlin", "from": {"cal": ["team"], "public": ["DE"]}},
        {"key": "beacon", "from": {"public": ["DE"]}},
    ]
    folder.values["people"] = [
        {"mail": "canary-ada@example.com", "name": "Canary Ada", "calendars": {"cal": ["ada"]}, "projects": {"apollo": {}}},
        {
            "mail": "canary-bo@example.com",
            "accounts": {"cal": ["b1"]},
            "time_zone": "Europe/Dublin",
            "holidays": {"public": ["IE"]},
            "projects": {"apollo": {"allocation": 0.5, "from": "2026-01-05"}},
        },
    ]  # fmt: skip
    return folder


def read(folder: Folder) -> None:
    said = folder.run("run", "--once", "--now", NOW)
    assert said.code == 0, said.err


def exported(folder: Folder, table: str, *words: str) -> list[dict[str, Any]]:
    said = folder.run("export", table, "--now", NOW, *words)
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.out.splitlines()]


def hours(row: dict[str, Any]) -> tuple[float, ...]:
    names = ("working", "holiday", "time_off", "capacity")
    return tuple(row[f"{name}_seconds"] / HOUR for name in names)


WEEK = {
    "2026-03-16": (12, 0, 0, 12),
    "2026-03-17": (12, 4, 0, 8),  # Bo's holiday
    "2026-03-18": (12, 0, 8, 4),  # Ada is away
    "2026-03-19": (12, 0, 12, 0),  # and so is Bo
    "2026-03-20": (12, 0, 4, 8),  # Ada's afternoon, from 13:00 on; whose the other entry is, nothing says
}


def test_from_calendars_to_the_table_of_the_team(team: Folder) -> None:
    read(team)
    rows = exported(team, "capacity")
    assert {row["day"]: hours(row) for row in rows[:5]} == WEEK
    assert {(row["project"], row["person"], row["meeting_seconds"]) for row in rows} == {("apollo", None, None)}
    assert len(rows) == 60, "twelve weeks of working days; Good Friday and the like are none, but Bo works on them"
    (friday,) = (row for row in rows if row["day"] == "2026-04-03")
    assert (friday["working_day"], hours(friday)) == (False, (12, 8, 0, 4))
    of_time_off = {row["id"]: row["busy"] for row in exported(team, "calendar") if row["source"] == "cal"}
    assert of_time_off == {"team/bo": True, "team/who": True}, "Ada's own calendar is none of the project's"


def test_the_persons_days_where_the_project_asks_for_them(team: Folder) -> None:
    team.values["projects"][0]["capacity"] = {"per_person": True, "meetings": True}
    read(team)
    rows = [row for row in exported(team, "capacity") if row["day"] == "2026-03-17"]
    assert [row["person"] is None for row in rows] == [True, False, False]
    assert all(row["person"].startswith("person-") for row in rows[1:])
    assert sorted(map(hours, rows[1:])) == [(4, 4, 0, 0), (8, 0, 0, 8)]
    assert {row["meeting_seconds"] for row in rows} == {0}


def test_what_is_not_known_says_why(team: Folder) -> None:
    read(team)
    figures = {row["project"]: row for row in exported(team, "measures") if row["name"] == "capacity"}
    known, unknown = figures["apollo"], figures["beacon"]
    assert known["value"] == sum(hours(row)[-1] for row in exported(team, "capacity")[:30]) * HOUR
    assert known["evidence"]["notes"] == [
        "entries of time off that do not count: 1, since nothing says whose they are",
        "entries of time off that do not count: 1, tentative, or leaving people free",
    ]
    assert unknown["value"] is None
    assert unknown["evidence"]["reason"].startswith("nobody is configured to work on it")
    assert not exported(team, "capacity", "--project", "beacon")
    (team.path / "ada.ics").unlink()
    team.values["people"][0]["calendars"]["cal"] = ["ada", "other"]
    team.run("apply")
    said = team.run("run", "--once", "--now", NOW)
    assert said.code == 1
    (figure,) = (row for row in exported(team, "measures", "--project", "apollo") if row["name"] == "capacity")
    assert (figure["value"], figure["evidence"]["reason"]) == (
        None,
        "1 calendars of its team have not been read yet; `pmsync doctor` says why",
    )


def test_the_command_the_status_and_their_json(team: Folder) -> None:
    read(team)
    said = team.run("capacity", "apollo", "--weeks", "1", "--as-of", NOW)
    assert [line.split() for line in said.out.splitlines()[:3]] == [
        ["apollo"],
        ["week", "from", "working", "holidays", "time", "off", "left"],
        ["2026-03-16", "60", "h", "4", "h", "24", "h", "32", "h"],
    ]
    assert "1, since nothing says whose they are" in said.out
    assert "not known: nobody is configured to work on it" in team.run("capacity", "beacon").out
    found = json.loads(team.run("capacity", "--weeks", "1", "--as-of", NOW, "--json").out)
    apollo, beacon = found["projects"]
    assert hours(apollo["total"]) == hours(apollo["weeks"][0]) == (60, 4, 24, 32)
    assert {day["day"]: hours(day) for day in apollo["days"]} == WEEK
    assert (beacon["total"], beacon["weeks"], beacon["days"]) == (None, [], [])
    status = team.run("status", "apollo", "--as-of", NOW).out
    assert "of work to 2026-04-26; `pmsync capacity` has more" in status
    said = team.run("capacity", "--weeks", "0")
    assert (said.code, "1<=x<=52" in said.err) == (2, True)


def test_no_name_address_or_title_leaves_the_table_of_people(team: Folder) -> None:
    read(team)
    for name in ("log.db", "log.db-wal"):
        path: Path = team.path / name
        assert b"anary" not in path.read_bytes() if path.exists() else True
    said = [team.run(*words).out for words in (("capacity", "--json"), ("status", "--json"), ("export", "measures"))]
    assert not any("anary" in each for each in said)
