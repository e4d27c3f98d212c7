"""The connector of Google Calendar against its stand-in, and the translation of events."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from connectors import calendar_bounds, google_account, google_calendar, ics
from connectors.base import Calendars, ConnectorError, Fatal, Read, Retryable, Withheld
from connectors.google_calendar import FIELDS, GoogleCalendarConnector, GoogleCalendarSettings, fields
from connectors.google_entries import read_series, told
from connectors.ics import MAX_UID, Scope, feed_meter, window_at
from pmsync.core.events import CalendarEntry, Meaning
from pmsync.preview import preview
from tests.connectors.google_standin import API, ROBOT, Calendar, GoogleHost, new_key, refusal
from tests.connectors.served import Stage

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEAM = "team/one@group.calendar.google.com"
SECRET = "Tuna merger with Globex"
DISCOVERY = Path(__file__).parents[2] / "../shared/data/google-calendar/calendar.v3.discovery.json"
PRIVATE, PUBLIC = new_key()
PERSON = {"client_id": "app", "client_secret": "canary-client", "refresh_token": "canary-refresh"}
BERLIN = "Europe/Berlin"

Raw = dict[str, Any]


def at(when: str, zone: str | None = None) -> Raw:
    kind = "dateTime" if "T" in when else "date"
    return {kind: when} | ({"timeZone": zone} if zone else {})


def event(
    ident: str = "e1", start: str = "2026-04-01", end: str = "2026-04-02", zone: str | None = None, **more: Any
) -> Raw:
    return {
        "id": ident,
        "status": "confirmed",
        "start": at(start, zone),
        "end": at(end, zone),
        "summary": SECRET,
        **more,
    }


def instance(original: str, start: str, end: str, **more: Any) -> Raw:
    """An occurrence of `e1` that differs."""
    return event(f"e1_{original}", start, end, recurringEventId="e1", originalStartTime=at(original), **more)


def cancelled(original: str) -> Raw:
    when = {"recurringEventId": "e1", "originalStartTime": at(original)}
    return {"id": f"e1_{original}", "status": "cancelled", **when}


@dataclass(slots=True)
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Office:
    """A stand-in that is served, with one calendar."""

    stage: Stage
    host: GoogleHost
    clock: Clock
    folder: Path

    @property
    def team(self) -> Calendar:
        return self.host.add(TEAM)

    def connect(self, auth: Mapping[str, Any] | None = None, **more: Any) -> GoogleCalendarConnector:
        key = {
            "client_email": ROBOT,
            "private_key": PRIVATE,
            "token_uri": f"{self.stage.url}/token",
            "type": "service_account",
        }
        (self.folder / "key.json").write_text(json.dumps(key))
        settings = {
            "name": "google",
            "kind": "google_calendar",
            "calendars": {"team": TEAM},
            "auth": auth or {"service_account": {"file": self.folder / "key.json"}},
            "url": self.stage.url + API,
        }
        return GoogleCalendarConnector.connect(GoogleCalendarSettings.model_validate(settings | more), self.clock)


@pytest.fixture
def office(served: Stage, tmp_path: Path) -> Iterator[Office]:
    clock = Clock()
    host = GoogleHost(clock, PUBLIC)
    served.app = host.app
    found = Office(served, host, clock, tmp_path)
    _ = found.team
    yield found
    served.app = host.app


def everything(connector: GoogleCalendarConnector, container: str = "team") -> Mapping[str, Read]:
    (page,) = connector.changed(container, None)
    return {read.ref.id: read for read in page}


def entry(read: Read | None) -> CalendarEntry:
    assert read is not None
    assert isinstance(read.content, CalendarEntry), read.problem
    return read.content


# ---- translation ----


def scope(**more: Any) -> Scope:
    settings = {
        "name": "g",
        "calendars": {"team": "x"},
        "auth": {"service_account": {"env": "X"}},
        "kind": "google_calendar",
    }
    return GoogleCalendarSettings.model_validate(settings | more).scope("team", NOON)


def read(*raws: Raw, **more: Any) -> Read | None:
    parts = [told(raw) for raw in raws]
    assert len({part.series for part in parts}) == 1
    return read_series(parts[0].series, parts, scope(**more), feed_meter())


def spans(found: Read | None) -> list[str]:
    return [
        f"{each.start.isoformat()}/{each.end.isoformat()}".replace("+00:00", "Z") for each in entry(found).occurrences
    ]


DAILY = event(
    "e1", "2026-10-24T02:30:00+02:00", "2026-10-24T03:00:00+02:00", BERLIN, recurrence=["RRULE:FREQ=DAILY;COUNT=3"]
)
TRANSLATIONS: Sequence[tuple[str, Sequence[Raw], list[str]]] = (
    ("all day", [event()], ["2026-04-01/2026-04-02"]),
    ("an offset", [event("e1", "2026-04-01T10:00:00+02:00", "2026-04-01T11:00:00+02:00")], ["2026-04-01T08:00:00Z/2026-04-01T09:00:00Z"]),
    ("UTC, and fractions", [event("e1", "2026-04-01T10:00:00.000Z", "2026-04-01T11:00:00Z")], ["2026-04-01T10:00:00Z/2026-04-01T11:00:00Z"]),
    ("a zone alone", [event("e1", "2026-04-01T10:00:00", "2026-04-01T11:00:00", BERLIN)], ["2026-04-01T08:00:00Z/2026-04-01T09:00:00Z"]),
    ("by the clock of its zone", [DAILY], [
        "2026-10-24T00:30:00Z/2026-10-24T01:00:00Z", "2026-10-25T00:30:00Z/2026-10-25T02:00:00Z", "2026-10-26T01:30:00Z/2026-10-26T02:00:00Z",
    ]),
    ("once, in the hour that comes twice", [event("e1", "2026-10-25T02:30:00+01:00", "2026-10-25T02:45:00+01:00", BERLIN)], ["2026-10-25T01:30:00Z/2026-10-25T01:45:00Z"]),
    ("a series from the second of two equal hours: RFC 5545 (3.3.5) means the first", [
        event("e1", "2026-10-25T02:30:00+01:00", "2026-10-25T02:45:00+01:00", BERLIN, recurrence=["RRULE:FREQ=WEEKLY;COUNT=2"]),
    ], ["2026-10-25T00:30:00Z/2026-10-25T00:45:00Z", "2026-11-01T01:30:00Z/2026-11-01T01:45:00Z"]),
    ("one is cancelled in the second of two equal hours", [DAILY, cancelled("2026-10-25T02:30:00+01:00")], [
        "2026-10-24T00:30:00Z/2026-10-24T01:00:00Z", "2026-10-26T01:30:00Z/2026-10-26T02:00:00Z",
    ]),
    ("one is moved into the second of two equal hours", [DAILY, instance("2026-10-26T02:30:00+01:00", "2026-10-25T02:30:00+01:00", "2026-10-25T02:45:00+01:00"), cancelled("2026-10-25T02:30:00+02:00")], [
        "2026-10-24T00:30:00Z/2026-10-24T01:00:00Z", "2026-10-25T01:30:00Z/2026-10-25T01:45:00Z",
    ]),
    ("one is cancelled", [DAILY, cancelled("2026-10-24T02:30:00+02:00")], ["2026-10-25T00:30:00Z/2026-10-25T02:00:00Z", "2026-10-26T01:30:00Z/2026-10-26T02:00:00Z"]),
    ("one is moved", [DAILY, instance("2026-10-26T02:30:00+01:00", "2026-11-02T08:00:00Z", "2026-11-02T09:00:00Z"), cancelled("2026-10-25T02:30:00+02:00")], [
        "2026-10-24T00:30:00Z/2026-10-24T01:00:00Z", "2026-11-02T08:00:00Z/2026-11-02T09:00:00Z",
    ]),
    ("days, one moved, one left out", [
        event(recurrence=["EXDATE;VALUE=DATE:20260408", "RRULE:FREQ=WEEKLY;COUNT=3"]), instance("2026-04-15", "2026-04-17", "2026-04-18"),
    ], ["2026-04-01/2026-04-02", "2026-04-17/2026-04-18"]),
    ("dates by themselves", [event("e1", "2026-04-01T10:00:00+02:00", "2026-04-01T11:00:00+02:00", BERLIN, recurrence=["RDATE;TZID=Europe/Berlin:20260403T100000"])], [
        "2026-04-01T08:00:00Z/2026-04-01T09:00:00Z", "2026-04-03T08:00:00Z/2026-04-03T09:00:00Z",
    ]),
    ("invited to one occurrence alone", [instance("2026-04-15", "2026-04-17", "2026-04-18")], ["2026-04-17/2026-04-18"]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("raws", "expected"), [each[1:] for each in TRANSLATIONS], ids=[each[0] for each in TRANSLATIONS]
)
def test_events_are_translated(raws: Sequence[Raw], expected: list[str]) -> None:
    assert spans(read(*raws)) == expected
    assert spans(read(*reversed(raws))) == expected, "the order in which they were told means nothing"


@pytest.mark.parametrize(
    ("more", "busy"),
    [
        ({}, True),
        ({"transparency": "opaque"}, True),
        ({"transparency": "transparent"}, False),
        ({"status": "tentative"}, False),
    ],
)
def test_what_is_tentative_or_free_is_not_busy(more: dict[str, Any], busy: bool) -> None:
    assert [each.busy for each in entry(read({**event(), **more})).occurrences] == [busy]


def test_titles_are_asked_for_where_they_say_whose_an_entry_is() -> None:
    assert "summary" not in fields(scope())
    assert "summary" in fields(scope(whose={"team": [{"title": "ada*", "account": "a1"}]}))
    assert "summary" not in fields(scope(whose={"team": [{"category": "outOfOffice", "account": "a1"}]}))


HOSTILE: Sequence[tuple[str, Raw, str]] = (
    ("a line in a line", event(recurrence=["RRULE:FREQ=DAILY\r\nSUMMARY:x"]), "lines of recurrence"),
    ("a fold", event(recurrence=["RRULE:FREQ=DAILY\n ;COUNT=3"]), "lines of recurrence"),
    ("an end", event(recurrence=["END:VEVENT"]), "lines of recurrence"),
    ("no rule", event(recurrence=["RRULE:FREQ=SECONDLY"]), "FREQ"),
    ("a rule of another kind", event(recurrence=["EXRULE:FREQ=DAILY"]), "EXRULE"),
    ("an unknown zone", event("e1", "2026-04-01T10:00:00", "2026-04-01T11:00:00", "Mars/Olympus"), "zone"),
    ("a series in an unknown zone", event("e1", "2026-04-01T10:00:00Z", "2026-04-01T11:00:00Z", "Mars/Olympus", recurrence=["RRULE:FREQ=DAILY"]), "zone"),
    ("a zone that is a path", event("e1", "2026-04-01T10:00:00", "2026-04-01T11:00:00", "../../etc/passwd"), "zone"),
    ("no date", event("e1", "2026-13-01"), "DTSTART is no date"),
    ("before all time", event("e1", "0001-01-01T00:00:00+10:00"), "before year 1"),
    ("no start", {"id": "e1"}, "no start"),
    ("which occurrence", {"id": "e1_1", "recurringEventId": "e1", "start": at("2026-04-01")}, "originalStartTime"),
    ("a number for a list", event(recurrence=7), "recurrence"),
    ("a kind in two lines", event(eventType="x\r\nUID:y"), "event"),
)  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE])
def test_what_cannot_be_read_says_why_and_nothing_of_it(raw: Raw, reason: str) -> None:
    found = read(raw)
    assert found is not None
    assert found.ref.id == "team/e1"
    assert found.content is None
    assert reason in (found.problem or "")
    assert not {"passwd", "Mars", SECRET} & set((found.problem or "").replace("/", " ").split())


def test_ids_that_are_too_long_or_odd_become_digests() -> None:
    for ident in ("e" * (MAX_UID + 1), "a/b", "ü", "x\r\nUID:y", "\ud800"):
        found = read(event(ident))
        assert found is not None
        assert found.ref.id.startswith("team/~")
        assert len(found.ref.id) == len("team/~") + 32
    assert entry(read(event("e" * MAX_UID))).container == "team"


def test_titles_are_escaped() -> None:
    title = "a, b; c\\n \\ d\nEND:VEVENT\r\nRRULE:FREQ=DAILY"
    found = entry(read(event(summary=title), titles=True))
    assert found.title == "a, b; c\\n \\ d\nEND:VEVENT \nRRULE:FREQ=DAILY"
    assert not found.recurring
    assert entry(read(event(summary="\ud800x"), titles=True)).title == "?x", "half a character"


def test_what_an_event_is_for_is_its_category() -> None:
    patterns = {"meaning": {"team": [{"category": "outOfOffice", "means": "time_off"}]}}
    assert entry(read(event(eventType="outOfOffice"), **patterns)).meaning == Meaning.time_off
    assert entry(read(event(), **patterns)).meaning == Meaning.meeting
    assert read(event(eventType="workingLocation")) is None


# ---- what changed ----


def test_only_what_changed_is_read_again(office: Office) -> None:
    office.host.page = 2
    for number in range(5):
        office.team.put(event(f"e{number}"))
    connector = office.connect()
    reads = everything(connector)
    assert len(reads) == 5
    assert [sorted(asked.keys() - {"maxResults", "singleEvents", "fields"}) for asked in office.host.asked] == [
        [],
        ["pageToken"],
        ["pageToken"],
    ]
    office.host.asked.clear()
    office.team.put(event("e3", "2026-05-01", "2026-05-02"))
    office.team.cancel("e4")
    again = everything(connector)
    assert [asked["syncToken"] for asked in office.host.asked] == ["since-5"]
    assert again.keys() == reads.keys() - {"team/e4"}
    assert spans(again["team/e3"]) == ["2026-05-01/2026-05-02"]
    assert all(again[f"team/e{number}"] is reads[f"team/e{number}"] for number in (0, 1, 2)), (
        "what did not change was read again"
    )


def test_the_question_stays_the_same(office: Office) -> None:
    connector = office.connect()
    everything(connector), everything(connector)
    first, second = office.host.asked
    assert second == first | {"syncToken": "since-0"}
    assert "showDeleted" not in first, "with a token it may not be said"


def test_a_series_is_changed_by_its_exceptions_and_ends_with_them(office: Office) -> None:
    office.team.put(event("e1", recurrence=["RRULE:FREQ=DAILY;COUNT=3"]))
    connector = office.connect()
    assert len(spans(everything(connector)["team/e1"])) == 3
    office.team.put(cancelled("2026-04-02"))
    assert spans(everything(connector)["team/e1"]) == ["2026-04-01/2026-04-02", "2026-04-03/2026-04-04"]
    assert spans(everything(office.connect())["team/e1"]) == spans(everything(connector)["team/e1"]), (
        "as a fresh reading"
    )
    office.team.put(instance("2026-04-03", "2026-05-01", "2026-05-02"))
    assert spans(everything(connector)["team/e1"])[-1] == "2026-05-01/2026-05-02"
    office.team.cancel("e1")
    assert everything(connector) == {}


@pytest.mark.parametrize("lost", [410, 400])
def test_a_place_that_is_lost_is_found_by_reading_all(office: Office, lost: int) -> None:
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    everything(connector)
    del office.team.events["e1"]  # its deletion is never told
    office.host.asked.clear()
    office.host.instead.append(lambda: Response(b"", lost))
    assert everything(connector).keys() == {"team/e2"}
    assert ["syncToken" in asked for asked in office.host.asked] == [True, False]


def test_half_a_change_counts_for_nothing(office: Office) -> None:
    office.host.page = 1
    office.team.put(event("e1"))
    connector = office.connect()
    before = everything(connector)
    office.team.put(event("e1", "2026-05-01", "2026-05-02"))
    office.team.put(event("e2"))
    page = office.host._listed
    broken = [lambda: page(office.team, office.host.asked[-1]), lambda: refusal(503, "backendError")]
    office.host.instead += broken
    with pytest.raises(Retryable):
        everything(connector)
    assert connector._kept["team"].found() == {read.ref: read for read in before.values()}
    assert spans(everything(connector)["team/e1"]) == ["2026-05-01/2026-05-02"]
    assert everything(connector).keys() == {"team/e1", "team/e2"}


SERIES = {"recurrence": ["RRULE:FREQ=DAILY;COUNT=20"]}
"""Some 560 steps."""


def test_when_the_steps_are_spent_the_next_reading_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        office.team.put(event(f"e{number}", **SERIES))
    monkeypatch.setattr(ics, "FEED_STEPS", 1000)
    connector = office.connect()
    for left in (3, 1):
        with pytest.raises(
            Retryable, match=f"need many steps together; the next reading goes on with the {left} entries"
        ):
            everything(connector)
    reads = everything(connector)
    assert list(reads) == [f"team/e{number}" for number in range(5)]
    assert {len(spans(read)) for read in reads.values()} == {20}
    assert ["syncToken" in asked for asked in office.host.asked] == [False, True, True]
    assert [mark.ref.id for page in connector.sweep("team") for mark in page] == list(reads)


def test_what_changes_while_it_waits_is_read_as_it_is_then(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        office.team.put(event(f"e{number}", **SERIES))
    monkeypatch.setattr(ics, "FEED_STEPS", 1000)
    connector = office.connect()
    with pytest.raises(Retryable):
        everything(connector)
    office.team.put(event("e0", "2026-05-01", "2026-05-02"))
    office.team.cancel("e3")
    reads = everything(connector)
    assert sorted(reads) == ["team/e0", "team/e1", "team/e2"]
    assert spans(reads["team/e0"]) == ["2026-05-01/2026-05-02"]


def test_what_needs_too_many_steps_alone_costs_only_itself(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.team.put(event("e0", **SERIES))
    office.team.put(event("e1"))
    monkeypatch.setattr(ics, "FEED_STEPS", 500)
    connector = office.connect()
    with pytest.raises(Retryable, match="goes on with the 1 entries"):
        everything(connector)
    problems = {name: read.problem for name, read in everything(connector).items()}
    assert problems == {"team/e0": "the rules of the feed need too many steps together", "team/e1": None}


def test_what_is_held_of_a_calendar_is_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar_bounds, "MAX_HELD", 50)
    for number in range(4):
        office.team.put(event(f"e{number}", **SERIES))
    connector = office.connect()
    for _ in range(2):
        with pytest.raises(
            Withheld, match="team: its entries have more than 50 occurrences within four years; keep what"
        ):
            everything(connector)
        assert len(connector._kept["team"].found()) == 3
    for number in range(2):
        office.team.put(event(f"e{number}"))
    assert len(everything(connector)) == 4, "what it was before it became smaller does not count"


def test_a_new_year_reads_all_again(office: Office) -> None:
    office.team.put(event("e1", recurrence=["RRULE:FREQ=YEARLY"]))
    connector = office.connect()
    assert [each[:4] for each in spans(everything(connector)["team/e1"])] == ["2026", "2027", "2028"]
    office.clock.now += timedelta(days=365)
    assert [each[:4] for each in spans(everything(connector)["team/e1"])] == ["2026", "2027", "2028", "2029"]
    assert "syncToken" not in office.host.asked[-1]


def test_a_sweep_reads_all_and_heals(office: Office) -> None:
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    everything(connector)
    del office.team.events["e1"]
    assert everything(connector).keys() == {"team/e1", "team/e2"}
    ((mark,),) = connector.sweep("team")
    assert mark.ref.id == "team/e2"
    assert "syncToken" not in office.host.asked[-1]
    assert everything(connector).keys() == {"team/e2"}


def test_a_bad_event_costs_only_itself_and_is_mended(office: Office) -> None:
    office.team.put(event("e1"))
    office.team.put(event("e2", recurrence=[7]))
    office.team.put(event("e3", summary="\ud800", eventType=""))
    connector = office.connect(titles=True)
    assert {ident: bool(read.problem) for ident, read in everything(connector).items()} == {
        "team/e1": False,
        "team/e2": True,
        "team/e3": True,
    }
    office.team.put(event("e2"))
    assert not everything(connector)["team/e2"].problem


def test_a_calendar_has_its_bound(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_calendar, "MAX_EVENTS", 2)
    office.team.put(event("e1"))
    office.team.put(event("e2"))
    connector = office.connect()
    everything(connector)
    office.team.put(event("e3"))
    for each in (connector, office.connect()):
        with pytest.raises(Withheld, match="more than 2 events; keep"):
            everything(each)


def test_pages_without_end_are_left(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_calendar, "MOST_PAGES", 3)
    endless = {"kind": "calendar#events", "items": [], "nextPageToken": "again"}
    office.host.instead += [lambda: JSONResponse(endless)] * 9
    with pytest.raises(Retryable, match="not all pages"):
        everything(office.connect())
    assert len(office.host.asked) == 3


# ---- private by default ----


@pytest.mark.parametrize(
    ("more", "asks"),
    [
        ({}, False),
        ({"meaning": {"team": [{"category": "outOfOffice", "means": "time_off"}]}}, False),
        ({"meaning": {"team": [{"title": "x*", "means": "deadline"}]}}, True),
        ({"titles": True}, True),
    ],
)
def test_titles_are_asked_for_only_where_somebody_wants_them(
    office: Office, more: Mapping[str, Any], asks: bool
) -> None:
    office.team.put(event("e1", description="SECRET", location="SECRET", attendees=[{"email": "a@example.com"}]))
    found = everything(office.connect(**more))
    assert entry(found["team/e1"]).title == (SECRET if "titles" in more else None)
    assert (SECRET in json.dumps(office.host.answered)) is asks
    assert "SECRET" not in json.dumps(office.host.answered)
    assert FIELDS in office.host.asked[0]["fields"]


# ---- what Google answers ----


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(401, "authError"), Retryable, "new one"),
        (refusal(403, "rateLimitExceeded"), Retryable, "quota"),
        (refusal(403, "userRateLimitExceeded"), Retryable, "quota"),
        (refusal(403, "quotaExceeded"), Retryable, "quota"),
        (refusal(403, "forbidden"), Withheld, "share the calendar with the service account"),
        (refusal(403, "accessNotConfigured"), Withheld, "enable the Google Calendar API"),
        (Response(b"<html>", 403), Withheld, "share the calendar"),
        (refusal(404, "notFound"), Withheld, "share"),
        (refusal(410, "deleted"), Retryable, "anew"),
        (refusal(429, "rateLimitExceeded"), Retryable, "429"),
        (refusal(503, "backendError"), Retryable, "503"),
        (Response(b'{"kind": "calendar#ev'), Retryable, "no whole JSON"),
        (Response(b"<html>sign in</html>"), Retryable, "no whole JSON"),
        (Response(b"[" * 100_000), Retryable, "no whole JSON"),
        (Response(b"{}"), Retryable, "not as documented"),
        (Response(b'{"kind": "calendar#events", "items": {}}'), Retryable, "not as documented"),
        (Response(b"[]"), Retryable, "not as documented"),
    ],
)  # fmt: skip
def test_an_answer_means_what_it_means(office: Office, answer: Response, kind: type[ConnectorError], says: str) -> None:
    office.team.put(event("e1"))
    connector = office.connect()
    office.host.instead.append(lambda: answer)
    with pytest.raises(ConnectorError, match=says) as caught:
        everything(connector)
    assert type(caught.value) is kind
    assert TEAM not in str(caught.value)
    assert everything(connector).keys() == {"team/e1"}, "and the next reading goes on"


def test_a_calendar_that_nobody_named_or_shared_says_so(office: Office) -> None:
    connector = office.connect(calendars={"team": TEAM, "away": "away@example.com"})
    away, nobody = connector.check(["team", "away", "nobody"])
    assert "404" in away
    assert "calendars.away" in away
    assert "example.com" not in away
    assert "name it under calendars" in nobody


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


def test_a_subject_is_read_as(office: Office) -> None:
    auth = {"service_account": {"file": office.folder / "key.json"}, "subject": "pm@example.com"}
    connector = office.connect(auth)
    with pytest.raises(Fatal, match="domain-wide delegation"):
        everything(connector)
    office.host.subject = "pm@example.com"
    assert everything(connector) == {}


def test_a_person_may_consent(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_account, "TOKENS", f"{office.stage.url}/token")
    for name in ("client_secret", "refresh_token"):
        monkeypatch.setenv(name, PERSON[name])
    auth = {"client_id": "app", "client_secret": {"env": "client_secret"}, "refresh_token": {"env": "refresh_token"}}
    connector = office.connect(auth)
    with pytest.raises(Fatal, match="consent may have been revoked") as caught:
        everything(connector)
    assert "canary" not in str(caught.value)
    office.host.consent = PERSON
    assert everything(connector) == {}
    office.host.instead.append(lambda: refusal(403, "insufficientPermissions"))
    with pytest.raises(Withheld, match="the consent does not cover"):
        everything(connector)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Response("slowly", 429, {"Retry-After": "7"}), Retryable),
        (Response("later", 503), Retryable),
        (Response("elsewhere", 302, {"Location": "https://example.com/"}), Retryable),
        (Response('{"access_token": "canary-tok'), Retryable),
        (JSONResponse({"access_token": "canary token", "expires_in": 60}), Fatal),
        (JSONResponse({"error": "invalid_grant\n\x1b", "error_description": "canary"}, 400), Fatal),
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


@pytest.mark.parametrize(
    "text",
    ["", "canary", "{}", json.dumps({"client_email": ROBOT, "private_key": "canary"}),
     json.dumps({"client_email": ROBOT, "private_key": PRIVATE[:200]})],
)  # fmt: skip
def test_a_key_that_is_none_is_not_shown(office: Office, text: str) -> None:
    (office.folder / "bad").write_text(text)
    connector = office.connect({"service_account": {"file": office.folder / "bad"}})
    with pytest.raises(Fatal, match=r"service_account") as caught:
        everything(connector)
    told_by = repr(caught.value)
    assert "canary" not in told_by
    assert PRIVATE.splitlines()[1] not in told_by


@pytest.mark.parametrize(
    "wrong",
    [
        {"calendars": {}}, {"calendars": {"a/b": "x"}}, {"calendars": {"a": "x y"}}, {"url": "ftp://example.com"}, {"url": "https://u:p@example.com"},
        {"auth": {}}, {"auth": {"subject": "a@example.com"}}, {"auth": {"client_id": "x"}},
        {"auth": {"service_account": {"env": "X"}, "client_id": "x"}}, {"auth": {"service_account": {"env": "X"}, "subject": "nobody"}},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        scope(**wrong)


# ---- what else rests on it ----


def test_it_can_be_previewed(office: Office) -> None:
    office.team.put(event("e1", "2026-03-03", "2026-03-04", eventType="outOfOffice"))
    connector = office.connect(meaning={"team": [{"category": "outOfOffice", "means": "time_off"}]})
    assert isinstance(connector, Calendars)
    found = preview(connector, ["team"], NOON.date(), 7, scope().zone)
    assert [(day.day, day.means) for day in found.days] == [(date(2026, 3, 3), "time_off")]
    assert window_at(NOON).start == date(2025, 1, 1)


def test_the_command_previews_calendars_of_no_project_too(office: Office) -> None:
    office.clock.now = datetime.now(UTC) + timedelta(minutes=1)  # the command has a clock of its own
    tomorrow = office.clock.now.date() + timedelta(days=1)
    office.team.put(event("e1", tomorrow.isoformat(), (tomorrow + timedelta(days=1)).isoformat()))
    office.connect()  # writes the key
    source = {
        "name": "google",
        "kind": "google_calendar",
        "url": office.stage.url + API,
        "calendars": {"team": TEAM, "deadlines": TEAM},
        "auth": {"service_account": {"file": str(office.folder / "key.json")}},
    }
    project = {"key": "apollo", "leader": "a@example.com", "deadline": "2027-03-31", "from": {"google": ["team"]}}
    config = office.folder / "pmsync.yaml"
    config.write_text(json.dumps({"sources": [source], "projects": [project]}))
    asked = ["--config", str(config), "calendar", "preview", "google", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "pmsync", *asked], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert SECRET not in run.stdout
    assert [(day["container"], day["means"]) for day in json.loads(run.stdout)["days"]] == [
        ("deadlines", "deadline"),
        ("team", "meeting"),
    ]


def test_the_stand_in_speaks_as_the_discovery_document_says(office: Office) -> None:
    if not DISCOVERY.exists():
        pytest.skip("Google's discovery document is not here (shared/data/google-calendar)")
    document = json.loads(DISCOVERY.read_text())
    listing = document["resources"]["events"]["methods"]["list"]
    office.host.page = 2
    for raw in (
        event(recurrence=["RRULE:FREQ=DAILY"]),
        instance("2026-04-03", "2026-05-01", "2026-05-02"),
        cancelled("2026-04-02"),
    ):
        office.team.put(raw)
    connector = office.connect(titles=True)
    everything(connector)
    office.team.cancel("e1")
    everything(connector)
    schemas = {name: _strict(each) for name, each in document["schemas"].items()}
    validator = Draft4Validator({"$ref": "#/schemas/Events", "schemas": schemas})
    assert len(office.host.answered) == 3
    for answer in office.host.answered:
        assert not list(validator.iter_errors(answer))
    assert list(validator.iter_errors({"items": [{"beginning": {}}]})), "or nothing was held against it"
    assert set().union(*office.host.asked) <= {*listing["parameters"], *document["parameters"]}
    assert google_account.SCOPE in listing["scopes"]
    assert document["baseUrl"].rstrip("/") == google_calendar.API


def _strict(schema: Any) -> Any:
    """A schema of the document as JSON Schema knows it, which takes no property that it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        name: _strict(each)
        for name, each in schema.items()
        if name
        not in {
            "description",
            "annotations",
            "required",
            "default",
            "id",
            "format",
            "enum",
            "enumDescriptions",
            "readOnly",
        }
        or isinstance(each, dict)
    }
    if isinstance(found.get("$ref"), str):
        return {"$ref": f"#/schemas/{found['$ref']}"}
    if "properties" in found and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found
