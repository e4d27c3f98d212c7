"""The connector of Microsoft 365's calendars against its stand-in, and the translation of events."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors import microsoft_calendar, ways
from connectors.base import Calendars, ConnectorError, Fatal, Read, Retryable, Withheld
from connectors.ics import MAX_OCCURRENCES, MAX_TITLE, MAX_UID, Scope, read_feed, window_at
from connectors.microsoft_calendar import MicrosoftCalendarConnector, MicrosoftCalendarSettings
from connectors.microsoft_entries import FIELDS, is_whole, read_series, told
from pmsync.core.events import CalendarEntry, Meaning
from pmsync.preview import preview
from tests.connectors.graph_standin import API, CLIENT, TENANT, Calendar, GraphHost, new_certificate, refusal
from tests.connectors.served import Stage

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEAM = "pm@example.com"
SECRET = "Tuna merger with Globex"
DOCUMENTED = Path(__file__).parents[2] / "../shared/data/msgraph"
CERTIFICATE, PUBLIC, THUMBPRINT = new_certificate()
PACIFIC = "Pacific Standard Time"

Raw = dict[str, Any]


def at(when: str, zone: str = "UTC") -> Raw:
    """A time as Graph writes it."""
    return {"dateTime": f"{when if 'T' in when else when + 'T00:00:00'}.0000000", "timeZone": zone}


def event(ident: str = "e1", start: str = "2026-04-01T10:00:00", end: str = "2026-04-01T11:00:00", **more: Any) -> Raw:
    return {
        "@odata.type": "#microsoft.graph.event",
        "@odata.etag": 'W/"1"',
        "id": ident,
        "type": "singleInstance",
        "seriesMasterId": None,
        "start": at(start),
        "end": at(end),
        "isAllDay": "T" not in start,
        "isCancelled": False,
        "showAs": "busy",
        "categories": [],
        "sensitivity": "normal",
        "originalStartTimeZone": "UTC",
        "subject": SECRET,
        "body": {"contentType": "html", "content": SECRET},
        "attendees": [{"type": "required", "emailAddress": {"name": "Lyn", "address": "lyn@example.com"}}],
        **more,
    }


def master(ident: str = "s1", start: str = "2026-04-01T10:00:00", end: str = "2026-04-01T11:00:00", **more: Any) -> Raw:
    return event(ident, start, end, type="seriesMaster", **more)


def occurrence(number: int, start: str, end: str, of: str = "s1", **more: Any) -> Raw:
    return event(f"{of}-{number}", start, end, **{"type": "occurrence", "seriesMasterId": of, **more})


def days(*which: int, of: str = "s1", **more: Any) -> list[Raw]:
    """Occurrences from ten to eleven on these days of April."""
    return [occurrence(day, f"2026-04-{day:02}T10:00:00", f"2026-04-{day:02}T11:00:00", of, **more) for day in which]


def bare(raw: Raw) -> Raw:
    return {name: raw[name] for name in ("id", "type", "seriesMasterId", "start", "end")}


@dataclass(slots=True)
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Office:
    """A stand-in that is served, with one calendar."""

    stage: Stage
    host: GraphHost
    clock: Clock
    folder: Path

    @property
    def team(self) -> Calendar:
        return self.host.add(TEAM)

    def settings(self, **more: Any) -> Raw:
        (self.folder / "secret").write_text("canary-secret")
        settings = {
            "name": "office",
            "kind": "microsoft_calendar",
            "calendars": {"team": TEAM},
            "auth": self.auth(client_secret={"file": str(self.folder / "secret")}),
            "url": self.stage.url + API,
        }
        return settings | more

    def auth(self, **proof: Any) -> Raw:
        return {"tenant": TENANT, "client_id": CLIENT, "login": self.stage.url, **proof}

    def connect(self, **more: Any) -> MicrosoftCalendarConnector:
        return MicrosoftCalendarConnector.connect(
            MicrosoftCalendarSettings.model_validate(self.settings(**more)), self.clock
        )


@pytest.fixture
def office(served: Stage, tmp_path: Path) -> Iterator[Office]:
    clock = Clock()
    host = GraphHost(clock, served.url, "canary-secret", PUBLIC, THUMBPRINT)
    served.app = host.app
    found = Office(served, host, clock, tmp_path)
    _ = found.team
    yield found
    served.app = host.app


def everything(connector: MicrosoftCalendarConnector, container: str = "team") -> Mapping[str, Read]:
    (page,) = connector.changed(container, None)
    return {read.ref.id: read for read in page}


def entry(read: Read | None) -> CalendarEntry:
    assert read is not None
    assert isinstance(read.content, CalendarEntry), read.problem
    return read.content


def paths(office: Office) -> list[str]:
    """What was asked for since the last time, in short."""
    found = [asked.partition("?")[0].removeprefix(f"{API}/users/{TEAM}/") for asked in office.host.asked]
    office.host.asked.clear()
    return found


# ---- translation ----


def scope(**more: Any) -> Scope:
    settings = {
        "name": "m",
        "calendars": {"team": "x"},
        "auth": {"tenant": "example.com", "client_id": "x", "client_secret": {"env": "X"}},
        "kind": "microsoft_calendar",
    }
    return MicrosoftCalendarSettings.model_validate(settings | more).scope("team", NOON)


def read(*raws: Raw, **more: Any) -> Read | None:
    looked = scope(**more)
    parts = {part.id: part for part in (told(raw, looked) for raw in raws)}
    (series,) = {part.series for part in parts.values()}
    return read_series(series, parts, looked)


def spans(found: Read | None) -> list[str]:
    return [
        f"{each.start.isoformat()}/{each.end.isoformat()}".replace("+00:00", "Z") for each in entry(found).occurrences
    ]


ALL_DAY = {"isAllDay": True}
WEEKLY = [master(), *map(bare, days(1, 8, 15))]
TRANSLATIONS: Sequence[tuple[str, Sequence[Raw], list[str]]] = (
    ("an hour", [event()], ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z"]),
    ("as the reference shows it, without a type", [{"id": "e1", "start": at("2026-04-01T10:00:00"), "end": at("2026-04-01T11:00:00")}], ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z"]),
    ("no time at all", [event(end="2026-04-01T10:00:00")], ["2026-04-01T10:00:00Z/2026-04-01T10:00:00Z"]),
    ("a zone of Windows", [event(start="2026-04-01T10:00:00", end="2026-04-01T11:00:00") | {"start": at("2026-04-01T10:00:00", PACIFIC), "end": at("2026-04-01T11:00:00", PACIFIC)}], ["2026-04-01T17:00:00Z/2026-04-01T18:00:00Z"]),
    ("a zone of tzdata", [event() | {"start": at("2026-04-01T10:00:00", "Europe/Berlin")}], ["2026-04-01T08:00:00Z/2026-04-01T11:00:00Z"]),
    ("all day", [event("e1", "2026-04-01", "2026-04-03")], ["2026-04-01/2026-04-03"]),
    ("all day, and no longer", [event("e1", "2026-04-01", "2026-04-01")], ["2026-04-01/2026-04-02"]),
    ("all day in a zone that it names", [event(**ALL_DAY) | {"start": at("2026-04-01", PACIFIC), "end": at("2026-04-02", PACIFIC)}], ["2026-04-01/2026-04-02"]),
    ("all day in Berlin, told in UTC", [event("e1", "2026-03-31T22:00:00", "2026-04-01T22:00:00", originalStartTimeZone="W. Europe Standard Time", **ALL_DAY)], ["2026-04-01/2026-04-02"]),
    ("all day over a change of the clock", [event("e1", "2026-03-28T23:00:00", "2026-03-29T22:00:00", originalStartTimeZone="W. Europe Standard Time", **ALL_DAY)], ["2026-03-29/2026-03-30"]),
    ("a series, whose occurrences say no more than when they are", WEEKLY, ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z", "2026-04-08T10:00:00Z/2026-04-08T11:00:00Z", "2026-04-15T10:00:00Z/2026-04-15T11:00:00Z"]),
    ("days that recur, by what the series says", [master("s1", "2026-04-01", "2026-04-02"), bare(occurrence(1, "2026-04-01", "2026-04-02")), bare(occurrence(2, "2026-04-08", "2026-04-09"))], ["2026-04-01/2026-04-02", "2026-04-08/2026-04-09"]),
    ("an exception for days in a series of hours", [*WEEKLY[:2], occurrence(9, "2026-04-09", "2026-04-10", type="exception")], ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z", "2026-04-09/2026-04-10"]),
    ("one is cancelled", [*WEEKLY[:3], occurrence(9, "2026-04-09T10:00:00", "2026-04-09T11:00:00", type="exception", isCancelled=True)], ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z", "2026-04-08T10:00:00Z/2026-04-08T11:00:00Z"]),
    ("the series begins before the window", [master("s1", "2019-04-01T10:00:00", "2019-04-01T11:00:00"), bare(days(1)[0])], ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z"]),
    ("a series that was not told", days(1, 8), ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z", "2026-04-08T10:00:00Z/2026-04-08T11:00:00Z"]),
    ("into the window", [event("e1", "2024-12-31T23:00:00", "2025-01-01T01:00:00")], ["2024-12-31T23:00:00Z/2025-01-01T01:00:00Z"]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("raws", "expected"), [each[1:] for each in TRANSLATIONS], ids=[each[0] for each in TRANSLATIONS]
)
def test_events_are_translated(raws: Sequence[Raw], expected: list[str]) -> None:
    assert spans(read(*raws)) == expected
    assert spans(read(*reversed(raws))) == expected, "the order in which they were told means nothing"


@pytest.mark.parametrize(
    "raws",
    [
        [event(isCancelled=True)],
        [master(isCancelled=True), *days(1, 8)],
        [master(), *days(1, 8, isCancelled=True)],
        [master()],
        [event("e1", "2024-12-31T22:00:00", "2025-01-01T00:00:00")],
        [event("e1", "2029-01-01T00:00:00", "2029-01-01T01:00:00")],
        [event("e1", "2029-01-01", "2029-01-02")],
    ],
)
def test_what_does_not_happen_in_the_window_is_no_entry(raws: Sequence[Raw]) -> None:
    assert read(*raws) is None


def test_it_is_the_entry_that_a_feed_would_make_of_it() -> None:
    """One way from an entry to an event: what it means, what it is called, and when."""
    feed = (
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:s1\r\nDTSTART;TZID=Europe/Berlin:20261020T100000\r\n"
        "DTEND;TZID=Europe/Berlin:20261020T113000\r\nRRULE:FREQ=WEEKLY;COUNT=4\r\nEXDATE;TZID=Europe/Berlin:20261027T100000\r\n"
        "SUMMARY:Release review\r\nCATEGORIES:Deadlines\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nUID:s1\r\n"
        "RECURRENCE-ID;TZID=Europe/Berlin:20261103T100000\r\nDTSTART:20261104T090000Z\r\nDTEND:20261104T093000Z\r\nEND:VEVENT\r\n"
        "END:VCALENDAR\r\n"
    )
    looked = scope(titles=True, meaning={"team": [{"title": "release*", "category": "deadlines", "means": "deadline"}]})
    (by_feed,) = read_feed(feed.encode(), looked)
    words = {"subject": "Release review", "categories": ["Deadlines"]}
    raws = [
        master("s1", "2026-10-20T08:00:00", "2026-10-20T09:30:00", **words),
        bare(occurrence(1, "2026-10-20T08:00:00", "2026-10-20T09:30:00")),
        bare(occurrence(4, "2026-11-10T09:00:00", "2026-11-10T10:30:00")),
        occurrence(3, "2026-11-04T09:00:00", "2026-11-04T09:30:00", type="exception", subject="Moved"),
    ]
    parts = {part.id: part for part in (told(raw, looked) for raw in raws)}
    by_graph = read_series("s1", parts, looked)
    assert by_graph == by_feed
    assert entry(by_graph).meaning == Meaning.deadline
    assert entry(by_graph).recurring


HOSTILE: Sequence[tuple[str, Raw, str]] = (
    ("no start", event() | {"start": None}, "does not say when"),
    ("no time", event() | {"start": at("2026-13-01T10:00:00")}, "start is no time"),
    ("a number for a time", event() | {"end": {"dateTime": 7}}, "end"),
    ("an unknown zone", event() | {"start": at("2026-04-01T10:00:00", "Mars/Olympus")}, "zone"),
    ("a zone that is a path", event() | {"start": at("2026-04-01T10:00:00", "../../etc/passwd")}, "zone"),
    ("before all time", event() | {"start": {"dateTime": "0001-01-01T00:00:00+10:00"}}, "before year 1"),
    ("it ends before it begins", event(end="2026-04-01T09:00:00"), "ends before"),
    ("all day, from nine on", event(**ALL_DAY, start="2026-04-01T09:00:00"), "not at midnight"),
    ("all day, in nobody's zone", event(**ALL_DAY, originalStartTimeZone="tzone://Microsoft/Custom"), "zone"),
    ("a number for a list", event(categories=7), "categories"),
    ("shown in two lines", event(showAs="x\r\ny"), "showAs"),
    ("no text", event(isAllDay="yes"), "isAllDay"),
)  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE])
def test_what_cannot_be_read_says_why_and_nothing_of_it(raw: Raw, reason: str) -> None:
    found = read(raw)
    assert found is not None
    assert found.ref.id == "team/e1"
    assert found.content is None
    assert reason in (found.problem or "")
    assert "\n" not in (found.problem or "")
    assert SECRET not in (found.problem or "")
    assert not found.raw


def test_ids_that_are_too_long_or_odd_become_digests() -> None:
    for ident in ("e" * (MAX_UID + 1), "a/b", "ü", "x\r\nUID:y", "\ud800"):
        found = read(event(ident))
        assert found is not None
        assert found.ref.id.startswith("team/~")
        assert len(found.ref.id) == len("team/~") + 32
    plain = read(event("AAMkAGI1AAAt9AHjAAA="))
    assert plain is not None
    assert plain.ref.id == "team/AAMkAGI1AAAt9AHjAAA="


def test_more_occurrences_than_are_kept_are_cut() -> None:
    start = datetime(2025, 1, 1)  # noqa: DTZ001
    times = [(start + timedelta(hours=n)).isoformat() for n in range(MAX_OCCURRENCES + 2)]
    found = entry(read(master(), *(bare(occurrence(n, when, times[n + 1])) for n, when in enumerate(times[:-1]))))
    assert len(found.occurrences) == MAX_OCCURRENCES
    assert found.occurrences_cut
    assert found.occurrences[0].start == start.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("shown", "busy"),
    [
        ("busy", True),
        ("oof", True),
        ("unknown", True),
        (None, True),
        ("free", False),
        ("tentative", False),
        ("workingElsewhere", False),
    ],
)
def test_how_it_is_shown_says_whether_it_takes_time(shown: str | None, busy: bool) -> None:
    assert [each.busy for each in entry(read(event(showAs=shown))).occurrences] == [busy]
    series = entry(read(master(showAs=shown), *map(bare, days(1, 8)), *days(15, showAs="busy")))
    assert [each.busy for each in series.occurrences] == [busy, busy, True]


def test_how_it_is_shown_and_filed_says_what_it_means() -> None:
    patterns = {
        "meaning": {
            "team": [
                {"category": "oof", "means": "time_off"},
                {"category": "release", "means": "milestone"},
                {"category": "free", "means": "nothing"},
            ]
        }
    }
    assert entry(read(event(showAs="oof"), **patterns)).meaning == Meaning.time_off
    assert entry(read(event(categories=["Red", "Release"]), **patterns)).meaning == Meaning.milestone
    assert read(event(showAs="free"), **patterns) is None
    assert entry(read(event(showAs="free"))).meaning == Meaning.meeting, (
        "unless somebody says so it is an entry as any other"
    )
    for shown in ("busy", "tentative", "workingElsewhere", "unknown", None):
        assert entry(read(event(showAs=shown), **patterns)).meaning == Meaning.meeting
    assert entry(read(master(showAs="oof"), *map(bare, days(1, 8)), **patterns)).meaning == Meaning.time_off


@pytest.mark.parametrize("sensitivity", ["private", "confidential"])
def test_what_is_private_has_no_title(sensitivity: str) -> None:
    assert entry(read(event(sensitivity=sensitivity), titles=True)).title is None
    by_title = {"meaning": {"team": [{"title": "tuna*", "means": "deadline"}]}}
    assert entry(read(event(sensitivity=sensitivity), **by_title)).meaning == Meaning.meeting
    assert entry(read(event(), **by_title)).meaning == Meaning.deadline
    assert entry(read(event(sensitivity="personal"), titles=True)).title == SECRET


def test_titles_have_their_length() -> None:
    assert entry(read(event(subject="x" * (MAX_TITLE + 1)), titles=True)).title == "x" * MAX_TITLE
    assert entry(read(event(subject=None), titles=True)).title is None
    assert entry(read(event(subject="\ud800x"), titles=True)).title == "?x", "half a character"


# ---- what changed ----


def test_only_what_changed_is_read_again(office: Office) -> None:
    office.host.page = 2
    for number in range(5):
        office.team.put(event(f"e{number}"))
    connector = office.connect()
    reads = everything(connector)
    assert len(reads) == 5
    first, *more = office.host.asked
    assert (
        first
        == f"{API}/users/{TEAM}/calendarView/delta?startDateTime=2025-01-01T00:00:00Z&endDateTime=2029-01-01T00:00:00Z"
    )
    assert [each.partition("?")[2].partition("=")[0] for each in more] == ["$skiptoken", "$skiptoken"]
    assert set(office.host.preferred) == {'outlook.timezone="UTC", odata.maxpagesize=200'}
    office.host.asked.clear()
    office.team.put(event("e3", "2026-05-01", "2026-05-02"))
    office.team.delete("e4")
    again = everything(connector)
    assert [each.partition("?")[2].partition("=")[0] for each in office.host.asked] == ["$deltatoken"]
    assert again.keys() == reads.keys() - {"team/e4"}
    assert spans(again["team/e3"]) == ["2026-05-01/2026-05-02"]
    assert all(again[f"team/e{number}"] is reads[f"team/e{number}"] for number in (0, 1, 2)), (
        "what did not change was read again"
    )
    office.host.asked.clear()
    everything(connector)
    assert len(office.host.asked) == 1, "a poll in which nothing happened is one request"


def test_what_leaves_the_window_is_gone_and_may_come_back(office: Office) -> None:
    office.team.put(event("e1"))
    connector = office.connect()
    assert everything(connector).keys() == {"team/e1"}
    office.team.put(event("e1", "2031-01-01", "2031-01-02"))
    office.team.put(event("e2", "2031-01-01", "2031-01-02"))
    assert everything(connector) == {}
    office.team.put(event("e1", "2026-05-01", "2026-05-02"))
    assert spans(everything(connector)["team/e1"]) == ["2026-05-01/2026-05-02"]


def test_an_event_that_was_told_without_its_times_is_asked_for(office: Office) -> None:
    office.team.put(event("e1"))
    connector = office.connect()
    everything(connector), paths(office)
    office.team.put(event("e1", "2026-05-01", "2026-05-02"))
    half = {"value": [{"id": "e1", "start": None}], "@odata.deltaLink": f"{office.stage.url}{API}/x"}
    office.host.instead.append(lambda _: JSONResponse(half))
    assert spans(everything(connector)["team/e1"]) == ["2026-05-01/2026-05-02"]
    assert paths(office) == ["calendarView/delta", "events/e1"]


def test_of_a_series_that_changed_the_occurrences_are_asked_for(office: Office) -> None:
    office.team.put(master(), days(1, 8, 15))
    connector = office.connect()
    assert len(spans(everything(connector)["team/s1"])) == 3
    assert paths(office) == ["calendarView/delta"], "a whole list says all of it"
    del office.team.events["s1-8"]  # of which no list of changes tells
    office.team.change(master(subject="changed"))
    assert spans(everything(connector)["team/s1"]) == [
        "2026-04-01T10:00:00Z/2026-04-01T11:00:00Z",
        "2026-04-15T10:00:00Z/2026-04-15T11:00:00Z",
    ]
    assert paths(office) == ["calendarView/delta", "events/s1", "events/s1/instances"]
    assert everything(office.connect()) == everything(connector), "as a fresh reading"
    office.team.change(occurrence(15, "2026-05-01", "2026-05-02", type="exception"))
    assert spans(everything(connector)["team/s1"])[-1] == "2026-05-01/2026-05-02"
    office.team.change(occurrence(15, "2026-05-01", "2026-05-02", type="exception", isCancelled=True))
    assert len(spans(everything(connector)["team/s1"])) == 1
    office.team.delete("s1")
    assert everything(connector) == {}


def test_a_series_that_began_before_the_window_goes_on_though_it_is_told_as_removed(office: Office) -> None:
    old = master("s1", "2019-04-01T10:00:00", "2019-04-01T11:00:00")
    office.team.put(old, days(1, 8))
    connector = office.connect()
    everything(connector)
    office.team.put(old, days(1, 8, 15))
    assert len(spans(everything(connector)["team/s1"])) == 3
    assert any("@removed" in each for each in office.host.answered[1]["value"]), "or nothing was told as removed"
    office.team.change(old)
    assert len(spans(everything(connector)["team/s1"])) == 3, "and nothing else was told"


def test_a_series_is_asked_for_where_a_whole_list_does_not_tell_it(office: Office) -> None:
    office.host.masters_told, office.host.page = False, 2
    office.team.put(master(showAs="oof"), days(1, 8, 15))
    office.team.put(event("e1"))
    connector = office.connect(meaning={"team": [{"category": "oof", "means": "time_off"}]})
    found = everything(connector)
    assert entry(found["team/s1"]).meaning == Meaning.time_off
    assert len(spans(found["team/s1"])) == 3
    assert entry(found["team/e1"]).meaning == Meaning.meeting
    assert paths(office) == [*["calendarView/delta"] * 2, "events/s1", *["events/s1/instances"] * 2]


def test_an_id_that_is_no_text_costs_only_its_event(office: Office) -> None:
    office.team.put(event("e1"))
    odd = [
        {**bare(days(1)[0]), "seriesMasterId": "\ud800"},
        {**event(), "id": None, "start": None},
        {"@removed": {}},
        7,
    ]
    page = {"value": [event("e1"), *odd], "@odata.deltaLink": f"{office.stage.url}{API}/x"}
    office.host.instead.append(lambda _: Response(json.dumps(page)))
    found = everything(office.connect())
    assert [bool(each.problem) for each in found.values()] == [False, True]
    assert "team/e1" in found


def test_a_series_may_turn_into_an_event_and_back(office: Office) -> None:
    connector = office.connect()
    for _ in range(2):
        office.team.put(master("x"), days(1, 8, of="x"))
        assert len(spans(everything(connector)["team/x"])) == 2
        office.team.put(event("x"))
        found = everything(connector)
        assert spans(found["team/x"]) == ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z"]
        assert not entry(found["team/x"]).recurring


def test_a_series_with_nothing_in_the_window_is_no_entry(office: Office) -> None:
    office.team.put(master(), days(1))
    connector = office.connect()
    assert everything(connector).keys() == {"team/s1"}
    office.team.put(master(), [])
    assert everything(connector) == everything(office.connect()) == {}


@pytest.mark.parametrize("seed", range(6))
def test_many_readings_come_to_what_a_fresh_one_finds(office: Office, seed: int) -> None:
    dice, connector = random.Random(seed), office.connect(titles=True)
    office.host.page, office.host.circles = dice.choice([1, 3, None]), seed >= 4
    for step in range(40):
        ident, day = (
            f"{dice.choice('abcd')}",
            f"{dice.choice([2023, 2026, 2027, 2031])}-0{dice.randint(1, 9)}-0{dice.randint(1, 9)}",
        )
        match dice.randint(0, 5):
            case 0:
                office.team.put(event(ident, day, f"{day}T00:00:00", subject=f"{step}"))
            case 1 | 2:
                at_hour = [
                    (f"{day}T{hour:02}:00:00", f"{day}T{hour:02}:30:00")
                    for hour in dice.sample(range(24), dice.randint(0, 4))
                ]
                parts = [
                    occurrence(n, *when, ident, type=dice.choice(["occurrence", "exception"]))
                    for n, when in enumerate(at_hour)
                ]
                office.team.put(master(ident, f"{day}T00:00:00", f"{day}T01:00:00", subject=f"{step}"), parts)
            case 3:
                office.team.delete(ident)
            case 4:
                for known in office.team.of(ident)[:1]:
                    office.team.change(
                        known | {"type": "exception", "start": at(f"{day}T00:00:00"), "end": at(f"{day}T01:00:00")}
                    )
            case _:
                office.team.oldest = office.team.number + 1
        if dice.random() < 0.7:
            assert everything(connector) == everything(office.connect(titles=True))
    assert everything(connector) == everything(office.connect(titles=True))


@pytest.mark.parametrize(
    "lost",
    [
        refusal(410, "SyncStateNotFound"),
        refusal(410, "syncStateInvalid"),
        Response(b"", 410, {"Location": "https://example.com/"}),
        refusal(400, "SyncStateNotFound"),
        refusal(404, "syncStateNotFound"),
        refusal(400, "BadRequest"),
    ],
)  # fmt: skip
def test_a_place_that_is_lost_is_found_by_reading_all(office: Office, lost: Response) -> None:
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    everything(connector)
    del office.team.events["e1"]  # its deletion is never told
    office.host.asked.clear()
    office.host.instead.append(lambda _: lost)
    assert everything(connector).keys() == {"team/e2"}
    assert ["$deltatoken" in asked for asked in office.host.asked] == [True, False]


def test_a_place_that_the_stand_in_forgot_is_found_too(office: Office) -> None:
    office.team.put(event("e1"))
    connector = office.connect()
    everything(connector)
    office.team.oldest = 99
    del office.team.events["e1"]
    assert everything(connector) == {}


def test_a_place_that_is_lost_among_the_pages_begins_anew(office: Office) -> None:
    office.host.page = 1
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    office.host.instead += [None, lambda _: refusal(410, "SyncStateNotFound")]
    with pytest.raises(Retryable, match="begins anew"):
        everything(connector)
    assert everything(connector).keys() == {"team/e1", "team/e2"}


def test_half_a_change_counts_for_nothing(office: Office) -> None:
    office.host.page = 1
    office.team.put(event("e1"))
    connector = office.connect()
    before = everything(connector)
    office.team.put(event("e1", "2026-05-01", "2026-05-02"))
    office.team.put(event("e2"))
    office.host.instead += [None, lambda _: refusal(503, "ServiceUnavailable")]
    with pytest.raises(Retryable):
        everything(connector)
    assert connector._kept["team"].found(scope()) == {read.ref: read for read in before.values()}
    assert spans(everything(connector)["team/e1"]) == ["2026-05-01/2026-05-02"]
    assert everything(connector).keys() == {"team/e1", "team/e2"}


def test_a_new_year_reads_another_view(office: Office) -> None:
    office.team.put(event("e1", "2029-06-01", "2029-06-02"))
    connector = office.connect()
    assert everything(connector) == {}
    office.clock.now += timedelta(days=365)
    assert spans(everything(connector)["team/e1"]) == ["2029-06-01/2029-06-02"]
    assert "startDateTime=2026-01-01T00:00:00Z&endDateTime=2030-01-01T00:00:00Z" in office.host.asked[-1]
    assert (window_at(office.clock.now).end - window_at(office.clock.now).start).days < 1825


def test_a_sweep_reads_all_and_heals(office: Office) -> None:
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    everything(connector)
    del office.team.events["e1"]
    assert everything(connector).keys() == {"team/e1", "team/e2"}
    ((mark,),) = connector.sweep("team")
    assert mark.ref.id == "team/e2"
    assert "token" not in office.host.asked[-1]
    assert everything(connector).keys() == {"team/e2"}


def test_a_bad_event_costs_only_itself_and_is_mended(office: Office) -> None:
    office.team.put(event("e1"))
    office.team.put(event("e2", categories=7))
    office.team.put(event("e3", showAs=""))
    office.team.put(master(), [*days(1), occurrence(2, "never", "never", showAs=7)])
    connector = office.connect(titles=True)
    for again in range(2):
        assert {ident: bool(read.problem) for ident, read in everything(connector).items()} == {
            "team/e1": False,
            "team/e2": True,
            "team/e3": True,
            "team/s1": True,
        }, again
    for each in ("e2", "e3"):
        office.team.put(event(each))
    office.team.put(master(), days(1))
    assert not [read for read in everything(connector).values() if read.problem]


# ---- lists without an end, too long, or elsewhere ----


def test_a_calendar_has_its_bound(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microsoft_calendar, "MAX_EVENTS", 3)
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    everything(connector)
    office.team.put(master(), days(1))
    for each in (connector, office.connect()):
        with pytest.raises(Withheld, match="more than 3 events within the window; keep"):
            everything(each)


def test_five_thousand_events_come_in_pages(office: Office) -> None:
    for number in range(4000):
        office.team.put(event(f"e{number}"))
    office.team.put(master("daily", "2025-01-01T09:00:00", "2025-01-01T09:15:00"), [
        occurrence(n, (when := datetime(2025, 1, 1, 9) + timedelta(days=n)).isoformat(), (when + timedelta(minutes=15)).isoformat(), "daily")  # noqa: DTZ001
        for n in range(1000)
    ])  # fmt: skip
    connector = office.connect()
    found = everything(connector)
    assert len(found) == 4001
    assert len(entry(found["team/daily"]).occurrences) == 1000
    assert len(office.host.asked) == 26
    office.team.put(event("e77", "2026-05-01", "2026-05-02"))
    again = everything(connector)
    assert len(office.host.asked) == 27
    assert [ident for ident, each in again.items() if each is not found[ident]] == ["team/e77"]


def test_pages_without_end_are_left(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microsoft_calendar, "MOST_PAGES", 3)
    numbers = iter(range(99))

    def another(_: Request) -> Response:
        number = next(numbers)
        link = f"{office.stage.url}{API}/users/{TEAM}/calendarView/delta?$skiptoken=x{number}"
        return JSONResponse({"value": [event(f"e{number}")], "@odata.nextLink": link})

    office.host.instead += [another] * 9
    with pytest.raises(Retryable, match="not all pages"):
        everything(office.connect())
    assert len(office.host.asked) == 3


@pytest.mark.parametrize("titles", [False, True])
def test_a_list_that_goes_round_in_a_circle_is_replaced_by_a_plain_one(office: Office, titles: bool) -> None:
    """msgraph-sdk-dotnet issue 3082: other addresses, the same page for ever."""
    office.host.circles, office.host.page = True, 2
    office.team.put(master(showAs="oof"), days(1, 8))
    office.team.put(event("e1"))
    connector = office.connect(titles=titles)
    found = everything(connector)
    assert found.keys() == {"team/e1", "team/s1"}
    assert entry(found["team/s1"]).recurring
    assert paths(office) == [*["calendarView/delta"] * (1 + microsoft_calendar.MOST_IDLE), *["calendarView"] * 2]
    office.team.put(event("e1", "2026-05-01", "2026-05-02"))
    office.team.delete("s1")
    assert {ident: spans(each) for ident, each in everything(connector).items()} == {
        "team/e1": ["2026-05-01/2026-05-02"]
    }
    asked = office.host.asked[-1]
    assert ("subject" in asked) is titles
    assert "$select=" + ",".join(FIELDS) in asked
    assert paths(office) == ["calendarView"], "and so it is from then on"


def leading_to_itself(*_: Any) -> Response:
    request: Request = _[-1]
    return JSONResponse({"value": [], "@odata.nextLink": str(request.url)})


def test_a_page_that_leads_to_itself_is_left(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.team.put(event("e1"))
    office.host.instead += [leading_to_itself] * 2
    assert everything(office.connect()).keys() == {"team/e1"}
    assert paths(office) == ["calendarView/delta", "calendarView/delta", "calendarView"]
    monkeypatch.setattr(office.host, "_answer", leading_to_itself)
    with pytest.raises(Retryable, match="circle"):
        everything(office.connect())
    assert len(paths(office)) < 6


@pytest.mark.parametrize("link", ["nextLink", "deltaLink"])
@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("http://localhost:{port}/v1.0/x", "another host"),
        ("http://127.0.0.1:1/v1.0/x", "another host"),
        ("http://127.0.0.1:{port}@example.com/", "another host"),
        ("//example.com/v1.0/x", "another host"),
        ("ftp://127.0.0.1:{port}/x", "scheme"),
        ("http://[", "no address"),
    ],
)  # fmt: skip
def test_nobody_else_is_asked_with_the_token(office: Office, link: str, to: str, says: str) -> None:
    office.team.put(event("e1"))
    port = office.stage.url.rpartition(":")[2]
    page = {"value": [event("e1")], f"@odata.{link}": to.format(port=port)}
    office.host.instead.append(lambda _: JSONResponse(page))
    connector = office.connect()
    with pytest.raises(Withheld, match=says):
        everything(connector)
    assert len(office.host.asked) == 1
    assert everything(connector).keys() == {"team/e1"}


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        office.team.put(event(f"e{number}", body={"contentType": "html", "content": "x" * 1000}))
    monkeypatch.setattr(ways, "MAX_BYTES", 150_000)
    assert len(everything(office.connect())) == 300
    assert {each.rpartition("=")[2] for each in office.host.preferred} == {"200", "20"}
    office.team.put(event("e0", body={"contentType": "html", "content": "x" * 150_000}))
    paths(office)
    assert len(everything(office.connect())) == 300
    assert paths(office)[-1] == "calendarView", "where fields can be chosen"


# ---- series at which Microsoft fails ----


def fail_at(office: Office, *idents: str, status: int = 500) -> None:
    """From now on it answers as ever, but for events of these ids."""
    usual = office.host._answer

    def answer(calendar: Calendar, rest: Sequence[str], asked: Raw, request: Request) -> Response:
        if rest[0] == "events" and rest[1] in idents:
            return refusal(status, "ErrorInternalServerError")
        return usual(calendar, rest, asked, request)

    office.host._answer = answer  # type: ignore[method-assign]


@pytest.mark.parametrize("status", [500, 400])
def test_a_series_at_which_it_fails_twice_is_a_problem_and_is_mended(office: Office, status: int) -> None:
    office.host.masters_told = False
    for of in ("s1", "s2"):
        office.team.put(master(of), days(1, 8, of=of))
    usual = office.host._answer
    fail_at(office, "s1", status=status)
    connector = office.connect()
    with pytest.raises(ConnectorError, match=str(status)):
        everything(connector)
    found = everything(connector)
    assert {ident: bool(each.problem) for ident, each in found.items()} == {"team/s1": True, "team/s2": False}
    assert found["team/s1"].problem == microsoft_calendar.BROKEN
    assert everything(connector).keys() == found.keys()
    office.host._answer = usual  # type: ignore[method-assign]
    assert len(spans(everything(connector)["team/s1"])) == 2
    paths(office)
    everything(connector)
    assert paths(office) == ["calendarView/delta"]


def test_it_is_broken_itself_if_it_fails_at_many(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microsoft_calendar, "MOST_BROKEN", 2)
    office.host.masters_told = False
    names = [f"s{number}" for number in range(5)]
    for of in names:
        office.team.put(master(of), days(1, of=of))
    fail_at(office, *names)
    connector = office.connect()
    for _ in range(4):
        with pytest.raises(Retryable, match="500"):
            everything(connector)
    assert paths(office).count("events/s0") == 4


def test_a_reading_that_takes_too_long_goes_on_with_the_rest(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.host.masters_told = False
    for of in ("s1", "s2", "s3"):
        office.team.put(master(of), days(1, of=of))
    connector = office.connect()
    ticks = iter([0, 1, 2, 3, 3, 3, 999])
    monkeypatch.setattr(microsoft_calendar, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with pytest.raises(Retryable, match="entries were not read"):
        everything(connector)
    monkeypatch.undo()
    assert connector._kept["team"].due.keys() == {"s2", "s3"}
    paths(office)
    assert len(everything(connector)) == 3
    assert paths(office).count("calendarView/delta") == 1


# ---- private by default ----


@pytest.mark.parametrize(
    ("more", "keeps"),
    [
        ({}, False),
        ({"meaning": {"team": [{"category": "oof", "means": "time_off"}]}}, False),
        ({"meaning": {"team": [{"title": "x*", "means": "deadline"}]}}, True),
        ({"titles": True}, True),
    ],
)
def test_titles_are_left_at_the_door_unless_somebody_wants_them(
    office: Office, more: Mapping[str, Any], keeps: bool
) -> None:
    office.host.masters_told = False
    office.team.put(event("e1"))
    office.team.put(master(), days(1, 8))
    connector = office.connect(**more)
    found = everything(connector)
    assert entry(found["team/e1"]).title == (SECRET if "titles" in more else None)
    assert (SECRET in repr(connector._kept)) is keeps
    assert "lyn@example.com" not in repr(connector._kept)
    by_id = [asked for asked in office.host.asked if "/events/" in asked]
    assert len(by_id) == 2
    for asked in by_id:
        assert ("subject" in asked) is keeps, "what can be chosen is not even asked for"
        assert "body" not in asked
        assert "attendees" not in asked


# ---- what Microsoft answers ----


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(401, "InvalidAuthenticationToken"), Retryable, "new one"),
        (refusal(403, "ErrorAccessDenied"), Withheld, "Calendars.ReadBasic.All"),
        (Response(b"<html>", 403), Withheld, "may it read this mailbox"),
        (refusal(404, "ErrorItemNotFound"), Withheld, "no such calendar; look at calendars.team"),
        (refusal(404, "ErrorInvalidUser"), Withheld, "no such mailbox; look at calendars.team"),
        (refusal(404, "MailboxNotEnabledForRESTAPI"), Withheld, "not in Exchange Online"),
        (Response(b"", 404), Withheld, "is url the right one"),
        (refusal(400, "BadRequest"), Withheld, "400"),
        (refusal(410, "SyncStateNotFound"), Retryable, "anew"),
        (refusal(429, "ApplicationThrottled"), Retryable, "429"),
        (refusal(500, "UnknownError"), Retryable, "500"),
        (refusal(503, "ServiceUnavailable"), Retryable, "503"),
        (refusal(504, "UnknownError"), Retryable, "504"),
        (Response(b'{"value": ['), Retryable, "no whole JSON"),
        (Response(b"<html>sign in</html>"), Retryable, "no whole JSON"),
        (Response(b"[" * 100_000), Retryable, "no whole JSON"),
        (Response(b"{}"), Retryable, "not as documented"),
        (Response(b'{"value": []}'), Retryable, "ends without a place"),
        (Response(b'{"value": {}}'), Retryable, "not as documented"),
        (Response(b'{"value": [], "@odata.nextLink": 7}'), Retryable, "not as documented"),
        (Response(b"[]"), Retryable, "not as documented"),
    ],
)  # fmt: skip
def test_an_answer_means_what_it_means(office: Office, answer: Response, kind: type[ConnectorError], says: str) -> None:
    office.team.put(event("e1"))
    connector = office.connect()
    office.host.instead.append(lambda _: answer)
    with pytest.raises(kind, match=says) as caught:
        everything(connector)
    assert TEAM not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert everything(connector).keys() == {"team/e1"}, "and the next reading goes on"


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_as_long_as_it_is_asked_to(office: Office, status: int) -> None:
    office.host.instead.append(lambda _: refusal(status, "TooManyRequests", {"Retry-After": "17"}))
    with pytest.raises(Retryable) as caught:
        everything(office.connect())
    assert caught.value.after == 17


def test_what_cannot_be_deleted_by_half_an_answer_is_not(office: Office) -> None:
    """An answer without our place, or of a proxy, says nothing of what is there."""
    office.team.put(event("e1"))
    connector = office.connect()
    everything(connector)
    for body in (b"{}", b'{"value": []}', b'{"error": {}}'):
        office.host.instead.append(lambda _, body=body: Response(body))
        with pytest.raises(Retryable):
            list(connector.sweep("team"))
    assert everything(connector).keys() == {"team/e1"}
    office.host.circles = True
    list(connector.sweep("team"))
    paths(office)
    for body in (b"{}", b'{"error": {}}'):
        office.host.instead.append(lambda _, body=body: Response(body))
        with pytest.raises(Retryable):
            list(connector.sweep("team"))
    assert paths(office) == ["calendarView"] * 2
    assert everything(connector).keys() == {"team/e1"}


def test_a_calendar_that_nobody_named_or_has_says_so(office: Office) -> None:
    connector = office.connect(calendars={"team": TEAM, "away": "away@example.com", "other": f"{TEAM}/AAMkAGI1="})
    away, other, nobody = connector.check(["team", "away", "other", "nobody"])
    assert "no such mailbox" in away
    assert "calendars.away" in away
    assert "example.com" not in away
    assert "no such calendar" in other
    assert "name it under calendars" in nobody


def test_another_calendar_of_a_mailbox_is_read_by_its_id(office: Office) -> None:
    other = office.host.add(f"{TEAM}/AAMkAGI1=")
    other.put(event("e1"))
    other.put(master(), days(1, 8))
    office.team.put(event("e2"))
    connector = office.connect(calendars={"team": TEAM, "other": f"{TEAM}/AAMkAGI1="})
    assert everything(connector, "other").keys() == {"other/e1", "other/s1"}
    other.put(master(), days(1))
    assert len(spans(everything(connector, "other")["other/s1"])) == 1
    assert everything(connector).keys() == {"team/e2"}
    assert [
        each
        for each in office.host.asked
        if each.startswith(f"{API}/users/{TEAM}/calendars/AAMkAGI1=/events/s1/instances?")
    ]


# ---- tokens ----


def test_a_token_serves_until_it_ends_and_is_forgotten_when_it_is_refused(office: Office) -> None:
    connector = office.connect()
    everything(connector), everything(connector)
    assert len(office.host.tokens) == 1
    office.clock.now += timedelta(minutes=56)
    everything(connector)
    assert len(office.host.tokens) == 2
    office.host.tokens.clear()
    with pytest.raises(Retryable):
        everything(connector)
    everything(connector)
    assert len(office.host.tokens) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_certificate_proves_it_too(office: Office, order: int) -> None:
    office.host.secret = ""
    begin = CERTIFICATE.index("-----BEGIN PRIVATE")
    (office.folder / "app.pem").write_text("".join((CERTIFICATE[:begin], CERTIFICATE[begin:])[::order]))
    assert everything(office.connect(auth=office.auth(certificate={"file": office.folder / "app.pem"}))) == {}


def test_a_certificate_of_somebody_else_is_refused(office: Office) -> None:
    strange, _, _ = new_certificate()
    (office.folder / "app.pem").write_text(strange)
    connector = office.connect(auth=office.auth(certificate={"file": office.folder / "app.pem"}))
    with pytest.raises(Fatal, match=r"invalid_client.*uploaded to it") as caught:
        everything(connector)
    assert strange.splitlines()[1] not in repr(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "canary", CERTIFICATE[:400], CERTIFICATE[CERTIFICATE.index("-----BEGIN PRIVATE") :], CERTIFICATE[:-300]],
)
def test_a_certificate_that_is_none_is_not_shown(office: Office, text: str) -> None:
    (office.folder / "bad").write_text(text)
    connector = office.connect(auth=office.auth(certificate={"file": office.folder / "bad"}))
    with pytest.raises(Fatal, match=r"auth\.certificate holds no") as caught:
        everything(connector)
    told_by = repr(caught.value)
    assert "canary" not in told_by
    assert CERTIFICATE.splitlines()[1] not in told_by


@pytest.mark.parametrize(
    "wrong", [{"client_id": "another"}, {"tenant": "example.com"}, {"client_secret": {"env": "WRONG"}}]
)
def test_an_application_that_is_not_known_is_told_what_to_look_at(
    office: Office, wrong: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "canary-wrong")
    (office.folder / "secret").write_text("canary-secret")
    auth = office.auth(client_secret={"file": office.folder / "secret"}) | wrong
    connector = office.connect(auth=auth)
    with pytest.raises(ConnectorError) as caught:
        everything(connector)
    assert isinstance(caught.value, Fatal) or "tenant" in wrong
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Response("slowly", 429, {"Retry-After": "7"}), Retryable),
        (Response("later", 503), Retryable),
        (Response("elsewhere", 302, {"Location": "https://example.com/"}), Retryable),
        (Response('{"access_token": "canary-tok'), Retryable),
        (JSONResponse({"access_token": "canary token", "expires_in": 60}), Fatal),
        (JSONResponse({"error": "unauthorized_client", "error_description": "canary"}, 400), Fatal),
        (Response("canary", 401), Fatal),
    ],
)  # fmt: skip
def test_a_token_that_is_not_given(office: Office, answer: Response, kind: type[ConnectorError]) -> None:
    connector = office.connect()
    office.host.untold.append(lambda: answer)
    with pytest.raises(ConnectorError) as caught:
        everything(connector)
    assert type(caught.value) is kind
    assert "canary" not in str(caught.value)
    assert getattr(caught.value, "after", None) == (7 if answer.status_code == 429 else None)
    assert everything(connector) == {}


AUTH = {"tenant": "example.com", "client_id": "x"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"calendars": {}}, {"calendars": {"a/b": "x"}}, {"calendars": {"a": "x y"}}, {"calendars": {"a": "x/y/z"}}, {"calendars": {"a": "x/.."}},
        {"url": "ftp://example.com"}, {"url": "https://u:p@example.com"}, {"auth": {}}, {"auth": AUTH},
        {"auth": {**AUTH, "client_secret": {"env": "X"}, "certificate": {"env": "X"}}},
        {"auth": {**AUTH, "client_secret": {"env": "X"}, "tenant": "common"}},
        {"auth": {**AUTH, "client_secret": {"env": "X"}, "tenant": "a/b"}},
        {"auth": {**AUTH, "client_secret": {"env": "X"}, "login": "https://u:p@example.com"}},
        {"auth": {**AUTH, "client_secret": "plain"}},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        scope(**wrong)


# ---- what else rests on it ----


def test_it_can_be_previewed(office: Office) -> None:
    office.team.put(event("e1", "2026-03-03", "2026-03-04", showAs="oof"))
    connector = office.connect(meaning={"team": [{"category": "oof", "means": "time_off"}]})
    assert isinstance(connector, Calendars)
    found = preview(connector, ["team"], NOON.date(), 7, scope().zone)
    assert [(day.day, day.means) for day in found.days] == [(date(2026, 3, 3), "time_off")]


def test_the_command_previews_calendars_of_no_project_too(office: Office) -> None:
    office.clock.now = datetime.now(UTC) + timedelta(minutes=1)  # the command has a clock of its own
    tomorrow = office.clock.now.date() + timedelta(days=1)
    office.team.put(event("e1", tomorrow.isoformat(), (tomorrow + timedelta(days=1)).isoformat()))
    source = office.settings(calendars={"team": TEAM, "deadlines": TEAM})
    project = {"key": "apollo", "leader": "a@example.com", "deadline": "2027-03-31", "from": {"office": ["team"]}}
    config = office.folder / "pmsync.yaml"
    config.write_text(json.dumps({"sources": [source], "projects": [project]}))
    asked = ["--config", str(config), "calendar", "preview", "office", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "pmsync", *asked], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert SECRET not in run.stdout
    assert [(day["container"], day["means"]) for day in json.loads(run.stdout)["days"]] == [
        ("deadlines", "deadline"),
        ("team", "meeting"),
    ]


# ---- held against what Microsoft documents ----


def documented(name: str) -> Any:
    path = DOCUMENTED / name
    if not path.exists():
        pytest.skip(f"Microsoft's documented answers are not here (shared/data/msgraph/{name})")
    return json.loads(path.read_text())


def test_the_documented_rounds_are_read(office: Office) -> None:
    rounds = documented("delta-round-documented.json")
    office.clock.now = datetime(2016, 12, 5, tzinfo=UTC)
    for each in rounds:
        here = f"{office.stage.url}{API}/users/{TEAM}"
        body = json.dumps(each["response"]).replace("https://graph.microsoft.com/v1.0/me", here)
        office.host.instead.append(lambda _, body=body: Response(body, media_type="application/json"))
    connector = office.connect(titles=True)
    first = everything(connector)
    assert sorted(entry(each).title or "" for each in first.values()) == [
        "Get food",
        "Pick up car",
        "Plan shopping list",
        "Prepare food",
        "Rest!",
    ]
    assert spans(first["team/AAMkADNVxRAAA="]) == ["2016-12-09T20:30:00Z/2016-12-09T22:00:00Z"]
    again = everything(connector)
    assert again.keys() - first.keys() == {"team/AAMkADj1HvAAA="}
    assert first.keys() <= again.keys(), "what is told as removed was never known here"
    assert [asked.partition("?")[2] for asked in office.host.asked[1:]] == [
        each["request"].partition("?")[2] for each in rounds[1:]
    ]


def test_the_documented_event_is_read() -> None:
    raw = documented("event-single-documented.json")
    looked = Scope("team", Meaning.meeting, window_at(datetime(2017, 1, 1, tzinfo=UTC)), ZoneInfo("UTC"), titles=True)
    part = told(raw, looked)
    assert is_whole(part.id, {part.id: part})
    found = read_series(part.id, {part.id: part}, looked)
    assert entry(found).title == "Let's go brunch"
    assert spans(found) == ["2017-04-15T18:00:00Z/2017-04-15T19:00:00Z"]


def test_the_documented_series_happens_when_it_is_said_to() -> None:
    """Noon there, every Monday from 4 September to the end of the year, in a zone by its Windows name."""
    raw = documented("recurring-event-documented.json")["request"]
    zone, looked = (
        ZoneInfo("America/Los_Angeles"),
        Scope("team", Meaning.meeting, window_at(datetime(2017, 1, 1, tzinfo=UTC)), ZoneInfo("UTC")),
    )
    mondays = [date(2017, 9, 4) + timedelta(weeks=week) for week in range(17)]
    name = raw["start"]["timeZone"]
    raws = [
        {"id": "s", "type": "seriesMaster", "seriesMasterId": None, **raw},
        *({"id": f"{day}", "type": "occurrence", "seriesMasterId": "s", "start": at(f"{day}T12:00:00", name), "end": at(f"{day}T14:00:00", name)} for day in mondays),
    ]  # fmt: skip
    found = entry(read_series("s", {each["id"]: told(each, looked) for each in raws}, looked))
    assert [each.start for each in found.occurrences] == [
        datetime(day.year, day.month, day.day, 12, tzinfo=zone) for day in mondays
    ]
    assert {each.start.hour for each in found.occurrences if isinstance(each.start, datetime)} == {19, 20}
    assert found.recurring


def test_the_stand_in_speaks_as_the_types_say(office: Office) -> None:
    types = documented("csdl-v1.0-calendar-types.json")
    known = {each["Name"] for name in ("event", "outlookItem", "entity") for each in types[name]["properties"]}
    assert set(FIELDS) <= known
    assert "subject" in known
    assert {each["Name"] for each in types["dateTimeTimeZone"]["properties"]} == {"dateTime", "timeZone"}
    told_as = {name for raw in (event(), master(), *days(1)) for name in raw if "@" not in name}
    assert told_as <= known
    members = {
        name: {each["name"] for each in types[name]["members"]}
        for name in ("freeBusyStatus", "eventType", "sensitivity")
    }
    assert members["eventType"] == {"singleInstance", "occurrence", "exception", "seriesMaster"}
    assert members["freeBusyStatus"] >= {"free", "tentative", "busy", "oof", "workingElsewhere"}
    assert members["sensitivity"] >= {"private", "confidential"}
