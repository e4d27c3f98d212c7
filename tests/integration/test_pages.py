"""The pages in a real browser: charts are drawn, nothing leaves the machine, and hostile text stays text."""

import json
import random
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from pmsync.core.claims import claimed
from pmsync.core.events import (
    CONFIGURATION,
    Acknowledgement,
    CalendarEntry,
    Change,
    Deployment,
    Fact,
    Meaning,
    Member,
    Milestone,
    Occurrence,
    Project,
    Release,
    Shift,
    Snapshot,
    Sprint,
    Synced,
    Thing,
    WorkflowRun,
    WorkItem,
)
from pmsync.core.people import Account
from pmsync.core.project import ProjectState, fold
from pmsync.core.rules import episodes
from pmsync.health import Health
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.freshness import Freshness
from pmsync.store.people import PeopleStore
from pmsync.store.state import StateStore
from pmsync.web.app import create_app
from pmsync.web.reader import PortfolioReader, StoreReader
from pmsync.web.serve import CannotListen, serve

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)  # a Tuesday
START = NOW - timedelta(days=120)
DAY = timedelta(days=1)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
HOSTILE = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 2">',
    "</script><script>window.pwned = 3</script>",
    "{{ 7 * 7 }} <!-- \u202e",
)


def task(n: int, *, done: datetime | None = None, started: datetime | None = None, **values: Any) -> tuple[Thing, Any]:
    """A work item with the history that leads to where it stands."""
    moves: list[tuple[datetime | None, str, str]] = [
        (started, "todo", "in_progress"),
        (done, "in_progress" if started else "todo", "done"),
    ]
    history = [
        Change(field="status_category", old=old, new=new, at=when, id=f"{n}.{i}")
        for i, (when, old, new) in enumerate(moves)
        if when
    ]
    category = history[-1].new if history else "todo"
    content = {
        "key": f"APO-{n}", "container": "APO", "type": "Task", "title": f"Task {n}", "created_at": START,
        "url": f"https://jira.example.com/browse/APO-{n}", "status": str(category), "status_category": category,
        "history": history, **values,
    }  # fmt: skip
    return Thing("jira", "work_item", str(n)), WorkItem.model_validate(content)


def team(finished: int, left: int, **values: Any) -> list[tuple[Thing, Any]]:
    """A project's work: some finished steadily up to now, some started, the rest to do."""
    draw = random.Random(7)
    items = []
    for n in range(1, finished + 1):
        done = START + (NOW - START) * n / (finished + 1)
        started = max(done - timedelta(days=draw.randint(1, 12)), START + timedelta(hours=1))
        items.append(task(n, done=done, started=started, **values))
    for n in range(finished + 1, finished + left + 1):
        begun = NOW - timedelta(days=draw.randint(1, 30)) if n % 4 == 0 else None
        came = START if n % 5 else NOW - timedelta(days=draw.randint(1, 40))
        items.append(task(n, started=begun, **{"created_at": min(came, begun or came), **values}))
    return items


def build(
    key: str,
    name: str,
    items: Sequence[tuple[Thing, Any]] = (),
    milestones: Sequence[tuple[Thing, Any]] = (),
    facts: Sequence[Fact] = (),
    *,
    deployments: Sequence[tuple[Thing, Any]] = (),
    releases: Sequence[tuple[Thing, Any]] = (),
    read: bool = True,
    sprints: Sequence[tuple[Thing, Any]] = (),
    runs: Sequence[tuple[Thing, Any]] = (),
    promises: Sequence[Mapping[str, Any]] = (),
    calendar: Sequence[tuple[Thing, Any]] = (),
    **values: Any,
) -> ProjectState:
    project = Project.model_validate(
        {"key": key, "name": name, "mapping": {"jira": {"APO": 1}}, "milestones": promises, **values}
    )
    synced = Synced(container="APO", mapped={key: 1}, listed=0, published=0, dead=0)
    things = {
        "work_item": list(items), "change_request": [], "milestone": list(milestones), "sprint": list(sprints),
        "deployment": list(deployments), "release": list(releases), "workflow_run": list(runs),
        "calendar_entry": list(calendar),
        "synced": [(Thing("jira", "synced", "APO"), synced)] if read else [],
    }  # fmt: skip
    return ProjectState(project, things, {}, facts)


def release(ident: str, title: str, due: date | None, **values: Any) -> tuple[Thing, Any]:
    content = {"key": ident, "container": "APO", "title": title, "due_date": due, "created_at": START, **values}
    return Thing("jira", "milestone", ident), Milestone.model_validate(content)


def deployed(ident: str, ref: str, url: str = "", at: datetime = NOW - DAY, **values: Any) -> tuple[Thing, Any]:
    """A deployment to production."""
    content = {"container": "APO", "environment": "production", "production": True, "ref": ref, "sha": "0", "url": url}
    told = {"created_at": at, "state": "success", **values}
    return Thing("jira", "deployment", ident), Deployment.model_validate({**content, **told})


def published(ident: str, title: str, url: str = "", at: datetime = NOW - DAY) -> tuple[Thing, Any]:
    content = {"key": f"v{ident}", "container": "APO", "title": title, "url": url, "created_at": at, "published_at": at}
    return Thing("jira", "release", ident), Release.model_validate(content)


def ran(ident: int, state: str, ended: datetime, name: str = "CI", url: str = "") -> tuple[Thing, Any]:
    """A run of an hour on the default branch, in a workflow of this name."""
    began = ended - timedelta(hours=1)
    content = {
        "container": "APO", "workflow": name, "name": name, "number": ident, "url": url, "branch": "main", "event": "push",
        "sha": "5ca1ab1e", "created_at": began, "state": state,
        "attempts": [{"number": 1, "started_at": began, "ended_at": ended, "state": state}],
    }  # fmt: skip
    return Thing("jira", "workflow_run", str(ident)), WorkflowRun.model_validate(content)


def sprint(ident: str, title: str, state: str, starts: datetime, **values: Any) -> tuple[Thing, Any]:
    content = {"key": title, "container": "APO", "sprint": ident, "title": title, "state": state, "starts_at": starts}
    dates = {"ends_at": starts + timedelta(days=14)}
    return Thing("jira", "sprint", f"1/{ident}"), Sprint.model_validate(content | dates | values)


def in_sprint(item: tuple[Thing, Any], sprint: str, at: datetime | None = None) -> tuple[Thing, Any]:
    """The item in a sprint since an instant, or since it was created."""
    thing, content = item
    change = [Change(field="sprint", old=None, new=sprint, at=at, id="s")] if at else []
    return thing, content.model_copy(update={"sprint": sprint, "history": (*content.history, *change)})


def sprinting() -> ProjectState:
    """Of the sprint that goes on two items were committed and one came later; one of the three is done."""
    began = NOW - timedelta(days=9)
    items = [
        in_sprint(task(1, started=began, done=NOW - timedelta(days=1)), "7"),
        in_sprint(task(2), "7"),
        in_sprint(task(3), "7", NOW - timedelta(days=3)),
        in_sprint(task(4, started=began - timedelta(days=5), done=began - timedelta(days=2)), "6"),
    ]
    before = sprint("6", HOSTILE[1], "closed", began - timedelta(days=14), closed_at=began)
    sprints = [
        before,
        sprint("7", HOSTILE[2], "active", began, goal=HOSTILE[0], url="javascript:window.pwned=7"),
        sprint("8", "The next", "future", began + timedelta(days=14)),
    ]
    return build("sprinting", "Sprinting", items, sprints=sprints)


def apollo() -> ProjectState:
    items = [*team(64, 26, milestone="r1"), task(200, started=NOW - timedelta(days=9), blocked=True, milestone="r1")]
    milestones = [
        release("r1", "Release 2.1", date(2026, 12, 11), url="https://jira.example.com/r1"),
        release("r0", "Release 2.0", date(2026, 9, 30), state="closed", closed_at=NOW - timedelta(days=50)),
        release("r2", "Release 3.0", None),
    ]
    runs = [deployed(str(n), f"v1.{n}", "https://ci.example.com/1", NOW - (20 - n) * DAY) for n in range(9)]
    staged = deployed("9", "v2", production=False)
    out = [published("1", "Release 1.8", "https://github.com/acme/apollo/releases/v1.8", NOW - 11 * DAY)]
    url = "https://github.com/acme/apollo/actions/runs/3"
    tried = [
        ran(1, "success", NOW - 9 * DAY), ran(2, "failure", NOW - 7 * DAY), ran(3, "failure", NOW - 6 * DAY, url=url),
        ran(4, "success", NOW - 40 * DAY, "Docs"), ran(5, "skipped", NOW - DAY, "Nightly"),
    ]  # fmt: skip
    return build(
        "apollo", "Apollo", items, milestones, time_zone="Europe/Berlin", deadline=date(2027, 1, 29),
        deployments=[*runs, staged], releases=out, runs=tried, team=[member("ada"), member("bo")],
        calendar=[away("ada", date(2026, 11, 26), date(2026, 11, 28)), away(None, date(2026, 11, 30), date(2026, 12, 1))],
    )  # fmt: skip


def member(account: str) -> Member:
    """Somebody who works from 9 to 17 in Berlin, on weekdays."""
    hours = ((Shift(start=540, end=1020),),) * 5 + ((), ())
    return Member(person=f"person-{account}", time_zone="Europe/Berlin", hours=hours, accounts={"jira": (account,)})


def away(whose: str | None, start: date, end: date) -> tuple[Thing, CalendarEntry]:
    occurrences = (Occurrence(start=start, end=end),)
    content = CalendarEntry(container="APO", meaning=Meaning.time_off, whose=whose, occurrences=occurrences)
    return Thing("jira", "calendar_entry", f"{whose}/{start}"), content


def hostile() -> ProjectState:
    urls = (
        "javascript:window.pwned=4",
        "data:text/html,<script>window.pwned=5</script>",
        "https://x.example/ok",
        "http://[",
    )
    started = NOW - timedelta(days=30)
    items = [
        task(n, title=title, key=f"K-{title}", url=url, started=started, blocked=True, due_date=date(2026, 11, 2))
        for n, (title, url) in enumerate(zip(HOSTILE, urls, strict=True))
    ]
    done = [
        task(n, title=HOSTILE[n % 4], key=f"D-{n}", started=started, done=NOW - timedelta(days=n % 9), milestone="h")
        for n in range(10, 40)
    ]
    late = release("h", HOSTILE[2], date(2026, 11, 27), url="javascript:window.pwned=6")
    more = [task(n, title=HOSTILE[1], milestone="h", url=urls[0]) for n in range(50, 90)]
    runs = [
        deployed(str(n), title, url, environment=title, state=title)
        for n, (title, url) in enumerate(zip(HOSTILE, urls, strict=True))
    ]
    out = [published(str(n), title, url) for n, (title, url) in enumerate(zip(HOSTILE, urls, strict=True))]
    tried = [ran(n, "failure", NOW - DAY, title, url) for n, (title, url) in enumerate(zip(HOSTILE, urls, strict=True))]
    return build("hostile", HOSTILE[0], [*items, *done, *more], [late], deployments=runs, releases=out, runs=tried)


def portfolio() -> dict[str, ProjectState]:
    early = release("r1", "Beta", date(2027, 3, 31))
    return {
        "apollo": apollo(),
        "borealis": build("borealis", "Borealis", team(40, 6, milestone="r1"), [early]),
        "corona": build("corona", "Corona", team(10, 10), read=False),
        "delta": build("delta", "Delta", team(0, 12), [release("r1", "First light", date(2026, 12, 4))]),
        "empty": build("empty", "Empty"),
        "hostile": hostile(),
        "sprinting": sprinting(),
    }


class Memory:
    """A reader over states in memory, which counts how often it was asked for one."""

    def __init__(self, states: dict[str, ProjectState]) -> None:
        self.states = states
        self.current = 0
        self.asked = 0
        self.unread: dict[str, datetime] = {}
        self.named: dict[str, str] = {}
        self.owned: dict[Account, str] = {}

    def projects(self) -> Sequence[str]:
        return sorted(self.states)

    def state(self, project: str, *, past: bool = False) -> ProjectState | None:
        self.asked += 1
        return self.states.get(project)

    def revision(self, project: str) -> int:
        return self.current

    def stale(self, now: datetime) -> Mapping[str, datetime]:
        return self.unread

    def names(self, persons: Collection[str]) -> Mapping[str, str]:
        return {person: self.named[person] for person in persons if person in self.named}

    def owners(self, accounts: Collection[Account]) -> Mapping[Account, str]:
        return {account: self.owned[account] for account in accounts if account in self.owned}


@contextmanager
def served(read: PortfolioReader, clock: Callable[[], datetime] = lambda: NOW) -> Iterator[str]:
    with serve(create_app(read, clock, Health(clock))) as url:
        yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(Memory(portfolio())) as base:
        yield base


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=30)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(needs: Callable[[str], str]) -> Iterator[Browser]:
    place = needs("chromium")
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=place, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if anything is wrong in it, or leaves the machine."""
    found = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    found.on("console", lambda message: wrong.append(f"console: {message.text}"))
    found.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    found.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    found.on("request", lambda r: wrong.append(f"left: {r.url}") if urlsplit(r.url).hostname != "127.0.0.1" else None)
    found.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
    )
    yield found
    found.close()
    assert wrong == []


def drawn(page: Page, name: str) -> int:
    """How many marks a chart has, once it is drawn."""
    page.wait_for_selector(f"#{name} svg.marks .mark-group")
    return (
        page.locator(f"#{name} svg [aria-roledescription]").count()
        + page.locator(f"#{name} svg [class^=mark-] path").count()
    )


@pytest.mark.parametrize("look", ["light", "dark"])
def test_all_charts_are_drawn(page: Page, url: str, look: Any) -> None:
    page.emulate_media(color_scheme=look)
    page.goto(f"{url}/projects/apollo")
    assert {name: drawn(page, name) > 4 for name in ("burn_up", "throughput", "cycle_times", "ages")} == dict.fromkeys(
        ("burn_up", "throughput", "cycle_times", "ages"), True
    )
    written = page.locator("#burn_up svg").text_content() or ""
    assert all(text in written for text in ("Release 2.1", "today", "P50", "P85", "P95"))
    assert "new work at the past pace" in page.locator("#burn_up figcaption").inner_text()
    colour = page.locator("#throughput svg .mark-rect path").first.evaluate("e => getComputedStyle(e).fill")
    assert colour == {"light": "rgb(0, 114, 178)", "dark": "rgb(86, 180, 233)"}[look]


def test_charts_follow_a_narrow_screen(page: Page, url: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", "/projects/apollo", "/projects/hostile"):
        page.goto(f"{url}{path}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    drawn(page, "burn_up")
    page.set_viewport_size({"width": 700, "height": 740})
    expect(page.locator("#burn_up svg")).to_have_js_property("clientWidth", 660)


@pytest.mark.parametrize("width", [360, 1200])
def test_a_source_that_stopped_being_read_is_seen_first(page: Page, width: int) -> None:
    read = Memory(portfolio())
    read.unread = {"company-jira": NOW - timedelta(hours=3, minutes=20), HOSTILE[1]: NOW - timedelta(days=2, hours=12)}
    with served(read) as base:
        page.set_viewport_size({"width": width, "height": 740})
        page.goto(base)
        notices = page.locator(".notice")
        assert [each.split(". What")[0] for each in notices.all_inner_texts()] == [
            "company-jira: last read 3 hours ago",
            f"{HOSTILE[1]}: last read 2.5 days ago",
        ]
        expect(notices.first).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert get(f"{base}/api/v1/projects").json()["stale_sources"]["company-jira"] == "2026-11-24T06:10:00Z"
        page.goto(f"{base}/?as_of=2026-11-01T00:00:00Z")
        assert not any("last read" in each for each in notices.all_inner_texts()), "the past is of what was read"


@pytest.mark.parametrize("path", ["/", "/projects/hostile", "/projects/sprinting", "/alerts"])
def test_hostile_text_stays_text(page: Page, url: str, path: str) -> None:
    if path == "/alerts":
        alerts = get(f"{url}/api/v1/projects/hostile").json()["alerts"]
        path = next(f"/alerts/hostile/{a['fingerprint']}" for a in alerts if a["title"] == HOSTILE[2])
    page.goto(f"{url}{path}")
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    schemes = page.evaluate("[...document.links].map(a => a.protocol)")
    assert set(schemes) <= {"http:", "https:"}
    assert HOSTILE[2] in page.locator("main").inner_text()
    assert "49" not in page.locator("h1").inner_text()


def test_hostile_text_stays_text_in_a_tooltip(page: Page, url: str) -> None:
    page.goto(f"{url}/projects/hostile")
    drawn(page, "ages")
    page.locator("#ages svg .mark-rect path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert HOSTILE[1] in page.locator("#vg-tooltip-element").inner_text()
    assert page.locator("#vg-tooltip-element img").count() == 0
    assert page.evaluate("window.pwned") is None


def test_the_evidence_of_an_alert_is_one_click_away(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("link", name="Apollo").click()
    drawn(page, "ages")  # leaving earlier would cancel what is still being fetched
    page.locator("#alerts summary").first.click()
    page.get_by_role("link", name="Evidence and earlier episodes").first.click()
    assert page.url.startswith(f"{url}/alerts/apollo/")
    text = page.locator("main").inner_text()
    assert "monte_carlo_throughput.v1" in text
    assert (
        page.get_by_role("link", name="APO-200").first.get_attribute("href")
        == "https://jira.example.com/browse/APO-200"
    )


# --- what the pages say -----------------------------------------------------------------------------------------------


def test_the_portfolio_shows_the_worst_first(url: str) -> None:
    rows = get(f"{url}/api/v1/projects").json()["projects"]
    assert [row["key"] for row in rows][:2] == ["hostile", "apollo"]
    text = get(url).text
    assert "<title>Portfolio · pmsync</title>" in text
    assert "of 7 projects have a deadline that is late by forecast; " in text
    assert "1 is not read whole" in text
    assert text.index("/projects/hostile") < text.index("/projects/apollo") < text.index("/projects/borealis")


def test_what_was_taken_on_is_still_wrong_and_what_was_missed_is_called_so() -> None:
    known = apollo()
    late = next(e for e in episodes(known, NOW) if e.rule == "forecast_late" and e.severity == "critical")
    fact = Fact(project="apollo", id="f", at=NOW, content=Acknowledgement(fingerprint=late.fingerprint, by="p"))
    missed = build("missed", "Missed", team(0, 2, milestone="m"), [release("m", "Alpha", date(2026, 11, 2))])
    part = build("part", "Part", mapping={"jira": {"APO": 1, "BEA": 1}})
    states = {"apollo": ProjectState(known.project, known.things, {}, (fact,)), "missed": missed, "part": part}
    with served(Memory(states)) as base:
        text, page = get(base).text, get(f"{base}/projects/part").text
    assert "1 critical, acknowledged" in text
    assert "; 1 has missed one; 1 is not read whole." in text
    assert 'data-label="Missed"><bdi>Alpha' in text
    assert "none in what has been read" in text
    assert "Part has no deadline ahead in what has been read." in page.replace("</bdi>", "")
    assert "Nothing critical, no warning in what has been read." in page


def test_names_are_on_pages_and_in_no_answer_to_a_program() -> None:
    known = hostile()
    blocked = next(e for e in episodes(known, NOW) if e.rule == "blocked")
    thing = next(thing for thing, _ in known.things["work_item"] if thing == blocked.subject)
    items = [(t, c.model_copy(update={"assignee": f"a{t.id}"})) for t, c in known.things["work_item"]]
    fact = Fact(project="hostile", id="f", at=NOW, content=Acknowledgement(fingerprint=blocked.fingerprint, by="p1"))
    read = Memory({"hostile": ProjectState(known.project, {**known.things, "work_item": items}, {}, (fact,))})
    read.named = {"p1": "Ada <b>"}
    read.owned = {Account("jira", f"a{thing.id}"): "Bo & Co"}
    with served(read) as base:
        alert = get(f"{base}/alerts/hostile/{blocked.fingerprint}").text
        page, answer = get(f"{base}/projects/hostile").text, get(f"{base}/api/v1/projects/hostile").text
        read.named, read.owned = {}, {}
        nobody = get(f"{base}/alerts/hostile/{blocked.fingerprint}").text
    assert "acknowledged by <bdi>Ada &lt;b&gt;</bdi> · assigned to <bdi>Bo &amp; Co</bdi>" in alert
    assert "; acknowledged by <bdi>Ada &lt;b&gt;</bdi>; assigned to <bdi>Bo &amp; Co</bdi>" in page
    assert page.count("assigned to") == sum(e.subject == thing for e in episodes(known, NOW) if e.until is None)
    assert not [name for name in ("Ada", "Bo &") if name in answer]
    assert "acknowledged by <bdi>p1</bdi>" in nobody
    assert "assigned to" not in nobody


def test_days_that_do_not_count_stand_beside_the_one_that_does() -> None:
    said = {"key": "Two", "title": "Two <b>", "due_date": date(2026, 12, 4)}
    known = build("two", "Two", (), [release("m", "two <b>", date(2026, 12, 11))], promises=[said])
    with served(Memory({"two": known})) as base:
        page, (due,) = get(f"{base}/projects/two").text, get(f"{base}/api/v1/projects/two").json()["deadlines"]
    assert 'Fri 4 Dec 2026 <span class="small late"><bdi>but Fri 11 Dec 2026 in jira</bdi></span></td>' in page
    assert "dated differently: Fri 4 Dec 2026 (configuration, used), Fri 11 Dec 2026 (jira)" in page
    assert "what is another milestone needs another title" in page
    assert [(each["source"], each["title"], each["due"]) for each in due["dates"]] == [
        ("configuration", "Two <b>", "2026-12-04"), ("jira", "two <b>", "2026-12-11"),
    ]  # fmt: skip
    assert due["dates_differ"]


def test_page_and_api_say_the_same(url: str) -> None:
    found = get(f"{url}/api/v1/projects/apollo").json()
    text = get(f"{url}/projects/apollo").text
    release = next(due for due in found["deadlines"] if due["title"] == "Release 2.1")
    assert release["due"] == "2026-12-11"
    assert found["headline"].startswith("Apollo · Release 2.1 is promised for Fri 11 Dec 2026; ")
    assert found["headline"] in text
    assert found["next_deadline"]["late_by_forecast"]
    assert "(yesterday " in found["headline"]
    assert '<span class="small nowrap">yesterday ' in text
    assert "blocked since Mon 27 Jul 2026" in text
    assert "alert since " in text
    assert found["measures"]["done_share"] == {
        "value": 0.703297, "unit": "share", "formula": "done / scope, by count", "evidence": {"done": 64, "scope": 91},
    }  # fmt: skip
    assert 'title="done_share: done / scope, by count"' in text
    assert found["burn_up"][-1] == {"day": "2026-11-24", "scope": 91, "done": 64}
    assert all(alert["evidence"]["formula"] for alert in found["alerts"])
    assert {alert["rule"] for alert in found["alerts"]} >= {"forecast_late", "blocked"}


def test_sprints_show_what_was_committed_what_came_and_what_is_done(page: Page, url: str) -> None:
    found = get(f"{url}/api/v1/projects/sprinting").json()["sprints"]
    counts = ("state", "committed", "added", "removed", "scope", "done")
    assert [tuple(each[name] for name in counts) for each in found] == [
        ("active", 2, 1, 0, 3, 1), ("future", None, None, None, 0, 0), ("closed", 1, 0, 0, 1, 1),
    ]  # fmt: skip
    assert found[0]["url"] is None
    page.goto(f"{url}/projects/sprinting")
    rows = [
        [cell.strip() for cell in row.inner_text().split("\t")[1:]]
        for row in page.locator("#sprints > .scroll tbody tr").all()
    ]
    assert rows == [
        ["Sun 15 Nov 2026", "Sun 29 Nov 2026", "2", "1", "0", "1 of 3"],
        ["Sun 29 Nov 2026", "Sun 13 Dec 2026", "not begun", "not begun", "not begun", "no items"],
    ]
    assert "How the last 1 sprint went" in page.locator("#sprints").inner_text()
    assert "sprints" not in [part.get_attribute("id") for part in visit(page, f"{url}/projects/apollo").all()]


def visit(page: Page, url: str) -> Locator:
    """The sections of a page."""
    page.goto(url)
    return page.locator("section")


def test_the_charts_carry_the_values_of_the_api(url: str) -> None:
    found = get(f"{url}/api/v1/projects/apollo").json()
    text = get(f"{url}/projects/apollo").text
    spec = json.loads(text.split('id="burn_up-spec">')[1].split("</script>")[0])
    data = (
        next(rows for rows in spec["datasets"].values() if "scope" in rows[0] and "done" in rows[0])
        if "datasets" in spec
        else spec["layer"][0]["data"]["values"]
    )
    assert [(row["day"], row["scope"], row["done"]) for row in data] == [
        (point["day"], point["scope"], point["done"]) for point in found["burn_up"]
    ]


def test_what_was_shipped_is_there_as_of_then(page: Page, url: str) -> None:
    page.goto(f"{url}/projects/apollo")
    rows = [row.split("\t") for row in page.locator("#shipped tbody tr").all_inner_texts()]
    assert [row[:2] for row in rows] == [
        ["Release 1.8", "release"], ["v1.8", "to production: success"], ["v1.7", "to production: success"],
        ["v1.6", "to production: success"],
    ]  # fmt: skip
    assert rows[0][2] == "Fri 13 Nov 2026, 10:30 CET"
    link = page.locator("#shipped").get_by_role("link", name="Release 1.8")
    assert link.get_attribute("href") == "https://github.com/acme/apollo/releases/v1.8"
    assert [each["title"] for each in get(f"{url}/api/v1/projects/apollo").json()["shipped"]] == [
        row[0] for row in rows
    ]
    page.goto(f"{url}/projects/apollo?as_of=2026-11-05T12:00:00Z")
    assert [row.split("\t")[0] for row in page.locator("#shipped tbody tr").all_inner_texts()] == ["v1.1", "v1.0"]
    page.goto(f"{url}/projects/borealis")
    assert page.locator("#shipped").count() == 0, "nothing is shipped there"


def _rows(page: Page, table: str) -> list[list[str]]:
    """The cells of a table, each on one line."""
    found = page.locator(f"{table} tbody tr").all_inner_texts()
    return [[" ".join(cell.split()) for cell in row.split("\t")] for row in found]


def test_whether_it_builds_is_there_as_of_then(page: Page, url: str) -> None:
    page.goto(f"{url}/projects/apollo")
    rows = _rows(page, "#builds")
    assert rows == [
        ["CI APO", "broken", "Tue 17 Nov 2026, 10:30 CET", "2 of 3 failed"],
        ["Docs APO", "passing", "Thu 15 Oct 2026, 11:30 CEST or earlier", "none passed or failed"],
        ["Nightly APO", "not known: no run has come to success or failure", "", "none passed or failed"],
    ]
    link = page.locator("#builds").get_by_role("link", name="CI")
    assert link.get_attribute("href") == "https://github.com/acme/apollo/actions/runs/3"
    said = get(f"{url}/api/v1/projects/apollo").json()["builds"]
    assert [(each["name"], each["standing"]) for each in said] == [
        ("CI", "broken"),
        ("Docs", "passing"),
        ("Nightly", None),
    ]
    page.goto(f"{url}/projects/apollo?as_of=2026-11-16T12:00:00Z")
    assert [row[:2] for row in _rows(page, "#builds")] == [["Docs APO", "passing"], ["CI APO", "passing"]]
    page.goto(f"{url}/projects/borealis")
    assert page.locator("#builds").count() == 0, "nothing is built there"


def test_what_the_team_can_do_is_drawn_and_told(page: Page, url: str) -> None:
    """Two people for four days and five weeks, 464 hours; of the first week Ada is away for two days."""
    page.goto(f"{url}/projects/apollo")
    assert drawn(page, "capacity") > 4
    caption = " ".join(page.locator("#capacity figcaption").inner_text().split())
    assert "448 h of 464 h from today to Sun 3 Jan 2027, of 2 persons in the team" in caption
    assert "entries of time off that do not count: 1, since nothing says whose they are" in caption
    page.locator("#capacity summary").click()
    assert _rows(page, "#capacity")[:2] == [
        ["Mon 23 Nov 2026", "64 h", "0 h", "16 h", "48 h"],
        ["Mon 30 Nov 2026", "80 h", "0 h", "0 h", "80 h"],
    ]
    said = get(f"{url}/api/v1/projects/apollo").json()
    assert said["capacity"]["total"]["capacity_seconds"] == said["measures"]["capacity"]["value"] == 448 * 3600
    assert "person-" not in json.dumps(said["capacity"])
    page.goto(f"{url}/projects/borealis")
    assert page.locator("#capacity").count() == 0
    assert "not known: nobody is configured to work on it" in page.locator("#figures").text_content()


def test_what_cannot_be_computed_says_why(url: str) -> None:
    found = get(f"{url}/api/v1/projects/empty").json()
    assert found["measures"]["done_share"]["value"] is None
    assert found["trend"]["recent"] is None
    text = get(f"{url}/projects/empty").text
    assert "not known: no items" in text
    assert "0 %" not in text
    assert "no finished item in the window" in get(f"{url}/projects/delta").text


def test_what_is_not_read_is_said_and_not_counted(url: str) -> None:
    text = get(f"{url}/projects/corona").text
    assert "Nothing of Corona has been read yet" in text
    assert "Still missing: APO in jira" in text
    assert "tiles" not in text
    assert "nothing has been read yet" in get(url).text


def test_the_past_is_computed_not_remembered(url: str) -> None:
    then = get(f"{url}/api/v1/projects/apollo?as_of=2026-10-01T00:00:00Z").json()
    assert then["measures"]["done"]["value"] == 35
    text = get(f"{url}/projects/apollo?as_of=2026-10-01T02:00:00+02:00").text
    assert "Thu 1 Oct 2026, 02:00 CEST" in text
    assert "35 of 85 items" in text
    assert "as_of=2026-10-01T00:00:00Z" in text


@pytest.mark.parametrize(
    "bad", ["yesterday", "2026-10-01", "2026-10-01T00:00:00", "9999-99-99T00:00:00Z", "", "0001-01-01T00:00:00%2B14:00"]
)
@pytest.mark.parametrize("path", ["/", "/projects/apollo", "/api/v1/projects"])
def test_a_bad_instant_is_refused_with_an_example(url: str, path: str, bad: str) -> None:
    answer = get(f"{url}{path}?as_of={bad}")
    assert answer.status_code == 400
    assert "2026-11-24T09:00:00Z" in answer.text


def test_the_future_is_refused(url: str) -> None:
    answer = get(f"{url}/?as_of=2026-11-25T00:00:00Z")
    assert (answer.status_code, "lies in the future" in answer.text) == (400, True)


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/projects/nobody", "/alerts/apollo/0000", "/alerts/nobody/0", "/static/../app.py", "/static/app.py"],
)
def test_what_is_not_there_says_what_to_do(url: str, path: str) -> None:
    answer = get(f"{url}{path}")
    assert answer.status_code == 404
    assert "To the portfolio" in answer.text
    assert "<h1>Not found</h1>" in answer.text


def test_the_api_refuses_in_json(url: str) -> None:
    answer = get(f"{url}/api/v1/projects/nobody")
    assert answer.status_code == 404
    assert "no such project" in answer.json()["error"]
    assert requests.post(f"{url}/api/v1/projects", timeout=30).status_code == 405


# --- how it is served -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/projects/apollo", "/nowhere", "/api/v1/projects", "/healthz", "/?as_of=x"])
def test_every_answer_is_guarded(url: str, path: str) -> None:
    headers = get(f"{url}{path}").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "server" not in headers


def test_files_are_kept_by_the_browser(url: str) -> None:
    text = get(f"{url}/projects/apollo").text
    src = next(part.split('"')[0] for part in text.split('src="') if part.startswith("/static/vega.js"))
    first = get(f"{url}{src}")
    assert "immutable" in first.headers["Cache-Control"]
    assert "vegaEmbed" in first.text
    assert get(f"{url}{src}", **{"If-None-Match": first.headers["ETag"]}).status_code == 304
    assert get(f"{url}/static/pmsync.css?v=old").headers["Cache-Control"] == "no-cache"


class Broken(Memory):
    def __init__(self, error: Exception) -> None:
        super().__init__({})
        self._error = error

    def projects(self) -> Sequence[str]:
        raise self._error


def test_a_lost_database_is_said() -> None:
    with served(Broken(StoreUnavailable("gone, password=hunter2"))) as base:
        assert get(f"{base}/healthz").status_code == 200
        for path in ("/", "/api/v1/projects"):
            answer = get(f"{base}{path}")
            assert (answer.status_code, "hunter2" in answer.text) == (503, False)
            assert "pmsync doctor" in answer.text


def test_a_fault_shows_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with served(Broken(RuntimeError("secret"))) as base:
        answer = get(base)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_a_used_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port}: .*choose another port"),
            serve(create_app(Memory({}), lambda: NOW, Health(lambda: NOW)), "127.0.0.1", port),
        ):
            pass


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_summary_is_kept_until_something_changes_or_time_passes() -> None:
    read, now = Memory({"borealis": portfolio()["borealis"]}), [NOW]
    with served(read, lambda: now[0]) as base:
        assert "Borealis" in get(base).text
        get(base)
        now[0] += timedelta(minutes=4)
        get(f"{base}/api/v1/projects")
        assert read.asked == 1
        now[0] += timedelta(minutes=2)
        get(base)
        assert read.asked == 2
        read.current += 1
        get(base)
        assert read.asked == 3


def test_a_large_portfolio_comes_piece_by_piece() -> None:
    read = Memory({key: build(key, key.upper(), team(3, 2)) for key in ("one", "three", "two")})
    with serve(create_app(read, lambda: NOW, Health(lambda: NOW), patience=timedelta(0))) as base:
        seen = [get(base).text for _ in range(3)]
    assert ["2 projects will follow" in seen[0], "1 project will follow" in seen[1], "will follow" in seen[2]] == [
        True,
        True,
        False,
    ]
    assert ['http-equiv="refresh"' in text for text in seen] == [True, True, False]
    assert [text.count("/projects/") for text in seen] == [1, 2, 3]


def test_the_store_is_read(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'pmsync.db'}")
    store.migrate()
    states = StateStore(store)
    read = StoreReader(states, 1, Freshness(store, ["jira"], timedelta(minutes=10)), PeopleStore(store))
    project = Project(key="apollo", name="Apollo")
    event = Snapshot(project="apollo", thing=Thing(CONFIGURATION, "project", "apollo"), version=1, content=project)
    epoch = states.take(0, "me")
    before = read.revision("apollo")
    assert (read.projects(), read.state("apollo", past=True)) == ([], None)
    with states.owned(0, epoch) as owned:
        owned.save(fold([claimed(event)]), 1)
    assert list(read.projects()) == ["apollo"]
    assert read.revision("apollo") != before
    with served(read) as base:
        assert "Apollo has no deadline ahead" in get(f"{base}/projects/apollo").text
    store.close()
