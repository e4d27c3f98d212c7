"""The calendar connector over HTTP against the stand-in, and against answers that a server should not give."""

from __future__ import annotations

import gzip
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import requests
from pydantic import ValidationError
from requests.adapters import BaseAdapter

from connectors import guard, ways
from connectors.base import Apart, ConnectorError, Fatal, Mark, Read, Ref, Retryable, Withheld
from connectors.calendar import CalendarConnector, CalendarSettings
from connectors.ics import MAX_COMPONENTS, MAX_TITLE
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from connectors.ways import Ways
from pmsync.core.events import CalendarEntry, Meaning
from pmsync.standins.calendar import CalendarHost, Fault, Override
from pmsync.standins.server import serve

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "Tuna merger with Globex"
FEED = "BEGIN:VCALENDAR\r\n{}END:VCALENDAR\r\n"
EVENT = "BEGIN:VEVENT\r\nUID:{0}\r\nDTSTART:20260401T100000Z\r\nEND:VEVENT\r\n"


@dataclass(slots=True)
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True)
class World:
    host: CalendarHost
    clock: Clock
    url: str

    def connect(self, **more: Any) -> CalendarConnector:
        settings = {"ics": {"team": f"{self.url}/team.ics", "deadlines": f"{self.url}/deadlines.ics"}} | more
        return CalendarConnector.connect(CalendarSettings(name="cal", **settings), self.clock)


@pytest.fixture
def world() -> Iterator[World]:
    clock = Clock()
    host = CalendarHost(clock)
    before = NOON - timedelta(days=9)
    host.add_entry("team", before, "a", SECRET, NOON, NOON + timedelta(hours=1))
    host.add_entry("team", before, "b", SECRET, date(2026, 4, 1), date(2026, 4, 3))
    host.add_entry("deadlines", before, "a", SECRET, date(2026, 5, 1), date(2026, 5, 2))
    with serve(host.app) as url:
        yield World(host, clock, url)


def everything(connector: CalendarConnector, container: str = "team") -> Mapping[str, Read]:
    (page,) = connector.changed(container, None)
    return {read.ref.id: read for read in page}


def entry(read: Read) -> CalendarEntry:
    assert isinstance(read.content, CalendarEntry)
    return read.content


# ---- against the stand-in ----


def test_reads_every_entry_of_a_container(world: World) -> None:
    reads = everything(world.connect())
    assert list(reads) == ["team/a", "team/b"]
    assert {read.time for read in reads.values()} == {None}
    timed, days = entry(reads["team/a"]), entry(reads["team/b"])
    assert (timed.container, timed.meaning, timed.title, timed.recurring) == ("team", Meaning.meeting, None, False)
    assert [(each.start, each.end) for each in timed.occurrences] == [(NOON, NOON + timedelta(hours=1))]
    assert [(each.start, each.end) for each in days.occurrences] == [(date(2026, 4, 1), date(2026, 4, 3))]


def test_since_leaves_nothing_out(world: World) -> None:
    (page,) = world.connect().changed("team", NOON + timedelta(days=1))
    assert len(page) == 2


def test_one_uid_in_two_feeds_is_two_things(world: World) -> None:
    connector = world.connect()
    refs = [Ref("calendar_entry", "team/a"), Ref("calendar_entry", "deadlines/a"), Ref("calendar_entry", "team/none")]
    found = {read.ref: read for read in connector.fetch(refs)}
    assert [entry(found[ref]).container for ref in refs[:2]] == ["team", "deadlines"]
    assert found[refs[2]] == Read(refs[2])


def test_sweep_names_what_is_there(world: World) -> None:
    (page,) = world.connect().sweep("team")
    assert page == [Mark(Ref("calendar_entry", f"team/{uid}"), None) for uid in "ab"]


def test_a_deleted_entry_is_gone_and_a_changed_one_changed(world: World) -> None:
    connector = world.connect()
    later = NOON + timedelta(hours=1)
    world.host.delete_entry("team", later, "a")
    world.host.change_entry("team", later, "b", end=date(2026, 4, 4))
    assert len(everything(connector)) == 2
    world.clock.now = later
    reads = everything(connector)
    assert list(reads) == ["team/b"]
    assert entry(reads["team/b"]).occurrences[0].end == date(2026, 4, 4)
    assert list(connector.fetch([Ref("calendar_entry", "team/a")])) == [Read(Ref("calendar_entry", "team/a"))]


def test_a_series_with_exceptions(world: World) -> None:
    start, day = NOON + timedelta(days=1), timedelta(days=1)
    world.host.add_entry(
        "team", NOON, "s", "Standup", start, start + timedelta(minutes=15), rrule="FREQ=DAILY;COUNT=5",
        rdates=[start + 9 * day], exdates=[start + day],
        overrides=[Override(start + 2 * day, start + 20 * day, start + 21 * day),
                   Override(start + 3 * day, start + 3 * day, start + 4 * day, cancelled=True)],
    )  # fmt: skip
    series = entry(everything(world.connect())["team/s"])
    assert series.recurring
    assert [(each.start - start).days for each in series.occurrences] == [0, 4, 9, 20]


def test_a_cancelled_entry_is_absent_and_a_todo_is_its_due_date(world: World) -> None:
    world.host.change_entry("team", NOON, "a", cancelled=True)
    world.host.add_entry("team", NOON, "t", "Ship", date(2026, 6, 1), date(2026, 6, 1), todo=True)
    reads = everything(world.connect())
    assert list(reads) == ["team/b", "team/t"]
    (due,) = entry(reads["team/t"]).occurrences
    assert (due.start, due.end) == (date(2026, 6, 1), date(2026, 6, 2))


def test_an_unchanged_feed_is_not_sent_or_read_again(world: World) -> None:
    connector = world.connect()
    first = everything(connector)
    second = everything(connector)
    assert [seen.status for seen in world.host.requests] == [200, 304]
    assert all(second[ref] is read for ref, read in first.items())
    world.host.add_entry("team", NOON, "c", "", NOON, NOON)
    assert list(everything(connector)) == ["team/a", "team/b", "team/c"]
    assert world.host.requests[-1].status == 200


def test_the_window_moves_with_the_year_though_the_feed_does_not_change(world: World) -> None:
    world.host.add_entry("team", NOON, "y", "", date(2020, 1, 1), date(2020, 1, 2), rrule="FREQ=YEARLY")
    connector = world.connect()
    assert [each.start.year for each in entry(everything(connector)["team/y"]).occurrences] == [2025, 2026, 2027, 2028]
    world.clock.now = datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert [each.start.year for each in entry(everything(connector)["team/y"]).occurrences] == [2025, 2026, 2027, 2028]
    world.clock.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert [each.start.year for each in entry(everything(connector)["team/y"]).occurrences] == [2026, 2027, 2028, 2029]


@pytest.mark.parametrize(
    ("fault", "after", "says"),
    [
        (Fault("error"), None, "answers 500"),
        (Fault("busy", 7), 7, "answers 429"),
        (Fault("busy"), None, "answers 429"),
        (Fault("page"), None, "a web page came instead of a calendar"),
        (Fault("cut"), None, "the feed is cut off"),
    ],
)
def test_a_fault_is_retryable_and_deletes_nothing(world: World, fault: Fault, after: float | None, says: str) -> None:
    connector = world.connect()
    world.host.faults.append(fault)
    with pytest.raises(Retryable, match=says) as raised:
        list(connector.sweep("team"))
    assert raised.value.after == after
    assert len(everything(connector)) == 2
    assert "If-None-Match" not in world.host.requests[-1].headers


def test_a_fault_between_two_reads_leaves_what_was_kept(world: World) -> None:
    connector = world.connect()
    everything(connector)
    world.host.add_entry("team", NOON, "c", "", NOON, NOON)
    world.host.faults.append(Fault("cut"))
    with pytest.raises(Retryable):
        everything(connector)
    assert len(everything(connector)) == 3


def test_basic_auth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.host.user, world.host.password = "pm", "sesame"
    with pytest.raises(Fatal, match="refuses the credentials"):
        everything(world.connect())
    monkeypatch.setenv("CALENDAR_PASSWORD", "sesame")
    assert everything(world.connect(auth={"user": "pm", "password": {"env": "CALENDAR_PASSWORD"}}))


@pytest.mark.parametrize(
    ("container", "meaning"),
    [
        ("team", Meaning.meeting), ("Deadlines", Meaning.deadline), ("milestones", Meaning.milestone),
        ("time-off", Meaning.time_off), ("vacation", Meaning.time_off), ("holidays", Meaning.holiday),
        ("plan", Meaning.milestone),
    ],
)  # fmt: skip
def test_one_address_serves_every_container_and_its_name_gives_the_meaning(
    world: World, container: str, meaning: Meaning
) -> None:
    connector = world.connect(ics=f"{world.url}/team.ics", meaning={"plan": "milestone"})
    assert {entry(read).meaning for read in everything(connector, container).values()} == {meaning}


def test_patterns_come_before_the_name_of_a_container(world: World) -> None:
    known = [{"title": SECRET, "means": "deadline"}]
    connector = world.connect(
        ics=f"{world.url}/team.ics", meaning={"holidays": known, "other": [{"title": "x", "means": "nothing"}]}
    )
    for container, meaning in (("holidays", Meaning.deadline), ("other", Meaning.meeting)):
        assert {entry(read).meaning for read in everything(connector, container).values()} == {meaning}


def test_titles_are_read_where_they_are_asked_for_only(world: World) -> None:
    assert {entry(read).title for read in everything(world.connect(titles=True)).values()} == {SECRET}
    assert {entry(read).title for read in everything(world.connect()).values()} == {None}


def test_check(world: World) -> None:
    connector = world.connect()
    assert list(connector.check(["team", "deadlines"])) == []
    world.host.faults.append(Fault("error"))
    assert list(connector.check(["team", "nowhere"])) == [
        "team: the server answers 500",
        "cal has no calendar nowhere; name it under ics",
    ]


# ---- the stand-in itself ----


def test_the_standin_refuses_what_it_does_not_understand(world: World) -> None:
    for path, status in (("/none.ics", 404), ("/team", 404), ("/team.ics?since=1", 400)):
        with canned_reader(world.url + path) as connector, pytest.raises(Fatal, match=str(status)):
            everything(connector)
    with pytest.raises(ValueError, match="already"):
        world.host.add_entry("team", NOON, "a", "", NOON, NOON)
    with pytest.raises(ValueError, match="no entry"):
        world.host.change_entry("team", NOON, "none", title="")
    world.host.delete_entry("team", NOON, "a")
    with pytest.raises(ValueError, match="in order"):
        world.host.add_entry("team", NOON - timedelta(days=30), "a", "", NOON, NOON)


# ---- files ----


@contextmanager
def canned_reader(ics: str, **more: Any) -> Iterator[CalendarConnector]:
    yield CalendarConnector.connect(CalendarSettings(name="cal", ics=ics, **more), Clock())


def file_of(folder: Path, body: str | bytes) -> str:
    path = folder / "team.ics"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return str(path)


def reads_of(folder: Path, body: str | bytes, **more: Any) -> Mapping[str, Read]:
    with canned_reader(file_of(folder, body), **more) as connector:
        return everything(connector)


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    path = file_of(tmp_path, FEED.format(EVENT.format("a")))
    with canned_reader(path) as connector:
        first = everything(connector)
        assert everything(connector)["team/a"] is first["team/a"]
        file_of(tmp_path, FEED.format(EVENT.format("b")))
        assert list(everything(connector)) == ["team/b"]
        assert connector.now() == NOON


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with canned_reader(str(tmp_path / "none.ics")) as connector, pytest.raises(Fatal, match=r"none\.ics: No such file"):
        everything(connector)


WHOLE = FEED.format(EVENT.format("a"))


@pytest.mark.parametrize(
    "body", ["", WHOLE[: len(WHOLE) // 2], WHOLE.replace("END:VCALENDAR\r\n", ""), WHOLE + "BEGIN:VCALENDAR\r\n"]
)
def test_a_feed_that_is_cut_off_is_retryable(tmp_path: Path, body: str) -> None:
    with pytest.raises(Retryable):
        reads_of(tmp_path, body)


def test_two_calendars_in_one_file_are_read_together(tmp_path: Path) -> None:
    assert len(reads_of(tmp_path, WHOLE + FEED.format(EVENT.format("b")))) == 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"BEGIN:VCALENDAR\r\n" + b"X" * ways.MAX_BYTES, "larger than"),
        (FEED.format(EVENT.format("a") * (MAX_COMPONENTS + 1)).encode(), "more than 20000 components"),
    ],
    ids=["bytes", "components"],
)
def test_a_feed_that_is_too_large_is_refused(tmp_path: Path, body: bytes, says: str) -> None:
    with pytest.raises(Fatal, match=says):
        reads_of(tmp_path, body)


BAD = {
    "no DTSTART": (f"UID:bad\r\nSUMMARY:{SECRET}", "VEVENT: it has no DTSTART"),
    "text for a time": (f"UID:bad\r\nDTSTART:{SECRET}", "DTSTART is no valid date, time or duration"),
    "two starts": ("UID:bad\r\nDTSTART:20260401\r\nDTSTART:20260402", "DTSTART is there 2 times"),
    "a duration for a start": ("UID:bad\r\nDTSTART:PT1H", "DTSTART is of the wrong type"),
    "a broken parameter": (f"UID:bad\r\nDTSTART;{SECRET}:20260401", "DTSTART is no valid content line"),
    "a zone nobody knows": ("UID:bad\r\nDTSTART;TZID=Mars/Crater:20260401T100000",
                            "DTSTART: the time zone Mars/Crater is unknown"),
    "a zone that is text": (f"UID:bad\r\nDTSTART;TZID={SECRET * 3}:20260401T100000",
                            "DTSTART: the time zone that it names is unknown"),
    "a zone that is a path": ("UID:bad\r\nDTSTART;TZID=../../etc/passwd:20260401T100000",
                              "DTSTART: the time zone ../../etc/passwd is unknown"),
    "text for a rule": (f"UID:bad\r\nDTSTART:20260401\r\nRRULE:{SECRET}", "RRULE has a FREQ that is not supported"),
    "a line too long": (f"UID:bad\r\nDTSTART:20260401\r\nEXDATE:{'20260402,' * 8000}", "EXDATE is longer than 65536 characters"),
    "too many dates": (("UID:bad\r\nDTSTART:20260401\r\n" + f"EXDATE:{'20260402,' * 6000}\r\n" * 2).strip(),
                       "EXDATE has more than 10000 values"),
    "before all time": ("UID:bad\r\nDTSTART;TZID=Asia/Tokyo:00010101T000000\r\nDTEND;TZID=Asia/Tokyo:20260101T000000",
                        "the entry cannot be expanded (OverflowError)"),
    "after all time": ("UID:bad\r\nDTSTART;TZID=Asia/Tokyo:99990101T000000", "DTSTART is beyond the year 2500"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_entry_loses_only_itself_and_no_text(tmp_path: Path, lines: str, reason: str) -> None:
    text = (
        f"SUMMARY:{SECRET}\r\nDESCRIPTION:{SECRET}\r\n{SECRET}\r\nX-{SECRET[:4]}:1\r\nATTENDEE;CN={SECRET}:mailto:a@b.c"
    )
    bad = f"BEGIN:VEVENT\r\n{lines}\r\n{text if 'SUMMARY' not in lines else ''}\r\nEND:VEVENT\r\n"
    reads = reads_of(tmp_path, FEED.format(EVENT.format("a") + bad + EVENT.format("b")))
    assert list(reads) == ["team/a", "team/bad", "team/b"]
    assert entry(reads["team/a"])
    assert entry(reads["team/b"])
    problem = reads["team/bad"]
    assert (problem.content, problem.problem) == (None, reason)
    assert problem.raw.startswith(b"BEGIN:VEVENT\nUID\n")
    assert not any(word in problem.raw.decode().lower() for word in [*SECRET.lower().split(), "mailto"])


def test_a_component_without_an_end_loses_only_itself(tmp_path: Path) -> None:
    opened = EVENT.format("bad").replace("END:VEVENT\r\n", "BEGIN:VALARM\r\nTRIGGER:-PT5M\r\n")
    reads = reads_of(
        tmp_path, FEED.format(EVENT.format("a") + opened + EVENT.format("b") + opened.replace("bad", "last"))
    )
    problems = {ref: read.problem for ref, read in reads.items()}
    assert problems == {
        "team/a": None,
        "team/bad": "VEVENT: it has no END",
        "team/b": None,
        "team/last": "VEVENT: it has no END",
    }


@pytest.mark.parametrize(
    ("lines", "due"),
    [
        ("", True),
        ("STATUS:NEEDS-ACTION", True),
        ("STATUS:IN-PROCESS\nCOMPLETED:20260301T100000Z", True),  # taken up again
        ("STATUS:Completed\nCOMPLETED:20260301T100000Z", False),
        ("COMPLETED:20260301T100000Z", False),
        ("STATUS:CANCELLED", False),
    ],
)
def test_a_to_do_that_is_done_is_no_deadline(tmp_path: Path, lines: str, due: bool) -> None:
    todo = f"BEGIN:VTODO\nUID:t\nDUE;VALUE=DATE:20260318\n{lines}\nEND:VTODO\n"
    assert bool(reads_of(tmp_path, f"BEGIN:VCALENDAR\n{todo}END:VCALENDAR\n")) is due


@pytest.mark.parametrize(
    ("lines", "busy"),
    [
        ("", True),
        ("TRANSP:OPAQUE\nSTATUS:CONFIRMED", True),
        ("TRANSP:TRANSPARENT", False),
        ("Transp:Transparent", False),
        ("STATUS:TENTATIVE", False),
        ("TRANSP;X=\x01:TRANSPARENT", True),  # no valid line; an entry can do without
    ],
)
def test_what_is_tentative_or_free_is_not_busy(tmp_path: Path, lines: str, busy: bool) -> None:
    event = f"BEGIN:VEVENT\nUID:e\nDTSTART;VALUE=DATE:20260318\n{lines}\nEND:VEVENT\n"
    (read,) = reads_of(tmp_path, f"BEGIN:VCALENDAR\n{event}END:VCALENDAR\n").values()
    assert [each.busy for each in entry(read).occurrences] == [busy]


def test_one_of_a_series_is_free(tmp_path: Path) -> None:
    master = "BEGIN:VEVENT\nUID:e\nDTSTART;VALUE=DATE:20260318\nRRULE:FREQ=DAILY;COUNT=3\nEND:VEVENT\n"
    free = "BEGIN:VEVENT\nUID:e\nRECURRENCE-ID;VALUE=DATE:20260319\nDTSTART;VALUE=DATE:20260319\nTRANSP:TRANSPARENT\nEND:VEVENT\n"
    (read,) = reads_of(tmp_path, f"BEGIN:VCALENDAR\n{master}{free}END:VCALENDAR\n").values()
    assert [each.busy for each in entry(read).occurrences] == [True, False, True]


def test_a_pattern_says_whose_an_entry_is_and_keeps_no_title(tmp_path: Path) -> None:
    def named(uid: str, title: str) -> str:
        return EVENT.format(uid).replace("END", f"SUMMARY:{title}\r\nCATEGORIES:Bo\r\nEND")

    owners = {"team": [{"title": "ada *", "account": "a1"}, {"category": "BO", "title": "*bo*", "account": "b2"}]}
    feed = FEED.format(named("1", "Ada on leave") + named("2", "Leave: Bo") + named("3", "Adam: leave"))
    path = tmp_path / "team.ics"
    path.write_text(feed)
    settings = CalendarSettings.model_validate({"name": "cal", "ics": {"team": str(path)}, "whose": owners})
    reads = everything(CalendarConnector.connect(settings, Clock()))
    assert {ref: (entry(read).whose, entry(read).title) for ref, read in reads.items()} == {
        "team/1": ("a1", None),
        "team/2": ("b2", None),
        "team/3": (None, None),
    }


def test_one_of_a_series_of_to_dos_is_done(tmp_path: Path) -> None:
    master = "BEGIN:VTODO\nUID:t\nDTSTART;VALUE=DATE:20260318\nDUE;VALUE=DATE:20260318\nRRULE:FREQ=DAILY;COUNT=3\nEND:VTODO\n"
    done = "BEGIN:VTODO\nUID:t\nRECURRENCE-ID;VALUE=DATE:20260319\nDTSTART;VALUE=DATE:20260319\nDUE;VALUE=DATE:20260319\nSTATUS:COMPLETED\nEND:VTODO\n"
    (read,) = reads_of(tmp_path, f"BEGIN:VCALENDAR\n{master}{done}END:VCALENDAR\n").values()
    assert [each.start for each in entry(read).occurrences] == [date(2026, 3, 18), date(2026, 3, 20)]


def test_an_event_is_not_done_by_a_status_of_to_dos(tmp_path: Path) -> None:
    event = "BEGIN:VEVENT\nUID:e\nDTSTART:20260318T090000Z\nSTATUS:COMPLETED\nEND:VEVENT\n"
    assert reads_of(tmp_path, f"BEGIN:VCALENDAR\n{event}END:VCALENDAR\n")


def test_what_is_nested_is_not_taken_for_the_entry(tmp_path: Path) -> None:
    alarm = "BEGIN:VALARM\r\nUID:alarm\r\nDTSTART:garbage\r\nEND:VALARM\r\nEND:VEVENT\r\n"
    reads = reads_of(tmp_path, FEED.format(EVENT.format("a").replace("END:VEVENT\r\n", alarm)))
    assert entry(reads["team/a"]).occurrences[0].start == datetime(2026, 4, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("uid", ["", "UID:\r\n", f"UID:{'x' * 300}\r\n"])
def test_an_entry_without_a_usable_uid_has_a_steady_id(tmp_path: Path, uid: str) -> None:
    body = FEED.format(EVENT.format("a").replace("UID:a\r\n", uid))
    (first,) = reads_of(tmp_path, body)
    (second,) = reads_of(tmp_path, body.replace(EVENT.format("a"), ""))
    assert first == second
    assert first.startswith("team/~")
    assert len(first) < 50


def test_titles_are_unescaped_and_bounded(tmp_path: Path) -> None:
    named = EVENT.format("a").replace("END", "SUMMARY;LANGUAGE=de:Größe\\, nicht\\nFarb\r\n e\r\nEND")
    long = EVENT.format("b").replace("END", f"SUMMARY:{'x' * 900}\r\nEND")
    reads = reads_of(tmp_path, FEED.format(named + long), titles=True)
    assert entry(reads["team/a"]).title == "Größe, nicht\nFarbe"
    assert entry(reads["team/b"]).title == "x" * MAX_TITLE


def test_a_character_that_is_folded_in_two_is_whole_again(tmp_path: Path) -> None:
    named = EVENT.format("a").replace("END", "SUMMARY:Größe\r\nEND").encode().replace(b"\xc3\xb6", b"\xc3\r\n \xb6")
    reads = reads_of(tmp_path, b"\xef\xbb\xbfBEGIN:VCALENDAR\r\n" + named + b"END:VCALENDAR\r\n", titles=True)
    assert entry(reads["team/a"]).title == "Größe"


def test_bytes_that_are_no_text_are_survived(tmp_path: Path) -> None:
    body = (
        FEED.format(EVENT.format("a"))
        .encode()
        .replace(b"END:VEVENT", b"SUMMARY:\xff\xfe\x00\r\nX;\x80:\x01\r\nEND:VEVENT")
    )
    assert entry(reads_of(tmp_path, body)["team/a"])


def test_check_counts_what_cannot_be_read(tmp_path: Path) -> None:
    bad = EVENT.replace("DTSTART", "DTSTAMP")
    with canned_reader(
        file_of(tmp_path, FEED.format(EVENT.format("a") + bad.format("b") + bad.format("c")))
    ) as connector:
        assert list(connector.check(["team"])) == ["team: 2 of 3 entries cannot be read: VEVENT: it has no DTSTART"]


# ---- answers that a server should not give ----


@dataclass(slots=True)
class Canned:
    """Answers by path, as (status, headers, body); the journal is (Host, path, Authorization)."""

    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    journal: list[tuple[str, str, str | None]] = field(default_factory=list)
    broken_off: SimpleQueue[str] = field(default_factory=SimpleQueue)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def canned() -> Iterator[Canned]:
    world = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            world.journal.append((self.headers["Host"], self.path, self.headers["Authorization"]))
            status, headers, body = world.answers[self.path]
            self.send_response_only(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                world.broken_off.put(self.path)

        def log_message(self, *args: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        world.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield world
        server.shutdown()
        thread.join()


def test_now_is_the_clock_of_the_server(canned: Canned) -> None:
    canned.answers["/a"] = (200, {"Date": "Mon, 02 Mar 2026 12:00:30 GMT"}, WHOLE.encode())
    clock = Clock()
    connector = CalendarConnector.connect(CalendarSettings(name="cal", ics=canned.url("/a")), clock)
    assert connector.now() == NOON
    everything(connector)
    clock.now += timedelta(minutes=5)
    assert connector.now() == NOON + timedelta(minutes=5, seconds=30)


@pytest.mark.parametrize(
    ("status", "headers", "error", "after"),
    [
        (401, {}, Withheld, None),
        (403, {}, Withheld, None),
        (404, {}, Withheld, None),
        (410, {}, Withheld, None),
        (408, {}, Retryable, None),
        (429, {"Retry-After": "120"}, Retryable, 120),
        (503, {"Retry-After": "Mon, 02 Mar 2026 12:01:00 GMT"}, Retryable, 60),
        (503, {"Retry-After": "Mon, 02 Mar 2026 11:00:00 GMT"}, Retryable, 1),
        (503, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, Retryable, 3600),
        (503, {"Retry-After": "999999999999"}, Retryable, 3600),
        (503, {"Retry-After": "soon"}, Retryable, None),
        (304, {}, Retryable, None),
        (302, {}, Withheld, None),
    ],
)
def test_what_a_status_means(
    canned: Canned, status: int, headers: dict[str, str], error: type[ConnectorError], after: float | None
) -> None:
    canned.answers["/private-key"] = (status, headers, b"")
    with canned_reader(canned.url("/private-key")) as connector, pytest.raises(error) as raised:
        everything(connector)
    assert type(raised.value) is error
    assert getattr(raised.value, "after", None) == after
    assert ("check auth" in str(raised.value)) is (status in {401, 403})
    assert "private-key" not in str(raised.value)


def test_a_server_that_is_not_there_is_retryable_and_its_address_is_kept_secret() -> None:
    with canned_reader("http://user:hush@127.0.0.1:1/private-key") as connector, pytest.raises(Retryable) as raised:
        everything(connector)
    assert str(raised.value) == (
        "team: 127.0.0.1 cannot be read: it refuses connections; check the address, the network and any proxy"
    )
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a b/", "http://" + "x" * 300 + "/"])
def test_an_address_that_is_none_is_fatal_or_retryable(url: str) -> None:
    with pytest.raises((ConnectorError, ValidationError)), canned_reader(url) as connector:
        everything(connector)


def test_redirects_keep_the_password_at_home(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hush")
    monkeypatch.setattr(guard, "DENIED", {})  # the other host of this test is on loopback too
    monkeypatch.setattr(guard, "PORTS", {canned.port})
    canned.answers["/1"] = (302, {"Location": "/2"}, b"")
    canned.answers["/2"] = (307, {"Location": canned.url("/3", "localhost")}, b"")
    canned.answers["/3"] = (200, {}, WHOLE.encode())
    with canned_reader(canned.url("/1"), auth={"token": {"env": "TOKEN"}}) as connector:
        assert list(everything(connector)) == ["team/a"]
    assert [(path, auth) for _, path, auth in canned.journal] == [
        ("/1", "Bearer hush"),
        ("/2", "Bearer hush"),
        ("/3", None),
    ]


@pytest.mark.parametrize("hop", ["{there}\\@{here}/3", "{there}%5C@{here}/3", "{here}@{there}/3"])
def test_an_address_that_can_be_read_in_two_ways_is_the_one_that_is_connected_to(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, hop: str
) -> None:
    monkeypatch.setenv("TOKEN", "hush")
    monkeypatch.setattr(guard, "DENIED", {})
    monkeypatch.setattr(guard, "PORTS", {canned.port})
    here, there = f"127.0.0.1:{canned.port}", f"localhost:{canned.port}"
    canned.answers["/1"] = (302, {"Location": "http://" + hop.format(here=here, there=there)}, b"")
    with (
        canned_reader(canned.url("/1"), auth={"token": {"env": "TOKEN"}}) as connector,
        suppress(ConnectorError),
    ):
        everything(connector)
    assert {(host.partition(":")[0], auth) for host, _, auth in canned.journal} <= {
        ("127.0.0.1", "Bearer hush"), ("localhost", None),
    }  # fmt: skip


def test_a_clock_that_cannot_be_right_is_not_believed(canned: Canned) -> None:
    canned.answers["/a"] = (200, {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, WHOLE.encode())
    clock = Clock()
    connector = CalendarConnector.connect(CalendarSettings(name="cal", ics=canned.url("/a")), clock)
    everything(connector)
    clock.now += timedelta(minutes=5)
    assert connector.now() == clock.now


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("/1", "redirects more than 3 times"),
        ("file:///etc/passwd", "another scheme"),
        ("gopher://x/", "another scheme"),
        ("http://[bad", "what is no address"),
        ("http://a:99999999/", "cannot be read"),
        ("http://\x7f/", "cannot be read"),
        ("//", "redirects more than 3 times"),
        ("http://[::1]/a", "is not asked: an answer led there and not the configuration, and its address is loopback"),
        ("http://8.8.8.8:25/a", "8.8.8.8 is not asked at port 25"),
    ],
)
def test_redirects_are_bounded(canned: Canned, location: str, says: str) -> None:
    canned.answers["/1"] = canned.answers["/"] = (302, {"Location": location}, b"")
    with canned_reader(canned.url("/1")) as connector, pytest.raises(Withheld, match=says):
        everything(connector)
    assert len(canned.journal) <= 4


def test_the_body_of_a_redirect_is_not_read(canned: Canned) -> None:
    canned.answers["/1"] = (302, {"Location": "/2"}, b"X" * 50_000_000)
    canned.answers["/2"] = (200, {}, WHOLE.encode())
    with canned_reader(canned.url("/1")) as connector:
        assert list(everything(connector)) == ["team/a"]
    # What the two ends of a connection on this host buffer is some MB at most; the server cannot get rid of the rest.
    assert canned.broken_off.get(timeout=30) == "/1"


class Downgrading(BaseAdapter):
    """An https server without a certificate: it sends everyone to plain http."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.raw, response.request = 302, str(request.url), BytesIO(), request
        response.headers["Location"] = str(request.url).replace("https:", "http:")
        return response

    def close(self) -> None:
        pass


def test_a_redirect_from_https_to_http_is_refused() -> None:
    session = requests.Session()
    session.mount("https://", Downgrading())
    settings = CalendarSettings(name="cal", ics="webcal://calendar.example.com/a.ics")
    with pytest.raises(Fatal, match=r"calendar\.example\.com redirects to another scheme"):
        everything(CalendarConnector(settings, Clock(), Ways(Clock(), "ics", own=session)))


@pytest.mark.parametrize(
    ("answer", "headers"), [(503, {}), (503, {"Retry-After": "9"}), (200, {}), (None, {})], ids=str
)
def test_a_feed_that_cannot_be_had_now_keeps_no_other_from_being_read(
    canned: Canned, answer: int | None, headers: dict[str, str]
) -> None:
    """It comes before the other in every round: of two servers, one fails, asks for a wait, sends half a feed, or is away."""
    canned.answers["/b"] = (200, {}, WHOLE.encode())
    canned.answers["/a"] = (answer or 200, headers, b"BEGIN:VCALENDAR\r\n")
    first = canned.url("/a").replace("127.0.0.1", "localhost") if answer else "http://localhost:9/a"
    settings = CalendarSettings(name="cal", ics={"a": first, "b": canned.url("/b")})
    bus = MemoryBus()
    pump = Pump(CalendarConnector.connect(settings, Clock()), MemoryLedger(), bus, Clock(), "me")
    with pytest.raises(Withheld, match=r"^a: "):
        pump.sync({"a": {"apollo": 1}, "b": {"apollo": 1}})
    told = [event.thing for event in bus.events]
    assert [(thing.kind, thing.id.partition("/")[0]) for thing in told] == [("calendar_entry", "b"), ("synced", "b")]


def test_where_all_feeds_are_one_servers_its_wait_is_for_all(canned: Canned) -> None:
    canned.answers["/a"] = (429, {"Retry-After": "9"}, b"")
    canned.answers["/b"] = (500, {}, b"")
    settings = CalendarSettings(name="cal", ics={"a": canned.url("/a"), "b": canned.url("/b")})
    connector = CalendarConnector.connect(settings, Clock())
    for container, kind, after in (("a", Retryable, 9.0), ("b", Apart, None)):
        for read in (lambda c=container: connector.changed(c, None), lambda c=container: connector.sweep(c)):
            with pytest.raises(kind) as raised:
                list(read())
            assert (type(raised.value), raised.value.after) == (kind, after)


def test_a_body_shorter_than_promised_is_retryable(canned: Canned) -> None:
    canned.answers["/a"] = (200, {"Content-Length": "9999", "Connection": "close"}, WHOLE.encode())
    with canned_reader(canned.url("/a")) as connector, pytest.raises(Retryable):
        everything(connector)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_body_that_is_too_large_is_refused_while_it_comes(canned: Canned, encoding: str) -> None:
    body = b"X" * (ways.MAX_BYTES + 1)
    body = gzip.compress(body) if encoding == "gzip" else body
    canned.answers["/a"] = (200, {"Content-Encoding": encoding}, body)
    with canned_reader(canned.url("/a")) as connector, pytest.raises(Fatal, match="larger than"):
        everything(connector)


@pytest.mark.parametrize(
    "settings",
    [
        {"ics": "ftp://example.com/a.ics"},
        {"ics": {"a/b": "x.ics"}},
        {"ics": "x.ics", "time_zone": "Mars/Crater"},
        {"ics": "x.ics", "meaning": {"a": "party"}},
        {"ics": "x.ics", "meaning": {"a": [{"title": "x", "means": "party"}]}},
        {"ics": "x.ics", "meaning": {"a": [{"titel": "x", "means": "deadline"}]}},
        {"ics": "x.ics", "meaning": {"a": [{"title": "x"}]}},
        {"ics": "x.ics", "whose": {"a": [{"title": "x"}]}},
        {"ics": "x.ics", "whose": {"a": [{"title": "x", "account": ""}]}},
        {"ics": "x.ics", "auth": {"user": "pm"}},
        {"ics": "x.ics", "auth": {"token": "in the open"}},
        {"ics": "x.ics", "title": True},
        {},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CalendarSettings(name="cal", **settings)
