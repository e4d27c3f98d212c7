"""Feeds that mean harm: each becomes what `bench/hostile_feeds.py` says of it, within a number of steps that no clock counts;
and whatever the reader does, the process that it is in is bounded from outside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bench.hostile import ANSWERS, Hostility, as_said, feeds, occurrences, served
from bench.hostile import outcome as told
from bench.hostile_feeds import FEEDS, MB, NEVER, STEPS, YEAR_1, Hostile, entry, feed, many
from connectors import caldav, google_entries, ics, ics_apart
from connectors.base import ConnectorError, Read, Retryable, Withheld
from connectors.caldav import CalDavConnector, CalDavSettings
from connectors.calendar import CalendarConnector, CalendarSettings
from connectors.ics import Meter, Scope, Window, read_feed
from connectors.ics_apart import CHAMBER, GIVEN_UP_STEPS, Chamber, GivenUp
from pmsync.core.events import Meaning
from pmsync.standins.server import serve
from tests.connectors.caldav_standin import CalDavHost

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SCOPE = Scope("team", Meaning.meeting, Window(date(2025, 1, 1), date(2029, 1, 1)), ZoneInfo("UTC"))
FEW_STEPS = 1_000_000
"""Of a feed here, a fifth of what it may have, so that all of them are read in a minute."""
CALLS = 12_000_000
"""Of functions, in reading one: thirty for each line of the longest feed, a dozen for each of its steps."""


class Counted(Exception):
    """Too many calls."""


@contextmanager
def counted(limit: int) -> Iterator[Callable[[], int]]:
    """How many calls of Python's functions are made; raises where they are more than that."""
    calls = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"
        if calls > limit:
            raise Counted

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)


def outcome(body: bytes) -> tuple[str, Sequence[Read]]:
    try:
        reads = list(read_feed(body, SCOPE))
    except ConnectorError as error:
        return f"refused: {error}", ()
    problems = [read.problem for read in reads if read.problem]
    return (f"{len(problems)} of {len(reads)}: {problems[-1]}" if problems else f"read: {occurrences(reads)}"), reads


@pytest.mark.parametrize("hostile", FEEDS, ids=lambda hostile: hostile.name[:60])
def test_a_hostile_feed_becomes_what_is_said_of_it(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ics, "FEED_STEPS", FEW_STEPS)
    body = hostile.build()
    with counted(CALLS) as calls:
        became, reads = outcome(body)
        made = calls()
    assert as_said(hostile.ends, hostile.why, became) or "need too many steps together" in became, became
    assert made < CALLS
    if reads:
        assert reads[0].ref.id == "team/neighbour"
        assert occurrences(reads[:1]) == 1, "its neighbour is read whatever it does"
        assert len({read.ref for read in reads}) == len(reads)


def test_there_are_enough_of_them() -> None:
    assert len({hostile.name for hostile in FEEDS}) == len(FEEDS) >= 60


def test_the_count_of_calls_can_fail() -> None:
    with pytest.raises(Counted), counted(1000):
        outcome(feed(many(100, "DTSTART:20260105T100000Z")))


# ---- answers that mean harm ----


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name[:60])
def test_a_hostile_answer_is_refused(answer: Hostility) -> None:
    with served(answer) as url:
        if answer.kind == "caldav":
            became = told(CalDavConnector.connect(CalDavSettings(name="dav", url=url), lambda: NOW))
        else:
            became = told(feeds(url))
    assert as_said(answer.ends, answer.why, became), became


# ---- from outside ----

SOUND = feed()
SPEND = feed(many(60, YEAR_1, f"RRULE:{NEVER}"))
"""Some seconds of work, all of it within what the meters let pass."""
LONG = feed(entry("DTSTART:20260105T100000Z", *["abcd:fghij"] * 700_000)).replace(b"\r\n", b"\n")
"""What takes a hundred megabytes and more."""


@pytest.fixture
def apart(request: pytest.FixtureRequest) -> Iterator[Chamber]:
    found = Chamber(**getattr(request, "param", {}))
    yield found
    found.end()


def one(apart: Chamber, body: bytes, meter: Meter | None = None) -> Sequence[Read]:
    return apart.read(body, SCOPE, meter)


def is_sound(reads: Sequence[Read]) -> bool:
    return [read.ref.id for read in reads] == ["team/neighbour"]


def test_apart_and_here_a_feed_is_read_alike(apart: Chamber) -> None:
    body = feed(entry("DTSTART:20260105T100000Z", "RRULE:FREQ=DAILY;COUNT=3"), entry("DTSTART:x", uid="worse"),
                entry("DTSTART;VALUE=DATE:20260105", uid="day"))  # fmt: skip
    here, there = ics.feed_meter(), ics.feed_meter()
    assert one(apart, body, there) == list(read_feed(body, SCOPE, here))
    assert there.left == here.left < ics.FEED_STEPS
    with pytest.raises(Retryable, match="no calendar"):
        one(apart, b"")
    with pytest.raises(Withheld, match="more than 20000 components"):
        one(apart, feed(many(20_000)))


@pytest.mark.parametrize("apart", [{"limit": 1}], indirect=True)
def test_the_kernel_ends_what_takes_too_much_time(apart: Chamber) -> None:
    with pytest.raises(GivenUp, match="takes more than 1 s of CPU time"):
        one(apart, SPEND)
    assert is_sound(one(apart, SOUND)), "the next one is read"


@pytest.mark.parametrize("apart", [{"memory": 120 * MB}], indirect=True)
def test_what_takes_too_much_memory_is_given_up(apart: Chamber) -> None:
    meter = ics.feed_meter()
    with pytest.raises(GivenUp, match="takes more than 120 MiB of memory"):
        one(apart, LONG, meter)
    assert meter.left == ics.FEED_STEPS - GIVEN_UP_STEPS, "three of them are all that a reading gives up"
    assert is_sound(one(apart, SOUND))


def test_what_is_too_large_is_not_even_sent(apart: Chamber) -> None:
    with pytest.raises(GivenUp, match="takes more than 16 MiB"):
        one(apart, b"x" * (16 * MB + 1))
    assert apart._child is None


@pytest.mark.parametrize("apart", [{"seconds": 2.0}], indirect=True)
def test_who_waits_has_a_deadline(apart: Chamber) -> None:
    with pytest.raises(Retryable, match="was not read within 2 s"):
        one(apart, feed(many(300, YEAR_1, f"RRULE:{NEVER}")))


@pytest.mark.parametrize(("program", "error"), [("/bin/false", "EOFError"), ("/no/python", "FileNotFoundError")])
def test_a_process_that_does_not_start_is_nobodys_fault(
    apart: Chamber, monkeypatch: pytest.MonkeyPatch, program: str, error: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", program)
        with pytest.raises(Retryable, match=rf"started to read it \({error}\)"):
            one(apart, SOUND)
    assert is_sound(one(apart, SOUND))


def test_a_process_that_somebody_ended_says_nothing_of_the_feed(apart: Chamber) -> None:
    one(apart, SOUND)
    child = apart._child
    assert child is not None
    child.ask = lambda request, seconds: child._process.kill()  # type: ignore[method-assign]
    with pytest.raises(Retryable, match=r"ended with -9, which says nothing of it"):
        one(apart, SOUND)
    assert is_sound(one(apart, SOUND))


def test_a_process_that_ended_meanwhile_is_replaced(apart: Chamber) -> None:
    one(apart, SOUND)
    assert apart._child is not None
    apart._child._process.kill()
    apart._child._process.wait()
    assert is_sound(one(apart, SOUND))


@pytest.mark.parametrize(("bound", "value"), [("IDLE_SECONDS", 0.0), ("LASTING_REQUESTS", 2)])
def test_a_process_that_was_idle_or_long_at_work_is_replaced(
    apart: Chamber, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    one(apart, SOUND)
    first = apart._child
    one(apart, SOUND)
    assert apart._child is first
    monkeypatch.setattr(ics_apart, bound, value)
    one(apart, SOUND)
    assert apart._child is not first


def test_it_ends_by_itself_when_nobody_asks_any_more(apart: Chamber) -> None:
    one(apart, SOUND)
    assert apart._child is not None
    apart._child._socket.close()
    assert apart._child._process.wait(10) == 0


def test_it_is_given_no_secret(apart: Chamber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALENDAR_PASSWORD", "sesame")
    one(apart, SOUND)
    assert apart._child is not None
    process = Path(f"/proc/{apart._child._process.pid}")
    if not process.exists():
        pytest.skip("this system does not say what a process was given")
    assert b"sesame" not in (process / "environ").read_bytes()


# ---- what the connectors make of it ----


class Refusing:
    """Gives everything up, and counts."""

    def __init__(self) -> None:
        self.seen = 0

    def read(self, body: bytes, scope: Scope, meter: Meter | None = None) -> Sequence[Read]:
        self.seen += 1
        raise ics_apart.too_much("a moment")


def test_a_feed_that_was_given_up_is_not_tried_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "team.ics"
    path.write_bytes(SOUND)
    connector = CalendarConnector.connect(CalendarSettings(name="cal", ics=str(path)), lambda: NOW)
    assert len(list(connector.entries("team"))) == 1
    refusing = Refusing()
    monkeypatch.setattr("connectors.calendar.CHAMBER", refusing)
    path.write_bytes(feed(entry("DTSTART:20260106T100000Z")))
    for _ in range(3):
        with pytest.raises(Withheld, match="team: to read it takes more than a moment, which nothing does"):
            list(connector.sweep("team"))  # so nothing of it is taken for deleted
    assert refusing.seen == 1
    assert list(connector.check(["team"])) == [f"team: {ics_apart.too_much('a moment')}"]
    monkeypatch.setattr("connectors.calendar.CHAMBER", CHAMBER)
    path.write_bytes(feed(entry("DTSTART:20260105T100000Z")))
    assert len(list(connector.entries("team"))) == 2


@pytest.fixture
def office() -> Iterator[tuple[CalDavHost, CalDavConnector]]:
    host = CalDavHost()
    host.add("team")
    with serve(host.app) as url:
        yield host, CalDavConnector.connect(CalDavSettings(name="dav", url=url), lambda: NOW)


def put(host: CalDavHost, name: str, *lines: str) -> None:
    host.calendars["team"].put(f"{name}.ics", f"BEGIN:VCALENDAR\r\n{entry(*lines, uid=name)}END:VCALENDAR\r\n")


def found(connector: CalDavConnector) -> dict[str, Read]:
    return {read.ref.id.removeprefix("team/"): read for read in connector.entries("team")}


@pytest.mark.parametrize("apart", [{"memory": 120 * MB}], indirect=True)
def test_an_entry_on_a_server_that_is_given_up_loses_only_itself(
    office: tuple[CalDavHost, CalDavConnector], apart: Chamber, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, connector = office
    monkeypatch.setattr(caldav, "CHAMBER", apart)
    put(host, "a", "DTSTART:20260105T100000Z")
    put(host, "bad", "DTSTART:20260105T100000Z", *["abcd:fghij"] * 700_000)
    put(host, "c", "DTSTART:20260105T100000Z")
    reads = found(connector)
    assert "takes more than 120 MiB of memory" in str(reads["bad"].problem)
    assert [occurrences([reads[name]]) for name in ("a", "c")] == [1, 1]
    monkeypatch.setattr(caldav, "CHAMBER", refusing := Refusing())
    assert found(connector)["bad"].problem == reads["bad"].problem
    assert refusing.seen == 0, "it is not tried again"
    monkeypatch.setattr(caldav, "CHAMBER", apart)
    put(host, "bad", "DTSTART:20260105T100000Z")
    assert occurrences([found(connector)["bad"]]) == 1


@pytest.mark.parametrize("apart", [{"memory": 120 * MB}], indirect=True)
def test_an_event_at_google_that_is_given_up_loses_only_itself(apart: Chamber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_entries, "CHAMBER", apart)
    raw = {"start": {"date": "2026-01-05"}, "end": {"date": "2026-01-06"}}
    bad = raw | {"recurrence": ["RDATE:20260105"] * 380_000}
    for name, given, problem in (("a", raw, None), ("bad", bad, "takes more than 120 MiB of memory"), ("c", raw, None)):
        read = google_entries.read_series(name, [google_entries.told(given | {"id": name})], SCOPE, ics.feed_meter())
        assert read is not None
        assert (problem or "None") in str(read.problem)


def test_doctor_names_it(tmp_path: Path) -> None:
    start = "DTSTART:20260105T100000Z"
    bodies = {
        "rules": feed(entry(YEAR_1, f"RRULE:{NEVER}")), "zones": feed(entry("DTSTART;TZID=Mars/Crater:20260105T100000")),
        "components": feed(many(200_000)).replace(b"\r\n", b"\n"), "sound": SOUND, "seconds": feed(entry(start, "RRULE:FREQ=SECONDLY")),
        "zero": feed(entry(start, "RRULE:FREQ=DAILY;INTERVAL=0")), "line": feed(entry(start, "SUMMARY:" + "x" * 9 * MB)),
        "half": feed(entry(start))[:-40], "lines": feed(entry(start, *["ab"] * 2_400_000)),
    }  # fmt: skip
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    ics_of = {name: str(tmp_path / name) for name in bodies}
    connector = CalendarConnector.connect(CalendarSettings(name="cal", ics=ics_of), lambda: NOW)
    assert list(connector.check(list(bodies))) == [
        f"rules: 1 of 2 entries cannot be read: {STEPS} from its start",
        "zones: 1 of 2 entries cannot be read: DTSTART: the time zone Mars/Crater is unknown",
        "components: the feed has more than 20000 components",
        "seconds: 1 of 2 entries cannot be read: RRULE has a FREQ that is not supported",
        "zero: 1 of 2 entries cannot be read: RRULE has an INTERVAL outside 1 to 10000",
        "line: 1 of 2 entries cannot be read: SUMMARY is longer than 65536 characters",
        "half: the feed is cut off (no END:VCALENDAR)",
        "lines: the feed has more than 400000 lines",
    ]
