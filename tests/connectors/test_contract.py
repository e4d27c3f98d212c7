"""The promises of `connectors/testing.py`, kept by Jira, GitHub and calendars over HTTP against their stand-ins."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from starlette.responses import Response
from starlette.types import ASGIApp

from connectors import (
    calendar,
    github,
    github_client,
    google_calendar,
    grants,
    jira,
    jira_client,
    microsoft_calendar,
    ways,
)
from connectors.base import Connector, Ref
from pmsync.standins.atlassian import CLIENT_ID, Atlassian
from pmsync.standins.calendar import CalendarHost
from pmsync.standins.calendar import Fault as CalendarFault
from pmsync.standins.github import GitHubHost
from pmsync.standins.jira import TRUNCATED, JiraSite, StandinStatus
from pmsync.standins.jira import Fault as JiraFault
from tests.connectors.google_standin import API, ROBOT, GoogleHost, new_key, refusal
from tests.connectors.graph_standin import API as GRAPH
from tests.connectors.graph_standin import CLIENT, TENANT, GraphHost
from tests.connectors.graph_standin import refusal as graph_refusal
from tests.connectors.jira_data_center_standin import JiraServer
from tests.connectors.jira_stage import keep_consent, lead_to
from tests.connectors.served import IMPATIENT, TOKEN, Served


def basic(user: str) -> str:
    """What Basic authentication makes of a user and the token, without the end that depends on what follows."""
    return base64.b64encode(f"{user}:{TOKEN}".encode()).decode().rstrip("=")[:-4]


class TestJira(Served):
    name = "company-jira"
    container = "APO"
    granularity = timedelta(minutes=1)
    secrets = (TOKEN, basic("pmsync@example.com"))

    kind: type[JiraSite] = JiraSite

    def build(self) -> ASGIApp:
        self.site = self.kind(lambda: self.time, token=TOKEN, time_zone="Asia/Kolkata")
        self.site.statuses["Limbo"] = StandinStatus("999", "undefined")
        self.site.add_project("APO", "Apollo")
        self.site.add_version("APO", "2.1", date(2026, 4, 1), at=self.start)
        self.site.boards.plan(self.site.boards.add("Team", ["APO"], self.start), "Sprint 1", self.start)
        return self.site.app

    def open(self, secret: dict[str, Path]) -> Connector:
        auth = {"email": "pmsync@example.com", "token": secret}
        configured = jira.JiraSettings.model_validate(
            {"name": self.name, "url": self.stage.url, "auth": auth, "page_size": self.page_size, "kind": "jira"}
        )
        return jira.JiraConnector.connect(configured, lambda: self.time)

    def create(self, at: datetime) -> Ref:
        return Ref("work_item", self.site.create_issue("APO", at, "Add search", story_points=3))

    def change(self, ref: Ref, at: datetime) -> None:
        self.site.change_issue(ref.id, at, status="In Progress", assignee="acc-1")

    def delete(self, ref: Ref, at: datetime) -> None:
        self.site.delete_issue(ref.id, at)

    def spoil_one(self, at: datetime) -> Ref:
        return Ref("work_item", self.site.create_issue("APO", at, "Lost", status="Limbo"))

    def break_next(self, kind: str) -> None:
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(jira_client, "TIMEOUT", (10.0, IMPATIENT))
            return
        faults = {"busy": JiraFault(429, {"Retry-After": "7"}), "error": JiraFault(500), "cut": TRUNCATED}
        self.site.faults.append(faults[kind])


class TestJiraDataCenter(TestJira):
    name = "own-jira"
    secrets = (TOKEN,)
    kind = JiraServer

    def open(self, secret: dict[str, Path]) -> Connector:
        settings = {"name": self.name, "url": self.stage.url, "auth": {"token": secret}, "page_size": self.page_size}
        configured = jira.JiraSettings.model_validate({**settings, "kind": "jira", "deployment": "data_center"})
        return jira.JiraConnector.connect(configured, lambda: self.time)


class TestJiraByConsent(TestJira):
    """Through Atlassian's gateway, by tokens that are renewed as the clock goes on."""

    name = "our-jira"
    secrets = (TOKEN, "standin-access", "standin-refresh")

    def build(self) -> ASGIApp:
        super().build()
        self.atlassian = Atlassian(lambda: self.time, self.site, secret=TOKEN)
        lead_to(self.monkeypatch, self.stage.url)
        keep_consent(self.folder / "consent", self.atlassian, self.time)
        return self.atlassian.app

    def open(self, secret: dict[str, Path], consent: Path | None = None) -> Connector:
        auth = {"client_id": CLIENT_ID, "client_secret": secret, "consent": consent or self.folder / "consent"}
        settings = {"name": self.name, "url": "https://acme.atlassian.net", "auth": auth, "page_size": self.page_size}
        configured = jira.JiraSettings.model_validate({**settings, "kind": "jira"})
        return jira.JiraConnector.connect(configured, lambda: self.time)

    def wrong_credentials(self) -> Connector:
        """A consent that Atlassian knows nothing of, by the right app."""
        unknown = self.folder / "unknown"
        unknown.write_text((self.folder / "consent").read_text().replace("standin-", "unknown-standin-"))
        return self.open(self.secret("token", TOKEN), unknown)


class TestGitHub(Served):
    name = "gh"
    container = "acme/apollo"
    secrets = (TOKEN,)

    def build(self) -> ASGIApp:
        self.host = GitHubHost(lambda: self.time, token=TOKEN)
        self.repository = self.host.add_repository(self.container)
        self.host.add_milestone(self.container, "2.1", self.start, date(2026, 4, 1))
        self.host.shipped(self.container).release(self.start, "v1.0")
        self.made = 0
        return self.host.app

    def open(self, secret: dict[str, Path]) -> Connector:
        configured = github.GitHubSettings.model_validate(
            {"name": self.name, "url": self.stage.url, "auth": {"token": secret}, "page_size": self.page_size}
        )
        return github.GitHubConnector.connect(configured, lambda: self.time)

    def create(self, at: datetime) -> Ref:
        """Issues, pull requests, deployments and workflow runs in turn; the first two are issues, to be changed and deleted."""
        self.made += 1
        if self.made % 5 == 0:
            return Ref("workflow_run", self._id(self.host.runs(self.container).start(at)))
        if self.made % 4 == 0:
            return Ref("deployment", self._id(self.host.shipped(self.container).deploy(at, "production")))
        if self.made % 3 == 0:
            return Ref("change_request", self._id(self.host.open_pull(self.container, at, "Mend search")))
        return Ref("work_item", self._id(self.host.open_issue(self.container, at, "Add search")))

    def _id(self, number: int) -> str:
        return f"{self.repository}/{number}"

    def change(self, ref: Ref, at: datetime) -> None:
        self.host.label(self.container, int(ref.id.partition("/")[2]), at, "blocked")

    def delete(self, ref: Ref, at: datetime) -> None:
        self.host.delete(self.container, int(ref.id.partition("/")[2]), at)

    def spoil_one(self, at: datetime) -> Ref:
        return Ref("work_item", self._id(self.host.open_issue(self.container, at, cast("Any", None))))

    def break_next(self, kind: str) -> None:
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(github_client, "TIMEOUT_SECONDS", IMPATIENT)
            return
        faults = {"busy": "too_many", "error": "500", "cut": "truncated"}
        self.host.fail(cast("Any", faults[kind]))


class TestGitHubOnABoard(TestGitHub):
    """The same, and its issues are planned on a board, of which the first changed after all issues did."""

    def build(self) -> ASGIApp:
        app = super().build()
        self.board = self.host.boards.add("acme", self.start)
        self.host.boards.iterate(self.board, "Sprint 1", date(2026, 3, 2))
        return app

    def open(self, secret: dict[str, Path]) -> Connector:
        settings = {"name": self.name, "url": self.stage.url, "auth": {"token": secret}, "page_size": self.page_size}
        configured = github.GitHubSettings.model_validate({**settings, "boards": ["acme/1"]})
        return github.GitHubConnector.connect(configured, lambda: self.time)

    def create(self, at: datetime) -> Ref:
        ref = super().create(at)
        if ref.kind == "work_item":
            late = timedelta(minutes=self.made == 1)
            place = (self.container, int(ref.id.partition("/")[2]))
            iteration = self.board.iterations[0].id
            self.host.boards.put(self.board, place, at + late, status="Todo", iteration=iteration, estimate=3)
        return ref


class TestCalendar(Served):
    name = "team"
    container = "deadlines"
    secrets = (TOKEN, basic("pm"))
    timeless = "a feed is read whole: what it says of its entries' changes (DTSTAMP, LAST-MODIFIED) cannot be trusted"

    def build(self) -> ASGIApp:
        self.host = CalendarHost(lambda: self.time, user="pm", password=TOKEN)
        self.host.add_calendar(self.container)
        self.made = 0
        return self.host.app

    def open(self, secret: dict[str, Path]) -> Connector:
        ics = {self.container: f"{self.stage.url}/{self.container}.ics"}
        configured = calendar.CalendarSettings.model_validate(
            {"name": self.name, "ics": ics, "auth": {"user": "pm", "password": secret}}
        )
        return calendar.CalendarConnector.connect(configured, lambda: self.time)

    def create(self, at: datetime) -> Ref:
        return self._add(at)

    def _add(self, at: datetime, **more: Any) -> Ref:
        self.made += 1
        uid = f"entry-{self.made}@example.com"
        self.host.add_entry(self.container, at, uid, "Trade fair", date(2026, 4, 1), date(2026, 4, 2), **more)
        return Ref("calendar_entry", f"{self.container}/{uid}")

    def change(self, ref: Ref, at: datetime) -> None:
        self.host.change_entry(self.container, at, ref.id.partition("/")[2], end=date(2026, 4, 3))

    def delete(self, ref: Ref, at: datetime) -> None:
        self.host.delete_entry(self.container, at, ref.id.partition("/")[2])

    def spoil_one(self, at: datetime) -> Ref:
        return self._add(at, rrule="FREQ=SECONDLY")

    def break_next(self, kind: str) -> None:
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(ways, "READ_SECONDS", IMPATIENT)
            return
        self.host.faults.append(CalendarFault(cast("Any", kind), 7 if kind == "busy" else None))


PRIVATE, PUBLIC = new_key()
STRANGE, _ = new_key()


class TestGoogleCalendar(Served):
    name = "google"
    container = "deadlines"
    secrets = ("canary-token", *PRIVATE.splitlines()[1:-1], *STRANGE.splitlines()[1:-1])
    timeless = "what changed comes by Google's list of changes, which gives no time that could be compared"
    calendar = "pm@group.calendar.google.com"

    def build(self) -> ASGIApp:
        self.host = GoogleHost(lambda: self.time, PUBLIC, page=self.page_size)
        self.host.add(self.calendar)
        self.made = 0
        return self.host.app

    def connect(self) -> Connector:
        return self._open(PRIVATE)

    def wrong_credentials(self) -> Connector:
        return self._open(STRANGE)

    def _open(self, private: str) -> Connector:
        key = {"client_email": ROBOT, "private_key": private, "token_uri": f"{self.stage.url}/token"}
        return self.open(self.secret("key", json.dumps(key)))

    def open(self, secret: dict[str, Path]) -> Connector:
        configured = google_calendar.GoogleCalendarSettings.model_validate(
            {
                "name": self.name,
                "calendars": {self.container: self.calendar},
                "auth": {"service_account": secret},
                "url": f"{self.stage.url}{API}",
            }
        )
        return google_calendar.GoogleCalendarConnector.connect(configured, lambda: self.time)

    def create(self, at: datetime) -> Ref:
        return self._add()

    def _add(self, **more: Any) -> Ref:
        self.made += 1
        ident = f"entry{self.made}"
        day = {"start": {"date": "2026-04-01"}, "end": {"date": "2026-04-02"}}
        self.host.add(self.calendar).put({"id": ident, "summary": "Trade fair", **day, **more})
        return Ref("calendar_entry", f"{self.container}/{ident}")

    def change(self, ref: Ref, at: datetime) -> None:
        ident = ref.id.partition("/")[2]
        known, _ = self.host.add(self.calendar).events[ident]
        self.host.add(self.calendar).put(known | {"end": {"date": "2026-04-03"}})

    def delete(self, ref: Ref, at: datetime) -> None:
        self.host.add(self.calendar).cancel(ref.id.partition("/")[2])

    def spoil_one(self, at: datetime) -> Ref:
        return self._add(recurrence=["RRULE:FREQ=SECONDLY"])

    def break_next(self, kind: str) -> None:
        """A list breaks; tokens have tests of their own."""
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(ways, "READ_SECONDS", IMPATIENT)
            self.monkeypatch.setattr(grants, "TIMEOUT", (IMPATIENT, IMPATIENT))
            return
        half = Response('{"kind": "calendar#events", "items": [', media_type="application/json")
        faults = {
            "busy": refusal(429, "rateLimitExceeded", {"Retry-After": "7"}),
            "error": refusal(500, "backendError"),
        }
        self.host.instead.append(lambda: faults.get(kind, half))


class TestMicrosoftCalendar(Served):
    """One calendar of an office, of which every other entry recurs."""

    name = "office"
    container = "deadlines"
    secrets = (TOKEN, "canary-token")
    timeless = "what changed comes by Graph's list of changes, which gives no time that could be compared"
    calendar = "pm@example.com"

    def build(self) -> ASGIApp:
        self.host = GraphHost(lambda: self.time, self.stage.url, TOKEN, page=self.page_size)
        self.host.add(self.calendar)
        self.made = 0
        return self.host.app

    def open(self, secret: dict[str, Path]) -> Connector:
        auth = {"tenant": TENANT, "client_id": CLIENT, "client_secret": secret, "login": self.stage.url}
        configured = microsoft_calendar.MicrosoftCalendarSettings.model_validate(
            {
                "name": self.name,
                "calendars": {self.container: self.calendar},
                "auth": auth,
                "url": f"{self.stage.url}{GRAPH}",
            }
        )
        return microsoft_calendar.MicrosoftCalendarConnector.connect(configured, lambda: self.time)

    def create(self, at: datetime) -> Ref:
        return self._add()

    def _add(self, **more: Any) -> Ref:
        self.made += 1
        ident = f"entry{self.made}"
        self._put(ident, "2026-04-02T00:00:00", self.made % 2 == 0, **more)
        return Ref("calendar_entry", f"{self.container}/{ident}")

    def _put(self, ident: str, end: str, recurs: bool, **more: Any) -> None:
        when = {"start": self._at("2026-04-01T00:00:00"), "end": self._at(end)}
        words = {"subject": "Trade fair", "showAs": "free", "isAllDay": True, "isCancelled": False, **more}
        head = {"id": ident, "type": "seriesMaster" if recurs else "singleInstance", "seriesMasterId": None}
        each = {"id": f"{ident}-1", "type": "occurrence", "seriesMasterId": ident}
        self.host.add(self.calendar).put({**head, **when, **words}, [{**each, **when, **words}] if recurs else [])

    def _at(self, when: str) -> dict[str, str]:
        return {"dateTime": when, "timeZone": "UTC"}

    def change(self, ref: Ref, at: datetime) -> None:
        ident = ref.id.partition("/")[2]
        known, _ = self.host.add(self.calendar).events[ident]
        self._put(ident, "2026-04-03T00:00:00", bool(known and known["type"] == "seriesMaster"))

    def delete(self, ref: Ref, at: datetime) -> None:
        self.host.add(self.calendar).delete(ref.id.partition("/")[2])

    def spoil_one(self, at: datetime) -> Ref:
        return self._add(isAllDay="perhaps")

    def break_next(self, kind: str) -> None:
        """A list breaks; tokens have tests of their own."""
        if kind == "silent":
            self.stage.silent = True
            self.monkeypatch.setattr(ways, "READ_SECONDS", IMPATIENT)
            self.monkeypatch.setattr(grants, "TIMEOUT", (IMPATIENT, IMPATIENT))
            return
        half = Response('{"value": [{"id": "entry1", ', media_type="application/json")
        faults = {
            "busy": graph_refusal(429, "TooManyRequests", {"Retry-After": "7"}),
            "error": graph_refusal(500, "UnknownError"),
        }
        self.host.instead.append(lambda _: faults.get(kind, half))
