"""Whatever a source sends: a thing is read or says why not, and nothing but a `ConnectorError` is raised.

The answers of the stand-ins are spoilt on their way, at random places and with values that broke something once or look
as if they could. `FUZZ=5000 pytest tests/connectors/test_fuzz.py` looks longer (examples per test).
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors import caldav, calendar, github, google_calendar, ics, jira, microsoft_calendar
from connectors.base import Connector, ConnectorError, Counting, Read, Ref
from pmsync.core.events import Meaning
from pmsync.standins.calendar import CalendarHost
from pmsync.standins.github import GitHubHost, User
from pmsync.standins.jira import JiraSite
from pmsync.standins.server import serve
from tests.connectors.caldav_standin import CalDavHost
from tests.connectors.google_standin import API as GOOGLE
from tests.connectors.google_standin import ROBOT, GoogleHost, new_key
from tests.connectors.graph_standin import API as GRAPH
from tests.connectors.graph_standin import CLIENT, TENANT, GraphHost
from tests.connectors.jira_data_center_standin import JiraServer

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = T0 + timedelta(days=9)
GOOGLE_PRIVATE, GOOGLE_PUBLIC = new_key()
LONG = settings(
    max_examples=int(os.environ.get("FUZZ", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

VALUES: Sequence[Any] = (
    None, True, [], {}, [None], ["x"], {"id": None}, {"name": 5}, "", "x", "0", "-1", "\0", "\ud800", "http://[bad", "x" * 70_000,
    0, -1, 1.5, 10**400, float("nan"), float("inf"), -1e308, "1e999999999", "1e-999999999", "9" * 5000, "sNaN", "²",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999-14:00", "9999-12-31", "2026-02-30", "2026-01-01T00:00:00",
    "2026-03-03T09:00:00.000+0000", 10**15, -(10**15),
    "America", "x" * 300,
)  # fmt: skip
HEADERS: Mapping[str, Sequence[str]] = {
    "link": ('<http://[bad>; rel="next"', '<x>; rel="next"', "<", '>;rel=";"', '<//>; rel="next"'),
    "date": (
        "",
        "soon",
        "Fri, 31 Dec 9999 23:59:59 -1400",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 99 Foo 2026 25:61:61 +99999",
    ),
    "retry-after": ("", "soon", "-1", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"),
    "x-ratelimit-remaining": ("0", "", "many", "9" * 400),
    "x-ratelimit-limit": ("", "many", "9" * 400),
    "x-ratelimit-reset": (
        "0",
        "",
        "soon",
        "999999999999",
        "9" * 400,
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
    ),
    "ratelimit-reason": ("jira-quota-tenant-based", "jira-burst-based", "x"),
    "x-ausername": ("anonymous", "pm"),
    "location": ("http://[bad", "", "//", "/", "http://a:99999999/", "\x7f", "file:///etc/passwd"),
    "etag": ("", "\xff", "x" * 9000),
    "content-type": ("", "text/html", "application/json; charset=nonsense"),
    "content-encoding": ("gzip", "br", "nonsense"),
}
MARKUP = (
    b"", b"x", b"0", b"\x00", b"\xff\xfe", b"<a>", b"</a>", b"<a/>", b"&x;", b"&#0;", b"<!DOCTYPE x>", b"<![CDATA[", b"http://[bad", b"x" * 70_000,
    b"HTTP/1.1 507 x", b"HTTP/1.1 404 x", b"HTTP/1.1 999 x", b"/../..", b"%2e%2e/%00", b"//elsewhere.invalid/", b"ftp://x/", b"BEGIN:VCALENDAR",
)  # fmt: skip
STATUSES = (200, 204, 206, 301, 302, 304, 400, 401, 403, 404, 410, 418, 429, 451, 500, 503, 599)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and under which key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from places(value[key])


def spoil(value: Any, choose: Callable[[Sequence[Any]], Any]) -> Any:
    """A copy in which one to three places hold something else."""
    spoilt = [copy.deepcopy(value)]
    for _ in range(choose((1, 1, 1, 2, 3))):
        holder, key = choose(list(places(spoilt)))
        if isinstance(holder, dict) and choose((False, False, True)):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(choose(VALUES))
    return spoilt[0] if spoilt else None


def spoil_markup(body: bytes, choose: Callable[[Sequence[Any]], Any]) -> bytes:
    """The same with something else in place of one tag, or of what is between two."""
    pieces = re.split(rb"(<[^>]*>)", body)
    pieces[choose(range(len(pieces)))] = choose(MARKUP)
    return b"".join(pieces)


class Spoiling:
    """Passes requests on to an app; the answer to the `countdown`-th is spoilt as `how` says."""

    def __init__(self) -> None:
        self.app: ASGIApp
        self.countdown = -1
        self.how: Callable[[list[Message]], list[Message]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        self.countdown -= 1
        for message in self.how(messages) if self.countdown == -1 else messages:
            await send(message)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Spoiling, str]]:
    spoiling = Spoiling()
    with serve(spoiling) as url:
        yield spoiling, url


def answer(messages: list[Message], choose: Callable[[Sequence[Any]], Any]) -> list[Message]:
    """Something else in the body, another status, a header too many, or half of it."""
    start, body = messages[0], b"".join(message.get("body", b"") for message in messages[1:])
    headers = {key: value for key, value in start["headers"] if key != b"content-length"}
    kind = choose(("value", "value", "value", "status", "header", "header", "half"))
    if kind == "value":
        try:
            body = json.dumps(spoil(json.loads(body), choose)).encode()
        except ValueError:
            kind = "half"
            if body.startswith(b"<?xml"):
                body, kind = spoil_markup(body, choose), "value"
    if kind == "half":
        body = body[: len(body) // 2]
    if kind == "status":
        start = start | {"status": choose(STATUSES)}
    if kind in ("status", "header"):
        name = choose(sorted(HEADERS))
        headers[name.encode()] = choose(HEADERS[name]).encode("latin-1")
    if start["status"] in (204, 304):
        body = b""
    return [start | {"headers": list(headers.items())}, {"type": "http.response.body", "body": body}]


def a_jira(url: str, secret: Path, site: JiraSite | None = None) -> tuple[ASGIApp, Connector, str]:
    site = site or JiraSite(lambda: NOW, token="token", max_page=3)
    site.add_project("APO", "Apollo")
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0)
    for number in range(4):
        made = site.create_issue("APO", T0, f"Issue {number}", story_points=3, fix_version=version, sprint=5)
        site.change_issue(
            made, T0 + timedelta(hours=1), status="Done", resolution="Won't Do", flagged=True, assignee="a"
        )
    for number in range(21):  # one more than an issue shows
        site.log_work(made, T0 + timedelta(hours=2 + number), 60)
    own = isinstance(site, JiraServer)
    auth = {"token": {"file": secret}} if own else {"email": "pmsync@example.com", "token": {"file": secret}}
    settings = {"name": "j", "kind": "jira", "url": url, "deployment": "data_center" if own else "cloud"}
    configured = jira.JiraSettings.model_validate({**settings, "auth": auth, "page_size": 3})
    return site.app, jira.JiraConnector.connect(configured, lambda: NOW), "APO"


def a_jira_of_ones_own(url: str, secret: Path) -> tuple[ASGIApp, Connector, str]:
    return a_jira(url, secret, JiraServer(lambda: NOW, token="token", max_page=3, most_histories=1))


def a_github(url: str, secret: Path) -> tuple[ASGIApp, Connector, str]:
    host = GitHubHost(lambda: NOW, token="token")
    host.add_repository("acme/apollo")
    milestone = host.add_milestone("acme/apollo", "2.1", T0, date(2026, 4, 1))
    for number in (1, 2, 3):
        make = host.open_issue if number < 3 else host.open_pull
        make("acme/apollo", T0, f"Number {number}")
        host.set_milestone("acme/apollo", number, T0, milestone)
        host.assign("acme/apollo", number, T0 + timedelta(hours=number), User("ann", 11))
        host.label("acme/apollo", number, T0 + timedelta(hours=number), "blocked")
    host.review("acme/apollo", 3, T0 + timedelta(hours=4), "approved", User("ben", 12))
    runs = host.runs("acme/apollo")
    runs.try_again(runs.ran(T0, T0 + timedelta(hours=1), "failure"), T0 + timedelta(hours=2))
    configured = github.GitHubSettings.model_validate(
        {"name": "g", "url": url, "auth": {"token": {"file": secret}}, "page_size": 2}
    )
    return host.app, github.GitHubConnector.connect(configured, lambda: NOW), "acme/apollo"


def a_calendar(url: str, secret: Path) -> tuple[ASGIApp, Connector, str]:
    host = CalendarHost(lambda: NOW)
    host.add_entry("team", T0, "a", "Fair", date(2026, 4, 1), date(2026, 4, 2), rrule="FREQ=DAILY;COUNT=5")
    configured = calendar.CalendarSettings.model_validate(
        {"name": "c", "ics": {"team": f"{url}/team.ics"}, "auth": {"token": {"file": secret}}}
    )
    return host.app, calendar.CalendarConnector.connect(configured, lambda: NOW), "team"


def a_caldav(url: str, secret: Path) -> tuple[ASGIApp, Connector, str]:
    host = CalDavHost(page=2)
    for name in "abcde":
        host.add("team").put(
            f"{name}.ics", f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:{name}\nDTSTART:20260401\nEND:VEVENT\nEND:VCALENDAR\n"
        )
    configured = caldav.CalDavSettings.model_validate({"name": "d", "kind": "caldav", "url": url})
    return host.app, caldav.CalDavConnector.connect(configured, lambda: NOW), "team"


def a_google(url: str, secret: Path) -> tuple[ASGIApp, Connector, str]:
    host = GoogleHost(lambda: NOW, GOOGLE_PUBLIC, page=2)
    for name in "abcde":
        times = {"start": {"date": "2026-04-01"}, "end": {"date": "2026-04-02"}}
        host.add("x").put({"id": name, "recurrence": ["RRULE:FREQ=DAILY;COUNT=3"], **times})
    key = secret.with_name("key")
    key.write_text(json.dumps({"client_email": ROBOT, "private_key": GOOGLE_PRIVATE, "token_uri": f"{url}/token"}))
    settings = {
        "name": "e",
        "calendars": {"team": "x"},
        "auth": {"service_account": {"file": key}},
        "url": url + GOOGLE,
    }
    configured = google_calendar.GoogleCalendarSettings.model_validate(settings)
    return host.app, google_calendar.GoogleCalendarConnector.connect(configured, lambda: NOW), "team"


def a_microsoft(url: str, secret: Path) -> tuple[ASGIApp, Connector, str]:
    host = GraphHost(lambda: NOW, url, "token", page=2, masters_told=False)
    when = {
        name: {"dateTime": f"2026-04-0{day}T00:00:00", "timeZone": "UTC"}
        for day, name in enumerate(("start", "end"), 1)
    }
    words = {**when, "showAs": "busy", "isAllDay": True, "isCancelled": False, "categories": ["x"]}
    for name in "abc":
        host.add("x").put({"id": name, "type": "singleInstance", "seriesMasterId": None, **words})
    parts = [{"id": f"d{part}", "type": "occurrence", "seriesMasterId": "d", **words} for part in range(3)]
    host.add("x").put({"id": "d", "type": "seriesMaster", "seriesMasterId": None, **words}, parts)
    auth = {"tenant": TENANT, "client_id": CLIENT, "client_secret": {"file": secret}, "login": url}
    settings = {"name": "f", "calendars": {"team": "x"}, "auth": auth, "url": url + GRAPH}
    configured = microsoft_calendar.MicrosoftCalendarSettings.model_validate(settings)
    return host.app, microsoft_calendar.MicrosoftCalendarConnector.connect(configured, lambda: NOW), "team"


def reads(connector: Connector, container: str) -> Iterator[Read]:
    """Everything that a connector does; each part may be refused."""
    found: list[Read] = []
    parts: Sequence[Callable[[], Any]] = (
        connector.now,
        lambda: [found.extend(page) for page in connector.changed(container, None)],
        lambda: list(connector.sweep(container)),
        lambda: found.extend(connector.fetch([read.ref for read in found] or [Ref("work_item", "1000001/1")])),
        lambda: list(connector.changed(container, T0)),
        lambda: list(connector.check([container])),
        lambda: connector.count(container, T0) if isinstance(connector, Counting) else None,
    )
    for part in parts:
        error = refusal(part)
        after = getattr(error, "after", None)
        if error is not None and not isinstance(error, ConnectorError):
            raise error
        assert after is None or 1 <= after <= 3600
    yield from found


def refusal(part: Callable[[], Any]) -> Exception | None:
    try:
        part()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("source", [a_jira, a_jira_of_ones_own, a_github, a_calendar, a_caldav, a_google, a_microsoft])
def test_a_spoilt_answer_is_a_problem_or_an_error_of_ours(
    source: Callable[[str, Path], tuple[ASGIApp, Connector, str]], served: tuple[Spoiling, str], tmp_path: Path
) -> None:
    spoiling, url = served
    (tmp_path / "token").write_text("token")

    @LONG
    @given(st.data())
    def look(data: st.DataObject) -> None:
        app, connector, container = source(url, tmp_path / "token")
        countdown = data.draw(st.integers(0, 15))
        choices = iter(data.draw(st.lists(st.integers(0, 10**6), min_size=20, max_size=20)))
        spoiling.app, spoiling.countdown = app, countdown
        spoiling.how = lambda messages: answer(messages, lambda among: among[next(choices, 0) % len(among)])
        for read in reads(connector, container):
            assert read.content is None or read.problem is None
            assert read.problem is None or "\n" not in read.problem

    look()


FRAGMENTS = (
    "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VTODO", "END:VTODO", "BEGIN:VALARM", "END:VALARM", "UID:1", "UID:2", "UID:",
    "DTSTART:20260318T090000Z", "DTSTART;VALUE=DATE:20260318", "DTSTART;TZID=Europe/Berlin:20260329T023000",
    "DTSTART;TZID=X:20260329T023000", "DTSTART:00010101T000000Z", "DTSTART:99991231T235959Z", "DTSTART:",
    "DTEND:20260318T080000Z", "DTEND;VALUE=DATE:20260320", "DTEND:99991231T235959Z", "DUE:20260318T090000",
    "DUE;VALUE=DATE:99991231", "DUE;VALUE=DATE:20260318", "DURATION:P1D", "DURATION:-P400000D", "DURATION:PT0S", "DURATION:P99999999999D",
    "RRULE:FREQ=DAILY", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "RRULE:FREQ=MONTHLY;BYDAY=5MO;COUNT=9999999999",
    "RRULE:FREQ=WEEKLY;UNTIL=20260401", "RRULE:FREQ=HOURLY;BYSETPOS=-1;BYDAY=MO", "RRULE:FREQ=DAILY;BYYEARDAY=999",
    "RDATE:20260401T000000Z,20260402T000000Z", "RDATE;VALUE=PERIOD:20260401T000000Z/PT1H", "EXDATE:20260318",
    "EXDATE;TZID=Europe/Berlin:20260319T090000", "RECURRENCE-ID:20260319T090000Z",
    "RECURRENCE-ID;RANGE=THISANDFUTURE:20260319T090000Z", "STATUS:CANCELLED", "STATUS:COMPLETED", "COMPLETED:x", "COMPLETED",
    "SEQUENCE:3", "SEQUENCE:-", "SUMMARY:a\\nb", 'SUMMARY;LANGUAGE="x:y', "SUMMARY:\ufffd\0", " folded", "X", ":", ";",
)  # fmt: skip
ZONE = (
    "TZID:X", "BEGIN:STANDARD", "DTSTART:16010101T000000", "DTSTART:20000101T000000", "TZOFFSETFROM:+0100", "TZOFFSETTO:+9900",
    "TZOFFSETTO:+0200", "RRULE:FREQ=YEARLY;BYMONTH=13", "RRULE:FREQ=YEARLY", "END:STANDARD", "TZNAME:\0",
)  # fmt: skip
COMPONENT = st.tuples(st.sampled_from(["VEVENT", "VTODO"]), st.lists(st.sampled_from(FRAGMENTS), max_size=7))


@settings(parent=LONG, max_examples=5 * LONG.max_examples)
@given(
    st.lists(COMPONENT, max_size=3),
    st.lists(st.sampled_from(ZONE), max_size=6),
    st.binary(max_size=3),
    st.integers(0, 10**4),
)
def test_a_spoilt_feed_is_a_problem_or_an_error_of_ours(
    components: list[tuple[str, list[str]]], zone: list[str], junk: bytes, place: int
) -> None:
    lines = ["BEGIN:VCALENDAR", *(["BEGIN:VTIMEZONE", *zone, "END:VTIMEZONE"] if zone else [])]
    for kind, inner in components:
        lines += [f"BEGIN:{kind}", *inner, f"END:{kind}"]
    body = "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()
    at = place % len(body)
    body = body[:at] + junk + body[at + len(junk) :]
    scope = ics.Scope("deadlines", Meaning.deadline, ics.window_at(NOW), ZoneInfo("Europe/Berlin"), titles=True)
    try:
        found = list(ics.read_feed(body, scope))
    except ConnectorError:
        return
    assert all((read.content is None) != (read.problem is None) for read in found)
