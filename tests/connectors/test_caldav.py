"""The CalDAV connector against a real radicale, and against a stand-in for what radicale does not do."""

from __future__ import annotations

import base64
import shutil
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio.to_thread
import pytest
import requests
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors import caldav, caldav_server, caldav_xml, calendar_bounds, ics, ways
from connectors.base import Calendars, Connector, ConnectorError, Fatal, Mark, Read, Ref, Retryable, Withheld
from connectors.caldav import CalDavConnector, CalDavSettings
from pmsync.core.events import CalendarEntry, Meaning
from pmsync.preview import preview
from pmsync.standins.server import serve
from tests.connectors.caldav_standin import HOME, CalDavHost, Entry, Seen, multistatus
from tests.connectors.served import IMPATIENT, TOKEN, Served
from tests.radicale_server import USER, Radicale, running

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "Tuna merger with Globex"
ZONE = """BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
END:DAYLIGHT
END:VTIMEZONE
"""


def event(uid: str, *lines: str, start: str = "DTSTART;VALUE=DATE:20260401", title: str = SECRET) -> str:
    """An entry as calendar programs write one."""
    parts = [f"BEGIN:VEVENT\nUID:{uid}\nDTSTAMP:20260301T000000Z\n{start}\nSUMMARY:{title}", *lines, "END:VEVENT"]
    return whole("\n".join(parts) + "\n")


def whole(components: str) -> str:
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//test//EN\n{components}END:VCALENDAR\n".replace("\n", "\r\n")


@dataclass(slots=True)
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def radicale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radicale]:
    with running(tmp_path_factory.mktemp("radicale"), TOKEN) as server:
        yield server


@pytest.fixture
def office(radicale: Radicale, monkeypatch: pytest.MonkeyPatch) -> Iterator[Radicale]:
    """A radicale with the two calendars `team` and `deadlines`."""
    monkeypatch.setenv("CALDAV_PASSWORD", TOKEN)
    empty(radicale)
    radicale.add_calendar("team")
    radicale.add_calendar("deadlines")
    return radicale


def empty(server: Radicale) -> None:
    for place in server.place("").iterdir():
        if place.is_dir():
            shutil.rmtree(place)


def connect(url: str, clock: Clock | None = None, **more: Any) -> CalDavConnector:
    auth = {"user": USER, "password": {"env": "CALDAV_PASSWORD"}}
    settings = CalDavSettings.model_validate({"name": "cal", "kind": "caldav", "url": url, "auth": auth} | more)
    return CalDavConnector.connect(settings, clock or Clock())


def everything(connector: Connector, container: str = "team") -> Mapping[str, Read]:
    (page,) = connector.changed(container, None)
    return {read.ref.id: read for read in page}


def entry(read: Read) -> CalendarEntry:
    assert isinstance(read.content, CalendarEntry), read.problem
    return read.content


# ---- radicale ----


def test_entries_are_created_changed_moved_and_deleted(office: Radicale) -> None:
    connector = connect(office.url)
    assert everything(connector) == {}
    office.put("team", "a.ics", event("a"))
    office.put("team", "b.ics", event("b", start="DTSTART:20260402T100000Z", title="x"))
    reads = everything(connector)
    assert list(reads) == ["team/a", "team/b"]
    assert {read.time for read in reads.values()} == {None}
    found = entry(reads["team/a"])
    assert (found.container, found.meaning, found.title, found.recurring) == ("team", Meaning.meeting, None, False)
    assert [(each.start, each.end) for each in found.occurrences] == [(date(2026, 4, 1), date(2026, 4, 2))]

    office.put("team", "a.ics", event("a", start="DTSTART;VALUE=DATE:20260501"))
    changed = everything(connector)
    assert entry(changed["team/a"]).occurrences[0].start == date(2026, 5, 1)
    assert changed["team/b"] is reads["team/b"], "what did not change is not read again"

    office.move("team", "a.ics", to="deadlines")
    assert list(everything(connector)) == ["team/b"]
    moved = everything(connector, "deadlines")
    assert list(moved) == ["deadlines/a"]
    assert entry(moved["deadlines/a"]).meaning is Meaning.deadline

    office.delete("team", "b.ics")
    assert everything(connector) == {}
    assert list(connector.fetch([Ref("calendar_entry", "team/b"), Ref("calendar_entry", "deadlines/a")])) == [
        moved["deadlines/a"],
        Read(Ref("calendar_entry", "team/b")),
    ]
    assert list(connector.sweep("deadlines")) == [[Mark(Ref("calendar_entry", "deadlines/a"), None)]]


def test_a_series_with_exceptions_in_its_zone(office: Radicale) -> None:
    berlin = "TZID=Europe/Berlin"
    master = (
        f"BEGIN:VEVENT\nUID:s\nDTSTAMP:20260301T000000Z\nDTSTART;{berlin}:20260323T090000\nDTEND;{berlin}:20260323T093000\n"
        f"RRULE:FREQ=WEEKLY;COUNT=4\nEXDATE;{berlin}:20260330T090000\nSUMMARY:x\nEND:VEVENT\n"
    )
    moved = (
        f"BEGIN:VEVENT\nUID:s\nDTSTAMP:20260301T000000Z\nRECURRENCE-ID;{berlin}:20260406T090000\nDTSTART;{berlin}:20260407T150000\n"
        f"DTEND;{berlin}:20260407T160000\nSUMMARY:x\nEND:VEVENT\n"
    )
    office.put("team", "s.ics", whole(ZONE + master + moved))
    (read,) = everything(connect(office.url)).values()
    series = entry(read)
    assert series.recurring
    assert [(f"{each.start:%m-%d %H:%M}", f"{each.end:%H:%M}") for each in series.occurrences] == [
        ("03-23 08:00", "08:30"),  # before summer time began on 29 March
        ("04-07 13:00", "14:00"),
        ("04-13 07:00", "07:30"),
    ]


def test_a_lost_place_in_the_list_of_changes_is_found_again(office: Radicale) -> None:
    for name in "abc":
        office.put("team", f"{name}.ics", event(name))
    connector = connect(office.url)
    before = everything(connector)
    token = connector._kept["team"].token
    shutil.rmtree(office.place("team") / ".Radicale.cache" / "sync-token")
    office.delete("team", "a.ics")
    office.put("team", "d.ics", event("d"))
    after = everything(connector)
    assert list(after) == ["team/b", "team/c", "team/d"]
    assert after["team/b"] is before["team/b"], "what is the same by its etag is not read again"
    assert connector._kept["team"].token not in {"", token}
    assert connector._kept["team"].follows


def test_a_restart_reads_the_same(office: Radicale) -> None:
    connector = connect(office.url)
    for name in "abcd":
        office.put("team", f"{name}.ics", event(name, start=f"DTSTART;VALUE=DATE:2026040{ord(name) - 96}"))
        everything(connector)
    office.put("team", "b.ics", event("b"))
    office.delete("team", "c.ics")
    assert everything(connector) == everything(connect(office.url))


def test_the_window_moves_with_the_year_though_nothing_changes(office: Radicale) -> None:
    office.put("team", "y.ics", event("y", "RRULE:FREQ=YEARLY", start="DTSTART;VALUE=DATE:20200101"))
    clock = Clock()
    connector = connect(office.url, clock)
    assert [each.start.year for each in entry(everything(connector)["team/y"]).occurrences] == [2025, 2026, 2027, 2028]
    clock.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert [each.start.year for each in entry(everything(connector)["team/y"]).occurrences] == [2026, 2027, 2028, 2029]


def test_five_thousand_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALDAV_PASSWORD", TOKEN)
    days = [date(2026, 1, 1) + timedelta(days=number % 700) for number in range(5000)]
    files = {f"{n}.ics": event(f"{n}", start=f"DTSTART;VALUE=DATE:{day:%Y%m%d}") for n, day in enumerate(days)}
    # radicale parses all of them before its first answer, which takes a busy machine longer than people would wait
    monkeypatch.setattr(ways, "READ_SECONDS", 300.0)
    with running(tmp_path, TOKEN) as server:
        server.add_calendar("team", files)
        connector = connect(server.url)
        reads = everything(connector)
        assert len(reads) == 5000
        assert {entry(read).occurrences[0].start for read in reads.values()} == set(days)
        server.put("team", "7.ics", event("7", start="DTSTART;VALUE=DATE:20280101"))
        server.delete("team", "8.ics")
        again = everything(connector)
    assert reads.keys() - again.keys() == {"team/8"}
    assert [ref for ref, read in again.items() if read is not reads[ref]] == ["team/7"]


def test_a_bad_entry_loses_only_itself_and_no_text(office: Radicale) -> None:
    office.put("team", "a.ics", event("a"))
    (office.place("team") / "bad.ics").write_text(event("bad", "RRULE:FREQ=SECONDLY"))
    connector = connect(office.url)
    reads = everything(connector)
    assert entry(reads["team/a"])
    assert (reads["team/bad"].problem, reads["team/bad"].content) == ("RRULE has a FREQ that is not supported", None)
    assert not any(word in reads["team/bad"].raw.decode() for word in SECRET.split())
    assert list(connector.check(["team"])) == [
        "team: 1 of 2 entries cannot be read: RRULE has a FREQ that is not supported"
    ]


def test_a_calendar_is_found_by_its_name_by_the_end_of_its_address_or_by_its_address(office: Radicale) -> None:
    office.add_calendar("4f2a", {"x.ics": event("x")}, title="Team vacations")
    for url in (office.url, f"{office.url}/", f"{office.url}/{USER}/"):
        assert list(everything(connect(url), "Team vacations")) == ["Team vacations/x"]
        assert list(everything(connect(url), "4f2a")) == ["4f2a/x"]
    for url in (office.address("4f2a"), office.address("4f2a").rstrip("/")):
        reads = everything(connect(url), "vacation")
        assert {entry(read).meaning for read in reads.values()} == {Meaning.time_off}


def test_doctor_says_what_to_do(office: Radicale, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(connect(office.url).check(["team", "deadlines"])) == []
    assert list(connect(office.url).check(["team", "Team"])) == [
        "Team: there is no calendar of that name; there are: deadlines, team"
    ]
    office.add_calendar("second", title="team")
    assert list(connect(office.url).check(["team"])) == [
        "team: there are 2 of that name; take the end of an address instead: second, team"
    ]
    assert list(connect(f"{office.url}/{USER}/nothing/").check(["team"])) == [
        "team: no calendar at the address under url; is it right?"
    ]
    monkeypatch.setenv("CALDAV_PASSWORD", "wrong")
    for url in (office.url, office.address("team")):
        assert list(connect(url).check(["team"])) == ["team: the server refuses the credentials (401); check auth"]
    with pytest.raises(Fatal, match="refuses the credentials"):
        everything(connect(office.url))
    monkeypatch.delenv("CALDAV_PASSWORD")
    assert list(connect(office.url).check(["team"])) == [
        "the environment variable CALDAV_PASSWORD is not set; export it, or use {file: PATH}"
    ]


def test_a_calendar_that_is_deleted_is_withheld_and_found_again(office: Radicale) -> None:
    office.put("team", "a.ics", event("a"))
    connector = connect(office.url)
    everything(connector)
    shutil.rmtree(office.place("team"))
    with pytest.raises(Withheld, match=r"team: the calendar is not there any more \(404\)"):
        everything(connector)
    office.add_calendar("other", {"b.ics": event("b")}, title="team")
    assert list(everything(connector)) == ["team/b"]


def test_a_password_may_have_any_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALDAV_PASSWORD", "Großes łóżko")
    with running(tmp_path, "Großes łóżko") as server:
        server.add_calendar("team", {"a.ics": event("a")})
        assert list(everything(connect(server.url))) == ["team/a"]


class TestContract(Served):
    """The promises of every connector, kept against radicale behind a relay that fails on demand."""

    name = "cal"
    container = "deadlines"
    secrets = (TOKEN, base64.b64encode(f"{USER}:{TOKEN}".encode()).decode().rstrip("=")[:-4])
    timeless = (
        "what an entry says of its changes (DTSTAMP, LAST-MODIFIED) cannot be trusted; the server says what changed"
    )

    @pytest.fixture(autouse=True)
    def _world(self, radicale: Radicale, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.radicale, self.made = radicale, 0
        empty(radicale)
        radicale.add_calendar(self.container)
        self.stage, self.folder, self.monkeypatch = served, tmp_path, monkeypatch
        self.time = self.start
        served.silent, served.seen = False, 0
        served.app = self.build()

    def build(self) -> ASGIApp:
        self.faults: deque[str] = deque()
        return Starlette(routes=[Route("/{path:path}", self._relay, methods=["PROPFIND", "REPORT"])])

    async def _relay(self, request: Request) -> Response:
        fault = self.faults.popleft() if self.faults else ""
        if fault in {"busy", "error"}:
            return Response(fault, 429 if fault == "busy" else 500, {"Retry-After": "7"} if fault == "busy" else {})
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        body = await request.body()
        url = f"{self.radicale.url}{request.url.path}"
        answer = await anyio.to_thread.run_sync(
            lambda: requests.request(request.method, url, data=body, headers=headers, timeout=10)
        )
        content = answer.content[: len(answer.content) // 2] if fault == "cut" else answer.content
        return Response(content, answer.status_code, media_type=answer.headers.get("Content-Type"))

    def open(self, secret: dict[str, Path]) -> Connector:
        auth = {"user": USER, "password": secret}
        return connect(self.stage.url, Clock(self.time), auth=auth)

    def create(self, at: datetime) -> Ref:
        return self._put(event(f"entry-{self._next()}@example.com"))

    def _next(self) -> int:
        self.made += 1
        return self.made

    def _put(self, text: str) -> Ref:
        uid = f"entry-{self.made}@example.com"
        (self.radicale.place(self.container) / f"{uid}.ics").write_text(text)
        return Ref("calendar_entry", f"{self.container}/{uid}")

    def change(self, ref: Ref, at: datetime) -> None:
        uid = ref.id.partition("/")[2]
        self.radicale.put(self.container, f"{uid}.ics", event(uid, start="DTSTART;VALUE=DATE:20260601"))

    def delete(self, ref: Ref, at: datetime) -> None:
        self.radicale.delete(self.container, f"{ref.id.partition('/')[2]}.ics")

    def spoil_one(self, at: datetime) -> Ref:
        return self._put(event(f"entry-{self._next()}@example.com", "RRULE:FREQ=SECONDLY"))

    def break_next(self, kind: str) -> None:
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(ways, "READ_SECONDS", IMPATIENT)
            return
        self.faults.append(kind)


# ---- what radicale does not do ----


@dataclass(slots=True)
class World:
    host: CalDavHost
    url: str

    def connect(self, **more: Any) -> CalDavConnector:
        return connect(self.url, **({"auth": None} if not self.host.password else {}), **more)

    def kinds(self) -> list[str]:
        """What was asked since the last time."""
        seen = [each.kind for each in self.host.journal]
        self.host.journal.clear()
        return seen


@pytest.fixture
def world() -> Iterator[World]:
    host = CalDavHost()
    team = host.add("team")
    for name in "abc":
        team.put(f"{name}.ics", event(name))
    with serve(host.app) as url:
        yield World(host, url)


def test_a_poll_in_which_nothing_happened_is_one_request(world: World) -> None:
    connector = world.connect()
    everything(connector)
    assert world.kinds() == ["place", "place", "place", "place", "sync", "get"]
    everything(connector)
    assert world.kinds() == ["sync"]


def test_a_list_of_changes_in_pages(world: World) -> None:
    team = world.host.calendars["team"]
    for number in range(20):
        team.put(f"{number}.ics", event(str(number)))
    world.host.page = 5
    connector = world.connect()
    assert len(everything(connector)) == 23
    assert world.kinds()[4:] == ["sync"] * 5 + ["get"]
    for number in range(12):
        team.put(f"{number}.ics", None if number % 2 else event(str(number), start="DTSTART;VALUE=DATE:20260701"))
    assert len(everything(connector)) == 17
    assert world.kinds() == ["sync"] * 3 + ["get"]


def test_entries_are_asked_for_in_bounded_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caldav, "BATCH", 10)
    team = world.host.calendars["team"]
    for number in range(22):
        team.put(f"{number}.ics", event(str(number)))
    assert len(everything(world.connect())) == 25
    assert [each.asked for each in world.host.journal if each.kind == "get"] == [10, 10, 5]


@pytest.mark.parametrize("quirk", ["no changes", "zero token", "stuck", "deaf to beginners"])
def test_without_a_list_of_changes_that_can_be_trusted_all_is_listed_and_the_new_is_read(
    world: World, quirk: str
) -> None:
    world.host.quirks.add(quirk)
    connector, team = world.connect(), world.host.calendars["team"]
    first = everything(connector)
    assert list(first) == ["team/a", "team/b", "team/c"]
    world.kinds()
    team.put("a.ics", None)
    team.put("b.ics", event("b", start="DTSTART;VALUE=DATE:20260701"))
    team.put("d.ics", event("d"))
    second = everything(connector)
    assert list(second) == ["team/b", "team/c", "team/d"]
    assert entry(second["team/b"]).occurrences[0].start == date(2026, 7, 1)
    assert second["team/c"] is first["team/c"]
    assert world.kinds() == ["list", "get"]
    everything(connector)
    assert world.kinds() == ["list"]


@pytest.mark.parametrize("status", [400, 403, 409, 412, 415, 418, 501])
def test_a_server_that_has_a_list_of_changes_for_nobody(world: World, status: int) -> None:
    connector = world.connect()
    everything(connector)
    world.host.instead["sync"] = deque([lambda: Response("no", status)] * 2)
    world.host.calendars["team"].put("a.ics", None)
    world.kinds()
    assert list(everything(connector)) == ["team/b", "team/c"]
    assert list(everything(connector)) == ["team/b", "team/c"]
    assert world.kinds() == ["sync", "sync", "list", "list"]


def test_a_list_of_changes_that_fails_is_asked_for_again(world: World) -> None:
    connector = world.connect()
    everything(connector)
    world.host.instead["sync"] = deque([lambda: Response("it broke", 500)] * 2)
    world.kinds()
    assert len(everything(connector)) == 3
    assert len(everything(connector)) == 3
    assert len(everything(connector)) == 3
    assert world.kinds() == ["sync", "sync", "list", "sync", "sync"]


def test_a_sweep_finds_what_the_list_of_changes_leaves_out(world: World) -> None:
    connector = world.connect()
    everything(connector)
    team = world.host.calendars["team"]
    team.entries["a.ics"] = Entry(None, 0)
    team.entries["d.ics"] = Entry(event("d"), 0)
    assert list(everything(connector)) == ["team/a", "team/b", "team/c"]
    (marks,) = connector.sweep("team")
    assert [mark.ref.id for mark in marks] == ["team/b", "team/c", "team/d"]
    world.kinds()
    assert list(everything(connector)) == ["team/b", "team/c", "team/d"]
    assert world.kinds() == ["sync"], "its place is not lost"


def test_an_empty_calendar_is_followed_once_there_is_something_in_it(world: World) -> None:
    empty = world.host.add("empty")
    connector = world.connect()
    assert everything(connector, "empty") == {}
    empty.put("a.ics", event("a"))
    world.kinds()
    assert list(everything(connector, "empty")) == ["empty/a"]
    assert world.kinds() == ["sync", "get"]


def test_without_etags_a_whole_list_reads_everything_again_and_a_list_of_changes_does_not(world: World) -> None:
    world.host.quirks.add("no etags")
    connector = world.connect()
    everything(connector)
    world.kinds()
    everything(connector)
    assert world.kinds() == ["sync"]
    world.host.quirks.add("no changes")
    connector = world.connect()
    everything(connector)
    world.kinds()
    world.host.calendars["team"].entries["a.ics"] = Entry(event("a", start="DTSTART;VALUE=DATE:20260701"), 1)
    assert entry(everything(connector)["team/a"]).occurrences[0].start == date(2026, 7, 1)
    assert world.kinds() == ["list", "get"]


@pytest.mark.parametrize("quirks", [set(), {"no changes"}])
def test_the_calendar_itself_is_no_entry_of_it(world: World, quirks: set[str]) -> None:
    world.host.quirks = {"lists itself", "absolute", *quirks}
    connector = world.connect()
    assert {ref: read.problem for ref, read in everything(connector).items()} == dict.fromkeys(
        ["team/a", "team/b", "team/c"]
    )
    world.host.calendars["team"].put("a.ics", None)
    assert list(everything(connector)) == ["team/b", "team/c"]


@pytest.mark.parametrize("quirks", [set(), {"no changes"}])
@pytest.mark.parametrize(
    "href",
    [
        "http://169.254.169.254/calendars/pm/team/x.ics", "//elsewhere.example.com/calendars/pm/team/x.ics", "/calendars/pm/other/x.ics",
        "/calendars/pm/team/deeper/x.ics", "../x.ics", "/etc/passwd", "http://[bad/x.ics", "file:///calendars/pm/team/x.ics",
        "/calendars/pm/team/%2e%2e", "ftp://127.0.0.1/calendars/pm/team/x.ics",
    ],
)  # fmt: skip
def test_an_address_outside_of_the_calendar_is_told_and_never_asked(world: World, href: str, quirks: set[str]) -> None:
    world.host.quirks = quirks
    world.host.strangers.append(href)
    connector = world.connect()
    reads = everything(connector)
    (odd,) = reads.keys() - {"team/a", "team/b", "team/c"}
    assert odd.startswith("team/~")
    assert reads[odd].problem == "the server lists it at an address outside of the calendar"
    assert [each.asked for each in world.host.journal if each.kind == "get"] == [3]
    assert everything(connector).keys() == reads.keys()


def test_what_is_listed_and_not_given_costs_only_itself(world: World) -> None:
    connector = world.connect()
    everything(connector)
    team = world.host.calendars["team"]
    for name in "abd":
        team.put(f"{name}.ics", event(name, start="DTSTART;VALUE=DATE:20260701"))
    world.host.withheld = {"a.ics", "d.ics"}
    world.host.forbidden = {"b.ics"}
    reads = everything(connector)
    problems = {ref: read.problem for ref, read in reads.items() if read.problem}
    (new,) = problems.keys() - {"team/a", "team/b"}
    assert new.startswith("team/~")
    assert set(problems.values()) == {"the server lists it and does not give it"}
    assert len(problems) == 3
    assert entry(reads["team/c"])
    world.host.withheld, world.host.forbidden = set(), set()
    assert {entry(read).occurrences[0].start for ref, read in everything(connector).items() if ref != "team/c"} == {
        date(2026, 7, 1)
    }


def test_what_is_deleted_between_the_list_and_the_reading_is_gone(world: World) -> None:
    connector, team = world.connect(), world.host.calendars["team"]

    def then_delete() -> Response:
        team.put("b.ics", None)
        return Response(multistatus([]), 207)

    world.host.instead["get"] = deque([then_delete])
    reads = everything(connector)
    assert {read.problem for read in reads.values()} == {"the server lists it and does not give it"}
    assert list(everything(connector)) == ["team/a", "team/c"]


def test_an_entry_that_is_no_calendar_keeps_its_id(world: World) -> None:
    team = world.host.calendars["team"]
    connector = world.connect()
    everything(connector)
    team.put("a.ics", event("a").replace("END:VCALENDAR\r\n", ""))
    team.put("x.ics", "<html>")
    team.put("y.ics", "")
    reads = everything(connector)
    assert reads["team/a"].problem == "what the server keeps there is no whole calendar"
    assert not any(word in reads["team/a"].raw.decode() for word in SECRET.split())
    odd = sorted(reads.keys() - {"team/a", "team/b", "team/c"})
    assert len(odd) == 2
    assert all(each.startswith("team/~") for each in odd)


def test_one_uid_at_two_addresses_is_one_entry(world: World) -> None:
    world.host.calendars["team"].put("z.ics", event("a", start="DTSTART;VALUE=DATE:20260701"))
    reads = everything(world.connect())
    assert list(reads) == ["team/a", "team/b", "team/c"]
    assert entry(reads["team/a"]).occurrences[0].start == date(2026, 4, 1)


def test_what_is_too_large_together_is_read_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    team = world.host.calendars["team"]
    for name in "bd":
        team.put(f"{name}.ics", event(name, f"DESCRIPTION:{'x' * 5000}"))
    team.put("e.ics", event("e", *(f"COMMENT:{'x' * 900}" for _ in range(9))))
    monkeypatch.setattr(ways, "MAX_BYTES", 7000)
    reads = everything(world.connect())
    assert len(reads) == 5
    (large,) = (read for read in reads.values() if read.problem)
    assert large.problem == "it is larger than what is read at once"


def test_a_reading_that_is_broken_off_goes_on_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caldav, "BATCH", 1)
    connector = world.connect()
    world.host.busy_after = 1
    with pytest.raises(Retryable, match="team: the server answers 503") as raised:
        everything(connector)
    assert raised.value.after == 7
    world.host.calendars["team"].put("d.ics", event("d"))
    world.kinds()
    assert len(everything(connector)) == 4
    assert world.kinds() == ["sync", "get", "get", "get"], "a was read before"


def test_a_reading_that_takes_too_long_is_broken_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = world.connect()
    with monkeypatch.context() as patch:
        patch.setattr(caldav, "READING_SECONDS", -1.0)
        with pytest.raises(Retryable, match="team: 3 entries were not read within -1 s; the next reading goes on"):
            everything(connector)
    world.kinds()
    assert len(everything(connector)) == 3
    assert world.kinds() == ["sync", "get"]


def test_an_entry_at_which_the_server_fails_costs_only_itself(world: World) -> None:
    team = world.host.calendars["team"]
    for number in range(9):
        team.put(f"{number}.ics", event(str(number)))
    world.host.failing = {"b.ics"}
    connector = world.connect()
    with pytest.raises(Retryable, match="team: the server answers 500"):
        everything(connector)
    reads = everything(connector)
    assert [read.problem for read in reads.values() if read.problem] == ["the server fails at it (500)"]
    assert len(reads) == 12
    team.put("x.ics", event("x"))
    world.host.journal.clear()
    assert len(everything(connector)) == 13
    assert [each.asked for each in world.host.journal if each.kind == "get"] == [1, 1, 1], "it is asked for alone"
    world.host.failing = set()
    assert {read.problem for read in everything(connector).values()} == {None}


def test_a_server_that_fails_at_everything_costs_no_entry(world: World) -> None:
    connector = world.connect()
    everything(connector)
    team = world.host.calendars["team"]
    for number in range(60):
        team.put(f"{number}.ics", event(str(number)))
    world.host.failing = set(team.entries)
    for _ in range(3):
        world.host.journal.clear()
        with pytest.raises(Retryable, match="team: the server answers 500"):
            everything(connector)
        assert len(world.host.journal) < 80
    world.host.failing = set()
    assert {read.problem for read in everything(connector).values()} == {None}


def test_a_calendar_of_broken_entries_alone_has_its_dead_letters_too(world: World) -> None:
    world.host.failing = {"a.ics", "b.ics", "c.ics"}
    connector = world.connect()
    with pytest.raises(Retryable, match="team: the server answers 500"):
        everything(connector)
    reads = everything(connector)
    assert [read.problem for read in reads.values()] == ["the server fails at it (500)"] * 3
    world.host.failing = set()
    assert list(everything(connector)) == ["team/a", "team/b", "team/c"], "they are asked for again"


@pytest.mark.parametrize("status", [500, 404])
def test_a_server_that_gives_nothing_at_all_costs_no_entry(world: World, status: int) -> None:
    """It fails even at an entry that is not there, or says that there is no calendar, which it has just listed."""
    world.host.failing = {"a.ics", "b.ics", "c.ics"}
    connector = world.connect()
    for _ in range(4):
        failing = [lambda: Response("it broke", 500)] * 5
        world.host.instead["get"] = deque([*failing, lambda: Response("what?", status)])
        with pytest.raises(Retryable, match="team: the server answers 500"):
            everything(connector)
        assert not world.host.instead["get"]


# ---- what is held, and what is worked on ----

SERIES = ("RRULE:FREQ=DAILY;COUNT=20",)
"""Some 560 steps."""


def test_when_the_steps_are_spent_the_next_reading_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    team = world.host.calendars["team"]
    for name in "abcde":
        team.put(f"{name}.ics", event(name, *SERIES))
    monkeypatch.setattr(ics, "FEED_STEPS", 1000)
    connector = world.connect()
    for left in (3, 1):
        with pytest.raises(
            Retryable, match=f"need many steps together; the next reading goes on with the {left} entries"
        ):
            everything(connector)
    reads = everything(connector)
    assert {read.problem for read in reads.values()} == {None}
    assert {len(entry(read).occurrences) for read in reads.values()} == {20}
    world.kinds()
    everything(connector)
    assert world.kinds() == ["sync"], "nothing is left to be read"


def test_what_needs_too_many_steps_alone_costs_only_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.host.calendars["team"].put("b.ics", event("b", *SERIES))
    monkeypatch.setattr(ics, "FEED_STEPS", 500)
    connector = world.connect()
    with pytest.raises(Retryable, match="goes on with the 1 entries"):
        everything(connector)
    problems = {name: read.problem for name, read in everything(connector).items() if read.problem}
    assert problems == {"team/b": "the rules of the feed need too many steps together"}
    world.kinds()
    everything(connector)
    assert world.kinds() == ["sync"], "it is not asked for again"


def test_what_is_held_of_a_calendar_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caldav, "BATCH", 1)
    monkeypatch.setattr(calendar_bounds, "MAX_HELD", 50)
    team = world.host.calendars["team"]
    for name in "abcd":
        team.put(f"{name}.ics", event(name, *SERIES))
    connector = world.connect()
    for gets in (3, 0, 0):
        world.kinds()
        with pytest.raises(
            Withheld, match="team: its entries have more than 50 occurrences within four years; keep what"
        ):
            everything(connector)
        assert world.kinds().count("get") == gets
    for name in "bc":
        team.put(f"{name}.ics", event(name))
    assert len(everything(connector)) == 4, "what it was before it became smaller does not count"


def test_a_dead_letter_counts_by_its_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar_bounds, "MAX_HELD", 9)
    world.host.calendars["team"].put("a.ics", event("a", "RRULE:FREQ=SECONDLY", *["COMMENT:x"] * 400))
    with pytest.raises(Withheld, match="more than 9 occurrences"):
        everything(world.connect())


def test_a_list_of_changes_takes_no_longer_than_it_may(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caldav_server, "LISTING_SECONDS", -1.0)
    with pytest.raises(Retryable, match="team: what changed was not told within -1 s, in however many pages"):
        everything(world.connect())


def test_a_list_of_changes_is_no_larger_than_it_may_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.host.page = 1
    for number in range(20):
        world.host.calendars["team"].put(f"{number}.ics", event(str(number)))
    monkeypatch.setattr(caldav_server, "MAX_LISTED", 1500)
    with pytest.raises(Withheld, match="what changed in more than 1500 bytes; take a calendar with fewer entries"):
        everything(world.connect())
    assert world.kinds().count("sync") < 5


def test_an_address_that_is_far_too_long_is_told_and_neither_asked_nor_kept(world: World) -> None:
    world.host.strangers = [f"{HOME}team/{'x' * 100_000}{number}.ics" for number in range(2)]
    connector = world.connect()
    reads = everything(connector)
    (odd,) = reads.keys() - {"team/a", "team/b", "team/c"}
    assert reads[odd].problem == "the server lists it at an address of more than 2000 characters"
    assert [each.asked for each in world.host.journal if each.kind == "get"] == [3]
    assert max(map(len, connector._kept["team"].astray)) == 2001


def test_a_token_that_is_far_too_long_is_none(world: World) -> None:
    token = f"<D:sync-token>{'x' * 10_000}</D:sync-token>"
    world.host.instead["sync"] = deque([lambda: Response(multistatus([], token), 207)])
    assert len(everything(world.connect())) == 3
    assert world.kinds()[-3:] == ["sync", "list", "get"]


def test_of_a_long_etag_there_is_a_digest() -> None:
    def tags(*etags: str) -> list[str]:
        rows = [f"<D:response><D:href>/t/{n}</D:href>{ok(etag)}</D:response>" for n, etag in enumerate(etags)]
        return [each.etag for each in caldav_xml.multistatus(multistatus(rows)).responses]

    def ok(etag: str) -> str:
        prop = f"<D:prop><D:getetag>{etag}</D:getetag></D:prop>"
        return f"<D:propstat>{prop}<D:status>HTTP/1.1 200 OK</D:status></D:propstat>"

    short, long, other = tags('"1"', "x" * 5000, "x" * 4999 + "y")
    assert (short, len(long), long != other) == ('"1"', 64, True)


# ---- addresses ----


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("/c/caf%E9.ics", "/c/caf%E9.ics"), ("/c/caf%E8.ics", "/c/caf%E8.ics"), ("/c/caf%c3%a9.ics", "/c/caf%C3%A9.ics"),
        ("/c/café.ics", "/c/caf%C3%A9.ics"), ("/c/a%2Fb.ics", "/c/a%2Fb.ics"), ("/c/a%2fb.ics", "/c/a%2Fb.ics"),
        ("/c/a/b.ics", "/c/a/b.ics"), ("/c/%61%40b", "/c/a%40b"), ("/c/a@b", "/c/a%40b"), ("/c/a%252Fb", "/c/a%252Fb"),
        ("/c/%2e%2e", "/c/.."), ("http://H:81/c/a", "/c/a"), ("a", "/c/a"), ("/c/" + "a" * 2000, None), ("http://i/c/a", None),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling(href: str, path: str | None) -> None:
    assert caldav_xml.path_of(href, "http://h/c/") == path


def test_entries_whose_names_are_no_utf8_stay_apart() -> None:
    rows = [
        f"<D:response><D:href>{HOME}team/{name}</D:href></D:response>"
        for name in ("%E9.ics", "%E8.ics", "a%2Fb.ics", "a/b")
    ]
    listing = caldav_server.Listing()
    listing.add(f"http://h{HOME}team/", caldav_xml.multistatus(multistatus(rows)))
    assert [each.href.rpartition("/")[2] for each in listing.entries.values()] == ["%E9.ics", "%E8.ics", "a%2Fb.ics"]
    assert listing.astray == {f"{HOME}team/a/b"}


def test_the_end_of_an_address_is_all_behind_its_last_slash() -> None:
    (itself,) = caldav_xml.multistatus(multistatus(["<D:response><D:href>/x/</D:href></D:response>"])).responses
    assert caldav_server.Place("http://h/cal/other%2Fteam/", itself).end == "other/team"


@pytest.mark.parametrize("kind", ["place", "sync", "list", "get"])
@pytest.mark.parametrize(
    ("body", "status", "error", "says"),
    [
        (b"", 207, Retryable, "no whole XML"),
        (multistatus(["<D:response>"])[:150], 207, Retryable, "no whole XML"),
        (b"<html/>", 207, Retryable, "no answer about calendars"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><multistatus xmlns="DAV:">&a;</multistatus>', 207, Withheld, "a DTD or entities"),
        (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><multistatus xmlns="DAV:"/>', 207, Withheld, "a DTD or entities"),
        (b"<a>" * 200 + b"</a>" * 200, 207, Withheld, "within each other"),
        (b"", 502, Retryable, "answers 502"),
        (b"", 429, Retryable, "answers 429"),
        (b"", 401, Fatal, "refuses the credentials"),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_deletes_nothing(
    world: World, kind: str, body: bytes, status: int, error: type[ConnectorError], says: str
) -> None:
    if kind == "list":
        world.host.quirks.add("no changes")
    connector = world.connect()
    if kind != "place":
        everything(connector)
        world.host.calendars["team"].put("d.ics", event("d"))
    world.host.instead[kind] = deque([lambda: Response(body, status)])
    with pytest.raises(error, match=says):
        everything(connector)
    assert len(everything(connector)) == (3 if kind == "place" else 4)


def test_an_answer_that_never_ends_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "MAX_BYTES", 1 << 20)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):  # as good as endless
            yield b"<a/>" * 10_000

    world.host.instead["sync"] = deque([lambda: StreamingResponse(endless(), 207)])
    with pytest.raises(Withheld, match="team: the answer is larger than 1048576 bytes"):
        everything(world.connect())


def test_a_list_of_too_many_entries_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caldav_server, "MAX_ENTRIES", 2)
    for quirk in ("", "no changes"):
        world.host.quirks = {quirk}
        with pytest.raises(Withheld, match="has more than 2 entries"):
            everything(world.connect())


def test_a_whole_list_that_is_cut_off_deletes_nothing(world: World) -> None:
    world.host.quirks.add("no changes")
    connector = world.connect()
    everything(connector)
    cut = f"<D:response><D:href>{HOME}team/</D:href><D:status>HTTP/1.1 507 Insufficient Storage</D:status></D:response>"
    world.host.instead["list"] = deque([lambda: Response(multistatus([cut]), 207)])
    with pytest.raises(Withheld, match="lists only a part of the calendar"):
        everything(connector)
    assert len(everything(connector)) == 3


@pytest.mark.parametrize("rows", [[], ["HTTP/1.1 503 Service Unavailable"]], ids=["nothing", "a failure"])
@pytest.mark.parametrize("quirks", [{"no changes"}, {"deaf to beginners"}])
def test_a_list_without_the_calendar_itself_deletes_nothing(world: World, rows: list[str], quirks: set[str]) -> None:
    world.host.quirks = quirks
    connector = world.connect()
    everything(connector)
    told = [f"<D:response><D:href>{HOME}team/</D:href><D:status>{row}</D:status></D:response>" for row in rows]
    world.host.instead["list"] = deque([lambda: Response(multistatus(told), 207)])
    with pytest.raises(Retryable, match="is not a whole calendar"):
        list(connector.sweep("team"))
    assert len(everything(connector)) == 3


def test_a_lost_token_is_asked_for_once(world: World) -> None:
    connector = world.connect()
    everything(connector)
    team = world.host.calendars["team"]
    team.put("a.ics", None)
    team.oldest = team.number + 1
    world.kinds()
    assert list(everything(connector)) == ["team/b", "team/c"]
    assert world.kinds() == ["sync", "sync"]


def test_it_can_be_looked_at_beforehand(world: World) -> None:
    connector = world.connect(titles=True, meaning={"team": [{"title": "tuna*", "means": "deadline"}]})
    assert isinstance(connector, Calendars)
    found = preview(connector, ["team"], date(2026, 4, 1), 1, ZoneInfo("Europe/Berlin"))
    assert [(each.day, each.means, each.title) for each in found.days] == [(date(2026, 4, 1), "deadline", SECRET)] * 3
    assert found.entries == {"deadline": 3}


# ---- where the calendars are ----


def test_a_server_says_where_its_calendars_are(world: World) -> None:
    inner = world.host.app

    async def front(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await Response("a web page")(scope, receive, send)
        elif scope["path"] == "/.well-known/caldav":
            await Response(status_code=301, headers={"Location": HOME})(scope, receive, send)
        else:
            await inner(scope, receive, send)

    with serve(front) as url:
        assert list(everything(connect(url, auth=None))) == ["team/a", "team/b", "team/c"]


@pytest.mark.parametrize("home", ["http://elsewhere.invalid/calendars/", "https://127.0.0.1.invalid/"])
def test_calendars_on_another_host_are_not_asked_with_the_password(world: World, home: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("CALDAV_PASSWORD", "hush")
    monkeypatch.setattr("connectors.guard.resolve", lambda *_: [(0, 0, 0, "", ("127.0.0.1", 80))])
    world.host.password, world.host.homes = "hush", (home,)
    with pytest.raises(Withheld, match=r"is not asked: an answer led there and not the configuration"):
        everything(world.connect())
    assert {each.authorization for each in world.host.journal} == {"Basic cG06aHVzaA=="}


def test_a_server_with_no_calendar(world: World) -> None:
    world.host.calendars.clear()
    with pytest.raises(Withheld, match="team: no calendar at the address under url, nor any that it leads to"):
        everything(world.connect())
    with pytest.raises(Withheld, match="a/b: the name of a container has no '/'"):
        everything(world.connect(), "a/b")


def test_the_standin_refuses_what_it_does_not_understand(world: World) -> None:
    body = b'<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'
    for headers, status in (({"Depth": "infinity"}, 400), ({"Depth": "1", "Content-Type": "text/plain"}, 415)):
        answer = requests.request(
            "PROPFIND", world.url + HOME, data=body, headers={"Content-Type": "application/xml"} | headers, timeout=5
        )
        assert answer.status_code == status
    assert world.host.journal[0] == Seen("PROPFIND", HOME, "infinity", "unknown", 0, None)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"url": "ftp://example.com/"},
        {"url": "https://"},
        {"url": "https://pm:hush@example.com/"},
        {"url": "https://example.com/?key=hush"},
        {"url": "team.ics"},
        {"url": "https://example.com/", "time_zone": "Mars/Crater"},
        {"url": "https://example.com/", "ics": "x"},
        {"url": "https://example.com/", "auth": {"user": "pm"}},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CalDavSettings(name="cal", **settings)
